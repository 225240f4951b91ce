//! A case: something that every server is made to do, in rounds, and what it costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::timeout;

use crate::{
    pace::Pace,
    server::{Cost, Server},
    statistics::{median, percentile},
    subject::Subject,
};

/// Longer than any round takes; reaching it ends the run.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rounds that a case gets, however slow the machine is.
const LEAST_ROUNDS: usize = 3;

/// Something that a server is made to do. One value of it holds one server and what is connected to it.
pub(crate) trait Case: Sized + 'static {
    /// Of the cost.
    const UNIT: Unit;

    /// Measured rounds at this pace, if the machine is fast enough.
    fn rounds(pace: Pace) -> usize {
        pace.rounds
    }

    /// Gets everything ready that is not to be measured.
    async fn ready(stage: &Stage) -> Result<Self>;

    /// Does it for a while.
    async fn round(&mut self) -> Result<Round>;
}

/// What a case is given.
#[derive(Clone, Copy)]
pub(crate) struct Stage {
    pub(crate) subject: Subject,
    pub(crate) pace: Pace,
    pub(crate) core: Option<usize>,
}

impl Stage {
    /// Starts the server.
    pub(crate) fn serve(&self) -> Result<Server> {
        Server::start(self.subject, self.core)
    }

    /// Starts the server, which can keep something.
    pub(crate) fn serve_with_disk(&self) -> Result<Server> {
        Server::start_with_disk(self.subject, self.core)
    }
}

/// What a cost is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// The server's processor time in microseconds, for each of these.
    Processor(&'static str),
    /// The same for what has to wait for the disk.
    Disk(&'static str),
    /// The server's own memory in bytes, for each of these.
    Memory(&'static str),
}

impl Unit {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Processor(what) | Self::Disk(what) => format!("µs CPU / {what}"),
            Self::Memory(what) => format!("bytes / {what}"),
        }
    }

    /// How much worse than in an earlier run a ratio may be. On a machine that others use as well, ratios of processor
    /// time differ by up to a quarter between two runs, where a disk has its say by twice as much, those of memory by
    /// less than a hundredth; see docs/BENCHMARKS.md.
    pub(crate) fn tolerance(self) -> f64 {
        match self {
            Self::Processor(_) => 0.40,
            Self::Disk(_) => 1.0,
            Self::Memory(_) => 0.10,
        }
    }
}

/// What one round gave.
#[derive(Default)]
pub(crate) struct Round {
    /// In the case's unit.
    cost: f64,
    per_second: Option<f64>,
    /// How long single ones took; empty where that has no meaning.
    took: Vec<Duration>,
    /// How many shared a commit.
    shared: Option<f64>,
}

impl Round {
    /// So many were done at this cost.
    pub(crate) fn processor(count: u64, cost: &Cost) -> Self {
        let each = 1.0 / count.max(1) as f64;
        Self {
            cost: cost.processor.as_secs_f64() * 1e6 * each,
            per_second: Some(count as f64 / cost.wall.as_secs_f64()),
            ..Self::default()
        }
    }

    /// Each of them took so long.
    pub(crate) fn with_latencies(self, took: Vec<Duration>) -> Self {
        Self { took, ..self }
    }

    /// So many shared a commit.
    pub(crate) fn with_shared(self, shared: f64) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// So many hold so many bytes.
    pub(crate) fn memory(count: usize, bytes: u64) -> Self {
        Self { cost: bytes as f64 / count.max(1) as f64, ..Self::default() }
    }
}

/// What a case has shown of one server: medians of its rounds.
pub(crate) struct Figures {
    pub(crate) subject: Subject,
    pub(crate) cost: f64,
    pub(crate) per_second: Option<f64>,
    pub(crate) latency: Option<Latency>,
    /// How many shared a commit.
    pub(crate) shared: Option<f64>,
    /// To the raw server; `None` for itself.
    pub(crate) ratio: Option<Ratio>,
}

/// In microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// The cost beside that of the raw server in the same round.
#[derive(Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

/// Runs a case on every server: once unmeasured, then in turns, so that a change of the machine meets all of them.
pub(crate) async fn run<C: Case>(pace: Pace, core: Option<usize>, mut step: impl FnMut()) -> Result<Vec<Figures>> {
    let started = Instant::now();
    let mut cases = Vec::new();
    for subject in Subject::ALL {
        let stage = Stage { subject, pace, core };
        let mut case = C::ready(&stage).await.with_context(|| format!("connecting to {}", subject.name()))?;
        round(&mut case, subject).await?;
        step();
        cases.push((subject, case, Vec::new()));
    }
    for number in 0..C::rounds(pace) {
        // A machine that is busy with other things gives fewer rounds, not a longer run.
        if number >= LEAST_ROUNDS && started.elapsed() > pace.case {
            break;
        }
        for (subject, case, rounds) in &mut cases {
            rounds.push(round(case, *subject).await?);
            step();
        }
    }
    let raw: Vec<f64> =
        cases.iter().filter(|(subject, ..)| *subject == Subject::Raw).flat_map(|(.., rounds)| costs(rounds)).collect();
    Ok(cases.into_iter().filter_map(|(subject, _, rounds)| figures(subject, rounds, &raw)).collect())
}

async fn round<C: Case>(case: &mut C, subject: Subject) -> Result<Round> {
    timeout(PATIENCE, case.round())
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("a round took longer than {PATIENCE:?}")))
        .with_context(|| format!("a round with {}", subject.name()))
}

fn costs(rounds: &[Round]) -> impl Iterator<Item = f64> {
    rounds.iter().map(|round| round.cost)
}

fn figures(subject: Subject, rounds: Vec<Round>, raw: &[f64]) -> Option<Figures> {
    let mut ratios: Vec<f64> = costs(&rounds).zip(raw).map(|(cost, raw)| cost / raw).collect();
    let ratio = (subject != Subject::Raw).then(|| {
        Some(Ratio { median: percentile(&mut ratios, 0.5)?, lowest: *ratios.first()?, highest: *ratios.last()? })
    });
    Some(Figures {
        subject,
        cost: median(costs(&rounds))?,
        per_second: median(rounds.iter().filter_map(|round| round.per_second)),
        shared: median(rounds.iter().filter_map(|round| round.shared)),
        ratio: ratio.flatten(),
        latency: latency(rounds),
    })
}

/// Over all rounds: a round is short, and its slowest hundredth few.
fn latency(rounds: Vec<Round>) -> Option<Latency> {
    let mut took: Vec<Duration> = rounds.into_iter().flat_map(|round| round.took).collect();
    let micros = |took: Duration| took.as_secs_f64() * 1e6;
    Some(Latency { p50: micros(percentile(&mut took, 0.5)?), p99: micros(percentile(&mut took, 0.99)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(costs: &[f64]) -> Vec<Round> {
        costs.iter().map(|&cost| Round { cost, ..Round::default() }).collect()
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() -> Result<()> {
        // The machine got twice as slow in the middle: that must not show.
        let sealed = figures(Subject::Sealed, rounds(&[3.0, 6.0, 6.0]), &[1.0, 2.0, 2.0]).context("figures")?;
        let ratio = sealed.ratio.context("a ratio")?;
        assert_eq!((ratio.lowest, ratio.median, ratio.highest), (3.0, 3.0, 3.0));
        assert!(figures(Subject::Raw, rounds(&[1.0]), &[1.0]).is_some_and(|raw| raw.ratio.is_none()));
        Ok(())
    }
}
