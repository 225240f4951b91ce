//! Who follows which channel on this node, and the engines that have the channels.
//!
//! What a session has open is its task's business (`session/channels.rs`). The way from an engine to it is short and
//! bounded: a new entry is put into the inbox of each session that follows its channel, and a session that is too slow
//! to take them out finds what it has not heard of in the log.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use moorline_engine::{Engine, EngineError, Watcher};
use moorline_protocol::{
    channel::{Changes, ChannelId, Entry, LogEpoch, Member, MemberId, Presence, Roster, RosterFull},
    code::Code,
    frame::{Failure, Handle},
    payload::Payload,
    time::UnixMillis,
};
use tokio::time::Instant;

use crate::{clock::now, limits::Lines, peer::Peer};

/// Words of entries that wait in the inbox of one session.
const WORDS: usize = 256;

/// Lines of the log about engines that fail, a second.
const FAILURES: usize = 20;

/// The channels of a server.
pub(crate) struct Channels {
    /// For what need not outlive the process.
    memory: Arc<dyn Engine>,
    /// For what is kept.
    durable: Option<Arc<dyn Engine>>,
    /// Most channels of one kind that a tenant has of those; `None` for any number.
    most_kept: Option<u64>,
    followers: Arc<Followers>,
    /// Largest message that clients take, in bytes.
    max_message: usize,
    failures: Lines,
}

impl Channels {
    pub(crate) fn new(
        memory: Arc<dyn Engine>,
        durable: Option<Arc<dyn Engine>>,
        max_message: usize,
        most_kept: Option<u64>,
    ) -> Self {
        let followers = Arc::<Followers>::default();
        for engine in [Some(&memory), durable.as_ref()].into_iter().flatten() {
            engine.watch(followers.clone());
        }
        let failures = Lines::new(FAILURES, Duration::from_secs(1), Instant::now());
        Self { memory, durable, most_kept, followers, max_message, failures }
    }

    /// How many channels of a kind a tenant may have, of those that are kept. Others are gone when they are two minutes old.
    pub(crate) fn most(&self, durable: bool) -> Option<u64> {
        self.most_kept.filter(|_| durable)
    }

    /// The engine that has channels which are kept, or which are not. Without one of its own what is to be kept is kept
    /// as long as the process.
    pub(crate) fn engine(&self, durable: bool) -> &Arc<dyn Engine> {
        self.durable.as_ref().filter(|_| durable).unwrap_or(&self.memory)
    }

    /// Whether something that this server writes is small enough for its clients: one that cannot take an entry would not
    /// be told of its channel any more.
    ///
    /// # Errors
    /// `too_large`.
    pub(crate) fn check_size(&self, payload: &Payload) -> Result<(), Failure> {
        if payload.bytes.len() > self.max_message { Err(Failure::of(Code::TOO_LARGE)) } else { Ok(()) }
    }

    /// What a client is told when an engine fails. The log has the rest, a few times a second: who asks again and again
    /// must not fill what is left of a disk.
    pub(crate) fn failure(&self, channel: &ChannelId, error: &EngineError) -> Failure {
        if matches!(error, EngineError::TooManyChannels) {
            return Failure::of(Code::TOO_MANY_NAMES);
        }
        if let Some(left_out) = self.failures.next(Instant::now()) {
            let (kind, channel) = (channel.kind.name(), channel.name.as_str());
            tracing::error!(channel, kind, %error, left_out, "the engine failed");
        }
        Failure::of(if matches!(error, EngineError::Full) { Code::STORAGE_FULL } else { Code::INTERNAL })
    }

    /// Tells a session of a channel from now on.
    pub(crate) fn enter(&self, channel: &ChannelId, follower: Follower) {
        self.followers.by_channel().entry(channel.clone()).or_default().followers.push(follower);
    }

    /// Tells this inbox no longer.
    pub(crate) fn leave(&self, channel: &ChannelId, handle: Handle, inbox: &Arc<Inbox>) {
        self.followers.change(channel, |following| {
            following.followers.retain(|follower| follower.handle != handle || !Arc::ptr_eq(&follower.inbox, inbox));
        });
    }

    /// Makes a session a member, or changes what it says for itself. Whoever watches the members is told.
    pub(crate) fn join(&self, channel: &ChannelId, member: Member, peer: &Peer) -> Result<(), RosterFull> {
        let mut by_channel = self.followers.by_channel();
        let following = by_channel.entry(channel.clone()).or_default();
        let (id, before) = (member.id, following.roster.revision());
        following.roster.enter(member)?;
        following.members.insert(id, peer.clone());
        if following.roster.revision() != before {
            following.tell_members();
        }
        Ok(())
    }

    /// Changes a member; `false` when it is none.
    pub(crate) fn change(&self, channel: &ChannelId, id: MemberId, change: impl FnOnce(&mut Member)) -> bool {
        let mut by_channel = self.followers.by_channel();
        let Some(following) = by_channel.get_mut(channel) else { return false };
        let before = following.roster.revision();
        let is_member = following.roster.change(id, change);
        if following.roster.revision() != before {
            following.tell_members();
        }
        is_member
    }

    /// The client of a member is not connected.
    pub(crate) fn away(&self, channel: &ChannelId, id: MemberId) {
        self.change(channel, id, |member| {
            if member.presence == Presence::Here {
                member.presence = Presence::Away(now());
            }
        });
    }

    /// Takes a member out.
    pub(crate) fn part(&self, channel: &ChannelId, id: MemberId) {
        self.followers.change(channel, |following| {
            following.members.remove(&id);
            if following.roster.leave(id) {
                following.tell_members();
            }
        });
    }

    /// What has changed of the members since a revision.
    pub(crate) fn members_since(&self, channel: &ChannelId, revision: u64) -> Changes {
        self.followers
            .by_channel()
            .get(channel)
            .map_or_else(|| Roster::default().since(0), |following| following.roster.since(revision))
    }

    /// Who is in a channel.
    pub(crate) fn members(&self, channel: &ChannelId) -> Vec<Arc<Member>> {
        let by_channel = self.followers.by_channel();
        by_channel.get(channel).into_iter().flat_map(|following| following.roster.members().cloned()).collect()
    }

    /// The session of this name, if it is a member or follows the channel.
    pub(crate) fn find(&self, channel: &ChannelId, id: MemberId) -> Option<Peer> {
        let by_channel = self.followers.by_channel();
        let following = by_channel.get(channel)?;
        let follower = || following.followers.iter().find(|follower| follower.member == id).map(|found| &found.peer);
        following.members.get(&id).or_else(follower).cloned()
    }

    /// Says something to whoever follows a channel at this moment.
    pub(crate) fn tell_volatile(&self, channel: &ChannelId, content: &Bytes) {
        let at = now();
        for follower in self.followers.by_channel().get(channel).into_iter().flat_map(|all| &all.followers) {
            follower.inbox.put_volatile(Word::Volatile(follower.handle, at, content.clone()));
        }
    }

    /// Drops what is too old, and channels that are of no use to anybody.
    pub(crate) async fn sweep(&self) {
        for engine in [Some(&self.memory), self.durable.as_ref()].into_iter().flatten() {
            let followers = self.followers.clone();
            let is_open = Arc::new(move |channel: &ChannelId| followers.by_channel().contains_key(channel));
            if let Err(error) = engine.sweep(now(), is_open).await {
                tracing::error!(%error, "what is too old could not be dropped");
            }
        }
    }

    /// Whether anybody on this node follows it, or is in it.
    #[cfg(test)]
    pub(crate) fn is_followed(&self, channel: &ChannelId) -> bool {
        self.followers.by_channel().contains_key(channel)
    }
}

#[derive(Default)]
struct Followers(Mutex<HashMap<ChannelId, Following>>);

/// Who follows a channel, and who is in it. It stays while there is anybody of either, so that revisions of the members
/// ascend for whoever was told of one.
#[derive(Default)]
struct Following {
    followers: Vec<Follower>,
    roster: Roster,
    /// The sessions of those in the roster.
    members: HashMap<MemberId, Peer>,
}

/// A session that follows a channel.
pub(crate) struct Follower {
    pub(crate) handle: Handle,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) member: MemberId,
    pub(crate) peer: Peer,
    /// Whether it wants to know who is in it.
    pub(crate) watches: bool,
}

impl Following {
    fn is_idle(&self) -> bool {
        self.followers.is_empty() && self.roster.is_empty()
    }

    fn tell_members(&self) {
        for follower in self.followers.iter().filter(|follower| follower.watches) {
            follower.inbox.put_members(follower.handle);
        }
    }
}

impl Followers {
    fn by_channel(&self) -> MutexGuard<'_, HashMap<ChannelId, Following>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what there is of a channel, and forgets it when nobody is left, be he a follower or a member.
    fn change(&self, channel: &ChannelId, change: impl FnOnce(&mut Following)) {
        let mut by_channel = self.by_channel();
        let Some(following) = by_channel.get_mut(channel) else { return };
        change(following);
        if following.is_idle() {
            by_channel.remove(channel);
        }
    }
}

impl Watcher for Followers {
    fn appended(&self, channel: &ChannelId, epoch: LogEpoch, entry: &Arc<Entry>) {
        for follower in self.by_channel().get(channel).into_iter().flat_map(|all| &all.followers) {
            follower.inbox.put(Word::Appended(follower.handle, epoch, entry.clone()));
        }
    }

    fn removed(&self, channel: &ChannelId) {
        for follower in self.by_channel().get(channel).into_iter().flat_map(|all| &all.followers) {
            follower.inbox.put(Word::Removed(follower.handle));
        }
    }
}

/// What a session hears of the channels that it follows.
pub(crate) enum Word {
    Appended(Handle, LogEpoch, Arc<Entry>),
    Removed(Handle),
    /// Something that is kept nowhere.
    Volatile(Handle, UnixMillis, Bytes),
    /// Who is in it has changed.
    Members(Handle),
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
    /// Those whose members have changed: each once, however often they do.
    members: BTreeSet<Handle>,
}

impl Inbox {
    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, word: Word) {
        let mut words = self.words();
        if words.waiting.len() >= WORDS {
            // Each of its channels is going to be read, so what is here already is of no use either.
            words.waiting.clear();
            words.missed = true;
        } else if !words.missed {
            words.waiting.push_back(word);
        }
        drop(words);
        self.waker.wake();
    }

    /// It is dropped where an entry would be missed.
    fn put_volatile(&self, word: Word) {
        let mut words = self.words();
        if words.waiting.len() >= WORDS / 2 {
            return;
        }
        words.waiting.push_back(word);
        drop(words);
        self.waker.wake();
    }

    fn put_members(&self, handle: Handle) {
        self.words().members.insert(handle);
        self.waker.wake();
    }

    /// The next word.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Word> {
        let take = || {
            let mut words = self.words();
            match std::mem::take(&mut words.missed) {
                true => Some(Word::Missed),
                false => words.waiting.pop_front().or_else(|| words.members.pop_first().map(Word::Members)),
            }
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
pub(crate) mod tests {
    use std::task::Waker;

    use moorline_engine::{Append, MemoryEngine, Retention};
    use moorline_protocol::{channel::Kind, payload::Name, subject::Tenant};

    use super::*;

    /// Channels of a server that keeps nothing.
    pub(crate) fn in_memory() -> Channels {
        Channels::new(Arc::new(MemoryEngine::new([1; 32])), None, 1024, None)
    }

    fn poll(inbox: &Inbox) -> Option<Word> {
        match inbox.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(word) => Some(word),
            Poll::Pending => None,
        }
    }

    fn follower(inbox: &Arc<Inbox>) -> Follower {
        let peer = crate::peers::tests::peer();
        let (handle, inbox, member) = (Handle(1), inbox.clone(), MemberId::of(&peer.id()));
        Follower { handle, inbox, member, peer, watches: true }
    }

    #[tokio::test]
    async fn a_full_inbox_says_that_something_was_missed_and_goes_on() {
        let channels = in_memory();
        let channel = ChannelId::new(Tenant::default(), Kind::Topic, Name::new("room").expect("a name"));
        let inbox = Arc::default();
        channels.enter(&channel, follower(&inbox));
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

    /// So it was on the disk, where nobody swept; and when somebody did, of more than a hundred thousand names the others
    /// stayed, and all of them over a restart.
    #[tokio::test]
    async fn regression_a_hundred_thousand_names_leave_nothing_on_the_disk() {
        let directory = tempfile::tempdir().expect("a directory");
        let engine =
            moorline_engine::SqliteEngine::open(&directory.path().join("c.sqlite"), [1; 32]).expect("it opens");
        let channels = Channels::new(Arc::new(MemoryEngine::new([1; 32])), Some(Arc::new(engine)), 1024, None);
        let inbox = Arc::default();
        let named = |number: usize| {
            let name = Name::new(&format!("notes/{number}")).expect("a name");
            ChannelId::new(Tenant::default(), Kind::Store, name)
        };
        let durable = channels.engine(true).clone();
        let names: Vec<_> = (0..100_000).map(named).collect();
        for some in names.chunks(500) {
            futures_util::future::join_all(some.iter().map(|channel| durable.bounds(channel))).await;
        }
        let entry = Append::new(Bytes::from("x"), now(), Retention::ALL);
        durable.append(&named(7), entry).await.expect("there is room");
        channels.enter(&named(8), follower(&inbox));
        channels.sweep().await;
        let stay = durable.channels(Kind::Store, None, None, 10).await.expect("it lists");
        assert_eq!(stay, [named(7), named(8)]);
    }

    #[tokio::test]
    async fn who_asks_again_and_again_where_an_engine_fails_does_not_fill_the_log() {
        let channels = in_memory();
        let room = ChannelId::new(Tenant::default(), Kind::Topic, Name::new("room").expect("a name"));
        for (error, code) in [(EngineError::Full, Code::STORAGE_FULL), (EngineError::Closed, Code::INTERNAL)] {
            for _ in 0..1_000 {
                assert_eq!(channels.failure(&room, &error), Failure::of(code));
            }
        }
        assert_eq!(channels.failures.next(Instant::now()), None, "no line more");
        assert!(
            channels.failures.next(Instant::now() + Duration::from_secs(1)).is_some_and(|left_out| left_out > 1_900)
        );
    }

    fn member(number: u8, data: &str) -> Member {
        Member {
            id: MemberId([number; 8]),
            subject: "ann".to_owned(),
            presence: Presence::Here,
            joined: UnixMillis(1),
            data: Payload::json(data.to_owned()),
        }
    }

    #[tokio::test]
    async fn who_watches_the_members_hears_once_of_many_changes_and_who_comes_again_of_all() {
        let channels = in_memory();
        let room = ChannelId::new(Tenant::default(), Kind::Topic, Name::new("room").expect("a name"));
        let inbox = Arc::default();
        let peer = crate::peers::tests::peer();
        channels.enter(&room, follower(&inbox));
        for number in 0..100 {
            channels.join(&room, member(1, &number.to_string()), &peer).expect("there is room");
        }
        channels.away(&room, MemberId([1; 8]));
        assert!(matches!(poll(&inbox), Some(Word::Members(Handle(1)))) && poll(&inbox).is_none());
        let told = channels.members_since(&room, 0);
        assert!(told.whole && told.changes.len() == 1);
        assert!(matches!(channels.members(&room)[0].presence, Presence::Away(_)));
        // Nothing has changed: nobody is told.
        assert!(channels.change(&room, MemberId([1; 8]), |_| {}) && poll(&inbox).is_none());
        channels.part(&room, MemberId([1; 8]));
        assert!(matches!(poll(&inbox), Some(Word::Members(_))));
        assert_eq!(channels.members_since(&room, told.revision).changes.len(), 1);
        channels.leave(&room, Handle(1), &inbox);
        assert!(!channels.is_followed(&room), "nobody is left");
    }

    #[tokio::test]
    async fn a_full_channel_takes_no_more_members_and_leaves_nothing_of_who_was_refused() {
        let channels = in_memory();
        let room = ChannelId::new(Tenant::default(), Kind::Topic, Name::new("room").expect("a name"));
        let peer = crate::peers::tests::peer();
        let numbered = |number: u64| Member { id: MemberId(number.to_be_bytes()), ..member(1, "{}") };
        for number in 1..=moorline_protocol::channel::MAX_MEMBERS as u64 {
            channels.join(&room, numbered(number), &peer).expect("there is room");
        }
        assert_eq!(channels.join(&room, numbered(9_999), &peer), Err(RosterFull));
        assert!(channels.find(&room, numbered(9_999).id).is_none() && channels.find(&room, numbered(7).id).is_some());
    }

    #[tokio::test]
    async fn what_is_volatile_is_dropped_before_an_entry_is_missed() {
        let channels = in_memory();
        let room = ChannelId::new(Tenant::default(), Kind::Topic, Name::new("room").expect("a name"));
        let inbox = Arc::default();
        channels.enter(&room, follower(&inbox));
        for _ in 0..10 * WORDS {
            channels.tell_volatile(&room, &Bytes::from("x"));
        }
        let entry = Append::new(Bytes::from("x"), UnixMillis(1), Retention::default());
        channels.engine(false).append(&room, entry).await.expect("there is room");
        let words: Vec<_> = std::iter::from_fn(|| poll(&inbox)).collect();
        assert_eq!(words.len(), WORDS / 2 + 1);
        assert!(matches!(words.last(), Some(Word::Appended(..))));
    }

    /// Whoever opens names that nobody has heard of makes logs of them.
    #[tokio::test]
    async fn empty_channels_that_nobody_follows_are_swept_away() {
        let channels = in_memory();
        let named = |number: usize| {
            let name = Name::new(&format!("room:{number}")).expect("a name");
            ChannelId::new(Tenant::default(), Kind::Topic, name)
        };
        let inbox = Arc::default();
        channels.enter(&named(700), follower(&inbox));
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
