//! `cargo xtask fuzz --seconds N`: each fuzz target in `fuzz/`, which is outside the workspace and needs nightly Rust.

use anyhow::{Context, Result, bail, ensure};

use crate::repo;
use crate::run::{Cmd, cargo, cmd, which};

const USAGE: &str = "usage: cargo xtask fuzz --seconds N [TARGET]...";

pub(crate) fn command(args: &[String]) -> Result<()> {
    let [flag, seconds, wanted @ ..] = args else { bail!(USAGE) };
    ensure!(flag == "--seconds", USAGE);
    let seconds: u32 = seconds.parse().with_context(|| format!("{seconds:?} is no number of seconds; {USAGE}"))?;
    ensure!(seconds > 0, "fuzzing for 0 seconds would never end");

    let toolchains = cmd("rustup").args(["toolchain", "list"]).output()?;
    if !toolchains.lines().any(|line| line.starts_with("nightly")) {
        bail!(
            "fuzzing needs a nightly Rust, and rustup has none: `rustup toolchain install nightly --profile minimal`"
        );
    }
    if which("cargo-fuzz").is_none() {
        cargo("install").args(["--locked", "cargo-fuzz"]).step("cargo-fuzz, installed")?;
    }

    let targets = nightly_fuzz("list").output()?;
    let targets: Vec<&str> = targets.split_whitespace().collect();
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(&name.as_str())) {
        bail!("there is no fuzz target {unknown:?}; targets are {}", targets.join(", "));
    }
    for target in targets.iter().filter(|target| wanted.is_empty() || wanted.iter().any(|name| name == *target)) {
        nightly_fuzz("run").arg(target).arg("--").arg(format!("-max_total_time={seconds}")).run()?;
    }
    Ok(())
}

fn nightly_fuzz(subcommand: &str) -> Cmd {
    cargo("+nightly").args(["fuzz", subcommand]).dir(&repo::root())
}
