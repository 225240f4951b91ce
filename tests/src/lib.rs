//! What end-to-end tests have in common: a real server on a free port of this machine, and what talks to it.

pub mod channels;
pub mod cutter;
pub mod raw;
pub mod scrape;
pub mod timing;

use std::net::SocketAddr;

use moorline_client::{Client, ClientBuilder};
use moorline_protocol::key::{Identity, StaticKey};
use moorline_server::{Config, ServerBuilder};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

/// What a test returns: anything that goes wrong ends it.
pub type TestResult = Result<(), Box<dyn std::error::Error>>;

/// A server that runs until it is dropped or stopped.
pub struct TestServer {
    address: SocketAddr,
    /// The private key, for a server that takes the place of this one.
    private: [u8; 32],
    internal: Option<SocketAddr>,
    key: String,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), moorline_server::Error>>,
    /// Everything that it keeps, unless the test has another place for that.
    _directory: TempDir,
    /// For what a test wants to do from outside of handlers.
    pub peers: moorline_server::Peers,
}

impl TestServer {
    /// Starts a server with the defaults.
    pub async fn start(builder: ServerBuilder) -> Result<Self, moorline_server::Error> {
        Self::start_with(builder, |_| {}).await
    }

    /// Starts a server with a changed configuration.
    pub async fn start_with(
        builder: ServerBuilder,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, moorline_server::Error> {
        Self::start_again(builder, seed(), change).await
    }

    /// Starts a server that has this private key.
    pub async fn start_again(
        builder: ServerBuilder,
        private: [u8; 32],
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, moorline_server::Error> {
        let mut config = unhurried();
        // A test that keeps something over restarts says where.
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        config.server.data_dir = directory.path().to_owned();
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        change(&mut config);
        let identity = Identity::new(StaticKey::from_private(private));
        let key = identity.public_keys().next().map(|key| key.to_string()).unwrap_or_default();
        let server = builder.config(config).identity(identity).build().await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, internal, peers) = (server.local_addr(), server.internal_addr(), server.peers());
        let serving = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Ok(Self { address, internal, private, key, stop: Some(stop), serving, _directory: directory, peers })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its private key.
    pub fn private(&self) -> [u8; 32] {
        self.private
    }

    /// Where its internal listener listens.
    ///
    /// # Panics
    /// When the test gave it none.
    pub fn internal(&self) -> SocketAddr {
        self.internal.expect("the test asked for an internal listener")
    }

    /// The URL of its WebSocket.
    pub fn url(&self) -> String {
        format!("ws://{}/moorline", self.address)
    }

    /// The text of its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A client that pins its key.
    ///
    /// # Errors
    /// None that a test expects.
    pub fn client(&self) -> Result<ClientBuilder, moorline_client::Error> {
        self.client_at(&self.url())
    }

    /// A client that pins its key and comes by another way.
    ///
    /// # Errors
    /// None that a test expects.
    pub fn client_at(&self, url: &str) -> Result<ClientBuilder, moorline_client::Error> {
        Client::builder(url)?.server_key(&self.key)
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// What the server ended with.
    pub async fn stop(mut self) -> TestResult {
        self.stop.take().map(|stop| stop.send(()));
        Ok((&mut self.serving).await??)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }
}

/// The defaults without limits by time and address: whoever tests something else sends as fast as it goes, from one address.
pub fn unhurried() -> Config {
    let mut config = Config::default();
    let limits = &mut config.limits;
    (limits.messages_per_second, limits.bytes_per_second, limits.connections_per_address) = (0, 0, 0);
    (limits.handshakes_per_second, limits.handshakes_per_second_per_address) = (0, 0);
    config
}

/// 32 random bytes.
///
/// # Panics
/// When the system has none.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system gives random bytes");
    seed
}
