//! A server that stops: what runs may end, everybody is told, nobody is told at the same time as everybody else.

use std::time::{Duration, Instant};

use moorline_protocol::{client::Status, code::Code};
use moorline_server::prelude::*;
use moorline_tests::{TestResult, TestServer};
use tokio::{sync::mpsc, time::sleep};

#[derive(Clone)]
struct Started(mpsc::Sender<()>);

async fn slow(State(started): State<Started>, Json(ms): Json<u64>) -> Json<u64> {
    let _ = started.0.send(()).await;
    sleep(Duration::from_millis(ms)).await;
    Json(ms)
}

#[tokio::test]
async fn a_call_that_runs_is_answered_before_the_good_bye() -> TestResult {
    let (started, mut starts) = mpsc::channel(4);
    let app = Server::builder().with_state(Started(started)).handler("slow", slow);
    let server = TestServer::start(app).await?;
    let (busy, idle) = (server.client()?.connect()?, server.client()?.connect()?);
    idle.ready().await?;
    let call = tokio::spawn({
        let busy = busy.clone();
        async move { busy.call::<u64>("slow", &300).await }
    });
    starts.recv().await.ok_or("not started")?;
    let stopping = Instant::now();
    let told = idle.wait_for(|status| {
        matches!(status, Status::Connecting { error: Some(error), .. }
        if error.code == Code::GOING_AWAY && error.reference.is_some())
    });
    let (stopped, told) = tokio::join!(server.stop(), told);
    stopped?;
    told?;
    assert_eq!(call.await??, 300);
    assert!(stopping.elapsed() < Duration::from_secs(5), "it ends when the last call does");
    Ok(())
}

#[tokio::test]
async fn a_call_that_takes_too_long_does_not_hold_up_the_end() -> TestResult {
    let (started, mut starts) = mpsc::channel(4);
    let app = Server::builder().with_state(Started(started)).handler("slow", slow);
    let server = TestServer::start_with(app, |config| config.timeouts.shutdown = Duration::from_millis(500)).await?;
    let client = server.client()?.connect()?;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call::<u64>("slow", &60_000).await }
    });
    starts.recv().await.ok_or("not started")?;
    let stopping = Instant::now();
    server.stop().await?;
    assert!(stopping.elapsed() < Duration::from_secs(3));
    // Its outcome is not known, and whoever asked hears so once the session is known to be lost.
    client.close().await;
    assert!(call.await?.is_err());
    Ok(())
}

#[tokio::test]
async fn clients_are_told_one_after_the_other() -> TestResult {
    const CLIENTS: usize = 200;
    let server = TestServer::start(Server::builder()).await?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.client()?.connect()?);
    }
    for client in &clients {
        client.ready().await?;
    }
    let left = clients.iter().map(|client| {
        let client = client.clone();
        tokio::spawn(async move {
            let _ = client.wait_for(|status| !matches!(status, Status::Connected)).await;
            Instant::now()
        })
    });
    let left: Vec<_> = left.collect();
    server.stop().await?;
    let mut times = Vec::new();
    for left in left {
        times.push(left.await?);
    }
    let (first, last) = (times.iter().min().ok_or("none")?, times.iter().max().ok_or("none")?);
    // A millisecond for each.
    assert!(*last - *first >= Duration::from_millis(100), "{:?}", *last - *first);
    Ok(())
}
