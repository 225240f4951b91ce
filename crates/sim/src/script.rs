//! What happens to a world: drawn from a seed before anything runs, so that a failing script can be made shorter.

mod channels;

pub use self::channels::{Act, ChannelSetting, Disk, Keep};
use crate::rng::Rng;

/// Which world a seed makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// Sessions and their messages, in clear, so that the wire can be read.
    Clear,
    /// The same with real Noise.
    Noise,
    /// Channels above sessions, in clear.
    Channels,
}

/// How records are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// In clear, with key and nonce in sight.
    Traced,
    /// Without encryption at all; sessions are proven by a secret.
    Plain,
    /// Noise and AES-256-GCM.
    Aes,
    /// Noise and ChaCha20-Poly1305.
    ChaCha,
}

/// Caps of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Largest message.
    pub message: usize,
    /// Calls open at once.
    pub calls: usize,
    /// Unconfirmed bytes.
    pub bytes: usize,
    /// Unconfirmed frames.
    pub frames: usize,
    /// Volatile bytes that wait.
    pub volatile: usize,
}

/// What does not change in the life of a world. Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How records are protected.
    pub cipher: Cipher,
    /// How many clients.
    pub clients: usize,
    /// One way over the network.
    pub latency: u64,
    /// Added to it, at most.
    pub jitter: u64,
    /// The server decides on a client after this, at most.
    pub decision: u64,
    /// Caps of the clients.
    pub client: Caps,
    /// Caps of the server.
    pub server: Caps,
    /// How long a session is kept.
    pub window: u64,
    /// Sessions kept at once.
    pub most_parked: usize,
    /// Records after which a key is replaced.
    pub rekey: u64,
    /// Whether the client asks the server for its key instead of having it pinned.
    pub discovers: bool,
    /// Calls and notifications that each side makes as soon as it has a new session.
    pub greetings: u32,
    /// Whether both ends say at a resumption only what they had acknowledged, so that the rest comes twice.
    pub forgetful: bool,
    /// How long what a client shows lasts; 0 where clients show nothing.
    pub lives: u64,
    /// Its channels, if it has any.
    pub channels: Option<ChannelSetting>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server, in the client's session.
    Server,
}

/// A call, and what its handler is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallPlan {
    /// Bytes of the argument.
    pub size: usize,
    /// Bytes of the reply, or of each item.
    pub reply: usize,
    /// Has an idempotency key.
    pub keyed: bool,
    /// How long the caller waits.
    pub timeout: Option<u64>,
    /// When the caller gives up.
    pub cancel: Option<u64>,
    /// How long the handler takes.
    pub work: u64,
    /// Whether the handler fails.
    pub fails: bool,
    /// Whether the handler answers although the caller gave up.
    pub stubborn: bool,
    /// For a stream, items and first credit.
    pub stream: Option<(u32, u32)>,
}

/// What an application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Notifications, one after the other.
    Notify {
        /// Bytes of each.
        size: usize,
        /// How many.
        count: u32,
        /// Whether all but every third are small.
        mixed: bool,
        /// Whether their confirmation is waited for.
        receipt: bool,
    },
    /// Messages that may be dropped.
    Volatile {
        /// Bytes of each.
        size: usize,
        /// How many.
        count: u32,
    },
    /// Calls, one after the other.
    Call(CallPlan, u32),
    /// Ends it: the client with good-bye; the server with a code that stops (`true`) or not.
    Close(bool),
    /// The client tries again at once.
    RetryNow,
    /// The client measures the round trip.
    Ping,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The socket breaks. Of what is under way so many records still arrive; each end learns of it after a while, or not.
    Cut {
        /// Records of the client's that still arrive.
        up: usize,
        /// Records of the server's that still arrive.
        down: usize,
        /// When the client learns of it.
        client: Option<u64>,
        /// When the server learns of it.
        server: Option<u64>,
    },
    /// From now on nothing arrives, and nobody is told.
    BlackHole {
        /// What the client sends is lost.
        up: bool,
        /// What the server sends is lost.
        down: bool,
    },
    /// Nothing moves for a while.
    Stall {
        /// What the client sends.
        up: bool,
        /// What the server sends.
        down: bool,
        /// How long.
        time: u64,
    },
    /// The way is as long as this from now on.
    Latency(u64),
    /// The client's socket takes no more for a while.
    CongestClient(u64),
    /// The server's socket takes no more for a while.
    CongestServer(u64),
    /// The client sleeps.
    Suspend(u64),
    /// A record under way is altered.
    Corrupt {
        /// One of the client's.
        up: bool,
    },
    /// The client asks for the session of another one.
    Pretend(usize),
    /// The client's next hello is held up on its way, and arrives late.
    HoldHello(u64),
    /// The client is somebody else from its next connection on.
    Subject,
    /// The server forgets everything and is away for a while. Silent: nobody is told.
    Kill {
        /// How long.
        away: u64,
        /// Whether the sockets just die.
        silent: bool,
    },
    /// The server closes every session and is away for a while afterwards, with its memory gone, if so.
    Drain {
        /// What it tells the clients.
        retry_after: u64,
        /// How long it is away.
        restart: Option<u64>,
    },
    /// The server's wall clock is set.
    WallClock(u64),
    /// A notification to every client at once.
    Broadcast {
        /// Its bytes.
        size: usize,
        /// May be dropped.
        volatile: bool,
        /// How often, one behind the other.
        count: u32,
    },
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An application does something.
    Say(Side, Say),
    /// Something goes wrong.
    Fault(Fault),
    /// Something is done in a channel.
    Channel(Act),
}

/// A world's whole fate.
#[derive(Clone, Debug)]
pub struct Script {
    /// Decides what the script leaves open: drawn keys, the network's jitter.
    pub seed: u64,
    /// What does not change.
    pub setting: Setting,
    /// When, to which client, what. In the order of time.
    pub events: Vec<(u64, usize, Event)>,
    /// From here on nothing goes wrong any more.
    pub until: u64,
}

const USUAL: Caps =
    Caps { message: 4 * 1024 * 1024, calls: 1_024, bytes: 1024 * 1024, frames: 2_048, volatile: 64 * 1024 };

fn caps(rng: &mut Rng) -> Caps {
    Caps {
        message: rng.pick(&[4 * 1024 * 1024, 4 * 1024 * 1024, 200_000]),
        calls: rng.pick(&[1_024, 1_024, 8, 1]),
        bytes: rng.pick(&[1024 * 1024, 1024 * 1024, 64 * 1024, 2_048, 1]),
        frames: rng.pick(&[2_048, 2_048, 64, 8, 1]),
        volatile: rng.pick(&[64 * 1024, 64 * 1024, 1_000, 1]),
    }
}

fn size(rng: &mut Rng) -> usize {
    let most = rng.pick(&[60, 60, 60, 60, 60, 60, 1_000, 1_000, 16_400, 40_000, 150_000]);
    rng.below(most) as usize
}

fn small(rng: &mut Rng) -> usize {
    let most = rng.pick(&[50, 50, 50, 1_000, 10_000]);
    rng.below(most) as usize
}

impl Script {
    /// The script of a seed.
    pub fn draw(seed: u64, flavour: Flavour) -> Self {
        match flavour {
            Flavour::Clear => Self::session(seed, false),
            Flavour::Noise => Self::session(seed, true),
            Flavour::Channels => channels::draw(seed),
        }
    }

    fn session(seed: u64, noise: bool) -> Self {
        let mut rng = Rng::of(seed, 1, 0);
        let cipher = match (noise, rng.below(8)) {
            (false, 0) => Cipher::Plain,
            (false, _) => Cipher::Traced,
            (true, number) if number % 2 == 0 => Cipher::Aes,
            (true, _) => Cipher::ChaCha,
        };
        let tuned = rng.percent(40);
        let mut side = || if tuned { caps(&mut rng) } else { USUAL };
        let (client, server) = (side(), side());
        let setting = Setting {
            cipher,
            clients: rng.pick(&[1, 1, 1, 2, 2, 3, 4]),
            latency: rng.pick(&[0, 1, 5, 40, 200]),
            jitter: rng.pick(&[0, 3, 60]),
            decision: rng.pick(&[0, 0, 0, 30, 500, 11_000]),
            client,
            server,
            window: rng.pick(&[120_000, 120_000, 30_000, 3_000]),
            most_parked: rng.pick(&[1_000, 1_000, 1, 0]),
            rekey: rng.pick(&[65_536, 40, 7, 2]),
            discovers: rng.percent(10),
            greetings: rng.pick(&[0, 0, 1, 3]),
            forgetful: rng.percent(30),
            lives: rng.pick(&[0, 0, 0, 60_000, 25_000]),
            channels: None,
        };
        let until = rng.pick(&[3_000, 10_000, 30_000, 30_000, 100_000, 200_000]);
        let count = rng.between(8, 60);
        // A world of few kinds of event gets deeper into each than one that has them all.
        let taste: Vec<u64> = (0..24).map(|_| rng.pick(&[0, 1, 1, 3])).collect();
        let faults = rng.pick(&[5, 20, 20, 40]);
        let mut events: Vec<_> = (0..count)
            .map(|_| {
                let at = rng.below(until);
                let client = rng.below(setting.clients as u64) as usize;
                let event = match rng.percent(faults) {
                    true => Event::Fault(fault(&mut rng, &taste, setting.clients)),
                    false => say(&mut rng, &taste),
                };
                (at, client, event)
            })
            .collect();
        // What chance alone would bring together too seldom: a cut in the middle of a large message.
        for _ in 0..rng.pick(&[0, 0, 0, 1, 3]) {
            let (at, client) = (rng.below(until), rng.below(setting.clients as u64) as usize);
            let side = rng.pick(&[Side::Client, Side::Server]);
            let size = rng.between(60_000, 190_000) as usize;
            let mut keep = || rng.between(1, 3) as usize;
            let (up, down) = (keep(), keep());
            let notice = rng.pick(&[Some(500), Some(3_000)]);
            events.push((at, client, Event::Say(side, Say::Notify { size, count: 1, mixed: false, receipt: true })));
            events.push((at, client, Event::Fault(Fault::Cut { up, down, client: notice, server: notice })));
        }
        // Answers and notifications, large and small, that pile up before a full socket.
        for _ in 0..rng.pick(&[0, 0, 1, 2]) {
            let (at, client) = (rng.below(until), rng.below(setting.clients as u64) as usize);
            let (asks, answers, congested) = match rng.percent(50) {
                true => (Side::Client, Side::Server, Fault::CongestServer(700)),
                false => (Side::Server, Side::Client, Fault::CongestClient(700)),
            };
            let plan = CallPlan { reply: 120_000, work: 0, fails: false, size: 50, ..call(&mut rng) };
            let notify = Say::Notify { size: 40_000, count: rng.between(1, 7) as u32, mixed: true, receipt: false };
            events.push((at, client, Event::Fault(congested)));
            events.push((at, client, Event::Say(asks, Say::Call(plan, 2))));
            events.push((at + rng.below(600), client, Event::Say(answers, notify)));
        }
        // And a hello that reaches the server after that of a later socket.
        for _ in 0..rng.pick(&[0, 0, 0, 1]) {
            let (at, client) = (rng.below(until), rng.below(setting.clients as u64) as usize);
            let cut = |up| Fault::Cut { up, down: 0, client: Some(0), server: None };
            events.push((at, client, Event::Fault(Fault::HoldHello(rng.pick(&[1_500, 3_000, 4_500])))));
            events.push((at, client, Event::Fault(cut(0))));
            events.push((at + rng.between(300, 1_200), client, Event::Fault(cut(9_999))));
        }
        events.sort_by_key(|(at, ..)| *at);
        Self { seed, setting, events, until }
    }
}

/// One of several, by the taste of this world from a place on; never nothing.
fn choose(rng: &mut Rng, taste: &[u64], weights: &[u64]) -> usize {
    let weigh = |place: usize| weights[place] * (taste[place % taste.len()] * 4 + 1);
    let mut left = rng.below((0..weights.len()).map(weigh).sum());
    for place in 0..weights.len() {
        match left.checked_sub(weigh(place)) {
            Some(rest) => left = rest,
            None => return place,
        }
    }
    0
}

fn say(rng: &mut Rng, taste: &[u64]) -> Event {
    let side = if rng.percent(55) { Side::Client } else { Side::Server };
    let say = match choose(rng, &taste[..6], &[30, 30, 12, 12, 4, 1]) {
        0 => Say::Notify {
            size: size(rng),
            count: rng.pick(&[1, 1, 1, 2, 5, 40, 200]),
            mixed: rng.percent(50),
            receipt: rng.percent(40),
        },
        1 => Say::Call(call(rng), rng.pick(&[1, 1, 1, 3, 12])),
        2 => {
            let plan = CallPlan {
                reply: small(rng),
                stream: Some((rng.below(30) as u32, rng.pick(&[1, 2, 8, 8, 64]))),
                size: small(rng),
                keyed: rng.percent(50),
                ..call(rng)
            };
            Say::Call(plan, 1)
        }
        3 => Say::Volatile { size: small(rng), count: rng.pick(&[1, 1, 3, 30, 100]) },
        4 => rng.pick(&[Say::RetryNow, Say::Ping]),
        _ => Say::Close(rng.percent(50)),
    };
    Event::Say(side, say)
}

fn call(rng: &mut Rng) -> CallPlan {
    CallPlan {
        size: size(rng),
        reply: size(rng),
        keyed: rng.percent(30),
        timeout: rng.pick(&[None, Some(10_000), Some(10_000), Some(700), Some(1)]),
        cancel: rng.pick(&[None, None, None, Some(0), Some(5), Some(3_000)]),
        work: rng.pick(&[0, 0, 1, 20, 900, 20_000]),
        fails: rng.percent(10),
        stubborn: rng.percent(50),
        stream: None,
    }
}

fn fault(rng: &mut Rng, taste: &[u64], clients: usize) -> Fault {
    let way = |rng: &mut Rng| rng.pick(&[(true, true), (true, true), (true, false), (false, true)]);
    let while_ = |rng: &mut Rng| rng.pick(&[5, 400, 400, 6_000, 15_000, 50_000]);
    match choose(rng, &taste[6..], &[40, 8, 10, 4, 6, 8, 8, 4, 2, 2, 5, 5, 1, 5]) {
        0 => {
            let notice = |rng: &mut Rng| rng.pick(&[Some(0), Some(0), Some(20), Some(2_000), None]);
            let arrive = |rng: &mut Rng| rng.pick(&[0, 0, 1, 2, 9_999]);
            Fault::Cut { up: arrive(rng), down: arrive(rng), client: notice(rng), server: notice(rng) }
        }
        1 => {
            let (up, down) = way(rng);
            Fault::BlackHole { up, down }
        }
        2 => {
            let (up, down) = way(rng);
            Fault::Stall { up, down, time: while_(rng) }
        }
        3 => Fault::Latency(rng.pick(&[0, 20, 400, 3_000])),
        4 => Fault::CongestClient(while_(rng)),
        5 => Fault::CongestServer(while_(rng)),
        6 => Fault::Suspend(rng.pick(&[100, 9_000, 50_000, 200_000])),
        7 => Fault::Corrupt { up: rng.percent(50) },
        8 => Fault::Pretend(rng.below(clients as u64) as usize),
        9 => Fault::Subject,
        10 => Fault::Kill { away: rng.pick(&[0, 300, 12_000]), silent: rng.percent(30) },
        11 => {
            Fault::Drain { retry_after: rng.pick(&[0, 100, 5_000]), restart: rng.pick(&[None, Some(0), Some(1_000)]) }
        }
        12 => Fault::WallClock(rng.next() >> 20),
        _ => {
            // Many at once fill whom little is kept for.
            let count = if rng.percent(30) { 30 } else { 1 };
            Fault::Broadcast { size: small(rng), volatile: rng.percent(30), count }
        }
    }
}
