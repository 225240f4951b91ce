//! `cargo xtask bench`: the benchmark in `crates/bench`, with everything optimised. It is no step of CI: a machine that
//! others use as well measures them too.

use std::env;

use anyhow::{Context, Result};

use crate::run::cargo;

const PACKAGE: &str = "moorline-bench";

pub(crate) fn command(args: &[String]) -> Result<()> {
    cargo("build").args(["--release", "--package", PACKAGE]).run()?;
    // Where the command was typed, so that files are where they were said to be.
    let here = env::current_dir().context("the working directory is gone")?;
    cargo("run").args(["--quiet", "--release", "--package", PACKAGE, "--"]).args(args).dir(&here).run()
}
