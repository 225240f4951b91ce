//! The client's end: one endpoint for as long as the client lives, over one socket after another.
//!
//! Implements `docs/PROTOCOL.md` § Client states. Every socket has a [`SocketId`] and every discovery a [`Ticket`]; what
//! comes late from an older one is passed over.

mod interface;

use std::{collections::VecDeque, mem, time::Duration};

use bytes::Bytes;

pub use interface::*;

use crate::{
    auth::Auth,
    backoff::Backoff,
    code::Code,
    connection::{Connection, Link, PeerEvent},
    discovery::{Discovery, Trust},
    entropy::Entropy,
    error::{Refused, Violation},
    frame::{CallId, ClientFrame, Failure, Goaway, RawFrame, Reject, ServerFrame, Welcome},
    key::{ServerKey, StaticKey},
    noise::Initiator,
    payload::{Name, Payload},
    record::{SUBPROTOCOL, SUBPROTOCOL_PLAIN, VERSION, kind},
    session::{Broadcast, Outcome, Session},
    time::Timestamp,
};

enum Phase {
    /// Not started.
    Idle,
    /// Asking for the server's key.
    Discovering {
        ticket: Ticket,
        deadline: Timestamp,
    },
    Opening {
        socket: SocketId,
        key: Option<ServerKey>,
        deadline: Timestamp,
    },
    AwaitingHello {
        socket: SocketId,
        key: ServerKey,
        initiator: Box<Initiator>,
        deadline: Timestamp,
    },
    AwaitingWelcome {
        socket: SocketId,
        key: Option<ServerKey>,
        link: Box<Link>,
        deadline: Timestamp,
    },
    Connected {
        socket: SocketId,
        connection: Box<Connection>,
        since: Timestamp,
    },
    /// The try has failed; asking the server what it thinks, to name the cause.
    Diagnosing {
        ticket: Ticket,
        failure: Code,
        deadline: Timestamp,
    },
    /// The try has failed; the next one comes in time.
    Waiting {
        until: Timestamp,
        failure: ConnectFailure,
    },
    Closed,
}

/// The client's end as a state machine: hand in what happened, then drain what is to be done.
pub struct ClientEndpoint {
    config: ClientConfig,
    entropy: Entropy,
    phase: Phase,
    session: Session,
    /// The newest number that the application knows a call of the server's by.
    served: u64,
    /// The socket takes no more for now.
    congested: bool,
    backoff: Option<Backoff>,
    /// The try that is under way or comes next; 0 while connected.
    attempt: u32,
    /// The last number given to a socket or discovery.
    last_number: u64,
    /// The key that the server gave when it was asked.
    discovered: Option<ServerKey>,
    /// Which of the pinned keys to try.
    pin: usize,
    outputs: VecDeque<ClientOutput>,
}

impl ClientEndpoint {
    /// An endpoint that waits for [`Self::start`]. `seed` is 32 secret random bytes, new for each.
    pub fn new(config: ClientConfig, seed: [u8; 32]) -> Self {
        Self {
            session: Session::new(config.limits.clone()),
            served: 0,
            congested: false,
            backoff: config.backoff.map(Backoff::new),
            config,
            entropy: Entropy::new(seed),
            phase: Phase::Idle,
            attempt: 1,
            last_number: 0,
            discovered: None,
            pin: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Begins to connect. A second start does nothing.
    pub fn start(&mut self, now: Timestamp) {
        if matches!(self.phase, Phase::Idle) {
            self.begin_attempt(now, None);
        }
    }

    /// Takes what happened. Drain [`Self::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Timestamp, input: ClientInput) {
        match input {
            ClientInput::Socket(socket, input) if self.socket() == Some(socket) => {
                self.handle_socket(now, socket, input);
            }
            ClientInput::Discovered(ticket, discovery) => self.handle_discovery(now, ticket, discovery),
            ClientInput::Socket(..) | ClientInput::Wake => {}
        }
        self.handle_time(now);
    }

    /// The next thing to do. Drain until it says [`ClientOutput::Wait`].
    pub fn poll_output(&mut self) -> ClientOutput {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if !self.congested
            && let Phase::Connected { socket, connection, .. } = &mut self.phase
            && let Ok(Some(record)) = connection.poll_record(&mut self.session)
        {
            return ClientOutput::Transmit(*socket, record);
        }
        ClientOutput::Wait(self.deadline())
    }

    /// Calls the server's handler `name`; while there is no connection the call waits for one. The outcome comes as
    /// [`PeerEvent::Settled`], once.
    ///
    /// # Errors
    /// When nothing was sent and nothing will be, and why.
    pub fn call(
        &mut self,
        now: Timestamp,
        name: Name,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<CallId, Refused> {
        self.open()?;
        self.session.call(now, name, payload, timeout)
    }

    /// Gives up on a call; its outcome is not reported any more.
    pub fn cancel(&mut self, id: CallId) {
        self.session.cancel(id);
    }

    /// Sends a notification. While there is no connection it waits for one, and a volatile one is dropped.
    ///
    /// # Errors
    /// When nothing was sent and nothing will be, and why. A volatile message that is dropped is no error.
    pub fn notify(&mut self, name: Name, payload: Payload, volatile: bool) -> Result<(), Refused> {
        self.open()?;
        if volatile && !matches!(self.phase, Phase::Connected { .. }) {
            return Broadcast::new(name, payload, volatile).map(|_| ());
        }
        self.session.notify(name, payload, volatile)
    }

    /// Answers a call of the server; one that is not open any more is passed over.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] when the result is above the limit; the server has been told by a failure.
    pub fn answer(&mut self, id: CallId, result: Result<Payload, Failure>) -> Result<(), Refused> {
        match &mut self.phase {
            Phase::Connected { connection, .. } => connection.answer(id, result, &mut self.session),
            _ => Ok(()),
        }
    }

    /// The network is back or the page is shown again: a wait for the next try ends now.
    pub fn retry_now(&mut self, now: Timestamp) {
        if let Phase::Waiting { failure, .. } = &self.phase {
            let failure = failure.clone();
            self.begin_attempt(now, Some(failure));
        }
    }

    /// Asks for a new measurement of the round trip.
    pub fn ping(&mut self, now: Timestamp) {
        if let Phase::Connected { connection, .. } = &mut self.phase {
            connection.ping(now, &mut self.session);
        }
    }

    /// The newest measured round trip of this connection.
    pub fn rtt(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Connected { connection, .. } => connection.rtt(),
            _ => None,
        }
    }

    /// Bytes of frames that wait for the socket.
    pub fn waiting_bytes(&self) -> usize {
        self.session.waiting_bytes()
    }

    /// Ends it on purpose: what waits goes out, the server hears good-bye, every open call settles.
    pub fn close(&mut self) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        if let Phase::Connected { socket, connection, .. } = &mut self.phase {
            let records = connection.flush(&mut self.session, ClientFrame::Bye.encode()).unwrap_or_default();
            let transmit = records.into_iter().map(|record| ClientOutput::Transmit(*socket, record));
            self.outputs.extend(transmit);
        }
        self.abandon_served();
        self.stop(Code::NORMAL, None);
    }

    fn open(&self) -> Result<(), Refused> {
        if matches!(self.phase, Phase::Closed) { Err(Refused::Closed) } else { Ok(()) }
    }

    fn socket(&self) -> Option<SocketId> {
        match &self.phase {
            Phase::Opening { socket, .. }
            | Phase::AwaitingHello { socket, .. }
            | Phase::AwaitingWelcome { socket, .. }
            | Phase::Connected { socket, .. } => Some(*socket),
            Phase::Idle
            | Phase::Discovering { .. }
            | Phase::Diagnosing { .. }
            | Phase::Waiting { .. }
            | Phase::Closed => None,
        }
    }

    fn event(&mut self, event: ClientEvent) {
        self.outputs.push_back(ClientOutput::Event(event));
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn begin_attempt(&mut self, now: Timestamp, error: Option<ConnectFailure>) {
        self.event(ClientEvent::Status(Status::Connecting { attempt: self.attempt, retry_in: None, error }));
        if self.config.suite.is_none() {
            return self.open_socket(now, None);
        }
        let pins = &self.config.server_keys;
        if !pins.is_empty() {
            let key = pins[self.pin % pins.len()];
            return self.open_socket(now, Some(key));
        }
        if self.discovered.is_some() {
            return self.open_socket(now, self.discovered);
        }
        let url = &self.config.url;
        if !(url.is_secure() || url.is_loopback() || self.config.allow_insecure_discovery) {
            return self.stop(Code::NORMAL, Some(ConnectFailure::of(Code::SERVER_KEY_REQUIRED)));
        }
        let (ticket, deadline) = self.ask(now);
        self.phase = Phase::Discovering { ticket, deadline };
    }

    fn ask(&mut self, now: Timestamp) -> (Ticket, Timestamp) {
        let ticket = Ticket(self.number());
        self.outputs.push_back(ClientOutput::Discover(ticket, self.config.url.http()));
        (ticket, now + self.config.connect_timeout)
    }

    fn open_socket(&mut self, now: Timestamp, key: Option<ServerKey>) {
        let socket = SocketId(self.number());
        self.congested = false;
        let subprotocol = if key.is_some() { SUBPROTOCOL } else { SUBPROTOCOL_PLAIN };
        self.outputs.push_back(ClientOutput::OpenSocket { socket, url: self.config.url.clone(), subprotocol });
        self.phase = Phase::Opening { socket, key, deadline: now + self.config.connect_timeout };
    }

    fn handle_discovery(&mut self, now: Timestamp, answered: Ticket, discovery: Discovery) {
        match self.phase {
            Phase::Discovering { ticket, .. } if ticket == answered => match discovery.key_for(self.config.suite) {
                Ok(key) => {
                    self.discovered = Some(key);
                    self.open_socket(now, Some(key));
                }
                Err(code) => self.fail(now, ConnectFailure::of(code)),
            },
            Phase::Diagnosing { ticket, failure, .. } if ticket == answered => {
                let code = discovery.diagnose(failure, self.config.suite, &self.config.server_keys);
                self.diagnosed(now, code, discovery.keys());
            }
            _ => {}
        }
    }

    /// The next try takes a key that the server says it has, or the next one of several.
    fn diagnosed(&mut self, now: Timestamp, code: Code, keys: &[ServerKey]) {
        let fits = |pin: &ServerKey| keys.contains(pin);
        self.pin = self.config.server_keys.iter().position(fits).unwrap_or(self.pin.wrapping_add(1));
        self.discovered = None;
        self.fail(now, ConnectFailure::of(code));
    }

    fn handle_socket(&mut self, now: Timestamp, socket: SocketId, input: SocketInput) {
        match input {
            SocketInput::Opened => self.handle_opened(socket),
            SocketInput::Record(record) => self.handle_record(now, socket, record),
            SocketInput::Text => self.violate(now, socket, Violation::TextMessage),
            SocketInput::Oversized => self.violate(now, socket, Violation::OversizedRecord),
            SocketInput::Congested(congested) => self.congested = congested,
            SocketInput::Closed(number) => match self.phase {
                Phase::Opening { .. } => self.diagnose(now, Code::UPGRADE_REFUSED),
                Phase::AwaitingHello { .. } | Phase::AwaitingWelcome { key: None, .. } => {
                    self.diagnose(now, Code::HANDSHAKE_FAILED);
                }
                // The number is not sealed: it may name the cause of a retry and never stops one.
                _ => {
                    let code = Code(number);
                    let known = code.name().is_some() && (4000..4500).contains(&number);
                    self.lose(now, ConnectFailure::of(if known { code } else { Code::CONNECTION_LOST }));
                }
            },
        }
    }

    fn handle_opened(&mut self, socket: SocketId) {
        let Phase::Opening { key, deadline, .. } = self.phase else { return };
        let (Some(key), Some(suite)) = (key, self.config.suite) else {
            let hello = [&[kind::PLAIN_HELLO, VERSION], self.auth().as_slice()].concat();
            self.outputs.push_back(ClientOutput::Transmit(socket, hello.into()));
            self.phase = Phase::AwaitingWelcome { socket, key, link: Box::new(Link::Plain), deadline };
            return;
        };
        let client_key = StaticKey::generate(&mut self.entropy);
        // Starting cannot fail: the parameters are constant and the keys of their length. The deadline covers the rest.
        if let Ok((initiator, hello)) = Initiator::start(suite, &key, &client_key, &mut self.entropy) {
            self.outputs.push_back(ClientOutput::Transmit(socket, hello.into()));
            self.phase = Phase::AwaitingHello { socket, key, initiator: Box::new(initiator), deadline };
        }
    }

    fn auth(&self) -> Vec<u8> {
        Auth { url: self.config.url.clone(), client_version: self.config.version.clone() }.encode()
    }

    fn handle_record(&mut self, now: Timestamp, socket: SocketId, record: Bytes) {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::AwaitingHello { key, initiator, deadline, .. } => {
                let finished = initiator.finish(&record, &self.auth());
                let (Ok((finish, keys)), Some(suite)) = (finished, self.config.suite) else {
                    self.outputs.push_back(ClientOutput::CloseSocket(socket, Code::HANDSHAKE_FAILED));
                    return self.diagnose(now, Code::HANDSHAKE_FAILED);
                };
                self.outputs.push_back(ClientOutput::Transmit(socket, finish.into()));
                let (sealer, opener) = keys.for_client(suite, self.config.rekey);
                let link = Box::new(Link::Sealed { sealer, opener });
                self.phase = Phase::AwaitingWelcome { socket, key: Some(key), link, deadline };
            }
            Phase::AwaitingWelcome { key, link, .. } => {
                let connection = Connection::new(*link, self.config.heartbeat, &self.config.limits, self.served, now);
                self.phase = Phase::Connected { socket, connection: Box::new(connection), since: now };
                self.handle_frames(now, socket, record, Some(key));
            }
            connected @ Phase::Connected { .. } => {
                self.phase = connected;
                self.handle_frames(now, socket, record, None);
            }
            other => {
                self.phase = other;
                self.violate(now, socket, Violation::UnexpectedRecord);
            }
        }
    }

    /// Takes the frames of a record. `awaiting` has the server's key while Welcome has not come.
    fn handle_frames(
        &mut self,
        now: Timestamp,
        socket: SocketId,
        record: Bytes,
        mut awaiting: Option<Option<ServerKey>>,
    ) {
        let Phase::Connected { mut connection, since, .. } = mem::replace(&mut self.phase, Phase::Idle) else { return };
        let mut refusal = None;
        let handled = connection.handle_record(now, record, |connection, raw| {
            refusal = self.handle_frame(now, connection, &raw, &mut awaiting)?;
            Ok(refusal.is_none())
        });
        let overfull = self.congested && self.session.is_overfull();
        self.phase = Phase::Connected { socket, connection, since };
        match (handled, refusal) {
            (Err(violation), _) => self.violate(now, socket, violation),
            (Ok(()), Some(failure)) => {
                self.outputs.push_back(ClientOutput::CloseSocket(socket, Code::NORMAL));
                self.lose(now, failure);
            }
            (Ok(()), None) if overfull => self.close_socket_and_lose(now, socket, Code::SLOW_CONSUMER),
            (Ok(()), None) => {}
        }
    }

    fn handle_frame(
        &mut self,
        now: Timestamp,
        connection: &mut Connection,
        raw: &RawFrame,
        awaiting: &mut Option<Option<ServerKey>>,
    ) -> Result<Option<ConnectFailure>, Violation> {
        match (ServerFrame::read(raw)?, awaiting.take()) {
            (ServerFrame::Welcome(welcome), Some(key)) => {
                self.welcome(connection, welcome, key, now);
                Ok(None)
            }
            (ServerFrame::Reject(Reject { code, reference, retry_after_ms, name, message }), Some(_)) => {
                Ok(Some(ConnectFailure::told(code, reference, retry_after_ms, name, message)))
            }
            (ServerFrame::Goaway(Goaway { code, reference, retry_after_ms, message }), None) => {
                Ok(Some(ConnectFailure::told(code, reference, retry_after_ms, String::new(), message)))
            }
            (ServerFrame::Peer(frame), None) => {
                let event = connection.handle_frame(now, frame, &mut self.session)?;
                self.outputs.extend(event.map(|event| ClientOutput::Event(ClientEvent::Peer(event))));
                Ok(None)
            }
            (ServerFrame::Welcome(_) | ServerFrame::Reject(_), None)
            | (ServerFrame::Goaway(_) | ServerFrame::Peer(_), Some(_)) => Err(Violation::UnexpectedFrame),
        }
    }

    fn welcome(&mut self, connection: &mut Connection, welcome: Welcome, key: Option<ServerKey>, now: Timestamp) {
        for id in self.session.learn_limit(welcome.max_message) {
            let outcome = Outcome::Failed(Failure::of(Code::TOO_LARGE));
            self.event(ClientEvent::Peer(PeerEvent::Settled { id, outcome }));
        }
        self.attempt = 0;
        let trust = match key {
            None => Trust::None,
            Some(_) if self.config.server_keys.is_empty() => Trust::Discovered,
            Some(_) => Trust::Pinned,
        };
        let suite = self.config.suite;
        self.event(ClientEvent::Session(SessionInfo { id: welcome.session, suite, server_key: key, trust, welcome }));
        self.event(ClientEvent::Status(Status::Connected));
        // The first round trip is worth knowing at once.
        connection.ping(now, &mut self.session);
    }

    fn violate(&mut self, now: Timestamp, socket: SocketId, violation: Violation) {
        self.close_socket_and_lose(now, socket, violation.code());
    }

    fn close_socket_and_lose(&mut self, now: Timestamp, socket: SocketId, code: Code) {
        self.outputs.push_back(ClientOutput::CloseSocket(socket, code));
        self.lose(now, ConnectFailure::of(code));
    }

    /// The try failed before anything was established: find out what the server says to a plain GET.
    fn diagnose(&mut self, now: Timestamp, failure: Code) {
        let (ticket, deadline) = self.ask(now);
        self.phase = Phase::Diagnosing { ticket, failure, deadline };
    }

    /// There was a connection, or nearly, and it is gone.
    fn lose(&mut self, now: Timestamp, failure: ConnectFailure) {
        if let (Phase::Connected { since, .. }, Some(backoff)) = (&self.phase, &mut self.backoff) {
            backoff.ended_after(now - *since);
        }
        self.abandon_served();
        for id in self.session.lose_connection() {
            self.event(ClientEvent::Peer(PeerEvent::Settled { id, outcome: Outcome::Unknown }));
        }
        self.fail(now, failure);
    }

    /// Nobody waits any more for what the application was to answer.
    fn abandon_served(&mut self) {
        if let Phase::Connected { connection, .. } = &mut self.phase {
            self.served = connection.served();
            let cancelled = connection.abandon().into_iter().map(PeerEvent::Cancelled);
            self.outputs.extend(cancelled.map(ClientEvent::Peer).map(ClientOutput::Event));
        }
    }

    /// Waits for the next try, or stops where a next try is of no use or not wanted.
    fn fail(&mut self, now: Timestamp, failure: ConnectFailure) {
        // Only what was sealed has a reference, and only that can stop a client for good.
        let stops = failure.reference.is_some() && failure.code.stops();
        match &mut self.backoff {
            Some(backoff) if !stops => {
                let wait = backoff.next(&mut self.entropy).max(failure.retry_after.unwrap_or_default());
                self.attempt = self.attempt.saturating_add(1);
                self.phase = Phase::Waiting { until: now + wait, failure: failure.clone() };
                let (attempt, retry_in) = (self.attempt, Some(wait));
                self.event(ClientEvent::Status(Status::Connecting { attempt, retry_in, error: Some(failure) }));
            }
            _ => {
                self.phase = Phase::Idle;
                self.stop(Code::NORMAL, Some(failure));
            }
        }
    }

    fn stop(&mut self, code: Code, failure: Option<ConnectFailure>) {
        if let Some(socket) = self.socket() {
            self.outputs.push_back(ClientOutput::CloseSocket(socket, code));
        }
        self.phase = Phase::Closed;
        for (id, outcome) in self.session.close() {
            self.event(ClientEvent::Peer(PeerEvent::Settled { id, outcome }));
        }
        self.event(ClientEvent::Status(Status::Closed(failure)));
    }

    fn handle_time(&mut self, now: Timestamp) {
        while let Some(id) = self.session.expire(now) {
            self.event(ClientEvent::Peer(PeerEvent::Settled { id, outcome: Outcome::TimedOut }));
        }
        match &mut self.phase {
            Phase::Discovering { deadline, .. } if *deadline <= now => {
                self.fail(now, ConnectFailure::of(Code::CONNECT_TIMEOUT));
            }
            Phase::Diagnosing { deadline, failure, .. } if *deadline <= now => {
                let failure = *failure;
                self.diagnosed(now, failure, &[]);
            }
            Phase::Opening { socket, deadline, .. }
            | Phase::AwaitingHello { socket, deadline, .. }
            | Phase::AwaitingWelcome { socket, deadline, .. }
                if *deadline <= now =>
            {
                let socket = *socket;
                self.close_socket_and_lose(now, socket, Code::CONNECT_TIMEOUT);
            }
            Phase::Connected { socket, connection, .. } => {
                let socket = *socket;
                let alive = connection.handle_timeout(now, &mut self.session);
                if !alive {
                    self.close_socket_and_lose(now, socket, Code::LIVENESS_TIMEOUT);
                }
            }
            Phase::Waiting { until, .. } if *until <= now => self.retry_now(now),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let phase = match &self.phase {
            Phase::Discovering { deadline, .. }
            | Phase::Diagnosing { deadline, .. }
            | Phase::Opening { deadline, .. }
            | Phase::AwaitingHello { deadline, .. }
            | Phase::AwaitingWelcome { deadline, .. } => Some(*deadline),
            Phase::Connected { connection, .. } => Some(connection.deadline()),
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Idle | Phase::Closed => None,
        };
        [phase, self.session.deadline()].into_iter().flatten().min()
    }
}
