//! Whether what is in the file is sound.

use std::fmt;

use moorline_protocol::{
    channel::{ChannelId, Kind, Offset, ValueHash},
    payload::Name,
    subject::Tenant,
    time::UnixMillis,
};
use rusqlite::Row;

use super::{
    SqliteView,
    judge::{Fault, Judge, judge_value},
    log::{COLUMNS, Log, mark},
    sum,
};
use crate::EngineError;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// With which channel: its kind and name, escaped, and its tenant where it has one of its own. `None` when it is the
    /// file's.
    pub channel: Option<Box<str>>,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.channel {
            Some(channel) => write!(formatter, "{channel}: {}", self.fault),
            None => self.fault.fmt(formatter),
        }
    }
}

/// A row of `logs`, whatever is in it.
struct Found {
    id: i64,
    kind: i64,
    tenant: String,
    name: String,
}

impl Found {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, kind: row.get(1)?, tenant: row.get(2)?, name: row.get(3)? })
    }

    /// As people are told of it.
    fn label(&self) -> String {
        let kind = u64::try_from(self.kind).ok().and_then(Kind::from_number).map_or("channel", Kind::name);
        of_tenant(format!("{kind} {:?}", self.name), &self.tenant)
    }

    fn kind(&self) -> Option<Kind> {
        Tenant::new(&self.tenant).ok()?;
        Name::new(&self.name).ok()?;
        Kind::from_number(u64::try_from(self.kind).ok()?)
    }
}

fn of_tenant(what: String, tenant: &str) -> String {
    if tenant == Tenant::default().as_str() { what } else { format!("{what} of tenant {tenant:?}") }
}

impl SqliteView {
    /// Reads everything, or one channel, and looks whether it is sound: SQLite's own structures and the values of the
    /// application, in any case of the whole file; that every entry follows the one before it, up to where the log ends;
    /// that snapshots cover what the log has, that values have their hashes, that there is as much as is said; that
    /// everything says what it said when it was written, save what an earlier version of this program wrote without a sum.
    /// Gives how many channels were looked at.
    ///
    /// What is wrong goes to `tell`, also where the file cannot be read; so does only once what keeps a channel from being
    /// read to its end.
    ///
    /// # Errors
    /// [`EngineError::Storage`] when not even the channels can be listed.
    pub fn verify(&self, only: Option<&ChannelId>, tell: &mut dyn FnMut(Finding)) -> Result<u64, EngineError> {
        self.verify_file(&mut |fault| tell(Finding { channel: None, fault }));
        let sql = match only {
            Some(_) => "SELECT id, kind, tenant, name FROM logs WHERE kind = ? AND tenant = ? AND name = ?",
            None => "SELECT id, kind, tenant, name FROM logs ORDER BY id",
        };
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = match only {
            Some(only) => statement.query((only.kind as i64, only.tenant.as_str(), only.name.as_str()))?,
            None => statement.query(())?,
        };
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            let row = Found::of(row)?;
            let mut tell = |fault| tell(Finding { channel: Some(row.label().into()), fault });
            if let Err(error) = self.verify_channel(&row, &mut tell) {
                tell(Fault::Storage(error.to_string().into()));
            }
            looked_at += 1;
        }
        Ok(looked_at)
    }

    fn verify_file(&self, tell: &mut dyn FnMut(Fault)) {
        // SQLite's own check may itself be ended by what it finds.
        self.verify_structure(tell).unwrap_or_else(|error| tell(Fault::Storage(error.to_string().into())));
        for table in ["entries", "operations", "snapshots", "channel_values"] {
            let sql = format!("SELECT count(*) FROM {table} WHERE log NOT IN (SELECT id FROM logs)");
            match self.connection.query_row(&sql, (), |row| row.get(0)) {
                Ok(0) => {}
                Ok(rows) => tell(Fault::Orphans { table, rows }),
                Err(error) => tell(Fault::Storage(format!("{table}: {error}").into())),
            }
        }
        let sql =
            "SELECT (SELECT coalesce(sum(count), 0) FROM written_logs), (SELECT count(*) FROM logs WHERE written = 1)";
        match self.connection.query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?))) {
            Ok((said, found)) => Judge::count("channels with something in them", said, found, tell),
            Err(error) => tell(Fault::Storage(format!("written_logs: {error}").into())),
        }
        if let Err(error) = self.verify_application_values(tell) {
            tell(Fault::Storage(format!("application_values: {error}").into()));
        }
    }

    fn verify_structure(&self, tell: &mut dyn FnMut(Fault)) -> Result<(), EngineError> {
        let mut statement = self.connection.prepare("PRAGMA integrity_check")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let lines: String = row.get(0)?;
            // Above the first it says which database it is.
            for line in lines.lines().filter(|line| *line != "ok" && !line.starts_with("***")) {
                tell(Fault::Storage(line.into()));
            }
        }
        Ok(())
    }

    fn verify_application_values(&self, tell: &mut dyn FnMut(Fault)) -> Result<(), EngineError> {
        let sql = "SELECT tenant, namespace, name, version, value, sum FROM application_values";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let value = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            if !sum::fits(row, 5, sum::of_value(row.get(3)?, value))? {
                let (tenant, namespace, name) =
                    (row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?);
                let key = format!("the value of {name:?} in {namespace:?}");
                tell(Fault::ChangedValue(of_tenant(key, &tenant).into()));
            }
        }
        Ok(())
    }

    fn verify_channel(&self, row: &Found, tell: &mut dyn FnMut(Fault)) -> Result<(), EngineError> {
        let Some(kind) = row.kind() else {
            tell(Fault::Name);
            return Ok(());
        };
        let sql = format!("SELECT {COLUMNS} FROM logs WHERE id = ?");
        let log = self.connection.prepare_cached(&sql)?.query_row((row.id,), Log::of)?;
        let mut judge = Judge::new(kind, log.bounds);

        let mut statement = self
            .connection
            .prepare_cached("SELECT covers, tag, at, content, sum FROM snapshots WHERE log = ? ORDER BY covers")?;
        let mut rows = statement.query((log.id,))?;
        while let Some(row) = rows.next()? {
            let (covers, content) = (mark(row, 0, 1)?, row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?);
            judge.snapshot(covers, tell);
            if !sum::fits(row, 4, sum::of_content(UnixMillis(row.get(2)?), content))? {
                tell(Fault::ChangedSnapshot(covers.offset));
            }
        }

        let sql = "SELECT prev, offset, tag, at, content, sum FROM entries WHERE log = ? ORDER BY offset";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query((log.id,))?;
        while let Some(row) = rows.next()? {
            let (mark, content) = (mark(row, 1, 2)?, row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?);
            judge.entry(Offset(row.get(0)?), mark, content.len() as u64, tell);
            if !sum::fits(row, 5, sum::of_content(UnixMillis(row.get(3)?), content))? {
                tell(Fault::Changed(mark.offset));
            }
        }
        judge.end(tell);
        Judge::count("entries", log.entries, judge.entries, tell);
        Judge::count("bytes in them", log.bytes, judge.bytes, tell);
        Judge::count("bytes that are needed", log.needed, log.count_needed(&self.connection)?, tell);

        let mut statement =
            self.connection.prepare_cached("SELECT hash, content FROM channel_values WHERE log = ? ORDER BY hash")?;
        let mut rows = statement.query((log.id,))?;
        while let Some(row) = rows.next()? {
            let content = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            judge_value(ValueHash(row.get(0)?), content).unwrap_or_else(&mut *tell);
        }

        let sql = "SELECT offset FROM operations WHERE log = ? AND offset > ? LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query((log.id, log.bounds.head.offset.0))?;
        while let Some(row) = rows.next()? {
            tell(Fault::Operation(Offset(row.get(0)?)));
        }
        Ok(())
    }
}
