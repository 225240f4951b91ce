//! Connections, from the first packet until the server has let them in. The raw server lets in who has upgraded; a Moorline
//! server after its handshake and its decision.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;

use crate::{
    case::{Case, Round, Stage, Unit},
    line::Line,
    server::{Door, Server},
};

const CONNECTIONS: usize = 200;

/// One after the other.
pub(crate) struct OneByOne(Connect);

/// All at once: after a restart.
pub(crate) struct Burst(Connect);

struct Connect {
    server: Server,
    connections: usize,
}

impl Case for OneByOne {
    const UNIT: Unit = Unit::Processor("connection");

    async fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self(Connect::ready(stage)?))
    }

    async fn round(&mut self) -> Result<Round> {
        let Connect { server, connections } = &self.0;
        let work = async {
            let mut opened = Vec::with_capacity(*connections);
            for _ in 0..*connections {
                opened.push(open(server.door()).await?);
            }
            Ok(opened)
        };
        round(server, work).await
    }
}

impl Case for Burst {
    const UNIT: Unit = Unit::Processor("connection");

    async fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self(Connect::ready(stage)?))
    }

    async fn round(&mut self) -> Result<Round> {
        let Connect { server, connections } = &self.0;
        round(server, try_join_all((0..*connections).map(|_| open(server.door())))).await
    }
}

impl Connect {
    fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self { server: stage.serve()?, connections: stage.pace.take(CONNECTIONS) })
    }
}

async fn open(door: &Door) -> Result<(Line, Duration)> {
    let started = Instant::now();
    let line = Line::open(door).await?;
    Ok((line, started.elapsed()))
}

/// What they cost to open; to close them is not in it, and is over before the next round begins.
async fn round(server: &Server, work: impl Future<Output = Result<Vec<(Line, Duration)>>>) -> Result<Round> {
    let (cost, opened) = server.cost(work).await?;
    let (_lines, took): (Vec<Line>, Vec<Duration>) = opened.into_iter().unzip();
    Ok(Round::processor(took.len() as u64, &cost).with_latencies(took))
}
