//! Tokens that are believed no more though their time is not over: single ones by their `jti`, and all that somebody had
//! until a moment.
//!
//! They are in a file of the data directory, one a line, and in memory. What is acknowledged is on the disk. A line that
//! does not read keeps the server from starting: a revocation that is forgotten lets somebody in. An entry is dropped
//! when no token can be left that it is about.
//!
//! ```text
//! {"revoked":"token","jti":"7Hq…","until":1831536000}
//! {"revoked":"subject","tenant":"default","subject":"ann","before":1800000000,"until":1831536000}
//! ```

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    error, fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use moorline_protocol::subject::{Subject, Tenant};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task};

use super::verified::{MAX_ID, Verified};

/// Most entries at once. One more is refused, because to make room another would have to be forgotten.
const MOST: usize = 100_000;

/// Longest line, in bytes: every name at its longest, with every character escaped.
const MAX_LINE: usize = 6 * 1024;

/// Lines that tell nothing any more and are put up with, beside as many as there are entries.
const SPARE_LINES: usize = 1_024;

/// How long an entry is kept when the end of its tokens is not known: what a token may last at most, and the most that
/// clocks may differ.
const KEPT: Duration = Duration::from_secs(366 * 86_400);

const HEAD: &str = "# Tokens that a Moorline server refuses though their time is not over, one entry a line. It is read at\n\
                    # the start and written by the server; a line that is lost lets somebody in again.\n";

/// What is to be believed no more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// The token of this `jti`, whoever has it.
    Token {
        /// The `jti`.
        id: String,
        /// When it ends; without, the entry is kept for as long as any token may last.
        expires: Option<SystemTime>,
    },
    /// Every token of this subject that was made up to this moment, in whole seconds, and every one that does not say
    /// when it was made.
    Subject {
        /// Whose.
        subject: Subject,
        /// The moment.
        before: SystemTime,
    },
}

/// Why a revocation is not kept, or those that are kept do not read.
#[derive(Debug)]
#[non_exhaustive]
pub enum RevocationError {
    /// The file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written: the revocation is not in force.
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner have rights to the file.
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A line does not read.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// There are too many. The revocation is not in force.
    Full,
    /// A `jti` that no token can have. The revocation is not in force.
    InvalidId,
    /// The server ends. The revocation may or may not be in force.
    Ending,
}

impl fmt::Display for RevocationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(formatter, "the revocations {} cannot be read", path.display()),
            Self::Write { path, .. } => {
                write!(formatter, "the revocations {} cannot be written; nothing was revoked", path.display())
            }
            Self::OpenToOthers { path, mode } => write!(
                formatter,
                "the revocations {path} are open to others than their owner (mode {mode:04o}); run: chmod 600 {path}",
                path = path.display()
            ),
            Self::Damaged { path, line } => write!(
                formatter,
                "{path}:{line}: this line is no revocation; the server does not start, because who was revoked there \
                 would be let in. Put a backup of the file there, or take out the line and revoke again what it was \
                 about",
                path = path.display()
            ),
            Self::Full => {
                write!(formatter, "{MOST} revocations are in force, which is the most; change the key instead")
            }
            Self::InvalidId => write!(formatter, "a jti has 1 to {MAX_ID} bytes"),
            Self::Ending => formatter.write_str("the server ends"),
        }
    }
}

impl error::Error for RevocationError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => Some(source),
            Self::OpenToOthers { .. } | Self::Damaged { .. } | Self::Full | Self::InvalidId | Self::Ending => None,
        }
    }
}

/// An entry as it stands in the file. Moments are seconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(tag = "revoked", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Token { jti: String, until: u64 },
    Subject { tenant: String, subject: String, before: u64, until: u64 },
}

/// What is in force.
#[derive(Default)]
struct Known {
    /// Until when each is kept.
    tokens: BTreeMap<Box<str>, u64>,
    /// Up to which moment, and until when that is kept.
    subjects: BTreeMap<Subject, (u64, u64)>,
}

impl Known {
    fn len(&self) -> usize {
        self.tokens.len() + self.subjects.len()
    }

    /// `None` when the line names what cannot be.
    fn add(&mut self, line: Line) -> Option<()> {
        match line {
            Line::Token { jti, until } => {
                let kept = self.tokens.entry(id(&jti)?.into()).or_default();
                *kept = until.max(*kept);
            }
            Line::Subject { tenant, subject, before, until } => {
                let subject = Subject::new(Tenant::new(&tenant).ok()?, &subject).ok()?;
                let (moment, kept) = self.subjects.entry(subject).or_default();
                (*moment, *kept) = (before.max(*moment), until.max(*kept));
            }
        }
        Some(())
    }

    fn forget_ended(&mut self, now: u64) {
        self.tokens.retain(|_, until| *until > now);
        self.subjects.retain(|_, (_, until)| *until > now);
    }

    fn lines(&self) -> impl Iterator<Item = Line> {
        let tokens = self.tokens.iter().map(|(jti, until)| Line::Token { jti: jti.to_string(), until: *until });
        tokens.chain(self.subjects.iter().map(|(subject, (before, until))| Line::Subject {
            tenant: subject.tenant().as_str().to_owned(),
            subject: subject.name().to_owned(),
            before: *before,
            until: *until,
        }))
    }
}

fn id(jti: &str) -> Option<&str> {
    (1..=MAX_ID).contains(&jti.len()).then_some(jti)
}

/// The revocations of a server.
pub(crate) struct Revocations {
    path: PathBuf,
    /// Never held while the disk is waited for: every sign-in asks.
    known: Mutex<Known>,
    /// Lines of the file. Held while it is written, so that it is written by one at a time.
    lines: Mutex<usize>,
    /// Counts what was revoked.
    changes: watch::Sender<u64>,
}

impl Revocations {
    /// Those of this file; none when there is no such file.
    pub(crate) fn load(path: &Path) -> Result<Self, RevocationError> {
        let unreadable = |source| RevocationError::Read { path: path.to_owned(), source };
        let mut known = Known::default();
        let mut lines = 0;
        let file = match File::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(error)),
        };
        if let Some(file) = file {
            refuse_open_to_others(path, &file)?;
            let mut reader = BufReader::new(file);
            let mut line = Vec::new();
            loop {
                line.clear();
                let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
                if reader.by_ref().take(limit).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                    break;
                }
                lines += 1;
                let damaged = || RevocationError::Damaged { path: path.to_owned(), line: lines };
                let text = std::str::from_utf8(&line).map_err(|_| damaged())?.trim();
                if text.is_empty() || text.starts_with('#') {
                    continue;
                }
                let entry = serde_json::from_str(text).map_err(|_| damaged())?;
                known.add(entry).ok_or_else(damaged)?;
                if known.len() > MOST {
                    return Err(RevocationError::Full);
                }
            }
        }
        let (known, lines) = (Mutex::new(known), Mutex::new(lines));
        Ok(Self { path: path.to_owned(), known, lines, changes: watch::Sender::new(0) })
    }

    /// Reads the file again: it may have been written between the first reading and the lock of its directory.
    pub(crate) fn read_again(&self) -> Result<(), RevocationError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Self::load(&self.path)?;
        *self.known() = std::mem::take(&mut *fresh.known());
        *lines = *fresh.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(())
    }

    /// Revokes, and returns when it is on the disk and in force; whoever [subscribed](Self::subscribe) is woken.
    pub(crate) async fn revoke(
        self: &Arc<Self>,
        revocation: Revocation,
        now: SystemTime,
    ) -> Result<(), RevocationError> {
        let revocations = self.clone();
        let revoked = task::spawn_blocking(move || revocations.revoke_blocking(&revocation, now)).await;
        revoked.map_err(|_| RevocationError::Ending)?
    }

    /// As [`Self::revoke`], on this thread, which waits for the disk.
    pub(crate) fn revoke_blocking(&self, revocation: &Revocation, now: SystemTime) -> Result<(), RevocationError> {
        let line = match revocation {
            Revocation::Token { id: jti, expires } => {
                let jti = id(jti).ok_or(RevocationError::InvalidId)?.to_owned();
                // A second more, because what is after the whole second is cut off.
                Line::Token { jti, until: expires.map_or(seconds(now + KEPT), |expires| seconds(expires) + 1) }
            }
            Revocation::Subject { subject, before } => Line::Subject {
                tenant: subject.tenant().as_str().to_owned(),
                subject: subject.name().to_owned(),
                before: seconds(*before),
                until: seconds(*before.max(&now) + KEPT),
            },
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut known = self.known();
            if known.len() >= MOST {
                known.forget_ended(seconds(now));
            }
            if known.len() >= MOST {
                return Err(RevocationError::Full);
            }
        }
        let unwritten = |source| RevocationError::Write { path: self.path.clone(), source };
        // What a derived form of texts and numbers becomes is always JSON.
        let text = serde_json::to_string(&line).map_err(|error| unwritten(error.into()))?;
        append(&self.path, &text).map_err(unwritten)?;
        *lines += 2;
        let entries = {
            let mut known = self.known();
            // It was checked above, or comes from what was.
            let _ = known.add(line);
            known.len()
        };
        self.changes.send_modify(|changes| *changes += 1);
        if *lines > 4 * entries + SPARE_LINES {
            self.compact(&mut lines, now);
        }
        Ok(())
    }

    /// Whether the token was revoked, or all of its subject's were after it was made.
    pub(crate) fn is_revoked(&self, token: &Verified) -> bool {
        let known = self.known();
        let by_id = token.id.as_deref().is_some_and(|id| known.tokens.contains_key(id));
        let by_subject = known.subjects.get(&token.principal.subject).is_some_and(|(before, _)| {
            // In whole seconds, as tokens say it: one of the very second may be from before.
            token.issued.is_none_or(|issued| seconds(issued) <= *before)
        });
        by_id || by_subject
    }

    /// Changes whenever something was revoked: then whoever let somebody in by a token asks again.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file anew with what is in force. Where that fails, the longer file says the same.
    fn compact(&self, lines: &mut usize, now: SystemTime) {
        let (text, entries) = {
            let mut known = self.known();
            known.forget_ended(seconds(now));
            let entries = known.lines().filter_map(|line| serde_json::to_string(&line).ok());
            (entries.fold(HEAD.to_owned(), |text, line| text + &line + "\n"), known.len())
        };
        match replace(&self.path, &text) {
            Ok(()) => *lines = entries + HEAD.lines().count(),
            Err(error) => tracing::warn!(%error, "the file of revocations was not made shorter"),
        }
    }
}

/// Whole seconds since 1970.
fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A line break before as well: so it is a line of its own whatever stood there.
fn append(path: &Path, line: &str) -> io::Result<()> {
    make_directory(path)?;
    let mut file = open(OpenOptions::new().append(true).create(true), path)?;
    let before = file.metadata()?.len();
    let head = if before == 0 { HEAD } else { "\n" };
    let written = file.write_all(format!("{head}{line}\n").as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a line would keep the server from its next start. If this fails, too, it does, and names the line.
        let _ = file.set_len(before);
    }
    written?;
    if before == 0 { sync_directory(path) } else { Ok(()) }
}

/// The new file appears whole, or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = open(OpenOptions::new().write(true).create(true).truncate(true), &temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_directory(path)
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory(path))
}

/// The name is in the directory, which reaches the disk on its own. Not every system lets one ask for that.
fn sync_directory(path: &Path) -> io::Result<()> {
    let _ = File::open(directory(path)).and_then(|directory| directory.sync_all());
    Ok(())
}

/// Whoever could write there could take back what was revoked.
#[cfg(unix)]
fn refuse_open_to_others(path: &Path, file: &File) -> Result<(), RevocationError> {
    use std::os::unix::fs::PermissionsExt as _;

    let metadata = file.metadata().map_err(|source| RevocationError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(RevocationError::OpenToOthers { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn refuse_open_to_others(_: &Path, _: &File) -> Result<(), RevocationError> {
    Ok(())
}
