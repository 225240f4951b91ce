//! Who the client of a session is: judged when it comes, and again whenever it shows something else.

use super::*;

impl Driver {
    /// The client is this from now on.
    pub(super) fn becomes(&mut self, entry: Entry) {
        self.entry = entry;
        if let Some((peer, _)) = &self.peer {
            peer.becomes(self.entry.clone());
            self.shared.end_if_revoked(peer);
        }
    }

    /// Decides on what the client shows on its open connection.
    pub(super) fn judge(&mut self, shown: Authenticate) {
        let Authenticate { id, credentials } = shown;
        let attempt = Attempt::new(self.address, &self.arrival, credentials);
        let shared = self.shared.clone();
        let judging = async move { Done::Judged(id, shared.judge(attempt).await) };
        // One at a time, so that it needs no handle: with the connection its answer means nothing.
        let (_, registration) = AbortHandle::new_pair();
        self.running.push(Abortable::new(judging.boxed(), registration));
    }

    pub(super) fn judged(&mut self, now: Timestamp, id: AuthenticateId, judged: Result<Entry, Outside>) {
        match judged {
            Ok(entry) => {
                let is_other = entry.principal.subject != self.entry.principal.subject;
                let held = match is_other.then(|| self.shared.limits.hold(&entry.principal.subject, false)).transpose()
                {
                    Ok(held) => held,
                    Err(too_much) => return self.judge_later(now, id, too_much, Some(&entry)),
                };
                if !self.endpoint.authenticated(now, id, Ok(entry.admission(SystemTime::now()))) {
                    return;
                }
                self.becomes(entry);
                self.check_channels();
                if let (Some(held), Some(line)) = (held, &mut self.line) {
                    line.place.of_subject = held;
                }
                self.shared.audit.accept(self.about(), true);
                if let (true, Some((peer, _)), Some(proof)) = (is_other, &self.peer, self.endpoint.proof()) {
                    let handle = SessionHandle { peer: peer.clone(), sockets: self.sockets.clone() };
                    self.shared.sessions().enter(peer.id(), owner(proof.clone(), &self.entry), handle);
                }
            }
            Err(Outside::TurnedAway(TurnedAway { denial, reason, way, .. })) => {
                self.shared.audit.refuse(About { way, ..self.about() }, &denial.name(), &reason);
                self.endpoint.authenticated(now, id, Err(denial));
            }
            Err(Outside::TooMuch(too_much)) => self.judge_later(now, id, too_much, None),
        }
    }

    /// The client came to a limit with what it showed, and stays who it is. `entry`: who it would be.
    fn judge_later(
        &mut self,
        now: Timestamp,
        id: AuthenticateId,
        TooMuch { limit, .. }: TooMuch,
        entry: Option<&Entry>,
    ) {
        self.shared.metrics.limit(limit);
        match entry {
            Some(Entry { principal, way, .. }) => {
                let subject = Some(&principal.subject);
                self.shared.audit.limit(About { subject, way: Some(*way), ..self.about() }, limit);
            }
            None => self.shared.audit.limit_address(self.about(), limit),
        }
        self.endpoint.authenticated(now, id, Err(TurnedAway::new(Code::RATE_LIMITED, "").denial));
    }

    /// The client, for a line of the audit.
    pub(super) fn about(&self) -> About<'_> {
        About {
            reference: self.endpoint.told(),
            session: self.peer.as_ref().map(|(peer, _)| peer.id()),
            subject: Some(&self.entry.principal.subject),
            address: Some(self.address),
            way: Some(self.entry.way),
        }
    }

    pub(super) fn permits(&self, guard: &Guard, name: &str) -> bool {
        guard.permits(&self.entry.principal, Operation::call(name))
    }

    /// Whose something is: the subject's; where everybody is anonymous, that of one client among them.
    pub(super) fn caller(&self) -> Caller {
        let subject = self.entry.principal.subject.clone();
        let session = || self.peer.as_ref().map(|(peer, _)| padded(peer.id()));
        let client = subject.is_anonymous().then(|| self.arrival.client().or_else(session)).flatten();
        Caller { subject, client }
    }

    /// Warns both sides where they are of versions that may differ in what they can do: before 1.0 those of another minor
    /// version, then those of another major one. Other clients have names of their own.
    pub(super) fn compare_versions(&mut self) {
        let ours = self.shared.endpoint.version.clone();
        let theirs = &self.arrival.auth.client_version;
        if let (Some(server), Some(client)) = (release(&ours), release(theirs))
            && server != client
        {
            tracing::warn!(server = ours, client = &**theirs, address = %self.address, "a client of another version");
            let message = format!("the server is {ours} and this client is {theirs}: update the older of the two");
            self.endpoint.warn(Code::VERSION_UNSUPPORTED, &message);
        }
    }
}

/// What a version has in common with those that it goes with; `None` where it is not one of ours.
fn release(version: &str) -> Option<(u64, Option<u64>)> {
    let mut numbers = version.strip_prefix("moorline/")?.split(['.', '-', '+']);
    let (major, minor) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((major, (major == 0).then_some(minor)))
}

fn padded(SessionId(id): SessionId) -> [u8; 32] {
    let mut padded = [0; 32];
    padded[..id.len()].copy_from_slice(&id);
    padded
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn versions_go_together_by_minor_before_1_0_and_by_major_after() {
        let pair = |one, other| release(one) == release(other);
        assert!(pair("moorline/0.1.0", "moorline/0.1.7-rc.1"));
        assert!(!pair("moorline/0.1.0", "moorline/0.2.0"));
        assert!(pair("moorline/1.4.0", "moorline/1.9.2"));
        assert!(!pair("moorline/1.4.0", "moorline/2.0.0"));
        assert_eq!((release("acme/3.1"), release("moorline/x")), (None, None));
    }
}
