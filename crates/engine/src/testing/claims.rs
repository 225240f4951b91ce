//! What any engine must do. Each claim takes an engine without channels, and panics when it does not hold.

#![expect(missing_docs, reason = "the names are the claims")]
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use moorline_protocol::{
    channel::{ChannelId, Entry, Gap, Kind, LogEpoch, Mark, Offset, Position, Range, Snapshot, Tag},
    payload::Name,
    subject::Tenant,
    time::UnixMillis,
};

use crate::{
    Append, Appended, Engine, EngineError, Expected, Key, Limit, Most, OpId, Retention, Usage, ValueHash, Watcher,
};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn channel(name: &str) -> ChannelId {
    ChannelId::new(Tenant::default(), Kind::Store, Name::new(name).unwrap())
}

fn entry(content: &str) -> Append {
    Append::new(Bytes::copy_from_slice(content.as_bytes()), NOW, Retention::ALL)
}

async fn append(engine: &dyn Engine, channel: &ChannelId, content: &str) -> Position {
    engine.append(channel, entry(content)).await.unwrap().position
}

fn contents(entries: &[Arc<Entry>]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8(entry.content.to_vec()).unwrap()).collect()
}

/// Drops what is too old, while everything is open.
async fn sweep(engine: &dyn Engine, now: UnixMillis) {
    engine.sweep(now, Arc::new(|_| true)).await.unwrap();
}

async fn all(engine: &dyn Engine, channel: &ChannelId) -> Vec<String> {
    let limit = Limit { entries: usize::MAX, bytes: usize::MAX };
    contents(&engine.read(channel, Range::Oldest, limit).await.unwrap().entries)
}

pub async fn an_empty_log_stays_the_same_one(engine: Arc<dyn Engine>) {
    let log = channel("log");
    let bounds = engine.bounds(&log).await.unwrap();
    assert_eq!((bounds.head, bounds.trimmed), (Mark::START, Mark::START));
    assert_eq!(engine.bounds(&log).await.unwrap(), bounds);
    assert_ne!(engine.bounds(&channel("other")).await.unwrap().epoch, bounds.epoch);
    let first = append(&*engine, &log, "a").await;
    assert_eq!(first.epoch, bounds.epoch, "it was made by being asked for");
    let page = engine.read(&log, Range::After(bounds.end()), Limit::default()).await.unwrap();
    assert_eq!((contents(&page.entries), page.gap), (vec!["a".to_owned()], None));
}

pub async fn entries_are_numbered_and_read_in_their_order(engine: Arc<dyn Engine>) {
    let log = channel("log");
    let mut positions = vec![engine.bounds(&log).await.unwrap().end()];
    for number in 1..=10 {
        positions.push(append(&*engine, &log, &number.to_string()).await);
    }
    assert!(positions.is_sorted_by(|one, next| one.mark.offset < next.mark.offset));
    let mut since = positions[0];
    let mut heard = Vec::new();
    loop {
        let page = engine.read(&log, Range::After(since), Limit { entries: 3, bytes: usize::MAX }).await.unwrap();
        assert_eq!((page.gap, page.bounds.end()), (None, positions[10]));
        for entry in &page.entries {
            assert_eq!(entry.prev, since.mark.offset, "each tells the one before it");
            since.mark = entry.mark;
        }
        heard.extend(contents(&page.entries));
        if page.is_last() {
            break;
        }
    }
    assert_eq!(heard, (1..=10).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(since, positions[10]);
    for position in positions {
        let page = engine.read(&log, Range::After(position), Limit::default()).await.unwrap();
        assert_eq!(page.entries.len() as u64, 10 - position.mark.offset.0);
        let strange = Position { mark: Mark { tag: Tag([9; 8]), ..position.mark }, ..position };
        let page = engine.read(&log, Range::After(strange), Limit::default()).await.unwrap();
        assert_eq!(page.gap, (position.mark != Mark::START).then_some(Gap::Diverged));
    }
}

pub async fn a_log_is_read_backwards_in_pages(engine: Arc<dyn Engine>) {
    let log = channel("log");
    for number in 1..=7 {
        append(&*engine, &log, &number.to_string()).await;
    }
    let limit = Limit { entries: 3, bytes: usize::MAX };
    let page = engine.read(&log, Range::Newest, limit).await.unwrap();
    assert_eq!(contents(&page.entries), ["5", "6", "7"]);
    let page = engine.read(&log, Range::Before(page.entries[0].mark.offset), limit).await.unwrap();
    assert_eq!(contents(&page.entries), ["2", "3", "4"]);
    let page = engine.read(&log, Range::Before(page.entries[0].mark.offset), limit).await.unwrap();
    assert_eq!(contents(&page.entries), ["1"]);
    let page = engine.read(&log, Range::Before(page.entries[0].mark.offset), limit).await.unwrap();
    assert!(page.entries.is_empty());
    let page = engine.read(&log, Range::Before(Offset(u64::MAX)), limit).await.unwrap();
    assert_eq!(contents(&page.entries), ["5", "6", "7"], "an offset that is not there yet is behind all");
}

pub async fn one_entry_is_read_however_large_it_is(engine: Arc<dyn Engine>) {
    let log = channel("log");
    let large = "x".repeat(3 * 1024 * 1024);
    append(&*engine, &log, &large).await;
    append(&*engine, &log, "small").await;
    let page = engine.read(&log, Range::Oldest, Limit { entries: 10, bytes: 100 }).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].content, large);
    assert!(!page.is_last());
    let page = engine.read(&log, Range::Newest, Limit { entries: 10, bytes: 100 }).await.unwrap();
    assert_eq!(contents(&page.entries), ["small"]);
}

pub async fn an_operation_is_done_once(engine: Arc<dyn Engine>) {
    let (log, other) = (channel("log"), channel("other"));
    let operation = |content, op| Append { op: Some(OpId([op; 16])), ..entry(content) };
    let first = engine.append(&log, operation("a", 1)).await.unwrap();
    assert!(!first.repeated);
    engine.append(&log, operation("b", 2)).await.unwrap();
    let again = engine.append(&log, operation("other words", 1)).await.unwrap();
    assert_eq!(again, Appended { repeated: true, ..first });
    assert!(!engine.append(&other, operation("c", 1)).await.unwrap().repeated, "each channel has its own");
    assert_eq!(all(&*engine, &log).await, ["a", "b"]);
    // It is known longer than its entry is kept.
    let keep_one = Append { retention: Retention { entries: 1, ..Retention::ALL }, ..entry("c") };
    engine.append(&log, keep_one).await.unwrap();
    assert!(engine.append(&log, operation("a", 1)).await.unwrap().repeated);
    let much_later = UnixMillis(NOW.0 + 25 * 60 * 60 * 1_000);
    sweep(&*engine, much_later).await;
    let late = Append { at: much_later, ..operation("late", 1) };
    assert!(!engine.append(&log, late).await.unwrap().repeated, "not for ever");
}

pub async fn an_append_that_expects_another_end_changes_nothing(engine: Arc<dyn Engine>) {
    let log = channel("log");
    let expecting = |content, offset| Append { expected: Some(Offset(offset)), ..entry(content) };
    let first = engine.append(&log, expecting("a", 0)).await.unwrap().position;
    let before = engine.bounds(&log).await.unwrap();
    let refused = engine.append(&log, expecting("b", 0)).await;
    assert_eq!(refused, Err(EngineError::Conflict(first.mark)));
    assert_eq!(engine.bounds(&log).await.unwrap(), before);
    engine.append(&log, expecting("b", first.mark.offset.0)).await.unwrap();
    assert_eq!(all(&*engine, &log).await, ["a", "b"]);
}

pub async fn what_is_beyond_the_retention_is_dropped_and_its_mark_is_kept(engine: Arc<dyn Engine>) {
    let log = channel("log");
    let keep = |retention, content, at| Append { retention, at: UnixMillis(NOW.0 + at), ..entry(content) };
    let mut positions = vec![engine.bounds(&log).await.unwrap().end()];
    let three = Retention { entries: 3, ..Retention::ALL };
    for content in ["a", "b", "c", "d", "e"] {
        positions.push(engine.append(&log, keep(three, content, 0)).await.unwrap().position);
    }
    assert_eq!(all(&*engine, &log).await, ["c", "d", "e"]);
    assert_eq!(engine.bounds(&log).await.unwrap().trimmed, positions[2].mark);
    let gap = async |position| engine.read(&log, Range::After(position), Limit::default()).await.unwrap().gap;
    assert_eq!(gap(positions[0]).await, Some(Gap::Trimmed));
    assert_eq!(gap(positions[1]).await, Some(Gap::Trimmed));
    assert_eq!(gap(positions[2]).await, None, "who has seen what was dropped last misses nothing");
    let bytes = Retention { bytes: 5, ..Retention::ALL };
    engine.append(&log, keep(bytes, "ffff", 0)).await.unwrap();
    assert_eq!(all(&*engine, &log).await, ["e", "ffff"]);
    engine.append(&log, keep(bytes, "too much for it", 0)).await.unwrap();
    assert_eq!(all(&*engine, &log).await, ["too much for it"], "the newest stays however large it is");
    let age = Retention { age: Duration::from_secs(10), ..Retention::ALL };
    engine.append(&log, keep(age, "g", 5_000)).await.unwrap();
    engine.append(&log, keep(age, "h", 10_001)).await.unwrap();
    assert_eq!(all(&*engine, &log).await, ["g", "h"]);
    assert_eq!(
        engine.usage(&log).await.unwrap(),
        Usage { entries: 2, entry_bytes: 2, needed_bytes: 2, ..Usage::default() }
    );
    let none = Retention { entries: 0, ..Retention::ALL };
    let last = engine.append(&log, keep(none, "i", 0)).await.unwrap().position;
    assert_eq!((all(&*engine, &log).await.len(), gap(last).await), (0, None));
}

pub async fn age_takes_the_newest_entry_too(engine: Arc<dyn Engine>) {
    let (log, other) = (channel("log"), channel("other"));
    let retention = Retention { age: Duration::from_secs(10), ..Retention::ALL };
    let last = engine.append(&log, Append { retention, ..entry("a") }).await.unwrap().position;
    append(&*engine, &other, "kept").await;
    sweep(&*engine, UnixMillis(NOW.0 + 10_000)).await;
    assert_eq!(all(&*engine, &log).await, ["a"]);
    sweep(&*engine, UnixMillis(NOW.0 + 10_001)).await;
    assert!(all(&*engine, &log).await.is_empty());
    assert_eq!(all(&*engine, &other).await, ["kept"]);
    let page = engine.read(&log, Range::After(last), Limit::default()).await.unwrap();
    assert_eq!((page.gap, page.bounds.trimmed, page.bounds.head), (None, last.mark, last.mark));
}

fn snapshot(covers: Position, content: &str) -> Snapshot {
    Snapshot { covers, at: NOW, content: Bytes::copy_from_slice(content.as_bytes()) }
}

pub async fn a_snapshot_is_kept_with_the_one_before_it_and_what_came_since(engine: Arc<dyn Engine>) {
    let log = channel("log");
    assert_eq!(engine.snapshot(&log).await.unwrap().1, None);
    let mut positions = Vec::new();
    for content in ["a", "b", "c", "d", "e", "f"] {
        positions.push(append(&*engine, &log, content).await);
    }
    engine.keep_snapshot(&log, snapshot(positions[1], "ab"), Most::default()).await.unwrap();
    assert_eq!(all(&*engine, &log).await.len(), 6, "the first has nothing to go back to but the entries");
    engine.keep_snapshot(&log, snapshot(positions[3], "abcd"), Most::default()).await.unwrap();
    assert_eq!(all(&*engine, &log).await, ["c", "d", "e", "f"]);
    engine.keep_snapshot(&log, snapshot(positions[4], "abcde"), Most::default()).await.unwrap();
    assert_eq!(all(&*engine, &log).await, ["e", "f"]);
    let newest = engine.snapshot(&log).await.unwrap().1.unwrap();
    assert_eq!(*newest, snapshot(positions[4], "abcde"));
    let page = engine.read(&log, Range::After(newest.covers), Limit::default()).await.unwrap();
    assert_eq!((contents(&page.entries), page.gap), (vec!["f".to_owned()], None));
    let usage = engine.usage(&log).await.unwrap();
    assert_eq!((usage.entries, usage.snapshots, usage.snapshot_bytes), (2, 2, 9));
    assert_eq!(append(&*engine, &log, "g").await.mark.offset.0, positions[5].mark.offset.0 + 1);
}

pub async fn a_snapshot_of_what_is_not_there_is_refused(engine: Arc<dyn Engine>) {
    let log = channel("log");
    let (first, second) = (append(&*engine, &log, "a").await, append(&*engine, &log, "b").await);
    let refused = async |covers| engine.keep_snapshot(&log, snapshot(covers, "no"), Most::default()).await.unwrap_err();
    let future = Position { mark: Mark { offset: Offset(second.mark.offset.0 + 1), ..second.mark }, ..second };
    assert_eq!(refused(future).await, EngineError::UnknownPosition);
    let foreign = Position { epoch: LogEpoch([9; 8]), ..second };
    assert_eq!(refused(foreign).await, EngineError::UnknownPosition);
    let other = Position { mark: Mark { tag: Tag([9; 8]), ..first.mark }, ..first };
    assert_eq!(refused(other).await, EngineError::UnknownPosition);
    engine.keep_snapshot(&log, snapshot(second, "ab"), Most::default()).await.unwrap();
    assert_eq!(refused(second).await, EngineError::Superseded);
    assert_eq!(refused(first).await, EngineError::Superseded);
    assert_eq!(all(&*engine, &log).await, ["a", "b"]);
    assert_eq!(engine.usage(&log).await.unwrap().snapshots, 1);
}

pub async fn values_are_kept_beside_the_log(engine: Arc<dyn Engine>) {
    let (log, other) = (channel("log"), channel("other"));
    let (hash, value) = (ValueHash([1; 32]), Bytes::from(vec![7; 300_000]));
    assert_eq!(engine.value(&log, hash).await.unwrap(), None);
    for _ in 0..2 {
        engine.keep_value(&log, hash, value.clone(), Most::default()).await.unwrap();
    }
    append(&*engine, &log, "a").await;
    engine.keep_value(&log, ValueHash([2; 32]), Bytes::new(), Most::default()).await.unwrap();
    assert_eq!(engine.value(&log, hash).await.unwrap(), Some(value));
    assert_eq!(engine.value(&log, ValueHash([2; 32])).await.unwrap(), Some(Bytes::new()));
    assert_eq!(engine.value(&other, hash).await.unwrap(), None, "each channel has its own");
    assert_eq!(all(&*engine, &log).await, ["a"], "a value is nothing that happened");
    let usage = engine.usage(&log).await.unwrap();
    assert_eq!((usage.values, usage.value_bytes), (2, 300_000));
}

pub async fn more_is_not_needed_of_a_channel_than_may_be(engine: Arc<dyn Engine>) {
    let log = channel("log");
    let most = |bytes| Most { bytes: Some(bytes), ..Most::default() };
    let within = |content: &str, bytes| Append { most: most(bytes), ..entry(content) };
    let needed = async || engine.usage(&log).await.unwrap().needed_bytes;
    engine.append(&log, within("12345", 10)).await.unwrap();
    let op = Append { op: Some(OpId([1; 16])), ..within("12345", 10) };
    let last = engine.append(&log, op.clone()).await.unwrap().position;
    assert_eq!(engine.append(&log, within("1", 10)).await, Err(EngineError::TooMuch));
    assert!(engine.append(&log, op).await.unwrap().repeated, "what is there already needs no room");
    let value = async |number, bytes| engine.keep_value(&log, ValueHash([number; 32]), "123".into(), most(bytes)).await;
    assert_eq!(value(1, 12).await, Err(EngineError::TooMuch));
    value(1, 13).await.unwrap();
    value(1, 0).await.unwrap();
    assert_eq!(needed().await, 13);
    // A snapshot makes room, although what it covers is there until the next.
    engine.keep_snapshot(&log, snapshot(last, "all"), Most::default()).await.unwrap();
    assert_eq!((needed().await, all(&*engine, &log).await.len()), (6, 2));
    let last = engine.append(&log, within("1234", 10)).await.unwrap().position;
    assert_eq!(engine.append(&log, within("1", 10)).await, Err(EngineError::TooMuch));
    engine.keep_snapshot(&log, snapshot(last, "everything"), Most::default()).await.unwrap();
    assert_eq!(needed().await, 13);
    // What is dropped for other reasons is not needed any more either.
    let short = Retention { age: Duration::from_secs(10), ..Retention::ALL };
    engine.append(&log, Append { retention: short, ..entry("1") }).await.unwrap();
    assert_eq!(needed().await, 14);
    sweep(&*engine, UnixMillis(NOW.0 + 10_001)).await;
    assert_eq!((needed().await, all(&*engine, &log).await.len()), (13, 0));
    let other = channel("other");
    let one = Retention { entries: 1, ..Retention::ALL };
    for content in ["12345", "12", "123"] {
        engine.append(&other, Append { retention: one, ..within(content, 10) }).await.unwrap();
    }
    assert_eq!(engine.usage(&other).await.unwrap().needed_bytes, 3);
}

/// It counted anew and did not write it down where nothing was to be dropped: so a full store stayed full.
pub async fn regression_a_snapshot_makes_room_also_when_the_one_before_it_covered_nothing(engine: Arc<dyn Engine>) {
    let log = channel("log");
    let start = engine.bounds(&log).await.unwrap().end();
    engine.keep_snapshot(&log, snapshot(start, "template"), Most::default()).await.unwrap();
    let last = append(&*engine, &log, "a long patch").await;
    engine.keep_snapshot(&log, snapshot(last, "all"), Most::default()).await.unwrap();
    assert_eq!(engine.usage(&log).await.unwrap().needed_bytes, 3);
}

pub async fn a_tenant_has_no_more_channels_of_a_kind_than_it_may(engine: Arc<dyn Engine>) {
    let most = Most { channels: Some(2), ..Most::default() };
    let write = async |id: &ChannelId| engine.append(id, Append { most, ..entry("x") }).await.map(drop);
    let [one, two, three] = ["one", "two", "three"].map(channel);
    // Who only asks has none.
    for number in 0..5 {
        engine.bounds(&channel(&format!("asked for {number}"))).await.unwrap();
    }
    write(&one).await.unwrap();
    engine.keep_value(&two, ValueHash([1; 32]), Bytes::from("v"), most).await.unwrap();
    assert_eq!(write(&three).await, Err(EngineError::TooManyChannels));
    let value = engine.keep_value(&three, ValueHash([1; 32]), Bytes::from("v"), most).await;
    assert_eq!(value, Err(EngineError::TooManyChannels));
    let start = engine.bounds(&three).await.unwrap().end();
    let kept = engine.keep_snapshot(&three, snapshot(start, "x"), most).await;
    assert_eq!(kept, Err(EngineError::TooManyChannels));
    assert_eq!(engine.usage(&three).await.unwrap(), Usage::default());
    // What is there is written to as before, and nobody else's counts.
    write(&one).await.unwrap();
    write(&two).await.unwrap();
    write(&ChannelId::new(Tenant::default(), Kind::Topic, Name::new("three").unwrap())).await.unwrap();
    write(&ChannelId::new(Tenant::new("other").unwrap(), Kind::Store, Name::new("three").unwrap())).await.unwrap();
    assert!(engine.remove(&two).await.unwrap());
    write(&three).await.unwrap();
    assert_eq!(write(&two).await, Err(EngineError::TooManyChannels));
    engine.append(&two, entry("without a limit")).await.unwrap();
}

pub async fn a_removed_channel_comes_back_as_another(engine: Arc<dyn Engine>) {
    let log = channel("log");
    assert!(!engine.remove(&log).await.unwrap());
    let last = append(&*engine, &log, "a").await;
    engine.keep_snapshot(&log, snapshot(last, "a"), Most::default()).await.unwrap();
    engine.keep_value(&log, ValueHash([1; 32]), Bytes::from("v"), Most::default()).await.unwrap();
    let op = Append { op: Some(OpId([1; 16])), ..entry("b") };
    engine.append(&log, op.clone()).await.unwrap();
    assert!(engine.remove(&log).await.unwrap());
    assert_eq!(engine.usage(&log).await.unwrap(), Usage::default());
    assert_eq!(engine.channels(Kind::Store, None, None, 10).await.unwrap(), []);
    let page = engine.read(&log, Range::After(last), Limit::default()).await.unwrap();
    assert_eq!(page.gap, Some(Gap::Recreated));
    assert_eq!(engine.snapshot(&log).await.unwrap().1, None);
    assert_eq!(engine.value(&log, ValueHash([1; 32])).await.unwrap(), None);
    assert!(!engine.append(&log, op).await.unwrap().repeated);
}

pub async fn what_was_only_asked_for_goes_when_nobody_has_it_open(engine: Arc<dyn Engine>) {
    let (written, kept, open) = (channel("written"), channel("a value"), channel("open"));
    append(&*engine, &written, "a").await;
    engine.keep_value(&kept, ValueHash([1; 32]), Bytes::from("v"), Most::default()).await.unwrap();
    let before = engine.bounds(&open).await.unwrap();
    for number in 0..3_000 {
        engine.bounds(&channel(&format!("asked for {number}"))).await.unwrap();
    }
    let heard = Arc::new(Follower::default());
    engine.watch(Arc::clone(&heard) as _);
    let is_open = {
        let open = open.clone();
        Arc::new(move |channel: &ChannelId| *channel == open)
    };
    engine.sweep(NOW, is_open).await.unwrap();
    assert_eq!(engine.channels(Kind::Store, None, None, 10).await.unwrap(), [kept, open.clone(), written]);
    assert_eq!(engine.bounds(&open).await.unwrap(), before);
    assert_eq!(*heard.removed.lock().unwrap(), 3_000);
}

pub async fn channels_are_listed_in_their_order_and_apart(engine: Arc<dyn Engine>) {
    let tenant = |name| Tenant::new(name).unwrap();
    let id = |owner, kind, name| ChannelId::new(tenant(owner), kind, Name::new(name).unwrap());
    for name in ["c", "a", "b"] {
        for owner in ["two", "one"] {
            append(&*engine, &id(owner, Kind::Store, name), "x").await;
        }
    }
    append(&*engine, &id("one", Kind::Topic, "topic"), "x").await;
    let every = engine.channels(Kind::Store, None, None, 10).await.unwrap();
    let expected = ["one", "two"].map(|owner| ["a", "b", "c"].map(|name| id(owner, Kind::Store, name)));
    assert_eq!(every, expected.as_flattened());
    let page = engine.channels(Kind::Store, None, Some(every[1].clone()), 2).await.unwrap();
    assert_eq!(page, every[2..4]);
    let ours = engine.channels(Kind::Store, Some(tenant("two")), Some(every[3].clone()), 10).await.unwrap();
    assert_eq!(ours, every[4..]);
    assert_eq!(engine.channels(Kind::Feed, None, None, 10).await.unwrap(), []);
}

/// Names that were one file in a system of the past, that are patterns elsewhere, or look alike.
pub async fn names_never_reach_into_another_channel(engine: Arc<dyn Engine>) {
    let names = ["a.b", "a_b", "a/b", "a:b", "A.b", "a%", "a*", "a**", "é", "e\u{301}", "../a", "a'--", "a\u{202e}b"];
    let tenants = ["t", "T", "t\0", "t:a", "%", "*"];
    let mut channels = Vec::new();
    for tenant in tenants {
        for name in names {
            for kind in [Kind::Topic, Kind::Store] {
                channels.push(ChannelId::new(Tenant::new(tenant).unwrap(), kind, Name::new(name).unwrap()));
            }
        }
    }
    for (number, id) in channels.iter().enumerate() {
        append(&*engine, id, &number.to_string()).await;
        let hash = ValueHash([1; 32]);
        engine.keep_value(id, hash, Bytes::from(number.to_string()), Most::default()).await.unwrap();
    }
    for (number, id) in channels.iter().enumerate() {
        assert_eq!(all(&*engine, id).await, [number.to_string()]);
        let value = engine.value(id, ValueHash([1; 32])).await.unwrap();
        assert_eq!(value, Some(Bytes::from(number.to_string())));
    }
}

fn key(namespace: &str, name: &str) -> Key {
    Key { tenant: Tenant::default(), namespace: namespace.into(), name: name.into() }
}

pub async fn values_of_the_application_have_versions(engine: Arc<dyn Engine>) {
    let (one, other) = (key("a", "one"), key("b", "one"));
    assert_eq!(engine.get(&one).await.unwrap(), None);
    assert!(!engine.delete(&one, Expected::Anything).await.unwrap());
    let first = engine.put(&one, Bytes::from("1"), Expected::Nothing).await.unwrap();
    assert_eq!(engine.put(&one, Bytes::from("no"), Expected::Nothing).await, Err(EngineError::Changed));
    let second = engine.put(&one, Bytes::from("2"), Expected::This(first)).await.unwrap();
    assert!(second > first);
    assert_eq!(engine.put(&one, Bytes::from("no"), Expected::This(first)).await, Err(EngineError::Changed));
    assert_eq!(engine.delete(&one, Expected::This(first)).await, Err(EngineError::Changed));
    let found = engine.get(&one).await.unwrap().unwrap();
    assert_eq!((found.version, &found.value[..]), (second, &b"2"[..]));
    assert_eq!(engine.get(&other).await.unwrap(), None, "each namespace has its own");
    assert!(engine.delete(&one, Expected::This(second)).await.unwrap());
    assert_eq!(engine.get(&one).await.unwrap(), None);
    let again = engine.put(&one, Bytes::from("3"), Expected::Anything).await.unwrap();
    assert!(again > second, "a version does not come twice, whatever happened in between");
}

pub async fn keys_are_listed_by_their_beginning(engine: Arc<dyn Engine>) {
    for name in ["a", "b", "b%", "b/1", "b/2", "b/3", "c"] {
        engine.put(&key("space", name), Bytes::from(name), Expected::Anything).await.unwrap();
    }
    engine.put(&key("other", "b/9"), Bytes::new(), Expected::Anything).await.unwrap();
    let tenant = Tenant::default();
    let list = async |prefix: &str, after: Option<&str>, most| {
        let found = engine.keys(&tenant, "space", prefix, after, most).await.unwrap();
        assert!(found.iter().all(|(name, stored)| name.as_bytes() == stored.value));
        found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, 3).await, ["a", "b", "b%"]);
    assert_eq!(list("b/", None, 10).await, ["b/1", "b/2", "b/3"]);
    assert_eq!(list("b/", Some("b/1"), 1).await, ["b/2"]);
    assert_eq!(list("b/", Some("a"), 1).await, ["b/1"], "what is after a key before all of them is all of them");
    assert_eq!(list("b%", None, 10).await, ["b%"], "a prefix is no pattern");
    assert!(list("b/", Some("c"), 10).await.is_empty());
}

/// Follows a log by what it is told, and reads where it was told too little: what a channel does for each subscriber.
#[derive(Default)]
struct Follower {
    told: Mutex<Vec<(ChannelId, Arc<Entry>)>>,
    removed: Mutex<usize>,
}

impl Watcher for Follower {
    fn appended(&self, channel: &ChannelId, _: LogEpoch, entry: &Arc<Entry>) {
        self.told.lock().unwrap().push((channel.clone(), Arc::clone(entry)));
    }

    fn removed(&self, _: &ChannelId) {
        *self.removed.lock().unwrap() += 1;
    }
}

pub async fn many_writers_lose_nothing_and_a_follower_misses_nothing(engine: Arc<dyn Engine>) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 50;
    let log = channel("log");
    let follower = Arc::new(Follower::default());
    engine.watch(Arc::clone(&follower) as _);
    let mut since = engine.bounds(&log).await.unwrap().end();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (engine, log) = (Arc::clone(&engine), log.clone());
            tokio::spawn(async move {
                let mut before = Offset(0);
                for number in 0..EACH {
                    let position = append(&*engine, &log, &format!("{writer} {number}")).await;
                    assert!(position.mark.offset > before);
                    before = position.mark.offset;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut heard = Vec::new();
    let told = std::mem::take(&mut *follower.told.lock().unwrap());
    assert!(told.is_sorted_by(|(_, one), (_, next)| one.mark.offset < next.mark.offset), "in order, once");
    for (channel, entry) in told {
        assert_eq!(channel, log);
        if entry.prev != since.mark.offset {
            read_on(&*engine, &log, &mut since, &mut heard).await;
        }
        if entry.prev == since.mark.offset {
            since.mark = entry.mark;
            heard.push(entry);
        }
    }
    // It may have been the last one that nobody told of.
    read_on(&*engine, &log, &mut since, &mut heard).await;
    assert_eq!(contents(&heard), all(&*engine, &log).await);
    for writer in 0..WRITERS {
        let mine = contents(&heard).into_iter().filter(|content| content.starts_with(&format!("{writer} ")));
        assert!(mine.eq((0..EACH).map(|number| format!("{writer} {number}"))));
    }
}

async fn read_on(engine: &dyn Engine, log: &ChannelId, since: &mut Position, heard: &mut Vec<Arc<Entry>>) {
    loop {
        let page = engine.read(log, Range::After(*since), Limit::default()).await.unwrap();
        assert_eq!(page.gap, None);
        let last = page.is_last();
        for entry in page.entries {
            since.mark = entry.mark;
            heard.push(entry);
        }
        if last {
            return;
        }
    }
}
