//! `cargo xtask npm`: the package `moorline` as users install it, `target/npm/moorline-VERSION.tgz`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::stamp::{Inputs, Stamp};
use crate::wasm::{self, Build};
use crate::{expect_no_more, node, repo};

pub(crate) fn command(args: &[String]) -> Result<()> {
    expect_no_more("npm", args)?;
    println!("{}", make()?.display());
    Ok(())
}

/// The folder of the package.
pub(crate) fn folder() -> PathBuf {
    repo::path("npm")
}

/// Compiles, builds and packs, each only when something changed. Returns the tarball.
pub(crate) fn make() -> Result<PathBuf> {
    wasm::make(Build::Release)?;
    let npm = folder();
    node::install(&npm)?;

    let package = node::json(&npm.join("package.json"))?;
    let version = package["version"].as_str().context("npm/package.json has no version")?;
    let packed = repo::target().join("npm");
    let tarball = packed.join(format!("moorline-{version}.tgz"));

    let stamp = Stamp::named("npm", Inputs::new().folder(&npm, &["node_modules", "dist"])?);
    if stamp.is_fresh(&[npm.join("dist"), tarball.clone()]) {
        return Ok(tarball);
    }
    node::npm(&npm).args(["run", "build"]).step("the npm package, built")?;
    fs::create_dir_all(&packed).context("making the folder of the tarball")?;
    node::npm(&npm)
        .args(["pack", "--ignore-scripts", "--pack-destination"])
        .arg(&packed)
        .step("the npm package, packed")?;
    stamp.write()?;
    Ok(tarball)
}
