//! One publishes, a thousand hear it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::{sync::Notify, task::JoinSet, time::interval};

use crate::{
    case::{Case, Round, Stage, Unit},
    line::{Heard, Line},
    server::Server,
};

const SUBSCRIBERS: usize = 1_000;
/// Broadcasts in a second of the paced case: 30,000 deliveries.
const PACE: u32 = 30;
/// Broadcasts under way in the saturated case.
const WINDOW: u64 = 16;

/// At a rate that leaves the server time: each delivery is a write of its own.
pub(crate) struct Paced(FanOut);

/// Always some broadcasts under way: deliveries may share a write.
pub(crate) struct Saturated(FanOut);

/// A topic's messages of so many bytes, so often in a second.
pub(crate) struct PacedTopic<const SIZE: usize, const PACE: u32>(FanOut);

/// A topic's messages of so many bytes, always some under way.
pub(crate) struct SaturatedTopic<const SIZE: usize>(FanOut);

/// What is published, and how.
#[derive(Clone, Copy)]
struct What {
    /// To a topic, and not to whoever is there.
    topic: bool,
    /// Bytes of the JSON text with its quotes.
    size: usize,
}

const BROADCAST: What = What { topic: false, size: 128 };

struct FanOut {
    what: What,
    server: Server,
    publisher: Line,
    subscribers: JoinSet<Result<()>>,
    tally: Arc<Tally>,
    published: u64,
    round: Duration,
}

/// What the subscribers have heard.
struct Tally {
    origin: Instant,
    delivered: AtomicU64,
    /// How many the publisher waits for.
    wanted: AtomicU64,
    reached: Notify,
    took: Mutex<Vec<Duration>>,
}

impl Case for Paced {
    const UNIT: Unit = Unit::Processor("delivery");

    async fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self(FanOut::ready(stage, BROADCAST).await?))
    }

    async fn round(&mut self) -> Result<Round> {
        self.0.paced(PACE).await
    }
}

impl Case for Saturated {
    const UNIT: Unit = Unit::Processor("delivery");

    async fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self(FanOut::ready(stage, BROADCAST).await?))
    }

    async fn round(&mut self) -> Result<Round> {
        self.0.saturated().await
    }
}

impl<const SIZE: usize, const PACE: u32> Case for PacedTopic<SIZE, PACE> {
    const UNIT: Unit = Unit::Processor("delivery");

    async fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self(FanOut::ready(stage, What { topic: true, size: SIZE }).await?))
    }

    async fn round(&mut self) -> Result<Round> {
        self.0.paced(PACE).await
    }
}

impl<const SIZE: usize> Case for SaturatedTopic<SIZE> {
    const UNIT: Unit = Unit::Processor("delivery");

    async fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self(FanOut::ready(stage, What { topic: true, size: SIZE }).await?))
    }

    async fn round(&mut self) -> Result<Round> {
        self.0.saturated().await
    }
}

impl FanOut {
    async fn ready(stage: &Stage, what: What) -> Result<Self> {
        let server = stage.serve()?;
        let publisher = Line::open(server.door()).await?;
        let tally = Arc::new(Tally {
            origin: Instant::now(),
            delivered: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            reached: Notify::new(),
            took: Mutex::default(),
        });
        let mut lines = Line::open_all(server.door(), stage.pace.take(SUBSCRIBERS)).await?;
        if what.topic {
            for line in &mut lines {
                line.follow().await?;
            }
        }
        let subscribers = lines.into_iter().map(|line| subscribe(line, tally.clone())).collect();
        Ok(Self { what, server, publisher, subscribers, tally, published: 0, round: stage.pace.round })
    }

    async fn paced(&mut self, pace: u32) -> Result<Round> {
        let round = self.measure(async |fan_out, until| {
            let mut ticks = interval(Duration::from_secs(1) / pace);
            while Instant::now() < until {
                ticks.tick().await;
                fan_out.publish().await?;
            }
            fan_out.delivered(0).await
        });
        round.await
    }

    async fn saturated(&mut self) -> Result<Round> {
        let round = self.measure(async |fan_out, until| {
            while Instant::now() < until {
                fan_out.publish().await?;
                fan_out.delivered(WINDOW - 1).await?;
            }
            fan_out.delivered(0).await
        });
        // How long one takes that waits in a full queue is the length of the queue.
        Ok(round.await?.with_latencies(Vec::new()))
    }

    async fn measure(&mut self, work: impl AsyncFnOnce(&mut Load<'_>, Instant) -> Result<()>) -> Result<Round> {
        let Self { what, server, publisher, subscribers, tally, published, round } = self;
        let before = tally.delivered.load(Ordering::Relaxed);
        let mut load = Load { what: *what, publisher, subscribers, tally, published };
        let work = async { work(&mut load, Instant::now() + *round).await };
        let (cost, ()) = server.cost(work).await?;
        let delivered = tally.delivered.load(Ordering::Relaxed) - before;
        Ok(Round::processor(delivered, &cost).with_latencies(tally.take()))
    }
}

/// What publishes in a round.
struct Load<'a> {
    what: What,
    publisher: &'a mut Line,
    subscribers: &'a mut JoinSet<Result<()>>,
    tally: &'a Tally,
    published: &'a mut u64,
}

impl Load<'_> {
    /// Publishes the time.
    async fn publish(&mut self) -> Result<()> {
        let nanos = self.tally.origin.elapsed().as_nanos();
        let json = Bytes::from(format!("\"{nanos:0width$}\"", width = self.what.size - 2));
        if self.what.topic {
            // The answers to those before, which need nothing but to be taken.
            self.publisher.glance(&mut Vec::new())?;
            self.publisher.append(&json)?;
        } else {
            self.publisher.publish(&json)?;
        }
        *self.published += 1;
        self.publisher.flush().await
    }

    /// Waits until everybody has heard all broadcasts but the last `pending`, or as many deliveries.
    async fn delivered(&mut self, pending: u64) -> Result<()> {
        let wanted = self.published.saturating_sub(pending) * self.subscribers.len() as u64;
        self.tally.wanted.store(wanted, Ordering::Relaxed);
        while self.tally.delivered.load(Ordering::Relaxed) < wanted {
            tokio::select! {
                () = self.tally.reached.notified() => {}
                Some(ended) = self.subscribers.join_next() => {
                    ended??;
                    bail!("a subscriber has stopped listening");
                }
            }
        }
        Ok(())
    }
}

impl Tally {
    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.took.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn subscribe(mut line: Line, tally: Arc<Tally>) -> Result<()> {
    let mut heard = Vec::new();
    loop {
        line.hear(&mut heard).await?;
        let now = tally.origin.elapsed();
        let count = heard.len() as u64;
        let mut took = tally.took.lock().unwrap_or_else(PoisonError::into_inner);
        for heard in heard.drain(..) {
            let Heard::Published(json) = heard else { bail!("a subscriber heard {heard:?}") };
            let nanos: u64 = serde_json::from_slice::<&str>(&json)?.parse().context("a broadcast is a time")?;
            took.push(now.saturating_sub(Duration::from_nanos(nanos)));
        }
        drop(took);
        let delivered = tally.delivered.fetch_add(count, Ordering::Relaxed) + count;
        if delivered >= tally.wanted.load(Ordering::Relaxed) {
            tally.reached.notify_one();
        }
    }
}
