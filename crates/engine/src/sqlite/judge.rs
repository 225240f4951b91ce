//! Whether the parts of a log fit together, be they in the file or in an export.

use std::fmt;

use moorline_protocol::channel::{Bounds, Kind, Mark, Offset, ValueHash};
use sha2::{Digest, Sha256};

/// What is wrong with a channel, or with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// What SQLite says of it.
    Storage(Box<str>),
    /// There are rows of a channel that is not there.
    Orphans {
        /// In which table.
        table: &'static str,
        /// How many.
        rows: u64,
    },
    /// Its kind, tenant or name is none that a channel can have.
    Name,
    /// An entry does not follow the one before it.
    Chain {
        /// The entry.
        offset: Offset,
        /// The one that it follows.
        prev: Offset,
        /// The one that is before it.
        before: Offset,
    },
    /// An entry is where the log has none, or is another one than the log says.
    Entry(Offset),
    /// The log ends elsewhere.
    Head {
        /// Where it says that it ends.
        head: Offset,
        /// Its newest entry, or the newest that was dropped.
        newest: Offset,
    },
    /// A snapshot covers what the log does not have.
    Snapshot(Offset),
    /// Entries of a store were dropped, and no snapshot has them.
    Uncovered(Offset),
    /// An entry says something else than when it was written.
    Changed(Offset),
    /// A snapshot does.
    ChangedSnapshot(Offset),
    /// A value of the application's does: its namespace and key, escaped, and its tenant.
    ChangedValue(Box<str>),
    /// A value is not that of its hash.
    Value(ValueHash),
    /// An operation speaks of an entry that the log has not had.
    Operation(Offset),
    /// There is more or less of something than is said.
    Count {
        /// Of what.
        what: &'static str,
        /// How much is said.
        said: u64,
        /// How much there is.
        found: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(word) => formatter.write_str(word),
            Self::Orphans { table, rows } => write!(formatter, "{rows} rows of {table} belong to no channel"),
            Self::Name => formatter.write_str("no channel can have this kind, tenant and name"),
            Self::Chain { offset, prev, before } => write!(
                formatter,
                "entry {} follows entry {}, and the one before it is {}: something is missing in between",
                offset.0, prev.0, before.0
            ),
            Self::Entry(offset) => write!(formatter, "entry {} is not one of this log", offset.0),
            Self::Head { head, newest } => {
                write!(formatter, "the log ends at entry {}, and its newest one is {}", head.0, newest.0)
            }
            Self::Snapshot(covers) => {
                write!(formatter, "a snapshot covers everything up to entry {}, which is none of this log", covers.0)
            }
            Self::Uncovered(trimmed) => {
                write!(formatter, "the entries up to {} were dropped, and no snapshot has what they said", trimmed.0)
            }
            Self::Changed(offset) => {
                write!(formatter, "entry {} is not what was written: it has another sum", offset.0)
            }
            Self::ChangedSnapshot(covers) => write!(
                formatter,
                "the snapshot of everything up to entry {} is not what was written: it has another sum",
                covers.0
            ),
            Self::ChangedValue(key) => write!(formatter, "{key} is not what was written: it has another sum"),
            Self::Value(hash) => {
                formatter.write_str("the value ")?;
                hash.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
                formatter.write_str(" is not what it was: it has another hash")
            }
            Self::Operation(offset) => {
                write!(formatter, "an operation made entry {}, which the log has not had", offset.0)
            }
            Self::Count { what, said, found } => {
                write!(formatter, "there are said to be {said} {what}, and are {found}")
            }
        }
    }
}

/// Whether a value is the one of its hash.
pub(super) fn judge_value(hash: ValueHash, content: &[u8]) -> Result<(), Fault> {
    if <[u8; 32]>::from(Sha256::digest(content)) == hash.0 { Ok(()) } else { Err(Fault::Value(hash)) }
}

/// The first fault that is told.
pub(super) fn first_fault(judge: impl FnOnce(&mut dyn FnMut(Fault))) -> Result<(), Fault> {
    let mut found = None;
    judge(&mut |fault| found = found.take().or(Some(fault)));
    found.map_or(Ok(()), Err)
}

/// Judges the parts of one log as they come: its snapshots, then its entries, both in their order.
pub(super) struct Judge {
    kind: Kind,
    bounds: Bounds,
    newest_snapshot: Option<Offset>,
    /// What snapshots cover, and has not come.
    covered: Vec<Mark>,
    newest: Offset,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// More snapshots than a log has. Of what is beyond them nothing is said but that.
const SNAPSHOTS: usize = 16;

impl Judge {
    pub(super) fn new(kind: Kind, bounds: Bounds) -> Self {
        let newest = bounds.trimmed.offset;
        Self { kind, bounds, newest_snapshot: None, covered: Vec::new(), newest, entries: 0, bytes: 0 }
    }

    pub(super) fn snapshot(&mut self, covers: Mark, tell: &mut dyn FnMut(Fault)) {
        let Bounds { trimmed, head, .. } = self.bounds;
        let within = (trimmed.offset..=head.offset).contains(&covers.offset);
        let ascends = self.newest_snapshot.is_none_or(|before| before < covers.offset);
        // Before the first entry nothing is told apart.
        let is_other = |mark: Mark| covers.offset == mark.offset && covers.offset.0 > 0 && covers.tag != mark.tag;
        if !within || !ascends || is_other(trimmed) || is_other(head) || self.covered.len() >= SNAPSHOTS {
            tell(Fault::Snapshot(covers.offset));
        } else if ![trimmed.offset, head.offset].contains(&covers.offset) {
            self.covered.push(covers);
        }
        self.newest_snapshot = self.newest_snapshot.max(Some(covers.offset));
    }

    pub(super) fn entry(&mut self, prev: Offset, mark: Mark, size: u64, tell: &mut dyn FnMut(Fault)) {
        let Bounds { trimmed, head, .. } = self.bounds;
        let offset = mark.offset;
        if prev != self.newest || prev >= offset {
            tell(Fault::Chain { offset, prev, before: self.newest });
        }
        if offset <= trimmed.offset || offset > head.offset || offset == head.offset && mark.tag != head.tag {
            tell(Fault::Entry(offset));
        }
        self.covered.retain(|covered| *covered != mark);
        self.newest = offset;
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
    }

    pub(super) fn end(&mut self, tell: &mut dyn FnMut(Fault)) {
        let Bounds { trimmed, head, .. } = self.bounds;
        let is_another = trimmed.offset == head.offset && trimmed.tag != head.tag;
        if self.newest != head.offset || is_another {
            tell(Fault::Head { head: head.offset, newest: self.newest });
        }
        self.covered.drain(..).for_each(|covered| tell(Fault::Snapshot(covered.offset)));
        let is_covered = self.newest_snapshot.is_some_and(|covers| covers >= trimmed.offset);
        if self.kind == Kind::Store && trimmed.offset.0 > 0 && !is_covered {
            tell(Fault::Uncovered(trimmed.offset));
        }
    }

    /// Tells of a number that is said and not so.
    pub(super) fn count(what: &'static str, said: u64, found: u64, tell: &mut dyn FnMut(Fault)) {
        if said != found {
            tell(Fault::Count { what, said, found });
        }
    }
}

#[cfg(test)]
mod tests {
    use moorline_protocol::channel::{LogEpoch, Tag};

    use super::*;

    fn mark(offset: u64, tag: u8) -> Mark {
        Mark { offset: Offset(offset), tag: Tag([tag; 8]) }
    }

    /// What is found in a store that says it has entries 4 to 6.
    fn judge(snapshots: &[Mark], entries: &[(u64, u64, u8)]) -> Vec<Fault> {
        let mut judge =
            Judge::new(Kind::Store, Bounds { epoch: LogEpoch([1; 8]), trimmed: mark(3, 3), head: mark(6, 6) });
        let mut found = Vec::new();
        let mut tell = |fault| found.push(fault);
        snapshots.iter().for_each(|covers| judge.snapshot(*covers, &mut tell));
        entries.iter().for_each(|(prev, offset, tag)| judge.entry(Offset(*prev), mark(*offset, *tag), 1, &mut tell));
        judge.end(&mut tell);
        found
    }

    const ENTRIES: [(u64, u64, u8); 3] = [(3, 4, 4), (4, 5, 5), (5, 6, 6)];

    #[test]
    fn a_log_that_fits_together_has_no_fault() {
        for snapshots in [&[mark(3, 3)][..], &[mark(3, 3), mark(5, 5)], &[mark(6, 6)], &[mark(3, 3), mark(6, 6)]] {
            assert_eq!(judge(snapshots, &ENTRIES), []);
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let whole = [mark(3, 3)];
        let chain =
            |offset, prev, before| Fault::Chain { offset: Offset(offset), prev: Offset(prev), before: Offset(before) };
        assert_eq!(judge(&whole, &[ENTRIES[0], ENTRIES[2]]), [chain(6, 5, 4)]);
        assert_eq!(judge(&whole, &ENTRIES[1..]), [chain(5, 4, 3)]);
        assert_eq!(judge(&whole, &ENTRIES[..2]), [Fault::Head { head: Offset(6), newest: Offset(5) }]);
        assert_eq!(judge(&whole, &[ENTRIES[0], ENTRIES[1], (5, 6, 9)]), [Fault::Entry(Offset(6))], "another head");
        assert_eq!(judge(&[], &ENTRIES), [Fault::Uncovered(Offset(3))]);
        for covers in [mark(3, 9), mark(4, 9), mark(6, 9), mark(7, 7)] {
            let found = judge(&[covers], &ENTRIES);
            assert_eq!(found, [Fault::Snapshot(covers.offset)], "{covers:?}");
        }
        assert_eq!(judge(&[mark(2, 2)], &ENTRIES), [Fault::Snapshot(Offset(2)), Fault::Uncovered(Offset(3))]);
        assert_eq!(judge(&[mark(5, 5), mark(4, 4)], &ENTRIES), [Fault::Snapshot(Offset(4))], "out of order");
    }
}
