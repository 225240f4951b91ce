//! Messages that are on the disk before their publishers are told so: each writer has one under way.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::{
    case::{Case, Round, Stage, Unit},
    line::{Heard, Line},
    server::Server,
};

/// A JSON text of 128 B.
const TEXT: [u8; 128] = {
    let mut text = [b'x'; 128];
    (text[0], text[127]) = (b'"', b'"');
    text
};
static PAYLOAD: Bytes = Bytes::from_static(&TEXT);

/// So many writers.
pub(crate) struct Durable<const WRITERS: usize> {
    server: Server,
    lines: Vec<Line>,
    round: Duration,
}

impl<const WRITERS: usize> Case for Durable<WRITERS> {
    const UNIT: Unit = Unit::Disk("message");

    async fn ready(stage: &Stage) -> Result<Self> {
        let server = stage.serve_with_disk()?;
        let lines = Line::open_all(server.door(), WRITERS).await?;
        Ok(Self { server, lines, round: stage.pace.round })
    }

    async fn round(&mut self) -> Result<Round> {
        let Self { server, lines, round } = self;
        // A database is made by the first who writes.
        write(&mut lines[0], Instant::now()).await?;
        let before = server.commits()?;
        let work = async {
            let until = Instant::now() + *round;
            try_join_all(lines.iter_mut().map(|line| write(line, until))).await
        };
        let (cost, took) = server.cost(work).await?;
        let took: Vec<Duration> = took.into_iter().flatten().collect();
        let commits = server.commits()?.wrapping_sub(before);
        let shared = took.len() as f64 / f64::from(commits.max(1));
        Ok(Round::processor(took.len() as u64, &cost).with_latencies(took).with_shared(shared))
    }
}

/// Publishes until the time has come, at least once; gives how long each took.
async fn write(line: &mut Line, until: Instant) -> Result<Vec<Duration>> {
    let (mut took, mut heard) = (Vec::new(), Vec::new());
    let mut asked = Instant::now();
    loop {
        line.keep(&PAYLOAD)?;
        while heard.is_empty() {
            line.hear(&mut heard).await?;
        }
        ensure!(matches!(heard[..], [Heard::Reply(_)]), "a message that was to be kept: {heard:?}");
        heard.clear();
        let answered = Instant::now();
        took.push(answered - asked);
        if answered >= until {
            return Ok(took);
        }
        asked = answered;
    }
}
