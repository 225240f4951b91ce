//! What a token says, once it is believed.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::Principal;

/// Longest `jti`, in bytes.
pub(crate) const MAX_ID: usize = 256;

/// What a token says, once it is believed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// Whom it speaks of.
    pub principal: Principal,
    /// From then on it is not believed any more: its `exp` and the leeway.
    pub expires: SystemTime,
    /// Its own name, `jti`.
    pub id: Option<String>,
    /// When it was made, `iat`.
    pub issued: Option<SystemTime>,
    /// Everything that it says.
    pub claims: Map<String, Value>,
}

impl Verified {
    pub(super) fn of(
        principal: Principal,
        expires: SystemTime,
        id: Option<String>,
        issued: Option<SystemTime>,
        claims: Map<String, Value>,
    ) -> Self {
        Self { principal, expires, id, issued, claims }
    }
}
