//! That the numbers are what happened, no more and no less, and that their table in docs/METRICS.md is true.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures_util::future::join;
use moorline_protocol::{
    record::{SUBPROTOCOL, SUBPROTOCOL_PLAIN},
    url::DialUrl,
};
use moorline_server::prelude::*;
use moorline_tests::{
    TestResult, TestServer,
    raw::{self, PATIENCE, RawSocket, hello, http},
    scrape::{Scrape, scrape},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::tungstenite::Message;

/// Any free port of this machine.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn double(Json(n): Json<i64>) -> Json<i64> {
    Json(2 * n)
}

async fn start(builder: ServerBuilder) -> Result<TestServer, moorline_server::Error> {
    start_with(builder, |_| {}).await
}

async fn start_with(
    builder: ServerBuilder,
    change: impl FnOnce(&mut Config),
) -> Result<TestServer, moorline_server::Error> {
    TestServer::start_with(builder, |config| {
        config.internal.listen = Some(ANY);
        change(config);
    })
    .await
}

/// Reads until the numbers are those expected; what happens on another task may take its time to be counted.
async fn expect(server: &TestServer, expected: &[(&str, f64)]) -> TestResult {
    let expected: BTreeMap<&str, f64> = expected.iter().copied().collect();
    let mut last = String::new();
    let equal = async {
        loop {
            let scrape = scrape(server.internal()).await?;
            if scrape.counts() == expected {
                return raw::Result::Ok(());
            }
            last = format!("{:#?}", scrape.counts());
        }
    };
    match timeout(PATIENCE, equal).await {
        Ok(result) => result,
        Err(_) => Err(format!("expected {expected:#?}, found {last}").into()),
    }
}

#[tokio::test]
async fn counters_move_by_what_happened() -> TestResult {
    let server = start(Server::builder().handler("double", double)).await?;
    expect(&server, &[]).await?;

    let (ann, bob) = (server.client()?.connect()?, server.client()?.connect()?);
    for client in [&ann, &bob] {
        assert_eq!(client.call::<i64>("double", &4).await?, 8);
    }
    let refused = format!(
        "GET /moorline HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nOrigin: https://evil.example",
        server.address()
    );
    assert_eq!(http(server.address(), &refused).await?.status, 403);
    let mut expected = vec![
        ("connections_open", 2.0),
        ("sessions{state=\"live\"}", 2.0),
        ("connections_accepted_total", 2.0),
        ("upgrades_refused_total{reason=\"origin\"}", 1.0),
        ("handshakes_total{result=\"completed\",key=\"current\"}", 2.0),
        ("handshake_duration_seconds_count", 2.0),
        ("messages_total{direction=\"in\"}", 2.0),
        ("messages_total{direction=\"out\"}", 2.0),
        ("calls_total{result=\"ok\"}", 2.0),
        ("call_duration_seconds_count{handler=\"double\"}", 2.0),
    ];
    expect(&server, &expected).await?;

    ann.close().await;
    bob.close().await;
    expected.extend([("closes_total{code=\"normal\"}", 2.0), ("session_ends_total{reason=\"bye\"}", 2.0)]);
    expected.retain(|(series, _)| !matches!(*series, "connections_open" | "sessions{state=\"live\"}"));
    expect(&server, &expected).await
}

#[tokio::test]
async fn every_record_of_an_established_connection_counts_with_its_bytes() -> TestResult {
    let server = start_with(Server::builder(), |config| config.server.encryption = false).await?;
    let mut socket = RawSocket::open(&server.url(), SUBPROTOCOL_PLAIN).await?;
    socket.send(hello(&server.url())).await?;
    let welcome = socket.next().await?.map_err(|code| format!("closed with {code}"))?;
    let ping = [0x11, 0x07, 0x00, 0x01, 0x05];
    socket.send(Message::binary(ping.to_vec())).await?;
    let pong = socket.next().await?.map_err(|code| format!("closed with {code}"))?;
    let numbers = scrape(server.internal()).await?;
    let of = |name: &str, way: &str| numbers.get(&format!("moorline_{name}_total{{direction=\"{way}\"}}"));
    assert_eq!((of("records", "in"), of("records", "out")), (1.0, 2.0));
    assert_eq!((of("record_bytes", "in"), of("record_bytes", "out")), (5.0, (welcome.len() + pong.len()) as f64));
    assert_eq!((of("messages", "in"), of("messages", "out")), (0.0, 0.0), "the protocol's own are no messages");
    Ok(())
}

#[tokio::test]
async fn every_end_of_a_call_counts_once() -> TestResult {
    async fn fail() -> Result<(), Fail> {
        Err(Fail::new("no", "No"))
    }
    async fn panics() -> Json<i64> {
        panic!("a bug")
    }
    async fn hang(peer: Peer) -> Result<(), Fail> {
        peer.notify("hangs", &())?;
        std::future::pending().await
    }
    let app = Server::builder().handler("fail", fail).handler("panics", panics).handler("hang", hang);
    let server = start(app).await?;
    let client = server.client()?.connect()?;
    let (hangs, mut hanging) = mpsc::channel(8);
    client.listen("hangs", move |()| {
        let _ = hangs.try_send(());
        std::future::ready(())
    });
    for name in ["fail", "panics", "missing"] {
        assert!(client.call::<()>(name, &()).await.is_err(), "{name}");
    }
    tokio::select! {
        _ = client.call::<()>("hang", &()) => return Err("it answered".into()),
        heard = timeout(PATIENCE, hanging.recv()) => heard?.ok_or("not heard")?,
    }
    let mut expected = vec![
        ("connections_open", 1.0),
        ("sessions{state=\"live\"}", 1.0),
        ("connections_accepted_total", 1.0),
        ("handshakes_total{result=\"completed\",key=\"current\"}", 1.0),
        ("handshake_duration_seconds_count", 1.0),
        // Four calls; three failures and a notification.
        ("messages_total{direction=\"in\"}", 4.0),
        ("messages_total{direction=\"out\"}", 4.0),
        ("notifications_total{direction=\"out\"}", 1.0),
        ("calls_total{result=\"failed\"}", 3.0),
        ("calls_total{result=\"cancelled\"}", 1.0),
        ("call_duration_seconds_count{handler=\"fail\"}", 1.0),
        ("call_duration_seconds_count{handler=\"panics\"}", 1.0),
        ("call_duration_seconds_count{handler=\"hang\"}", 1.0),
        ("handler_panics_total", 1.0),
    ];
    expect(&server, &expected).await?;

    // One that still runs when its client goes.
    let closing = async {
        timeout(PATIENCE, hanging.recv()).await?.ok_or("not heard")?;
        client.close().await;
        raw::Result::Ok(())
    };
    let (called, closed) = join(client.call::<()>("hang", &()), closing).await;
    closed?;
    assert!(called.is_err());
    for (series, value) in &mut expected {
        match *series {
            "connections_open" | "sessions{state=\"live\"}" => *value = 0.0,
            "messages_total{direction=\"in\"}" | "messages_total{direction=\"out\"}" => *value = 5.0,
            "calls_total{result=\"cancelled\"}"
            | "notifications_total{direction=\"out\"}"
            | "call_duration_seconds_count{handler=\"hang\"}" => *value = 2.0,
            _ => {}
        }
    }
    expected.retain(|(_, value)| *value != 0.0);
    expected.extend([("closes_total{code=\"normal\"}", 1.0), ("session_ends_total{reason=\"bye\"}", 1.0)]);
    expect(&server, &expected).await
}

#[tokio::test]
async fn what_the_server_asks_and_tells_counts_too() -> TestResult {
    async fn note() {}
    async fn broken() {
        panic!("a bug")
    }
    let server = start(Server::builder().listener("note", note).listener("broken", broken)).await?;
    let client = server.client()?.connect()?;
    let (heard, mut hears) = mpsc::channel(8);
    client.listen("news", move |_: i64| {
        let _ = heard.try_send(());
        std::future::ready(())
    });
    let (asked, mut hanging) = mpsc::channel(8);
    client.handle("name", |()| std::future::ready(Ok("ann")));
    client.handle("hang", move |()| {
        let _ = asked.try_send(());
        std::future::pending::<Result<(), _>>()
    });
    client.ready().await?;
    client.notify("note", &1).await?;
    client.notify("broken", &1).await?;
    client.notify("nobody listens", &1).await?;
    server.peers.broadcast("news", &1)?;
    timeout(PATIENCE, hears.recv()).await?.ok_or("not heard")?;

    let [peer] = &server.peers.all()[..] else { return Err("not one client".into()) };
    assert_eq!(peer.call::<String>("name", &()).await?, "ann");
    assert!(peer.call::<()>("missing", &()).await.is_err());
    assert!(peer.call_within::<()>("hang", &(), Duration::from_millis(50)).await.is_err());
    timeout(PATIENCE, hanging.recv()).await?.ok_or("not asked")?;
    tokio::select! {
        _ = peer.call::<()>("hang", &()) => return Err("it answered".into()),
        asked = timeout(PATIENCE, hanging.recv()) => asked?.ok_or("not asked")?,
    }
    let mut expected = vec![
        ("connections_open", 1.0),
        ("sessions{state=\"live\"}", 1.0),
        ("connections_accepted_total", 1.0),
        ("handshakes_total{result=\"completed\",key=\"current\"}", 1.0),
        ("handshake_duration_seconds_count", 1.0),
        ("notifications_total{direction=\"in\"}", 3.0),
        ("notifications_total{direction=\"out\"}", 1.0),
        // Three notifications, a reply, a failure; a notification and four calls.
        ("messages_total{direction=\"in\"}", 5.0),
        ("messages_total{direction=\"out\"}", 5.0),
        ("outgoing_calls_total{result=\"ok\"}", 1.0),
        ("outgoing_calls_total{result=\"failed\"}", 1.0),
        ("outgoing_calls_total{result=\"timeout\"}", 1.0),
        ("outgoing_calls_total{result=\"cancelled\"}", 1.0),
        ("handler_panics_total", 1.0),
    ];
    expect(&server, &expected).await?;

    // One that is open when the connection ends.
    let calling = peer.call::<()>("hang", &());
    let closing = async {
        timeout(PATIENCE, hanging.recv()).await?.ok_or("not asked")?;
        peer.close("enough");
        raw::Result::Ok(())
    };
    let (called, closed) = join(calling, closing).await;
    closed?;
    assert!(called.is_err());
    expected.retain(|(series, _)| {
        !["connections_open", "sessions{state=\"live\"}", "messages_total{direction=\"out\"}"].contains(series)
    });
    expected.extend([
        ("session_ends_total{reason=\"closed\"}", 1.0),
        ("messages_total{direction=\"out\"}", 6.0),
        ("outgoing_calls_total{result=\"unknown\"}", 1.0),
        ("closes_total{code=\"closed_by_server\"}", 1.0),
    ]);
    expect(&server, &expected).await
}

#[tokio::test]
async fn whoever_does_not_come_in_counts_by_the_reason() -> TestResult {
    let change = |config: &mut Config| {
        config.timeouts.handshake = Duration::from_millis(300);
        config.limits.connections = 1;
    };
    let server = start_with(Server::builder(), change).await?;
    let (host, internal) = (server.address(), server.internal());
    let upgrade = |path: &str, host: &str, protocol: &str, version: &str, more: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n\
             Sec-WebSocket-Protocol: {protocol}{more}"
        )
    };
    let own = host.to_string();
    for head in [
        upgrade("/moorline", "evil.example", SUBPROTOCOL, "13", ""),
        upgrade("/moorline", &own, SUBPROTOCOL, "13", "\r\nVia: 1.1 proxy"),
        upgrade("/moorline", &own, SUBPROTOCOL, "13", "\r\nOrigin: null"),
        upgrade("/moorline", &own, SUBPROTOCOL, "8", ""),
        upgrade("/moorline", &own, SUBPROTOCOL, "13", "\r\nHost: other"),
        upgrade("/moorline?token=x", &own, SUBPROTOCOL, "13", ""),
        upgrade("/moorline", &own, "moorline.v9", "13", ""),
        upgrade("/moorline", &own, SUBPROTOCOL_PLAIN, "13", ""),
        // No upgrades, so they are not among those refused.
        "GET /moorline HTTP/1.1\r\nHost: evil.example".to_owned(),
        format!("GET /moorline?origin=null HTTP/1.1\r\nHost: {own}"),
        format!("GET /nowhere HTTP/1.1\r\nHost: {own}"),
    ] {
        assert_ne!(http(host, &head).await?.status, 101, "{head}");
    }

    let mut silent = RawSocket::open(&server.url(), SUBPROTOCOL).await?;
    assert_eq!(http(host, &upgrade("/moorline", &own, SUBPROTOCOL, "13", "")).await?.status, 503);
    assert_eq!(silent.close_code().await?, 4000);
    drop(silent);
    for message in [Message::binary(vec![0x7f, 1]), Message::text("{}")] {
        free(internal).await?;
        let mut socket = RawSocket::open(&server.url(), SUBPROTOCOL).await?;
        socket.send(message).await?;
        assert_eq!(socket.close_code().await?, 4000);
    }
    free(internal).await?;
    drop(RawSocket::open(&server.url(), SUBPROTOCOL).await?);
    expect(
        &server,
        &[
            ("connections_accepted_total", 4.0),
            ("upgrades_refused_total{reason=\"host\"}", 1.0),
            ("upgrades_refused_total{reason=\"proxy\"}", 1.0),
            ("upgrades_refused_total{reason=\"origin\"}", 1.0),
            ("upgrades_refused_total{reason=\"request\"}", 2.0),
            ("upgrades_refused_total{reason=\"query\"}", 1.0),
            ("upgrades_refused_total{reason=\"subprotocol\"}", 2.0),
            ("upgrades_refused_total{reason=\"full\"}", 1.0),
            ("handshakes_total{result=\"deadline\",key=\"none\"}", 1.0),
            ("handshakes_total{result=\"client_hello\",key=\"none\"}", 1.0),
            ("handshakes_total{result=\"record\",key=\"none\"}", 1.0),
            ("handshakes_total{result=\"socket_closed\",key=\"none\"}", 1.0),
            ("auth_deadline_misses_total", 1.0),
        ],
    )
    .await
}

/// Waits until nobody is connected.
async fn free(internal: SocketAddr) -> TestResult {
    let none = async {
        while scrape(internal).await?.get("moorline_connections_open") != 0.0 {}
        raw::Result::Ok(())
    };
    timeout(PATIENCE, none).await?
}

#[tokio::test]
async fn a_sealed_reject_counts_by_its_code() -> TestResult {
    let server = start_with(Server::builder(), |config| {
        config.auth.anonymous = true;
        config.server.encryption = false;
        config.server.public_urls = DialUrl::parse("ws://app.example/moorline").into_iter().collect();
    })
    .await?;
    let mut socket = RawSocket::open_at(server.address(), "ws://app.example/moorline", SUBPROTOCOL_PLAIN).await?;
    socket.send(hello("ws://other.example/moorline")).await?;
    assert_eq!(socket.close_code().await?, 4003);
    expect(
        &server,
        &[
            ("connections_accepted_total", 1.0),
            ("handshakes_total{result=\"wrong_endpoint\",key=\"none\"}", 1.0),
            ("rejects_total{code=\"wrong_endpoint\"}", 1.0),
        ],
    )
    .await
}

#[tokio::test]
async fn every_volatile_message_is_sent_or_counted_as_dropped() -> TestResult {
    let server = start_with(Server::builder(), |config| config.server.encryption = false).await?;
    let mut sleeper = RawSocket::open(&server.url(), SUBPROTOCOL_PLAIN).await?;
    sleeper.send(hello(&server.url())).await?;
    let _welcome = sleeper.next().await?;
    let large = "n".repeat(32 * 1024);
    let (mut sent, mut dropped) = (0.0, 0.0);
    // Bounded: 128 MiB are more than the system keeps for one socket.
    while dropped == 0.0 && sent < 4_096.0 {
        for _ in 0..16 {
            server.peers.broadcast_volatile("level", &large)?;
            sent += 1.0;
        }
        dropped = scrape(server.internal()).await?.get("moorline_volatile_dropped_total");
    }
    assert!(dropped > 0.0, "nothing was dropped");
    let all = async {
        loop {
            let numbers = scrape(server.internal()).await?;
            let gone = numbers.get("moorline_notifications_total{direction=\"out\"}");
            if gone + numbers.get("moorline_volatile_dropped_total") == sent {
                return raw::Result::Ok(());
            }
        }
    };
    timeout(PATIENCE, all).await?
}

#[tokio::test]
async fn the_table_of_metrics_and_the_exposition_name_the_same() -> TestResult {
    let table = include_str!("../../docs/METRICS.md");
    let mut written = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| `moorline_")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, meaning, _] = cells[..] else { return Err(format!("not a row: {line}").into()) };
        assert!(!meaning.is_empty(), "{line}");
        let labels: Vec<String> = labels.split(", ").filter(|label| !label.is_empty()).map(plain).collect();
        assert!(written.insert(plain(name), (kind.to_owned(), labels)).is_none(), "twice: {name}");
    }
    // Without TLS there is no certificate to tell of.
    let directory = tempfile::tempdir()?;
    let server = start_with(Server::builder().handler("double", double), |config| {
        config.tls.self_signed = true;
        config.server.data_dir = directory.path().to_owned();
    })
    .await?;
    let Scrape { families, .. } = scrape(server.internal()).await?;
    let told: BTreeMap<String, (String, Vec<String>)> =
        families.into_iter().map(|(name, of)| (name, (of.kind, of.labels.into_iter().collect()))).collect();
    assert_eq!(written, told);
    Ok(())
}

fn plain(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

#[tokio::test]
async fn a_handler_of_any_name_leaves_the_exposition_well_formed() -> TestResult {
    let name = "say \"hello\\\", {x=1}";
    let server = start(Server::builder().handler(name, double)).await?;
    let client = server.client()?.connect()?;
    assert_eq!(client.call::<i64>(name, &1).await?, 2);
    let series = "moorline_call_duration_seconds_count{handler=\"say \\\"hello\\\\\\\", {x=1}\"}";
    assert_eq!(scrape(server.internal()).await?.get(series), 1.0);
    client.close().await;
    Ok(())
}

#[tokio::test]
async fn whoever_asks_for_open_metrics_gets_it() -> TestResult {
    let server = start(Server::builder()).await?;
    let head = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.5",
        server.internal()
    );
    let answer = http(server.internal(), &head).await?.text;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(body.contains("\n# TYPE moorline_calls counter\nmoorline_calls_total{result=\"ok\"} 0\n"), "{body}");
    assert!(body.contains("\n# UNIT moorline_record_bytes bytes\n") && body.ends_with("\n# EOF\n"), "{body}");
    Ok(())
}
