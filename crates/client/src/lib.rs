//! The native Moorline client for tokio: for services, command lines, load and tests.
//!
//! ```text
//! Client (cheap to clone) ──commands──▶ driver: one task around protocol's ClientEndpoint ──▶ WebSocket
//!        ◀──────── results, status ────┘   └─▶ your handlers and listeners
//! ```
//!
//! It connects over `ws://`, and with the feature `tls` over `wss://`, by rustls and the authorities that the system trusts, or
//! others: [`ClientBuilder::authorities`].
//!
//! # Example
//!
//! ```no_run
//! use moorline_client::Client;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("ws://localhost:2667/moorline")?.connect()?;
//! client.listen("said", |text: String| async move { println!("{text}") });
//! let greeting: String = client.call("greet", &"Ann").await?;
//! client.close().await;
//! # Ok(()) }
//! ```

mod channel;
mod discovery;
mod driver;
mod handlers;
mod mailbox;
mod socket;
mod store;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod topic;
mod way;

use std::{fmt, marker::PhantomData, net::SocketAddr, sync::Arc, time::Duration};

pub use channel::Aside;
use futures_util::{FutureExt, future::BoxFuture};
pub use moorline_protocol as protocol;
use moorline_protocol::{
    client::{AuthorizeReason, ClientConfig, ConnectFailure, Reset, SessionInfo, Status},
    code::Code,
    error::Refused,
    frame::{Admission, Credentials, Failure},
    key::{InvalidKey, InvalidSharedKey, ServerKey},
    limits::DEFAULT_CREDIT,
    payload::{Name, Payload},
    record::Suite,
    session::{CallOptions, Outcome},
    url::{DialUrl, InvalidUrl},
};
use serde::{Serialize, de::DeserializeOwned};
pub use store::{Store, StoreEvent, StoreOptions, StorePatch};
pub use stream::Items;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
pub use topic::{Topic, TopicEvent, TopicHistory, TopicMessage, TopicOptions};

use crate::{driver::Command, handlers::Handlers, way::Way};

/// How long a call waits for its answer, unless [`Client::call_within`] says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Commands that may wait for the driver; a caller beyond that waits.
const COMMANDS: usize = 1_024;

/// Losses of the session that are kept for a reader who is slow.
const RESETS: usize = 16;

/// Why a client was not made, or a request brought no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The URL is none of an endpoint.
    Url(InvalidUrl),
    /// `wss://`, and this was built without TLS.
    TlsUnsupported,
    /// What is to hold the certificates of authorities holds none, or one that does not read.
    Authorities,
    /// There is nobody who could vouch for a server: the system trusts no authority.
    NoAuthorities,
    /// The server key is none.
    Key(InvalidKey),
    /// The shared key is none.
    SharedKey(InvalidSharedKey),
    /// The server does not take what was shown on the open connection: its code or the application's, and its text.
    Denied(String, String),
    /// The system gives no random bytes.
    NoEntropy,
    /// Nothing was sent.
    Refused(Refused),
    /// The value has no JSON form, or the answer not the expected one.
    Json(serde_json::Error),
    /// The server's handler failed.
    Failed(Failure),
    /// No answer in time. The handler may have run.
    TimedOut,
    /// The session was lost before the answer came: the handler may have run, the message may have arrived.
    Unknown,
    /// The server does not tell of the channel, or no longer: its code and its text.
    ChannelClosed(Code, String),
    /// The client has stopped, for this reason when there is one.
    Closed(Option<ConnectFailure>),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(error) => error.fmt(formatter),
            Self::TlsUnsupported => formatter.write_str(
                "wss:// is not supported by this program: build moorline-client with its feature tls, or use ws://",
            ),
            Self::Authorities => {
                formatter.write_str("this holds no certificates, or one that does not read: give authorities as PEM")
            }
            Self::NoAuthorities => formatter.write_str(
                "the system trusts no authority that could vouch for a server: install its CA certificates, or name some",
            ),
            Self::Key(error) => error.fmt(formatter),
            Self::SharedKey(error) => error.fmt(formatter),
            Self::Denied(code, message) => write!(formatter, "{code}: {message}"),
            Self::NoEntropy => formatter.write_str("the system gives no random bytes"),
            Self::Refused(refused) => refused.fmt(formatter),
            Self::Json(error) => error.fmt(formatter),
            Self::Failed(failure) => write!(formatter, "{failure:?}"),
            Self::TimedOut => formatter.write_str("no answer came in time"),
            Self::Unknown => formatter.write_str("the connection ended before the answer came"),
            Self::ChannelClosed(code, message) => write!(formatter, "{code}: {message}"),
            Self::Closed(None) => formatter.write_str("the client is closed"),
            Self::Closed(Some(failure)) => {
                let remedy = failure.code.entry().map_or("", |entry| entry.remedy);
                write!(formatter, "{}: {} {remedy}", failure.name(), failure.message)
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// What a call, or what is answered like one, comes to.
pub(crate) async fn reply(outcome: oneshot::Receiver<Result<Outcome, Refused>>) -> Result<Payload, Error> {
    match outcome.await {
        Ok(Ok(Outcome::Reply(payload))) => Ok(payload),
        Ok(Ok(Outcome::Failed(failure))) => Err(Error::Failed(failure)),
        Ok(Ok(Outcome::TimedOut)) => Err(Error::TimedOut),
        Ok(Ok(Outcome::Unknown)) => Err(Error::Unknown),
        // A stream ends so, and nothing here asks for one.
        Ok(Ok(Outcome::End | Outcome::NotSent)) | Err(_) => Err(Error::Closed(None)),
        Ok(Err(refused)) => Err(Error::Refused(refused)),
    }
}

/// Gives what a client is to show for itself: at first, and fresh whenever it is asked again.
pub(crate) type Provider = Arc<dyn Fn(AuthorizeReason) -> BoxFuture<'static, Option<Credentials>> + Send + Sync>;

/// Collects what a client is made of.
pub struct ClientBuilder {
    config: ClientConfig,
    provider: Option<Provider>,
    way: Way,
    #[cfg(feature = "tls")]
    authorities: Vec<tokio_rustls::rustls::pki_types::CertificateDer<'static>>,
}

impl ClientBuilder {
    /// Believes servers under `wss://` that these vouch for, and no others: certificates of authorities, or of servers
    /// themselves, as PEM. Without it those count that the system trusts. What is added adds up.
    ///
    /// # Errors
    /// [`Error::Authorities`].
    #[cfg(feature = "tls")]
    pub fn authorities(mut self, pem: &[u8]) -> Result<Self, Error> {
        self.authorities.extend(tls::certificates(pem).ok_or(Error::Authorities)?);
        Ok(self)
    }

    /// Accepts this server key, and others that are added; without one the server is asked for its key.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn server_key(mut self, key: &str) -> Result<Self, Error> {
        self.config.server_keys.push(key.parse::<ServerKey>().map_err(Error::Key)?);
        Ok(self)
    }

    /// Connects here and without TLS, whatever the URL says, which is still what the server is told that was dialled: for
    /// who stands behind the proxy that ends TLS, on the server's own machine mostly. Pin the server's key; it is not asked
    /// for over `wss://` as if TLS were there.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.way.address = Some(address);
        self
    }

    /// Chooses the suite; `None` switches the inner encryption off, which the server must do too.
    #[must_use]
    pub fn encryption(mut self, suite: Option<Suite>) -> Self {
        self.config.suite = suite;
        self
    }

    /// Shows this token, always the same. See [`Self::credentials`] for one that expires.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        let credentials = Credentials::token(token);
        self.credentials(move |_| std::future::ready(Some(credentials.clone())))
    }

    /// Shows this to the server's auth handler.
    ///
    /// # Errors
    /// [`Error::Json`].
    pub fn auth(self, data: &impl Serialize) -> Result<Self, Error> {
        let credentials = Credentials::data(Payload::json(serde_json::to_vec(data)?));
        Ok(self.credentials(move |_| std::future::ready(Some(credentials.clone()))))
    }

    /// Asks for what is to be shown before each connection, and again before it expires. `None` says that there is
    /// nothing to be had now; the client tries again later.
    #[must_use]
    pub fn credentials<Fut>(mut self, provider: impl Fn(AuthorizeReason) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = Option<Credentials>> + Send + 'static,
    {
        self.config.asks_for_credentials = true;
        self.provider = Some(Arc::new(move |reason| provider(reason).boxed()));
        self
    }

    /// Has this key, which the server has, too (`mlkey_…`).
    ///
    /// # Errors
    /// [`Error::SharedKey`].
    pub fn shared_key(mut self, key: &str) -> Result<Self, Error> {
        self.config.shared_key = Some(key.parse().map_err(Error::SharedKey)?);
        Ok(self)
    }

    /// Changes whatever else the protocol's client can be told.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts a client, which connects by itself.
    ///
    /// # Errors
    /// [`Error::NoEntropy`], [`Error::TlsUnsupported`], [`Error::NoAuthorities`]. The network is no error here: see [`Client::ready`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(mut self) -> Result<Client, Error> {
        if self.config.url.is_secure() {
            self.secure()?;
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| Error::NoEntropy)?;
        let (commands, commands_in) = mpsc::channel(COMMANDS);
        let (view, view_out) = watch::channel(View::default());
        let (resets, _) = broadcast::channel(RESETS);
        let handlers = Arc::new(Handlers::default());
        let (provider, way) = (self.provider, self.way);
        let parts = driver::Parts { view, resets: resets.clone(), handlers: handlers.clone(), provider, way };
        tokio::spawn(driver::run(self.config, seed, commands_in, parts));
        Ok(Client { commands, view: view_out, resets, handlers })
    }

    /// Sees to what `wss://` asks for.
    fn secure(&mut self) -> Result<(), Error> {
        if self.way.address.is_some() {
            // A key that is asked for over `wss://` would be believed for the sake of a TLS that is not there.
            let asks_for_key = self.config.server_keys.is_empty() && self.config.suite.is_some();
            return if asks_for_key { Err(Error::TlsUnsupported) } else { Ok(()) };
        }
        #[cfg(feature = "tls")]
        {
            self.way.tls = Some(tls::Tls::new(&self.authorities)?);
            Ok(())
        }
        #[cfg(not(feature = "tls"))]
        Err(Error::TlsUnsupported)
    }
}

/// What a program sees of the connection.
#[derive(Clone, Debug)]
struct View {
    status: Status,
    session: Option<SessionInfo>,
    rtt: Option<Duration>,
    admission: Option<Admission>,
}

fn identity_of(admission: &Admission) -> serde_json::Value {
    serde_json::from_slice(&admission.identity).unwrap_or_default()
}

impl Default for View {
    fn default() -> Self {
        Self {
            status: Status::Connecting { attempt: 1, retry_in: None, error: None },
            session: None,
            rtt: None,
            admission: None,
        }
    }
}

/// A connection that is kept: clones share it, and when the last is dropped it closes.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
    resets: broadcast::Sender<Reset>,
    handlers: Arc<Handlers>,
}

impl Client {
    /// Begins a client for the server at this URL.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn builder(url: &str) -> Result<ClientBuilder, Error> {
        Ok(ClientBuilder {
            config: ClientConfig::new(DialUrl::parse(url).map_err(Error::Url)?),
            provider: None,
            way: Way::default(),
            #[cfg(feature = "tls")]
            authorities: Vec::new(),
        })
    }

    /// Waits until it is connected.
    ///
    /// # Errors
    /// [`Error::Closed`] when it stopped instead.
    pub async fn ready(&self) -> Result<SessionInfo, Error> {
        let settled = |view: &View| matches!(view.status, Status::Connected | Status::Closed(_));
        let view = self.view.clone().wait_for(settled).await.map_err(|_| Error::Closed(None))?.clone();
        match (view.status, view.session) {
            (Status::Closed(failure), _) => Err(Error::Closed(failure)),
            (_, Some(session)) => Ok(session),
            (_, None) => Err(Error::Closed(None)),
        }
    }

    /// The state of the connection.
    pub fn status(&self) -> Status {
        self.view.borrow().status.clone()
    }

    /// Waits until the state is one that `wanted` says yes to, and gives it.
    ///
    /// # Errors
    /// [`Error::Closed`] when the client stopped before.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Status) -> bool) -> Result<Status, Error> {
        let view =
            self.view.clone().wait_for(|view| wanted(&view.status)).await.map_err(|_| Error::Closed(None))?.clone();
        Ok(view.status)
    }

    /// The newest measured round trip.
    pub fn rtt(&self) -> Option<Duration> {
        self.view.borrow().rtt
    }

    /// Every loss of the session from now on: why, and what may have arrived or not. The newest 16 are kept for a slow
    /// reader.
    pub fn resets(&self) -> broadcast::Receiver<Reset> {
        self.resets.subscribe()
    }

    /// Calls the server's handler and waits up to 10 s. Dropping the future cancels the call.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn call<T: DeserializeOwned>(&self, name: &str, data: &impl Serialize) -> Result<T, Error> {
        self.call_within(name, data, CALL_TIMEOUT).await
    }

    /// Calls the server's handler and waits. Dropping the future cancels the call.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn call_within<T: DeserializeOwned>(
        &self,
        name: &str,
        data: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, Error> {
        let payload = Payload::json(serde_json::to_vec(data)?);
        let reply = self.call_raw(name, payload, CallOptions::within(timeout)).await?;
        Ok(serde_json::from_slice(&reply.bytes)?)
    }

    /// Calls a handler of the server's that answers with a stream. The first item has 10 s to come, the others as long as
    /// they take.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Refused`], [`Error::Closed`]. What goes wrong later comes from [`Items::next`].
    #[expect(clippy::disallowed_methods, reason = "credit bounds what is in the queue")]
    pub async fn stream<T: DeserializeOwned>(&self, name: &str, data: &impl Serialize) -> Result<Items<T>, Error> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let payload = Payload::json(serde_json::to_vec(data)?);
        let mut options = CallOptions::within(CALL_TIMEOUT);
        options.credit = Some(DEFAULT_CREDIT);
        let ((begun, is_begun), (sender, items)) = (oneshot::channel(), mpsc::unbounded_channel());
        self.command(Command::Stream { name, payload, options, begun, items: sender }).await?;
        let id = is_begun.await.map_err(|_| Error::Closed(None))??;
        Ok(Items { id, items, commands: self.commands.clone(), read: 0, of: PhantomData })
    }

    /// Calls the server's handler with a payload as it is.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn call_raw(&self, name: &str, payload: Payload, options: CallOptions) -> Result<Payload, Error> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let (settled, outcome) = oneshot::channel();
        self.command(Command::Call { name, payload, options, settled }).await?;
        reply(outcome).await
    }

    /// Sends a notification. It waits for the connection if there is none.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Refused`], [`Error::Closed`].
    pub async fn notify(&self, name: &str, data: &impl Serialize) -> Result<(), Error> {
        self.send(name, Payload::json(serde_json::to_vec(data)?), false).await
    }

    /// Sends a notification and waits until the server has got it.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the session was lost first; [`Error::Json`], [`Error::Refused`], [`Error::Closed`].
    pub async fn notify_confirmed(&self, name: &str, data: &impl Serialize) -> Result<(), Error> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let payload = Payload::json(serde_json::to_vec(data)?);
        let (confirmed, result) = oneshot::channel();
        self.command(Command::Confirm { name, payload, confirmed }).await?;
        match result.await.map_err(|_| Error::Closed(None))? {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Unknown),
            Err(refused) => Err(Error::Refused(refused)),
        }
    }

    /// Sends a notification that is dropped where it cannot go out at once.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Refused`], [`Error::Closed`].
    pub async fn notify_volatile(&self, name: &str, data: &impl Serialize) -> Result<(), Error> {
        self.send(name, Payload::json(serde_json::to_vec(data)?), true).await
    }

    async fn send(&self, name: &str, payload: Payload, volatile: bool) -> Result<(), Error> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let (queued, result) = oneshot::channel();
        self.command(Command::Notify { name, payload, volatile, queued }).await?;
        result.await.map_err(|_| Error::Closed(None))?.map_err(Error::Refused)
    }

    /// Answers the server's calls of this name; a second handler of the name replaces the first. One that panics fails that
    /// call alone, with `internal`. When the server gives up, or the session is over, its future is dropped.
    pub fn handle<T, R, Fut>(&self, name: &str, handler: impl Fn(T) -> Fut + Send + Sync + 'static)
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        self.handlers.handle(name, handler);
    }

    /// Hears the server's notifications of this name, beside whoever hears them already.
    pub fn listen<T, Fut>(&self, name: &str, listener: impl Fn(T) -> Fut + Send + Sync + 'static)
    where
        T: DeserializeOwned + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.handlers.listen(name, listener);
    }

    /// Shows something else for itself on the open connection, otherwise on the next one, and gives who the client is now:
    /// its identity as JSON.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Refused`], [`Error::Closed`].
    pub async fn authenticate(&self, credentials: Credentials) -> Result<serde_json::Value, Error> {
        let (settled, outcome) = oneshot::channel();
        self.command(Command::Authenticate { credentials, settled }).await?;
        match outcome.await.map_err(|_| Error::Closed(None))?? {
            Ok(admission) => Ok(identity_of(&admission)),
            Err(denial) => Err(Error::Denied(denial.name(), denial.message)),
        }
    }

    /// Who the client is, as the server says: `{ subject, tenant, role, scopes, meta }`; null before the first
    /// connection.
    pub fn identity(&self) -> serde_json::Value {
        self.view.borrow().admission.as_ref().map_or(serde_json::Value::Null, identity_of)
    }

    /// Asks for a new measurement of the round trip.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.command(Command::Ping).await
    }

    /// Closes: what waits goes out, the server hears good-bye. Returns when the socket is gone and the listeners that
    /// still run have ended, after 10 s at the latest: what runs on is then dropped at its next await. Handlers that still
    /// run are dropped at once, since nobody takes their answers any more.
    pub async fn close(&self) {
        if self.command(Command::Close).await.is_ok() {
            self.commands.closed().await;
        }
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| self.closed())
    }

    /// The client has stopped: why.
    pub(crate) fn closed(&self) -> Error {
        match &self.view.borrow().status {
            Status::Closed(failure) => Error::Closed(failure.clone()),
            Status::Connecting { .. } | Status::Connected => Error::Closed(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over `wss://` a server is believed what it says its key is, because TLS has shown who it is. Here there is none.
    #[tokio::test]
    async fn past_the_proxy_a_key_is_pinned_or_nothing_is_connected() -> Result<(), Error> {
        let wss = || Client::builder("wss://app.example.com/moorline");
        let there = SocketAddr::from(([127, 0, 0, 1], 9));
        assert!(matches!(wss()?.address(there).connect(), Err(Error::TlsUnsupported)));
        assert!(wss()?.address(there).encryption(None).connect().is_ok());
        let key = protocol::key::StaticKey::from_private([7; 32]).public().to_string();
        #[cfg(not(feature = "tls"))]
        for builder in [wss()?, wss()?.encryption(None), wss()?.server_key(&key)?] {
            assert!(matches!(builder.connect(), Err(Error::TlsUnsupported)));
        }
        assert!(wss()?.server_key(&key)?.address(there).connect().is_ok());
        Ok(())
    }
}
