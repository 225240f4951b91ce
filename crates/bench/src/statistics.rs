//! Medians and percentiles.

/// The value below which this part of all lies, by the nearest rank; `None` when there is none.
pub(crate) fn percentile<T: Copy + PartialOrd>(values: &mut [T], part: f64) -> Option<T> {
    values.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let rank = (part * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// The middle one; `None` when there is none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    percentile(&mut values.into_iter().collect::<Vec<_>>(), 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut values: Vec<u32> = (1..=200).rev().collect();
        assert_eq!(percentile(&mut values, 0.5), Some(100));
        assert_eq!(percentile(&mut values, 0.99), Some(198));
        assert_eq!(percentile(&mut values, 1.0), Some(200));
        assert_eq!(percentile(&mut [7], 0.0), Some(7));
    }

    #[test]
    fn the_median_is_not_moved_by_an_outlier() {
        assert_eq!(median([1.0, 900.0, 2.0]), Some(2.0));
        assert_eq!(median([]), None);
    }
}
