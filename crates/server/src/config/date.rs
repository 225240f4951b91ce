//! Moments in UTC, as RFC 3339 writes them: `2027-01-31` or `2027-01-31T12:00:00Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The moment that a text means: of a date alone its very beginning. From 1970 to 9999, without parts of a second and
/// without other time zones.
pub(super) fn moment(text: &str) -> Option<SystemTime> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, time.strip_suffix(['Z', 'z'])?),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before: u64 = lengths.get(..usize::try_from(month).ok()?.checked_sub(1)?)?.iter().sum();
    let length = *lengths.get(usize::try_from(month).ok()? - 1)?;
    let valid = year >= 1970 && (1..=length).contains(&day) && hour < 24 && minute < 60 && second < 60;
    // Leap days of all years before this one.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let days = || (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + day - 1;
    valid.then(|| UNIX_EPOCH + Duration::from_secs(((days() * 24 + hour) * 60 + minute) * 60 + second))
}

/// Three numbers of these many digits, with this between them.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut number = |digits: usize| {
        let part = parts.next()?;
        (part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let numbers = [number(digits[0])?, number(digits[1])?, number(digits[2])?];
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those of `date -u -d … +%s`.
    #[test]
    fn a_moment_is_that_of_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:01Z", 1),
            ("2000-02-29", 951_782_400),
            ("2000-03-01", 951_868_800),
            ("2026-12-31T23:59:59Z", 1_798_761_599),
            ("2027-01-31 12:00:00Z", 1_801_396_800),
            ("2100-03-01", 4_107_542_400),
            ("9999-12-31t23:59:59z", 253_402_300_799),
        ] {
            assert_eq!(moment(text), Some(UNIX_EPOCH + Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_no_calendar_has_is_refused() {
        for text in [
            "",
            "2027",
            "2027-13-01",
            "2027-00-01",
            "2027-02-29",
            "2100-02-29",
            "2027-04-31",
            "2027-01-00",
            "1969-12-31",
            "2027-1-31",
            "2027-01-31T12:00:00",
            "2027-01-31T12:00:00+01:00",
            "2027-01-31T24:00:00Z",
            "2027-01-31T12:00:60Z",
            "2027-01-31T12:00:00.5Z",
            "+027-01-31",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
