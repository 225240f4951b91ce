//! Carrying one channel out of the file.

use std::{
    fmt,
    io::{self, Write},
};

use moorline_protocol::{
    channel::{ChannelId, Offset, ValueHash},
    time::UnixMillis,
};

use super::{
    SqliteView,
    archive::{ArchiveHeader, ArchiveWriter},
    judge::{Fault, Judge, first_fault, judge_value},
    log::{Log, mark},
    sum,
};
use crate::{EngineError, OpId};

/// Why a channel was not exported, or not to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExportError {
    /// The channel is not there.
    NoSuchChannel,
    /// It is not sound: nobody could put it in elsewhere.
    Fault(Fault),
    /// The file of channels cannot be read.
    Engine(EngineError),
    /// What is exported cannot be written.
    Write(io::Error),
}

impl fmt::Display for ExportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchChannel => formatter.write_str("there is no such channel"),
            Self::Fault(fault) => fault.fmt(formatter),
            Self::Engine(error) => error.fmt(formatter),
            Self::Write(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for ExportError {}

impl From<Fault> for ExportError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<EngineError> for ExportError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<rusqlite::Error> for ExportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error.into())
    }
}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl SqliteView {
    /// Writes everything of a channel to `out`, in constant memory: its snapshots, entries, operations and values, as an
    /// [`Archive`](super::Archive) reads them. `progress` is told the bytes of content so far, and of all.
    ///
    /// # Errors
    /// When the channel is not there or not sound, or something cannot be read or written. What was written until then is no export.
    pub fn export(
        &self,
        channel: &ChannelId,
        at: UnixMillis,
        out: impl Write,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ArchiveHeader, ExportError> {
        let log = Log::find(&self.connection, channel)?.ok_or(ExportError::NoSuchChannel)?;
        let header = self.header(&log, channel, at)?;
        let mut writer = ArchiveWriter::begin(out, &header)?;
        let mut judge = Judge::new(channel.kind, log.bounds);
        let mut done = 0;
        let mut wrote = |content: &[u8]| {
            done += content.len() as u64;
            progress(done, header.bytes);
        };
        let blob = |error| ExportError::from(rusqlite::Error::from(error));

        let sql = "SELECT covers, tag, at, content, sum FROM snapshots WHERE log = ? ORDER BY covers";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query((log.id,))?;
        while let Some(row) = rows.next()? {
            let (covers, content) = (mark(row, 0, 1)?, row.get_ref(3)?.as_blob().map_err(blob)?);
            first_fault(|tell| judge.snapshot(covers, tell))?;
            let at = UnixMillis(row.get(2)?);
            if !sum::fits(row, 4, sum::of_content(at, content))? {
                return Err(Fault::ChangedSnapshot(covers.offset).into());
            }
            writer.snapshot(covers, at, content)?;
            wrote(content);
        }

        let sql = "SELECT prev, offset, tag, at, content, sum FROM entries WHERE log = ? ORDER BY offset";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query((log.id,))?;
        while let Some(row) = rows.next()? {
            let content = row.get_ref(4)?.as_blob().map_err(blob)?;
            let (prev, mark) = (Offset(row.get(0)?), mark(row, 1, 2)?);
            first_fault(|tell| judge.entry(prev, mark, content.len() as u64, tell))?;
            let at = UnixMillis(row.get(3)?);
            if !sum::fits(row, 5, sum::of_content(at, content))? {
                return Err(Fault::Changed(mark.offset).into());
            }
            writer.entry(prev, mark, at, content)?;
            wrote(content);
        }
        first_fault(|tell| {
            judge.end(tell);
            Judge::count("entries", log.entries, judge.entries, tell);
            Judge::count("bytes in them", log.bytes, judge.bytes, tell);
        })?;

        let sql = "SELECT op, offset, tag, at FROM operations WHERE log = ? ORDER BY op";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query((log.id,))?;
        while let Some(row) = rows.next()? {
            let made = mark(row, 1, 2)?;
            if made.offset > log.bounds.head.offset {
                return Err(Fault::Operation(made.offset).into());
            }
            writer.operation(OpId(row.get(0)?), made, UnixMillis(row.get(3)?))?;
        }

        let sql = "SELECT hash, content FROM channel_values WHERE log = ? ORDER BY hash";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query((log.id,))?;
        while let Some(row) = rows.next()? {
            let (hash, content) = (ValueHash(row.get(0)?), row.get_ref(1)?.as_blob().map_err(blob)?);
            judge_value(hash, content)?;
            writer.value(hash, content)?;
            wrote(content);
        }
        writer.end()?;
        Ok(header)
    }

    fn header(&self, log: &Log, channel: &ChannelId, at: UnixMillis) -> Result<ArchiveHeader, ExportError> {
        let usage = log.usage(&self.connection)?;
        let sql = "SELECT count(*) FROM operations WHERE log = ?";
        let operations = self.connection.prepare_cached(sql)?.query_row((log.id,), |row| row.get(0))?;
        Ok(ArchiveHeader {
            channel: channel.clone(),
            at,
            bounds: log.bounds,
            kept: log.retention,
            snapshots: usage.snapshots,
            entries: usage.entries,
            operations,
            values: usage.values,
            bytes: usage.entry_bytes.saturating_add(usage.snapshot_bytes).saturating_add(usage.value_bytes),
        })
    }
}
