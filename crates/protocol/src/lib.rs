//! The Moorline protocol as state machines: bytes, time and a seed go in; bytes, events and one deadline come out.
//!
//! ```text
//!            ┌──────────────────────── ClientEndpoint / ServerEndpoint ───────────────────────┐
//!  socket ─▶ record ─▶ handshake (noise) │ opener (cipher) ─▶ frame ─▶ heartbeat, calls ─▶ events ─▶ application
//!  socket ◀─ record ◀────────────────────  sealer (cipher) ◀─ frame ◀─ session ◀───────── commands ◀─ application
//!            └────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! This crate has no socket, clock, task, thread or random source of its own, so that the server, the native client,
//! the browser and a simulation all run the very same code. `docs/PROTOCOL.md` in the repository is the normative
//! description of the bytes.
//!
//! # The contract
//!
//! **Mutate, then drain.** Every call that takes `&mut self` may leave outputs behind. After it, call `poll_output`
//! until it says `Wait`, and only then wait: for the socket, for a command, or for the deadline in `Wait`. Events are
//! to be delivered to the application when the drain is over, never in its middle.
//!
//! # Modules
//!
//! | module | what it owns |
//! |---|---|
//! | [`client`], [`server`] | the two endpoints: phases, deadlines, decisions |
//! | `connection`, [`session`] | one established socket; what outlives it |
//! | `calls`, `heartbeat`, `backoff`, [`discovery`] | the smaller machines inside |
//! | [`scope`], [`pattern`] | who may do what, on which names |
//! | `noise`, `cipher`, [`record`], [`frame`], [`auth`], [`payload`], `wire` | the layers of the wire |
//! | [`key`], [`url`], [`entropy`], [`code`], [`error`], [`limits`], [`subject`], [`time`], `text` | what everything else speaks in |
//!
//! # Example
//!
//! Both ends in one process, with the wire between them as a function call:
//!
//! ```
//! use std::sync::Arc;
//! use moorline_protocol::{client::*, entropy::Entropy, frame::{Admission, Epoch}, key::*, server::*, time::*, url::DialUrl};
//!
//! let identity = Identity::new(StaticKey::generate(&mut Entropy::new([1; 32])));
//! let mut config = ClientConfig::new(DialUrl::parse("ws://localhost:2667/moorline")?);
//! config.server_keys = identity.public_keys().collect();
//! let suites = moorline_protocol::record::Suite::ALL.to_vec();
//! let server_config = Arc::new(ServerConfig::new(Encryption::On { identity: identity.into(), suites }, Epoch([4; 8])));
//!
//! let now = Timestamp::from_millis(0);
//! let mut client = ClientEndpoint::new(config, [2; 32]);
//! let mut server = ServerEndpoint::new(server_config, [3; 32], now);
//! client.start(now);
//! let mut connected = false;
//! while !connected {
//!     match client.poll_output() {
//!         ClientOutput::OpenSocket { socket, .. } => {
//!             client.handle_input(now, ClientInput::Socket(socket, SocketInput::Opened));
//!         }
//!         ClientOutput::Transmit(_, record) => server.handle_input(now, ServerInput::Record(record)),
//!         ClientOutput::Event(ClientEvent::Status(Status::Connected)) => connected = true,
//!         _ => {}
//!     }
//!     match server.poll_output() {
//!         ServerOutput::Event(ServerEvent::Arrived(_)) => server.admit(now, UnixMillis(0), None, Admission::default()),
//!         ServerOutput::Transmit(record) => {
//!             client.handle_input(now, ClientInput::Socket(SocketId(1), SocketInput::Record(record)));
//!         }
//!         _ => {}
//!     }
//! }
//! # Ok::<(), moorline_protocol::url::InvalidUrl>(())
//! ```

pub mod auth;
pub mod backoff;
mod calls;
pub mod channel;
mod cipher;
pub mod client;
pub mod code;
mod connection;
pub mod discovery;
pub mod entropy;
pub mod error;
pub mod frame;
pub mod heartbeat;
pub mod key;
pub mod limits;
mod noise;
pub mod pattern;
pub mod payload;
pub mod record;
pub mod scope;
pub mod server;
pub mod session;
pub mod subject;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
pub mod time;
pub mod url;
mod wire;

pub use session::PeerEvent;
