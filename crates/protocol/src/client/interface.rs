//! What goes into the client's endpoint and what comes out of it.

use std::time::Duration;

use bytes::Bytes;

use super::{ChannelEvent, Subscription};
use crate::{
    backoff::BackoffConfig,
    code::Code,
    discovery::{Discovery, Trust},
    error::Refused,
    frame::{Admission, AuthenticateId, Credentials, Denial, Direct, Ref, ResetReason, SessionId, Welcome},
    heartbeat::HeartbeatConfig,
    key::{ServerKey, SharedKey},
    limits::{Limits, RekeyPolicy},
    record::Suite,
    session::{PeerEvent, Receipt, Unconfirmed},
    time::Timestamp,
    url::DialUrl,
};

/// What a client is told at its making.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Where to connect to.
    pub url: DialUrl,
    /// The suite; `None` switches the inner encryption off, which the server must do too.
    pub suite: Option<Suite>,
    /// Server keys to accept; empty asks the server for its key, where that can be trusted.
    pub server_keys: Vec<ServerKey>,
    /// Trust a key that was asked for even over an insecure way.
    pub allow_insecure_discovery: bool,
    /// How long one try may take, from opening the socket to Welcome.
    pub connect_timeout: Duration,
    /// How to wait between tries; `None` gives up at the first failure.
    pub backoff: Option<BackoffConfig>,
    /// When to look for signs of life.
    pub heartbeat: HeartbeatConfig,
    /// Caps of this side.
    pub limits: Limits,
    /// When keys are replaced.
    pub rekey: RekeyPolicy,
    /// The client's name and version, as the server is told.
    pub version: String,
    /// A key that the server has, too. It authenticates a server whose key was merely asked for.
    pub shared_key: Option<SharedKey>,
    /// Whether to ask for [`Credentials`] before each connection ([`ClientOutput::Authorize`]). Otherwise none are shown.
    pub asks_for_credentials: bool,
}

impl ClientConfig {
    /// The defaults, for a server at `url`.
    pub fn new(url: DialUrl) -> Self {
        Self {
            url,
            suite: Some(Suite::Aes256Gcm),
            server_keys: Vec::new(),
            allow_insecure_discovery: false,
            connect_timeout: Duration::from_secs(10),
            backoff: Some(BackoffConfig::default()),
            heartbeat: HeartbeatConfig::CLIENT,
            limits: Limits::default(),
            rekey: RekeyPolicy::default(),
            version: concat!("moorline/", env!("CARGO_PKG_VERSION")).to_owned(),
            shared_key: None,
            asks_for_credentials: false,
        }
    }
}

/// One of the sockets that a client opens in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// One of the questions that a client asks in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum ClientInput {
    /// On a socket.
    Socket(SocketId, SocketInput),
    /// The answer to [`ClientOutput::Discover`].
    Discovered(Ticket, Discovery),
    /// The answer to [`ClientOutput::Authorize`]; `None` when there are no credentials to be had.
    Authorized(Ticket, Option<Credentials>),
    /// The deadline of the last [`ClientOutput::Wait`] has come.
    Wake,
}

/// What happened on a socket.
#[derive(Clone, Debug)]
pub enum SocketInput {
    /// It is open.
    Opened,
    /// A binary message came.
    Record(Bytes),
    /// A text message came, which is always wrong.
    Text,
    /// A message came that was too large to be read.
    Oversized,
    /// It takes no more for now (`true`), or takes more again.
    Congested(bool),
    /// It is gone or never opened. The number is WebSocket's and only a hint: anybody on the way can write it.
    Closed(u16),
}

/// What the driver is to do.
#[derive(Clone, Debug)]
pub enum ClientOutput {
    /// Open a WebSocket.
    OpenSocket {
        /// Its name from now on.
        socket: SocketId,
        /// Where to.
        url: DialUrl,
        /// The one subprotocol to offer, which the server must choose.
        subprotocol: &'static str,
    },
    /// Write one binary message.
    Transmit(SocketId, Bytes),
    /// Close the socket. What it says afterwards is passed over.
    CloseSocket(SocketId, Code),
    /// GET the identity document at this URL, without credentials or cache.
    Discover(Ticket, String),
    /// Get what the client is to show for itself: fresh, when it is asked for again.
    Authorize {
        /// For the answer.
        ticket: Ticket,
        /// The try that it is for, from 1; 0 on an open connection, before what that has expires.
        attempt: u32,
        /// Why now.
        reason: AuthorizeReason,
    },
    /// Tell the application.
    Event(ClientEvent),
    /// Everything is drained; wait for input, or until this time.
    Wait(Option<Timestamp>),
}

/// Why credentials are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizeReason {
    /// The first connection is to be made.
    Connect,
    /// Another connection is to be made.
    Reconnect,
    /// The server says that those before have expired.
    Expired,
    /// Those that the connection has are about to expire.
    Expiring,
}

impl AuthorizeReason {
    /// Its name, as programs see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reconnect => "reconnect",
            Self::Expired => "expired",
            Self::Expiring => "expiring",
        }
    }
}

/// What the application hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The state that a user sees has changed.
    Status(Status),
    /// The server has forgotten the session. It comes once, before anything of the next one.
    Reset(Reset),
    /// A handshake is complete. `Status` follows.
    Session(Box<SessionInfo>),
    /// What was shown by [`ClientEndpoint::authenticate`](super::ClientEndpoint::authenticate), or by the endpoint
    /// itself before the last expired, has made the client somebody else, or not. For each of the former it comes once
    /// while the client lives, unless it was withdrawn.
    Authenticated(AuthenticateId, Box<Result<Admission, Denial>>),
    /// The server gives a warning.
    Warned(Code, String),
    /// A notification that waited for the server's first word is not sent: now it is known to be more than it takes.
    Refused(Receipt, Refused),
    /// Something of a channel that the application follows.
    Channel(Subscription, Box<ChannelEvent>),
    /// Somebody in a channel has something for this client alone.
    Direct(Box<Direct>),
    /// The server wants something, or has answered.
    Peer(PeerEvent),
}

/// The state that a user sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Under way, or waiting for the next try.
    Connecting {
        /// The try that is under way or comes next; 1 is the first since the last connection.
        attempt: u32,
        /// How long until then, when it is waited for.
        retry_in: Option<Duration>,
        /// Why the last one failed.
        error: Option<ConnectFailure>,
    },
    /// Connected.
    Connected,
    /// Over for good; with an error when it was not the application that closed.
    Closed(Option<ConnectFailure>),
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    /// The registry's code.
    pub code: Code,
    /// The application's own name for it, when it refused.
    pub name: String,
    /// What the server says of it, where it was sealed; else empty.
    pub message: String,
    /// For the server's log.
    pub reference: Option<Ref>,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl ConnectFailure {
    pub(super) fn of(code: Code) -> Self {
        Self { code, name: String::new(), message: String::new(), reference: None, retry_after: None }
    }

    pub(super) fn told(code: Code, reference: Ref, retry_after_ms: u64, name: String, message: String) -> Self {
        let retry_after = (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms));
        Self { code, name, message, reference: Some(reference), retry_after }
    }

    /// The stable name that programs compare: the application's, or the registry's.
    pub fn name(&self) -> String {
        if self.name.is_empty() { self.code.text() } else { self.name.clone() }
    }
}

/// What a lost session means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Why it was lost.
    pub reason: ResetReason,
    /// What the server may have got or not, in the order of sending. Calls among it settle as unknown; what is not
    /// listed has arrived or goes out in the next session.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// What is known of an established connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The session's name.
    pub id: SessionId,
    /// Whether it is the session of the connection before.
    pub resumed: bool,
    /// The suite; `None` without inner encryption.
    pub suite: Option<Suite>,
    /// The server's key; `None` without inner encryption.
    pub server_key: Option<ServerKey>,
    /// Where the trust in that key comes from.
    pub trust: Trust,
    /// What the server told at Welcome.
    pub welcome: Welcome,
}
