//! Who may do what: the scopes of an identity, and the one decision about an operation.
//!
//! A scope is written `KIND.VERB:PATTERN` or `call:PATTERN`, split at the first colon: `topic.publish:room:*`,
//! `call:validateGame`, `store.write:notes/**`. A word without a colon, as `game.write`, is the application's own.
//!
//! [`Scopes::may`] decides, and nothing else does: for handlers, for channels, in the server and in simulations. It
//! knows nothing of tokens or connections.

use std::fmt;

use crate::{
    limits::{MAX_NAME, MAX_SCOPES},
    pattern::{InvalidPattern, Pattern},
};

/// What can be done with what has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Call a handler, notify it, or read its stream.
    Call,
    /// Read a topic: what is published, its history, who is there.
    TopicSubscribe,
    /// Publish to a topic, also volatile, and send to one of its members.
    TopicPublish,
    /// Open a feed.
    FeedOpen,
    /// Create a shared state.
    StateCreate,
    /// Attach to a shared state that is there.
    StateAttach,
    /// Change a shared state.
    StateWrite,
    /// Read a store.
    StoreRead,
    /// Write to a store.
    StoreWrite,
    /// Prune and delete a store.
    StoreAdmin,
}

impl Verb {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Call,
        Self::TopicSubscribe,
        Self::TopicPublish,
        Self::FeedOpen,
        Self::StateCreate,
        Self::StateAttach,
        Self::StateWrite,
        Self::StoreRead,
        Self::StoreWrite,
        Self::StoreAdmin,
    ];

    /// As it stands before the colon of a scope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::TopicSubscribe => "topic.subscribe",
            Self::TopicPublish => "topic.publish",
            Self::FeedOpen => "feed.open",
            Self::StateCreate => "state.create",
            Self::StateAttach => "state.attach",
            Self::StateWrite => "state.write",
            Self::StoreRead => "store.read",
            Self::StoreWrite => "store.write",
            Self::StoreAdmin => "store.admin",
        }
    }

    fn from_str(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }

    /// Whether it is always granted by name: a store keeps what its users wrote, and says nothing of who they are.
    const fn is_always_listed(self) -> bool {
        match self {
            Self::StoreRead | Self::StoreWrite | Self::StoreAdmin => true,
            Self::Call
            | Self::TopicSubscribe
            | Self::TopicPublish
            | Self::FeedOpen
            | Self::StateCreate
            | Self::StateAttach
            | Self::StateWrite => false,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Something that somebody asks to do. Shown, it is the scope that would permit it and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// What is to be done.
    pub verb: Verb,
    /// The handler or channel that it is to be done with.
    pub name: &'a str,
}

impl<'a> Operation<'a> {
    /// To do this with what has this name.
    pub const fn new(verb: Verb, name: &'a str) -> Self {
        Self { verb, name }
    }

    /// To call this handler.
    pub const fn call(name: &'a str) -> Self {
        Self::new(Verb::Call, name)
    }
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.verb, self.name)
    }
}

/// What an identity may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scopes {
    /// Everything: open mode.
    All,
    /// It came without a list: what no declaration restricts.
    Unlisted,
    /// These and nothing else.
    Listed(Vec<Scope>),
}

impl Scopes {
    /// The decision: may an identity with these scopes do this?
    ///
    /// `declared` is the scope that the declaration of the handler or channel names. Where it names one, exactly that is
    /// needed. Where it names none, an identity with a list needs a scope for the operation, and one without a list
    /// needs nothing, save for stores, which always need one.
    ///
    /// ```
    /// use moorline_protocol::scope::{Operation, Scope, Scopes, Verb};
    ///
    /// let scopes = Scopes::from_text("topic.subscribe:room:* game.write")?;
    /// assert!(scopes.may(None, Operation::new(Verb::TopicSubscribe, "room:1")));
    /// assert!(!scopes.may(None, Operation::new(Verb::TopicPublish, "room:1")));
    /// assert!(scopes.may(Some(&Scope::parse("game.write")?), Operation::call("move")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn may(&self, declared: Option<&Scope>, operation: Operation<'_>) -> bool {
        match (self, declared) {
            (Self::All, _) => true,
            (Self::Unlisted | Self::Listed(_), Some(scope)) => self.holds(scope),
            (Self::Unlisted, None) => !operation.verb.is_always_listed(),
            (Self::Listed(scopes), None) => scopes.iter().any(|scope| scope.permits(operation)),
        }
    }

    /// Whether these hold all that a scope permits: the very word, or a pattern that covers its pattern. Who came
    /// without a list holds none.
    pub fn holds(&self, scope: &Scope) -> bool {
        match self {
            Self::All => true,
            Self::Unlisted => false,
            Self::Listed(scopes) => scopes.iter().any(|held| held.covers(scope)),
        }
    }

    /// A list from scopes between spaces, as the claim `scope` of a token has it (RFC 8693 § 4.2). An empty text is an
    /// empty list.
    ///
    /// # Errors
    /// When there are more than [`MAX_SCOPES`], or one of them does not parse.
    pub fn from_text(text: &str) -> Result<Self, InvalidScopes> {
        Self::from_list(text.split(' ').filter(|scope| !scope.is_empty()))
    }

    /// A list from scopes one by one, as the claim `scopes` of a token has it.
    ///
    /// # Errors
    /// When there are more than [`MAX_SCOPES`], or one of them does not parse.
    pub fn from_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidScopes> {
        let mut scopes = Vec::new();
        for (place, text) in texts.into_iter().enumerate() {
            if place == MAX_SCOPES {
                return Err(InvalidScopes::TooMany);
            }
            scopes.push(Scope::parse(text).map_err(|error| InvalidScopes::Scope { place, error })?);
        }
        Ok(Self::Listed(scopes))
    }
}

/// One thing that somebody may do, as it is written in tokens. Equal are scopes of the same text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The application's own, which permits no operation by itself.
    Word(Box<str>),
    Operation(Verb, Pattern),
}

impl Scope {
    /// Reads a scope.
    ///
    /// # Errors
    /// When what stands before the first colon is no kind of operation, what stands behind it no pattern, or a word is
    /// empty, longer than [`MAX_NAME`] or has white space.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let Some((kind, pattern)) = text.split_once(':') else {
            return match text {
                "" => Err(InvalidScope::Empty),
                _ if text.len() > MAX_NAME => Err(InvalidScope::TooLong),
                _ if text.chars().any(|c| c.is_control() || c.is_whitespace()) => Err(InvalidScope::Character),
                _ => Ok(Self(Kind::Word(text.into()))),
            };
        };
        let verb = Verb::from_str(kind).ok_or_else(|| InvalidScope::Kind { nearest: nearest(kind) })?;
        Ok(Self(Kind::Operation(verb, Pattern::parse(pattern).map_err(InvalidScope::Pattern)?)))
    }

    /// Whether it permits this operation. A word permits none.
    pub fn permits(&self, operation: Operation<'_>) -> bool {
        match &self.0 {
            Kind::Word(_) => false,
            Kind::Operation(verb, pattern) => *verb == operation.verb && pattern.matches(operation.name),
        }
    }

    /// Whether it permits whatever the other does: who holds it may hand on the other.
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Word(our), Kind::Word(their)) => our == their,
            (Kind::Operation(our, pattern), Kind::Operation(their, other)) => our == their && pattern.covers(other),
            (Kind::Word(_), Kind::Operation(..)) | (Kind::Operation(..), Kind::Word(_)) => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Word(word) => formatter.write_str(word),
            Kind::Operation(verb, pattern) => write!(formatter, "{verb}:{pattern}"),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        Self::parse(text)
    }
}

/// Why a text is no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidScope {
    /// It is empty.
    Empty,
    /// A word is longer than [`MAX_NAME`].
    TooLong,
    /// White space or a control character in a word.
    Character,
    /// What stands before the colon is no kind of operation.
    Kind {
        /// The kind that was perhaps meant.
        nearest: Option<Verb>,
    },
    /// What stands behind the colon is no pattern.
    Pattern(InvalidPattern),
}

impl fmt::Display for InvalidScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("a scope is not empty"),
            Self::TooLong => write!(formatter, "a scope of your own has at most {MAX_NAME} bytes"),
            Self::Character => formatter.write_str("a scope of your own has neither spaces nor control characters"),
            Self::Kind { nearest: Some(verb) } => {
                write!(formatter, "there is no such kind of scope before the colon; did you mean {verb}:…?")
            }
            Self::Kind { nearest: None } => {
                formatter.write_str("there is no such kind of scope before the colon; there are ")?;
                for (place, verb) in Verb::ALL.into_iter().enumerate() {
                    write!(formatter, "{}{verb}", if place == 0 { "" } else { ", " })?;
                }
                formatter.write_str("; a scope of your own has no colon")
            }
            Self::Pattern(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for InvalidScope {}

/// Why there is no list of scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidScopes {
    /// There are more than [`MAX_SCOPES`].
    TooMany,
    /// One does not parse.
    Scope {
        /// Which, from 0.
        place: usize,
        /// What is wrong with it.
        error: InvalidScope,
    },
}

impl fmt::Display for InvalidScopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(formatter, "there are more than {MAX_SCOPES} scopes"),
            Self::Scope { place, error } => write!(formatter, "scope {}: {error}", place + 1),
        }
    }
}

impl std::error::Error for InvalidScopes {}

/// The kind that is at most a third of its letters away.
fn nearest(kind: &str) -> Option<Verb> {
    /// As long as the longest kind with a third too much; what is longer is near none.
    const LONGEST: usize = 20;
    if kind.len() > LONGEST {
        return None;
    }
    let distance = |verb: &Verb| edits(kind.as_bytes(), verb.as_str().as_bytes());
    Verb::ALL.into_iter().min_by_key(distance).filter(|verb| 3 * distance(verb) <= verb.as_str().len() + 1)
}

/// How many letters are to be put in, taken out or replaced to make one text of the other: Levenshtein's distance.
fn edits(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        Scope::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn listed(texts: &[&str]) -> Scopes {
        Scopes::from_list(texts.iter().copied()).unwrap_or_else(|error| panic!("{texts:?}: {error}"))
    }

    /// What is granted, on which operation, by what declaration. The walks below fill in the rest.
    const NAME: &str = "room:1";
    const MATCHING: &[&str] = &["room:1", "room:*", "room:{id}", "room:**", "*:1", "**"];
    const OTHERS: &[&str] = &["room:2", "room/1", "room", "*", "room:1:*", "room:*/*", "rooms:*", "call"];
    const WORDS: &[&str] = &["game.write", "call", "topic.publish", "store.admin", "*", "**"];

    #[test]
    fn every_scope_permits_its_own_operation_on_matching_names_and_no_other() {
        for held in Verb::ALL {
            for asked in Verb::ALL {
                let operation = Operation::new(asked, NAME);
                for pattern in MATCHING {
                    let text = format!("{held}:{pattern}");
                    let may = listed(&["unrelated", &text]).may(None, operation);
                    assert_eq!(may, held == asked, "{text} for {operation}");
                }
                for pattern in OTHERS {
                    let text = format!("{held}:{pattern}");
                    assert!(!listed(&[&text, "unrelated"]).may(None, operation), "{text} for {operation}");
                }
            }
        }
    }

    #[test]
    fn where_nothing_is_declared_all_may_everything_unlisted_all_but_stores_and_an_empty_list_nothing() {
        for verb in Verb::ALL {
            let operation = Operation::new(verb, NAME);
            assert!(Scopes::All.may(None, operation), "{operation}");
            let store = verb.as_str().starts_with("store.");
            assert_eq!(Scopes::Unlisted.may(None, operation), !store, "{operation}");
            assert!(!Scopes::Listed(Vec::new()).may(None, operation), "{operation}");
        }
    }

    #[test]
    fn a_word_permits_no_operation_whatever_it_is_called() {
        for verb in Verb::ALL {
            assert!(!listed(WORDS).may(None, Operation::new(verb, NAME)), "{verb}");
            assert!(!listed(WORDS).may(None, Operation::new(verb, verb.as_str())), "{verb}");
        }
    }

    #[test]
    fn what_is_declared_is_needed_and_it_alone() {
        for asked in Verb::ALL {
            let operation = Operation::new(asked, NAME);
            for word in WORDS {
                let declared = scope(word);
                let may = |scopes: &Scopes| scopes.may(Some(&declared), operation);
                assert!(may(&listed(&["other", word])), "{word} for {operation}");
                assert!(may(&Scopes::All), "{word} for {operation}");
                assert!(!may(&Scopes::Unlisted), "{word} for {operation}");
                assert!(!may(&Scopes::Listed(Vec::new())), "{word} for {operation}");
                // The scope of the operation is not what is declared.
                assert!(!may(&listed(&[&operation.to_string(), &format!("{asked}:**"), "other"])), "{word}");
            }
            for held in Verb::ALL {
                for pattern in MATCHING {
                    // What is declared is needed whatever the operation is.
                    let declared = scope(&format!("{held}:{NAME}"));
                    assert!(listed(&[&format!("{held}:{pattern}")]).may(Some(&declared), operation));
                    for other in Verb::ALL.into_iter().filter(|other| *other != held) {
                        assert!(!listed(&[&format!("{other}:{pattern}")]).may(Some(&declared), operation));
                    }
                }
                let declared = scope(&format!("{held}:room:*"));
                assert!(listed(&[&format!("{held}:room:{{id}}")]).may(Some(&declared), operation));
                assert!(!listed(&[&format!("{held}:room:1")]).may(Some(&declared), operation), "narrower");
            }
        }
    }

    #[test]
    fn a_scope_covers_what_permits_no_more_than_it() {
        for our in Verb::ALL {
            for their in Verb::ALL {
                let covers = |ours: &str, theirs: &str| {
                    scope(&format!("{our}:{ours}")).covers(&scope(&format!("{their}:{theirs}")))
                };
                assert_eq!(covers("**", "room:*"), our == their);
                assert_eq!(covers("room:*", "room:1"), our == their);
                assert!(!covers("room:1", "room:*"));
                assert!(!covers("room:*", "**"));
            }
            for word in WORDS {
                assert!(!scope(&format!("{our}:**")).covers(&scope(word)), "{our} {word}");
                assert!(!scope(word).covers(&scope(&format!("{our}:x"))), "{our} {word}");
                assert!(scope(word).covers(&scope(word)));
            }
        }
    }

    #[test]
    fn a_scope_splits_at_its_first_colon_and_reads_back_as_it_was_written() {
        for verb in Verb::ALL {
            let text = format!("{verb}:room:*:x/**");
            assert_eq!(scope(&text).to_string(), text);
            assert!(scope(&text).permits(Operation::new(verb, "room:1:x/y/z")));
            assert_eq!(Scope::parse(&format!("{verb}:")), Err(InvalidScope::Pattern(InvalidPattern::Empty)));
            assert_eq!(Scope::parse(&format!("{verb}:a*")), Err(InvalidScope::Pattern(InvalidPattern::PartOfSegment)));
        }
        assert_eq!(scope("game.write").to_string(), "game.write");
    }

    #[test]
    fn an_unknown_kind_is_an_error_that_names_the_nearest() {
        let nearest = |text: &str| match Scope::parse(text) {
            Err(InvalidScope::Kind { nearest }) => nearest,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(nearest("topic.subcribe:room:*"), Some(Verb::TopicSubscribe));
        assert_eq!(nearest("topic.Publish:room:*"), Some(Verb::TopicPublish));
        assert_eq!(nearest("topics.publish:x"), Some(Verb::TopicPublish));
        assert_eq!(nearest("store.reed:x"), Some(Verb::StoreRead));
        assert_eq!(nearest("calls:x"), Some(Verb::Call));
        for far in ["https://id.example/scope", ":x", "read:messages", &format!("{}:x", "topic.publish".repeat(99))] {
            assert_eq!(nearest(far), None, "{far}");
        }
        let text = InvalidScope::Kind { nearest: None }.to_string();
        assert!(Verb::ALL.iter().all(|verb| text.contains(verb.as_str())), "{text}");
    }

    #[test]
    fn a_list_comes_from_a_text_or_one_by_one_and_is_bounded() {
        assert_eq!(Scopes::from_text("call:a  game.write "), Ok(listed(&["call:a", "game.write"])));
        assert_eq!(Scopes::from_text(""), Ok(Scopes::Listed(Vec::new())));
        let error = InvalidScope::Pattern(InvalidPattern::EmptySegment);
        assert_eq!(Scopes::from_text("a call:x:"), Err(InvalidScopes::Scope { place: 1, error }));
        assert_eq!(Scopes::from_list([""]), Err(InvalidScopes::Scope { place: 0, error: InvalidScope::Empty }));
        for bad in ["a b", "a\tb", "a\u{a0}b", "a\0"] {
            let error = InvalidScope::Character;
            assert_eq!(Scopes::from_list([bad]), Err(InvalidScopes::Scope { place: 0, error }), "{bad:?}");
        }
        assert_eq!(Scope::parse(&"x".repeat(MAX_NAME + 1)), Err(InvalidScope::TooLong));
        assert!(Scopes::from_text(&"x ".repeat(MAX_SCOPES)).is_ok());
        assert_eq!(Scopes::from_text(&"x ".repeat(MAX_SCOPES + 1)), Err(InvalidScopes::TooMany));
    }
}
