//! How fast one client sends: at first it is warned, and when it goes on it is parted from.

use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;
use crate::{config::LimitsSection, metrics::Limited, rate::Rate};

/// What a client may send at once after it was quiet, in seconds of its rate: a page that opens, a file that is dropped.
const BURST: Duration = Duration::from_secs(5);

/// How long it may go on after it is warned, and the least time between two warnings.
const GRACE: Duration = Duration::from_secs(3);

/// What is to be done about a client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Fine,
    /// It is to be told.
    Warn(Limited),
    /// It has gone on. Not before this time is over has it paid back what it took.
    Part(Limited, Duration),
}

/// The pace of one session's client. It goes on over its connections: whoever comes back has not become quiet by that.
pub(crate) struct Pace {
    messages: Option<(Rate, Bucket)>,
    bytes: Option<(Rate, Bucket)>,
    over: Option<Instant>,
    warned: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(limits: &LimitsSection, now: Instant) -> Self {
        let bucket = |count| {
            let rate = Rate::new(count, Duration::from_secs(1), BURST)?;
            Some((rate, Bucket::full(rate, now)))
        };
        Self {
            messages: bucket(limits.messages_per_second),
            bytes: bucket(limits.bytes_per_second),
            over: None,
            warned: None,
        }
    }

    /// So much came.
    pub(crate) fn take(&mut self, messages: usize, bytes: usize, now: Instant) -> Verdict {
        let overdrawn = |bucket: &mut Option<(Rate, Bucket)>, amount: usize| {
            let (rate, bucket) = bucket.as_mut()?;
            (!bucket.overdraw(*rate, amount as f64, now)).then(|| bucket.wait(*rate))
        };
        let messages = overdrawn(&mut self.messages, messages).map(|wait| (wait, Limited::Messages));
        let bytes = overdrawn(&mut self.bytes, bytes).map(|wait| (wait, Limited::Bytes));
        let worse = messages.into_iter().chain(bytes).max_by_key(|(wait, _)| *wait);
        let Some((wait, limit)) = worse else {
            self.over = None;
            return Verdict::Fine;
        };
        let since = *self.over.get_or_insert(now);
        if now.saturating_duration_since(since) >= GRACE {
            self.over = None;
            Verdict::Part(limit, wait)
        } else if self.warned.is_none_or(|warned| now.saturating_duration_since(warned) >= GRACE) {
            self.warned = Some(now);
            Verdict::Warn(limit)
        } else {
            Verdict::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(messages: usize, bytes: usize, now: Instant) -> Pace {
        let limits =
            LimitsSection { messages_per_second: messages, bytes_per_second: bytes, ..LimitsSection::default() };
        Pace::new(&limits, now)
    }

    #[test]
    fn who_goes_on_is_warned_once_and_then_parted_from() {
        let start = Instant::now();
        let mut pace = pace(10, 0, start);
        let mut verdicts = Vec::new();
        for tenth in 0..=42 {
            let verdict = pace.take(5, 1 << 30, start + Duration::from_millis(100 * tenth));
            if verdict != Verdict::Fine {
                verdicts.push((tenth, verdict));
            }
        }
        // 50 at once, then 5 for each one that comes back: at 1.2 s it is empty.
        let [(12, Verdict::Warn(Limited::Messages)), (42, Verdict::Part(Limited::Messages, wait))] = verdicts[..]
        else {
            panic!("{verdicts:?}")
        };
        // The debt ends where it would be more than a burst.
        assert!(wait <= BURST + Duration::from_millis(200), "{wait:?}");
    }

    #[test]
    fn who_slows_down_is_left_alone_and_whoever_waits_as_told_is_not_over() {
        let start = Instant::now();
        let mut pace = pace(0, 1_000, start);
        assert_eq!(pace.take(1, 5_001, start), Verdict::Warn(Limited::Bytes));
        let calm = start + Duration::from_secs(1);
        assert_eq!(pace.take(1, 0, calm), Verdict::Fine);
        assert_eq!(pace.take(1, 900, start + Duration::from_secs(9)), Verdict::Fine);
        // No second warning right after the first, however often the limit is crossed.
        let mut pace = self::pace(10, 0, start);
        assert_eq!(pace.take(51, 0, start), Verdict::Warn(Limited::Messages));
        assert_eq!(pace.take(0, 0, start + Duration::from_millis(200)), Verdict::Fine);
        assert_eq!(pace.take(9, 0, start + Duration::from_millis(300)), Verdict::Fine);
    }

    #[test]
    fn no_limit_is_no_verdict() {
        let start = Instant::now();
        assert_eq!(pace(0, 0, start).take(usize::MAX, usize::MAX, start), Verdict::Fine);
    }
}
