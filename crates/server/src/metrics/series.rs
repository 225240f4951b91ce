//! Kinds of metrics that the library does not have: a counter for each value of a closed label, and durations without a
//! lock.

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric, counter::Counter},
};

use super::label::Label;

/// A counter for each value of a label, found by its place.
pub(super) struct Split<L> {
    counters: Arc<[(&'static str, Counter)]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Split<L> {
    pub(super) fn of(&self, value: L) -> &Counter {
        &self.counters[value.place()].1
    }
}

impl<L: Label> Default for Split<L> {
    fn default() -> Self {
        let counters = L::values().into_iter().map(|value| (value, Counter::default())).collect();
        Self { counters, label: PhantomData }
    }
}

// Derived, these would ask the same of the label.
impl<L> Clone for Split<L> {
    fn clone(&self) -> Self {
        Self { counters: self.counters.clone(), label: PhantomData }
    }
}

impl<L> fmt::Debug for Split<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counters.fmt(formatter)
    }
}

impl<L: Label> EncodeMetric for Split<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.counters
            .iter()
            .try_for_each(|(value, counter)| counter.encode(encoder.encode_family(&[(L::NAME, *value)])?))
    }

    fn metric_type(&self) -> MetricType {
        Counter::<u64>::TYPE
    }
}

/// The upper ends of the buckets, in seconds: from a handler that only computes to the end of the usual patience.
const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A histogram of durations. The library's own takes a lock for every value.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Those within each bound and above the one before it; the last is for what is above all.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Durations {
    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.0.counts[place].fetch_add(1, Relaxed);
        self.0.nanos.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.0.counts.iter().map(|count| count.load(Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let sum = Duration::from_nanos(self.0.nanos.load(Relaxed)).as_secs_f64();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A moment, in seconds since 1970; there is no such number until it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment(Arc<OnceLock<AtomicI64>>);

impl Moment {
    pub(super) fn set(&self, moment: SystemTime) {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.0.get_or_init(AtomicI64::default).store(seconds, Relaxed);
    }
}

impl EncodeMetric for Moment {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.get().map_or(Ok(()), |seconds| encoder.encode_gauge(&seconds.load(Relaxed)))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn a_moment_is_a_number_once_it_is_known() -> fmt::Result {
        let (moment, mut registry) = (Moment::default(), Registry::default());
        registry.register("t", "Of t", moment.clone());
        let text = |registry: &Registry| {
            let mut text = String::new();
            encode(&mut text, registry).map(|()| text)
        };
        assert_eq!(text(&registry)?, "# EOF\n");
        for seconds in [1_800_000_000, 1_700_000_000] {
            moment.set(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(text(&registry)?, format!("# HELP t Of t.\n# TYPE t gauge\nt {seconds}\n# EOF\n"));
        }
        Ok(())
    }

    #[test]
    fn a_duration_is_in_the_bucket_of_its_bound_and_in_all_above() -> fmt::Result {
        let durations = Durations::default();
        for micros in [500, 501, 60_000_000] {
            durations.observe(Duration::from_micros(micros));
        }
        let mut registry = Registry::default();
        registry.register("t", "Of t", durations);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        for line in [
            "t_sum 60.001001",
            "t_count 3",
            "t_bucket{le=\"0.0005\"} 1",
            "t_bucket{le=\"0.001\"} 2",
            "t_bucket{le=\"10.0\"} 2",
            "t_bucket{le=\"+Inf\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        Ok(())
    }
}
