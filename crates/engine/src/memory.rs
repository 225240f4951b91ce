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
        Self(Mutex::new(State {
            entropy: Entropy::new(seed),
            watchers: Vec::new(),
            logs: BTreeMap::new(),
            values: BTreeMap::new(),
            last_version: 0,
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
        let removed = self.logs.remove(channel).is_some();
        if removed {
            self.watchers.iter().for_each(|watcher| watcher.removed(channel));
        }
        removed
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
        if let Some(upto) = superfluous {
            let gone = log.entries.partition_point(|entry| entry.mark.offset <= upto.offset);
            log.drop_oldest(gone);
        }
        log.needed = log.count_needed();
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
