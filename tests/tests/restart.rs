//! Everybody comes back at once: thousands of clients whose server is started again, or whose sockets are gone.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use moorline_client::Client;
use moorline_protocol::{
    backoff::BackoffConfig,
    client::{Reset, SessionInfo},
    frame::ResetReason,
};
use moorline_tests::{TestResult, cutter::Cutter, cutter::Harm};
use tokio::{
    sync::{Mutex, broadcast, broadcast::error::TryRecvError},
    time::{timeout, timeout_at},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Sessions on the server that is started again, if so many get in within [`FILLING`].
const CLIENTS: usize = 8_000;
const LEAST_CLIENTS: usize = 1_000;
const FILLING: Duration = Duration::from_secs(8);

/// Over how long they come back.
const SPREAD: Duration = Duration::from_secs(12);

/// Sessions whose sockets are cut at once.
const CUT: usize = 1_000;

/// Clients that connect at one time, where it is not to be everybody.
const AT_ONCE: usize = 200;

/// From the moment of the loss until the last client is back.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Open files of one process: a socket for each client and two for each that is behind the cutter, and some.
const OPEN_FILES: u64 = 8_500;

/// Of the server's own for a session at rest, in bytes. By a channel with room for things that hardly ever come it had
/// been 50,000, and no test noticed.
const MOST_MEMORY: u64 = 32_000;

/// Each wants the whole machine for itself.
static MACHINE: Mutex<()> = Mutex::const_new(());

/// Asks the system for what it may give, if what it gives unasked is not enough. The server inherits it.
fn raise_file_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if limit.current.is_none_or(|current| current >= OPEN_FILES) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(OPEN_FILES), maximum: limit.maximum }).map_err(|error| {
        format!("this needs {OPEN_FILES} open files: say `ulimit -n {OPEN_FILES}` first ({error})").into()
    })
}

/// A server in a process of its own, so that its memory and its open files are its own. It ends with this.
struct Fixture {
    child: Child,
    address: SocketAddr,
    key: String,
}

impl Fixture {
    fn start(port: u16) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fixture"))
            .args(["--port", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // An error from here on drops its standard input, which ends it.
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
        let told: serde_json::Value = serde_json::from_str(&line)?;
        let text = |name: &str| told[name].as_str().ok_or_else(|| format!("no {name}: {line}"));
        let (address, key) = (text("http")?.trim_start_matches("http://").parse()?, text("key")?.to_owned());
        Ok(Self { child, address, key })
    }

    fn url(&self) -> String {
        format!("ws://{}/moorline", self.address)
    }

    /// Its own memory in bytes, where the system tells.
    fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        Some(1024 * line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Either fails only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client, the session that it began with, and the losses that it is told of.
struct Visitor {
    client: Client,
    first: SessionInfo,
    resets: broadcast::Receiver<Reset>,
}

impl Visitor {
    async fn connect(url: &str, key: &str, backoff: BackoffConfig) -> Result<Self> {
        let builder = Client::builder(url)?.server_key(key)?;
        let client = builder.configure(|config| config.backoff = Some(backoff)).connect()?;
        let resets = client.resets();
        Ok(Self { first: client.ready().await?, client, resets })
    }
}

/// Lets clients in, some at a time, until there are `most` or the time is over.
async fn fill(url: &str, key: &str, most: usize, backoff: BackoffConfig) -> Result<Vec<Visitor>> {
    let started = Instant::now();
    let mut visitors = Vec::with_capacity(most);
    while visitors.len() < most && started.elapsed() < FILLING {
        let count = AT_ONCE.min(most - visitors.len());
        visitors.extend(try_join_all((0..count).map(|_| Visitor::connect(url, key, backoff))).await?);
    }
    Ok(visitors)
}

fn report(what: &str, count: usize, took: Duration) {
    println!("{what}: {count} sessions in {took:.2?}, {:.0} a second", count as f64 / took.as_secs_f64());
}

/// Says by how much a server has grown for each of its sessions, and sees to it that it is not too much.
fn weigh(what: &str, server: &Fixture, empty: Option<u64>, count: usize) {
    let Some((full, empty)) = server.memory().zip(empty) else { return };
    let each = full.saturating_sub(empty) / count as u64;
    println!("{what}: {each} bytes of the server's own for a session");
    assert!(each < MOST_MEMORY, "{each} bytes for a session");
}

/// How many sessions the server has.
async fn sessions(client: &Client) -> Result<serde_json::Value> {
    let told: serde_json::Value = client.call("whoami", &()).await?;
    Ok(told["connected"].clone())
}

/// 8,000 of them, or as many as this machine lets in within the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_are_back_within_thirty_seconds_of_a_restart_and_told_of_it_once() -> TestResult {
    let _alone = MACHINE.lock().await;
    raise_file_limit()?;
    // A fleet's clients each have a machine of their own. These share one with the server, and if they all began at once
    // they would wait for each other until every deadline is over; so they come back a little more slowly than they came.
    let spread = BackoffConfig { base: SPREAD, cap: SPREAD, ..BackoffConfig::default() };
    let first = Fixture::start(0)?;
    let (started, empty) = (Instant::now(), first.memory());
    let mut visitors = fill(&first.url(), &first.key, CLIENTS, spread).await?;
    let count = visitors.len();
    report("first connect", count, started.elapsed());
    assert!(count >= LEAST_CLIENTS, "only {count} got in");
    weigh("first connect", &first, empty, count);

    // Killed: without a word, and everybody notices in the same moment.
    let (lost, port) = (Instant::now(), first.address.port());
    drop(first);
    let second = Fixture::start(port)?;
    let empty = second.memory();
    let back = async {
        for visitor in &mut visitors {
            assert_eq!(visitor.resets.recv().await?.reason, ResetReason::Restart);
            visitor.client.ready().await?;
        }
        TestResult::Ok(())
    };
    timeout_at((lost + BACK_WITHIN).into(), back).await.map_err(|_| "somebody did not come back")??;
    report("comeback", count, lost.elapsed());
    weigh("comeback", &second, empty, count);

    for (number, visitor) in visitors.iter_mut().enumerate() {
        assert_eq!(visitor.client.call::<usize>("double", &number).await?, 2 * number);
        assert_eq!(visitor.resets.try_recv(), Err(TryRecvError::Empty), "it is told once");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sockets_that_are_cut_at_once_are_a_thousand_sessions_that_go_on() -> TestResult {
    let _alone = MACHINE.lock().await;
    raise_file_limit()?;
    let server = Fixture::start(0)?;
    let cutter = Cutter::start(server.address, |_| Harm::None).await?;
    let mut visitors = fill(&cutter.url(), &server.key, CUT, BackoffConfig::default()).await?;
    let before = sessions(&visitors[0].client).await?;

    let lost = Instant::now();
    cutter.cut().await;
    let back = async {
        for (number, Visitor { client, first, resets }) in visitors.iter_mut().enumerate() {
            // Whether the client has noticed already or not: it is answered on the next connection.
            assert_eq!(client.call_within::<usize>("double", &number, BACK_WITHIN).await?, 2 * number);
            let now = client.ready().await?;
            assert_eq!((now.resumed, now.id), (true, first.id));
            assert_eq!(resets.try_recv(), Err(TryRecvError::Empty));
        }
        TestResult::Ok(())
    };
    timeout(BACK_WITHIN, back).await.map_err(|_| "somebody did not come back")??;
    report("resumption", visitors.len(), lost.elapsed());
    assert_eq!(sessions(&visitors[0].client).await?, before, "nobody has a second one");
    Ok(())
}
