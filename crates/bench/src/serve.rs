//! The other process: one server on one core, until the generator is gone.

mod disk;
mod moorline;
mod raw;

use std::{
    io::{Read, stdin},
    path::Path,
};

use anyhow::Result;

use crate::{machine, subject::Subject};

/// Serves until standard input ends, and keeps what is to be kept in `data`. Prints where, and the key if there is one,
/// when it is ready.
pub(crate) fn run(subject: Subject, core: Option<usize>, data: Option<&Path>) -> Result<()> {
    machine::raise_file_limit()?;
    if let Some(core) = core {
        machine::pin(core)?;
    }
    // The runtime that programs use, with one worker for the one core.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match subject {
            Subject::Raw => raw::start(data).await,
            Subject::Sealed => moorline::start(true, data).await,
            Subject::Plain => moorline::start(false, data).await,
        }
    })?;
    stdin().read_to_end(&mut Vec::new())?;
    // Whoever is still connected has gone with the generator.
    runtime.shutdown_background();
    Ok(())
}
