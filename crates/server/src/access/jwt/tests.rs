//! What is believed of a token, and what is not.

mod attacks;
mod key_sets;

use std::{fs, path::PathBuf};

use jsonwebtoken::{EncodingKey, crypto::sign};
use moorline_protocol::scope::{InvalidScope, InvalidScopes, Operation};
use serde_json::json;

pub(super) use self::attacks::careless_seconds;
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

/// Files and environment end at a year; a program could set more, and then a token outlived the revocation of it.
#[tokio::test]
async fn regression_a_program_cannot_let_tokens_last_longer_than_revocations() {
    let mut config = settings(Hs256);
    for longest in [Duration::from_secs(10 * 365 * 86_400), Duration::MAX] {
        config.auth.jwt.max_lifetime = longest;
        let token = token(Hs256, &with("exp", json!(NOW + 366 * 86_400)));
        assert_eq!(refused(&verifier(&config), &token).await, Reason::Lifetime.into());
    }
}

/// What is a guess is shut out by address, and what an honest one shows is not.
#[tokio::test]
async fn what_nobody_with_the_key_has_made_is_a_guess_and_what_is_honest_is_none() {
    let verifier = verifier(&settings(Hs256));
    let good = token(Hs256, &claims());
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let unsigned = token_of(r#"{"alg":"none"}"#, &claims().to_string(), &signing_key(Hs256), Hs256);
    for guess in [format!("{signed}.{}", encode("x")), format!("x{good}"), "x".repeat(9_000), String::new(), unsigned] {
        assert!(refused(&verifier, &guess).await.is_guess(), "{guess:.99}");
    }
    assert!(refused(&verifier, &format!("{}.{signature}", signed.replacen('.', "A.", 1))).await.is_guess());
    for (claim, value) in [
        ("exp", json!(NOW - 60)),
        ("aud", json!("other")),
        ("org", json!("rival")),
        ("nbf", json!(NOW + 3_600)),
        ("cnf", json!({ "mlk": encode("another client's, of 32 bytes ...") })),
    ] {
        assert!(!refused(&verifier, &token(Hs256, &with(claim, value))).await.is_guess(), "{claim}");
    }
    let mut config = settings(Hs256);
    config.auth.jwt.key_id = Some("2027".into());
    let older = token_of(r#"{"alg":"HS256","kid":"2026"}"#, &claims().to_string(), &signing_key(Hs256), Hs256);
    assert!(!refused(&self::verifier(&config), &older).await.is_guess(), "its key has gone");
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
