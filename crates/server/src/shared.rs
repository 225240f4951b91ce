//! What all connections of a server share. It is made once and never changes, save for what counts and who is there.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use axum::http::{HeaderName, HeaderValue};
use moorline_protocol::{
    code::Code,
    server::{Encryption, ServerConfig},
    session::Registry,
    time::Timestamp,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};

use crate::{
    access::{
        Access, Attempt, Callers,
        gate::{Entry, Gate, Outside, TurnedAway},
        issue::Issuing,
    },
    audit::{About, Audit},
    channels::Channels,
    config::Config,
    limits::{Held, Limits, Origin, TooMuch},
    metrics::Metrics,
    newcomer::SessionHandle,
    once::Once,
    peer::{Closing, Peer},
    peers::Peers,
    policy::Declarations,
    published::Published,
    router::Router,
    states::States,
    tasks::Tasks,
    warnings::Warnings,
};

/// What every connection of a server shares.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) endpoint: Arc<ServerConfig>,
    pub(crate) router: Router,
    pub(crate) channels: Arc<Channels>,
    /// Which channels there are.
    pub(crate) declared: Arc<Declarations>,
    pub(crate) states: Arc<States>,
    pub(crate) peers: Peers,
    /// Who may have which session back.
    pub(crate) sessions: Mutex<Registry<SessionHandle>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) once: Once,
    pub(crate) access: Access,
    pub(crate) gate: Gate,
    /// What makes tokens; `None` where no key does.
    pub(crate) issuing: Option<Issuing>,
    pub(crate) callers: Callers,
    pub(crate) limits: Limits,
    pub(crate) audit: Audit,
    pub(crate) warnings: Warnings,
    /// The keys that are accepted, and the identity document.
    pub(crate) published: Published,
    /// Room for WebSockets.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) tasks: Tasks,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<tokio_rustls::TlsAcceptor>,
    /// The certificate of `[tls]`, which follows its files.
    #[cfg(feature = "tls")]
    pub(crate) certificate: Option<Arc<crate::tls::Tls>>,
    /// What browsers are told with every answer.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
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

    /// Ends whoever came in by a token that is revoked, as soon as it is. One who is away comes back to nothing.
    pub(crate) async fn end_revoked(&self, mut changed: watch::Receiver<u64>) {
        while changed.changed().await.is_ok() {
            self.peers.all().iter().for_each(|peer| self.end_if_revoked(peer));
        }
    }

    /// Asked of everybody when something is revoked, and of each who comes in, for what was revoked at that moment.
    pub(crate) fn end_if_revoked(&self, peer: &Peer) {
        if self.gate.is_revoked(&peer.entry()) {
            peer.end(Closing::Revoked);
        }
    }

    /// A place among the TCP connections of an address that are no WebSocket yet. A trusted proxy comes for others.
    pub(crate) fn connect(&self, address: SocketAddr) -> Result<Option<Held<Origin>>, TooMuch> {
        if self.callers.trusts(address.ip()) {
            return Ok(None);
        }
        self.limits.connect(address.ip()).inspect_err(|too_much| {
            self.metrics.limit(too_much.limit);
            self.audit.limit_address(About::address(address), too_much.limit);
        })
    }

    /// Who somebody is. What he shows and guesses counts, however it was shown.
    pub(crate) async fn judge(&self, attempt: Attempt) -> Result<Entry, Outside> {
        let address = attempt.address.ip();
        let _undecided = match attempt.shows_something() {
            true => Some(self.limits.attempt(address, Instant::now()).map_err(Outside::TooMuch)?),
            false => None,
        };
        // In a box: what it may take to judge (a key set over HTTP, for one) is twice all else that a socket needs, and
        // who is silent never gets so far.
        let deciding = Box::pin(self.gate.decide(attempt, SystemTime::now()));
        let judged = timeout(self.config.timeouts.decision, deciding).await;
        judged.unwrap_or_else(|_| Err(TurnedAway::new(Code::SERVER_FULL, "the decision took too long"))).map_err(
            |away| {
                if away.is_guess {
                    self.limits.fail(address, Instant::now());
                }
                Outside::TurnedAway(away)
            },
        )
    }

    pub(crate) fn encryption_is_on(&self) -> bool {
        matches!(self.endpoint.encryption, Encryption::On { .. })
    }
}
