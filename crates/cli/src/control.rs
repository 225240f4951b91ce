//! Commands to a running server: `moorline reload`, `moorline status`.

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::bail;
use moorline_server::{
    Config,
    control::{Client, Outcome, Reloaded, Request, Status},
};

use crate::args::Place;

/// The configuration that the server was started with, as far as the same files and flags are named.
pub(crate) fn configuration(config: Option<&Path>, place: Place) -> anyhow::Result<Config> {
    let mut config = config.map_or_else(Config::load, Config::load_from)?;
    if let Some(data_dir) = place.data_dir {
        config.server.data_dir = data_dir;
    }
    Ok(config)
}

fn connect(config: Option<&Path>, place: Place) -> anyhow::Result<Client> {
    Ok(Client::connect(configuration(config, place)?.server.data_dir)?)
}

/// Prints what came of it, and fails when something had to stay as it was.
pub(crate) fn reload(config: Option<&Path>, place: Place) -> anyhow::Result<()> {
    let Reloaded { parts } = connect(config, place)?.ask(&Request::Reload)?;
    let mut out = io::stdout().lock();
    let mut problems = Vec::new();
    for part in parts {
        let outcome = match part.outcome {
            Outcome::Changed => "changed",
            Outcome::Unchanged => "unchanged",
            Outcome::Kept => "kept",
        };
        writeln!(out, "{} {outcome}", part.name)?;
        problems.extend(part.problem.map(|problem| format!("the {} is kept as it was: {problem}", part.name)));
    }
    if problems.is_empty() { Ok(()) } else { bail!(problems.join("\n")) }
}

pub(crate) fn status(config: Option<&Path>, place: Place) -> anyhow::Result<()> {
    let status: Status = connect(config, place)?.ask(&Request::Status)?;
    writeln!(io::stdout().lock(), "{}", serde_json::to_string(&status)?)?;
    Ok(())
}
