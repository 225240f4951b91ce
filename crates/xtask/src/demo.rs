//! `cargo xtask demo`: from a fresh clone to two windows that talk.

use std::path::Path;

use anyhow::{Context, Result};

use crate::run::{cargo, cmd};
use crate::stamp::{Inputs, Stamp};
use crate::{expect_no_more, node, pack, repo};

const PROGRAM: &str = "moorline-demo";

pub(crate) fn command(args: &[String]) -> Result<()> {
    expect_no_more("demo", args)?;
    pages()?;
    cargo("build").args(["--package", PROGRAM]).step("the demo's server")?;
    serve()
}

/// Builds the demo's pages into `www/dist`, which its server serves.
pub(crate) fn pages() -> Result<()> {
    let tarball = pack::make()?;
    let www = repo::path("www");
    node::install(&www)?;
    install_package(&www, &tarball)?;
    let inputs = Inputs::new().folder(&www, &["node_modules", "dist", "server"])?.file(&tarball)?;
    let stamp = Stamp::named("www", inputs);
    if stamp.is_fresh(&[www.join("dist/index.html")]) {
        return Ok(());
    }
    node::npm(&www).args(["run", "build"]).step("the demo's pages")?;
    stamp.write()
}

/// Lays the packed package beside what `npm ci` installed. It is not in the lock file, which would hold the hash of one
/// build; the stamp lies where `npm ci` removes it with the package.
fn install_package(www: &Path, tarball: &Path) -> Result<()> {
    let modules = www.join("node_modules");
    let stamp = Stamp::new(modules.join(".xtask-package-stamp"), Inputs::new().file(tarball)?);
    if stamp.is_fresh(&[modules.join("moorline/package.json")]) {
        return Ok(());
    }
    node::npm(www)
        .args(["install", "--no-save", "--no-audit", "--no-fund"])
        .arg(tarball)
        .step("the package, as the demo's page gets it")?;
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
