//! Clients that do not read cost what they may cost, and nobody else notices.

use std::time::{Duration, Instant};

use moorline_protocol::{client::Status, record::SUBPROTOCOL_PLAIN};
use moorline_server::{SendError, prelude::*};
use moorline_tests::{
    TestResult, TestServer,
    raw::{PATIENCE, RawSocket, hello},
};
use tokio::time::timeout;

const STALLED: usize = 500;
const HEALTHY: usize = 500;

/// Memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn memory() -> Result<usize, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(1024 * line.trim().trim_end_matches("kB").trim().parse::<usize>()?)
}

/// Of one round trip of each client, the time that 99 of 100 stay under.
async fn p99(clients: &[moorline_client::Client]) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut times = Vec::new();
    for client in clients {
        let asked = Instant::now();
        client.call::<u64>("double", &21).await?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() * 99 / 100])
}

/// Other machines measure memory in other ways.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_who_do_not_read_cost_a_megabyte_each_and_nobody_elses_time() -> TestResult {
    let app = Server::builder().handler("double", |Json(n): Json<u64>| async move { Json(2 * n) });
    let change = |config: &mut Config| {
        config.server.encryption = false;
        // They do not answer pings either; how long that goes well is not the question here.
        config.heartbeat.idle = Duration::from_secs(600);
    };
    let server = TestServer::start_with(app, change).await?;
    let mut healthy = Vec::new();
    for _ in 0..HEALTHY {
        let client = server.client()?.encryption(None).connect()?;
        client.ready().await?;
        healthy.push(client);
    }
    let here: Vec<_> = server.peers.all().iter().map(moorline_server::Peer::id).collect();
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut socket = RawSocket::open_narrow(&server.url(), SUBPROTOCOL_PLAIN).await?;
        socket.send(hello(&server.url())).await?;
        socket.next().await?.map_err(|code| format!("closed with {code}"))?;
        // From here on it takes nothing.
        stalled.push(socket);
    }
    p99(&healthy).await?;
    let (alone, before) = (p99(&healthy).await?, memory()?);

    // Each of its own, so that no two share their bytes.
    let victims: Vec<Peer> = server.peers.all().into_iter().filter(|peer| !here.contains(&peer.id())).collect();
    assert_eq!(victims.len(), STALLED);
    let text = "x".repeat(4_000);
    for victim in &victims {
        // The system's buffers take a part; what the server keeps ends at the cap, and whoever sends is told.
        let mut refused = false;
        for number in 0..20_000 {
            match victim.notify("news", &(number, &text)) {
                Ok(()) => {}
                Err(SendError::Refused(_)) => {
                    refused = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        assert!(refused, "there is an end to it");
    }
    let beside = p99(&healthy).await?;
    let each = memory()?.saturating_sub(before) / STALLED;
    println!("{each} bytes each; p99 {alone:?} alone, {beside:?} beside them");
    assert!(each < 1_153_434, "{each} bytes each: more than 1.1 MiB");
    // A wide margin for a busy machine: what is looked for is a server that stands still.
    assert!(beside < 2 * alone + Duration::from_millis(5), "p99 {alone:?} alone, {beside:?} beside them");
    assert!(victims.iter().all(Peer::is_connected), "who is slow is still there");

    // What must not be missing ends the sessions of those who cannot take it, and of nobody else.
    server.peers.broadcast("all", &1)?;
    let alone_again = async {
        while server.peers.count() > HEALTHY {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, alone_again).await?;
    p99(&healthy).await?;
    assert!(healthy.iter().all(|client| client.status() == Status::Connected));
    drop(stalled);
    Ok(())
}
