//! An engine that tells its watchers only some of what happens, as one does that spans machines.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use moorline_protocol::{
    channel::{Bounds, ChannelId, Entry, Kind, LogEpoch, Page, Range, Snapshot},
    entropy::Entropy,
    subject::Tenant,
    time::UnixMillis,
};

use crate::{
    Answer, Append, Appended, Engine, Expected, IsOpen, Key, Limit, Most, Usage, ValueHash, Version, Versioned, Watcher,
};

/// An engine whose watchers hear of half of the entries. Everything else is as it is underneath.
pub struct Lossy {
    engine: Arc<dyn Engine>,
    seed: [u8; 32],
}

impl fmt::Debug for Lossy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lossy({:?})", self.engine)
    }
}

impl Lossy {
    /// Loses what the seed says.
    pub fn new(engine: Arc<dyn Engine>, seed: [u8; 32]) -> Self {
        Self { engine, seed }
    }
}

struct Hears {
    watcher: Arc<dyn Watcher>,
    entropy: Mutex<Entropy>,
}

impl Watcher for Hears {
    fn appended(&self, channel: &ChannelId, epoch: LogEpoch, entry: &Arc<Entry>) {
        if self.entropy.lock().unwrap_or_else(PoisonError::into_inner).up_to(1) == 0 {
            self.watcher.appended(channel, epoch, entry);
        }
    }

    fn removed(&self, channel: &ChannelId) {
        self.watcher.removed(channel);
    }
}

impl Engine for Lossy {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.engine.watch(Arc::new(Hears { watcher, entropy: Mutex::new(Entropy::new(self.seed)) }));
    }

    fn append<'a>(&'a self, channel: &'a ChannelId, append: Append) -> Answer<'a, Appended> {
        self.engine.append(channel, append)
    }

    fn bounds<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, Bounds> {
        self.engine.bounds(channel)
    }

    fn read<'a>(&'a self, channel: &'a ChannelId, range: Range, limit: Limit) -> Answer<'a, Page> {
        self.engine.read(channel, range, limit)
    }

    fn snapshot<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, (Bounds, Option<Arc<Snapshot>>)> {
        self.engine.snapshot(channel)
    }

    fn keep_snapshot<'a>(&'a self, channel: &'a ChannelId, snapshot: Snapshot, most: Most) -> Answer<'a, ()> {
        self.engine.keep_snapshot(channel, snapshot, most)
    }

    fn keep_value<'a>(&'a self, channel: &'a ChannelId, hash: ValueHash, value: Bytes, most: Most) -> Answer<'a, ()> {
        self.engine.keep_value(channel, hash, value, most)
    }

    fn value<'a>(&'a self, channel: &'a ChannelId, hash: ValueHash) -> Answer<'a, Option<Bytes>> {
        self.engine.value(channel, hash)
    }

    fn usage<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, Usage> {
        self.engine.usage(channel)
    }

    fn channels<'a>(
        &'a self,
        kind: Kind,
        tenant: Option<Tenant>,
        after: Option<ChannelId>,
        most: usize,
    ) -> Answer<'a, Vec<ChannelId>> {
        self.engine.channels(kind, tenant, after, most)
    }

    fn remove<'a>(&'a self, channel: &'a ChannelId) -> Answer<'a, bool> {
        self.engine.remove(channel)
    }

    fn sweep(&self, now: UnixMillis, is_open: IsOpen) -> Answer<'_, ()> {
        self.engine.sweep(now, is_open)
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Versioned>> {
        self.engine.get(key)
    }

    fn put<'a>(&'a self, key: &'a Key, value: Bytes, expected: Expected) -> Answer<'a, Version> {
        self.engine.put(key, value, expected)
    }

    fn delete<'a>(&'a self, key: &'a Key, expected: Expected) -> Answer<'a, bool> {
        self.engine.delete(key, expected)
    }

    fn keys<'a>(
        &'a self,
        tenant: &'a Tenant,
        namespace: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
        most: usize,
    ) -> Answer<'a, Vec<(String, Versioned)>> {
        self.engine.keys(tenant, namespace, prefix, after, most)
    }
}
