//! What an engine in a file does beyond what any engine does: it comes back as it was.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::{
    fs,
    future::poll_fn,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use moorline_engine::{
    Append, Engine, EngineError, Expected, Key, Limit, Most, OpId, OpenError, Retention, SqliteEngine, SqliteView,
    Tuning, ValueHash,
};
use moorline_protocol::{
    channel::{ChannelId, Kind, Offset, Range, Snapshot},
    payload::Name,
    subject::Tenant,
    time::UnixMillis,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn open(directory: &TempDir) -> SqliteEngine {
    SqliteEngine::open(&directory.path().join("channels.sqlite"), [1; 32]).unwrap()
}

fn log() -> ChannelId {
    ChannelId::new(Tenant::default(), Kind::Store, Name::new("log").unwrap())
}

fn entry(content: &str) -> Append {
    Append::new(Bytes::copy_from_slice(content.as_bytes()), NOW, Retention::ALL)
}

#[tokio::test]
async fn everything_is_there_when_the_file_is_opened_again() {
    let directory = TempDir::new().unwrap();
    let key = Key { tenant: Tenant::default(), namespace: "n".into(), name: "k".into() };
    let operation = Append { op: Some(OpId([1; 16])), ..entry("a") };
    let engine = open(&directory);
    let first = engine.append(&log(), operation.clone()).await.unwrap();
    let second = engine.append(&log(), entry("b")).await.unwrap().position;
    let snapshot = Snapshot { covers: first.position, at: NOW, content: Bytes::from("a") };
    engine.keep_snapshot(&log(), snapshot.clone(), Most::default()).await.unwrap();
    let hash = ValueHash(Sha256::digest("value").into());
    engine.keep_value(&log(), hash, Bytes::from("value"), Most::default()).await.unwrap();
    let version = engine.put(&key, Bytes::from("1"), Expected::Anything).await.unwrap();
    let page = engine.read(&log(), Range::Oldest, Limit::default()).await.unwrap();
    drop(engine);

    let engine = open(&directory);
    assert_eq!(engine.read(&log(), Range::Oldest, Limit::default()).await.unwrap(), page);
    assert_eq!(engine.bounds(&log()).await.unwrap().end(), second);
    assert_eq!(engine.snapshot(&log()).await.unwrap().1.as_deref(), Some(&snapshot));
    assert_eq!(engine.value(&log(), hash).await.unwrap(), Some(Bytes::from("value")));
    let again = engine.append(&log(), operation).await.unwrap();
    assert_eq!((again.position, again.repeated), (first.position, true));
    assert_eq!(engine.get(&key).await.unwrap().unwrap().version, version);
    assert!(engine.delete(&key, Expected::This(version)).await.unwrap());
    drop(engine);
    let engine = open(&directory);
    assert!(engine.put(&key, Bytes::from("2"), Expected::Nothing).await.unwrap() > version, "not the same one twice");
    let view = SqliteView::open(&directory.path().join("channels.sqlite")).unwrap();
    assert_eq!(view.verify(None, &mut |finding| panic!("{finding}")).unwrap(), 1);
}

#[tokio::test]
async fn who_gives_up_waiting_stops_nothing() {
    let directory = TempDir::new().unwrap();
    let engine = open(&directory);
    let log = log();
    let (first, second) = (engine.append(&log, entry("a")), engine.append(&log, entry("b")));
    // Polled once, so that it is on its way, and dropped.
    tokio::select! { biased; _ = first => {}, () = std::future::ready(()) => {} }
    second.await.unwrap();
    let page = engine.read(&log, Range::Oldest, Limit::default()).await.unwrap();
    assert_eq!(page.entries.len(), 2);
}

#[tokio::test]
async fn what_fails_in_a_commit_leaves_the_others_in_it_alone() {
    let directory = TempDir::new().unwrap();
    let engine = Arc::new(open(&directory));
    let tasks: Vec<_> = (0..300)
        .map(|number| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                // Every third expects an end that the log never has again.
                let expected = (number % 3 == 0).then_some(Offset(1_000));
                engine.append(&log(), Append { expected, ..entry(&number.to_string()) }).await
            })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let appended = task.await.unwrap();
        match number % 3 {
            0 => assert!(matches!(appended, Err(EngineError::Conflict(_)))),
            _ => assert!(appended.is_ok()),
        }
    }
    let page = engine.read(&log(), Range::Oldest, Limit { entries: 1_000, bytes: 1 << 20 }).await.unwrap();
    assert_eq!((page.entries.len(), page.bounds.head.offset), (200, Offset(200)));
}

/// Sets the version that a file says it has.
fn pretend(path: &Path, version: u32) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.pragma_update(None, "user_version", version).unwrap();
}

#[test]
fn a_file_of_a_later_program_is_refused_with_both_versions() {
    let directory = TempDir::new().unwrap();
    drop(open(&directory));
    let path = directory.path().join("channels.sqlite");
    pretend(&path, 1_000);
    let error = SqliteEngine::open(&path, [1; 32]).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 1_000, .. }));
    assert!(error.to_string().contains("1000"), "{error}");
    assert!(error.to_string().contains("newer program"), "{error}");
}

#[test]
fn what_is_no_database_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("channels.sqlite");
    std::fs::write(&path, "something else altogether, and long enough to have a header".repeat(10)).unwrap();
    assert!(matches!(SqliteEngine::open(&path, [1; 32]), Err(OpenError::Sqlite(_))));
    assert!(matches!(SqliteEngine::open(&directory.path().join("no/such"), [1; 32]), Err(OpenError::System(_))));
}

/// tokio lets a task do so much in one go: of many appends in one task it put off those beyond that, and woke the last of
/// them first. So what one client had published in a burst was kept in another order.
#[tokio::test]
async fn regression_appends_are_kept_in_the_order_in_which_they_were_begun() {
    const BURST: usize = 400;
    let directory = TempDir::new().unwrap();
    let (engine, log) = (open(&directory), log());
    let mut appends: Vec<_> = (0..BURST).map(|n| engine.append(&log, entry(&n.to_string()))).collect();
    let mut waiting = Vec::new();
    for mut append in appends.drain(..) {
        let polled = poll_fn(|context| Poll::Ready(append.as_mut().poll(context))).await;
        match polled {
            Poll::Ready(appended) => drop(appended.unwrap()),
            Poll::Pending => waiting.push(append),
        }
    }
    while let Some(last) = waiting.pop() {
        last.await.unwrap();
    }
    let page = engine.read(&log, Range::Oldest, Limit { entries: BURST, ..Limit::default() }).await.unwrap();
    let kept: Vec<_> = page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.content).into_owned()).collect();
    assert_eq!(kept, (0..BURST).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Of two connections that were closed at once each left it to the other.
#[tokio::test]
async fn regression_nothing_stands_beside_the_file_of_an_engine_that_was_closed() {
    for round in 0..50 {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("channels.sqlite");
        let engine = SqliteEngine::open(&path, [1; 32]).unwrap();
        engine.append(&log(), Append::new("a".into(), UnixMillis(1), Retention::ALL)).await.unwrap();
        engine.read(&log(), Range::Oldest, Limit::default()).await.unwrap();
        drop(engine);
        let beside: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(beside, ["channels.sqlite"], "round {round}");
    }
}

/// Of the log that SQLite writes to first. While somebody read at every moment it never began anew, and took the disk.
#[tokio::test]
async fn regression_the_log_beside_the_file_is_bounded_while_somebody_always_reads() {
    const BOUND: u64 = 1 << 20;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("channels.sqlite");
    let tuning = Tuning { checkpoint_pages: 100, log_bytes: BOUND, ..Tuning::default() };
    let engine = Arc::new(SqliteEngine::open_tuned(&path, [1; 32], tuning).unwrap());
    let kept = Retention { entries: 100, ..Retention::ALL };
    let write = async |_| {
        let append = Append { retention: kept, ..entry(&"x".repeat(64 * 1024)) };
        engine.append(&log(), append).await.unwrap();
    };
    for number in 0..20 {
        write(number).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    // More than there are threads that read, so that none of these ever rests.
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (engine, stop) = (Arc::clone(&engine), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    engine.read(&log(), Range::Oldest, Limit { entries: 20, bytes: usize::MAX }).await.unwrap();
                }
            })
        })
        .collect();
    let mut largest = 0;
    for number in 0..300 {
        write(number).await;
        largest = largest.max(fs::metadata(directory.path().join("channels.sqlite-wal")).unwrap().len());
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(largest < 4 * BOUND, "{largest} bytes of 20 MB that were written");
}

/// SQLite makes its files for everybody to read, where the process does not say otherwise.
#[cfg(unix)]
#[tokio::test]
async fn regression_the_file_and_what_stands_beside_it_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = TempDir::new().unwrap();
    let engine = open(&directory);
    engine.append(&log(), entry("a")).await.unwrap();
    let files = fs::read_dir(directory.path()).unwrap().map(Result::unwrap);
    let modes: Vec<_> = files.map(|file| file.metadata().unwrap().permissions().mode() & 0o777).collect();
    assert_eq!(modes, [0o600; 3]);
}
