//! The list of cases, and the run over them.

mod calls;
mod connect;
mod durable;
mod fan_out;
mod idle;
mod resume;

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    case::{self, Case, Figures, Unit},
    pace::Pace,
    report::{Measured, Report},
    subject::Subject,
};

type Running<'a> = Pin<Box<dyn Future<Output = Result<Vec<Figures>>> + 'a>>;

/// One case by its name.
struct Entry {
    name: &'static str,
    about: &'static str,
    unit: Unit,
    rounds: fn(Pace) -> usize,
    run: for<'a> fn(Pace, Option<usize>, &'a ProgressBar) -> Running<'a>,
}

const ALL: &[Entry] = &[
    entry::<calls::Pipelined>("call-pipelined", "echo of 128 B, 64 connections with 16 calls in flight each"),
    entry::<calls::Single>("call-single", "echo of 128 B, one connection, one call in flight"),
    entry::<fan_out::Paced>("fan-out-paced", "128 B to 1,000 subscribers, 30 times a second"),
    entry::<fan_out::Saturated>("fan-out-saturated", "128 B to 1,000 subscribers, as fast as it goes"),
    entry::<fan_out::PacedTopic<128, 30>>("topic-paced", "a topic's 128 B to 1,000 subscribers, 30 times a second"),
    entry::<fan_out::SaturatedTopic<128>>("topic-saturated", "the same as fast as it goes"),
    entry::<fan_out::PacedTopic<4_096, 10>>(
        "topic-paced-4k",
        "a topic's 4 KiB to 1,000 subscribers, 10 times a second",
    ),
    entry::<fan_out::SaturatedTopic<4_096>>("topic-saturated-4k", "the same as fast as it goes"),
    entry::<durable::Durable<1>>("durable-1", "a topic's 128 B until they are on the disk, one writer"),
    entry::<durable::Durable<8>>("durable-8", "the same, 8 writers with one under way each"),
    entry::<durable::Durable<64>>("durable-64", "the same, 64 writers"),
    entry::<connect::OneByOne>("connect", "200 connections until they are ready, one after the other"),
    entry::<connect::Burst>("connect-burst", "200 connections until they are ready, all at once"),
    entry::<resume::Resume>("resume", "200 sessions that come back after a cut, one after the other"),
    entry::<idle::Idle>("idle", "memory of 1,000 sessions that do nothing"),
];

const fn entry<C: Case>(name: &'static str, about: &'static str) -> Entry {
    fn run<C: Case>(pace: Pace, core: Option<usize>, bar: &ProgressBar) -> Running<'_> {
        Box::pin(case::run::<C>(pace, core, || bar.inc(1)))
    }
    Entry { name, about, unit: C::UNIT, rounds: C::rounds, run: run::<C> }
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|entry| entry.name)
}

/// Runs what is wanted, all of it where that is nothing; the servers on this core.
pub(crate) async fn run(only: &[String], pace: Pace, core: Option<usize>) -> Result<Report> {
    let wanted: Vec<&Entry> =
        ALL.iter().filter(|entry| only.is_empty() || only.iter().any(|name| name == entry.name)).collect();
    let rounds: usize = wanted.iter().map(|entry| 1 + (entry.rounds)(pace)).sum();
    let bar = ProgressBar::new((rounds * Subject::ALL.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{spinner} {bar:24} {elapsed:.dim} {msg}")?);
    // Rare: the bar is drawn on the generator's core.
    bar.enable_steady_tick(Duration::from_millis(500));
    let mut measured = Vec::new();
    for Entry { name, about, unit, run: run_case, .. } in wanted {
        bar.set_message(format!("{name}: {about}"));
        let figures = run_case(pace, core, &bar).await.with_context(|| format!("the case {name}"))?;
        bar.suspend(|| eprintln!("✓ {name}: {about}"));
        measured.push(Measured { name, unit: *unit, figures });
    }
    bar.finish_and_clear();
    Ok(Report::new(pace, measured))
}
