//! A WebSocket of the library's, as every connection has it: its buffers, what comes of it, the close.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use moorline_protocol::{code::Code, server::ServerInput};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// How long the other side has to answer a close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

pub(crate) fn websocket_config(max_message: usize, max_write: usize) -> WebSocketConfig {
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
