//! The internal listener: what those who run the server ask of it, and no client ever.
//!
//! It owns an accept loop of its own, so that it answers before the server serves and for as long as it drains. It must
//! never share a route with the public listener: whoever reaches it is trusted with what it tells.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRef, State},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    listener::{self, Terms},
    metrics::{self, Metrics},
    shared::Shared,
    status::ServerStatus,
    tasks::Tasks,
};

/// TCP connections at once: scrapers, probes, a person or two.
const SOCKETS: usize = 64;

/// How long an answer that is on its way may still take at the very end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The internal listener at work. Dropping it ends it.
pub(crate) struct Internal(Tasks);

impl Internal {
    /// Begins to answer.
    pub(crate) fn start(listener: TcpListener, shared: &Arc<Shared>, readiness: watch::Receiver<ServerStatus>) -> Self {
        let tasks = Tasks::default();
        let terms = Terms {
            router: routes(Answers { readiness, metrics: shared.metrics.clone() }),
            sockets: SOCKETS,
            limited: None,
            head: shared.config.timeouts.upgrade,
            tasks: tasks.clone(),
            proxies: None,
            #[cfg(feature = "tls")]
            tls: None,
        };
        let stopping = tasks.clone();
        tasks.spawn(async move { listener::accept(listener, terms, stopping.stopping()).await });
        Self(tasks)
    }

    /// Lets answers that are on their way out, and ends.
    pub(crate) async fn finish(self) {
        self.0.finish(FAREWELL).await;
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What an operator should know of the address.
pub(crate) fn warning(address: SocketAddr) -> Option<String> {
    (!address.ip().is_loopback()).then(|| {
        format!("the internal listener {address} is open to other machines: whoever reaches it needs no sign-in")
    })
}

/// What the answers are made from.
#[derive(Clone)]
struct Answers {
    readiness: watch::Receiver<ServerStatus>,
    metrics: Arc<Metrics>,
}

impl FromRef<Answers> for watch::Receiver<ServerStatus> {
    fn from_ref(answers: &Answers) -> Self {
        answers.readiness.clone()
    }
}

impl FromRef<Answers> for Arc<Metrics> {
    fn from_ref(answers: &Answers) -> Self {
        answers.metrics.clone()
    }
}

fn routes(answers: Answers) -> Router {
    Router::new()
        .route("/metrics", get(exposition))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(answers)
}

/// Prometheus asks for OpenMetrics; whoever does not gets the older text, which everything reads.
async fn exposition(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> impl IntoResponse {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let open = accepted.into_iter().any(|value| value.contains("application/openmetrics-text"));
    let text = metrics.exposition();
    let (kind, text) = if open { (metrics::OPEN_METRICS, text) } else { (metrics::CLASSIC, metrics::classic(&text)) };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], text)
}

/// Whoever reads this knows that the process runs and takes turns: there is no more to it.
async fn health() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], "ok\n")
}

async fn ready(State(readiness): State<watch::Receiver<ServerStatus>>) -> impl IntoResponse {
    let readiness = *readiness.borrow();
    let status = match readiness {
        ServerStatus::Started => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(header::CACHE_CONTROL, "no-store")], format!("{}\n", readiness.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_can_reach_is_warned_of() {
        for local in ["127.0.0.1:2668", "127.1.2.3:1", "[::1]:2668"] {
            assert_eq!(warning(local.parse().unwrap()), None, "{local}");
        }
        for open in ["0.0.0.0:2668", "[::]:2668", "10.1.2.3:2668", "192.0.2.7:1"] {
            assert!(warning(open.parse().unwrap()).is_some_and(|text| text.contains(open)), "{open}");
        }
    }
}
