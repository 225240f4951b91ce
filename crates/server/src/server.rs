//! A server that is ready to serve.

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use moorline_protocol::{
    key::{KeyRole, ServerKey},
    subject::Tenant,
};
use tokio::{net::TcpListener, sync::watch};

#[cfg(unix)]
use crate::{
    control::{self, Commands, Control},
    data_dir::DataDirError,
};
use crate::{
    data_dir::DataDir,
    error::Error,
    http, identity,
    internal::Internal,
    key_value::KeyValue,
    listener,
    peers::Peers,
    policy::ChannelCounts,
    shared::Shared,
    status::{Life, ServerStatus},
    tasks::Owner,
};

/// How much longer a good-bye to everybody takes for one client more, so that they do not come back all at once.
const A_CLIENT: Duration = Duration::from_millis(1);
const MOST_SPREAD: Duration = Duration::from_secs(5);

/// A server that listens and waits for [`Server::serve`].
pub struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) shared: Arc<Shared>,
    /// Ends what the server has begun, also where it never serves, or is dropped while it does.
    pub(crate) owner: Owner,
    pub(crate) summary: Summary,
    pub(crate) life: Life,
    pub(crate) internal: Option<Internal>,
    #[cfg(unix)]
    pub(crate) control: Option<Control>,
    /// Behind what is in it, so that it is ours until the last of that is gone.
    pub(crate) data_dir: Option<DataDir>,
}

/// What an operator wants to know of a server at its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// The addresses that are listened on.
    pub listen: Vec<SocketAddr>,
    /// The address of the internal listener, if there is one.
    pub internal: Option<SocketAddr>,
    /// The socket for the operator's commands, if there is one.
    pub control: Option<PathBuf>,
    /// Whether this server ends TLS itself.
    pub tls: bool,
    /// The certificate, where the configuration names one.
    #[cfg(feature = "tls")]
    pub certificate: Option<crate::tls::Certificate>,
    /// The file of a certificate that the server made itself: what people have to trust.
    pub self_signed: Option<PathBuf>,
    /// The path of the WebSocket and of the identity document.
    pub path: String,
    /// The addresses that clients use.
    pub public_urls: Vec<String>,
    /// Whether records are sealed.
    pub encryption: bool,
    /// The suites that clients may choose.
    pub suites: Vec<&'static str>,
    /// The server's keys and what they are, the current one first.
    pub identity: Vec<(KeyRole, ServerKey)>,
    /// Where the key comes from; `None` when the program gave it.
    pub identity_origin: Option<identity::Origin>,
    /// The origins whose pages may connect.
    pub origins: Vec<String>,
    /// The ways in: `jwt`, `auth handler`, `shared key`; `open` (this machine, everybody), `anonymous` (everybody) or `guests`
    /// (who may use what skips all this).
    pub auth: String,
    /// The channels that are declared.
    pub declared: ChannelCounts,
    /// The file with everything of channels that is kept, where anything is.
    pub channels: Option<PathBuf>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

impl Server {
    /// What an operator wants to know.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The address that is really listened on: with port 0 in the configuration the system has chosen one.
    pub fn local_addr(&self) -> SocketAddr {
        self.summary.listen[0]
    }

    /// The address of the internal listener, if there is one. It answers from [`ServerBuilder::build`](crate::ServerBuilder::build) on.
    pub fn internal_addr(&self) -> Option<SocketAddr> {
        self.summary.internal
    }

    /// Everybody who is connected, for code outside of handlers.
    pub fn peers(&self) -> Peers {
        self.shared.peers.clone()
    }

    /// The values of a tenant in a namespace, for code outside of handlers; `None` where it is not declared.
    pub fn key_value<N: 'static>(&self, tenant: Tenant) -> Option<KeyValue<N>> {
        KeyValue::of(&self.shared.states, self.shared.channels.engine(true), &tenant)
    }

    /// Where it is in its life, for whoever watches it.
    pub fn status(&self) -> watch::Receiver<ServerStatus> {
        self.life.watch()
    }

    /// Serves until `shutdown` is ready, then says good-bye to every client and returns when they are gone or
    /// `timeouts.shutdown` is over. The internal listener and the control socket answer until then.
    ///
    /// # Errors
    /// None yet: a socket that cannot be accepted is logged and the next one tried.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { listener, shared, owner: _owner, life, internal, data_dir, .. } = self;
        #[cfg(unix)]
        let control = self.control;
        #[cfg(feature = "tls")]
        if let Some(certificate) = &shared.certificate {
            certificate.follow(&shared.tasks);
        }
        life.becomes(ServerStatus::Started);
        listener::accept(listener, http::terms(&shared), shutdown).await;
        life.becomes(ServerStatus::Draining);
        let most = shared.config.timeouts.shutdown;
        let spread = (A_CLIENT * u32::try_from(shared.peers.count()).unwrap_or(u32::MAX)).min(MOST_SPREAD);
        shared.peers.drain(spread.min(most / 2));
        if !shared.tasks.finish(most).await {
            tracing::warn!("some connections did not end in time");
        }
        if let Some(internal) = internal {
            internal.finish().await;
        }
        #[cfg(unix)]
        drop(control);
        drop(data_dir);
        life.becomes(ServerStatus::Stopped);
        Ok(())
    }

    /// Begins to listen on the control socket.
    #[cfg(unix)]
    pub(crate) fn take_commands(&mut self) -> Result<(), Error> {
        let Some(dir) = &self.data_dir else { return Ok(()) };
        match Control::bind(dir) {
            Ok(bound) => {
                let listen = self.summary.listen.iter().map(ToString::to_string).collect();
                let configured = self.summary.identity_origin.is_some();
                let commands = Commands::new(self.shared.clone(), self.life.watch(), listen, configured);
                self.control = Some(Control::start(bound, commands));
                self.summary.control = Some(control::socket_path(dir.path()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                return Err(DataDirError::Taken { path: dir.path().to_owned(), pid: None }.into());
            }
            // A path that is too long for a socket, mostly, or a file system without them. The server is whole without.
            Err(error) => {
                let path = control::socket_path(dir.path());
                self.summary.warnings.push(format!("there is no control socket {}: {error}", path.display()));
            }
        }
        Ok(())
    }

    #[cfg(not(unix))]
    pub(crate) fn take_commands(&mut self) -> Result<(), Error> {
        self.summary.warnings.push("there is no control socket: this system has none in its file system".into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

    use super::*;
    use crate::config::{Config, JwtAlgorithm, Secret};

    type TestResult = Result<(), Box<dyn StdError>>;

    /// Longer than any of this takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn build() -> Result<(Server, tempfile::TempDir), Box<dyn StdError>> {
        let directory = tempfile::tempdir()?;
        let mut config = Config::default();
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.server.data_dir = directory.path().to_owned();
        config.timeouts.upgrade = Duration::from_secs(3_600);
        config.auth.jwt.algorithm = Some(JwtAlgorithm::Hs256);
        config.auth.jwt.secret = Some(Secret::new("a secret of tests, 32 bytes or more"));
        Ok((Server::builder().config(config).build().await?, directory))
    }

    /// A server that was built and never served left the task behind that hears of revocations, and with it everything
    /// that the server shares, for as long as the process lived.
    #[tokio::test]
    async fn regression_a_server_that_is_dropped_leaves_nothing_behind() -> TestResult {
        let (server, _directory) = build().await?;
        let shared = Arc::downgrade(&server.shared);
        drop(server);
        let gone = async {
            while shared.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
        };
        Ok(timeout(PATIENCE, gone).await?)
    }

    /// Whoever dropped the future of `serve`, by a `select!` or by aborting its task, still served every client that had
    /// been there.
    #[tokio::test]
    async fn regression_connections_end_with_the_future_that_serves_them() -> TestResult {
        let (server, _directory) = build().await?;
        let address = server.local_addr();
        let serving = tokio::spawn(server.serve(std::future::pending()));
        let mut client = TcpStream::connect(address).await?;
        // The second one is accepted behind the first.
        let mut other = TcpStream::connect(address).await?;
        tokio::io::AsyncWriteExt::write_all(&mut other, b"GET /moorline HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        timeout(PATIENCE, other.read_u8()).await??;
        serving.abort();
        let mut rest = Vec::new();
        timeout(PATIENCE, client.read_to_end(&mut rest)).await??;
        assert_eq!(rest, b"");
        Ok(())
    }
}
