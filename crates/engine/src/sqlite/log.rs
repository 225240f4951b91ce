//! One channel's rows.

mod snapshots;

use std::{sync::Arc, time::Duration};

use moorline_protocol::{
    channel::{Bounds, ChannelId, Entry, Gap, LogEpoch, Mark, Offset, Page, Position, Range, Tag},
    entropy::Entropy,
    time::UnixMillis,
};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{Append, Appended, EngineError, Limit, Most, OPERATIONS_KEPT, OpId, Retention, Room, Usage, ValueHash};

/// The newest entries of a log of which operations are known again.
const OPERATIONS: u64 = 65_536;

/// After so many entries those are forgotten that are beyond [`OPERATIONS`]: for that all of them are looked at.
const FORGOTTEN_AFTER: u64 = 4_096;

/// A channel's log as its row says.
pub(super) struct Log {
    pub(super) id: i64,
    pub(super) bounds: Bounds,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// Bytes of the newest snapshot, the entries that are not in it, and the values.
    pub(super) needed: u64,
    pub(super) retention: Retention,
    /// Whether anything was ever kept of it.
    pub(super) written: bool,
}

pub(super) const COLUMNS: &str = "id, epoch, head, head_tag, trimmed, trimmed_tag, entries, bytes, keep_entries, keep_bytes, keep_ms, needed, written";

/// SQLite's integers have a sign; more than they hold is as good as no limit.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unlimited(number: i64) -> u64 {
    if number == i64::MAX { u64::MAX } else { number.unsigned_abs() }
}

pub(super) fn mark(row: &Row<'_>, offset: usize, tag: usize) -> rusqlite::Result<Mark> {
    Ok(Mark { offset: Offset(row.get(offset)?), tag: Tag(row.get(tag)?) })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        prev: Offset(row.get(0)?),
        mark: mark(row, 1, 2)?,
        at: UnixMillis(row.get(3)?),
        content: row.get::<_, Vec<u8>>(4)?.into(),
    })
}

impl Log {
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let age = match unlimited(row.get(10)?) {
            u64::MAX => Duration::MAX,
            millis => Duration::from_millis(millis),
        };
        Ok(Self {
            id: row.get(0)?,
            bounds: Bounds { epoch: LogEpoch(row.get(1)?), head: mark(row, 2, 3)?, trimmed: mark(row, 4, 5)? },
            entries: row.get(6)?,
            bytes: row.get(7)?,
            needed: row.get(11)?,
            retention: Retention { entries: unlimited(row.get(8)?), bytes: unlimited(row.get(9)?), age },
            written: row.get(12)?,
        })
    }

    pub(super) fn find(connection: &Connection, channel: &ChannelId) -> Result<Option<Self>, EngineError> {
        let sql = format!("SELECT {COLUMNS} FROM logs WHERE kind = ? AND tenant = ? AND name = ?");
        let mut statement = connection.prepare_cached(&sql)?;
        let asked = (channel.kind as i64, channel.tenant.as_str(), channel.name.as_str());
        Ok(statement.query_row(asked, Self::of).optional()?)
    }

    pub(super) fn find_or_make(
        connection: &Connection,
        channel: &ChannelId,
        entropy: &mut Entropy,
    ) -> Result<Self, EngineError> {
        if let Some(found) = Self::find(connection, channel)? {
            return Ok(found);
        }
        let epoch = LogEpoch(entropy.array());
        let retention = Retention::default();
        let sql = "INSERT INTO logs (tenant, kind, name, epoch, keep_entries, keep_bytes, keep_ms)
                   VALUES (?, ?, ?, ?, ?, ?, ?)";
        let [keep_entries, keep_bytes, keep_ms] = kept(retention);
        connection.prepare_cached(sql)?.execute((
            channel.tenant.as_str(),
            channel.kind as i64,
            channel.name.as_str(),
            epoch.0,
            keep_entries,
            keep_bytes,
            keep_ms,
        ))?;
        let id = connection.last_insert_rowid();
        Ok(Self { id, bounds: Bounds::new(epoch), entries: 0, bytes: 0, needed: 0, retention, written: false })
    }

    /// Something is kept of it from now on, unless its tenant has as many of its kind as it may.
    fn begin(&mut self, connection: &Connection, channel: &ChannelId, most: Most) -> Result<(), EngineError> {
        if self.written {
            return Ok(());
        }
        if let Some(most) = most.channels {
            let sql = "SELECT count FROM written_logs WHERE kind = ? AND tenant = ?";
            let asked = (channel.kind as i64, channel.tenant.as_str());
            let found = connection.prepare_cached(sql)?.query_row(asked, |row| row.get::<_, u64>(0)).optional()?;
            if found.unwrap_or_default() >= most {
                return Err(EngineError::TooManyChannels);
            }
        }
        // Who counts them is a trigger of the table.
        connection.prepare_cached("UPDATE logs SET written = 1 WHERE id = ?")?.execute((self.id,))?;
        self.written = true;
        Ok(())
    }

    /// `sum` is that of what is to be appended.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        channel: &ChannelId,
        append: Append,
        sum: i64,
        entropy: &mut Entropy,
    ) -> Result<(Appended, Option<Arc<Entry>>), EngineError> {
        let epoch = self.bounds.epoch;
        if let Some(op) = append.op
            && let Some(mark) = self.done(connection, op)?
        {
            return Ok((Appended { position: Position { epoch, mark }, repeated: true }, None));
        }
        let prev = self.bounds.head.offset;
        if append.expected.is_some_and(|expected| expected != prev) {
            return Err(EngineError::Conflict(self.bounds.head));
        }
        self.has_room(append.content.len(), append.most)?;
        self.begin(connection, channel, append.most)?;
        let mark = Mark { offset: Offset(prev.0 + 1), tag: Tag(entropy.array()) };
        let entry = Entry { prev, mark, at: append.at, content: append.content };
        let sql = "INSERT INTO entries (log, offset, prev, tag, at, content, sum) VALUES (?, ?, ?, ?, ?, ?, ?)";
        let row = (self.id, mark.offset.0, prev.0, mark.tag.0, entry.at.0, &entry.content[..], sum);
        connection.prepare_cached(sql)?.execute(row)?;
        if let Some(op) = append.op {
            let sql = "INSERT INTO operations (log, op, offset, tag, at) VALUES (?, ?, ?, ?, ?)";
            let row = (self.id, op.0, mark.offset.0, mark.tag.0, entry.at.0);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        self.bounds.head = mark;
        self.entries += 1;
        self.bytes += entry.content.len() as u64;
        self.needed += entry.content.len() as u64;
        self.retention = append.retention;
        self.trim(connection, entry.at)?;
        self.save(connection)?;
        if mark.offset.0.is_multiple_of(FORGOTTEN_AFTER) {
            self.forget_operations(connection, OPERATIONS)?;
        }
        Ok((Appended { position: Position { epoch, mark }, repeated: false }, Some(Arc::new(entry))))
    }

    /// So that what is remembered of a busy channel is bounded by more than a day.
    fn forget_operations(&self, connection: &Connection, newest: u64) -> Result<(), EngineError> {
        let upto = self.bounds.head.offset.0.saturating_sub(newest);
        let sql = "DELETE FROM operations WHERE log = ? AND offset <= ?";
        connection.prepare_cached(sql)?.execute((self.id, signed(upto)))?;
        Ok(())
    }

    fn has_room(&self, bytes: usize, most: Most) -> Result<(), EngineError> {
        let fits = most.bytes.is_none_or(|most| self.needed.saturating_add(bytes as u64) <= most);
        if fits { Ok(()) } else { Err(EngineError::TooMuch) }
    }

    fn done(&self, connection: &Connection, op: OpId) -> Result<Option<Mark>, EngineError> {
        let sql = "SELECT offset, tag FROM operations WHERE log = ? AND op = ?";
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_row((self.id, op.0), |row| mark(row, 0, 1)).optional()?)
    }

    pub(super) fn trim(&mut self, connection: &Connection, now: UnixMillis) -> Result<(), EngineError> {
        // The length of a blob is read without the blob.
        let sql = "SELECT offset, tag, at, length(content) FROM entries WHERE log = ? ORDER BY offset";
        let mut failed = None;
        let left = {
            let mut statement = connection.prepare_cached(sql)?;
            let rows =
                statement.query_map((self.id,), |row| Ok((mark(row, 0, 1)?, UnixMillis(row.get(2)?), row.get(3)?)))?;
            let oldest_first = rows.map_while(|row| row.map_err(|error| failed = Some(error)).ok());
            self.retention.beyond(self.entries, self.bytes, now, oldest_first)
        };
        if let Some(error) = failed {
            return Err(error.into());
        }
        if let Some(left) = left {
            connection
                .prepare_cached("DELETE FROM entries WHERE log = ? AND offset <= ?")?
                .execute((self.id, left.upto.offset.0))?;
            let dropped = self.bytes.saturating_sub(left.bytes);
            (self.bounds.trimmed, self.entries, self.bytes) = (left.upto, left.entries, left.bytes);
            self.needed = match self.newest_snapshot(connection)? {
                None => self.needed.saturating_sub(dropped),
                Some(_) => self.count_needed(connection)?,
            };
        }
        Ok(())
    }

    pub(super) fn save(&self, connection: &Connection) -> Result<(), EngineError> {
        let sql = "UPDATE logs SET head = ?, head_tag = ?, trimmed = ?, trimmed_tag = ?, entries = ?, bytes = ?,
                   needed = ?, keep_entries = ?, keep_bytes = ?, keep_ms = ? WHERE id = ?";
        let Bounds { head, trimmed, .. } = self.bounds;
        let [keep_entries, keep_bytes, keep_ms] = kept(self.retention);
        connection.prepare_cached(sql)?.execute((
            head.offset.0,
            head.tag.0,
            trimmed.offset.0,
            trimmed.tag.0,
            self.entries,
            self.bytes,
            self.needed,
            keep_entries,
            keep_bytes,
            keep_ms,
            self.id,
        ))?;
        Ok(())
    }

    fn judge(&self, connection: &Connection, since: Position) -> Result<Result<Offset, Gap>, EngineError> {
        let mut failed = None;
        let judged = self.bounds.judge(since, |offset| {
            let found = connection.prepare_cached("SELECT tag FROM entries WHERE log = ? AND offset = ?");
            let found =
                found.and_then(|mut statement| statement.query_row((self.id, offset.0), |row| row.get(0)).optional());
            found
                .unwrap_or_else(|error| {
                    failed = Some(error);
                    None
                })
                .map(Tag)
        });
        failed.map_or(Ok(judged), |error| Err(error.into()))
    }

    pub(super) fn read(&self, connection: &Connection, range: Range, limit: Limit) -> Result<Page, EngineError> {
        let bounds = self.bounds;
        let (condition, offset, ascending) = match range {
            Range::After(since) => match self.judge(connection, since)? {
                Ok(after) => ("offset > ?", after, true),
                Err(gap) => return Ok(Page { bounds, entries: Vec::new(), gap: Some(gap) }),
            },
            Range::Oldest => ("offset > ?", Offset(0), true),
            Range::Before(offset) => ("offset < ?", offset, false),
            Range::Newest => ("offset <= ?", bounds.head.offset, false),
        };
        let order = if ascending { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT prev, offset, tag, at, content FROM entries WHERE log = ? AND {condition} ORDER BY offset {order}"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query((self.id, signed(offset.0)))?;
        let mut room = Room::new(limit);
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let entry = entry(row)?;
            if !room.takes(&entry) {
                break;
            }
            entries.push(Arc::new(entry));
        }
        if !ascending {
            entries.reverse();
        }
        Ok(Page { bounds, entries, gap: None })
    }

    pub(super) fn keep_value(
        &mut self,
        connection: &Connection,
        channel: &ChannelId,
        hash: ValueHash,
        value: &[u8],
        most: Most,
    ) -> Result<(), EngineError> {
        let sql = "SELECT 1 FROM channel_values WHERE log = ? AND hash = ?";
        if connection.prepare_cached(sql)?.exists((self.id, hash.0))? {
            return Ok(());
        }
        self.has_room(value.len(), most)?;
        self.begin(connection, channel, most)?;
        let sql = "INSERT INTO channel_values (log, hash, content) VALUES (?, ?, ?)";
        connection.prepare_cached(sql)?.execute((self.id, hash.0, value))?;
        self.needed += value.len() as u64;
        self.save(connection)
    }

    pub(super) fn usage(&self, connection: &Connection) -> Result<Usage, EngineError> {
        let count = |table: &str| {
            let sql = format!("SELECT count(*), coalesce(sum(length(content)), 0) FROM {table} WHERE log = ?");
            connection.prepare_cached(&sql)?.query_row((self.id,), |row| Ok((row.get(0)?, row.get(1)?)))
        };
        let (snapshots, snapshot_bytes) = count("snapshots")?;
        let (values, value_bytes) = count("channel_values")?;
        let (entries, entry_bytes) = (self.entries, self.bytes);
        Ok(Usage { entries, entry_bytes, snapshots, snapshot_bytes, values, value_bytes, needed_bytes: self.needed })
    }

    pub(super) fn remove(self, connection: &Connection) -> Result<(), EngineError> {
        for table in ["entries", "operations", "snapshots", "channel_values"] {
            connection.prepare_cached(&format!("DELETE FROM {table} WHERE log = ?"))?.execute((self.id,))?;
        }
        connection.prepare_cached("DELETE FROM logs WHERE id = ?")?.execute((self.id,))?;
        Ok(())
    }

    /// Drops what is too old, in every log that has anything of that age, and operations of a day ago.
    pub(super) fn sweep(connection: &Connection, now: UnixMillis) -> Result<(), EngineError> {
        // Those that keep everything for ever are not looked at, however many there are.
        let sql = format!(
            "SELECT {COLUMNS} FROM logs WHERE keep_ms < 9223372036854775807 AND
             (SELECT at FROM entries WHERE log = logs.id ORDER BY offset LIMIT 1) < ?1 - keep_ms"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let logs = statement.query_map((signed(now.0),), Self::of)?.collect::<Result<Vec<_>, _>>()?;
        for mut log in logs {
            log.trim(connection, now)?;
            log.save(connection)?;
        }
        let oldest = now.0.saturating_sub(OPERATIONS_KEPT.as_millis() as u64);
        connection.prepare_cached("DELETE FROM operations WHERE at < ?")?.execute((signed(oldest),))?;
        Ok(())
    }
}

/// A retention as its columns.
pub(super) fn kept(retention: Retention) -> [i64; 3] {
    let age = u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX);
    [signed(retention.entries), signed(retention.bytes), signed(age)]
}

#[cfg(test)]
mod tests {
    use moorline_protocol::{channel::Kind, payload::Name, subject::Tenant};

    use super::{super::schema, *};

    /// A day of a busy channel's was remembered, however much that was.
    #[test]
    fn regression_operations_are_known_of_so_many_of_the_newest_entries() {
        let mut connection = Connection::open_in_memory().unwrap_or_else(|error| panic!("{error}"));
        schema::migrate(&mut connection).unwrap_or_else(|error| panic!("{error}"));
        let mut entropy = Entropy::new([1; 32]);
        let channel = ChannelId::new(Tenant::default(), Kind::Topic, Name::new("room").expect("a name"));
        let mut log = Log::find_or_make(&connection, &channel, &mut entropy).unwrap_or_else(|error| panic!("{error}"));
        let mut append = |log: &mut Log, number: u8| {
            let retention = Retention { entries: 1, ..Retention::ALL };
            let append = Append { op: Some(OpId([number; 16])), ..Append::new("x".into(), UnixMillis(1), retention) };
            let appended = log.append(&connection, &channel, append, 0, &mut entropy);
            appended.unwrap_or_else(|error| panic!("{error}")).0.repeated
        };
        for number in 1..=10 {
            assert!(!append(&mut log, number));
        }
        log.forget_operations(&connection, 4).unwrap_or_else(|error| panic!("{error}"));
        assert!(append(&mut log, 7) && append(&mut log, 10), "of the newest four");
        assert!(!append(&mut log, 6));
    }
}
