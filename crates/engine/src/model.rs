//! What is asked of an engine, and what it answers.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use moorline_protocol::{
    channel::{Entry, Mark, Offset, Position},
    subject::Tenant,
    time::UnixMillis,
};

/// How long an operation is known again when it comes a second time: of the newest entries of a channel, of which an
/// engine looks at a number of its own.
pub const OPERATIONS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Which operation of a client's: random, so that one that comes again is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub [u8; 16]);

impl fmt::Debug for OpId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OpId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// How much of a log is kept. What is beyond any of the three is dropped, the oldest first; the newest entry stays
/// however large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Entries.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Age.
    pub age: Duration,
}

impl Retention {
    /// Everything, for ever.
    pub const ALL: Self = Self { entries: u64::MAX, bytes: u64::MAX, age: Duration::MAX };

    /// The offset of the newest entry that is to go, and how many go with it. `oldest_first` are the entries that
    /// there are, with their bytes.
    pub(crate) fn beyond(
        self,
        mut entries: u64,
        mut bytes: u64,
        now: UnixMillis,
        oldest_first: impl Iterator<Item = (Mark, UnixMillis, u64)>,
    ) -> Option<Dropped> {
        let age = u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX);
        let mut dropped = None;
        for (mark, at, size) in oldest_first {
            let too_many = entries > self.entries || (bytes > self.bytes && entries > 1);
            if !too_many && now.0.saturating_sub(at.0) <= age {
                break;
            }
            // What is counted is what was written; a file that somebody has changed may say otherwise.
            entries = entries.saturating_sub(1);
            bytes = bytes.saturating_sub(size);
            dropped = Some(Dropped { upto: mark, entries, bytes });
        }
        dropped
    }
}

impl Default for Retention {
    /// What every channel has, so that who was away for a moment misses nothing: 120 s and 1 MiB.
    fn default() -> Self {
        Self { entries: u64::MAX, bytes: 1 << 20, age: Duration::from_secs(120) }
    }
}

/// What a log has left after its oldest entries went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// The newest that went.
    pub(crate) upto: Mark,
    /// What is left.
    pub(crate) entries: u64,
    /// Bytes of it.
    pub(crate) bytes: u64,
}

/// An entry to be.
#[derive(Clone, Debug)]
pub struct Append {
    /// What it says.
    pub content: Bytes,
    /// When.
    pub at: UnixMillis,
    /// Makes it safe to ask again: an operation that was done is not done again for [`OPERATIONS_KEPT`].
    pub op: Option<OpId>,
    /// Where the log must end.
    pub expected: Option<Offset>,
    /// How much of the log is kept from now on.
    pub retention: Retention,
    /// How much there may be with it.
    pub most: Most,
}

impl Append {
    /// An entry at the end, wherever that is.
    pub fn new(content: Bytes, at: UnixMillis, retention: Retention) -> Self {
        Self { content, at, op: None, expected: None, retention, most: Most::default() }
    }
}

/// How much there may be with what is written; `None` for any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most {
    /// Bytes that are needed of the channel: see [`Usage::needed_bytes`]. A snapshot, which makes room, is not measured
    /// by it.
    pub bytes: Option<u64>,
    /// Channels of its kind and tenant of which something was ever written. Those that are there are written to in any
    /// case.
    pub channels: Option<u64>,
}

/// What became of an [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where the entry is.
    pub position: Position,
    /// The operation had been done before, and nothing was appended now.
    pub repeated: bool,
}

/// How much to read at once. One entry is read in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Entries.
    pub entries: usize,
    /// Bytes of content.
    pub bytes: usize,
}

impl Default for Limit {
    fn default() -> Self {
        Self { entries: 256, bytes: 256 * 1024 }
    }
}

/// What is left of a [`Limit`].
pub(crate) struct Room {
    left: Limit,
    any: bool,
}

impl Room {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { left: limit, any: false }
    }

    /// Whether there is room for this one, too. There always is for the first.
    pub(crate) fn takes(&mut self, entry: &Entry) -> bool {
        let size = entry.content.len();
        if self.any && (self.left.entries == 0 || self.left.bytes < size) {
            return false;
        }
        self.left = Limit { entries: self.left.entries.saturating_sub(1), bytes: self.left.bytes.saturating_sub(size) };
        self.any = true;
        true
    }
}

/// How much a channel takes: numbers, and bytes of content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub struct Usage {
    pub entries: u64,
    pub entry_bytes: u64,
    pub snapshots: u64,
    pub snapshot_bytes: u64,
    pub values: u64,
    pub value_bytes: u64,
    /// Of these the newest snapshot, the entries that are not in it, and the values: what is needed. The rest is kept to go
    /// back to.
    pub needed_bytes: u64,
}

/// Where a value of the application's is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whose.
    pub tenant: Tenant,
    /// Of which part of the application.
    pub namespace: Arc<str>,
    /// Under which name.
    pub name: Arc<str>,
}

/// How often a value was set: from 1, and never twice the same for one that was removed and made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A value of the application's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Which of its versions.
    pub version: Version,
    /// What it is.
    pub value: Bytes,
}

/// What must be so before a value is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Anything,
    /// There is none.
    Nothing,
    /// It has this version.
    This(Version),
}

impl Expected {
    pub(crate) fn holds(self, found: Option<Version>) -> bool {
        match self {
            Self::Anything => true,
            Self::Nothing => found.is_none(),
            Self::This(version) => found == Some(version),
        }
    }
}
