//! Who comes too often, holds too much, or sends too fast: refused, warned, parted from; and nobody else notices.
//!
//! Tests come from several addresses of this machine: 127.0.0.1, and others by a relay.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use moorline_client::{Client, Error};
use moorline_protocol::{
    client::Status,
    code::Code,
    entropy::Entropy,
    frame::Credentials,
    key::SharedKey,
    limits::Pace,
    record::{SUBPROTOCOL, SUBPROTOCOL_PLAIN},
};
use moorline_server::{
    config::{JwtAlgorithm, Secret},
    prelude::*,
    token::{self, Grant},
};
use moorline_tests::{
    TestResult, TestServer,
    raw::{PATIENCE, RawSocket, from_address, hello, http},
    scrape::scrape,
    seed,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::tungstenite::Message;

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const HANDSHAKE_FAILED: u16 = 4000;
const RATE_LIMITED: u16 = 4007;

async fn echo(Json(text): Json<String>) -> Json<String> {
    Json(text)
}

fn app() -> ServerBuilder {
    Server::builder().handler("echo", echo)
}

async fn start(builder: ServerBuilder, change: impl FnOnce(&mut Config)) -> Result<TestServer, moorline_server::Error> {
    TestServer::start_with(builder, |config| {
        config.internal.listen = Some(([127, 0, 0, 1], 0).into());
        change(config);
    })
    .await
}

fn upgrade(host: SocketAddr) -> String {
    format!(
        "GET /moorline HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}"
    )
}

/// What an address hears that is refused for now: as many seconds, and a body that the SDK reads.
async fn assert_refused_for_now(server: &TestServer, most: u64) -> TestResult {
    let host = server.address();
    for head in [upgrade(host), format!("GET /moorline HTTP/1.1\r\nHost: {host}")] {
        let answer = http(host, &head).await?;
        assert_eq!(answer.status, 429, "{head}\n{}", answer.text);
        let text = answer.text.to_lowercase();
        let seconds =
            text.split("retry-after: ").nth(1).and_then(|rest| rest.split("\r\n").next()).ok_or("no Retry-After")?;
        assert!((1..=most).contains(&seconds.parse()?), "{seconds}");
        assert!(
            text.contains("\"code\":\"rate_limited\"") && text.contains("access-control-allow-origin: *"),
            "{text}"
        );
    }
    Ok(())
}

async fn limited(server: &TestServer, limit: &str) -> Result<f64, Box<dyn std::error::Error>> {
    Ok(scrape(server.internal()).await?.get(&format!("moorline_limited_total{{limit=\"{limit}\"}}")))
}

/// What a client that goes on trying was told last.
async fn told(client: &Client) -> Result<Code, Box<dyn std::error::Error>> {
    let told = client.wait_for(|status| matches!(status, Status::Connecting { error: Some(_), .. }));
    match timeout(PATIENCE, told).await?? {
        Status::Connecting { error: Some(failure), .. } => Ok(failure.code),
        other => Err(format!("{other:?}").into()),
    }
}

#[tokio::test]
async fn who_guesses_a_shared_key_is_shut_out_by_address_and_another_address_is_served() -> TestResult {
    let [key, wrong] = [seed(), seed()].map(|seed| SharedKey::generate(&mut Entropy::new(seed)));
    let server = start(app(), |config| {
        config.auth.shared_key.keys = Some(Secret::new(key.text().as_str()));
        config.auth.shared_key.required = true;
        config.limits.failed_handshakes_per_minute_per_address = 5;
        // Spent at once: it must not shut out who has not failed.
        config.limits.failed_handshakes_per_minute = 3;
    })
    .await?;
    let guess = async || -> Result<Option<Code>, Box<dyn std::error::Error>> {
        let client = server.client()?.shared_key(&wrong.text())?.configure(|config| config.backoff = None).connect()?;
        let ended = client.wait_for(|status| !matches!(status, Status::Connecting { .. }));
        Ok(match timeout(PATIENCE, ended).await? {
            Ok(Status::Closed(Some(failure))) | Err(Error::Closed(Some(failure))) => Some(failure.code),
            _ => None,
        })
    };
    let mut guesses = 0;
    while guess().await? == Some(Code::HANDSHAKE_FAILED) {
        guesses += 1;
        assert!(guesses <= 5);
    }
    // With the whole spent an address that has failed waits, whatever of its own is left.
    assert_eq!(guesses, 3);
    assert_refused_for_now(&server, 60).await?;
    // Not even with the right key, from there.
    let late = server.client()?.shared_key(&key.text())?.connect()?;
    assert_eq!(told(&late).await?, Code::RATE_LIMITED);
    let relay = from_address(OTHER, server.address()).await?;
    let other = server.client_at(&format!("ws://{relay}/moorline"))?.shared_key(&key.text())?.connect()?;
    assert_eq!(timeout(PATIENCE, other.call::<String>("echo", &"in")).await??, "in");
    assert!(limited(&server, "failed_handshakes_per_minute").await? >= 2.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_were_opened_before_are_no_more_guesses() -> TestResult {
    const SOCKETS: usize = 60;
    let server = start(app(), |config| config.limits.failed_handshakes_per_minute_per_address = 5).await?;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(RawSocket::open(&server.url(), SUBPROTOCOL).await?);
    }
    let mut hs1 = vec![1, 1, 1, 0];
    hs1.resize(12 + 48, 0);
    for socket in &mut sockets {
        socket.send(Message::binary(hs1.clone())).await?;
    }
    let mut codes = Vec::new();
    for socket in &mut sockets {
        codes.push(socket.close_code().await?);
    }
    let failed = codes.iter().filter(|code| **code == HANDSHAKE_FAILED).count();
    let turned_away = codes.iter().filter(|code| **code == RATE_LIMITED).count();
    // As many more as there are threads may be looked at in one moment.
    assert!((5..=7).contains(&failed), "{failed}");
    assert_eq!(failed + turned_away, SOCKETS);
    assert_refused_for_now(&server, 13).await?;
    assert!(limited(&server, "failed_handshakes_per_minute_per_address").await? >= turned_away as f64);
    Ok(())
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_another_its_own() -> TestResult {
    let server = start(app(), |config| config.limits.connections_per_address = 2).await?;
    let one = server.client()?.connect()?;
    let two = server.client()?.connect()?;
    assert_eq!(one.call::<String>("echo", &"1").await?, "1");
    assert_eq!(two.call::<String>("echo", &"2").await?, "2");
    assert_refused_for_now(&server, 6).await?;
    let late = server.client()?.connect()?;
    assert_eq!(told(&late).await?, Code::RATE_LIMITED);
    let relay = from_address(OTHER, server.address()).await?;
    let other = server.client_at(&format!("ws://{relay}/moorline"))?.connect()?;
    assert_eq!(timeout(PATIENCE, other.call::<String>("echo", &"3")).await??, "3");
    // Who waited comes in by himself when there is room.
    one.close().await;
    assert_eq!(timeout(PATIENCE, late.call_within::<String>("echo", &"4", PATIENCE)).await??, "4");
    assert_eq!(
        limited(&server, "connections_per_address").await?.max(2.0),
        limited(&server, "connections_per_address").await?
    );
    Ok(())
}

/// Only WebSockets were counted by address: one could hold every TCP connection that the server takes, and nobody else got
/// as far as a request.
#[tokio::test]
async fn regression_an_address_cannot_have_every_tcp_connection() -> TestResult {
    use tokio::{io::AsyncReadExt as _, net::TcpStream};

    // As many as it may have WebSockets, and those for pages and refusals.
    const MOST: usize = 1 + 256;
    let server = start(app(), |config| {
        config.limits.connections_per_address = 1;
        config.timeouts.upgrade = Duration::from_secs(3_600);
    })
    .await?;
    let mut sockets = Vec::new();
    for _ in 0..MOST {
        sockets.push(TcpStream::connect(server.address()).await?);
    }
    let mut one_more = TcpStream::connect(server.address()).await?;
    // Nothing is said: it is before the TLS that there might be.
    assert!(timeout(PATIENCE, one_more.read_u8()).await?.is_err());
    let relay = from_address(OTHER, server.address()).await?;
    let other = server.client_at(&format!("ws://{relay}/moorline"))?.connect()?;
    assert_eq!(timeout(PATIENCE, other.call::<String>("echo", &"in")).await??, "in");
    assert_eq!(limited(&server, "connections_per_address").await?, 1.0);
    drop(sockets);
    Ok(())
}

#[tokio::test]
async fn an_address_begins_so_many_handshakes_a_second() -> TestResult {
    // Ten at once, and then one in half a second.
    let server = start(app(), |config| config.limits.handshakes_per_second_per_address = 2).await?;
    let mut statuses = Vec::new();
    for _ in 0..30 {
        let mut socket = tokio::net::TcpStream::connect(server.address()).await?;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        socket.write_all(format!("{}\r\n\r\n", upgrade(server.address())).as_bytes()).await?;
        let mut head = [0; 12];
        timeout(PATIENCE, socket.read_exact(&mut head)).await??;
        statuses.push(String::from_utf8_lossy(&head[9..]).into_owned());
    }
    let taken = statuses.iter().filter(|status| *status == "101").count();
    let refused = statuses.iter().filter(|status| *status == "429").count();
    assert!((10..20).contains(&taken) && taken + refused == 30, "{statuses:?}");
    assert_eq!(limited(&server, "handshakes_per_second_per_address").await?, refused as f64);
    let relay = from_address(OTHER, server.address()).await?;
    let other = server.client_at(&format!("ws://{relay}/moorline"))?.connect()?;
    assert_eq!(timeout(PATIENCE, other.call::<String>("echo", &"in")).await??, "in");
    Ok(())
}

const SECRET: &str = "a secret of thirty-two bytes or more";

fn believes(config: &mut Config) {
    config.auth.jwt.algorithm = Some(JwtAlgorithm::Hs256);
    config.auth.jwt.secret = Some(Secret::new(SECRET));
}

fn token(subject: &str) -> String {
    let mut config = Config::default();
    believes(&mut config);
    token::issue(&config, &Grant::new(&config, subject)).expect("a token").token
}

#[tokio::test]
async fn a_subject_has_so_many_connections_and_comes_back_to_its_own() -> TestResult {
    let server = start(app(), |config| {
        believes(config);
        config.limits.connections_per_subject = 1;
    })
    .await?;
    let ann = server.client()?.token(&token("ann")).connect()?;
    assert_eq!(ann.call::<String>("echo", &"1").await?, "1");
    let again = server.client()?.token(&token("ann")).connect()?;
    assert_eq!(told(&again).await?, Code::RATE_LIMITED);
    let bob = server.client()?.token(&token("bob")).connect()?;
    assert_eq!(bob.call::<String>("echo", &"2").await?, "2");
    // Nor by becoming her on an open connection.
    assert!(bob.authenticate(Credentials::token(&token("ann"))).await.is_err());
    assert_eq!(bob.identity()["subject"], "bob");
    assert_eq!(limited(&server, "connections_per_subject").await?, 2.0);
    // Who becomes somebody else leaves his place.
    ann.authenticate(Credentials::token(&token("cat"))).await?;
    assert!(bob.authenticate(Credentials::token(&token("ann"))).await.is_ok());
    Ok(())
}

/// The code that a client is not let in with.
async fn refusal(builder: moorline_client::ClientBuilder) -> Result<String, Box<dyn std::error::Error>> {
    let client = builder.configure(|config| config.backoff = None).connect()?;
    match timeout(PATIENCE, client.wait_for(|status| !matches!(status, Status::Connecting { .. }))).await? {
        Ok(Status::Closed(Some(failure))) | Err(Error::Closed(Some(failure))) => Ok(failure.name()),
        other => Err(format!("{other:?}").into()),
    }
}

/// What became of what was shown on an open connection.
async fn denial(client: &Client, credentials: Credentials) -> Option<String> {
    match client.authenticate(credentials).await {
        Err(Error::Denied(code, _)) => Some(code),
        _ => None,
    }
}

/// Only wrong shared keys counted, so that tokens and passwords could be tried as fast as the line was.
#[tokio::test]
async fn regression_who_guesses_tokens_is_shut_out_and_who_shows_an_old_one_is_not() -> TestResult {
    let server = start(app(), |config| {
        believes(config);
        config.auth.jwt.leeway = Duration::ZERO;
        config.limits.failed_handshakes_per_minute_per_address = 4;
    })
    .await?;
    let mut config = Config::default();
    believes(&mut config);
    let mut grant = Grant::new(&config, "ann");
    grant.ttl = Duration::ZERO;
    let old = token::issue(&config, &grant)?.token;
    let guess = format!("{}A", &old[..old.len() - 1]);
    let guess = if guess == old { format!("{}B", &old[..old.len() - 1]) } else { guess };
    let ann = server.client()?.token(&token("ann")).connect()?;
    assert_eq!(ann.call::<String>("echo", &"1").await?, "1");
    for _ in 0..6 {
        assert_eq!(refusal(server.client()?.token(&old)).await?, "token_expired");
        assert_eq!(denial(&ann, Credentials::token(&old)).await.as_deref(), Some("token_expired"));
    }
    // By either way they are counted together.
    for _ in 0..2 {
        assert_eq!(refusal(server.client()?.token(&guess)).await?, "unauthorized");
        assert_eq!(denial(&ann, Credentials::token(&guess)).await.as_deref(), Some("unauthorized"));
    }
    assert_refused_for_now(&server, 16).await?;
    for shown in [&guess, &token("ann")] {
        assert_eq!(denial(&ann, Credentials::token(shown)).await.as_deref(), Some("rate_limited"));
    }
    assert_eq!(ann.call::<String>("echo", &"she stays").await?, "she stays");
    let relay = from_address(OTHER, server.address()).await?;
    let other = server.client_at(&format!("ws://{relay}/moorline"))?.token(&token("bob")).connect()?;
    assert_eq!(timeout(PATIENCE, other.call::<String>("echo", &"in")).await??, "in");
    assert!(limited(&server, "failed_handshakes_per_minute_per_address").await? >= 2.0);
    Ok(())
}

#[tokio::test]
async fn of_what_an_auth_handler_refuses_counts_what_it_has_judged() -> TestResult {
    async fn doorman(attempt: Attempt) -> Result<Principal, Fail> {
        match attempt.data::<String>()?.as_str() {
            "full" => Err(Fail::new("room_full", "Come back later").not_a_guess()),
            "broken" => Err(std::io::Error::other("no database").into()),
            _ => Err(Fail::new("wrong_password", "Name and password do not go together")),
        }
    }
    let server = start(app().auth(doorman), |config| {
        config.limits.failed_handshakes_per_minute_per_address = 2;
    })
    .await?;
    for _ in 0..3 {
        assert_eq!(refusal(server.client()?.auth(&"full")?).await?, "room_full");
        assert_eq!(refusal(server.client()?.auth(&"broken")?).await?, "unauthorized");
        assert_eq!(refusal(server.client()?.auth(&7)?).await?, "invalid_params");
        assert_eq!(refusal(server.client()?).await?, "token_missing");
    }
    for _ in 0..2 {
        assert_eq!(refusal(server.client()?.auth(&"1234")?).await?, "wrong_password");
    }
    assert_refused_for_now(&server, 31).await?;
    Ok(())
}

#[tokio::test]
async fn many_passwords_at_once_are_no_more_guesses() -> TestResult {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let slow = move |_: Attempt| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<Principal, Fail>>()
    };
    let server = start(app().auth(slow), |config| config.limits.failed_handshakes_per_minute_per_address = 3).await?;
    let clients = (0..12).map(|_| server.client()?.auth(&"1234")?.connect()).collect::<Result<Vec<_>, _>>()?;
    let all = async {
        let waits = |client: &&Client| matches!(client.status(), Status::Connecting { error: Some(_), .. });
        while clients.iter().filter(waits).count() < 9 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(9), all).await?;
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    Ok(())
}

/// The kinds of the frames in a record without encryption; each has a flag byte and a length below 128 here.
fn frames(record: &[u8]) -> Vec<u8> {
    let (mut kinds, mut rest) = (Vec::new(), &record[1..]);
    while let [kind, _, length, after @ ..] = rest {
        kinds.push(*kind);
        rest = after.get(usize::from(*length)..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn a_client_is_told_how_much_it_may_send() -> TestResult {
    for (messages, bytes) in [(20, 1_000_000), (0, 0)] {
        let server = start(app(), |config| {
            (config.limits.messages_per_second, config.limits.bytes_per_second) = (messages, bytes);
        })
        .await?;
        let client = server.client()?.connect()?;
        let most = |count: usize| NonZeroU64::new(count as u64);
        let told = Pace { messages_per_second: most(messages), bytes_per_second: most(bytes) };
        assert_eq!(client.ready().await?.welcome.pace, told);
    }
    Ok(())
}

#[tokio::test]
async fn who_sends_too_fast_is_warned_first_and_then_closed_with_a_code_to_come_back_by() -> TestResult {
    let server = start(app(), |config| {
        config.server.encryption = false;
        config.limits.messages_per_second = 20;
    })
    .await?;
    let mut socket = RawSocket::open(&server.url(), SUBPROTOCOL_PLAIN).await?;
    socket.send(hello(&server.url())).await?;
    let _welcome = socket.next().await?;
    let mut kinds = Vec::new();
    let flood = async {
        loop {
            // A ping, which is no message of the application, and what comes for it.
            socket.send(Message::binary(vec![0x11, 0x07, 0x00, 0x01, 0x05])).await.ok();
            match socket.next().await? {
                Ok(record) => kinds.extend(frames(&record)),
                Err(code) => return moorline_tests::raw::Result::Ok(code),
            }
        }
    };
    let code = timeout(PATIENCE, flood).await??;
    let unusual: Vec<u8> = kinds.iter().copied().filter(|kind| *kind != 0x08).collect();
    assert_eq!(code, RATE_LIMITED, "{unusual:x?}");
    assert_eq!(unusual, [0x09, 0x03], "a warning, then Goaway");
    let numbers = scrape(server.internal()).await?;
    assert_eq!(numbers.get("moorline_rate_warnings_total{limit=\"messages_per_second\"}"), 1.0);
    assert_eq!(numbers.get("moorline_limited_total{limit=\"messages_per_second\"}"), 1.0);
    assert_eq!(numbers.get("moorline_closes_total{code=\"rate_limited\"}"), 1.0);
    Ok(())
}

#[tokio::test]
async fn who_was_closed_for_sending_too_fast_comes_back_to_the_session_and_has_lost_nothing() -> TestResult {
    let (returned, mut returns) = mpsc::channel(8);
    let on_return = move || {
        let returned = returned.clone();
        async move {
            let _ = returned.try_send(());
        }
    };
    let server = start(app().on_return(on_return), |config| config.limits.messages_per_second = 20).await?;
    let client = server.client()?.connect()?;
    let session = client.ready().await?.id;
    let mut calls = 0;
    let flood = async {
        while returns.try_recv().is_err() {
            let text = calls.to_string();
            assert_eq!(client.call_within::<String>("echo", &text, PATIENCE).await?, text);
            calls += 1;
        }
        moorline_tests::raw::Result::Ok(())
    };
    timeout(Duration::from_secs(40), flood).await??;
    assert_eq!(client.ready().await?.id, session);
    assert!(calls > 100, "{calls}");
    assert_eq!(limited(&server, "messages_per_second").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_handler_with_a_rate_tells_when_to_ask_again_and_each_client_has_its_own() -> TestResult {
    let (heard, mut hears) = mpsc::channel(8);
    let note = move |Json(n): Json<u32>| {
        let heard = heard.clone();
        async move {
            let _ = heard.try_send(n);
        }
    };
    let app = app().handler("seldom", echo.rate(per_minute(3))).listener("note", note.rate(per_minute(2)));
    let server = start(app, |_| {}).await?;
    let (one, other) = (server.client()?.connect()?, server.client()?.connect()?);
    for client in [&one, &other] {
        for _ in 0..3 {
            assert_eq!(client.call::<String>("seldom", &"x").await?, "x");
        }
        let Err(Error::Failed(failure)) = client.call::<String>("seldom", &"x").await else {
            return Err("it was not refused".into());
        };
        assert_eq!(failure.code, Code::TOO_MANY_REQUESTS);
        let data: serde_json::Value = serde_json::from_slice(&failure.data.ok_or("no data")?.bytes)?;
        assert!((1..=20_001).contains(&data["retryAfterMs"].as_u64().ok_or("no number")?), "{data}");
        assert_eq!(client.call::<String>("echo", &"still here").await?, "still here");
    }
    for n in 0..5 {
        one.notify("note", &n).await?;
    }
    assert_eq!(one.call::<String>("echo", &"after them").await?, "after them");
    assert_eq!((hears.try_recv()?, hears.try_recv()?), (0, 1));
    assert!(hears.try_recv().is_err());
    assert_eq!(limited(&server, "handler").await?, 5.0);
    let never = TestServer::start(Server::builder().handler("never", echo.rate(per_second(0)))).await;
    assert!(matches!(never, Err(moorline_server::Error::InvalidGuard { .. })));
    Ok(())
}
