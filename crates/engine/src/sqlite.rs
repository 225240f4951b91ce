//! The engine whose channels are in a file.
//!
//! What it says is kept is written and synced: SQLite with a write-ahead log and `synchronous = FULL`. One thread writes
//! and shares its commits among those who wait; others read. After a failure of the storage the file is opened anew, as
//! what is in memory may not be what is on the disk; while the disk is full it is still read.

mod archive;
mod connect;
mod export;
mod file;
mod judge;
mod log;
mod names;
mod schema;
mod sum;
mod verify;
mod view;
mod worker;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use moorline_protocol::{
    channel::{Bounds, ChannelId, Kind, Page, Range, Snapshot},
    entropy::Entropy,
    subject::Tenant,
    time::UnixMillis,
};
use rusqlite::{Connection, OptionalExtension};

#[cfg(feature = "testing")]
pub use self::connect::Tuning;
#[cfg(not(feature = "testing"))]
use self::connect::Tuning;
pub use self::{
    archive::{Archive, ArchiveError, ArchiveHeader},
    export::ExportError,
    file::{Compacted, ImportError, Imported, SqliteFile},
    judge::Fault,
    verify::Finding,
    view::{Outline, OutlinedSnapshot, SqliteView},
};
use self::{
    log::Log,
    worker::{News, Workers},
};
use crate::{
    Answer, Append, Appended, Engine, EngineError, Expected, IsOpen, Key, Limit, Most, Usage, ValueHash, Version,
    Versioned, Watcher,
};

/// Channels without anything in them that are removed in one commit.
const FORGOTTEN_AT_ONCE: usize = 1_024;

/// An [`Engine`] in a file. Dropping it ends what was begun and closes the file.
///
/// Only one may have a file at a time: with two, neither would tell of what the other appends.
pub struct SqliteEngine {
    path: PathBuf,
    workers: Workers,
}

impl fmt::Debug for SqliteEngine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SqliteEngine({})", self.path.display())
    }
}

/// Why a file could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A later version of this program made the file.
    Newer {
        /// The file's version.
        found: usize,
        /// The newest that this program knows.
        known: usize,
    },
    /// There is no file.
    Missing,
    /// It has no channels, or an earlier version of this program made it, and whoever only looks does not change that.
    Older {
        /// The file's version; 0 when nobody of us made it.
        found: usize,
        /// The one that there is now.
        known: usize,
    },
    /// The file system has no write-ahead log; the journal there is instead.
    NoWal(Box<str>),
    /// SQLite's own.
    Sqlite(rusqlite::Error),
    /// The system's: it could not be made, its directory not be synced, or there is no thread to be had.
    System(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { found, known } => {
                write!(formatter, "it has version {found}, and this program knows {known} at most: use a newer program")
            }
            Self::Missing => formatter.write_str("there is no such file"),
            Self::Older { found: 0, .. } => formatter.write_str("there are no channels in it"),
            Self::Older { found, known } => {
                write!(formatter, "it has version {found}, and this program wants {known}: start the server once")
            }
            Self::NoWal(mode) => write!(
                formatter,
                "the file system has no shared memory for a write-ahead log (SQLite offers {mode}): use a local disk"
            ),
            Self::Sqlite(error) => error.fmt(formatter),
            Self::System(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl SqliteEngine {
    /// Opens the file, or makes it. The seed makes epochs and tags: never use one twice.
    ///
    /// # Errors
    /// When it cannot be opened or made, or a later version of this program made it.
    pub fn open(path: &Path, seed: [u8; 32]) -> Result<Self, OpenError> {
        Ok(Self { path: path.to_owned(), workers: Workers::start(path, seed, Tuning::default())? })
    }

    /// The same with SQLite tuned otherwise: for tests of the disk.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(feature = "testing")]
    pub fn open_tuned(path: &Path, seed: [u8; 32], tuning: Tuning) -> Result<Self, OpenError> {
        Ok(Self { path: path.to_owned(), workers: Workers::start(path, seed, tuning)? })
    }

    /// Reads of a channel's log, which is made if there is none.
    async fn read_log<T: Send + 'static>(
        &self,
        channel: &ChannelId,
        read: impl Fn(&Connection, &Log) -> Result<T, EngineError> + Clone + Send + 'static,
    ) -> Result<T, EngineError> {
        let (id, reader) = (channel.clone(), read.clone());
        let found = self
            .workers
            .read(move |connection| Log::find(connection, &id)?.map(|log| reader(connection, &log)).transpose())
            .await?;
        if let Some(found) = found {
            return Ok(found);
        }
        let id = channel.clone();
        self.workers
            .write(move |connection, entropy| {
                let log = Log::find_or_make(connection, &id, entropy)?;
                Ok((read(connection, &log)?, None))
            })
            .await
    }
}

impl Engine for SqliteEngine {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.workers.watch(watcher);
    }

    fn append<'a>(&'a self, channel: &'a ChannelId, append: Append) -> Answer<'a, Appended> {
        let channel = channel.clone();
        // Here and not in the one thread that writes.
        let sum = sum::of_content(append.at, &append.content);
        Box::pin(self.workers.write(move |connection, entropy| {
            let mut log = Log::find_or_make(connection, &channel, entropy)?;
            let (appended, entry) = log.append(connection, &channel, append, sum, entropy)?;
            Ok((appended, entry.map(|entry| News::Appended(channel, log.bounds.epoch, entry))))
        }))
    }

    fn bounds<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, Bounds> {
        Box::pin(self.read_log(channel, |_, log| Ok(log.bounds)))
    }

    fn read<'a>(&'a self, channel: &'a ChannelId, range: Range, limit: Limit) -> Answer<'a, Page> {
        Box::pin(self.read_log(channel, move |connection, log| log.read(connection, range, limit)))
    }

    fn snapshot<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, (Bounds, Option<Arc<Snapshot>>)> {
        Box::pin(self.read_log(channel, |connection, log| Ok((log.bounds, log.snapshot(connection)?.map(Arc::new)))))
    }

    fn keep_snapshot<'a>(&'a self, channel: &'a ChannelId, snapshot: Snapshot, most: Most) -> Answer<'a, ()> {
        let channel = channel.clone();
        Box::pin(self.workers.write(move |connection, entropy| {
            let mut log = Log::find_or_make(connection, &channel, entropy)?;
            Ok((log.keep_snapshot(connection, &channel, &snapshot, most)?, None))
        }))
    }

    fn keep_value<'a>(&'a self, channel: &'a ChannelId, hash: ValueHash, value: Bytes, most: Most) -> Answer<'a, ()> {
        let channel = channel.clone();
        Box::pin(self.workers.write(move |connection, entropy| {
            let mut log = Log::find_or_make(connection, &channel, entropy)?;
            log.keep_value(connection, &channel, hash, &value, most).map(|()| ((), None))
        }))
    }

    fn value<'a>(&'a self, channel: &'a ChannelId, hash: ValueHash) -> Answer<'a, Option<Bytes>> {
        let channel = channel.clone();
        Box::pin(self.workers.read(move |connection| {
            let Some(log) = Log::find(connection, &channel)? else { return Ok(None) };
            let sql = "SELECT content FROM channel_values WHERE log = ? AND hash = ?";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement.query_row((log.id, hash.0), |row| row.get::<_, Vec<u8>>(0)).optional()?;
            Ok(found.map(Bytes::from))
        }))
    }

    fn usage<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, Usage> {
        let channel = channel.clone();
        Box::pin(self.workers.read(move |connection| match Log::find(connection, &channel)? {
            Some(log) => log.usage(connection),
            None => Ok(Usage::default()),
        }))
    }

    fn channels<'a>(
        &'a self,
        kind: Kind,
        tenant: Option<Tenant>,
        after: Option<ChannelId>,
        most: usize,
    ) -> Answer<'a, Vec<ChannelId>> {
        Box::pin(
            self.workers
                .read(move |connection| names::channels(connection, kind, tenant.as_ref(), after.as_ref(), most)),
        )
    }

    fn remove<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, bool> {
        let channel = channel.clone();
        Box::pin(self.workers.write(move |connection, _| {
            let Some(log) = Log::find(connection, &channel)? else { return Ok((false, None)) };
            log.remove(connection)?;
            Ok((true, Some(News::Removed(vec![channel]))))
        }))
    }

    fn sweep(&self, now: UnixMillis, is_open: IsOpen) -> Answer<'_, ()> {
        Box::pin(async move {
            self.workers.write(move |connection, _| Ok((Log::sweep(connection, now)?, None))).await?;
            // Of what was only asked for there may be much: others write in between.
            let mut after = Some(i64::MIN);
            while let Some(from) = after {
                let is_open = is_open.clone();
                let forget = move |connection: &Connection, _: &mut Entropy| {
                    let (gone, more) = names::forget_unwritten(connection, from, FORGOTTEN_AT_ONCE, &*is_open)?;
                    Ok((more, Some(News::Removed(gone))))
                };
                after = self.workers.write(forget).await?;
            }
            Ok(())
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Versioned>> {
        let key = key.clone();
        Box::pin(self.workers.read(move |connection| {
            let sql = "SELECT version, value FROM application_values WHERE tenant = ? AND namespace = ? AND name = ?";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement.query_row((key.tenant.as_str(), &key.namespace, &key.name), |row| {
                Ok(Versioned { version: Version(row.get(0)?), value: row.get::<_, Vec<u8>>(1)?.into() })
            });
            Ok(found.optional()?)
        }))
    }

    fn put<'a>(&'a self, key: &'a Key, value: Bytes, expected: Expected) -> Answer<'a, Version> {
        let key = key.clone();
        Box::pin(self.workers.write(move |connection, _| {
            check(connection, &key, expected)?;
            // One count for all of them, so that none comes twice.
            let next = "UPDATE counters SET value = value + 1 WHERE name = 'version' RETURNING value";
            let version = connection.prepare_cached(next)?.query_row((), |row| row.get(0))?;
            let sql = "INSERT OR REPLACE INTO application_values (tenant, namespace, name, version, value, sum)
                       VALUES (?, ?, ?, ?, ?, ?)";
            let sum = sum::of_value(version, &value);
            let row = (key.tenant.as_str(), &key.namespace, &key.name, version, &value[..], sum);
            connection.prepare_cached(sql)?.execute(row)?;
            Ok((Version(version), None))
        }))
    }

    fn delete<'a>(&'a self, key: &'a Key, expected: Expected) -> Answer<'a, bool> {
        let key = key.clone();
        Box::pin(self.workers.write(move |connection, _| {
            check(connection, &key, expected)?;
            let sql = "DELETE FROM application_values WHERE tenant = ? AND namespace = ? AND name = ?";
            let gone = connection.prepare_cached(sql)?.execute((key.tenant.as_str(), &key.namespace, &key.name))?;
            Ok((gone > 0, None))
        }))
    }

    fn keys<'a>(
        &'a self,
        tenant: &'a Tenant,
        namespace: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
        most: usize,
    ) -> Answer<'a, Vec<(String, Versioned)>> {
        let (tenant, namespace, prefix) = (tenant.clone(), namespace.to_owned(), prefix.to_owned());
        let after = after.map(str::to_owned);
        Box::pin(self.workers.read(move |connection| {
            // Where it begins is said by one of them alone, so that a page does not read those before it.
            let (begins, from) = match &after {
                Some(after) if *after >= prefix => ("name > ?3", after),
                _ => ("name >= ?3", &prefix),
            };
            let sql = format!(
                "SELECT name, version, value FROM application_values
                 WHERE tenant = ?1 AND namespace = ?2 AND {begins} ORDER BY name"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query((tenant.as_str(), &namespace, from))?;
            let mut found = Vec::new();
            while found.len() < most
                && let Some(row) = rows.next()?
            {
                let name: String = row.get(0)?;
                if !name.starts_with(&prefix) {
                    break;
                }
                let value = Versioned { version: Version(row.get(1)?), value: row.get::<_, Vec<u8>>(2)?.into() };
                found.push((name, value));
            }
            Ok(found)
        }))
    }
}

fn check(connection: &Connection, key: &Key, expected: Expected) -> Result<(), EngineError> {
    let sql = "SELECT version FROM application_values WHERE tenant = ? AND namespace = ? AND name = ?";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row((key.tenant.as_str(), &key.namespace, &key.name), |row| row.get(0)).optional()?;
    if expected.holds(found.map(Version)) { Ok(()) } else { Err(EngineError::Changed) }
}
