//! What the log says of strangers who get nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::{access::Denied, limits::Lines};

/// The time between two warnings of one cause.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);

/// The warnings that strangers cause: one of each in a while, with the number of those that it stands for, so that nobody
/// fills a disk by asking for what he does not get. The metrics count all.
pub(crate) struct Warnings {
    host_in_open_mode: Lines,
    proxy_in_open_mode: Lines,
    host: Lines,
    origin: Lines,
    pub(crate) full: Lines,
    /// Something that its client does not take, which says itself how much it does.
    pub(crate) too_large: Lines,
}

impl Warnings {
    pub(crate) fn new(now: Instant) -> Self {
        let lines = || Lines::new(1, BETWEEN_WARNINGS, now);
        Self {
            host_in_open_mode: lines(),
            proxy_in_open_mode: lines(),
            host: lines(),
            origin: lines(),
            full: lines(),
            too_large: lines(),
        }
    }

    pub(crate) fn of(&self, denied: Denied) -> &Lines {
        match denied {
            Denied::HostInOpenMode => &self.host_in_open_mode,
            Denied::ProxyInOpenMode => &self.proxy_in_open_mode,
            Denied::Host => &self.host,
            Denied::Origin => &self.origin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_cause_there_is_one_warning_in_a_while_that_counts_the_others() {
        let now = Instant::now();
        let warnings = Warnings::new(now);
        let told = |denied| (0..1_000).filter_map(|_| warnings.of(denied).next(now)).collect::<Vec<_>>();
        for denied in [Denied::HostInOpenMode, Denied::ProxyInOpenMode, Denied::Host, Denied::Origin] {
            assert_eq!(told(denied), [0], "{denied:?}");
        }
        assert_eq!(warnings.of(Denied::Origin).next(now + BETWEEN_WARNINGS), Some(999));
    }
}
