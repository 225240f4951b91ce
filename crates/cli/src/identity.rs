//! `moorline identity`.

use std::{
    io::{self, Write as _},
    path::Path,
};

use moorline_server::{Config, identity};

/// Prints the public keys, one a line and nothing else, so that a script can take them.
pub(crate) fn show(config: Option<&Path>, file: Option<&Path>) -> anyhow::Result<()> {
    let identity = match file {
        Some(file) => identity::read_file(file)?,
        None => {
            let config = config.map_or_else(Config::load, Config::load_from)?;
            identity::load(&config)?.0
        }
    };
    let mut out = io::stdout().lock();
    for key in identity.public_keys() {
        writeln!(out, "{key}")?;
    }
    Ok(())
}
