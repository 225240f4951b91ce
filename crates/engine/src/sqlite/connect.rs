//! Connections to the file: how one is opened that may be relied upon, and what stands beside it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{OpenError, schema};
use crate::{EngineError, error::StorageFault};

/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 64;

/// How long SQLite waits for a lock that another process has.
pub(super) const LOCKED: Duration = Duration::from_secs(5);

/// How SQLite is to do its work. Tests of the disk have reasons for another way; nobody else has.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "only those tests see it"))]
pub struct Tuning {
    /// Its pragma. With FULL the log is synced with every commit; with NORMAL it would not be, and a commit could be lost
    /// with the power.
    pub synchronous: &'static str,
    /// Pages in the log after which they are moved into the database.
    pub checkpoint_pages: u32,
    /// Bytes of the log from which on writing waits for those who read. Moving its pages is not enough where there is always
    /// somebody who reads: the log begins anew only when nobody reads from it, and would grow for ever.
    pub log_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { synchronous: "FULL", checkpoint_pages: 1_000, log_bytes: 64 << 20 }
    }
}

pub(super) fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // One thread has each connection, so SQLite need not lock it.
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(LOCKED)?;
    Ok(connection)
}

pub(super) fn open_writer(path: &Path, tuning: Tuning) -> Result<Connection, OpenError> {
    make_private(path)?;
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::NoWal(mode.into()));
    }
    connection.pragma_update(None, "synchronous", tuning.synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", tuning.checkpoint_pages)?;
    // Elsewhere fsync is enough; on macOS it does not reach the disk.
    connection.pragma_update(None, "fullfsync", cfg!(target_os = "macos"))?;
    connection.pragma_update(None, "checkpoint_fullfsync", cfg!(target_os = "macos"))?;
    schema::migrate(&mut connection)?;
    settle(&connection)?;
    sync_directory(path)?;
    Ok(connection)
}

/// Moves what stands in the log into the database, which syncs it. The process before this one may have ended after a sync
/// had failed: what it read back and went on from is in memory then and not on the disk, and everything that is written
/// behind it would be lost with it.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    let settled = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
    // There is no room for it, and none for what would be written behind it either.
    settled.or_else(|error| if error.sqlite_error_code() == Some(ErrorCode::DiskFull) { Ok(()) } else { Err(error) })
}

/// Makes the file if it is not there, for its owner alone; SQLite gives what stands beside it the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The write-ahead log that stands beside a file.
pub(super) fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

/// What the connections to a file share of where things are in its log.
pub(super) fn shared_memory_of(path: &Path) -> PathBuf {
    beside(path, "-shm")
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    name.into()
}

/// Bytes of a file; none where there is none.
pub(super) fn size(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Making the file left a rollback journal behind that was deleted, and SQLite does not sync that it was. Were it back
/// after a power cut, it would undo the making of the file, and everything since with it.
fn sync_directory(path: &Path) -> io::Result<()> {
    // Elsewhere a directory is no file to open.
    if !cfg!(unix) {
        return Ok(());
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

impl From<rusqlite::Error> for EngineError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Storage(StorageFault(error.to_string().into())),
        }
    }
}
