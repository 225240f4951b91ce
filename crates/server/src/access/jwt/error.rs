//! Why a token lets nobody in, and why there is nobody who could judge one.

use std::{fmt, io, path::PathBuf};

use moorline_protocol::scope::InvalidScopes;

use crate::{
    access::revocation::RevocationError,
    config::{JwtAlgorithm, Place},
};

/// The setting that says which claim is the tenant.
pub(super) const TENANT_CLAIM: &str = "tenant_claim";

/// Why a token lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Its time is over; all else about it is right. A fresh one would do.
    Expired,
    /// Everything else. Why is for the log: to a client every refusal looks alike.
    Refused(Reason),
}

/// Why a token is refused, for those who run the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It is longer than 8 KiB and was not read.
    TooLong,
    /// It is not three parts of base64url with dots between.
    Shape,
    /// Its header or its claims are no JSON object.
    NotJson,
    /// Something is said twice, so that two readers could understand two things.
    Duplicate,
    /// Its header asks for an extension (`crit`); there is none.
    Critical,
    /// It names another algorithm than the key has.
    Algorithm {
        /// That of the key.
        wanted: JwtAlgorithm,
    },
    /// There is no key: the key set could not be got yet.
    NoKeys,
    /// No key has its `kid`.
    UnknownKey,
    /// It has no `kid`, and too many keys could be meant.
    KeyIdMissing,
    /// Its `kid` leaves too many keys that could be meant: they have that name, or none.
    KeyIdAmbiguous,
    /// The signature is not that of the key.
    Signature,
    /// A claim is missing.
    Missing(Box<str>),
    /// A claim is not of its type, or beyond what it may be.
    Malformed(Box<str>),
    /// Its time has not come (`nbf`), or it is from the future (`iat`).
    NotYet,
    /// It lasts longer than `max_lifetime`.
    Lifetime,
    /// It is meant for somebody else.
    Audience,
    /// It is meant for somebody, and the configuration does not say that this server is meant.
    AudienceNotSet,
    /// Somebody else made it.
    Issuer,
    /// Its tenant may not come in.
    Tenant,
    /// It has both `scope` and `scopes`.
    ScopeTwice,
    /// One of its scopes does not parse.
    Scopes(InvalidScopes),
    /// It is bound to the key of another client, or was shown without one.
    Binding,
    /// It is bound to something that is not known here.
    UnknownBinding,
    /// It is not bound, and `require_binding` is set.
    NotBound,
    /// Its claims do not fit the type that the program asks for ([`Jwt::claims`](crate::Jwt::claims)).
    Unfit,
    /// It was revoked, or its subject was after it was made.
    Revoked,
}

impl TokenError {
    /// Whether it is what somebody shows who makes tokens up. An honest one expires, is revoked or is for somebody else,
    /// and where no key was there to judge it by nobody has tried one: an issuer that has a new key would otherwise have
    /// everybody shut out who comes with it.
    pub(crate) fn is_guess(&self) -> bool {
        match self {
            Self::Expired => false,
            Self::Refused(reason) => match reason {
                Reason::TooLong
                | Reason::Shape
                | Reason::NotJson
                | Reason::Duplicate
                | Reason::Critical
                | Reason::Algorithm { .. }
                | Reason::Signature => true,
                Reason::NoKeys | Reason::UnknownKey | Reason::KeyIdMissing | Reason::KeyIdAmbiguous => false,
                // Whoever has the key has signed these.
                Reason::Missing(_)
                | Reason::Malformed(_)
                | Reason::NotYet
                | Reason::Lifetime
                | Reason::Audience
                | Reason::AudienceNotSet
                | Reason::Issuer
                | Reason::Tenant
                | Reason::ScopeTwice
                | Reason::Scopes(_)
                | Reason::Binding
                | Reason::UnknownBinding
                | Reason::NotBound
                | Reason::Unfit
                | Reason::Revoked => false,
            },
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => formatter.write_str("it has expired"),
            Self::Refused(reason) => reason.fmt(formatter),
        }
    }
}

impl std::error::Error for TokenError {}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TooLong => "it is longer than 8 KiB",
            Self::Shape => "it is not three parts of base64url with dots between",
            Self::NotJson => "its header or its claims are no JSON object",
            Self::Duplicate => "its header or its claims say something twice",
            Self::Critical => "its header asks for an extension (crit)",
            Self::Algorithm { wanted } => return write!(formatter, "it is not signed with {wanted}"),
            Self::NoKeys => "there are no keys yet to judge it by",
            Self::UnknownKey => "no key has its kid",
            Self::KeyIdMissing => "it has no kid, and there are too many keys to try them all",
            Self::KeyIdAmbiguous => {
                "too many keys have its kid, or none at all, to try them all; let every key have a kid of its own"
            }
            Self::Signature => "its signature is not that of the key",
            Self::Missing(claim) => return write!(formatter, "it has no claim {claim:?}"),
            Self::Malformed(claim) => {
                return write!(formatter, "its claim {claim:?} is not of its type, or out of range");
            }
            Self::NotYet => "its time has not come yet (nbf, iat)",
            Self::Lifetime => "it is valid for longer than [auth.jwt] max_lifetime",
            Self::Audience => "it is meant for another audience (aud)",
            Self::AudienceNotSet => "it is meant for an audience (aud), and [auth.jwt] audience does not say for which",
            Self::Issuer => "it is from another issuer (iss)",
            Self::Tenant => "its tenant is not among [auth.jwt] tenants",
            Self::ScopeTwice => "it has both scope and scopes",
            Self::Scopes(error) => return write!(formatter, "its list of scopes does not do: {error}"),
            Self::Binding => "it is bound to the key of another client (cnf)",
            Self::UnknownBinding => "it is bound to something else than a client's key (cnf without mlk)",
            Self::NotBound => "it is bound to no client (cnf), and [auth.jwt] require_binding is set",
            Self::Unfit => "its claims do not fit the type that the program asks for",
            Self::Revoked => "it was revoked",
        })
    }
}

impl From<Reason> for TokenError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

/// Why the settings of tokens do not do.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokenSettingError {
    /// There is a key and no algorithm.
    AlgorithmMissing,
    /// There are several sources of keys.
    TwoSources {
        /// One of the settings.
        one: &'static str,
        /// Another.
        other: &'static str,
    },
    /// Tokens are asked for by `previous_…`, `audience` and the like, and there is no key.
    NoSource,
    /// The program is to believe tokens, and there is no key.
    Expected,
    /// The key is not one of the algorithm.
    Unfit {
        /// The setting.
        setting: &'static str,
        /// The algorithm.
        algorithm: JwtAlgorithm,
    },
    /// The secret is too short to be one.
    ShortSecret {
        /// Where it stands.
        place: Place,
    },
    /// A file cannot be read.
    Read {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file with a secret is everybody's.
    ReadableByAll {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file has no key of the algorithm in it.
    InvalidKey {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What must be there.
        wanted: &'static str,
    },
    /// There is a previous key and no date until which it is accepted.
    PreviousForGood,
    /// There is a list of tenants and no claim that names one.
    TenantClaimMissing,
    /// A claim that has a meaning already is to be the tenant or the role as well.
    ReservedClaim {
        /// The setting.
        setting: &'static str,
        /// The claim.
        claim: String,
    },
    /// One claim is to be the tenant and the role.
    SameClaim {
        /// The claim.
        claim: String,
    },
    /// Clocks may not differ by so much.
    Leeway,
    /// The revocations do not read.
    Revocations(RevocationError),
    /// The key set is to be got over TLS, which this program was built without.
    NoTls,
    /// The system has no certificates to know the key set's server by.
    NoRoots,
}

impl fmt::Display for TokenSettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlgorithmMissing => formatter
                .write_str("[auth.jwt] has a key and no algorithm; say how tokens are signed, for example algorithm = \"EdDSA\""),
            Self::TwoSources { one, other } => {
                write!(formatter, "[auth.jwt] {one} and {other} exclude each other; leave one out")
            }
            Self::NoSource => formatter.write_str(
                "[auth.jwt] says what tokens must be and not what they are signed with; set secret, secret_file, \
                 public_key_file, jwks_file or jwks_url",
            ),
            Self::Expected => formatter.write_str(
                "this program takes tokens, and [auth.jwt] does not say what they are signed with; set algorithm, and \
                 secret, secret_file, public_key_file, jwks_file or jwks_url",
            ),
            Self::Unfit { setting, algorithm } => {
                write!(formatter, "[auth.jwt] {setting} is no key of {algorithm}; correct one of the two")
            }
            Self::ShortSecret { place } => {
                write!(formatter, "{place}: a secret of HS256 has at least 32 bytes; make one with: openssl rand -hex 32")
            }
            Self::Read { setting, path, .. } => write!(formatter, "{setting} {} cannot be read", path.display()),
            Self::ReadableByAll { path, mode } => write!(
                formatter,
                "{path} has a secret in it and everybody can read it (mode {mode:04o}); run: chmod 640 {path}",
                path = path.display()
            ),
            Self::InvalidKey { setting, path, wanted } => {
                write!(formatter, "{setting} {} has no {wanted} in it", path.display())
            }
            Self::PreviousForGood => formatter.write_str(
                "[auth.jwt] has a previous key; say until when it is accepted, for example previous_until = \"2027-01-31\"",
            ),
            Self::TenantClaimMissing => {
                formatter.write_str("[auth.jwt] tenants needs tenant_claim: the claim that names a token's tenant")
            }
            Self::ReservedClaim { setting, claim } => write!(
                formatter,
                "[auth.jwt] {setting} cannot be {claim:?}, which says something else in every token; let your issuer use a \
                 claim of its own, for example {setting} = {example:?}",
                example = if *setting == TENANT_CLAIM { "org" } else { "role" },
            ),
            Self::SameClaim { claim } => write!(
                formatter,
                "[auth.jwt] tenant_claim and role_claim are both {claim:?}; let your issuer use a claim for each"
            ),
            Self::Leeway => formatter.write_str("[auth.jwt] leeway is at most 1h: set the clocks right instead"),
            Self::Revocations(error) => error.fmt(formatter),
            Self::NoTls => formatter.write_str(
                "[auth.jwt] jwks_url is https:// and this program was built without the feature `tls`; build it with, \
                 or set jwks_file",
            ),
            Self::NoRoots => formatter.write_str(
                "the system has no certificates to know the server of [auth.jwt] jwks_url by; install them \
                 (ca-certificates), or name a file of them by the variable SSL_CERT_FILE",
            ),
        }
    }
}

impl std::error::Error for TokenSettingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Revocations(error) => error.source(),
            Self::AlgorithmMissing
            | Self::TwoSources { .. }
            | Self::NoSource
            | Self::Expected
            | Self::Unfit { .. }
            | Self::ShortSecret { .. }
            | Self::ReadableByAll { .. }
            | Self::InvalidKey { .. }
            | Self::PreviousForGood
            | Self::TenantClaimMissing
            | Self::ReservedClaim { .. }
            | Self::SameClaim { .. }
            | Self::Leeway
            | Self::NoTls
            | Self::NoRoots => None,
        }
    }
}
