//! `moorline identity`.

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::anyhow;
use moorline_server::{
    DataDir,
    control::{Client, ControlError, Keys, Request},
    identity::{self, Rotation},
    protocol::{entropy::Entropy, key::StaticKey},
};

use crate::{
    args::{IdentityCommand, Place},
    control,
};

pub(crate) fn run(config: Option<&Path>, command: IdentityCommand) -> anyhow::Result<()> {
    match command {
        IdentityCommand::Show { place, file, label } => show(config, place, file.as_deref(), label),
        IdentityCommand::Next(place) => rotate(config, place, Rotation::Next),
        IdentityCommand::Promote(place) => rotate(config, place, Rotation::Promote),
        IdentityCommand::Retire(place) => rotate(config, place, Rotation::Retire),
        IdentityCommand::Generate => generate(),
    }
}

fn show(config: Option<&Path>, place: Place, file: Option<&Path>, label: bool) -> anyhow::Result<()> {
    let identity = match file {
        Some(file) => identity::read_file(file)?,
        None => identity::load(&control::configuration(config, place)?)?.0,
    };
    print(&Keys::of(&identity), label)
}

/// One a line and nothing else, so that a script can take them.
fn print(keys: &Keys, label: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for named in &keys.keys {
        match label {
            true => writeln!(out, "{} {}", named.key, named.role)?,
            false => writeln!(out, "{}", named.key)?,
        }
    }
    Ok(())
}

fn rotate(config: Option<&Path>, place: Place, rotation: Rotation) -> anyhow::Result<()> {
    let config = control::configuration(config, place)?;
    let request = match rotation {
        Rotation::Next => Request::IdentityNext,
        Rotation::Promote => Request::IdentityPromote,
        Rotation::Retire => Request::IdentityRetire,
    };
    let told = Client::connect(&config.server.data_dir).and_then(|mut server| server.ask(&request));
    let keys = match told {
        Ok(keys) => {
            eprintln!("the running server accepts these keys from now on:");
            keys
        }
        Err(ControlError::NotRunning { .. } | ControlError::NoSockets) => {
            // Nobody may start or rotate in between. This also finds a server that takes no commands.
            let _alone = DataDir::open(&config.server.data_dir)?;
            let keys = Keys::of(&identity::rotate(&config, rotation, &mut entropy()?)?);
            let file = config.key_file();
            eprintln!("no server runs here; from its next start on it accepts these keys of {}:", file.display());
            keys
        }
        Err(error) => return Err(error.into()),
    };
    print(&keys, true)
}

fn generate() -> anyhow::Result<()> {
    let key = identity::to_text(&StaticKey::generate(&mut entropy()?));
    writeln!(io::stdout().lock(), "{}", *key)?;
    Ok(())
}

fn entropy() -> anyhow::Result<Entropy> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| anyhow!("the system gives no random bytes"))?;
    Ok(Entropy::new(seed))
}
