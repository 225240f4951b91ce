//! Every build, check and release step of the repository, as `cargo xtask NAME`.
//!
//! One module a command; [`COMMANDS`] is the list of them. What they share: [`run`] starts other programs and shows
//! progress, [`repo`] knows the folders, [`stamp`] tells whether work is up to date, [`node`] installs npm packages.
//! Nothing here waits for input, and what is missing is installed or named.

mod apt;
mod autobahn;
mod bench;
mod chromium;
mod ci;
mod codes;
mod demo;
mod deny;
mod fuzz;
mod glue;
mod mutants;
mod nginx;
mod node;
mod pack;
mod purity;
mod repo;
mod run;
mod sim;
mod size;
mod stamp;
mod test;
mod wasm;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// One `cargo xtask NAME`.
struct Command {
    name: &'static str,
    /// What may follow the name.
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command { name: "demo", usage: "", about: "build everything and serve the demo", run: demo::command },
    Command {
        name: "test",
        usage: "[rust] [sim] [autobahn] [wasm] [npm] [browser]",
        about: "run every test, or only the named kinds",
        run: test::command,
    },
    Command {
        name: "ci",
        usage: "[STEP]...",
        about: "everything that must pass before a change lands: lints, checks, tests, sizes, docs",
        run: ci::command,
    },
    Command {
        name: "wasm",
        usage: "[--dev]",
        about: "compile the browser driver into npm/generated/ (--dev: faster, larger, with names)",
        run: wasm::command,
    },
    Command { name: "npm", usage: "", about: "build the npm package and pack it into target/npm/", run: pack::command },
    Command {
        name: "size",
        usage: "",
        about: "measure the wasm and the JavaScript, and fail over the budget",
        run: size::command,
    },
    Command {
        name: "codes",
        usage: "[--check]",
        about: "write npm/src/codes.gen.ts and the table in docs/PROTOCOL.md from the registry of codes (--check: only compare)",
        run: codes::command,
    },
    Command {
        name: "purity",
        usage: "",
        about: "check that protocol has no runtime, clock, random source, socket or browser in it",
        run: purity::command,
    },
    Command {
        name: "deny",
        usage: "",
        about: "check licences, sources and banned crates with cargo-deny",
        run: deny::command,
    },
    Command {
        name: "sim",
        usage: "[--seeds N] [--noise M] | --seed S",
        about: "run simulated worlds in which everything goes wrong that can, or one of them again",
        run: sim::command,
    },
    Command {
        name: "mutants",
        usage: "[FILE]...",
        about: "break the protocol on purpose, place by place, and look whether the tests notice (takes long)",
        run: mutants::command,
    },
    Command {
        name: "fuzz",
        usage: "--seconds N [TARGET]...",
        about: "fuzz each decoder for N seconds (needs a nightly toolchain)",
        run: fuzz::command,
    },
    Command {
        name: "bench",
        usage: "[--quick] [--json FILE] [--against FILE] [CASE]...",
        about: "what the server costs beside a bare WebSocket server; --against fails when it got much worse",
        run: bench::command,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        list();
        return Ok(());
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") || rest.iter().any(|arg| arg == "--help" || arg == "-h") {
        list();
        return Ok(());
    }
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(rest),
        None => {
            list();
            bail!("there is no command {name:?}");
        }
    }
}

fn list() {
    println!("cargo xtask NAME\n");
    for Command { name, usage, about, .. } in COMMANDS {
        println!("  {:36} {about}", format!("{name} {usage}").trim_end());
    }
}

/// Refuses what a command does not take.
fn expect_no_more(name: &str, args: &[String]) -> Result<()> {
    match args.first() {
        None => Ok(()),
        Some(arg) => bail!("`{name}` does not take {arg:?}; `cargo xtask` lists what there is"),
    }
}
