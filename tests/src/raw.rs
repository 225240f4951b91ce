//! Talking to a server below the client: bytes on a socket, messages on a WebSocket, and a proxy that keeps what passes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async, client_async,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        handshake::server::{Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

/// Longer than anything here takes; reaching it fails the test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Any error ends a test.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The answer to an HTTP request.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Head and body as text.
    pub text: String,
}

/// Sends the head of a request as it is and reads the answer until the server closes or has said enough.
///
/// # Errors
/// When nothing that is HTTP comes back in time.
pub async fn http(address: SocketAddr, head: &str) -> Result<Answer> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut bytes)).await??;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status")?;
    Ok(Answer { status, text })
}

/// HELLO of a connection without encryption: kind, version, then AUTH with URL (1) and client version (4).
pub fn hello(url: &str) -> Message {
    let mut record = vec![0x04, 0x01, 0x01, url.len() as u8];
    record.extend_from_slice(url.as_bytes());
    record.extend_from_slice(&[0x04, 0x01, b'x']);
    Message::binary(record)
}

/// A WebSocket that speaks no Moorline by itself.
pub struct RawSocket(WebSocketStream<TcpStream>);

impl RawSocket {
    /// Opens one with this subprotocol.
    ///
    /// # Errors
    /// When the upgrade is refused.
    pub async fn open(url: &str, subprotocol: &'static str) -> Result<Self> {
        let authority = url.into_client_request()?.uri().authority().ok_or("no authority")?.to_string();
        Self::open_at(authority.parse()?, url, subprotocol).await
    }

    /// Opens one at this address, whatever host the URL names.
    ///
    /// # Errors
    /// When the upgrade is refused.
    pub async fn open_at(address: SocketAddr, url: &str, subprotocol: &'static str) -> Result<Self> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        let (websocket, _) = client_async(request, TcpStream::connect(address).await?).await?;
        Ok(Self(websocket))
    }

    /// Opens one to the server at this URL whose system takes few bytes that nobody reads.
    ///
    /// # Errors
    /// When the upgrade is refused.
    pub async fn open_narrow(url: &str, subprotocol: &'static str) -> Result<Self> {
        let mut request = url.into_client_request()?;
        let address = request.uri().authority().ok_or("no authority")?.to_string().parse()?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(8 * 1024)?;
        let (websocket, _) = client_async(request, socket.connect(address).await?).await?;
        Ok(Self(websocket))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the socket is gone.
    pub async fn send(&mut self, message: Message) -> Result<()> {
        Ok(self.0.send(message).await?)
    }

    /// The next binary message, or the code that the server closed with; 1006 when it just went away.
    ///
    /// # Errors
    /// When nothing comes in time.
    pub async fn next(&mut self) -> Result<std::result::Result<Vec<u8>, u16>> {
        loop {
            match timeout(PATIENCE, self.0.next()).await? {
                Some(Ok(Message::Binary(bytes))) => return Ok(Ok(bytes.to_vec())),
                Some(Ok(Message::Close(frame))) => return Ok(Err(frame.map_or(1005, |frame| frame.code.into()))),
                Some(Err(_)) | None => return Ok(Err(1006)),
                Some(Ok(_)) => {}
            }
        }
    }

    /// The code that the server closes with, whatever comes before.
    ///
    /// # Errors
    /// When it does not close in time.
    pub async fn close_code(&mut self) -> Result<u16> {
        loop {
            if let Err(code) = self.next().await? {
                return Ok(code);
            }
        }
    }
}

/// What passed a [`recording_proxy`], each way, WebSocket's masking undone.
#[derive(Clone, Default)]
pub struct Recording(Arc<Mutex<(Vec<u8>, Vec<u8>)>>);

impl Recording {
    /// From the client to the server, and back.
    pub fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, upward: bool, bytes: &[u8]) {
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if upward { recording.0.extend_from_slice(bytes) } else { recording.1.extend_from_slice(bytes) }
    }
}

/// Relays one WebSocket to `server`, keeps every message, and gives its own URL.
///
/// # Errors
/// When no port is free.
pub async fn recording_proxy(server: String) -> Result<(String, Recording)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/moorline", listener.local_addr()?);
    let recording = Recording::default();
    let kept = recording.clone();
    tokio::spawn(async move {
        let relay = async {
            let (socket, _) = listener.accept().await?;
            let mut subprotocol = HeaderValue::from_static("");
            #[allow(clippy::result_large_err, reason = "the library's signature")]
            let choose = |request: &Request, mut response: Response| {
                if let Some(offered) = request.headers().get(SEC_WEBSOCKET_PROTOCOL) {
                    subprotocol = offered.clone();
                    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered.clone());
                }
                Ok(response)
            };
            let client = accept_hdr_async(socket, choose).await?;
            let mut request = server.into_client_request()?;
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
            let authority = request.uri().authority().ok_or("no authority")?.to_string();
            let (server, _) = client_async(request, TcpStream::connect(authority).await?).await?;
            let ((mut to_client, from_client), (mut to_server, from_server)) = (client.split(), server.split());
            let up = from_client.inspect(|message| keep(&kept, true, message)).forward(&mut to_server);
            let down = from_server.inspect(|message| keep(&kept, false, message)).forward(&mut to_client);
            futures_util::future::select(up, down).await;
            Result::Ok(())
        };
        // The test sees what came of it.
        let _ = relay.await;
    });
    Ok((url, recording))
}

fn keep(
    recording: &Recording,
    upward: bool,
    message: &std::result::Result<Message, tokio_tungstenite::tungstenite::Error>,
) {
    if let Ok(Message::Binary(bytes)) = message {
        recording.add(upward, bytes);
    }
}

/// Relays connections to `server` from another address of this machine, and gives where it listens.
///
/// # Errors
/// When no port is free.
pub async fn from_address(source: Ipv4Addr, server: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        // The test sees what came of it.
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = connect_from(source, server).await?;
                near.set_nodelay(true)?;
                copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    Ok(address)
}

/// Connects from this address of this machine.
///
/// # Errors
/// When nobody is there.
pub async fn connect_from(source: Ipv4Addr, server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
