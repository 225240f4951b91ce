//! One connection of the generator. The loop around the WebSocket is the same for every server, so that they are asked
//! in the same way; what is said on it is [`raw`]'s or [`moorline`]'s.

pub(crate) mod moorline;
pub(crate) mod raw;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt, future::try_join_all};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

use self::{moorline::Moorline, raw::Raw};
use crate::{server::Door, subject::Subject};

/// The call that gives back what it was given.
pub(crate) const ECHO: &str = "echo";
/// The notification that asks for a broadcast, and the one that everybody else then hears.
pub(crate) const PUBLISH: &str = "publish";
pub(crate) const TICK: &str = "tick";
/// The topic that is not kept, and the one that is.
pub(crate) const TOPIC: &str = "topic";
pub(crate) const KEPT: &str = "kept";

/// Handshakes at one time, where it is not they that are measured.
const AT_ONCE: usize = 16;

/// What a server said.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The connection is ready. Said once for each, and by a Moorline server only.
    Ready {
        /// Whether it goes on with the session of the one before.
        resumed: bool,
    },
    /// An answer to a call.
    Reply(Bytes),
    /// What somebody published.
    Published(Bytes),
    /// The topic is open.
    Following,
}

/// One connection.
pub(crate) struct Line {
    websocket: WebSocketStream<TcpStream>,
    speech: Speech,
    /// Messages to write.
    waiting: Vec<Bytes>,
}

enum Speech {
    Raw(Raw),
    Moorline(Box<Moorline>),
}

/// The buffers that both sides of the raw connection have, and the client's side of every other.
pub(crate) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096)
}

impl Line {
    /// Connects, and returns when the server has let it in.
    pub(crate) async fn open(door: &Door) -> Result<Self> {
        match door.subject {
            Subject::Raw => {
                let websocket = upgrade(door, None).await?;
                Ok(Self { websocket, speech: Speech::Raw(Raw::default()), waiting: Vec::new() })
            }
            Subject::Sealed | Subject::Plain => {
                let (mut moorline, subprotocol) = Moorline::new(door)?;
                let websocket = upgrade(door, Some(subprotocol)).await?;
                moorline.opened();
                Self::greet(websocket, Box::new(moorline), false).await
            }
        }
    }

    /// Returns when the server has let it in, with the session that it had before or another.
    async fn greet(websocket: WebSocketStream<TcpStream>, moorline: Box<Moorline>, resumes: bool) -> Result<Self> {
        let mut line = Self { websocket, speech: Speech::Moorline(moorline), waiting: Vec::new() };
        let mut heard = Vec::new();
        while heard.is_empty() {
            line.hear(&mut heard).await?;
        }
        ensure!(matches!(heard[..], [Heard::Ready { resumed }, ..] if resumed == resumes), "the server said {heard:?}");
        Ok(line)
    }

    /// Loses its socket without a word, as a line does that breaks.
    pub(crate) fn cut(self) -> Cut {
        Cut(self.speech)
    }

    /// Opens several, some at one time: all at once the last would wait beyond the server's deadline for a handshake.
    pub(crate) async fn open_all(door: &Door, count: usize) -> Result<Vec<Self>> {
        let mut lines = Vec::with_capacity(count);
        while lines.len() < count {
            let batch = AT_ONCE.min(count - lines.len());
            lines.extend(try_join_all((0..batch).map(|_| Self::open(door))).await?);
        }
        Ok(lines)
    }

    /// Calls `echo`. It goes out with the next [`Self::hear`] or [`Self::flush`].
    pub(crate) fn call(&mut self, payload: &Bytes) -> Result<()> {
        match &mut self.speech {
            Speech::Raw(raw) => raw.call(payload, &mut self.waiting),
            Speech::Moorline(moorline) => moorline.call(payload)?,
        }
        Ok(())
    }

    /// Asks for a broadcast of this JSON text to everybody else.
    pub(crate) fn publish(&mut self, json: &Bytes) -> Result<()> {
        match &mut self.speech {
            Speech::Raw(raw) => raw.publish(json, &mut self.waiting),
            Speech::Moorline(moorline) => moorline.publish(json)?,
        }
        Ok(())
    }

    /// Subscribes to the topic. Whoever is connected to the raw server hears everything.
    pub(crate) async fn follow(&mut self) -> Result<()> {
        let Speech::Moorline(moorline) = &mut self.speech else { return Ok(()) };
        moorline.follow()?;
        let mut heard = Vec::new();
        while heard.is_empty() {
            self.hear(&mut heard).await?;
        }
        ensure!(matches!(heard[..], [Heard::Following]), "the server said {heard:?}");
        Ok(())
    }

    /// Publishes this JSON text to the topic. A Moorline server answers; the raw server does not.
    pub(crate) fn append(&mut self, json: &Bytes) -> Result<()> {
        match &mut self.speech {
            Speech::Raw(raw) => raw.publish(json, &mut self.waiting),
            Speech::Moorline(moorline) => moorline.append(TOPIC, json)?,
        }
        Ok(())
    }

    /// Publishes this JSON text to the topic that is kept, and wants to know when it is.
    pub(crate) fn keep(&mut self, json: &Bytes) -> Result<()> {
        match &mut self.speech {
            Speech::Raw(raw) => raw.keep(json, &mut self.waiting),
            Speech::Moorline(moorline) => moorline.append(KEPT, json)?,
        }
        Ok(())
    }

    /// Takes what the server has said already.
    pub(crate) fn glance(&mut self, heard: &mut Vec<Heard>) -> Result<()> {
        while let Some(message) = self.websocket.next().now_or_never() {
            if let Message::Binary(message) = message.context("the server has closed a connection")?? {
                self.handle(message, heard)?;
            }
        }
        Ok(())
    }

    /// Writes what waits, in one go.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        if let Speech::Moorline(moorline) = &mut self.speech {
            moorline.drain(&mut self.waiting, &mut Vec::new())?;
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        for message in self.waiting.drain(..) {
            self.websocket.feed(Message::Binary(message)).await?;
        }
        Ok(self.websocket.flush().await?)
    }

    /// Writes what waits, waits for the server to say something, and takes all that it has said.
    pub(crate) async fn hear(&mut self, heard: &mut Vec<Heard>) -> Result<()> {
        self.flush().await?;
        let mut next = self.websocket.next().await;
        loop {
            match next.context("the server has closed a connection")?? {
                Message::Binary(message) => self.handle(message, heard)?,
                Message::Ping(_) | Message::Pong(_) => {}
                other => bail!("the server said {other:?}"),
            }
            match self.websocket.next().now_or_never() {
                Some(message) => next = message,
                None => return Ok(()),
            }
        }
    }

    fn handle(&mut self, message: Bytes, heard: &mut Vec<Heard>) -> Result<()> {
        match &mut self.speech {
            Speech::Raw(raw) => raw.handle(&message, heard),
            Speech::Moorline(moorline) => moorline.handle(message, &mut self.waiting, heard),
        }
    }
}

/// A connection whose socket is gone.
pub(crate) struct Cut(Speech);

impl Cut {
    /// Connects again, and returns when the session goes on. The raw server knows nobody again: there it is a new
    /// connection.
    pub(crate) async fn resume(self, door: &Door) -> Result<Line> {
        let Speech::Moorline(mut moorline) = self.0 else { return Line::open(door).await };
        let websocket = upgrade(door, Some(moorline.cut()?)).await?;
        moorline.opened();
        let mut line = Line::greet(websocket, moorline, true).await?;
        // The number of its next frame, which belongs to a session that goes on.
        line.flush().await?;
        Ok(line)
    }
}

async fn upgrade(door: &Door, subprotocol: Option<&'static str>) -> Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(door.address).await?;
    stream.set_nodelay(true)?;
    let mut request = url(door).into_client_request()?;
    if let Some(subprotocol) = subprotocol {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    Ok(client_async_with_config(request, stream, Some(websocket_config())).await?.0)
}

fn url(door: &Door) -> String {
    format!("ws://{}/moorline", door.address)
}
