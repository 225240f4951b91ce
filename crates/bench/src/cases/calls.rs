//! Calls of 128 B that come back as they went.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::{
    case::{Case, Round, Stage, Unit},
    line::{Heard, Line},
    server::Server,
};

/// What is sent with a call.
static PAYLOAD: Bytes = Bytes::from_static(&[b'x'; 128]);

/// 64 connections with 16 calls in flight each: what a call costs when there is always another.
pub(crate) struct Pipelined(Calls);

/// One connection with one call in flight: what a call costs, and takes, by itself.
pub(crate) struct Single(Calls);

struct Calls {
    server: Server,
    lines: Vec<Line>,
    round: Duration,
}

impl Case for Pipelined {
    const UNIT: Unit = Unit::Processor("call");

    async fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self(Calls::ready(stage, stage.pace.take(64)).await?))
    }

    async fn round(&mut self) -> Result<Round> {
        let work = async {
            let until = Instant::now() + self.0.round;
            try_join_all(self.0.lines.iter_mut().map(|line| call(line, 16, until))).await
        };
        let (cost, counts) = self.0.server.cost(work).await?;
        Ok(Round::processor(counts.iter().sum(), &cost))
    }
}

impl Case for Single {
    const UNIT: Unit = Unit::Processor("call");

    async fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self(Calls::ready(stage, 1).await?))
    }

    async fn round(&mut self) -> Result<Round> {
        let mut took = Vec::new();
        let work = async {
            let mut asked = Instant::now();
            let until = asked + self.0.round;
            while asked < until {
                // The end of one is the beginning of the next.
                call(&mut self.0.lines[0], 1, asked).await?;
                let answered = Instant::now();
                took.push(answered - asked);
                asked = answered;
            }
            Ok(())
        };
        let (cost, ()) = self.0.server.cost(work).await?;
        Ok(Round::processor(took.len() as u64, &cost).with_latencies(took))
    }
}

impl Calls {
    async fn ready(stage: &Stage, connections: usize) -> Result<Self> {
        let server = stage.serve()?;
        let lines = Line::open_all(server.door(), connections).await?;
        Ok(Self { server, lines, round: stage.pace.round })
    }
}

/// Keeps `depth` calls in flight until the time has come, then waits for the last answers; gives how many there were.
async fn call(line: &mut Line, depth: usize, until: Instant) -> Result<u64> {
    let (mut asked, mut answered) = (0, 0);
    let mut heard = Vec::with_capacity(depth);
    loop {
        // At least once around, however late it is.
        while asked - answered < depth as u64 && (asked < depth as u64 || Instant::now() < until) {
            line.call(&PAYLOAD)?;
            asked += 1;
        }
        if asked == answered {
            return Ok(answered);
        }
        line.hear(&mut heard).await?;
        for heard in heard.drain(..) {
            ensure!(matches!(&heard, Heard::Reply(payload) if *payload == PAYLOAD), "echo said {heard:?}");
            answered += 1;
        }
    }
}
