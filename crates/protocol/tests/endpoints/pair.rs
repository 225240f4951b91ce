//! Both endpoints, joined by a wire that a test can bend, in time that a test moves.
//!
//! The wire is a WebSocket's: ordered, and broken only as a whole. Nothing takes time on it; time passes in
//! [`Pair::advance`] alone. Every run is bounded, and a failure tells the seed.

mod setup;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use moorline_protocol::{
    PeerEvent,
    client::*,
    code::Code,
    discovery::Discovery,
    frame::CallId,
    payload::Payload,
    server::*,
    session::Outcome,
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

enum ToClient {
    Opened,
    Record(Bytes),
    Closed(u16),
}

enum ToServer {
    Record(Bytes),
    Closed,
}

pub(crate) struct Pair {
    seed: u64,
    pub(crate) now: Timestamp,
    pub(crate) client: ClientEndpoint,
    /// The server's end of the newest socket.
    pub(crate) server: Option<ServerEndpoint>,
    server_config: Arc<ServerConfig>,
    pub(crate) admission: Admission,
    /// What a GET of the identity document gives.
    pub(crate) discovery: Discovery,
    /// Whether the GET is never answered.
    pub(crate) deaf: bool,
    /// Whether sockets open.
    pub(crate) reachable: bool,
    pub(crate) bend: Bend,
    /// Every record as it was sent, before the wire bent it.
    pub(crate) sent: Vec<(Direction, Bytes)>,
    pub(crate) client_heard: Vec<ClientEvent>,
    pub(crate) server_heard: Vec<ServerEvent>,
    /// The codes that each side closed sockets with.
    pub(crate) client_closed: Vec<Code>,
    pub(crate) server_closed: Vec<Code>,
    /// The addresses that the client asked for the identity document.
    pub(crate) asked: Vec<String>,
    /// The newest socket, while it is open.
    socket: Option<SocketId>,
    /// Sockets opened so far.
    pub(crate) sockets: u64,
    on_wire: [usize; 2],
    upward: VecDeque<ToServer>,
    downward: VecDeque<(SocketId, ToClient)>,
    discovered: VecDeque<Ticket>,
    client_wakes: Option<Timestamp>,
    server_wakes: Option<Timestamp>,
    steps: usize,
}

impl Pair {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            seed: setup.seed,
            now: Timestamp::from_millis(1_000),
            client: ClientEndpoint::new(setup.client, seed_of(setup.seed, 0)),
            server: None,
            server_config: Arc::new(setup.server),
            admission: Admission::Admit,
            discovery: Discovery::Unreachable,
            deaf: false,
            reachable: true,
            bend: Box::new(|_, _, record| vec![record]),
            sent: Vec::new(),
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
            server_wakes: None,
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
            self.drain_server();
            if let Some((socket, input)) = self.downward.pop_front() {
                let input = match input {
                    ToClient::Opened => SocketInput::Opened,
                    ToClient::Record(record) => SocketInput::Record(record),
                    ToClient::Closed(number) => SocketInput::Closed(number),
                };
                self.client.handle_input(self.now, ClientInput::Socket(socket, input));
            } else if let Some(ticket) = self.discovered.pop_front() {
                self.client.handle_input(self.now, ClientInput::Discovered(ticket, self.discovery.clone()));
            } else if let Some(input) = self.upward.pop_front() {
                if let Some(server) = &mut self.server {
                    server.handle_input(
                        self.now,
                        match input {
                            ToServer::Record(record) => ServerInput::Record(record),
                            ToServer::Closed => ServerInput::SocketClosed,
                        },
                    );
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
                        self.upward.push_back(ToServer::Closed);
                    }
                }
                ClientOutput::Discover(ticket, address) => {
                    self.asked.push(address);
                    if !self.deaf {
                        self.discovered.push_back(ticket);
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

    fn drain_server(&mut self) {
        let mut arrived = false;
        loop {
            self.step();
            let Some(server) = &mut self.server else { return };
            match server.poll_output() {
                ServerOutput::Transmit(record) => self.send(Down, record),
                ServerOutput::Event(event) => {
                    arrived |= matches!(event, ServerEvent::Arrived(_));
                    self.server_heard.push(event);
                }
                ServerOutput::CloseSocket(code) => {
                    self.server_closed.push(code);
                    if let Some(socket) = self.socket.take() {
                        self.downward.push_back((socket, ToClient::Closed(code.0)));
                    }
                }
                ServerOutput::Wait(_) if arrived => {
                    arrived = false;
                    match &self.admission {
                        Admission::Admit => server.admit(self.now, UnixMillis(1_700_000_000_000)),
                        Admission::Reject(rejection) => drop(server.reject(rejection.clone())),
                        Admission::Silence => {}
                    }
                }
                ServerOutput::Wait(until) => {
                    self.server_wakes = until;
                    return;
                }
            }
        }
    }

    fn open(&mut self, socket: SocketId) {
        if !self.reachable {
            return self.downward.push_back((socket, ToClient::Closed(1006)));
        }
        self.sockets += 1;
        self.socket = Some(socket);
        self.on_wire = [0; 2];
        self.upward.clear();
        self.downward.push_back((socket, ToClient::Opened));
        self.server = Some(ServerEndpoint::new(self.server_config.clone(), seed_of(self.seed, self.sockets), self.now));
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
            (Up, Some(_)) => self.upward.push_back(ToServer::Record(record.into())),
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
        let Some(socket) = self.socket.take() else { return };
        self.upward = [ToServer::Closed].into();
        self.downward = [(socket, ToClient::Closed(number))].into();
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
            let due = [self.client_wakes, self.server_wakes].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.wake();
        }
        self.now = end;
    }

    /// Wakes both sides, whether they asked or not.
    pub(crate) fn wake(&mut self) {
        self.client.handle_input(self.now, ClientInput::Wake);
        if let Some(server) = &mut self.server {
            server.handle_input(self.now, ServerInput::Wake);
        }
        self.settle();
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.last_status(), Some(Status::Connected))
            && self.server.as_ref().is_some_and(ServerEndpoint::is_authenticated)
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
        self.client.call(self.now, name("echo"), payload, None).expect("the call is taken")
    }

    /// The newest socket, which must be open.
    pub(crate) fn socket_id(&self) -> SocketId {
        self.socket.expect("a socket is open")
    }

    pub(crate) fn server(&mut self) -> &mut ServerEndpoint {
        self.server.as_mut().expect("a socket was opened")
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
