//! Tokens: whom a JSON Web Token (RFC 7519) speaks of, if it is to be believed.
//!
//! ```text
//! text ─▶ parts (split, JSON that says nothing twice) ─▶ key (by `kid`) ─▶ signature ─▶ claims ─▶ Verified
//!                                                         ▲ keys of the configuration, key_set ◀─ fetch
//! ```
//!
//! Signatures are `jsonwebtoken`'s. What is said in header and claims is judged here and not there: the library reads
//! a claim that stands twice and an `exp` with a fraction, has a clock of its own, and knows no tenant and no binding.
//! Rules and settings are in `docs/AUTH.md`.
//!
//! A token chooses nothing: not its algorithm, which is the key's; not where a key comes from (`jku`, `jwk`, `x5u` are
//! not looked at); and its `kid` is compared with names and used for nothing else. Why one is refused is for the log.

mod error;
mod fetch;
mod key_set;
mod keys;
mod parts;
mod program;
mod signing;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use moorline_protocol::{
    limits::MAX_NAME,
    scope::Scopes,
    subject::{ANONYMOUS, Subject, Tenant},
};
use serde_json::Value;

use error::TENANT_CLAIM;
pub use error::{Reason, TokenError, TokenSettingError};
pub(crate) use parts::{MAX_TOKEN, Object, Parts, object};
pub use program::Jwt;
pub(crate) use signing::SigningKey;

use self::{
    fetch::Fetcher,
    key_set::{KeySet, Place},
    keys::Key,
    program::Fits,
};
use super::{
    Principal,
    revocation::Revocations,
    verified::{MAX_ID, Verified},
};
use crate::config::{Config, JwtAlgorithm, JwtSection};

/// Keys that are tried on a token that does not say, or not well enough, which is meant.
const MOST_TRIED: usize = 4;

/// Members of `aud`.
const MOST_AUDIENCES: usize = 32;

/// Claims that say something by themselves: of RFC 7519 § 4.1, RFC 7800, and ours. One that were the tenant or the role
/// as well could be chosen by whoever may choose it, and what is issued would say one over the other.
const RESERVED: [&str; 11] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "scope", "scopes", "meta"];

/// What is kept of revocations is kept a day longer than tokens last; so much may clocks differ.
const MOST_LEEWAY: Duration = Duration::from_secs(3_600);

/// The longest that a token may last, also where a program sets another: what is revoked is forgotten a day later.
const MOST_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// The last second of the year 9999: what is later is no time.
const LAST_SECOND: u64 = 253_402_300_799;

/// Judges tokens.
pub(crate) struct TokenVerifier {
    settings: JwtSection,
    keys: Vec<Key>,
    key_set: Option<KeySet>,
    revocations: Arc<Revocations>,
    /// What the program asks of claims on a connection.
    fits: Option<Fits>,
    #[cfg(test)]
    without: Option<Defence>,
}

/// By what way a token came.
#[derive(Clone, Copy)]
enum Shown<'a> {
    /// On a connection, whose client has this key when records are sealed.
    Connection(Option<&'a [u8; 32]>),
    /// In a request of HTTP: nobody proves anything beside the token.
    Request,
}

/// What stands between a token and whoever made it up. A test takes one away to see that the attack then passes, and so
/// that nothing else stopped it; outside of tests they all stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Defence {
    /// The algorithm is the key's.
    #[cfg(test)]
    Algorithm,
    /// A `kid` is a name to be compared.
    #[cfg(test)]
    KeyId,
    #[cfg(test)]
    Signature,
    /// Nothing is said twice.
    #[cfg(test)]
    Once,
    /// Times are whole seconds of this age.
    Numbers,
    Audience,
    Tenant,
    Time,
    Binding,
    Revocation,
}

impl TokenVerifier {
    /// What the configuration says of tokens; `None` when it says that none are believed.
    ///
    /// A key set is not got yet: [`Self::start`] does.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>, TokenSettingError> {
        let settings = &config.auth.jwt;
        check_claim_names(settings)?;
        let source = one_source(settings)?;
        let own = signing::public(config)?;
        if source.is_none() && own.is_none() {
            let unused = settings.algorithm.is_some()
                || settings.require_binding
                || settings.previous_until.is_some()
                || ![&settings.audience, &settings.issuer, &settings.tenants].iter().all(|list| list.is_empty());
            return if unused { Err(TokenSettingError::NoSource) } else { Ok(None) };
        }
        if !settings.tenants.is_empty() && settings.tenant_claim.is_none() {
            return Err(TokenSettingError::TenantClaimMissing);
        }
        if settings.leeway > MOST_LEEWAY {
            return Err(TokenSettingError::Leeway);
        }
        let (mut keys, mut key_set) = (Vec::from_iter(own), None);
        if let Some(source) = source {
            let algorithm = settings.algorithm.ok_or(TokenSettingError::AlgorithmMissing)?;
            keys.extend(keys::configured(settings, algorithm)?);
            key_set = key_set_of(settings, source, algorithm)?;
        }
        Ok(Some(Self {
            keys,
            key_set,
            revocations: Arc::new(
                Revocations::load(&config.revocations_file()).map_err(TokenSettingError::Revocations)?,
            ),
            settings: JwtSection { max_lifetime: settings.max_lifetime.min(MOST_LIFETIME), ..settings.clone() },
            fits: None,
            #[cfg(test)]
            without: None,
        }))
    }

    /// As the program says it, beside the configuration.
    pub(crate) fn for_program(self, jwt: &Jwt) -> Self {
        Self { fits: jwt.fits(), ..self }
    }

    /// Gets a key set that is elsewhere for the first time. Without it the server serves, and believes no token until it
    /// has it: an outage elsewhere at the wrong time is not to keep it from starting.
    pub(crate) async fn start(&self) {
        if let Some(key_set) = self.key_set.as_ref().filter(|key_set| key_set.current().is_empty()) {
            key_set.refresh().await;
        }
    }

    /// Gets the key set again on its interval. It never ends: whoever calls it owns a task for it.
    pub(crate) async fn keep_fresh(&self) {
        match &self.key_set {
            Some(key_set) => key_set.keep_fresh().await,
            None => std::future::pending().await,
        }
    }

    /// The tokens that are believed no more, to add to them, and to hear of them.
    pub(crate) fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Judges a token of a client with this key, or one without when records are not sealed.
    pub(crate) async fn verify(
        &self,
        token: &str,
        client_key: Option<&[u8; 32]>,
        now: SystemTime,
    ) -> Result<Verified, TokenError> {
        self.judge(token, Shown::Connection(client_key), now).await
    }

    /// Judges a token that came with a request of HTTP. One that is bound to a client is not for there.
    pub(crate) async fn verify_bearer(&self, token: &str, now: SystemTime) -> Result<Verified, TokenError> {
        self.judge(token, Shown::Request, now).await
    }

    async fn judge(&self, token: &str, shown: Shown<'_>, now: SystemTime) -> Result<Verified, TokenError> {
        let parts = Parts::split(token, self.reader())?;
        self.check_signature(&parts, now).await?;
        self.check_claims(parts.claims, shown, now)
    }

    fn reader(&self) -> parts::Read {
        #[cfg(test)]
        if !self.has(Defence::Once) {
            return |json| serde_json::from_slice(json).map_err(|_| Reason::NotJson);
        }
        parts::object
    }

    async fn check_signature(&self, parts: &Parts<'_>, now: SystemTime) -> Result<(), Reason> {
        if parts.header.contains_key("crit") {
            return Err(Reason::Critical);
        }
        let id = match parts.header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.as_str()),
            Some(_) => return Err(Reason::UnknownKey),
        };
        #[cfg(test)]
        if let Some(passed) = self.check_carelessly(parts, id) {
            return passed;
        }
        let mut set = self.key_set.as_ref().map(KeySet::current);
        if self.meant(set.as_deref(), id, now).is_empty()
            && let (Some(key_set), Some(seen)) = (&self.key_set, &set)
        {
            key_set.look_again(seen).await;
            set = Some(key_set.current());
        }
        let keys = self.meant(set.as_deref(), id, now);
        if keys.is_empty() {
            let none = self.keys.is_empty() && set.is_none_or(|set| set.is_empty());
            return Err(if none { Reason::NoKeys } else { Reason::UnknownKey });
        }
        if keys.len() > MOST_TRIED {
            return Err(if id.is_some() { Reason::KeyIdAmbiguous } else { Reason::KeyIdMissing });
        }
        let named = parts.header.get("alg").and_then(Value::as_str);
        let mut refused = None;
        for key in keys {
            if named != Some(key.algorithm.as_str()) {
                refused = refused.or(Some(Reason::Algorithm { wanted: key.algorithm }));
            } else if key.verifies(parts.signed, parts.signature) {
                return Ok(());
            } else {
                refused = Some(Reason::Signature);
            }
        }
        Err(refused.unwrap_or(Reason::UnknownKey))
    }

    /// The keys that a token with this `kid` may be meant for: those of that name, and those without a name.
    fn meant<'a>(&'a self, set: Option<&'a [Key]>, id: Option<&str>, now: SystemTime) -> Vec<&'a Key> {
        let is_meant = |key: &&Key| match (id, key.id.as_deref()) {
            (Some(id), Some(name)) => id == name,
            (None, _) | (_, None) => true,
        };
        let counts = |key: &&Key| key.until.is_none_or(|until| now < until);
        self.keys.iter().chain(set.unwrap_or_default()).filter(is_meant).filter(counts).collect()
    }

    fn check_claims(&self, claims: Object, shown: Shown<'_>, now: SystemTime) -> Result<Verified, TokenError> {
        let settings = &self.settings;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = self.seconds(&claims, "exp")?.ok_or_else(|| Reason::Missing("exp".into()))?;
        let issued = self.seconds(&claims, "iat")?;
        let begins = self.seconds(&claims, "nbf")?;
        if [issued, begins].iter().flatten().any(|moment| *moment > now + settings.leeway) {
            return Err(Reason::NotYet.into());
        }
        // From now on as well: so a token that hides its age lasts no longer either.
        let lasts = |since: Duration| expires > since + settings.max_lifetime;
        if self.has(Defence::Numbers) && (lasts(now + settings.leeway) || issued.is_some_and(lasts)) {
            return Err(Reason::Lifetime.into());
        }
        self.check_audience(&claims)?;
        self.check_issuer(&claims)?;
        let principal = self.principal(&claims)?;
        let id = text(&claims, "jti", MAX_ID)?.map(str::to_owned);
        self.check_binding(&claims, shown)?;
        if let (Some(fits), Shown::Connection(_)) = (self.fits, shown)
            && let Err(misfit) = fits(&claims)
        {
            tracing::debug!(%misfit, "the claims of a token do not fit the program's type");
            return Err(Reason::Unfit.into());
        }
        let issued = issued.map(|issued| UNIX_EPOCH + issued);
        let ends = expires + settings.leeway;
        let verified = Verified::of(principal, UNIX_EPOCH + ends, id, issued, claims);
        if self.has(Defence::Revocation) && self.revocations.is_revoked(&verified) {
            return Err(Reason::Revoked.into());
        }
        // Last, so that "expired" is said of what would otherwise be right.
        if self.has(Defence::Time) && now >= ends { Err(TokenError::Expired) } else { Ok(verified) }
    }

    /// A moment (RFC 7519 § 2, NumericDate): a whole number of seconds and nothing else. A fraction would have to be
    /// rounded, and a text to be read, one way or the other.
    fn seconds(&self, claims: &Object, name: &str) -> Result<Option<Duration>, Reason> {
        let Some(value) = claims.get(name) else { return Ok(None) };
        #[cfg(test)]
        if !self.has(Defence::Numbers) {
            return Ok(Some(tests::careless_seconds(value)));
        }
        let seconds = value.as_u64().filter(|seconds| *seconds <= LAST_SECOND);
        seconds.map(|seconds| Some(Duration::from_secs(seconds))).ok_or_else(|| Reason::Malformed(name.into()))
    }

    fn check_audience(&self, claims: &Object) -> Result<(), Reason> {
        if !self.has(Defence::Audience) {
            return Ok(());
        }
        let wanted = &self.settings.audience;
        let malformed = || Reason::Malformed("aud".into());
        let named = match claims.get("aud") {
            None if wanted.is_empty() => return Ok(()),
            None => return Err(Reason::Missing("aud".into())),
            Some(value) => strings(value, MOST_AUDIENCES).ok_or_else(malformed)?,
        };
        match named.iter().any(|name| wanted.iter().any(|wanted| wanted == name)) {
            true => Ok(()),
            // RFC 7519 § 4.1.3: who does not find himself there must refuse.
            false if wanted.is_empty() => Err(Reason::AudienceNotSet),
            false => Err(Reason::Audience),
        }
    }

    fn check_issuer(&self, claims: &Object) -> Result<(), Reason> {
        let wanted = &self.settings.issuer;
        if wanted.is_empty() {
            return Ok(());
        }
        match claims.get("iss") {
            None => Err(Reason::Missing("iss".into())),
            Some(Value::String(issuer)) if wanted.contains(issuer) => Ok(()),
            Some(Value::String(_)) => Err(Reason::Issuer),
            Some(_) => Err(Reason::Malformed("iss".into())),
        }
    }

    fn principal(&self, claims: &Object) -> Result<Principal, Reason> {
        let tenant = match &self.settings.tenant_claim {
            None => Tenant::default(),
            Some(claim) => {
                let name = text(claims, claim, MAX_NAME)?.ok_or_else(|| Reason::Missing(claim.as_str().into()))?;
                let tenant = Tenant::new(name).map_err(|_| Reason::Malformed(claim.as_str().into()))?;
                let tenants = &self.settings.tenants;
                if self.has(Defence::Tenant) && !tenants.is_empty() && !tenants.iter().any(|known| known == name) {
                    return Err(Reason::Tenant);
                }
                tenant
            }
        };
        let name = text(claims, "sub", MAX_NAME)?.ok_or_else(|| Reason::Missing("sub".into()))?;
        let subject = Subject::new(tenant, name).map_err(|_| Reason::Malformed("sub".into()))?;
        // Whoever is called so shares with everybody who has not signed in.
        if name == ANONYMOUS {
            return Err(Reason::Malformed("sub".into()));
        }
        Ok(Principal {
            subject,
            role: text(claims, &self.settings.role_claim, MAX_NAME)?.map(str::to_owned),
            scopes: scopes(claims)?,
            meta: claims.get("meta").cloned().unwrap_or_default(),
        })
    }

    /// RFC 7800, with a member of ours: `{ "cnf": { "mlk": … } }` is the public key of the client's handshake. What is
    /// bound to something else is refused, because whoever stole it could not show that either.
    fn check_binding(&self, claims: &Object, shown: Shown<'_>) -> Result<(), Reason> {
        if !self.has(Defence::Binding) {
            return Ok(());
        }
        let Some(binding) = claims.get("cnf") else {
            let needed = self.settings.require_binding && matches!(shown, Shown::Connection(_));
            return if needed { Err(Reason::NotBound) } else { Ok(()) };
        };
        let key = binding.get("mlk").ok_or(Reason::UnknownBinding)?;
        let mut bytes = [0; 32];
        let key = key.as_str().and_then(|text| Base64UrlUnpadded::decode(text, &mut bytes).ok());
        match (key, shown) {
            (Some(key), _) if key.len() != 32 => Err(Reason::Malformed("cnf".into())),
            (None, _) => Err(Reason::Malformed("cnf".into())),
            (Some(key), Shown::Connection(Some(client))) if key == client => Ok(()),
            (Some(_), Shown::Connection(_) | Shown::Request) => Err(Reason::Binding),
        }
    }

    #[cfg(not(test))]
    fn has(&self, _: Defence) -> bool {
        true
    }

    #[cfg(test)]
    fn has(&self, defence: Defence) -> bool {
        self.without != Some(defence)
    }
}

/// That the tenant and the role have claims of their own.
pub(crate) fn check_claim_names(settings: &JwtSection) -> Result<(), TokenSettingError> {
    let role = Some(&settings.role_claim);
    for (setting, claim) in [(TENANT_CLAIM, settings.tenant_claim.as_ref()), ("role_claim", role)] {
        if let Some(claim) = claim.filter(|claim| RESERVED.contains(&claim.as_str())) {
            return Err(TokenSettingError::ReservedClaim { setting, claim: claim.clone() });
        }
    }
    match &settings.tenant_claim {
        Some(claim) if Some(claim) == role => Err(TokenSettingError::SameClaim { claim: claim.clone() }),
        _ => Ok(()),
    }
}

/// The one source of keys that is set.
fn one_source(settings: &JwtSection) -> Result<Option<&'static str>, TokenSettingError> {
    let set = [
        (settings.secret.is_some(), "secret"),
        (settings.secret_file.is_some() && settings.secret.is_none(), "secret_file"),
        (settings.public_key_file.is_some(), "public_key_file"),
        (settings.jwks_file.is_some(), "jwks_file"),
        (settings.jwks_url.is_some(), "jwks_url"),
    ];
    let mut sources = set.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name);
    match (sources.next(), sources.next()) {
        (Some(one), Some(other)) => Err(TokenSettingError::TwoSources { one, other }),
        (source, _) => Ok(source),
    }
}

/// The key set that is configured, if one is.
fn key_set_of(
    settings: &JwtSection,
    source: &'static str,
    algorithm: JwtAlgorithm,
) -> Result<Option<KeySet>, TokenSettingError> {
    let refresh = settings.jwks_refresh;
    match (&settings.jwks_file, &settings.jwks_url) {
        (None, None) => Ok(None),
        _ if algorithm == JwtAlgorithm::Hs256 => Err(TokenSettingError::Unfit { setting: source, algorithm }),
        (Some(path), _) => KeySet::of_file(path.clone(), algorithm, refresh).map(Some),
        (None, Some(url)) => {
            let place = Place::Url(url.clone(), Fetcher::new(url)?);
            Ok(Some(KeySet::new(place, algorithm, refresh)))
        }
    }
}

/// A claim that is text, of at most this many bytes.
fn text<'a>(claims: &'a Object, name: &str, most: usize) -> Result<Option<&'a str>, Reason> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= most => Ok(Some(text)),
        Some(_) => Err(Reason::Malformed(name.into())),
    }
}

/// One text or a list of them.
fn strings(value: &Value, most: usize) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(values) if values.len() <= most => values.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// `scope`, a text with spaces between, or `scopes`, a list.
fn scopes(claims: &Object) -> Result<Scopes, Reason> {
    match (claims.get("scope"), claims.get("scopes")) {
        (None, None) => Ok(Scopes::Unlisted),
        (Some(_), Some(_)) => Err(Reason::ScopeTwice),
        (Some(Value::String(text)), None) => Scopes::from_text(text).map_err(Reason::Scopes),
        (Some(_), None) => Err(Reason::Malformed("scope".into())),
        (None, Some(Value::Array(values))) => {
            let texts: Option<Vec<_>> = values.iter().map(Value::as_str).collect();
            Scopes::from_list(texts.ok_or_else(|| Reason::Malformed("scopes".into()))?).map_err(Reason::Scopes)
        }
        (None, Some(_)) => Err(Reason::Malformed("scopes".into())),
    }
}
