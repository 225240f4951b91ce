//! Both endpoints, joined by a wire that a test can bend, in time that a test moves.
//!
//! The wire is a WebSocket's: ordered, and broken only as a whole. Nothing takes time on it; time passes in
//! [`Pair::advance`] alone. Every run is bounded, and a failure tells the seed. The server has one endpoint for each
//! socket and a registry of sessions, as its driver has.

mod setup;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use moorline_protocol::{
    PeerEvent,
    client::*,
    code::Code,
    discovery::Discovery,
    frame::{self, Authenticate, CallId, Credentials, Epoch, ResetReason, SessionId},
    payload::Payload,
    server::*,
    session::{CallOptions, Claim, Outcome, Owner, Registry},
    subject::{Subject, Tenant},
    time::{Timestamp, UnixMillis},
};

/// More steps than any honest exchange of these tests takes.
const MOST_STEPS: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// From the client to the server.
    Up,
    Down,
}

pub(crate) use Direction::{Down, Up};
pub(crate) use setup::*;

/// What the wire makes of the `n`-th record (from 0) that was sent in a direction on this socket.
pub(crate) type Bend = Box<dyn FnMut(Direction, usize, Bytes) -> Vec<Bytes>>;

/// What the server's application says to an arrival.
pub(crate) enum Admission {
    Admit,
    Reject(Rejection),
    /// Nothing.
    Silence,
}

/// What a server does not look at when a client asks for a session. No server of ours is like that: it shows that it is
/// this that an attack fails by, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Careless {
    /// The client's key, or without encryption the secret.
    Proof,
    /// Who the client is.
    Subject,
}

enum ToClient {
    Opened,
    Record(Bytes),
    Closed(u16),
}

enum ToServer {
    Record(Bytes),
    Closed,
}

/// The server's end of one socket.
struct End {
    endpoint: ServerEndpoint,
    socket: SocketId,
    /// The session that it has, or had.
    session: Option<SessionId>,
    arrival: Option<Box<Arrival>>,
    /// Who its client is.
    subject: Subject,
    wakes: Option<Timestamp>,
}

/// More sessions than these tests park.
const MOST_PARKED: usize = 1_000;

pub(crate) struct Pair {
    seed: u64,
    pub(crate) now: Timestamp,
    pub(crate) client: ClientEndpoint,
    /// The server's ends that are not closed, and the newest, by the number of their socket: from 1.
    ends: BTreeMap<u64, End>,
    registry: Registry<u64>,
    server_config: Arc<ServerConfig>,
    pub(crate) admission: Admission,
    pub(crate) careless: Option<Careless>,
    /// Who the client is, as the server's application says.
    pub(crate) subject: Subject,
    /// What the server makes of everybody it lets in.
    pub(crate) granted: frame::Admission,
    /// What the client gives when it is asked for credentials; the outer `None` is no answer.
    pub(crate) shown: Option<Option<Credentials>>,
    /// What it was asked, and why.
    pub(crate) authorized: Vec<(u32, AuthorizeReason)>,
    /// What the client has shown on open connections.
    pub(crate) asked_in: Vec<Authenticate>,
    answers: VecDeque<(Ticket, Option<Credentials>)>,
    /// What a GET of the identity document gives.
    pub(crate) discovery: Discovery,
    /// Whether the GET is never answered.
    pub(crate) deaf: bool,
    /// Whether sockets open.
    pub(crate) reachable: bool,
    pub(crate) bend: Bend,
    /// Every record as it was sent, before the wire bent it. Without those of the server's earlier ends.
    pub(crate) sent: Vec<(Direction, Bytes)>,
    /// What the server's earlier ends sent, with the number of their socket.
    pub(crate) late: Vec<(u64, Bytes)>,
    pub(crate) client_heard: Vec<ClientEvent>,
    pub(crate) server_heard: Vec<ServerEvent>,
    /// The codes that each side closed sockets with.
    pub(crate) client_closed: Vec<Code>,
    pub(crate) server_closed: Vec<Code>,
    /// The addresses that the client asked for the identity document.
    pub(crate) asked: Vec<String>,
    /// The newest socket, while it is open.
    socket: Option<SocketId>,
    /// Sockets opened so far; the number of the newest.
    pub(crate) sockets: u64,
    on_wire: [usize; 2],
    upward: VecDeque<(u64, ToServer)>,
    downward: VecDeque<(SocketId, ToClient)>,
    discovered: VecDeque<Ticket>,
    client_wakes: Option<Timestamp>,
    steps: usize,
}

impl Pair {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            seed: setup.seed,
            now: Timestamp::from_millis(1_000),
            client: ClientEndpoint::new(setup.client, seed_of(setup.seed, 0)),
            ends: BTreeMap::new(),
            registry: Registry::new(setup.server.epoch, MOST_PARKED),
            server_config: Arc::new(setup.server),
            admission: Admission::Admit,
            careless: None,
            subject: Subject::anonymous(Tenant::default()),
            granted: frame::Admission::default(),
            shown: None,
            authorized: Vec::new(),
            asked_in: Vec::new(),
            answers: VecDeque::new(),
            discovery: Discovery::Unreachable,
            deaf: false,
            reachable: true,
            bend: Box::new(|_, _, record| vec![record]),
            sent: Vec::new(),
            late: Vec::new(),
            client_heard: Vec::new(),
            server_heard: Vec::new(),
            client_closed: Vec::new(),
            server_closed: Vec::new(),
            asked: Vec::new(),
            socket: None,
            sockets: 0,
            on_wire: [0; 2],
            upward: VecDeque::new(),
            downward: VecDeque::new(),
            discovered: VecDeque::new(),
            client_wakes: None,
            steps: 0,
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        assert!(self.steps < MOST_STEPS, "seed {}: no rest after {MOST_STEPS} steps", self.seed);
    }

    /// Lets everything happen that needs no time.
    pub(crate) fn run(&mut self) {
        self.steps = 0;
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            self.drain_client();
            self.drain_servers();
            if let Some((socket, input)) = self.downward.pop_front() {
                let input = match input {
                    ToClient::Opened => SocketInput::Opened,
                    ToClient::Record(record) => SocketInput::Record(record),
                    ToClient::Closed(number) => SocketInput::Closed(number),
                };
                self.client.handle_input(self.now, ClientInput::Socket(socket, input));
            } else if let Some(ticket) = self.discovered.pop_front() {
                self.client.handle_input(self.now, ClientInput::Discovered(ticket, self.discovery.clone()));
            } else if let Some((ticket, credentials)) = self.answers.pop_front() {
                self.client.handle_input(self.now, ClientInput::Authorized(ticket, credentials));
            } else if let Some((number, input)) = self.upward.pop_front() {
                if let Some(end) = self.ends.get_mut(&number) {
                    let input = match input {
                        ToServer::Record(record) => ServerInput::Record(record),
                        ToServer::Closed => ServerInput::SocketClosed,
                    };
                    end.endpoint.handle_input(self.now, input);
                }
            } else {
                return;
            }
        }
    }

    fn drain_client(&mut self) {
        loop {
            self.step();
            match self.client.poll_output() {
                ClientOutput::OpenSocket { socket, .. } => self.open(socket),
                ClientOutput::Transmit(socket, record) if self.socket == Some(socket) => self.send(Up, record),
                ClientOutput::Transmit(..) => {}
                ClientOutput::CloseSocket(socket, code) => {
                    self.client_closed.push(code);
                    if self.socket.take_if(|open| *open == socket).is_some() {
                        self.upward.push_back((self.sockets, ToServer::Closed));
                    }
                }
                ClientOutput::Discover(ticket, address) => {
                    self.asked.push(address);
                    if !self.deaf {
                        self.discovered.push_back(ticket);
                    }
                }
                ClientOutput::Authorize { ticket, attempt, reason } => {
                    self.authorized.push((attempt, reason));
                    if let Some(credentials) = self.shown.clone() {
                        self.answers.push_back((ticket, credentials));
                    }
                }
                ClientOutput::Event(event) => self.client_heard.push(event),
                ClientOutput::Wait(until) => {
                    self.client_wakes = until;
                    return;
                }
            }
        }
    }

    fn drain_servers(&mut self) {
        let numbers: Vec<_> = self.ends.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.drain_server(number));
        // The registry may have made an earlier one say something.
        let newest = self.sockets;
        self.ends.retain(|number, end| *number == newest || !end.endpoint.is_closed());
    }

    fn drain_server(&mut self, number: u64) {
        loop {
            self.step();
            let Some(end) = self.ends.get_mut(&number) else { return };
            match end.endpoint.poll_output() {
                ServerOutput::Transmit(record) if number == self.sockets => self.send(Down, record),
                ServerOutput::Transmit(record) => {
                    self.late.push((number, record.clone()));
                    self.downward.push_back((end.socket, ToClient::Record(record)));
                }
                ServerOutput::Event(event) => {
                    self.remember(number, &event);
                    self.server_heard.push(event);
                }
                ServerOutput::CloseSocket(code) => {
                    self.server_closed.push(code);
                    let socket = end.socket;
                    if self.socket.take_if(|open| *open == socket).is_some() {
                        self.downward.push_back((socket, ToClient::Closed(code.0)));
                    }
                }
                ServerOutput::Wait(until) => match end.arrival.take() {
                    Some(arrival) => self.decide(number, &arrival),
                    None => {
                        end.wakes = until;
                        return;
                    }
                },
            }
        }
    }

    /// What the registry is told of what the server's application hears.
    fn remember(&mut self, number: u64, event: &ServerEvent) {
        let Some(end) = self.ends.get_mut(&number) else { return };
        match event {
            ServerEvent::Arrived(arrival) => end.arrival = Some(arrival.clone()),
            ServerEvent::Connected(id) => {
                end.session = Some(*id);
                let proof = end.endpoint.proof().expect("an admitted client has a proof").clone();
                self.registry.enter(*id, Owner { proof, subject: end.subject.clone() }, number);
            }
            ServerEvent::Parked(_) => {
                let id = end.session.expect("a session is parked");
                assert_eq!(self.registry.park(id), None, "more sessions than a test parks");
            }
            ServerEvent::Ended(ended, _) => {
                if let Some(id) = end.session {
                    self.registry.leave(id, ended.reset_reason());
                }
            }
            ServerEvent::Authenticate(shown) => self.asked_in.push(shown.as_ref().clone()),
            ServerEvent::Resumed
            | ServerEvent::Channel(_)
            | ServerEvent::Request(_)
            | ServerEvent::Volatile(_)
            | ServerEvent::Peer(_)
            | ServerEvent::HandshakeFailed(_) => {}
        }
    }

    /// What a driver does with a client that has arrived.
    fn decide(&mut self, number: u64, arrival: &Arrival) {
        let wall_clock = UnixMillis(1_700_000_000_000);
        let now = self.now;
        match &self.admission {
            Admission::Silence => {}
            Admission::Reject(rejection) => {
                let rejection = rejection.clone();
                self.end(number).endpoint.reject(rejection);
            }
            Admission::Admit => {
                let resume = arrival.auth.resume.as_ref();
                let claim = match self.claimant(arrival) {
                    Some(owner) => self.registry.claim(resume, &owner),
                    None => Claim::New(resume.map(|_| ResetReason::Unknown)),
                };
                let reset = match (claim, resume) {
                    (Claim::Resume(earlier), Some(asked)) => match self.end(earlier).endpoint.can_resume(asked) {
                        Resumable::Yes => return self.resume(number, earlier),
                        Resumable::Stale => {
                            self.end(number).endpoint.reject(Rejection::of(Code::SUPERSEDED));
                            return;
                        }
                        Resumable::No => {
                            let old = &mut self.end(earlier).endpoint;
                            let saved = old.take_session().expect("the session of the registry");
                            old.lose_session(saved);
                            self.drain_server(earlier);
                            Some(ResetReason::Unknown)
                        }
                    },
                    (Claim::Resume(_), None) => unreachable!("nobody asked"),
                    (Claim::New(reset), _) => reset,
                };
                let granted = self.granted.clone();
                self.end(number).endpoint.admit(now, wall_clock, reset, granted);
            }
        }
    }

    /// Who asks for a session, as far as the server looks at it.
    fn claimant(&self, arrival: &Arrival) -> Option<Owner> {
        let asked = arrival.auth.resume.as_ref().map(|resume| resume.session);
        let theirs = self.ends.values().find(|end| asked.is_some() && end.session == asked);
        let proof = match (self.careless, theirs) {
            (Some(Careless::Proof), Some(end)) => end.endpoint.proof().cloned(),
            (Some(Careless::Proof | Careless::Subject) | None, _) => arrival.proof(),
        };
        let subject = match (self.careless, theirs) {
            (Some(Careless::Subject), Some(end)) => &end.subject,
            (Some(Careless::Proof | Careless::Subject) | None, _) => &self.subject,
        };
        Some(Owner { proof: proof?, subject: subject.clone() })
    }

    /// Lets in who came last, where nobody had decided.
    pub(crate) fn admit_late(&mut self) {
        let arrived = |event: &ServerEvent| match event {
            ServerEvent::Arrived(arrival) => Some(arrival.clone()),
            _ => None,
        };
        let arrival = self.server_heard.iter().rev().find_map(arrived).expect("somebody came");
        self.admission = Admission::Admit;
        self.decide(self.sockets, &arrival);
        self.run();
    }

    /// Brings the session of an earlier end to this one.
    fn resume(&mut self, number: u64, earlier: u64) {
        let (now, wall_clock) = (self.now, UnixMillis(1_700_000_000_000));
        let old = self.end(earlier);
        let id = old.session.expect("the session of the registry");
        let saved = old.endpoint.take_session().expect("the session of the registry");
        // Everything of the earlier end comes first.
        self.drain_server(earlier);
        let granted = self.granted.clone();
        let end = self.end(number);
        end.endpoint.resume(now, wall_clock, saved, granted).map_err(drop).expect("it can: that was asked");
        end.session = Some(id);
        let proof = end.endpoint.proof().expect("a resumed session has a proof").clone();
        let owner = Owner { proof, subject: end.subject.clone() };
        self.registry.attach(id);
        self.registry.enter(id, owner, number);
    }

    fn end(&mut self, number: u64) -> &mut End {
        self.ends.get_mut(&number).expect("the end of a socket")
    }

    fn open(&mut self, socket: SocketId) {
        if !self.reachable {
            return self.downward.push_back((socket, ToClient::Closed(1006)));
        }
        self.sockets += 1;
        self.socket = Some(socket);
        self.on_wire = [0; 2];
        self.downward.push_back((socket, ToClient::Opened));
        let seed = seed_of(self.seed, self.sockets);
        let endpoint = ServerEndpoint::new(self.server_config.clone(), seed, self.now);
        let subject = self.subject.clone();
        self.ends.insert(self.sockets, End { endpoint, socket, session: None, arrival: None, subject, wakes: None });
    }

    fn send(&mut self, direction: Direction, record: Bytes) {
        self.sent.push((direction, record.clone()));
        let number = self.on_wire[direction as usize];
        self.on_wire[direction as usize] += 1;
        for record in (self.bend)(direction, number, record) {
            self.inject(direction, record);
        }
    }

    /// Puts a record on the wire behind what is there; nobody but a test has sent it.
    pub(crate) fn inject(&mut self, direction: Direction, record: impl Into<Bytes>) {
        match (direction, self.socket) {
            (Up, Some(_)) => self.upward.push_back((self.sockets, ToServer::Record(record.into()))),
            (Down, Some(socket)) => self.downward.push_back((socket, ToClient::Record(record.into()))),
            (_, None) => {}
        }
    }

    /// Cuts the socket: what is on the wire is lost, and both sides hear that it is gone.
    pub(crate) fn cut(&mut self) {
        self.close_socket(1006);
    }

    /// Somebody on the way closes the socket with this number.
    pub(crate) fn close_socket(&mut self, number: u16) {
        let newest = self.sockets;
        if self.half_cut(number) {
            self.upward.push_back((newest, ToServer::Closed));
        }
    }

    /// The client's socket goes, and the server does not hear of it. What is on the wire is lost.
    pub(crate) fn half_cut(&mut self, number: u16) -> bool {
        let Some(socket) = self.socket.take() else { return false };
        let newest = self.sockets;
        self.upward.retain(|(number, _)| *number != newest);
        self.downward.retain(|(to, _)| *to != socket);
        self.downward.push_back((socket, ToClient::Closed(number)));
        true
    }

    /// Something comes to the server from an earlier socket.
    pub(crate) fn inject_late(&mut self, number: u64, record: impl Into<Bytes>) {
        self.upward.push_back((number, ToServer::Record(record.into())));
    }

    /// The server ends without a word and begins anew.
    pub(crate) fn restart(&mut self) {
        self.restart_with(|_| {});
    }

    /// The same, with another configuration.
    pub(crate) fn restart_with(&mut self, change: impl FnOnce(&mut ServerConfig)) {
        let epoch = Epoch(self.server_config.epoch.0.map(|byte| byte.wrapping_add(1)));
        self.cut();
        self.upward.clear();
        self.ends.clear();
        let mut config = ServerConfig::clone(&self.server_config);
        config.epoch = epoch;
        change(&mut config);
        self.server_config = Arc::new(config);
        self.registry = Registry::new(epoch, MOST_PARKED);
    }

    /// Cuts the socket and lets the client come back at once.
    pub(crate) fn reconnect(&mut self) {
        self.cut();
        self.run();
        self.client.retry_now(self.now);
        self.run();
    }

    /// The sender's socket in this direction takes no more, or takes more again.
    pub(crate) fn congest(&mut self, direction: Direction, congested: bool) {
        match (direction, self.socket) {
            (Up, Some(socket)) => {
                let input = ClientInput::Socket(socket, SocketInput::Congested(congested));
                self.client.handle_input(self.now, input);
            }
            (Down, Some(_)) => {
                let now = self.now;
                self.server().handle_input(now, ServerInput::Congested(congested));
            }
            (_, None) => {}
        }
    }

    /// Lets time pass; each side wakes when it asked to.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        self.steps = 0;
        loop {
            self.settle();
            let ends = self.ends.values().filter_map(|end| end.wakes);
            let due = ends.chain(self.client_wakes).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.wake();
        }
        self.now = end;
    }

    /// Wakes both sides, whether they asked or not.
    pub(crate) fn wake(&mut self) {
        self.client.handle_input(self.now, ClientInput::Wake);
        for end in self.ends.values_mut() {
            end.endpoint.handle_input(self.now, ServerInput::Wake);
        }
        self.settle();
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.last_status(), Some(Status::Connected))
            && self.ends.get(&self.sockets).is_some_and(|end| end.endpoint.is_authenticated())
    }

    pub(crate) fn last_status(&self) -> Option<&Status> {
        self.client_heard.iter().rev().find_map(|event| match event {
            ClientEvent::Status(status) => Some(status),
            _ => None,
        })
    }

    /// Why there is no connection, by the newest status.
    pub(crate) fn failure(&self) -> Option<&ConnectFailure> {
        match self.last_status()? {
            Status::Connecting { error, .. } | Status::Closed(error) => error.as_ref(),
            Status::Connected => None,
        }
    }

    /// How long the client waits for its next try, by the newest status.
    pub(crate) fn retry_in(&self) -> Option<Duration> {
        match self.last_status()? {
            Status::Connecting { retry_in, .. } => *retry_in,
            Status::Connected | Status::Closed(_) => None,
        }
    }

    /// A call of the client's without a deadline.
    pub(crate) fn call(&mut self, text: &str) -> CallId {
        let payload = Payload::json(text.to_owned());
        self.client.call(self.now, name("echo"), payload, CallOptions::default()).expect("the call is taken")
    }

    /// The newest socket, which must be open.
    pub(crate) fn socket_id(&self) -> SocketId {
        self.socket.expect("a socket is open")
    }

    /// The server's end of the newest socket.
    pub(crate) fn server(&mut self) -> &mut ServerEndpoint {
        self.newest().expect("a socket was opened")
    }

    /// The server's end of the newest socket, if there was one.
    pub(crate) fn newest(&mut self) -> Option<&mut ServerEndpoint> {
        self.ends.get_mut(&self.sockets).map(|end| &mut end.endpoint)
    }

    /// The resets that the client's application heard.
    pub(crate) fn resets(&self) -> Vec<Reset> {
        let resets = self.client_heard.iter().filter_map(|event| match event {
            ClientEvent::Reset(reset) => Some(reset.clone()),
            _ => None,
        });
        resets.collect()
    }

    /// How many sessions the server has, live and parked.
    pub(crate) fn sessions(&self) -> (usize, usize) {
        (self.registry.live(), self.registry.parked())
    }

    /// What the client's application heard from the other side, taken out.
    pub(crate) fn take_client_peer(&mut self) -> Vec<PeerEvent> {
        let heard = std::mem::take(&mut self.client_heard).into_iter();
        heard.filter_map(|event| if let ClientEvent::Peer(event) = event { Some(event) } else { None }).collect()
    }

    /// What the server's application heard from the other side, taken out.
    pub(crate) fn take_server_peer(&mut self) -> Vec<PeerEvent> {
        let heard = std::mem::take(&mut self.server_heard).into_iter();
        heard.filter_map(|event| if let ServerEvent::Peer(event) = event { Some(event) } else { None }).collect()
    }

    /// The client's calls that settled, in order.
    pub(crate) fn settled(&self) -> Vec<(CallId, Outcome)> {
        let settled = self.client_heard.iter().filter_map(|event| match event {
            ClientEvent::Peer(PeerEvent::Settled { id, outcome }) => Some((*id, outcome.clone())),
            _ => None,
        });
        settled.collect()
    }

    pub(crate) fn arrived(&self) -> bool {
        self.server_heard.iter().any(|event| matches!(event, ServerEvent::Arrived(_)))
    }

    /// The records sent in one direction.
    pub(crate) fn sent(&self, direction: Direction) -> Vec<Bytes> {
        self.sent.iter().filter(|(sent, _)| *sent == direction).map(|(_, record)| record.clone()).collect()
    }
}
