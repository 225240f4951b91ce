//! A server as the generator sees it: a process of its own, an address, and what it has used.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use moorline_protocol::key::ServerKey;
use tokio::time::sleep;

use crate::{machine, subject::Subject};

/// How often to look whether a server has come to rest, and how long at most.
const LOOK: Duration = Duration::from_millis(15);
const REST_WAIT: Duration = Duration::from_secs(5);

/// Where to connect to, and how to speak there.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) subject: Subject,
    pub(crate) address: SocketAddr,
    /// There where records are sealed.
    pub(crate) key: Option<ServerKey>,
}

/// A server in a process of its own, which ends with this.
pub(crate) struct Server {
    child: Child,
    door: Door,
}

/// What some work has cost a server.
pub(crate) struct Cost {
    pub(crate) processor: Duration,
    /// By the clock, as the generator saw it.
    pub(crate) wall: Duration,
}

impl Server {
    /// Starts one on this core and waits until it listens.
    pub(crate) fn start(subject: Subject, core: Option<usize>) -> Result<Self> {
        let program = std::env::current_exe().context("the bench does not find its own program")?;
        let mut child = Command::new(program)
            .args(["serve", subject.name()])
            .args(core.map(|core| core.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a server")?;
        // An error from here on drops the server's standard input, which ends it.
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the output of a server")?).read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let address = words.next().with_context(|| format!("the server {:?} did not start", subject.name()))?;
        let door = Door { subject, address: address.parse()?, key: words.next().map(str::parse).transpose()? };
        Ok(Self { child, door })
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// What `work` costs, from rest to rest: what the server does for it before the first answer and after the last
    /// belongs to it.
    pub(crate) async fn cost<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(Cost, T)> {
        let before = self.rest().await?;
        let started = Instant::now();
        let result = work.await?;
        let wall = started.elapsed();
        let processor = self.rest().await?.saturating_sub(before);
        Ok((Cost { processor, wall }, result))
    }

    /// Waits until it has come to rest, and tells the memory that is its own, in bytes.
    pub(crate) async fn memory(&self) -> Result<u64> {
        self.rest().await?;
        machine::own_memory(self.child.id())
    }

    /// Waits until it does nothing any more, and tells what it has used of the processor until then.
    async fn rest(&self) -> Result<Duration> {
        let started = Instant::now();
        let mut used = machine::processor_time(self.child.id())?;
        loop {
            sleep(LOOK).await;
            let now = machine::processor_time(self.child.id())?;
            if now == used {
                return Ok(now);
            }
            used = now;
            ensure!(started.elapsed() < REST_WAIT, "the server {:?} does not come to rest", self.door.subject.name());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either fails only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
