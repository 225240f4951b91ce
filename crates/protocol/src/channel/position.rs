//! Where in a log somebody is, and whether the log still goes on from there.
//!
//! Implements `docs/PROTOCOL.md` § Positions. An offset alone does not say so: a log may have been made anew, have lost
//! its newest entries and given their offsets to others, or have dropped its oldest ones.

use std::fmt;

/// Which log: random, and another one when a log is made anew under the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogEpoch(pub [u8; 8]);

/// The number of an entry: from 1, ascending, not without gaps. 0 stands for before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// What tells one entry from another that has its offset: random. All zero before the first entry.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 8]);

impl fmt::Debug for LogEpoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LogEpoch({:016x})", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tag({:016x})", u64::from_be_bytes(self.0))
    }
}

/// One entry of a log, and no other that ever had its offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Its number.
    pub offset: Offset,
    /// What it is known by.
    pub tag: Tag,
}

impl Mark {
    /// Before the first entry.
    pub const START: Self = Self { offset: Offset(0), tag: Tag([0; 8]) };
}

/// Up to where somebody has seen a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Of which log.
    pub epoch: LogEpoch,
    /// The newest entry seen.
    pub mark: Mark,
}

/// What there is of a log. The marks are kept although the entries themselves may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Which log.
    pub epoch: LogEpoch,
    /// The newest entry that was dropped; [`Mark::START`] while none was.
    pub trimmed: Mark,
    /// The newest entry.
    pub head: Mark,
}

/// Why nobody can tell what somebody has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gap {
    /// The log was made anew.
    Recreated,
    /// The log has lost what was seen.
    Diverged,
    /// What was missed is dropped already.
    Trimmed,
}

impl Bounds {
    /// A log without an entry.
    pub fn new(epoch: LogEpoch) -> Self {
        Self { epoch, trimmed: Mark::START, head: Mark::START }
    }

    /// Where the log ends.
    pub fn end(&self) -> Position {
        Position { epoch: self.epoch, mark: self.head }
    }

    /// Whether who has seen the log up to `since` misses exactly the entries after it. `tag_of` looks an entry of the
    /// log up; it is asked for offsets between the trimmed one and the head only.
    ///
    /// # Errors
    /// Why it cannot be told what is missed.
    pub fn judge(&self, since: Position, tag_of: impl FnOnce(Offset) -> Option<Tag>) -> Result<Offset, Gap> {
        let Mark { offset, tag } = since.mark;
        if since.epoch != self.epoch {
            return Err(Gap::Recreated);
        }
        if offset < self.trimmed.offset {
            return Err(Gap::Trimmed);
        }
        let there = match offset {
            Offset(0) => Some(Tag::default()),
            at if at == self.trimmed.offset => Some(self.trimmed.tag),
            at if at == self.head.offset => Some(self.head.tag),
            at if at > self.head.offset => None,
            at => tag_of(at),
        };
        // Before the first entry there is nothing to be told apart.
        if offset == Offset(0) || there == Some(tag) { Ok(offset) } else { Err(Gap::Diverged) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: LogEpoch = LogEpoch([7; 8]);

    fn mark(offset: u64, tag: u8) -> Mark {
        Mark { offset: Offset(offset), tag: Tag([tag; 8]) }
    }

    fn since(offset: u64, tag: u8) -> Position {
        Position { epoch: EPOCH, mark: mark(offset, tag) }
    }

    /// Entries 4, 6 and 9 are there, 1 to 3 were dropped.
    fn judge(since: Position) -> Result<Offset, Gap> {
        let bounds = Bounds { epoch: EPOCH, trimmed: mark(3, 3), head: mark(9, 9) };
        bounds.judge(since, |offset| {
            assert!(offset > Offset(3) && offset < Offset(9), "asked for {offset:?}");
            [4, 6].contains(&offset.0).then_some(Tag([offset.0 as u8; 8]))
        })
    }

    #[test]
    fn what_was_seen_and_is_still_there_goes_on() {
        for offset in [3, 4, 6, 9] {
            assert_eq!(judge(since(offset, offset as u8)), Ok(Offset(offset)));
        }
    }

    #[test]
    fn another_entry_of_the_same_offset_is_told_apart() {
        for offset in [3, 4, 6, 9] {
            assert_eq!(judge(since(offset, 0)), Err(Gap::Diverged));
        }
        assert_eq!(judge(since(5, 5)), Err(Gap::Diverged), "no entry has this offset");
        assert_eq!(judge(since(10, 10)), Err(Gap::Diverged), "the newest entries were lost");
    }

    #[test]
    fn what_was_dropped_cannot_be_missed_silently() {
        assert_eq!(judge(since(2, 2)), Err(Gap::Trimmed));
        assert_eq!(judge(since(0, 0)), Err(Gap::Trimmed));
    }

    #[test]
    fn a_log_made_anew_is_another() {
        let other = Position { epoch: LogEpoch([8; 8]), mark: mark(9, 9) };
        assert_eq!(judge(other), Err(Gap::Recreated));
        assert_eq!(Bounds::new(EPOCH).judge(Bounds::new(EPOCH).end(), |_| None), Ok(Offset(0)));
        // Before the first entry nothing is told apart by a tag, whatever somebody says it was.
        assert_eq!(Bounds::new(EPOCH).judge(since(0, 1), |_| None), Ok(Offset(0)));
    }
}
