//! What JavaScript provides: the shell's `CoreHost`, and of the platform a clock, random bytes and a console.
//!
//! Every call of the host may throw and may call back into `Core`; make it only while nothing is borrowed.

use js_sys::{Array, Uint8Array};
use moorline_protocol::{code::Code, time::Timestamp};
use wasm_bindgen::prelude::*;
use web_sys::WebSocket;

use crate::report;

#[wasm_bindgen]
extern "C" {
    /// `CoreHost` of `npm/src/boundary.ts`.
    #[wasm_bindgen(typescript_type = "any")]
    pub type Host;

    #[wasm_bindgen(method, catch, js_name = openSocket)]
    pub(crate) fn open_socket(this: &Host, url: &str, protocols: Array) -> Result<WebSocket, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn discover(this: &Host, ticket: f64, url: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn authorize(this: &Host, ticket: f64, attempt: u32, reason: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onAuthenticated)]
    pub(crate) fn on_authenticated(this: &Host, id: f64, admission: JsValue, failure: JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onWarning)]
    pub(crate) fn on_warning(this: &Host, warning: JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onStatus)]
    pub(crate) fn on_status(this: &Host, event: JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onSession)]
    pub(crate) fn on_session(this: &Host, info: JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onReset)]
    pub(crate) fn on_reset(this: &Host, reason: &str, unconfirmed: Array) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onConfirmed)]
    pub(crate) fn on_confirmed(this: &Host, receipt: f64) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onRefused)]
    pub(crate) fn on_refused(this: &Host, receipt: f64, failure: JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onRoom)]
    pub(crate) fn on_room(this: &Host) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onItem)]
    pub(crate) fn on_item(this: &Host, id: f64, encoding: u8, body: Uint8Array) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onCredit)]
    pub(crate) fn on_credit(this: &Host, id: f64) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onSettled)]
    pub(crate) fn on_settled(
        this: &Host,
        id: f64,
        ok: bool,
        encoding: u8,
        body: Option<Uint8Array>,
        failure: JsValue,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onCall)]
    pub(crate) fn on_call(
        this: &Host,
        id: f64,
        name: &str,
        encoding: u8,
        body: Uint8Array,
        is_stream: bool,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onCancelled)]
    pub(crate) fn on_cancelled(this: &Host, id: f64) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onMessage)]
    pub(crate) fn on_message(
        this: &Host,
        name: &str,
        encoding: u8,
        body: Uint8Array,
        volatile: bool,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onChannelOpened)]
    pub(crate) fn on_channel_opened(
        this: &Host,
        id: f64,
        start: &str,
        position: Option<Uint8Array>,
        past: f64,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onSnapshot)]
    pub(crate) fn on_snapshot(
        this: &Host,
        id: f64,
        position: Uint8Array,
        at: f64,
        body: Uint8Array,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onCaughtUp)]
    pub(crate) fn on_caught_up(this: &Host, id: f64) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onUpdate)]
    pub(crate) fn on_update(
        this: &Host,
        id: f64,
        position: Uint8Array,
        at: f64,
        before: bool,
        member: &str,
        subject: &str,
        encoding: u8,
        body: Uint8Array,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onVolatile)]
    pub(crate) fn on_volatile(
        this: &Host,
        id: f64,
        at: f64,
        member: &str,
        subject: &str,
        encoding: u8,
        body: Uint8Array,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onDirect)]
    pub(crate) fn on_direct(
        this: &Host,
        kind: u8,
        name: &str,
        at: f64,
        member: &str,
        subject: &str,
        encoding: u8,
        body: Uint8Array,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onMembers)]
    pub(crate) fn on_members(this: &Host, id: f64, whole: bool, members: Array) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = onChannelClosed)]
    pub(crate) fn on_channel_closed(this: &Host, id: f64, failure: JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;

    #[wasm_bindgen(catch, js_namespace = ["globalThis", "crypto"], js_name = getRandomValues)]
    fn get_random_values(array: &Uint8Array) -> Result<(), JsValue>;

    #[wasm_bindgen(js_name = queueMicrotask)]
    pub(crate) fn queue_microtask(callback: &JsValue);

    /// Tells a developer what the host threw; the driver goes on.
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    pub(crate) fn console_error(thrown: &JsValue);
}

/// The page's monotonic clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(performance_now() as u64)
}

/// Secret random bytes.
///
/// # Errors
/// A `CoreFailure` where the platform has none: nothing else would do.
pub(crate) fn seed() -> Result<[u8; 32], JsValue> {
    let array = Uint8Array::new_with_length(32);
    let missing = |_| {
        report::thrown(
            Code::INTERNAL,
            "globalThis.crypto.getRandomValues is missing or failed; Moorline needs it for its keys",
        )
    };
    get_random_values(&array).map_err(missing)?;
    let mut seed = [0; 32];
    array.copy_to(&mut seed);
    array.fill(0, 0, 32);
    Ok(seed)
}
