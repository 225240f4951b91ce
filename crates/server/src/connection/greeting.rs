//! A WebSocket before anybody is known on it: the handshake.

use std::{net::SocketAddr, time::Instant};

use futures_util::{SinkExt, StreamExt};
use moorline_protocol::{
    code::Code,
    server::{Arrival, HandshakeFailure, ServerEndpoint, ServerEvent, ServerInput, ServerOutput},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout_at,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::{
    audit::{About, Audit},
    shared::Shared,
    websocket::{close, input_of},
};

/// The handshake, up to the decision.
pub(super) async fn greet<S>(
    mut websocket: WebSocketStream<S>,
    mut endpoint: ServerEndpoint,
    shared: &Shared,
    address: SocketAddr,
) -> Option<(WebSocketStream<S>, ServerEndpoint, Box<Arrival>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let opened = Instant::now();
    loop {
        let mut closing = None;
        let deadline = loop {
            let output = endpoint.poll_output();
            if let ServerOutput::Event(event) = &output {
                shared.metrics.greet(event, opened.elapsed());
            }
            match output {
                ServerOutput::Transmit(record) => websocket.feed(Message::Binary(record)).await.ok()?,
                ServerOutput::CloseSocket(code) => closing = Some(code),
                ServerOutput::Event(ServerEvent::Arrived(arrival)) => return Some((websocket, endpoint, arrival)),
                ServerOutput::Event(ServerEvent::HandshakeFailed(failure)) => failed(address, failure, shared),
                ServerOutput::Event(_) => {}
                ServerOutput::Wait(deadline) => break deadline,
            }
        };
        if let Some(code) = closing {
            close(&mut websocket, code).await;
            return None;
        }
        let step = async {
            websocket.flush().await.ok()?;
            Some(websocket.next().await.map_or(ServerInput::SocketClosed, input_of))
        };
        let input = match timeout_at(shared.instant(deadline?), step).await {
            Ok(input) => input.unwrap_or(ServerInput::SocketClosed),
            Err(_) => ServerInput::Wake,
        };
        // Who opened many sockets at once has not failed with any of them then. Before HS1 is looked at he has.
        if matches!(input, ServerInput::Record(_))
            && let Err(too_much) = shared.limits.check_failures(address.ip(), tokio::time::Instant::now())
        {
            shared.metrics.limit(too_much.limit);
            shared.audit.limit_address(About::address(address), too_much.limit);
            close(&mut websocket, Code::RATE_LIMITED).await;
            return None;
        }
        endpoint.handle_input(shared.now(), input);
    }
}

/// Counts what only those do who are wrong or guess. Who is slow or goes away shows no guess: where a guess was sent, it
/// has failed by itself.
fn failed(address: SocketAddr, failure: HandshakeFailure, shared: &Shared) {
    match failure {
        HandshakeFailure::ClientHello | HandshakeFailure::ClientFinish | HandshakeFailure::Record => {
            shared.limits.fail(address.ip(), tokio::time::Instant::now());
        }
        HandshakeFailure::Deadline | HandshakeFailure::SocketClosed | HandshakeFailure::WrongEndpoint(_) => {}
    }
    log_failure(address, failure, &shared.audit);
}

/// Who merely goes away (a page that is reloaded, a port that is probed) is nothing that an operator must read of.
fn log_failure(address: SocketAddr, failure: HandshakeFailure, audit: &Audit) {
    match failure {
        HandshakeFailure::SocketClosed => tracing::debug!(%address, reason = ?failure, "a handshake failed"),
        HandshakeFailure::ClientHello => audit.refuse_handshake(address, "client_hello"),
        HandshakeFailure::ClientFinish => audit.refuse_handshake(address, "client_finish"),
        HandshakeFailure::Record => audit.refuse_handshake(address, "record"),
        HandshakeFailure::Deadline => audit.refuse_handshake(address, "deadline"),
        HandshakeFailure::WrongEndpoint(reference) => {
            let about = About { reference: Some(reference), ..About::address(address) };
            audit.refuse(about, "wrong_endpoint", "it dialled another address");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{Event, Level, Metadata, Subscriber, span};

    use super::*;

    /// Keeps the levels of what is logged.
    #[derive(Clone, Default)]
    struct Levels(Arc<Mutex<Vec<Level>>>);

    impl Subscriber for Levels {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(*event.metadata().level());
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn who_merely_goes_away_is_logged_below_who_does_something_wrong() {
        let levels = Levels::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let audit = Audit::new(tokio::time::Instant::now());
        tracing::subscriber::with_default(levels.clone(), || {
            log_failure(address, HandshakeFailure::SocketClosed, &audit);
            log_failure(address, HandshakeFailure::ClientHello, &audit);
            log_failure(address, HandshakeFailure::Deadline, &audit);
        });
        assert_eq!(*levels.0.lock().unwrap(), [Level::DEBUG, Level::INFO, Level::INFO]);
    }
}
