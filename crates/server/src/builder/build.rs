//! What is made of what was collected, or why it cannot be.

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
    scope::Scopes,
    server::{Encryption, ServerConfig},
    session::Registry,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
    time::Instant,
};

use super::ServerBuilder;
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::{
    access::{
        Access, Callers,
        gate::Gate,
        issue::Issuing,
        jwt::{TokenSettingError, TokenVerifier},
        shared_key,
    },
    audit::Audit,
    channels::Channels,
    config::Config,
    configured,
    data_dir::{DataDir, DataDirError, check_not_served},
    error::Error,
    headers, identity,
    internal::{self, Internal},
    limits,
    once::Once,
    peers::Peers,
    policy::{ChannelCounts, Declarations},
    published::Published,
    server::{Server, Summary},
    shared::Shared,
    status::{Life, ServerStatus},
    storage,
    tasks::{Owner, Tasks},
    undeclared::Undeclared,
    warnings::Warnings,
};

impl ServerBuilder {
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
        check(&declared)?;
        let address = config.server.listen;
        let tokens = match (TokenVerifier::new(&config)?, &jwt) {
            (Some(tokens), Some(jwt)) => Some(Arc::new(tokens.for_program(jwt))),
            (None, Some(_)) => return Err(TokenSettingError::Expected.into()),
            (tokens, None) => tokens.map(Arc::new),
        };
        let (keys, shared_keys) = shared_key::load(&config).map_err(Error::SharedKey)?;
        let asks = tokens.is_some() || auth.is_some() || !shared_keys.is_empty();
        let access = Access::new(&config, address, asks).map_err(|because| Error::OpenToOthers { because })?;
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
        let memory = Arc::new(MemoryEngine::bounded(seed()?, config.limits.topics_memory as u64));
        let most = Some(config.limits.channels_per_tenant as u64).filter(|most| *most > 0);
        let channels = Arc::new(Channels::new(memory, durable, config.limits.max_message, most));
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

/// Finds at the start what was declared wrong of channels.
fn check(declared: &Declarations) -> Result<(), Error> {
    if let Some((kind, twice)) = declared.twice() {
        return Err(Error::ChannelTwice(*kind, Box::new(twice.clone())));
    }
    match declared.wrong() {
        Some((kind, pattern, error)) => {
            Err(Error::InvalidChannel { kind, pattern: pattern.to_string(), error: error.to_owned() })
        }
        None => Ok(()),
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
