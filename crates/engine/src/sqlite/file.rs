//! The file in the hands of who looks after it, while no engine has it.

use std::{
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use moorline_protocol::{
    channel::{ChannelId, LogEpoch, Position},
    entropy::Entropy,
    time::UnixMillis,
};
use rusqlite::{Connection, TransactionBehavior};

use super::{
    OpenError,
    archive::{Archive, ArchiveError, ArchiveHeader, Piece},
    connect::{self, Tuning},
    log::{COLUMNS, Log, kept},
    sum,
};
use crate::{EngineError, OPERATIONS_KEPT, error::StorageFault};

/// An engine's file without the engine. Nobody else may have it meanwhile, but for those who only look
/// ([`SqliteView`](super::SqliteView)).
pub struct SqliteFile {
    path: PathBuf,
    connection: Connection,
    entropy: Entropy,
}

impl fmt::Debug for SqliteFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SqliteFile({})", self.path.display())
    }
}

/// What was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Where the channel ends, in its new epoch.
    pub end: Position,
    /// There was one of its name, which is gone.
    pub replaced: bool,
}

/// Why nothing was imported.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// There is a channel of its name.
    Exists,
    /// What was to be imported is no export.
    Archive(ArchiveError),
    /// The file of channels failed.
    Engine(EngineError),
}

impl fmt::Display for ImportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => formatter.write_str("there is a channel of this name"),
            Self::Archive(error) => error.fmt(formatter),
            Self::Engine(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for ImportError {}

impl From<ArchiveError> for ImportError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<EngineError> for ImportError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<rusqlite::Error> for ImportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error.into())
    }
}

/// What was dropped, and what that came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Entries that a snapshot covers, or that are older than they are kept.
    pub entries: u64,
    /// Snapshots that a newer one covers.
    pub snapshots: u64,
    /// Operations that are too old to come again.
    pub operations: u64,
    /// Bytes of the file before, with what waits beside it.
    pub before: u64,
    /// And after.
    pub after: u64,
    /// Somebody reads the file as it was: it shrinks when he is done and it is written to again.
    pub is_read: bool,
}

impl SqliteFile {
    /// Opens the file, or makes it. The seed makes epochs: never use one twice.
    ///
    /// # Errors
    /// As [`SqliteEngine::open`](super::SqliteEngine::open).
    pub fn open(path: &Path, seed: [u8; 32]) -> Result<Self, OpenError> {
        let connection = connect::open_writer(path, Tuning::default())?;
        Ok(Self { path: path.to_owned(), connection, entropy: Entropy::new(seed) })
    }

    /// Takes what stands beside a file into it, as far as it can be read, and removes it, so that another file may take the
    /// place of this one, or this one that of another.
    ///
    /// # Errors
    /// When somebody reads it at this moment, or what stands beside it cannot be removed.
    pub fn settle(path: &Path) -> io::Result<()> {
        if path.try_exists()?
            && let Ok(connection) = connect::open_writer(path, Tuning::default())
            && let Ok(true) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))
        {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "somebody reads it at this moment: try again"));
        }
        for beside in [connect::log_of(path), connect::shared_memory_of(path)] {
            match fs::remove_file(beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes a channel and everything in it. Gives whether there was one.
    ///
    /// # Errors
    /// [`EngineError::Full`] and [`EngineError::Storage`]; it is there then.
    pub fn remove(&mut self, channel: &ChannelId) -> Result<bool, EngineError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(log) = Log::find(&transaction, channel)? else { return Ok(false) };
        log.remove(&transaction)?;
        transaction.commit()?;
        Ok(true)
    }

    /// Puts in a channel from an export, under this name, all of it or nothing. It has another epoch than where it comes
    /// from: whoever follows it is told that it was made anew. One that is there is replaced only if that is meant; one
    /// that nobody has ever written to counts as none. `progress` is told the bytes of content so far.
    ///
    /// The memory that it takes does not depend on how much there is, and for a while it takes the room on the disk twice.
    ///
    /// # Errors
    /// When there is a channel of its name, when the export is none, or the file fails. Nothing has changed then.
    pub fn import(
        &mut self,
        mut archive: Archive<impl Read>,
        channel: &ChannelId,
        replace: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Imported, ImportError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut replaced = false;
        if let Some(log) = Log::find(&transaction, channel)? {
            replaced = log.written;
            if replaced && !replace {
                return Err(ImportError::Exists);
            }
            log.remove(&transaction)?;
        }
        let epoch = LogEpoch(self.entropy.array());
        let header = archive.header().clone();
        let log = make(&transaction, channel, epoch, &header)?;
        let mut bytes = 0_u64;
        while let Some(piece) = archive.next()? {
            if let Piece::Entry { content, .. } = &piece {
                bytes += content.len() as u64;
            }
            put(&transaction, log, &piece)?;
            progress(archive.bytes());
        }
        // Here everything is known to be as it was written.
        transaction.execute("UPDATE logs SET bytes = ?, written = 1 WHERE id = ?", (bytes, log))?;
        if let Some(mut log) = Log::find(&transaction, channel)? {
            log.needed = log.count_needed(&transaction)?;
            log.save(&transaction)?;
        }
        transaction.commit()?;
        Ok(Imported { end: Position { epoch, mark: header.bounds.head }, replaced })
    }

    /// Drops what is of no use any more, of one channel or of all, and gives the room back to the system: what the newest
    /// snapshot of a channel covers, the snapshot before it too; what is older than it is kept; operations that are too old
    /// to come again. `None` when there is no such channel.
    ///
    /// For a while it takes the room of what is left once more.
    ///
    /// # Errors
    /// [`EngineError::Full`] and [`EngineError::Storage`]; everything is there then, as before or already without what was
    /// to be dropped.
    pub fn compact(&mut self, only: Option<&ChannelId>, now: UnixMillis) -> Result<Option<Compacted>, EngineError> {
        let mut done = Compacted { before: self.size()?, ..Compacted::default() };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let oldest = now.0.saturating_sub(u64::try_from(OPERATIONS_KEPT.as_millis()).unwrap_or(u64::MAX));
        match only {
            Some(channel) => {
                let Some(mut log) = Log::find(&transaction, channel)? else { return Ok(None) };
                done.drop_of(&transaction, &mut log, now)?;
                let sql = "DELETE FROM operations WHERE at < ? AND log = ?";
                done.operations = transaction.execute(sql, (oldest, log.id))? as u64;
            }
            None => {
                let mut after = i64::MIN;
                while let Some(mut log) = next_log(&transaction, after)? {
                    after = log.id;
                    done.drop_of(&transaction, &mut log, now)?;
                }
                let sql = "DELETE FROM operations WHERE at < ?";
                done.operations = transaction.execute(sql, (oldest,))? as u64;
            }
        }
        transaction.commit()?;
        self.connection.execute_batch("VACUUM")?;
        // What is written stands beside the file until this.
        done.is_read = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
        done.after = self.size()?;
        Ok(Some(done))
    }

    /// Bytes of the file, and of what waits beside it.
    fn size(&self) -> Result<u64, EngineError> {
        let failed = |error: io::Error| EngineError::Storage(StorageFault(error.to_string().into()));
        let size = |path: &Path| connect::size(path).map_err(failed);
        Ok(size(&self.path)? + size(&connect::log_of(&self.path))?)
    }
}

impl Compacted {
    fn drop_of(&mut self, connection: &Connection, log: &mut Log, now: UnixMillis) -> Result<(), EngineError> {
        let (entries, snapshots) = log.supersede(connection)?;
        let before = log.entries;
        log.trim(connection, now)?;
        log.save(connection)?;
        self.entries += entries + before.saturating_sub(log.entries);
        self.snapshots += snapshots;
        Ok(())
    }
}

fn next_log(connection: &Connection, after: i64) -> Result<Option<Log>, EngineError> {
    let sql = format!("SELECT {COLUMNS} FROM logs WHERE id > ? ORDER BY id LIMIT 1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((after,))?;
    Ok(rows.next()?.map(Log::of).transpose()?)
}

fn make(
    connection: &Connection,
    channel: &ChannelId,
    epoch: LogEpoch,
    header: &ArchiveHeader,
) -> Result<i64, EngineError> {
    let [keep_entries, keep_bytes, keep_ms] = kept(header.kept);
    let sql =
        "INSERT INTO logs (tenant, kind, name, epoch, head, head_tag, trimmed, trimmed_tag, entries, keep_entries,
               keep_bytes, keep_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let (head, trimmed) = (header.bounds.head, header.bounds.trimmed);
    connection.prepare_cached(sql)?.execute((
        channel.tenant.as_str(),
        channel.kind as i64,
        channel.name.as_str(),
        epoch.0,
        head.offset.0,
        head.tag.0,
        trimmed.offset.0,
        trimmed.tag.0,
        header.entries,
        keep_entries,
        keep_bytes,
        keep_ms,
    ))?;
    Ok(connection.last_insert_rowid())
}

fn put(connection: &Connection, log: i64, piece: &Piece) -> Result<(), EngineError> {
    match piece {
        Piece::Snapshot { covers, at, content } => {
            let sql = "INSERT INTO snapshots (log, covers, tag, at, content, sum) VALUES (?, ?, ?, ?, ?, ?)";
            let row = (log, covers.offset.0, covers.tag.0, at.0, &content[..], sum::of_content(*at, content));
            connection.prepare_cached(sql)?.execute(row)?;
        }
        Piece::Entry { prev, mark, at, content } => {
            let sql = "INSERT INTO entries (log, offset, prev, tag, at, content, sum) VALUES (?, ?, ?, ?, ?, ?, ?)";
            let sum = sum::of_content(*at, content);
            let row = (log, mark.offset.0, prev.0, mark.tag.0, at.0, &content[..], sum);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        Piece::Operation { op, mark, at } => {
            let sql = "INSERT INTO operations (log, op, offset, tag, at) VALUES (?, ?, ?, ?, ?)";
            let row = (log, op.0, mark.offset.0, mark.tag.0, at.0);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        Piece::Value { hash, content } => {
            let sql = "INSERT INTO channel_values (log, hash, content) VALUES (?, ?, ?)";
            connection.prepare_cached(sql)?.execute((log, hash.0, &content[..]))?;
        }
    }
    Ok(())
}
