//! A server as the generator sees it: a process of its own, an address, and what it has used.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use moorline_protocol::key::ServerKey;
use tempfile::TempDir;
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
    /// Where it keeps what is to be kept.
    data: Option<TempDir>,
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
        Self::start_with(subject, core, None)
    }

    /// The same, and it keeps what is to be kept. Beside the program: a folder for temporary files may be in memory.
    pub(crate) fn start_with_disk(subject: Subject, core: Option<usize>) -> Result<Self> {
        let program = std::env::current_exe().context("the bench does not find its own program")?;
        let beside = program.parent().context("the program is in a folder")?;
        Self::start_with(subject, core, Some(tempfile::tempdir_in(beside)?))
    }

    fn start_with(subject: Subject, core: Option<usize>, data: Option<TempDir>) -> Result<Self> {
        let program = std::env::current_exe().context("the bench does not find its own program")?;
        let folder = data.iter().flat_map(|data| ["--data".as_ref(), data.path().as_os_str()]);
        let mut child = Command::new(program)
            .args(["serve", subject.name()])
            .args(folder)
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
        Ok(Self { child, door, data })
    }

    /// Commits of its database since it was made.
    pub(crate) fn commits(&self) -> Result<u32> {
        let data = self.data.as_ref().context("it keeps nothing")?;
        let index = find(data.path(), "-shm")?.context("it has a database")?;
        // The third word of the index of a write-ahead log counts its transactions (SQLite, "WAL-mode File Format",
        // § 2.1).
        let (mut file, mut count) = (File::open(index)?, [0; 4]);
        file.seek(SeekFrom::Start(8))?;
        file.read_exact(&mut count)?;
        Ok(u32::from_ne_bytes(count))
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

/// The first file of a folder whose name ends so.
fn find(folder: &Path, end: &str) -> Result<Option<PathBuf>> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(end) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either fails only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
