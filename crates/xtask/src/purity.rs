//! `cargo xtask purity`: proves that `protocol` owns no runtime, clock, random source, socket or browser.
//!
//! Three checks stand elsewhere: `crates/protocol/clippy.toml` (what std offers), `wasm-test.mjs` (the compiled tests
//! import nothing), `wasm.rs` (the driver imports nothing from "env"). Here are its dependencies and its target `cfg`s.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::repo::SIM;
use crate::run::cargo;
use crate::{expect_no_more, repo, stamp, wasm};

const PURE: &str = "moorline-protocol";
/// A crate that needs a runtime: if the check does not see that, it sees nothing.
const IMPURE: &str = "moorline-client";

/// What users get.
const SHIPPED: &[&str] = &["moorline", "moorline-server", "moorline-client", "moorline-client-wasm"];

/// Crates that bring a runtime, a clock, a random source, a socket or a browser. A name ends in `*` for all that begin
/// so.
const FORBIDDEN: &[&str] = &[
    "async-io",
    "async-std",
    "chrono",
    "fastrand",
    "futures-timer",
    "getrandom",
    "gloo*",
    "instant",
    "jiff",
    "js-sys",
    "mio",
    "nix",
    "oorandom",
    "rand",
    "rand_chacha",
    "rand_xorshift",
    "rustix",
    "smol",
    "socket2",
    "time",
    "tokio*",
    "tungstenite",
    "wasm-bindgen*",
    "web-sys",
    "web-time",
    "windows-sys",
];

/// Conditions on what the code runs on. `protocol` is the same everywhere.
const TARGET_CFGS: &[&str] = &["target_arch", "target_env", "target_family", "target_os", "cfg(unix)", "cfg(windows)"];

pub(crate) fn command(args: &[String]) -> Result<()> {
    expect_no_more("purity", args)?;
    wasm::check_bindgen_version()?;

    let tree = dependencies(PURE)?;
    let found = forbidden(&tree);
    if !found.is_empty() {
        let name = &found[0];
        bail!(
            "{PURE} depends on {}, which it must not; `cargo tree -p {PURE} -e normal --target all -i {name}` tells why",
            found.join(", ")
        );
    }
    ensure!(
        forbidden(&dependencies(IMPURE)?).iter().any(|name| name == "tokio"),
        "the check does not find tokio among the dependencies of {IMPURE}: the check is broken"
    );
    check_testing()?;
    check_sources()?;
    println!("{PURE} is pure: none of the {} crates in it is forbidden", names(&tree).len());
    Ok(())
}

/// The feature for the simulation weakens what it is in; nothing that is shipped may have it.
fn check_testing() -> Result<()> {
    let features = |package: &str| {
        cargo("tree").args(["--package", package, "--edges", "normal,features", "--target", "all"]).output()
    };
    let weakened = format!("{PURE} feature \"testing\"");
    for package in SHIPPED {
        ensure!(!features(package)?.contains(&weakened), "{package} is built with the feature `testing` of {PURE}");
    }
    ensure!(features(SIM)?.contains(&weakened), "the check does not find the feature in {SIM}: the check is broken");
    Ok(())
}

/// Everything that is compiled into a package, on any target; features are those of the package alone.
fn dependencies(package: &str) -> Result<String> {
    cargo("tree")
        .args(["--package", package, "--edges", "normal", "--target", "all", "--prefix", "none", "--format", "{p}"])
        .output()
}

/// The forbidden names in cargo's list of `NAME vVERSION` lines.
fn forbidden(tree: &str) -> Vec<String> {
    let is_forbidden = |name: &str| {
        FORBIDDEN.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        })
    };
    names(tree).into_iter().filter(|name| is_forbidden(name)).map(str::to_owned).collect()
}

fn names(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split(' ').next()).collect()
}

fn check_sources() -> Result<()> {
    for file in stamp::files(&repo::path("crates/protocol/src"), &[])? {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", repo::shown(&file)))?;
        for (number, line) in text.lines().enumerate() {
            if let Some(cfg) = TARGET_CFGS.iter().find(|cfg| line.contains(**cfg)) {
                bail!("{}:{}: `{cfg}`: protocol is the same on every target", repo::shown(&file), number + 1);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_or_random_source_among_the_dependencies_is_found() {
        let tree = "moorline-protocol v0.1.0 (/somewhere)\nsnow v0.10.0\nrand_core v0.6.4\ngetrandom v0.2.16\n\
                    tokio-util v0.7.0\ngetrandom v0.2.16 (*)\n";
        assert_eq!(forbidden(tree), ["getrandom", "tokio-util"]);
    }

    #[test]
    fn a_name_that_only_begins_like_a_forbidden_one_is_not_found() {
        assert!(forbidden("rand_core v0.6.4\ntimeout v1.0.0\n").is_empty());
    }
}
