//! What is kept is on the disk: after a power cut at any moment, on a full disk, and after errors of it.
//!
//! A process of its own runs behind a library that records what is written and synced and fails what the test says; the
//! test makes of the record what a disk may have, and opens that.

#![cfg(target_os = "linux")]
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod image;

use std::{
    env, fs,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use moorline_engine::{Append, Engine, EngineError, Limit, Most, Retention, SqliteEngine, SqliteView, Tuning};
use moorline_protocol::{
    channel::{ChannelId, Kind, Position, Range, Snapshot},
    entropy::Entropy,
    payload::Name,
    subject::Tenant,
    time::UnixMillis,
};
use tempfile::TempDir;

use crate::image::{Unsynced, acknowledged, image, operations};

const FILE: &str = "channels.sqlite";
const WRITERS: usize = 4;
const EACH: usize = 40;
/// Moments of the record at which the power goes.
const CUTS: usize = 60;

fn log() -> ChannelId {
    ChannelId::new(Tenant::default(), Kind::Store, Name::new("log").unwrap())
}

fn entry(content: &[u8]) -> Append {
    Append::new(Bytes::copy_from_slice(content), UnixMillis(1), Retention::ALL)
}

async fn all(engine: &SqliteEngine) -> Vec<String> {
    let limit = Limit { entries: usize::MAX, bytes: usize::MAX };
    let page = engine.read(&log(), Range::Oldest, limit).await.unwrap();
    page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.content).trim_end().to_owned()).collect()
}

/// A process behind the shim.
struct Scene {
    directory: TempDir,
    shim: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let shim = directory.path().join("shim.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk/shim.c");
        let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let compiled = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&shim)
            .args([source, "-ldl", "-lpthread"])
            .status()
            .unwrap_or_else(|error| panic!("{compiler} (a C compiler, which SQLite needs, too): {error}"));
        assert!(compiled.success());
        fs::create_dir(directory.path().join("disk")).unwrap();
        fs::write(directory.path().join("fault"), [0]).unwrap();
        Self { directory, shim }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs one of the ignored tests below, which play the process.
    fn run(&self, role: &str, synchronous: &str) {
        let played = Command::new(env::current_exe().unwrap())
            .args(["--exact", role, "--ignored", "--nocapture", "--test-threads", "1"])
            .env("LD_PRELOAD", &self.shim)
            .env("DISK", format!("{}/", self.path("disk").display()))
            .env("DISK_LOG", self.path("record"))
            .env("DISK_FAULT", self.path("fault"))
            .env("SYNCHRONOUS", synchronous)
            .output()
            .unwrap();
        assert!(played.status.success(), "{}", String::from_utf8_lossy(&[played.stdout, played.stderr].concat()));
    }
}

/// The process's side: an engine on the watched disk, and the list of what it said is kept.
fn on_disk() -> (Arc<SqliteEngine>, Mutex<File>) {
    let disk = PathBuf::from(env::var("DISK").unwrap());
    let synchronous = if env::var("SYNCHRONOUS").unwrap() == "NORMAL" { "NORMAL" } else { "FULL" };
    // Small, so that pages move into the database all the time.
    let tuning = Tuning { synchronous, checkpoint_pages: 20, ..Tuning::default() };
    let engine = SqliteEngine::open_tuned(&disk.join(FILE), [1; 32], tuning).unwrap();
    let acks = OpenOptions::new().create(true).append(true).open(disk.join("acks")).unwrap();
    (Arc::new(engine), Mutex::new(acks))
}

#[tokio::test]
#[ignore = "a test below runs it in a process of its own"]
async fn role_writers() {
    let (engine, acks) = on_disk();
    let acks = Arc::new(acks);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (engine, acks) = (Arc::clone(&engine), Arc::clone(&acks));
            tokio::spawn(async move {
                for number in 0..EACH {
                    let content = format!("{writer} {number}{:1$}", "", 700 * (number % 5));
                    let position = engine.append(&log(), entry(content.as_bytes())).await.unwrap().position;
                    writeln!(acks.lock().unwrap(), "{} {}", position.mark.offset.0, content.trim_end()).unwrap();
                    if writer == 0 && number % 10 == 9 {
                        snapshot(&engine, position).await;
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Its content is the offset that it covers.
async fn snapshot(engine: &SqliteEngine, covers: Position) {
    let content = Bytes::from(covers.mark.offset.0.to_string());
    engine.keep_snapshot(&log(), Snapshot { covers, at: UnixMillis(1), content }, Most::default()).await.unwrap();
}

/// How often what a disk may have lacks something that was said to be kept.
async fn losses(scene: &Scene) -> usize {
    let operations = operations(&scene.path("record"));
    let mut entropy = Entropy::new([9; 32]);
    let mut losses = 0;
    for cut in 0..CUTS {
        let upto = (cut + 1) * operations.len() / CUTS;
        let before = &operations[..upto];
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Any, Unsynced::Any] {
            let files = image(before, unsynced, &mut entropy);
            let directory = TempDir::new().unwrap();
            for (name, content) in &files {
                fs::write(directory.path().join(name), content).unwrap();
            }
            let case = format!("cut {cut}, {unsynced:?}");
            losses += usize::from(!is_whole(directory.path(), &acknowledged(before), &case).await);
        }
    }
    losses
}

/// Whether everything that was said to be kept is there. It must be sound and in order in any case.
async fn is_whole(disk: &Path, acknowledged: &[String], case: &str) -> bool {
    let engine = SqliteEngine::open(&disk.join(FILE), [2; 32]).unwrap_or_else(|error| panic!("{case}: {error}"));
    let view = SqliteView::open(&disk.join(FILE)).unwrap();
    view.verify(None, &mut |finding| panic!("{case}: {finding}")).unwrap();
    drop(view);
    let page = engine.read(&log(), Range::Oldest, Limit { entries: usize::MAX, bytes: usize::MAX }).await.unwrap();
    let mut before = page.bounds.trimmed.offset;
    for entry in &page.entries {
        assert_eq!(entry.prev, before, "{case}");
        before = entry.mark.offset;
    }
    assert_eq!(page.bounds.head.offset, before, "{case}");
    if let Some(snapshot) = engine.snapshot(&log()).await.unwrap().1 {
        assert_eq!(snapshot.content, snapshot.covers.mark.offset.0.to_string(), "{case}");
        assert!(page.bounds.trimmed.offset <= snapshot.covers.mark.offset, "{case}: only what is in it is dropped");
    }
    let there: Vec<_> = page
        .entries
        .iter()
        .map(|entry| format!("{} {}", entry.mark.offset.0, String::from_utf8_lossy(&entry.content).trim_end()))
        .collect();
    let trimmed = page.bounds.trimmed.offset.0;
    let is_in_snapshot = |line: &String| line.split(' ').next().unwrap().parse::<u64>().unwrap() <= trimmed;
    let lost: Vec<_> = acknowledged.iter().filter(|line| !is_in_snapshot(line) && !there.contains(line)).collect();
    if !lost.is_empty() {
        eprintln!("{case}: head {:?} trimmed {} lost {lost:?}", page.bounds.head, trimmed);
    }
    lost.is_empty()
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_power_cut_at_any_moment() {
    let scene = Scene::new();
    scene.run("role_writers", "FULL");
    assert_eq!(acknowledged(&operations(&scene.path("record"))).len(), WRITERS * EACH);
    assert_eq!(losses(&scene).await, 0);
}

/// The test above can fail: with a log that is not synced at every commit it does.
#[tokio::test]
async fn without_a_sync_at_every_commit_a_power_cut_loses_what_was_acknowledged() {
    let scene = Scene::new();
    scene.run("role_writers", "NORMAL");
    assert!(losses(&scene).await > 0);
}

const NO_SPACE: u8 = 1;
const NO_SYNC: u8 = 2;
const NO_WRITE: u8 = 3;

/// Tells the shim what to fail from now on.
fn fail(what: u8) {
    fs::write(env::var("DISK_FAULT").unwrap(), [what]).unwrap();
}

#[tokio::test]
#[ignore = "a test below runs it in a process of its own"]
async fn role_full_disk() {
    let (engine, _acks) = on_disk();
    engine.append(&log(), entry(b"before")).await.unwrap();
    fail(NO_SPACE);
    for _ in 0..3 {
        assert_eq!(engine.append(&log(), entry(b"refused")).await, Err(EngineError::Full));
        assert_eq!(all(&engine).await, ["before"], "what is there can be read");
    }
    fail(0);
    engine.append(&log(), entry(b"after")).await.unwrap();
    assert_eq!(all(&engine).await, ["before", "after"]);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let scene = Scene::new();
    scene.run("role_full_disk", "FULL");
    let engine = SqliteEngine::open(&scene.path("disk").join(FILE), [2; 32]).unwrap();
    assert_eq!(all(&engine).await, ["before", "after"]);
}

#[tokio::test]
#[ignore = "a test below runs it in a process of its own"]
async fn role_killed_after_an_error() {
    let (engine, _acks) = on_disk();
    engine.append(&log(), entry(b"before")).await.unwrap();
    fail(NO_SYNC);
    engine.append(&log(), entry(b"nobody knows")).await.unwrap_err();
    // As a kill leaves it: nothing is closed.
    std::process::exit(0);
}

#[tokio::test]
#[ignore = "a test below runs it in a process of its own"]
async fn role_goes_on() {
    let (engine, acks) = on_disk();
    let position = engine.append(&log(), entry(b"after")).await.unwrap().position;
    writeln!(acks.lock().unwrap(), "{} after", position.mark.offset.0).unwrap();
    std::process::exit(0);
}

/// The next process read from memory what the last one could not sync, and went on behind it in the log: with the power
/// the part in between went, and everything behind it that was said to be kept.
#[tokio::test]
async fn regression_what_is_written_after_a_failed_sync_and_a_kill_outlives_a_power_cut() {
    let scene = Scene::new();
    scene.run("role_killed_after_an_error", "FULL");
    fs::write(scene.path("fault"), [0]).unwrap();
    scene.run("role_goes_on", "FULL");
    // It goes on behind what nobody was told is kept.
    assert_eq!(acknowledged(&operations(&scene.path("record"))), ["3 after"].map(str::to_owned));
    assert_eq!(losses(&scene).await, 0);
}

#[tokio::test]
#[ignore = "a test below runs it in a process of its own"]
async fn role_errors() {
    let (engine, acks) = on_disk();
    for (round, fault) in [NO_SYNC, NO_WRITE, NO_SYNC].into_iter().enumerate() {
        let keep = async |word: &str| {
            let content = format!("{word} {round}");
            let position = engine.append(&log(), entry(content.as_bytes())).await.unwrap().position;
            writeln!(acks.lock().unwrap(), "{} {content}", position.mark.offset.0).unwrap();
        };
        keep("before").await;
        fail(fault);
        for _ in 0..3 {
            let failed = engine.append(&log(), entry(b"nobody knows")).await;
            assert!(matches!(failed, Err(EngineError::Storage(_))), "{failed:?}");
        }
        fail(0);
        keep("after").await;
        // A round's end, so that what a failed sync leaves in memory is not taken for what is on the disk.
        tokio::time::timeout(Duration::from_secs(10), all(&engine)).await.unwrap();
    }
}

/// Once a sync has failed, the system may forget what it was to write and say that the next sync went well. So the file
/// is opened anew.
#[tokio::test]
async fn errors_of_the_disk_fail_what_they_hit_and_nothing_else() {
    let scene = Scene::new();
    scene.run("role_errors", "FULL");
    let acknowledged = acknowledged(&operations(&scene.path("record")));
    assert_eq!(acknowledged.len(), 6);
    assert!(is_whole(&scene.path("disk"), &acknowledged, "after errors").await);
}
