//! Where a setting stands, and how it is called there.

use std::{fmt, path::PathBuf};

/// What the names of our variables begin with. `MOORLINE_CONFIG` and its like, with one underscore, are no settings.
pub(super) const PREFIX: &str = "MOORLINE__";

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
        format!("{}{section}__{}", PREFIX, self.name).to_ascii_uppercase()
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{}] {}", self.section, self.name)
    }
}

/// A text as TOML has it, with nothing in it that ends a line or cannot be seen.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"")?;
        for character in self.0.chars() {
            let number = u32::from(character);
            match character {
                '"' | '\\' => write!(formatter, "\\{character}")?,
                // Rust escapes what cannot be seen, in a way that TOML does not read.
                _ if !character.is_ascii() && character.escape_debug().len() == 1 => write!(formatter, "{character}")?,
                ' '..='~' => write!(formatter, "{character}")?,
                _ if number <= 0xffff => write!(formatter, "\\u{number:04X}")?,
                _ => write!(formatter, "\\U{number:08X}")?,
            }
        }
        formatter.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    #[test]
    fn a_quoted_text_is_one_line_and_reads_back() {
        for text in ["room:{id}", "a\"b\\c", "ä:\u{202e}x", "a\nb\t\u{7f}", "\u{e0001}", "日本"] {
            let line = format!("{} = 1", Quoted(text));
            assert!(!line.contains(['\n', '\u{202e}', '\u{e0001}', '\u{7f}']), "{line}");
            let table = DeTable::parse(&line).expect("it is TOML");
            assert!(table.get_ref().keys().any(|key| key.get_ref() == text), "{line}");
        }
        assert_eq!(Quoted("日本").to_string(), "\"日本\"");
    }
}
