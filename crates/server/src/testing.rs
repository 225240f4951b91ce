//! For tests of the framing alone: a WebSocket that came by the same way as every connection's (accept, deadlines,
//! upgrade, settings of the library) and says everything back, where a connection would take no text at all.
//!
//! Only behind the feature `testing`, and only on a server that asks for it.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;

use crate::websocket::open_websocket;

/// Where [`crate::ServerBuilder::echo`] serves.
pub const ECHO_PATH: &str = "/echo";

/// What Autobahn's largest cases send.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// How messages are said back.
#[derive(Clone, Copy, Debug)]
pub enum Echo {
    /// As they came.
    Exact,
    /// Each byte with a bit changed, so that a test can show that it would notice.
    Flipped,
}

impl Echo {
    pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, socket: S, read: Bytes) {
        let mut websocket = open_websocket(socket, read, MAX_MESSAGE, 2 * MAX_MESSAGE).await;
        while let Some(Ok(message)) = websocket.next().await {
            // The library answers pings and closes by itself.
            if (message.is_text() || message.is_binary()) && websocket.send(self.answer(message)).await.is_err() {
                return;
            }
        }
    }

    fn answer(self, message: Message) -> Message {
        match (self, message) {
            (Self::Exact, message) => message,
            (Self::Flipped, Message::Text(text)) => {
                // An ASCII character stays one.
                let flip = |c: char| if c.is_ascii() { char::from(c as u8 ^ 1) } else { c };
                Message::text(text.chars().map(flip).collect::<String>())
            }
            (Self::Flipped, message) => {
                Message::binary(message.into_data().iter().map(|byte| byte ^ 1).collect::<Vec<_>>())
            }
        }
    }
}
