//! A world: clients, one server that may be started again, sockets between them, and a clock that jumps from one thing
//! that happens to the next.
//!
//! The endpoints are the real ones. The world is their drivers and their applications, and after every step it looks
//! whether the invariants of `docs/SIMULATION.md` hold.

mod channels;
mod client;
mod end;
mod fault;
mod following;
mod members;
mod names;
mod network;
mod past;
mod server;
mod wire;
mod writing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use moorline_protocol::{
    client::{ClientConfig, ClientEndpoint, ClientInput, SocketId, SocketInput},
    code::Code,
    discovery::Discovery,
    frame::{Authenticate, Credentials, Epoch, SessionId},
    key::{Identity, StaticKey},
    limits::{Limits, PART, RekeyPolicy},
    record::Suite,
    server::{Arrival, Encryption, Ended, ServerConfig, ServerEndpoint, ServerInput},
    session::{Broadcast, Registry},
    testing::Inspection,
    time::{Timestamp, UnixMillis},
    url::DialUrl,
};

use crate::{
    agenda::{Agenda, End, Later, Who},
    app::{App, At, Ctx, Reading},
    broken::{Broken, Held, hold},
    counters::{Counter, Counters},
    link::{Item, Socket},
    message::{Head, Label, Lane},
    rng::Rng,
    script::{Act, Caps, Cipher, Disk, Event, Fault, Say, Script, Side},
    transcript::Transcript,
    world::{channels::Channels, following::ClientChannels},
};

/// Steps after which a world is taken to run in circles.
const MOST_STEPS: u64 = 400_000;

/// How long after the last fault everything must have come right.
const CONVERGES_WITHIN: u64 = 600_000;

struct Client {
    endpoint: ClientEndpoint,
    app: App,
    /// Its clock's distance from the world's.
    ahead: u64,
    latency: u64,
    sockets: BTreeMap<SocketId, usize>,
    /// Its newest socket.
    socket: Option<usize>,
    /// The session it believes in.
    book: Option<usize>,
    connected: bool,
    closed: bool,
    asleep_until: u64,
    /// How long the next hello that names a session is held up on its way.
    hold_hello: u64,
    subject: u64,
    deadline: Option<Timestamp>,
    scheduled: Option<u64>,
    /// How often it was woken in this very millisecond.
    woken: (u64, u32),
    /// Whether a record of its was altered on the way.
    tampered: bool,
    /// Whether it has asked for another's session.
    pretends: bool,
    channels: ClientChannels,
}

/// A server's endpoint, under the number of its socket.
struct Served {
    endpoint: ServerEndpoint,
    client: usize,
    book: Option<usize>,
    arrival: Option<Box<Arrival>>,
    /// What the client shows on the open connection, until it is judged.
    shown: Option<Box<Authenticate>>,
    /// Whom that makes it.
    subject: u64,
    /// When what it has shown is over.
    expires: Option<u64>,
    deadline: Option<Timestamp>,
    scheduled: Option<u64>,
}

/// What the world knows of one session.
struct Book {
    id: SessionId,
    client: usize,
    subject: u64,
    /// The server's application in it.
    app: App,
    /// How far the server has read of what the client says.
    up: Reading,
    /// How far the client has read of what the server says.
    down: Reading,
    /// Reliable frames that each end has taken: the server, the client.
    received: [u64; 2],
    /// How much of that each end has acknowledged, or told of at a resumption.
    acked: [u64; 2],
    /// The socket whose endpoint has it on the server.
    socket: usize,
    over: bool,
    killed: bool,
    /// Which run of the server made it.
    run: u64,
    ended: Option<Ended>,
    /// Since when it is parked.
    parked: u64,
    /// Too many were parked, and it waited longest.
    evicted: bool,
    /// A broadcast did not fit.
    overflows: bool,
}

/// Clients, a server, the network and the clock.
pub(crate) struct World<'a> {
    script: &'a Script,
    now: u64,
    precise: bool,
    rng: Rng,
    agenda: Agenda,
    pub(crate) counters: Counters,
    pub(crate) transcript: Transcript,
    sockets: Vec<Socket>,
    clients: Vec<Client>,
    books: Vec<Book>,
    by_id: BTreeMap<SessionId, usize>,
    endpoints: BTreeMap<usize, Served>,
    /// Endpoints to which something was done besides what is being handled.
    dirty: Vec<usize>,
    /// Sockets on which somebody waits who is decided on at once.
    deciding: Vec<usize>,
    registry: Registry<usize>,
    identity: Identity,
    config: Arc<ServerConfig>,
    /// Idempotency keys that the server has seen.
    keys: BTreeMap<String, u32>,
    /// As whom each keyed call was made that came to a server.
    keyed_by: BTreeMap<String, u64>,
    down_until: u64,
    down_silently: bool,
    wall_clock: u64,
    runs: u64,
    broadcasts: [u64; 2],
    /// The newest nonce under each key.
    nonces: BTreeMap<u64, u64>,
    /// The server's channels, if this world has any.
    channels: Option<Channels>,
}

fn limits(caps: &Caps) -> Limits {
    let mut limits = Limits::default();
    limits.max_message = caps.message;
    limits.max_calls_in_flight = caps.calls;
    limits.max_outgoing_bytes = caps.bytes;
    limits.max_outgoing_frames = caps.frames;
    limits.max_volatile_bytes = caps.volatile;
    limits
}

impl<'a> World<'a> {
    pub(crate) fn new(script: &'a Script) -> Self {
        let setting = &script.setting;
        let identity = Identity::new(StaticKey::from_private(Rng::of(script.seed, 2, 0).array()));
        let config = Self::server_config(script, &identity, 0);
        let registry = Registry::new(config.epoch, setting.most_parked);
        let mut world = Self {
            script,
            now: 0,
            precise: matches!(setting.cipher, Cipher::Traced | Cipher::Plain),
            rng: Rng::of(script.seed, 3, 0),
            agenda: Agenda::default(),
            counters: Counters::default(),
            transcript: Transcript::default(),
            sockets: Vec::new(),
            clients: Vec::new(),
            books: Vec::new(),
            by_id: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            dirty: Vec::new(),
            deciding: Vec::new(),
            registry,
            identity,
            config: Arc::new(config),
            keys: BTreeMap::new(),
            keyed_by: BTreeMap::new(),
            down_until: 0,
            down_silently: false,
            wall_clock: 1_700_000_000_000,
            runs: 0,
            broadcasts: [0; 2],
            nonces: BTreeMap::new(),
            channels: setting.channels.map(|channels| Channels::new(channels, script.seed, setting.clients)),
        };
        world.clients = (0..setting.clients).map(|number| world.client(number)).collect();
        for (number, (at, ..)) in script.events.iter().enumerate() {
            world.agenda.at(*at, Later::Script(number));
        }
        world.agenda.at(script.until, Later::Heal);
        if setting.channels.is_some_and(|channels| channels.lossy) {
            world.agenda.at(0, Later::TellEnds);
        }
        if [setting.client, setting.server].iter().any(|caps| caps.bytes == 1 || caps.frames == 1 || caps.calls == 1) {
            world.counters.add(Counter::LimitOne);
        }
        if setting.cipher == Cipher::Plain {
            world.counters.add(Counter::Plain);
        }
        world
    }

    fn server_config(script: &Script, identity: &Identity, run: u64) -> ServerConfig {
        let setting = &script.setting;
        let encryption = match setting.cipher {
            Cipher::Plain => Encryption::Off,
            Cipher::Traced => Encryption::On { identity: identity.clone().into(), suites: vec![Suite::Traced] },
            Cipher::Aes | Cipher::ChaCha => {
                Encryption::On { identity: identity.clone().into(), suites: Suite::ALL.to_vec() }
            }
        };
        let mut config = ServerConfig::new(encryption, Epoch(Rng::of(script.seed, 4, run).next().to_le_bytes()));
        config.limits = limits(&setting.server);
        config.resume_window = Duration::from_millis(setting.window);
        config.rekey = RekeyPolicy { records: setting.rekey, ..RekeyPolicy::default() };
        config
    }

    fn client(&self, number: usize) -> Client {
        let setting = &self.script.setting;
        let url = DialUrl::parse("ws://localhost:2667/moorline").expect("a URL");
        let mut config = ClientConfig::new(url);
        config.suite = match setting.cipher {
            Cipher::Traced => Some(Suite::Traced),
            Cipher::Plain => None,
            Cipher::Aes => Some(Suite::Aes256Gcm),
            Cipher::ChaCha => Some(Suite::ChaCha20Poly1305),
        };
        if !setting.discovers {
            config.server_keys = self.identity.public_keys().collect();
        }
        config.limits = limits(&setting.client);
        config.rekey = self.config.rekey;
        config.asks_for_credentials = setting.lives > 0;
        let mut rng = Rng::of(self.script.seed, 5, number as u64);
        let ahead = rng.below(1 << 40);
        Client {
            endpoint: ClientEndpoint::new(config, rng.array()),
            app: App::new(Lane::Up, number as u64, &setting.server, setting.client.message),
            ahead,
            latency: setting.latency,
            sockets: BTreeMap::new(),
            socket: None,
            book: None,
            connected: false,
            closed: false,
            asleep_until: 0,
            hold_hello: 0,
            subject: 0,
            deadline: None,
            scheduled: None,
            woken: (0, 0),
            tampered: false,
            pretends: false,
            channels: ClientChannels::default(),
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(&mut self) -> Held {
        self.run_to_the_end().map_err(|broken| Broken { at: self.now, ..broken })
    }

    fn run_to_the_end(&mut self) -> Held {
        for number in 0..self.clients.len() {
            let now = self.client_time(number);
            self.clients[number].endpoint.start(now);
            self.turn_client(number)?;
        }
        let (mut steps, mut look_at) = (0, 0);
        while let Some((at, later)) = self.agenda.next() {
            self.now = at;
            steps += 1;
            hold!(steps < MOST_STEPS, "S11", "{steps} steps: it runs in circles");
            self.step(later)?;
            loop {
                if let Some(number) = self.dirty.pop() {
                    self.turn_server(number)?;
                } else if let Some(number) = self.deciding.pop() {
                    self.decide(number)?;
                } else {
                    break;
                }
            }
            if at > self.script.until && at >= look_at {
                look_at = at + 250;
                match self.unsettled() {
                    None => return self.finish(),
                    Some(what) if at > self.script.until + CONVERGES_WITHIN => {
                        hold!(false, "S10", "it does not come right: {what}");
                    }
                    Some(_) => {}
                }
            }
        }
        let what = self.unsettled();
        hold!(what.is_none(), "S10", "nothing is left to happen, and {}", what.unwrap_or_default());
        self.finish()
    }

    fn client_time(&self, number: usize) -> Timestamp {
        Timestamp::from_millis(self.now + self.clients[number].ahead)
    }

    fn server_time(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn wall_clock(&self) -> UnixMillis {
        UnixMillis(self.wall_clock.wrapping_add(self.now) & 0xffff_ffff_ffff)
    }

    /// The client that this would wake although it sleeps.
    fn sleeper(&self, later: &Later) -> Option<usize> {
        match later {
            Later::Arrive(socket, End::Client) | Later::Opened(socket) | Later::Gone(socket, End::Client) => {
                Some(self.sockets[*socket].client)
            }
            Later::Discovered(client, _)
            | Later::Authorized(client, ..)
            | Later::ClientWake(client)
            | Later::Work(Who::Client(client), _)
            | Later::Cancel(Who::Client(client), _)
            | Later::FollowAgain(client, _)
            | Later::GoOn(client, _) => Some(*client),
            Later::Script(number) => match self.script.events[*number] {
                (_, client, Event::Say(Side::Client, _))
                | (
                    _,
                    client,
                    Event::Channel(
                        Act::Follow { .. } | Act::Unfollow(_) | Act::Hold { .. } | Act::Refollow(_) | Act::Write { .. },
                    ),
                ) => Some(client),
                _ => None,
            },
            Later::Arrive(_, End::Server)
            | Later::Accept(_)
            | Later::Gone(_, End::Server)
            | Later::ServerWake(_)
            | Later::Decide(_)
            | Later::Judge(_)
            | Later::Work(Who::Session(_), _)
            | Later::Cancel(Who::Session(_), _)
            | Later::Uncongest(..)
            | Later::Job(_)
            | Later::Hear(_)
            | Later::Members(_)
            | Later::TellEnds
            | Later::Heal => None,
        }
    }

    fn step(&mut self, later: Later) -> Held {
        if let Some(client) = self.sleeper(&later).map(|number| &mut self.clients[number])
            && client.asleep_until > self.now
        {
            if matches!(later, Later::ClientWake(_)) {
                client.scheduled = Some(client.asleep_until);
            }
            self.agenda.at(client.asleep_until, later);
            return Ok(());
        }
        match later {
            Later::Script(number) => {
                let (_, client, event) = self.script.events[number];
                self.transcript.note(self.now, &[1, number as u64]);
                match event {
                    Event::Say(Side::Client, say) => self.client_says(client, say),
                    Event::Say(Side::Server, say) => self.server_says(client, say),
                    Event::Fault(fault) => self.fault(client, fault),
                    Event::Channel(act) => self.act(client, act),
                }
            }
            Later::Arrive(socket, end) => self.arrive(socket, end),
            Later::Accept(socket) => self.accept(socket),
            Later::Opened(socket) => {
                let Socket { client, id, client_open, .. } = self.sockets[socket];
                if !client_open {
                    return Ok(());
                }
                self.client_input(client, ClientInput::Socket(id, SocketInput::Opened))
            }
            Later::Gone(socket, end) => self.gone(socket, end),
            Later::Discovered(client, ticket) => {
                let discovery = if self.is_up() {
                    Discovery::Document {
                        keys: self.identity.public_keys().collect(),
                        encryption: self.script.setting.cipher != Cipher::Plain,
                        suites: Suite::ALL.into_iter().chain([Suite::Traced]).collect(),
                    }
                } else {
                    Discovery::Unreachable
                };
                self.client_input(client, ClientInput::Discovered(ticket, discovery))
            }
            Later::Authorized(client, ticket, has) => {
                // Minted now, for whoever the client is now.
                let token = format!("{}:{}", self.clients[client].subject, self.now);
                let credentials = has.then(|| Credentials::token(&token));
                self.client_input(client, ClientInput::Authorized(ticket, credentials))
            }
            Later::Judge(socket) => self.judge(socket),
            Later::ClientWake(client) => self.client_wake(client),
            Later::ServerWake(socket) => self.server_wake(socket),
            Later::Decide(socket) => self.decide(socket),
            Later::Work(Who::Client(client), id) => self.client_does(client, |app, ctx, port| {
                app.work(ctx, port, id);
                Ok(())
            }),
            Later::Work(Who::Session(book), id) => {
                if self.books[book].over && !self.books[book].killed {
                    self.counters.add(Counter::LateAnswer);
                }
                self.session_does(book, |app, ctx, port| {
                    app.work(ctx, port, id);
                    Ok(())
                })
            }
            Later::Cancel(Who::Client(client), id) => self.client_does(client, |app, ctx, port| {
                app.cancel(ctx, port, id);
                Ok(())
            }),
            Later::Cancel(Who::Session(book), id) => self.session_does(book, |app, ctx, port| {
                app.cancel(ctx, port, id);
                Ok(())
            }),
            Later::Uncongest(socket, end) => {
                self.sockets[socket].from(end).forced = false;
                self.tell_congestion(socket, end)
            }
            Later::Job(number) => self.do_job(number),
            Later::Hear(socket) => self.hear_words(socket),
            Later::TellEnds => self.tell_ends(),
            Later::FollowAgain(client, place) => self.follow_again(client, place),
            Later::GoOn(client, place) => self.go_on(client, place),
            Later::Members(book) => self.members_due(book),
            Later::Heal => self.heal(),
        }
    }

    fn is_up(&self) -> bool {
        self.now >= self.down_until
    }
}

/// The time at which a deadline comes on the world's clock.
fn world_time(deadline: Timestamp, ahead: u64, now: u64) -> Option<u64> {
    // What is so far away never comes.
    (deadline.as_millis() < u64::MAX / 2).then(|| deadline.as_millis().saturating_sub(ahead).max(now))
}

/// Closing codes that no honest peer ever gives cause for.
fn is_violation(code: Code) -> bool {
    code == Code::PROTOCOL_VIOLATION
}

/// Lends an application its endpoint and the rest of the world.
macro_rules! lend {
    ($world:expr, $who:expr, $session:expr, $connection:expr, $keys:expr) => {
        Ctx {
            now: $world.now,
            who: $who,
            session: $session as u64,
            connection: $connection as u64,
            precise: $world.precise,
            agenda: &mut $world.agenda,
            counters: &mut $world.counters,
            keys: $keys,
        }
    };
}
use lend;
