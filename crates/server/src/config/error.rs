//! Why a configuration is not taken: where, what, and what would do.

use std::{error, fmt, io, path::PathBuf};

use moorline_protocol::{pattern::InvalidPattern, scope::InvalidScope, url::InvalidUrl};

use super::{
    keys,
    named::{self, Quoted},
    network::InvalidNetwork,
    origin::InvalidOrigin,
    quantity::{self, Amount},
};

/// Why a configuration is not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML.
    Syntax {
        /// Where it stops being TOML.
        place: Place,
        /// What is wrong there.
        error: SyntaxError,
    },
    /// There is no such section.
    UnknownSection {
        /// Where it stands.
        place: Place,
        /// How it is called there.
        name: String,
        /// The known one that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A value stands where a section is wanted.
    NotASection {
        /// Where it stands.
        place: Place,
        /// The section.
        name: &'static str,
    },
    /// There is no such key in this section.
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The section; empty when it stands outside all.
        section: Box<str>,
        /// How it is called there.
        name: Box<str>,
        /// The known one that looks most like it.
        nearest: Option<KeyName>,
    },
    /// The value does not fit its key.
    Invalid {
        /// Where it stands.
        place: Place,
        /// The key.
        key: KeyName,
        /// What is wrong with the value.
        problem: Box<Problem>,
    },
    /// The name of a table is no pattern.
    InvalidPattern {
        /// Where it stands.
        place: Place,
        /// The table.
        table: TableName,
        /// What is wrong with it.
        error: InvalidPattern,
    },
    /// A value stands where a table is wanted that has a name of the file's own.
    NotATable {
        /// Where it stands.
        place: Place,
        /// The table; without a name where the value stands for the whole section.
        table: TableName,
    },
    /// There is no such key in a table that has a name of the file's own.
    UnknownKeyInTable {
        /// Where it stands.
        place: Place,
        /// The table.
        table: TableName,
        /// The table within it; empty for that itself.
        within: &'static str,
        /// How it is called there.
        name: Box<str>,
        /// The known one that looks most like it.
        nearest: Option<&'static str>,
        /// Those that are known.
        known: Vec<&'static str>,
    },
    /// A value in such a table does not fit its key.
    InvalidInTable {
        /// Where it stands.
        place: Place,
        /// The table.
        table: TableName,
        /// The key; that of a table within it has its name and a dot before it.
        key: &'static str,
        /// What is wrong with the value.
        problem: Box<Problem>,
    },
    /// Two settings of one place exclude each other.
    Contradiction {
        /// Where the second one stands.
        place: Place,
        /// The first.
        one: KeyName,
        /// The second.
        other: KeyName,
    },
    /// The file of a secret, which an environment variable names, cannot be read.
    SecretFile {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file has a secret in it and everybody can read it.
    SecretReadable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// An environment variable is not Unicode.
    NotUnicode {
        /// The variable.
        variable: String,
    },
}

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In a configuration file.
    File {
        /// The file; `None` for a text that was handed in.
        path: Option<PathBuf>,
        /// The line, from 1.
        line: usize,
        /// The character of the line, from 1.
        column: usize,
    },
    /// In the environment.
    Variable {
        /// The variable.
        name: String,
    },
    /// In a file that an environment variable names.
    VariableFile {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// The program that embeds the server set it.
    Program,
}

/// The name of a setting, shown as `[section] key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// The section that it belongs to.
    pub section: &'static str,
    /// Its name in there.
    pub name: &'static str,
}

/// The name of a table, shown as `topics."room:{id}"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The section that it belongs to.
    pub section: &'static str,
    /// What it is about.
    pub name: Box<str>,
}

impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.section, Quoted(&self.name))
    }
}

impl KeyName {
    /// The environment variable of this setting.
    pub fn variable(&self) -> String {
        let section = self.section.replace('.', "__");
        format!("{}{section}__{}", super::environment::PREFIX, self.name).to_ascii_uppercase()
    }
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

/// What is wrong with the syntax of a file.
#[derive(Debug)]
pub struct SyntaxError(pub(super) Box<toml::de::Error>);

impl fmt::Display for SyntaxError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.message())
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{}] {}", self.section, self.name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path: Some(path), line, column } => write!(formatter, "{}:{line}:{column}", path.display()),
            Self::File { path: None, line, column } => write!(formatter, "line {line}, column {column}"),
            Self::Variable { name } => formatter.write_str(name),
            Self::VariableFile { name, path } => write!(formatter, "{} (of {name})", path.display()),
            Self::Program => formatter.write_str("the program's configuration"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType { wanted, found } => write!(formatter, "must be {wanted}, not {found}"),
            Self::Wanted { wanted, found } => write!(formatter, "must be {wanted}, not {found:?}"),
            Self::UnitMissing { quantity, number } => {
                let (what, units, first) = quantity::describe(*quantity);
                write!(formatter, "{what} needs its unit: write \"{number}{first}\" (units: {units})")
            }
            Self::UnknownUnit { quantity, unit } => {
                let (_, units, _) = quantity::describe(*quantity);
                write!(formatter, "the unit {unit:?} is not known (units: {units})")
            }
            Self::OutOfRange { quantity, least, most } => {
                write!(formatter, "must be from {} to {}", Amount(*quantity, *least), Amount(*quantity, *most))
            }
            Self::UnknownWord { found, choices } => {
                write!(formatter, "must be {}, not {found:?}", quantity::one_of(choices))?;
                match keys::nearest(found, choices.iter().map(|choice| (*choice, *choice))) {
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

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(formatter, "the configuration {} cannot be read", path.display()),
            Self::Syntax { place, error } => write!(formatter, "{place}: {error}"),
            Self::UnknownSection { place, name, nearest: Some(nearest) } => {
                write!(formatter, "{place}: unknown section [{name}]; did you mean [{nearest}]?")
            }
            Self::UnknownSection { place, name, nearest: None } => {
                write!(formatter, "{place}: unknown section [{name}]; known are {}", keys::sections().join(", "))
            }
            Self::NotASection { place, name } => {
                write!(
                    formatter,
                    "{place}: {name} is a section; write [{name}] on a line of its own and its keys below"
                )
            }
            Self::UnknownKey { place: Place::Variable { name }, nearest, .. } => {
                write!(formatter, "{name}: no setting has this variable")?;
                nearest.map_or(Ok(()), |nearest| write!(formatter, "; did you mean {}?", nearest.variable()))
            }
            Self::UnknownKey { place, section, name, nearest: Some(nearest) } if section.is_empty() => {
                write!(formatter, "{place}: {name} stands outside all sections; did you mean {nearest}?")
            }
            Self::UnknownKey { place, section, name, nearest: Some(nearest) } if **section == *nearest.section => {
                write!(formatter, "{place}: unknown key {name} in [{section}]; did you mean {}?", nearest.name)
            }
            Self::UnknownKey { place, section, name, nearest: Some(nearest) } => {
                write!(formatter, "{place}: unknown key {name} in [{section}]; did you mean {nearest}?")
            }
            Self::UnknownKey { place, section, name, nearest: None } if section.is_empty() => {
                let known = keys::sections().join(", ");
                write!(formatter, "{place}: {name} stands outside all sections; those are {known}")
            }
            Self::UnknownKey { place, section, name, nearest: None } => {
                let known = keys::names(section).join(", ");
                write!(formatter, "{place}: unknown key {name} in [{section}]; known are {known}")
            }
            Self::Invalid { place: place @ Place::Variable { .. }, problem, .. } => {
                write!(formatter, "{place}: {problem}")
            }
            Self::Invalid { place, key, problem } => write!(formatter, "{place}: {key}: {problem}"),
            Self::InvalidPattern { place, table, error } => write!(formatter, "{place}: [{table}]: {error}"),
            Self::NotATable { place, table: TableName { section, name } } if name.is_empty() => write!(
                formatter,
                "{place}: {section} is a section of tables; write [{section}.\"{}\"] on a line of its own and its keys below",
                named::find(section).map_or("name", |section| section.example)
            ),
            Self::NotATable { place, table: table @ TableName { section, name } } => write!(
                formatter,
                "{place}: {section}.{name} is no table; write [{table}] on a line of its own and its keys below"
            ),
            Self::UnknownKeyInTable { place, table, within, name, nearest, known } => {
                let space = if within.is_empty() { "" } else { " " };
                write!(formatter, "{place}: unknown key {name} in [{table}]{space}{within}; ")?;
                match nearest {
                    Some(nearest) => write!(formatter, "did you mean {nearest}?"),
                    None => write!(formatter, "known are {}", known.join(", ")),
                }
            }
            Self::InvalidInTable { place, table, key, problem } => {
                write!(formatter, "{place}: [{table}] {key}: {problem}")
            }
            Self::Contradiction { place, one, other } => {
                write!(formatter, "{place}: {other} and {one} exclude each other; leave one out")
            }
            Self::SecretFile { variable, path, .. } => write!(
                formatter,
                "{variable} names {}, which cannot be read; put the secret there or unset the variable",
                path.display()
            ),
            Self::SecretReadable { path, mode } => write!(
                formatter,
                "{path} has a secret in it and everybody can read it (mode {mode:04o}); run: chmod 640 {path}",
                path = path.display()
            ),
            Self::NotUnicode { variable } => write!(formatter, "{variable}: the value is not Unicode"),
        }
    }
}

impl error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::SecretFile { source, .. } => Some(source),
            Self::Syntax { .. }
            | Self::UnknownSection { .. }
            | Self::NotASection { .. }
            | Self::UnknownKey { .. }
            | Self::Invalid { .. }
            | Self::InvalidPattern { .. }
            | Self::NotATable { .. }
            | Self::UnknownKeyInTable { .. }
            | Self::InvalidInTable { .. }
            | Self::Contradiction { .. }
            | Self::SecretReadable { .. }
            | Self::NotUnicode { .. } => None,
        }
    }
}
