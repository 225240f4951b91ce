//! Who somebody is and what he may do, whichever way he came in.

use moorline_protocol::{
    scope::Scopes,
    subject::{Subject, Tenant},
};

/// Who a client is: what a token, an auth handler or the rule for everybody makes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The tenant, and the name in it.
    pub subject: Subject,
    /// One word for what it is here, as `admin`; for the application, which gives it its meaning.
    pub role: Option<String>,
    /// What it may do.
    pub scopes: Scopes,
    /// What else is known of it. The client may read it.
    pub meta: serde_json::Value,
}

impl Principal {
    /// Somebody of this name, of no role, without a list of scopes.
    pub fn new(subject: Subject) -> Self {
        Self { subject, role: None, scopes: Scopes::Unlisted, meta: serde_json::Value::Null }
    }

    /// Everybody who has not signed in.
    pub fn anonymous(scopes: Scopes) -> Self {
        Self { scopes, ..Self::new(Subject::anonymous(Tenant::default())) }
    }
}
