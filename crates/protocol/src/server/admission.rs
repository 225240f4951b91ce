//! From the decision on a client to its session: a new one, the one that it asked for, or none; and who it is by then.
//!
//! Implements `docs/PROTOCOL.md` § Resumption, from Welcome on, § Reject, § Authenticate and Authenticated.

use super::*;

impl ServerEndpoint {
    /// Lets the client in with a new session: only between [`ServerEvent::Arrived`] and its end, otherwise nothing
    /// happens. `reset` says why it is not the session that the client asked for.
    pub fn admit(&mut self, now: Timestamp, wall_clock: UnixMillis, reset: Option<ResetReason>, admission: Admission) {
        let Phase::Deciding { link, arrival, .. } = self.take_if_deciding() else { return };
        let Some(link) = link else { return self.leave() };
        let id = SessionId(self.entropy.array());
        let proof = match arrival.client_key {
            Some(key) => Proof::Key(key),
            None => Proof::Secret(ResumeSecret(self.entropy.array())),
        };
        let resumption = match (reset, &arrival.auth.resume) {
            (Some(reason), Some(_)) => Resumption::Reset(reason),
            _ => Resumption::New,
        };
        self.known = Some((id, proof));
        if let Some(most) = arrival.auth.max_message {
            // More than this side takes itself is never kept for anybody: the client would choose what it costs.
            let most = u64::from(most).min(self.config.limits.max_message.max(DEFAULT_MAX_MESSAGE) as u64);
            // Nothing waits in a new session, so that nothing is refused.
            self.session.learn_limit(most);
        }
        self.welcome(now, *link, wall_clock, resumption, admission);
        self.event(ServerEvent::Connected(id));
    }

    /// Lets the client in with the session that it asked for: only between [`ServerEvent::Arrived`] and its end.
    ///
    /// # Errors
    /// Gives the session back when it cannot go on with what the client has received of it, or nobody waits.
    pub fn resume(
        &mut self,
        now: Timestamp,
        wall_clock: UnixMillis,
        saved: SavedSession,
        admission: Admission,
    ) -> Result<(), Box<SavedSession>> {
        let asked = match &self.phase {
            Phase::Deciding { arrival, .. } => {
                arrival.auth.resume.as_ref().map(|asked| (asked.received, asked.attempt))
            }
            Phase::AwaitingHello { .. }
            | Phase::AwaitingFinish { .. }
            | Phase::Connected(_)
            | Phase::Parked { .. }
            | Phase::Closed => None,
        };
        let Some((received, attempt)) = asked.filter(|(received, _)| saved.session.can_resume(*received)) else {
            return Err(Box::new(saved));
        };
        let Phase::Deciding { link, .. } = self.take_if_deciding() else { return Err(Box::new(saved)) };
        let SavedSession { id, proof, session } = saved;
        let link = link.map(|link| *link);
        self.known = Some((id, proof));
        self.attempt = attempt;
        self.session = session;
        // It can: that was asked before.
        for receipt in self.session.resume(received).unwrap_or_default() {
            self.event(ServerEvent::Peer(PeerEvent::Confirmed(receipt)));
        }
        let has = self.session.received();
        match link {
            Some(link) => {
                self.welcome(now, link, wall_clock, Resumption::Resumed(has), admission);
                self.event(ServerEvent::Resumed);
            }
            None => self.leave(),
        }
        Ok(())
    }

    pub(super) fn welcome(
        &mut self,
        now: Timestamp,
        link: Link,
        wall_clock: UnixMillis,
        resumption: Resumption,
        admission: Admission,
    ) {
        let Some((session, proof)) = &self.known else { return };
        self.expires = expiry(&admission, now);
        let limits = &self.config.limits;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let welcome = Welcome {
            session: *session,
            server_time: wall_clock,
            heartbeat_ms: millis(self.config.heartbeat.idle),
            max_message: limits.max_message as u64,
            max_calls_in_flight: limits.max_calls_in_flight as u64,
            server_version: self.config.version.clone(),
            resumption,
            epoch: self.config.epoch,
            resume_window_ms: millis(self.config.resume_window),
            secret: match proof {
                Proof::Key(_) => None,
                Proof::Secret(secret) => Some(secret.clone()),
            },
            admission,
            pace: self.config.pace,
        };
        self.session.greet(ServerFrame::Welcome(welcome).encode());
        self.phase = Phase::Connected(Box::new(Connection::new(link, self.config.heartbeat, now)));
    }

    /// Answers [`ServerEvent::Authenticate`]: who the client is now, or why it is who it was. An answer that comes when
    /// the connection is over is passed over: `false`.
    pub fn authenticated(&mut self, now: Timestamp, id: AuthenticateId, result: Result<Admission, Denial>) -> bool {
        // Whose session was taken, or is over, is not the one to say who the client is.
        let is_connected = matches!(self.phase, Phase::Connected(_));
        if !is_connected || self.authenticating.take_if(|asked| *asked == id).is_none() {
            return false;
        }
        if let Ok(admission) = &result {
            self.expires = expiry(admission, now);
        }
        self.session.control(ServerFrame::Authenticated(Authenticated { id, result }).encode());
        true
    }

    /// Whether the session can go on with who asks for it so. Ask before [`Self::take_session`], which fences.
    pub fn can_resume(&self, asked: &Resume) -> Resumable {
        if asked.attempt <= self.attempt {
            Resumable::Stale
        } else if self.session.can_resume(asked.received) {
            Resumable::Yes
        } else {
            Resumable::No
        }
    }

    /// Gives the session away, to the endpoint of a newer socket of the same client. This one is fenced: its socket
    /// closes, and nothing that comes from it counts any more.
    pub fn take_session(&mut self) -> Option<SavedSession> {
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Connected(mut connection) => {
                self.channels = Channels::default();
                let (_, goaway) = self.goaway(Code::SUPERSEDED, "", Duration::ZERO);
                self.outputs.extend(connection.seal(&goaway).ok().map(ServerOutput::Transmit));
                self.close_socket(Code::SUPERSEDED);
            }
            Phase::Parked { .. } => {}
            other => {
                self.phase = other;
                return None;
            }
        }
        let (id, proof) = self.known.take()?;
        let session = mem::replace(&mut self.session, Session::new(self.config.limits.clone(), DEFAULT_MAX_MESSAGE));
        Some(SavedSession { id, proof, session })
    }

    /// Takes back a session that could not go on: it is over.
    pub fn lose_session(&mut self, saved: SavedSession) {
        self.session = saved.session;
        self.end(Ended::Lost(ResetReason::Unknown));
    }

    /// What the client proves the session by; there from the admission on.
    pub fn proof(&self) -> Option<&Proof> {
        self.known.as_ref().map(|(_, proof)| proof)
    }

    /// Does not let the client in: only between [`ServerEvent::Arrived`] and its end. Gives what the log line is to say.
    pub fn reject(&mut self, rejection: Rejection) -> Option<Ref> {
        let Phase::Deciding { link, .. } = self.take_if_deciding() else { return None };
        let code = rejection.code;
        let reference = link.map(|link| self.send_reject(*link, rejection));
        self.end(Ended::Closed(code));
        self.close_socket(Code::REJECTED);
        reference
    }

    pub(super) fn send_reject(&mut self, mut link: Link, rejection: Rejection) -> Ref {
        let reference = Ref(self.entropy.array());
        self.told = Some(reference);
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

    pub(super) fn take_if_deciding(&mut self) -> Phase {
        match &self.phase {
            Phase::Deciding { .. } => mem::replace(&mut self.phase, Phase::Closed),
            Phase::AwaitingHello { .. }
            | Phase::AwaitingFinish { .. }
            | Phase::Connected(_)
            | Phase::Parked { .. }
            | Phase::Closed => Phase::Closed,
        }
    }
}

fn expiry(admission: &Admission, now: Timestamp) -> Option<Timestamp> {
    admission.expires_in_ms.map(|lives| now + Duration::from_millis(lives))
}
