//! `cargo xtask deny`: licences, sources and banned crates, by cargo-deny under `deny.toml`.

use std::path::PathBuf;

use anyhow::Result;

use crate::run::{Cmd, cargo, cmd, which};
use crate::{expect_no_more, repo};

/// Newer ones may read `deny.toml` differently.
const VERSION: &str = "0.20.2";

pub(crate) fn command(args: &[String]) -> Result<()> {
    expect_no_more("deny", args)?;
    // Not its advisories: their database is elsewhere and may not be reached.
    program()?.args(["--locked", "--all-features", "check", "bans", "licenses", "sources"]).run()
}

fn program() -> Result<Cmd> {
    let ours = ours().join("bin").join(if cfg!(windows) { "cargo-deny.exe" } else { "cargo-deny" });
    if ours.exists() {
        return Ok(cmd(ours));
    }
    let theirs = which("cargo-deny").is_some()
        && cmd("cargo-deny").arg("--version").output().is_ok_and(|version| version.trim().ends_with(VERSION));
    if !theirs {
        // Unoptimised it is there in a quarter of the time, and quick enough.
        cargo("install")
            .args(["--locked", "--debug", "cargo-deny", "--version", VERSION, "--root"])
            .arg(self::ours())
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .step("cargo-deny, installed under target/tools")?;
        return Ok(cmd(ours));
    }
    Ok(cmd("cargo-deny"))
}

fn ours() -> PathBuf {
    repo::target().join("tools")
}
