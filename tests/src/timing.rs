//! Whether two things take a time that tells them apart, on a machine that does other things as well.
//!
//! As in O. Reparaz, J. Balasch and I. Verbauwhede, "Dude, is my code constant time?", 2017: both are measured in turns that
//! a coin decides, so that whatever the machine does meets both, and their means are compared by Welch's t. What took very
//! long says more of interruptions than of what was measured, so the same is done again with less and less of the long
//! times, and the largest t of these is the one that counts. Beyond 10 nothing but a difference explains it.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// From this |t| on two things differ.
pub const DIFFERS: f64 = 10.0;

/// Which part of all times is looked at, the shortest first.
const PARTS: [f64; 4] = [1.0, 0.95, 0.75, 0.5];

/// What came of a comparison of one thing with another.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// Welch's t: above zero when the first takes longer. It grows with the root of the number of samples, if there is a
    /// difference.
    pub t: f64,
    /// How much longer the median of the first is than that of the other, as a part of the latter.
    pub longer: f64,
    /// The median of the other, in nanoseconds.
    pub median: f64,
    /// How often both were measured together.
    pub samples: usize,
}

impl Comparison {
    /// Measures both. `measure` is told which, does everything that is not to be measured, and gives the time of the rest.
    pub fn of(samples: usize, seed: u64, mut measure: impl FnMut(bool) -> Duration) -> Self {
        // The first of everything finds caches and branches cold.
        for warming in 0..samples / 10 + 2 {
            measure(warming % 2 == 0);
        }
        let mut coin = seed | 1;
        let mut times = Vec::with_capacity(samples);
        for _ in 0..samples {
            // Xorshift (G. Marsaglia, 2003).
            coin ^= coin << 13;
            coin ^= coin >> 7;
            coin ^= coin << 17;
            let first = coin >> 63 == 1;
            times.push((measure(first).as_nanos() as f64, first));
        }
        times.sort_by(|one, other| one.0.total_cmp(&other.0));
        let [first, other] = [true, false].map(|which| median(&times, which));
        let t = PARTS.map(|part| welch(&times[..(samples as f64 * part) as usize]));
        let t = t.into_iter().max_by(|one, other| one.abs().total_cmp(&other.abs())).unwrap_or_default();
        Self { t, longer: first / other - 1.0, median: other, samples }
    }

    /// Whether the two differ.
    pub fn differs(&self) -> bool {
        self.t.abs() > DIFFERS
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { t, longer, median, samples } = self;
        write!(formatter, "t = {t:+.1}, {:+.2} % of {median:.0} ns, {samples} samples", 100.0 * longer)
    }
}

/// The time of so many runs, for what is too short to be measured once.
pub fn time<T>(runs: usize, mut run: impl FnMut() -> T) -> Duration {
    let began = Instant::now();
    for _ in 0..runs {
        std::hint::black_box(run());
    }
    began.elapsed()
}

fn of(times: &[(f64, bool)], which: bool) -> impl Iterator<Item = f64> + Clone {
    times.iter().filter(move |(_, first)| *first == which).map(|(time, _)| *time)
}

fn median(sorted: &[(f64, bool)], which: bool) -> f64 {
    let count = of(sorted, which).count();
    of(sorted, which).nth(count / 2).unwrap_or_default()
}

/// B. L. Welch, "The generalization of Student's problem when several different population variances are involved", 1947.
fn welch(times: &[(f64, bool)]) -> f64 {
    let part = |which| {
        let count = of(times, which).count() as f64;
        let mean = of(times, which).sum::<f64>() / count;
        let variance = of(times, which).map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((first, of_first), (other, of_other)) = (part(true), part(false));
    let t = (first - other) / (of_first + of_other).sqrt();
    if t.is_finite() { t } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 90 to 109 ns, and now and then a thousand times that, whichever is measured.
    fn noisy(offset: u64) -> impl FnMut(bool) -> Duration {
        let mut turn = 0_u64;
        move |first| {
            turn += 1;
            let noise = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let time = 90 + noise % 20 + if first { offset } else { 0 };
            Duration::from_nanos(if noise.is_multiple_of(97) { 1_000 * time } else { time })
        }
    }

    #[test]
    fn a_small_difference_is_found_below_large_noise_and_none_where_there_is_none() {
        let found = Comparison::of(10_000, 7, noisy(2));
        assert!(found.differs() && found.t > 0.0 && found.longer > 0.0, "{found}");
        let none = Comparison::of(10_000, 7, noisy(0));
        assert!(!none.differs(), "{none}");
    }

    #[test]
    fn nothing_that_can_be_measured_is_no_difference() {
        assert!(!Comparison::of(100, 7, |_| Duration::ZERO).differs());
        assert!(!Comparison::of(1, 7, |_| Duration::ZERO).differs());
    }
}
