//! What a log has, as those who keep it give it to those who tell of it.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{Bounds, Gap, Mark, Offset, Position};
use crate::time::UnixMillis;

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The offset of the entry before it: who has seen that one has missed nothing.
    pub prev: Offset,
    /// Which entry.
    pub mark: Mark,
    /// When it was appended.
    pub at: UnixMillis,
    /// What it says. Cloning shares it.
    pub content: Bytes,
}

/// Which entries to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Those that who has seen the log up to this position misses; the oldest of them first.
    After(Position),
    /// The oldest.
    Oldest,
    /// The newest of those before this one.
    Before(Offset),
    /// The newest.
    Newest,
}

/// Some entries of a log, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What there is of the log, at the moment of reading.
    pub bounds: Bounds,
    /// In ascending order.
    pub entries: Vec<Arc<Entry>>,
    /// For [`Range::After`]: it cannot be told what was missed, and `entries` is empty.
    pub gap: Option<Gap>,
}

impl Page {
    /// Whether there is nothing newer than what it has.
    pub fn is_last(&self) -> bool {
        self.entries.last().is_none_or(|newest| newest.mark == self.bounds.head)
    }
}

/// What the entries up to a position come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The newest entry that it contains.
    pub covers: Position,
    /// When it was made.
    pub at: UnixMillis,
    /// What it says.
    pub content: Bytes,
}

/// The SHA-256 of a value that is kept beside a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueHash(pub [u8; 32]);

impl fmt::Debug for ValueHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ValueHash({})", crate::text::hex(&self.0))
    }
}
