//! What is believed, what is not, and that each attack is stopped by the defence that is there for it.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use jsonwebtoken::{EncodingKey, crypto::sign};
use moorline_protocol::scope::{InvalidScope, InvalidScopes, Operation};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    access::revocation::Revocation,
    config::JwtAlgorithm::{self, EdDsa, Es256, Hs256, Rs256},
};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// When the tests take place.
const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of tests, 32 bytes or more";
const CLIENT: [u8; 32] = [7; 32];

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/access/jwt/testdata")).join(name)
}

fn signing_key(algorithm: JwtAlgorithm) -> EncodingKey {
    match algorithm {
        Hs256 => EncodingKey::from_secret(SECRET.as_bytes()),
        Rs256 => EncodingKey::from_rsa_pem(include_bytes!("testdata/rsa.pem")).unwrap(),
        Es256 => EncodingKey::from_ec_pem(include_bytes!("testdata/ec.pem")).unwrap(),
        EdDsa => EncodingKey::from_ed_pem(include_bytes!("testdata/ed.pem")).unwrap(),
    }
}

/// `[auth.jwt]` with the key of this algorithm, for the audience `app`, tenants in `org`.
fn settings(algorithm: JwtAlgorithm) -> Config {
    let mut config = Config::default();
    config.server.data_dir = "/nowhere/at/all".into();
    let jwt = &mut config.auth.jwt;
    jwt.algorithm = Some(algorithm);
    jwt.audience = vec!["app".into()];
    jwt.tenant_claim = Some("org".into());
    jwt.tenants = vec!["acme".into()];
    match algorithm {
        Hs256 => jwt.secret = Some(crate::config::Secret::new(SECRET)),
        Rs256 => jwt.public_key_file = Some(testdata("rsa.pub.pem")),
        Es256 => jwt.public_key_file = Some(testdata("ec.pub.pem")),
        EdDsa => jwt.public_key_file = Some(testdata("ed.pub.pem")),
    }
    config
}

fn verifier(config: &Config) -> TokenVerifier {
    TokenVerifier::new(config).unwrap().unwrap()
}

fn claims() -> Value {
    json!({
        "sub": "ann", "org": "acme", "aud": "app", "exp": NOW + 60, "iat": NOW, "jti": "t1", "role": "admin",
        "scope": "call:say game.write", "meta": { "name": "Ann" },
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn encode(part: &str) -> String {
    Base64UrlUnpadded::encode_string(part.as_bytes())
}

/// A token of these very texts, signed by this key.
fn token_of(header: &str, claims: &str, key: &EncodingKey, algorithm: JwtAlgorithm) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(signed.as_bytes(), key, keys::library(algorithm)).unwrap();
    format!("{signed}.{signature}")
}

fn token(algorithm: JwtAlgorithm, claims: &Value) -> String {
    let header = json!({ "alg": algorithm.as_str(), "typ": "JWT" }).to_string();
    token_of(&header, &claims.to_string(), &signing_key(algorithm), algorithm)
}

async fn judge(verifier: &TokenVerifier, token: &str) -> Result<Verified, TokenError> {
    verifier.verify(token, Some(&CLIENT), at(NOW)).await
}

async fn refused(verifier: &TokenVerifier, token: &str) -> TokenError {
    judge(verifier, token).await.err().unwrap_or_else(|| panic!("it was believed: {token}"))
}

impl TokenVerifier {
    fn lacking(config: &Config, defence: Defence) -> Self {
        Self { without: Some(defence), ..verifier(config) }
    }

    /// How implementations have checked signatures without this defence. `None`: no otherwise than with it.
    pub(super) fn check_carelessly(&self, parts: &Parts<'_>, id: Option<&str>) -> Option<Result<(), Reason>> {
        let hmac = |secret: &[u8]| {
            let key = jsonwebtoken::DecodingKey::from_secret(secret);
            jsonwebtoken::crypto::verify(parts.signature, parts.signed, &key, jsonwebtoken::Algorithm::HS256).unwrap()
        };
        let passed = match self.without? {
            // The algorithm is the token's, and a key is a key.
            Defence::Algorithm => match parts.header.get("alg").and_then(Value::as_str)? {
                "none" | "None" | "nOnE" => parts.signature.is_empty(),
                "HS256" => self.keys.iter().any(|key| hmac(&key.published)),
                _ => return None,
            },
            // The name is a path, or goes into a query.
            Defence::KeyId => match id?.split_once("SELECT '") {
                Some((_, rest)) => hmac(rest.split('\'').next()?.as_bytes()),
                None => hmac(&fs::read(testdata(id?)).ok()?),
            },
            // No signature is nothing to be wrong.
            Defence::Signature => parts.signature.is_empty(),
            Defence::Once
            | Defence::Numbers
            | Defence::Audience
            | Defence::Tenant
            | Defence::Time
            | Defence::Binding
            | Defence::Revocation => {
                return None;
            }
        };
        passed.then_some(Ok(()))
    }
}

/// How implementations have read times that are none.
pub(super) fn careless_seconds(value: &Value) -> Duration {
    let seconds = match value {
        Value::String(text) => text.parse().unwrap_or(LAST_SECOND),
        // A number that is too large for its type becomes the largest.
        value => value.as_u64().unwrap_or_else(|| value.as_f64().unwrap_or_default() as u64),
    };
    Duration::from_secs(seconds.min(LAST_SECOND))
}

#[tokio::test]
async fn a_token_of_every_algorithm_is_believed() {
    for algorithm in JwtAlgorithm::ALL {
        let verified = judge(&verifier(&settings(algorithm)), &token(algorithm, &claims())).await.unwrap();
        let Verified { principal, expires, id, issued, claims: said } = verified;
        assert_eq!(principal.subject, Subject::new(Tenant::new("acme").unwrap(), "ann").unwrap(), "{algorithm}");
        assert_eq!(principal.role.as_deref(), Some("admin"));
        assert_eq!(principal.meta, json!({ "name": "Ann" }));
        assert!(principal.scopes.may(None, Operation::call("say")));
        assert!(!principal.scopes.may(None, Operation::call("shout")));
        assert_eq!((expires, issued), (at(NOW + 60 + 30), Some(at(NOW))), "the leeway is in it");
        assert_eq!((id.as_deref(), Value::Object(said)), (Some("t1"), claims()));
    }
}

/// Every attack is refused as told, and passes where the defence alone is missing.
#[tokio::test]
async fn every_attack_is_refused_by_its_defence_and_passes_without_it() {
    let (rsa, ed, hs) = (settings(Rs256), settings(EdDsa), settings(Hs256));
    let honest = claims().to_string();
    let unsigned =
        |algorithm: &str| format!("{}.{}.", encode(&json!({ "alg": algorithm }).to_string()), encode(&honest));
    let hmac =
        |header: Value, secret: &[u8]| token_of(&header.to_string(), &honest, &EncodingKey::from_secret(secret), Hs256);
    let public = fs::read(testdata("rsa.pub.pem")).unwrap();
    let known = fs::read(testdata("README.md")).unwrap();
    let named = |id: &str| json!({ "alg": "HS256", "kid": id });
    let twice = format!(r#"{{"sub":"ann",{}"#, &with("sub", "root".into()).to_string()[1..]);
    let twice = token_of(r#"{"alg":"EdDSA"}"#, &twice, &signing_key(EdDsa), EdDsa);
    let ed_token = |claims: Value| token(EdDsa, &claims);
    let bound_to = |key: &[u8]| json!({ "mlk": Base64UrlUnpadded::encode_string(key) });

    let mut named_keys = hs.clone();
    named_keys.auth.jwt.key_id = Some("main".into());
    let malformed = |claim: &str| Reason::Malformed(claim.into());
    let attacks: Vec<(&str, &Config, String, Defence, TokenError)> = vec![
        ("alg none", &rsa, unsigned("none"), Defence::Algorithm, Reason::Algorithm { wanted: Rs256 }.into()),
        ("alg nOnE", &ed, unsigned("nOnE"), Defence::Algorithm, Reason::Algorithm { wanted: EdDsa }.into()),
        (
            "the public key as a secret",
            &rsa,
            hmac(json!({ "alg": "HS256" }), &public),
            Defence::Algorithm,
            Reason::Algorithm { wanted: Rs256 }.into(),
        ),
        (
            "a kid that is a path",
            &named_keys,
            hmac(named("../testdata/README.md"), &known),
            Defence::KeyId,
            Reason::UnknownKey.into(),
        ),
        (
            "a kid that is SQL",
            &named_keys,
            hmac(named("x' UNION SELECT 'mine"), b"mine"),
            Defence::KeyId,
            Reason::UnknownKey.into(),
        ),
        ("no signature", &ed, unsigned("EdDSA"), Defence::Signature, Reason::Signature.into()),
        ("no signature of a secret", &hs, unsigned("HS256"), Defence::Signature, Reason::Signature.into()),
        ("a claim twice", &ed, twice, Defence::Once, Reason::Duplicate.into()),
        ("exp as text", &ed, ed_token(with("exp", "1800000060".into())), Defence::Numbers, malformed("exp").into()),
        (
            "exp as text that is no number",
            &ed,
            ed_token(with("exp", "".into())),
            Defence::Numbers,
            malformed("exp").into(),
        ),
        (
            "exp with a fraction",
            &ed,
            ed_token(with("exp", 1_800_000_000.5.into())),
            Defence::Numbers,
            malformed("exp").into(),
        ),
        ("a huge exp", &ed, ed_token(with("exp", u64::MAX.into())), Defence::Numbers, malformed("exp").into()),
        ("an exp of 1e300", &ed, ed_token(with("exp", 1e300.into())), Defence::Numbers, malformed("exp").into()),
        (
            "an exp of the year 9999",
            &ed,
            ed_token(with("exp", LAST_SECOND.into())),
            Defence::Numbers,
            Reason::Lifetime.into(),
        ),
        ("no aud", &ed, ed_token(without("aud")), Defence::Audience, Reason::Missing("aud".into()).into()),
        ("another aud", &ed, ed_token(with("aud", "other".into())), Defence::Audience, Reason::Audience.into()),
        ("another tenant", &ed, ed_token(with("org", "rival".into())), Defence::Tenant, Reason::Tenant.into()),
        ("expired", &ed, ed_token(with("exp", (NOW - 30).into())), Defence::Time, TokenError::Expired),
        (
            "another client's key",
            &ed,
            ed_token(with("cnf", bound_to(&[8; 32]))),
            Defence::Binding,
            Reason::Binding.into(),
        ),
    ];
    for (name, config, token, defence, expected) in attacks {
        assert_eq!(refused(&verifier(config), &token).await, expected, "{name}");
        let weak = TokenVerifier::lacking(config, defence);
        let passed = judge(&weak, &token).await;
        assert!(passed.is_ok(), "{name} is not stopped by what is meant to stop it: {:?}", passed.err());
    }
}

#[tokio::test]
async fn a_claim_that_stands_twice_would_have_meant_the_second() {
    let claims = format!(r#"{{"sub":"ann","sub":"root","org":"acme","aud":"app","exp":{}}}"#, NOW + 60);
    let token = token_of(r#"{"alg":"EdDSA"}"#, &claims, &signing_key(EdDsa), EdDsa);
    let config = settings(EdDsa);
    assert_eq!(refused(&verifier(&config), &token).await, Reason::Duplicate.into());
    let passed = judge(&TokenVerifier::lacking(&config, Defence::Once), &token).await.unwrap();
    assert_eq!(passed.principal.subject.name(), "root");
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_passes_where_nobody_looks() -> TestResult {
    let directory = tempfile::tempdir()?;
    let mut config = settings(Hs256);
    config.server.data_dir = directory.path().to_owned();
    let token = token(Hs256, &claims());
    let other = token_with(with("jti", "t2".into()), "sub", "bob".into());
    let running = verifier(&config);
    assert!(judge(&running, &token).await.is_ok());
    let one = Revocation::Token { id: "t1".into(), expires: None };
    running.revocations().revoke(one, at(NOW)).await?;
    let bob = Subject::new(Tenant::new("acme")?, "bob")?;
    running.revocations().revoke(Revocation::Subject { subject: bob, before: at(NOW) }, at(NOW)).await?;
    for verifier in [running, verifier(&config)] {
        for token in [&token, &other] {
            assert_eq!(refused(&verifier, token).await, Reason::Revoked.into());
        }
    }
    let weak = TokenVerifier::lacking(&config, Defence::Revocation);
    assert!(judge(&weak, &token).await.is_ok() && judge(&weak, &other).await.is_ok());
    fs::write(config.revocations_file(), "damaged")?;
    let error = TokenVerifier::new(&config).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("revocations:1:"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_changed_anywhere_is_refused() {
    let verifier = verifier(&settings(EdDsa));
    let token = token(EdDsa, &claims());
    for place in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(judge(&verifier, &changed).await.is_err(), "{place}");
    }
}

#[tokio::test]
async fn a_token_is_good_until_its_end_and_the_leeway_and_not_a_second_longer() {
    let verifier = verifier(&settings(Hs256));
    let token = token(Hs256, &with("exp", (NOW + 60).into()));
    let at = |seconds| verifier.verify(&token, None, at(seconds));
    assert!(at(NOW + 89).await.is_ok());
    assert_eq!(at(NOW + 90).await.err(), Some(TokenError::Expired));
    assert_eq!(at(NOW - 31).await.err(), Some(Reason::NotYet.into()), "made in the future");
    assert!(at(NOW - 30).await.is_ok());
    let wrong = with("exp", (NOW - 999).into());
    let wrong = token_with(wrong, "aud", "other".into());
    assert_eq!(refused(&verifier, &wrong).await, Reason::Audience.into(), "a fresh one would not do either");
}

fn token_with(mut claims: Value, name: &str, value: Value) -> String {
    claims[name] = value;
    token(Hs256, &claims)
}

#[tokio::test]
async fn claims_are_of_their_types_and_within_their_bounds() {
    let verifier = verifier(&settings(Hs256));
    let missing = |claim: &str| TokenError::from(Reason::Missing(claim.into()));
    let malformed = |claim: &str| TokenError::from(Reason::Malformed(claim.into()));
    for claim in ["exp", "sub", "org", "aud"] {
        assert_eq!(refused(&verifier, &token(Hs256, &without(claim))).await, missing(claim), "{claim}");
    }
    let long = "x".repeat(MAX_NAME + 1);
    for (claim, value) in [
        ("exp", json!(null)),
        ("exp", json!(-1)),
        ("exp", json!([NOW + 60])),
        ("nbf", json!("0")),
        ("iat", json!(1.5)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!(ANONYMOUS)),
        ("sub", json!(long)),
        ("org", json!("")),
        ("org", json!(["acme"])),
        ("role", json!(["admin"])),
        ("role", json!(long)),
        ("aud", json!(7)),
        ("aud", json!(["app", 7])),
        ("aud", json!(vec!["app"; MOST_AUDIENCES + 1])),
        ("jti", json!(7)),
        ("jti", json!("x".repeat(MAX_ID + 1))),
        ("scope", json!(["call:say"])),
        ("cnf", json!({ "mlk": "AAAA" })),
        ("cnf", json!({ "mlk": 7 })),
        ("cnf", json!({ "mlk": "A".repeat(44) })),
    ] {
        let name = format!("{claim} {value:.40}");
        assert_eq!(refused(&verifier, &token(Hs256, &with(claim, value))).await, malformed(claim), "{name}");
    }
    for (claim, value, reason) in [
        ("nbf", json!(NOW + 31), Reason::NotYet),
        ("iat", json!(NOW + 31), Reason::NotYet),
        ("exp", json!(NOW + 366 * 86_400), Reason::Lifetime),
        ("iat", json!(NOW + 59 - 365 * 86_400), Reason::Lifetime),
        ("aud", json!([]), Reason::Audience),
        ("aud", json!(["other"]), Reason::Audience),
        ("scopes", json!(["call:say"]), Reason::ScopeTwice),
        ("cnf", json!({ "jkt": "x" }), Reason::UnknownBinding),
        ("cnf", json!(null), Reason::UnknownBinding),
        (
            "scope",
            json!("call:say topic.read:x"),
            Reason::Scopes(InvalidScopes::Scope { place: 1, error: InvalidScope::Kind { nearest: None } }),
        ),
    ] {
        let refusal = refused(&verifier, &token(Hs256, &with(claim, value))).await;
        assert_eq!(refusal, reason.into(), "{claim}");
    }
    for (claim, value) in [
        ("nbf", json!(NOW + 30)),
        ("iat", json!(NOW + 60 - 365 * 86_400)),
        ("exp", json!(NOW - 29)),
        ("aud", json!(["other", "app"])),
        ("meta", json!([{}])),
        ("anything", json!({ "else": 1 })),
    ] {
        assert!(judge(&verifier, &token(Hs256, &with(claim, value))).await.is_ok(), "{claim}");
    }
    let header = r#"{"alg":"HS256","crit":["exp"]}"#;
    let critical = token_of(header, &claims().to_string(), &signing_key(Hs256), Hs256);
    assert_eq!(refused(&verifier, &critical).await, Reason::Critical.into());
}

#[tokio::test]
async fn without_a_list_of_scopes_there_is_none_and_a_list_may_be_empty() {
    let verifier = verifier(&settings(Hs256));
    let scopes = async |claims: &Value| judge(&verifier, &token(Hs256, claims)).await.unwrap().principal.scopes;
    assert_eq!(scopes(&without("scope")).await, Scopes::Unlisted);
    assert_eq!(scopes(&with("scope", "".into())).await, Scopes::Listed(Vec::new()));
    let mut list = without("scope");
    list["scopes"] = json!(["call:two words", "game.write"]);
    assert!(scopes(&list).await.may(None, Operation::call("two words")));
}

#[tokio::test]
async fn what_is_not_configured_is_not_asked_for_save_for_an_audience() {
    let mut config = settings(Hs256);
    let jwt = &mut config.auth.jwt;
    (jwt.audience, jwt.tenant_claim, jwt.tenants) = (Vec::new(), None, Vec::new());
    let open = verifier(&config);
    let verified = judge(&open, &token(Hs256, &json!({ "sub": "ann", "exp": NOW + 1, "iss": "x" }))).await.unwrap();
    assert_eq!(verified.principal, Principal::new(Subject::new(Tenant::default(), "ann").unwrap()));
    assert_eq!(refused(&open, &token(Hs256, &claims())).await, Reason::AudienceNotSet.into());

    config.auth.jwt.issuer = vec!["https://id.example.com".into()];
    let strict = verifier(&config);
    let of = |issuer: Value| token(Hs256, &json!({ "sub": "ann", "exp": NOW + 1, "iss": issuer }));
    assert!(judge(&strict, &of("https://id.example.com".into())).await.is_ok());
    assert_eq!(refused(&strict, &of("https://id.example.com/".into())).await, Reason::Issuer.into());
    assert_eq!(refused(&strict, &of(json!(["https://id.example.com"]))).await, Reason::Malformed("iss".into()).into());
    let unsaid = token(Hs256, &json!({ "sub": "ann", "exp": NOW + 1 }));
    assert_eq!(refused(&strict, &unsaid).await, Reason::Missing("iss".into()).into());
}

#[tokio::test]
async fn a_bound_token_is_its_own_clients_alone() {
    let mut config = settings(EdDsa);
    let verifier_of = |config: &Config| verifier(config);
    let bound = token(EdDsa, &with("cnf", json!({ "mlk": Base64UrlUnpadded::encode_string(&CLIENT) })));
    let (loose, free) = (verifier_of(&config), token(EdDsa, &claims()));
    assert!(loose.verify(&bound, Some(&CLIENT), at(NOW)).await.is_ok());
    for key in [None, Some(&[8; 32])] {
        assert_eq!(loose.verify(&bound, key, at(NOW)).await.err(), Some(Reason::Binding.into()));
    }
    assert_eq!(loose.verify_bearer(&bound, at(NOW)).await.err(), Some(Reason::Binding.into()));
    config.auth.jwt.require_binding = true;
    let strict = verifier_of(&config);
    assert_eq!(strict.verify(&free, Some(&CLIENT), at(NOW)).await.err(), Some(Reason::NotBound.into()));
    assert!(strict.verify(&bound, Some(&CLIENT), at(NOW)).await.is_ok());
    assert!(strict.verify_bearer(&free, at(NOW)).await.is_ok(), "a request has no key to be bound to");
}

#[tokio::test]
async fn keys_are_told_apart_by_their_names_and_the_previous_one_ends_on_its_date() {
    let mut config = settings(EdDsa);
    let jwt = &mut config.auth.jwt;
    (jwt.key_id, jwt.previous_key_id) = (Some("new".into()), Some("old".into()));
    (jwt.previous_public_key_file, jwt.previous_until) = (Some(testdata("ed.pub.pem")), Some(at(NOW + 10)));
    jwt.public_key_file = Some(testdata("ed2.pub.pem"));
    let verifier = verifier(&config);
    let other = EncodingKey::from_ed_pem(include_bytes!("testdata/ed2.pem")).unwrap();
    let (new, old) = (other, signing_key(EdDsa));
    let of = |id: Option<&str>, key: &EncodingKey| {
        let header = id.map_or(json!({ "alg": "EdDSA" }), |id| json!({ "alg": "EdDSA", "kid": id }));
        token_of(&header.to_string(), &claims().to_string(), key, EdDsa)
    };
    let at = async |seconds, token: String| verifier.verify(&token, None, at(seconds)).await.err();
    for (id, key) in [(Some("new"), &new), (None, &new), (Some("old"), &old), (None, &old)] {
        assert_eq!(at(NOW, of(id, key)).await, None, "{id:?}");
    }
    assert_eq!(at(NOW, of(Some("new"), &old)).await, Some(Reason::Signature.into()));
    assert_eq!(at(NOW, of(Some("NEW"), &new)).await, Some(Reason::UnknownKey.into()));
    assert_eq!(at(NOW, of(Some(""), &new)).await, Some(Reason::UnknownKey.into()));
    assert_eq!(at(NOW + 9, of(Some("old"), &old)).await, None);
    assert_eq!(at(NOW + 10, of(Some("old"), &old)).await, Some(Reason::UnknownKey.into()));
    assert_eq!(at(NOW + 10, of(None, &old)).await, Some(Reason::Signature.into()));
    let named = json!({ "alg": "EdDSA", "kid": 7 }).to_string();
    let named = token_of(&named, &claims().to_string(), &new, EdDsa);
    assert_eq!(at(NOW, named).await, Some(Reason::UnknownKey.into()));
}

#[test]
fn settings_that_do_not_make_a_verifier_are_named_with_the_remedy() {
    let error = |change: &dyn Fn(&mut JwtSection)| {
        let mut config = Config::default();
        change(&mut config.auth.jwt);
        TokenVerifier::new(&config).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let secret = |text: &str| Some(crate::config::Secret::new(text));
    assert_eq!(error(&|_| {}), "");
    assert!(error(&|jwt| jwt.secret = secret(SECRET)).contains("algorithm = \"EdDSA\""));
    assert!(error(&|jwt| jwt.audience = vec!["app".into()]).contains("public_key_file"));
    let hs = |jwt: &mut JwtSection| (jwt.algorithm, jwt.secret) = (Some(Hs256), secret(SECRET));
    assert_eq!(error(&hs), "");
    for short in ["", &SECRET[..31], &format!("  {}\n", &SECRET[..31])] {
        assert!(error(&|jwt| (jwt.algorithm, jwt.secret) = (Some(Hs256), secret(short))).contains("openssl rand"));
    }
    let both = error(&|jwt| {
        hs(jwt);
        jwt.jwks_file = Some("x".into());
    });
    assert!(both.contains("secret and jwks_file exclude each other"), "{both}");
    assert!(error(&|jwt| (jwt.algorithm, jwt.secret) = (Some(EdDsa), secret(SECRET))).contains("no key of EdDSA"));
    let url = crate::config::JwksUrl::parse("http://localhost:1/");
    assert!(error(&|jwt| (jwt.algorithm, jwt.jwks_url) = (Some(Hs256), url.clone())).contains("no key of HS256"));
    let previous = error(&|jwt| {
        hs(jwt);
        jwt.previous_secret = secret(SECRET);
    });
    assert!(previous.contains("previous_until"), "{previous}");
    let tenants = error(&|jwt| {
        hs(jwt);
        jwt.tenants = vec!["acme".into()];
    });
    assert!(tenants.contains("tenant_claim"), "{tenants}");
    let leeway = error(&|jwt| {
        hs(jwt);
        jwt.leeway = Duration::from_secs(3_601);
    });
    assert!(leeway.contains("at most 1h"), "{leeway}");
    for setting in ["public_key_file", "jwks_file"] {
        let missing = error(&|jwt| {
            jwt.algorithm = Some(EdDsa);
            let path = if setting == "jwks_file" { &mut jwt.jwks_file } else { &mut jwt.public_key_file };
            *path = Some("/nowhere/at/all".into());
        });
        assert!(missing.starts_with(&format!("{setting} /nowhere/at/all cannot be read")), "{missing}");
    }
    #[cfg(not(feature = "tls"))]
    {
        let url = crate::config::JwksUrl::parse("https://localhost:1/");
        assert!(error(&|jwt| (jwt.algorithm, jwt.jwks_url) = (Some(EdDsa), url.clone())).contains("feature `tls`"));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_secret_may_stand_in_a_file_that_is_not_everybodys() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;

    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), format!("{SECRET}\n"))?;
    let mut config = settings(Hs256);
    (config.auth.jwt.secret, config.auth.jwt.secret_file) = (None, Some(file.path().to_owned()));
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640))?;
    assert!(judge(&verifier(&config), &token(Hs256, &claims())).await.is_ok());
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
    let error = TokenVerifier::new(&config).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("0644") && error.contains("chmod 640"), "{error}");
    Ok(())
}

/// A server of one document on this machine, and how often it was asked for it.
struct Documents {
    address: std::net::SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Documents {
    async fn serve(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let documents = Self { address, answer: answer.clone(), asked: asked.clone() };
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
                let answer = answer.lock().unwrap().clone();
                // Whoever has read enough goes away before the end.
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        documents
    }

    fn say(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn config(&self) -> Config {
        let mut config = settings(EdDsa);
        config.auth.jwt.public_key_file = None;
        config.auth.jwt.jwks_url = crate::config::JwksUrl::parse(&format!("http://{}/keys?a=b", self.address));
        config
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A set with the test's key under these names.
fn set(ids: &[&str]) -> String {
    let key = jsonwebtoken::jwk::Jwk::from_encoding_key(&signing_key(EdDsa), jsonwebtoken::Algorithm::EdDSA).unwrap();
    let keys: Vec<Value> = ids
        .iter()
        .map(|id| {
            let mut key = serde_json::to_value(&key).unwrap();
            key["kid"] = (*id).into();
            key
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

fn token_named(id: &str) -> String {
    let header = json!({ "alg": "EdDSA", "kid": id }).to_string();
    token_of(&header, &claims().to_string(), &signing_key(EdDsa), EdDsa)
}

/// Moves the clock of tokio, and lets it run on by itself: sockets are not in it.
async fn later(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_unknown_name_has_the_key_set_read_again_but_not_over_and_over() {
    let documents = Documents::serve(ok(&set(&["a"]))).await;
    let verifier = verifier(&documents.config());
    verifier.start().await;
    assert!(judge(&verifier, &token_named("a")).await.is_ok());
    assert_eq!(documents.asked(), 1);
    documents.say(ok(&set(&["b"])));
    for _ in 0..5 {
        assert_eq!(refused(&verifier, &token_named("b")).await, Reason::UnknownKey.into(), "it was just read");
    }
    assert_eq!(documents.asked(), 1);
    later(Duration::from_secs(30)).await;
    let (token, other) = (token_named("b"), token_named("c"));
    let (one, two, none) = tokio::join!(judge(&verifier, &token), judge(&verifier, &token), judge(&verifier, &other));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(none.err(), Some(Reason::UnknownKey.into()));
    assert_eq!(documents.asked(), 2, "once for all who ask");
    assert_eq!(refused(&verifier, &token_named("a")).await, Reason::UnknownKey.into(), "it is not in the set any more");
}

#[tokio::test]
async fn a_key_set_that_is_not_read_leaves_the_keys_from_before() {
    let documents = Documents::serve(ok(&set(&["a"]))).await;
    let verifier = verifier(&documents.config());
    verifier.start().await;
    let key_set = verifier.key_set.as_ref().unwrap();
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n{}", "x".repeat(keys::MOST_BYTES + 1));
    for answer in [
        String::new(),
        "nonsense".to_owned(),
        "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        format!("HTTP/1.1 302 Found\r\nLocation: http://{}/other\r\nContent-Length: 0\r\n\r\n", documents.address),
        ok("{}"),
        ok(r#"{"keys":[]}"#),
        ok(&set(&["x"; 65])),
        ok(&"x".repeat(keys::MOST_BYTES + 1)),
        endless,
    ] {
        documents.say(answer.clone());
        let before = documents.asked();
        key_set.refresh().await;
        assert_eq!(documents.asked(), before + 1, "{answer:.50}");
        assert!(judge(&verifier, &token_named("a")).await.is_ok(), "{answer:.50}");
    }
}

#[tokio::test]
async fn without_its_key_set_a_server_believes_nothing_and_asks_again() {
    let documents = Documents::serve("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    let verifier = verifier(&documents.config());
    verifier.start().await;
    assert_eq!(refused(&verifier, &token_named("a")).await, Reason::NoKeys.into());
    documents.say(ok(&set(&["a"])));
    later(Duration::from_secs(30)).await;
    assert!(judge(&verifier, &token_named("a")).await.is_ok());
}

/// The clock is tokio's and stands while something is under way, so a server that says nothing is waited for no longer
/// than it takes.
#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = settings(EdDsa);
    config.auth.jwt.public_key_file = None;
    let url = format!("http://{}/", listener.local_addr().unwrap());
    config.auth.jwt.jwks_url = crate::config::JwksUrl::parse(&url);
    let started = tokio::time::Instant::now();
    verifier(&config).start().await;
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_key_set_is_read_again_on_its_interval() -> TestResult {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), set(&["a"]))?;
    let mut config = settings(EdDsa);
    let jwt = &mut config.auth.jwt;
    (jwt.public_key_file, jwt.jwks_file) = (None, Some(file.path().to_owned()));
    let verifier = verifier(&config);
    assert!(judge(&verifier, &token_named("a")).await.is_ok());
    fs::write(file.path(), set(&["b"]))?;
    let started = tokio::time::Instant::now();
    let gone = async {
        while judge(&verifier, &token_named("a")).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = verifier.keep_fresh() => {}
        () = gone => {}
    }
    let took = started.elapsed();
    assert!((Duration::from_secs(600)..Duration::from_secs(602)).contains(&took), "{took:?}");
    assert!(judge(&verifier, &token_named("b")).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_token_without_a_name_is_tried_on_few_keys_only() -> TestResult {
    let file = tempfile::NamedTempFile::new()?;
    let mut config = settings(EdDsa);
    let jwt = &mut config.auth.jwt;
    (jwt.public_key_file, jwt.jwks_file) = (None, Some(file.path().to_owned()));
    let unnamed = token(EdDsa, &claims());
    fs::write(file.path(), set(&["a"; MOST_TRIED]))?;
    assert!(judge(&verifier(&config), &unnamed).await.is_ok());
    fs::write(file.path(), set(&["a"; MOST_TRIED + 1]))?;
    assert_eq!(refused(&verifier(&config), &unnamed).await, Reason::KeyIdMissing.into());
    Ok(())
}
