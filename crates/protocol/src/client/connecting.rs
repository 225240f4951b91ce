//! The way to a connection: a key, a socket, a handshake, and what Welcome makes of the session.
//!
//! Implements `docs/PROTOCOL.md` § Client states, up to Connected, and § Discovery and trust.

use super::*;

impl ClientEndpoint {
    pub(super) fn begin_attempt(&mut self, now: Timestamp, error: Option<ConnectFailure>) {
        self.event(ClientEvent::Status(Status::Connecting { attempt: self.attempt, retry_in: None, error }));
        if self.config.suite.is_none() {
            return self.authorize(now, None);
        }
        let pins = &self.config.server_keys;
        if !pins.is_empty() {
            let key = pins[self.pin % pins.len()];
            return self.authorize(now, Some(key));
        }
        if self.discovered.is_some() {
            return self.authorize(now, self.discovered);
        }
        let url = &self.config.url;
        // A server that has the shared key is the right one, whatever its own key is.
        let is_proven = self.config.shared_key.is_some();
        if !(url.is_secure() || url.is_loopback() || self.config.allow_insecure_discovery || is_proven) {
            return self.stop(Code::NORMAL, Some(ConnectFailure::of(Code::SERVER_KEY_REQUIRED)));
        }
        let (ticket, deadline) = self.ask(now);
        self.phase = Phase::Discovering { ticket, deadline };
    }

    pub(super) fn ask(&mut self, now: Timestamp) -> (Ticket, Timestamp) {
        let ticket = Ticket(self.number());
        self.outputs.push_back(ClientOutput::Discover(ticket, self.config.url.http()));
        (ticket, now + self.config.connect_timeout)
    }

    pub(super) fn open_socket(&mut self, now: Timestamp, key: Option<ServerKey>) {
        let socket = SocketId(self.number());
        self.congested = false;
        if let Some(showing) = &mut self.authenticating {
            showing.begun = true;
        }
        let subprotocol = if key.is_some() { SUBPROTOCOL } else { SUBPROTOCOL_PLAIN };
        self.outputs.push_back(ClientOutput::OpenSocket { socket, url: self.config.url.clone(), subprotocol });
        self.phase = Phase::Opening { socket, key, deadline: now + self.config.connect_timeout };
    }

    pub(super) fn handle_discovery(&mut self, now: Timestamp, answered: Ticket, discovery: Discovery) {
        match self.phase {
            Phase::Discovering { ticket, .. } if ticket == answered => match discovery.key_for(self.config.suite) {
                Ok(key) => {
                    self.discovered = Some(key);
                    self.authorize(now, Some(key));
                }
                Err(code) => self.fail(now, ConnectFailure::of(code)),
            },
            Phase::Diagnosing { ticket, failure, .. } if ticket == answered => {
                let code = discovery.diagnose(failure, self.config.suite, &self.config.server_keys);
                let was_unreached = mem::replace(&mut self.unreached, discovery == Discovery::Unreachable);
                // A server that was not there before has come up since the socket was tried, and refused nothing.
                let has_come_up = code == Code::UPGRADE_REFUSED && was_unreached;
                self.diagnosed(now, if has_come_up { Code::SERVER_UNREACHABLE } else { code }, discovery.keys());
            }
            _ => {}
        }
    }

    /// The next try takes a key that the server says it has, or the next one of several.
    pub(super) fn diagnosed(&mut self, now: Timestamp, code: Code, keys: &[ServerKey]) {
        let fits = |pin: &ServerKey| keys.contains(pin);
        self.pin = self.config.server_keys.iter().position(fits).unwrap_or(self.pin.wrapping_add(1));
        self.discovered = None;
        self.fail(now, ConnectFailure::of(code));
    }

    pub(super) fn handle_opened(&mut self, socket: SocketId) {
        let Phase::Opening { key, deadline, .. } = self.phase else { return };
        let (Some(key), Some(suite)) = (key, self.config.suite) else {
            let hello = [&[kind::PLAIN_HELLO, VERSION], self.auth().as_slice()].concat();
            self.outputs.push_back(ClientOutput::Transmit(socket, hello.into()));
            self.phase = Phase::AwaitingWelcome { socket, key, link: Box::new(Link::Plain), deadline };
            return;
        };
        // Starting cannot fail: the parameters are constant and the keys of their length. The deadline covers the rest.
        let shared_key = self.config.shared_key.as_ref();
        if let Ok((initiator, hello)) = Initiator::start(suite, &key, &self.key, shared_key, &mut self.entropy) {
            self.outputs.push_back(ClientOutput::Transmit(socket, hello.into()));
            self.phase = Phase::AwaitingHello { socket, key, initiator: Box::new(initiator), deadline };
        }
    }

    pub(super) fn welcome(
        &mut self,
        connection: &mut Connection,
        welcome: Welcome,
        key: Option<ServerKey>,
        now: Timestamp,
    ) -> Result<(), Violation> {
        self.becomes(welcome.admission.subject);
        let resumed = match (welcome.resumption, &self.known) {
            (Resumption::Resumed(received), Some(known)) if known.id == welcome.session => {
                for receipt in self.session.resume(received)? {
                    self.event(ClientEvent::Peer(PeerEvent::Confirmed(receipt)));
                }
                true
            }
            (Resumption::Resumed(_), _) => return Err(Violation::WrongSequence),
            (Resumption::New, None) => false,
            (Resumption::New, Some(_)) => {
                self.reset(ResetReason::Unknown);
                false
            }
            (Resumption::Reset(reason), _) => {
                self.reset(reason);
                false
            }
        };
        self.known = Some(Known { id: welcome.session, epoch: welcome.epoch, secret: welcome.secret.clone() });
        let (calls, receipts) = self.session.learn_limit(welcome.max_message);
        for receipt in receipts {
            self.event(ClientEvent::Refused(receipt, Refused::TooLarge));
        }
        for (id, outcome) in calls {
            self.event(ClientEvent::Peer(PeerEvent::Settled { id, outcome }));
        }
        self.attempt = 0;
        let trust = match key {
            None => Trust::None,
            Some(_) if self.config.server_keys.is_empty() && self.config.shared_key.is_some() => Trust::Shared,
            Some(_) if self.config.server_keys.is_empty() => Trust::Discovered,
            Some(_) => Trust::Pinned,
        };
        let (id, suite) = (welcome.session, self.config.suite);
        let answered = self.authenticating.take().map(|showing| (showing, welcome.admission.clone()));
        self.event(ClientEvent::Session(Box::new(SessionInfo { id, resumed, suite, server_key: key, trust, welcome })));
        if let Some((Showing { id, credentials, .. }, admission)) = answered {
            self.credentials = credentials;
            self.event(ClientEvent::Authenticated(id, Box::new(Ok(admission))));
        }
        self.channels.connected();
        self.event(ClientEvent::Status(Status::Connected));
        // The first round trip is worth knowing at once.
        connection.ping(now, &mut self.session);
        Ok(())
    }

    /// The try failed before anything was established: find out what the server says to a plain GET.
    pub(super) fn diagnose(&mut self, now: Timestamp, failure: Code) {
        let (ticket, deadline) = self.ask(now);
        self.phase = Phase::Diagnosing { ticket, failure, deadline };
    }
}
