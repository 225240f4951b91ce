//! What the server's records say: the handshake's answer, Welcome or Reject, then frames.
//!
//! Implements `docs/PROTOCOL.md` § Client states, § Frames.

use super::*;
use crate::limits::MAX_HEAD;

impl ClientEndpoint {
    pub(super) fn handle_record(&mut self, now: Timestamp, socket: SocketId, record: Bytes) {
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
                let connection = Connection::new(*link, self.config.heartbeat, now);
                let renewal = Renewal::None;
                self.phase = Phase::Connected { socket, connection: Box::new(connection), since: now, renewal };
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
        let phase = mem::replace(&mut self.phase, Phase::Idle);
        let Phase::Connected { mut connection, since, mut renewal, .. } = phase else { return };
        let handled = self.handle_plaintext(now, &mut connection, &mut renewal, record, &mut awaiting);
        self.phase = Phase::Connected { socket, connection, since, renewal };
        match handled {
            Err(violation) => self.violate(now, socket, violation),
            Ok(Some(failure)) => {
                self.outputs.push_back(ClientOutput::CloseSocket(socket, Code::NORMAL));
                self.lose(now, failure);
            }
            Ok(None) => self.check_overflow(now),
        }
    }

    /// `Some` where the server does not want the client.
    fn handle_plaintext(
        &mut self,
        now: Timestamp,
        connection: &mut Connection,
        renewal: &mut Renewal,
        record: Bytes,
        awaiting: &mut Option<Option<ServerKey>>,
    ) -> Result<Option<ConnectFailure>, Violation> {
        let mut plaintext = connection.open(now, record)?;
        let most = self.config.limits.max_message + MAX_HEAD;
        while let Some(raw) = frame::next_frame(&mut plaintext)? {
            // Before Welcome nobody knows of which session it would be.
            if awaiting.is_some() && raw.is_reliable() {
                return Err(Violation::UnexpectedFrame);
            }
            if let Some(raw) = self.session.take(now, raw)?
                && let Some(raw) = connection.assembly.take(raw, most)?
                && let Some(failure) = self.handle_frame(now, connection, renewal, &raw, awaiting)?
            {
                return Ok(Some(failure));
            }
        }
        Ok(None)
    }

    fn handle_frame(
        &mut self,
        now: Timestamp,
        connection: &mut Connection,
        renewal: &mut Renewal,
        raw: &RawFrame,
        awaiting: &mut Option<Option<ServerKey>>,
    ) -> Result<Option<ConnectFailure>, Violation> {
        match (ServerFrame::read(raw)?, awaiting.take()) {
            (ServerFrame::Welcome(welcome), Some(key)) => {
                self.expires = None;
                *renewal = self.renewal(&welcome.admission, now);
                self.welcome(connection, welcome, key, now)?;
                Ok(None)
            }
            (ServerFrame::Authenticated(Authenticated { id, result }), None) => {
                let Some(showing) = self.authenticating.take_if(|showing| showing.id == id) else {
                    return Err(Violation::UnexpectedFrame);
                };
                if let Ok(admission) = &result {
                    *renewal = self.renewal(admission, now);
                    self.credentials = showing.credentials;
                    self.becomes(admission.subject);
                }
                self.event(ClientEvent::Authenticated(id, Box::new(result)));
                Ok(None)
            }
            (ServerFrame::Channel(frame), None) => {
                self.handle_channel(frame);
                Ok(None)
            }
            (ServerFrame::Direct(direct), None) => {
                self.event(ClientEvent::Direct(Box::new(direct)));
                Ok(None)
            }
            (ServerFrame::Warn(Warn { code, message }), None) => {
                self.event(ClientEvent::Warned(code, message));
                Ok(None)
            }
            (ServerFrame::Reject(Reject { code, reference, retry_after_ms, name, message }), Some(_)) => {
                if self.denied(code, &name, &message) {
                    // The next one shows again what was good before.
                    return Ok(Some(ConnectFailure::of(Code::REJECTED)));
                }
                Ok(Some(ConnectFailure::told(code, reference, retry_after_ms, name, message)))
            }
            (ServerFrame::Goaway(Goaway { code, reference, retry_after_ms, message }), None) => {
                Ok(Some(ConnectFailure::told(code, reference, retry_after_ms, String::new(), message)))
            }
            (ServerFrame::Peer(frame), None) => {
                let tell = |event| self.outputs.push_back(ClientOutput::Event(ClientEvent::Peer(event)));
                connection.handle_frame(now, frame, &mut self.session, tell)?;
                Ok(None)
            }
            (ServerFrame::Welcome(_) | ServerFrame::Reject(_), None)
            | (
                ServerFrame::Goaway(_)
                | ServerFrame::Authenticated(_)
                | ServerFrame::Warn(_)
                | ServerFrame::Channel(_)
                | ServerFrame::Direct(_)
                | ServerFrame::Peer(_),
                Some(_),
            ) => Err(Violation::UnexpectedFrame),
        }
    }
}
