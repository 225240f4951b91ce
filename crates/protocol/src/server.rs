//! The server's end of one socket.
//!
//! Implements `docs/PROTOCOL.md` § Server states. It is made for an accepted socket and dies with it. The application
//! decides who comes in: between [`ServerEvent::Arrived`] and [`ServerEndpoint::admit`] or [`ServerEndpoint::reject`]
//! nothing of the client's reaches it.

mod interface;

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use bytes::Bytes;

pub use interface::*;

use crate::{
    auth::Auth,
    code::Code,
    connection::{Connection, Link, PeerEvent},
    entropy::Entropy,
    error::{Refused, Violation},
    frame::{CallId, ClientFrame, Failure, Goaway, Ref, Reject, ServerFrame, SessionId, Welcome},
    limits::MAX_RECORD_BEFORE_AUTH,
    noise::Responder,
    payload::{Name, Payload},
    record::{VERSION, kind},
    session::{Broadcast, Sent, Session},
    time::{Timestamp, UnixMillis},
    url::DialUrl,
};

enum Phase {
    AwaitingHello { deadline: Timestamp },
    AwaitingFinish { responder: Box<Responder>, deadline: Timestamp },
    Deciding { link: Box<Link>, deadline: Timestamp },
    Connected(Box<Connection>),
    Closed,
}

/// The server's end of one socket, as a state machine: hand in what happened, then drain what is to be done.
pub struct ServerEndpoint {
    config: Arc<ServerConfig>,
    entropy: Entropy,
    phase: Phase,
    session: Session,
    /// The socket takes no more for now.
    congested: bool,
    outputs: VecDeque<ServerOutput>,
}

impl ServerEndpoint {
    /// An endpoint for a socket that was just accepted. `seed` is 32 secret random bytes, new for each.
    pub fn new(config: Arc<ServerConfig>, seed: [u8; 32], now: Timestamp) -> Self {
        let deadline = now + config.deadlines.handshake;
        let session = Session::new(config.limits.clone());
        Self {
            config,
            entropy: Entropy::new(seed),
            phase: Phase::AwaitingHello { deadline },
            session,
            congested: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes what happened. Drain [`Self::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Timestamp, input: ServerInput) {
        match input {
            ServerInput::Record(record) => self.handle_record(now, record),
            ServerInput::Text => self.violate(Violation::TextMessage),
            ServerInput::Oversized => self.violate(Violation::OversizedRecord),
            ServerInput::Congested(congested) => self.congested = congested,
            ServerInput::SocketClosed => match mem::replace(&mut self.phase, Phase::Closed) {
                Phase::AwaitingHello { .. } | Phase::AwaitingFinish { .. } => {
                    self.event(ServerEvent::HandshakeFailed(HandshakeFailure::SocketClosed));
                }
                Phase::Deciding { .. } | Phase::Connected(_) => self.end(Ended::SocketClosed),
                Phase::Closed => {}
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
            if let Phase::Connected(connection) = &mut self.phase
                && !self.congested
            {
                match connection.poll_record(&mut self.session) {
                    Ok(Some(record)) => return ServerOutput::Transmit(record),
                    Ok(None) => {}
                    Err(violation) => {
                        self.violate(violation);
                        continue;
                    }
                }
            }
            return ServerOutput::Wait(self.deadline());
        }
    }

    /// Lets the client in: only between [`ServerEvent::Arrived`] and its end, otherwise nothing happens.
    pub fn admit(&mut self, now: Timestamp, wall_clock: UnixMillis) {
        let Phase::Deciding { link, .. } = self.take_if_deciding() else { return };
        let session = SessionId(self.entropy.array());
        let limits = &self.config.limits;
        let welcome = ServerFrame::Welcome(Welcome {
            session,
            server_time: wall_clock,
            heartbeat_ms: u64::try_from(self.config.heartbeat.idle.as_millis()).unwrap_or(u64::MAX),
            max_message: limits.max_message as u64,
            max_calls_in_flight: limits.max_calls_in_flight as u64,
            server_version: self.config.version.clone(),
        });
        self.session.control(welcome.encode());
        self.phase = Phase::Connected(Box::new(Connection::new(*link, self.config.heartbeat, limits, 0, now)));
        self.event(ServerEvent::Connected(session));
    }

    /// Does not let the client in: only between [`ServerEvent::Arrived`] and its end. Gives what the log line is to say.
    pub fn reject(&mut self, rejection: Rejection) -> Option<Ref> {
        let Phase::Deciding { link, .. } = self.take_if_deciding() else { return None };
        let code = rejection.code;
        let reference = self.send_reject(*link, rejection);
        self.end(Ended::Closed(code));
        self.close_socket(Code::REJECTED);
        Some(reference)
    }

    fn send_reject(&mut self, mut link: Link, rejection: Rejection) -> Ref {
        let reference = Ref(self.entropy.array());
        let reject = ServerFrame::Reject(Reject {
            code: rejection.code,
            reference,
            retry_after_ms: u64::try_from(rejection.retry_after.as_millis()).unwrap_or(u64::MAX),
            name: rejection.name,
            message: rejection.message,
        });
        if let Ok(record) = link.pack_frame(&reject.encode()) {
            self.outputs.push_back(ServerOutput::Transmit(record));
        }
        reference
    }

    fn take_if_deciding(&mut self) -> Phase {
        match &self.phase {
            Phase::Deciding { .. } => mem::replace(&mut self.phase, Phase::Closed),
            _ => Phase::Closed,
        }
    }

    /// Closes with a code that the client is told, after everything that waits. Gives what the log line is to say.
    pub fn close(&mut self, code: Code, message: &str, retry_after: Duration) -> Option<Ref> {
        if matches!(self.phase, Phase::Deciding { .. }) {
            return self.reject(Rejection { message: message.to_owned(), retry_after, ..Rejection::of(code) });
        }
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Connected(mut connection) => {
                let reference = Ref(self.entropy.array());
                let goaway = ServerFrame::Goaway(Goaway {
                    code,
                    reference,
                    retry_after_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
                    message: message.to_owned(),
                });
                let records = connection.flush(&mut self.session, goaway.encode()).unwrap_or_default();
                self.outputs.extend(records.into_iter().map(ServerOutput::Transmit));
                self.end(Ended::Closed(code));
                self.close_socket(if code == Code::GOING_AWAY { Code::SERVICE_RESTART } else { code });
                Some(reference)
            }
            Phase::AwaitingHello { .. } | Phase::AwaitingFinish { .. } => {
                self.close_socket(Code::HANDSHAKE_FAILED);
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
        timeout: Option<Duration>,
    ) -> Result<CallId, Refused> {
        self.connected()?;
        self.session.call(now, name, payload, timeout)
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
        self.connected()?;
        self.session.send(message)
    }

    /// Answers a call; one that is not open any more is passed over.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] when the result is above the limit; the client has been told by a failure.
    pub fn answer(&mut self, id: CallId, result: Result<Payload, Failure>) -> Result<(), Refused> {
        match &mut self.phase {
            Phase::Connected(connection) => connection.answer(id, result, &mut self.session),
            Phase::AwaitingHello { .. } | Phase::AwaitingFinish { .. } | Phase::Deciding { .. } | Phase::Closed => {
                Ok(())
            }
        }
    }

    /// The newest measured round trip.
    pub fn rtt(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Connected(connection) => connection.rtt(),
            _ => None,
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

    fn connected(&self) -> Result<(), Refused> {
        match self.phase {
            Phase::Connected(_) => Ok(()),
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
                let suite = responder.suite;
                let Ok(finished) = responder.finish(&record) else {
                    return self.fail_handshake(HandshakeFailure::ClientFinish);
                };
                let Ok(auth) = Auth::decode(&finished.auth) else {
                    return self.fail_handshake(HandshakeFailure::ClientFinish);
                };
                let (sealer, opener) = finished.keys.for_server(suite, self.config.rekey);
                let link = Link::Sealed { sealer, opener };
                self.decide(now, link, Arrival { auth, suite: Some(suite), client_key: Some(finished.client_key) });
            }
            // A client speaks again only after Welcome, so that nothing of it is kept for somebody unknown.
            Phase::Deciding { .. } => {
                self.end(Ended::Violation(Violation::UnexpectedRecord));
                self.close_socket(Violation::UnexpectedRecord.code());
            }
            Phase::Connected(mut connection) => {
                let (session, outputs) = (&mut self.session, &mut self.outputs);
                let mut bye = false;
                let handled = connection.handle_record(now, record, |connection, raw| {
                    match ClientFrame::read(&raw)? {
                        ClientFrame::Bye => bye = true,
                        ClientFrame::Peer(frame) => {
                            let event = connection.handle_frame(now, frame, session)?;
                            outputs.extend(event.map(|event| ServerOutput::Event(ServerEvent::Peer(event))));
                        }
                    }
                    Ok(!bye)
                });
                let overfull = self.congested && self.session.is_overfull();
                self.phase = Phase::Connected(connection);
                match handled {
                    Err(violation) => self.violate(violation),
                    Ok(()) if bye => {
                        self.end(Ended::Bye);
                        self.close_socket(Code::NORMAL);
                    }
                    Ok(()) if overfull => {
                        self.close(Code::SLOW_CONSUMER, "", Duration::ZERO);
                    }
                    Ok(()) => {}
                }
            }
            Phase::Closed => {}
        }
    }

    fn handle_hello(&mut self, now: Timestamp, deadline: Timestamp, record: &Bytes) {
        match &self.config.encryption {
            Encryption::On { identity, suites } => {
                match Responder::start(record, identity, suites, &mut self.entropy) {
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
                    Some(auth) => self.decide(now, Link::Plain, Arrival { auth, suite: None, client_key: None }),
                    None => self.fail_handshake(HandshakeFailure::ClientHello),
                }
            }
        }
    }

    fn decide(&mut self, now: Timestamp, link: Link, arrival: Arrival) {
        let public_urls = &self.config.public_urls;
        if public_urls.is_empty() || public_urls.contains(&arrival.auth.url) {
            let deadline = now + self.config.deadlines.decision;
            self.phase = Phase::Deciding { link: Box::new(link), deadline };
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

    fn violate(&mut self, violation: Violation) {
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::AwaitingHello { .. } | Phase::AwaitingFinish { .. } => {
                self.fail_handshake(HandshakeFailure::Record);
            }
            Phase::Deciding { .. } | Phase::Connected(_) => {
                self.end(Ended::Violation(violation));
                self.close_socket(violation.code());
            }
            Phase::Closed => {}
        }
    }

    /// Settles what is open and tells the application that it is over.
    fn end(&mut self, ended: Ended) {
        self.phase = Phase::Closed;
        for (id, outcome) in self.session.close() {
            self.event(ServerEvent::Peer(PeerEvent::Settled { id, outcome }));
        }
        self.event(ServerEvent::Ended(ended));
    }

    fn handle_time(&mut self, now: Timestamp) {
        while let Some(id) = self.session.expire(now) {
            self.event(ServerEvent::Peer(PeerEvent::Settled { id, outcome: crate::session::Outcome::TimedOut }));
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
                    self.end(Ended::Closed(Code::LIVENESS_TIMEOUT));
                    self.close_socket(Code::LIVENESS_TIMEOUT);
                }
            }
            Phase::AwaitingHello { .. } | Phase::AwaitingFinish { .. } | Phase::Deciding { .. } | Phase::Closed => {}
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::AwaitingHello { deadline }
            | Phase::AwaitingFinish { deadline, .. }
            | Phase::Deciding { deadline, .. } => Some(*deadline),
            Phase::Connected(connection) => {
                Some(self.session.deadline().map_or(connection.deadline(), |call| call.min(connection.deadline())))
            }
            Phase::Closed => None,
        }
    }
}
