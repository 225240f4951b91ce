//! Nothing is lost, doubled or reordered, whatever happens to the sockets.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use moorline_client::{Client, Error};
use moorline_protocol::{
    backoff::BackoffConfig,
    client::{ClientConfig, Status},
    frame::ResetReason,
    heartbeat::HeartbeatConfig,
};
use moorline_server::prelude::*;
use moorline_tests::{
    TestResult, TestServer,
    cutter::{
        Cutter,
        Direction::{Down, Up},
        Harm, Place,
    },
};
use tokio::time::{sleep, timeout};

/// Numbers in the order in which they arrived.
#[derive(Clone, Default)]
struct Arrived(Arc<Mutex<Vec<u64>>>);

impl Arrived {
    fn push(&self, number: u64) {
        self.0.lock().expect("no test panics in here").push(number);
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().expect("no test panics in here"))
    }

    fn len(&self) -> usize {
        self.0.lock().expect("no test panics in here").len()
    }
}

async fn up(State(arrived): State<Arrived>, Json((number, _)): Json<(u64, String)>) {
    arrived.push(number);
}

/// Answers after a while that differs, so that cuts fall between a call and its answer.
async fn double(Json((number, padding)): Json<(u64, String)>) -> Json<(u64, String)> {
    sleep(Duration::from_millis(number % 7)).await;
    Json((2 * number, padding))
}

/// Sends numbered notifications to whoever asks, as fast as there is room.
async fn flood(peer: Peer, Json(count): Json<u64>) -> Result<(), Fail> {
    for number in 0..count {
        while let Err(moorline_server::SendError::Refused(_)) = peer.notify("down", &(number, padding(number))) {
            sleep(Duration::from_millis(2)).await;
        }
    }
    Ok(())
}

/// Now and then a message is so large that it travels in parts.
fn padding(number: u64) -> String {
    "x".repeat(if number.is_multiple_of(97) { 40_000 } else { (number % 50) as usize })
}

fn hasty(config: &mut ClientConfig) {
    let millis = Duration::from_millis;
    config.heartbeat = HeartbeatConfig { idle: millis(200), grace: millis(200) };
    config.backoff = Some(BackoffConfig { base: millis(5), cap: millis(20), ..BackoffConfig::default() });
    config.connect_timeout = Duration::from_secs(1);
}

async fn start() -> Result<(TestServer, Arrived), moorline_server::Error> {
    let arrived = Arrived::default();
    let app = Server::builder()
        .with_state(arrived.clone())
        .listener("up", up)
        .handler("double", double)
        .handler("flood", flood);
    let server = TestServer::start_with(app, |config| {
        config.heartbeat.idle = Duration::from_millis(200);
        config.heartbeat.grace = Duration::from_millis(200);
        config.timeouts.handshake = Duration::from_secs(1);
    });
    Ok((server.await?, arrived))
}

/// A harm for each connection in turn, at places that no two connections share, counted in one direction and the other
/// in turn. The handshake takes about 600 bytes of either.
fn every_harm(number: usize) -> Harm {
    let place =
        Place { direction: if number.is_multiple_of(2) { Up } else { Down }, after: 500 + (number * 7_919) % 22_000 };
    // Mostly quick ones: it takes 0.4 s to find out that nothing passes.
    match number / 2 % 20 {
        0..=8 => Harm::Cut(place),
        9..=15 => Harm::Reset(place),
        16 => Harm::Freeze(place),
        17 => Harm::DeafServer(place),
        18 => Harm::DeafClient(place),
        _ => Harm::Stall(place, Duration::from_millis(40)),
    }
}

async fn sends_numbers(client: &Client, count: u64) -> Result<(), Error> {
    for number in 0..count {
        loop {
            match client.notify("up", &(number, padding(number))).await {
                Err(Error::Refused(_)) => sleep(Duration::from_millis(2)).await,
                sent => break sent?,
            }
        }
    }
    Ok(())
}

async fn calls_numbers(client: &Client, count: u64) -> TestResult {
    for number in 0..count {
        let wait = Duration::from_secs(60);
        let doubled = loop {
            match client.call_within::<(u64, String)>("double", &(number, padding(number)), wait).await {
                Err(Error::Refused(_)) => sleep(Duration::from_millis(2)).await,
                answer => break answer?.0,
            }
        };
        assert_eq!(doubled, 2 * number);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_across_hundreds_of_cuts() -> TestResult {
    const MESSAGES: u64 = 50_000;
    let (server, arrived) = start().await?;
    // From the 300th connection on the way is free, so that it all comes to an end.
    let harm = |number| if number < 400 { every_harm(number) } else { Harm::None };
    let cutter = Cutter::start(server.address(), harm).await?;
    let client = server.client_at(&cutter.url())?.configure(hasty).connect()?;
    let down = Arrived::default();
    let heard = down.clone();
    client.listen("down", move |(number, _): (u64, String)| {
        heard.push(number);
        std::future::ready(())
    });
    let mut resets = client.resets();
    let run = async {
        let flood = client.call_within::<()>("flood", &MESSAGES, Duration::from_secs(120));
        let (flooded, sent, called) =
            tokio::join!(flood, sends_numbers(&client, MESSAGES), calls_numbers(&client, 1_000));
        flooded?;
        sent?;
        called
    };
    let ran = timeout(Duration::from_secs(120), run).await.map_err(|_| "it took too long");
    if let Ok(reset) = resets.try_recv() {
        return Err(format!("{reset:?} after {} connections", cutter.connections()).into());
    }
    ran??;
    client.notify_confirmed("up", &(MESSAGES, "")).await?;
    assert_eq!(down.take(), (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!(arrived.take(), (0..=MESSAGES).collect::<Vec<_>>());
    assert!(resets.try_recv().is_err(), "no session was lost");
    assert!(cutter.connections() > 150, "only {} connections", cutter.connections());
    Ok(())
}

#[tokio::test]
async fn a_call_that_runs_while_the_socket_is_cut_is_answered_on_the_next() -> TestResult {
    let (server, _) = start().await?;
    let cutter = Cutter::start(server.address(), |number| {
        if number == 0 { Harm::Freeze(Place { direction: Up, after: 1_500 }) } else { Harm::None }
    })
    .await?;
    let client = server.client_at(&cutter.url())?.configure(hasty).connect()?;
    let first = client.ready().await?;
    // It goes out, and the way is dead behind it.
    let answer: (u64, String) = client.call("double", &(21, "y".repeat(3_000))).await?;
    assert_eq!(answer.0, 42);
    let second = client.ready().await?;
    assert!(second.resumed && second.id == first.id);
    assert_eq!(cutter.connections(), 2);
    Ok(())
}

#[tokio::test]
async fn a_client_that_stays_away_too_long_hears_one_reset_and_the_server_hears_what_was_lost() -> TestResult {
    use moorline_server::Departure;

    #[derive(Clone)]
    struct Gone(tokio::sync::mpsc::Sender<Departure>);
    async fn gone(State(gone): State<Gone>, Json(departure): Json<Departure>) {
        let _ = gone.0.send(departure).await;
    }
    async fn greet(peer: Peer) {
        let _ = peer.notify("welcome", &1);
    }
    let (departures, mut departed) = tokio::sync::mpsc::channel(4);
    let app = Server::builder().with_state(Gone(departures)).on_disconnect(gone).on_away(greet);
    let server = TestServer::start_with(app, |config| {
        config.session.resume_window = Duration::from_millis(50);
        config.heartbeat.idle = Duration::from_millis(50);
        config.heartbeat.grace = Duration::from_millis(50);
    })
    .await?;
    let cutter = Cutter::start(server.address(), |number| {
        if number == 0 { Harm::Freeze(Place { direction: Up, after: 1_500 }) } else { Harm::None }
    })
    .await?;
    let slow = |config: &mut ClientConfig| {
        hasty(config);
        // The server gives up long before.
        config.heartbeat = HeartbeatConfig { idle: Duration::from_millis(500), grace: Duration::from_millis(100) };
    };
    let client = server.client_at(&cutter.url())?.configure(slow).connect()?;
    let mut resets = client.resets();
    client.ready().await?;
    // This one is lost on its way, and who sent it hears so.
    let note = "y".repeat(3_000);
    let confirmed = client.notify_confirmed("note", &note);
    let (confirmed, departure, reset) = tokio::join!(confirmed, departed.recv(), resets.recv());
    assert!(matches!(confirmed, Err(Error::Unknown)), "{confirmed:?}");
    let reset = reset?;
    assert_eq!(reset.reason, ResetReason::Expired);
    assert_eq!(reset.unconfirmed.iter().map(|lost| lost.name.as_str()).collect::<Vec<_>>(), ["note"]);
    let departure = departure.ok_or("nobody departed")?;
    assert_eq!((departure.reason.as_str(), departure.undelivered), ("expired", 1));
    client.wait_for(|status| matches!(status, Status::Connected)).await?;
    assert!(!client.ready().await?.resumed);
    assert!(resets.try_recv().is_err(), "a reset comes once");
    Ok(())
}

/// The session is lost while a call runs: under its key it is asked again, and has run once.
#[tokio::test]
async fn a_call_with_a_key_outlives_its_session_and_runs_once() -> TestResult {
    #[derive(Clone, Default)]
    struct Runs(Arc<std::sync::atomic::AtomicUsize>);
    async fn pay(State(runs): State<Runs>, Json(_): Json<String>) -> Json<usize> {
        sleep(Duration::from_millis(400)).await;
        Json(1 + runs.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
    }
    let app = Server::builder().with_state(Runs::default()).handler("pay", pay);
    let server = TestServer::start_with(app, |config| {
        config.session.resume_window = Duration::from_millis(30);
        config.heartbeat.idle = Duration::from_millis(50);
        config.heartbeat.grace = Duration::from_millis(50);
    })
    .await?;
    let harm = |number| if number == 0 { Harm::Freeze(Place { direction: Up, after: 6_000 }) } else { Harm::None };
    let cutter = Cutter::start(server.address(), harm).await?;
    let client = server.client_at(&cutter.url())?.configure(hasty).connect()?;
    let mut resets = client.resets();
    client.ready().await?;
    let mut options = moorline_protocol::session::CallOptions::within(Duration::from_secs(20));
    options.key = Some(moorline_protocol::payload::Name::new("order-7")?);
    let payload = |size: usize| moorline_protocol::payload::Payload::json(format!("\"{}\"", "x".repeat(size)));
    // It arrives; what is sent behind it makes the way die.
    let call = client.call_raw("pay", payload(3_000), options);
    let note = "y".repeat(4_000);
    let (answer, _) = tokio::join!(call, client.notify("note", &note));
    assert_eq!(&answer?.bytes[..], b"1");
    assert_eq!(resets.recv().await?.reason, ResetReason::Expired);
    assert!(!client.ready().await?.resumed);
    Ok(())
}

#[tokio::test]
async fn a_server_that_starts_anew_is_one_reset_and_what_never_left_goes_out() -> TestResult {
    let (server, _) = start().await?;
    let address = server.address();
    let private = server.private();
    let client = server.client_at(&format!("ws://{address}/moorline"))?.configure(hasty).connect()?;
    client.ready().await?;
    let mut resets = client.resets();
    server.stop().await?;
    client.wait_for(|status| !matches!(status, Status::Connected)).await?;
    // While nobody is there, messages wait.
    client.notify("up", &(0, "")).await?;
    client.notify("up", &(1, "")).await?;

    let arrived = Arrived::default();
    let app = Server::builder().with_state(arrived.clone()).listener("up", up);
    let next = TestServer::start_again(app, private, |config| config.server.listen = address).await?;
    let reset = timeout(Duration::from_secs(10), resets.recv()).await??;
    assert_eq!((reset.reason, reset.unconfirmed), (ResetReason::Restart, Vec::new()));
    client.notify_confirmed("up", &(2, "")).await?;
    assert_eq!(arrived.take(), [0, 1, 2]);
    assert_eq!(arrived.len(), 0);
    assert!(resets.try_recv().is_err(), "a reset comes once");
    next.stop().await
}
