//! The memory that a session holds while nothing happens on it.

use anyhow::Result;

use crate::{
    case::{Case, Round, Stage, Unit},
    line::Line,
    pace::Pace,
};

const SESSIONS: usize = 1_000;
/// Sessions before the first that counts: what the server needs once is theirs.
const FIRST: usize = 32;

/// With a server of its own for each round: memory that was used once is not given back.
pub(crate) struct Idle {
    stage: Stage,
}

impl Case for Idle {
    const UNIT: Unit = Unit::Memory("session");

    /// Two, the second to see that it is the first again: memory does not depend on who else uses the machine.
    fn rounds(pace: Pace) -> usize {
        pace.rounds.min(2)
    }

    async fn ready(stage: &Stage) -> Result<Self> {
        Ok(Self { stage: *stage })
    }

    async fn round(&mut self) -> Result<Round> {
        let sessions = self.stage.pace.take(SESSIONS);
        let server = self.stage.serve()?;
        let _first = Line::open_all(server.door(), FIRST).await?;
        let before = server.memory().await?;
        let _lines = Line::open_all(server.door(), sessions).await?;
        let grown = server.memory().await?.saturating_sub(before);
        Ok(Round::memory(sessions, grown))
    }
}
