//! What is kept of stores, as an operator looks into it, carries it elsewhere and makes it smaller, by the built program.
//! Most of it beside a server that runs.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use moorline_client::{
    Client, Store, StoreEvent, StoreOptions,
    protocol::channel::{Gap, Start, ValueHash},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::time::timeout;

use support::{PATIENCE, Running, SERVE, TestResult, finished, moorline};

const EVERYTHING: &str = "[stores.\"**\"]\nsnapshots = \"write\"\n[topics.\"room:{id}\"]\nhistory = {}\n";

fn directory() -> TestResult<TempDir> {
    let dir = TempDir::new()?;
    fs::write(dir.path().join("moorline.toml"), EVERYTHING)?;
    Ok(dir)
}

fn start(dir: &TempDir) -> TestResult<Running> {
    Running::start(&mut moorline(dir.path(), SERVE))
}

fn client(server: &Running) -> TestResult<Client> {
    let url = format!("ws://{}/moorline", server.authority());
    Ok(Client::builder(&url)?.server_key(server.text("/identity/0"))?.connect()?)
}

async fn next(store: &mut Store) -> TestResult<StoreEvent> {
    Ok(timeout(PATIENCE, store.next()).await?.ok_or("it is over")??)
}

/// A command that must succeed: what it prints, and what it says beside.
fn done(dir: &Path, arguments: &[&str]) -> TestResult<(String, String)> {
    let (code, shown, errors) = finished(&mut moorline(dir, &[&["store"], arguments].concat()))?;
    if code != Some(0) {
        return Err(format!("{shown}{errors}").into());
    }
    Ok((shown, errors))
}

/// A command that must fail: what it says.
fn refused(dir: &Path, arguments: &[&str]) -> TestResult<String> {
    let (code, shown, errors) = finished(&mut moorline(dir, &[&["store"], arguments].concat()))?;
    assert_eq!((code, shown.as_str()), (Some(1), ""), "{errors}");
    assert!(errors.starts_with("error: "), "{errors}");
    Ok(errors)
}

fn json(text: &str) -> TestResult<Value> {
    Ok(serde_json::from_str(text)?)
}

/// What a client that comes new reads of a store up to an entry: the snapshot, and the patches with their offsets.
async fn contents(server: &Running, name: &str, upto: u64) -> TestResult<(Option<Vec<u8>>, BTreeMap<u64, Vec<u8>>)> {
    let mut store = client(server)?.store(name, StoreOptions::default())?;
    let (mut snapshot, mut patches) = (None, BTreeMap::new());
    assert_eq!(next(&mut store).await?, StoreEvent::Opened(Start::New));
    while store.position().is_none_or(|position| position.mark.offset.0 < upto) {
        match next(&mut store).await? {
            StoreEvent::Snapshot { data, .. } => snapshot = Some(data.to_vec()),
            StoreEvent::Patch(patch) => _ = patches.insert(patch.position.mark.offset.0, patch.data.to_vec()),
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok((snapshot, patches))
}

fn value(text: &str) -> (ValueHash, Vec<u8>) {
    let value = [b"\0", text.as_bytes()].concat();
    (ValueHash(Sha256::digest(&value).into()), value)
}

fn database(dir: &TempDir) -> PathBuf {
    dir.path().join("moorline-data/channels.sqlite")
}

#[tokio::test]
async fn stores_are_listed_and_told_of_beside_a_running_server() -> TestResult {
    let dir = directory()?;
    assert!(refused(dir.path(), &["ls"])?.contains("no channel has ever been kept here"));
    let server = start(&dir)?;
    let ann = client(&server)?;
    // More than are looked up in one go.
    for number in 0..300 {
        ann.append(&format!("many/{number:03}"), "a patch", None).await?;
    }
    let covers = ann.append("notes/1", "one", None).await?;
    ann.append("notes/1", "two", None).await?;
    ann.publish("room:1", &"hello").await?;
    let mut notes = ann.store("notes/1", StoreOptions::default())?;
    notes.keep_snapshot(covers, "ONE").await?;
    let (hash, bytes) = value("large");
    notes.keep_value(hash, bytes).await?;

    let (shown, _) = done(dir.path(), &["ls", "--json"])?;
    let lines = shown.lines().map(json).collect::<TestResult<Vec<_>>>()?;
    let names: Vec<_> = lines.iter().map(|line| line["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names.len(), 302);
    assert_eq!((names[0], names[299], names[300], names[301]), ("many/000", "many/299", "notes/1", "room:1"));
    let found = &lines[300];
    assert_eq!(
        (&found["kind"], &found["entries"], &found["snapshots"], &found["values"]),
        (&"store".into(), &2.into(), &1.into(), &1.into())
    );
    assert_eq!(done(dir.path(), &["ls", "--kind", "topic"])?.0.lines().count(), 2);
    assert_eq!(done(dir.path(), &["ls", "--tenant", "acme", "--json"])?.0, "");
    let (shown, _) = done(dir.path(), &["ls"])?;
    let last = shown.lines().last().ok_or("no line")?;
    assert!(last.starts_with("topic         1 ") && last.ends_with(" room:1"), "{last}");
    // It is the position that other commands take.
    let position = lines[301]["position"].as_str().ok_or("no position")?;
    assert!(last.contains(position), "{last}");

    let found = json(&done(dir.path(), &["stat", "notes/1", "--json"])?.0)?;
    assert_eq!(
        (&found["offset"], &found["trimmed"], &found["coverage"][0]["covers"]),
        (&2.into(), &0.into(), &1.into())
    );
    assert_eq!((&found["coverage"][0]["entries_after"], &found["kept"]["bytes"]), (&1.into(), &Value::Null));
    let (shown, _) = done(dir.path(), &["stat", "notes/1"])?;
    for expected in ["store      notes/1\n", "nothing was dropped", "ago (2", "up to entry 1, 3 bytes", "everything"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(refused(dir.path(), &["stat", "notes/2"])?.contains("there is no store \"notes/2\""));
    assert!(refused(dir.path(), &["stat", "notes/1", "--tenant", "acme"])?.contains("of tenant \"acme\""));
    assert_eq!(done(dir.path(), &["stat", "room:1", "--kind", "topic"])?.0.lines().next(), Some("topic      room:1"));
    let (_, said) = done(dir.path(), &["verify"])?;
    assert_eq!(said, "302 channels, and nothing is wrong\n");
    Ok(())
}

/// On threads of their own, so that they write while the command runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_while_four_write_is_one_moment_and_is_the_same_elsewhere() -> TestResult {
    let [here, there] = [directory()?, directory()?];
    let server = start(&here)?;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (client, stop) = (client(&server)?, stop.clone());
            Ok(tokio::spawn(async move {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    client
                        .append("notes/1", format!("{writer}:{written}"), None)
                        .await
                        .map_err(|error| error.to_string())?;
                    written += 1;
                }
                Ok::<u64, String>(written)
            }))
        })
        .collect::<TestResult<_>>()?;
    let ann = client(&server)?;
    let mut notes = ann.store("notes/1", StoreOptions::default())?;
    let (hash, bytes) = value("a picture");
    notes.keep_value(hash, bytes.clone()).await?;
    let (mut exported, mut meanwhile) = (0, 0);
    let file = there.path().join("export");
    let target = file.to_str().ok_or("no text")?.to_owned();
    for _ in 0..5 {
        let covers = ann.append("notes/1", "snapshot", None).await?;
        notes.keep_snapshot(covers, "so far").await?;
        let (shown, said) = done(here.path(), &["export", "notes/1", "-o", &target, "--force"])?;
        assert_eq!(shown, "");
        let upto = said.trim().rsplit(' ').next().ok_or(said.clone())?.parse::<u64>()?;
        assert!(upto > exported, "{said}");
        exported = upto;
        meanwhile += ann.append("notes/1", "after", None).await?.mark.offset.0 - upto - 1;
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 10;
    for writer in writers {
        written += writer.await??;
    }
    assert!(meanwhile > 0, "nothing was written while it was exported");
    let original = contents(&server, "notes/1", written).await?;
    // To standard output it is the same thing.
    let mut streamed = moorline(here.path(), &["store", "export", "notes/1", "-o", "-"]);
    assert_eq!(streamed.output()?.stdout[..20], *b"moorline export\n\0\0\0\x01");

    let (position, said) = done(there.path(), &["import", &target])?;
    assert!(said.contains("imported store notes/1, as it was at 2") && said.contains("(recreated)"), "{said}");
    let server = start(&there)?;
    let copy = contents(&server, "notes/1", exported).await?;
    assert_eq!(copy.0, original.0, "the snapshot");
    let upto: BTreeMap<_, _> = original.1.into_iter().filter(|(offset, _)| *offset <= exported).collect();
    assert_eq!(copy.1, upto);
    let bob = client(&server)?;
    let mut notes = bob.store("notes/1", StoreOptions::default())?;
    assert_eq!(notes.value(hash).await?, bytes);
    assert_eq!(bob.append("notes/1", "more", None).await?.mark.offset.0, exported + 1);
    // Who has followed the original is told, though the offset is one that there is.
    let since = ann.append("notes/1", "since", None).await?;
    let mut notes = bob.store("notes/1", StoreOptions::since(since))?;
    assert_eq!(next(&mut notes).await?, StoreEvent::Opened(Start::Gap(Gap::Recreated)));
    let listed = json(&done(there.path(), &["ls", "--json"])?.0)?;
    assert_ne!(listed["position"].as_str(), Some(position.trim()), "it has gone on");
    Ok(())
}

/// On threads of their own, so that they write while the command runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_while_four_write_is_one_moment_of_everything_and_is_put_back() -> TestResult {
    let dir = directory()?;
    let server = start(&dir)?;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (client, stop) = (client(&server)?, stop.clone());
            Ok(tokio::spawn(async move {
                let name = format!("notes/{writer}");
                while !stop.load(Ordering::Relaxed) {
                    client.append(&name, vec![writer; 2_000], None).await.map_err(|error| error.to_string())?;
                }
                Ok::<_, String>(())
            }))
        })
        .collect::<TestResult<_>>()?;
    let ann = client(&server)?;
    ann.publish("room:1", &"hello").await?;
    for number in 0..5 {
        let before = ann.append("notes/0", "before", None).await?.mark.offset.0;
        let (shown, said) = done(dir.path(), &["backup", "everything", "--force"])?;
        assert!(shown.is_empty() && said.starts_with("copied everything: "), "{number}: {said}");
        // What was acknowledged before is in it, and it is sound.
        done(dir.path(), &["restore", "everything", "--data-dir", "elsewhere", "--replace"])?;
        let found = json(&done(dir.path(), &["stat", "notes/0", "--json", "--data-dir", "elsewhere"])?.0)?;
        assert!(found["offset"].as_u64() >= Some(before), "{found}");
        assert_eq!(done(dir.path(), &["verify", "--data-dir", "elsewhere"])?.1, "5 channels, and nothing is wrong\n");
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    let since = ann.append("notes/0", "since", None).await?;
    assert!(refused(dir.path(), &["backup", "everything"])?.contains("--force"));
    let said = refused(dir.path(), &["restore", "everything", "--replace"])?;
    assert!(said.contains(&format!("process {}", server.child.id())) && said.contains("stop it"), "{said}");
    drop(server);
    assert!(refused(dir.path(), &["restore", "everything"])?.contains("--replace"));
    for (file, expected) in [("moorline.toml", "is no backup"), ("none", "none cannot be read")] {
        let said = refused(dir.path(), &["restore", file, "--replace"])?;
        assert!(said.contains(expected), "{said}");
    }
    done(dir.path(), &["restore", "everything", "--replace"])?;
    // Who has seen more than there is now is told.
    let server = start(&dir)?;
    let mut notes = client(&server)?.store("notes/0", StoreOptions::since(since))?;
    assert_eq!(next(&mut notes).await?, StoreEvent::Opened(Start::Gap(Gap::Diverged)));
    Ok(())
}

#[tokio::test]
async fn what_is_removed_is_gone_and_makes_room_for_others() -> TestResult {
    let dir = TempDir::new()?;
    fs::write(dir.path().join("moorline.toml"), format!("{EVERYTHING}[limits]\nchannels_per_tenant = 2\n"))?;
    let server = start(&dir)?;
    let ann = client(&server)?;
    for number in 0..2 {
        ann.append(&format!("notes/{number}"), "a", None).await?;
    }
    let Err(refusal) = ann.append("notes/2", "a", None).await else { return Err("it was taken".into()) };
    assert!(refusal.to_string().contains("too_many_names"), "{refusal}");
    let said = refused(dir.path(), &["rm", "notes/0"])?;
    assert!(said.contains("stop it"), "{said}");
    drop(server);
    assert_eq!(done(dir.path(), &["rm", "notes/0", "notes/1"])?.1, "removed store notes/0\nremoved store notes/1\n");
    assert!(refused(dir.path(), &["rm", "notes/0"])?.contains("there is no store \"notes/0\""));
    let server = start(&dir)?;
    client(&server)?.append("notes/2", "a", None).await?;
    assert_eq!(json(&done(dir.path(), &["ls", "--json"])?.0)?["name"], "notes/2");
    Ok(())
}

#[tokio::test]
async fn what_writes_names_the_server_that_has_the_directory_and_changes_nothing() -> TestResult {
    let dir = directory()?;
    let server = start(&dir)?;
    let ann = client(&server)?;
    ann.append("notes/1", "a", None).await?;
    done(dir.path(), &["export", "notes/1", "-o", "export"])?;
    assert!(refused(dir.path(), &["export", "notes/1", "-o", "export"])?.contains("--force"));
    for arguments in [&["import", "export", "--replace"][..], &["compact"]] {
        let said = refused(dir.path(), arguments)?;
        assert!(said.contains(&format!("process {}", server.child.id())) && said.contains("stop it"), "{said}");
    }
    ann.append("notes/1", "b", None).await?;
    drop(server);
    let said = refused(dir.path(), &["import", "export"])?;
    assert!(said.contains("there is a store \"notes/1\" already") && said.contains("--replace"), "{said}");
    done(dir.path(), &["import", "export", "--name", "notes/2", "--tenant", "acme"])?;
    assert_eq!(json(&done(dir.path(), &["stat", "notes/1", "--json"])?.0)?["offset"], 2);
    let (_, said) = done(dir.path(), &["import", "export", "--replace"])?;
    assert!(said.contains("is gone"), "{said}");
    assert_eq!(json(&done(dir.path(), &["stat", "notes/1", "--json"])?.0)?["offset"], 1);
    assert_eq!(json(&done(dir.path(), &["ls", "--tenant", "acme", "--json"])?.0)?["name"], "notes/2");
    Ok(())
}

#[tokio::test]
async fn compacting_gives_room_back_and_clients_read_the_same() -> TestResult {
    let dir = directory()?;
    let server = start(&dir)?;
    let ann = client(&server)?;
    let mut notes = ann.store("notes/1", StoreOptions::default())?;
    for round in 0..2 {
        let mut covers = None;
        for _ in 0..50 {
            covers = Some(ann.append("notes/1", vec![7; 10_000], None).await?);
        }
        notes.keep_snapshot(covers.ok_or("no patch")?, format!("round {round}")).await?;
    }
    ann.append("notes/1", "last", None).await?;
    let before = contents(&server, "notes/1", 101).await?;
    drop(server);
    assert!(refused(dir.path(), &["compact", "notes/2"])?.contains("there is no store"));
    let (shown, _) = done(dir.path(), &["compact", "notes/1"])?;
    assert!(shown.starts_with("dropped 50 entries, 1 snapshot and 0 operations; "), "{shown}");
    let sizes: Vec<u64> = shown.split(' ').filter_map(|word| word.parse().ok()).skip(3).collect();
    assert!(sizes[0] > 500_000 && sizes[1] < 100_000, "{shown}");
    assert_eq!(fs::metadata(database(&dir))?.len(), sizes[1]);
    let server = start(&dir)?;
    let after = contents(&server, "notes/1", 101).await?;
    assert_eq!(after, before);
    assert_eq!(after.0.as_deref(), Some(&b"round 1"[..]));
    Ok(())
}

#[tokio::test]
async fn verifying_finds_a_flipped_byte_in_a_value_and_an_entry_that_is_gone() -> TestResult {
    let dir = directory()?;
    let server = start(&dir)?;
    let ann = client(&server)?;
    for patch in ["a", "b", "c"] {
        ann.append("notes/\"1\"", patch, None).await?;
    }
    let mut notes = ann.store("notes/\"1\"", StoreOptions::default())?;
    let (hash, bytes) = value("a picture of the sea");
    notes.keep_value(hash, bytes).await?;
    ann.append("notes/2", "a", None).await?;
    server.signal("TERM")?;
    server.wait()?;
    assert_eq!(done(dir.path(), &["verify"])?.1, "2 channels, and nothing is wrong\n");

    let mut file = fs::read(database(&dir))?;
    let at = file.windows(7).position(|window| window == b"picture").ok_or("it is not there")?;
    file[at] ^= 1;
    fs::write(database(&dir), &file)?;
    let (code, shown, errors) = finished(&mut moorline(dir.path(), &["store", "verify"]))?;
    let expected =
        format!("store \"notes/\\\"1\\\"\": the value {} is not what it was: it has another hash\n", hex(hash));
    assert_eq!((code, shown), (Some(1), expected));
    assert!(errors.starts_with("error: 1 finding;") && errors.contains("--replace"), "{errors}");
    // Of another store nothing is said.
    done(dir.path(), &["verify", "notes/2"])?;
    file[at] ^= 1;
    fs::write(database(&dir), &file)?;

    let removed = rusqlite::Connection::open(database(&dir))?.execute("DELETE FROM entries WHERE offset = 2", ())?;
    assert_eq!(removed, 1);
    // A server that runs is in nobody's way.
    let _server = start(&dir)?;
    let (code, shown, _) = finished(&mut moorline(dir.path(), &["store", "verify", "notes/\"1\""]))?;
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!((code, lines.len()), (Some(1), 4), "{shown}");
    assert!(lines[0].contains("entry 3 follows entry 2, and the one before it is 1"), "{shown}");
    // Nobody is left with a backup that does not do.
    let said = refused(dir.path(), &["export", "notes/\"1\"", "-o", "export"])?;
    assert!(said.contains("is damaged: entry 3 follows entry 2") && said.contains("store verify"), "{said}");
    assert!(!dir.path().join("export").exists());
    Ok(())
}

fn hex(ValueHash(hash): ValueHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn what_is_no_whole_export_is_refused_with_what_to_do_and_nothing_is_made() -> TestResult {
    let dir = directory()?;
    let server = start(&dir)?;
    client(&server)?.append("notes/1", "a", None).await?;
    done(dir.path(), &["export", "notes/1", "-o", "whole"])?;
    let whole = fs::read(dir.path().join("whole"))?;
    let mut later = whole.clone();
    later[19] = 2;
    let mut changed = whole.clone();
    let middle = changed.len() - 60;
    changed[middle] ^= 1;
    for (bytes, expected) in [
        (&b"{}"[..], "it is no export; `moorline store export` makes one"),
        (&whole[..whole.len() / 2], "it is cut off before its end: take another copy"),
        (&whole[..whole.len() - 1], "it is cut off before its end: take another copy"),
        (&later, "it is an export of version 2, and this program reads 1 at most: use a newer program"),
        (&changed, "it is damaged"),
        (&[&whole[..], b"more"].concat(), "something stands behind its end"),
    ] {
        fs::write(dir.path().join("wrong"), bytes)?;
        let said = refused(dir.path(), &["import", "wrong", "--data-dir", "other"])?;
        assert!(said.starts_with("error: wrong: ") && said.contains(expected), "{said}");
    }
    assert!(refused(dir.path(), &["import", "none", "--data-dir", "other"])?.contains("none cannot be read"));
    assert!(refused(dir.path(), &["import", ".", "--data-dir", "other"])?.contains("is no file"));
    assert!(!dir.path().join("other").exists());
    // A file of channels that a later program made.
    drop(server);
    rusqlite::Connection::open(database(&dir))?.pragma_update(None, "user_version", 99)?;
    for arguments in [&["ls"][..], &["compact"], &["import", "whole"]] {
        let said = refused(dir.path(), arguments)?;
        assert!(said.contains("version 99") && said.contains("use a newer program"), "{said}");
    }
    Ok(())
}

/// Every file beneath a directory.
fn files(dir: &Path) -> TestResult<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

#[tokio::test]
async fn no_name_is_ever_a_path() -> TestResult {
    let dir = directory()?;
    let inside = dir.path().join("inside");
    fs::create_dir(&inside)?;
    fs::copy(dir.path().join("moorline.toml"), inside.join("moorline.toml"))?;
    let server = Running::start(&mut moorline(&inside, SERVE))?;
    let ann = client(&server)?;
    let names = ["../../escape", "..", "a/b", "ü \"quoted\" 'too' 日本", "/etc/passwd", "-o"];
    for name in names {
        ann.append(name, name.to_owned(), None).await?;
    }
    drop(server);
    let before = files(dir.path())?;
    for (number, name) in names.iter().enumerate() {
        let file = format!("export-{number}");
        done(&inside, &["export", "-o", &file, "--", name])?;
        done(&inside, &["stat", "--", name])?;
        done(&inside, &["verify", "--", name])?;
        done(&inside, &["import", &file, "--data-dir", "other"])?;
        done(&inside, &["compact", "--data-dir", "other", "--", name])?;
    }
    let listed = done(&inside, &["ls", "--data-dir", "other", "--json"])?.0;
    let mut listed = listed.lines().map(|line| Ok(json(line)?["name"].clone())).collect::<TestResult<Vec<_>>>()?;
    listed.sort_by_key(Value::to_string);
    let mut expected: Vec<Value> = names.iter().map(|name| (*name).into()).collect();
    expected.sort_by_key(Value::to_string);
    assert_eq!(listed, expected);
    let made: Vec<_> = files(dir.path())?.into_iter().filter(|path| !before.contains(path)).collect();
    for path in &made {
        let name = path.strip_prefix(&inside)?.to_string_lossy().into_owned();
        let known = name.starts_with("export-")
            || name.starts_with("other/")
            || name.starts_with("moorline-data/channels.sqlite");
        assert!(known, "{name}");
    }
    Ok(())
}
