//! What the client shows for itself: asked of the application before each connection and before it expires, shown in AUTH
//! or on the open connection, and judged by the server.
//!
//! Implements `docs/PROTOCOL.md` § AUTH, § Authenticate and Authenticated.

use zeroize::Zeroizing;

use super::*;

/// How long before what the client has shown expires another is asked for, unless it lives shortly, in milliseconds.
const RENEW_BEFORE_MS: u64 = 60_000;

/// By how much longer something has to last to be something fresh.
const RENEWS_BY: Duration = Duration::from_millis(500);

/// How fresh what the client has shown on this connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It does not expire, or nobody gives another.
    None,
    /// It is time to ask for another.
    At(Timestamp),
    /// It was asked for.
    Asked(Ticket),
}

impl Renewal {
    pub(super) fn is_due(self, now: Timestamp) -> bool {
        matches!(self, Self::At(at) if at <= now)
    }
}

impl ClientEndpoint {
    /// Shows something new for itself on the open connection, otherwise on the next one, for which it is reason enough to
    /// try at once unless the server has said when; and on those to come unless others are asked for. What comes of it is told by
    /// [`ClientEvent::Authenticated`]; where the connection is lost first, by the next one.
    ///
    /// # Errors
    /// [`Refused::Backpressure`] while the last is not answered, [`Refused::NotConnected`] while an answer to what was
    /// shown before is on its way, [`Refused::TooLarge`].
    pub fn authenticate(&mut self, now: Timestamp, credentials: Credentials) -> Result<AuthenticateId, Refused> {
        // Welcome would be taken for the answer to this.
        if matches!(self.phase, Phase::AwaitingWelcome { .. }) {
            return Err(Refused::NotConnected);
        }
        let id = self.show(credentials)?;
        // This is no renewal, which would have to last longer than what was before.
        self.expires = None;
        match self.phase {
            // Nobody has to say any more what is to be shown.
            Phase::Authorizing { key, .. } => self.open_socket(now, key),
            Phase::Waiting { .. } => self.retry_now(now),
            _ => {}
        }
        Ok(id)
    }

    /// Takes back what was to be shown, and tells whether it could: until a socket is opened for it.
    pub fn withdraw(&mut self, id: AuthenticateId) -> bool {
        self.authenticating.take_if(|showing| showing.id == id && !showing.begun).is_some()
    }

    fn show(&mut self, credentials: Credentials) -> Result<AuthenticateId, Refused> {
        self.open()?;
        if self.authenticating.is_some() {
            return Err(Refused::Backpressure);
        }
        if !self.has_room_for(&credentials) {
            return Err(Refused::TooLarge);
        }
        self.last_authenticate += 1;
        let id = AuthenticateId(self.last_authenticate);
        let begun = matches!(self.phase, Phase::Connected { .. } | Phase::Opening { .. } | Phase::AwaitingHello { .. });
        self.authenticating = Some(Showing { id, credentials: credentials.clone(), begun });
        if matches!(self.phase, Phase::Connected { .. }) {
            self.session.control(ClientFrame::Authenticate(Authenticate { id, credentials }).encode());
        }
        Ok(id)
    }

    /// Gets what the client is to show for itself, and opens the socket then.
    pub(super) fn authorize(&mut self, now: Timestamp, key: Option<ServerKey>) {
        if !self.config.asks_for_credentials || self.authenticating.is_some() {
            return self.open_socket(now, key);
        }
        let ticket = Ticket(self.number());
        let (attempt, reason) = (self.attempt, self.reason);
        self.outputs.push_back(ClientOutput::Authorize { ticket, attempt, reason });
        self.phase = Phase::Authorizing { ticket, key, deadline: now + self.config.connect_timeout };
    }

    pub(super) fn handle_authorized(&mut self, now: Timestamp, answered: Ticket, credentials: Option<Credentials>) {
        match &mut self.phase {
            Phase::Authorizing { ticket, key, .. } if *ticket == answered => {
                let key = *key;
                let Some(credentials) = credentials else {
                    return self.fail(now, ConnectFailure::of(Code::CREDENTIALS_UNAVAILABLE));
                };
                self.credentials = credentials;
                if !self.has_room_for(&self.credentials) {
                    return self.stop(Code::NORMAL, Some(ConnectFailure::of(Code::CREDENTIALS_TOO_LARGE)));
                }
                self.open_socket(now, key);
            }
            Phase::Connected { renewal, .. } if *renewal == Renewal::Asked(answered) => {
                *renewal = Renewal::None;
                // Where there is nothing better the connection goes on until the server ends it, and the next one asks.
                if let Some(credentials) = credentials {
                    let _ = self.show(credentials);
                }
            }
            _ => {}
        }
    }

    /// Whether these fit AUTH, and go on doing so beside whatever session a later connection asks for: who is let in with
    /// them can come back.
    fn has_room_for(&self, credentials: &Credentials) -> bool {
        self.auth_with(credentials, None).len() + MAX_RESUME <= MAX_AUTH
    }

    /// AUTH for the next connection. What the client shows was found to fit when it was given.
    pub(super) fn auth(&self) -> Zeroizing<Vec<u8>> {
        let credentials = self.authenticating.as_ref().map_or(&self.credentials, |showing| &showing.credentials);
        let resume = self.known.as_ref().map(|Known { id, epoch, secret }| Resume {
            session: *id,
            received: self.session.received(),
            attempt: self.last_number,
            epoch: *epoch,
            secret: secret.clone(),
        });
        self.auth_with(credentials, resume)
    }

    fn auth_with(&self, credentials: &Credentials, resume: Option<Resume>) -> Zeroizing<Vec<u8>> {
        let most = self.config.limits.max_message;
        let max_message = (most != DEFAULT_MAX_MESSAGE).then(|| u32::try_from(most).unwrap_or(u32::MAX));
        let (url, client_version) = (self.config.url.clone(), self.config.version.as_str().into());
        let credentials = credentials.clone();
        let auth = Auth { url, credentials, client_version, resume, max_message, client_id: self.id };
        Zeroizing::new(auth.encode())
    }

    /// The client is this by now. What went out with a key does not go out again as somebody else: the server knows it again
    /// only from who sent it, and would do it twice.
    pub(super) fn becomes(&mut self, subject: Option<SubjectMark>) {
        let before = std::mem::replace(&mut self.subject, subject);
        if before.is_some() && before != subject {
            for id in self.session.become_another() {
                self.event(ClientEvent::Peer(PeerEvent::Settled { id, outcome: Outcome::Unknown }));
            }
        }
    }

    /// When to ask for what follows on what the server has just let the client in with.
    pub(super) fn renewal(&mut self, admission: &Admission, now: Timestamp) -> Renewal {
        let expires = admission.expires_in_ms.map(|lives| now + Duration::from_millis(lives));
        // Who gives the same again has no better one: asked on, he would be asked faster and faster.
        let before = mem::replace(&mut self.expires, expires);
        let is_later = before.is_none_or(|before| expires.is_none_or(|expires| expires > before + RENEWS_BY));
        match admission.expires_in_ms {
            Some(lives) if self.config.asks_for_credentials && is_later => {
                // Early enough for an answer that takes its time, and not at once for what lives shortly.
                Renewal::At(now + Duration::from_millis(lives - (lives / 5).min(RENEW_BEFORE_MS)))
            }
            Some(_) | None => Renewal::None,
        }
    }

    /// Whether a connection is refused that showed what was not answered before.
    pub(super) fn denied(&mut self, code: Code, name: &str, message: &str) -> bool {
        // Of a server that is full or stops nobody learns what it thinks of what was shown.
        let judges = [Code::UNAUTHORIZED, Code::TOKEN_MISSING, Code::TOKEN_EXPIRED, Code::REFUSED].contains(&code);
        let Some(Showing { id, .. }) = self.authenticating.take_if(|_| judges) else { return false };
        let denial = Denial { code, name: name.to_owned(), message: message.to_owned() };
        self.event(ClientEvent::Authenticated(id, Box::new(Err(denial))));
        true
    }

    /// Asks for what is to be shown before the last expires.
    pub(super) fn renew(&mut self) {
        let ticket = Ticket(self.number());
        if let Phase::Connected { renewal, .. } = &mut self.phase {
            *renewal = Renewal::Asked(ticket);
            self.outputs.push_back(ClientOutput::Authorize { ticket, attempt: 0, reason: AuthorizeReason::Expiring });
        }
    }
}
