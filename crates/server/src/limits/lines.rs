//! Lines of a log that others cause: so many and no more, and how many were left out.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::bucket::Bucket;
use crate::rate::Rate;

/// How many lines of one kind there may be. Whoever causes them must not fill a disk.
pub(crate) struct Lines(Mutex<(Option<(Rate, Bucket)>, u64)>);

impl Lines {
    /// So many in this time, and at once.
    pub(crate) fn new(count: usize, per: Duration, now: Instant) -> Self {
        let rate = Rate::new(count, per, per);
        Self(Mutex::new((rate.map(|rate| (rate, Bucket::full(rate, now))), 0)))
    }

    /// Whether there is to be a line, and how many were left out since the last.
    pub(crate) fn next(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, left_out) = &mut *state;
        let has_room = bucket.as_mut().is_none_or(|(rate, bucket)| bucket.take(*rate, now));
        if has_room {
            return Some(std::mem::take(left_out));
        }
        *left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_those_that_may_be_are_counted() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let lines = Lines::new(20, second, now);
        assert_eq!((0..1_000).filter_map(|_| lines.next(now)).collect::<Vec<_>>(), [0; 20]);
        assert_eq!(lines.next(now + second), Some(980));
    }
}
