//! The program `moorline`: commands and wiring. What it does is in `moorline-server`; here is how it is asked for and
//! what a person sees of it.
//!
//! It ends with 0 when it did what it was asked for, so after a polite shutdown, with 1 and one sentence when something went wrong, with 2 when it was called
//! wrongly, and with 128 and the signal's number when a second signal ends it at once.

mod args;
mod banner;
mod control;
mod identity;
mod key;
mod logging;
mod message;
mod publish;
mod remote;
mod serve;
mod signals;
mod store;
mod token;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command};

fn main() -> ExitCode {
    let Arguments { config, command } = Arguments::parse();
    let done = match command {
        Command::Serve(flags) => serve::run(config.as_deref(), flags),
        Command::Identity(command) => identity::run(config.as_deref(), command),
        Command::Reload(place) => control::reload(config.as_deref(), place),
        Command::Status(place) => control::status(config.as_deref(), place),
        Command::Watch(flags) => watch::run(config.as_deref(), flags),
        Command::Publish(flags) => publish::run(config.as_deref(), flags),
        Command::Store(command) => store::run(config.as_deref(), command),
        Command::Key(command) => key::run(config.as_deref(), command),
        Command::Token(command) => token::run(config.as_deref(), command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Plain text, even where log lines are JSON: whoever starts a program wants to read why it did not start.
fn report(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}
