//! Sections of tables that the file names itself, by what each is about: `[topics."room:{id}"]`. The environment has no
//! variables for them.

use std::path::Path;

use moorline_protocol::pattern::Pattern;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::ConfigError,
    place::{Place, TableName},
    problem::{Problem, nearest},
    sections::Config,
    value::{Misfit, Slot, Value, entries, fill, type_name},
};

/// A setting of such a table: its name, and the field it fills.
pub(super) type Key<S> = (&'static str, fn(&mut S) -> Slot<'_>);

/// What one table of such a section says.
pub(super) trait Named: Sized + 'static {
    /// The section's name, and one of a table.
    const SECTION: (&'static str, &'static str);

    /// What may stand in a table. One that stands in a table within it has that one's name and a dot before it.
    const KEYS: &'static [Key<Self>];

    /// The tables within it, each with what it must be, for messages.
    const TABLES: &'static [(&'static str, &'static str)];

    /// A table that says nothing yet.
    fn at(place: Place, pattern: Pattern) -> Self;

    /// There is a table of this name within it, whether or not there is anything in that.
    fn open(&mut self, table: &str);

    /// Where they are kept.
    fn all(config: &mut Config) -> &mut Vec<Self>;
}

/// A section of named tables.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// Reads one of its tables.
    pub(super) read: fn(&mut Config, &str, &Spanned<DeValue<'_>>, &Reading<'_>) -> Result<(), ConfigError>,
}

impl Section {
    pub(super) const fn of<S: Named>() -> Self {
        Self { name: S::SECTION.0, read: read::<S> }
    }
}

/// Where a table stands, and in what file.
pub(super) struct Reading<'a> {
    pub(super) at: usize,
    pub(super) place: &'a dyn Fn(usize) -> Place,
    pub(super) base_dir: &'a Path,
}

fn read<S: Named>(
    config: &mut Config,
    name: &str,
    value: &Spanned<DeValue<'_>>,
    reading: &Reading<'_>,
) -> Result<(), ConfigError> {
    let place = (reading.place)(reading.at);
    let table = TableName { section: S::SECTION.0, name: name.into() };
    let DeValue::Table(entries) = value.get_ref() else { return Err(ConfigError::NotATable { place, table }) };
    let pattern = Pattern::parse(name).map_err(|error| ConfigError::InvalidPattern {
        place: place.clone(),
        table: table.clone(),
        error,
    })?;
    let mut section = S::at(place, pattern);
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
                nearest: nearest(name, known.iter().map(|known| (*known, *known))),
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
