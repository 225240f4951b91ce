//! A realtime server for web pages: sealed connections, calls and notifications both ways.
//!
//! ```text
//! listener ─▶ http ──▶ access (Host, Origin) ──▶ upgrade ──▶ connection ──▶ router ──▶ your handlers
//!               └─▶ identity document, static files             │ one task a socket, around protocol's ServerEndpoint
//!                                                               └─▶ Peer, Peers: calls and notifications outward
//! control socket ─▶ the operator's commands: keys, reload, status
//! internal listener ─▶ metrics, health, readiness: for those who run the server, and nothing else
//! ```
//!
//! The wire and every decision about it are in `moorline-protocol`; this crate owns sockets, tasks, handlers and
//! configuration.
//!
//! # Example
//!
//! ```no_run
//! use moorline_server::prelude::*;
//!
//! #[derive(Clone)]
//! struct App { greeting: String }
//!
//! async fn greet(State(app): State<App>, Json(name): Json<String>) -> Result<Json<String>, Fail> {
//!     if name.is_empty() {
//!         return Err(Fail::new("name_required", "Tell us your name first"));
//!     }
//!     Ok(Json(format!("{}, {name}", app.greeting)))
//! }
//!
//! async fn say(peer: Peer, peers: Peers, Json(text): Json<String>) -> Result<(), Fail> {
//!     peers.broadcast_except(&peer, "said", &text)?;
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), moorline_server::Error> {
//!     let server = Server::builder()
//!         .with_state(App { greeting: "Hello".into() })
//!         .handler("greet", greet)
//!         .listener("say", say)
//!         .config(Config::load()?)
//!         .build()
//!         .await?;
//!     server.serve(std::future::pending()).await
//! }
//! ```

mod access;
mod audit;
mod author;
mod builder;
mod channels;
mod clock;
pub mod config;
mod configured;
mod connection;
pub mod control;
mod data_dir;
mod error;
mod fail;
pub mod handler;
mod headers;
mod http;
pub mod identity;
mod internal;
pub mod key_value;
mod limits;
mod listener;
mod metrics;
mod newcomer;
mod once;
mod peer;
mod peers;
mod policy;
mod proxy_protocol;
mod published;
mod rate;
mod restrict;
mod router;
mod server;
mod session;
mod shared;
mod states;
mod status;
pub mod storage;
mod store;
pub mod stream;
mod tasks;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token;
mod topic;
mod undeclared;
mod warnings;
mod websocket;

pub use access::{Admit, Attempt, AuthHandler, Guard, Jwt, OpenTo, Principal, SharedKeyError, WayIn};
pub use builder::ServerBuilder;
pub use config::Config;
pub use data_dir::{DataDir, DataDirError};
pub use error::{Error, SchemaProblem};
pub use fail::Fail;
pub use handler::{Auth, CallName, Handler, Json, State};
pub use key_value::{KeyValue, KeyValueError};
pub use moorline_protocol as protocol;
pub use peer::{Items, Peer, SendError};
pub use peers::Peers;
pub use policy::ChannelCounts;
pub use rate::{Rate, per_minute, per_second};
pub use restrict::{Restrict, Restricted};
pub use server::{Server, Summary};
pub use session::Departure;
pub use status::ServerStatus;
pub use store::{MAX_VALUE, StoreContents, StorePolicy, Stores};
pub use stream::StreamHandler;
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
pub use topic::{TopicMember, TopicPolicy, Topics};

/// The examples of the guide, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/AUTH.md")]
struct AuthGuide;

/// What a program that embeds a server usually needs.
pub mod prelude {
    pub use bytes::Bytes;

    pub use crate::{
        Attempt, Auth, Config, Fail, Guard, Json, Jwt, KeyValue, Peer, Peers, Principal, Restrict, Server,
        ServerBuilder, State, StorePolicy, Stores, TopicPolicy, Topics, per_minute, per_second,
    };
}
