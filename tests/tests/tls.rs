//! TLS that the server ends itself.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use moorline_client::{
    Client, Error,
    protocol::{client::Status, code::Code},
};
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

fn pem(certificate: &CertificateDer<'_>) -> Vec<u8> {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in base64(certificate).as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)).chain(['\n']));
    }
    (text + "-----END CERTIFICATE-----\n").into_bytes()
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::{Base64, Encoding as _};

    Base64::encode_string(bytes)
}

/// A client of before knew `ws://` alone.
#[tokio::test]
async fn a_client_believes_over_tls_whom_its_authorities_vouch_for_and_nobody_else() -> TestResult {
    let (config, certificate) = tls()?;
    let app = Server::builder()
        .tls(config)
        .handler("greet", |Json(name): Json<String>| async move { Json(format!("hi {name}")) });
    let server = TestServer::start(app).await?;
    let url = |host: &str| format!("wss://{host}:{}/moorline", server.address().port());
    let trusting = |url: &str| Client::builder(url)?.authorities(&pem(&certificate));
    // Its key is asked for over TLS, and believed.
    let client = trusting(&url("localhost"))?.connect()?;
    assert_eq!(client.call::<String>("greet", &"Ann").await?, "hi Ann");
    client.close().await;
    let (_, other) = tls()?;
    for refused in [
        // Another's certificate, for another name, and nobody's that the system trusts.
        Client::builder(&url("localhost"))?.authorities(&pem(&other))?,
        trusting(&url("127.0.0.1"))?,
        // A pinned key is no reason to believe a certificate.
        Client::builder(&url("localhost"))?.authorities(&pem(&other))?.server_key(server.key())?,
    ] {
        let client = refused.connect()?;
        let says_so = |status: &Status| matches!(status, Status::Connecting { error: Some(failure), .. } if failure.code == Code::CERTIFICATE_REFUSED);
        timeout(PATIENCE, client.wait_for(says_so)).await??;
        client.close().await;
    }
    for none in [&b""[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(Client::builder(&url("localhost"))?.authorities(none), Err(Error::Authorities)));
    }
    Ok(())
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
