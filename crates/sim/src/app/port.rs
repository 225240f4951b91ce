//! What an application speaks through, the same at both ends.

use moorline_protocol::{
    client::ClientEndpoint,
    error::Refused,
    frame::{CallId, Failure},
    payload::{Name, Payload},
    server::ServerEndpoint,
    session::{Broadcast, CallOptions, Receipt},
    time::Timestamp,
};

/// What both endpoints offer an application.
pub(crate) trait Port {
    fn call(&mut self, name: Name, payload: Payload, options: CallOptions) -> Result<CallId, Refused>;
    fn notify(&mut self, name: Name, payload: Payload, receipt: bool) -> Result<Option<Receipt>, Refused>;
    fn volatile(&mut self, name: Name, payload: Payload) -> Result<(), Refused>;
    fn answer(&mut self, id: CallId, result: Result<Payload, Failure>) -> Result<(), Refused>;
    fn item(&mut self, id: CallId, payload: Payload) -> Result<(), Refused>;
    fn end(&mut self, id: CallId);
    fn grant(&mut self, id: CallId, more: u64);
    fn cancel(&mut self, id: CallId);
}

/// An endpoint and the time at its end.
pub(crate) struct At<'a, E>(pub(crate) &'a mut E, pub(crate) Timestamp);

impl Port for At<'_, ClientEndpoint> {
    fn call(&mut self, name: Name, payload: Payload, options: CallOptions) -> Result<CallId, Refused> {
        self.0.call(self.1, name, payload, options)
    }
    fn notify(&mut self, name: Name, payload: Payload, receipt: bool) -> Result<Option<Receipt>, Refused> {
        match receipt {
            true => self.0.notify_confirmed(name, payload).map(Some),
            false => self.0.notify(name, payload, false).map(|()| None),
        }
    }
    fn volatile(&mut self, name: Name, payload: Payload) -> Result<(), Refused> {
        self.0.notify(name, payload, true)
    }
    fn answer(&mut self, id: CallId, result: Result<Payload, Failure>) -> Result<(), Refused> {
        self.0.answer(self.1, id, result)
    }
    fn item(&mut self, id: CallId, payload: Payload) -> Result<(), Refused> {
        self.0.item(id, payload)
    }
    fn end(&mut self, id: CallId) {
        self.0.end(id);
    }
    fn grant(&mut self, id: CallId, more: u64) {
        self.0.grant(id, more);
    }
    fn cancel(&mut self, id: CallId) {
        self.0.cancel(id);
    }
}

impl Port for At<'_, ServerEndpoint> {
    fn call(&mut self, name: Name, payload: Payload, options: CallOptions) -> Result<CallId, Refused> {
        self.0.call(self.1, name, payload, options)
    }
    fn notify(&mut self, name: Name, payload: Payload, _: bool) -> Result<Option<Receipt>, Refused> {
        self.0.send(&Broadcast::new(name, payload, false)?).map(|_| None)
    }
    fn volatile(&mut self, name: Name, payload: Payload) -> Result<(), Refused> {
        self.0.send(&Broadcast::new(name, payload, true)?).map(drop)
    }
    fn answer(&mut self, id: CallId, result: Result<Payload, Failure>) -> Result<(), Refused> {
        self.0.answer(id, result)
    }
    fn item(&mut self, id: CallId, payload: Payload) -> Result<(), Refused> {
        self.0.item(id, payload)
    }
    fn end(&mut self, id: CallId) {
        self.0.end_stream(id);
    }
    fn grant(&mut self, id: CallId, more: u64) {
        self.0.grant(id, more);
    }
    fn cancel(&mut self, id: CallId) {
        self.0.cancel(id);
    }
}
