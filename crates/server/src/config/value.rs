//! A value on its way into its field, be it of the file or of the environment.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, SystemTime},
};

use moorline_protocol::{record::Suite, scope::Scope, url::DialUrl};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    auth::{JwksUrl, JwtAlgorithm},
    channels::SnapshotsBy,
    date,
    network::Network,
    origin::WebOrigin,
    place::Place,
    problem::{Problem, Quantity},
    quantity,
    secret::Secret,
};
use crate::rate::Rate;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, otherwise JSON.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Which log lines are written: a level, or several parts with commas between, of which `module=level` is for a module
/// alone. Levels are `off`, `error`, `warn`, `info`, `debug`, `trace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// The levels of a [`LogFilter`], the quietest first.
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

impl LogFilter {
    /// The text, as `tracing_subscriber::filter::Targets` reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let part = |part: &str| {
            let (module, level) = part.split_once('=').map_or(("", part), |(module, level)| (module, level));
            let (module, level) = (module.trim(), level.trim().to_ascii_lowercase());
            if !LEVELS.contains(&level.as_str()) {
                return Err(Problem::UnknownWord { found: level, choices: LEVELS });
            }
            Ok(if module.is_empty() { level } else { format!("{module}={level}") })
        };
        Ok(Self(text.split(',').map(part).collect::<Result<Vec<_>, _>>()?.join(",")))
    }
}

/// A field and what it takes.
pub(super) enum Slot<'a> {
    Address(&'a mut SocketAddr),
    /// An empty text is none, as of [`Self::PathOrNone`].
    AddressOrNone(&'a mut Option<SocketAddr>),
    UrlPath(&'a mut String),
    Urls(&'a mut Vec<DialUrl>),
    Origins(&'a mut Vec<WebOrigin>),
    Networks(&'a mut Vec<Network>),
    Path(&'a mut PathBuf),
    /// An empty text is none, so that the environment can take back what the file says.
    PathOrNone(&'a mut Option<PathBuf>),
    /// `"on"` or `"off"`.
    Switch(&'a mut bool),
    Flag(&'a mut bool),
    /// The value of a header, shown by an example; an empty text is none.
    Header(&'a mut Option<String>, &'static str),
    /// One of these words; an empty text is none.
    WordOrNone(&'a mut Option<String>, &'static [&'static str]),
    Suites(&'a mut Vec<Suite>),
    /// Also what it must be, for messages.
    Secret(&'a mut Option<Secret>, &'static str),
    Text(&'a mut String),
    TextOrNone(&'a mut Option<String>),
    Texts(&'a mut Vec<String>),
    Algorithm(&'a mut Option<JwtAlgorithm>),
    JwksUrlOrNone(&'a mut Option<JwksUrl>),
    MomentOrNone(&'a mut Option<SystemTime>),
    Count(&'a mut usize, RangeInclusive<usize>),
    Size(&'a mut usize, RangeInclusive<usize>),
    Duration(&'a mut Duration),
    /// An empty text is none, as of [`Self::PathOrNone`].
    ScopeOrNone(&'a mut Option<Scope>),
    RateOrNone(&'a mut Option<Rate>),
    SnapshotsBy(&'a mut SnapshotsBy),
    LogFormat(&'a mut LogFormat),
    LogFilter(&'a mut LogFilter),
}

/// A value as it was found.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// In the environment, where everything is text.
    Plain(&'a str),
    /// In a file.
    Toml(&'a Spanned<DeValue<'a>>),
}

/// A value that does not fit, and where in the file the part of it begins that does not.
pub(super) struct Misfit {
    pub(super) problem: Problem,
    pub(super) at: Option<usize>,
}

const ADDRESS: &str = "an address and port such as \"127.0.0.1:2667\" or \"[::]:2667\"";
const WORD: &str = "a text that is not empty";
const JWKS_URL: &str = "a URL such as \"https://id.example.com/.well-known/jwks.json\" (http:// only on this machine)";
const MOMENT: &str = "a date in UTC such as \"2027-01-31\" or \"2027-01-31T12:00:00Z\"";
const URL_PATH: &str = "a path such as \"/moorline\" of letters, digits and -._~ (and not /.well-known/moorline or /api/token, which are taken)";

impl<'a> Value<'a> {
    fn misfit(self, problem: Problem) -> Misfit {
        let at = match self {
            Self::Plain(_) => None,
            Self::Toml(value) => Some(value.span().start),
        };
        Misfit { problem, at }
    }

    fn wrong_type(self, wanted: &'static str) -> Misfit {
        self.misfit(match self {
            Self::Plain(text) => Problem::Wanted { wanted, found: text.to_owned() },
            Self::Toml(value) => Problem::WrongType { wanted, found: type_name(value.get_ref()) },
        })
    }

    fn text(self, wanted: &'static str) -> Result<&'a str, Misfit> {
        match self {
            Self::Plain(text) => Ok(text),
            Self::Toml(value) => value.get_ref().as_str().ok_or_else(|| self.wrong_type(wanted)),
        }
    }

    fn flag(self) -> Result<bool, Misfit> {
        match self {
            Self::Plain("true") => Ok(true),
            Self::Plain("false") => Ok(false),
            Self::Plain(_) => Err(self.wrong_type("true or false")),
            Self::Toml(value) => value.get_ref().as_bool().ok_or_else(|| self.wrong_type("true or false")),
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Plain(text) => text.trim().parse().ok(),
            Self::Toml(value) => {
                let number = value.get_ref().as_integer()?;
                u64::from_str_radix(number.as_str(), number.radix()).ok()
            }
        }
    }

    /// A number with its unit. In TOML a bare number is of another type, but it deserves the same answer.
    fn measured<T>(
        self,
        quantity: Quantity,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Result<T, Misfit> {
        match (self, self.number()) {
            (Self::Toml(_), Some(number)) => Err(self.misfit(Problem::UnitMissing { quantity, number })),
            (Self::Toml(_) | Self::Plain(_), _) => parse(self.text(wanted)?).map_err(|problem| self.misfit(problem)),
        }
    }

    fn list<T>(self, wanted: &'static str, each: impl Fn(&str) -> Result<T, Problem>) -> Result<Vec<T>, Misfit> {
        let one = |value: Self| each(value.text(wanted)?).map_err(|problem| value.misfit(problem));
        match self {
            Self::Plain(text) => text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| one(Self::Plain(part)))
                .collect(),
            Self::Toml(value) => {
                let items = value.get_ref().as_array().ok_or_else(|| self.wrong_type(wanted))?;
                items.iter().map(|item| one(Self::Toml(item))).collect()
            }
        }
    }

    fn parsed<T>(self, wanted: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Misfit> {
        let text = self.text(wanted)?;
        parse(text).ok_or_else(|| self.misfit(Problem::Wanted { wanted, found: text.to_owned() }))
    }

    /// A text, or TOML's own date.
    fn moment(self) -> Result<Option<SystemTime>, Misfit> {
        if let Self::Toml(value) = self
            && let DeValue::Datetime(moment) = value.get_ref()
        {
            let text = moment.to_string();
            let found = || self.misfit(Problem::Wanted { wanted: MOMENT, found: text.clone() });
            return date::moment(&text).map(Some).ok_or_else(found);
        }
        self.parsed(MOMENT, |text| match text {
            "" => Some(None),
            text => date::moment(text).map(Some),
        })
    }

    fn word<T: Copy>(self, wanted: &'static str, choices: &'static [&'static str], values: &[T]) -> Result<T, Misfit> {
        let text = self.text(wanted)?;
        let place = choices.iter().position(|choice| *choice == text);
        let unknown = || self.misfit(Problem::UnknownWord { found: text.to_owned(), choices });
        place.and_then(|place| values.get(place).copied()).ok_or_else(unknown)
    }
}

/// Puts a value into its field. Relative paths are relative to `base_dir`.
pub(super) fn fill(slot: Slot<'_>, value: Value<'_>, base_dir: &Path, place: Place) -> Result<(), Misfit> {
    match slot {
        Slot::Address(field) => *field = value.parsed(ADDRESS, |text| text.parse().ok())?,
        Slot::AddressOrNone(field) => {
            *field = value.parsed(ADDRESS, |text| match text {
                "" => Some(None),
                text => text.parse().ok().map(Some),
            })?;
        }
        Slot::UrlPath(field) => *field = value.parsed(URL_PATH, url_path)?,
        Slot::Urls(field) => {
            *field = value.list("a list such as [\"wss://app.example.com/moorline\"]", |text| {
                DialUrl::parse(text).map_err(|error| Problem::Url { text: text.to_owned(), error })
            })?;
        }
        Slot::Origins(field) => {
            *field = value.list("a list such as [\"https://app.example.com\"]", |text| {
                WebOrigin::parse(text).map_err(|error| Problem::Origin { text: text.to_owned(), error })
            })?;
        }
        Slot::Networks(field) => {
            *field = value.list("a list such as [\"127.0.0.1\", \"10.0.0.0/8\"]", |text| {
                text.parse().map_err(|error| Problem::Network { text: text.to_owned(), error })
            })?;
        }
        Slot::Path(field) => {
            *field = value.parsed("a path", |text| (!text.is_empty()).then(|| base_dir.join(text)))?;
        }
        Slot::PathOrNone(field) => {
            let text = value.text("a path")?;
            *field = (!text.is_empty()).then(|| base_dir.join(text));
        }
        Slot::Switch(field) => *field = value.word("\"on\" or \"off\"", &["on", "off"], &[true, false])?,
        Slot::Flag(field) => *field = value.flag()?,
        Slot::Header(field, example) => {
            *field = value.parsed(example, |text| match text {
                "" => Some(None),
                text => text.bytes().all(|byte| matches!(byte, b' '..=b'~')).then(|| Some(text.to_owned())),
            })?;
        }
        Slot::WordOrNone(field, words) => {
            let text = value.text("a word")?;
            if !text.is_empty() && !words.contains(&text) {
                return Err(value.misfit(Problem::UnknownWord { found: text.to_owned(), choices: words }));
            }
            *field = (!text.is_empty()).then(|| text.to_owned());
        }
        Slot::Suites(field) => *field = suites(value)?,
        Slot::Text(field) => *field = value.parsed(WORD, |text| (!text.is_empty()).then(|| text.to_owned()))?,
        Slot::TextOrNone(field) => {
            let text = value.text(WORD)?;
            *field = (!text.is_empty()).then(|| text.to_owned());
        }
        Slot::Texts(field) => {
            *field = value.list("a list such as [\"app\"]", |text| match text {
                "" => Err(Problem::Wanted { wanted: WORD, found: text.to_owned() }),
                text => Ok(text.to_owned()),
            })?;
        }
        Slot::Algorithm(field) => {
            *field = Some(value.word("a text such as \"ES256\"", JwtAlgorithm::NAMES, &JwtAlgorithm::ALL)?);
        }
        Slot::JwksUrlOrNone(field) => {
            *field = value.parsed(JWKS_URL, |text| match text {
                "" => Some(None),
                text => JwksUrl::parse(text).map(Some),
            })?;
        }
        Slot::MomentOrNone(field) => {
            *field = value.moment()?;
        }
        Slot::Secret(field, wanted) => {
            // The text itself is in no message, whatever it is.
            let text = value.text(wanted)?.trim();
            if text.is_empty() {
                return Err(value.wrong_type(wanted));
            }
            *field = Some(Secret::found(text, place));
        }
        Slot::Count(field, range) => {
            let number = value.number().ok_or_else(|| value.wrong_type("a whole number"))?;
            *field = quantity::count(number, Quantity::Count, &range).map_err(|problem| value.misfit(problem))?;
        }
        Slot::Size(field, range) => {
            let wanted = "a size such as \"64KiB\"";
            *field = value.measured(Quantity::Size, wanted, |text| quantity::size(text, &range))?;
        }
        Slot::Duration(field) => {
            *field = value.measured(Quantity::Duration, "a duration such as \"25s\"", quantity::duration)?;
        }
        Slot::ScopeOrNone(field) => {
            let text = value.text("a scope such as \"room.read\"")?;
            let wrong = |error| value.misfit(Problem::Scope { text: text.to_owned(), error });
            *field = if text.is_empty() { None } else { Some(Scope::parse(text).map_err(wrong)?) };
        }
        Slot::RateOrNone(field) => {
            *field = value.parsed("a rate such as \"5/s\" or \"60/m\"", |text| match text {
                "" => Some(None),
                text => quantity::rate(text).map(Some),
            })?;
        }
        Slot::SnapshotsBy(field) => {
            let who = [SnapshotsBy::Admin, SnapshotsBy::Write];
            *field = value.word("\"admin\" or \"write\"", &["admin", "write"], &who)?;
        }
        Slot::LogFormat(field) => {
            let formats = [LogFormat::Auto, LogFormat::Pretty, LogFormat::Json];
            *field = value.word("a text such as \"auto\"", &["auto", "pretty", "json"], &formats)?;
        }
        Slot::LogFilter(field) => {
            *field = value.text("a level such as \"info\"")?.parse().map_err(|problem| value.misfit(problem))?;
        }
    }
    Ok(())
}

/// Only what needs no escaping and means nothing to the router: a `{` there would be a parameter.
fn url_path(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let valid = text.starts_with('/')
        && !text.contains("//")
        && text.bytes().all(plain)
        && !["/.well-known/moorline", "/api/token"].contains(&text.trim_end_matches('/'));
    valid.then(|| text.to_owned())
}

fn suites(value: Value<'_>) -> Result<Vec<Suite>, Misfit> {
    const NAMES: &[&str] = &["aes-256-gcm", "chacha20-poly1305"];
    let suites = value.list("a list such as [\"aes-256-gcm\"]", |text| {
        Suite::from_name(text).ok_or_else(|| Problem::UnknownWord { found: text.to_owned(), choices: NAMES })
    })?;
    if suites.is_empty() { Err(value.misfit(Problem::EmptyList)) } else { Ok(suites) }
}

/// What a person calls a TOML value.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// An entry of a table: its name, where that stands, and its value.
type Entry<'a> = (&'a str, usize, &'a Spanned<DeValue<'a>>);

/// The entries of a table in the order of the file.
pub(super) fn entries<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> =
        table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span().start, value)).collect();
    entries.sort_by_key(|(_, at, _)| *at);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_log_filter_takes_a_level_and_exceptions() {
        let text = |filter: &str| filter.parse::<LogFilter>().map(|filter| filter.0);
        assert_eq!(text("Debug").as_deref(), Ok("debug"));
        assert_eq!(text("warn, moorline_server=trace").as_deref(), Ok("warn,moorline_server=trace"));
        let error = text("inof").map_err(|problem| problem.to_string());
        assert!(error.is_err_and(|text| text.ends_with("; did you mean \"info\"?")));
        assert!(text("").is_err());
        assert!(text("moorline_server").is_err());
    }

    #[test]
    fn every_suite_of_the_protocol_has_its_name_in_the_message() {
        let error = Config::parse("[server]\nsuites = ['rot13']", "").err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| Suite::ALL.iter().all(|suite| text.contains(suite.name()))));
    }
}
