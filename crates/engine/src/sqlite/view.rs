//! The file as it is at one moment, for who looks at it and changes nothing.

use std::{fmt, path::Path};

use moorline_protocol::{
    channel::{Bounds, ChannelId, Kind, Mark},
    subject::Tenant,
    time::UnixMillis,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{
    OpenError, connect,
    log::{Log, mark},
    names, schema,
};
use crate::{EngineError, Retention, Usage, error::StorageFault};

/// What is in an engine's file at the moment when this was opened, whatever an engine, of this process or another, writes
/// to it meanwhile. What that writes waits beside the file until this is dropped.
pub struct SqliteView {
    pub(super) connection: Connection,
}

/// What there is of a channel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outline {
    /// Which.
    pub channel: ChannelId,
    /// Where its log begins and ends.
    pub bounds: Bounds,
    /// How much there is of it.
    pub usage: Usage,
    /// How much of it is kept.
    pub kept: Retention,
    /// When the oldest entry that is there was written.
    pub oldest: Option<UnixMillis>,
    /// When the newest was.
    pub newest: Option<UnixMillis>,
    /// Its snapshots, the newest first.
    pub snapshots: Vec<OutlinedSnapshot>,
    /// Operations that are known again when they come a second time.
    pub operations: u64,
}

/// A snapshot without what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutlinedSnapshot {
    /// The newest entry that is in it.
    pub covers: Mark,
    /// When it was made.
    pub at: UnixMillis,
    /// How large it is.
    pub bytes: u64,
    /// Entries that are not in it.
    pub behind: u64,
}

impl fmt::Debug for SqliteView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SqliteView").finish_non_exhaustive()
    }
}

impl SqliteView {
    /// Opens the file to read it.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is of another version.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if !path.try_exists()? {
            return Err(OpenError::Missing);
        }
        let connection = connect::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // The first thing that is read fixes the moment: here the version.
        connection.execute_batch("BEGIN")?;
        schema::check(&connection)?;
        Ok(Self { connection })
    }

    /// Copies everything, as it is now, into a file that is not there yet or has nothing in it; an engine may go on writing
    /// meanwhile. It is not synced.
    ///
    /// # Errors
    /// [`EngineError::Full`] and [`EngineError::Storage`]; what was written until then is to be thrown away.
    pub fn back_up(self, to: &Path) -> Result<(), EngineError> {
        let to = to.to_str().ok_or_else(|| EngineError::Storage(StorageFault("its name is not Unicode".into())))?;
        // SQLite begins a transaction of its own for it.
        self.connection.execute_batch("COMMIT")?;
        self.connection.execute("VACUUM INTO ?", (to,))?;
        Ok(())
    }

    /// Channels of a kind in the order of their names, those after `after`; at most `most`. Without a tenant they are
    /// ordered by tenant first.
    ///
    /// # Errors
    /// [`EngineError::Storage`] when the file cannot be read.
    pub fn channels(
        &self,
        kind: Kind,
        tenant: Option<&Tenant>,
        after: Option<&ChannelId>,
        most: usize,
    ) -> Result<Vec<ChannelId>, EngineError> {
        names::channels(&self.connection, kind, tenant, after, most)
    }

    /// What there is of a channel; `None` when it is not there.
    ///
    /// # Errors
    /// [`EngineError::Storage`] when the file cannot be read.
    pub fn outline(&self, channel: &ChannelId) -> Result<Option<Outline>, EngineError> {
        let Some(log) = Log::find(&self.connection, channel)? else { return Ok(None) };
        let end = |order: &str| {
            let sql = format!("SELECT at FROM entries WHERE log = ? ORDER BY offset {order} LIMIT 1");
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement.query_row((log.id,), |row| row.get(0).map(UnixMillis)).optional()
        };
        let sql = "SELECT covers, tag, at, length(content),
                          (SELECT count(*) FROM entries WHERE log = snapshots.log AND offset > covers)
                   FROM snapshots WHERE log = ? ORDER BY covers DESC LIMIT 16";
        let mut statement = self.connection.prepare_cached(sql)?;
        let snapshots = statement.query_map((log.id,), |row| {
            let (covers, at) = (mark(row, 0, 1)?, UnixMillis(row.get(2)?));
            Ok(OutlinedSnapshot { covers, at, bytes: row.get(3)?, behind: row.get(4)? })
        })?;
        let snapshots = snapshots.collect::<Result<_, _>>()?;
        let sql = "SELECT count(*) FROM operations WHERE log = ?";
        let operations = self.connection.prepare_cached(sql)?.query_row((log.id,), |row| row.get(0))?;
        Ok(Some(Outline {
            channel: channel.clone(),
            bounds: log.bounds,
            usage: log.usage(&self.connection)?,
            kept: log.retention,
            oldest: end("ASC")?,
            newest: end("DESC")?,
            snapshots,
            operations,
        }))
    }
}
