//! Keys that clients and server share, as the configuration has them.

use std::{collections::BTreeMap, fmt, fs, io, path::PathBuf};

use moorline_protocol::{
    key::{InvalidSharedKey, SharedKey, SharedKeyId},
    scope::{InvalidScopes, Scopes},
    subject::{Subject, Tenant},
};
use zeroize::Zeroizing;

use super::Principal;
use crate::{config::Config, data_dir};

/// Keys that a server takes at once: HS1 looks through all of them.
const MOST: usize = 64;

/// Why the shared keys do not do.
#[derive(Debug)]
#[non_exhaustive]
pub enum SharedKeyError {
    /// Both the keys and a file of them are set.
    TwoSources,
    /// The file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is everybody's.
    ReadableByAll {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// One of them is none.
    Invalid {
        /// Which, from 1.
        number: usize,
        /// What is wrong with it.
        error: InvalidSharedKey,
    },
    /// Two have one name.
    Twice(SharedKeyId),
    /// There are too many.
    TooMany,
    /// One is required, and there is none.
    Missing,
    /// They need records that are sealed.
    EncryptionOff,
    /// A scope is none.
    Scopes(InvalidScopes),
}

impl fmt::Display for SharedKeyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[auth.shared_key] ")?;
        match self {
            Self::TwoSources => formatter.write_str("keys and keys_file exclude each other"),
            Self::Read { path, .. } => write!(formatter, "keys_file: {} cannot be read", path.display()),
            Self::ReadableByAll { path, mode } => write!(
                formatter,
                "keys_file: everybody can read {path} (mode {mode:04o}); run: chmod 640 {path}",
                path = path.display()
            ),
            Self::Invalid { number, error } => write!(formatter, "keys: number {number}: {error}"),
            Self::Twice(id) => write!(formatter, "keys: the key {id} stands there twice"),
            Self::TooMany => write!(formatter, "keys: more than {MOST}"),
            Self::Missing => {
                formatter.write_str("required is set, and there are no keys; `moorline key new` makes one")
            }
            Self::EncryptionOff => formatter.write_str("keys need [server] encryption = \"on\""),
            Self::Scopes(error) => write!(formatter, "scopes: {error}"),
        }
    }
}

impl std::error::Error for SharedKeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Read { source, .. } = self { Some(source) } else { None }
    }
}

/// The shared keys of a server, and who each makes somebody.
pub(crate) fn load(config: &Config) -> Result<(Vec<SharedKey>, BTreeMap<SharedKeyId, Principal>), SharedKeyError> {
    let settings = &config.auth.shared_key;
    let text = match (&settings.keys, &settings.keys_file) {
        (Some(_), Some(_)) => return Err(SharedKeyError::TwoSources),
        (Some(keys), None) => Zeroizing::new(keys.expose().to_owned()),
        (None, Some(path)) => {
            let unreadable = |source| SharedKeyError::Read { path: path.clone(), source };
            if let Some(mode) = data_dir::open_to_all(path).map_err(unreadable)? {
                return Err(SharedKeyError::ReadableByAll { path: path.clone(), mode });
            }
            Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?)
        }
        (None, None) => Zeroizing::default(),
    };
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let (mut keys, mut principals) = (Vec::new(), BTreeMap::new());
    for (place, text) in lines.flat_map(str::split_whitespace).enumerate() {
        if place == MOST {
            return Err(SharedKeyError::TooMany);
        }
        let key: SharedKey = text.parse().map_err(|error| SharedKeyError::Invalid { number: place + 1, error })?;
        let principal = Principal {
            role: settings.role.clone(),
            scopes: scopes(&settings.scopes).map_err(SharedKeyError::Scopes)?,
            ..Principal::new(Subject::anonymous(Tenant::default()))
        };
        if principals.insert(key.id(), principal).is_some() {
            return Err(SharedKeyError::Twice(key.id()));
        }
        keys.push(key);
    }
    match (keys.is_empty(), settings.required, config.server.encryption) {
        (true, true, _) => Err(SharedKeyError::Missing),
        (false, _, false) => Err(SharedKeyError::EncryptionOff),
        _ => Ok((keys, principals)),
    }
}

/// A list of scopes of the configuration; none given restricts nothing beside what declarations do.
pub(crate) fn scopes(texts: &[String]) -> Result<Scopes, InvalidScopes> {
    if texts.is_empty() { Ok(Scopes::Unlisted) } else { Scopes::from_list(texts.iter().map(String::as_str)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn with(keys: &str) -> Config {
        let mut config = Config::default();
        config.auth.shared_key.keys = Some(Secret::new(keys));
        config
    }

    /// `docs/AUTH.md` says that no file with a secret may be everybody's; for this one nobody looked.
    #[cfg(unix)]
    #[test]
    fn regression_a_file_of_keys_that_everybody_can_read_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        use std::os::unix::fs::PermissionsExt as _;

        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), SharedKey::new(SharedKeyId([1; 4]), [1; 32]).text().as_str())?;
        let mut config = Config::default();
        config.auth.shared_key.keys_file = Some(file.path().to_owned());
        for (mode, does) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode))?;
            match load(&config) {
                Ok((keys, _)) => assert!(does && keys.len() == 1, "{mode:o}"),
                Err(SharedKeyError::ReadableByAll { mode: found, .. }) => assert!(!does && found == mode, "{mode:o}"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    #[test]
    fn several_keys_are_taken_and_what_is_wrong_is_named_without_the_key() -> Result<(), SharedKeyError> {
        let text = |id| SharedKey::new(SharedKeyId([id; 4]), [id; 32]).text().to_string();
        let (one, other) = (text(1), text(2));
        let (keys, principals) = load(&with(&format!("# the new one\n{one}\n{other}\n")))?;
        assert_eq!(keys.iter().map(SharedKey::id).collect::<Vec<_>>(), [SharedKeyId([1; 4]), SharedKeyId([2; 4])]);
        assert_eq!(principals.len(), 2);
        assert!(matches!(load(&with(&format!("{one} {one}"))), Err(SharedKeyError::Twice(_))));
        let error = load(&with(&format!("{one} {}", &other[..40]))).expect_err("it is cut");
        assert!(matches!(error, SharedKeyError::Invalid { number: 2, .. }));
        assert!(!error.to_string().contains(&other[6..30]));
        let mut plain = with(&one);
        plain.server.encryption = false;
        assert!(matches!(load(&plain), Err(SharedKeyError::EncryptionOff)));
        let mut required = Config::default();
        required.auth.shared_key.required = true;
        assert!(matches!(load(&required), Err(SharedKeyError::Missing)));
        assert!(load(&Config::default())?.0.is_empty());
        Ok(())
    }
}
