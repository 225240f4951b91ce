//! An engine's file without the engine: looked at beside one that writes, carried elsewhere, made smaller, judged.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use moorline_engine::{
    Append, Archive, ArchiveHeader, Engine, Expected, ImportError, Key, Limit, Most, OPERATIONS_KEPT, OpId, OpenError,
    Retention, SqliteEngine, SqliteFile, SqliteView, ValueHash,
};
use moorline_protocol::{
    channel::{ChannelId, Gap, Kind, Offset, Page, Position, Range, Snapshot},
    payload::Name,
    subject::Tenant,
    time::UnixMillis,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("channels.sqlite")
}

fn store(name: &str) -> ChannelId {
    ChannelId::new(Tenant::default(), Kind::Store, Name::new(name).unwrap())
}

async fn append(engine: &SqliteEngine, channel: &ChannelId, content: impl Into<Bytes>) -> Position {
    engine.append(channel, Append::new(content.into(), NOW, Retention::ALL)).await.unwrap().position
}

/// Ten entries, of which the first four are dropped, two snapshots, an operation and two values.
async fn filled(engine: &SqliteEngine, channel: &ChannelId) {
    let mut at = Vec::new();
    for number in 0..9 {
        at.push(append(engine, channel, vec![number; 1_000]).await);
    }
    let operation = Append { op: Some(OpId([1; 16])), ..Append::new(Bytes::from("last"), NOW, Retention::ALL) };
    engine.append(channel, operation).await.unwrap();
    for (covers, content) in [(3, "to 4"), (6, "to 7")] {
        let snapshot = Snapshot { covers: at[covers], at: NOW, content: Bytes::from(content) };
        engine.keep_snapshot(channel, snapshot, Most::default()).await.unwrap();
    }
    for value in [&b"\0one"[..], b"\0two"] {
        let hash = ValueHash(Sha256::digest(value).into());
        engine.keep_value(channel, hash, Bytes::from(value), Most::default()).await.unwrap();
    }
}

/// A value of the application's.
async fn put(engine: &SqliteEngine) {
    let key = Key { tenant: Tenant::new("a").unwrap(), namespace: "scores".into(), name: "ann \n".into() };
    engine.put(&key, Bytes::from("7"), Expected::Anything).await.unwrap();
}

async fn everything(engine: &SqliteEngine, channel: &ChannelId) -> Page {
    engine.read(channel, Range::Oldest, Limit { entries: usize::MAX, bytes: usize::MAX }).await.unwrap()
}

fn export(path: &Path, channel: &ChannelId) -> (ArchiveHeader, Vec<u8>) {
    let mut out = Vec::new();
    let header = SqliteView::open(path).unwrap().export(channel, NOW, &mut out, &mut |_, _| {}).unwrap();
    (header, out)
}

fn import(path: &Path, export: &[u8], channel: &ChannelId, replace: bool) -> Result<(), ImportError> {
    let archive = Archive::open(export).unwrap();
    SqliteFile::open(path, [3; 32]).unwrap().import(archive, channel, replace, &mut |_| {}).map(drop)
}

fn findings(path: &Path, only: Option<&ChannelId>) -> Vec<String> {
    let mut found = Vec::new();
    SqliteView::open(path).unwrap().verify(only, &mut |finding| found.push(finding.to_string())).unwrap();
    found
}

#[tokio::test]
async fn a_channel_that_is_carried_elsewhere_is_the_same_in_another_epoch() {
    let [here, there] = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (from, to) = (store("notes/../\"ü\""), store("elsewhere"));
    let engine = SqliteEngine::open(&file(&here), [1; 32]).unwrap();
    filled(&engine, &from).await;
    let page = everything(&engine, &from).await;
    let (header, bytes) = export(&file(&here), &from);
    assert_eq!((header.snapshots, header.entries, header.operations, header.values), (2, 6, 1, 2));
    import(&file(&there), &bytes, &to, false).unwrap();
    assert_eq!(findings(&file(&there), None), Vec::<String>::new());

    let other = SqliteEngine::open(&file(&there), [2; 32]).unwrap();
    let found = everything(&other, &to).await;
    assert_eq!(found.entries, page.entries);
    assert_eq!((found.bounds.head, found.bounds.trimmed), (page.bounds.head, page.bounds.trimmed));
    assert_ne!(found.bounds.epoch, page.bounds.epoch);
    let gap = other.read(&to, Range::After(page.bounds.end()), Limit::default()).await.unwrap().gap;
    assert_eq!(gap, Some(Gap::Recreated));
    assert_eq!(other.usage(&to).await.unwrap(), engine.usage(&from).await.unwrap());
    assert_eq!(other.snapshot(&to).await.unwrap().1.unwrap().content, "to 7");
    let again = Append { op: Some(OpId([1; 16])), ..Append::new(Bytes::from("last"), NOW, Retention::ALL) };
    assert!(other.append(&to, again).await.unwrap().repeated, "an operation is known there, too");
    // It goes on as any.
    assert_eq!(append(&other, &to, "more").await.mark.offset, Offset(11));
}

#[tokio::test]
async fn what_is_there_is_replaced_only_when_that_is_meant_and_whole() {
    let directory = TempDir::new().unwrap();
    let (path, log) = (file(&directory), store("log"));
    let engine = SqliteEngine::open(&path, [1; 32]).unwrap();
    filled(&engine, &log).await;
    let (_, bytes) = export(&path, &log);
    append(&engine, &log, "since").await;
    // Somebody has opened it, and it is empty.
    let empty = store("empty");
    engine.bounds(&empty).await.unwrap();
    let page = everything(&engine, &log).await;
    drop(engine);
    assert!(matches!(import(&path, &bytes, &log, false), Err(ImportError::Exists)));
    // What is found out at the end leaves everything as it was.
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(import(&path, &damaged, &log, true), Err(ImportError::Archive(_))));
    import(&path, &bytes, &empty, false).unwrap();
    let engine = SqliteEngine::open(&path, [2; 32]).unwrap();
    assert_eq!(everything(&engine, &log).await, page);
    drop(engine);
    import(&path, &bytes, &log, true).unwrap();
    assert_eq!(findings(&path, None), Vec::<String>::new());
    let engine = SqliteEngine::open(&path, [4; 32]).unwrap();
    assert_eq!(everything(&engine, &log).await.bounds.head.offset, Offset(10), "as it was exported");
}

#[tokio::test]
async fn what_is_looked_at_is_of_one_moment_however_much_is_written_meanwhile() {
    let directory = TempDir::new().unwrap();
    let (path, log) = (file(&directory), store("log"));
    let engine = Arc::new(SqliteEngine::open(&path, [1; 32]).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    append(&engine, &log, "first").await;
    let writers: Vec<_> = (0..4_u8)
        .map(|writer| {
            let (engine, stop, log) = (Arc::clone(&engine), Arc::clone(&stop), log.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    append(&engine, &log, vec![writer; 500]).await;
                }
            })
        })
        .collect();
    let mut before = 0;
    for _ in 0..10 {
        let view = SqliteView::open(&path).unwrap();
        let outline = view.outline(&log).unwrap().unwrap();
        append(&engine, &log, "between").await;
        let mut out = Vec::new();
        let header = view.export(&log, NOW, &mut out, &mut |_, _| {}).unwrap();
        assert_eq!(header.bounds, outline.bounds);
        assert!(header.entries > before, "it goes on");
        before = header.entries;
        // All of it fits together.
        Archive::open(&out[..]).unwrap().check(&mut |_| {}).unwrap();
        let mut found = Vec::new();
        assert_eq!(view.verify(None, &mut |finding| found.push(finding)).unwrap(), 1);
        assert!(found.is_empty(), "{found:?}");
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Changes the file as nothing of ours does.
fn tamper(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn whatever_is_missing_or_changed_is_found() {
    let value = "UPDATE channel_values SET content = x'0074776e' WHERE content = x'0074776f'";
    for (sql, expected) in [
        (
            "DELETE FROM entries WHERE offset = 6",
            &[
                "entry 7 follows entry 6, and the one before it is 5",
                "said to be 6 entries, and are 5",
                "bytes in them",
            ][..],
        ),
        (
            "DELETE FROM entries WHERE offset = 10",
            &["ends at entry 10, and its newest one is 9", "entries", "bytes", "needed"],
        ),
        ("UPDATE entries SET tag = x'0000000000000009' WHERE offset = 10", &["entry 10 is not one of this log"]),
        (
            "UPDATE entries SET content = CAST(x'09' || substr(content, 2) AS BLOB) WHERE offset = 6",
            &["entry 6 is not what was written"],
        ),
        ("UPDATE entries SET at = at + 1 WHERE offset = 6", &["entry 6 is not what was written"]),
        (
            "UPDATE snapshots SET content = CAST('to 8' AS BLOB) WHERE covers = 7",
            &["the snapshot of everything up to entry 7 is not what was written"],
        ),
        (
            "UPDATE application_values SET value = x'38'",
            &["the value of \"ann \\n\" in \"scores\" of tenant \"a\" is not what was written"],
        ),
        (
            "UPDATE entries SET tag = x'0000000000000009' WHERE offset = 7",
            &["a snapshot covers everything up to entry 7"],
        ),
        ("DELETE FROM snapshots", &["the entries up to 4 were dropped, and no snapshot has what they said", "needed"]),
        (
            "UPDATE snapshots SET covers = 70 WHERE covers = 7",
            &["a snapshot covers everything up to entry 70", "needed"],
        ),
        (value, &[" is not what it was: it has another hash"]),
        (
            "UPDATE entries SET content = CAST(content || x'00' AS BLOB) WHERE offset = 5",
            &["entry 5 is not what was written", "bytes in them"],
        ),
        ("UPDATE operations SET offset = 11", &["an operation made entry 11"]),
        (
            "UPDATE entries SET log = 9 WHERE offset > 4",
            &["6 rows of entries belong to no channel", "ends at", "a snapshot", "entries", "bytes", "needed"],
        ),
        ("UPDATE logs SET name = ''", &["no channel can have this kind, tenant and name"]),
        ("UPDATE logs SET head = -1", &["failed"]),
    ] {
        let directory = TempDir::new().unwrap();
        let (path, log) = (file(&directory), store("log"));
        let engine = SqliteEngine::open(&path, [1; 32]).unwrap();
        filled(&engine, &log).await;
        put(&engine).await;
        drop(engine);
        assert_eq!(findings(&path, None), Vec::<String>::new());
        tamper(&path, sql);
        let found = findings(&path, None);
        assert_eq!(found.len(), expected.len(), "{sql}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected) && !found.contains('\n'), "{sql}: {found}");
        }
    }
}

#[tokio::test]
async fn what_says_something_else_than_was_written_is_not_exported() {
    for sql in [
        "UPDATE entries SET content = CAST(x'09' || substr(content, 2) AS BLOB) WHERE offset = 6",
        "UPDATE snapshots SET content = CAST('to 8' AS BLOB) WHERE covers = 7",
    ] {
        let directory = TempDir::new().unwrap();
        let (path, log) = (file(&directory), store("log"));
        let engine = SqliteEngine::open(&path, [1; 32]).unwrap();
        filled(&engine, &log).await;
        drop(engine);
        tamper(&path, sql);
        let exported = SqliteView::open(&path).unwrap().export(&log, NOW, Vec::new(), &mut |_, _| {});
        assert!(exported.unwrap_err().to_string().contains("is not what was written"), "{sql}");
        // What an earlier version wrote has no sum, and is believed.
        tamper(&path, "UPDATE entries SET sum = NULL; UPDATE snapshots SET sum = NULL");
        assert_eq!(findings(&path, None), Vec::<String>::new());
    }
}

/// A counter that says less than there is went below nothing, and everything was dropped.
#[tokio::test]
async fn regression_a_counter_that_is_wrong_drops_nothing_that_is_kept() {
    let directory = TempDir::new().unwrap();
    let (path, log) = (file(&directory), store("log"));
    let engine = SqliteEngine::open(&path, [1; 32]).unwrap();
    for number in 0..4 {
        let at = UnixMillis(NOW.0 + 1_000 * number);
        engine.append(&log, Append::new(Bytes::from("x"), at, Retention::ALL)).await.unwrap();
    }
    drop(engine);
    tamper(&path, "UPDATE logs SET entries = 0, bytes = 0");
    let engine = SqliteEngine::open(&path, [2; 32]).unwrap();
    let retention = Retention { entries: 1_000, bytes: 1_000, age: Duration::from_millis(1_500) };
    engine.append(&log, Append::new(Bytes::from("new"), UnixMillis(NOW.0 + 3_000), retention)).await.unwrap();
    assert_eq!(everything(&engine, &log).await.entries.len(), 3);
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_a_finding_and_no_end() {
    let directory = TempDir::new().unwrap();
    let (path, log) = (file(&directory), store("log"));
    let engine = SqliteEngine::open(&path, [1; 32]).unwrap();
    for _ in 0..200 {
        append(&engine, &log, vec![7; 1_000]).await;
    }
    append(&engine, &store("other"), "sound").await;
    drop(engine);
    let mut bytes = fs::read(&path).unwrap();
    // Where entries are, and not how the file is made.
    let quarter = bytes.len() / 4;
    bytes[2 * quarter..3 * quarter].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let found = findings(&path, None);
    assert!(
        found.iter().any(|finding| finding.contains("store \"log\"") && finding.contains("malformed")),
        "{found:?}"
    );
    assert!(!found.iter().any(|finding| finding.contains("other")), "{found:?}");
}

#[tokio::test]
async fn compacting_drops_what_the_newest_snapshot_covers_and_the_file_shrinks() {
    let directory = TempDir::new().unwrap();
    let (path, log, other) = (file(&directory), store("log"), store("other"));
    let engine = SqliteEngine::open(&path, [1; 32]).unwrap();
    for _ in 0..300 {
        append(&engine, &other, vec![7; 10_000]).await;
    }
    filled(&engine, &other).await;
    filled(&engine, &log).await;
    let page = everything(&engine, &log).await;
    drop(engine);
    let late = UnixMillis(NOW.0 + OPERATIONS_KEPT.as_millis() as u64 + 1);
    let mut looked_after = SqliteFile::open(&path, [2; 32]).unwrap();
    assert_eq!(looked_after.compact(Some(&store("none")), late).unwrap(), None);
    let one = looked_after.compact(Some(&log), late).unwrap().unwrap();
    assert_eq!((one.entries, one.snapshots, one.operations), (3, 1, 1));
    assert!(!one.is_read);
    let all = looked_after.compact(None, late).unwrap().unwrap();
    assert_eq!((all.snapshots, all.operations), (1, 1));
    assert_eq!(all.after, fs::metadata(&path).unwrap().len());
    assert_eq!(looked_after.compact(None, late).unwrap().unwrap().entries, 0, "nothing is left to do");
    drop(looked_after);
    assert_eq!(findings(&path, None), Vec::<String>::new());
    let engine = SqliteEngine::open(&path, [3; 32]).unwrap();
    let found = everything(&engine, &log).await;
    assert_eq!(found.bounds.end(), page.bounds.end(), "the same log");
    assert_eq!(found.entries, page.entries[3..]);
    assert_eq!(engine.snapshot(&log).await.unwrap().1.unwrap().content, "to 7");
    assert_eq!(append(&engine, &log, "more").await.mark.offset, Offset(11));
}

#[tokio::test]
async fn what_waits_beside_the_file_of_a_killed_server_is_seen_and_the_file_is_left_as_it_is() {
    let [here, there] = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let log = store("log");
    let engine = SqliteEngine::open(&file(&here), [1; 32]).unwrap();
    append(&engine, &log, "in the log").await;
    // As a kill leaves it.
    for end in ["", "-wal"] {
        fs::copy(here.path().join(format!("channels.sqlite{end}")), there.path().join(format!("channels.sqlite{end}")))
            .unwrap();
    }
    let before = fs::read(file(&there)).unwrap();
    let outline = SqliteView::open(&file(&there)).unwrap().outline(&log).unwrap().unwrap();
    assert_eq!((outline.usage.entries, outline.newest), (1, Some(NOW)));
    assert_eq!(fs::read(file(&there)).unwrap(), before);
    assert!(there.path().join("channels.sqlite-wal").exists(), "what waits is still there");
}

#[test]
fn what_is_no_file_of_ours_is_told_so() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory);
    assert!(matches!(SqliteView::open(&path), Err(OpenError::Missing)) && !path.exists());
    fs::write(&path, "").unwrap();
    assert!(matches!(SqliteView::open(&path), Err(OpenError::Older { found: 0, .. })));
    fs::write(&path, "x".repeat(5_000)).unwrap();
    assert!(matches!(SqliteView::open(&path), Err(OpenError::Sqlite(_))));
    fs::remove_file(&path).unwrap();
    drop(SqliteEngine::open(&path, [1; 32]).unwrap());
    tamper(&path, "PRAGMA user_version = 99");
    assert!(matches!(SqliteView::open(&path), Err(OpenError::Newer { found: 99, .. })));
}

#[tokio::test]
async fn an_outline_has_the_ages_and_what_snapshots_leave() {
    let directory = TempDir::new().unwrap();
    let (path, log) = (file(&directory), store("log"));
    let engine = SqliteEngine::open(&path, [1; 32]).unwrap();
    filled(&engine, &log).await;
    let view = SqliteView::open(&path).unwrap();
    let outline = view.outline(&log).unwrap().unwrap();
    assert_eq!((outline.usage.entries, outline.operations, outline.oldest), (6, 1, Some(NOW)));
    let covers: Vec<_> = outline.snapshots.iter().map(|one| (one.covers.offset.0, one.bytes, one.behind)).collect();
    assert_eq!(covers, [(7, 4, 3), (4, 4, 6)]);
    assert!(view.outline(&store("none")).unwrap().is_none());
    assert!(
        !view.verify(Some(&store("none")), &mut |finding| panic!("{finding}")).is_ok_and(|looked_at| looked_at > 0)
    );
    assert_eq!(view.channels(Kind::Store, None, None, 10).unwrap(), [log]);
}
