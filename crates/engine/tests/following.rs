//! Who follows a channel misses nothing that it is not told it has missed, whatever happens: cuts, words that are lost,
//! slowness, restarts with the disk as it was once or with none, history that is dropped, snapshots, channels made anew.
//!
//! A seed decides everything. `FOLLOWING_SEEDS` runs more of them, `FOLLOWING_SEED` one.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use moorline_engine::{Answer, Append, Engine, Limit, MemoryEngine, Removal, Retention};
use moorline_protocol::{
    channel::{
        Attachment, Beginning, Bounds, ChannelId, Entry, Gap, Kind, LogEpoch, Mark, Opened, Page, Position, Replica,
        Snapshot, Start, Told, Want,
    },
    entropy::Entropy,
    payload::Name,
    subject::Tenant,
    time::UnixMillis,
};

const SEEDS: u64 = 1_000;
const STEPS: usize = 400;
const NOW: UnixMillis = UnixMillis(1);

/// What can happen and must be seen to happen.
type Counters = BTreeMap<&'static str, u64>;

/// Every entry that a log ever had, in its order.
type Timeline = Vec<(Mark, u64)>;

/// What the engine told its watchers of.
enum Word {
    Appended(LogEpoch, Arc<Entry>),
    Removed,
}

#[derive(Default)]
struct Words(Mutex<Vec<Word>>);

impl moorline_engine::Watcher for Words {
    fn appended(&self, _: &ChannelId, epoch: LogEpoch, entry: &Arc<Entry>) {
        self.0.lock().unwrap().push(Word::Appended(epoch, Arc::clone(entry)));
    }

    fn removed(&self, _: &ChannelId) {
        self.0.lock().unwrap().push(Word::Removed);
    }
}

/// What was read for an attachment, and has not got there yet.
enum Found {
    Page(Page),
    Snapshot(Bounds, Option<Arc<Snapshot>>),
}

struct Subscriber {
    number: u64,
    beginning: Beginning,
    replica: Replica,
    /// None while there is no connection.
    attachment: Option<Attachment>,
    /// What the hub has to tell it.
    words: VecDeque<(LogEpoch, Arc<Entry>)>,
    found: Option<Found>,
    wire: VecDeque<Told>,
    /// What it has of the channel, by what it was told.
    state: Vec<u64>,
    /// Where it stands in the present timeline, for the checks.
    stands: Option<Position>,
    /// What it had seen when it opened the channel.
    since: Option<Position>,
    opened: bool,
}

struct World {
    entropy: Entropy,
    engine: MemoryEngine,
    words: Arc<Words>,
    channel: ChannelId,
    retention: Retention,
    /// The log's past, by its epoch. What a disk lost is not in it any more.
    timelines: BTreeMap<LogEpoch, Timeline>,
    backup: Option<(MemoryEngine, BTreeMap<LogEpoch, Timeline>)>,
    subscribers: Vec<Subscriber>,
    next: u64,
    with_snapshots: bool,
}

/// A memory engine's answers are there at once.
fn now<T>(mut answer: Answer<'_, T>) -> T {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => found.unwrap_or_else(|error| panic!("{error}")),
        Poll::Pending => panic!("a memory engine waits"),
    }
}

fn number_in(entry: &Entry) -> u64 {
    u64::from_le_bytes(entry.content[..8].try_into().unwrap())
}

impl Subscriber {
    /// What this one may see: everything with snapshots; else each leaves out its own.
    fn filter(&self) -> impl Fn(u64) -> bool + 'static {
        let (everything, number) = (self.beginning == Beginning::Snapshot, self.number);
        move |entry| everything || entry % 5 != number
    }

    fn cut(&mut self) {
        self.attachment = None;
        self.found = None;
        self.words.clear();
        self.wire.clear();
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut entropy = Entropy::new([&seed.to_le_bytes()[..], &[0; 24]].concat().try_into().unwrap());
        let with_snapshots = entropy.up_to(1) == 0;
        let retention = match entropy.up_to(3) {
            _ if with_snapshots => Retention::ALL,
            0 => Retention { entries: 1 + entropy.up_to(20), ..Retention::ALL },
            1 => Retention { bytes: 1 + entropy.up_to(40_000), ..Retention::ALL },
            _ => Retention::ALL,
        };
        let subscribers = (0..=entropy.up_to(3)).map(|number| {
            let history = [0, 1, 5, 300][entropy.up_to(3) as usize];
            let beginning = if with_snapshots { Beginning::Snapshot } else { Beginning::Newest(history) };
            Subscriber {
                number,
                beginning,
                replica: Replica::default(),
                attachment: None,
                words: VecDeque::new(),
                found: None,
                wire: VecDeque::new(),
                state: Vec::new(),
                stands: None,
                since: None,
                opened: false,
            }
        });
        let subscribers = subscribers.collect();
        let engine = MemoryEngine::new(entropy.array());
        let channel = ChannelId::new(Tenant::default(), Kind::Topic, Name::new("c").unwrap());
        let mut world = Self {
            entropy,
            engine,
            words: Arc::default(),
            channel,
            retention,
            timelines: BTreeMap::new(),
            backup: None,
            subscribers,
            next: 1,
            with_snapshots,
        };
        world.start();
        world
    }

    /// The engine is a new one.
    fn start(&mut self) {
        self.words = Arc::default();
        self.engine.watch(Arc::clone(&self.words) as _);
        self.subscribers.iter_mut().for_each(Subscriber::cut);
    }

    fn timeline(&self) -> (Position, &[(Mark, u64)]) {
        let bounds = now(self.engine.bounds(&self.channel));
        (bounds.end(), self.timelines.get(&bounds.epoch).map_or(&[], |timeline| timeline))
    }

    fn append(&mut self) {
        // Some are large, so that pages end by their bytes.
        let large = if self.entropy.up_to(9) == 0 { 40_000 } else { 100 };
        let size = 8 + self.entropy.up_to(large) as usize;
        let mut content = vec![0; size];
        content[..8].copy_from_slice(&self.next.to_le_bytes());
        let append = Append::new(Bytes::from(content), NOW, self.retention);
        let Position { epoch, mark } = now(self.engine.append(&self.channel, append)).position;
        self.timelines.entry(epoch).or_default().push((mark, self.next));
        self.next += 1;
    }

    /// Passes on what the engine has told; each subscriber hears of it later, or never.
    fn pass_on(&mut self, faults: bool) {
        for word in std::mem::take(&mut *self.words.0.lock().unwrap()) {
            for subscriber in &mut self.subscribers {
                let Some(attachment) = &mut subscriber.attachment else { continue };
                match &word {
                    Word::Appended(..) if faults && self.entropy.up_to(9) == 0 => {}
                    Word::Appended(epoch, entry) => subscriber.words.push_back((*epoch, Arc::clone(entry))),
                    Word::Removed => attachment.look_again(),
                }
            }
        }
    }

    fn step(&mut self, counters: &mut Counters) {
        let who = self.entropy.up_to(self.subscribers.len() as u64 - 1) as usize;
        match self.entropy.up_to(99) {
            0..=24 => self.append(),
            25 => (0..self.entropy.up_to(150)).for_each(|_| self.append()),
            26..=28 => {
                self.subscribers[who].cut();
                *counters.entry("cut").or_default() += 1;
            }
            29 if self.with_snapshots => self.keep_snapshot(counters),
            30 if self.entropy.up_to(9) == 0 => {
                now(self.engine.remove(&self.channel, Removal::Always));
                *counters.entry("removed").or_default() += 1;
            }
            31 if self.entropy.up_to(1) == 0 => {
                self.backup = Some((self.engine.copy(self.entropy.array()), self.timelines.clone()));
            }
            32 if self.entropy.up_to(4) == 0 => match self.backup.take() {
                Some((engine, timelines)) => {
                    (self.engine, self.timelines) = (engine, timelines);
                    self.start();
                    *counters.entry("old disk").or_default() += 1;
                }
                None => {
                    (self.engine, self.timelines) = (MemoryEngine::new(self.entropy.array()), BTreeMap::new());
                    self.start();
                    *counters.entry("empty disk").or_default() += 1;
                }
            },
            _ => self.work(who, counters),
        }
        self.pass_on(true);
    }

    fn keep_snapshot(&mut self, counters: &mut Counters) {
        let (end, timeline) = self.timeline();
        let Some(at) = timeline.len().checked_sub(1) else { return };
        let upto = self.entropy.up_to(at as u64) as usize;
        let (_, timeline) = self.timeline();
        let numbers: Vec<u8> = timeline[..=upto].iter().flat_map(|(_, number)| number.to_le_bytes()).collect();
        let covers = Position { epoch: end.epoch, mark: timeline[upto].0 };
        let snapshot = Snapshot { covers, at: NOW, content: Bytes::from(numbers) };
        let mut answer = self.engine.keep_snapshot(&self.channel, snapshot);
        if let Poll::Ready(Ok(())) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            *counters.entry("snapshot kept").or_default() += 1;
        }
    }

    /// One of the things that go on between a server and one of its subscribers.
    fn work(&mut self, who: usize, counters: &mut Counters) {
        let choice = self.entropy.up_to(5);
        let subscriber = &mut self.subscribers[who];
        let is_for = subscriber.filter();
        let Some(attachment) = &mut subscriber.attachment else {
            // Whoever comes back hears of what is appended from now on, and not of what the hub still has to tell.
            self.pass_on(false);
            let subscriber = &mut self.subscribers[who];
            subscriber.since = subscriber.replica.open();
            subscriber.attachment = Some(Attachment::new(subscriber.since, subscriber.beginning));
            subscriber.opened = false;
            return;
        };
        match choice {
            0 => {
                if let Some((epoch, entry)) = subscriber.words.pop_front() {
                    attachment.handle_entry(epoch, &entry, is_for(number_in(&entry)));
                }
            }
            1 => match subscriber.found.take() {
                Some(Found::Page(page)) => {
                    attachment.handle_page(page, |entry| is_for(number_in(entry)));
                }
                Some(Found::Snapshot(bounds, snapshot)) => attachment.handle_snapshot(bounds, snapshot),
                None => {}
            },
            2 => match attachment.poll_want() {
                Some(Want::Page { range, entries, bytes }) => {
                    let page = now(self.engine.read(&self.channel, range, Limit { entries, bytes }));
                    subscriber.found = Some(Found::Page(page));
                    *counters.entry("page read").or_default() += 1;
                }
                Some(Want::Snapshot) => {
                    let (bounds, snapshot) = now(self.engine.snapshot(&self.channel));
                    subscriber.found = Some(Found::Snapshot(bounds, snapshot));
                }
                None => {}
            },
            3 if subscriber.wire.len() < 4 => subscriber.wire.extend(attachment.poll_told()),
            _ => {
                if let Some(told) = subscriber.wire.pop_front() {
                    self.hear(who, &told, counters);
                }
            }
        }
        let subscriber = &self.subscribers[who];
        if let Some(attachment) = &subscriber.attachment {
            let (entries, bytes) = attachment.waiting();
            // A page, or a beginning, and what came while it was read; the largest entry may stand out of each.
            assert!(entries <= 256 + 64 + 2 && (subscriber.beginning == Beginning::Snapshot || bytes <= 500_000));
        }
    }

    fn hear(&mut self, who: usize, told: &Told, counters: &mut Counters) {
        let subscriber = &mut self.subscribers[who];
        match told {
            Told::Opened(opened) => {
                subscriber.replica.handle_opened(opened).unwrap();
                let Opened { start, .. } = *opened;
                let name = match start {
                    Start::New => "new",
                    Start::Recovered => "recovered",
                    Start::Gap(Gap::Recreated) => "gap: recreated",
                    Start::Gap(Gap::Diverged) => "gap: diverged",
                    Start::Gap(Gap::Trimmed) => "gap: trimmed",
                };
                *counters.entry(name).or_default() += 1;
                if subscriber.opened {
                    *counters.entry("began anew on one connection").or_default() += 1;
                    assert!(matches!(start, Start::Gap(_)), "an attachment begins anew only after a gap");
                }
                subscriber.opened = true;
                match start {
                    Start::Recovered => {
                        let since = subscriber.since.unwrap();
                        assert_eq!((since.epoch, since.mark.offset), (opened.epoch, opened.from));
                        assert_eq!(subscriber.stands.unwrap(), since, "it goes on from what it was told last");
                        let in_past = since.mark == Mark::START
                            || self.timelines[&since.epoch].iter().any(|(mark, _)| *mark == since.mark);
                        assert!(in_past, "recovered on a history that diverged");
                    }
                    Start::New | Start::Gap(_) => subscriber.state.clear(),
                }
                let mark = Mark { offset: opened.from, tag: opened.tag.unwrap_or_default() };
                subscriber.stands = Some(Position { epoch: opened.epoch, mark });
            }
            Told::Snapshot(snapshot) => {
                assert_eq!(subscriber.replica.handle_snapshot().unwrap(), snapshot.covers);
                let numbers = snapshot.content.chunks(8).map(|number| u64::from_le_bytes(number.try_into().unwrap()));
                subscriber.state = numbers.collect();
                *counters.entry("snapshot heard").or_default() += 1;
            }
            Told::Update(entry) => {
                subscriber.replica.handle_update(entry.prev, entry.mark).unwrap();
                let is_for = subscriber.filter();
                let stands = subscriber.stands.as_mut().unwrap();
                let past = self.timelines.get(&stands.epoch).map_or(&[][..], |past| past);
                let missed =
                    past.iter().filter(|(mark, _)| mark.offset > stands.mark.offset && mark.offset < entry.mark.offset);
                let mut missed = missed.filter(|(_, entry)| is_for(*entry));
                assert_eq!(missed.next(), None, "something was left out");
                assert!(past.contains(&(entry.mark, number_in(entry))), "it was told of what is not there");
                stands.mark = entry.mark;
                assert!(is_for(number_in(entry)), "it was told what is not for it");
                subscriber.state.push(number_in(entry));
            }
            Told::Advance(mark) => {
                subscriber.replica.handle_advance(*mark).unwrap();
                subscriber.stands.as_mut().unwrap().mark = *mark;
                *counters.entry("advance").or_default() += 1;
            }
        }
    }

    /// Nothing goes wrong any more: everybody comes to know everything.
    fn settle(&mut self, counters: &mut Counters) {
        self.append();
        for round in 0..100_000 {
            self.pass_on(false);
            if round % 500 == 0 {
                let (end, _) = self.timeline();
                self.subscribers
                    .iter_mut()
                    .filter_map(|one| one.attachment.as_mut())
                    .for_each(|one| one.handle_end(end));
            }
            let (end, _) = self.timeline();
            if self.subscribers.iter().all(|one| one.attachment.is_some() && one.replica.seen() == Some(end)) {
                break;
            }
            let who = self.entropy.up_to(self.subscribers.len() as u64 - 1) as usize;
            self.work(who, counters);
        }
        let (end, timeline) = self.timeline();
        for subscriber in &self.subscribers {
            assert_eq!(subscriber.replica.seen(), Some(end), "it has come to know everything");
            if subscriber.beginning == Beginning::Snapshot {
                let all: Vec<_> = timeline.iter().map(|(_, number)| *number).collect();
                assert_eq!(subscriber.state, all, "and has all of it");
            }
        }
    }
}

fn run(seed: u64, counters: &mut Counters) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step(counters);
    }
    world.settle(counters);
}

#[test]
fn who_follows_a_channel_misses_nothing_that_it_is_not_told_of() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("FOLLOWING_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FOLLOWING_SEEDS").unwrap_or(SEEDS),
    };
    let mut counters = Counters::new();
    let many = seeds.end - seeds.start >= 1_000;
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut counters))) {
            eprintln!("seed {seed}: FOLLOWING_SEED={seed} runs it alone");
            std::panic::resume_unwind(panic);
        }
    }
    eprintln!("{counters:?}");
    let expected = [
        "advance",
        "began anew on one connection",
        "cut",
        "empty disk",
        "gap: diverged",
        "gap: recreated",
        "gap: trimmed",
        "new",
        "old disk",
        "page read",
        "recovered",
        "removed",
        "snapshot heard",
        "snapshot kept",
    ];
    for name in expected.into_iter().filter(|_| many) {
        assert!(counters.get(name).is_some_and(|times| *times >= 20), "{name} comes too seldom: {counters:?}");
    }
}
