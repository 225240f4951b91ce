//! The control socket: how the program `moorline` tells a running server what to do.
//!
//! A socket in the file system, `control.sock` in the data directory, for the user that the server runs as and for no
//! other: its mode is 0600, and who connects is asked for its user id as well. It owns the requests, their answers, and
//! both ends of the socket. It must never be reachable from the network, and no client of the server is ever near it.
//!
//! One line of JSON is a request, and one line of JSON its answer, as often as the asker likes:
//!
//! ```text
//! {"version":1,"request":"identity.next"}
//! {"version":1,"ok":{"keys":[{"key":"mlpub_…","role":"current"},{"key":"mlpub_…","role":"next"}]}}
//! {"version":1,"request":"token.revoke","params":{"jti":"…"}}
//! {"version":1,"error":{"code":"unsupported","message":"…"}}
//! ```
//!
//! A request has at most 16 KiB, comes whole within ten seconds, and eight may be asking at once.

mod client;
#[cfg(unix)]
mod commands;
#[cfg(unix)]
mod listener;

#[cfg(unix)]
use std::fmt;
use std::path::{Path, PathBuf};

use moorline_protocol::key::{Identity, KeyRole, StaticKey};
use serde::{Deserialize, Serialize};

pub use client::{Client, ControlError};
#[cfg(unix)]
pub(crate) use commands::Commands;
#[cfg(unix)]
pub(crate) use listener::Control;

/// The version of the requests and answers.
pub const VERSION: u32 = 1;

/// The longest request, and the longest answer that a client takes.
#[cfg(unix)]
const MAX_REQUEST: usize = 16 * 1024;
#[cfg(unix)]
const MAX_ANSWER: u64 = 1024 * 1024;

/// Where the control socket of a server with this data directory is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// What can be asked of a running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", content = "params")]
#[non_exhaustive]
pub enum Request {
    /// Make a next identity key; answered by [`Keys`].
    #[serde(rename = "identity.next")]
    IdentityNext,
    /// Make the next key the current one; answered by [`Keys`].
    #[serde(rename = "identity.promote")]
    IdentityPromote,
    /// Accept the previous key no longer; answered by [`Keys`].
    #[serde(rename = "identity.retire")]
    IdentityRetire,
    /// Take back what a token allows, from now on.
    #[serde(rename = "token.revoke")]
    TokenRevoke(Revocation),
    /// Read again what can change while the server runs; answered by [`Reloaded`].
    #[serde(rename = "reload")]
    Reload,
    /// How the server is; answered by [`Status`].
    #[serde(rename = "status")]
    Status,
}

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Revocation {
    /// One token, by its `jti`.
    Token {
        /// The token's id.
        jti: String,
    },
    /// Every token of somebody that was issued until now.
    Subject {
        /// Whose.
        subject: String,
        /// The tenant; none is the default one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
    },
}

/// The keys that the server accepts now, the current one first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Each with its role.
    pub keys: Vec<NamedKey>,
}

/// A public key and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedKey {
    /// `mlpub_…`.
    pub key: String,
    /// `current`, `next` or `previous`.
    pub role: String,
}

impl Keys {
    /// Those of an identity.
    pub fn of(identity: &Identity) -> Self {
        let named = |(role, key): (KeyRole, &StaticKey)| NamedKey {
            key: key.public().to_string(),
            role: role.name().to_owned(),
        };
        Self { keys: identity.keys().map(named).collect() }
    }
}

/// What came of reading again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Everything that can be read again and is in use.
    pub parts: Vec<Part>,
}

/// What came of reading one thing again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `identity` or `certificate`.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What is wrong with what was found, where the old one was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How reading one thing again ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is another one now.
    Changed,
    /// It is the same.
    Unchanged,
    /// What was found does not do, and the old one is kept.
    Kept,
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has been running, in milliseconds.
    pub uptime_ms: u64,
    /// `starting`, `ready` or `draining`.
    pub state: String,
    /// The addresses that it listens on.
    pub listen: Vec<String>,
    /// WebSockets that are open.
    pub connections: usize,
    /// Sessions, those of clients that are away among them.
    pub sessions: usize,
    /// The TLS certificate, in words, where the configuration names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The identity keys that are accepted; none without encryption.
    pub keys: Vec<NamedKey>,
}

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The cause for a program.
    pub code: RefusalCode,
    /// The cause for a person.
    pub message: String,
}

/// The causes for which a request is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalCode {
    /// It is no request.
    BadRequest,
    /// It is of another version.
    VersionUnsupported,
    /// This server does not know the request, or cannot do it.
    Unsupported,
    /// It was tried, and nothing was changed.
    Failed,
    /// A code that this version does not know.
    #[serde(other)]
    Other,
}

#[cfg(unix)]
impl Refusal {
    fn new(code: RefusalCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// The answer as it is written.
#[cfg(unix)]
#[derive(Serialize, Deserialize)]
struct Answer {
    version: u32,
    #[serde(flatten)]
    result: Told,
}

/// How it went, by the names that stand in the line.
#[cfg(unix)]
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Ok(serde_json::Value),
    Error(Refusal),
}

/// Reads a request. What is wrong with it is told, since whoever may ask may also know.
#[cfg(unix)]
fn read_request(line: &[u8]) -> Result<Request, Refusal> {
    let bad = |error: serde_json::Error| Refusal::new(RefusalCode::BadRequest, error);
    let mut request: serde_json::Value = serde_json::from_slice(line).map_err(bad)?;
    let version = request.as_object_mut().and_then(|request| request.remove("version"));
    if version.as_ref().and_then(serde_json::Value::as_u64) != Some(VERSION.into()) {
        let message = format!("this server takes version {VERSION} of requests; use the program of its version");
        return Err(Refusal::new(RefusalCode::VersionUnsupported, message));
    }
    let known = ["identity.next", "identity.promote", "identity.retire", "token.revoke", "reload", "status"];
    match request.get("request").and_then(serde_json::Value::as_str) {
        Some(name) if !known.contains(&name) => {
            let message = format!("this server does not know the request {name:?}; use the program of its version");
            Err(Refusal::new(RefusalCode::Unsupported, message))
        }
        _ => serde_json::from_value(request).map_err(bad),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn code(line: &str) -> Option<RefusalCode> {
        read_request(line.as_bytes()).err().map(|refusal| refusal.code)
    }

    #[test]
    fn requests_read_as_they_are_written() {
        for (line, expected) in [
            (r#"{"version":1,"request":"identity.next"}"#, Request::IdentityNext),
            (r#"{"version":1,"request":"identity.promote"}"#, Request::IdentityPromote),
            (r#"{"request":"identity.retire","version":1}"#, Request::IdentityRetire),
            (r#"{"version":1,"request":"reload"}"#, Request::Reload),
            (r#"{"version":1,"request":"status"}"#, Request::Status),
            (
                r#"{"version":1,"request":"token.revoke","params":{"jti":"a"}}"#,
                Request::TokenRevoke(Revocation::Token { jti: "a".into() }),
            ),
            (
                r#"{"version":1,"request":"token.revoke","params":{"subject":"ann","tenant":"t"}}"#,
                Request::TokenRevoke(Revocation::Subject { subject: "ann".into(), tenant: Some("t".into()) }),
            ),
        ] {
            assert_eq!(read_request(line.as_bytes()), Ok(expected.clone()), "{line}");
            let mut written = serde_json::to_value(&expected).unwrap();
            written["version"] = VERSION.into();
            assert_eq!(written, serde_json::from_str::<serde_json::Value>(line).unwrap());
        }
    }

    #[test]
    fn what_is_no_request_is_told_from_what_is_not_known_here() {
        for bad in [
            "",
            "{",
            "\u{fffd}",
            r#"{"version":1}"#,
            r#"{"version":1,"request":7}"#,
            r#"{"version":1,"request":"token.revoke"}"#,
            r#"{"version":1,"request":"token.revoke","params":{}}"#,
            r#"{"version":1,"request":"token.revoke","params":{"jti":"a","subject":"b"}}"#,
        ] {
            assert_eq!(code(bad), Some(RefusalCode::BadRequest), "{bad}");
        }
        for other in [r#"{"request":"status"}"#, r#"{"version":2,"request":"status"}"#, "[]", "1"] {
            assert_eq!(code(other), Some(RefusalCode::VersionUnsupported), "{other}");
        }
        assert_eq!(code(r#"{"version":1,"request":"sessions"}"#), Some(RefusalCode::Unsupported));
    }
}
