//! The environment over the file: `MOORLINE__SECTION__KEY`.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::{
    error::ConfigError,
    keys::{self, Key},
    place::{KeyName, PREFIX, Place},
    problem::{Problem, nearest},
    secret::Secret,
    sections::Config,
    value::{Misfit, Slot, Value, fill},
};

/// Appended to the name of a secret's variable: the secret stands in the file that it names.
const FILE: &str = "_FILE";

const LISTEN: KeyName = KeyName { section: "server", name: "listen" };

/// What a variable sets.
enum Meaning {
    Setting(&'static Key),
    /// The secret that stands in the named file.
    SecretIn(&'static Key),
}

/// Lays the environment over `config`.
pub(super) fn apply(
    config: &mut Config,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    let mut ours = Vec::new();
    let (mut port, mut state_directory) = (None, None);
    for (name, value) in variables {
        match name.to_str() {
            Some("PORT") => port = value.into_string().ok(),
            Some("STATE_DIRECTORY") => state_directory = value.into_string().ok(),
            Some(name) if name.starts_with(PREFIX) => {
                let not_unicode = |_| ConfigError::NotUnicode { variable: name.to_owned() };
                ours.push((name.to_owned(), value.into_string().map_err(not_unicode)?));
            }
            _ => {}
        }
    }
    // So that the same environment gives the same error.
    ours.sort();
    let mut seen = Vec::new();
    for (name, value) in &ours {
        let meaning = meaning(name)?;
        let key = match &meaning {
            Meaning::Setting(key) | Meaning::SecretIn(key) => key.name,
        };
        if seen.contains(&key) {
            let place = Place::Variable { name: name.clone() };
            // One variable is there once, so the other is that of the file.
            return Err(ConfigError::Contradiction { place, one: key, other: keys::file_of(key).unwrap_or(key) });
        }
        seen.push(key);
        match meaning {
            Meaning::Setting(key) => set(config, key, name, value)?,
            Meaning::SecretIn(key) => read_secret(config, key, name, Path::new(value))?,
        }
        config.source.variables.insert(name.clone());
    }
    if let Some(port) = port.filter(|port| !port.is_empty() && !seen.contains(&LISTEN)) {
        let wanted = "a port from 0 to 65535";
        config.server.listen.set_port(port.parse().map_err(|_| ConfigError::Invalid {
            place: Place::Variable { name: "PORT".to_owned() },
            key: LISTEN,
            problem: Problem::Wanted { wanted, found: port.clone() }.into(),
        })?);
        config.source.variables.insert("PORT".to_owned());
    }
    // systemd gives several with colons between when the unit names several; the first is the unit's own.
    let state_directory = state_directory.as_deref().and_then(|paths| paths.split(':').next());
    if let Some(path) = state_directory.filter(|path| !path.is_empty() && !config.source.data_dir_given) {
        config.server.data_dir = PathBuf::from(path);
        config.source.variables.insert("STATE_DIRECTORY".to_owned());
    }
    Ok(())
}

fn meaning(variable: &str) -> Result<Meaning, ConfigError> {
    let is_secret = |key: &&Key| matches!((key.slot)(&mut Config::default()), Slot::Secret(..));
    // A secret's `_FILE` comes before a setting of that name, so that `key_file` means one thing in the environment.
    if let Some(name) = variable.strip_suffix(FILE)
        && let Some(key) = keys::KEYS.iter().filter(is_secret).find(|key| key.name.variable() == name)
    {
        return Ok(Meaning::SecretIn(key));
    }
    let key = keys::KEYS.iter().find(|key| key.name.variable() == variable);
    key.map(Meaning::Setting).ok_or_else(|| unknown(variable))
}

fn unknown(variable: &str) -> ConfigError {
    let path = variable.strip_prefix(PREFIX).unwrap_or(variable).to_ascii_lowercase();
    let (section, name) = path.rsplit_once("__").unwrap_or(("", &path));
    let section = section.replace("__", ".");
    let whole: Vec<_> = keys::KEYS.iter().map(|key| (key.name.variable().to_lowercase(), key.name)).collect();
    let nearest = nearest(variable, whole.iter().map(|(variable, key)| (variable.as_str(), *key)));
    ConfigError::UnknownKey {
        place: Place::Variable { name: variable.to_owned() },
        nearest: keys::nearest_key(&section, name).or(nearest),
        section: section.into(),
        name: name.into(),
    }
}

fn set(config: &mut Config, key: &'static Key, name: &str, value: &str) -> Result<(), ConfigError> {
    let place = Place::Variable { name: name.to_owned() };
    fill((key.slot)(config), Value::Plain(value), Path::new(""), place.clone())
        .map_err(|Misfit { problem, .. }| ConfigError::Invalid { place, key: key.name, problem: problem.into() })
}

fn read_secret(config: &mut Config, key: &'static Key, name: &str, path: &Path) -> Result<(), ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::SecretFile {
        variable: name.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let place = Place::VariableFile { name: name.to_owned(), path: path.to_owned() };
    if let Slot::Secret(field, _) = (key.slot)(config) {
        *field = Some(Secret::found(text, place));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(file: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut config = Config::parse(file, "/etc/moorline")?;
        config.apply_env(variables.iter().copied())?;
        Ok(config)
    }

    fn error(variables: &[(&str, &str)]) -> String {
        applied("", variables).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn lists_are_separated_by_commas_and_an_empty_text_is_an_empty_list() -> Result<(), ConfigError> {
        let name = "MOORLINE__SERVER__PUBLIC_URLS";
        let config = applied("", &[(name, "wss://a.example/m, wss://b.example/m")])?;
        assert_eq!(format!("{:?}", config.server.public_urls), r#"["wss://a.example/m", "wss://b.example/m"]"#);
        let config = applied("[server]\npublic_urls = ['wss://a.example/m']", &[(name, "")])?;
        assert_eq!(config.server.public_urls, []);
        Ok(())
    }

    #[test]
    fn texts_stand_for_every_type() -> Result<(), ConfigError> {
        let config = applied(
            "",
            &[
                ("MOORLINE__AUTH__ANONYMOUS", "true"),
                ("MOORLINE__SERVER__ENCRYPTION", "off"),
                ("MOORLINE__LIMITS__CONNECTIONS", "12"),
                ("MOORLINE__LIMITS__OUTGOING", "64KiB"),
                ("MOORLINE__TIMEOUTS__DECISION", "250ms"),
                ("MOORLINE__SERVER__LISTEN", "0.0.0.0:80"),
                ("MOORLINE__LOG__LEVEL", "warn,moorline_server=debug"),
            ],
        )?;
        assert!(config.auth.anonymous && !config.server.encryption);
        assert_eq!((config.limits.connections, config.limits.outgoing), (12, 65_536));
        assert_eq!(config.timeouts.decision.as_millis(), 250);
        assert_eq!(config.server.listen.to_string(), "0.0.0.0:80");
        assert_eq!(config.log.level.as_str(), "warn,moorline_server=debug");
        assert_eq!(config.source.variables.len(), 7);
        Ok(())
    }

    #[test]
    fn paths_are_relative_to_the_working_directory() -> Result<(), ConfigError> {
        let config = applied("", &[("MOORLINE__SERVER__PUBLIC", "dist")])?;
        assert_eq!(config.server.public.as_deref(), Some(Path::new("dist")));
        let config = applied("[server]\npublic = 'dist'", &[("MOORLINE__SERVER__PUBLIC", "")])?;
        assert_eq!(config.server.public, None);
        Ok(())
    }

    #[test]
    fn the_internal_listener_is_set_and_taken_back_by_the_environment() -> Result<(), ConfigError> {
        let name = "MOORLINE__INTERNAL__LISTEN";
        assert_eq!(applied("", &[])?.internal.listen, None);
        assert_eq!(applied("", &[(name, "[::1]:2668")])?.internal.listen, "[::1]:2668".parse().ok());
        assert_eq!(applied("[internal]\nlisten = '127.0.0.1:2668'", &[(name, "")])?.internal.listen, None);
        assert!(error(&[(name, "2668")]).starts_with("MOORLINE__INTERNAL__LISTEN: must be an address and port"));
        Ok(())
    }

    #[test]
    fn an_unknown_variable_names_the_nearest() {
        let error_of = |name| error(&[(name, "x")]);
        assert_eq!(
            error_of("MOORLINE__SERVER__LISTN"),
            "MOORLINE__SERVER__LISTN: no setting has this variable; did you mean MOORLINE__SERVER__LISTEN?"
        );
        assert!(error_of("MOORLINE__SERVR__LISTEN").ends_with("did you mean MOORLINE__SERVER__LISTEN?"));
        assert!(error_of("MOORLINE__INTERNL__LISTEN").ends_with("did you mean MOORLINE__INTERNAL__LISTEN?"));
        assert!(error_of("MOORLINE__SERVER_LISTEN").ends_with("did you mean MOORLINE__SERVER__LISTEN?"));
        assert!(error_of("MOORLINE__LISTEN").ends_with("did you mean MOORLINE__SERVER__LISTEN?"));
        assert_eq!(error(&[("MOORLINE_CONFIG", "x"), ("MOORLINE_URL", "x")]), "");
    }

    #[test]
    fn a_value_that_does_not_fit_names_its_variable() {
        let unit = error(&[("MOORLINE__HEARTBEAT__IDLE", "25")]);
        assert!(unit.starts_with("MOORLINE__HEARTBEAT__IDLE: a duration needs its unit: write \"25s\""), "{unit}");
        let flag = error(&[("MOORLINE__AUTH__ANONYMOUS", "1")]);
        assert_eq!(flag, "MOORLINE__AUTH__ANONYMOUS: must be true or false, not \"1\"");
        assert!(error(&[("MOORLINE__LIMITS__CONNECTIONS", "many")]).contains("a whole number"));
    }

    #[test]
    fn port_replaces_the_port_and_never_the_host() -> Result<(), ConfigError> {
        let listen = |file, variables| Ok::<_, ConfigError>(applied(file, variables)?.server.listen.to_string());
        assert_eq!(listen("", &[("PORT", "8080")])?, "127.0.0.1:8080");
        assert_eq!(listen("[server]\nlisten = '0.0.0.0:1'", &[("PORT", "8080")])?, "0.0.0.0:8080");
        assert_eq!(listen("", &[("PORT", "8080"), ("MOORLINE__SERVER__LISTEN", "[::]:1")])?, "[::]:1");
        assert_eq!(listen("", &[("PORT", "")])?, "127.0.0.1:2667");
        assert_eq!(error(&[("PORT", "http")]), "PORT: must be a port from 0 to 65535, not \"http\"");
        Ok(())
    }

    #[test]
    fn the_state_directory_of_systemd_is_the_default_data_directory() -> Result<(), ConfigError> {
        let systemd = ("STATE_DIRECTORY", "/var/lib/moorline:/var/lib/other");
        assert_eq!(applied("", &[systemd])?.server.data_dir, Path::new("/var/lib/moorline"));
        let given = applied("[server]\ndata_dir = 'moorline-data'", &[systemd])?;
        assert_eq!(given.server.data_dir, Path::new("/etc/moorline/moorline-data"));
        let given = applied("", &[systemd, ("MOORLINE__SERVER__DATA_DIR", "/data")])?;
        assert_eq!(given.server.data_dir, Path::new("/data"));
        Ok(())
    }

    #[test]
    fn a_secret_may_stand_in_a_file_that_the_environment_names() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("secret");
        fs::write(&path, "mlsec_x\n")?;
        let path_text = path.to_str().ok_or("a path that is not Unicode")?;
        let config = applied("", &[("MOORLINE__IDENTITY__KEY_FILE", path_text)])?;
        assert!(config.identity.key.is_some_and(|key| key.expose().trim() == "mlsec_x"));
        assert_eq!(config.identity.key_file, None);
        let missing = error(&[("MOORLINE__IDENTITY__KEY_FILE", "/nowhere/secret")]);
        assert!(missing.starts_with("MOORLINE__IDENTITY__KEY_FILE names /nowhere/secret, which cannot be read"));
        let both = error(&[("MOORLINE__IDENTITY__KEY", "mlsec_x"), ("MOORLINE__IDENTITY__KEY_FILE", path_text)]);
        assert!(both.contains("exclude each other"), "{both}");
        Ok(())
    }

    #[test]
    fn a_section_within_another_has_its_variables() -> Result<(), ConfigError> {
        let config = applied(
            "[auth.jwt]\naudience = ['x']",
            &[
                ("MOORLINE__AUTH__JWT__ALGORITHM", "EdDSA"),
                ("MOORLINE__AUTH__JWT__AUDIENCE", "app, admin"),
                ("MOORLINE__AUTH__JWT__PREVIOUS_UNTIL", "2027-01-31"),
                ("MOORLINE__AUTH__ISSUE__MAX_TTL", "7d"),
            ],
        )?;
        assert_eq!(config.auth.jwt.algorithm, Some(crate::config::JwtAlgorithm::EdDsa));
        assert_eq!(config.auth.jwt.audience, ["app", "admin"]);
        assert!(config.auth.jwt.previous_until.is_some());
        assert_eq!(config.auth.issue.max_ttl.as_secs(), 7 * 86_400);
        assert!(error(&[("MOORLINE__AUTH__JWT__SECRT", "x")]).ends_with("did you mean MOORLINE__AUTH__JWT__SECRET?"));
        assert!(error(&[("MOORLINE__AUTH__JTW__SECRET", "x")]).ends_with("did you mean MOORLINE__AUTH__JWT__SECRET?"));
        let both = error(&[("MOORLINE__AUTH__JWT__SECRET", "x"), ("MOORLINE__AUTH__JWT__SECRET_FILE", "x")]);
        assert!(both.contains("[auth.jwt] secret_file and [auth.jwt] secret exclude each other"), "{both}");
        Ok(())
    }

    #[test]
    fn a_secret_in_the_environment_is_taken_and_an_empty_one_is_not() -> Result<(), ConfigError> {
        let config = applied("[identity]\nkey_file = 'identity'", &[("MOORLINE__IDENTITY__KEY", " mlsec_x ")])?;
        assert!(config.identity.key.is_some_and(|key| key.expose() == "mlsec_x"));
        assert!(error(&[("MOORLINE__IDENTITY__KEY", "")]).contains("a private key"));
        Ok(())
    }
}
