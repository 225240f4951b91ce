//! `cargo xtask demo`: from a fresh clone to two windows that talk.

use anyhow::{Context, Result};

use crate::run::{cargo, cmd};
use crate::stamp::{Inputs, Stamp};
use crate::{expect_no_more, node, pack, repo};

const URL: &str = "http://127.0.0.1:2667";
const PROGRAM: &str = "moorline-demo";

pub(crate) fn command(args: &[String]) -> Result<()> {
    expect_no_more("demo", args)?;
    pages()?;
    cargo("build").args(["--package", PROGRAM]).step("the demo's server")?;

    eprintln!("\nThe demo is at {URL}: open it in two windows. Ctrl-C ends it.\n");
    serve()
}

/// Builds the demo's pages into `www/dist`, which its server serves.
fn pages() -> Result<()> {
    let tarball = pack::make()?;
    let www = repo::path("www");
    node::install(&www)?;
    let inputs = Inputs::new().folder(&www, &["node_modules", "dist", "server"])?.file(&tarball)?;
    let stamp = Stamp::named("www", inputs);
    if stamp.is_fresh(&[www.join("dist/index.html")]) {
        return Ok(());
    }
    node::npm(&www).args(["run", "build"]).step("the demo's pages")?;
    stamp.write()
}

/// Becomes the server, where the system can do that: then Ctrl-C and signals are its own business, and no server
/// outlives us.
#[cfg(unix)]
fn serve() -> Result<()> {
    use std::os::unix::process::CommandExt as _;

    let error = cmd(repo::target().join("debug").join(PROGRAM)).into_command().exec();
    Err(error).context("starting the demo's server")
}

#[cfg(not(unix))]
fn serve() -> Result<()> {
    cmd(repo::target().join("debug").join(format!("{PROGRAM}.exe"))).run().context("the demo's server")
}
