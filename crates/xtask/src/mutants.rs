//! `cargo xtask mutants`: breaks the protocol in one place after the other, in a copy, and looks whether a test notices.
//!
//! The list is made by hand: what it holds is what somebody would get wrong. `docs/SIMULATION.md` has the last result.

mod list;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use self::list::MUTANTS;
use crate::repo;
use crate::run::{Cmd, cargo, cmd};

/// Seeds for each: first those in clear, then those with Noise, then those with channels.
const SEEDS: [&str; 4] = ["0", "1500", "20", "1500"];

/// A line that is wrong: the file, what stands there, what stands there instead.
struct Mutant(&'static str, &'static str, &'static str);

pub(crate) fn command(args: &[String]) -> Result<()> {
    let copy = repo::target().join("mutants");
    let root = repo::root();
    if copy.exists() {
        cmd("git").args(["worktree", "remove", "--force"]).arg(&copy).output()?;
    }
    cmd("git").args(["worktree", "add", "--detach"]).arg(&copy).arg("HEAD").dir(&root).output()?;
    let result = all(&copy, args);
    cmd("git").args(["worktree", "remove", "--force"]).arg(&copy).output()?;
    result
}

fn all(copy: &Path, args: &[String]) -> Result<()> {
    ensure!(caught_by(copy)?.is_none(), "the tests fail without a mutant, too");
    let mut alive = Vec::new();
    let chosen = MUTANTS.iter().filter(|mutant| args.is_empty() || args.iter().any(|arg| mutant.0.contains(arg)));
    for (number, Mutant(file, from, to)) in chosen.clone().enumerate() {
        let path = copy.join("crates/protocol/src").join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(text.matches(from).count() == 1, "{file} does not have exactly one `{from}`");
        fs::write(&path, text.replacen(from, to, 1))?;
        let caught = caught_by(copy);
        fs::write(&path, text)?;
        let caught = caught?;
        println!("{:3} {:23} {file}: `{from}` -> `{to}`", number + 1, caught.unwrap_or("ALIVE"));
        if caught.is_none() {
            alive.push(*from);
        }
    }
    let count = chosen.count();
    println!("{} of {count} mutants are caught", count - alive.len());
    if alive.is_empty() { Ok(()) } else { bail!("alive: {}", alive.join("; ")) }
}

/// Which tests notice that something is wrong, if any do.
fn caught_by(copy: &Path) -> Result<Option<&'static str>> {
    let target = repo::target().join("mutants-target");
    let quiet = |cmd: Cmd| {
        let mut command = cmd.dir(copy).env("CARGO_TARGET_DIR", &target).into_command();
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.status().map(|status| status.success()).context("starting cargo")
    };
    let sim = ["--package", "moorline-sim", "--profile", "sim"];
    if !quiet(cargo("build").args(sim))? {
        return Ok(Some("compiler"));
    }
    if !quiet(cmd(target.join("sim/moorline-sim")).args(SEEDS))? {
        return Ok(Some("simulation"));
    }
    let test = |which: &[&str]| quiet(cargo("test").args(["--package", "moorline-protocol"]).args(which));
    if !test(&["--lib"])? {
        return Ok(Some("unit tests"));
    }
    // They take seconds, and know what the world of the simulation does not: peers that lie.
    if !test(&["--test", "*"])? {
        return Ok(Some("tests of both endpoints"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two had lost their line when it was changed, and nobody noticed before the next run of all of them.
    #[test]
    fn every_mutant_has_one_place() {
        for Mutant(file, from, _) in MUTANTS {
            let path = repo::root().join("crates/protocol/src").join(file);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(text.matches(from).count(), 1, "{file}: `{from}`");
        }
    }
}
