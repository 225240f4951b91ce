//! `moorline watch`.

use std::{
    io::{self, Write as _},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use moorline_client::{
    Client, Error, TopicEvent, TopicOptions,
    protocol::{
        channel::{Gap, Start},
        client::Status,
        code::Code,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    args::WatchFlags,
    message::{self, Said},
    remote::{self, explain},
    signals::Signals,
};

/// Lines that wait for whoever reads standard output. Who is slower holds up the reading of the topic, which then goes on
/// from where it was.
const LINES: usize = 256;

/// How long the end waits: for the last lines to be taken, and for the server to hear good-bye.
const END: Duration = Duration::from_secs(2);

pub(crate) fn run(config: Option<&Path>, flags: WatchFlags) -> anyhow::Result<()> {
    remote::runtime()?.block_on(watch(config, flags))
}

async fn watch(config: Option<&Path>, flags: WatchFlags) -> anyhow::Result<()> {
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let client = flags.remote.connect(config)?;
    let output = Output::start();
    let watched = tokio::select! {
        watched = follow(&client, &flags, &output.lines) => watched,
        // Both are how it is meant to end.
        _ = signals.next() => Ok(()),
        () = output.gone() => Ok(()),
    };
    let ended = async {
        output.finish().await;
        client.close().await;
    };
    // Whoever is asked a second time does not wait.
    tokio::select! {
        _ = timeout(END, ended) => {}
        _ = signals.next() => {}
    }
    watched
}

/// Prints what is published, until that is over for good.
async fn follow(client: &Client, flags: &WatchFlags, lines: &mpsc::Sender<String>) -> anyhow::Result<()> {
    flags.remote.ready(client).await?;
    let mut options = TopicOptions::history(flags.history);
    options.since = flags.since;
    let mut topic = client.topic(&flags.topic, options)?;
    let (mut was_open, mut standing) = (flags.since.is_some(), Standing::Connected);
    loop {
        let event = tokio::select! {
            event = topic.next() => event,
            now = standing.changes(client) => {
                if now == Standing::Failing(Code::TOKEN_EXPIRED.to_string()) {
                    // There is only this one.
                    bail!("the token has expired; watch again with a fresh one");
                }
                now.tell(&standing);
                standing = now;
                continue;
            }
        };
        let said = match event {
            Some(Ok(TopicEvent::Message(message))) => Said::from(message),
            Some(Ok(TopicEvent::Volatile(aside))) => Said::from(aside),
            Some(Ok(TopicEvent::Opened(start))) => {
                if let Some(words) = words(start, was_open) {
                    tell(words);
                }
                was_open = true;
                continue;
            }
            // For this client alone, or about who is there: neither was said in the topic.
            Some(Ok(_)) => continue,
            Some(Err(error)) => return Err(explain(&error)),
            None => bail!(explain(&Error::Closed(None))),
        };
        let line = if flags.json { message::json(&said) } else { message::pretty(&said) };
        if lines.send(line).await.is_err() {
            // Nobody reads.
            return Ok(());
        }
    }
}

/// What is said of how it goes on.
fn words(start: Start, was_open: bool) -> Option<&'static str> {
    match (start, was_open) {
        (Start::New, false) => None,
        (Start::Recovered, _) => Some("goes on; nothing was missed"),
        (Start::New, true) => Some("gap: it begins anew, and nobody knows what was missed"),
        (Start::Gap(Gap::Recreated), _) => Some("gap: the topic was made anew, and what was in it before is gone"),
        (Start::Gap(Gap::Diverged), _) => Some("gap: the server has lost messages that had been published"),
        (Start::Gap(Gap::Trimmed), _) => Some("gap: what was missed is not kept any more"),
    }
}

/// Says something of the connection, with the time, on standard error.
fn tell(words: &str) {
    eprintln!("{} {words}", message::now());
}

/// As much of the state of the connection as is told of: not each try, but when it is lost, why, and when it is back.
#[derive(Clone, PartialEq, Eq)]
enum Standing {
    Connected,
    Lost,
    /// Since then, for this reason.
    Failing(String),
    /// Over. The topic says why.
    Closed,
}

impl Standing {
    fn of(status: &Status) -> Self {
        match status {
            Status::Connected => Self::Connected,
            Status::Connecting { error: None, .. } => Self::Lost,
            Status::Connecting { error: Some(failure), .. } => Self::Failing(failure.name()),
            Status::Closed(_) => Self::Closed,
        }
    }

    /// The next one that is another.
    async fn changes(&self, client: &Client) -> Self {
        // While it waits for the next try the reason of the last one stays what it is.
        let changed = |status: &Status| {
            let now = Self::of(status);
            now != *self && !(now == Self::Lost && matches!(self, Self::Failing(_)))
        };
        match client.wait_for(changed).await {
            Ok(status) => Self::of(&status),
            Err(_) => std::future::pending().await,
        }
    }

    fn tell(&self, before: &Self) {
        match self {
            Self::Connected => tell("connected again"),
            Self::Lost => tell("the connection is lost; trying again"),
            Self::Failing(reason) if *before == Self::Connected => {
                tell(&format!("the connection is lost ({reason}); trying again"));
            }
            Self::Failing(reason) => tell(&format!("not connected ({reason}); trying again")),
            Self::Closed => {}
        }
    }
}

/// Standard output, written by a thread of its own: whoever does not read it must not hold up the connection.
struct Output {
    lines: mpsc::Sender<String>,
    /// Ready when all of it is written, or nothing can be any more.
    over: oneshot::Receiver<()>,
}

impl Output {
    fn start() -> Self {
        let (lines, mut waiting) = mpsc::channel::<String>(LINES);
        let (done, over) = oneshot::channel();
        // It ends with the process at the latest.
        thread::spawn(move || {
            let mut out = io::stdout().lock();
            while let Some(line) = waiting.blocking_recv() {
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    break;
                }
            }
            drop(waiting);
            let _ = done.send(());
        });
        Self { lines, over }
    }

    /// Whoever read is gone.
    async fn gone(&self) {
        tokio::select! {
            () = self.lines.closed() => {}
            () = reader_gone() => {}
        }
    }

    /// Writes what waits.
    async fn finish(self) {
        let Self { lines, over } = self;
        drop(lines);
        let _ = over.await;
    }
}

/// Ready when nobody reads standard output any more, also while there is nothing to write. Of a file that is never so.
#[cfg(unix)]
async fn reader_gone() {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        io::Errno,
    };

    let (gone, is_gone) = oneshot::channel();
    // It ends with the process at the latest.
    thread::spawn(move || {
        let out = io::stdout();
        loop {
            // Errors and hang-ups are told without being asked for.
            match poll(&mut [PollFd::new(&out, PollFlags::empty())], None) {
                Err(Errno::INTR) => {}
                Err(_) => return,
                Ok(_) => break,
            }
        }
        let _ = gone.send(());
    });
    if is_gone.await.is_err() {
        // The system does not say. The next line finds out.
        std::future::pending().await
    }
}

/// Here the next line finds out.
#[cfg(not(unix))]
async fn reader_gone() {
    std::future::pending().await
}
