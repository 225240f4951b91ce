//! The file with everything of channels that is kept, for who looks after a server: to look into it beside a server that
//! runs ([`look`]), to carry channels out of it ([`export`], [`export_file`]) and into it ([`import`]), all of it elsewhere
//! ([`back_up`]) and back ([`restore`]), to make it smaller ([`compact`], [`remove`]).
//!
//! What only reads may go on beside a server. What writes takes the data directory, as a server does. Nothing here makes a
//! path of a channel's name.

mod error;
mod unfinished;

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter},
    path::Path,
};

use moorline_engine::{Archive, ExportError, ImportError, OpenError, SqliteFile};
pub use moorline_engine::{
    ArchiveHeader, Compacted, Fault, Finding, Imported, Outline, OutlinedSnapshot, Retention, SqliteView as View, Usage,
};
use moorline_protocol::channel::ChannelId;

pub use self::error::StorageError;
use self::unfinished::Unfinished;
use crate::{
    clock::now,
    data_dir::{DataDir, DataDirError},
};

/// The file's name in the data directory.
pub(crate) const FILE: &str = "channels.sqlite";

/// Looks into the file of a data directory, at what is there at this moment. A server may go on writing; what it writes
/// waits beside the file until the view is dropped.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn look(data_dir: &Path) -> Result<View, StorageError> {
    let path = data_dir.join(FILE);
    View::open(&path).map_err(|error| match error {
        OpenError::Missing => StorageError::Nothing(path),
        error => StorageError::Open { path, error },
    })
}

/// Writes everything of a channel, in the form of `docs/PROTOCOL.md` § Exports and in constant memory. `progress` is told the
/// bytes of content so far, and of all.
///
/// # Errors
/// When there is no such channel, it is damaged, or something cannot be read or written. What was written until then is no export.
pub fn export(
    view: &View,
    channel: &ChannelId,
    out: impl io::Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ArchiveHeader, StorageError> {
    let out = BufWriter::with_capacity(BUFFER, out);
    view.export(channel, now(), out, progress).map_err(|error| match error {
        ExportError::NoSuchChannel => StorageError::NoSuchChannel(channel.clone()),
        ExportError::Fault(fault) => StorageError::Damaged(channel.clone(), fault),
        ExportError::Engine(error) => StorageError::Engine(error),
        ExportError::Write(error) => StorageError::Write(error),
        // More kinds than there are.
        other => StorageError::Write(io::Error::other(other)),
    })
}

/// The same to a file, which is there whole or not at all. One that is there is replaced only if that is meant.
///
/// # Errors
/// As [`export`], and when there is a file that is not to be replaced.
pub fn export_file(
    view: &View,
    channel: &ChannelId,
    path: &Path,
    replace: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ArchiveHeader, StorageError> {
    if !replace && path.try_exists().map_err(StorageError::Write)? {
        return Err(StorageError::FileExists(path.to_owned()));
    }
    let unfinished = Unfinished::new(path)?;
    let header = export(view, channel, &unfinished.file, progress)?;
    unfinished.finish(path, replace)?;
    Ok(header)
}

/// So much is read or written at once.
const BUFFER: usize = 256 * 1024;

/// The data directory and the file in it, which nobody else changes meanwhile.
fn take(data_dir: &Path) -> Result<(DataDir, SqliteFile), StorageError> {
    let directory = hold(data_dir)?;
    let path = data_dir.join(FILE);
    let file = SqliteFile::open(&path, seed()?).map_err(|error| StorageError::Open { path, error })?;
    Ok((directory, file))
}

fn hold(data_dir: &Path) -> Result<DataDir, StorageError> {
    DataDir::open(data_dir).map_err(|error| match error {
        DataDirError::Taken { path, pid } => StorageError::Taken { path, pid },
        error => StorageError::DataDir(error),
    })
}

fn seed() -> Result<[u8; 32], StorageError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| StorageError::NoEntropy)?;
    Ok(seed)
}

/// What is to become of an import.
#[derive(Debug)]
pub struct Import<'a, F> {
    /// The export.
    pub file: &'a Path,
    /// As which channel, by the one that it was.
    pub channel: F,
    /// Whether one that is there is replaced.
    pub replace: bool,
}

/// Puts a channel in from an export, all of it or nothing: it is read to its end before anything changes. It has the offsets
/// that it had, and another epoch: who has followed it is told a gap, `recreated`. The data directory is made where it is not
/// there. `progress` is told the bytes of content so far, and of all; they are read twice.
///
/// # Errors
/// When it is no whole export, there is a channel of its name, a server has the data directory, or it cannot be written.
pub fn import<F: FnOnce(&ChannelId) -> ChannelId>(
    data_dir: &Path,
    import: Import<'_, F>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(ArchiveHeader, ChannelId, Imported), StorageError> {
    let Import { file: path, channel, replace } = import;
    let unreadable = |error| StorageError::Read { path: path.to_owned(), error };
    let wrong = |error| StorageError::Archive { path: path.to_owned(), error };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(StorageError::NotAFile(path.to_owned()));
    }
    let open = || {
        let file = File::open(path).map_err(unreadable)?;
        Archive::open(BufReader::with_capacity(BUFFER, file)).map_err(wrong)
    };
    let archive = open()?;
    let all = archive.header().bytes.saturating_mul(2);
    let header = archive.check(&mut |done| progress(done, all)).map_err(wrong)?;
    let channel = channel(&header.channel);
    let (_alone, mut file) = take(data_dir)?;
    let mut progress = |done| progress(header.bytes.saturating_add(done), all);
    let imported = file.import(open()?, &channel, replace, &mut progress).map_err(|error| match error {
        ImportError::Exists => StorageError::Exists(channel.clone()),
        ImportError::Archive(error) => wrong(error),
        ImportError::Engine(error) => StorageError::Engine(error),
        other => StorageError::Read { path: path.to_owned(), error: io::Error::other(other) },
    })?;
    Ok((header, channel, imported))
}

/// Drops what is of no use any more, of one channel or of all, and gives the room back to the system. What a snapshot covers
/// goes, and the snapshot before it: there is no way back to that.
///
/// # Errors
/// When there is no such channel or no file, a server has the data directory, or the disk is full.
pub fn compact(data_dir: &Path, only: Option<&ChannelId>) -> Result<Compacted, StorageError> {
    let path = data_dir.join(FILE);
    if !path.try_exists().unwrap_or(true) {
        return Err(StorageError::Nothing(path));
    }
    let (_alone, mut file) = take(data_dir)?;
    let missing = || only.map_or(StorageError::Nothing(path), |channel| StorageError::NoSuchChannel(channel.clone()));
    file.compact(only, now())?.ok_or_else(missing)
}

/// Removes a channel and everything in it. Whoever has followed it is told a gap, `recreated`, when it is asked for again.
///
/// # Errors
/// When there is no such channel or no file, a server has the data directory, or it cannot be written.
pub fn remove(data_dir: &Path, channel: &ChannelId) -> Result<(), StorageError> {
    let path = data_dir.join(FILE);
    if !path.try_exists().unwrap_or(true) {
        return Err(StorageError::Nothing(path));
    }
    let (_alone, mut file) = take(data_dir)?;
    match file.remove(channel)? {
        true => Ok(()),
        false => Err(StorageError::NoSuchChannel(channel.clone())),
    }
}

/// Copies the whole file as it is at one moment, while a server may go on writing: all channels, and what handlers keep.
/// The copy is its owner's alone, and there whole or not at all; one that is there is replaced only if that is meant.
///
/// # Errors
/// When there is no file, it is damaged so that it cannot be read to its end, or the copy cannot be written.
pub fn back_up(data_dir: &Path, to: &Path, replace: bool) -> Result<(), StorageError> {
    if !replace && to.try_exists().map_err(StorageError::Write)? {
        return Err(StorageError::FileExists(to.to_owned()));
    }
    let view = look(data_dir)?;
    let unfinished = Unfinished::new(to)?;
    view.back_up(&unfinished.path)?;
    unfinished.finish(to, replace)
}

/// Puts a backup in the place of everything that is kept, all of it or nothing, after it was looked through. Clients that
/// have seen more than it has are told a gap, `diverged`.
///
/// # Errors
/// When it is no sound backup, channels are kept here and not to be replaced, a server has the data directory, or it cannot
/// be written. Nothing has changed then.
pub fn restore(data_dir: &Path, from: &Path, replace: bool) -> Result<(), StorageError> {
    let unreadable = |error| StorageError::Read { path: from.to_owned(), error };
    let no_backup = |error| StorageError::Backup { path: from.to_owned(), error };
    let mut source = File::open(from).map_err(unreadable)?;
    let _alone = hold(data_dir)?;
    let path = data_dir.join(FILE);
    if !replace && path.try_exists().map_err(StorageError::Write)? {
        return Err(StorageError::Kept(path));
    }
    let mut unfinished = Unfinished::new(&path)?;
    io::copy(&mut source, &mut unfinished.file).map_err(StorageError::Write)?;
    match View::open(&unfinished.path) {
        // One of an earlier version becomes one of this, as it would when the server starts.
        Ok(_) | Err(OpenError::Older { found: 1.., .. }) => {}
        Err(error) => return Err(no_backup(error)),
    }
    drop(SqliteFile::open(&unfinished.path, seed()?).map_err(no_backup)?);
    let (mut findings, mut first) = (0, None);
    View::open(&unfinished.path).map_err(no_backup)?.verify(None, &mut |finding| {
        findings += 1;
        first.get_or_insert(finding);
    })?;
    SqliteFile::settle(&unfinished.path).map_err(StorageError::Write)?;
    if let Some(first) = first {
        return Err(StorageError::Unsound { path: from.to_owned(), findings, first });
    }
    // What stands beside the present file is no part of the one that takes its place. It goes first: with it a power cut in
    // between would leave the one with what belongs to the other.
    SqliteFile::settle(&path).map_err(StorageError::Write)?;
    unfinished.finish(&path, true)
}

#[cfg(test)]
mod tests {
    use moorline_engine::{Append, Engine as _, Expected, Key, SqliteEngine};
    use moorline_protocol::{channel::Kind, payload::Name, subject::Tenant};

    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn store(name: &str) -> ChannelId {
        ChannelId::new(Tenant::default(), Kind::Store, Name::new(name).expect("a name"))
    }

    #[tokio::test]
    async fn an_export_is_there_whole_or_not_at_all_and_its_owners_alone() -> TestResult {
        let dir = tempfile::tempdir()?;
        let log = store("../log");
        let engine = SqliteEngine::open(&dir.path().join(FILE), [1; 32])?;
        engine.append(&log, Append::new("a".into(), now(), Retention::ALL)).await?;
        let view = look(dir.path())?;
        let target = dir.path().join("export");
        let to = |channel: &ChannelId, replace| export_file(&view, channel, &target, replace, &mut |_, _| {}).map(drop);
        assert!(matches!(to(&store("none"), false), Err(StorageError::NoSuchChannel(_))));
        assert!(!target.exists());
        to(&log, false)?;
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&target)?.permissions()) & 0o777, 0o600);
        assert!(matches!(to(&log, false), Err(StorageError::FileExists(_))));
        fs::write(&target, "something else")?;
        assert!(to(&store("none"), true).is_err());
        assert_eq!(fs::read_to_string(&target)?, "something else");
        to(&log, true)?;
        assert_eq!(fs::read(&target)?[..8], *b"moorline");
        let left: Vec<_> =
            fs::read_dir(dir.path())?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
        Ok(())
    }

    async fn append(data: &Path, name: &str, content: &'static str) -> TestResult {
        let engine = SqliteEngine::open(&data.join(FILE), [1; 32])?;
        engine.append(&store(name), Append::new(content.into(), now(), Retention::ALL)).await?;
        Ok(())
    }

    fn entries(data: &Path, name: &str) -> Result<Option<u64>, Box<dyn std::error::Error>> {
        Ok(look(data)?.outline(&store(name))?.map(|found| found.usage.entries))
    }

    #[tokio::test]
    async fn a_backup_is_put_back_whole_or_nothing_changes() -> TestResult {
        let dir = tempfile::tempdir()?;
        let [data, other] = ["data", "other"].map(|name| dir.path().join(name));
        fs::create_dir(&data)?;
        let backup = dir.path().join("backup");
        assert!(matches!(back_up(&data, &backup, false), Err(StorageError::Nothing(_))));
        append(&data, "log", "what one says").await?;
        let key = Key { tenant: Tenant::default(), namespace: "scores".into(), name: "ann".into() };
        SqliteEngine::open(&data.join(FILE), [1; 32])?.put(&key, "7".into(), Expected::Anything).await?;
        back_up(&data, &backup, false)?;
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&backup)?.permissions()) & 0o777, 0o600);
        assert!(matches!(back_up(&data, &backup, false), Err(StorageError::FileExists(_))));
        append(&data, "log", "two").await?;

        restore(&other, &backup, false)?;
        assert_eq!((entries(&other, "log")?, entries(&data, "log")?), (Some(1), Some(2)));
        let kept = SqliteEngine::open(&other.join(FILE), [1; 32])?.get(&key).await?;
        assert_eq!(kept.map(|kept| kept.value), Some("7".into()), "what handlers keep is in it, too");
        assert!(matches!(restore(&data, &backup, false), Err(StorageError::Kept(_))));
        // What is none, or is damaged, changes nothing, and nothing is left of it.
        let wrong = dir.path().join("wrong");
        for content in ["", "moorline export\n"] {
            fs::write(&wrong, content)?;
            assert!(matches!(restore(&data, &wrong, true), Err(StorageError::Backup { .. })), "{content}");
        }
        // A bit of what was written has flipped.
        let mut bytes = fs::read(&backup)?;
        let place = bytes.windows(8).rposition(|bytes| bytes == b"what one").ok_or("it is not there")?;
        bytes[place] ^= 1;
        fs::write(&wrong, bytes)?;
        let unsound = restore(&data, &wrong, true);
        assert!(matches!(unsound, Err(StorageError::Unsound { findings: 1, .. })), "{unsound:?}");
        assert_eq!(entries(&data, "log")?, Some(2));
        let _alone = DataDir::open(&data)?;
        assert!(matches!(restore(&data, &backup, true), Err(StorageError::Taken { .. })));
        drop(_alone);
        restore(&data, &backup, true)?;
        assert_eq!(entries(&data, "log")?, Some(1));
        append(&data, "log", "another two").await?;
        let hidden: Vec<_> =
            fs::read_dir(&data)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        assert!(!hidden.iter().any(|name| name.contains(".part")), "{hidden:?}");
        Ok(())
    }

    /// Beside the file of a killed server stands what it wrote last; it must not come into the one that takes its place.
    #[tokio::test]
    async fn what_stands_beside_a_file_goes_with_it_when_a_backup_takes_its_place() -> TestResult {
        let dir = tempfile::tempdir()?;
        let [data, killed] = ["data", "killed"].map(|name| dir.path().join(name));
        fs::create_dir(&data)?;
        fs::create_dir(&killed)?;
        let backup = dir.path().join("backup");
        append(&data, "log", "one").await?;
        back_up(&data, &backup, false)?;
        let engine = SqliteEngine::open(&data.join(FILE), [1; 32])?;
        engine.append(&store("late"), Append::new("x".into(), now(), Retention::ALL)).await?;
        for end in ["", "-wal"] {
            fs::copy(data.join(format!("{FILE}{end}")), killed.join(format!("{FILE}{end}")))?;
        }
        assert_eq!(entries(&killed, "late")?, Some(1));
        restore(&killed, &backup, true)?;
        assert_eq!((entries(&killed, "log")?, entries(&killed, "late")?), (Some(1), None));
        let mut found = Vec::new();
        look(&killed)?.verify(None, &mut |finding| found.push(finding))?;
        assert!(found.is_empty(), "{found:?}");
        Ok(())
    }

    #[tokio::test]
    async fn what_is_removed_is_gone_and_the_rest_is_there() -> TestResult {
        let dir = tempfile::tempdir()?;
        append(dir.path(), "one", "x").await?;
        append(dir.path(), "two", "x").await?;
        remove(dir.path(), &store("one"))?;
        assert!(matches!(remove(dir.path(), &store("one")), Err(StorageError::NoSuchChannel(_))));
        assert_eq!((entries(dir.path(), "one")?, entries(dir.path(), "two")?), (None, Some(1)));
        Ok(())
    }

    #[test]
    fn nothing_is_made_where_there_is_nothing_to_look_at() -> TestResult {
        let dir = tempfile::tempdir()?;
        let data = dir.path().join("data");
        assert!(matches!(look(&data), Err(StorageError::Nothing(_))));
        assert!(matches!(compact(&data, None), Err(StorageError::Nothing(_))));
        let wrong = dir.path().join("wrong");
        fs::write(&wrong, "moor")?;
        let read = Import { file: &wrong, channel: ChannelId::clone, replace: false };
        assert!(matches!(import(&data, read, &mut |_, _| {}), Err(StorageError::Archive { .. })));
        assert!(!data.exists());
        Ok(())
    }
}
