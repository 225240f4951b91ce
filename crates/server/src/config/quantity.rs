//! Numbers with a unit: `"120s"`, `"64KiB"`. A number without one is refused, because nobody remembers which was meant.

use std::{ops::RangeInclusive, time::Duration};

use super::problem::{Problem, Quantity, units};
use crate::rate::{Rate, per_minute, per_second};

/// From a millisecond to a year: no deadline is never, and none overflows a clock.
const DURATION_RANGE: RangeInclusive<u64> = 1..=365 * 86_400_000;

/// How often, from its text: `"5/s"` or `"60/m"`.
pub(super) fn rate(text: &str) -> Option<Rate> {
    let (times, unit) = text.split_once('/')?;
    let times = times.bytes().all(|byte| byte.is_ascii_digit()).then(|| times.parse().ok()).flatten()?;
    match unit {
        "s" => Some(per_second(times)),
        "m" => Some(per_minute(times)),
        _ => None,
    }
    .filter(|rate| !rate.is_never())
}

/// A duration from its text.
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let wanted = "a duration such as \"25s\"";
    let millis = measured(text, Quantity::Duration, wanted)?;
    in_range(millis, Quantity::Duration, &DURATION_RANGE).map(Duration::from_millis)
}

/// A number of bytes from its text.
pub(super) fn size(text: &str, range: &RangeInclusive<usize>) -> Result<usize, Problem> {
    let bytes = measured(text, Quantity::Size, "a size such as \"64KiB\"")?;
    count(bytes, Quantity::Size, range)
}

/// A number within its range.
pub(super) fn count(number: u64, quantity: Quantity, range: &RangeInclusive<usize>) -> Result<usize, Problem> {
    let range = *range.start() as u64..=*range.end() as u64;
    let number = in_range(number, quantity, &range)?;
    usize::try_from(number).map_err(|_| Problem::OutOfRange { quantity, least: *range.start(), most: *range.end() })
}

fn in_range(number: u64, quantity: Quantity, range: &RangeInclusive<u64>) -> Result<u64, Problem> {
    let error = Problem::OutOfRange { quantity, least: *range.start(), most: *range.end() };
    if range.contains(&number) { Ok(number) } else { Err(error) }
}

fn measured(text: &str, quantity: Quantity, wanted: &'static str) -> Result<u64, Problem> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    let number: u64 = number.parse().map_err(|_| Problem::Wanted { wanted, found: text.to_owned() })?;
    if unit.is_empty() {
        return Err(Problem::UnitMissing { quantity, number });
    }
    let known = units(quantity).iter().find(|(name, _)| *name == unit);
    let (_, size) = known.ok_or_else(|| Problem::UnknownUnit { quantity, unit: unit.to_owned() })?;
    // What overflows is out of every range.
    Ok(number.saturating_mul(*size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, millis) in
            [("500ms", 500), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000), ("7d", 604_800_000), (" 5 s ", 5_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, bytes) in [("100B", 100), ("64KiB", 65_536), ("1MiB", 1_048_576), ("1GiB", 1_073_741_824)] {
            assert_eq!(size(text, &(0..=usize::MAX)), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_bare_number_names_the_unit_it_wants() {
        let text = duration("25").map_err(|problem| problem.to_string());
        assert_eq!(text, Err("a duration needs its unit: write \"25s\" (units: ms, s, m, h, d)".to_owned()));
        let text = size("65536", &(0..=usize::MAX)).map_err(|problem| problem.to_string());
        assert_eq!(text, Err("a size needs its unit: write \"65536B\" (units: B, KiB, MiB, GiB)".to_owned()));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "s", "-5s", "1.5s", "five seconds"] {
            assert!(matches!(duration(text), Err(Problem::Wanted { .. } | Problem::UnknownUnit { .. })), "{text}");
        }
        assert!(matches!(size("1MB", &(0..=9)), Err(Problem::UnknownUnit { .. })));
        assert!(matches!(duration("0s"), Err(Problem::OutOfRange { .. })));
        assert!(matches!(duration("18446744073709551615d"), Err(Problem::OutOfRange { .. })));
        let text = size("0B", &(1..=64_495)).map_err(|problem| problem.to_string());
        assert_eq!(text, Err("must be from 1B to 64495B".to_owned()));
    }
}
