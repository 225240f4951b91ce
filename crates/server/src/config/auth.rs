//! `[auth]` and the sections in it: who may come in, and which tokens are believed and made.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use moorline_protocol::url::{DialUrl, is_loopback_host};

use super::secret::Secret;

/// `[auth]`: who may come in.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AuthSection {
    /// Whether everybody may come in without signing in, from anywhere. Default no: without any sign-in the server then
    /// serves this machine alone.
    pub anonymous: bool,
    /// What everybody may do who has not signed in. Default none given: what no declaration restricts.
    pub anonymous_scopes: Vec<String>,
    /// `[auth.shared_key]`: keys that clients and server share.
    pub shared_key: SharedKeySection,
    /// `[auth.jwt]`: which tokens are believed.
    pub jwt: JwtSection,
    /// `[auth.issue]`: the tokens that this server makes itself.
    pub issue: IssueSection,
}

/// `[auth.shared_key]`: keys that clients and server share (`moorline key new`). Who has one is let in.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct SharedKeySection {
    /// The keys (`mlkey_…`), with white space between them: the new one and the one before it, while both are about.
    pub keys: Option<Secret>,
    /// A file with the keys, one a line; lines that begin with `#` are passed over.
    pub keys_file: Option<PathBuf>,
    /// Whether nobody comes in without a key, whatever else he shows. Default no.
    pub required: bool,
    /// The role of who shows a key and nothing else. Default none.
    pub role: Option<String>,
    /// What he may do. Default none given: what no declaration restricts.
    pub scopes: Vec<String>,
}

impl fmt::Debug for SharedKeySection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, keys_file, required, role, scopes } = self;
        formatter
            .debug_struct("SharedKeySection")
            .field("keys", &keys.as_ref().map(|_| "secret"))
            .field("keys_file", keys_file)
            .field("required", required)
            .field("role", role)
            .field("scopes", scopes)
            .finish()
    }
}

/// `[auth.jwt]`: which tokens are believed. One source of keys at most; without any, none is.
#[derive(Clone)]
#[non_exhaustive]
pub struct JwtSection {
    /// How tokens are signed: `"HS256"`, `"RS256"`, `"ES256"` or `"EdDSA"`. What a token says of it is compared with
    /// this and never followed. Needed with every key; no default.
    pub algorithm: Option<JwtAlgorithm>,
    /// The secret of HS256 itself, as it stands here, at least 32 bytes.
    pub secret: Option<Secret>,
    /// A file with the secret of HS256; white space around it does not count.
    pub secret_file: Option<PathBuf>,
    /// A file with one public key in PEM (`PUBLIC KEY`, for RSA also `RSA PUBLIC KEY`).
    pub public_key_file: Option<PathBuf>,
    /// The key's name, which tokens give as `kid`. Default none: then it is tried whatever they give.
    pub key_id: Option<String>,
    /// A file with a JSON Web Key Set (RFC 7517 § 5), read again as a URL is.
    pub jwks_file: Option<PathBuf>,
    /// The URL of a JSON Web Key Set: `https://`, or `http://` on this machine.
    pub jwks_url: Option<JwksUrl>,
    /// How often the key set is read again. A token with an unknown `kid` has it read sooner, every 30 s at most.
    /// Default `"10m"`.
    pub jwks_refresh: Duration,
    /// The secret before this one, accepted until `previous_until`.
    pub previous_secret: Option<Secret>,
    /// A file with the secret before this one, accepted until `previous_until`.
    pub previous_secret_file: Option<PathBuf>,
    /// A file with the public key before this one, accepted until `previous_until`.
    pub previous_public_key_file: Option<PathBuf>,
    /// The previous key's name. Default none.
    pub previous_key_id: Option<String>,
    /// Until when the previous key is accepted, in UTC: `"2027-01-31"` (its very beginning) or `"2027-01-31T12:00:00Z"`.
    /// Needed with a previous key.
    pub previous_until: Option<SystemTime>,
    /// What a token must name as `aud`, one of them. Default none: then a token that names any is refused, because it is
    /// meant for somebody else.
    pub audience: Vec<String>,
    /// Who must have made a token, by its `iss`, one of them. Default none: then `iss` is not looked at.
    pub issuer: Vec<String>,
    /// By how much clocks may differ. Default `"30s"`, at most an hour.
    pub leeway: Duration,
    /// How long a token may last, from its `iat` and from now. Default `"365d"`, which is the most: for that long a revocation is kept.
    pub max_lifetime: Duration,
    /// The claim that names the tenant, which a token must then have. Default none: everybody is in the tenant
    /// `default`.
    pub tenant_claim: Option<String>,
    /// The tenants that may come in. Default none: every one.
    pub tenants: Vec<String>,
    /// The claim with the role, which a token may have. Default `"role"`.
    pub role_claim: String,
    /// Whether a token must be bound to the key of the client that shows it (claim `cnf`). Default no.
    pub require_binding: bool,
}

impl Default for JwtSection {
    fn default() -> Self {
        Self {
            algorithm: None,
            secret: None,
            secret_file: None,
            public_key_file: None,
            key_id: None,
            jwks_file: None,
            jwks_url: None,
            jwks_refresh: Duration::from_secs(600),
            previous_secret: None,
            previous_secret_file: None,
            previous_public_key_file: None,
            previous_key_id: None,
            previous_until: None,
            audience: Vec::new(),
            issuer: Vec::new(),
            leeway: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(365 * 86_400),
            tenant_claim: None,
            tenants: Vec::new(),
            role_claim: "role".to_owned(),
            require_binding: false,
        }
    }
}

impl fmt::Debug for JwtSection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every field, so that a new one is not forgotten and a secret not shown.
        let Self {
            algorithm,
            secret,
            secret_file,
            public_key_file,
            key_id,
            jwks_file,
            jwks_url,
            jwks_refresh,
            previous_secret,
            previous_secret_file,
            previous_public_key_file,
            previous_key_id,
            previous_until,
            audience,
            issuer,
            leeway,
            max_lifetime,
            tenant_claim,
            tenants,
            role_claim,
            require_binding,
        } = self;
        formatter
            .debug_struct("JwtSection")
            .field("algorithm", algorithm)
            .field("secret", &secret.as_ref().map(|_| "secret"))
            .field("secret_file", secret_file)
            .field("public_key_file", public_key_file)
            .field("key_id", key_id)
            .field("jwks_file", jwks_file)
            .field("jwks_url", jwks_url)
            .field("jwks_refresh", jwks_refresh)
            .field("previous_secret", &previous_secret.as_ref().map(|_| "secret"))
            .field("previous_secret_file", previous_secret_file)
            .field("previous_public_key_file", previous_public_key_file)
            .field("previous_key_id", previous_key_id)
            .field("previous_until", previous_until)
            .field("audience", audience)
            .field("issuer", issuer)
            .field("leeway", leeway)
            .field("max_lifetime", max_lifetime)
            .field("tenant_claim", tenant_claim)
            .field("tenants", tenants)
            .field("role_claim", role_claim)
            .field("require_binding", require_binding)
            .finish()
    }
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256 (RFC 7518 § 3.2): who can check a token can make one.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 § 3.3).
    Rs256,
    /// ECDSA over P-256 with SHA-256 (RFC 7518 § 3.4).
    Es256,
    /// EdDSA (RFC 8037 § 3.1), over Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    pub(super) const NAMES: &[&str] = &["HS256", "RS256", "ES256", "EdDSA"];
    pub(crate) const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// As it stands in the header of a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Where a key set is got: over TLS, or from this machine. It may have a query, but no user name.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl {
    url: DialUrl,
    /// With its question mark; empty when there is none.
    query: String,
}

impl JwksUrl {
    /// Takes `https://…`, and `http://…` of a loopback host; `None` for everything else.
    pub fn parse(text: &str) -> Option<Self> {
        let web = ["https://", "http://"]
            .iter()
            .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        let (url, query) = text.split_at(text.find('?').unwrap_or(text.len()));
        let plain = query.len() <= 1_024 && query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        let url = DialUrl::parse(url).ok().filter(|url| url.is_secure() || is_loopback_host(url.host()))?;
        (web && plain).then(|| Self { url, query: query.to_owned() })
    }

    /// Whether TLS protects the way.
    pub fn is_secure(&self) -> bool {
        self.url.is_secure()
    }

    /// The host, IPv6 without brackets.
    pub fn host(&self) -> &str {
        self.url.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// Host and port, as a request names them; without the port where it is that of the scheme.
    pub fn authority(&self) -> &str {
        self.url.authority()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let port = self.authority().get(self.url.host().len()..).and_then(|rest| rest.strip_prefix(':'));
        port.and_then(|port| port.parse().ok()).unwrap_or(if self.is_secure() { 443 } else { 80 })
    }

    /// Path and query.
    pub fn target(&self) -> String {
        let after_scheme = self.url.as_str().split_once("://").map_or("", |(_, rest)| rest);
        let path = after_scheme.get(self.authority().len()..).unwrap_or_default();
        format!("{path}{}", self.query)
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure() { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}", self.authority(), self.target())
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// `[auth.issue]`: the tokens that this server makes itself, by `POST /api/token` and `moorline token issue`. They are
/// signed with the secret of `[auth.jwt]`, or with the private key here, whose public half is believed, too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssueSection {
    /// A file with a private key in PEM (`PRIVATE KEY`, so PKCS#8), of ES256 or EdDSA. Default none.
    pub private_key_file: Option<PathBuf>,
    /// The longest that a token may be valid. Default `"30d"`.
    pub max_ttl: Duration,
}

impl Default for IssueSection {
    fn default() -> Self {
        Self { private_key_file: None, max_ttl: Duration::from_secs(30 * 86_400) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_comes_over_tls_or_from_this_machine() {
        let parts = |text: &str| {
            let url = JwksUrl::parse(text)?;
            Some((url.to_string(), url.host().to_owned(), url.port(), url.target()))
        };
        let expect = |text: &str, host: &str, port, target: &str| {
            assert_eq!(parts(text), Some((text.to_owned(), host.to_owned(), port, target.to_owned())));
        };
        expect("https://id.example.com/.well-known/jwks.json", "id.example.com", 443, "/.well-known/jwks.json");
        expect("https://id.example.com:8443/keys?p=sign_in", "id.example.com", 8443, "/keys?p=sign_in");
        assert_eq!(JwksUrl::parse("http://127.0.0.1:80/").map(|url| url.port()), Some(80));
        expect("http://[::1]:9/k", "::1", 9, "/k");
        expect("http://localhost:9/k", "localhost", 9, "/k");
        for bad in [
            "",
            "http://id.example.com/keys",
            "http://localhost.example.com/keys",
            "ws://localhost/keys",
            "wss://id.example.com/keys",
            "https://user:word@id.example.com/keys",
            "https://id.example.com/keys#a",
            "https://id.example.com/keys?a#b",
            "https://id.example.com/keys?a b",
            "file:///etc/passwd",
        ] {
            assert_eq!(JwksUrl::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_algorithm_has_its_name() {
        for (name, algorithm) in JwtAlgorithm::NAMES.iter().zip(JwtAlgorithm::ALL) {
            assert_eq!(*name, algorithm.as_str());
        }
    }
}
