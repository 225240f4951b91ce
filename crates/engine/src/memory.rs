//! The engine whose channels end with the process.
//!
//! Every operation is done when it is asked for, under one lock; its answers never wait.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, future,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use moorline_protocol::{
    channel::{Bounds, ChannelId, Entry, Gap, Kind, LogEpoch, Mark, Offset, Page, Position, Range, Snapshot, Tag},
    entropy::Entropy,
    subject::Tenant,
    time::UnixMillis,
};

use crate::{
    Answer, Append, Appended, Engine, EngineError, Expected, IsOpen, Key, Limit, Most, OPERATIONS_KEPT, OpId,
    Retention, Room, Usage, ValueHash, Version, Versioned, Watcher,
};

/// Operations of one channel that are known again. The oldest are forgotten first.
const MOST_OPERATIONS: usize = 8_192;

/// What an entry takes beside its content, and what an operation takes, about; the same on every machine.
const ENTRY: u64 = 128;
const OPERATION: u64 = 96;

/// Snapshots that are kept: the newest, and the one to go back to.
const SNAPSHOTS: usize = 2;

/// An [`Engine`] in memory: for tests, and for channels that need not outlive the process.
pub struct MemoryEngine(Mutex<State>);

struct State {
    entropy: Entropy,
    watchers: Vec<Arc<dyn Watcher>>,
    logs: BTreeMap<ChannelId, Log>,
    values: BTreeMap<Key, Versioned>,
    last_version: u64,
    /// Bytes that the entries and operations of all logs take, and that they may.
    taken: u64,
    most: u64,
}

#[derive(Clone)]
struct Log {
    bounds: Bounds,
    /// Whether anything was ever kept of it.
    written: bool,
    entries: VecDeque<Arc<Entry>>,
    bytes: u64,
    /// Bytes of the newest snapshot, the entries that are not in it, and the values.
    needed: u64,
    retention: Retention,
    operations: BTreeMap<OpId, Mark>,
    /// The same, as they came.
    operations_in_order: VecDeque<(OpId, UnixMillis)>,
    /// The newest last.
    snapshots: Vec<Arc<Snapshot>>,
    values: BTreeMap<ValueHash, Bytes>,
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MemoryEngine")
    }
}

impl MemoryEngine {
    /// An engine without channels. The seed makes its epochs and tags: never use one twice.
    pub fn new(seed: [u8; 32]) -> Self {
        Self::bounded(seed, u64::MAX)
    }

    /// The same, in which the entries of all channels together take about `most` bytes. Beyond that those channels lose
    /// theirs, and the operations that they know, that were appended to longest ago; not those that keep everything.
    pub fn bounded(seed: [u8; 32], most: u64) -> Self {
        Self(Mutex::new(State {
            entropy: Entropy::new(seed),
            watchers: Vec::new(),
            logs: BTreeMap::new(),
            values: BTreeMap::new(),
            last_version: 0,
            taken: 0,
            most,
        }))
    }

    /// Another engine with the same channels, that goes its own way from here and tells nobody: a disk as it was once.
    #[cfg(feature = "simulation")]
    pub fn copy(&self, seed: [u8; 32]) -> Self {
        let state = self.state();
        Self(Mutex::new(State {
            entropy: Entropy::new(seed),
            watchers: Vec::new(),
            logs: state.logs.clone(),
            values: state.values.clone(),
            last_version: state.last_version,
            taken: state.taken,
            most: state.most,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked under the lock was a watcher, which hears of what is done already.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<T: Send + 'static>(&self, work: impl FnOnce(&mut State) -> Result<T, EngineError>) -> Answer<'_, T> {
        Box::pin(future::ready(work(&mut self.state())))
    }
}

impl State {
    fn log(&mut self, channel: &ChannelId) -> &mut Log {
        // In two steps, so that asking for a log that is there copies no name.
        if !self.logs.contains_key(channel) {
            self.logs.insert(channel.clone(), Log::new(LogEpoch(self.entropy.array())));
        }
        self.logs.get_mut(channel).expect("it was there, or was made just now")
    }

    /// Whether one more channel of this kind and tenant may be written to. They are counted anew each time, which does for
    /// what need not outlive the process.
    fn takes_another(&self, channel: &ChannelId, most: Most) -> Result<(), EngineError> {
        let is_of = |id: &ChannelId| id.kind == channel.kind && id.tenant == channel.tenant;
        let is_new = self.logs.get(channel).is_none_or(|log| !log.written);
        let Some(most) = most.channels.filter(|_| is_new) else { return Ok(()) };
        let written = self.logs.iter().filter(|(id, log)| log.written && is_of(id)).count() as u64;
        if written < most { Ok(()) } else { Err(EngineError::TooManyChannels) }
    }

    fn remove(&mut self, channel: &ChannelId) -> bool {
        let Some(removed) = self.logs.remove(channel) else { return false };
        self.taken -= removed.takes();
        self.watchers.iter().for_each(|watcher| watcher.removed(channel));
        true
    }

    /// Where all takes more than it may, an eighth goes: to look through all channels for each entry would be too much.
    fn make_room(&mut self) {
        if self.taken <= self.most {
            return;
        }
        let newest = |(id, log): (&ChannelId, &Log)| Some((log.entries.back()?.at, id.clone()));
        let bounded = self.logs.iter().filter(|(_, log)| log.retention != Retention::ALL);
        let mut longest_ago: Vec<_> = bounded.filter_map(newest).collect();
        longest_ago.sort_unstable();
        for (_, channel) in longest_ago {
            if self.taken <= self.most - self.most / 8 {
                return;
            }
            if let Some(log) = self.logs.get_mut(&channel) {
                self.taken -= log.takes();
                log.drop_oldest(log.entries.len());
                log.operations.clear();
                log.operations_in_order.clear();
            }
        }
    }

    fn append(&mut self, channel: &ChannelId, append: Append) -> Result<Appended, EngineError> {
        let tag = Tag(self.entropy.array());
        let takes_another = self.takes_another(channel, append.most);
        let log = self.log(channel);
        let epoch = log.bounds.epoch;
        let known = append.op.and_then(|op| log.operations.get(&op));
        if let Some(mark) = known {
            return Ok(Appended { position: Position { epoch, mark: *mark }, repeated: true });
        }
        let prev = log.bounds.head.offset;
        if append.expected.is_some_and(|expected| expected != prev) {
            return Err(EngineError::Conflict(log.bounds.head));
        }
        log.has_room(append.content.len(), append.most)?;
        takes_another?;
        let before = log.takes();
        log.written = true;
        let mark = Mark { offset: Offset(prev.0 + 1), tag };
        let entry = Arc::new(Entry { prev, mark, at: append.at, content: append.content });
        log.bounds.head = mark;
        log.bytes += entry.content.len() as u64;
        log.needed += entry.content.len() as u64;
        log.entries.push_back(Arc::clone(&entry));
        log.retention = append.retention;
        if let Some(op) = append.op {
            log.operations.insert(op, mark);
            log.operations_in_order.push_back((op, append.at));
        }
        log.trim(append.at);
        let after = log.takes();
        self.taken = self.taken + after - before;
        self.make_room();
        self.watchers.iter().for_each(|watcher| watcher.appended(channel, epoch, &entry));
        Ok(Appended { position: Position { epoch, mark }, repeated: false })
    }

    fn keep_snapshot(&mut self, channel: &ChannelId, snapshot: Snapshot, most: Most) -> Result<(), EngineError> {
        let takes_another = self.takes_another(channel, most);
        let log = self.log(channel);
        let covers = snapshot.covers;
        if covers.mark.offset > log.bounds.head.offset || log.judge(covers).is_err() {
            return Err(EngineError::UnknownPosition);
        }
        let newest = log.snapshots.last();
        if newest.is_some_and(|newest| newest.covers.mark.offset >= covers.mark.offset) {
            return Err(EngineError::Superseded);
        }
        takes_another?;
        log.written = true;
        let superfluous = newest.map(|before| before.covers.mark);
        log.snapshots.push(Arc::new(snapshot));
        let spare = log.snapshots.len().saturating_sub(SNAPSHOTS);
        log.snapshots.drain(..spare);
        let before = log.takes();
        if let Some(upto) = superfluous {
            let gone = log.entries.partition_point(|entry| entry.mark.offset <= upto.offset);
            log.drop_oldest(gone);
        }
        log.needed = log.count_needed();
        let after = log.takes();
        self.taken = self.taken + after - before;
        Ok(())
    }
}

impl Log {
    fn new(epoch: LogEpoch) -> Self {
        Self {
            bounds: Bounds::new(epoch),
            written: false,
            entries: VecDeque::new(),
            bytes: 0,
            needed: 0,
            retention: Retention::default(),
            operations: BTreeMap::new(),
            operations_in_order: VecDeque::new(),
            snapshots: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    /// Bytes that its entries and operations take.
    fn takes(&self) -> u64 {
        self.bytes + ENTRY * self.entries.len() as u64 + OPERATION * self.operations.len() as u64
    }

    fn trim(&mut self, now: UnixMillis) {
        let oldest_first = self.entries.iter().map(|entry| (entry.mark, entry.at, entry.content.len() as u64));
        let left = self.retention.beyond(self.entries.len() as u64, self.bytes, now, oldest_first);
        if let Some(left) = left {
            self.drop_oldest(self.entries.len() - left.entries as usize);
        }
        let kept = OPERATIONS_KEPT.as_millis() as u64;
        while let Some((op, at)) = self.operations_in_order.front()
            && (self.operations_in_order.len() > MOST_OPERATIONS || now.0.saturating_sub(at.0) > kept)
        {
            self.operations.remove(op);
            self.operations_in_order.pop_front();
        }
    }

    fn has_room(&self, bytes: usize, most: Most) -> Result<(), EngineError> {
        let fits = most.bytes.is_none_or(|most| self.needed.saturating_add(bytes as u64) <= most);
        if fits { Ok(()) } else { Err(EngineError::TooMuch) }
    }

    fn count_needed(&self) -> u64 {
        let newest = self.snapshots.last();
        let covered = newest.map_or(Offset(0), |newest| newest.covers.mark.offset);
        let entries = self.entries.iter().filter(|entry| entry.mark.offset > covered).map(|entry| entry.content.len());
        let values = self.values.values().map(Bytes::len);
        entries.chain(values).chain(newest.map(|newest| newest.content.len())).map(|size| size as u64).sum()
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.snapshots.is_empty() && self.values.is_empty()
    }

    fn drop_oldest(&mut self, count: usize) {
        let covered = self.snapshots.last().map_or(Offset(0), |newest| newest.covers.mark.offset);
        for entry in self.entries.drain(..count) {
            self.bytes -= entry.content.len() as u64;
            if entry.mark.offset > covered {
                self.needed -= entry.content.len() as u64;
            }
            self.bounds.trimmed = entry.mark;
        }
    }

    fn judge(&self, since: Position) -> Result<Offset, Gap> {
        self.bounds.judge(since, |offset| {
            let at = self.entries.binary_search_by_key(&offset, |entry| entry.mark.offset).ok()?;
            self.entries.get(at).map(|entry| entry.mark.tag)
        })
    }

    fn read(&self, range: Range, limit: Limit) -> Page {
        let upto = |offset: Offset| self.entries.partition_point(|entry| entry.mark.offset <= offset);
        let bounds = self.bounds;
        let (from, to) = match range {
            Range::After(since) => match self.judge(since) {
                Ok(after) => (upto(after), None),
                Err(gap) => return Page { bounds, entries: Vec::new(), gap: Some(gap) },
            },
            Range::Oldest => (0, None),
            Range::Newest => (0, Some(self.entries.len())),
            Range::Before(offset) => (0, Some(self.entries.partition_point(|entry| entry.mark.offset < offset))),
        };
        let mut room = Room::new(limit);
        let entries = match to {
            None => self.entries.range(from..).take_while(|entry| room.takes(entry)).cloned().collect(),
            Some(to) => {
                let newest_first = self.entries.range(..to).rev().take_while(|entry| room.takes(entry));
                let mut entries: Vec<_> = newest_first.cloned().collect();
                entries.reverse();
                entries
            }
        };
        Page { bounds, entries, gap: None }
    }

    fn usage(&self) -> Usage {
        let sum = |sizes: &mut dyn Iterator<Item = usize>| sizes.map(|size| size as u64).sum::<u64>();
        Usage {
            entries: self.entries.len() as u64,
            entry_bytes: self.bytes,
            snapshots: self.snapshots.len() as u64,
            snapshot_bytes: sum(&mut self.snapshots.iter().map(|snapshot| snapshot.content.len())),
            values: self.values.len() as u64,
            value_bytes: sum(&mut self.values.values().map(Bytes::len)),
            needed_bytes: self.needed,
        }
    }
}

impl Engine for MemoryEngine {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.state().watchers.push(watcher);
    }

    fn append<'a>(&'a self, channel: &'a ChannelId, append: Append) -> Answer<'a, Appended> {
        self.answer(|state| state.append(channel, append))
    }

    fn bounds<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, Bounds> {
        self.answer(|state| Ok(state.log(channel).bounds))
    }

    fn read<'a>(&'a self, channel: &'a ChannelId, range: Range, limit: Limit) -> Answer<'a, Page> {
        self.answer(|state| Ok(state.log(channel).read(range, limit)))
    }

    fn snapshot<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, (Bounds, Option<Arc<Snapshot>>)> {
        self.answer(|state| {
            let log = state.log(channel);
            Ok((log.bounds, log.snapshots.last().cloned()))
        })
    }

    fn keep_snapshot<'a>(&'a self, channel: &'a ChannelId, snapshot: Snapshot, most: Most) -> Answer<'a, ()> {
        self.answer(|state| state.keep_snapshot(channel, snapshot, most))
    }

    fn keep_value<'a>(&'a self, channel: &'a ChannelId, hash: ValueHash, value: Bytes, most: Most) -> Answer<'a, ()> {
        self.answer(|state| {
            let takes_another = state.takes_another(channel, most);
            let log = state.log(channel);
            if !log.values.contains_key(&hash) {
                log.has_room(value.len(), most)?;
                takes_another?;
                log.written = true;
                log.needed += value.len() as u64;
                log.values.insert(hash, value);
            }
            Ok(())
        })
    }

    fn value<'a>(&'a self, channel: &'a ChannelId, hash: ValueHash) -> Answer<'a, Option<Bytes>> {
        self.answer(|state| Ok(state.logs.get(channel).and_then(|log| log.values.get(&hash).cloned())))
    }

    fn usage<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, Usage> {
        self.answer(|state| Ok(state.logs.get(channel).map(Log::usage).unwrap_or_default()))
    }

    fn channels<'a>(
        &'a self,
        kind: Kind,
        tenant: Option<Tenant>,
        after: Option<ChannelId>,
        most: usize,
    ) -> Answer<'a, Vec<ChannelId>> {
        self.answer(|state| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let ours = |id: &&ChannelId| id.kind == kind && tenant.as_ref().is_none_or(|tenant| id.tenant == *tenant);
            let behind = state.logs.range((from, Bound::Unbounded)).map(|(id, _)| id);
            Ok(behind.filter(ours).take(most).cloned().collect())
        })
    }

    fn remove<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, bool> {
        self.answer(|state| Ok(state.remove(channel)))
    }

    fn sweep(&self, now: UnixMillis, is_open: IsOpen) -> Answer<'_, ()> {
        self.answer(|state| {
            state.logs.values_mut().for_each(|log| log.trim(now));
            state.taken = state.logs.values().map(Log::takes).sum();
            let is_of_no_use = |(id, log): &(&ChannelId, &Log)| log.is_empty() && !is_open(id);
            let of_no_use: Vec<_> = state.logs.iter().filter(is_of_no_use).map(|(id, _)| id.clone()).collect();
            of_no_use.iter().for_each(|channel| _ = state.remove(channel));
            Ok(())
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Versioned>> {
        self.answer(|state| Ok(state.values.get(key).cloned()))
    }

    fn put<'a>(&'a self, key: &'a Key, value: Bytes, expected: Expected) -> Answer<'a, Version> {
        self.answer(|state| {
            if !expected.holds(state.values.get(key).map(|found| found.version)) {
                return Err(EngineError::Changed);
            }
            state.last_version += 1;
            let version = Version(state.last_version);
            state.values.insert(key.clone(), Versioned { version, value });
            Ok(version)
        })
    }

    fn delete<'a>(&'a self, key: &'a Key, expected: Expected) -> Answer<'a, bool> {
        self.answer(|state| {
            if !expected.holds(state.values.get(key).map(|found| found.version)) {
                return Err(EngineError::Changed);
            }
            Ok(state.values.remove(key).is_some())
        })
    }

    fn keys<'a>(
        &'a self,
        tenant: &'a Tenant,
        namespace: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
        most: usize,
    ) -> Answer<'a, Vec<(String, Versioned)>> {
        self.answer(|state| {
            let key = |name: &str| Key { tenant: tenant.clone(), namespace: namespace.into(), name: name.into() };
            let from = match after {
                Some(after) if after >= prefix => Bound::Excluded(key(after)),
                _ => Bound::Included(key(prefix)),
            };
            let behind = state.values.range((from, Bound::Unbounded));
            let ours = behind.take_while(|(key, _)| {
                key.tenant == *tenant && *key.namespace == *namespace && key.name.starts_with(prefix)
            });
            Ok(ours.take(most).map(|(key, found)| (key.name.to_string(), found.clone())).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use moorline_protocol::payload::Name;

    use super::*;

    fn now<T>(mut answer: Answer<'_, T>) -> T {
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(found) => found.unwrap_or_else(|error| panic!("{error}")),
            Poll::Pending => panic!("a memory engine waits"),
        }
    }

    fn named(name: &str) -> ChannelId {
        ChannelId::new(Tenant::default(), Kind::Topic, Name::new(name).unwrap_or_else(|_| panic!("a name")))
    }

    /// A client that was let make names had each keep its megabyte for two minutes.
    #[test]
    fn regression_channels_together_take_no_more_than_they_may_and_who_is_in_use_keeps_its_own() {
        const MOST: u64 = 1 << 20;
        let engine = MemoryEngine::bounded([7; 32], MOST);
        let append = |name: &str, size: usize, at: u64, retention| {
            let op = Some(OpId([at.to_le_bytes(), at.to_le_bytes()].concat().try_into().unwrap_or_default()));
            let append = Append::new(Bytes::from(vec![b'x'; size]), UnixMillis(at), retention);
            now(engine.append(&named(name), Append { op, ..append })).position
        };
        let usage = |name: &str| now(engine.usage(&named(name))).entries;
        append("kept", 64 * 1024, 1, Retention::ALL);
        let seen = append("idle", 1_000, 2, Retention::default());
        for number in 0..10_000 {
            // One that is in use goes on beside a flood of names.
            append("in use", 10, 10 + 2 * number, Retention { entries: 5, ..Retention::ALL });
            append(&format!("flood {number}"), 1_000, 11 + 2 * number, Retention::default());
            let state = engine.state();
            assert!(state.taken <= MOST, "{}", state.taken);
            assert_eq!(state.taken, state.logs.values().map(Log::takes).sum::<u64>());
        }
        assert_eq!((usage("kept"), usage("in use"), usage("idle"), usage("flood 9999")), (1, 5, 0, 1));
        // Who was away is told so.
        let limit = Limit { entries: 9, bytes: 9_999 };
        assert_eq!(now(engine.read(&named("idle"), Range::After(seen), limit)).gap, None, "it has seen all of it");
        let before = Position { mark: Mark::START, ..seen };
        assert_eq!(now(engine.read(&named("idle"), Range::After(before), limit)).gap, Some(Gap::Trimmed));
        now(engine.remove(&named("in use")));
        now(engine.sweep(UnixMillis(u64::MAX), Arc::new(|_| false)));
        let state = engine.state();
        assert_eq!(state.logs.keys().collect::<Vec<_>>(), [&named("kept")]);
        assert_eq!(state.taken, state.logs.values().map(Log::takes).sum::<u64>());
    }
}
