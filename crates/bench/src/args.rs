//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{cases, pace::Pace, subject::Subject};

pub(crate) const USAGE: &str = "\
moorline-bench [--quick] [--json FILE] [--against FILE] [CASE]...

  --quick         two minutes; without it about twelve, with the same cases
  --json FILE     write the figures
  --against FILE  compare the ratios with those of an earlier run, and fail when one has got much worse
  CASE            only these cases";

/// What is wanted.
pub(crate) enum Args {
    Help,
    /// To be one of the servers; how a run starts them.
    Serve {
        subject: Subject,
        core: Option<usize>,
        /// Where to keep what is to be kept.
        data: Option<PathBuf>,
    },
    Run(Run),
}

/// What a run is to do.
pub(crate) struct Run {
    pub(crate) pace: Pace,
    pub(crate) json: Option<PathBuf>,
    pub(crate) against: Option<PathBuf>,
    /// Names of cases; empty for all.
    pub(crate) only: Vec<String>,
}

impl Args {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut args = args.peekable();
        if args.next_if(|arg| arg == "serve").is_some() {
            let subject = Subject::parse(&args.next().context("which server?")?)?;
            let mut data = None;
            if args.next_if(|arg| arg == "--data").is_some() {
                data = Some(args.next().map(PathBuf::from).context("which folder?")?);
            }
            let core = args.next().map(|core| core.parse()).transpose().context("the core is a number")?;
            return Ok(Self::Serve { subject, core, data });
        }
        let mut run = Run { pace: Pace::FULL, json: None, against: None, only: Vec::new() };
        while let Some(arg) = args.next() {
            let mut file = || args.next().map(PathBuf::from).with_context(|| format!("{arg} needs a file"));
            match arg.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--quick" => run.pace = Pace::QUICK,
                // Not in the usage: its figures say nothing but that there are some.
                "--smoke" => run.pace = Pace::SMOKE,
                "--json" => run.json = Some(file()?),
                "--against" => run.against = Some(file()?),
                name if cases::names().any(|case| case == name) => run.only.push(arg),
                _ => {
                    let names: Vec<_> = cases::names().collect();
                    bail!("there is no case {arg:?}; cases are {}\n\n{USAGE}", names.join(", "));
                }
            }
        }
        Ok(Self::Run(run))
    }
}
