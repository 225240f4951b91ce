//! Everything that can be set, by section: name, meaning, unit and default.

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use moorline_protocol::{
    heartbeat::HeartbeatConfig,
    limits::{Deadlines, Limits},
    record::Suite,
    url::DialUrl,
};

use super::{
    auth::AuthSection,
    channels::{StoreSection, TopicSection},
    network::Network,
    origin::WebOrigin,
    secret::Secret,
    value::{LogFilter, LogFormat},
};

/// Everything that can be set. [`Config::default`] reads neither file nor environment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// `[server]`: where it listens and what it serves.
    pub server: ServerSection,
    /// `[internal]`: the listener for those who run the server.
    pub internal: InternalSection,
    /// `[tls]`: the certificate, where the server ends TLS itself.
    pub tls: TlsSection,
    /// `[headers]`: what browsers are told about pages and documents.
    pub headers: HeadersSection,
    /// `[identity]`: the key that tells this server from another.
    pub identity: IdentitySection,
    /// `[auth]`: who may come in.
    pub auth: AuthSection,
    /// `[limits]`: how much of everything.
    pub limits: LimitsSection,
    /// `[timeouts]`: how long everything may take.
    pub timeouts: TimeoutsSection,
    /// `[heartbeat]`: when a silent peer is dead.
    pub heartbeat: HeartbeatSection,
    /// `[session]`: what outlives a connection.
    pub session: SessionSection,
    /// `[topics."PATTERN"]`: the topics that there are, beside those that the program declares.
    pub topics: Vec<TopicSection>,
    /// `[stores."PATTERN"]`: the stores that there are, beside those that the program declares.
    pub stores: Vec<StoreSection>,
    /// `[log]`: what is logged, for the program that sets up logging; the library does not.
    pub log: LogSection,
    /// Where all this comes from, for the banner.
    pub source: Source,
}

/// `[server]`: where it listens and what it serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerSection {
    /// The address and port to listen on; port 0 takes a free one. Default `127.0.0.1:2667`: others are let in on
    /// purpose, not by default.
    pub listen: SocketAddr,
    /// The path of the WebSocket and of the identity document, as this server sees it. Default `/moorline`.
    pub path: String,
    /// The addresses at which pages reach this server. They give the allowed Host and Origin and end open mode; a
    /// client that dialled another is told so. Default none.
    pub public_urls: Vec<DialUrl>,
    /// Origins of pages that may connect, beside the hosts of `public_urls`. Default none.
    pub allowed_origins: Vec<WebOrigin>,
    /// The proxies whose word on where a request comes from is believed, as addresses and networks
    /// (`["127.0.0.1", "10.0.0.0/8"]`): the client's address for limits and logs is the right-most one in
    /// `X-Forwarded-For` or `Forwarded` that is none of them. Default none: nobody's.
    pub trusted_proxies: Vec<Network>,
    /// Whether trusted proxies begin every connection with a header of the PROXY protocol, version 1 or 2. One that does
    /// not, within `timeouts.upgrade`, is not answered. Default no.
    pub proxy_protocol: bool,
    /// Where the server keeps what outlives it. Default `$STATE_DIRECTORY`, otherwise `./moorline-data`.
    pub data_dir: PathBuf,
    /// A directory of static files to serve beside the WebSocket, save what begins with a dot and is not `.well-known` at
    /// its root. Default none.
    pub public: Option<PathBuf>,
    /// Whether records are sealed: `"on"` or `"off"`, both ends alike. Default on.
    pub encryption: bool,
    /// The suites a client may choose. Default all: `aes-256-gcm`, `chacha20-poly1305`.
    pub suites: Vec<Suite>,
}

/// `[internal]`: the listener for those who run the server: metrics, health, readiness. Clients have no business there.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct InternalSection {
    /// The address and port of plain HTTP without sign-in; port 0 takes a free one. Default none: no such listener.
    pub listen: Option<SocketAddr>,
}

/// `[tls]`: the certificate, where the server ends TLS itself. Without any of these it does not.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsSection {
    /// The certificate and those between it and its authority, as PEM, the server's own first. Read again when it
    /// changes. Default none.
    pub cert_file: Option<PathBuf>,
    /// The private key of the certificate, as PEM. Default none.
    pub key_file: Option<PathBuf>,
    /// Whether to make a certificate that nobody has signed, once, in the data directory: for tests on one's own
    /// machines. Excludes the files. Default no.
    pub self_signed: bool,
}

/// `[headers]`: what browsers are told about pages and documents, each as the header has it. Default none of them: every
/// one can break a page that was not made for it. `X-Content-Type-Options: nosniff` is always sent.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HeadersSection {
    /// `Strict-Transport-Security`, as `"max-age=31536000"`: browsers come to this host by https alone from then on. Only
    /// sent where the server ends TLS itself, or a public URL is `wss:` or `https:`.
    pub strict_transport_security: Option<String>,
    /// `Content-Security-Policy`.
    pub content_security_policy: Option<String>,
    /// `Cross-Origin-Opener-Policy`.
    pub cross_origin_opener_policy: Option<String>,
    /// `Cross-Origin-Embedder-Policy`.
    pub cross_origin_embedder_policy: Option<String>,
    /// `Cross-Origin-Resource-Policy`.
    pub cross_origin_resource_policy: Option<String>,
}

/// `[identity]`: the key that tells this server from another. The file and the text exclude each other.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct IdentitySection {
    /// The file of the private key, made at the first start. Default `identity` in the data directory.
    pub key_file: Option<PathBuf>,
    /// The private key itself (`mlsec_…`), for machines that have no directory of their own. It comes before a file.
    pub key: Option<Secret>,
}

/// `[limits]`: how much of everything.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LimitsSection {
    /// Sockets open at once, those still in their handshake among them. Default 10,000.
    pub connections: usize,
    /// Sockets open at once from one address; of IPv6, from one /64. Default 2,000, because a concert hall is one address;
    /// 0 for no limit.
    pub connections_per_address: usize,
    /// Connections at once of one subject that has signed in; not of `anonymous`. Default 100; 0 for no limit.
    pub connections_per_subject: usize,
    /// Handshakes a second that are begun, of everybody together; five seconds' worth at once. Default 1,000; 0 for no
    /// limit.
    pub handshakes_per_second: usize,
    /// Handshakes a second from one address (or /64), five seconds' worth at once. Default 200; 0 for no limit.
    pub handshakes_per_second_per_address: usize,
    /// Handshakes of everybody that may fail in a minute. Beyond them an address that has failed in this minute waits; one
    /// that has not is let in. Default 10,000; 0 for no limit.
    pub failed_handshakes_per_minute: usize,
    /// Handshakes from one address (or /64) that may fail in a minute: guesses of a shared key, a token or a password, most
    /// of all. Default 100; 0 for no limit, also in all.
    pub failed_handshakes_per_minute_per_address: usize,
    /// Messages a second that one client may send, five seconds' worth at once. It is warned first, and three seconds later
    /// its connection is closed, if it goes on; its session waits. Default 1,000; 0 for no limit.
    pub messages_per_second: usize,
    /// Bytes a second that one client may send, as they are on the wire, under the same rule. Default `"8MiB"`; `"0B"` for
    /// no limit.
    pub bytes_per_second: usize,
    /// The largest payload of one message, in bytes. Default `"4MiB"`, at most `"16MiB"`.
    pub max_message: usize,
    /// Calls of one client that run at once; one more fails with `too_many_calls`. Default 1,024.
    pub calls_in_flight: usize,
    /// Bytes that one client has not confirmed, and that are kept for it while it is away. From there on it is too
    /// slow. Default `"1MiB"`, at least `"64KiB"`: the largest record.
    pub outgoing: usize,
    /// Sessions kept for clients that are away; with more, the one that waits longest is given up. Default 10,000.
    pub parked_sessions: usize,
    /// Stores that one tenant may have, and as many topics with a history: names that were ever written to. Writing to one
    /// more fails with `too_many_names`. Default 1,000,000; 0 for no limit.
    pub channels_per_tenant: usize,
    /// Bytes that messages of topics without a history take together, which are kept in memory for who was away for a moment.
    /// Beyond that the topics that were quiet longest lose theirs. Default 256 MiB.
    pub topics_memory: usize,
}

/// `[session]`: what outlives a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionSection {
    /// How long the session of a client that is away is kept, and with it everything it has not got yet. Default
    /// `"120s"`.
    pub resume_window: Duration,
}

impl Default for SessionSection {
    fn default() -> Self {
        Self { resume_window: Duration::from_secs(120) }
    }
}

/// `[timeouts]`: how long everything may take. All but the last guard against clients that open a socket and stall.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TimeoutsSection {
    /// The TLS handshake, where the server ends TLS. Default `"5s"`.
    pub tls_accept: Duration,
    /// The head of an HTTP request, so the upgrade. Default `"5s"`.
    pub upgrade: Duration,
    /// From the open socket to the client's last handshake message. Default `"5s"`.
    pub handshake: Duration,
    /// The decision on who a client is. Default `"10s"`.
    pub decision: Duration,
    /// From a polite shutdown to the end, whoever is still there. Default `"10s"`.
    pub shutdown: Duration,
}

/// `[heartbeat]`: when a silent peer is dead.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeartbeatSection {
    /// Silence after which the server asks for a sign of life. Default `"25s"`, below the minute after which proxies
    /// give up on a silent socket.
    pub idle: Duration,
    /// Silence after that until the connection is dead. Default `"10s"`.
    pub grace: Duration,
}

/// `[log]`: what is logged.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LogSection {
    /// `"auto"` (default: pretty on a terminal, otherwise JSON), `"pretty"` or `"json"`.
    pub format: LogFormat,
    /// The least level that is logged, with exceptions by module: `"info,moorline_server=debug"`. Default `"info"`.
    pub level: LogFilter,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Source {
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// The names of the environment variables that were taken, never their values.
    pub variables: BTreeSet<String>,
    /// Whether the data directory was given, so that `STATE_DIRECTORY` is not taken.
    pub(super) data_dir_given: bool,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 2667)),
            path: "/moorline".to_owned(),
            public_urls: Vec::new(),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            data_dir: PathBuf::from("moorline-data"),
            public: None,
            encryption: true,
            suites: Suite::ALL.to_vec(),
        }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        let protocol = Limits::default();
        Self {
            connections: 10_000,
            connections_per_address: 2_000,
            connections_per_subject: 100,
            handshakes_per_second: 1_000,
            handshakes_per_second_per_address: 200,
            failed_handshakes_per_minute: 10_000,
            failed_handshakes_per_minute_per_address: 100,
            messages_per_second: 1_000,
            bytes_per_second: 8 * 1024 * 1024,
            max_message: protocol.max_message,
            calls_in_flight: protocol.max_calls_in_flight,
            outgoing: protocol.max_outgoing_bytes,
            parked_sessions: 10_000,
            channels_per_tenant: 1_000_000,
            topics_memory: 256 << 20,
        }
    }
}

impl Default for TimeoutsSection {
    fn default() -> Self {
        let protocol = Deadlines::default();
        Self {
            tls_accept: Duration::from_secs(5),
            upgrade: Duration::from_secs(5),
            handshake: protocol.handshake,
            decision: protocol.decision,
            shutdown: Duration::from_secs(10),
        }
    }
}

impl Default for HeartbeatSection {
    fn default() -> Self {
        let HeartbeatConfig { idle, grace, .. } = HeartbeatConfig::SERVER;
        Self { idle, grace }
    }
}

impl Config {
    /// The file of the identity key: the given one, otherwise `identity` in the data directory.
    pub fn key_file(&self) -> PathBuf {
        self.identity.key_file.clone().unwrap_or_else(|| self.server.data_dir.join("identity"))
    }

    /// The file of the tokens that are believed no more: `revocations` in the data directory.
    pub fn revocations_file(&self) -> PathBuf {
        self.server.data_dir.join("revocations")
    }
}

impl fmt::Debug for IdentitySection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IdentitySection")
            .field("key_file", &self.key_file)
            .field("key", &self.key.as_ref().map(|_| "secret"))
            .finish()
    }
}
