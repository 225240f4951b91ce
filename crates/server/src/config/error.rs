//! Why a configuration is not taken: where, what, and what would do.

use std::{error, fmt, io, path::PathBuf};

use moorline_protocol::pattern::InvalidPattern;

use super::{
    keys,
    place::{KeyName, Place, TableName},
    problem::Problem,
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

/// What is wrong with the syntax of a file.
#[derive(Debug)]
pub struct SyntaxError(pub(super) Box<toml::de::Error>);

impl fmt::Display for SyntaxError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.message())
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
            Self::NotATable { place, table: TableName { section, name } } if name.is_empty() => {
                let name = keys::example(section).into();
                let example = TableName { section, name };
                write!(
                    formatter,
                    "{place}: {section} is a section of tables; write [{example}] on a line of its own and its keys below"
                )
            }
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
