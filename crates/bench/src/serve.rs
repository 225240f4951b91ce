//! The other process: one server on one core, until the generator is gone.

mod moorline;
mod raw;

use std::io::{Read, stdin};

use anyhow::Result;

use crate::{machine, subject::Subject};

/// Serves until standard input ends. Prints where, and the key if there is one, when it is ready.
pub(crate) fn run(subject: Subject, core: Option<usize>) -> Result<()> {
    machine::raise_file_limit()?;
    if let Some(core) = core {
        machine::pin(core)?;
    }
    // The runtime that programs use, with one worker for the one core.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match subject {
            Subject::Raw => raw::start().await,
            Subject::Sealed => moorline::start(true).await,
            Subject::Plain => moorline::start(false).await,
        }
    })?;
    stdin().read_to_end(&mut Vec::new())?;
    // Whoever is still connected has gone with the generator.
    runtime.shutdown_background();
    Ok(())
}
