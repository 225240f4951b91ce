//! The one pattern language: which names of calls and channels something is about.
//!
//! | piece | stands for |
//! |---|---|
//! | literal text | itself |
//! | `*` | one segment |
//! | `{name}` | one segment, which [`Pattern::captures`] gives under this name |
//! | `**`, at the end | the rest: one segment or more |
//!
//! Segments end at `:` and at `/`, in patterns and in names alike, and the two are different: `room:*` is not about
//! `room/1`. A placeholder is a whole segment: `val*`, `room-{id}` and `a/**/b` do not parse. So one walk over both
//! texts from the left decides, whatever they are, and whether one pattern takes in another is exactly known. A
//! placeholder stands for something: no name with nothing in that place matches, as `room:` does not match `room:*`.
//!
//! It must never judge who may do what: that is `scope`'s.

use std::{cmp::Ordering, fmt};

use crate::limits::MAX_PATTERN;

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPattern {
    /// It is empty.
    Empty,
    /// It is longer than [`MAX_PATTERN`].
    TooLong,
    /// Nothing stands between two separators, or at an end of the text.
    EmptySegment,
    /// A control character, which no name has.
    Character,
    /// `*`, `{` or `}` beside other text in one segment.
    PartOfSegment,
    /// `**` before the end.
    RestBeforeEnd,
    /// What stands in braces is not made of ASCII letters, digits and `_`, or is empty.
    CaptureName,
    /// Two captures have one name.
    CaptureTwice,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "a pattern is not empty; ** stands for every name",
            Self::TooLong => "a pattern has at most 200 bytes",
            Self::EmptySegment => "nothing stands before, between or behind its separators; write * for any one segment",
            Self::Character => "a pattern has no control characters",
            Self::PartOfSegment => {
                "* and {name} stand for a whole segment, between : or /, and not for a part of one; write ** for the rest"
            }
            Self::RestBeforeEnd => "** stands for the rest, so only at the end; write * for one segment",
            Self::CaptureName => "a name in braces is made of letters, digits and _",
            Self::CaptureTwice => "two places have one name in braces",
        })
    }
}

impl std::error::Error for InvalidPattern {}

/// Which names something is about. Equal are patterns of the same text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty, too long, or a placeholder is not a segment of its own.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > MAX_PATTERN {
            return Err(InvalidPattern::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidPattern::Character);
        }
        let mut walk = Walk::new(text);
        while let Some(segment) = walk.next() {
            match Piece::parse(segment.text)? {
                Piece::Rest if !walk.is_over() => return Err(InvalidPattern::RestBeforeEnd),
                Piece::Capture(name) if captures(text).filter(|other| *other == name).count() > 1 => {
                    return Err(InvalidPattern::CaptureTwice);
                }
                Piece::Literal(_) | Piece::Any | Piece::Capture(_) | Piece::Rest => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is about this name. Takes time in proportion to the shorter of the two.
    pub fn matches(&self, name: &str) -> bool {
        self.walk(name, |_, _| {})
    }

    /// What stands in this name where the pattern has `{…}`, in order; `None` when it is not about it.
    pub fn captures<'a>(&'a self, name: &'a str) -> Option<Captures<'a>> {
        let mut captures = Vec::new();
        self.walk(name, |name, value| captures.push((name, value))).then_some(Captures(captures))
    }

    /// Whether this is about every name that the other is about. It is exact: a placeholder is a whole segment, so for
    /// each place where the two differ there is a name that shows it.
    pub fn covers(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (Walk::new(&self.0), Walk::new(&other.0));
        loop {
            let (our, their) = match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(our), Some(their)) => (our, their),
            };
            if our.after != their.after {
                return false;
            }
            match (Piece::of(our.text), Piece::of(their.text)) {
                (Piece::Rest, _) => return true,
                (Piece::Any | Piece::Capture(_), Piece::Literal(_) | Piece::Any | Piece::Capture(_)) => {}
                (Piece::Literal(our), Piece::Literal(their)) if our == their => {}
                (Piece::Literal(_) | Piece::Any | Piece::Capture(_), _) => return false,
            }
        }
    }

    /// Which of two patterns says more of a name that both match: the greater one is to be taken.
    ///
    /// The first segment from the left in which they differ in kind decides: literal text before one segment (`*` and
    /// `{name}` are one kind), that before the rest. So `a/*` comes before `*/b` for `a/b`. Where nothing differs, the
    /// one with more segments is greater, which never both match; equal are only patterns that match the same names, or
    /// none in common.
    pub fn specificity(&self, other: &Self) -> Ordering {
        let (mut ours, mut theirs) = (Walk::new(&self.0), Walk::new(&other.0));
        loop {
            let rank = |segment: Segment<'_>| Piece::of(segment.text).rank();
            let order = ours.next().map(rank).cmp(&theirs.next().map(rank));
            if order != Ordering::Equal || ours.is_over() && theirs.is_over() {
                return order;
            }
        }
    }

    /// Compares with a name from the left, and tells what the captures are. They count only when it says yes.
    fn walk<'a>(&'a self, name: &'a str, mut capture: impl FnMut(&'a str, &'a str)) -> bool {
        let (mut pieces, mut segments) = (Walk::new(&self.0), Walk::new(name));
        loop {
            let rest = segments.rest;
            let (piece, segment) = match (pieces.next(), segments.next()) {
                (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(piece), Some(segment)) => (piece, segment),
            };
            if piece.after != segment.after {
                return false;
            }
            match Piece::of(piece.text) {
                Piece::Rest => return rest.is_some_and(|rest| !rest.is_empty()),
                Piece::Literal(text) if text != segment.text => return false,
                Piece::Any | Piece::Capture(_) if segment.text.is_empty() => return false,
                Piece::Capture(name) => capture(name, segment.text),
                Piece::Literal(_) | Piece::Any => {}
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::str::FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        Self::parse(text)
    }
}

/// What stands in a name where the pattern has `{…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captures<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Captures<'a> {
    /// The segment under this name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Names and segments, from the left.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}

/// What a segment of a pattern is.
enum Piece<'a> {
    Literal(&'a str),
    /// `*`
    Any,
    /// `{name}`
    Capture(&'a str),
    /// `**`
    Rest,
}

impl<'a> Piece<'a> {
    fn parse(segment: &'a str) -> Result<Self, InvalidPattern> {
        let piece = Self::of(segment);
        match piece {
            Self::Literal("") => Err(InvalidPattern::EmptySegment),
            Self::Literal(text) if text.contains(['*', '{', '}']) => Err(InvalidPattern::PartOfSegment),
            Self::Capture(name) if name.contains(['*', '{', '}']) => Err(InvalidPattern::PartOfSegment),
            Self::Capture(name) => {
                let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                if valid { Ok(piece) } else { Err(InvalidPattern::CaptureName) }
            }
            Self::Literal(_) | Self::Any | Self::Rest => Ok(piece),
        }
    }

    /// Of a segment that was parsed.
    fn of(segment: &'a str) -> Self {
        match segment {
            "*" => Self::Any,
            "**" => Self::Rest,
            _ => match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => Self::Capture(name),
                None => Self::Literal(segment),
            },
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Literal(_) => 2,
            Self::Any | Self::Capture(_) => 1,
            Self::Rest => 0,
        }
    }
}

/// A segment, and which separator it came after.
struct Segment<'a> {
    after: Option<u8>,
    text: &'a str,
}

/// From segment to segment through a name or a pattern.
struct Walk<'a> {
    after: Option<u8>,
    /// What has not been walked; `None` behind the last segment.
    rest: Option<&'a str>,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str) -> Self {
        Self { after: None, rest: Some(text) }
    }

    fn is_over(&self) -> bool {
        self.rest.is_none()
    }

    fn next(&mut self) -> Option<Segment<'a>> {
        let rest = self.rest.take()?;
        let after = self.after;
        let Some(end) = rest.find([':', '/']) else { return Some(Segment { after, text: rest }) };
        self.after = rest.as_bytes().get(end).copied();
        self.rest = rest.get(end + 1..);
        Some(Segment { after, text: &rest[..end] })
    }
}

/// The names in braces.
fn captures(text: &str) -> impl Iterator<Item = &str> {
    text.split([':', '/']).filter_map(|segment| match Piece::of(segment) {
        Piece::Capture(name) => Some(name),
        Piece::Literal(_) | Piece::Any | Piece::Rest => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Patterns of every kind.
    const PATTERNS: &[&str] = &[
        "**",
        "*",
        "a",
        "b",
        "*:*",
        "a:*",
        "*:b",
        "a:b",
        "a:**",
        "*:**",
        "a/*",
        "a/b",
        "a/**",
        "*/b",
        "a:*:c",
        "a:b:**",
        "a:*:**",
        "a:b/c",
        "*:*/*",
        "a:b:c",
        "a/b/c",
        "{x}",
        "{x}:b",
        "a:{x}",
        "a:{x}:{y}",
        "{x}/**",
    ];

    /// Every name of up to four segments that the patterns can tell apart.
    fn names() -> Vec<String> {
        let mut names: Vec<String> = ["a", "b", "c", ""].map(str::to_owned).to_vec();
        let mut longest = names.clone();
        for _ in 0..3 {
            let longer = |name: &String| {
                [":", "/"].map(|end| ["a", "b", "c", ""].map(|segment| format!("{name}{end}{segment}"))).concat()
            };
            longest = longest.iter().flat_map(longer).collect();
            names.extend_from_slice(&longest);
        }
        names
    }

    #[test]
    fn every_piece_stands_for_what_the_table_says() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("validateGame", &["validateGame"], &["validategame", "validateGame2", "validate", "validateGame:x", ""]),
            ("room:*", &["room:1", "room:*", "room:ä b"], &["room", "room:", "room:1:2", "room:1/2", "room/1", ":1"]),
            ("room:{id}", &["room:1"], &["room:", "room:1:2", "room/1"]),
            ("notes/**", &["notes/1", "notes/1/2", "notes/1:2", "notes//"], &["notes", "notes/", "notes:1", "note/1"]),
            ("**", &["a", "a:b/c", ":", "**"], &[""]),
            ("*/b/**", &["a/b/c", "a/b/c/d"], &["a/b", "a/b/", "/b/c", "a/c/c"]),
            ("a.b", &["a.b"], &["a.bc", "a", "a:b"]),
        ];
        for (text, matching, others) in cases {
            let pattern = pattern(text);
            assert_eq!(pattern.to_string(), *text);
            matching.iter().for_each(|name| assert!(pattern.matches(name), "{text} matches {name}"));
            others.iter().for_each(|name| assert!(!pattern.matches(name), "{text} does not match {name}"));
        }
    }

    #[test]
    fn a_placeholder_is_a_whole_segment_and_other_texts_do_not_parse() {
        use InvalidPattern::{
            CaptureName, CaptureTwice, Character, Empty, EmptySegment, PartOfSegment, RestBeforeEnd, TooLong,
        };
        let long = "x".repeat(MAX_PATTERN + 1);
        let cases = [
            ("", Empty),
            (&long, TooLong),
            ("room:", EmptySegment),
            (":room", EmptySegment),
            ("a//b", EmptySegment),
            ("a\nb", Character),
            ("val*", PartOfSegment),
            ("*val", PartOfSegment),
            ("***", PartOfSegment),
            ("room-{id}", PartOfSegment),
            ("{id", PartOfSegment),
            ("id}", PartOfSegment),
            ("{a}{b}", PartOfSegment),
            ("{*}", PartOfSegment),
            ("**/b", RestBeforeEnd),
            ("a/**:b", RestBeforeEnd),
            ("{}", CaptureName),
            ("{a b}", CaptureName),
            ("{a-b}", CaptureName),
            ("{a}/{a}", CaptureTwice),
        ];
        for (text, error) in cases {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        assert!(Pattern::parse(&long[1..]).is_ok());
    }

    #[test]
    fn captures_are_the_segments_under_their_names() {
        let pattern = pattern("room:{id}/{part}/*/**");
        let captures = pattern.captures("room:42/left/x/y:z");
        let captures = captures.as_ref();
        assert_eq!(captures.and_then(|captures| captures.get("id")), Some("42"));
        assert_eq!(captures.and_then(|captures| captures.get("part")), Some("left"));
        assert_eq!(captures.map(|captures| captures.iter().count()), Some(2));
        assert_eq!(captures.and_then(|captures| captures.get("x")), None);
        assert_eq!(pattern.captures("room:42/left/x"), None);
    }

    #[test]
    fn a_pattern_covers_another_only_when_it_matches_whatever_that_does() {
        let names = names();
        for ours in PATTERNS {
            for theirs in PATTERNS {
                let (ours, theirs) = (pattern(ours), pattern(theirs));
                let counterexample = names.iter().find(|name| theirs.matches(name) && !ours.matches(name));
                assert_eq!(ours.covers(&theirs), counterexample.is_none(), "{ours} {theirs} {counterexample:?}");
            }
        }
    }

    #[test]
    fn of_two_patterns_that_match_one_name_one_is_more_specific_unless_they_match_the_same() {
        let names = names();
        for ours in PATTERNS {
            for theirs in PATTERNS {
                let (ours, theirs) = (pattern(ours), pattern(theirs));
                let order = ours.specificity(&theirs);
                assert_eq!(order, theirs.specificity(&ours).reverse(), "{ours} {theirs}");
                let same = ours.covers(&theirs) && theirs.covers(&ours);
                if names.iter().any(|name| ours.matches(name) && theirs.matches(name)) {
                    assert_eq!(order == Ordering::Equal, same, "{ours} {theirs}");
                }
                if ours.covers(&theirs) && !same {
                    assert_eq!(order, Ordering::Less, "{ours} covers {theirs}");
                }
            }
        }
        assert_eq!(pattern("a/*").specificity(&pattern("*/b")), Ordering::Greater, "the left comes first");
    }

    #[test]
    fn the_examples_of_the_documentation_are_true() {
        let text = include_str!("../../../docs/AUTH.md");
        let block = |name: &str| {
            let start = text.find(&format!("```{name}\n")).unwrap_or_else(|| panic!("no {name}"));
            text[start..].split("```").nth(1).unwrap_or_default().trim_start_matches(name)
        };
        let mut lines = block("pattern").trim().lines();
        let head = lines.next().unwrap_or_default();
        let columns = |line: &'static str| {
            let at = |column: &str| head.find(column).unwrap_or_default().min(line.len());
            (line[..at("yes")].trim(), &line[at("yes")..at("no")], &line[at("no")..])
        };
        let mut examples = 0;
        for (text, matching, others) in lines.map(columns) {
            let pattern = pattern(text);
            matching.split_whitespace().for_each(|name| assert!(pattern.matches(name), "{text} matches {name}"));
            others.split_whitespace().for_each(|name| assert!(!pattern.matches(name), "{text} does not match {name}"));
            examples += matching.split_whitespace().count() + others.split_whitespace().count();
        }
        assert!(examples > 20, "{examples}");
        let invalid: Vec<_> = block("invalid").split_whitespace().collect();
        assert!(invalid.len() > 5 && invalid.iter().all(|text| Pattern::parse(text).is_err()), "{invalid:?}");
        let order = ["a/b", "a/*", "a/**", "*/b", "**"].map(pattern);
        assert!(order.is_sorted_by(|a, b| a.specificity(b) == Ordering::Greater));
    }

    /// Where a matcher tries again from every place, this takes longer than the universe has.
    #[test]
    fn a_long_pattern_against_a_huge_name_is_one_walk() {
        let stars = pattern(&"*:".repeat(MAX_PATTERN / 2 - 1).chars().chain("**".chars()).collect::<String>());
        let name = "a:".repeat(1_000_000);
        assert!(stars.matches(&name));
        assert!(!stars.matches(&name.replace(':', "/")));
        assert!(
            !pattern(&"*:".repeat(MAX_PATTERN / 2 - 1).chars().chain("b".chars()).collect::<String>()).matches(&name)
        );
    }
}
