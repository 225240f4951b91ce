//! Sections of tables that the file names itself, by what each is about: `[topics."room:{id}"]`. The environment has no
//! variables for them.
//!
//! One more such section is a type that is [`Named`] and its line in [`SECTIONS`].

use std::{fmt, path::Path};

use moorline_protocol::pattern::Pattern;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config,
    channels::{StoreSection, TopicSection},
    error::{ConfigError, Place, Problem, TableName},
    file::entries,
    keys,
    value::{Misfit, Slot, Value, fill, type_name},
};

/// Every section of named tables.
pub(super) const SECTIONS: &[Section] = &[section::<TopicSection>(), section::<StoreSection>()];

/// A setting of such a table: its name, and the field it fills.
pub(super) type Key<S> = (&'static str, fn(&mut S) -> Slot<'_>);

/// What one table of such a section says.
pub(super) trait Named: Sized + 'static {
    /// The section's name.
    const SECTION: &'static str;

    /// A name of a table, for messages.
    const EXAMPLE: &'static str;

    /// What may stand in a table. One that stands in a table within it has that one's name and a dot before it.
    const KEYS: &'static [Key<Self>];

    /// The tables within it, each with what it must be, for messages.
    const TABLES: &'static [(&'static str, &'static str)];

    /// A table that says nothing yet.
    fn new(pattern: Pattern, place: Place) -> Self;

    /// There is a table of this name within it, whether or not there is anything in that.
    fn open(&mut self, table: &str);

    /// Where they are kept.
    fn all(config: &mut Config) -> &mut Vec<Self>;
}

/// A section of named tables.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// A name of one of its tables.
    pub(super) example: &'static str,
    /// Reads one of its tables.
    pub(super) read: fn(&mut Config, &str, &Spanned<DeValue<'_>>, &Reading<'_>) -> Result<(), ConfigError>,
}

const fn section<S: Named>() -> Section {
    Section { name: S::SECTION, example: S::EXAMPLE, read: read::<S> }
}

/// Where a table stands, and in what file.
pub(super) struct Reading<'a> {
    pub(super) at: usize,
    pub(super) place: &'a dyn Fn(usize) -> Place,
    pub(super) base_dir: &'a Path,
}

/// The section of this name.
pub(super) fn find(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

fn read<S: Named>(
    config: &mut Config,
    name: &str,
    value: &Spanned<DeValue<'_>>,
    reading: &Reading<'_>,
) -> Result<(), ConfigError> {
    let place = (reading.place)(reading.at);
    let table = TableName { section: S::SECTION, name: name.into() };
    let DeValue::Table(entries) = value.get_ref() else { return Err(ConfigError::NotATable { place, table }) };
    let pattern = Pattern::parse(name).map_err(|error| ConfigError::InvalidPattern {
        place: place.clone(),
        table: table.clone(),
        error,
    })?;
    let mut section = S::new(pattern, place);
    walk(&mut section, &table, "", entries, reading)?;
    S::all(config).push(section);
    Ok(())
}

/// Reads the table of this path within a named one: nothing for that itself, otherwise a name and a dot.
fn walk<S: Named>(
    section: &mut S,
    table: &TableName,
    within: &'static str,
    found: &DeTable<'_>,
    reading: &Reading<'_>,
) -> Result<(), ConfigError> {
    for (name, at, value) in entries(found) {
        let path = if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") };
        let misfit = |key: &'static str, Misfit { problem, at: part }| {
            let place = (reading.place)(part.unwrap_or(at));
            ConfigError::InvalidInTable { place, table: table.clone(), key, problem: Box::new(problem) }
        };
        if let Some((key, slot)) = S::KEYS.iter().find(|(key, _)| *key == path) {
            fill(slot(section), Value::Toml(value), reading.base_dir, (reading.place)(at))
                .map_err(|found| misfit(key, found))?;
            continue;
        }
        let Some((inner, wanted)) = S::TABLES.iter().find(|(inner, _)| *inner == path) else {
            let known: Vec<&'static str> = known::<S>(within);
            return Err(ConfigError::UnknownKeyInTable {
                place: (reading.place)(at),
                table: table.clone(),
                within,
                nearest: keys::nearest(name, known.iter().map(|known| (*known, *known))),
                name: name.into(),
                known,
            });
        };
        let DeValue::Table(entries) = value.get_ref() else {
            let problem = Problem::WrongType { wanted, found: type_name(value.get_ref()) };
            return Err(misfit(inner, Misfit { problem, at: Some(value.span().start) }));
        };
        section.open(inner);
        walk(section, table, inner, entries, reading)?;
    }
    Ok(())
}

/// What may stand in the table of this path.
fn known<S: Named>(within: &str) -> Vec<&'static str> {
    let mut known: Vec<&'static str> = match within {
        "" => S::TABLES.iter().map(|(name, _)| *name).filter(|name| !name.contains('.')).collect(),
        _ => Vec::new(),
    };
    known.extend(S::KEYS.iter().filter_map(|(key, _)| match key.rsplit_once('.') {
        Some((table, name)) => (table == within).then_some(name),
        None => within.is_empty().then_some(*key),
    }));
    known
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
