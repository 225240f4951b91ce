//! Stores that the configuration declares, and those that nobody has, by the built program.

mod support;

use std::fs;

use moorline_client::{
    Client, Error, Store, StoreEvent, StoreOptions,
    protocol::{channel::Start, code::Code},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use support::{PATIENCE, Running, SERVE, TestResult, finished, moorline};

const NOTES: &str = r#"
[stores."notes/{id}"]
max_bytes = "64KiB"
snapshots = "write"
[stores."board/*"]
presence = false
write = { rate = "1/m" }
[stores.secret]
read = { roles = ["staff"] }
[auth]
anonymous = true
anonymous_scopes = ["store.read:**", "store.write:**"]
"#;

fn directory(config: &str) -> TestResult<TempDir> {
    let dir = TempDir::new()?;
    fs::write(dir.path().join("moorline.toml"), config)?;
    Ok(dir)
}

fn client(server: &Running) -> TestResult<Client> {
    let url = format!("ws://{}/moorline", server.authority());
    Ok(Client::builder(&url)?.server_key(server.text("/identity/0"))?.connect()?)
}

async fn next(store: &mut Store) -> TestResult<StoreEvent> {
    Ok(timeout(PATIENCE, store.next()).await?.ok_or("it is over")??)
}

fn failed<T>(result: Result<T, Error>) -> (Code, String) {
    match result {
        Err(Error::Failed(failure)) => (failure.code, failure.message),
        Err(Error::ChannelClosed(code, message)) => (code, message.to_string()),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it worked"),
    }
}

async fn refused(store: &mut Store) -> TestResult<(Code, String)> {
    Ok(failed(timeout(PATIENCE, store.next()).await?.ok_or("it is over")?))
}

#[tokio::test]
async fn stores_of_the_configuration_are_served_as_they_are_declared() -> TestResult {
    let dir = directory(NOTES)?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    assert_eq!(server.banner["stores"], json!({ "declared": 3, "with_presence": 2 }));
    assert_eq!(server.text("/channels"), "moorline-data/channels.sqlite");
    let ann = client(&server)?;
    let first = ann.append("notes/1", "a", None).await?;
    ann.append("notes/1", "b", None).await?;
    let mut notes = ann.store("notes/1", StoreOptions::default())?;
    // Who may write may keep snapshots here, and nowhere else.
    notes.keep_snapshot(first, "A").await?;
    let at = ann.append("board/1", "a", None).await?;
    let mut board = ann.store("board/1", StoreOptions::default())?;
    assert_eq!(failed(board.keep_snapshot(at, "A").await).0, Code::FORBIDDEN);
    assert_eq!(failed(ann.append("board/2", "a", None).await).0, Code::TOO_MANY_REQUESTS);
    assert_eq!(failed(ann.append("notes/1", vec![7; 65_536], None).await).0, Code::STORE_FULL);
    assert_eq!(failed(ann.append("letters/1", "a", None).await), (Code::NO_SUCH_CHANNEL, String::new()));
    assert_eq!(refused(&mut ann.store("secret", StoreOptions::default())?).await?.0, Code::FORBIDDEN);
    ann.close().await;
    drop(server);
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let mut notes = client(&server)?.store("notes/1", StoreOptions::default())?;
    assert_eq!(next(&mut notes).await?, StoreEvent::Opened(Start::New));
    assert!(matches!(next(&mut notes).await?, StoreEvent::Snapshot { data, .. } if data == "A"));
    assert!(matches!(next(&mut notes).await?, StoreEvent::Patch(patch) if patch.data == "b"));
    Ok(())
}

#[tokio::test]
async fn in_development_who_asks_for_an_undeclared_store_is_told_the_line_that_declares_it() -> TestResult {
    let dir = directory("")?;
    let server = Running::start(&mut moorline(dir.path(), &[SERVE, &["--dev"]].concat()))?;
    let ann = client(&server)?;
    let remedy = "The store is not declared. Add to moorline.toml, and restart the server: [stores.\"notes/{id}\"]";
    let told = (Code::NO_SUCH_CHANNEL, remedy.to_owned());
    assert_eq!(failed(ann.append("notes/1", "a", None).await), told);
    assert_eq!(refused(&mut ann.store("notes/2", StoreOptions::default())?).await?, told);
    ann.append("board/1", "a", None).await.err().ok_or("it was made")?;
    // Each kind of them once.
    let mut lines = Vec::new();
    for _ in 0..2 {
        let line: Value = serde_json::from_str(&server.next_with(&["is not declared"])?)?;
        let message = line["message"].as_str().ok_or("no message")?.to_owned();
        lines.push(message.split_once("moorline.toml:\n").ok_or("no lines")?.1.to_owned());
    }
    assert!(lines[0].contains("[stores.\"notes/{id}\"]") && lines[1].contains("[stores.\"board/{id}\"]"), "{lines:?}");
    assert!(!dir.path().join("moorline-data/channels.sqlite").exists(), "something is kept");
    ann.close().await;
    drop(server);
    // What it said does.
    fs::write(dir.path().join("moorline.toml"), lines.concat())?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    client(&server)?.append("notes/1", "a", None).await?;
    Ok(())
}

#[test]
fn a_store_that_is_declared_wrong_keeps_it_from_starting() -> TestResult {
    for (config, expected) in [
        (
            "[stores.\"notes/{id}\"]\n[stores.\"notes/*\"]",
            "error: the stores notes/{id} and notes/* are about the same names: at moorline.toml:1:9 and at \
             moorline.toml:2:9; leave one out\n",
        ),
        (
            "[stores.a]\nmax_bytes = 1000",
            "error: moorline.toml:2:13: [stores.\"a\"] max_bytes: a size needs its unit: write \"1000B\"",
        ),
    ] {
        let dir = directory(config)?;
        let (code, _, errors) = finished(&mut moorline(dir.path(), SERVE))?;
        assert_eq!(code, Some(1));
        assert!(errors.contains(expected), "{errors}");
    }
    Ok(())
}
