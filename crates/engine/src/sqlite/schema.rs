//! How channels lie in the file, and how an older file becomes a present one.

use std::cmp::Ordering;

use rusqlite::Connection;

use super::OpenError;

/// What each version adds to the one before it. A file's version is its `user_version`; what is here never changes.
const MIGRATIONS: &[&str] = &[
    // 1
    "
    CREATE TABLE logs (
        id INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        epoch BLOB NOT NULL,
        head INTEGER NOT NULL DEFAULT 0,
        head_tag BLOB NOT NULL DEFAULT x'0000000000000000',
        trimmed INTEGER NOT NULL DEFAULT 0,
        trimmed_tag BLOB NOT NULL DEFAULT x'0000000000000000',
        entries INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        keep_entries INTEGER NOT NULL,
        keep_bytes INTEGER NOT NULL,
        keep_ms INTEGER NOT NULL,
        UNIQUE (kind, tenant, name)
    );
    CREATE TABLE entries (
        log INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        prev INTEGER NOT NULL,
        tag BLOB NOT NULL,
        at INTEGER NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (log, offset)
    ) WITHOUT ROWID;
    CREATE TABLE operations (
        log INTEGER NOT NULL,
        op BLOB NOT NULL,
        offset INTEGER NOT NULL,
        tag BLOB NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (log, op)
    ) WITHOUT ROWID;
    CREATE INDEX operations_by_age ON operations (at);
    CREATE TABLE snapshots (
        log INTEGER NOT NULL,
        covers INTEGER NOT NULL,
        tag BLOB NOT NULL,
        at INTEGER NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (log, covers)
    );
    CREATE TABLE channel_values (
        log INTEGER NOT NULL,
        hash BLOB NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (log, hash)
    );
    CREATE TABLE application_values (
        tenant TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (tenant, namespace, name)
    );
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO counters VALUES ('version', 0);
    ",
    // 2: how much of a channel is needed; and entries above 1,000 bytes without a page of their own.
    "
    CREATE TABLE entries_2 (
        log INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        prev INTEGER NOT NULL,
        tag BLOB NOT NULL,
        at INTEGER NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (log, offset)
    );
    INSERT INTO entries_2 SELECT log, offset, prev, tag, at, content FROM entries ORDER BY log, offset;
    DROP TABLE entries;
    ALTER TABLE entries_2 RENAME TO entries;
    ALTER TABLE logs ADD COLUMN needed INTEGER NOT NULL DEFAULT 0;
    UPDATE logs SET needed =
        (SELECT coalesce(sum(length(content)), 0) FROM channel_values WHERE log = id)
        + (SELECT coalesce(sum(length(content)), 0) FROM entries WHERE log = id
           AND offset > (SELECT coalesce(max(covers), 0) FROM snapshots WHERE log = id))
        + coalesce((SELECT length(content) FROM snapshots WHERE log = id ORDER BY covers DESC LIMIT 1), 0);
    ",
    // 3: what rows say, in short; which logs were ever written to, and how many each tenant has of each kind; what a sweep
    // looks for, so that it does not read every log.
    "
    ALTER TABLE entries ADD COLUMN sum INTEGER;
    ALTER TABLE snapshots ADD COLUMN sum INTEGER;
    ALTER TABLE application_values ADD COLUMN sum INTEGER;
    ALTER TABLE logs ADD COLUMN written INTEGER NOT NULL DEFAULT 0;
    UPDATE logs SET written = 1 WHERE head > 0
        OR id IN (SELECT log FROM snapshots) OR id IN (SELECT log FROM channel_values);
    CREATE INDEX logs_unwritten ON logs (id) WHERE written = 0;
    CREATE INDEX logs_that_age ON logs (id) WHERE keep_ms < 9223372036854775807;
    CREATE TABLE written_logs (
        kind INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (kind, tenant)
    ) WITHOUT ROWID;
    INSERT INTO written_logs SELECT kind, tenant, count(*) FROM logs WHERE written = 1 GROUP BY kind, tenant;
    CREATE TRIGGER log_written AFTER UPDATE OF written ON logs WHEN old.written = 0 AND new.written = 1 BEGIN
        INSERT INTO written_logs VALUES (new.kind, new.tenant, 1) ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    CREATE TRIGGER written_log_removed AFTER DELETE ON logs WHEN old.written = 1 BEGIN
        UPDATE written_logs SET count = count - 1 WHERE kind = old.kind AND tenant = old.tenant;
        DELETE FROM written_logs WHERE kind = old.kind AND tenant = old.tenant AND count <= 0;
    END;
    ",
];

/// That the file is of the present version, for who does not change it.
pub(super) fn check(connection: &Connection) -> Result<(), OpenError> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found.cmp(&MIGRATIONS.len()) {
        Ordering::Less => Err(OpenError::Older { found, known: MIGRATIONS.len() }),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(OpenError::Newer { found, known: MIGRATIONS.len() }),
    }
}

/// Brings the file to the present version, each step whole or not at all.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > MIGRATIONS.len() {
        return Err(OpenError::Newer { found, known: MIGRATIONS.len() });
    }
    for (version, statements) in (1..).zip(MIGRATIONS).skip(found) {
        let step = connection.transaction()?;
        step.execute_batch(statements)?;
        step.pragma_update(None, "user_version", version)?;
        step.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_first_version_becomes_one_of_this_with_everything_in_it() {
        let mut connection = Connection::open_in_memory().unwrap_or_else(|error| panic!("{error}"));
        let run = |sql: &str| connection.execute_batch(sql).unwrap_or_else(|error| panic!("{error}"));
        run(MIGRATIONS[0]);
        run("PRAGMA user_version = 1;
             INSERT INTO logs (id, tenant, kind, name, epoch, head, entries, bytes, keep_entries, keep_bytes, keep_ms)
                 VALUES (1, '', 4, 'a', x'01', 3, 3, 6, 9, 9, 9), (2, '', 4, 'b', x'02', 1, 1, 5, 9, 9, 9),
                        (3, '', 4, 'c', x'03', 0, 0, 0, 9, 9, 9);
             INSERT INTO entries VALUES (1, 1, 0, x'01', 5, x'aa'), (1, 2, 1, x'02', 5, x'aabb'), (1, 3, 2, x'03', 5, x'aabbcc'),
                 (2, 1, 0, x'04', 5, x'aabbccddee');
             INSERT INTO snapshots VALUES (1, 1, x'01', 5, x'aa'), (1, 2, x'02', 5, x'aabbccdd');
             INSERT INTO channel_values VALUES (1, x'00', x'aabb');");
        migrate(&mut connection).unwrap_or_else(|error| panic!("{error}"));
        let read = |sql: &str| -> Vec<(i64, i64)> {
            let mut statement = connection.prepare(sql).unwrap_or_else(|error| panic!("{error}"));
            let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)));
            rows.and_then(Iterator::collect).unwrap_or_else(|error| panic!("{error}"))
        };
        // The newest snapshot, the entry after it, and the value; or the only entry.
        assert_eq!(read("SELECT id, needed FROM logs ORDER BY id"), [(1, 4 + 3 + 2), (2, 5), (3, 0)]);
        let entries = "SELECT offset, length(content) FROM entries WHERE log = 1 ORDER BY offset";
        assert_eq!(read(entries), [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(
            read("SELECT kind, count FROM written_logs"),
            [(4, 2)],
            "those that were only asked for do not count"
        );
        assert_eq!(read("SELECT id, written FROM logs"), [(1, 1), (2, 1), (3, 0)]);
        migrate(&mut connection).unwrap_or_else(|error| panic!("{error}"));
    }
}
