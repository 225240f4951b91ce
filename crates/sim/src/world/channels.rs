//! The server's channels: an engine, what is read of it, and what the sessions hear of it.
//!
//! It does what the server's driver does (`session/channels.rs` and `channels.rs` of the crate `moorline-server`), with
//! time between any two steps.

use std::{
    cell::Cell,
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use moorline_engine::{Answer, Engine, EngineError, Limit, MemoryEngine, Retention, Watcher};
use moorline_protocol::{
    channel::{Beginning, Bounds, ChannelId, Entry, LogEpoch, Page, Position, Snapshot, Want},
    frame::{Handle, Open, Request},
    payload::Payload,
    scope::{Operation, Scopes, Verb},
    server::ChannelWish,
    testing::Inspection,
};

use super::{
    members::Rosters,
    names::{MOST_CHANNELS, id_of, name_of, number_of},
    past::{Disks, Filter},
    *,
};
use crate::script::{ChannelSetting, Disk, Keep};

/// What the engine told.
#[derive(Clone)]
enum Word {
    Appended(LogEpoch, Arc<Entry>),
    Removed,
}

#[derive(Default)]
struct Words(Mutex<Vec<(ChannelId, Word)>>);

impl Words {
    fn put(&self, channel: &ChannelId, word: Word) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((channel.clone(), word));
    }

    fn take(&self) -> Vec<(ChannelId, Word)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Watcher for Words {
    fn appended(&self, channel: &ChannelId, epoch: LogEpoch, entry: &Arc<Entry>) {
        self.put(channel, Word::Appended(epoch, Arc::clone(entry)));
    }

    fn removed(&self, channel: &ChannelId) {
        self.put(channel, Word::Removed);
    }
}

/// A channel that is open on a socket.
#[derive(Clone, Copy)]
pub(super) struct Follower {
    pub(super) client: usize,
    book: usize,
    pub(super) channel: usize,
    filter: Filter,
    /// It has been given what it begins with.
    begun: bool,
    /// The newest entry of what was read for it.
    read_to: Option<Position>,
}

/// What a session is to hear.
#[derive(Default)]
pub(super) struct Inbox {
    words: VecDeque<(Handle, Word)>,
    missed: bool,
    /// Where the members have changed.
    pub(super) members: BTreeSet<Handle>,
    /// It is going to be looked at.
    awaited: bool,
}

/// What the server has in hand.
pub(super) enum Job {
    /// To read for a channel of a socket.
    Read(usize, Handle, Want),
    Page(usize, Handle, Page),
    Snapshot(usize, Handle, Bounds, Option<Arc<Snapshot>>),
    /// To do what a client wants done, in a session; `bool`: it might when it came.
    Write(usize, Box<Request>, bool),
}

/// When a channel was opened, from where, by which of a client's subscriptions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attached {
    pub(super) since: Option<Position>,
    pub(super) order: u64,
}

pub(super) struct Channels {
    pub(super) setting: ChannelSetting,
    pub(super) engine: MemoryEngine,
    words: Arc<Words>,
    pub(super) copy: Option<(MemoryEngine, Disks)>,
    pub(super) copies: u64,
    /// By the server's runs.
    pub(super) disks: Vec<Disks>,
    pub(super) followers: BTreeMap<(usize, Handle), Follower>,
    inboxes: BTreeMap<usize, Inbox>,
    pub(super) rosters: Rosters,
    jobs: BTreeMap<u64, Job>,
    last_job: u64,
    /// The number of the newest entry.
    pub(super) number: u64,
    /// Counts what is appended and what is granted.
    pub(super) order: u64,
    /// What each client may: the bits of the channels, and the scopes that say so.
    pub(super) grants: Vec<(u8, u8, Scopes)>,
    /// When following was taken from a client: who, the channel's bits, the order.
    pub(super) taken: Vec<(usize, u8, u64)>,
    /// By socket and subscription.
    pub(super) attached: BTreeMap<(usize, usize), Attached>,
}

/// A memory engine's answers are there at once.
pub(super) fn now<T>(mut answer: Answer<'_, T>) -> Result<T, EngineError> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => found,
        Poll::Pending => Err(EngineError::Closed),
    }
}

/// What no engine in memory ever fails with.
pub(super) fn failed(error: &EngineError) -> Broken {
    Broken { invariant: "C5", detail: format!("the engine fails: {error}"), at: 0 }
}

pub(super) fn scopes(follow: u8, write: u8) -> Scopes {
    let mut text = String::new();
    for (verb, bits) in [(Verb::TopicSubscribe, follow), (Verb::TopicPublish, write)] {
        match bits {
            0xff => text += &format!("{verb}:room:* "),
            bits => (0..MOST_CHANNELS)
                .filter(|channel| bits >> channel & 1 == 1)
                .for_each(|channel| text += &format!("{verb}:{} ", name_of(channel).as_str())),
        }
    }
    Scopes::from_text(&text).expect("scopes")
}

impl Channels {
    pub(super) fn new(setting: ChannelSetting, seed: u64, clients: usize) -> Self {
        let channels = Self {
            setting,
            engine: MemoryEngine::new(Rng::of(seed, 9, 0).array()),
            words: Arc::default(),
            copy: None,
            copies: 0,
            disks: vec![Disks::default()],
            followers: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            rosters: Rosters::default(),
            jobs: BTreeMap::new(),
            last_job: 0,
            number: 0,
            order: 0,
            grants: vec![(0xff, 0xff, scopes(0xff, 0xff)); clients],
            taken: Vec::new(),
            attached: BTreeMap::new(),
        };
        channels.engine.watch(channels.words.clone());
        channels
    }

    pub(super) fn beginning(&self, history: u64) -> Beginning {
        match self.setting.snapshots {
            true => Beginning::Snapshot,
            false => Beginning::Newest(history as usize),
        }
    }

    pub(super) fn retention(&self) -> Retention {
        match self.setting.keep {
            Keep::All => Retention::ALL,
            Keep::Entries(entries) => Retention { entries, ..Retention::ALL },
            Keep::Bytes(bytes) => Retention { bytes, ..Retention::ALL },
            Keep::Age(age) => Retention { age: Duration::from_millis(age), ..Retention::ALL },
        }
    }

    pub(super) fn bounds(&self, channel: usize) -> Result<Bounds, Broken> {
        now(self.engine.bounds(&id_of(channel))).map_err(|error| failed(&error))
    }

    /// What the server that runs knows.
    pub(super) fn disk(&self) -> &Disks {
        self.disks.last().expect("a server has a run")
    }

    pub(super) fn disk_mut(&mut self) -> &mut Disks {
        self.disks.last_mut().expect("a server has a run")
    }

    /// The log that the channel has is one of those that it had.
    pub(super) fn note_epoch(&mut self, channel: usize) -> Held {
        let epoch = self.bounds(channel)?.epoch;
        let epochs = &mut self.disk_mut().epochs[channel];
        if epochs.last() != Some(&epoch) {
            epochs.push(epoch);
        }
        Ok(())
    }

    /// Whether the client may: as it was granted, and as the protocol decides.
    pub(super) fn may(&self, client: usize, verb: Verb, channel: usize) -> Result<bool, Broken> {
        let (follow, write, scopes) = &self.grants[client];
        let bits = if verb == Verb::TopicSubscribe { follow } else { write };
        let granted = bits >> channel & 1 == 1;
        let decided = scopes.may(None, Operation::new(verb, name_of(channel).as_str()));
        hold!(granted == decided, "C6", "client {client} was granted {granted} to {verb} {channel}: {decided}");
        Ok(granted)
    }

    /// The server starts again.
    pub(super) fn restart(&mut self, disk: Disk, seed: u64) {
        self.followers.clear();
        self.inboxes.clear();
        self.rosters = Rosters::default();
        self.jobs.clear();
        self.words.take();
        self.copies += 1;
        let array = Rng::of(seed, 9, self.copies).array();
        let disks = match (disk, self.copy.take()) {
            (Disk::Same, copy) => {
                self.copy = copy;
                return self.disks.push(self.disks.last().cloned().unwrap_or_default());
            }
            (Disk::Old, Some((engine, disks))) => {
                self.engine = engine;
                disks
            }
            (Disk::Old, None) | (Disk::Empty, _) => {
                self.engine = MemoryEngine::new(array);
                Disks::default()
            }
        };
        self.disks.push(disks);
        self.engine.watch(self.words.clone());
    }

    /// What the session on a socket is to hear.
    pub(super) fn inbox(&mut self, socket: usize) -> &mut Inbox {
        self.inboxes.entry(socket).or_default()
    }

    fn job(&mut self, job: Job) -> u64 {
        self.last_job += 1;
        self.jobs.insert(self.last_job, job);
        self.last_job
    }

    /// Whether a socket has channels open.
    pub(super) fn has_open(&self, socket: usize) -> bool {
        self.followers.range((socket, Handle(0))..(socket + 1, Handle(0))).next().is_some()
    }
}

impl World<'_> {
    pub(super) fn server_channels(&mut self) -> Result<&mut Channels, Broken> {
        let nothing =
            || Broken { invariant: "S12", detail: "a world without channels is asked for one".to_owned(), at: 0 };
        self.channels.as_mut().ok_or_else(nothing)
    }

    pub(super) fn later_job(&mut self, job: Job, most: u64) -> Held {
        let number = self.server_channels()?.job(job);
        let delay = self.rng.below(most + 1);
        self.agenda.at(self.now + delay, Later::Job(number));
        Ok(())
    }

    /// What an endpoint wants of the server's application.
    pub(super) fn wish(&mut self, socket: usize, wish: ChannelWish) -> Held {
        match wish {
            ChannelWish::Open(open) => {
                let Some(instead) = open.instead else { return self.open_channel(socket, &open) };
                let known = self.server_channels()?.followers.get(&(socket, instead));
                let Some(Follower { client, book, channel, .. }) = known.copied() else {
                    let detail = format!("socket {socket} opens instead of {instead:?}, which is not open");
                    return Err(Broken { invariant: "C7", detail, at: 0 });
                };
                let joined = self.joined(book, channel);
                self.open_channel(socket, &open)?;
                let is_open = self.server_channels()?.followers.contains_key(&(socket, open.handle));
                self.forget_channel(socket, instead)?;
                self.counters.add(Counter::FollowedInstead);
                let stays = self.joined(book, channel);
                hold!(
                    !is_open || joined == stays,
                    "C10",
                    "client {client} was in {channel} since {joined:?}: {stays:?}"
                );
                Ok(())
            }
            ChannelWish::Read(handle, want) => {
                let known = self.server_channels()?.followers.get(&(socket, handle)).map(|follower| follower.begun);
                hold!(known.is_some(), "C7", "socket {socket} reads for {handle:?}, which is not open");
                if known == Some(true) && matches!(want, Want::Page { .. }) {
                    self.counters.add(Counter::OutOfTheLog);
                }
                let most = self.server_channels()?.setting.reading;
                self.later_job(Job::Read(socket, handle, want), most)
            }
            ChannelWish::Members(handle, revision) => {
                let channels = self.channels.as_ref().filter(|channels| channels.setting.members);
                let follower = channels.and_then(|channels| channels.followers.get(&(socket, handle)));
                let Some((channels, follower)) = channels.zip(follower) else {
                    return Err(Broken { invariant: "C7", detail: format!("{handle:?} has no members"), at: 0 });
                };
                if let Some(served) = self.endpoints.get_mut(&socket) {
                    served.endpoint.give_members(handle, &channels.rosters.of(follower.channel).since(revision));
                }
                Ok(())
            }
            ChannelWish::Closed(handle) => {
                let was = self.forget_channel(socket, handle)?;
                hold!(was, "C7", "socket {socket} closes {handle:?}, which is not open");
                Ok(())
            }
        }
    }

    /// A channel is not open any more. Gives whether it was.
    pub(super) fn forget_channel(&mut self, socket: usize, handle: Handle) -> Result<bool, Broken> {
        let Some(follower) = self.server_channels()?.followers.remove(&(socket, handle)) else { return Ok(false) };
        self.leave_channel(follower.book, follower.channel, handle)?;
        Ok(true)
    }

    fn open_channel(&mut self, socket: usize, open: &Open) -> Held {
        let client = self.sockets[socket].client;
        let handle = open.handle;
        let asked = open.data.as_ref().and_then(|data| read_data(&data.bytes)).zip(number_of(&open.name));
        let Some(((subscription, without), channel)) = asked else {
            return Err(Broken { invariant: "C7", detail: format!("client {client} opens {open:?}"), at: 0 });
        };
        let following = &self.clients[client].channels.following[subscription];
        if self.clients[client].socket == Some(socket) && self.sockets[socket].client_open && !following.held {
            let seen = following.seen;
            hold!(open.since == seen, "C3", "client {client} has seen {seen:?} and opens with {:?}", open.since);
        }
        let filter = Filter { quiet: open.quiet.then_some(client as u32), without };
        hold!(filter == following.filter, "C7", "client {client} opens with {filter:?}: {following:?}");
        let channels = self.server_channels()?;
        if !channels.may(client, Verb::TopicSubscribe, channel)? {
            self.counters.add(Counter::OpenForbidden);
            if let Some(served) = self.endpoints.get_mut(&socket) {
                served.endpoint.close_channel(handle, Code::FORBIDDEN, "");
            }
            return Ok(());
        }
        channels.order += 1;
        let attached = Attached { since: open.since, order: channels.order };
        let twice = channels.attached.insert((socket, subscription), attached).is_some();
        hold!(!twice, "C7", "client {client} opens subscription {subscription} again: it was told with a hole");
        channels.note_epoch(channel)?;
        let (beginning, members) = (channels.beginning(open.history), channels.setting.members);
        let Some(book) = self.endpoints.get(&socket).and_then(|served| served.book) else {
            return Err(Broken { invariant: "C7", detail: format!("socket {socket} has no session"), at: 0 });
        };
        let follower = Follower { client, book, channel, filter, begun: false, read_to: None };
        self.server_channels()?.followers.insert((socket, handle), follower);
        if let Some(data) = open.data.clone().filter(|_| members) {
            self.enter_channel(book, channel, handle, data)?;
        }
        if let Some(served) = self.endpoints.get_mut(&socket) {
            served.endpoint.attach(handle, beginning, members);
        }
        Ok(())
    }

    /// The server does what it has in hand.
    pub(super) fn do_job(&mut self, number: u64) -> Held {
        let channels = self.server_channels()?;
        // A server that was killed has nothing in hand any more.
        let Some(job) = channels.jobs.remove(&number) else { return Ok(()) };
        match job {
            Job::Read(socket, handle, want) => {
                let most = channels.setting.reading;
                let Some(follower) = channels.followers.get(&(socket, handle)) else { return Ok(()) };
                let id = id_of(follower.channel);
                let found = match want {
                    Want::Page { range, entries, bytes } => {
                        let page = now(channels.engine.read(&id, range, Limit { entries, bytes }));
                        Job::Page(socket, handle, page.map_err(|error| failed(&error))?)
                    }
                    Want::Snapshot => {
                        let found = now(channels.engine.snapshot(&id));
                        let (bounds, snapshot) = found.map_err(|error| failed(&error))?;
                        Job::Snapshot(socket, handle, bounds, snapshot)
                    }
                };
                self.later_job(found, most)
            }
            Job::Page(socket, handle, page) => {
                let Some(follower) = channels.followers.get_mut(&(socket, handle)) else { return Ok(()) };
                follower.begun |= page.gap.is_none();
                let newest = page.entries.last().map(|entry| Position { epoch: page.bounds.epoch, mark: entry.mark });
                follower.read_to = newest.or(follower.read_to);
                let filter = follower.filter;
                let left_out = Cell::new(0);
                if let Some(served) = self.endpoints.get_mut(&socket) {
                    served.endpoint.give_page(handle, page, |entry, past| {
                        let shows = is_for(filter, entry, past);
                        left_out.set(left_out.get() + usize::from(!shows));
                        shows
                    });
                }
                self.count_left_out(filter, left_out.get());
                self.turn_server(socket)
            }
            Job::Snapshot(socket, handle, bounds, snapshot) => {
                if let Some(served) = self.endpoints.get_mut(&socket) {
                    served.endpoint.give_snapshot(handle, bounds, snapshot);
                }
                self.turn_server(socket)
            }
            Job::Write(book, write, might) => self.apply(book, *write, might),
        }
    }

    /// A channel waits in the log and not in memory, and none is left open without a connection.
    pub(super) fn check_channels(&self, socket: usize, inspection: &Inspection, served: &Served) -> Held {
        let Some(channels) = &self.channels else { return Ok(()) };
        let (entries, bytes) = inspection.channel_waiting;
        // A page, or a beginning, and what came while it was read; the largest entry may stand out of each. A snapshot
        // is as large as it is.
        let most = if channels.setting.snapshots { usize::MAX } else { 2 * 256 * 1024 };
        hold!(entries <= 256 + 64 + 2 && bytes <= most, "C9", "{entries} entries of {bytes} bytes wait in one channel");
        let updates = inspection.update_bytes;
        let most = if channels.setting.snapshots { usize::MAX } else { 2 * 65_536 + 150_000 };
        hold!(updates <= most, "C9", "{updates} bytes wait for a record");
        let gone = served.endpoint.is_parked() || served.endpoint.is_closed();
        hold!(!gone || !channels.has_open(socket), "C7", "socket {socket} is gone and has channels open");
        served.book.map_or(Ok(()), |book| self.check_members(socket, book))
    }

    fn count_left_out(&mut self, filter: Filter, count: usize) {
        let own = filter.quiet.is_some() && filter.without.is_none();
        let counter = if own { Counter::OwnLeftOut } else { Counter::LeftOut };
        (0..count).for_each(|_| self.counters.add(counter));
    }

    /// The sessions are going to hear of what the engine has told.
    pub(super) fn pass_on(&mut self) -> Held {
        let Some(channels) = &mut self.channels else { return Ok(()) };
        let ChannelSetting { inbox: most, lossy, .. } = channels.setting;
        let mut awaited = BTreeSet::new();
        for (id, word) in channels.words.take() {
            for ((socket, handle), follower) in &channels.followers {
                if number_of(&id.name) != Some(follower.channel) {
                    continue;
                }
                if !follower.begun && matches!(word, Word::Appended(..)) {
                    self.counters.add(Counter::Racing);
                }
                if lossy && matches!(word, Word::Appended(..)) && self.rng.percent(10) {
                    self.counters.add(Counter::WordLost);
                    continue;
                }
                let inbox = channels.inboxes.entry(*socket).or_default();
                if inbox.words.len() >= most {
                    inbox.words.clear();
                    inbox.missed = true;
                    self.counters.add(Counter::InboxFull);
                } else if !inbox.missed {
                    inbox.words.push_back((*handle, word.clone()));
                }
                awaited.insert(*socket);
            }
        }
        awaited.into_iter().try_for_each(|socket| self.await_inbox(socket))
    }

    /// The session on a socket is going to look at what it is to hear.
    pub(super) fn await_inbox(&mut self, socket: usize) -> Held {
        let channels = self.server_channels()?;
        let hearing = channels.setting.hearing;
        if !std::mem::replace(&mut channels.inbox(socket).awaited, true) {
            let delay = self.rng.below(hearing + 1);
            self.agenda.at(self.now + delay, Later::Hear(socket));
        }
        Ok(())
    }

    /// A session takes out what waits for it.
    pub(super) fn hear_words(&mut self, socket: usize) -> Held {
        let channels = self.server_channels()?;
        let Some(inbox) = channels.inboxes.remove(&socket) else { return Ok(()) };
        let Some(served) = self.endpoints.get_mut(&socket) else { return Ok(()) };
        let Some(channels) = &mut self.channels else { return Ok(()) };
        if inbox.missed {
            let open = channels.followers.range((socket, Handle(0))..(socket + 1, Handle(0)));
            open.for_each(|((_, handle), _)| served.endpoint.look_again(*handle));
        }
        let (mut left_out, mut resent) = (Vec::new(), 0);
        for (handle, word) in inbox.words {
            let Some(follower) = channels.followers.get(&(socket, handle)) else { continue };
            match word {
                Word::Appended(epoch, entry) => {
                    let shows = is_for(follower.filter, &entry, false);
                    if !shows {
                        left_out.push(follower.filter);
                    }
                    let read = follower.read_to.filter(|read| read.epoch == epoch);
                    resent += usize::from(read.is_some_and(|read| read.mark.offset >= entry.mark.offset));
                    served.endpoint.tell_entry(handle, epoch, &entry, shows);
                }
                Word::Removed => served.endpoint.look_again(handle),
            }
        }
        for handle in inbox.members.into_iter().filter(|handle| channels.followers.contains_key(&(socket, *handle))) {
            served.endpoint.members_changed(handle);
        }
        left_out.into_iter().for_each(|filter| self.count_left_out(filter, 1));
        (0..resent).for_each(|_| self.counters.add(Counter::Resent));
        self.turn_server(socket)
    }

    /// Every session is told where its channels end by now, as from time to time where words may be lost.
    pub(super) fn tell_ends(&mut self) -> Held {
        self.agenda.at(self.now + 5_000, Later::TellEnds);
        let channels = self.server_channels()?;
        let mut ends = Vec::new();
        for ((socket, handle), follower) in &channels.followers {
            ends.push((*socket, *handle, channels.bounds(follower.channel)?.end()));
        }
        for (socket, handle, end) in ends {
            if let Some(served) = self.endpoints.get_mut(&socket) {
                served.endpoint.tell_end(handle, end);
                self.turn_server(socket)?;
            }
        }
        Ok(())
    }
}

fn is_for(filter: Filter, entry: &Entry, past: bool) -> bool {
    let filter = if past { Filter { quiet: None, ..filter } } else { filter };
    // Its own head, whatever else is in it.
    Head::peek(&entry.content).is_some_and(|head| filter.shows(head.number, head.work))
}

/// What a client says for itself: which of its subscriptions it is, and what it leaves out.
pub(super) fn data(subscription: usize, without: Option<u64>) -> Payload {
    let without = without.map_or(u8::MAX, |without| without as u8);
    Payload::bytes(vec![subscription as u8, (subscription >> 8) as u8, without])
}

fn read_data(data: &[u8]) -> Option<(usize, Option<u64>)> {
    let [low, high, without] = *data else { return None };
    let without = (without != u8::MAX).then_some(u64::from(without));
    Some((usize::from(low) | usize::from(high) << 8, without))
}
