//! A WebSocket before anybody is known on it: its buffers, the handshake, the close.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use moorline_protocol::{
    code::Code,
    server::{Arrival, HandshakeFailure, ServerEndpoint, ServerEvent, ServerInput, ServerOutput},
    time::UnixMillis,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    audit::{About, Audit},
    shared::Shared,
};

/// How long the other side has to answer a close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

pub(super) fn websocket_config(max_message: usize, max_write: usize) -> WebSocketConfig {
    // The library's own buffer of 128 KiB costs more than everything else of an idle connection together.
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(4096)
        .max_write_buffer_size(max_write)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// The WebSocket on an upgraded socket. `read` is what came behind the head of the request.
pub(crate) async fn open_websocket<S>(
    socket: S,
    read: Bytes,
    max_message: usize,
    max_write: usize,
) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = websocket_config(max_message, max_write);
    WebSocketStream::from_partially_read(socket, read.into(), Role::Server, Some(config)).await
}

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

pub(crate) fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn input_of(message: Result<Message, WsError>) -> ServerInput {
    match message {
        Ok(Message::Binary(record)) => ServerInput::Record(record),
        Ok(Message::Text(_)) => ServerInput::Text,
        // WebSocket's own pings are answered by the library and mean nothing here.
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => ServerInput::Wake,
        Err(WsError::Capacity(_)) => ServerInput::Oversized,
        Ok(Message::Close(_)) | Err(_) => ServerInput::SocketClosed,
    }
}

/// Says good-bye on the WebSocket and waits a little for the answer.
pub(crate) async fn close<S: AsyncRead + AsyncWrite + Unpin>(websocket: &mut WebSocketStream<S>, code: Code) {
    let frame = CloseFrame { code: CloseCode::from(code.0), reason: "".into() };
    let farewell = async {
        websocket.close(Some(frame)).await?;
        while websocket.next().await.is_some_and(|message| message.is_ok()) {}
        Ok::<(), WsError>(())
    };
    let _ = timeout(CLOSE_WAIT, farewell).await;
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
