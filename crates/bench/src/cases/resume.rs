//! Clients whose sockets were cut and that come back, from the first packet until their session goes on. The raw server
//! has no sessions; there they connect anew.

use std::time::Instant;

use anyhow::Result;

use crate::{
    case::{Case, Round, Stage, Unit},
    line::{Cut, Line},
    server::Server,
};

const SESSIONS: usize = 200;

/// One after the other.
pub(crate) struct Resume {
    server: Server,
    lines: Vec<Line>,
}

impl Case for Resume {
    const UNIT: Unit = Unit::Processor("connection");

    async fn ready(stage: &Stage) -> Result<Self> {
        let server = stage.serve()?;
        let lines = Line::open_all(server.door(), stage.pace.take(SESSIONS)).await?;
        Ok(Self { server, lines })
    }

    async fn round(&mut self) -> Result<Round> {
        // What it costs to notice that they are gone is not in it: that is over before the server is at rest.
        let cut: Vec<Cut> = self.lines.drain(..).map(Line::cut).collect();
        let (lines, mut took) = (&mut self.lines, Vec::with_capacity(cut.len()));
        let door = self.server.door();
        let work = async {
            for cut in cut {
                let started = Instant::now();
                lines.push(cut.resume(door).await?);
                took.push(started.elapsed());
            }
            Ok(())
        };
        let (cost, ()) = self.server.cost(work).await?;
        Ok(Round::processor(took.len() as u64, &cost).with_latencies(took))
    }
}
