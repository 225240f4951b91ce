//! Carries out what the endpoint wants done, and tells it what happened.
//!
//! It owns the socket and the one timer, and it decides nothing: what an event means, the endpoint knows.
//! JavaScript is called only while nothing is borrowed.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use bytes::Bytes;
use gloo_timers::callback::Timeout;
use js_sys::{Array, Uint8Array};
use moorline_protocol::{
    PeerEvent,
    channel::Authored,
    client::{
        ChannelEvent, ClientEndpoint, ClientEvent, ClientInput, ClientOutput, Reset, SocketId, SocketInput, Status,
        Subscription, Ticket,
    },
    discovery::Discovery,
    error::Refused,
    frame::CallId,
    session::Outcome,
    time::Timestamp,
};
use wasm_bindgen::prelude::*;

use crate::{
    host::{Host, console_error, now, queue_microtask},
    payload::array,
    refused, report,
    socket::Socket,
    turn::Turn,
};

/// The socket takes no more when this much waits in it, in bytes: enough to keep any line busy until the next look.
const CONGESTED_ABOVE: u32 = 256 * 1024;
/// It takes more again when no more than this waits.
const FREE_BELOW: u32 = 64 * 1024;
/// How often to look, in ms: no event tells.
const LOOK_EVERY: u32 = 50;
/// WebSocket's number for a connection that is just gone (RFC 6455 § 7.4.1).
const ABNORMAL: u16 = 1006;
/// `setTimeout` takes a longer wait for none at all.
const LONGEST_WAIT: u64 = i32::MAX as u64;

struct Timer {
    /// When it fires.
    at: Timestamp,
    _timeout: Timeout,
}

pub(crate) struct Driver {
    host: Host,
    url: String,
    turn: RefCell<Turn>,
    socket: RefCell<Option<Rc<Socket>>>,
    timer: RefCell<Option<Timer>>,
    /// The attempt that the host last heard of.
    attempt: Cell<u32>,
    sent: Cell<f64>,
    received: Cell<f64>,
    /// `free()` was called: the host is not to be called any more.
    abandoned: Cell<bool>,
}

impl Driver {
    pub(crate) fn new(endpoint: ClientEndpoint, host: Host, url: String) -> Rc<Self> {
        Rc::new(Self {
            host,
            url,
            turn: RefCell::new(Turn::new(endpoint)),
            socket: RefCell::default(),
            timer: RefCell::default(),
            attempt: Cell::new(1),
            sent: Cell::new(0.0),
            received: Cell::new(0.0),
            abandoned: Cell::new(false),
        })
    }

    /// One command of the host's, and what follows from it. What there is to tell is told when the host has returned:
    /// no callback runs within a method of `Core`, so each may call `free()`.
    pub(crate) fn command<T>(self: &Rc<Self>, command: impl FnOnce(&mut ClientEndpoint, Timestamp) -> T) -> T {
        let result = self.change(command);
        self.act();
        self.tell_later();
        result
    }

    /// [`Self::command`] for what may be refused.
    ///
    /// # Errors
    /// A `CoreFailure` with the code of the refusal.
    pub(crate) fn send<T>(
        self: &Rc<Self>,
        command: impl FnOnce(&mut ClientEndpoint, Timestamp) -> Result<T, Refused>,
    ) -> Result<T, JsValue> {
        self.command(command).map_err(refused)
    }

    /// [`Self::command`], with something that happened outside of this module.
    pub(crate) fn take(self: &Rc<Self>, input: ClientInput) {
        self.command(|endpoint, now| endpoint.handle_input(now, input));
    }

    pub(crate) fn cancel(self: &Rc<Self>, id: CallId) {
        self.turn.borrow_mut().cancel(id);
        self.act();
        self.tell_later();
    }

    /// Says good-bye; the host hears nothing of it.
    pub(crate) fn abandon(self: &Rc<Self>) {
        self.abandoned.set(true);
        self.change(|endpoint, _| endpoint.close());
        self.turn.borrow_mut().forget_events();
        self.act();
    }

    pub(crate) fn client_key(&self) -> Uint8Array {
        let key = self.turn.borrow().endpoint().client_key();
        Uint8Array::from(&key[..])
    }

    pub(crate) fn stats(&self) -> JsValue {
        let (rtt, waiting) = {
            let turn = self.turn.borrow();
            (turn.endpoint().rtt(), turn.endpoint().waiting_bytes())
        };
        let socket = self.socket.borrow().clone();
        let buffered = waiting as f64 + socket.map_or(0.0, |socket| f64::from(socket.buffered()));
        report::stats(self.sent.get(), self.received.get(), rtt, buffered)
    }

    fn change<T>(&self, change: impl FnOnce(&mut ClientEndpoint, Timestamp) -> T) -> T {
        let now = now();
        self.turn.borrow_mut().change(|endpoint| change(endpoint, now))
    }

    /// Within [`Self::act`], which goes on with what follows.
    fn note(&self, input: ClientInput) {
        self.change(|endpoint, now| endpoint.handle_input(now, input));
    }

    /// Something happened on the socket or the clock.
    fn handle(self: &Rc<Self>, input: ClientInput) {
        self.note(input);
        self.act();
        self.tell();
    }

    fn act(self: &Rc<Self>) {
        if !self.turn.borrow_mut().begin_effects() {
            return;
        }
        loop {
            let effect = self.turn.borrow_mut().next_effect();
            match effect {
                ClientOutput::OpenSocket { socket, url, subprotocol } => self.open(socket, url.as_str(), subprotocol),
                ClientOutput::Transmit(socket, record) => self.transmit(socket, &record),
                ClientOutput::CloseSocket(id, code) => {
                    if let Some(socket) = self.take_socket(id) {
                        socket.close(code);
                    }
                }
                ClientOutput::Discover(ticket, url) => self.discover(ticket, &url),
                ClientOutput::Authorize { ticket, attempt, reason } => {
                    if !self.abandoned.get() {
                        check(self.host.authorize(ticket.0 as f64, attempt, reason.name()));
                    }
                }
                // The turn keeps them apart.
                ClientOutput::Event(_) => {}
                ClientOutput::Wait(deadline) => return self.wait_until(deadline),
            }
        }
    }

    fn tell_later(self: &Rc<Self>) {
        if self.turn.borrow().has_untold_events() {
            let driver = Rc::downgrade(self);
            queue_microtask(&Closure::once_into_js(move || {
                if let Some(driver) = driver.upgrade() {
                    driver.tell();
                }
            }));
        }
    }

    fn tell(&self) {
        if !self.turn.borrow_mut().begin_events() {
            return;
        }
        loop {
            let event = self.turn.borrow_mut().next_event();
            let Some(event) = event else { return };
            self.tell_one(event);
        }
    }

    fn open(self: &Rc<Self>, id: SocketId, url: &str, subprotocol: &str) {
        if self.abandoned.get() {
            return;
        }
        match self.host.open_socket(url, Array::of1(&subprotocol.into())) {
            Ok(socket) if socket.is_object() => {
                let driver = Rc::downgrade(self);
                let socket = Socket::new(id, socket, move |input| {
                    if let Some(driver) = driver.upgrade() {
                        driver.handle_socket(id, input);
                    }
                });
                drop(self.socket.replace(Some(Rc::new(socket))));
            }
            opened => {
                check(opened.map(drop));
                self.note(ClientInput::Socket(id, SocketInput::Closed(ABNORMAL)));
            }
        }
    }

    fn handle_socket(self: &Rc<Self>, id: SocketId, input: SocketInput) {
        match &input {
            SocketInput::Record(record) => self.received.set(self.received.get() + record.len() as f64),
            SocketInput::Closed(_) => drop(self.take_socket(id)),
            SocketInput::Opened | SocketInput::Text | SocketInput::Oversized | SocketInput::Congested(_) => {}
        }
        self.handle(ClientInput::Socket(id, input));
    }

    fn socket(&self, id: SocketId) -> Option<Rc<Socket>> {
        self.socket.borrow().clone().filter(|socket| socket.id == id)
    }

    fn take_socket(&self, id: SocketId) -> Option<Rc<Socket>> {
        self.socket.borrow_mut().take_if(|socket| socket.id == id)
    }

    fn transmit(self: &Rc<Self>, id: SocketId, record: &Bytes) {
        let Some(socket) = self.socket(id) else { return };
        self.sent.set(self.sent.get() + record.len() as f64);
        socket.send(record);
        if socket.buffered() > CONGESTED_ABOVE && !socket.is_watched() {
            self.watch(&socket);
            self.note(ClientInput::Socket(id, SocketInput::Congested(true)));
        }
    }

    /// Looks after a while whether the socket takes more again.
    fn watch(self: &Rc<Self>, socket: &Socket) {
        let (driver, id) = (Rc::downgrade(self), socket.id);
        socket.watch(Some(Timeout::new(LOOK_EVERY, move || {
            let Some((driver, socket)) = driver.upgrade().and_then(|driver| Some((driver.clone(), driver.socket(id)?)))
            else {
                return;
            };
            if socket.buffered() > FREE_BELOW {
                return driver.watch(&socket);
            }
            socket.watch(None);
            driver.handle(ClientInput::Socket(id, SocketInput::Congested(false)));
        })));
    }

    fn discover(self: &Rc<Self>, ticket: Ticket, url: &str) {
        if let Err(thrown) = self.host.discover(ticket.0 as f64, url) {
            console_error(&thrown);
            self.note(ClientInput::Discovered(ticket, Discovery::Unreachable));
        }
    }

    fn tell_one(&self, event: ClientEvent) {
        let host = &self.host;
        check(match event {
            ClientEvent::Status(status) => {
                if let Status::Connecting { attempt, .. } = &status {
                    self.attempt.set(*attempt);
                }
                host.on_status(report::status(&status, self.attempt.get()))
            }
            ClientEvent::Session(info) => host.on_session(report::session(&info, &self.url)),
            ClientEvent::Reset(Reset { reason, unconfirmed }) => {
                host.on_reset(reason.name(), report::unconfirmed(&unconfirmed))
            }
            ClientEvent::Authenticated(id, result) => match *result {
                Ok(admission) => host.on_authenticated(id.0 as f64, report::admission(&admission), JsValue::UNDEFINED),
                Err(denial) => host.on_authenticated(id.0 as f64, JsValue::UNDEFINED, report::denial(&denial)),
            },
            ClientEvent::Warned(code, message) => host.on_warning(report::thrown(code, &message)),
            ClientEvent::Channel(Subscription(id), event) => self.tell_channel(id as f64, *event),
            ClientEvent::Direct(direct) => said(&direct.content, |by| {
                let (kind, name, at) = (direct.kind as u8, direct.name.as_str(), direct.at.0 as f64);
                host.on_direct(kind, name, at, by.member, by.subject, by.encoding, by.body)
            }),
            ClientEvent::Refused(receipt, refusal) => host.on_refused(receipt.0 as f64, refused(refusal)),
            // The key is for a server, which sees the same call in several sessions.
            ClientEvent::Peer(PeerEvent::Call { id, name, credit, payload, key: _ }) => {
                let (encoding, body) = (payload.encoding as u8, array(&payload.bytes));
                host.on_call(id.0 as f64, name.as_str(), encoding, body, credit.is_some())
            }
            ClientEvent::Peer(PeerEvent::Confirmed(receipt)) => host.on_confirmed(receipt.0 as f64),
            ClientEvent::Peer(PeerEvent::Item { id, payload }) => {
                host.on_item(id.0 as f64, payload.encoding as u8, array(&payload.bytes))
            }
            ClientEvent::Peer(PeerEvent::Credit(id)) => host.on_credit(id.0 as f64),
            ClientEvent::Peer(PeerEvent::Room) => host.on_room(),
            ClientEvent::Peer(PeerEvent::Cancelled(id)) => host.on_cancelled(id.0 as f64),
            ClientEvent::Peer(PeerEvent::Message { name, payload, volatile }) => {
                host.on_message(name.as_str(), payload.encoding as u8, array(&payload.bytes), volatile)
            }
            ClientEvent::Peer(PeerEvent::Settled { id, outcome }) => {
                let failure = report::failure_of(&outcome);
                let ok = failure.is_none();
                let (encoding, body) = match outcome {
                    Outcome::Reply(payload) => (payload.encoding as u8, Some(array(&payload.bytes))),
                    Outcome::End | Outcome::Failed(_) | Outcome::TimedOut | Outcome::Unknown | Outcome::NotSent => {
                        (0, None)
                    }
                };
                host.on_settled(id.0 as f64, ok, encoding, body, failure.unwrap_or_default())
            }
        });
    }

    fn tell_channel(&self, id: f64, event: ChannelEvent) -> Result<(), JsValue> {
        let host = &self.host;
        match event {
            ChannelEvent::Opened { start, snapshot: _, seen, past } => {
                let position = seen.map(|position| array(&position.to_bytes()));
                host.on_channel_opened(id, start.name(), position, past.0 as f64)
            }
            ChannelEvent::Update { position, at, content, before } => said(&content, |by| {
                let (position, at) = (array(&position.to_bytes()), at.0 as f64);
                host.on_update(id, position, at, before, by.member, by.subject, by.encoding, by.body)
            }),
            ChannelEvent::Volatile { at, content } => {
                said(&content, |by| host.on_volatile(id, at.0 as f64, by.member, by.subject, by.encoding, by.body))
            }
            ChannelEvent::Members(changes) => host.on_members(id, changes.whole, report::members(&changes.changes)),
            ChannelEvent::Snapshot { position, at, content } => {
                host.on_snapshot(id, array(&position.to_bytes()), at.0 as f64, array(&content))
            }
            ChannelEvent::CaughtUp => host.on_caught_up(id),
            ChannelEvent::Closed(code, message) => host.on_channel_closed(id, report::thrown(code, &message)),
        }
    }

    /// Sees to it that the endpoint wakes no later than at its deadline. A timer that fires early does no harm, so one
    /// that is running stays, which spares setting one for every message.
    fn wait_until(self: &Rc<Self>, deadline: Option<Timestamp>) {
        let Some(deadline) = deadline else { return drop(self.timer.take()) };
        if self.timer.borrow().as_ref().is_some_and(|timer| timer.at <= deadline) {
            return;
        }
        let now = now().as_millis();
        let wait = deadline.as_millis().saturating_sub(now).min(LONGEST_WAIT);
        let driver = Rc::downgrade(self);
        let timeout = Timeout::new(wait as u32, move || {
            if let Some(driver) = driver.upgrade() {
                drop(driver.timer.take());
                driver.handle(ClientInput::Wake);
            }
        });
        let timer = Timer { at: Timestamp::from_millis(now + wait), _timeout: timeout };
        drop(self.timer.replace(Some(timer)));
    }
}

/// What a callback throws is its own fault, and no reason to stop.
fn check(called: Result<(), JsValue>) {
    if let Err(thrown) = called {
        console_error(&thrown);
    }
}

/// Who said what, for the host.
struct Said<'a> {
    member: &'a str,
    subject: &'a str,
    encoding: u8,
    body: Uint8Array,
}

/// What cannot be read a later server has written, in a way that is not known here: it is passed over.
fn said(content: &Bytes, tell: impl FnOnce(Said<'_>) -> Result<(), JsValue>) -> Result<(), JsValue> {
    let Ok(Authored { member, subject, payload }) = Authored::decode(content) else { return Ok(()) };
    let (encoding, body) = (payload.encoding as u8, array(&payload.bytes));
    tell(Said { member: &member.text(), subject: &subject, encoding, body })
}
