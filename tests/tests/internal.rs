//! The internal listener: what it answers when, and that it guards itself.

use std::{net::SocketAddr, time::Duration};

use moorline_server::prelude::*;
use moorline_tests::{
    TestResult, TestServer,
    raw::{self, Answer, PATIENCE, http},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};

/// Any free port of this machine.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn get(address: SocketAddr, path: &str) -> raw::Result<Answer> {
    http(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}")).await
}

async fn word(address: SocketAddr, path: &str) -> raw::Result<(u16, String)> {
    let Answer { status, text } = get(address, path).await?;
    Ok((status, text.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim_end()).to_owned()))
}

#[tokio::test]
async fn it_tells_of_a_server_that_starts_serves_and_drains_and_ends_with_it() -> TestResult {
    // Holds a connection, so that the drain is not over before it is looked at.
    let (release, released) = oneshot::channel::<()>();
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(Some(released)));
    let hold = move || {
        let released = released.clone();
        async move {
            if let Some(released) = released.lock().await.take() {
                let _ = released.await;
            }
        }
    };
    let mut config = Config::default();
    config.server.listen = ANY;
    config.server.encryption = false;
    let server = Server::builder().on_disconnect(hold).config(config).internal_listen(ANY).build().await?;
    let (public, internal) = (server.local_addr(), server.internal_addr().ok_or("no internal listener")?);
    assert_eq!(server.summary().internal, Some(internal));
    assert_eq!(word(internal, "/healthz").await?, (200, "ok".into()));
    assert_eq!(word(internal, "/readyz").await?, (503, "starting".into()));

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async {
        let _ = stopped.await;
    }));
    let client = moorline_client::Client::builder(&format!("ws://{public}/moorline"))?.encryption(None).connect()?;
    client.ready().await?;
    assert_eq!(word(internal, "/readyz").await?, (200, "ready".into()));

    let _ = stop.send(());
    let draining = async {
        while word(internal, "/readyz").await? != (503, "draining".into()) {}
        raw::Result::Ok(())
    };
    timeout(PATIENCE, draining).await??;
    assert_eq!(word(internal, "/healthz").await?, (200, "ok".into()));

    let _ = release.send(());
    timeout(PATIENCE, serving).await???;
    assert!(TcpStream::connect(internal).await.is_err(), "it outlived its server");
    client.close().await;
    Ok(())
}

#[tokio::test]
async fn it_ends_with_a_server_that_never_served() -> TestResult {
    let mut config = Config::default();
    config.server.listen = ANY;
    config.server.encryption = false;
    let server = Server::builder().config(config).internal_listen(ANY).build().await?;
    let internal = server.internal_addr().ok_or("no internal listener")?;
    drop(server);
    let gone = async { while TcpStream::connect(internal).await.is_ok() {} };
    Ok(timeout(PATIENCE, gone).await?)
}

#[tokio::test]
async fn everything_else_is_not_there_and_other_methods_are_not_allowed() -> TestResult {
    let server = TestServer::start_with(Server::builder(), |config| config.internal.listen = Some(ANY)).await?;
    for path in ["/", "/moorline", "/.well-known/moorline", "/metrics/", "/healthz/x", "/HEALTHZ"] {
        assert_eq!(get(server.internal(), path).await?.status, 404, "{path}");
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0", server.internal());
            assert_eq!(http(server.internal(), &head).await?.status, 405, "{method} {path}");
        }
        assert_eq!(get(server.address(), path).await?.status, 404, "the public listener answers {path}");
    }
    Ok(())
}

#[tokio::test]
async fn one_address_cannot_have_both_listeners() -> TestResult {
    let address = std::net::TcpListener::bind(ANY)?.local_addr()?;
    let mut config = Config::default();
    config.server.listen = address;
    let Err(error) = Server::builder().config(config).internal_listen(address).build().await else {
        return Err("it was built".into());
    };
    assert!(error.to_string().contains("[server] listen and [internal] listen are both"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() -> TestResult {
    let server = TestServer::start_with(Server::builder(), |config| {
        config.internal.listen = Some(ANY);
        config.timeouts.upgrade = Duration::from_millis(300);
    })
    .await?;
    for start in ["GET /healthz HTTP/1.1\r\nHost:", ""] {
        let mut socket = TcpStream::connect(server.internal()).await?;
        socket.write_all(start.as_bytes()).await?;
        let mut answer = String::new();
        timeout(PATIENCE, socket.read_to_string(&mut answer)).await??;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    Ok(())
}

/// Asks on a connection that stays open, and reads the answer's first bytes.
async fn ask(socket: &mut TcpStream) -> std::io::Result<()> {
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    socket.read_exact(&mut [0; 12]).await.map(drop)
}

#[tokio::test]
async fn whoever_comes_beyond_its_cap_waits_for_a_place() -> TestResult {
    let server = TestServer::start_with(Server::builder(), |config| {
        config.internal.listen = Some(ANY);
        config.timeouts.upgrade = Duration::from_secs(3600);
    })
    .await?;
    let mut inside = Vec::new();
    for _ in 0..64 {
        let mut socket = TcpStream::connect(server.internal()).await?;
        timeout(PATIENCE, ask(&mut socket)).await??;
        inside.push(socket);
    }
    let mut late = TcpStream::connect(server.internal()).await?;
    assert!(timeout(Duration::from_millis(100), ask(&mut late)).await.is_err(), "there is no cap");
    inside.pop();
    Ok(timeout(PATIENCE, late.read_exact(&mut [0; 12])).await?.map(drop)?)
}

#[tokio::test]
async fn an_embedder_is_told_where_its_server_is_in_its_life() -> TestResult {
    use moorline_server::{Server, ServerStatus};
    let (told, mut heard) = tokio::sync::mpsc::channel(8);
    let tell = move |status| {
        let _ = told.try_send(status);
    };
    let server = TestServer::start(Server::builder().on_status(tell.clone())).await?;
    for expected in [ServerStatus::Starting, ServerStatus::Idle, ServerStatus::Started] {
        assert_eq!(heard.recv().await, Some(expected));
    }
    server.stop().await?;
    for expected in [ServerStatus::Draining, ServerStatus::Stopped] {
        assert_eq!(heard.recv().await, Some(expected));
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let failed = TestServer::start_with(Server::builder().on_status(tell), |config| {
        config.server.listen = taken.local_addr().expect("an address")
    });
    assert!(failed.await.is_err());
    for expected in [ServerStatus::Starting, ServerStatus::Failed] {
        assert_eq!(heard.recv().await, Some(expected));
    }
    Ok(())
}
