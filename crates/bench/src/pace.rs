//! How long and how large a run is.

use std::time::Duration;

/// How long and how large a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) name: &'static str,
    /// Measured rounds of a case on each server, after one that is not counted.
    pub(crate) rounds: usize,
    /// How long a round lasts that is bounded by time.
    pub(crate) round: Duration,
    /// What a case may take until it gets no more rounds.
    pub(crate) case: Duration,
    /// The part of the sessions and connections that a case asks for.
    divisor: usize,
}

impl Pace {
    pub(crate) const QUICK: Self =
        Self { name: "quick", rounds: 9, round: Duration::from_millis(250), case: Duration::from_secs(11), divisor: 1 };
    pub(crate) const FULL: Self =
        Self { name: "full", rounds: 25, round: Duration::from_secs(1), case: Duration::from_secs(120), divisor: 1 };
    /// For the test that the bench still works.
    pub(crate) const SMOKE: Self =
        Self { name: "smoke", rounds: 1, round: Duration::from_millis(20), case: Duration::from_secs(1), divisor: 50 };

    /// How many of `count` to take; always some.
    pub(crate) fn take(&self, count: usize) -> usize {
        (count / self.divisor).max(2)
    }
}
