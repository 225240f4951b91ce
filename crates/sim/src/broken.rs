//! A promise that did not hold.

use std::fmt;

/// What did not hold, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The invariant's number in `docs/SIMULATION.md`.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
    /// When, in milliseconds of the world's time.
    pub at: u64,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {} ms: {}", self.invariant, self.at, self.detail)
    }
}

impl std::error::Error for Broken {}

/// Leaves the function with a [`Broken`] where a condition does not hold.
macro_rules! hold {
    ($condition:expr, $invariant:literal, $($detail:tt)*) => {
        if !$condition {
            return Err(crate::broken::Broken { invariant: $invariant, detail: format!($($detail)*), at: 0 });
        }
    };
}

pub(crate) use hold;

/// What every step of the world gives.
pub(crate) type Held = Result<(), Broken>;
