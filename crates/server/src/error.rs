//! Why a server does not start or ends.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

use moorline_engine::OpenError;
use moorline_protocol::{channel::Kind, pattern::Pattern, scope::InvalidScopes};

use crate::{
    access::{OpenTo, jwt::TokenSettingError, shared_key::SharedKeyError},
    config::{ConfigError, Place},
    data_dir::DataDirError,
    identity::IdentityError,
    key_value::namespace::NamespaceError,
};

/// Why a server does not start or ends.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The configuration does not read.
    Config(ConfigError),
    /// The identity key cannot be read or made.
    Identity(IdentityError),
    /// The settings of tokens do not do.
    Token(TokenSettingError),
    /// The shared keys do not do.
    SharedKey(SharedKeyError),
    /// `[auth] anonymous_scopes` has what is no scope.
    AnonymousScopes(InvalidScopes),
    /// The guard of a handler asks for what is no scope.
    InvalidGuard {
        /// The handler.
        handler: String,
        /// What is wrong.
        error: String,
    },
    /// The data directory is another server's, or cannot be used.
    DataDir(DataDirError),
    /// The certificate or its key do not do.
    #[cfg(feature = "tls")]
    Tls(crate::tls::TlsError),
    /// `[tls]` asks for what this program was built without.
    TlsNotBuilt,
    /// A header of `[headers]` that the program set has what no header can have.
    Header(&'static str),
    /// The address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The server and the internal listener were given one address.
    ListenTwice(SocketAddr),
    /// Nobody said who may come in, and more than this machine could.
    OpenToOthers {
        /// What reaches beyond this machine.
        because: OpenTo,
    },
    /// The PROXY protocol is on, and nobody may speak it.
    NoTrustedProxies,
    /// The system gives no random bytes.
    NoEntropy,
    /// Two handlers, or two listeners, have one name.
    DuplicateName(String),
    /// A name that no handler can have.
    InvalidName(String),
    /// Channels were declared wrong.
    InvalidChannel {
        /// Of which kind.
        kind: Kind,
        /// Its pattern.
        pattern: String,
        /// What is wrong.
        error: String,
    },
    /// Two declarations are about the same topics: what they say, and where they stand.
    ChannelTwice(Kind, Box<[(Pattern, Place); 2]>),
    /// The file with the schema of a topic's messages does not do.
    Schema {
        /// Where the topic is declared.
        place: Place,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: SchemaProblem,
    },
    /// The file that has the channels could not be opened.
    Engine {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// A handler takes a state that `with_state` was not given.
    MissingState {
        /// The handler.
        handler: String,
        /// The type of the state.
        state: &'static str,
    },
    /// A handler takes values of a namespace that was not declared.
    MissingNamespace {
        /// The handler.
        handler: String,
        /// The type of the namespace.
        namespace: &'static str,
    },
    /// A namespace was declared wrong.
    Namespace(NamespaceError),
}

/// What is wrong with the file of a schema.
#[derive(Debug)]
#[non_exhaustive]
pub enum SchemaProblem {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is not JSON.
    NotJson(serde_json::Error),
    /// It is no JSON Schema, for this reason.
    NotASchema(Box<str>),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(formatter),
            Self::Identity(error) => error.fmt(formatter),
            Self::Token(error) => error.fmt(formatter),
            Self::SharedKey(error) => error.fmt(formatter),
            Self::AnonymousScopes(error) => write!(formatter, "[auth] anonymous_scopes: {error}"),
            Self::InvalidGuard { handler, error } => write!(formatter, "the guard of {handler:?}: {error}"),
            Self::DataDir(error) => error.fmt(formatter),
            #[cfg(feature = "tls")]
            Self::Tls(error) => error.fmt(formatter),
            Self::TlsNotBuilt => formatter.write_str(
                "[tls] is set, but this program was built without TLS: build moorline-server with its feature tls, or \
                 let a proxy end TLS",
            ),
            Self::Header(name) => write!(formatter, "the text for the header {name} cannot stand in a header"),
            Self::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    formatter,
                    "{address} is in use: another server runs there; stop it or choose another listen address"
                )
            }
            Self::Listen { address, .. } => write!(formatter, "cannot listen on {address}"),
            Self::ListenTwice(address) => {
                write!(
                    formatter,
                    "[server] listen and [internal] listen are both {address}; give each a port of its own"
                )
            }
            Self::OpenToOthers { because } => {
                match because {
                    OpenTo::Listener(address) => write!(formatter, "{address} can be reached from other machines")?,
                    OpenTo::PublicUrls => formatter.write_str("public_urls is set")?,
                    OpenTo::Proxies => formatter.write_str("trusted_proxies is set")?,
                }
                formatter.write_str(
                    ", but nothing says who may come in. Either let everybody in:\n\n    [auth] anonymous = true\n\n\
                     or keep to this machine: listen = \"127.0.0.1:2667\", no public_urls and no proxies",
                )
            }
            Self::NoTrustedProxies => formatter.write_str(
                "[server] proxy_protocol is on, but no proxy is trusted; name it: [server] trusted_proxies = [\"10.0.0.1\"]",
            ),
            Self::NoEntropy => formatter.write_str("the system gives no random bytes"),
            Self::DuplicateName(name) => write!(formatter, "two handlers or listeners are called {name:?}"),
            Self::InvalidName(name) => {
                write!(formatter, "{name:?} is no name for a handler: 1 to 200 bytes without control characters")
            }
            Self::InvalidChannel { kind, pattern, error } => {
                write!(formatter, "the {} {pattern:?}: {error}", kind.name())
            }
            Self::ChannelTwice(kind, twice) => {
                let kind = kind.name();
                let [(one, first), (other, second)] = &**twice;
                match one == other {
                    true => write!(formatter, "the {kind} {one} is declared twice")?,
                    false => write!(formatter, "the {kind}s {one} and {other} are about the same names")?,
                }
                write!(formatter, ": {} and {}; leave one out", Declared(first), Declared(second))
            }
            Self::Schema { place, path, problem } => {
                write!(formatter, "{place}: publish.schema_file: {} ", path.display())?;
                match problem {
                    SchemaProblem::Unreadable(_) => formatter.write_str("cannot be read"),
                    SchemaProblem::NotJson(error) => write!(formatter, "is not JSON: {error}"),
                    SchemaProblem::NotASchema(error) => write!(formatter, "is no JSON Schema: {error}"),
                }
            }
            Self::Engine { path, error } => write!(formatter, "the channels in {}: {error}", path.display()),
            Self::MissingNamespace { handler, namespace } => write!(
                formatter,
                "the handler {handler:?} takes KeyValue<{namespace}>, which is not declared: \
                 ServerBuilder::key_value::<{namespace}>(\"…\")"
            ),
            Self::Namespace(error) => error.fmt(formatter),
            Self::MissingState { handler, state } => {
                write!(formatter, "the handler {handler:?} takes State<{state}>, which with_state was not given")
            }
        }
    }
}

/// Where something is declared.
struct Declared<'a>(&'a Place);

impl fmt::Display for Declared<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Program => formatter.write_str("by the program"),
            place => write!(formatter, "at {place}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Identity(error) => error.source(),
            Self::Token(error) => error.source(),
            Self::SharedKey(error) => error.source(),
            Self::DataDir(error) => error.source(),
            #[cfg(feature = "tls")]
            Self::Tls(error) => error.source(),
            Self::Listen { source, .. } => Some(source),
            Self::Engine { error, .. } => error.source(),
            Self::Schema { problem: SchemaProblem::Unreadable(error), .. } => Some(error),
            Self::ListenTwice(_)
            | Self::OpenToOthers { .. }
            | Self::TlsNotBuilt
            | Self::NoTrustedProxies
            | Self::Header(_)
            | Self::NoEntropy
            | Self::DuplicateName(_)
            | Self::InvalidName(_)
            | Self::AnonymousScopes(_)
            | Self::InvalidGuard { .. }
            | Self::InvalidChannel { .. }
            | Self::ChannelTwice(..)
            | Self::Schema { .. }
            | Self::Namespace(_)
            | Self::MissingNamespace { .. }
            | Self::MissingState { .. } => None,
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<DataDirError> for Error {
    fn from(error: DataDirError) -> Self {
        Self::DataDir(error)
    }
}

#[cfg(feature = "tls")]
impl From<crate::tls::TlsError> for Error {
    fn from(error: crate::tls::TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<IdentityError> for Error {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<TokenSettingError> for Error {
    fn from(error: TokenSettingError) -> Self {
        Self::Token(error)
    }
}
