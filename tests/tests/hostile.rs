//! What a server does with those who break the rules: a documented status or code each, and nobody else notices.

use std::time::Duration;

use moorline_protocol::{
    client::Status,
    code::Code,
    limits::MAX_RECORD,
    record::{SUBPROTOCOL, SUBPROTOCOL_PLAIN},
};
use moorline_server::prelude::*;
use moorline_tests::{
    TestResult, TestServer,
    raw::{self, PATIENCE, RawSocket, hello, http},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

const HANDSHAKE_FAILED: u16 = 4000;
const PROTOCOL_VIOLATION: u16 = 4001;

async fn echo(Json(text): Json<String>) -> Json<String> {
    Json(text)
}

fn app() -> ServerBuilder {
    Server::builder().handler("echo", echo)
}

/// The head of an upgrade, with a line left out or put in.
fn upgrade(host: &str, without: &str, with: &str) -> String {
    let mut lines = vec![
        "GET /moorline HTTP/1.1".to_owned(),
        format!("Host: {host}"),
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        "Sec-WebSocket-Version: 13".to_owned(),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
        "Sec-WebSocket-Protocol: moorline.v1".to_owned(),
    ];
    lines.retain(|line| without.is_empty() || !line.starts_with(without));
    lines.extend((!with.is_empty()).then(|| with.to_owned()));
    lines.join("\r\n")
}

#[tokio::test]
async fn every_wrong_request_has_its_status() -> TestResult {
    let server = TestServer::start(app()).await?;
    let host = server.address().to_string();
    let mut cases = Vec::new();
    let mut case = |status: u16, code: &'static str, head: String| cases.push((status, code, head));
    case(404, "", format!("GET /nowhere HTTP/1.1\r\nHost: {host}"));
    case(405, "", format!("POST /moorline HTTP/1.1\r\nHost: {host}"));
    case(421, "host_refused", "GET /moorline HTTP/1.1\r\nHost: evil.example".to_owned());
    case(421, "host_refused", upgrade("rebound.example", "", ""));
    for header in ["Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4", "Via: 1.1 proxy"] {
        case(421, "host_refused", upgrade(&host, "", header));
    }
    for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example"] {
        case(403, "origin_refused", upgrade(&host, "", &format!("Origin: {origin}")));
    }
    case(403, "origin_refused", format!("GET /moorline?origin=https%3A%2F%2Fevil.example HTTP/1.1\r\nHost: {host}"));
    case(400, "version_unsupported", upgrade(&host, "Sec-WebSocket-Protocol", ""));
    case(400, "version_unsupported", upgrade(&host, "Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: moorline.v9"));
    let plain = "Sec-WebSocket-Protocol: moorline.v1.plain";
    case(400, "encryption_mismatch", upgrade(&host, "Sec-WebSocket-Protocol", plain));
    case(400, "invalid_url", upgrade(&host, "", "").replace("/moorline ", "/moorline?token=x "));
    case(400, "", upgrade(&host, "Sec-WebSocket-Key", ""));
    for bad in ["x", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25jZQ"] {
        case(400, "", upgrade(&host, "Sec-WebSocket-Key", &format!("Sec-WebSocket-Key: {bad}")));
    }
    case(400, "", upgrade(&host, "Connection", ""));
    case(400, "", upgrade(&host, "Connection", "Connection: keep-alive"));
    case(400, "", upgrade(&host, "", "").replace("HTTP/1.1", "HTTP/1.0"));
    case(400, "", upgrade(&host, "", &format!("Host: {host}")));
    case(400, "", format!("GET /moorline HTTP/1.1\r\nHost: {host}\r\nHost: evil.example"));
    case(426, "", upgrade(&host, "Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"));
    for (status, code, head) in cases {
        let answer = http(server.address(), &head).await?;
        assert_eq!(answer.status, status, "{head}\n{}", answer.text);
        assert!(answer.text.contains(code), "{head}\n{}", answer.text);
    }
    Ok(())
}

#[tokio::test]
async fn the_identity_document_is_for_every_page_and_no_cache() -> TestResult {
    let server = TestServer::start(app()).await?;
    for path in ["/moorline", "/.well-known/moorline"] {
        let answer = http(server.address(), &format!("GET {path} HTTP/1.1\r\nHost: {}", server.address())).await?;
        assert_eq!(answer.status, 200);
        let text = answer.text.to_lowercase();
        assert!(text.contains("cache-control: no-store") && text.contains("access-control-allow-origin: *"), "{text}");
        let (_, body) = answer.text.split_once("\r\n\r\n").ok_or("no body")?;
        let document: serde_json::Value = serde_json::from_str(body)?;
        assert_eq!(document["keys"][0], server.key());
        assert_eq!(document["versions"], serde_json::json!([1]));
        assert_eq!(document["encryption"], "on");
    }
    Ok(())
}

#[tokio::test]
async fn a_full_server_says_so_and_when_to_come_back() -> TestResult {
    let server = TestServer::start_with(app(), |config| config.limits.connections = 1).await?;
    let client = server.client()?.connect()?;
    client.ready().await?;
    let host = server.address().to_string();
    let question = format!("GET /moorline HTTP/1.1\r\nHost: {host}");
    for head in [upgrade(&host, "", ""), question.clone()] {
        let answer = http(server.address(), &head).await?;
        assert_eq!(answer.status, 503);
        assert!(
            answer.text.to_lowercase().contains("retry-after: 5") && answer.text.contains("server_full"),
            "{}",
            answer.text
        );
    }
    // So that a client whose socket was refused can say why.
    let late = server.client()?.connect()?;
    let told = late.wait_for(|status| matches!(status, Status::Connecting { error: Some(_), .. }));
    let Status::Connecting { error: Some(failure), .. } = timeout(PATIENCE, told).await?? else {
        return Err("not connecting".into());
    };
    assert_eq!(failure.code, Code::SERVER_FULL);
    late.close().await;
    client.close().await;
    Ok(())
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() -> TestResult {
    let server = TestServer::start_with(app(), |config| config.timeouts.upgrade = Duration::from_millis(300)).await?;
    let neighbour = server.client()?.connect()?;
    let head = upgrade(&server.address().to_string(), "", "");
    // Half an upgrade and then nothing, not even a byte, and one byte at a time for as long as the server lets it.
    for (start, trickle) in [(&head.as_bytes()[..40], false), (&[][..], false), (&[][..], true)] {
        let mut socket = TcpStream::connect(server.address()).await?;
        socket.write_all(start).await?;
        let mut rest = head.as_bytes().iter();
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, async {
            loop {
                let mut buffer = [0; 256];
                match timeout(Duration::from_millis(20), socket.read(&mut buffer)).await {
                    Ok(Ok(0) | Err(_)) => return,
                    Ok(Ok(read)) => answer.extend_from_slice(&buffer[..read]),
                    Err(_) if trickle => {
                        let Some(byte) = rest.next() else { panic!("the whole head was let through") };
                        if socket.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                    }
                    Err(_) => {}
                }
            }
        });
        ended.await?;
        // Whoever sent something is told; who sent nothing is not.
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert_eq!(neighbour.call::<String>("echo", &"still here").await?, "still here");
    }
    Ok(())
}

#[tokio::test]
async fn before_hs3_every_fault_looks_the_same() -> TestResult {
    let server = TestServer::start_with(app(), |config| config.timeouts.handshake = Duration::from_millis(300)).await?;
    let neighbour = server.client()?.connect()?;
    let mut hs1_header = vec![1, 1, 1, 0];
    hs1_header.resize(12 + 48, 0);
    let faults = [
        ("silence", None),
        ("a text message", Some(Message::text("{}"))),
        ("nothing in a record", Some(Message::binary(vec![]))),
        ("an unknown record", Some(Message::binary(vec![0x7f, 1, 2, 3]))),
        ("a data record", Some(Message::binary(vec![0x10; 64]))),
        ("HS1 for another key", Some(Message::binary(hs1_header))),
        ("more than 8 KiB", Some(Message::binary(vec![1; 8 * 1024 + 1]))),
        ("far more than 8 KiB", Some(Message::binary(vec![1; MAX_RECORD]))),
    ];
    for (name, message) in faults {
        let mut socket = RawSocket::open(&server.url(), SUBPROTOCOL).await?;
        if let Some(message) = message {
            socket.send(message).await?;
        }
        assert_eq!(socket.next().await?, Err(HANDSHAKE_FAILED), "{name}");
    }
    assert_eq!(neighbour.call::<String>("echo", &"still here").await?, "still here");
    assert_eq!(server.peers.count(), 1, "nobody else ever came in");
    Ok(())
}

#[tokio::test]
async fn on_an_established_connection_every_violation_is_closed_with_its_code() -> TestResult {
    let server = TestServer::start_with(app(), |config| config.server.encryption = false).await?;
    let neighbour = server.client()?.encryption(None).connect()?;
    let faults = [
        ("a text message", Message::text("{}")),
        ("an empty message", Message::binary(vec![])),
        ("a record without a frame", Message::binary(vec![0x11])),
        ("a record of the handshake", Message::binary(vec![0x01, 0x07])),
        ("an unknown frame", Message::binary(vec![0x11, 0x7e, 0x00, 0x00])),
        ("a frame that only servers send", Message::binary(vec![0x11, 0x01, 0x00, 0x00])),
        ("a flag", Message::binary(vec![0x11, 0x07, 0x01, 0x01, 0x00])),
        ("a frame that is longer than its record", Message::binary(vec![0x11, 0x07, 0x00, 0x05, 0x00])),
        ("an overlong integer", Message::binary(vec![0x11, 0x07, 0x00, 0x02, 0x80, 0x00])),
        ("an oversized record", Message::binary(vec![0x11; MAX_RECORD + 1])),
        ("a very oversized record", Message::binary(vec![0x11; 4 * MAX_RECORD])),
    ];
    for (name, message) in faults {
        let mut socket = RawSocket::open(&server.url(), SUBPROTOCOL_PLAIN).await?;
        socket.send(hello(&server.url())).await?;
        let welcome = socket.next().await?.map_err(|code| format!("{name}: closed with {code}"))?;
        assert_eq!(welcome[..3], [0x11, 0x01, 0x00], "Welcome");
        socket.send(message).await?;
        assert_eq!(socket.close_code().await?, PROTOCOL_VIOLATION, "{name}");
    }
    assert_eq!(neighbour.call::<String>("echo", &"still here").await?, "still here");
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_its_neighbours_do_not_notice() -> TestResult {
    let server = TestServer::start_with(app(), |config| {
        config.server.encryption = false;
        config.limits.outgoing = 64 * 1024;
    })
    .await?;
    let neighbour = server.client()?.encryption(None).connect()?;
    neighbour.ready().await?;
    let mut sleeper = RawSocket::open(&server.url(), SUBPROTOCOL_PLAIN).await?;
    sleeper.send(hello(&server.url())).await?;
    let _welcome = sleeper.next().await?;
    assert_eq!(server.peers.count(), 2);
    // Bounded: 64 MiB is more than the system and the server together keep for one socket.
    let news = "n".repeat(16 * 1024);
    for _ in 0..4_096 {
        server.peers.broadcast("news", &news)?;
        assert_eq!(neighbour.call::<String>("echo", &"still here").await?, "still here");
        if server.peers.count() == 1 {
            break;
        }
    }
    assert_eq!(server.peers.count(), 1, "the sleeper is still served");
    Ok(())
}

#[tokio::test]
async fn canaries_are_on_the_wire_only_without_encryption() -> TestResult {
    const CANARY: &str = "canary-7f3a9c51";
    for sealed in [true, false] {
        let server = TestServer::start_with(app(), |config| config.server.encryption = sealed).await?;
        let (url, recording) = raw::recording_proxy(server.url()).await?;
        let mut builder = moorline_client::Client::builder(&url)?.server_key(server.key())?;
        if !sealed {
            builder = builder.encryption(None);
        }
        let client = builder.connect()?;
        assert_eq!(client.call::<String>("echo", &CANARY).await?, CANARY);
        client.close().await;
        let (up, down) = recording.bytes();
        let has = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!up.is_empty() && !down.is_empty());
        assert_eq!((has(&up), has(&down)), (!sealed, !sealed), "sealed: {sealed}");
    }
    Ok(())
}
