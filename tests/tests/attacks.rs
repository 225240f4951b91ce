//! Attacks from outside, each with its control: refused by the defence that is there for it, and no longer where a
//! configuration takes that defence away. `SECURITY.md` § Attacks that are tests has them all.

use std::net::SocketAddr;

use moorline_client::{Client, ClientBuilder, Error};
use moorline_protocol::{
    client::Status, code::Code, entropy::Entropy, key::SharedKey, record::SUBPROTOCOL, url::DialUrl,
};
use moorline_server::{config::Secret, prelude::*, testing::Echo};
use moorline_tests::{TestResult, TestServer, raw::PATIENCE, scrape::scrape, seed};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

async fn whoami(principal: Principal) -> Json<Option<String>> {
    Json(principal.role)
}

fn app() -> ServerBuilder {
    Server::builder().handler("whoami", whoami)
}

/// An upgrade, with more headers.
fn upgrade(path: &str, host: &str, more: &[&str]) -> String {
    let more = more.iter().map(|line| format!("{line}\r\n")).collect::<String>();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n{more}\r\n"
    )
}

/// The status of the answer, and the socket.
async fn ask(server: SocketAddr, head: &str) -> Result<(u16, TcpStream), Box<dyn std::error::Error>> {
    let mut socket = TcpStream::connect(server).await?;
    socket.write_all(head.as_bytes()).await?;
    let mut status = [0; 12];
    timeout(PATIENCE, socket.read_exact(&mut status)).await??;
    Ok((String::from_utf8_lossy(&status[9..]).parse()?, socket))
}

async fn status(server: SocketAddr, head: &str) -> Result<u16, Box<dyn std::error::Error>> {
    Ok(ask(server, head).await?.0)
}

fn public(url: &str) -> impl FnOnce(&mut Config) {
    let url = DialUrl::parse(url).expect("the URL of a test");
    move |config| {
        config.auth.anonymous = true;
        config.server.public_urls = vec![url];
    }
}

#[tokio::test]
async fn a_token_in_the_url_is_refused_for_the_query_alone() -> TestResult {
    let server = TestServer::start(app().echo(Echo::Exact)).await?;
    let (address, host) = (server.address(), server.address().to_string());
    for query in ["?token=x", "?access_token=x&y", "?"] {
        assert_eq!(status(address, &upgrade(&format!("/moorline{query}"), &host, &[])).await?, 400, "{query}");
    }
    // Control: the same request without it; and the same where nobody looks, which of all paths is only that of tests.
    assert_eq!(status(address, &upgrade("/moorline", &host, &[])).await?, 101);
    assert_eq!(status(address, &upgrade("/echo?token=x", &host, &[])).await?, 101);
    Ok(())
}

#[tokio::test]
async fn a_name_that_was_rebound_reaches_nothing_where_hosts_are_looked_at() -> TestResult {
    // What a browser sends for a page of `rebound.example`, whose name now leads here: to it that is its own server.
    let page = ["Origin: http://rebound.example"];
    let question = "GET /moorline HTTP/1.1\r\nHost: rebound.example\r\n\r\n";
    let open = TestServer::start(app()).await?;
    let named = TestServer::start_with(app(), public("wss://app.example/moorline")).await?;
    for server in [&open, &named] {
        assert_eq!(status(server.address(), &upgrade("/moorline", "rebound.example", &page)).await?, 421);
        assert_eq!(status(server.address(), question).await?, 421);
    }
    // Control: everybody is let in, and nobody said under which names.
    let careless = TestServer::start_with(app(), |config| config.auth.anonymous = true).await?;
    assert_eq!(status(careless.address(), &upgrade("/moorline", "rebound.example", &page)).await?, 101);
    assert_eq!(status(careless.address(), question).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_before_a_byte_of_the_handshake_is_read() -> TestResult {
    // HS1 for a key that the server does not have, in a masked frame whose mask is zero: it is not waited for.
    let mut hs1 = vec![0x82, 0x80 | 60, 0, 0, 0, 0, 1, 1, 1, 0];
    hs1.resize(6 + 60, 0);
    for (allowed, expected, handshakes) in [(None, 403, 0.0), (Some("http://app.example:81"), 101, 1.0)] {
        let server = TestServer::start_with(app(), |config| {
            public("ws://app.example/moorline")(config);
            config.internal.listen = Some(([127, 0, 0, 1], 0).into());
            config.server.allowed_origins =
                allowed.map(|origin| origin.parse().expect("an origin")).into_iter().collect();
        })
        .await?;
        // The same host, on another port.
        let head = upgrade("/moorline", "app.example", &["Origin: http://app.example:81"]);
        let (status, mut socket) = ask(server.address(), &head).await?;
        assert_eq!(status, expected);
        // Refused, the connection may be over already.
        let _ = (socket.write_all(&hs1).await, socket.shutdown().await);
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await?;
        let failed =
            scrape(server.internal()).await?.get("moorline_handshakes_total{result=\"client_hello\",key=\"none\"}");
        assert_eq!(failed, handshakes, "control: where the origin is allowed the handshake is looked at");
    }
    Ok(())
}

#[tokio::test]
async fn who_is_no_trusted_proxy_cannot_be_many_addresses() -> TestResult {
    for (trusted, second) in [(None, 429), (Some("127.0.0.1"), 101)] {
        let server = TestServer::start_with(app(), |config| {
            public("ws://app.example/moorline")(config);
            config.limits.connections_per_address = 1;
            config.server.trusted_proxies =
                trusted.map(|address| address.parse().expect("an address")).into_iter().collect();
        })
        .await?;
        for header in ["X-Forwarded-For: 203.0.113.", "Forwarded: for=203.0.114."] {
            let head = |last: u8| upgrade("/moorline", "app.example", &[&format!("{header}{last}")]);
            let first = ask(server.address(), &head(1)).await?;
            // Control: of a proxy that is trusted the header counts, and then for what it says.
            assert_eq!((first.0, status(server.address(), &head(2)).await?), (101, second), "{trusted:?} {header}");
            assert_eq!(status(server.address(), &head(1)).await?, 429);
        }
    }
    Ok(())
}

/// How an attempt ended.
async fn ended(builder: ClientBuilder) -> Result<Option<Code>, Box<dyn std::error::Error>> {
    let client = builder.configure(|config| config.backoff = None).connect()?;
    let ended = client.wait_for(|status| !matches!(status, Status::Connecting { .. }));
    Ok(match timeout(PATIENCE, ended).await? {
        Ok(Status::Closed(Some(failure))) | Err(Error::Closed(Some(failure))) => Some(failure.code),
        _ => None,
    })
}

fn takes(key: &SharedKey) -> impl Fn(&mut Config) {
    let key = key.text();
    move |config| {
        config.auth.shared_key.keys = Some(Secret::new(key.as_str()));
        config.auth.shared_key.role = Some("service".into());
        config.auth.shared_key.required = true;
    }
}

#[tokio::test]
async fn who_guesses_a_shared_key_may_try_so_often() -> TestResult {
    const GUESSES: usize = 20;
    let key = SharedKey::generate(&mut Entropy::new(seed()));
    for (limit, expected) in [(5, 5), (0, GUESSES)] {
        let server = TestServer::start_with(app(), |config| {
            takes(&key)(config);
            config.limits.failed_handshakes_per_minute_per_address = limit;
            config.limits.failed_handshakes_per_minute = 0;
        })
        .await?;
        let mut judged = 0;
        for _ in 0..GUESSES {
            // Under the right name, which who listens has seen.
            let guess = SharedKey::new(key.id(), seed());
            match ended(server.client()?.shared_key(&guess.text())?).await? {
                Some(Code::HANDSHAKE_FAILED) => judged += 1,
                Some(Code::RATE_LIMITED) => {}
                other => return Err(format!("{other:?}").into()),
            }
        }
        assert_eq!(judged, expected, "control: without the limit every guess is looked at");
    }
    Ok(())
}

#[tokio::test]
async fn who_has_the_shared_key_is_not_the_server_that_is_pinned() -> TestResult {
    let key = SharedKey::generate(&mut Entropy::new(seed()));
    let real = TestServer::start_with(app(), takes(&key)).await?;
    let impostor = TestServer::start_with(app(), takes(&key)).await?;
    let pinned = Client::builder(&impostor.url())?.server_key(real.key())?.shared_key(&key.text())?;
    assert_eq!(ended(pinned).await?, Some(Code::SERVER_KEY_CHANGED));
    assert_eq!(impostor.peers.count(), 0);
    // Control: who pins nothing knows a server by the shared key alone.
    let unpinned = Client::builder(&impostor.url())?.shared_key(&key.text())?.connect()?;
    assert_eq!(unpinned.call::<Option<String>>("whoami", &()).await?.as_deref(), Some("service"));
    Ok(())
}
