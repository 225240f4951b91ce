//! The file with everything of channels that is kept, for who looks after a server: to look into it beside a server that
//! runs ([`look`]), to carry channels out of it ([`export`], [`export_file`]) and into it ([`import`]), to make it smaller ([`compact`]).
//!
//! What only reads may go on beside a server. What writes takes the data directory, as a server does. Nothing here makes a
//! path of a channel's name.

use std::{
    error, fmt,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter},
    path::{Path, PathBuf},
    process,
};

use moorline_engine::{Archive, ArchiveError, EngineError, ExportError, ImportError, OpenError, SqliteFile};
pub use moorline_engine::{
    ArchiveHeader, Compacted, Fault, Finding, Imported, Outline, OutlinedSnapshot, Retention, SqliteView as View, Usage,
};
use moorline_protocol::channel::ChannelId;

use crate::{
    clock::now,
    data_dir::{DataDir, DataDirError, private},
};

/// The file's name in the data directory.
pub(crate) const FILE: &str = "channels.sqlite";

/// Why something was not done with the file.
#[derive(Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// There is none.
    Nothing(PathBuf),
    /// It cannot be opened.
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// A server has the data directory, and what was asked for would write to what it has open.
    Taken {
        /// The directory.
        path: PathBuf,
        /// The process, where it can be read.
        pid: Option<u32>,
    },
    /// The data directory cannot be had.
    DataDir(DataDirError),
    /// The channel is not there.
    NoSuchChannel(ChannelId),
    /// The channel is not sound, and an export of it would be refused wherever it is imported.
    Damaged(ChannelId, Fault),
    /// There is a channel of the name that is to be imported.
    Exists(ChannelId),
    /// There is a file where the export is to be.
    FileExists(PathBuf),
    /// The export cannot be written.
    Write(io::Error),
    /// What is to be imported cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no file, and what is imported is read twice.
    NotAFile(PathBuf),
    /// It is no export, or no whole one.
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        error: ArchiveError,
    },
    /// The file of channels failed.
    Engine(EngineError),
    /// The system gives no random bytes.
    NoEntropy,
}

/// A channel as people are told of it.
struct Named<'a>(&'a ChannelId);

impl fmt::Display for Named<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChannelId { tenant, kind, name } = self.0;
        write!(formatter, "{} {:?}", kind.name(), name.as_str())?;
        if *tenant == moorline_protocol::subject::Tenant::default() {
            return Ok(());
        }
        write!(formatter, " of tenant {:?}", tenant.as_str())
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing(path) => write!(
                formatter,
                "no channel has ever been kept here, there is no {}; name another data directory with --data-dir",
                path.display()
            ),
            Self::Open { path, error: error @ (OpenError::Sqlite(_) | OpenError::System(_)) } => write!(
                formatter,
                "{} cannot be opened: {error}; do this as the user that the server runs as, who can write in its directory",
                path.display()
            ),
            Self::Open { path, error } => write!(formatter, "{} cannot be opened: {error}", path.display()),
            Self::Taken { path, pid } => {
                write!(formatter, "a server has the data directory {}, ", path.display())?;
                match pid {
                    Some(pid) => write!(formatter, "process {pid}")?,
                    None => formatter.write_str("another process")?,
                }
                formatter.write_str("; this changes what it has open: stop it, do this, and start it again")
            }
            Self::DataDir(error) => error.fmt(formatter),
            Self::NoSuchChannel(channel) => {
                write!(formatter, "there is no {}; `moorline store ls` has those that there are", Named(channel))
            }
            Self::Damaged(channel, fault) => write!(
                formatter,
                "the {} is damaged: {fault}; `moorline store verify` says all that is wrong, and an earlier export puts it \
                 right: moorline store import FILE --replace",
                Named(channel)
            ),
            Self::Exists(channel) => write!(
                formatter,
                "there is a {} already; replace it with --replace, or give the imported one another name with --name",
                Named(channel)
            ),
            Self::FileExists(path) => {
                write!(formatter, "{} is there already; write elsewhere, or replace it with --force", path.display())
            }
            Self::Write(_) => formatter.write_str("the export cannot be written"),
            Self::Read { path, .. } => write!(formatter, "{} cannot be read", path.display()),
            Self::NotAFile(path) => write!(
                formatter,
                "{} is no file: what is imported is read twice, so that nothing changes before all of it is known to do",
                path.display()
            ),
            Self::Archive { path, error } => write!(formatter, "{}: {error}", path.display()),
            Self::Engine(error) => error.fmt(formatter),
            Self::NoEntropy => formatter.write_str("the system gives no random bytes"),
        }
    }
}

impl error::Error for StorageError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Write(error) | Self::Read { error, .. } => Some(error),
            Self::DataDir(error) => error.source(),
            _ => None,
        }
    }
}

impl From<EngineError> for StorageError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// Looks into the file of a data directory, at what is there at this moment. A server may go on writing; what it writes
/// waits beside the file until the view is dropped.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn look(data_dir: &Path) -> Result<View, StorageError> {
    let path = data_dir.join(FILE);
    View::open(&path).map_err(|error| match error {
        OpenError::Missing => StorageError::Nothing(path),
        error => StorageError::Open { path, error },
    })
}

/// Writes everything of a channel, in the form of `docs/PROTOCOL.md` § Exports and in constant memory. `progress` is told the
/// bytes of content so far, and of all.
///
/// # Errors
/// When there is no such channel, it is damaged, or something cannot be read or written. What was written until then is no export.
pub fn export(
    view: &View,
    channel: &ChannelId,
    out: impl io::Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ArchiveHeader, StorageError> {
    let out = BufWriter::with_capacity(BUFFER, out);
    view.export(channel, now(), out, progress).map_err(|error| match error {
        ExportError::NoSuchChannel => StorageError::NoSuchChannel(channel.clone()),
        ExportError::Fault(fault) => StorageError::Damaged(channel.clone(), fault),
        ExportError::Engine(error) => StorageError::Engine(error),
        ExportError::Write(error) => StorageError::Write(error),
        // More kinds than there are.
        other => StorageError::Write(io::Error::other(other)),
    })
}

/// The same to a file, which is there whole or not at all. One that is there is replaced only if that is meant.
///
/// # Errors
/// As [`export`], and when there is a file that is not to be replaced.
pub fn export_file(
    view: &View,
    channel: &ChannelId,
    path: &Path,
    replace: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ArchiveHeader, StorageError> {
    if !replace && path.try_exists().map_err(StorageError::Write)? {
        return Err(StorageError::FileExists(path.to_owned()));
    }
    let unfinished = Unfinished::new(path)?;
    let header = export(view, channel, &unfinished.file, progress)?;
    unfinished.finish(path, replace)?;
    Ok(header)
}

/// So much is read or written at once.
const BUFFER: usize = 256 * 1024;

/// A file beside the one that it is going to be; it goes with this unless it is finished.
struct Unfinished {
    file: File,
    path: PathBuf,
}

impl Unfinished {
    fn new(target: &Path) -> Result<Self, StorageError> {
        let none = || StorageError::Write(io::ErrorKind::InvalidFilename.into());
        let name = target.file_name().ok_or_else(none)?;
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}.part", process::id()));
        let path = target.with_file_name(beside);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        private(&mut options);
        Ok(Self { file: options.open(&path).map_err(StorageError::Write)?, path })
    }

    fn finish(self, target: &Path, replace: bool) -> Result<(), StorageError> {
        self.file.sync_all().map_err(StorageError::Write)?;
        if replace {
            return fs::rename(&self.path, target).map_err(StorageError::Write);
        }
        // Unlike renaming, this does not replace one that has come meanwhile.
        match fs::hard_link(&self.path, target) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StorageError::FileExists(target.to_owned()))
            }
            // Some file systems have no links.
            Err(_) => fs::rename(&self.path, target).map_err(StorageError::Write),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Where it was renamed there is none.
        let _ = fs::remove_file(&self.path);
    }
}

/// The data directory and the file in it, which nobody else changes meanwhile.
fn take(data_dir: &Path) -> Result<(DataDir, SqliteFile), StorageError> {
    let directory = DataDir::open(data_dir).map_err(|error| match error {
        DataDirError::Taken { path, pid } => StorageError::Taken { path, pid },
        error => StorageError::DataDir(error),
    })?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| StorageError::NoEntropy)?;
    let path = data_dir.join(FILE);
    let file = SqliteFile::open(&path, seed).map_err(|error| StorageError::Open { path, error })?;
    Ok((directory, file))
}

/// What is to become of an import.
#[derive(Debug)]
pub struct Import<'a, F> {
    /// The export.
    pub file: &'a Path,
    /// As which channel, by the one that it was.
    pub channel: F,
    /// Whether one that is there is replaced.
    pub replace: bool,
}

/// Puts a channel in from an export, all of it or nothing: it is read to its end before anything changes. It has the offsets
/// that it had, and another epoch: who has followed it is told a gap, `recreated`. The data directory is made where it is not
/// there. `progress` is told the bytes of content so far, and of all; they are read twice.
///
/// # Errors
/// When it is no whole export, there is a channel of its name, a server has the data directory, or it cannot be written.
pub fn import<F: FnOnce(&ChannelId) -> ChannelId>(
    data_dir: &Path,
    import: Import<'_, F>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(ArchiveHeader, ChannelId, Imported), StorageError> {
    let Import { file: path, channel, replace } = import;
    let unreadable = |error| StorageError::Read { path: path.to_owned(), error };
    let wrong = |error| StorageError::Archive { path: path.to_owned(), error };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(StorageError::NotAFile(path.to_owned()));
    }
    let open = || {
        let file = File::open(path).map_err(unreadable)?;
        Archive::open(BufReader::with_capacity(BUFFER, file)).map_err(wrong)
    };
    let archive = open()?;
    let all = archive.header().bytes.saturating_mul(2);
    let header = archive.check(&mut |done| progress(done, all)).map_err(wrong)?;
    let channel = channel(&header.channel);
    let (_alone, mut file) = take(data_dir)?;
    let mut progress = |done| progress(header.bytes.saturating_add(done), all);
    let imported = file.import(open()?, &channel, replace, &mut progress).map_err(|error| match error {
        ImportError::Exists => StorageError::Exists(channel.clone()),
        ImportError::Archive(error) => wrong(error),
        ImportError::Engine(error) => StorageError::Engine(error),
        other => StorageError::Read { path: path.to_owned(), error: io::Error::other(other) },
    })?;
    Ok((header, channel, imported))
}

/// Drops what is of no use any more, of one channel or of all, and gives the room back to the system. What a snapshot covers
/// goes, and the snapshot before it: there is no way back to that.
///
/// # Errors
/// When there is no such channel or no file, a server has the data directory, or the disk is full.
pub fn compact(data_dir: &Path, only: Option<&ChannelId>) -> Result<Compacted, StorageError> {
    let path = data_dir.join(FILE);
    if !path.try_exists().unwrap_or(true) {
        return Err(StorageError::Nothing(path));
    }
    let (_alone, mut file) = take(data_dir)?;
    let missing = || only.map_or(StorageError::Nothing(path), |channel| StorageError::NoSuchChannel(channel.clone()));
    file.compact(only, now())?.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use moorline_engine::{Append, Engine as _, SqliteEngine};
    use moorline_protocol::{channel::Kind, payload::Name, subject::Tenant};

    use super::*;

    type TestResult = Result<(), Box<dyn error::Error>>;

    fn store(name: &str) -> ChannelId {
        ChannelId::new(Tenant::default(), Kind::Store, Name::new(name).expect("a name"))
    }

    #[tokio::test]
    async fn an_export_is_there_whole_or_not_at_all_and_its_owners_alone() -> TestResult {
        let dir = tempfile::tempdir()?;
        let log = store("../log");
        let engine = SqliteEngine::open(&dir.path().join(FILE), [1; 32])?;
        engine.append(&log, Append::new("a".into(), now(), Retention::ALL)).await?;
        let view = look(dir.path())?;
        let target = dir.path().join("export");
        let to = |channel: &ChannelId, replace| export_file(&view, channel, &target, replace, &mut |_, _| {}).map(drop);
        assert!(matches!(to(&store("none"), false), Err(StorageError::NoSuchChannel(_))));
        assert!(!target.exists());
        to(&log, false)?;
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&target)?.permissions()) & 0o777, 0o600);
        assert!(matches!(to(&log, false), Err(StorageError::FileExists(_))));
        fs::write(&target, "something else")?;
        assert!(to(&store("none"), true).is_err());
        assert_eq!(fs::read_to_string(&target)?, "something else");
        to(&log, true)?;
        assert_eq!(fs::read(&target)?[..8], *b"moorline");
        let left: Vec<_> =
            fs::read_dir(dir.path())?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
        Ok(())
    }

    #[test]
    fn nothing_is_made_where_there_is_nothing_to_look_at() -> TestResult {
        let dir = tempfile::tempdir()?;
        let data = dir.path().join("data");
        assert!(matches!(look(&data), Err(StorageError::Nothing(_))));
        assert!(matches!(compact(&data, None), Err(StorageError::Nothing(_))));
        let wrong = dir.path().join("wrong");
        fs::write(&wrong, "moor")?;
        let read = Import { file: &wrong, channel: ChannelId::clone, replace: false };
        assert!(matches!(import(&data, read, &mut |_, _| {}), Err(StorageError::Archive { .. })));
        assert!(!data.exists());
        Ok(())
    }
}
