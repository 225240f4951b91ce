//! What a running server does when it is asked to. Whoever asks has been let in already.

use std::{process, sync::Arc, time::SystemTime};

use moorline_protocol::{
    entropy::Entropy,
    key::Identity,
    subject::{InvalidSubject, Subject, Tenant},
};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use super::{Keys, Outcome, Part, Refusal, RefusalCode, Reloaded, Request, Revocation, Status};
use crate::{
    access::revocation,
    identity::{self, IdentityError, Rotation},
    shared::Shared,
    status::ServerStatus,
};

/// Carries out requests for one server.
pub(crate) struct Commands {
    shared: Arc<Shared>,
    readiness: watch::Receiver<ServerStatus>,
    /// The addresses that are listened on.
    listen: Vec<String>,
    /// Whether the identity is one that the configuration names; else the program brought it.
    configured: bool,
    /// Held by who changes something: two steps of a rotation at once would lose one.
    changing: Mutex<()>,
}

impl Commands {
    pub(crate) fn new(
        shared: Arc<Shared>,
        readiness: watch::Receiver<ServerStatus>,
        listen: Vec<String>,
        configured: bool,
    ) -> Self {
        Self { shared, readiness, listen, configured, changing: Mutex::new(()) }
    }

    /// Does what is asked, and gives the answer's text.
    pub(crate) async fn run(&self, request: Request) -> Result<Value, Refusal> {
        match request {
            Request::IdentityNext => self.rotate(Rotation::Next).await,
            Request::IdentityPromote => self.rotate(Rotation::Promote).await,
            Request::IdentityRetire => self.rotate(Rotation::Retire).await,
            Request::TokenRevoke(what) => self.revoke(what).await,
            Request::Reload => self.reload().await,
            Request::Status => answer(self.status()),
        }
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Value, Refusal> {
        let _alone = self.changing.lock().await;
        if self.shared.published.identity().is_none() {
            return Err(Refusal::new(RefusalCode::Failed, "encryption is off: this server has no identity keys"));
        }
        if !self.configured {
            let message = "the identity of this server is given by the program that embeds it, and changed there";
            return Err(Refusal::new(RefusalCode::Failed, message));
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|_| Refusal::new(RefusalCode::Failed, "the system gives no random bytes"))?;
        let shared = self.shared.clone();
        // Files, which wait for a disk.
        let rotated = blocking(move || identity::rotate(&shared.config, rotation, &mut Entropy::new(seed))).await?;
        let identity = rotated.map_err(|error| failed(&error))?;
        let keys = Keys::of(&identity);
        self.accept(identity);
        answer(keys)
    }

    fn accept(&self, identity: Identity) {
        let keys: Vec<String> = identity.keys().map(|(role, key)| format!("{} ({role})", key.public())).collect();
        self.shared.published.replace(identity);
        tracing::info!(keys = keys.join(", "), "the identity keys that are accepted have changed");
    }

    /// Who came in by what is revoked hears of it at once: see `Shared::end_revoked`.
    async fn revoke(&self, what: Revocation) -> Result<Value, Refusal> {
        let Some(tokens) = &self.shared.gate.tokens else {
            let message = "this server believes no tokens, so that there are none to revoke";
            return Err(Refusal::new(RefusalCode::Unsupported, message));
        };
        let (now, wrong) =
            (SystemTime::now(), |error: InvalidSubject| Refusal::new(RefusalCode::Failed, error.to_string()));
        let revocation = match what {
            Revocation::Token { jti } => revocation::Revocation::Token { id: jti, expires: None },
            Revocation::Subject { subject, tenant } => {
                let tenant = tenant.map_or(Ok(Tenant::default()), |tenant| Tenant::new(&tenant)).map_err(wrong)?;
                let subject = Subject::new(tenant, &subject).map_err(wrong)?;
                revocation::Revocation::Subject { subject, before: now }
            }
        };
        let revoked = tokens.revocations().revoke(revocation, now).await;
        revoked.map_err(|error| Refusal::new(RefusalCode::Failed, error.to_string()))?;
        answer(serde_json::json!({ "revoked": true }))
    }

    async fn reload(&self) -> Result<Value, Refusal> {
        let _alone = self.changing.lock().await;
        let mut parts = Vec::new();
        parts.extend(self.reload_identity().await?);
        #[cfg(feature = "tls")]
        parts.extend(self.reload_certificate().await?);
        answer(Reloaded { parts })
    }

    async fn reload_identity(&self) -> Result<Option<Part>, Refusal> {
        let Some(now) = self.shared.published.identity().filter(|_| self.configured) else { return Ok(None) };
        let shared = self.shared.clone();
        let found = blocking(move || identity::reload(&shared.config)).await?;
        let (outcome, problem) = match found {
            Ok(None) => return Ok(None),
            Ok(Some(found)) if Keys::of(&found) == Keys::of(&now) => (Outcome::Unchanged, None),
            Ok(Some(found)) => {
                self.accept(found);
                (Outcome::Changed, None)
            }
            Err(error) => {
                tracing::warn!(%error, "the identity could not be read again; the keys stay as they are");
                (Outcome::Kept, Some(error.to_string()))
            }
        };
        Ok(Some(Part { name: "identity".to_owned(), outcome, problem }))
    }

    #[cfg(feature = "tls")]
    async fn reload_certificate(&self) -> Result<Option<Part>, Refusal> {
        let Some(certificate) = self.shared.certificate.clone() else { return Ok(None) };
        let reloading = certificate.clone();
        let (outcome, problem) = match blocking(move || reloading.reload()).await? {
            Ok(true) => {
                tracing::info!(certificate = %certificate.certificate(), "a new TLS certificate is served");
                (Outcome::Changed, None)
            }
            Ok(false) => (Outcome::Unchanged, None),
            Err(error) => {
                let problem = error.with_cause();
                tracing::warn!(error = problem, "the TLS certificate does not do; the one before is still served");
                (Outcome::Kept, Some(problem))
            }
        };
        Ok(Some(Part { name: "certificate".to_owned(), outcome, problem }))
    }

    fn status(&self) -> Status {
        let shared = &self.shared;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            uptime_ms: shared.now().as_millis(),
            state: self.readiness.borrow().name().to_owned(),
            listen: self.listen.clone(),
            connections: shared.config.limits.connections.saturating_sub(shared.connections.available_permits()),
            sessions: shared.peers.count(),
            #[cfg(feature = "tls")]
            certificate: shared.certificate.as_ref().map(|tls| tls.certificate().to_string()),
            #[cfg(not(feature = "tls"))]
            certificate: None,
            keys: shared.published.identity().map_or_else(Vec::new, |identity| Keys::of(&identity).keys),
        }
    }
}

fn answer(value: impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(|error| Refusal::new(RefusalCode::Failed, error))
}

fn failed(error: &IdentityError) -> Refusal {
    match std::error::Error::source(error) {
        Some(cause) => Refusal::new(RefusalCode::Failed, format_args!("{error}: {cause}")),
        None => Refusal::new(RefusalCode::Failed, error),
    }
}

/// Runs what waits for a disk where nothing else has to wait for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refusal::new(RefusalCode::Failed, "the server is going away"))
}
