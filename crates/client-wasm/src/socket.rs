//! One WebSocket of the host and the listeners on it.
//!
//! Only what browsers and the package `ws` have in common is used. Dropping it takes the listeners off and closes it.

use std::cell::RefCell;

use bytes::Bytes;
use gloo_timers::callback::Timeout;
use js_sys::Uint8Array;
use moorline_protocol::{
    client::{SocketId, SocketInput},
    code::Code,
    limits::MAX_RECORD,
};
use wasm_bindgen::prelude::*;
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

use crate::payload::array;

thread_local! {
    /// Listens to nothing. `ws` in Node throws an error that nobody listens for.
    static QUIET: JsValue = Closure::<dyn FnMut()>::new(|| {}).into_js_value();
}

pub(crate) struct Socket {
    pub(crate) id: SocketId,
    socket: WebSocket,
    _opened: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _closed: Closure<dyn FnMut(CloseEvent)>,
    /// Looks again whether a congested socket has room. Its presence means: congested.
    congestion: RefCell<Option<Timeout>>,
}

impl Socket {
    /// Listens on a socket that has just been made; `handle` hears what happens on it.
    pub(crate) fn new(id: SocketId, socket: WebSocket, handle: impl Fn(SocketInput) + Clone + 'static) -> Self {
        let heard = handle.clone();
        let opened = Closure::<dyn FnMut()>::new(move || heard(SocketInput::Opened));
        let heard = handle.clone();
        let message = Closure::<dyn FnMut(_)>::new(move |event: MessageEvent| heard(input_of(&event.data())));
        let closed = Closure::<dyn FnMut(_)>::new(move |event: CloseEvent| handle(SocketInput::Closed(event.code())));

        socket.set_binary_type(BinaryType::Arraybuffer);
        socket.set_onopen(Some(opened.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(closed.as_ref().unchecked_ref()));
        // After every error comes a close, and an error says nothing that a close does not.
        be_quiet_on_error(&socket);
        Self { id, socket, _opened: opened, _message: message, _closed: closed, congestion: RefCell::default() }
    }

    pub(crate) fn send(&self, record: &Bytes) {
        // It drops what comes now, and Chromium complains about it. That it has closed is told soon.
        if self.socket.ready_state() >= WebSocket::CLOSING {
            return;
        }
        // A copy of its own, because who sends later than now (a polyfill, a compressing `ws`) would find other bytes.
        if self.socket.send_with_js_u8_array(&array(record)).is_err() {
            self.close(Code::NORMAL);
        }
    }

    pub(crate) fn close(&self, code: Code) {
        // Browsers take no code below 3000 but 1000.
        if self.socket.close_with_code(code.0).is_err() {
            let _ = self.socket.close();
        }
    }

    /// Bytes that are handed over and not sent yet.
    pub(crate) fn buffered(&self) -> u32 {
        self.socket.buffered_amount()
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.congestion.borrow().is_some()
    }

    pub(crate) fn watch(&self, timeout: Option<Timeout>) {
        drop(self.congestion.replace(timeout));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        let _ = self.socket.close();
    }
}

fn be_quiet_on_error(socket: &WebSocket) {
    QUIET.with(|quiet| socket.set_onerror(Some(quiet.unchecked_ref())));
}

fn input_of(data: &JsValue) -> SocketInput {
    if !data.is_object() {
        return SocketInput::Text;
    }
    let array = Uint8Array::new(data);
    // Judged before it is copied: no peer makes the memory grow, which in WebAssembly never shrinks again.
    if array.length() as usize > MAX_RECORD {
        SocketInput::Oversized
    } else {
        SocketInput::Record(array.to_vec().into())
    }
}
