//! TLS that the server ends itself.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use moorline_server::{
    prelude::*,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    },
};
use moorline_tests::{TestResult, TestServer, raw::PATIENCE};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

fn tls() -> Result<(Arc<ServerConfig>, CertificateDer<'static>), Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.clone()], key)?;
    Ok((Arc::new(config), certificate))
}

#[tokio::test]
async fn document_and_websocket_are_served_over_tls() -> TestResult {
    let (config, certificate) = tls()?;
    let server = TestServer::start(Server::builder().tls(config)).await?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let connector =
        TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()));
    let socket = TcpStream::connect(server.address()).await?;
    let mut socket = connector.connect(ServerName::try_from("localhost")?, socket).await?;
    socket.write_all(b"GET /moorline HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await??;
    let answer = String::from_utf8(answer)?;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(server.key()), "{answer}");

    // And the WebSocket: a server that speaks our close codes is behind the upgrade.
    let socket = TcpStream::connect(server.address()).await?;
    let socket = connector.connect(ServerName::try_from("localhost")?, socket).await?;
    let mut request = "wss://localhost/moorline".into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", "moorline.v1".parse()?);
    let (mut socket, _) = client_async(request, socket).await?;
    socket.send(Message::text("{}")).await?;
    let Some(Ok(Message::Close(Some(frame)))) = timeout(PATIENCE, socket.next()).await? else {
        return Err("no close".into());
    };
    assert_eq!(u16::from(frame.code), 4000);
    Ok(())
}

#[tokio::test]
async fn a_tls_handshake_that_never_comes_is_cut_off() -> TestResult {
    let (config, _) = tls()?;
    let app = Server::builder().tls(config);
    let server = TestServer::start_with(app, |config| config.timeouts.tls_accept = Duration::from_millis(200)).await?;
    let mut socket = TcpStream::connect(server.address()).await?;
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await??;
    assert!(answer.is_empty());
    Ok(())
}
