//! Tokens that this server makes: for whom, for how long, and never for more than whoever asks has himself.
//!
//! They are signed with the secret of `[auth.jwt]`, or with the private key of `[auth.issue]`, whose public half this
//! server then believes. [`delegate`] decides what somebody may hand on; it knows nothing of HTTP.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use moorline_protocol::{
    limits::MAX_NAME,
    scope::{InvalidScopes, Scope, Scopes},
    subject::{ANONYMOUS, Tenant},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    jwt::{MAX_TOKEN, SigningKey, TokenSettingError, TokenVerifier, check_claim_names},
    verified::Verified,
};
use crate::config::{self, Config};

/// The scope of those who may have tokens made for others.
pub(crate) const ISSUE: &str = "token.issue";

/// How long a token is valid that nobody said it of.
const DEFAULT_TTL: Duration = Duration::from_secs(3_600);

/// What a token is to say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// The subject, `sub`.
    pub subject: String,
    /// The tenant, for servers that read one (`[auth.jwt] tenant_claim`).
    pub tenant: Tenant,
    /// The scopes; `None` for no list, so for everything that no declaration restricts.
    pub scopes: Option<Vec<Scope>>,
    /// How long it is valid, at most `[auth.issue] max_ttl`. Default an hour.
    pub ttl: Duration,
    /// The role.
    pub role: Option<String>,
    /// What else is known of the subject; null for nothing.
    pub meta: Value,
    /// The public key of the one client that may show it.
    pub client_key: Option<[u8; 32]>,
    /// For whom it is meant, `aud`; null for nobody in particular.
    pub audience: Value,
    /// Who says that he made it, `iss`.
    pub issuer: Option<String>,
}

impl Grant {
    /// A token of this subject for an hour, as this configuration wants one, without a list of scopes.
    pub fn new(config: &Config, subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            tenant: Tenant::default(),
            scopes: None,
            ttl: DEFAULT_TTL,
            role: None,
            meta: Value::Null,
            client_key: None,
            audience: one_or_many(config.auth.jwt.audience.iter().take(1)),
            issuer: config.auth.jwt.issuer.first().cloned(),
        }
    }
}

/// A token that was made.
#[derive(Clone)]
#[non_exhaustive]
pub struct Issued {
    /// The token. Whoever has it is its subject.
    pub token: String,
    /// Its end, in seconds since 1970, as its `exp`.
    pub expires: u64,
    /// Its name, by which it can be revoked, as its `jti`.
    pub id: String,
}

/// Why no token is made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IssueError {
    /// A subject has 1 to 200 bytes and is not `anonymous`.
    Subject,
    /// A role has at most 200 bytes.
    Role,
    /// `[auth.jwt] tenant_claim` is not set, so no token can be of another tenant than `default`.
    Tenant,
    /// It is longer than 8 KiB, which nobody would read.
    TooLong,
    /// The key does not sign.
    Signing,
    /// The system gives no random bytes.
    NoEntropy,
}

impl fmt::Display for IssueError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject => write!(formatter, "a subject has 1 to {MAX_NAME} bytes and is not {ANONYMOUS:?}"),
            Self::Role => write!(formatter, "a role has at most {MAX_NAME} bytes"),
            Self::Tenant => formatter.write_str("without [auth.jwt] tenant_claim everybody is in the tenant `default`"),
            Self::TooLong => formatter.write_str("the token would be longer than 8 KiB: fewer scopes, or less meta"),
            Self::Signing => formatter.write_str("the key does not sign"),
            Self::NoEntropy => formatter.write_str("the system gives no random bytes"),
        }
    }
}

impl std::error::Error for IssueError {}

/// Makes tokens.
pub(crate) struct Issuer {
    key: SigningKey,
    max_ttl: Duration,
    tenant_claim: Option<String>,
    role_claim: String,
}

impl Issuer {
    /// With the key that is configured; `None` when there is none that signs.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>, TokenSettingError> {
        let jwt = &config.auth.jwt;
        check_claim_names(jwt)?;
        let Some(key) = SigningKey::configured(config)? else { return Ok(None) };
        Ok(Some(Self {
            key,
            max_ttl: config.auth.issue.max_ttl.min(jwt.max_lifetime),
            tenant_claim: jwt.tenant_claim.clone(),
            role_claim: jwt.role_claim.clone(),
        }))
    }

    /// Makes a token. One that is to be valid for longer than it may is valid for as long as it may.
    pub(crate) fn issue(&self, grant: &Grant, now: SystemTime) -> Result<Issued, IssueError> {
        if !(1..=MAX_NAME).contains(&grant.subject.len()) || grant.subject == ANONYMOUS {
            return Err(IssueError::Subject);
        }
        if grant.role.as_ref().is_some_and(|role| role.len() > MAX_NAME) {
            return Err(IssueError::Role);
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| IssueError::NoEntropy)?;
        let id = Base64UrlUnpadded::encode_string(&random);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expires = now + grant.ttl.min(self.max_ttl).as_secs();
        let mut claims = json!({ "sub": grant.subject, "iat": now, "exp": expires, "jti": id });
        match &self.tenant_claim {
            Some(claim) => claims[claim.as_str()] = grant.tenant.as_str().into(),
            None if grant.tenant == Tenant::default() => {}
            None => return Err(IssueError::Tenant),
        }
        if let Some(scopes) = &grant.scopes {
            let texts: Vec<String> = scopes.iter().map(ToString::to_string).collect();
            match texts.iter().any(|text| text.contains(' ')) {
                true => claims["scopes"] = texts.into(),
                false => claims["scope"] = texts.join(" ").into(),
            }
        }
        if let Some(role) = &grant.role {
            claims[self.role_claim.as_str()] = role.as_str().into();
        }
        if let Some(key) = &grant.client_key {
            claims["cnf"] = json!({ "mlk": Base64UrlUnpadded::encode_string(key) });
        }
        if let Some(issuer) = &grant.issuer {
            claims["iss"] = issuer.as_str().into();
        }
        for (claim, value) in [("aud", &grant.audience), ("meta", &grant.meta)] {
            if !value.is_null() {
                claims[claim] = value.clone();
            }
        }
        let token = self.key.sign(&claims).ok_or(IssueError::Signing)?;
        if token.len() > MAX_TOKEN { Err(IssueError::TooLong) } else { Ok(Issued { token, expires, id }) }
    }
}

/// What makes tokens on this server.
pub(crate) struct Issuing {
    pub(crate) issuer: Issuer,
    pub(crate) verifier: Arc<TokenVerifier>,
}

impl Issuing {
    /// `None` where no key signs, or none judges who asks.
    pub(crate) fn new(
        config: &Config,
        verifier: Option<&Arc<TokenVerifier>>,
    ) -> Result<Option<Self>, TokenSettingError> {
        let Some(verifier) = verifier.cloned() else { return Ok(None) };
        Ok(Issuer::new(config)?.map(|issuer| Self { issuer, verifier }))
    }
}

/// One text by itself, several as a list, none as null: as `aud` may be.
fn one_or_many<'a>(texts: impl Iterator<Item = &'a String>) -> Value {
    let texts: Vec<_> = texts.cloned().collect();
    match texts.as_slice() {
        [] => Value::Null,
        [one] => one.as_str().into(),
        _ => texts.into(),
    }
}

/// What somebody with a token asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Wish {
    sub: String,
    scope: Option<String>,
    scopes: Option<Vec<String>>,
    exp: Option<String>,
    role: Option<String>,
    #[serde(default)]
    meta: Value,
    client_key: Option<String>,
}

/// Why a wish is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Declined {
    /// There must be a list of scopes, once: without one a token would be good for more than whoever asks may know.
    ScopesMissing,
    Scopes(InvalidScopes),
    /// `exp` is no duration.
    Ttl,
    /// `clientKey` is not 32 bytes in base64url.
    ClientKey,
    /// Whoever asks does not have this scope himself: which, from 0.
    Beyond(usize),
    /// Only a role of one's own can be handed on.
    Role,
    /// The right to have tokens made is the operator's to give.
    Reissue,
}

impl Declined {
    /// Whether it is for want of rights, and not a mistake.
    pub(crate) fn is_forbidden(&self) -> bool {
        match self {
            Self::Beyond(_) | Self::Role | Self::Reissue => true,
            Self::ScopesMissing | Self::Scopes(_) | Self::Ttl | Self::ClientKey => false,
        }
    }
}

impl fmt::Display for Declined {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScopesMissing => formatter.write_str("give the scopes, as scope (a text) or scopes (a list)"),
            Self::Scopes(error) => error.fmt(formatter),
            Self::Ttl => formatter.write_str("exp is a duration such as \"1h\" or \"7d\""),
            Self::ClientKey => formatter.write_str("clientKey is 32 bytes in base64url"),
            Self::Beyond(place) => write!(formatter, "scope {} is not among those of your own token", place + 1),
            Self::Role => formatter.write_str("a role other than your own cannot be handed on"),
            Self::Reissue => write!(formatter, "{ISSUE} cannot be handed on"),
        }
    }
}

/// What of a wish somebody with this token may have: in his own tenant, for his own audience, with scopes that his own
/// cover.
pub(crate) fn delegate(own: &Verified, wish: Wish, config: &Config) -> Result<Grant, Declined> {
    let listed = match (wish.scope, wish.scopes) {
        (Some(text), None) => Scopes::from_text(&text),
        (None, Some(texts)) => Scopes::from_list(texts.iter().map(String::as_str)),
        (None, None) | (Some(_), Some(_)) => return Err(Declined::ScopesMissing),
    };
    // Only a list comes from a list.
    let Scopes::Listed(scopes) = listed.map_err(Declined::Scopes)? else { return Err(Declined::ScopesMissing) };
    if let Some(place) = scopes.iter().position(|scope| !own.principal.scopes.holds(scope)) {
        return Err(Declined::Beyond(place));
    }
    // Otherwise a token could go on for good, one after the other, whatever becomes of the first.
    if scopes.iter().any(|scope| scope.to_string() == ISSUE) {
        return Err(Declined::Reissue);
    }
    if wish.role.is_some() && wish.role != own.principal.role {
        return Err(Declined::Role);
    }
    let ttl = match &wish.exp {
        None => DEFAULT_TTL,
        Some(text) => config::duration(text).map_err(|_| Declined::Ttl)?,
    };
    let client_key = match &wish.client_key {
        None => None,
        Some(text) => Some(client_key(text).ok_or(Declined::ClientKey)?),
    };
    // What of its audience is this server: for others it cannot speak.
    let audience = config.auth.jwt.audience.iter().filter(|name| match own.claims.get("aud") {
        Some(Value::String(own)) => own == *name,
        Some(Value::Array(own)) => own.iter().any(|own| own == name.as_str()),
        _ => false,
    });
    Ok(Grant {
        subject: wish.sub,
        tenant: own.principal.subject.tenant().clone(),
        scopes: Some(scopes),
        ttl,
        role: wish.role,
        meta: wish.meta,
        client_key,
        audience: one_or_many(audience),
        issuer: own.claims.get("iss").and_then(Value::as_str).map(str::to_owned),
    })
}

/// A client's public key from its text.
pub(crate) fn client_key(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    Base64UrlUnpadded::decode(text, &mut key).is_ok_and(|bytes| bytes.len() == 32).then_some(key)
}

#[cfg(test)]
mod tests {
    use moorline_protocol::{scope::Operation, subject::Subject};

    use super::*;
    use crate::{
        access::{Principal, jwt::TokenVerifier},
        config::{JwtAlgorithm, Secret},
    };

    const NOW: u64 = 1_800_000_000;
    const SECRET: &str = "a secret of tests, 32 bytes or more";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn config() -> Config {
        let mut config = Config::default();
        config.server.data_dir = "/nowhere/at/all".into();
        let jwt = &mut config.auth.jwt;
        (jwt.algorithm, jwt.secret) = (Some(JwtAlgorithm::Hs256), Some(Secret::new(SECRET)));
        (jwt.audience, jwt.tenant_claim) = (vec!["app".into(), "admin".into()], Some("org".into()));
        config
    }

    /// Without a secret, and with this file as the private key, in a place of its own.
    fn with_private_key(pem: &str) -> (Config, tempfile::NamedTempFile) {
        let mut config = config();
        (config.auth.jwt.algorithm, config.auth.jwt.secret) = (None, None);
        // Such a file is its owner's alone.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        config.auth.issue.private_key_file = Some(file.path().to_owned());
        (config, file)
    }

    async fn believed(config: &Config, issued: &Issued) -> Verified {
        let verifier = TokenVerifier::new(config).unwrap().unwrap();
        verifier.verify(&issued.token, None, at(NOW)).await.unwrap()
    }

    fn issuer(config: &Config) -> Issuer {
        Issuer::new(config).unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_token_that_is_made_is_believed_and_says_what_it_was_to_say() {
        let (ec, _ec) = with_private_key(include_str!("jwt/testdata/ec.pem"));
        let (ed, _ed) = with_private_key(include_str!("jwt/testdata/ed.pem"));
        for config in [config(), ec, ed] {
            let mut grant = Grant::new(&config, "ann");
            grant.tenant = Tenant::new("acme").unwrap();
            grant.scopes = Some(vec![Scope::parse("call:two words").unwrap(), Scope::parse("game.write").unwrap()]);
            (grant.role, grant.meta) = (Some("admin".into()), json!({ "name": "Ann" }));
            let issued = issuer(&config).issue(&grant, at(NOW)).unwrap();
            let verified = believed(&config, &issued).await;
            assert_eq!(verified.principal.subject, Subject::new(grant.tenant.clone(), "ann").unwrap());
            assert_eq!((verified.principal.role.as_deref(), &verified.principal.meta), (Some("admin"), &grant.meta));
            assert!(verified.principal.scopes.may(None, Operation::call("two words")));
            assert_eq!((verified.issued, verified.id.as_deref()), (Some(at(NOW)), Some(issued.id.as_str())));
            assert_eq!(issued.expires, NOW + 3_600);
            assert_eq!(verified.claims["aud"], json!("app"));
            let other = issuer(&config).issue(&grant, at(NOW)).unwrap();
            assert_ne!(other.id, issued.id);
        }
    }

    #[tokio::test]
    async fn without_a_list_a_token_has_none_and_an_empty_list_stays_one() {
        let config = config();
        let mut grant = Grant::new(&config, "ann");
        grant.client_key = Some([7; 32]);
        let issued = issuer(&config).issue(&grant, at(NOW)).unwrap();
        let verifier = TokenVerifier::new(&config).unwrap().unwrap();
        assert!(verifier.verify(&issued.token, None, at(NOW)).await.is_err(), "it is bound");
        let verified = verifier.verify(&issued.token, Some(&[7; 32]), at(NOW)).await.unwrap();
        assert_eq!(verified.principal.scopes, Scopes::Unlisted);
        (grant.scopes, grant.client_key) = (Some(Vec::new()), None);
        let issued = issuer(&config).issue(&grant, at(NOW)).unwrap();
        assert_eq!(believed(&config, &issued).await.principal.scopes, Scopes::Listed(Vec::new()));
    }

    #[test]
    fn what_nobody_would_believe_is_not_made() {
        let config = config();
        let refused = |change: &dyn Fn(&mut Grant)| {
            let mut grant = Grant::new(&config, "ann");
            change(&mut grant);
            issuer(&config).issue(&grant, at(NOW)).err()
        };
        let long = "x".repeat(MAX_NAME + 1);
        for subject in ["", ANONYMOUS, &long] {
            assert_eq!(refused(&|grant| grant.subject = subject.to_owned()), Some(IssueError::Subject));
        }
        assert_eq!(refused(&|grant| grant.role = Some(long.clone())), Some(IssueError::Role));
        assert_eq!(refused(&|grant| grant.meta = "x".repeat(MAX_TOKEN).into()), Some(IssueError::TooLong));
        let mut single = config.clone();
        single.auth.jwt.tenant_claim = None;
        let mut grant = Grant::new(&single, "ann");
        grant.tenant = Tenant::new("acme").unwrap();
        assert_eq!(issuer(&single).issue(&grant, at(NOW)).err(), Some(IssueError::Tenant));
    }

    #[test]
    fn no_token_is_valid_for_longer_than_max_ttl() {
        let mut config = config();
        let mut grant = Grant::new(&config, "ann");
        grant.ttl = Duration::from_secs(90 * 86_400);
        let expires = |config: &Config| issuer(config).issue(&grant, at(NOW)).unwrap().expires;
        assert_eq!(expires(&config), NOW + 30 * 86_400);
        config.auth.jwt.max_lifetime = Duration::from_secs(60);
        assert_eq!(expires(&config), NOW + 60, "nobody would believe it");
    }

    #[test]
    fn without_a_key_that_signs_there_is_no_issuer_and_an_unfit_one_is_named() {
        assert!(Issuer::new(&Config::default()).unwrap().is_none());
        let mut public = config();
        (public.auth.jwt.algorithm, public.auth.jwt.secret) = (Some(JwtAlgorithm::EdDsa), None);
        assert!(Issuer::new(&public).unwrap().is_none());
        for pem in [include_str!("jwt/testdata/rsa.pem"), include_str!("jwt/testdata/ed.pub.pem"), ""] {
            let (config, _file) = with_private_key(pem);
            let error = Issuer::new(&config).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("has no private key of P-256 or Ed25519"), "{pem}: {error}");
            assert!(TokenVerifier::new(&config).is_err());
        }
    }

    /// With `tenant_claim = "meta"` whoever might have tokens made chose the tenant, for `meta` was written last and is
    /// the asker's. With `sub`, `exp` or `scope` the settings of the tenant and the role wrote over them.
    #[test]
    fn regression_a_claim_that_has_a_meaning_is_neither_tenant_nor_role() {
        let refused = |change: &dyn Fn(&mut crate::config::JwtSection)| {
            let mut config = config();
            change(&mut config.auth.jwt);
            let judges = TokenVerifier::new(&config).err().map(|error| error.to_string());
            let makes = Issuer::new(&config).err().map(|error| error.to_string());
            assert_eq!(judges, makes);
            judges.unwrap_or_default()
        };
        for claim in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "scope", "scopes", "meta"] {
            let tenant = refused(&|jwt| jwt.tenant_claim = Some(claim.into()));
            let role = refused(&|jwt| jwt.role_claim = claim.into());
            assert!(tenant.contains("tenant_claim = \"org\"") && tenant.contains(&format!("{claim:?}")), "{tenant}");
            assert!(role.contains("role_claim = \"role\"") && role.contains(&format!("{claim:?}")), "{role}");
        }
        let same = refused(&|jwt| jwt.role_claim = "org".into());
        assert!(same.contains("a claim for each"), "{same}");
        assert_eq!(refused(&|jwt| (jwt.tenant_claim, jwt.role_claim) = (Some("role".into()), "kind".into())), "");
    }

    fn own(scopes: &str) -> Verified {
        let mut principal = Principal::new(Subject::new(Tenant::new("acme").unwrap(), "root").unwrap());
        principal.scopes = Scopes::from_text(scopes).unwrap();
        principal.role = Some("admin".into());
        let claims = json!({ "aud": ["other", "admin"], "iss": "https://id.example.com" });
        Verified::of(principal, at(NOW + 60), None, None, claims.as_object().unwrap().clone())
    }

    fn wish(json: Value) -> Wish {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn whoever_asks_hands_on_his_tenant_his_audience_and_no_scope_beyond_his_own() {
        let config = config();
        let own = own("token.issue call:** topic.publish:room:* store.read:notes/{id} game.write");
        let granted = |scope: &str| delegate(&own, wish(json!({ "sub": "ann", "scope": scope })), &config);
        let grant =
            granted("call:say topic.publish:room:1 topic.publish:room:{id} store.read:notes/* game.write").unwrap();
        assert_eq!(grant.tenant.as_str(), "acme");
        assert_eq!((grant.audience, grant.issuer.as_deref()), (json!("admin"), Some("https://id.example.com")));
        assert_eq!((grant.ttl, grant.role, grant.client_key), (DEFAULT_TTL, None, None));
        assert_eq!(granted("").unwrap().scopes, Some(Vec::new()));
        for beyond in [
            "topic.publish:**",
            "topic.publish:room:**",
            "topic.publish:room:1:2",
            "topic.subscribe:room:1",
            "store.read:notes/a/b",
            "store.write:notes/1",
            "game.read",
            "call",
        ] {
            let both = format!("call:say {beyond}");
            assert_eq!(granted(&both).err(), Some(Declined::Beyond(1)), "{beyond}");
        }
        assert_eq!(granted("call:x token.issue").err(), Some(Declined::Reissue));
    }

    #[test]
    fn a_wish_is_taken_whole_or_not_at_all() {
        let config = config();
        let own = own("token.issue call:**");
        let declined = |json: Value| delegate(&own, wish(json), &config).err();
        assert_eq!(declined(json!({ "sub": "ann" })), Some(Declined::ScopesMissing));
        assert_eq!(declined(json!({ "sub": "a", "scope": "", "scopes": [] })), Some(Declined::ScopesMissing));
        let with = |name: &str, value: Value| {
            let mut json = json!({ "sub": "ann", "scopes": ["call:say"] });
            json[name] = value;
            declined(json)
        };
        assert!(matches!(with("scopes", json!(["call:a*"])), Some(Declined::Scopes(_))));
        assert!(matches!(with("scopes", json!(["tpic.publish:a"])), Some(Declined::Scopes(_))));
        for ttl in ["", "1", "1 week", "-1h", "400d"] {
            assert_eq!(with("exp", ttl.into()), Some(Declined::Ttl), "{ttl}");
        }
        assert_eq!(with("exp", "7d".into()), None);
        assert_eq!(with("role", "root".into()), Some(Declined::Role));
        assert_eq!(with("role", "admin".into()), None);
        assert_eq!(with("clientKey", "AAAA".into()), Some(Declined::ClientKey));
        for json in [r#"{"sub":"a","scope":"","x":1}"#, r#"{"sub":"a","sub":"b","scope":""}"#, r#"{"scope":""}"#, "[]"]
        {
            assert!(serde_json::from_str::<Wish>(json).is_err(), "{json}");
        }
    }
}
