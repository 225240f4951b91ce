//! Token buckets: how much of something may come in a time, alone and by key. Pure: the time is an argument.
//!
//! Not `governor`: it refuses more than a whole burst at once where bytes must be taken however many came; its keyed
//! store has no bound but what is swept from time to time; and a bucket cannot be asked without taking from it.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

use crate::rate::Rate;

/// One bucket. It is full at first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Below zero when more came than was there.
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.at_once, at: now }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = rate.at_once.min(self.left + passed * rate.a_second);
        self.at = self.at.max(now);
    }

    /// Whether there is one, without taking it.
    pub(crate) fn has_one(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.left >= 1.0
    }

    /// How many there are.
    pub(crate) fn left(&mut self, rate: Rate, now: Instant) -> usize {
        self.fill(rate, now);
        self.left.max(0.0) as usize
    }

    /// Whether nothing was taken of late.
    pub(crate) fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.left >= rate.at_once
    }

    /// Takes one if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let has_one = self.has_one(rate, now);
        self.left -= if has_one { 1.0 } else { 0.0 };
        has_one
    }

    /// Takes what came already, however much: the debt is at most a burst, so that it is over at some time. Says whether
    /// it was there.
    pub(crate) fn overdraw(&mut self, rate: Rate, amount: f64, now: Instant) -> bool {
        self.fill(rate, now);
        self.left = (self.left - amount).max(-rate.at_once);
        self.left >= 0.0
    }

    /// How long until there is one.
    pub(crate) fn wait(&self, rate: Rate) -> Duration {
        Duration::try_from_secs_f64((1.0 - self.left).max(0.0) / rate.a_second).unwrap_or(Duration::MAX)
    }
}

/// A bucket for each key. Of two generations the older is dropped when a new one begins: when all of it had the time to
/// be full again, so that nothing is forgotten that mattered, or when the newer has as many keys as there may be.
/// Whoever commands so many addresses gains nothing by the latter that they did not give him before.
pub(crate) struct Buckets<K> {
    rate: Rate,
    most: usize,
    newer: HashMap<K, Bucket>,
    older: HashMap<K, Bucket>,
    since: Option<Instant>,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    /// At most twice `most` keys are kept.
    pub(crate) fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, newer: HashMap::new(), older: HashMap::new(), since: None }
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// The bucket of this key, if it was taken from of late.
    pub(crate) fn find(&mut self, key: &K, now: Instant) -> Option<&mut Bucket> {
        self.turn(now);
        // In this order, so that one that is in both is the newer.
        match self.newer.get_mut(key) {
            Some(bucket) => Some(bucket),
            None => self.older.get_mut(key),
        }
    }

    /// The bucket of this key, to take from.
    pub(crate) fn of(&mut self, key: &K, now: Instant) -> &mut Bucket {
        self.turn(now);
        let known = self.older.remove(key);
        if self.newer.len() >= self.most && !self.newer.contains_key(key) {
            self.age(now);
        }
        let rate = self.rate;
        self.newer.entry(key.clone()).or_insert_with(|| known.unwrap_or_else(|| Bucket::full(rate, now)))
    }

    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.rate.fills_in() {
            self.age(now);
        }
    }

    fn age(&mut self, now: Instant) {
        self.older = std::mem::take(&mut self.newer);
        self.since = Some(now);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(count: usize, burst: u64) -> Rate {
        Rate::new(count, SECOND, Duration::from_secs(burst)).expect("a limit")
    }

    #[test]
    fn a_burst_comes_at_once_and_then_so_many_a_second() {
        let (start, rate) = (Instant::now(), rate(10, 3));
        let mut bucket = Bucket::full(rate, start);
        let mut taken = |after: u64| {
            let now = start + Duration::from_millis(after);
            (0..1_000).filter(|_| bucket.take(rate, now)).count()
        };
        assert_eq!((taken(0), taken(50), taken(1_050), taken(999_999)), (30, 0, 10, 30));
        assert_eq!(taken(0), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn what_waits_as_long_as_it_is_told_gets_one() {
        let (start, rate) = (Instant::now(), rate(3, 1));
        let mut bucket = Bucket::full(rate, start);
        while bucket.take(rate, start) {}
        let wait = bucket.wait(rate);
        assert!(!bucket.has_one(rate, start + wait / 2));
        assert!(bucket.take(rate, start + wait + Duration::from_micros(1)));
    }

    #[test]
    fn a_debt_is_at_most_a_burst() {
        let (start, rate) = (Instant::now(), rate(10, 2));
        let mut bucket = Bucket::full(rate, start);
        assert!(bucket.overdraw(rate, 20.0, start));
        assert!(!bucket.overdraw(rate, 1e12, start));
        assert!(bucket.overdraw(rate, 0.0, start + 2 * SECOND));
        assert!(bucket.is_full(rate, start + 4 * SECOND));
    }

    #[test]
    fn a_count_of_zero_is_no_limit() {
        assert_eq!(Rate::new(0, SECOND, SECOND), None);
    }

    #[test]
    fn every_key_has_a_bucket_of_its_own_and_quiet_ones_are_forgotten() {
        let start = Instant::now();
        let mut buckets = Buckets::new(rate(1, 5), 100);
        let rate = buckets.rate();
        let taken =
            |buckets: &mut Buckets<u32>, key, now| (0..99).filter(|_| buckets.of(&key, now).take(rate, now)).count();
        assert_eq!((taken(&mut buckets, 1, start), taken(&mut buckets, 2, start)), (5, 5));
        // Over a change of generations an empty bucket stays as empty as it is.
        let later = start + Duration::from_millis(5_000);
        assert_eq!(taken(&mut buckets, 1, later - Duration::from_millis(500)), 4);
        assert_eq!(taken(&mut buckets, 1, later), 1);
        assert!(buckets.find(&1, later).is_some());
        assert!(buckets.find(&1, start + 10 * SECOND).is_some() && buckets.find(&1, start + 15 * SECOND).is_none());
        assert_eq!(buckets.len(), 0);
    }

    #[test]
    fn however_many_keys_come_only_so_many_are_kept() {
        let now = Instant::now();
        let mut buckets = Buckets::new(rate(1, 60), 100);
        for key in 0..100_000 {
            buckets.of(&key, now);
            assert!(buckets.len() <= 200);
        }
    }
}
