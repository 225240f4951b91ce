//! npm packages and the tools in them. Two folders have a lock file of their own and tools that others use: `npm/`
//! (esbuild) and `crates/xtask/npm/` (binaryen's wasm-opt).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::repo;
use crate::run::{Cmd, cmd, which};
use crate::stamp::{Inputs, Stamp};

/// The oldest Node that everything here runs on.
const OLDEST_NODE: u32 = 20;

/// npm in a folder of the repository.
pub(crate) fn npm(folder: &Path) -> Cmd {
    cmd(if cfg!(windows) { "npm.cmd" } else { "npm" }).dir(folder)
}

/// Node in the repository's root.
pub(crate) fn node() -> Cmd {
    cmd("node")
}

/// Installs what a folder's `package.json` asks for, when that changed since the last time.
pub(crate) fn install(folder: &Path) -> Result<()> {
    let (manifest, lock) = (folder.join("package.json"), folder.join("package-lock.json"));
    let modules = folder.join("node_modules");
    check_node()?;

    let inputs = Inputs::new().file(&manifest)?;
    let inputs = if lock.exists() { inputs.file(&lock)? } else { inputs };
    let stamp = Stamp::new(modules.join(".xtask-stamp"), inputs);
    if stamp.is_fresh(&[]) {
        return Ok(());
    }
    let subcommand = if lock.exists() { "ci" } else { "install" };
    npm(folder)
        .arg(subcommand)
        .args(["--no-audit", "--no-fund"])
        .step(&format!("npm packages of {}", repo::shown(folder)))?;
    stamp.write()
}

/// A program that an npm package brought into a folder.
pub(crate) fn tool(folder: &Path, name: &str) -> Result<Cmd> {
    let name = if cfg!(windows) { format!("{name}.cmd") } else { name.to_owned() };
    let path = folder.join("node_modules/.bin").join(name);
    if !path.exists() {
        bail!("{} is missing; does {}/package.json ask for it?", repo::shown(&path), repo::shown(folder));
    }
    Ok(cmd(path))
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", repo::shown(path)))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", repo::shown(path)))
}

/// Node is the one thing beside Rust that we do not install.
fn check_node() -> Result<()> {
    if which("node").is_none() || which("npm").is_none() {
        bail!("Node.js and npm are needed, and not installed: install Node.js {OLDEST_NODE} or newer");
    }
    let version = node().arg("--version").output()?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u32| major < OLDEST_NODE) {
        bail!("Node.js {OLDEST_NODE} or newer is needed; this is {}", version.trim());
    }
    Ok(())
}
