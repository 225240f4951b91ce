//! Putting a server together.

mod build;

use std::{net::SocketAddr, sync::Arc};

use moorline_protocol::{
    channel::Kind,
    key::Identity,
    pattern::{InvalidPattern, Pattern},
};

use crate::{
    access::{AuthHandler, Jwt, WayIn, gate::sealed::Way},
    config::{Config, Place},
    handler::{BoxedHandler, Handler, Running},
    key_value::Namespaces,
    metrics::{Meter, Metrics},
    policy::{Declarations, Policy},
    router::{Router, Served},
    server::Server,
    states::States,
    status::{Callback, ServerStatus},
    store::StorePolicy,
    stream::{BoxedStream, StreamHandler},
    topic::TopicPolicy,
};

/// Collects what a server is made of: configuration, state, handlers.
///
/// Mistakes (a name given twice, a state that is missing) are found by [`ServerBuilder::build`], not by a call later.
#[derive(Default)]
pub struct ServerBuilder {
    config: Config,
    identity: Option<Identity>,
    internal: Option<SocketAddr>,
    control: bool,
    dev: bool,
    states: States,
    router: Router,
    declared: Declarations,
    namespaces: Namespaces,
    /// The first channel that was declared wrong.
    wrong_channel: Option<(Kind, String, InvalidPattern)>,
    auth: Option<Arc<dyn AuthHandler>>,
    jwt: Option<Jwt>,
    callbacks: Vec<Callback>,
    metrics: Arc<Metrics>,
    #[cfg(feature = "testing")]
    echo: Option<crate::testing::Echo>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<tokio_rustls::rustls::ServerConfig>>,
}

impl Server {
    /// Begins a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

impl ServerBuilder {
    /// Takes the whole configuration. Without it the defaults hold: this machine only, at 127.0.0.1:2667.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Takes the server's key from the program instead of the file that the configuration names.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Listens here for those who run the server: `/metrics`, `/healthz` and `/readyz`, in plain HTTP and for whoever
    /// reaches it. Comes before the configuration's `[internal] listen`.
    #[must_use]
    pub fn internal_listen(mut self, address: SocketAddr) -> Self {
        self.internal = Some(address);
        self
    }

    /// Takes commands on a socket in the data directory, as the program `moorline` gives them; see [`crate::control`].
    /// The directory is then this server's alone. So it is without this, too, when the identity is kept in it.
    ///
    /// Where the directory cannot be used and nothing else needs it, or the system has no such sockets, the server starts
    /// without and says so among its warnings.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.control = true;
        self
    }

    /// Helps while a program is being written: in open mode, so for this machine alone, a topic that nobody has declared is
    /// made when it is asked for, with presence and without history, and the log says what to add to the configuration.
    /// Elsewhere such a topic does not exist, whether this is set or not. Of a store, which would stay on the disk, it says
    /// what declares it, to whoever asks and in the log.
    #[must_use]
    pub fn dev(mut self) -> Self {
        self.dev = true;
        self
    }

    /// Ends TLS itself, with this certificate and its rules; clients then use `https://` and `wss://`.
    ///
    /// A client has `timeouts.tls_accept` for its handshake.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: Arc<tokio_rustls::rustls::ServerConfig>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Also serves WebSockets that say everything back, at [`crate::testing::ECHO_PATH`].
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn echo(mut self, echo: crate::testing::Echo) -> Self {
        self.echo = Some(echo);
        self
    }

    /// Decides who somebody is who shows data of the application's own (`connect(url, { auth })` on a page): an async
    /// function of an [`Attempt`](crate::Attempt) that gives a [`Principal`](crate::Principal) or a [`Fail`](crate::Fail).
    /// Or takes tokens: [`Jwt`]. A server may have both; a second one of the same kind replaces the first.
    #[must_use]
    pub fn auth(mut self, way: impl WayIn) -> Self {
        match way.way() {
            Way::Handler(handler) => self.auth = Some(handler),
            Way::Jwt(jwt) => self.jwt = Some(jwt),
        }
        self
    }

    /// Gives handlers a state, which they take as [`State<T>`](crate::State). One of each type; a second replaces it.
    #[must_use]
    pub fn with_state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.insert(state);
        self
    }

    /// Keeps values of the application's in a namespace, which handlers take as
    /// [`KeyValue<N>`](crate::KeyValue): see [`crate::key_value`]. They are in the data directory under the namespace, so
    /// that `N` may be called otherwise later.
    #[must_use]
    pub fn key_value<N: 'static>(mut self, namespace: &str) -> Self {
        self.namespaces.declare::<N>(namespace, &mut self.states);
        self
    }

    /// Answers calls of this name.
    #[must_use]
    pub fn handler<Args>(mut self, name: &str, handler: impl Handler<Args, Future = Running>) -> Self {
        let meter = Meter::of_handler(&self.metrics, name);
        self.router.handlers.insert(name, Served::Once(BoxedHandler::new(handler, meter)));
        self
    }

    /// Answers calls of this name with a stream: the client reads it item by item, and the function is not ahead of it
    /// by more than the client takes. A client that leaves its loop drops the stream.
    #[must_use]
    pub fn stream<Args>(mut self, name: &str, handler: impl StreamHandler<Args>) -> Self {
        let meter = Meter::of_handler(&self.metrics, name);
        self.router.handlers.insert(name, Served::Stream(BoxedStream::new(handler, meter)));
        self
    }

    /// Has topics of this pattern: `room:{id}` is about `room:1` and `room:2`. Where several patterns are about one name,
    /// the one that says most of it counts; two that are about the same names are an error, also where one of them stands
    /// in the configuration.
    #[must_use]
    pub fn topic(mut self, pattern: &str, policy: TopicPolicy) -> Self {
        self.declare(Kind::Topic, pattern, policy.0);
        self
    }

    /// Has stores of this pattern, as [`Self::topic`] has topics.
    #[must_use]
    pub fn store(mut self, pattern: &str, policy: StorePolicy) -> Self {
        self.declare(Kind::Store, pattern, policy.0);
        self
    }

    fn declare(&mut self, kind: Kind, pattern: &str, policy: Policy) {
        match Pattern::parse(pattern) {
            Ok(pattern) => self.declared.insert(kind, pattern, policy, Place::Program),
            Err(error) => _ = self.wrong_channel.get_or_insert_with(|| (kind, pattern.to_owned(), error)),
        }
    }

    /// Hears notifications of this name. What it returns is passed over; an error goes to the log.
    #[must_use]
    pub fn listener<Args>(mut self, name: &str, listener: impl Handler<Args, Future = Running>) -> Self {
        self.router.listeners.insert(name, self.unnamed(listener));
        self
    }

    /// Runs for every client that has come in with a new session.
    #[must_use]
    pub fn on_connect<Args>(mut self, hook: impl Handler<Args, Future = Running>) -> Self {
        self.router.on_connect.push(self.unnamed(hook));
        self
    }

    /// Runs when a client's connection is gone and its session waits for it.
    #[must_use]
    pub fn on_away<Args>(mut self, hook: impl Handler<Args, Future = Running>) -> Self {
        self.router.on_away.push(self.unnamed(hook));
        self
    }

    /// Runs when a client that was away goes on with its session.
    #[must_use]
    pub fn on_return<Args>(mut self, hook: impl Handler<Args, Future = Running>) -> Self {
        self.router.on_return.push(self.unnamed(hook));
        self
    }

    /// Runs when a session is over: the client said good-bye, stayed away for too long, or was closed. The hook may take
    /// a [`Json<Departure>`](crate::Departure), which says why, and how many messages it has not got.
    #[must_use]
    pub fn on_disconnect<Args>(mut self, hook: impl Handler<Args, Future = Running>) -> Self {
        self.router.on_disconnect.push(self.unnamed(hook));
        self
    }

    /// A listener or a hook: what is counted of it has no name.
    fn unnamed<Args>(&self, handler: impl Handler<Args, Future = Running>) -> BoxedHandler {
        BoxedHandler::new(handler, Meter::of_listener(&self.metrics))
    }

    /// Whether this server's own port speaks TLS.
    fn ends_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        let given = self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        let given = false;
        given || self.config.tls.cert_file.is_some() || self.config.tls.self_signed
    }

    /// Hears where the server is in its life: `Starting`, `Idle` when it is built, `Started`, `Draining`, `Stopped`, or
    /// `Failed`. The function is called within the server's own work, so it must not block.
    #[must_use]
    pub fn on_status(mut self, callback: impl Fn(ServerStatus) + Send + Sync + 'static) -> Self {
        self.callbacks.push(Arc::new(callback));
        self
    }
}
