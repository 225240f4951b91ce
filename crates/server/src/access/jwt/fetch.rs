//! One GET for a key set: bounded in bytes and time, over TLS or on this machine, and wherever it is sent on to, it does
//! not go.

use std::{fmt, io, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use bytes::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::{error::TokenSettingError, keys::MOST_BYTES};
use crate::config::JwksUrl;

/// For everything together; below `timeouts.decision`, so that a client that waits for it is still told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a document is not there.
#[derive(Debug)]
pub(super) enum FetchError {
    Connect(io::Error),
    /// A name of this machine led to another.
    NotThisMachine,
    #[cfg(feature = "tls")]
    Tls(io::Error),
    Http(hyper::Error),
    Status(StatusCode),
    TooLong,
    TimedOut,
}

impl fmt::Display for FetchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(formatter, "the server is not there: {error}"),
            Self::NotThisMachine => {
                formatter.write_str("the name is resolved to another machine, and http:// is for this one")
            }
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(formatter, "the server is not who it should be: {error}"),
            Self::Http(error) => write!(formatter, "the answer does not read: {error}"),
            Self::Status(status) if status.is_redirection() => {
                write!(formatter, "the server sends on to elsewhere ({status}); set the URL it sends to")
            }
            Self::Status(status) => write!(formatter, "the server answers {status}"),
            Self::TooLong => write!(formatter, "the answer does not end, or has more than {MOST_BYTES} bytes"),
            Self::TimedOut => write!(formatter, "the server took longer than {PATIENCE:?}"),
        }
    }
}

/// Gets documents.
pub(super) struct Fetcher {
    #[cfg(feature = "tls")]
    tls: Option<tokio_rustls::TlsConnector>,
}

impl Fetcher {
    /// What this URL needs: for `https://` the certificates of the system.
    pub(super) fn new(url: &JwksUrl) -> Result<Self, TokenSettingError> {
        #[cfg(feature = "tls")]
        return Ok(Self { tls: if url.is_secure() { Some(connector(system_roots()?)) } else { None } });
        #[cfg(not(feature = "tls"))]
        if url.is_secure() { Err(TokenSettingError::NoTls) } else { Ok(Self {}) }
    }

    /// The document at this URL.
    pub(super) async fn get(&self, url: &JwksUrl) -> Result<Bytes, FetchError> {
        timeout(PATIENCE, self.get_in_time(url)).await.unwrap_or(Err(FetchError::TimedOut))
    }

    async fn get_in_time(&self, url: &JwksUrl) -> Result<Bytes, FetchError> {
        let stream = TcpStream::connect((url.host(), url.port())).await.map_err(FetchError::Connect)?;
        if url.is_secure() {
            #[cfg(feature = "tls")]
            return exchange(url, self.secure(url, stream).await?).await;
        }
        let peer = stream.peer_addr().map_err(FetchError::Connect)?;
        if peer.ip().is_loopback() { exchange(url, stream).await } else { Err(FetchError::NotThisMachine) }
    }

    #[cfg(feature = "tls")]
    async fn secure(
        &self,
        url: &JwksUrl,
        stream: TcpStream,
    ) -> Result<impl AsyncRead + AsyncWrite + use<>, FetchError> {
        let invalid = || FetchError::Tls(io::ErrorKind::InvalidInput.into());
        let tls = self.tls.as_ref().ok_or_else(invalid)?;
        let name =
            tokio_rustls::rustls::pki_types::ServerName::try_from(url.host().to_owned()).map_err(|_| invalid())?;
        tls.connect(name, stream).await.map_err(FetchError::Tls)
    }
}

async fn exchange(
    url: &JwksUrl,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Bytes, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
    let asking = async {
        let request = Request::get(url.target())
            .header(header::HOST, url.authority())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("moorline/", env!("CARGO_PKG_VERSION")));
        // A URL that was parsed is a valid target and host.
        let request = request.body(Body::empty()).map_err(|_| FetchError::Status(StatusCode::BAD_REQUEST))?;
        let response = sender.send_request(request).await.map_err(FetchError::Http)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        to_bytes(Body::new(response.into_body()), MOST_BYTES).await.map_err(|_| FetchError::TooLong)
    };
    tokio::pin!(asking);
    // What the connection has read before it ended, the request still gets.
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        _ = connection => asking.await,
    }
}

#[cfg(feature = "tls")]
fn system_roots() -> Result<tokio_rustls::rustls::RootCertStore, TokenSettingError> {
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    // Those that do not read are passed over: systems have strange ones.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TokenSettingError::NoRoots) } else { Ok(roots) }
}

/// With our cryptography, whatever else is in the program.
#[cfg(feature = "tls")]
fn connector(roots: tokio_rustls::rustls::RootCertStore) -> tokio_rustls::TlsConnector {
    use tokio_rustls::rustls::{ClientConfig, DEFAULT_VERSIONS, crypto::ring};

    let provider = std::sync::Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(DEFAULT_VERSIONS)
        .expect("ring has the cipher suites of the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    std::sync::Arc::new(config).into()
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
    };

    use super::*;

    #[tokio::test]
    async fn over_tls_a_key_set_is_taken_from_who_is_trusted_and_nobody_else() {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut socket) = acceptor.accept(socket).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
                let _ = socket.shutdown().await;
            }
        });
        let fetcher = |trusted: bool| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(trusted.then(|| certificate.clone()));
            Fetcher { tls: Some(connector(roots)) }
        };
        let url = |host: &str| JwksUrl::parse(&format!("https://{host}:{port}/keys")).unwrap();
        assert_eq!(fetcher(true).get(&url("localhost")).await.unwrap(), "{}");
        for (fetcher, host) in [(fetcher(false), "localhost"), (fetcher(true), "127.0.0.1")] {
            assert!(matches!(fetcher.get(&url(host)).await, Err(FetchError::Tls(_))), "{host}");
        }
    }
}
