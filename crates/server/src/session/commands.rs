//! What the application asks of a session: to send, to call, to end.

use super::*;

impl Driver {
    pub(super) fn handle_command(&mut self, now: Timestamp, command: Command) {
        let bytes = command.bytes();
        match command {
            Command::Send(message) => match self.endpoint.deliver(&message) {
                Ok(sent) => self.shared.metrics.notify(sent),
                Err(Refused::TooLarge) => self.is_too_large("a message"),
                Err(_) => {}
            },
            Command::Call { ticket, name, payload, options, answer } => {
                match self.endpoint.call(now, name, payload, options) {
                    Ok(id) => {
                        self.shared.metrics.send_message();
                        self.asked.insert(id, (ticket, answer));
                    }
                    Err(refused) => answer.settle(Outcome::Failed(Failure::of(refused.code()))),
                }
            }
            Command::Grant { ticket, more } => {
                if let Some(id) = self.asked_as(ticket) {
                    self.endpoint.grant(id, more);
                }
                return;
            }
            Command::Cancel { ticket } => {
                if let Some(id) = self.asked_as(ticket) {
                    self.asked.remove(&id);
                    self.shared.metrics.cancel_call();
                    self.endpoint.cancel(id);
                }
                // It took no place.
                return;
            }
        }
        // In this order there never seems to be more room than there is.
        if let Some((peer, _)) = &self.peer {
            peer.keeps(self.endpoint.kept());
            peer.taken(bytes);
        }
    }

    /// The call of this side that has this ticket, while it is open.
    fn asked_as(&self, ticket: u64) -> Option<CallId> {
        self.asked.iter().find(|(_, (asked, _))| *asked == ticket).map(|(id, _)| *id)
    }

    pub(super) fn handle_closing(&mut self, now: Timestamp, closing: Closing) {
        match closing {
            Closing::Told { code, message } => {
                self.endpoint.close(code, &message, Duration::ZERO);
            }
            Closing::Revoked => {
                self.endpoint.close(Code::UNAUTHORIZED, "", Duration::ZERO);
                self.revoked = true;
            }
            Closing::Lost(reason) => self.endpoint.lose(reason),
            Closing::Drain { after, retry_after } => {
                let (from, grace) = (now + after, self.shared.config.timeouts.shutdown.mul_f32(0.8));
                self.drain = Some(Drain { from, until: now + grace.max(after), retry_after });
                self.go_on_stopping(now);
            }
        }
    }

    /// The server stops: ends the session as soon as nothing is left to wait for.
    pub(super) fn go_on_stopping(&mut self, now: Timestamp) {
        if let Some(Drain { from, until, retry_after }) = &self.drain
            && *from <= now
            && ((self.aborts.is_empty() && self.held.is_empty()) || *until <= now)
        {
            self.endpoint.close(Code::GOING_AWAY, "", *retry_after);
        }
    }
}
