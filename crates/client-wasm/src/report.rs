//! What the shell hears as objects: `StatusEvent`, `SessionInfo`, `CoreFailure` and the statistics.
//!
//! Codes go out by name. The registry's texts stay out of the wasm: the shell has them from the same source, so a
//! `message` is empty unless the other side wrote one, and `remedy` and `retryable` are left to the shell.

use std::time::Duration;

use bytes::Bytes;
use moorline_protocol::{
    client::{ConnectFailure, SessionInfo, Status},
    code::Code,
    frame::Failure,
    session::Outcome,
};
use serde::{Serialize, Serializer};
use wasm_bindgen::JsValue;

#[derive(Serialize)]
struct CoreFailure<'a> {
    code: String,
    message: &'a str,
    remedy: &'static str,
    #[serde(rename = "ref")]
    reference: Option<String>,
    encoding: Option<u8>,
    data: Option<Data<'a>>,
}

/// Bytes, which serde takes for a list of numbers otherwise.
struct Data<'a>(&'a Bytes);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusEvent<'a> {
    status: &'static str,
    attempt: u32,
    retry_in_ms: Option<f64>,
    error: Option<CoreFailure<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session<'a> {
    id: String,
    encryption: Encryption,
    server_version: &'a str,
    limits: Limits,
    heartbeat_ms: f64,
    server_time_ms: f64,
    url: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encryption {
    suite: &'static str,
    trust: &'static str,
    server_key: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    max_message: f64,
    max_calls_in_flight: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    bytes_sent: f64,
    bytes_received: f64,
    rtt_ms: Option<f64>,
    buffered: f64,
}

fn object(value: &impl Serialize) -> JsValue {
    serde_wasm_bindgen::to_value(value).unwrap_or_else(JsValue::from)
}

fn plain(code: Code, message: &str) -> CoreFailure<'_> {
    CoreFailure { code: code.text(), message, remedy: "", reference: None, encoding: None, data: None }
}

/// A `CoreFailure` of this side's.
pub(crate) fn thrown(code: Code, message: &str) -> JsValue {
    object(&plain(code, message))
}

fn connect_failure(failure: &ConnectFailure) -> CoreFailure<'_> {
    CoreFailure {
        code: failure.name(),
        reference: failure.reference.map(|reference| reference.text()),
        ..plain(failure.code, &failure.message)
    }
}

fn call_failure(failure: &Failure) -> JsValue {
    object(&CoreFailure {
        code: failure.name(),
        encoding: failure.data.as_ref().map(|data| data.encoding as u8),
        data: failure.data.as_ref().map(|data| Data(&data.bytes)),
        ..plain(failure.code, &failure.message)
    })
}

/// How a call failed, as a `CoreFailure`; `None` when it did not.
pub(crate) fn failure_of(outcome: &Outcome) -> Option<JsValue> {
    Some(match outcome {
        Outcome::Reply(_) => return None,
        Outcome::Failed(failure) => call_failure(failure),
        Outcome::TimedOut => thrown(Code::TIMEOUT, ""),
        Outcome::Unknown => thrown(Code::UNKNOWN, ""),
        Outcome::NotSent => thrown(Code::CLOSED, ""),
    })
}

/// `attempt` is the last one told, for the states that have none of their own.
pub(crate) fn status(status: &Status, attempt: u32) -> JsValue {
    let (name, retry_in, error) = match status {
        Status::Connecting { retry_in, error, .. } => ("connecting", *retry_in, error.as_ref()),
        Status::Connected => ("connected", None, None),
        Status::Closed(error) => ("closed", None, error.as_ref()),
    };
    object(&StatusEvent { status: name, attempt, retry_in_ms: retry_in.map(millis), error: error.map(connect_failure) })
}

pub(crate) fn session(info: &SessionInfo, url: &str) -> JsValue {
    let welcome = &info.welcome;
    object(&Session {
        id: info.id.text(),
        encryption: Encryption {
            suite: info.suite.map_or("off", |suite| suite.name()),
            trust: info.trust.name(),
            server_key: info.server_key.map(|key| key.text()),
        },
        server_version: &welcome.server_version,
        limits: Limits {
            max_message: welcome.max_message as f64,
            max_calls_in_flight: welcome.max_calls_in_flight as f64,
        },
        heartbeat_ms: welcome.heartbeat_ms as f64,
        server_time_ms: welcome.server_time.0 as f64,
        url,
    })
}

pub(crate) fn stats(sent: f64, received: f64, rtt: Option<Duration>, buffered: f64) -> JsValue {
    object(&Stats { bytes_sent: sent, bytes_received: received, rtt_ms: rtt.map(millis), buffered })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs() as f64 * 1e3 + f64::from(duration.subsec_millis())
}
