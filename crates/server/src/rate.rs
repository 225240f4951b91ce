//! How often something may be.

use std::time::Duration;

/// How often something may be: so many a second, and so many at once by whoever has been quiet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub(crate) a_second: f64,
    pub(crate) at_once: f64,
}

impl Rate {
    /// `None` for a count of 0: no limit.
    pub(crate) fn new(count: usize, per: Duration, burst: Duration) -> Option<Self> {
        let a_second = count as f64 / per.as_secs_f64();
        (count > 0).then(|| Self { a_second, at_once: (a_second * burst.as_secs_f64()).max(1.0) })
    }

    /// Whether nothing may ever come.
    pub(crate) fn is_never(self) -> bool {
        self.a_second == 0.0
    }

    /// How many there are at most.
    pub(crate) fn at_once(self) -> usize {
        self.at_once as usize
    }

    /// How long an empty bucket takes to be full.
    pub(crate) fn fills_in(self) -> Duration {
        Duration::try_from_secs_f64(self.at_once / self.a_second).unwrap_or(Duration::MAX)
    }
}

/// So many times in a second, and at once.
pub fn per_second(times: u32) -> Rate {
    Rate { a_second: f64::from(times), at_once: f64::from(times) }
}

/// So many times in a minute, and at once.
pub fn per_minute(times: u32) -> Rate {
    Rate { a_second: f64::from(times) / 60.0, at_once: f64::from(times) }
}
