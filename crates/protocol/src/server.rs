//! The server's end of one socket.
//!
//! Implements `docs/PROTOCOL.md` § Server states. It is made for an accepted socket. The application decides who comes
//! in: between [`ServerEvent::Arrived`] and [`ServerEndpoint::admit`] or [`ServerEndpoint::reject`] nothing of the
//! client's reaches it. When the socket goes, the session stays here, parked, until its time is over or the endpoint of
//! the client's next socket takes it ([`ServerEndpoint::take_session`]).

mod admission;
mod channels;
mod interface;
mod memberships;

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use bytes::Bytes;

pub use channels::ChannelWish;
use channels::Channels;
pub use interface::*;
pub use memberships::{Memberships, RETURN};

use crate::{
    auth::{Auth, Resume},
    code::Code,
    connection::{Connection, Link},
    entropy::Entropy,
    error::{Refused, Violation},
    frame::{
        self, Admission, AuthenticateId, Authenticated, CallId, ClientFrame, Denial, Failure, Goaway, Ref, Reject,
        ResetReason, ResumeSecret, Resumption, ServerFrame, SessionId, Warn, Welcome,
    },
    limits::{DEFAULT_MAX_MESSAGE, MAX_RECORD_BEFORE_AUTH},
    noise::Responder,
    payload::{Name, Payload},
    record::{VERSION, kind},
    session::{Broadcast, CallOptions, Outcome, PeerEvent, Proof, Sent, Session},
    time::{Timestamp, UnixMillis},
    url::DialUrl,
};

enum Phase {
    AwaitingHello {
        deadline: Timestamp,
    },
    AwaitingFinish {
        responder: Box<Responder>,
        deadline: Timestamp,
    },
    Deciding {
        /// `None` once the client has said good-bye: to the session that it asked for, if that is its own.
        link: Option<Box<Link>>,
        arrival: Box<Arrival>,
        deadline: Timestamp,
    },
    Connected(Box<Connection>),
    /// The socket is gone, and the session waits for its client.
    Parked {
        until: Timestamp,
    },
    Closed,
}

/// What a record said of the client's intentions.
enum Said {
    Bye,
    More,
}

/// A session on its way from the endpoint of one socket to that of the next.
pub struct SavedSession {
    id: SessionId,
    proof: Proof,
    session: Session,
}

/// Whether a session can go on with a client that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumable {
    /// It can.
    Yes,
    /// The client has made a newer connection since: this one is late and means nothing any more.
    Stale,
    /// The client has received what was never sent, or forgotten what it had.
    No,
}

/// The server's end of one socket, as a state machine: hand in what happened, then drain what is to be done.
pub struct ServerEndpoint {
    config: Arc<ServerConfig>,
    entropy: Entropy,
    phase: Phase,
    /// The session's name and what its client proves it by; there from the admission on.
    known: Option<(SessionId, Proof)>,
    /// The client's number of the newest connection that resumed the session.
    attempt: u64,
    session: Session,
    /// When what the client has shown on this connection expires.
    expires: Option<Timestamp>,
    /// What the client has opened on this connection.
    channels: Channels,
    /// What the client shows and is not answered.
    authenticating: Option<AuthenticateId>,
    /// The socket takes no more for now.
    congested: bool,
    /// The reference that the client was told.
    told: Option<Ref>,
    outputs: VecDeque<ServerOutput>,
}

impl ServerEndpoint {
    /// An endpoint for a socket that was just accepted. `seed` is 32 secret random bytes, new for each.
    pub fn new(config: Arc<ServerConfig>, seed: [u8; 32], now: Timestamp) -> Self {
        let deadline = now + config.deadlines.handshake;
        let session = Session::new(config.limits.clone(), DEFAULT_MAX_MESSAGE);
        Self {
            config,
            entropy: Entropy::new(seed),
            phase: Phase::AwaitingHello { deadline },
            known: None,
            attempt: 0,
            session,
            expires: None,
            channels: Channels::default(),
            authenticating: None,
            congested: false,
            told: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes what happened. Drain [`Self::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Timestamp, input: ServerInput) {
        match input {
            ServerInput::Record(record) => self.handle_record(now, record),
            ServerInput::Text => self.violate(now, Violation::TextMessage),
            ServerInput::Oversized => self.violate(now, Violation::OversizedRecord),
            ServerInput::Congested(congested) => self.congested = congested,
            ServerInput::SocketClosed => match mem::replace(&mut self.phase, Phase::Closed) {
                Phase::AwaitingHello { .. } | Phase::AwaitingFinish { .. } => {
                    self.event(ServerEvent::HandshakeFailed(HandshakeFailure::SocketClosed));
                }
                deciding @ Phase::Deciding { link: None, .. } => self.phase = deciding,
                Phase::Deciding { .. } => self.end(Ended::SocketClosed),
                Phase::Connected(_) => self.park(now, Ended::SocketClosed),
                parked_or_closed => self.phase = parked_or_closed,
            },
            ServerInput::Wake => {}
        }
        self.handle_time(now);
    }

    /// The next thing to do. Drain until it says [`ServerOutput::Wait`].
    pub fn poll_output(&mut self) -> ServerOutput {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if matches!(self.phase, Phase::Connected(_)) && !self.congested {
                match self.poll_record() {
                    Ok(Some(record)) => return ServerOutput::Transmit(record),
                    // What was moved on its way may have left something to do.
                    Ok(None) if !self.outputs.is_empty() => continue,
                    Ok(None) => {}
                    // The keys are spent.
                    Err(violation) => {
                        self.end(Ended::Violation(violation));
                        self.close_socket(violation.code());
                        continue;
                    }
                }
            }
            if self.session.found_room() {
                return ServerOutput::Event(ServerEvent::Peer(PeerEvent::Room));
            }
            return ServerOutput::Wait(self.deadline());
        }
    }

    fn poll_record(&mut self) -> Result<Option<Bytes>, Violation> {
        let Phase::Connected(mut connection) = mem::replace(&mut self.phase, Phase::Closed) else { return Ok(None) };
        self.fill(&mut connection.updates);
        let record = connection.poll_record(&mut self.session);
        self.phase = Phase::Connected(connection);
        record
    }

    /// The client has said good-bye.
    fn leave(&mut self) {
        self.end(Ended::Bye);
        self.close_socket(Code::NORMAL);
    }

    /// Tells the client what it ought to know; `false` when it is not there.
    pub fn warn(&mut self, code: Code, message: &str) -> bool {
        let is_there = matches!(self.phase, Phase::Connected(_));
        if is_there {
            self.session.control(ServerFrame::Warn(Warn { code, message: message.to_owned() }).encode());
        }
        is_there
    }

    /// The reference that the client of this socket was told last, with why it ended: for the log.
    pub fn told(&self) -> Option<Ref> {
        self.told
    }

    /// Ends the connection with a code that the client is told; the session waits for its client.
    /// `retry_after` is when it may come back; zero leaves that to it.
    pub fn part(&mut self, now: Timestamp, code: Code, message: &str, retry_after: Duration) -> Option<Ref> {
        let Phase::Connected(mut connection) = self.take_if_connected()? else { return None };
        let (reference, goaway) = self.goaway(code, message, retry_after);
        let records = connection.flush(&mut self.session, &goaway).unwrap_or_default();
        self.outputs.extend(records.into_iter().map(ServerOutput::Transmit));
        self.park(now, Ended::Closed(code));
        self.close_socket(code);
        Some(reference)
    }

    fn take_if_connected(&mut self) -> Option<Phase> {
        matches!(self.phase, Phase::Connected(_)).then(|| mem::replace(&mut self.phase, Phase::Closed))
    }

    fn goaway(&mut self, code: Code, message: &str, retry_after: Duration) -> (Ref, Bytes) {
        let reference = Ref(self.entropy.array());
        self.told = Some(reference);
        let goaway = Goaway {
            code,
            reference,
            retry_after_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
            message: message.to_owned(),
        };
        (reference, ServerFrame::Goaway(goaway).encode())
    }

    /// Ends the session with a code that the client is told, after everything that waits. Gives what the log line is to
    /// say.
    pub fn close(&mut self, code: Code, message: &str, retry_after: Duration) -> Option<Ref> {
        self.finish(code, message, retry_after, Ended::Closed(code))
    }

    /// Gives the session up. The client hears of it as a reset when it comes back.
    pub fn lose(&mut self, reason: ResetReason) {
        self.finish(Code::SLOW_CONSUMER, "", Duration::ZERO, Ended::Lost(reason));
    }

    fn finish(&mut self, code: Code, message: &str, retry_after: Duration, ended: Ended) -> Option<Ref> {
        if matches!(self.phase, Phase::Deciding { .. }) {
            return self.reject(Rejection { message: message.to_owned(), retry_after, ..Rejection::of(code) });
        }
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Connected(mut connection) => {
                let (reference, goaway) = self.goaway(code, message, retry_after);
                let records = connection.flush(&mut self.session, &goaway).unwrap_or_default();
                self.outputs.extend(records.into_iter().map(ServerOutput::Transmit));
                self.end(ended);
                self.close_socket(if code == Code::GOING_AWAY { Code::SERVICE_RESTART } else { code });
                Some(reference)
            }
            Phase::AwaitingHello { .. } | Phase::AwaitingFinish { .. } => {
                self.close_socket(Code::HANDSHAKE_FAILED);
                None
            }
            Phase::Parked { .. } => {
                self.end(ended);
                None
            }
            Phase::Deciding { .. } | Phase::Closed => None,
        }
    }

    /// Calls the client's handler `name`. The outcome comes as [`PeerEvent::Settled`].
    ///
    /// # Errors
    /// When nothing was sent, and why.
    pub fn call(
        &mut self,
        now: Timestamp,
        name: Name,
        payload: Payload,
        options: CallOptions,
    ) -> Result<CallId, Refused> {
        self.admitted()?;
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

    /// Sends a notification, encoded for this client alone or for many. A volatile one that is dropped is no error.
    ///
    /// # Errors
    /// When nothing was sent, and why.
    pub fn send(&mut self, message: &Broadcast) -> Result<Sent, Refused> {
        self.admitted()?;
        if message.is_volatile() && !matches!(self.phase, Phase::Connected(_)) {
            return Ok(Sent::Dropped);
        }
        self.session.send(message)
    }

    /// Sends a notification for which there was room when the application asked. It must not be missing now, so a
    /// session that cannot keep it is given up.
    ///
    /// # Errors
    /// [`Refused::TooLarge`], [`Refused::Closed`].
    pub fn deliver(&mut self, message: &Broadcast) -> Result<Sent, Refused> {
        match self.send(message) {
            Err(Refused::Backpressure) => {
                self.session.push(message);
                self.check_overflow();
                Ok(Sent::Queued)
            }
            sent => sent,
        }
    }

    /// Sends an item of a stream that the client asked for; one that is over is passed over.
    ///
    /// # Errors
    /// [`Refused::Backpressure`] when the client takes none now ([`PeerEvent::Credit`] tells when it does) or there is no
    /// room ([`PeerEvent::Room`]); [`Refused::TooLarge`].
    pub fn item(&mut self, id: CallId, payload: Payload) -> Result<(), Refused> {
        self.session.item(id, payload)
    }

    /// Ends a stream that the client asked for.
    pub fn end_stream(&mut self, id: CallId) {
        self.session.end(id);
    }

    /// Answers a call; one that is not open any more is passed over.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] when the result is above the limit, or one of so many that the client does not read; it has
    /// been told by a failure.
    pub fn answer(&mut self, id: CallId, result: Result<Payload, Failure>) -> Result<(), Refused> {
        let answered = self.session.answer(id, result);
        self.check_overflow();
        answered
    }

    /// Answers that nobody takes cannot be kept for ever, and one that is missing is a lost session.
    fn check_overflow(&mut self) {
        if self.session.is_overfull() {
            self.lose(ResetReason::Overflow);
        }
    }

    /// The newest measured round trip.
    pub fn rtt(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Connected(connection) => connection.rtt(),
            Phase::AwaitingHello { .. }
            | Phase::AwaitingFinish { .. }
            | Phase::Deciding { .. }
            | Phase::Parked { .. }
            | Phase::Closed => None,
        }
    }

    /// Whether the endpoint has done all it will do.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether records up to the full size may come; before that [`MAX_RECORD_BEFORE_AUTH`] is the cap.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.phase, Phase::Connected(_))
    }

    /// Whether the socket is gone and the session waits for its client.
    pub fn is_parked(&self) -> bool {
        matches!(self.phase, Phase::Parked { .. })
    }

    /// Reliable messages that the client has not confirmed.
    pub fn undelivered(&self) -> usize {
        self.session.undelivered()
    }

    /// Bytes and frames that are kept until the client confirms them.
    pub fn kept(&self) -> (usize, usize) {
        self.session.kept()
    }

    /// Bytes that wait in the channels that the client has open, about.
    #[cfg(feature = "testing")]
    pub fn waiting_in_channels(&self) -> usize {
        self.channels.waiting_in_all()
    }

    /// How full its queues are.
    #[cfg(feature = "testing")]
    pub fn inspect(&self) -> crate::testing::Inspection {
        let mut inspection = self.session.inspect();
        if let Phase::Connected(connection) = &self.phase {
            connection.inspect(&mut inspection);
        }
        inspection.channel_waiting = self.channels.waiting();
        inspection
    }

    /// Makes it say at the next resumption that it has received no more than this.
    #[cfg(feature = "testing")]
    pub fn understate(&mut self, seq: crate::frame::Seq) {
        self.session.understate(seq);
    }

    fn admitted(&self) -> Result<(), Refused> {
        match self.phase {
            Phase::Connected(_) | Phase::Parked { .. } => Ok(()),
            Phase::AwaitingHello { .. } | Phase::AwaitingFinish { .. } | Phase::Deciding { .. } => {
                Err(Refused::NotConnected)
            }
            Phase::Closed => Err(Refused::Closed),
        }
    }

    fn event(&mut self, event: ServerEvent) {
        self.outputs.push_back(ServerOutput::Event(event));
    }

    /// The last output of all.
    fn close_socket(&mut self, code: Code) {
        self.outputs.push_back(ServerOutput::CloseSocket(code));
    }

    fn handle_record(&mut self, now: Timestamp, record: Bytes) {
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::AwaitingHello { .. } if record.len() > MAX_RECORD_BEFORE_AUTH => {
                self.fail_handshake(HandshakeFailure::Record);
            }
            Phase::AwaitingHello { deadline } => self.handle_hello(now, deadline, &record),
            Phase::AwaitingFinish { responder, .. } => {
                let (suite, shared_key, key) = (responder.suite, responder.shared_key, responder.key);
                let Ok(finished) = responder.finish(&record) else {
                    return self.fail_handshake(HandshakeFailure::ClientFinish);
                };
                let Ok(auth) = Auth::decode(&finished.auth) else {
                    return self.fail_handshake(HandshakeFailure::ClientFinish);
                };
                let (sealer, opener) = finished.keys.for_server(suite, self.config.rekey);
                let link = Link::Sealed { sealer, opener };
                let client_key = Some(finished.client_key);
                let (suite, server_key) = (Some(suite), Some(key));
                self.decide(now, link, Arrival { auth, suite, client_key, shared_key, server_key });
            }
            // A client speaks again only after Welcome, so that nothing of it is kept for somebody unknown. It may go.
            Phase::Deciding { link: Some(mut link), arrival, deadline } => match link.open(record) {
                Ok(plaintext) if plaintext == ClientFrame::Bye.encode() => match arrival.auth.resume {
                    Some(_) => self.phase = Phase::Deciding { link: None, arrival, deadline },
                    None => self.leave(),
                },
                Ok(_) | Err(_) => {
                    let violation = Violation::UnexpectedRecord;
                    self.end(Ended::Violation(violation));
                    self.close_socket(violation.code());
                }
            },
            left @ Phase::Deciding { link: None, .. } => self.phase = left,
            Phase::Connected(mut connection) => {
                let handled = self.handle_plaintext(now, &mut connection, record);
                self.phase = Phase::Connected(connection);
                match handled {
                    Err(violation) => self.violate(now, violation),
                    Ok(Said::Bye) => self.leave(),
                    Ok(Said::More) => self.check_overflow(),
                }
            }
            parked @ Phase::Parked { .. } => self.phase = parked,
            Phase::Closed => {}
        }
    }

    fn handle_plaintext(
        &mut self,
        now: Timestamp,
        connection: &mut Connection,
        record: Bytes,
    ) -> Result<Said, Violation> {
        let mut plaintext = connection.open(now, record)?;
        while let Some(raw) = frame::next_frame(&mut plaintext)? {
            let Some(raw) = self.session.take(now, raw)? else { continue };
            match ClientFrame::read(&raw)? {
                ClientFrame::Bye => return Ok(Said::Bye),
                ClientFrame::Authenticate(shown) => {
                    if self.authenticating.replace(shown.id).is_some() {
                        return Err(Violation::UnexpectedFrame);
                    }
                    self.outputs.push_back(ServerOutput::Event(ServerEvent::Authenticate(Box::new(shown))));
                }
                ClientFrame::Open(open) => self.handle_open(open, &mut connection.updates)?,
                ClientFrame::Close(handle) => self.handle_close(handle),
                ClientFrame::Hold(handle) => self.handle_hold(handle),
                ClientFrame::Request(mut request) => {
                    if let Some(id) = self.session.call_came(request.id, None, &request.payload)? {
                        request.id = id;
                        self.event(ServerEvent::Request(Box::new(request)));
                    }
                }
                ClientFrame::Volatile(append) => self.event(ServerEvent::Volatile(Box::new(append))),
                ClientFrame::Peer(frame) => {
                    let tell = |event| self.outputs.push_back(ServerOutput::Event(ServerEvent::Peer(event)));
                    connection.handle_frame(now, frame, &mut self.session, tell)?;
                }
            }
        }
        Ok(Said::More)
    }

    fn handle_hello(&mut self, now: Timestamp, deadline: Timestamp, record: &Bytes) {
        match &self.config.encryption {
            Encryption::On { identity, suites } => {
                let shared_keys = &self.config.shared_keys;
                match Responder::start(record, &identity.load(), suites, shared_keys, &mut self.entropy) {
                    Ok((responder, _)) if self.config.requires_shared_key && responder.shared_key.is_none() => {
                        self.fail_handshake(HandshakeFailure::ClientHello);
                    }
                    Ok((responder, hello)) => {
                        self.outputs.push_back(ServerOutput::Transmit(hello.into()));
                        self.phase = Phase::AwaitingFinish { responder: Box::new(responder), deadline };
                    }
                    Err(_) => self.fail_handshake(HandshakeFailure::ClientHello),
                }
            }
            Encryption::Off => {
                let auth = match &record[..] {
                    [kind::PLAIN_HELLO, VERSION, auth @ ..] => Auth::decode(auth).ok(),
                    _ => None,
                };
                match auth {
                    Some(auth) => {
                        let (suite, client_key, shared_key, server_key) = (None, None, None, None);
                        self.decide(now, Link::Plain, Arrival { auth, suite, client_key, shared_key, server_key });
                    }
                    None => self.fail_handshake(HandshakeFailure::ClientHello),
                }
            }
        }
    }

    fn decide(&mut self, now: Timestamp, link: Link, arrival: Arrival) {
        let public_urls = &self.config.public_urls;
        if public_urls.is_empty() || public_urls.contains(&arrival.auth.url) {
            let deadline = now + self.config.deadlines.decision;
            let arrival = Box::new(arrival);
            self.phase = Phase::Deciding { link: Some(Box::new(link)), arrival: arrival.clone(), deadline };
            return self.event(ServerEvent::Arrived(arrival));
        }
        let public: Vec<&str> = public_urls.iter().map(DialUrl::as_str).collect();
        let message = format!("dialled {}; the server's public addresses are {}", arrival.auth.url, public.join(", "));
        let reference = self.send_reject(link, Rejection { message, ..Rejection::of(Code::WRONG_ENDPOINT) });
        self.event(ServerEvent::HandshakeFailed(HandshakeFailure::WrongEndpoint(reference)));
        self.close_socket(Code::REJECTED);
    }

    /// Before HS3 has opened there is one failure, whatever its cause.
    fn fail_handshake(&mut self, failure: HandshakeFailure) {
        self.phase = Phase::Closed;
        self.event(ServerEvent::HandshakeFailed(failure));
        self.close_socket(Code::HANDSHAKE_FAILED);
    }

    fn violate(&mut self, now: Timestamp, violation: Violation) {
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::AwaitingHello { .. } | Phase::AwaitingFinish { .. } => {
                self.fail_handshake(HandshakeFailure::Record);
            }
            left @ Phase::Deciding { link: None, .. } => self.phase = left,
            Phase::Deciding { .. } => {
                self.end(Ended::Violation(violation));
                self.close_socket(violation.code());
            }
            Phase::Connected(_) if violation.spoils_session() => {
                self.end(Ended::Violation(violation));
                self.close_socket(violation.code());
            }
            Phase::Connected(_) => {
                self.park(now, Ended::Violation(violation));
                self.close_socket(violation.code());
            }
            parked @ Phase::Parked { .. } => self.phase = parked,
            Phase::Closed => {}
        }
    }

    /// The socket is gone; the session waits.
    fn park(&mut self, now: Timestamp, because: Ended) {
        self.session.disconnect();
        self.congested = false;
        (self.expires, self.authenticating) = (None, None);
        self.channels = Channels::default();
        self.phase = Phase::Parked { until: now + self.config.resume_window };
        self.event(ServerEvent::Parked(because));
    }

    /// Settles what is open and tells the application that it is over.
    fn end(&mut self, ended: Ended) {
        self.phase = Phase::Closed;
        self.channels = Channels::default();
        let undelivered = self.session.undelivered();
        for id in self.session.abandon() {
            self.event(ServerEvent::Peer(PeerEvent::Cancelled(id)));
        }
        for (id, outcome) in self.session.close() {
            self.event(ServerEvent::Peer(PeerEvent::Settled { id, outcome }));
        }
        self.event(ServerEvent::Ended(ended, undelivered));
    }

    fn handle_time(&mut self, now: Timestamp) {
        while let Some(id) = self.session.expire(now) {
            self.event(ServerEvent::Peer(PeerEvent::Settled { id, outcome: Outcome::TimedOut }));
        }
        match &mut self.phase {
            Phase::AwaitingHello { deadline } | Phase::AwaitingFinish { deadline, .. } if *deadline <= now => {
                self.fail_handshake(HandshakeFailure::Deadline);
            }
            Phase::Deciding { deadline, .. } if *deadline <= now => {
                self.reject(Rejection::of(Code::SERVER_FULL));
            }
            Phase::Connected(connection) => {
                if !connection.handle_timeout(now, &mut self.session) {
                    self.park(now, Ended::Closed(Code::LIVENESS_TIMEOUT));
                    self.close_socket(Code::LIVENESS_TIMEOUT);
                } else if self.expires.is_some_and(|expires| expires <= now) {
                    self.part(now, Code::TOKEN_EXPIRED, "", Duration::ZERO);
                }
            }
            Phase::Parked { until } if *until <= now => self.end(Ended::Lost(ResetReason::Expired)),
            Phase::AwaitingHello { .. }
            | Phase::AwaitingFinish { .. }
            | Phase::Deciding { .. }
            | Phase::Parked { .. }
            | Phase::Closed => {}
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::AwaitingHello { deadline }
            | Phase::AwaitingFinish { deadline, .. }
            | Phase::Deciding { deadline, .. } => Some(*deadline),
            Phase::Connected(connection) => {
                let connection = connection.deadline(&self.session);
                [self.session.deadline(), self.expires].into_iter().flatten().chain([connection]).min()
            }
            Phase::Parked { until } => Some(self.session.deadline().map_or(*until, |call| call.min(*until))),
            Phase::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests;
