//! Who follows which channel on this node, and the engines that have the channels.
//!
//! What a session has open is its task's business (`session/channels.rs`). The way from an engine to it is short and
//! bounded: a new entry is put into the inbox of each session that follows its channel, and a session that is too slow
//! to take them out finds what it has not heard of in the log.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use moorline_engine::{Engine, Removal, Watcher};
use moorline_protocol::{
    channel::{ChannelId, Entry, Kind, LogEpoch},
    frame::Handle,
};

use crate::topic::now;

/// Words of entries that wait in the inbox of one session.
const WORDS: usize = 256;

/// Channels that are looked at in one go.
const SWEPT: usize = 256;

/// The channels of a server.
pub(crate) struct Channels {
    /// For what need not outlive the process.
    memory: Arc<dyn Engine>,
    /// For what is kept.
    durable: Option<Arc<dyn Engine>>,
    followers: Arc<Followers>,
}

impl Channels {
    pub(crate) fn new(memory: Arc<dyn Engine>, durable: Option<Arc<dyn Engine>>) -> Self {
        let followers = Arc::<Followers>::default();
        for engine in [Some(&memory), durable.as_ref()].into_iter().flatten() {
            engine.watch(followers.clone());
        }
        Self { memory, durable, followers }
    }

    /// The engine that has channels which are kept, or which are not. Without one of its own what is to be kept is kept
    /// as long as the process.
    pub(crate) fn engine(&self, durable: bool) -> &Arc<dyn Engine> {
        self.durable.as_ref().filter(|_| durable).unwrap_or(&self.memory)
    }

    /// Tells this inbox of a channel, under its session's handle, from now on.
    pub(crate) fn enter(&self, channel: &ChannelId, handle: Handle, inbox: &Arc<Inbox>) {
        let follower = Follower { handle, inbox: inbox.clone() };
        self.followers.by_channel().entry(channel.clone()).or_default().push(follower);
    }

    /// Tells this inbox no longer.
    pub(crate) fn leave(&self, channel: &ChannelId, handle: Handle, inbox: &Arc<Inbox>) {
        let mut by_channel = self.followers.by_channel();
        let Some(followers) = by_channel.get_mut(channel) else { return };
        followers.retain(|follower| follower.handle != handle || !Arc::ptr_eq(&follower.inbox, inbox));
        if followers.is_empty() {
            by_channel.remove(channel);
        }
    }

    /// Drops what is too old, and channels of this process that have nothing left and that nobody follows.
    pub(crate) async fn sweep(&self) {
        for engine in [Some(&self.memory), self.durable.as_ref()].into_iter().flatten() {
            if let Err(error) = engine.sweep(now()).await {
                tracing::error!(%error, "what is too old could not be dropped");
            }
        }
        let mut after = None;
        while let Ok(channels) = self.memory.channels(Kind::Topic, None, after.take(), SWEPT).await {
            for channel in channels.iter().filter(|channel| !self.is_followed(channel)) {
                let _ = self.memory.remove(channel, Removal::IfEmpty).await;
            }
            match channels.into_iter().nth(SWEPT - 1) {
                Some(last) => after = Some(last),
                None => return,
            }
        }
    }

    /// Whether anybody on this node follows it.
    pub(crate) fn is_followed(&self, channel: &ChannelId) -> bool {
        self.followers.by_channel().contains_key(channel)
    }
}

#[derive(Default)]
struct Followers(Mutex<HashMap<ChannelId, Vec<Follower>>>);

struct Follower {
    handle: Handle,
    inbox: Arc<Inbox>,
}

impl Followers {
    fn by_channel(&self) -> MutexGuard<'_, HashMap<ChannelId, Vec<Follower>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Followers {
    fn appended(&self, channel: &ChannelId, epoch: LogEpoch, entry: &Arc<Entry>) {
        for follower in self.by_channel().get(channel).into_iter().flatten() {
            follower.inbox.put(Word::Appended(follower.handle, epoch, entry.clone()));
        }
    }

    fn removed(&self, channel: &ChannelId) {
        for follower in self.by_channel().get(channel).into_iter().flatten() {
            follower.inbox.put(Word::Removed(follower.handle));
        }
    }
}

/// What a session hears of the channels that it follows.
pub(crate) enum Word {
    Appended(Handle, LogEpoch, Arc<Entry>),
    Removed(Handle),
    /// There was more than an inbox holds: any channel may have gone on.
    Missed,
}

/// The words for one session, until its task takes them.
#[derive(Default)]
pub(crate) struct Inbox {
    words: Mutex<Words>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Words {
    waiting: VecDeque<Word>,
    missed: bool,
}

impl Inbox {
    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, word: Word) {
        let mut words = self.words();
        if words.waiting.len() >= WORDS {
            // Each of its channels is going to be read, so what is here already is of no use either.
            *words = Words { waiting: VecDeque::new(), missed: true };
        } else if !words.missed {
            words.waiting.push_back(word);
        }
        drop(words);
        self.waker.wake();
    }

    /// The next word.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Word> {
        let take = || {
            let mut words = self.words();
            if std::mem::take(&mut words.missed) { Some(Word::Missed) } else { words.waiting.pop_front() }
        };
        if let Some(word) = take() {
            return Poll::Ready(word);
        }
        self.waker.register(cx.waker());
        // One that came in between has woken nobody.
        take().map_or(Poll::Pending, Poll::Ready)
    }

    /// The connection is gone, and with it every handle that a word may have.
    pub(crate) fn clear(&self) {
        *self.words() = Words::default();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::Bytes;
    use moorline_engine::{Append, MemoryEngine, Retention};
    use moorline_protocol::{channel::Kind, payload::Name, subject::Tenant, time::UnixMillis};

    use super::*;

    fn poll(inbox: &Inbox) -> Option<Word> {
        match inbox.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(word) => Some(word),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_full_inbox_says_that_something_was_missed_and_goes_on() {
        let channels = Channels::new(Arc::new(MemoryEngine::new([1; 32])), None);
        let channel = ChannelId::new(Tenant::default(), Kind::Topic, Name::new("room").expect("a name"));
        let inbox = Arc::default();
        channels.enter(&channel, Handle(1), &inbox);
        let append = async || {
            let entry = Append::new(Bytes::from("x"), UnixMillis(1), Retention::default());
            channels.engine(false).append(&channel, entry).await.expect("there is room");
        };
        append().await;
        assert!(matches!(poll(&inbox), Some(Word::Appended(Handle(1), ..))));
        for _ in 0..10 * WORDS {
            append().await;
        }
        assert!(matches!(poll(&inbox), Some(Word::Missed)));
        append().await;
        assert!(matches!(poll(&inbox), Some(Word::Appended(..))) && poll(&inbox).is_none());
        channels.leave(&channel, Handle(1), &inbox);
        append().await;
        assert!(poll(&inbox).is_none() && !channels.is_followed(&channel));
    }

    /// Whoever opens names that nobody has heard of makes logs of them.
    #[tokio::test]
    async fn empty_channels_that_nobody_follows_are_swept_away() {
        let channels = Channels::new(Arc::new(MemoryEngine::new([1; 32])), None);
        let named = |number: usize| {
            let name = Name::new(&format!("room:{number}")).expect("a name");
            ChannelId::new(Tenant::default(), Kind::Topic, name)
        };
        let inbox = Arc::default();
        channels.enter(&named(700), Handle(1), &inbox);
        for number in 0..1_000 {
            channels.engine(false).bounds(&named(number)).await.expect("it is made by being asked for");
        }
        let entry = Append::new(Bytes::from("x"), now(), Retention::default());
        channels.engine(false).append(&named(300), entry).await.expect("there is room");
        channels.sweep().await;
        let left = channels.engine(false).channels(Kind::Topic, None, None, 10).await.expect("it lists");
        assert_eq!(left, [named(300), named(700)]);
    }
}
