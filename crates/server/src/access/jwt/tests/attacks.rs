//! Each attack is refused, and by the defence that is there for it: without it, and it alone, the attack passes.

use super::*;

impl TokenVerifier {
    pub(super) fn lacking(config: &Config, defence: Defence) -> Self {
        Self { without: Some(defence), ..verifier(config) }
    }

    /// How implementations have checked signatures without this defence. `None`: no otherwise than with it.
    pub(in crate::access::jwt) fn check_carelessly(
        &self,
        parts: &Parts<'_>,
        id: Option<&str>,
    ) -> Option<Result<(), Reason>> {
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
pub(in crate::access::jwt) fn careless_seconds(value: &Value) -> Duration {
    let seconds = match value {
        Value::String(text) => text.parse().unwrap_or(LAST_SECOND),
        // A number that is too large for its type becomes the largest.
        value => value.as_u64().unwrap_or_else(|| value.as_f64().unwrap_or_default() as u64),
    };
    Duration::from_secs(seconds.min(LAST_SECOND))
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
