//! The server's identity: the private keys that make it this server, in a file or handed in by the environment.
//!
//! It owns the keys' text form, their file, and the order of a rotation. It never logs a private key, never takes a file
//! of the server's own that others can read, and never replaces one but by a step of a rotation, which keeps the file
//! that was there beside it.
//!
//! The text form is `mlsec_` and 48 characters of base64url: the 32 bytes of the X25519 private key, and the first four
//! bytes of SHA-256 over the prefix and the key, as in `mlpub_`. The file is UTF-8 text of one line with it. During a
//! rotation there are more, with their role and a space before the key: `next mlsec_…`, `previous mlsec_…`. Lines that
//! are empty or begin with `#` are passed over. A variable of the environment holds the same lines.

mod file;
mod rotation;
mod text;

use std::{
    error, fmt, io,
    path::{Path, PathBuf},
};

use moorline_protocol::{
    entropy::Entropy,
    key::{Identity, StaticKey},
};

use crate::config::{Config, Place, Secret};

pub use file::read_file;
pub use rotation::{Rotation, RotationError};
pub use text::{InvalidPrivateKey, from_text, to_text};

/// Where an identity comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It was made just now and is in its file from now on.
    Created,
    /// It was in its file.
    File,
    /// The environment has it, in a variable or in a file that a variable names.
    Environment,
    /// The configuration has it, or the program that embeds the server.
    Configuration,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Created => "created",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Configuration => "configuration",
        })
    }
}

/// Why there is no identity.
#[derive(Debug)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no file yet.
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner can read the file.
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file has no valid key.
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: InvalidPrivateKey,
    },
    /// The setting is no valid key.
    InvalidSetting {
        /// Where it was found.
        place: Place,
        /// What is wrong with it.
        error: InvalidPrivateKey,
    },
    /// The directory of the file cannot be made.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The step of the rotation cannot be made now.
    Rotation(RotationError),
    /// The keys are not in the server's own file, so they are not ours to change.
    NotOurs {
        /// Where they were found.
        place: Place,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ELSEWHERE: &str = "choose a directory that this user can write: [server] data_dir or --data-dir";
        match self {
            Self::Missing { path } => write!(
                formatter,
                "there is no identity key {} yet; the first start of the server makes it",
                path.display()
            ),
            Self::Read { path, .. } => write!(formatter, "the identity key {} cannot be read", path.display()),
            Self::ReadableByOthers { path, mode } => write!(
                formatter,
                "the identity key {path} is open to others than its owner (mode {mode:04o}); run: chmod 600 {path}",
                path = path.display()
            ),
            Self::InvalidFile { path, error } => write!(
                formatter,
                "the identity key {} is not valid: {error}; put a backup of it there, or move it away and start anew \
                 with another key, which pages that pin this one will refuse",
                path.display()
            ),
            Self::InvalidSetting { place, error } => {
                write!(formatter, "{place}: the identity key is not valid: {error}")
            }
            Self::Directory { path, .. } => {
                write!(formatter, "the directory {} cannot be made; {ELSEWHERE}", path.display())
            }
            Self::Write { path, .. } => {
                write!(formatter, "the identity key {} cannot be written; {ELSEWHERE}", path.display())
            }
            Self::Rotation(error) => error.fmt(formatter),
            Self::NotOurs { place } => write!(
                formatter,
                "the identity key comes from {place} and is changed there: write all keys, one a line, with \"next \" or \
                 \"previous \" before those that are not the current one (a new one: moorline identity generate); then \
                 moorline reload where it is a file, otherwise restart"
            ),
        }
    }
}

impl error::Error for IdentityError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Directory { source, .. } | Self::Write { source, .. } => Some(source),
            Self::Missing { .. }
            | Self::ReadableByOthers { .. }
            | Self::InvalidFile { .. }
            | Self::InvalidSetting { .. }
            | Self::Rotation(_)
            | Self::NotOurs { .. } => None,
        }
    }
}

/// The identity that is configured; where there is none yet, a new one from `entropy`, which is in its file before this
/// returns.
///
/// # Errors
/// When the key is damaged, its file is open to others, or a new one cannot be written.
pub fn load_or_create(config: &Config, entropy: &mut Entropy) -> Result<(Identity, Origin), IdentityError> {
    match load(config) {
        Err(IdentityError::Missing { path }) => file::create(&path, &StaticKey::generate(entropy), entropy),
        loaded => loaded,
    }
}

/// The identity that is configured, which must be there.
///
/// # Errors
/// [`IdentityError::Missing`] before the first start; otherwise as [`load_or_create`].
pub fn load(config: &Config) -> Result<(Identity, Origin), IdentityError> {
    match &config.identity.key {
        Some(secret) => of_setting(secret),
        None => file::read_own(&config.key_file()).map(|identity| (identity, Origin::File)),
    }
}

/// Makes a step of a rotation in the server's own file, and gives the keys that are in it now. Nothing is changed when
/// it cannot be made.
///
/// Two that do this at once lose one of the steps, so hold the data directory
/// ([`DataDir`](crate::DataDir)) meanwhile.
///
/// # Errors
/// When the step is out of order, the keys are not in a file of the server's own, or the file cannot be read or written.
pub fn rotate(config: &Config, rotation: Rotation, entropy: &mut Entropy) -> Result<Identity, IdentityError> {
    if let Some(secret) = &config.identity.key {
        return Err(IdentityError::NotOurs { place: secret.place().clone() });
    }
    let path = config.key_file();
    let identity = rotation.apply(&file::read_own(&path)?, entropy).map_err(IdentityError::Rotation)?;
    file::replace(&path, &identity, entropy)?;
    Ok(identity)
}

/// The file that a rotation leaves beside the key file: the keys before its last step.
pub fn backup_of(key_file: &Path) -> PathBuf {
    file::backup(key_file)
}

/// The identity as it is now where it was read from; `None` when that cannot have changed while this process runs.
///
/// # Errors
/// As [`load`].
pub fn reload(config: &Config) -> Result<Option<Identity>, IdentityError> {
    match config.identity.key.as_ref().map(Secret::place) {
        None => file::read_own(&config.key_file()).map(Some),
        Some(Place::VariableFile { path, .. }) => file::read_file(path).map(Some),
        Some(Place::Variable { .. } | Place::File { .. } | Place::Program) => Ok(None),
    }
}

/// What was handed in is not the server's own file: who mounts a secret, or checks out one for a test, has his reasons
/// for its permissions, and cannot always choose them.
fn of_setting(secret: &Secret) -> Result<(Identity, Origin), IdentityError> {
    let origin = match secret.place() {
        Place::Variable { .. } | Place::VariableFile { .. } => Origin::Environment,
        Place::File { .. } | Place::Program => Origin::Configuration,
    };
    let identity = text::from_lines(secret.expose())
        .map_err(|error| IdentityError::InvalidSetting { place: secret.place().clone(), error })?;
    Ok((identity, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn a_key_of_the_environment_comes_before_the_file() -> TestResult {
        let dir = tempfile::tempdir()?;
        let mut config = Config::default();
        config.server.data_dir = dir.path().to_owned();
        load_or_create(&config, &mut Entropy::new([1; 32]))?;
        let key = StaticKey::from_private([9; 32]);
        config.apply_env([("MOORLINE__IDENTITY__KEY", to_text(&key).as_str())])?;
        let (identity, origin) = load(&config)?;
        assert_eq!(origin, Origin::Environment);
        assert_eq!(identity.public_keys().collect::<Vec<_>>(), [key.public()]);
        Ok(())
    }

    #[test]
    fn a_mounted_key_is_taken_whatever_its_permissions_and_never_made() -> TestResult {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("identity");
        let key = StaticKey::from_private([9; 32]);
        std::fs::write(&path, format!("# for tests\n{}\n", *to_text(&key)))?;
        let mut config = Config::default();
        config.apply_env([("MOORLINE__IDENTITY__KEY_FILE", &path)])?;
        let (identity, origin) = load_or_create(&config, &mut Entropy::new([1; 32]))?;
        assert_eq!(origin, Origin::Environment);
        assert_eq!(identity.public_keys().next(), Some(key.public()));
        std::fs::remove_file(&path)?;
        assert!(config.apply_env([("MOORLINE__IDENTITY__KEY_FILE", &path)]).is_err());
        assert!(!path.exists());
        Ok(())
    }

    #[test]
    fn a_damaged_setting_is_named_with_its_place_and_without_the_key() -> TestResult {
        let mut text = to_text(&StaticKey::from_private([9; 32])).to_string();
        text.pop();
        let mut config = Config::parse(&format!("[identity]\nkey = '{text}'"), "")?;
        let error = load(&config).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("line 2, column 1: the identity key is not valid"), "{error}");
        assert!(!error.contains(&text[6..]));
        config.apply_env([("MOORLINE__IDENTITY__KEY", text)])?;
        let error = load(&config).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("MOORLINE__IDENTITY__KEY: "), "{error}");
        Ok(())
    }

    #[test]
    fn a_setting_has_the_keys_of_a_rotation_in_its_lines_and_is_not_ours_to_change() -> TestResult {
        let [current, next] = [[1; 32], [2; 32]].map(StaticKey::from_private);
        let mut config = Config::default();
        let text = format!("{}\nnext {}", *to_text(&current), *to_text(&next));
        config.apply_env([("MOORLINE__IDENTITY__KEY", text)])?;
        let (identity, _) = load(&config)?;
        assert!(identity.public_keys().eq([current.public(), next.public()]));
        let refused = rotate(&config, Rotation::Promote, &mut Entropy::new([1; 32])).err().ok_or("it was changed")?;
        assert!(
            refused.to_string().starts_with("the identity key comes from MOORLINE__IDENTITY__KEY and"),
            "{refused}"
        );
        assert!(reload(&config)?.is_none(), "an environment does not change");
        Ok(())
    }

    #[test]
    fn what_a_mounted_file_has_now_is_read_again() -> TestResult {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("secret");
        let [old, new] = [[1; 32], [2; 32]].map(StaticKey::from_private);
        std::fs::write(&path, to_text(&old).as_str())?;
        let mut config = Config::default();
        config.apply_env([("MOORLINE__IDENTITY__KEY_FILE", &path)])?;
        std::fs::write(&path, format!("{}\nprevious {}", *to_text(&new), *to_text(&old)))?;
        let identity = reload(&config)?.ok_or("it was not read")?;
        assert!(identity.public_keys().eq([new.public(), old.public()]));
        Ok(())
    }

    #[test]
    fn a_key_of_the_program_needs_no_directory() -> TestResult {
        let mut config = Config::default();
        config.server.data_dir = "/nowhere/at/all".into();
        config.identity.key = Some(Secret::new(to_text(&StaticKey::from_private([9; 32])).as_str()));
        assert_eq!(load_or_create(&config, &mut Entropy::new([1; 32]))?.1, Origin::Configuration);
        Ok(())
    }
}
