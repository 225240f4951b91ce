//! The data directory: one server's, and no other's while that one lives.
//!
//! It owns the directory and its lock. It must never take a lock away: the system does when its holder is gone, however
//! it went.

use std::{
    error, fmt,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process,
};

/// The file whose lock says that the directory is taken; it holds the number of the process that took it.
const LOCK: &str = "lock";

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Keeps the lock.
    _lock: File,
}

/// Why a data directory cannot be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process has it.
    Taken {
        /// The directory.
        path: PathBuf,
        /// The process, where it can be read.
        pid: Option<u32>,
    },
    /// It cannot be made, or nothing be written in it.
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Everybody could get what is in it: it is in the directory of static files, or is that.
    Served {
        /// The directory.
        path: PathBuf,
        /// That of static files.
        public: PathBuf,
    },
}

impl fmt::Display for DataDirError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { path, pid } => {
                write!(formatter, "the data directory {} is taken by ", path.display())?;
                match pid {
                    Some(pid) => write!(formatter, "process {pid}")?,
                    None => formatter.write_str("another process")?,
                }
                formatter.write_str("; stop it, or give each server its own: [server] data_dir or --data-dir")
            }
            Self::Unusable { path, .. } => write!(
                formatter,
                "the data directory {} cannot be used; choose one that this user can write: [server] data_dir or \
                 --data-dir",
                path.display()
            ),
            Self::Served { path, public } => write!(
                formatter,
                "the data directory {} with the server's private key is in {}, which is served to everybody; choose one \
                 outside of it, [server] data_dir or --data-dir, or serve only the folder with the pages",
                path.display(),
                public.display()
            ),
        }
    }
}

impl error::Error for DataDirError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Unusable { source, .. } => Some(source),
            Self::Taken { .. } | Self::Served { .. } => None,
        }
    }
}

impl DataDir {
    /// Takes the directory, which is made where it is not there.
    ///
    /// # Errors
    /// When another process has it, or it cannot be made or written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataDirError> {
        let path = path.as_ref();
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        make(path).map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        private(&mut options);
        let mut lock = options.open(path.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::Taken { path: path.to_owned(), pid: holder(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        sign(&mut lock).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Takes the directory if there is a need for it.
    pub(crate) fn open_if(needed: bool, path: &Path) -> Result<Option<Self>, DataDirError> {
        needed.then(|| Self::open(path)).transpose()
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// That what is in the data directory, which may not be there yet, is not served with the static files.
pub(crate) fn check_not_served(path: &Path, public: &Path) -> Result<(), DataDirError> {
    let (Ok(whole), Ok(served)) = (std::path::absolute(path), public.canonicalize()) else { return Ok(()) };
    // What is not there is where the nearest folder above it is.
    match whole.ancestors().find_map(|above| above.canonicalize().ok()) {
        Some(above) if above.starts_with(&served) => {
            Err(DataDirError::Served { path: path.to_owned(), public: public.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Writes into the lock who has it.
fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", process::id())
}

/// Who wrote into the lock. On systems where a lock keeps others from reading nobody can say.
fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Makes a directory that is its owner's alone. One that is there is left as it is.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A file that is made so is its owner's alone.
pub(crate) fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

/// The mode of a file that everybody on this machine has some right to; a file with a secret must not be one. Its group
/// may read it: packages install such files as `root:moorline`, mode 0640. What is no file, as a pipe, is its maker's.
#[cfg(unix)]
pub(crate) fn open_to_all(path: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;

    let metadata = std::fs::metadata(path)?;
    let mode = metadata.permissions().mode() & 0o777;
    Ok((metadata.is_file() && mode & 0o007 != 0).then_some(mode))
}

#[cfg(not(unix))]
pub(crate) fn open_to_all(_: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestResult = Result<(), Box<dyn error::Error>>;

    /// `--public .` with the default data directory gave the server's private key to whoever asked for
    /// `/moorline-data/identity`.
    #[test]
    fn regression_a_data_directory_among_the_static_files_is_refused() -> TestResult {
        let dir = tempfile::tempdir()?;
        let at = |path: &str| dir.path().join(path);
        for folder in ["www", "data", "www/there"] {
            std::fs::create_dir(at(folder))?;
        }
        for (path, public) in [
            ("data", "."),
            ("not/yet", "."),
            ("www/there", "www"),
            ("www/not/yet", "www"),
            ("www", "www"),
            ("data", "www/.."),
        ] {
            let refused = check_not_served(&at(path), &at(public)).err().ok_or(path)?;
            assert!(refused.to_string().contains("--data-dir"), "{refused}");
        }
        for (path, public) in [("data", "www"), ("not/yet", "www"), ("www-data", "www"), ("data", "nowhere")] {
            check_not_served(&at(path), &at(public))?;
        }
        Ok(())
    }

    #[test]
    fn a_directory_is_one_servers_and_free_again_when_that_is_gone() -> TestResult {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("deep/data");
        let first = DataDir::open(&path)?;
        let refused = DataDir::open(&path).err().ok_or("it was given twice")?;
        let DataDirError::Taken { pid, .. } = &refused else { return Err(refused.into()) };
        assert_eq!(*pid, cfg!(unix).then(process::id));
        assert!(refused.to_string().contains("--data-dir"), "{refused}");
        drop(first);
        DataDir::open(&path)?;
        Ok(())
    }

    #[test]
    fn one_that_cannot_be_written_is_named_with_the_remedy() -> TestResult {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("file"), "")?;
        let error = DataDir::open(dir.path().join("file/data")).err().ok_or("it was made")?.to_string();
        assert!(error.contains("file/data cannot be used") && error.contains("--data-dir"), "{error}");
        Ok(())
    }
}
