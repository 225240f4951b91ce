//! What all connections of a server share. It is made once and never changes, save for what counts and who is there.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use moorline_protocol::{
    server::{Encryption, ServerConfig},
    session::Registry,
    time::Timestamp,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    Peers,
    access::{Access, jwt::TokenVerifier},
    config::Config,
    handler::States,
    http::Issuing,
    metrics::Metrics,
    once::Once,
    router::Router,
    session::SessionHandle,
    tasks::Tasks,
};

/// What every connection of a server shares.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) endpoint: Arc<ServerConfig>,
    pub(crate) router: Router,
    pub(crate) states: Arc<States>,
    pub(crate) peers: Peers,
    /// Who may have which session back.
    pub(crate) sessions: Mutex<Registry<SessionHandle>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) once: Once,
    pub(crate) access: Access,
    /// Who judges tokens; `None` where none are believed.
    #[expect(dead_code, reason = "connections do not show tokens yet")]
    pub(crate) tokens: Option<Arc<TokenVerifier>>,
    /// What makes tokens; `None` where no key does.
    pub(crate) issuing: Option<Issuing>,
    /// The identity document, encoded once.
    pub(crate) document: Bytes,
    /// Room for WebSockets.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) tasks: Tasks,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<tokio_rustls::TlsAcceptor>,
    #[cfg(feature = "testing")]
    pub(crate) echo: Option<crate::testing::Echo>,
    /// The zero of every [`Timestamp`].
    pub(crate) origin: Instant,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment of a timestamp; rounded up, so that a timer never fires before its time.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        let far = Duration::from_secs(365 * 24 * 3600);
        self.origin + Duration::from_millis(at.as_millis()).min(self.origin.elapsed() + far)
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, Registry<SessionHandle>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn encryption_is_on(&self) -> bool {
        matches!(self.endpoint.encryption, Encryption::On { .. })
    }
}
