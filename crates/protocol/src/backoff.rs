//! How long to wait before the next try: exponential back-off with full jitter.
//!
//! The algorithm is "full jitter" of M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).

use std::time::Duration;

use crate::entropy::Entropy;

/// Bounds of the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// The largest first wait; it doubles with every failure.
    pub base: Duration,
    /// The largest wait of all.
    pub cap: Duration,
    /// How long a connection must hold before the next loss counts as the first again.
    pub stable: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { base: Duration::from_millis(200), cap: Duration::from_secs(20), stable: Duration::from_secs(10) }
    }
}

/// Counts failures and draws waits.
#[derive(Debug)]
pub(crate) struct Backoff {
    config: BackoffConfig,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(config: BackoffConfig) -> Self {
        Self { config, failures: 0 }
    }

    /// The wait after one more failure: anything from nothing to the bound, all equally likely.
    pub(crate) fn next(&mut self, entropy: &mut Entropy) -> Duration {
        let bound = self.config.base.saturating_mul(1 << self.failures.min(20)).min(self.config.cap);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(entropy.up_to(u64::try_from(bound.as_millis()).unwrap_or(u64::MAX)))
    }

    /// A connection ended that had held for `held`.
    pub(crate) fn ended_after(&mut self, held: Duration) {
        if held >= self.config.stable {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_begin_anew_after_a_stable_connection() {
        let mut entropy = Entropy::new([5; 32]);
        let mut backoff = Backoff::new(BackoffConfig::default());
        for failure in 0..40u32 {
            let bound = Duration::from_millis(200 * (1 << failure.min(7))).min(Duration::from_secs(20));
            assert!(backoff.next(&mut entropy) <= bound);
        }
        backoff.ended_after(Duration::from_secs(9));
        assert_eq!(backoff.failures, 40);
        backoff.ended_after(Duration::from_secs(10));
        assert!(backoff.next(&mut entropy) <= Duration::from_millis(200));
    }
}
