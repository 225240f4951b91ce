//! `[topics."…"]` and `[stores."…"]`: the channels that the binary serves, by their patterns. They say what a program says
//! by `TopicPolicy` and `StorePolicy`.

use std::{path::PathBuf, time::Duration};

use moorline_protocol::{pattern::Pattern, scope::Scope};

use super::{
    Config,
    error::Place,
    keys::MANY,
    named::{Key, Named},
    value::Slot,
};
use crate::{rate::Rate, store::MOST};

/// As much of anything as a disk may have: a tebibyte, where a number can be so large.
const LARGE: usize = match 1_usize.checked_shl(40) {
    Some(tebibyte) if usize::BITS > 40 => tebibyte,
    _ => MANY,
};

/// `[topics."PATTERN"]`: what topics of a pattern are like, and who may use them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopicSection {
    /// The names that it is about: `room:{id}` is about `room:1` and `room:2`.
    pub pattern: Pattern,
    /// How much is kept, on the disk and over restarts: `{ count = 1000, age = "7d", bytes = "64MiB" }`, each of which
    /// may be left out. Default none: what who was away for a moment needs, 120 s and 1 MiB, in memory.
    pub history: Option<HistorySection>,
    /// Whether a topic tells who is there. Default no.
    pub presence: bool,
    /// What it takes to subscribe: `{ scope = "room.read", roles = ["staff"], authenticated = true }`, which add up.
    pub subscribe: GuardSection,
    /// What it takes to publish: the same, and `rate` and `schema_file`.
    pub publish: PublishSection,
    /// Where it stands, for messages.
    pub place: Place,
}

/// How much of a topic is kept. What is beyond any of the three goes, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistorySection {
    /// Messages. Default 1,000.
    pub count: usize,
    /// How old they may be. Default `"7d"`.
    pub age: Duration,
    /// Bytes of them. Default `"64MiB"`.
    pub bytes: usize,
}

/// What is asked of who uses a topic or a store, beside what his scopes permit. All of it must be so.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GuardSection {
    /// Exactly this scope, instead of that of the operation. Default none.
    pub scope: Option<Scope>,
    /// One of these roles. Default none: whatever the role.
    pub roles: Vec<String>,
    /// Whether he must have signed in. Default no.
    pub authenticated: bool,
}

/// What is asked of who publishes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PublishSection {
    /// As for subscribing.
    pub guard: GuardSection,
    /// How often one subject may publish: `"5/s"`, `"60/m"`. Default as often as `[limits]` lets him.
    pub rate: Option<Rate>,
    /// A file with the JSON Schema that every message must fit. Default none.
    pub schema_file: Option<PathBuf>,
}

/// `[stores."PATTERN"]`: what stores of a pattern are like, and who may use them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreSection {
    /// The names that it is about: `notes/{id}` is about `notes/1` and `notes/2`.
    pub pattern: Pattern,
    /// Bytes of entries, snapshots and values that one store may have. Default `"256MiB"`.
    pub max_bytes: usize,
    /// Who may keep snapshots, which take the place of what was written. Default `"admin"`.
    pub snapshots: SnapshotsBy,
    /// Whether a store tells who is there. Default yes.
    pub presence: bool,
    /// What it takes to read: `{ scope = "notes.read", roles = ["staff"], authenticated = true }`, which add up.
    pub read: GuardSection,
    /// What it takes to write: the same, and `rate`.
    pub write: WriteSection,
    /// What it takes to keep snapshots where they are an administrator's: as for reading.
    pub admin: GuardSection,
    /// Where it stands, for messages.
    pub place: Place,
}

/// Who may keep snapshots of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotsBy {
    /// Who administrates it.
    Admin,
    /// Whoever may write to it.
    Write,
}

/// What is asked of who writes to a store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WriteSection {
    /// As for reading.
    pub guard: GuardSection,
    /// How often one subject may write: `"5/s"`, `"60/m"`. Default as often as `[limits]` lets him.
    pub rate: Option<Rate>,
}

impl StoreSection {
    /// Stores of this pattern, as an empty table has them.
    pub fn new(pattern: Pattern) -> Self {
        Named::new(pattern, Place::Program)
    }
}

impl TopicSection {
    /// Topics of this pattern, as an empty table has them.
    pub fn new(pattern: Pattern) -> Self {
        Named::new(pattern, Place::Program)
    }
}

impl Default for HistorySection {
    fn default() -> Self {
        Self { count: 1_000, age: Duration::from_secs(7 * 86_400), bytes: 64 << 20 }
    }
}

impl Named for TopicSection {
    const SECTION: &'static str = "topics";
    const EXAMPLE: &'static str = "room:{id}";

    const KEYS: &'static [Key<Self>] = &[
        ("history.count", |topic| Slot::Count(&mut topic.kept().count, 1..=MANY)),
        ("history.age", |topic| Slot::Duration(&mut topic.kept().age)),
        ("history.bytes", |topic| Slot::Size(&mut topic.kept().bytes, 1..=LARGE)),
        ("presence", |topic| Slot::Flag(&mut topic.presence)),
        ("subscribe.scope", |topic| Slot::ScopeOrNone(&mut topic.subscribe.scope)),
        ("subscribe.roles", |topic| Slot::Texts(&mut topic.subscribe.roles)),
        ("subscribe.authenticated", |topic| Slot::Flag(&mut topic.subscribe.authenticated)),
        ("publish.scope", |topic| Slot::ScopeOrNone(&mut topic.publish.guard.scope)),
        ("publish.roles", |topic| Slot::Texts(&mut topic.publish.guard.roles)),
        ("publish.authenticated", |topic| Slot::Flag(&mut topic.publish.guard.authenticated)),
        ("publish.rate", |topic| Slot::RateOrNone(&mut topic.publish.rate)),
        ("publish.schema_file", |topic| Slot::PathOrNone(&mut topic.publish.schema_file)),
    ];

    const TABLES: &'static [(&'static str, &'static str)] = &[
        ("history", "a table such as { count = 1000, age = \"7d\" }"),
        ("subscribe", "a table such as { scope = \"room.read\" }"),
        ("publish", "a table such as { scope = \"room.write\", rate = \"5/s\" }"),
    ];

    fn new(pattern: Pattern, place: Place) -> Self {
        let (subscribe, publish) = (GuardSection::default(), PublishSection::default());
        Self { pattern, history: None, presence: false, subscribe, publish, place }
    }

    fn open(&mut self, table: &str) {
        if table == "history" {
            self.kept();
        }
    }

    fn all(config: &mut Config) -> &mut Vec<Self> {
        &mut config.topics
    }
}

impl Named for StoreSection {
    const SECTION: &'static str = "stores";

    const EXAMPLE: &'static str = "notes/{id}";

    const KEYS: &'static [Key<Self>] = &[
        ("max_bytes", |store| Slot::Size(&mut store.max_bytes, 1..=LARGE)),
        ("snapshots", |store| Slot::SnapshotsBy(&mut store.snapshots)),
        ("presence", |store| Slot::Flag(&mut store.presence)),
        ("read.scope", |store| Slot::ScopeOrNone(&mut store.read.scope)),
        ("read.roles", |store| Slot::Texts(&mut store.read.roles)),
        ("read.authenticated", |store| Slot::Flag(&mut store.read.authenticated)),
        ("write.scope", |store| Slot::ScopeOrNone(&mut store.write.guard.scope)),
        ("write.roles", |store| Slot::Texts(&mut store.write.guard.roles)),
        ("write.authenticated", |store| Slot::Flag(&mut store.write.guard.authenticated)),
        ("write.rate", |store| Slot::RateOrNone(&mut store.write.rate)),
        ("admin.scope", |store| Slot::ScopeOrNone(&mut store.admin.scope)),
        ("admin.roles", |store| Slot::Texts(&mut store.admin.roles)),
        ("admin.authenticated", |store| Slot::Flag(&mut store.admin.authenticated)),
    ];

    const TABLES: &'static [(&'static str, &'static str)] = &[
        ("read", "a table such as { scope = \"notes.read\" }"),
        ("write", "a table such as { scope = \"notes.write\", rate = \"5/s\" }"),
        ("admin", "a table such as { roles = [\"editor\"] }"),
    ];

    fn new(pattern: Pattern, place: Place) -> Self {
        let (read, write, admin) = <(GuardSection, WriteSection, GuardSection)>::default();
        let max_bytes = usize::try_from(MOST).unwrap_or(usize::MAX);
        Self { pattern, max_bytes, snapshots: SnapshotsBy::Admin, presence: true, read, write, admin, place }
    }

    fn open(&mut self, _: &str) {}

    fn all(config: &mut Config) -> &mut Vec<Self> {
        &mut config.stores
    }
}

impl TopicSection {
    /// The history, from where it is first spoken of.
    fn kept(&mut self) -> &mut HistorySection {
        self.history.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StorePolicy, config::ConfigError, configured, per_minute};

    fn topics(text: &str) -> Result<Vec<TopicSection>, ConfigError> {
        Config::parse(text, "/etc/moorline").map(|config| config.topics)
    }

    fn error(text: &str) -> String {
        topics(text).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn every_setting_of_a_topic_is_read() -> Result<(), ConfigError> {
        let topics = topics(
            r#"
            [topics."room:{id}"]
            history = { count = 10, age = "1h", bytes = "2MiB" }
            presence = true
            subscribe = { scope = "room.read", roles = ["staff", "admin"], authenticated = true }
            [topics."room:{id}".publish]
            scope = "topic.publish:room:*"
            roles = ["admin"]
            authenticated = true
            rate = "60/m"
            schema_file = "said.json"
            [topics.lobby]
            "#,
        )?;
        let [room, lobby] = &topics[..] else { panic!("{topics:?}") };
        assert_eq!(room.pattern.as_str(), "room:{id}");
        let history = HistorySection { count: 10, age: Duration::from_secs(3_600), bytes: 2 << 20 };
        assert_eq!((room.history, room.presence), (Some(history), true));
        let subscribe = &room.subscribe;
        assert_eq!(subscribe.scope, Scope::parse("room.read").ok());
        assert_eq!((subscribe.roles.join(" ").as_str(), subscribe.authenticated), ("staff admin", true));
        let PublishSection { guard, rate, schema_file } = &room.publish;
        assert_eq!(guard.scope, Scope::parse("topic.publish:room:*").ok());
        assert_eq!((guard.roles.join(" ").as_str(), guard.authenticated), ("admin", true));
        assert_eq!(*rate, Some(per_minute(60)));
        assert_eq!(schema_file.as_deref(), Some(std::path::Path::new("/etc/moorline/said.json")));
        assert_eq!(format!("{lobby:?}"), {
            let place = Place::File { path: None, line: 12, column: 21 };
            format!("{:?}", TopicSection { place, ..TopicSection::new(Pattern::parse("lobby").expect("a pattern")) })
        });
        Ok(())
    }

    #[test]
    fn what_is_left_out_of_a_history_has_its_default_and_an_absent_one_is_none() -> Result<(), ConfigError> {
        let topics = topics("[topics]\na = { history = {} }\nb = { history = { count = 5 } }\nc = {}")?;
        let histories: Vec<_> = topics.iter().map(|topic| topic.history).collect();
        let whole = HistorySection::default();
        assert_eq!(histories, [Some(whole), Some(HistorySection { count: 5, ..whole }), None]);
        Ok(())
    }

    #[test]
    fn what_is_wrong_with_a_topic_is_told_with_its_place_and_what_would_do() {
        for (text, expected) in [
            (
                "[topics.\"room:{id}\"]\nhistroy = {}",
                "line 2, column 1: unknown key histroy in [topics.\"room:{id}\"]; did you mean history?",
            ),
            (
                "[topics.\"room:{id}\"]\nhistory = { cuont = 1 }",
                "line 2, column 13: unknown key cuont in [topics.\"room:{id}\"] history; did you mean count?",
            ),
            ("[topics.a]\ncolour = 1", "known are history, subscribe, publish, presence"),
            ("[topics.a]\nsubscribe = { colour = 1 }", "known are scope, roles, authenticated"),
            ("[topics.a]\nsubscribe = { rate = '5/s' }", "unknown key rate in [topics.\"a\"] subscribe"),
            (
                "[topics.\"room-{id}\"]",
                "line 1, column 9: [topics.\"room-{id}\"]: * and {name} stand for a whole segment",
            ),
            ("[topics.\"room:\"]", "nothing stands before, between or behind its separators"),
            (
                "[topics.a]\nhistory = { age = 7 }",
                "line 2, column 19: [topics.\"a\"] history.age: a duration needs its unit: write \"7s\"",
            ),
            ("[topics.a]\nhistory = { bytes = '64MB' }", "the unit \"MB\" is not known (units: B, KiB, MiB, GiB)"),
            ("[topics.a]\nhistory = { count = 0 }", "[topics.\"a\"] history.count: must be from 1 to"),
            (
                "[topics.a]\nhistory = 1000",
                "line 2, column 11: [topics.\"a\"] history: must be a table such as { count = 1000, age = \"7d\" }, not a \
                 number",
            ),
            ("[topics.a]\npresence = 'yes'", "[topics.\"a\"] presence: must be true or false"),
            (
                "[topics.a]\npublish = { scope = 'topic.pubish:a' }",
                "[topics.\"a\"] publish.scope: \"topic.pubish:a\" does not do: there is no such kind of scope before the \
                 colon; did you mean topic.publish:…?",
            ),
            ("[topics.a]\npublish = { rate = 5 }", "publish.rate: must be a rate such as \"5/s\" or \"60/m\""),
            (
                "[topics]\npresence = true",
                "line 2, column 1: topics.presence is no table; write [topics.\"presence\"] on a line of its own and its \
                 keys below",
            ),
            (
                "topics = 1",
                "line 1, column 1: topics is a section of tables; write [topics.\"room:{id}\"] on a line of its own and \
                 its keys below",
            ),
            ("[topic.a]", "unknown section [topic]; did you mean [topics]?"),
            // TOML's own rule.
            ("[topics.a]\n[topics.a]", "line 2"),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{error}");
        }
        for rate in ["", "5", "5/h", "0/s", "-1/s", "1.5/s", "5 / s"] {
            let error = error(&format!("[topics.a]\npublish = {{ rate = '{rate}' }}"));
            assert_eq!(error.is_empty(), rate.is_empty(), "{rate}: {error}");
        }
    }

    #[test]
    fn every_setting_of_a_store_is_read_and_what_is_left_out_is_as_a_policy_has_it() -> Result<(), ConfigError> {
        let text = r#"
            [stores."notes/{id}"]
            max_bytes = "1MiB"
            snapshots = "write"
            presence = false
            read = { scope = "store.read:notes/**", roles = ["staff"], authenticated = true }
            write = { scope = "notes.write", roles = ["editor"], authenticated = true, rate = "60/m" }
            [stores."notes/{id}".admin]
            scope = "notes.admin"
            roles = ["admin"]
            authenticated = true
            [stores.board]
            "#;
        let stores = Config::parse(text, "")?.stores;
        let [notes, board] = &stores[..] else { panic!("{stores:?}") };
        assert_eq!(notes.pattern.as_str(), "notes/{id}");
        assert_eq!((notes.max_bytes, notes.snapshots, notes.presence), (1 << 20, SnapshotsBy::Write, false));
        for (guard, scope, role) in [
            (&notes.read, "store.read:notes/**", "staff"),
            (&notes.write.guard, "notes.write", "editor"),
            (&notes.admin, "notes.admin", "admin"),
        ] {
            assert_eq!(guard.scope, Scope::parse(scope).ok());
            assert_eq!((guard.roles.join(" ").as_str(), guard.authenticated), (role, true));
        }
        assert_eq!(notes.write.rate, Some(per_minute(60)));
        let policy = configured::store(board).0;
        let plain = StorePolicy::new().0;
        assert_eq!(format!("{policy:?}"), format!("{plain:?}"));
        let policy = configured::store(notes).0;
        assert_eq!((policy.most, policy.writers_snapshot, policy.presence), (Some(1 << 20), true, false));
        Ok(())
    }

    #[test]
    fn what_is_wrong_with_a_store_is_told_with_its_place_and_what_would_do() {
        for (text, expected) in [
            (
                "[stores.\"notes/{id}\"]\nmax_byte = '1MiB'",
                "line 2, column 1: unknown key max_byte in [stores.\"notes/{id}\"]; did you mean max_bytes?",
            ),
            ("[stores.a]\ncolour = 1", "known are read, write, admin, max_bytes, snapshots, presence"),
            ("[stores.a]\nread = { rate = '5/s' }", "known are scope, roles, authenticated"),
            ("[stores.a]\nwrite = { schema_file = 'x' }", "known are scope, roles, authenticated, rate"),
            ("[stores.a]\nmax_bytes = 7", "max_bytes: a size needs its unit: write \"7B\""),
            ("[stores.a]\nmax_bytes = '0B'", "[stores.\"a\"] max_bytes: must be from 1B to"),
            (
                "[stores.a]\nsnapshots = 'writer'",
                "line 2, column 13: [stores.\"a\"] snapshots: must be \"admin\" or \"write\", not \"writer\"; did you mean \
                 \"write\"?",
            ),
            ("[stores.a]\nsnapshots = true", "snapshots: must be \"admin\" or \"write\", not true or false"),
            ("[stores.a]\nread = true", "read: must be a table such as { scope = \"notes.read\" }, not true or false"),
            (
                "[stores.a]\nwrite = { scope = 'store.wite:a' }",
                "there is no such kind of scope before the colon; did you mean store.write:…?",
            ),
            (
                "stores = 1",
                "line 1, column 1: stores is a section of tables; write [stores.\"notes/{id}\"] on a line of its own and \
                 its keys below",
            ),
            ("[store.a]", "unknown section [store]; did you mean [stores]?"),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_first_error_of_the_file_is_told_whatever_kind_of_section_it_is_in() {
        assert!(error("[topics.a]\nzzz = 1\n[log]\naaa = 2").contains("zzz"));
        assert!(error("[log]\nzzz = 1\n[topics.a]\naaa = 2").contains("zzz"));
    }

    #[test]
    fn every_setting_of_a_channel_is_in_the_documentation() {
        let text = include_str!("../../../../docs/OPERATING.md");
        let rows: String = text.lines().filter(|line| line.starts_with("| `")).collect();
        let keys = TopicSection::KEYS.iter().map(|(key, _)| key).chain(StoreSection::KEYS.iter().map(|(key, _)| key));
        for key in keys {
            assert!(rows.contains(&format!("`{key}`")), "{key}");
        }
    }
}
