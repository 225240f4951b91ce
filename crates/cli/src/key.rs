//! `moorline key`: keys that clients and server share.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use moorline_server::{
    Config,
    protocol::{
        entropy::Entropy,
        key::{SharedKey, SharedKeyId},
    },
};
use zeroize::Zeroizing;

use crate::args::{KeyCommand, Place};

/// scrypt (RFC 7914) with N = 2^17, r = 8, p = 1: about 128 MiB and a third of a second for each guess.
const LOG_N: u8 = 17;
const R: u32 = 8;
const P: u32 = 1;

/// Fewer characters are guessed, whatever scrypt costs.
const SHORTEST: usize = 12;

/// Random bytes that are kept: the salt, and the key's name.
const SALT: usize = 16;
const ID: usize = 4;

pub(crate) fn run(config: Option<&Path>, command: KeyCommand) -> anyhow::Result<()> {
    let key = match command {
        KeyCommand::New => SharedKey::generate(&mut entropy()?),
        KeyCommand::FromPassphrase(place) => from_passphrase(config, place)?,
    };
    writeln!(io::stdout().lock(), "{}", *key.text())?;
    Ok(())
}

fn entropy() -> anyhow::Result<Entropy> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(Entropy::new(seed))
}

/// The same key for the same passphrase, as long as the salt is there.
fn from_passphrase(config: Option<&Path>, Place { data_dir }: Place) -> anyhow::Result<SharedKey> {
    let config = config.map_or_else(Config::load, Config::load_from)?;
    let directory = data_dir.unwrap_or(config.server.data_dir);
    if io::stdin().is_terminal() {
        eprintln!("Type the passphrase and press Enter; it is shown as you type:");
    }
    let mut passphrase = Zeroizing::new(String::new());
    io::stdin().take(4_096).read_to_string(&mut passphrase).context("reading the passphrase from standard input")?;
    let passphrase = passphrase.trim_end_matches(['\r', '\n']);
    ensure!(
        passphrase.chars().count() >= SHORTEST,
        "a passphrase has at least {SHORTEST} characters: what is shorter is guessed. `moorline key new` makes a key that \
         needs no passphrase"
    );
    let kept = salt(&directory)?;
    let (salt, id) = kept.split_at(SALT);
    let parameters = scrypt::Params::new(LOG_N, R, P, 32).map_err(|error| anyhow::anyhow!("scrypt: {error}"))?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(passphrase.as_bytes(), salt, &parameters, &mut key[..])
        .map_err(|error| anyhow::anyhow!("scrypt: {error}"))?;
    Ok(SharedKey::new(SharedKeyId(id.try_into()?), *key))
}

/// What is kept with the installation, made at the first time: without it the passphrase gives another key.
fn salt(directory: &Path) -> anyhow::Result<[u8; SALT + ID]> {
    let path = directory.join("passphrase.salt");
    match fs::read(&path) {
        Ok(bytes) => match <[u8; SALT + ID]>::try_from(bytes.as_slice()) {
            Ok(kept) => Ok(kept),
            Err(_) => bail!("{} is damaged: put a backup of it there, or hand out a new key", path.display()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let kept = entropy()?.array::<{ SALT + ID }>();
            // As the server would make it, who leaves one that is there as it is.
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(directory).with_context(|| format!("making {}", directory.display()))?;
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&path).with_context(|| format!("writing {}", path.display()))?;
            file.write_all(&kept)
                .and_then(|()| file.sync_all())
                .with_context(|| format!("writing {}", path.display()))?;
            eprintln!("made {}: keep it, the key is made of it and the passphrase", path.display());
            Ok(kept)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
