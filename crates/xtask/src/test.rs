//! `cargo xtask test`: every test, or the kinds named.

use anyhow::{Result, bail};

use crate::run::{cargo, cmd};
use crate::{autobahn, chromium, demo, nginx, node, pack, repo, sim, wasm};

/// A kind of test.
struct Kind {
    name: &'static str,
    run: fn() -> Result<()>,
}

const KINDS: &[Kind] = &[
    Kind { name: "rust", run: rust },
    Kind { name: "sim", run: sim::usual },
    Kind { name: "autobahn", run: autobahn::run },
    Kind { name: "wasm", run: protocol_on_wasm },
    Kind { name: "npm", run: package },
    Kind { name: "browser", run: browser },
];

pub(crate) fn command(args: &[String]) -> Result<()> {
    if let Some(unknown) = args.iter().find(|arg| KINDS.iter().all(|kind| kind.name != *arg)) {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        bail!("there are no tests of the kind {unknown:?}; kinds are {}", names.join(", "));
    }
    for Kind { run, .. } in KINDS.iter().filter(|kind| args.is_empty() || args.iter().any(|arg| arg == kind.name)) {
        run()?;
    }
    Ok(())
}

fn rust() -> Result<()> {
    cargo("test").args(repo::NATIVE).run()?;
    // What of the browser's driver needs no browser.
    cargo("test").args(["--package", "moorline-client-wasm", "--lib"]).run()?;
    cargo("test").args(["--package", repo::SIM]).run()?;
    cargo("test").args(["--package", "xtask"]).run()
}

/// The tests of the protocol again, on the target that pages run; README.md tells how.
fn protocol_on_wasm() -> Result<()> {
    wasm::ensure_target()?;
    let on_wasm = |package: &str| {
        cargo("test")
            .args(["--package", package, "--lib", "--tests", "--target", wasm::TARGET])
            // Cargo runs a test from its package's folder, and splits the runner at blanks: so not the whole path.
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", "node ../xtask/wasm-test.mjs")
    };
    on_wasm("moorline-protocol").run()?;
    // The same worlds must do the same there as here. The numbers of seeds are those of crates/sim/tests/seeds.rs.
    on_wasm(repo::SIM).env("MOORLINE_SIM_TRANSCRIPT", sim::transcript(40, 4, 40)?).run()
}

fn package() -> Result<()> {
    pack::make()?;
    for script in ["check", "test", "publint"] {
        node::npm(&pack::folder()).args(["run", script]).run()?;
    }
    // The compiled driver by itself, with a socket and a host that the test plays.
    cmd("node").arg("--test").dir(&repo::path("crates/client-wasm/tests")).run()
}

/// Real pages in Chromium. The tests find what they need in the environment:
/// `MOORLINE_TARBALL` the packed npm package, `MOORLINE_CHROMIUM` the browser, `MOORLINE_NGINX` the proxy,
/// `MOORLINE_BIN` the folder of our compiled programs.
fn browser() -> Result<()> {
    let tarball = pack::make()?;
    let chromium = chromium::ensure()?;
    let nginx = nginx::ensure()?;
    cargo("build").args(repo::NATIVE).arg("--bins").run()?;
    demo::pages()?;

    let folder = repo::path("tests/browser");
    node::install(&folder)?;
    cmd("node")
        .args(["--test", "--test-reporter=spec"])
        .dir(&folder)
        .env("MOORLINE_TARBALL", tarball)
        .env("MOORLINE_CHROMIUM", chromium)
        .env("MOORLINE_NGINX", nginx)
        .env("MOORLINE_BIN", repo::target().join("debug"))
        .run()
}
