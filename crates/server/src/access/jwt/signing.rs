//! The key that tokens are made with, and its public half, which this server then believes.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use jsonwebtoken::{
    DecodingKey, EncodingKey,
    jwk::{Jwk, ThumbprintHash},
};
use serde_json::{Value, json};

use super::{
    error::TokenSettingError,
    keys::{self, Key, library},
};
use crate::config::{Config, JwtAlgorithm};

/// A key that signs.
pub(crate) struct SigningKey {
    key: EncodingKey,
    algorithm: JwtAlgorithm,
    id: Option<String>,
}

impl SigningKey {
    /// The private key of `[auth.issue]`, otherwise the secret of `[auth.jwt]`; `None` when there is neither.
    pub(crate) fn configured(config: &Config) -> Result<Option<Self>, TokenSettingError> {
        if let Some(private) = private(config)? {
            return Ok(Some(private.0));
        }
        let jwt = &config.auth.jwt;
        let secret = if jwt.algorithm == Some(JwtAlgorithm::Hs256) { keys::secret(jwt)? } else { None };
        Ok(secret.map(|secret| Self {
            key: EncodingKey::from_secret(secret.expose().trim().as_bytes()),
            algorithm: JwtAlgorithm::Hs256,
            id: jwt.key_id.clone(),
        }))
    }

    /// The token that says this. `None` when the key does not sign.
    pub(crate) fn sign(&self, claims: &Value) -> Option<String> {
        let mut header = json!({ "alg": self.algorithm.as_str(), "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let encode = |part: &Value| Base64UrlUnpadded::encode_string(part.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, library(self.algorithm)).ok()?;
        Some(format!("{signed}.{signature}"))
    }
}

/// The public half of the private key of `[auth.issue]`.
pub(super) fn public(config: &Config) -> Result<Option<Key>, TokenSettingError> {
    Ok(private(config)?.map(|(_, public)| public))
}

/// RSA is not taken: signing with it tells of the key by how long it takes (RUSTSEC-2023-0071).
fn private(config: &Config) -> Result<Option<(SigningKey, Key)>, TokenSettingError> {
    const SETTING: &str = "[auth.issue] private_key_file";
    let Some(path) = &config.auth.issue.private_key_file else { return Ok(None) };
    keys::refuse_readable_by_all(SETTING, path)?;
    let pem = keys::read(SETTING, path)?;
    let of = |key: jsonwebtoken::errors::Result<EncodingKey>, algorithm| {
        let key = key.ok()?;
        let public = Jwk::from_encoding_key(&key, library(algorithm)).ok()?;
        // It follows from the key (RFC 7638), so that it changes when the key does.
        let id = public.thumbprint(ThumbprintHash::SHA256).ok()?;
        let public = Key::new(Some(&id), algorithm, DecodingKey::from_jwk(&public).ok()?)?;
        Some((SigningKey { key, algorithm, id: Some(id) }, public))
    };
    let pair = of(EncodingKey::from_ed_pem(&pem), JwtAlgorithm::EdDsa)
        .or_else(|| of(EncodingKey::from_ec_pem(&pem), JwtAlgorithm::Es256));
    let wanted = "private key of P-256 or Ed25519 in PEM (PKCS#8: BEGIN PRIVATE KEY)";
    let invalid = || TokenSettingError::InvalidKey { setting: SETTING, path: path.clone(), wanted };
    pair.map(Some).ok_or_else(invalid)
}
