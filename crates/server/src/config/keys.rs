//! The one table of settings: file and environment both read it, so that neither knows one that the other does not.

use moorline_protocol::limits::{MAX_PAYLOAD, MAX_RECORD};

use super::{place::KeyName, problem::nearest, sections::Config, value::Slot};

/// A setting: its name, and the field it fills.
pub(super) struct Key {
    pub(super) name: KeyName,
    pub(super) slot: fn(&mut Config) -> Slot<'_>,
}

const fn key(section: &'static str, name: &'static str, slot: fn(&mut Config) -> Slot<'_>) -> Key {
    Key { name: KeyName { section, name }, slot }
}

/// The sections of tables that the file names itself, each with a name of such a table. What may stand in them is said
/// where they are read, in `tables`.
pub(super) const TABLES: &[(&str, &str)] = &[TOPICS, STORES];

pub(super) const TOPICS: (&str, &str) = ("topics", "room:{id}");
pub(super) const STORES: (&str, &str) = ("stores", "notes/{id}");

/// Counts end where a 32-bit machine does.
pub(super) const MANY: usize = i32::MAX as usize;

pub(super) const KEYS: &[Key] = &[
    key("server", "listen", |config| Slot::Address(&mut config.server.listen)),
    key("server", "path", |config| Slot::UrlPath(&mut config.server.path)),
    key("server", "public_urls", |config| Slot::Urls(&mut config.server.public_urls)),
    key("server", "allowed_origins", |config| Slot::Origins(&mut config.server.allowed_origins)),
    key("server", "trusted_proxies", |config| Slot::Networks(&mut config.server.trusted_proxies)),
    key("server", "proxy_protocol", |config| Slot::Flag(&mut config.server.proxy_protocol)),
    key("server", "data_dir", |config| {
        config.source.data_dir_given = true;
        Slot::Path(&mut config.server.data_dir)
    }),
    key("server", "public", |config| Slot::PathOrNone(&mut config.server.public)),
    key("server", "encryption", |config| Slot::Switch(&mut config.server.encryption)),
    key("server", "suites", |config| Slot::Suites(&mut config.server.suites)),
    key("internal", "listen", |config| Slot::AddressOrNone(&mut config.internal.listen)),
    key("tls", "cert_file", |config| Slot::PathOrNone(&mut config.tls.cert_file)),
    key("tls", "key_file", |config| Slot::PathOrNone(&mut config.tls.key_file)),
    key("tls", "self_signed", |config| Slot::Flag(&mut config.tls.self_signed)),
    key("headers", "strict_transport_security", |config| {
        Slot::Header(&mut config.headers.strict_transport_security, HSTS)
    }),
    key("headers", "content_security_policy", |config| Slot::Header(&mut config.headers.content_security_policy, CSP)),
    key("headers", "cross_origin_opener_policy", |config| {
        Slot::WordOrNone(&mut config.headers.cross_origin_opener_policy, OPENER)
    }),
    key("headers", "cross_origin_embedder_policy", |config| {
        Slot::WordOrNone(&mut config.headers.cross_origin_embedder_policy, EMBEDDER)
    }),
    key("headers", "cross_origin_resource_policy", |config| {
        Slot::WordOrNone(&mut config.headers.cross_origin_resource_policy, RESOURCE)
    }),
    key("identity", "key_file", |config| Slot::PathOrNone(&mut config.identity.key_file)),
    key("identity", "key", |config| Slot::Secret(&mut config.identity.key, "a private key (mlsec_…)")),
    key("auth", "anonymous", |config| Slot::Flag(&mut config.auth.anonymous)),
    key("auth", "anonymous_scopes", |config| Slot::Texts(&mut config.auth.anonymous_scopes)),
    key("auth.shared_key", "keys", |config| Slot::Secret(&mut config.auth.shared_key.keys, SHARED_KEY)),
    key("auth.shared_key", "keys_file", |config| Slot::PathOrNone(&mut config.auth.shared_key.keys_file)),
    key("auth.shared_key", "required", |config| Slot::Flag(&mut config.auth.shared_key.required)),
    key("auth.shared_key", "role", |config| Slot::TextOrNone(&mut config.auth.shared_key.role)),
    key("auth.shared_key", "scopes", |config| Slot::Texts(&mut config.auth.shared_key.scopes)),
    key("auth.jwt", "algorithm", |config| Slot::Algorithm(&mut config.auth.jwt.algorithm)),
    key("auth.jwt", "secret", |config| Slot::Secret(&mut config.auth.jwt.secret, JWT_SECRET)),
    key("auth.jwt", "secret_file", |config| Slot::PathOrNone(&mut config.auth.jwt.secret_file)),
    key("auth.jwt", "public_key_file", |config| Slot::PathOrNone(&mut config.auth.jwt.public_key_file)),
    key("auth.jwt", "key_id", |config| Slot::TextOrNone(&mut config.auth.jwt.key_id)),
    key("auth.jwt", "jwks_file", |config| Slot::PathOrNone(&mut config.auth.jwt.jwks_file)),
    key("auth.jwt", "jwks_url", |config| Slot::JwksUrlOrNone(&mut config.auth.jwt.jwks_url)),
    key("auth.jwt", "jwks_refresh", |config| Slot::Duration(&mut config.auth.jwt.jwks_refresh)),
    key("auth.jwt", "previous_secret", |config| Slot::Secret(&mut config.auth.jwt.previous_secret, JWT_SECRET)),
    key("auth.jwt", "previous_secret_file", |config| Slot::PathOrNone(&mut config.auth.jwt.previous_secret_file)),
    key("auth.jwt", "previous_public_key_file", |config| {
        Slot::PathOrNone(&mut config.auth.jwt.previous_public_key_file)
    }),
    key("auth.jwt", "previous_key_id", |config| Slot::TextOrNone(&mut config.auth.jwt.previous_key_id)),
    key("auth.jwt", "previous_until", |config| Slot::MomentOrNone(&mut config.auth.jwt.previous_until)),
    key("auth.jwt", "audience", |config| Slot::Texts(&mut config.auth.jwt.audience)),
    key("auth.jwt", "issuer", |config| Slot::Texts(&mut config.auth.jwt.issuer)),
    key("auth.jwt", "leeway", |config| Slot::Duration(&mut config.auth.jwt.leeway)),
    key("auth.jwt", "max_lifetime", |config| Slot::Duration(&mut config.auth.jwt.max_lifetime)),
    key("auth.jwt", "tenant_claim", |config| Slot::TextOrNone(&mut config.auth.jwt.tenant_claim)),
    key("auth.jwt", "tenants", |config| Slot::Texts(&mut config.auth.jwt.tenants)),
    key("auth.jwt", "role_claim", |config| Slot::Text(&mut config.auth.jwt.role_claim)),
    key("auth.jwt", "require_binding", |config| Slot::Flag(&mut config.auth.jwt.require_binding)),
    key("auth.issue", "private_key_file", |config| Slot::PathOrNone(&mut config.auth.issue.private_key_file)),
    key("auth.issue", "max_ttl", |config| Slot::Duration(&mut config.auth.issue.max_ttl)),
    key("limits", "connections", |config| Slot::Count(&mut config.limits.connections, 1..=MANY)),
    key("limits", "connections_per_address", |config| {
        Slot::Count(&mut config.limits.connections_per_address, 0..=MANY)
    }),
    key("limits", "connections_per_subject", |config| {
        Slot::Count(&mut config.limits.connections_per_subject, 0..=MANY)
    }),
    key("limits", "handshakes_per_second", |config| Slot::Count(&mut config.limits.handshakes_per_second, 0..=MANY)),
    key("limits", "handshakes_per_second_per_address", |config| {
        Slot::Count(&mut config.limits.handshakes_per_second_per_address, 0..=MANY)
    }),
    key("limits", "failed_handshakes_per_minute", |config| {
        Slot::Count(&mut config.limits.failed_handshakes_per_minute, 0..=MANY)
    }),
    key("limits", "failed_handshakes_per_minute_per_address", |config| {
        Slot::Count(&mut config.limits.failed_handshakes_per_minute_per_address, 0..=MANY)
    }),
    key("limits", "messages_per_second", |config| Slot::Count(&mut config.limits.messages_per_second, 0..=MANY)),
    key("limits", "bytes_per_second", |config| Slot::Size(&mut config.limits.bytes_per_second, 0..=1 << 30)),
    key("limits", "max_message", |config| Slot::Size(&mut config.limits.max_message, 1..=MAX_PAYLOAD)),
    key("limits", "calls_in_flight", |config| Slot::Count(&mut config.limits.calls_in_flight, 1..=MANY)),
    key("limits", "outgoing", |config| Slot::Size(&mut config.limits.outgoing, MAX_RECORD..=1 << 30)),
    key("limits", "parked_sessions", |config| Slot::Count(&mut config.limits.parked_sessions, 0..=MANY)),
    key("limits", "topics_memory", |config| Slot::Size(&mut config.limits.topics_memory, 1 << 20..=1 << 30)),
    key("limits", "channels_per_tenant", |config| Slot::Count(&mut config.limits.channels_per_tenant, 0..=MANY)),
    key("timeouts", "tls_accept", |config| Slot::Duration(&mut config.timeouts.tls_accept)),
    key("timeouts", "upgrade", |config| Slot::Duration(&mut config.timeouts.upgrade)),
    key("timeouts", "handshake", |config| Slot::Duration(&mut config.timeouts.handshake)),
    key("timeouts", "decision", |config| Slot::Duration(&mut config.timeouts.decision)),
    key("timeouts", "shutdown", |config| Slot::Duration(&mut config.timeouts.shutdown)),
    key("heartbeat", "idle", |config| Slot::Duration(&mut config.heartbeat.idle)),
    key("heartbeat", "grace", |config| Slot::Duration(&mut config.heartbeat.grace)),
    key("session", "resume_window", |config| Slot::Duration(&mut config.session.resume_window)),
    key("log", "format", |config| Slot::LogFormat(&mut config.log.format)),
    key("log", "level", |config| Slot::LogFilter(&mut config.log.level)),
];

/// Examples of headers that are free text.
const HSTS: &str = "a text such as \"max-age=31536000\"";
const CSP: &str = "a text such as \"script-src 'self' 'wasm-unsafe-eval'\"";

/// What browsers know of each of these (HTML § Cross-origin opener policies, § Cross-origin embedder policies, Fetch §
/// Cross-Origin-Resource-Policy).
const OPENER: &[&str] = &["same-origin", "same-origin-allow-popups", "noopener-allow-popups", "unsafe-none"];
const EMBEDDER: &[&str] = &["require-corp", "credentialless", "unsafe-none"];
const RESOURCE: &[&str] = &["same-origin", "same-site", "cross-origin"];

const SHARED_KEY: &str = "a shared key (mlkey_…), or several";
const JWT_SECRET: &str = "a secret of at least 32 bytes";

/// The setting of a file that may stand in the place of this secret. The two exclude each other within one file, and
/// within one environment.
pub(super) fn file_of(secret: KeyName) -> Option<KeyName> {
    let is_file =
        |key: &&Key| key.name.section == secret.section && key.name.name.strip_suffix("_file") == Some(secret.name);
    KEYS.iter().find(is_file).map(|key| key.name)
}

/// Whether any secret is set.
pub(super) fn has_secret(config: &mut Config) -> bool {
    KEYS.iter().any(|key| matches!((key.slot)(config), Slot::Secret(Some(_), _)))
}

/// The setting of this name.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name.section == section && key.name.name == name)
}

/// Every section, in the table's order, those of named tables behind them.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(|key| key.name.section).collect();
    sections.dedup();
    sections.extend(TABLES.iter().map(|(section, _)| section));
    sections
}

/// A name of a table of this section.
pub(super) fn example(section: &str) -> &'static str {
    TABLES.iter().find(|(name, _)| *name == section).map_or("", |(_, example)| example)
}

/// The names in a section.
pub(super) fn names(section: &str) -> Vec<&'static str> {
    KEYS.iter().filter(|key| key.name.section == section).map(|key| key.name.name).collect()
}

/// The setting that an unknown one was probably meant to be: one of its section, or of the one that was probably meant,
/// that looks like it, otherwise one of this very name elsewhere, otherwise one elsewhere that looks like it.
pub(super) fn nearest_key(section: &str, name: &str) -> Option<KeyName> {
    let known = sections();
    let meant = || nearest(section, known.iter().map(|known| (*known, *known)));
    let section = if known.contains(&section) { section } else { meant().unwrap_or(section) };
    let all = || KEYS.iter().map(|key| key.name);
    let candidates = |here: bool| {
        all().filter(move |key| (key.section == section) == here).map(|key| (key.name, key)).collect::<Vec<_>>()
    };
    let elsewhere = || all().find(|key| key.name == name);
    nearest(name, candidates(true)).or_else(elsewhere).or_else(|| nearest(name, candidates(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested(section: &str, name: &str) -> Option<String> {
        nearest_key(section, name).map(|key| key.to_string())
    }

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        assert_eq!(suggested("server", "lisen").as_deref(), Some("[server] listen"));
        assert_eq!(suggested("server", "public_url").as_deref(), Some("[server] public_urls"));
        assert_eq!(suggested("server", "Listen").as_deref(), Some("[server] listen"));
        assert_eq!(suggested("server", "level").as_deref(), Some("[log] level"));
        assert_eq!(suggested("", "listen").as_deref(), Some("[server] listen"));
        assert_eq!(suggested("internal", "lisen").as_deref(), Some("[internal] listen"));
        assert_eq!(suggested("internl", "listen").as_deref(), Some("[internal] listen"));
        assert_eq!(suggested("server", "colour"), None);
    }

    #[test]
    fn every_setting_that_a_code_advises_exists() {
        for entry in moorline_protocol::code::ALL {
            for (section, rest) in entry.remedy.split('[').skip(1).filter_map(|text| text.split_once("] ")) {
                let name = rest.split(|c: char| c != '_' && !c.is_ascii_lowercase()).next().unwrap_or_default();
                assert!(find(section, name).is_some(), "{:?} advises [{section}] {name}", entry.code);
            }
        }
    }

    #[test]
    fn no_setting_stands_in_the_table_twice() {
        for (place, key) in KEYS.iter().enumerate() {
            assert!(KEYS[place + 1..].iter().all(|other| other.name != key.name), "{}", key.name);
        }
    }

    #[test]
    fn every_setting_of_tokens_is_in_the_documentation() {
        let text = include_str!("../../../../docs/AUTH.md");
        let settings = text.split("\n## Settings\n").nth(1).unwrap_or_default();
        let rows: String = settings.lines().filter(|line| line.starts_with("| `")).collect();
        for key in KEYS.iter().filter(|key| key.name.section.starts_with("auth.")) {
            assert!(rows.contains(&format!("`{}`", key.name.name)), "{}", key.name);
        }
    }

    #[test]
    fn every_limit_is_in_the_documentation() {
        let (operating, protocol) =
            (include_str!("../../../../docs/OPERATING.md"), include_str!("../../../../docs/PROTOCOL.md"));
        for name in names("limits") {
            let rows = |text: &str, form: &str| text.lines().any(|line| line.starts_with('|') && line.contains(form));
            assert!(
                rows(operating, &format!("| `{name}` |")) || rows(protocol, &format!("`[limits] {name}`")),
                "[limits] {name}"
            );
        }
    }

    #[test]
    fn every_secret_may_stand_in_a_file() {
        let secrets: Vec<_> =
            KEYS.iter().filter(|key| matches!((key.slot)(&mut Config::default()), Slot::Secret(..))).collect();
        assert_eq!(secrets.len(), 4);
        assert!(secrets.iter().all(|key| file_of(key.name).is_some()));
    }
}
