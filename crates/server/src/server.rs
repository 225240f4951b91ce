//! A server that is ready to serve, and what all its connections share.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use moorline_protocol::{
    code::Code,
    key::ServerKey,
    server::{Encryption, ServerConfig},
    time::Timestamp,
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{
    Error, Peers, ServerBuilder, access::Access, config::Config, handler::States, http, identity, listener,
    router::Router, tasks::Tasks,
};

/// What every connection of a server shares.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) endpoint: Arc<ServerConfig>,
    pub(crate) router: Router,
    pub(crate) states: Arc<States>,
    pub(crate) peers: Peers,
    pub(crate) access: Access,
    /// The identity document, encoded once.
    pub(crate) document: Bytes,
    /// Room for WebSockets.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) tasks: Tasks,
    /// The zero of every [`Timestamp`].
    pub(crate) origin: Instant,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment of a timestamp; rounded up, so that a timer never fires before its time.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        let far = Duration::from_secs(365 * 24 * 3600);
        self.origin + Duration::from_millis(at.as_millis()).min(self.origin.elapsed() + far)
    }

    pub(crate) fn encryption_is_on(&self) -> bool {
        matches!(self.endpoint.encryption, Encryption::On { .. })
    }
}

/// A server that listens and waits for [`Server::serve`].
pub struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) shared: Arc<Shared>,
    pub(crate) summary: Summary,
}

/// What an operator wants to know of a server at its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// The addresses that are listened on.
    pub listen: Vec<SocketAddr>,
    /// The path of the WebSocket and of the identity document.
    pub path: String,
    /// The addresses that clients use.
    pub public_urls: Vec<String>,
    /// Whether records are sealed.
    pub encryption: bool,
    /// The suites that clients may choose.
    pub suites: Vec<&'static str>,
    /// The server's keys, the current one first.
    pub identity: Vec<ServerKey>,
    /// Where the key comes from; `None` when the program gave it.
    pub identity_origin: Option<identity::Origin>,
    /// The origins whose pages may connect.
    pub origins: Vec<String>,
    /// Who may come in: `open` (this machine) or `anonymous` (everybody).
    pub auth: &'static str,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

impl Server {
    /// Begins a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// What an operator wants to know.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The address that is really listened on: with port 0 in the configuration the system has chosen one.
    pub fn local_addr(&self) -> SocketAddr {
        self.summary.listen[0]
    }

    /// Everybody who is connected, for code outside of handlers.
    pub fn peers(&self) -> Peers {
        self.shared.peers.clone()
    }

    /// Serves until `shutdown` is ready, then says good-bye to every client and returns when they are gone or
    /// `timeouts.shutdown` is over.
    ///
    /// # Errors
    /// None yet: a socket that cannot be accepted is logged and the next one tried.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { listener, shared, .. } = self;
        let config = &shared.config;
        let routes = http::routes(shared.clone(), &config.server.path, config.server.public.as_deref());
        listener::accept(listener, routes, &shared, shutdown).await;
        shared.peers.close_all(Code::GOING_AWAY);
        shared.tasks.stop();
        if timeout(config.timeouts.shutdown, shared.tasks.done()).await.is_err() {
            tracing::warn!("some connections did not end in time");
            shared.tasks.abort();
        }
        Ok(())
    }
}
