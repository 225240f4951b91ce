//! What goes into the server's endpoint and what comes out of it.

use std::time::Duration;

use bytes::Bytes;

use super::ChannelWish;
use crate::{
    auth::Auth,
    code::Code,
    error::Violation,
    frame::{Authenticate, Epoch, Ref, Request, ResetReason, SessionId, VolatileAppend},
    heartbeat::HeartbeatConfig,
    key::{IdentityCell, KeyRole, SharedKey, SharedKeyId},
    limits::{Deadlines, Limits, Pace, RekeyPolicy},
    record::Suite,
    session::{PeerEvent, Proof},
    time::Timestamp,
    url::DialUrl,
};

/// Whether records are sealed.
#[derive(Clone)]
pub enum Encryption {
    /// Noise and sealed records, with this identity and these suites.
    On {
        /// The server's keys, which may change while it runs: a handshake takes those of its beginning.
        identity: IdentityCell,
        /// The suites a client may choose.
        suites: Vec<Suite>,
    },
    /// Nothing of ours protects the records; TLS may. Both sides must say so.
    Off,
}

/// What every connection of a server has in common.
#[derive(Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Whether records are sealed.
    pub encryption: Encryption,
    /// The addresses that clients may have dialled; empty allows any.
    pub public_urls: Vec<DialUrl>,
    /// Caps.
    pub limits: Limits,
    /// How much a client may send in a second, as it is told. The driver looks that it is kept.
    pub pace: Pace,
    /// How long the phases before the established connection may take.
    pub deadlines: Deadlines,
    /// When to look for signs of life.
    pub heartbeat: HeartbeatConfig,
    /// When keys are replaced.
    pub rekey: RekeyPolicy,
    /// How long the session of a client that is away is kept.
    pub resume_window: Duration,
    /// Which run of the server this is: random, so that sessions of an earlier one are told apart.
    pub epoch: Epoch,
    /// The server's name and version, as its clients are told.
    pub version: String,
    /// Keys that clients may have, too.
    pub shared_keys: Vec<SharedKey>,
    /// Whether a client without a shared key is refused.
    pub requires_shared_key: bool,
}

impl ServerConfig {
    /// The defaults, with `encryption`, for the run of a server that is named by `epoch`.
    pub fn new(encryption: Encryption, epoch: Epoch) -> Self {
        Self {
            encryption,
            public_urls: Vec::new(),
            limits: Limits::default(),
            pace: Pace::default(),
            deadlines: Deadlines::default(),
            heartbeat: HeartbeatConfig::SERVER,
            rekey: RekeyPolicy::default(),
            resume_window: Duration::from_secs(120),
            epoch,
            version: concat!("moorline/", env!("CARGO_PKG_VERSION")).to_owned(),
            shared_keys: Vec::new(),
            requires_shared_key: false,
        }
    }
}

/// What happened on the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerInput {
    /// A binary message came.
    Record(Bytes),
    /// A text message came, which is always wrong.
    Text,
    /// A message above the cap came, which the driver did not read.
    Oversized,
    /// The socket takes no more for now (`true`), or takes more again.
    Congested(bool),
    /// The socket is gone.
    SocketClosed,
    /// The deadline of the last [`ServerOutput::Wait`] has come.
    Wake,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerOutput {
    /// Write one binary message.
    Transmit(Bytes),
    /// Tell the application.
    Event(ServerEvent),
    /// Send a close with this code and end the socket. No `Transmit` comes after it; events do, where the session waits
    /// for its client.
    CloseSocket(Code),
    /// Everything is drained; wait for input, or until this time.
    Wait(Option<Timestamp>),
}

/// A client whose handshake is complete and who waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What it says of itself.
    pub auth: Auth,
    /// The suite it chose; `None` without encryption.
    pub suite: Option<Suite>,
    /// Its key, for as long as it lives; `None` without encryption.
    pub client_key: Option<[u8; 32]>,
    /// The shared key that it has.
    pub shared_key: Option<SharedKeyId>,
    /// Which of the server's keys it asked for; `None` without encryption.
    pub server_key: Option<KeyRole>,
}

impl Arrival {
    /// Which client it is, for as long as it lives, in one session after another: its key, without encryption the name
    /// that it made up; `None` where it says nothing.
    pub fn client(&self) -> Option<[u8; 32]> {
        let named = || {
            let mut id = [0; 32];
            id[..16].copy_from_slice(&self.auth.client_id?);
            Some(id)
        };
        self.client_key.or_else(named)
    }

    /// What it proves that a session is its own by; `None` where it shows nothing.
    pub fn proof(&self) -> Option<Proof> {
        let secret = || self.auth.resume.as_ref()?.secret.clone().map(Proof::Secret);
        self.client_key.map(Proof::Key).or_else(secret)
    }
}

/// Why a connection or a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client said good-bye.
    Bye,
    /// The socket closed under it.
    SocketClosed,
    /// The client broke the protocol.
    Violation(Violation),
    /// This side closed with a code: a deadline, a decision, or the application.
    Closed(Code),
    /// The session could not be kept. The client hears why when it comes back.
    Lost(ResetReason),
}

impl Ended {
    /// What the client is told when it comes and asks for the session that ended so.
    pub fn reset_reason(self) -> Option<ResetReason> {
        match self {
            Self::Lost(reason) => Some(reason),
            Self::Bye | Self::SocketClosed | Self::Violation(_) | Self::Closed(_) => None,
        }
    }
}

/// What the application hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// Somebody is there: admit or reject.
    Arrived(Box<Arrival>),
    /// The client shows something new for itself: answer with
    /// [`ServerEndpoint::authenticated`](super::ServerEndpoint::authenticated). There is one at a time.
    Authenticate(Box<Authenticate>),
    /// The client is in, with a new session.
    Connected(SessionId),
    /// The client is in, with the session that it had.
    Resumed,
    /// The connection has ended, for this reason, and the session waits for its client.
    Parked(Ended),
    /// The client wants something of a channel.
    Channel(Box<ChannelWish>),
    /// The client wants something of a channel that it may have open or not: answer with
    /// [`ServerEndpoint::answer`](super::ServerEndpoint::answer).
    Request(Box<Request>),
    /// The client says something to whoever is in a channel.
    Volatile(Box<VolatileAppend>),
    /// The client wants something, or has answered.
    Peer(PeerEvent),
    /// It is over, with so many messages that the client has not confirmed. It comes once, last, and only after
    /// `Arrived`; before that there is nothing to tell an application.
    Ended(Ended, usize),
    /// For the log only: a socket that never got as far as `Arrived` was closed for this reason.
    HandshakeFailed(HandshakeFailure),
}

/// Why a handshake came to nothing. The peer never learns which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// HS1 was not one, or for a key or suite that this server does not have.
    ClientHello,
    /// HS3 did not open, or AUTH did not parse.
    ClientFinish,
    /// A record was too large, of the wrong kind or a text message.
    Record,
    /// It took too long.
    Deadline,
    /// The client closed the socket.
    SocketClosed,
    /// It dialled an address that is not the server's. This one the client is told, sealed, with the reference.
    WrongEndpoint(Ref),
}

/// Why the application does not let a client in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The registry's code, 4000 and above.
    pub code: Code,
    /// The application's own name for it, with [`Code::REFUSED`]; else empty.
    pub name: String,
    /// A text that the user may see.
    pub message: String,
    /// When to try again; zero leaves it to the client.
    pub retry_after: Duration,
}

impl Rejection {
    /// A rejection of the registry's, without a text.
    pub fn of(code: Code) -> Self {
        Self { code, name: String::new(), message: String::new(), retry_after: Duration::ZERO }
    }
}
