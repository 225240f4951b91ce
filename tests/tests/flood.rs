//! A flood from a few addresses: bad handshakes at the rate that this machine gives, beside sockets that are opened and
//! left alone. Who is there does not notice, who comes from elsewhere gets in, and afterwards all is as before.
//!
//! The server is a process of its own, so that its memory is its own. `MOORLINE_FLOOD_SECONDS` makes the flood longer (5
//! unless it says otherwise), `MOORLINE_FLOOD_HALF_OPEN` the number of sockets that are left alone larger (300).
#![cfg(target_os = "linux")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use moorline_client::Client;
use moorline_tests::raw::{self, PATIENCE};
use tokio::time::{interval, timeout, timeout_at};

/// Clients that are there before the flood comes.
const ESTABLISHED: usize = 50;

/// Round trips that are looked at together.
const SAMPLE: usize = 2_000;

/// Below this a time says more of the scheduler than of the server.
const FLOOR: Duration = Duration::from_millis(2);

const MEMORY: usize = 100 * 1024 * 1024;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The server. It ends with its standard input.
struct Fixture {
    child: Child,
    _input: Option<ChildStdin>,
    address: SocketAddr,
    url: String,
    key: String,
}

impl Fixture {
    fn start() -> raw::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fixture"));
        // More places than the default, because there may be 2,000 sockets that are left alone, all from one address.
        let toml = "[limits]\nconnections_per_address = 4000";
        command.args(["--toml", toml]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let said: serde_json::Value = serde_json::from_str(&line)?;
        let text = |name: &str| said[name].as_str().map(str::to_owned).ok_or("it said something else");
        let address = text("http")?.trim_start_matches("http://").parse()?;
        Ok(Self { child, _input: input, address, url: text("url")?, key: text("key")? })
    }

    fn client(&self) -> raw::Result<Client> {
        Ok(Client::builder(&self.url)?.server_key(&self.key)?.connect()?)
    }

    /// The most memory that it ever had, and what it has, in bytes.
    fn memory(&self) -> raw::Result<(usize, usize)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse::<usize>().ok().map(|kib| 1024 * kib)
        };
        Ok((of("VmHWM:").ok_or("no VmHWM")?, of("VmRSS:").ok_or("no VmRSS")?))
    }

    fn open_files(&self) -> raw::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// The flood, a process of its own that has the processor when nobody else wants it: otherwise the time would be that of
/// the scheduler, which has to serve attackers here that are elsewhere in the world.
struct Attack(Child);

impl Attack {
    fn start(server: SocketAddr, half_open: usize) -> raw::Result<Self> {
        let mut command = Command::new("nice");
        command.args(["-n", "19", env!("CARGO_BIN_EXE_flooder"), &server.to_string(), &half_open.to_string()]);
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    /// Ends it: its bad handshakes, how often it was refused, and its sockets that it left alone.
    fn stop(mut self) -> raw::Result<[u64; 3]> {
        drop(self.0.stdin.take());
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        self.0.wait()?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// The times of so many round trips of the clients in turn.
async fn sample(clients: &[Client]) -> raw::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(SAMPLE);
    for client in clients.iter().cycle().take(SAMPLE) {
        let asked = Instant::now();
        assert_eq!(client.call::<i64>("double", &21).await?, 42);
        times.push(asked.elapsed());
    }
    Ok(times)
}

/// The time that 99 of 100 stay under.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_a_few_addresses_is_theirs_alone() -> raw::Result<()> {
    let seconds = Duration::from_secs(number("MOORLINE_FLOOD_SECONDS", 5) as u64);
    let half_open = number("MOORLINE_FLOOD_HALF_OPEN", 300);
    let server = Fixture::start()?;
    let mut clients = Vec::new();
    for _ in 0..ESTABLISHED {
        let client = server.client()?;
        client.ready().await?;
        clients.push(client);
    }
    sample(&clients).await?;
    let mut times = sample(&clients).await?;
    times.extend(sample(&clients).await?);
    let (before, (_, memory), files) = (p99(times), server.memory()?, server.open_files()?);
    let most_time = 3 * before.max(FLOOR);

    let attack = Attack::start(server.address, half_open)?;
    let came_in = AtomicUsize::new(0);
    let until = tokio::time::Instant::now() + seconds;
    let newcomers = async {
        // Fewer than one address may be by itself, whatever this machine can do.
        let mut turns = interval(Duration::from_millis(20));
        let come = async {
            loop {
                turns.tick().await;
                let newcomer = server.client()?;
                // The first attempt must do: nothing is tried again within this time.
                let answer = timeout(PATIENCE, newcomer.call::<i64>("double", &4)).await?;
                assert_eq!(answer?, 8);
                came_in.fetch_add(1, Relaxed);
                newcomer.close().await;
            }
        };
        timeout_at(until, come).await.unwrap_or(raw::Result::Ok(()))
    };
    let stayers = async {
        let mut times = Vec::new();
        while tokio::time::Instant::now() < until {
            times.extend(sample(&clients).await?);
        }
        raw::Result::Ok(p99(times))
    };
    let (newcomers, during) = tokio::join!(newcomers, stayers);
    newcomers?;
    let during = during?;
    let counts = attack.stop()?;
    let (most, _) = server.memory()?;

    let recovered = async {
        while server.open_files()? > files + 5 || p99(sample(&clients).await?) > most_time {}
        raw::Result::Ok(())
    };
    let ended = Instant::now();
    timeout(PATIENCE, recovered).await.map_err(|_| format!("{} files", server.open_files().unwrap_or_default()))??;
    let came_in = came_in.load(Relaxed);
    println!(
        "in {seconds:?}: {} bad handshakes, {} refused at the upgrade, {} sockets left alone, {came_in} newcomers; \
         p99 {before:?} before, {during:?} meanwhile; {} KiB more memory; as before after {:?}",
        counts[0],
        counts[1],
        counts[2],
        most.saturating_sub(memory) / 1024,
        ended.elapsed(),
    );
    assert!(counts[0] >= 300 && counts[1] > 0);
    assert!(counts[2] >= half_open as u64);
    assert!(came_in > 10, "{came_in}");
    assert!(most.saturating_sub(memory) < MEMORY, "{} bytes more", most.saturating_sub(memory));
    assert!(during < most_time, "{during:?} instead of {before:?}");
    Ok(())
}
