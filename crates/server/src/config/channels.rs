//! `[topics."…"]` and `[stores."…"]`: the channels that the binary serves, by their patterns. They say what a program says
//! by `TopicPolicy` and `StorePolicy`.

use std::{path::PathBuf, time::Duration};

use moorline_protocol::{pattern::Pattern, scope::Scope};

use super::place::Place;
use crate::rate::Rate;

/// Most bytes of one store, unless something else is said.
pub(crate) const MOST: u64 = 256 << 20;

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
        let (read, write, admin) = <(GuardSection, WriteSection, GuardSection)>::default();
        let max_bytes = usize::try_from(MOST).unwrap_or(usize::MAX);
        Self {
            pattern,
            max_bytes,
            snapshots: SnapshotsBy::Admin,
            presence: true,
            read,
            write,
            admin,
            place: Place::Program,
        }
    }
}

impl TopicSection {
    /// Topics of this pattern, as an empty table has them.
    pub fn new(pattern: Pattern) -> Self {
        let (subscribe, publish) = (GuardSection::default(), PublishSection::default());
        Self { pattern, history: None, presence: false, subscribe, publish, place: Place::Program }
    }
}

impl Default for HistorySection {
    fn default() -> Self {
        Self { count: 1_000, age: Duration::from_secs(7 * 86_400), bytes: 64 << 20 }
    }
}
