//! The snapshots of a log, and what they let go of.

use moorline_protocol::{
    channel::{ChannelId, Mark, Offset, Position, Snapshot},
    time::UnixMillis,
};
use rusqlite::{Connection, OptionalExtension};

use super::{super::sum, Log, mark};
use crate::{EngineError, Most};

impl Log {
    pub(in super::super) fn snapshot(&self, connection: &Connection) -> Result<Option<Snapshot>, EngineError> {
        let sql = "SELECT covers, tag, at, content FROM snapshots WHERE log = ? ORDER BY covers DESC LIMIT 1";
        let mut statement = connection.prepare_cached(sql)?;
        let found = statement.query_row((self.id,), |row| {
            Ok(Snapshot {
                covers: Position { epoch: self.bounds.epoch, mark: mark(row, 0, 1)? },
                at: UnixMillis(row.get(2)?),
                content: row.get::<_, Vec<u8>>(3)?.into(),
            })
        });
        Ok(found.optional()?)
    }

    pub(in super::super) fn keep_snapshot(
        &mut self,
        connection: &Connection,
        channel: &ChannelId,
        snapshot: &Snapshot,
        most: Most,
    ) -> Result<(), EngineError> {
        let covers = snapshot.covers.mark;
        if self.judge(connection, snapshot.covers)?.is_err() {
            return Err(EngineError::UnknownPosition);
        }
        let newest = self.newest_snapshot(connection)?;
        if newest.is_some_and(|newest| newest.offset >= covers.offset) {
            return Err(EngineError::Superseded);
        }
        self.begin(connection, channel, most)?;
        let sql = "INSERT INTO snapshots (log, covers, tag, at, content, sum) VALUES (?, ?, ?, ?, ?, ?)";
        let sum = sum::of_content(snapshot.at, &snapshot.content);
        let row = (self.id, covers.offset.0, covers.tag.0, snapshot.at.0, &snapshot.content[..], sum);
        connection.prepare_cached(sql)?.execute(row)?;
        // What the one before covers is in it, and it stays.
        if let Some(before) = newest {
            connection
                .prepare_cached("DELETE FROM snapshots WHERE log = ? AND covers < ?")?
                .execute((self.id, before.offset.0))?;
            self.drop_entries(connection, before)?;
        }
        self.needed = self.count_needed(connection)?;
        self.save(connection)
    }

    /// Drops what the newest snapshot covers: entries and snapshots, whose numbers it gives. To be saved.
    pub(in super::super) fn supersede(&mut self, connection: &Connection) -> Result<(u64, u64), EngineError> {
        let Some(newest) = self.newest_snapshot(connection)? else { return Ok((0, 0)) };
        let snapshots = connection
            .prepare_cached("DELETE FROM snapshots WHERE log = ? AND covers < ?")?
            .execute((self.id, newest.offset.0))?;
        let entries = self.drop_entries(connection, newest)?;
        Ok((entries, snapshots as u64))
    }

    pub(super) fn newest_snapshot(&self, connection: &Connection) -> Result<Option<Mark>, EngineError> {
        let sql = "SELECT covers, tag FROM snapshots WHERE log = ? ORDER BY covers DESC LIMIT 1";
        Ok(connection.prepare_cached(sql)?.query_row((self.id,), |row| mark(row, 0, 1)).optional()?)
    }

    /// Drops the entries up to this one, and gives how many there were. To be saved.
    fn drop_entries(&mut self, connection: &Connection, upto: Mark) -> Result<u64, EngineError> {
        let sql = "SELECT count(*), coalesce(sum(length(content)), 0) FROM entries WHERE log = ? AND offset <= ?";
        let (entries, bytes): (u64, u64) = connection
            .prepare_cached(sql)?
            .query_row((self.id, upto.offset.0), |row| Ok((row.get(0)?, row.get(1)?)))?;
        if entries > 0 {
            connection
                .prepare_cached("DELETE FROM entries WHERE log = ? AND offset <= ?")?
                .execute((self.id, upto.offset.0))?;
            self.bounds.trimmed = upto;
            // What is counted is what was written; a file that somebody has changed may say otherwise.
            self.entries = self.entries.saturating_sub(entries);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        Ok(entries)
    }

    /// What is needed, counted anew.
    pub(in super::super) fn count_needed(&self, connection: &Connection) -> Result<u64, EngineError> {
        let covered = self.newest_snapshot(connection)?.map_or(Offset(0), |newest| newest.offset);
        let count = |table: &str, condition: &str| {
            let sql = format!("SELECT coalesce(sum(length(content)), 0) FROM {table} WHERE log = ? AND {condition}");
            connection.prepare_cached(&sql)?.query_row((self.id, covered.0), |row| row.get::<_, u64>(0))
        };
        let snapshot = count("snapshots", "covers = ?")?;
        Ok(snapshot + count("entries", "offset > ?")? + count("channel_values", "? IS NOT NULL")?)
    }
}
