//! `moorline store`.

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use moorline_server::{
    protocol::{
        channel::{ChannelId, Kind, Mark, Position},
        payload::Name,
        subject::Tenant,
        time::UnixMillis,
    },
    storage::{self, ArchiveHeader, Import, Outline, Retention, View},
};
use serde_json::{Value, json};

use crate::{
    args::{Of, Place, StoreCommand, StoredKind},
    control::configuration,
    message::{date, position_text, word},
};

/// Channels that are looked up in one go.
const PAGE: usize = 256;

pub(crate) fn run(config: Option<&Path>, command: StoreCommand) -> anyhow::Result<()> {
    let data_dir = |place: Place| Ok::<_, anyhow::Error>(configuration(config, place)?.server.data_dir);
    match command {
        StoreCommand::Ls { tenant, kind, json, place } => {
            unless_unread(ls(&storage::look(&data_dir(place)?)?, tenant.as_ref(), kind, json))
        }
        StoreCommand::Stat { name, json, of } => {
            let (channel, place) = of.channel(name);
            let view = storage::look(&data_dir(place)?)?;
            let found = view.outline(&channel)?.ok_or(storage::StorageError::NoSuchChannel(channel))?;
            let text = if json { format!("{}\n", stat_json(&found)) } else { stat(&found) };
            unless_unread(io::stdout().lock().write_all(text.as_bytes()).map_err(Into::into))
        }
        StoreCommand::Export { name, output, force, of } => {
            let (channel, place) = of.channel(name);
            export(&data_dir(place)?, &channel, &output, force)
        }
        StoreCommand::Import { file, name, tenant, replace, place } => {
            let channel = |was: &ChannelId| {
                let tenant = tenant.unwrap_or_else(|| was.tenant.clone());
                ChannelId::new(tenant, was.kind, name.unwrap_or_else(|| was.name.clone()))
            };
            import(&data_dir(place)?, Import { file: &file, channel, replace })
        }
        StoreCommand::Backup { file, force, place } => back_up(&data_dir(place)?, &file, force),
        StoreCommand::Restore { file, replace, place } => {
            storage::restore(&data_dir(place)?, &file, replace)?;
            eprintln!("put back; clients that have seen more than it has are told a gap (diverged) and begin anew");
            Ok(())
        }
        StoreCommand::Rm { names, of } => {
            let data_dir = data_dir(of.place.clone())?;
            for name in names {
                let (channel, _) = of.clone().channel(name);
                storage::remove(&data_dir, &channel)?;
                eprintln!("removed {} {}", channel.kind.name(), titled(&channel));
            }
            Ok(())
        }
        StoreCommand::Compact { name, of } => {
            let (channel, place) = of.any(name);
            compact(&data_dir(place)?, channel.as_ref())
        }
        StoreCommand::Verify { name, of } => {
            let (channel, place) = of.any(name);
            verify(&data_dir(place)?, channel.as_ref())
        }
    }
}

impl Of {
    fn channel(self, name: Name) -> (ChannelId, Place) {
        (ChannelId::new(self.tenant, self.kind.into(), name), self.place)
    }

    fn any(self, name: Option<Name>) -> (Option<ChannelId>, Place) {
        match name {
            Some(name) => {
                let (channel, place) = self.channel(name);
                (Some(channel), place)
            }
            None => (None, self.place),
        }
    }
}

impl From<StoredKind> for Kind {
    fn from(kind: StoredKind) -> Self {
        match kind {
            StoredKind::Store => Self::Store,
            StoredKind::Topic => Self::Topic,
        }
    }
}

/// That nobody reads the output any more is an end like any.
fn unless_unread(done: anyhow::Result<()>) -> anyhow::Result<()> {
    let is_unread = |error: &anyhow::Error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    done.or_else(|error| if is_unread(&error) { Ok(()) } else { Err(error) })
}

fn ls(view: &View, tenant: Option<&Tenant>, kind: Option<StoredKind>, json: bool) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if !json {
        let (entries, bytes, snapshots, values) = ("ENTRIES", "BYTES", "SNAPSHOTS", "VALUES");
        writeln!(out, "KIND  {entries:>9} {bytes:>13} {snapshots:>9} {values:>7}  {:<36}  NAME", "POSITION")?;
    }
    for kind in kind.map_or_else(|| vec![StoredKind::Store, StoredKind::Topic], |kind| vec![kind]) {
        let mut after = None;
        loop {
            let channels = view.channels(kind.into(), tenant, after.as_ref(), PAGE)?;
            for channel in &channels {
                let Some(found) = view.outline(channel)? else { continue };
                match json {
                    true => writeln!(out, "{}", ls_json(&found))?,
                    false => writeln!(out, "{}", line(&found))?,
                }
            }
            let is_last = channels.len() < PAGE;
            after = channels.into_iter().next_back();
            if is_last {
                break;
            }
        }
    }
    Ok(out.flush()?)
}

fn line(found: &Outline) -> String {
    let Outline { channel, usage, .. } = found;
    format!(
        "{:<5} {:>9} {:>13} {:>9} {:>7}  {:<36}  {}",
        channel.kind.name(),
        usage.entries,
        bytes(found),
        usage.snapshots,
        usage.values,
        position(found, found.bounds.head),
        titled(channel)
    )
}

/// Its name as one word, and whose it is.
fn titled(channel: &ChannelId) -> String {
    let name = word(channel.name.as_str());
    if channel.tenant == Tenant::default() { name } else { format!("{name} tenant {}", word(channel.tenant.as_str())) }
}

fn bytes(found: &Outline) -> u64 {
    let usage = &found.usage;
    usage.entry_bytes.saturating_add(usage.snapshot_bytes).saturating_add(usage.value_bytes)
}

fn position(found: &Outline, mark: Mark) -> String {
    position_text(Position { epoch: found.bounds.epoch, mark })
}

fn ls_json(found: &Outline) -> Value {
    let Outline { channel, bounds, usage, .. } = found;
    json!({
        "kind": channel.kind.name(),
        "tenant": channel.tenant.as_str(),
        "name": channel.name.as_str(),
        "position": position(found, bounds.head),
        "offset": bounds.head.offset.0,
        "entries": usage.entries,
        "entry_bytes": usage.entry_bytes,
        "snapshots": usage.snapshots,
        "snapshot_bytes": usage.snapshot_bytes,
        "values": usage.values,
        "value_bytes": usage.value_bytes,
        "bytes": bytes(found),
    })
}

fn stat_json(found: &Outline) -> Value {
    let mut value = ls_json(found);
    let covered = found.snapshots.iter().map(|snapshot| {
        json!({
            "covers": snapshot.covers.offset.0,
            "position": position(found, snapshot.covers),
            "at": snapshot.at.0,
            "bytes": snapshot.bytes,
            "entries_after": snapshot.behind,
        })
    });
    value["epoch"] = epoch(found).into();
    value["trimmed"] = found.bounds.trimmed.offset.0.into();
    value["oldest_at"] = found.oldest.map(|at| at.0).into();
    value["newest_at"] = found.newest.map(|at| at.0).into();
    value["coverage"] = covered.collect();
    value["operations"] = found.operations.into();
    let Retention { entries, bytes, age } = found.kept;
    let limit = |number: u64| (number != u64::MAX).then_some(number);
    let age = (age != Duration::MAX).then(|| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    value["kept"] = json!({ "entries": limit(entries), "bytes": limit(bytes), "age_ms": age });
    value
}

fn epoch(found: &Outline) -> String {
    found.bounds.epoch.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lines for a person.
fn stat(found: &Outline) -> String {
    let Outline { channel, bounds, usage, .. } = found;
    let mut lines = vec![format!("{:<10} {}", channel.kind.name(), titled(channel))];
    let mut line = |name: &str, text: String| lines.push(format!("{name:<10} {text}"));
    line("epoch", epoch(found));
    line("head", format!("entry {}, position {}", bounds.head.offset.0, position(found, bounds.head)));
    line(
        "trimmed",
        match bounds.trimmed.offset.0 {
            0 => "nothing was dropped".to_owned(),
            offset => format!("up to entry {offset}"),
        },
    );
    let ages = match (found.oldest, found.newest) {
        (Some(oldest), Some(newest)) => format!("; the oldest {}, the newest {}", age(oldest), age(newest)),
        _ => String::new(),
    };
    line("entries", format!("{} of {} bytes{ages}", usage.entries, usage.entry_bytes));
    line("snapshots", format!("{} of {} bytes", usage.snapshots, usage.snapshot_bytes));
    for snapshot in &found.snapshots {
        let (covers, behind) = (snapshot.covers.offset.0, snapshot.behind);
        let made = age(snapshot.at);
        line(
            "",
            format!(
                "up to entry {covers}, {}, made {made}; {} after it",
                many(snapshot.bytes, "byte", "bytes"),
                many(behind, "entry", "entries")
            ),
        );
    }
    line("values", format!("{} of {} bytes", usage.values, usage.value_bytes));
    line("operations", format!("{} are known again when they come a second time", found.operations));
    let Retention { entries, bytes, age } = found.kept;
    let kept: Vec<String> = [
        (entries != u64::MAX).then(|| format!("{entries} entries")),
        (bytes != u64::MAX).then(|| format!("{bytes} bytes")),
        (age != Duration::MAX).then(|| rough(age)),
    ]
    .into_iter()
    .flatten()
    .collect();
    line("kept", if kept.is_empty() { "everything".to_owned() } else { format!("at most {}", kept.join(", ")) });
    lines.join("\n") + "\n"
}

fn age(at: UnixMillis) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match now.checked_sub(Duration::from_millis(at.0)) {
        Some(age) => format!("{} ago ({})", rough(age), date(at)),
        None => format!("in the future ({})", date(at)),
    }
}

/// The two largest units of a time.
fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, unit)| seconds >= *unit).unwrap_or(units.len() - 1);
    let mut left = seconds;
    let parts = units.iter().skip(first).take(2).map(|(name, unit)| {
        let count = left / unit;
        left %= unit;
        (count, name)
    });
    let parts: Vec<String> = parts
        .enumerate()
        .filter(|(place, (count, _))| *place == 0 || *count > 0)
        .map(|(_, (count, name))| format!("{count}{name}"))
        .collect();
    parts.join(" ")
}

/// So many of something.
fn many(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// What an export has.
fn contents(header: &ArchiveHeader) -> String {
    format!(
        "{}, {} and {}, {}",
        many(header.entries, "entry", "entries"),
        many(header.snapshots, "snapshot", "snapshots"),
        many(header.values, "value", "values"),
        many(header.bytes, "byte", "bytes")
    )
}

/// A bar on a terminal, nothing elsewhere.
fn bar() -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}, {eta} left")?;
    Ok(ProgressBar::new(0).with_style(style))
}

fn export(data_dir: &Path, channel: &ChannelId, output: &Path, force: bool) -> anyhow::Result<()> {
    let to_stdout = output == Path::new("-");
    ensure!(
        !to_stdout || !io::stdout().is_terminal(),
        "an export is not for a terminal: name a file with -o, or pass it on to a program"
    );
    let view = storage::look(data_dir)?;
    let bar = bar()?;
    let mut progress = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let done = match to_stdout {
        true => storage::export(&view, channel, io::stdout().lock(), &mut progress),
        false => storage::export_file(&view, channel, output, force, &mut progress),
    };
    bar.finish_and_clear();
    let header = done?;
    let (kind, contents) = (channel.kind.name(), contents(&header));
    eprintln!("exported {kind} {}: {contents}, up to entry {}", titled(channel), header.bounds.head.offset.0);
    Ok(())
}

fn back_up(data_dir: &Path, file: &Path, force: bool) -> anyhow::Result<()> {
    storage::back_up(data_dir, file, force)?;
    let bytes = fs::metadata(file).map(|metadata| metadata.len())?;
    eprintln!("copied everything: {}", many(bytes, "byte", "bytes"));
    Ok(())
}

fn import<F: FnOnce(&ChannelId) -> ChannelId>(data_dir: &Path, import: Import<'_, F>) -> anyhow::Result<()> {
    let bar = bar()?;
    let done = storage::import(data_dir, import, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let (header, channel, imported) = done?;
    let (kind, contents) = (channel.kind.name(), contents(&header));
    eprintln!("imported {kind} {}, as it was at {}: {contents}", titled(&channel), date(header.at));
    if imported.replaced {
        eprintln!("what there was of this name is gone");
    }
    eprintln!("it is a log of its own: clients that have followed it are told a gap (recreated) and begin anew");
    writeln!(io::stdout().lock(), "{}", position_text(imported.end))?;
    Ok(())
}

fn compact(data_dir: &Path, channel: Option<&ChannelId>) -> anyhow::Result<()> {
    let done = storage::compact(data_dir, channel)?;
    writeln!(
        io::stdout().lock(),
        "dropped {}, {} and {}; {} bytes before, {} after",
        many(done.entries, "entry", "entries"),
        many(done.snapshots, "snapshot", "snapshots"),
        many(done.operations, "operation", "operations"),
        done.before,
        done.after
    )?;
    if done.is_read {
        eprintln!("somebody reads the file at this moment: it shrinks when a server has it again");
    }
    Ok(())
}

fn verify(data_dir: &Path, channel: Option<&ChannelId>) -> anyhow::Result<()> {
    let view = storage::look(data_dir)?;
    let mut out = io::stdout().lock();
    let (mut found, mut printed) = (0_u64, Ok(()));
    let looked_at = view
        .verify(channel, &mut |finding| {
            found += 1;
            if printed.is_ok() {
                printed = writeln!(out, "{finding}");
            }
        })
        .context("the file cannot be read to its end")?;
    if let (0, Some(channel)) = (looked_at, channel) {
        return Err(storage::StorageError::NoSuchChannel(channel.clone()).into());
    }
    unless_unread(printed.map_err(Into::into))?;
    if found > 0 {
        bail!(
            "{}; put the channel back from an earlier export, with the server stopped: moorline store import FILE --replace",
            many(found, "finding", "findings")
        );
    }
    eprintln!("{}, and nothing is wrong", many(looked_at, "channel", "channels"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_by_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m 1s"),
            (3_600, "1h"),
            (3_661, "1h 1m"),
            (86_400 + 59, "1d"),
            (9 * 86_400 + 7_200, "9d 2h"),
        ] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
    }
}
