//! What is known of every log that there ever was, beside what the engine says.

use std::collections::{BTreeMap, BTreeSet};

use moorline_protocol::channel::{LogEpoch, Mark};

use super::names::MOST_CHANNELS;

/// What is known of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) mark: Mark,
    pub(super) number: u64,
    pub(super) author: u32,
    /// When, among all that was appended and granted.
    pub(super) order: u64,
}

/// For whom a subscription shows what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// Not what this client writes.
    pub(super) quiet: Option<u32>,
    /// Not these of five.
    pub(super) without: Option<u64>,
}

impl Filter {
    pub(super) fn shows(self, number: u64, author: u32) -> bool {
        self.without != Some(number % 5) && self.quiet != Some(author)
    }

    pub(super) fn shows_fact(self, fact: &Fact) -> bool {
        self.shows(fact.number, fact.author)
    }
}

/// Every entry that a log ever had, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    pub(super) facts: Vec<Fact>,
    pub(super) numbers: BTreeSet<u64>,
}

impl Past {
    /// Whether somebody who was there is in this past.
    pub(super) fn has(&self, mark: Mark) -> bool {
        mark == Mark::START || self.at(mark).is_some()
    }

    pub(super) fn at(&self, mark: Mark) -> Option<&Fact> {
        let place = self.facts.binary_search_by_key(&mark.offset, |fact| fact.mark.offset).ok()?;
        self.facts.get(place).filter(|fact| fact.mark == mark)
    }

    /// Those after this offset.
    pub(super) fn after(&self, mark: Mark) -> &[Fact] {
        &self.facts[self.facts.partition_point(|fact| fact.mark.offset <= mark.offset)..]
    }
}

/// What a server knows of its logs in one of its runs: what a disk has lost is not in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disks {
    pub(super) pasts: BTreeMap<LogEpoch, Past>,
    /// The epochs that each channel had, in their order.
    pub(super) epochs: [Vec<LogEpoch>; MOST_CHANNELS],
}

impl Disks {
    pub(super) fn past(&self, epoch: LogEpoch) -> Option<&Past> {
        self.pasts.get(&epoch)
    }

    /// Whether the channel ever had another log than this one.
    pub(super) fn had_another(&self, channel: usize, epoch: LogEpoch) -> bool {
        self.epochs[channel].iter().any(|other| *other != epoch)
    }
}
