//! Why something was not done with the file of channels, and what to do about it.

use std::{error, fmt, io, path::PathBuf};

use moorline_engine::{ArchiveError, EngineError, Fault, Finding, OpenError};
use moorline_protocol::{channel::ChannelId, subject::Tenant};

use crate::DataDirError;

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
    /// There is a file where an export or a backup is to be.
    FileExists(PathBuf),
    /// It cannot be written.
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
    /// Channels are kept where a backup is to be put back.
    Kept(PathBuf),
    /// What is to be put back is no backup, or no whole one.
    Backup {
        /// The file.
        path: PathBuf,
        /// Why it cannot be opened.
        error: OpenError,
    },
    /// What is to be put back is not sound: so much is wrong with it, this first.
    Unsound {
        /// The file.
        path: PathBuf,
        /// How much.
        findings: u64,
        /// The first.
        first: Finding,
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
        if *tenant == Tenant::default() {
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
            Self::Write(_) => formatter.write_str("what is to be written cannot be"),
            Self::Read { path, .. } => write!(formatter, "{} cannot be read", path.display()),
            Self::NotAFile(path) => write!(
                formatter,
                "{} is no file: what is imported is read twice, so that nothing changes before all of it is known to do",
                path.display()
            ),
            Self::Kept(path) => write!(
                formatter,
                "channels are kept here already, in {}; replace all of them with --replace, or name another data directory \
                 with --data-dir",
                path.display()
            ),
            Self::Backup { path, error } => write!(
                formatter,
                "{} is no backup: {error}; `moorline store backup` makes one, and what `export` makes is for `import`",
                path.display()
            ),
            Self::Unsound { path, findings, first } => write!(
                formatter,
                "{} is not sound, and is not put back; the first of {findings} findings: {first}",
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
