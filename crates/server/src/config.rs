//! The configuration of a server: one TOML file, environment variables over it, and over both what the program sets.
//!
//! It owns the name, meaning, unit and default of every setting. It opens no socket and writes nothing; whether what is
//! set makes a safe server is for `ServerBuilder::build` to say.
//!
//! Where a value comes from, the stronger first:
//!
//! 1. the program, so the flags of the command line: it writes the fields;
//! 2. the environment: `MOORLINE__SECTION__KEY`, for `[auth.jwt]` `MOORLINE__AUTH__JWT__KEY`, lists separated by commas, an empty text for an empty list, no
//!    directory or no internal listener. A secret may stand in a file instead, which `MOORLINE__SECTION__KEY_FILE` names. Two variables of
//!    others are honoured, below ours: `PORT` replaces the port of `listen` and never its host, so that a variable left
//!    in a shell cannot open the server to the network; `STATE_DIRECTORY` (systemd) is the default of `data_dir`;
//! 3. the file: that of [`Config::load_from`], otherwise of `MOORLINE_CONFIG`, `./moorline.toml`,
//!    `/etc/moorline/moorline.toml`. Relative paths in it are relative to it, those elsewhere to the working directory;
//! 4. the defaults.
//!
//! What is not known is an error that names the nearest known, in the file with line and column. Tables that the file
//! names itself (`[topics."room:{id}"]`) have no variables.

mod auth;
mod channels;
mod date;
mod environment;
mod error;
mod file;
mod keys;
mod named;
mod network;
mod origin;
mod place;
mod problem;
mod quantity;
mod secret;
mod sections;
mod tables;
mod value;

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use auth::{AuthSection, IssueSection, JwksUrl, JwtAlgorithm, JwtSection};
pub(crate) use channels::MOST;
pub use channels::{
    GuardSection, HistorySection, PublishSection, SnapshotsBy, StoreSection, TopicSection, WriteSection,
};
pub use error::{ConfigError, SyntaxError};
pub use network::{InvalidNetwork, Network};
pub use origin::{InvalidOrigin, WebOrigin};
pub(crate) use place::Quoted;
pub use place::{KeyName, Place, TableName};
pub use problem::{Problem, Quantity};
pub use secret::Secret;
pub use sections::{
    Config, HeadersSection, HeartbeatSection, IdentitySection, InternalSection, LimitsSection, LogSection,
    ServerSection, SessionSection, Source, TimeoutsSection, TlsSection,
};
pub use value::{LogFilter, LogFormat};

/// Where a configuration is looked for when nothing names one, in this order.
const SEARCH: [&str; 2] = ["moorline.toml", "/etc/moorline/moorline.toml"];

impl Config {
    /// Reads the first configuration of the search path, none is fine, and this process's environment over it.
    ///
    /// # Errors
    /// When a file cannot be read, or a setting is unknown or does not fit: which, where, and what would do.
    pub fn load() -> Result<Self, ConfigError> {
        match find(env::var_os("MOORLINE_CONFIG"), &SEARCH.map(Path::new)) {
            Some(file) => Self::load_from(file),
            None => {
                let mut config = Self::default();
                config.apply_env(env::vars_os())?;
                Ok(config)
            }
        }
    }

    /// Reads this file, which must exist, and this process's environment over it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let mut config = Self::read(path.as_ref())?;
        config.apply_env(env::vars_os())?;
        Ok(config)
    }

    /// Reads the text of a configuration, without the environment. Relative paths in it are relative to `base_dir`.
    ///
    /// # Errors
    /// When a setting is unknown or does not fit: which, where, and what would do.
    pub fn parse(text: &str, base_dir: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        file::apply(&mut config, text, base_dir.as_ref(), None)?;
        Ok(config)
    }

    /// Lays environment variables, as `std::env::vars_os` gives them, over what is set. Those that are not ours are
    /// passed over.
    ///
    /// # Errors
    /// When one of ours is unknown or does not fit, or the file of a secret cannot be read.
    pub fn apply_env<K, V>(&mut self, variables: impl IntoIterator<Item = (K, V)>) -> Result<(), ConfigError>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        environment::apply(self, variables.into_iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
        let mut config = Self::default();
        file::apply(&mut config, &text, path.parent().unwrap_or(Path::new("")), Some(path))?;
        if keys::has_secret(&mut config) {
            refuse_readable_by_all(path).map_err(unreadable)??;
        }
        config.source.file = Some(path.to_owned());
        Ok(config)
    }
}

/// A duration from its text, as settings have it: `"90s"`, `"1h"`, `"7d"`.
///
/// # Errors
/// When it has no unit, or is none.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    quantity::duration(text)
}

/// The file that is named, otherwise the first candidate that is there.
fn find(named: Option<OsString>, candidates: &[&Path]) -> Option<PathBuf> {
    let named = named.filter(|name| !name.is_empty()).map(PathBuf::from);
    named.or_else(|| candidates.iter().find(|path| path.exists()).map(|path| path.to_path_buf()))
}

/// A configuration with a secret in it is no longer for everybody. Its group may read it: packages install
/// configurations as `root:moorline`, mode 0640.
#[cfg(unix)]
fn refuse_readable_by_all(path: &Path) -> io::Result<Result<(), ConfigError>> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    let readable = mode & 0o007 != 0;
    Ok(if readable { Err(ConfigError::SecretReadable { path: path.to_owned(), mode }) } else { Ok(()) })
}

#[cfg(not(unix))]
fn refuse_readable_by_all(_: &Path) -> io::Result<Result<(), ConfigError>> {
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_comes_over_the_file_over_the_defaults() -> Result<(), ConfigError> {
        let mut config = Config::parse("[limits]\nconnections = 7\ncalls_in_flight = 8", "")?;
        config.apply_env([("MOORLINE__LIMITS__CALLS_IN_FLIGHT", "9"), ("HOME", "/root")])?;
        assert_eq!((config.limits.connections, config.limits.calls_in_flight), (7, 9));
        assert_eq!(config.limits.outgoing, 1024 * 1024);
        assert_eq!(config.source.variables.iter().collect::<Vec<_>>(), ["MOORLINE__LIMITS__CALLS_IN_FLIGHT"]);
        Ok(())
    }

    #[test]
    fn an_empty_configuration_is_the_default_one() -> Result<(), ConfigError> {
        let config = Config::parse("", "/etc/moorline")?;
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        assert_eq!(config.key_file(), Path::new("moorline-data/identity"));
        Ok(())
    }

    #[test]
    fn a_named_configuration_comes_before_those_that_are_looked_for() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (first, second) = (dir.path().join("first.toml"), dir.path().join("second.toml"));
        fs::write(&second, "")?;
        let candidates = [first.as_path(), second.as_path()];
        assert_eq!(find(None, &candidates), Some(second.clone()));
        assert_eq!(find(Some("".into()), &candidates), Some(second.clone()));
        assert_eq!(find(Some("other.toml".into()), &candidates), Some("other.toml".into()));
        fs::write(&first, "")?;
        assert_eq!(find(None, &candidates), Some(first));
        assert_eq!(find(None, &[]), None);
        Ok(())
    }

    #[test]
    fn a_named_configuration_that_is_not_there_is_an_error() {
        let error = Config::load_from("/nowhere/moorline.toml").err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("/nowhere/moorline.toml")));
    }

    #[cfg(unix)]
    #[test]
    fn a_configuration_with_a_secret_is_not_for_everybody() -> Result<(), Box<dyn std::error::Error>> {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir()?;
        let path = dir.path().join("moorline.toml");
        fs::write(&path, "[identity]\nkey = 'mlsec_x'")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        let error = Config::read(&path).err().ok_or("it was taken")?.to_string();
        assert!(error.contains("0644") && error.contains("chmod 640"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
        assert!(Config::read(&path)?.identity.key.is_some());
        Ok(())
    }
}
