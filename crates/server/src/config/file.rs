//! The configuration file: TOML, walked with the position of everything, so that an error can say where.

use std::path::Path;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, SyntaxError},
    keys,
    named::{Reading, Section},
    place::{KeyName, Place, TableName},
    problem::nearest,
    sections::Config,
    tables,
    value::{Misfit, Slot, Value, entries, fill},
};

/// Lays the settings of a file over `config`. The first thing that is wrong in it is the error.
pub(super) fn apply(config: &mut Config, text: &str, base_dir: &Path, path: Option<&Path>) -> Result<(), ConfigError> {
    let place = |at: usize| {
        let (line, column) = position(text, at);
        Place::File { path: path.map(Path::to_owned), line, column }
    };
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: place(error.span().map_or(0, |span| span.start)),
        error: SyntaxError(Box::new(error)),
    })?;
    let mut found = Vec::new();
    for (section, at, value) in entries(document.get_ref()) {
        match tables::find(section) {
            Some(section) => find_tables(section, at, value, &mut found),
            None => find(section, at, value, &mut found),
        }
    }
    found.sort_by_key(|(at, _)| *at);
    for (at, found) in found {
        let (section, name, value) = match found {
            Found::Setting(section, name, value) => (section, name, value),
            Found::UnknownSection(name) => {
                let nearest = nearest(&name, keys::sections().into_iter().map(|known| (known, known)));
                return Err(ConfigError::UnknownSection { place: place(at), name, nearest });
            }
            Found::OutsideSections(name) => return Err(outside_sections(&name, place(at))),
            Found::Table(section, name, value) => {
                (section.read)(config, name, value, &Reading { at, place: &place, base_dir })?;
                continue;
            }
            Found::NoTables(section) => {
                let table = TableName { section: section.name, name: "".into() };
                return Err(ConfigError::NotATable { place: place(at), table });
            }
        };
        let key = keys::find(&section, name).ok_or_else(|| ConfigError::UnknownKey {
            place: place(at),
            nearest: keys::nearest_key(&section, name),
            section: section.as_str().into(),
            name: name.into(),
        })?;
        fill((key.slot)(config), Value::Toml(value), base_dir, place(at)).map_err(|Misfit { problem, at: part }| {
            ConfigError::Invalid { place: place(part.unwrap_or(at)), key: key.name, problem: problem.into() }
        })?;
        if let Some((one, other)) = contradiction(config, &section) {
            return Err(ConfigError::Contradiction { place: place(at), one, other });
        }
    }
    Ok(())
}

/// What stands at a place of the file.
enum Found<'a> {
    /// A value in a section that is known, under this name.
    Setting(String, &'a str, &'a Spanned<DeValue<'a>>),
    /// A section that is not.
    UnknownSection(String),
    /// A value where only sections may stand, or where a section is wanted.
    OutsideSections(String),
    /// What stands under a name in a section of named tables.
    Table(&'static Section, &'a str, &'a Spanned<DeValue<'a>>),
    /// A value where such a section is wanted.
    NoTables(&'static Section),
}

/// The tables of a section that names them itself.
fn find_tables<'a>(
    section: &'static Section,
    at: usize,
    value: &'a Spanned<DeValue<'a>>,
    found: &mut Vec<(usize, Found<'a>)>,
) {
    match value.get_ref() {
        DeValue::Table(tables) => {
            found.extend(entries(tables).into_iter().map(|(name, at, value)| (at, Found::Table(section, name, value))));
        }
        _ => found.push((at, Found::NoTables(section))),
    }
}

/// The settings of a section, and of the sections in it.
fn find<'a>(section: &str, at: usize, value: &'a Spanned<DeValue<'a>>, found: &mut Vec<(usize, Found<'a>)>) {
    let known = |section: &str| keys::sections().contains(&section);
    let DeValue::Table(table) = value.get_ref() else {
        found.push((at, Found::OutsideSections(section.to_owned())));
        return;
    };
    if !known(section) {
        found.push((at, Found::UnknownSection(section.to_owned())));
        return;
    }
    for (name, at, value) in entries(table) {
        let inner = format!("{section}.{name}");
        let is_table = matches!(value.get_ref(), DeValue::Table(_));
        if known(&inner) || is_table && keys::find(section, name).is_none() {
            find(&inner, at, value, found);
        } else {
            found.push((at, Found::Setting(section.to_owned(), name, value)));
        }
    }
}

/// A secret and its file, both set in this section.
fn contradiction(config: &mut Config, section: &str) -> Option<(KeyName, KeyName)> {
    let is_set = |slot: Slot<'_>| matches!(slot, Slot::Secret(Some(_), _) | Slot::PathOrNone(Some(_)));
    keys::KEYS.iter().filter(|key| key.name.section == section).find_map(|secret| {
        let file = keys::file_of(secret.name).and_then(|file| keys::find(file.section, file.name))?;
        let both = is_set((secret.slot)(config)) && is_set((file.slot)(config));
        both.then_some((secret.name, file.name))
    })
}

/// A value where only sections may stand: a section that is written as a key, or a key whose section was forgotten.
fn outside_sections(name: &str, place: Place) -> ConfigError {
    match keys::sections().into_iter().find(|section| *section == name) {
        Some(name) => ConfigError::NotASection { place, name },
        None => {
            let nearest = keys::nearest_key("", name);
            ConfigError::UnknownKey { place, section: "".into(), name: name.into(), nearest }
        }
    }
}

/// Line and character of a byte, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use moorline_protocol::record::Suite;

    use super::*;
    use crate::config::LogFormat;

    fn error(text: &str) -> String {
        let mut config = Config::default();
        let path = Path::new("moorline.toml");
        apply(&mut config, text, Path::new(""), Some(path)).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn every_setting_is_read() -> Result<(), ConfigError> {
        let config = Config::parse(
            r#"
            [server]
            listen = "[::1]:1"
            path = "/live"
            public_urls = ["https://App.example.com/live"]
            allowed_origins = ["https://App.example.com:443"]
            trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
            proxy_protocol = true
            data_dir = "data"
            public = "dist"
            encryption = "off"
            suites = ["chacha20-poly1305"]
            [internal]
            listen = "127.0.0.1:2668"
            [tls]
            cert_file = "cert.pem"
            key_file = "/run/key.pem"
            self_signed = true
            [headers]
            strict_transport_security = "max-age=60"
            content_security_policy = "default-src 'self'"
            cross_origin_opener_policy = "same-origin"
            cross_origin_embedder_policy = "require-corp"
            cross_origin_resource_policy = "same-site"
            [identity]
            key_file = "/run/key"
            [auth]
            anonymous = true
            [auth.jwt]
            algorithm = "RS256"
            secret = "canary"
            public_key_file = "key.pem"
            key_id = "a"
            jwks_file = "keys.json"
            jwks_url = "https://id.example.com/keys?p=1"
            jwks_refresh = "1h"
            previous_secret_file = "secret"
            previous_public_key_file = "old.pem"
            previous_key_id = "b"
            previous_until = 1970-01-02
            audience = ["app"]
            issuer = ["https://id.example.com"]
            leeway = "5s"
            max_lifetime = "1d"
            tenant_claim = "org"
            tenants = ["acme"]
            role_claim = "kind"
            require_binding = true
            [auth.issue]
            private_key_file = "sign.pem"
            max_ttl = "2h"
            [limits]
            connections = 1_000
            max_message = "1KiB"
            calls_in_flight = 5
            outgoing = "2MiB"
            parked_sessions = 6
            channels_per_tenant = 8
            topics_memory = "9MiB"
            [timeouts]
            tls_accept = "1s"
            upgrade = "2s"
            handshake = "3s"
            decision = "4s"
            shutdown = "500ms"
            [heartbeat]
            idle = "1m"
            grace = "20s"
            [session]
            resume_window = "5m"
            [log]
            format = "json"
            level = "warn"
            "#,
            "/etc/moorline",
        )?;
        let server = &config.server;
        assert_eq!((server.listen.to_string().as_str(), server.path.as_str()), ("[::1]:1", "/live"));
        assert_eq!(format!("{:?}", server.public_urls), r#"["wss://app.example.com/live"]"#);
        assert_eq!(format!("{:?}", server.allowed_origins), r#"["https://app.example.com"]"#);
        let proxies: Vec<_> = server.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!((proxies.join(" ").as_str(), server.proxy_protocol), ("127.0.0.1/32 10.0.0.0/8", true));
        assert_eq!(server.data_dir, Path::new("/etc/moorline/data"));
        assert_eq!(server.public.as_deref(), Some(Path::new("/etc/moorline/dist")));
        assert_eq!(config.internal.listen, Some(([127, 0, 0, 1], 2668).into()));
        assert_eq!(config.key_file(), Path::new("/run/key"));
        assert!(!server.encryption && config.auth.anonymous);
        let tls = (config.tls.cert_file.as_deref(), config.tls.key_file.as_deref(), config.tls.self_signed);
        assert_eq!(tls, (Some(Path::new("/etc/moorline/cert.pem")), Some(Path::new("/run/key.pem")), true));
        let headers = &config.headers;
        assert_eq!(headers.strict_transport_security.as_deref(), Some("max-age=60"));
        assert_eq!(headers.content_security_policy.as_deref(), Some("default-src 'self'"));
        assert_eq!(headers.cross_origin_opener_policy.as_deref(), Some("same-origin"));
        assert_eq!(headers.cross_origin_embedder_policy.as_deref(), Some("require-corp"));
        assert_eq!(headers.cross_origin_resource_policy.as_deref(), Some("same-site"));
        assert_eq!(server.suites, [Suite::ChaCha20Poly1305]);
        let (jwt, issue) = (&config.auth.jwt, &config.auth.issue);
        assert_eq!(jwt.secret.as_ref().map(|secret| secret.expose()), Some("canary"));
        assert_eq!(
            format!("{jwt:?}"),
            "JwtSection { algorithm: Some(Rs256), secret: Some(\"secret\"), secret_file: None, \
             public_key_file: Some(\"/etc/moorline/key.pem\"), key_id: Some(\"a\"), \
             jwks_file: Some(\"/etc/moorline/keys.json\"), jwks_url: Some(https://id.example.com/keys?p=1), \
             jwks_refresh: 3600s, previous_secret: None, previous_secret_file: Some(\"/etc/moorline/secret\"), \
             previous_public_key_file: Some(\"/etc/moorline/old.pem\"), previous_key_id: Some(\"b\"), \
             previous_until: Some(SystemTime { tv_sec: 86400, tv_nsec: 0 }), audience: [\"app\"], \
             issuer: [\"https://id.example.com\"], leeway: 5s, max_lifetime: 86400s, tenant_claim: Some(\"org\"), \
             tenants: [\"acme\"], role_claim: \"kind\", require_binding: true }"
        );
        assert_eq!(issue.private_key_file.as_deref(), Some(Path::new("/etc/moorline/sign.pem")));
        assert_eq!(issue.max_ttl.as_secs(), 7_200);
        let limits = &config.limits;
        assert_eq!((limits.connections, limits.max_message), (1_000, 1_024));
        assert_eq!((limits.calls_in_flight, limits.outgoing, limits.parked_sessions), (5, 2 << 20, 6));
        assert_eq!((limits.channels_per_tenant, limits.topics_memory), (8, 9 << 20));
        assert_eq!(config.session.resume_window, Duration::from_secs(300));
        let timeouts = &config.timeouts;
        let seconds =
            [timeouts.tls_accept, timeouts.upgrade, timeouts.handshake, timeouts.decision].map(|t| t.as_secs());
        assert_eq!((seconds, timeouts.shutdown), ([1, 2, 3, 4], Duration::from_millis(500)));
        assert_eq!((config.heartbeat.idle.as_secs(), config.heartbeat.grace.as_secs()), (60, 20));
        assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Json, "warn"));
        Ok(())
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() -> Result<(), ConfigError> {
        let text = "[server]\ndata_dir = '../data'\npublic = '/srv/www'";
        let server = Config::parse(text, "conf")?.server;
        assert_eq!(server.data_dir, Path::new("conf/../data"));
        assert_eq!(server.public.as_deref(), Some(Path::new("/srv/www")));
        Ok(())
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest() {
        assert_eq!(
            error("[server]\n  lisen = '127.0.0.1:1'"),
            "moorline.toml:2:3: unknown key lisen in [server]; did you mean listen?"
        );
        assert_eq!(
            error("[server]\nlevel = 'info'"),
            "moorline.toml:2:1: unknown key level in [server]; did you mean [log] level?"
        );
        assert_eq!(
            error("listen = 'x'"),
            "moorline.toml:1:1: listen stands outside all sections; did you mean [server] listen?"
        );
        assert_eq!(
            error("[auth]\ncolour = 1"),
            "moorline.toml:2:1: unknown key colour in [auth]; known are anonymous, anonymous_scopes"
        );
        assert_eq!(
            error("[internal]\nlisen = '127.0.0.1:1'"),
            "moorline.toml:2:1: unknown key lisen in [internal]; did you mean listen?"
        );
        assert_eq!(error("[auth.jtw]\n"), "moorline.toml:1:7: unknown section [auth.jtw]; did you mean [auth.jwt]?");
        assert_eq!(
            error("[auth.jwt]\nsecrt = ''"),
            "moorline.toml:2:1: unknown key secrt in [auth.jwt]; did you mean secret?"
        );
        assert_eq!(error("[sever]\n"), "moorline.toml:1:2: unknown section [sever]; did you mean [server]?");
        assert!(error("[colours]\n").ends_with(
            "known are server, internal, tls, headers, identity, auth, auth.shared_key, auth.jwt, auth.issue, limits, \
             timeouts, heartbeat, session, log, topics, stores"
        ));
        assert!(error("colour = 1").starts_with("moorline.toml:1:1: colour stands outside all sections"));
        assert!(error("[server.listen]\nport = 1").starts_with("moorline.toml:1:"));
    }

    #[test]
    fn the_first_error_of_the_file_is_the_one_that_is_told() {
        assert!(error("[server]\nzzz = 1\naaa = 2").starts_with("moorline.toml:2:1:"));
        assert!(error("[auth]\n[log]\nzzz = 1\n[auth.jwt]\naaa = 2").starts_with("moorline.toml:3:1:"));
        assert!(error("[log]\nzzz = 1\n[auth]\naaa = 2").starts_with("moorline.toml:2:1:"));
    }

    #[test]
    fn a_wrong_type_says_what_is_wanted() {
        for (text, expected) in [
            ("[auth]\nanonymous = 'yes'", "2:13: [auth] anonymous: must be true or false, not a text"),
            ("[limits]\nconnections = '7'", "2:15: [limits] connections: must be a whole number, not a text"),
            ("[limits]\nconnections = -7", "2:15: [limits] connections: must be a whole number, not a number"),
            ("[limits]\nconnections = 0", "2:15: [limits] connections: must be from 1 to 2147483647"),
            ("[server]\nencryption = true", "2:14: [server] encryption: must be \"on\" or \"off\", not true or false"),
            ("[server]\nencryption = 'of'", "must be \"on\" or \"off\", not \"of\"; did you mean \"off\"?"),
            ("[server]\npath = 'moorline'", "must be a path such as \"/moorline\""),
            ("[server]\nlisten = 'localhost:2667'", "must be an address and port such as \"127.0.0.1:2667\""),
            ("[internal]\nlisten = 2668", "2:10: [internal] listen: must be an address and port such as"),
            ("[server]\npublic_urls = 'wss://a/'", "2:15: [server] public_urls: must be a list such as"),
            ("[server]\npublic_urls = [\n  'wss://a/',\n  'a/b']", "4:3: [server] public_urls: \"a/b\" does not do"),
            ("[server]\nallowed_origins = ['*']", "2:20: [server] allowed_origins: \"*\" does not do: patterns"),
            ("[server]\nsuites = []", "[server] suites: must have at least one element"),
            ("server = 1", "1:1: server is a section; write [server] on a line of its own"),
            (
                "[server]\ntrusted_proxies = ['10.1.2.3/8']",
                "2:20: [server] trusted_proxies: \"10.1.2.3/8\" does not do",
            ),
            ("[headers]\ncross_origin_opener_policy = 'same-orgin'", "did you mean \"same-origin\"?"),
            ("[headers]\ncontent_security_policy = \"a\\nb\"", "must be a text such as"),
            ("[log]\nlevel = 'inof'", "did you mean \"info\"?"),
            ("[auth.jwt]\nalgorithm = 'none'", "2:13: [auth.jwt] algorithm: must be \"HS256\", \"RS256\""),
            ("[auth.jwt]\nalgorithm = 'hs256'", "did you mean \"HS256\"?"),
            ("[auth.jwt]\njwks_url = 'http://id.example.com/'", "2:12: [auth.jwt] jwks_url: must be a URL"),
            ("[auth.jwt]\nprevious_until = 'soon'", "2:18: [auth.jwt] previous_until: must be a date"),
            ("[auth.jwt]\naudience = ['']", "2:13: [auth.jwt] audience: must be"),
            ("[auth]\njwt = 1", "2:1: auth.jwt is a section; write [auth.jwt] on a line of its own"),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_path_that_the_router_would_read_otherwise_is_refused() {
        for path in [
            "",
            "moorline",
            "//a",
            "/a//b",
            "/{id}",
            "/*",
            "/:id",
            "/a b",
            "/a?b",
            "/ä",
            "/.well-known/moorline",
            "/api/token/",
        ] {
            assert!(error(&format!("[server]\npath = '{path}'")).contains("must be a path such as"), "{path}");
        }
        for path in ["/", "/moorline", "/a/b-c_d.e~f/"] {
            assert_eq!(error(&format!("[server]\npath = '{path}'")), "", "{path}");
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_the_unit_it_wants() {
        let unit =
            "moorline.toml:2:8: [heartbeat] idle: a duration needs its unit: write \"25s\" (units: ms, s, m, h, d)";
        assert_eq!(error("[heartbeat]\nidle = 25"), unit);
        assert_eq!(error("[heartbeat]\nidle = '25'"), unit);
        assert!(error("[limits]\noutgoing = 1_048_576").contains("write \"1048576B\""));
        assert!(error("[heartbeat]\nidle = 2.5").contains("must be a duration such as \"25s\", not a number"));
    }

    #[test]
    fn what_a_message_and_the_queue_take_is_bounded() {
        assert!(error("[limits]\nmax_message = '17MiB'").ends_with("must be from 1B to 16MiB"));
        assert!(error("[limits]\noutgoing = '1KiB'").ends_with("must be from 64KiB to 1GiB"));
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_place() {
        let error = error("[server]\nlisten = \"127");
        assert!(error.starts_with("moorline.toml:2:") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn key_and_key_file_exclude_each_other() {
        let error = error("[identity]\nkey = 'mlsec_x'\nkey_file = 'identity'");
        let expected = "moorline.toml:3:1: [identity] key_file and [identity] key exclude each other; leave one out";
        assert_eq!(error, expected);
        let other = "[auth.jwt]\nprevious_secret_file = 'x'\nprevious_secret = 'y'";
        assert!(super::tests::error(other).contains("exclude each other"));
    }

    #[test]
    fn a_position_counts_characters() {
        assert_eq!(position("a\nü = 1", 5), (2, 3));
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("a", 9), (1, 2));
    }
}
