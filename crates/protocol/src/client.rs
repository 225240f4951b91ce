//! The client's end: one endpoint for as long as the client lives, over one socket after another.
//!
//! Implements `docs/PROTOCOL.md` § Client states. Every socket has a [`SocketId`] and every discovery a [`Ticket`]; what
//! comes late from an older one is passed over.

mod channels;
mod connecting;
mod identity;
mod interface;
mod records;

use std::{collections::VecDeque, mem, time::Duration};

use bytes::Bytes;

use channels::Channels;
pub use channels::{ChannelEvent, Follow, Subscription};
use identity::Renewal;
pub use interface::*;

use crate::{
    auth::{Auth, MAX_RESUME, Resume},
    backoff::Backoff,
    code::Code,
    connection::{Connection, Link},
    discovery::{Discovery, Trust},
    entropy::Entropy,
    error::{Refused, Violation},
    frame::{
        self, Admission, Authenticate, AuthenticateId, Authenticated, CallId, ClientFrame, Credentials, Denial, Epoch,
        Failure, Goaway, RawFrame, Reject, ResetReason, ResumeSecret, Resumption, ServerFrame, SessionId, Warn,
        Welcome,
    },
    key::{ServerKey, StaticKey},
    limits::{DEFAULT_MAX_MESSAGE, MAX_AUTH, MAX_PAYLOAD},
    noise::Initiator,
    payload::{Name, Payload},
    record::{SUBPROTOCOL, SUBPROTOCOL_PLAIN, VERSION, kind},
    session::{Broadcast, CallOptions, Outcome, PeerEvent, Receipt, Session},
    subject::SubjectMark,
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
    /// Waiting for what the client is to show for itself.
    Authorizing {
        ticket: Ticket,
        key: Option<ServerKey>,
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
        renewal: Renewal,
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
        /// When the server wants to be asked again at the earliest: not even a wait that is cut short ends before.
        not_before: Timestamp,
        failure: ConnectFailure,
    },
    Closed,
}

/// A session that the server knows, or has known.
struct Known {
    id: SessionId,
    epoch: Epoch,
    secret: Option<ResumeSecret>,
}

/// What the application shows for itself.
struct Showing {
    id: AuthenticateId,
    credentials: Credentials,
    /// A server has seen it, or is about to.
    begun: bool,
}

/// The client's end as a state machine: hand in what happened, then drain what is to be done.
pub struct ClientEndpoint {
    config: ClientConfig,
    entropy: Entropy,
    /// The client's key, for as long as it lives: a session belongs to it.
    key: StaticKey,
    /// What stands for the key in plain mode.
    id: Option<[u8; 16]>,
    phase: Phase,
    session: Session,
    /// What the next connection shows.
    credentials: Credentials,
    /// Why they are asked for next time.
    reason: AuthorizeReason,
    /// What was shown, or is to be, and is not answered. Until then it is shown to every connection.
    authenticating: Option<Showing>,
    /// What the application follows.
    channels: Channels,
    /// When what the server let the client in with expires.
    expires: Option<Timestamp>,
    last_authenticate: u64,
    /// Which subject it is, as the server said last.
    subject: Option<SubjectMark>,
    /// The session that the next connection asks to go on with.
    known: Option<Known>,
    /// The socket takes no more for now.
    congested: bool,
    backoff: Option<Backoff>,
    /// The try that is under way or comes next; 0 while connected.
    attempt: u32,
    /// Whoever was asked last by a plain GET was not there.
    unreached: bool,
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
        let mut entropy = Entropy::new(seed);
        Self {
            key: StaticKey::generate(&mut entropy),
            id: config.suite.is_none().then(|| entropy.array()),
            session: Session::new(config.limits.clone(), MAX_PAYLOAD),
            credentials: Credentials::default(),
            reason: AuthorizeReason::Connect,
            authenticating: None,
            channels: Channels::default(),
            expires: None,
            last_authenticate: 0,
            subject: None,
            known: None,
            congested: false,
            backoff: config.backoff.map(Backoff::new),
            config,
            entropy,
            phase: Phase::Idle,
            attempt: 1,
            unreached: false,
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
            ClientInput::Authorized(ticket, credentials) => self.handle_authorized(now, ticket, credentials),
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
        {
            self.channels.fill(&mut connection.updates);
            if let Ok(Some(record)) = connection.poll_record(&mut self.session) {
                return ClientOutput::Transmit(*socket, record);
            }
        }
        if self.session.found_room() {
            return ClientOutput::Event(ClientEvent::Peer(PeerEvent::Room));
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
        options: CallOptions,
    ) -> Result<CallId, Refused> {
        self.open()?;
        self.session.call(now, name, payload, options)
    }

    /// Takes more items of a stream.
    pub fn grant(&mut self, id: CallId, more: u64) {
        self.session.grant(id, more);
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
        let message = Broadcast::new(name, payload, volatile)?;
        if volatile && !matches!(self.phase, Phase::Connected { .. }) {
            return Ok(());
        }
        self.session.send(&message).map(drop)
    }

    /// Sends a notification whose arrival is told by [`PeerEvent::Confirmed`]: the server has handed it on.
    ///
    /// Every receipt is told of once: so, or in the list of a [`Reset`] that comes first, or by
    /// [`ClientEvent::Refused`]. Only with [`Status::Closed`] nothing more is told of those that are left: nobody will
    /// know any more whether they arrived.
    ///
    /// # Errors
    /// When nothing was sent and nothing will be, and why.
    pub fn notify_confirmed(&mut self, name: Name, payload: Payload) -> Result<Receipt, Refused> {
        self.open()?;
        self.session.notify_confirmed(name, payload)
    }

    /// Answers a call of the server; one that is not open any more is passed over. Without a connection the answer
    /// waits for the next one.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] when the result is above the limit, or one of so many that the server does not read; it has
    /// been told by a failure.
    pub fn answer(&mut self, now: Timestamp, id: CallId, result: Result<Payload, Failure>) -> Result<(), Refused> {
        let answered = self.session.answer(id, result);
        self.check_overflow(now);
        answered
    }

    /// Sends an item of a stream that the server asked for; one that is over is passed over.
    ///
    /// # Errors
    /// [`Refused::Backpressure`] when the server takes none now ([`PeerEvent::Credit`] tells when it does) or there is no
    /// room ([`PeerEvent::Room`]); [`Refused::TooLarge`].
    pub fn item(&mut self, id: CallId, payload: Payload) -> Result<(), Refused> {
        self.session.item(id, payload)
    }

    /// Ends a stream that the server asked for.
    pub fn end(&mut self, id: CallId) {
        self.session.end(id);
    }

    /// The network is back or the page is shown again: a wait for the next try ends now, or, where the server has said
    /// when it wants to be asked again, then.
    pub fn retry_now(&mut self, now: Timestamp) {
        let Phase::Waiting { until, not_before, failure } = &mut self.phase else { return };
        if *not_before <= now {
            let failure = failure.clone();
            self.begin_attempt(now, Some(failure));
        } else if *not_before < *until {
            *until = *not_before;
            let (attempt, retry_in, error) = (self.attempt, Some(*until - now), Some(failure.clone()));
            self.event(ClientEvent::Status(Status::Connecting { attempt, retry_in, error }));
        }
    }

    /// The public half of the client's key, to which a token may be bound.
    pub fn client_key(&self) -> [u8; 32] {
        self.key.public().0
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

    /// How full its queues are.
    #[cfg(feature = "testing")]
    pub fn inspect(&self) -> crate::testing::Inspection {
        let mut inspection = self.session.inspect();
        if let Phase::Connected { connection, .. } = &self.phase {
            connection.inspect(&mut inspection);
        }
        inspection
    }

    /// Makes it say at the next resumption that it has received no more than this.
    #[cfg(feature = "testing")]
    pub fn understate(&mut self, seq: crate::frame::Seq) {
        self.session.understate(seq);
    }

    /// Makes it ask for somebody else's session, as a confused client would.
    #[cfg(feature = "testing")]
    pub fn pretend(&mut self, id: SessionId) {
        if let Some(known) = &mut self.known {
            known.id = id;
        }
    }

    /// Ends it on purpose: what waits goes out, the server hears good-bye, every open call settles.
    pub fn close(&mut self) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let bye = ClientFrame::Bye.encode();
        let (socket, records) = match &mut self.phase {
            Phase::Connected { socket, connection, .. } => (*socket, connection.flush(&mut self.session, &bye)),
            // Welcome may be on its way, and a session with it that would wait for this client.
            Phase::AwaitingWelcome { socket, link, .. } => (*socket, link.pack_frame(&bye).map(|record| vec![record])),
            Phase::Idle
            | Phase::Discovering { .. }
            | Phase::Authorizing { .. }
            | Phase::Opening { .. }
            | Phase::AwaitingHello { .. }
            | Phase::Diagnosing { .. }
            | Phase::Waiting { .. }
            | Phase::Closed => (SocketId(0), Ok(Vec::new())),
        };
        let transmit = records.unwrap_or_default().into_iter().map(|record| ClientOutput::Transmit(socket, record));
        self.outputs.extend(transmit);
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
            | Phase::Authorizing { .. }
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

    /// The session that was known is no more: tells what that means, before anything of the next one.
    fn reset(&mut self, reason: ResetReason) {
        if self.known.take().is_none() {
            return;
        }
        let lost = self.session.reset();
        self.event(ClientEvent::Reset(Reset { reason, unconfirmed: lost.unconfirmed }));
        for id in lost.unknown {
            self.event(ClientEvent::Peer(PeerEvent::Settled { id, outcome: Outcome::Unknown }));
        }
        for id in lost.abandoned {
            self.event(ClientEvent::Peer(PeerEvent::Cancelled(id)));
        }
    }

    /// Answers that nobody takes cannot be kept for ever, and one that is missing is a lost session.
    fn check_overflow(&mut self, now: Timestamp) {
        if !self.session.is_overfull() {
            return;
        }
        self.reset(ResetReason::Overflow);
        if let Some(socket) = self.socket() {
            self.close_socket_and_lose(now, socket, Code::SLOW_CONSUMER);
        }
    }

    fn violate(&mut self, now: Timestamp, socket: SocketId, violation: Violation) {
        if violation.spoils_session() {
            self.reset(ResetReason::Unknown);
        }
        self.close_socket_and_lose(now, socket, violation.code());
    }

    fn close_socket_and_lose(&mut self, now: Timestamp, socket: SocketId, code: Code) {
        self.outputs.push_back(ClientOutput::CloseSocket(socket, code));
        self.lose(now, ConnectFailure::of(code));
    }

    /// There was a connection, or nearly, and it is gone.
    fn lose(&mut self, now: Timestamp, failure: ConnectFailure) {
        if let (Phase::Connected { since, .. }, Some(backoff)) = (&self.phase, &mut self.backoff) {
            backoff.ended_after(now - *since);
        }
        self.session.disconnect();
        self.channels.disconnected();
        self.fail(now, failure);
    }

    /// Waits for the next try, or stops where a next try is of no use or not wanted.
    fn fail(&mut self, now: Timestamp, failure: ConnectFailure) {
        let expired = failure.reference.is_some() && failure.code == Code::TOKEN_EXPIRED;
        self.reason = if expired { AuthorizeReason::Expired } else { AuthorizeReason::Reconnect };
        // Only what was sealed has a reference, and only that can stop a client for good.
        let stops = failure.reference.is_some() && failure.code.stops();
        match &mut self.backoff {
            Some(backoff) if !stops => {
                let asked = failure.retry_after.unwrap_or_default();
                let wait = backoff.next(&mut self.entropy).max(asked);
                self.attempt = self.attempt.saturating_add(1);
                self.phase = Phase::Waiting { until: now + wait, not_before: now + asked, failure: failure.clone() };
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
        self.channels = Channels::default();
        for id in self.session.abandon() {
            self.event(ClientEvent::Peer(PeerEvent::Cancelled(id)));
        }
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
            Phase::Authorizing { deadline, .. } if *deadline <= now => {
                self.fail(now, ConnectFailure::of(Code::CREDENTIALS_UNAVAILABLE));
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
            Phase::Connected { socket, connection, renewal, .. } => {
                let socket = *socket;
                let alive = connection.handle_timeout(now, &mut self.session);
                let due = renewal.is_due(now);
                if !alive {
                    self.close_socket_and_lose(now, socket, Code::LIVENESS_TIMEOUT);
                } else if due {
                    self.renew();
                }
            }
            Phase::Waiting { until, .. } if *until <= now => self.retry_now(now),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let phase = match &self.phase {
            Phase::Discovering { deadline, .. }
            | Phase::Authorizing { deadline, .. }
            | Phase::Diagnosing { deadline, .. }
            | Phase::Opening { deadline, .. }
            | Phase::AwaitingHello { deadline, .. }
            | Phase::AwaitingWelcome { deadline, .. } => Some(*deadline),
            Phase::Connected { connection, renewal, .. } => {
                let connection = connection.deadline(&self.session);
                Some(if let Renewal::At(at) = renewal { connection.min(*at) } else { connection })
            }
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Idle | Phase::Closed => None,
        };
        [phase, self.session.deadline()].into_iter().flatten().min()
    }
}
