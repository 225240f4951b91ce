//! What is wrong with a value, and what would do.

use std::fmt;

use moorline_protocol::{scope::InvalidScope, url::InvalidUrl};

use super::{network::InvalidNetwork, origin::InvalidOrigin};

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is of another type.
    WrongType {
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// It must be something else, such as the example.
    Wanted {
        /// What it must be, with an example.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
    /// A number stands there without a unit.
    UnitMissing {
        /// What is wanted.
        quantity: Quantity,
        /// The number.
        number: u64,
    },
    /// The unit is not one of ours.
    UnknownUnit {
        /// What is wanted.
        quantity: Quantity,
        /// The unit.
        unit: String,
    },
    /// It is too small or too large.
    OutOfRange {
        /// What it counts.
        quantity: Quantity,
        /// The least that is taken.
        least: u64,
        /// The most that is taken.
        most: u64,
    },
    /// It is none of the words that are taken.
    UnknownWord {
        /// The word.
        found: String,
        /// Those that are taken.
        choices: &'static [&'static str],
    },
    /// A list must have an element.
    EmptyList,
    /// It is no URL of an endpoint.
    Url {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: InvalidUrl,
    },
    /// It is no origin of a page.
    Origin {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: InvalidOrigin,
    },
    /// It is no scope.
    Scope {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: InvalidScope,
    },
    /// It is no network.
    Network {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: InvalidNetwork,
    },
}

/// What kind of number a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quantity {
    /// A number without a unit.
    Count,
    /// Bytes.
    Size,
    /// Time, in milliseconds.
    Duration,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType { wanted, found } => write!(formatter, "must be {wanted}, not {found}"),
            Self::Wanted { wanted, found } => write!(formatter, "must be {wanted}, not {found:?}"),
            Self::UnitMissing { quantity, number } => {
                let (what, units, first) = describe(*quantity);
                write!(formatter, "{what} needs its unit: write \"{number}{first}\" (units: {units})")
            }
            Self::UnknownUnit { quantity, unit } => {
                let (_, units, _) = describe(*quantity);
                write!(formatter, "the unit {unit:?} is not known (units: {units})")
            }
            Self::OutOfRange { quantity, least, most } => {
                write!(formatter, "must be from {} to {}", Amount(*quantity, *least), Amount(*quantity, *most))
            }
            Self::UnknownWord { found, choices } => {
                write!(formatter, "must be {}, not {found:?}", one_of(choices))?;
                match nearest(found, choices.iter().map(|choice| (*choice, *choice))) {
                    Some(choice) => write!(formatter, "; did you mean {choice:?}?"),
                    None => Ok(()),
                }
            }
            Self::EmptyList => formatter.write_str("must have at least one element"),
            Self::Url { text, error } => write!(formatter, "{text:?} does not do: {error}"),
            Self::Origin { text, error } => write!(formatter, "{text:?} does not do: {error}"),
            Self::Scope { text, error } => write!(formatter, "{text:?} does not do: {error}"),
            Self::Network { text, error } => write!(formatter, "{text:?} does not do: {error}"),
        }
    }
}

pub(super) type Units = &'static [(&'static str, u64)];

const DURATIONS: Units = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: Units = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// The units of a quantity, each with how many of the smallest it is.
pub(super) fn units(quantity: Quantity) -> Units {
    match quantity {
        Quantity::Count => &[("", 1)],
        Quantity::Size => SIZES,
        Quantity::Duration => DURATIONS,
    }
}

/// For messages: the quantity with its article, its units, and the unit a bare number most likely meant.
fn describe(quantity: Quantity) -> (&'static str, String, &'static str) {
    let names = units(quantity).iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    match quantity {
        Quantity::Count => ("a number", names, ""),
        Quantity::Size => ("a size", names, "B"),
        Quantity::Duration => ("a duration", names, "s"),
    }
}

/// A number with the largest unit that divides it.
struct Amount(Quantity, u64);

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, size): &&(&str, u64)| self.1 != 0 && self.1.is_multiple_of(*size);
        let (unit, size) = units(self.0).iter().rev().find(fits).unwrap_or(&units(self.0)[0]);
        write!(formatter, "{}{unit}", self.1 / size)
    }
}

/// `"a", "b" or "c"`.
fn one_of(choices: &[&str]) -> String {
    let quoted: Vec<String> = choices.iter().map(|choice| format!("{choice:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// The candidate whose text is closest, if it is close enough that somebody may have meant it.
pub(super) fn nearest<'a, T>(text: &str, candidates: impl IntoIterator<Item = (&'a str, T)>) -> Option<T> {
    let text = text.to_lowercase();
    let most = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|(candidate, value)| {
            let candidate = candidate.to_lowercase();
            (strsim::damerau_levenshtein(&text, &candidate), strsim::jaro_winkler(&text, &candidate), value)
        })
        .filter(|(distance, ..)| *distance <= most)
        // As many letters away is not as like: `of` was `off`, not `on`.
        .min_by(|(a, like_a, _), (b, like_b, _)| a.cmp(b).then(like_b.total_cmp(like_a)))
        .map(|(.., value)| value)
}
