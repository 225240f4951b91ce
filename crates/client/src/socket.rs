//! One WebSocket as the driver sees it: inputs for the endpoint come out, records go in.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use moorline_protocol::{
    client::{SocketId, SocketInput},
    code::Code,
    limits::MAX_RECORD,
    url::DialUrl,
};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError, Message,
        client::IntoClientRequest,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use crate::way::{Stream, Way};

/// How long the server has to answer a close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// WebSocket's number for a connection that ended without a close (RFC 6455 § 7.1.5); it never stands on the wire.
const ABNORMAL: u16 = 1006;

pub(crate) struct Socket {
    pub(crate) id: SocketId,
    websocket: WebSocketStream<Box<dyn Stream>>,
    /// Whether everything written has reached the system.
    flushed: bool,
}

impl Socket {
    /// Connects this way, and upgrades.
    pub(crate) async fn open(id: SocketId, url: DialUrl, way: Way, subprotocol: &'static str) -> Result<Self, WsError> {
        let stream = way.connect(&url).await?;
        let mut request = url.as_str().into_client_request()?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        // The library's own buffer of 128 KiB costs more than everything else of an idle connection together.
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(4096)
            .max_message_size(Some(MAX_RECORD))
            .max_frame_size(Some(MAX_RECORD));
        let (websocket, _) = client_async_with_config(request, stream, Some(config)).await?;
        Ok(Self { id, websocket, flushed: true })
    }

    /// Hands a record to the library and tells the endpoint to hold back until it has reached the system.
    pub(crate) fn transmit(&mut self, record: Bytes) -> SocketInput {
        self.flushed = false;
        match self.websocket.start_send_unpin(Message::Binary(record)) {
            Ok(()) => SocketInput::Congested(true),
            Err(_) => SocketInput::Closed(ABNORMAL),
        }
    }

    /// The next thing that happens on the socket.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SocketInput> {
        while let Poll::Ready(message) = self.websocket.poll_next_unpin(cx) {
            return Poll::Ready(match message {
                Some(Ok(Message::Binary(record))) => SocketInput::Record(record),
                Some(Ok(Message::Text(_))) => SocketInput::Text,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    // The library has queued its pong.
                    self.flushed = false;
                    continue;
                }
                Some(Err(WsError::Capacity(_))) => SocketInput::Oversized,
                Some(Ok(Message::Close(frame))) => SocketInput::Closed(frame.map_or(1005, |frame| frame.code.into())),
                Some(Err(_)) | None => SocketInput::Closed(ABNORMAL),
            });
        }
        if self.flushed {
            return Poll::Pending;
        }
        self.websocket.poll_flush_unpin(cx).map(|flushed| match flushed {
            Ok(()) => {
                self.flushed = true;
                SocketInput::Congested(false)
            }
            Err(_) => SocketInput::Closed(ABNORMAL),
        })
    }

    /// Says good-bye on the WebSocket and waits a little for the answer.
    pub(crate) async fn close(mut self, code: Code) {
        let frame = CloseFrame { code: code.0.into(), reason: "".into() };
        let farewell = async {
            self.websocket.close(Some(frame)).await?;
            while self.websocket.next().await.is_some_and(|message| message.is_ok()) {}
            Ok::<(), WsError>(())
        };
        let _ = timeout(CLOSE_WAIT, farewell).await;
    }
}
