//! What a server says of itself: the keys that it accepts, and the identity document that names them.
//!
//! Both change together when keys are rotated, so they are behind one door. See `docs/PROTOCOL.md` § Identity document.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use moorline_protocol::{
    key::{Identity, IdentityCell},
    record::{self, Suite},
    server::{Encryption, ServerConfig},
};

/// The keys of a running server, and the document that goes with them.
pub(crate) struct Published {
    /// The one that handshakes read; `None` without encryption.
    keys: Option<IdentityCell>,
    suites: Vec<&'static str>,
    document: RwLock<Bytes>,
}

impl Published {
    pub(crate) fn new(endpoint: &ServerConfig) -> Self {
        let (keys, suites) = match &endpoint.encryption {
            Encryption::On { identity, suites } => (Some(identity.clone()), names(suites)),
            Encryption::Off => (None, Vec::new()),
        };
        let document = RwLock::new(document(keys.as_ref().map(IdentityCell::load).as_deref(), &suites));
        Self { keys, suites, document }
    }

    /// What a GET on the endpoint answers.
    pub(crate) fn document(&self) -> Bytes {
        self.document.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys that are accepted now; `None` without encryption.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.keys.as_ref().map(IdentityCell::load)
    }

    /// The suites that clients may choose.
    pub(crate) fn suites(&self) -> &[&'static str] {
        &self.suites
    }

    /// Accepts these keys and no others from now on, and says so. Connections that stand are not touched. Without
    /// encryption there is nothing to replace.
    #[cfg_attr(not(unix), allow(dead_code, reason = "only commands replace keys, and they need a socket"))]
    pub(crate) fn replace(&self, identity: Identity) {
        let Some(keys) = &self.keys else { return };
        let document = document(Some(&identity), &self.suites);
        // Accepted first: whoever reads the new document and dials at once is let in.
        keys.replace(identity);
        *self.document.write().unwrap_or_else(PoisonError::into_inner) = document;
    }
}

fn names(suites: &[Suite]) -> Vec<&'static str> {
    suites.iter().map(|suite| suite.name()).collect()
}

fn document(identity: Option<&Identity>, suites: &[&'static str]) -> Bytes {
    let keys = identity.into_iter().flat_map(Identity::public_keys);
    let document = serde_json::json!({
        "moorline": 1,
        "versions": [record::VERSION],
        "encryption": if identity.is_some() { "on" } else { "off" },
        "keys": keys.map(|key| key.to_string()).collect::<Vec<_>>(),
        "suites": suites,
    });
    Bytes::from(document.to_string())
}

#[cfg(test)]
mod tests {
    use moorline_protocol::{frame::Epoch, key::StaticKey};

    use super::*;

    #[test]
    fn the_document_names_the_keys_that_are_accepted() {
        let [one, two] = [[1; 32], [2; 32]].map(StaticKey::from_private);
        let (first, second) = (one.public().to_string(), two.public().to_string());
        let cell = IdentityCell::from(Identity::new(one.clone()));
        let encryption = Encryption::On { identity: cell.clone(), suites: Suite::ALL.to_vec() };
        let published = Published::new(&ServerConfig::new(encryption, Epoch([0; 8])));
        let text = || String::from_utf8(published.document().to_vec()).unwrap();
        assert!(text().contains(&first) && !text().contains(&second));
        published.replace(Identity::new(one).with_next(two));
        assert!(text().contains(&format!("\"keys\":[\"{first}\",\"{second}\"]")), "{}", text());
        assert_eq!(cell.load().public_keys().count(), 2);
    }
}
