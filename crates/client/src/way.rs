//! The way to a server: a TCP connection, and TLS on it where the URL is `wss://`.

use std::{io, net::SocketAddr};

use moorline_protocol::{discovery::Discovery, url::DialUrl};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

#[cfg(feature = "tls")]
use crate::tls::Tls;

/// What bytes travel on.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How a client reaches its server.
#[derive(Clone, Default)]
pub(crate) struct Way {
    /// Here and without TLS, instead of where the URL says.
    pub(crate) address: Option<SocketAddr>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
}

impl Way {
    pub(crate) async fn connect(&self, url: &DialUrl) -> io::Result<Box<dyn Stream>> {
        let stream = match (self.address, url.authority()) {
            (Some(address), _) => TcpStream::connect(address).await?,
            (None, host) if host == url.host() => {
                let port = if url.is_secure() { 443 } else { 80 };
                TcpStream::connect(format!("{host}:{port}")).await?
            }
            (None, authority) => TcpStream::connect(authority).await?,
        };
        stream.set_nodelay(true)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Box::new(tls.connect(url.host(), stream).await?));
        }
        Ok(Box::new(stream))
    }
}

/// What a connection that did not come about says of the server.
#[cfg(feature = "tls")]
pub(crate) fn failure(error: &io::Error) -> Discovery {
    match crate::tls::is_of_certificate(error) {
        true => Discovery::Refuses(moorline_protocol::code::Code::CERTIFICATE_REFUSED),
        false => Discovery::Unreachable,
    }
}

/// What a connection that did not come about says of the server.
#[cfg(not(feature = "tls"))]
pub(crate) fn failure(_: &io::Error) -> Discovery {
    Discovery::Unreachable
}
