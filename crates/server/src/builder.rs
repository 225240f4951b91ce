//! Putting a server together.

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::Duration,
};

use moorline_engine::{Engine, MemoryEngine, SqliteEngine};
use moorline_protocol::{
    channel::Kind,
    entropy::Entropy,
    frame::Epoch,
    heartbeat::HeartbeatConfig,
    key::Identity,
    limits::{Deadlines, Limits, Pace},
    pattern::{InvalidPattern, Pattern},
    scope::Scopes,
    server::{Encryption, ServerConfig},
    session::Registry,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
    time::Instant,
};

#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::{
    DataDir, DataDirError, Error, Handler, Peers, Server,
    access::{
        Access, AuthHandler, Callers, Jwt, WayIn,
        gate::{Gate, sealed::Way},
        jwt::{TokenSettingError, TokenVerifier},
        shared_key,
    },
    audit::Audit,
    channels::Channels,
    config::{Config, Place},
    configured,
    data_dir::check_not_served,
    handler::{BoxedHandler, Running, States},
    headers,
    http::{Issuing, Warnings},
    identity,
    internal::{self, Internal},
    key_value::Namespaces,
    limits,
    metrics::{Meter, Metrics},
    once::Once,
    policy::{Declarations, Policy},
    published::Published,
    router::{Router, Served},
    server::{ChannelCounts, Summary},
    shared::Shared,
    status::{Callback, Life, ServerStatus},
    storage,
    store::StorePolicy,
    stream::{BoxedStream, StreamHandler},
    tasks::{Owner, Tasks},
    topic::TopicPolicy,
    undeclared::Undeclared,
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

    /// Checks everything, reads or makes the identity, and begins to listen.
    ///
    /// # Errors
    /// What is wrong, with what to do about it.
    pub async fn build(mut self) -> Result<Server, Error> {
        let life = Life::new(std::mem::take(&mut self.callbacks));
        life.becomes(ServerStatus::Starting);
        match self.put_together(life.clone()).await {
            Ok(server) => {
                server.life.becomes(ServerStatus::Idle);
                Ok(server)
            }
            Err(error) => {
                life.becomes(ServerStatus::Failed);
                Err(error)
            }
        }
    }

    async fn put_together(self, life: Life) -> Result<Server, Error> {
        let ends_tls = self.ends_tls();
        let Self {
            config,
            identity,
            internal,
            control,
            states,
            router,
            mut declared,
            namespaces,
            auth,
            jwt,
            metrics,
            ..
        } = self;
        #[cfg(feature = "tls")]
        let tls = self.tls;
        if let Some(error) = namespaces.error() {
            return Err(Error::Namespace(error.clone()));
        }
        router.check(&states)?;
        if let Some((kind, pattern, error)) = self.wrong_channel {
            return Err(Error::InvalidChannel { kind, pattern, error: error.to_string() });
        }
        for section in &config.topics {
            declared.insert(Kind::Topic, section.pattern.clone(), configured::topic(section)?.0, section.place.clone());
        }
        for section in &config.stores {
            declared.insert(Kind::Store, section.pattern.clone(), configured::store(section).0, section.place.clone());
        }
        declared.check()?;
        let address = config.server.listen;
        let tokens = match (TokenVerifier::new(&config)?, &jwt) {
            (Some(tokens), Some(jwt)) => Some(Arc::new(tokens.for_program(jwt))),
            (None, Some(_)) => return Err(TokenSettingError::Expected.into()),
            (tokens, None) => tokens.map(Arc::new),
        };
        let (keys, shared_keys) = shared_key::load(&config).map_err(Error::SharedKey)?;
        let asks = tokens.is_some() || auth.is_some() || !shared_keys.is_empty();
        let access = Access::new(&config, address, asks)?;
        if config.server.proxy_protocol && config.server.trusted_proxies.is_empty() {
            return Err(Error::NoTrustedProxies);
        }
        let is_closed = self.dev && !access.is_open();
        if self.dev && access.is_open() {
            declared.make_undeclared(Undeclared::new(config.source.file.clone()));
        }
        let everybody = match (access.is_open(), config.auth.anonymous) {
            (true, _) => Some(Scopes::All),
            (false, true) => Some(shared_key::scopes(&config.auth.anonymous_scopes).map_err(Error::AnonymousScopes)?),
            // Guests, who may use what skips all this.
            (false, false) => router.lets_guests_in().then(|| Scopes::Listed(Vec::new())),
        };
        let gate = Gate { tokens: tokens.clone(), handler: auth, shared_keys, everybody };
        let issuing = Issuing::new(&config, tokens.as_ref())?;
        let internal = internal.or(config.internal.listen);
        if internal == Some(address) && address.port() != 0 {
            return Err(Error::ListenTwice(address));
        }
        let key = &config.identity;
        let own = key.key.is_none() && key.key_file.is_none();
        #[cfg(not(feature = "tls"))]
        if config.tls.cert_file.is_some() || config.tls.key_file.is_some() || config.tls.self_signed {
            return Err(Error::TlsNotBuilt);
        }
        let needed = config.server.encryption && identity.is_none() && own;
        let mut unavailable = None;
        let keeps = declared.any_is_durable() || !namespaces.is_empty();
        let needed = needed || config.tls.self_signed || keeps;
        if let Some(public) = &config.server.public {
            check_not_served(&config.server.data_dir, public)?;
        }
        let data_dir = match DataDir::open_if(needed || control, &config.server.data_dir) {
            Err(DataDirError::Unusable { path, source }) if !needed => {
                let path = path.display();
                unavailable = Some(format!("there is no control socket: the data directory {path}: {source}"));
                None
            }
            opened => opened?,
        };
        if let (Some(tokens), Some(_)) = (&tokens, &data_dir) {
            // What a command has revoked since they were read, because it found no server: from here on it finds this one.
            tokens.revocations().read_again().map_err(TokenSettingError::Revocations)?;
        }
        #[cfg(feature = "tls")]
        let certificate = match &tls {
            Some(_) => None,
            None => Tls::open(&config.tls, data_dir.as_ref(), address.ip(), metrics.clone())?.map(Arc::new),
        };
        let headers = headers::of(&config, ends_tls)?;
        let (listener, address) = listen(address)?;
        let (internal, internal_address) = match internal {
            Some(address) => listen(address).map(|(tcp, address)| (Some(tcp), Some(address)))?,
            None => (None, None),
        };

        let (encryption, identity_origin) = match (config.server.encryption, identity) {
            (false, _) => (Encryption::Off, None),
            (true, Some(identity)) => (sealed(&config, identity), None),
            (true, None) => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(|_| Error::NoEntropy)?;
                let (identity, origin) = identity::load_or_create(&config, &mut Entropy::new(seed))?;
                (sealed(&config, identity), Some(origin))
            }
        };
        let tasks = Tasks::default();
        let owner = Owner(tasks.clone());
        if let Some(tokens) = &tokens {
            tokens.start().await;
            let (tokens, stopping) = (tokens.clone(), tasks.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = tokens.keep_fresh() => {}
                    () = stopping.stopping() => {}
                }
            });
        }
        let mut epoch = [0; 8];
        getrandom::fill(&mut epoch).map_err(|_| Error::NoEntropy)?;
        let durable = match (keeps, &data_dir) {
            (true, Some(directory)) => {
                let path = directory.path().join(storage::FILE);
                let opened = SqliteEngine::open(&path, seed()?);
                let engine = opened.map_err(|error| Error::Engine { path: path.clone(), error })?;
                Some((path, Arc::new(engine) as Arc<dyn Engine>))
            }
            (true, None) | (false, _) => None,
        };
        let (channels_file, durable) = durable.unzip();
        let most = Some(config.limits.channels_per_tenant as u64).filter(|most| *most > 0);
        let channels = Arc::new(Channels::new(Arc::new(MemoryEngine::new(seed()?)), durable, most));
        tasks.spawn(sweep(channels.clone(), tasks.clone()));
        let mut endpoint = endpoint_config(&config, encryption, Epoch(epoch));
        (endpoint.shared_keys, endpoint.requires_shared_key) = (keys, config.auth.shared_key.required);
        let published = Published::new(&endpoint);
        let mut summary = summary(&config, &published, &access, (address, internal_address), identity_origin);
        summary.auth = gate.ways();
        summary.tls = ends_tls;
        (summary.declared, summary.channels) = (declared.counts(), channels_file);
        if is_closed {
            summary.warnings.push(CLOSED_DEV.into());
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &certificate {
            summary.certificate = Some(tls.certificate());
            summary.self_signed = tls.self_signed().map(std::path::Path::to_owned);
            summary.warnings.extend(tls.warnings());
        }
        let shared = Shared {
            published,
            endpoint: Arc::new(endpoint),
            router,
            channels,
            declared: Arc::new(declared),
            states: Arc::new(states),
            peers: Peers::default(),
            sessions: Mutex::new(Registry::new(Epoch(epoch), config.limits.parked_sessions)),
            metrics,
            once: Once::default(),
            audit: Audit::new(Instant::now()),
            warnings: Warnings::new(Instant::now()),
            limits: limits::Limits::new(&config.limits, Instant::now()),
            callers: Callers::new(config.server.trusted_proxies.clone()),
            access,
            gate,
            issuing,
            connections: Arc::new(Semaphore::new(config.limits.connections)),
            tasks,
            #[cfg(feature = "tls")]
            tls: tls.map(tokio_rustls::TlsAcceptor::from).or(certificate.as_deref().map(Tls::acceptor)),
            #[cfg(feature = "tls")]
            certificate,
            headers: headers.sent,
            #[cfg(feature = "testing")]
            echo: self.echo,
            origin: Instant::now(),
            config,
        };
        let shared = Arc::new(shared);
        if let Some(tokens) = &tokens {
            let (shared, tasks) = (shared.clone(), shared.tasks.clone());
            let changed = tokens.revocations().subscribe();
            tasks.clone().spawn(async move {
                tokio::select! {
                    () = shared.end_revoked(changed) => {}
                    () = tasks.stopping() => {}
                }
            });
        }
        let internal = internal.map(|tcp| Internal::start(tcp, &shared, life.watch()));
        let mut server = Server {
            listener,
            shared,
            owner,
            summary,
            life,
            internal,
            #[cfg(unix)]
            control: None,
            data_dir,
        };
        server.summary.warnings.extend(unavailable.into_iter().chain(headers.warning));
        if control {
            server.take_commands()?;
        }
        Ok(server)
    }
}

fn seed() -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| Error::NoEntropy)?;
    Ok(seed)
}

/// Drops from time to time what channels keep no longer.
async fn sweep(channels: Arc<Channels>, tasks: Tasks) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => channels.sweep().await,
            () = tasks.stopping() => return,
        }
    }
}

/// Of development without open mode.
const CLOSED_DEV: &str = "topics that are not declared do not exist in spite of --dev: it makes them only while this machine alone is let in";

/// How often what is too old is dropped.
const SWEEP: Duration = Duration::from_secs(10);

/// Begins to listen, and gives the address that it really is.
fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    // As the standard library does where a port is taken up again after a restart.
    #[cfg(unix)]
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Connections that the system keeps until they are accepted: after a restart everybody comes back at once, and whom
/// the system turns away waits a second before it tries again.
const BACKLOG: u32 = 1_024;

fn sealed(config: &Config, identity: Identity) -> Encryption {
    Encryption::On { identity: identity.into(), suites: config.server.suites.clone() }
}

fn endpoint_config(config: &Config, encryption: Encryption, epoch: Epoch) -> ServerConfig {
    let mut limits = Limits::default();
    limits.max_message = config.limits.max_message;
    limits.max_calls_in_flight = config.limits.calls_in_flight;
    limits.max_outgoing_bytes = config.limits.outgoing;
    let mut endpoint = ServerConfig::new(encryption, epoch);
    endpoint.resume_window = config.session.resume_window;
    endpoint.limits = limits;
    // 0 is no limit in the configuration, and not told in Welcome.
    let most = |count: usize| u64::try_from(count).ok().and_then(NonZeroU64::new);
    endpoint.pace = Pace {
        messages_per_second: most(config.limits.messages_per_second),
        bytes_per_second: most(config.limits.bytes_per_second),
    };
    endpoint.public_urls = config.server.public_urls.clone();
    endpoint.deadlines = Deadlines { handshake: config.timeouts.handshake, decision: config.timeouts.decision };
    endpoint.heartbeat = HeartbeatConfig { idle: config.heartbeat.idle, grace: config.heartbeat.grace };
    endpoint
}

fn summary(
    config: &Config,
    published: &Published,
    access: &Access,
    (address, internal): (SocketAddr, Option<SocketAddr>),
    identity_origin: Option<identity::Origin>,
) -> Summary {
    let identity = published.identity();
    let encryption = identity.is_some();
    let identity = identity.iter().flat_map(|keys| keys.keys().map(|(role, key)| (role, key.public()))).collect();
    let mut warnings = Vec::new();
    if !encryption {
        warnings.push(
            "encryption is off: whoever is on the way reads and writes everything, unless TLS is around it".into(),
        );
    }
    if !address.ip().is_loopback() && config.server.public_urls.is_empty() {
        warnings.push(
            "listening beyond this machine without public_urls: any Host is answered, and clients are not told \
                       when they dial a wrong address"
                .into(),
        );
    }
    warnings.extend(internal.and_then(internal::warning));
    Summary {
        listen: vec![address],
        internal,
        control: None,
        tls: false,
        #[cfg(feature = "tls")]
        certificate: None,
        self_signed: None,
        path: config.server.path.clone(),
        public_urls: config.server.public_urls.iter().map(ToString::to_string).collect(),
        encryption,
        suites: published.suites().to_vec(),
        identity,
        identity_origin,
        origins: access.origins(),
        auth: String::new(),
        declared: ChannelCounts::default(),
        channels: None,
        warnings,
    }
}
