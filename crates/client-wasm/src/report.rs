//! What the shell hears as objects: `StatusEvent`, `SessionInfo`, `CoreFailure` and the statistics.
//!
//! Codes go out by name. The registry's texts stay out of the wasm: the shell has them from the same source, so a
//! `message` is empty unless the other side wrote one, and `remedy` and `retryable` are left to the shell.
//!
//! Everything goes through one type, [`Value`], and its one way into serde. Derived, each struct and each type of a
//! field is code of its own, and the names of fields go through a cache that is 3 KB by itself.

use std::{num::NonZeroU64, time::Duration};

use js_sys::Array;
use moorline_protocol::{
    channel::{Authored, MemberChange, MemberId, Presence},
    client::{ConnectFailure, SessionInfo, Status},
    code::Code,
    frame::{Admission, Denial, History},
    payload::Payload,
    session::{Outcome, Unconfirmed},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use wasm_bindgen::JsValue;

use crate::payload::array;

/// A value for JavaScript.
enum Value<'a> {
    Number(f64),
    Flag(bool),
    Text(&'a str),
    /// A `Uint8Array`.
    Bytes(&'a [u8]),
    Object(Object<'a>),
    /// `undefined`.
    Missing,
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::Object(Object(fields)) => {
                let mut object = serializer.serialize_map(None)?;
                for (name, value) in fields {
                    object.serialize_entry(name, value)?;
                }
                object.end()
            }
            Self::Missing => serializer.serialize_none(),
        }
    }
}

/// An object on its way, field by field. A field without a value is there and `undefined`.
#[derive(Default)]
struct Object<'a>(Vec<(&'static str, Value<'a>)>);

impl<'a> Object<'a> {
    fn put(&mut self, name: &'static str, value: Option<Value<'a>>) {
        self.0.push((name, value.unwrap_or(Value::Missing)));
    }

    fn number(&mut self, name: &'static str, number: f64) {
        self.put(name, Some(Value::Number(number)));
    }

    fn text(&mut self, name: &'static str, text: &'a str) {
        self.put(name, Some(Value::Text(text)));
    }

    fn time(&mut self, name: &'static str, time: Option<Duration>) {
        self.put(name, time.map(|time| Value::Number(time.as_secs() as f64 * 1e3 + f64::from(time.subsec_millis()))));
    }

    /// A `CoreFailure`.
    fn failure(code: &'a str, message: &'a str, reference: Option<&'a str>, data: Option<&'a Payload>) -> Self {
        let mut failure = Self::default();
        failure.text("code", code);
        failure.text("message", message);
        failure.text("remedy", "");
        failure.put("ref", reference.map(Value::Text));
        failure.put("encoding", data.map(|data| Value::Number(f64::from(data.encoding as u8))));
        failure.put("data", data.map(|data| Value::Bytes(&data.bytes)));
        failure
    }

    fn into_js(self) -> JsValue {
        let serializer = serde_wasm_bindgen::Serializer::new().serialize_maps_as_objects(true);
        Value::Object(self).serialize(&serializer).unwrap_or_else(JsValue::from)
    }
}

/// A `CoreFailure` of this side's.
pub(crate) fn thrown(code: Code, message: &str) -> JsValue {
    Object::failure(&code.text(), message, None, None).into_js()
}

/// How a call failed, as a `CoreFailure`; `None` when it did not.
pub(crate) fn failure_of(outcome: &Outcome) -> Option<JsValue> {
    let code = match outcome {
        Outcome::Reply(_) | Outcome::End => return None,
        Outcome::Failed(failure) => {
            let name = failure.name();
            return Some(Object::failure(&name, &failure.message, None, failure.data.as_ref()).into_js());
        }
        Outcome::TimedOut => Code::TIMEOUT,
        Outcome::Unknown => Code::UNKNOWN,
        Outcome::NotSent => Code::CLOSED,
    };
    Some(thrown(code, ""))
}

/// `attempt` is the last one told, for the states that have none of their own.
pub(crate) fn status(status: &Status, attempt: u32) -> JsValue {
    let (name, retry_in, error) = match status {
        Status::Connecting { retry_in, error, .. } => ("connecting", *retry_in, error.as_ref()),
        Status::Connected => ("connected", None, None),
        Status::Closed(error) => ("closed", None, error.as_ref()),
    };
    let code = error.map(ConnectFailure::name).unwrap_or_default();
    let reference = error.and_then(|error| error.reference).map(|reference| reference.text());
    let error = error.map(|error| {
        let mut failure = Object::failure(&code, &error.message, reference.as_deref(), None);
        failure.time("retryAfterMs", error.retry_after);
        failure
    });
    let mut event = Object::default();
    event.text("status", name);
    event.number("attempt", f64::from(attempt));
    event.time("retryInMs", retry_in);
    event.put("error", error.map(Value::Object));
    event.into_js()
}

pub(crate) fn session(info: &SessionInfo, url: &str) -> JsValue {
    let welcome = &info.welcome;
    let (id, server_key) = (info.id.text(), info.server_key.map(|key| key.text()));
    let member = MemberId::of(&info.id).text();
    let mut encryption = Object::default();
    encryption.text("suite", info.suite.map_or("off", |suite| suite.name()));
    encryption.text("trust", info.trust.name());
    encryption.put("serverKey", server_key.as_deref().map(Value::Text));
    let mut limits = Object::default();
    limits.number("maxMessage", welcome.max_message as f64);
    limits.number("maxCallsInFlight", welcome.max_calls_in_flight as f64);
    let most = |most: Option<NonZeroU64>| most.map(|most| Value::Number(most.get() as f64));
    limits.put("messagesPerSecond", most(welcome.pace.messages_per_second));
    limits.put("bytesPerSecond", most(welcome.pace.bytes_per_second));
    let mut session = Object::default();
    session.text("id", &id);
    session.text("member", &member);
    session.put("encryption", Some(Value::Object(encryption)));
    session.text("serverVersion", &welcome.server_version);
    session.put("limits", Some(Value::Object(limits)));
    session.number("heartbeatMs", welcome.heartbeat_ms as f64);
    session.number("serverTimeMs", welcome.server_time.0 as f64);
    session.text("url", url);
    session.put("resumed", Some(Value::Flag(info.resumed)));
    session.put("admission", Some(Value::Object(admitted(&welcome.admission))));
    session.into_js()
}

/// Who the client is: `{ identity?, encoding?, data?, expiresInMs? }`, bytes as they came.
fn admitted(admission: &Admission) -> Object<'_> {
    let Admission { identity, data, expires_in_ms, subject: _ } = admission;
    let mut object = Object::default();
    object.put("identity", Some(identity).filter(|identity| !identity.is_empty()).map(|bytes| Value::Bytes(bytes)));
    object.put("encoding", data.as_ref().map(|data| Value::Number(f64::from(data.encoding as u8))));
    object.put("data", data.as_ref().map(|data| Value::Bytes(&data.bytes)));
    object.put("expiresInMs", expires_in_ms.map(|ms| Value::Number(ms as f64)));
    object
}

pub(crate) fn admission(admission: &Admission) -> JsValue {
    admitted(admission).into_js()
}

pub(crate) fn denial(denial: &Denial) -> JsValue {
    Object::failure(&denial.name(), &denial.message, None, None).into_js()
}

/// For each message its name and a number: -1 for a call, the receipt of a notification, 0 for one without. Flat,
/// because an object for each would be code of its own.
pub(crate) fn unconfirmed(unconfirmed: &[Unconfirmed]) -> Array {
    let flat = Array::new();
    for Unconfirmed { name, call, receipt } in unconfirmed {
        let number = if call.is_some() { -1.0 } else { receipt.map_or(0.0, |receipt| receipt.0 as f64) };
        flat.push(&name.as_str().into());
        flat.push(&number.into());
    }
    flat
}

/// Seven values for each, flat as well: see `onMembers` in `boundary.ts`.
pub(crate) fn members(changes: &[MemberChange]) -> Array {
    let flat = Array::new();
    for change in changes {
        let (id, values) = match change {
            MemberChange::Left(id) => (id, [0.0, 0.0, 0.0, 0.0]),
            MemberChange::Is(member) => {
                let (state, seen) = match member.presence {
                    Presence::Here => (1.0, 0.0),
                    Presence::Away(since) => (2.0, since.0 as f64),
                };
                (&member.id, [state, member.joined.0 as f64, seen, f64::from(member.data.encoding as u8)])
            }
        };
        let (subject, body) = match change {
            MemberChange::Left(_) => ("", JsValue::UNDEFINED),
            MemberChange::Is(member) => (member.subject.as_str(), array(&member.data.bytes).into()),
        };
        let [state, joined, seen, encoding] = values.map(JsValue::from);
        for value in [id.text().into(), state, subject.into(), joined, seen, encoding, body] {
            flat.push(&value);
        }
    }
    flat
}

/// Whether there is more, and six values for each message: see `page` in `boundary.ts`.
pub(crate) fn page(history: &History) -> Array {
    let flat = Array::of1(&history.more.into());
    for (position, at, content) in &history.entries {
        let Ok(Authored { member, subject, payload }) = Authored::decode(content) else { continue };
        let encoding = f64::from(payload.encoding as u8).into();
        let (position, body) = (array(&position.to_bytes()).into(), array(&payload.bytes).into());
        for value in [position, (at.0 as f64).into(), member.text().into(), subject.into(), encoding, body] {
            flat.push(&value);
        }
    }
    flat
}

pub(crate) fn stats(sent: f64, received: f64, rtt: Option<Duration>, buffered: f64) -> JsValue {
    let mut stats = Object::default();
    stats.number("bytesSent", sent);
    stats.number("bytesReceived", received);
    stats.time("rttMs", rtt);
    stats.number("buffered", buffered);
    stats.into_js()
}
