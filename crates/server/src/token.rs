//! Tokens outside of a server: for programs that make, read and judge them. The rules are in `docs/AUTH.md`.

use std::{fmt, time::SystemTime};

pub use crate::access::{
    issue::{Grant, IssueError, Issued},
    jwt::{Reason, TokenError, TokenSettingError},
    revocation::{Revocation, RevocationError},
    verified::Verified,
};
use crate::{
    access::{
        issue::{self, Issuer},
        jwt::{self, TokenVerifier},
        revocation::Revocations,
    },
    config::Config,
};

/// Why a token could not be judged, or what the judgement was.
#[derive(Debug)]
#[non_exhaustive]
pub enum VerifyError {
    /// The settings of tokens do not do.
    Setting(TokenSettingError),
    /// The configuration has no key to judge tokens by.
    NotConfigured,
    /// The token lets nobody in.
    Token(TokenError),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(error) => error.fmt(formatter),
            Self::NotConfigured => {
                formatter.write_str("there is no key to judge tokens by; see [auth.jwt] of the configuration")
            }
            Self::Token(error) => write!(formatter, "the token is refused: {error}"),
        }
    }
}

impl std::error::Error for VerifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Setting(error) => error.source(),
            Self::NotConfigured | Self::Token(_) => None,
        }
    }
}

/// Judges a token as a server with this configuration would, of a client with this key. A key set that is elsewhere is
/// got for it.
///
/// # Errors
/// Why it lets nobody in, as a client would never be told.
pub async fn verify(config: &Config, token: &str, client_key: Option<&[u8; 32]>) -> Result<Verified, VerifyError> {
    let verifier = TokenVerifier::new(config).map_err(VerifyError::Setting)?.ok_or(VerifyError::NotConfigured)?;
    verifier.start().await;
    verifier.verify(token, client_key, SystemTime::now()).await.map_err(VerifyError::Token)
}

/// Why no token was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum MakeError {
    /// The settings of tokens do not do.
    Setting(TokenSettingError),
    /// The configuration has no key that signs.
    NotConfigured,
    /// The token cannot be made.
    Token(IssueError),
}

impl fmt::Display for MakeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(error) => error.fmt(formatter),
            Self::NotConfigured => formatter.write_str(
                "there is no key that signs; set [auth.jwt] secret with algorithm = \"HS256\", or [auth.issue] \
                 private_key_file",
            ),
            Self::Token(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for MakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Setting(error) => error.source(),
            Self::NotConfigured | Self::Token(_) => None,
        }
    }
}

/// Makes a token with the key that is configured. Whoever can read that key may: what the token allows is not looked at.
///
/// # Errors
/// When there is no such key, or the token would not be believed.
pub fn issue(config: &Config, grant: &Grant) -> Result<Issued, MakeError> {
    let issuer = Issuer::new(config).map_err(MakeError::Setting)?.ok_or(MakeError::NotConfigured)?;
    issuer.issue(grant, SystemTime::now()).map_err(MakeError::Token)
}

/// What a token says, whether it is to be believed or not.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Said {
    /// How it is signed, and with which key.
    pub header: serde_json::Map<String, serde_json::Value>,
    /// What it claims.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// Takes a token apart and believes nothing of it.
///
/// # Errors
/// When it is none.
pub fn inspect(token: &str) -> Result<Said, Reason> {
    jwt::Parts::split(token, jwt::object).map(|parts| Said { header: parts.header, claims: parts.claims })
}

/// A client's public key from its text in base64url, as `cnf` has it.
pub fn client_key(text: &str) -> Option<[u8; 32]> {
    issue::client_key(text)
}

/// Revokes in the data directory, where a server finds it at its next start. One that runs does not hear of it.
///
/// # Errors
/// When what is there does not read, or cannot be added to: then nothing is revoked.
pub fn revoke(config: &Config, revocation: &Revocation) -> Result<(), RevocationError> {
    Revocations::load(&config.revocations_file())?.revoke_blocking(revocation, SystemTime::now())
}
