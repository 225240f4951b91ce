//! What may stand in `[topics."…"]` and `[stores."…"]`, and the field that it fills.
//!
//! One more such section is a type that is [`Named`], its line in [`SECTIONS`], and its name in `keys`.

use moorline_protocol::pattern::Pattern;

use super::{
    channels::{HistorySection, StoreSection, TopicSection},
    keys::{MANY, STORES, TOPICS},
    named::{Key, Named, Section},
    place::Place,
    sections::Config,
    value::Slot,
};

/// Every section of named tables.
pub(super) const SECTIONS: &[Section] = &[Section::of::<TopicSection>(), Section::of::<StoreSection>()];

/// The section of this name.
pub(super) fn find(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// As much of anything as a disk may have: a tebibyte, where a number can be so large.
const LARGE: usize = match 1_usize.checked_shl(40) {
    Some(tebibyte) if usize::BITS > 40 => tebibyte,
    _ => MANY,
};

impl Named for TopicSection {
    const SECTION: (&'static str, &'static str) = TOPICS;

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

    fn at(place: Place, pattern: Pattern) -> Self {
        Self { place, ..Self::new(pattern) }
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
    const SECTION: (&'static str, &'static str) = STORES;

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

    fn at(place: Place, pattern: Pattern) -> Self {
        Self { place, ..Self::new(pattern) }
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
    use std::time::Duration;

    use moorline_protocol::scope::Scope;

    use super::*;
    use crate::{
        config::{ConfigError, PublishSection, SnapshotsBy},
        configured,
        rate::per_minute,
        store::StorePolicy,
    };

    #[test]
    fn every_section_of_tables_is_among_those_that_are_known() {
        let named: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
        assert_eq!(named, super::super::keys::TABLES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

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
