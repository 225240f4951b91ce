//! `cargo xtask ci`: all that must pass before a change lands, cheap steps first. It stops at the first failure.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::run::{cargo, seconds};
use crate::{codes, deny, purity, repo, size, test, wasm};

/// One step, which a person can run alone: `cargo xtask ci NAME`.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "format", about: "rustfmt has nothing to change", run: format },
    Step { name: "codes", about: "generated files are fresh", run: || codes::command(&["--check".into()]) },
    Step { name: "purity", about: "protocol owns no clock, socket, runtime, browser", run: || purity::command(&[]) },
    Step { name: "lint", about: "clippy is silent, natively and for wasm32", run: lint },
    Step { name: "docs", about: "rustdoc is silent", run: docs },
    Step { name: "deny", about: "licences, sources, banned crates", run: || deny::command(&[]) },
    Step { name: "test", about: "every test", run: || test::command(&[]) },
    Step { name: "size", about: "what a page downloads is within budget", run: || size::command(&[]) },
];

pub(crate) fn command(args: &[String]) -> Result<()> {
    if let Some(unknown) = args.iter().find(|arg| STEPS.iter().all(|step| step.name != *arg)) {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        bail!("there is no step {unknown:?}; steps are {}", names.join(", "));
    }
    let started = Instant::now();
    let mut done = Vec::new();
    for step in STEPS.iter().filter(|step| args.is_empty() || args.iter().any(|arg| arg == step.name)) {
        eprintln!("\n── {}: {}", step.name, step.about);
        let begun = Instant::now();
        let result = (step.run)();
        done.push((step, begun.elapsed(), result.is_ok()));
        if let Err(error) = result {
            summary(&done, started.elapsed());
            return Err(error.context(format!("the step `cargo xtask ci {}`", step.name)));
        }
    }
    summary(&done, started.elapsed());
    Ok(())
}

fn summary(done: &[(&Step, Duration, bool)], total: Duration) {
    eprintln!();
    for (Step { name, about, .. }, took, passed) in done {
        eprintln!("{} {name:8} {about:52} {:>12}", if *passed { "✓" } else { "✗" }, seconds(*took));
    }
    eprintln!("  {:61} {:>12}", "", seconds(total));
}

fn format() -> Result<()> {
    cargo("fmt").args(["--all", "--check"]).run()
}

fn lint() -> Result<()> {
    wasm::ensure_target()?;
    let clippy = |what: &[&str]| cargo("clippy").args(what).args(["--", "-D", "warnings"]).run();
    clippy(&[repo::NATIVE, &["--all-targets"]].concat())?;
    // With it `protocol` once more, as it is with the feature `testing`.
    clippy(&["--package", repo::SIM, "--all-targets"])?;
    clippy(&["--package", "xtask", "--all-targets"])?;
    let browser = ["--package", "moorline-client-wasm", "--package", "moorline-protocol"];
    clippy(&[&browser[..], &["--target", wasm::TARGET]].concat())?;
    // Without SQLite it is as pure as what the simulation is made of.
    clippy(&["--package", "moorline-engine", "--no-default-features", "--target", wasm::TARGET])
}

fn docs() -> Result<()> {
    let doc = || cargo("doc").arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings");
    doc().args(repo::NATIVE).run()?;
    doc().args(["--package", repo::SIM]).run()?;
    doc().args(["--package", "moorline-client-wasm", "--target", wasm::TARGET]).run()
}
