//! What the server costs, beside a bare WebSocket server that does the same work in the same run.
//!
//! ```text
//! moorline-bench ── generator, its core ─┬─ sockets ─▶ moorline-bench serve raw      ┐
//!   cases ─▶ rounds ─▶ report            ├─ sockets ─▶ moorline-bench serve sealed   ├ the servers' core
//!                                        └─ sockets ─▶ moorline-bench serve plain    ┘
//!                     /proc: what each server has used of its core, and of memory
//! ```
//!
//! Each server is a process of its own, so that what it costs can be told from what it costs to ask it. The generator's
//! side of all three is one and the same loop ([`mod@line`]); what differs is what is said on it.
//!
//! A new case is a file in `cases/` with a [`case::Case`] in it, and a line in `cases::ALL`.

mod args;
mod case;
mod cases;
mod line;
mod machine;
mod pace;
mod report;
mod serve;
mod server;
mod statistics;
mod subject;

use std::{fs, process::ExitCode};

use anyhow::{Context, Result, ensure};

use crate::{
    args::{Args, Run},
    report::Ratios,
};

fn main() -> ExitCode {
    let result = match Args::parse(std::env::args().skip(1)) {
        Ok(Args::Help) => {
            println!("{}", args::USAGE);
            Ok(())
        }
        Ok(Args::Serve { subject, core, data }) => serve::run(subject, core, data.as_deref()),
        Ok(Args::Run(run)) => bench(&run),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nmoorline-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(run: &Run) -> Result<()> {
    // Before anything is measured: a file that cannot be read should not cost a minute.
    let earlier = run.against.as_deref().map(Ratios::load).transpose()?;
    machine::raise_file_limit()?;
    let cores = machine::cores();
    match cores {
        Some(cores) => machine::pin(cores.generator)?,
        None => eprintln!("this process may use one core only, or cores cannot be chosen here: nothing is pinned"),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(cases::run(&run.only, run.pace, cores.map(|cores| cores.server)))?;

    print!("{}", report.table());
    if let Some(path) = &run.json {
        fs::write(path, report.json()?).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(earlier) = &earlier {
        let comparison = report.against(earlier);
        print!("\n{}", comparison.table());
        let worse = comparison.worse();
        ensure!(worse.is_empty(), "worse than before: {}", worse.join(", "));
    }
    Ok(())
}
