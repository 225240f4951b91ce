//! The browser driver: the class [`Core`], which drives a [`ClientEndpoint`] with a page's WebSocket, clock and timers.
//!
//! ```text
//!  TypeScript shell ──▶ Core ──▶ driver ──▶ turn ──▶ ClientEndpoint (protocol)
//!  CoreHost ◀───────────────────── driver ◀── effects, in order
//!  WebSocket ◀──▶ socket ◀───────▶ driver ◀── timer
//! ```
//!
//! The shell in `npm/src` is the only caller; `npm/src/boundary.ts` types what crosses. Nothing here is public to users,
//! and nothing here decides anything about the protocol.
//!
//! # The drain contract
//!
//! Every entry point changes the endpoint and drains it in one short borrow. JavaScript is called afterwards, with no
//! borrow held: first sockets and discovery, then the host's callbacks, each in order; what comes from inside adds to the
//! queue. After a method of [`Core`] the callbacks follow in a microtask, so none runs within one, and each may call
//! back or `free()`. That is safe at any time: it says good-bye, and from then on the host is not called any more.
//!
//! # Modules
//!
//! | module | what it owns |
//! |---|---|
//! | `turn` | the endpoint and the queues of what is to be done and told; no JavaScript |
//! | `driver` | carrying it out; the one timer |
//! | `socket` | one WebSocket and its listeners |
//! | `host` | what the shell and the platform provide |
//! | `options`, `discovery`, `object` | what comes in as objects |
//! | `report` | what goes out as objects |
//! | `payload` | bytes in and out |

mod discovery;
mod driver;
mod host;
mod object;
mod options;
mod payload;
mod report;
mod socket;
mod turn;

use std::{rc::Rc, time::Duration};

use js_sys::{Array, Uint8Array};
use moorline_protocol::{
    channel::{Kind, MemberId, Offset, Position, ValueHash},
    client::{ClientEndpoint, ClientInput, Follow, Subscription, Ticket},
    code::Code,
    error::Refused,
    frame::{AuthenticateId, CallId, Credentials, Failure, History, RequestKind},
    payload::{Name, Payload},
    session::CallOptions,
};
use wasm_bindgen::prelude::*;

use crate::{
    driver::Driver,
    host::Host,
    options::{Invalid, Options},
};

/// A third of the size of the standard library's own.
#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// One client's protocol state. `npm/src/boundary.ts` says what each method promises.
#[wasm_bindgen]
pub struct Core {
    driver: Rc<Driver>,
    call_timeout: Duration,
}

#[wasm_bindgen]
impl Core {
    /// A client that waits for `start`.
    ///
    /// # Errors
    /// A `CoreFailure` that names the option.
    #[wasm_bindgen(constructor)]
    pub fn new(options: JsValue, host: Host) -> Result<Core, JsValue> {
        let invalid = |Invalid { code, message }| report::thrown(code, &message);
        let seed = host::seed()?;
        let options = Options::read(&options).map_err(invalid)?;
        let call_timeout = options.call_timeout();
        let config = options.config().map_err(invalid)?;
        let url = config.url.as_str().to_owned();
        let endpoint = ClientEndpoint::new(config, seed);
        Ok(Self { driver: Driver::new(endpoint, host, url), call_timeout })
    }

    /// Begins to connect.
    pub fn start(&self) {
        self.driver.command(|endpoint, now| endpoint.start(now));
    }

    /// Calls the server's handler; the outcome comes by `onSettled`, after this has returned the call's number.
    ///
    /// # Errors
    /// A `CoreFailure` when nothing was sent and nothing will be.
    pub fn call(
        &self,
        name: &str,
        encoding: u8,
        body: &Uint8Array,
        timeout_ms: Option<f64>,
        key: Option<String>,
        credit: Option<f64>,
    ) -> Result<f64, JsValue> {
        let (name, payload) = message(name, encoding, body)?;
        let mut options = self.options(timeout_ms, key)?;
        options.credit = credit.map(|items| items as u64);
        self.driver.send(|endpoint, now| endpoint.call(now, name, payload, options)).map(|id| id.0 as f64)
    }

    /// Takes more items of a stream.
    pub fn grant(&self, id: f64, more: f64) {
        self.driver.command(|endpoint, _| endpoint.grant(CallId(id as u64), more as u64));
    }

    /// Gives up on a call: `onSettled` is never called for it any more.
    pub fn cancel(&self, id: f64) {
        self.driver.cancel(CallId(id as u64));
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// A `CoreFailure` when nothing was sent and nothing will be. A volatile one that is dropped is no error.
    pub fn notify(&self, name: &str, encoding: u8, body: &Uint8Array, volatile: bool) -> Result<(), JsValue> {
        let (name, payload) = message(name, encoding, body)?;
        self.driver.send(|endpoint, _| endpoint.notify(name, payload, volatile))
    }

    /// Sends a notification; its arrival is told by `onConfirmed`, or its loss by `onReset`, with this number.
    ///
    /// # Errors
    /// A `CoreFailure` when nothing was sent and nothing will be.
    #[wasm_bindgen(js_name = notifyConfirmed)]
    pub fn notify_confirmed(&self, name: &str, encoding: u8, body: &Uint8Array) -> Result<f64, JsValue> {
        let (name, payload) = message(name, encoding, body)?;
        self.driver.send(|endpoint, _| endpoint.notify_confirmed(name, payload)).map(|receipt| receipt.0 as f64)
    }

    /// Follows a channel over every connection; what there is of it comes by `onChannelOpened` and the callbacks after it
    /// with this number. With `instead` it takes the place of what is followed under that number.
    ///
    /// # Errors
    /// A `CoreFailure` when the name is none, `since` no position, the data too large, or the client closed; then everything
    /// is as it was.
    #[expect(clippy::too_many_arguments, reason = "an object would cost more than it says")]
    pub fn follow(
        &self,
        kind: u8,
        name: &str,
        history: f64,
        quiet: bool,
        members: bool,
        since: Option<Uint8Array>,
        encoding: Option<u8>,
        data: Option<Uint8Array>,
        past: Option<f64>,
        instead: Option<f64>,
    ) -> Result<f64, JsValue> {
        let (kind, name) = channel(kind, name)?;
        let since = since.as_ref().map(position).transpose()?;
        let data = optional_payload(encoding, data)?;
        let past = Offset(past.unwrap_or_default() as u64);
        let instead = instead.map(|instead| Subscription(instead as u64));
        let follow = Follow { kind, name, quiet, members, history: history as u64, since, past, data, instead };
        self.driver.send(|endpoint, _| endpoint.follow(follow)).map(|subscription| subscription.0 as f64)
    }

    /// Wants nothing more of the log of a channel until it is followed instead. What is on its way is still told.
    pub fn hold(&self, id: f64) {
        self.driver.command(|endpoint, _| endpoint.hold(Subscription(id as u64)));
    }

    /// Follows a channel no longer. What is on its way is still told.
    pub fn unfollow(&self, id: f64) {
        self.driver.command(|endpoint, _| endpoint.unfollow(Subscription(id as u64)));
    }

    /// Has something done in a channel; the outcome comes by `onSettled`.
    ///
    /// # Errors
    /// As `call`; and when `target` is not what `what` needs.
    #[expect(clippy::too_many_arguments, reason = "an object would cost more than it says")]
    pub fn request(
        &self,
        kind: u8,
        what: u8,
        name: &str,
        target: Option<Uint8Array>,
        count: f64,
        encoding: u8,
        body: &Uint8Array,
        timeout_ms: Option<f64>,
        key: Option<String>,
    ) -> Result<f64, JsValue> {
        let ((kind, name), payload) = (channel(kind, name)?, payload(encoding, body)?);
        let options = self.options(timeout_ms, key)?;
        let target = target.map(|target| target.to_vec());
        let what = request_kind(what, target.as_deref(), count as u64);
        let what = what.ok_or_else(|| report::thrown(Code::INVALID_OPTION, "there is no such request"))?;
        let request = |endpoint: &mut ClientEndpoint, now| endpoint.request(now, (what, kind), name, payload, options);
        self.driver.send(request).map(|id| id.0 as f64)
    }

    /// Says something to whoever is in a channel, which may be lost.
    ///
    /// # Errors
    /// A `CoreFailure` for a name that is none, for too much, and when the client is closed.
    pub fn volatile(&self, kind: u8, name: &str, encoding: u8, body: &Uint8Array) -> Result<(), JsValue> {
        let ((kind, name), payload) = (channel(kind, name)?, payload(encoding, body)?);
        self.driver.send(|endpoint, _| endpoint.append_volatile(kind, name, payload))
    }

    /// Reads the answer to a request for history.
    ///
    /// # Errors
    /// A `CoreFailure` when it is none.
    pub fn page(&self, body: &Uint8Array) -> Result<Array, JsValue> {
        let history = History::decode(&body.to_vec().into());
        history.map(|history| report::page(&history)).map_err(|_| report::thrown(Code::UNREADABLE, ""))
    }

    /// Sends an item of a stream that the server asked for.
    ///
    /// # Errors
    /// A `CoreFailure`: `backpressure` until `onCredit` or `onRoom`.
    pub fn item(&self, id: f64, encoding: u8, body: &Uint8Array) -> Result<(), JsValue> {
        let payload = payload(encoding, body)?;
        self.driver.send(|endpoint, _| endpoint.item(CallId(id as u64), payload))
    }

    /// Ends a stream that the server asked for.
    pub fn end(&self, id: f64) {
        self.driver.command(|endpoint, _| endpoint.end(CallId(id as u64)));
    }

    /// Answers a call of the server.
    ///
    /// # Errors
    /// A `CoreFailure` when the result is too large; the server has been told.
    pub fn reply(&self, id: f64, encoding: u8, body: &Uint8Array) -> Result<(), JsValue> {
        let payload = payload(encoding, body)?;
        self.answer(id, Ok(payload))
    }

    /// Answers a call of the server with a failure. A code that the registry does not have is the application's own.
    ///
    /// # Errors
    /// A `CoreFailure` when `encoding` is not one.
    pub fn fail(
        &self,
        id: f64,
        code: &str,
        message: String,
        encoding: Option<u8>,
        data: Option<Uint8Array>,
    ) -> Result<(), JsValue> {
        let mut failure = Failure::with_message(Code::APPLICATION, message);
        match Code::from_name(code) {
            Some(code) => failure.code = code,
            None => failure.name = code.to_owned(),
        }
        if let (Some(encoding), Some(data)) = (encoding, data) {
            failure.data = Some(payload(encoding, &data)?);
        }
        self.answer(id, Err(failure))
    }

    /// The answer to `host.discover`.
    pub fn discovered(&self, ticket: f64, result: JsValue) {
        let input = ClientInput::Discovered(Ticket(ticket as u64), discovery::read(&result));
        self.driver.take(input);
    }

    /// The answer to `host.authorize`: what the client is to show, or that there is nothing.
    ///
    /// # Errors
    /// A `CoreFailure` when `encoding` is not one.
    pub fn authorized(
        &self,
        ticket: f64,
        has: bool,
        token: Option<String>,
        encoding: Option<u8>,
        data: Option<Uint8Array>,
    ) -> Result<(), JsValue> {
        let credentials = if has { Some(credentials(token, encoding, data)?) } else { None };
        self.driver.take(ClientInput::Authorized(Ticket(ticket as u64), credentials));
        Ok(())
    }

    /// Shows something else on the open connection, or on the next one; what comes of it is told by `onAuthenticated` with this number.
    ///
    /// # Errors
    /// A `CoreFailure` when it is not shown.
    pub fn authenticate(
        &self,
        token: Option<String>,
        encoding: Option<u8>,
        data: Option<Uint8Array>,
    ) -> Result<f64, JsValue> {
        let credentials = credentials(token, encoding, data)?;
        self.driver.send(|endpoint, now| endpoint.authenticate(now, credentials)).map(|id| id.0 as f64)
    }

    /// Takes back what was to be shown, and tells whether it could.
    pub fn withdraw(&self, id: f64) -> bool {
        self.driver.command(|endpoint, _| endpoint.withdraw(AuthenticateId(id as u64)))
    }

    /// The public half of the client's key, to which a token may be bound.
    #[wasm_bindgen(js_name = clientKey)]
    pub fn client_key(&self) -> Uint8Array {
        self.driver.client_key()
    }

    /// The network is back or the page is shown again: a wait for the next try ends now.
    #[wasm_bindgen(js_name = retryNow)]
    pub fn retry_now(&self) {
        self.driver.command(|endpoint, now| endpoint.retry_now(now));
    }

    /// Asks for a new measurement of the round trip.
    pub fn ping(&self) {
        self.driver.command(|endpoint, now| endpoint.ping(now));
    }

    /// What has gone over the sockets so far.
    pub fn stats(&self) -> JsValue {
        self.driver.stats()
    }

    /// Says good-bye and closes; `onStatus` with "closed" follows.
    pub fn close(&self) {
        self.driver.command(|endpoint, _| endpoint.close());
    }

    fn options(&self, timeout_ms: Option<f64>, key: Option<String>) -> Result<CallOptions, JsValue> {
        let timeout = timeout_ms.map_or(self.call_timeout, |ms| Duration::from_millis(ms as u64));
        let mut options = CallOptions::within(timeout);
        options.key = key.as_deref().map(Name::new).transpose().map_err(|_| refused(Refused::InvalidName))?;
        Ok(options)
    }

    fn answer(&self, id: f64, result: Result<Payload, Failure>) -> Result<(), JsValue> {
        self.driver.send(|endpoint, now| endpoint.answer(now, CallId(id as u64), result))
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.driver.abandon();
    }
}

fn credentials(token: Option<String>, encoding: Option<u8>, data: Option<Uint8Array>) -> Result<Credentials, JsValue> {
    Ok(Credentials { token: token.map(Into::into), data: optional_payload(encoding, data)? })
}

fn channel(kind: u8, name: &str) -> Result<(Kind, Name), JsValue> {
    let kind =
        Kind::from_number(kind.into()).ok_or_else(|| report::thrown(Code::INVALID_OPTION, "there is no such kind"))?;
    Ok((kind, Name::new(name).map_err(|_| refused(Refused::InvalidName))?))
}

/// What a request is about, by its number on the wire; `None` where `target` is not what it needs.
fn request_kind(what: u8, target: Option<&[u8]>, count: u64) -> Option<RequestKind> {
    Some(match (what, target) {
        (1, None) => RequestKind::Append,
        (2, Some(member)) => RequestKind::Send(MemberId(member.try_into().ok()?)),
        (3, None) => RequestKind::Present,
        (4, None) => RequestKind::History { before: None, count },
        (4, Some(before)) => RequestKind::History { before: Some(Position::from_bytes(before)?), count },
        (5, Some(position)) => RequestKind::Snapshot(Position::from_bytes(position)?),
        (6, Some(hash)) => RequestKind::Keep(ValueHash(hash.try_into().ok()?)),
        (7, Some(hash)) => RequestKind::Value(ValueHash(hash.try_into().ok()?)),
        _ => return None,
    })
}

fn position(bytes: &Uint8Array) -> Result<Position, JsValue> {
    let position = Position::from_bytes(&bytes.to_vec());
    position.ok_or_else(|| report::thrown(Code::INVALID_OPTION, "it is no position"))
}

fn optional_payload(encoding: Option<u8>, data: Option<Uint8Array>) -> Result<Option<Payload>, JsValue> {
    encoding.zip(data).map(|(encoding, data)| payload(encoding, &data)).transpose()
}

fn message(name: &str, encoding: u8, body: &Uint8Array) -> Result<(Name, Payload), JsValue> {
    let name = Name::new(name).map_err(|_| refused(Refused::InvalidName))?;
    Ok((name, payload(encoding, body)?))
}

fn payload(encoding: u8, body: &Uint8Array) -> Result<Payload, JsValue> {
    payload::read(encoding, body).ok_or_else(|| report::thrown(Code::UNREADABLE, "the encoding is unknown"))
}

pub(crate) fn refused(refused: Refused) -> JsValue {
    report::thrown(refused.code(), "")
}
