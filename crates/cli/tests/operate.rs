//! What an operator does to a server that runs: rotation of its keys, the control socket, the data directory.
#![cfg(unix)]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
};

use moorline_client::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use support::{PATIENCE, Running, SERVE, TestResult, finished, moorline};

/// A client that pins this key, if it is let in.
async fn connected(server: &Running, key: &str) -> TestResult<Client> {
    let url = format!("ws://{}/moorline", server.authority());
    let client = Client::builder(&url)?.server_key(key)?.connect()?;
    tokio::time::timeout(PATIENCE, client.ready()).await??;
    Ok(client)
}

/// A command that must succeed: what it prints, and what it says beside.
fn done(dir: &Path, arguments: &[&str]) -> TestResult<(Vec<String>, String)> {
    let (code, shown, errors) = finished(&mut moorline(dir, arguments))?;
    if code != Some(0) {
        return Err(errors.into());
    }
    Ok((shown.lines().map(str::to_owned).collect(), errors))
}

/// A command that must fail: what it says.
fn refused(dir: &Path, arguments: &[&str]) -> TestResult<String> {
    let (code, shown, errors) = finished(&mut moorline(dir, arguments))?;
    assert_eq!((code, shown.as_str()), (Some(1), ""), "{errors}");
    Ok(errors)
}

/// The keys of the identity document.
fn published(server: &Running) -> TestResult<Vec<String>> {
    let (_, body) = support::answer(server.request("/moorline")?)?;
    let document: Value = serde_json::from_str(&body)?;
    let keys = document["keys"].as_array().ok_or("no keys")?;
    Ok(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Asks on the control socket by hand.
fn ask(dir: &Path, line: &str) -> TestResult<Value> {
    let mut socket = BufReader::new(UnixStream::connect(dir.join("moorline-data/control.sock"))?);
    socket.get_ref().set_read_timeout(Some(PATIENCE))?;
    socket.get_mut().write_all(line.as_bytes())?;
    let mut answer = String::new();
    socket.read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

#[tokio::test]
async fn keys_are_rotated_while_a_client_stays_and_one_that_pins_the_next_gets_in() -> TestResult {
    let dir = TempDir::new()?;
    let dir = dir.path();
    let server = Running::start(moorline(dir, SERVE).env("MOORLINE__INTERNAL__LISTEN", "127.0.0.1:0"))?;
    let old = server.text("/identity/0").to_owned();
    let stays = connected(&server, &old).await?;
    let session = stays.ready().await?.id;

    let (keys, said) = done(dir, &["identity", "next"])?;
    assert!(said.contains("the running server"), "{said}");
    assert_eq!(keys[0], format!("{old} current"));
    let next = keys[1].strip_suffix(" next").ok_or("no next key")?.to_owned();
    assert_eq!(published(&server)?, [old.clone(), next.clone()]);
    assert_eq!(done(dir, &["identity", "show"])?.0, [old.clone(), next.clone()]);
    connected(&server, &next).await?.close().await;
    assert!(refused(dir, &["identity", "next"])?.contains("there is a next key already"));

    assert_eq!(done(dir, &["identity", "promote"])?.0, [format!("{next} current"), format!("{old} previous")]);
    assert_eq!(published(&server)?, [next.clone(), old.clone()]);
    connected(&server, &old).await?.close().await;

    done(dir, &["identity", "retire"])?;
    assert_eq!(published(&server)?.concat(), next);
    assert_eq!(done(dir, &["identity", "show", "--label"])?.0, [format!("{next} current")]);
    assert!(refused(dir, &["identity", "retire"])?.contains("no previous key"));

    // Through all of this.
    assert!(stays.call::<()>("nothing", &()).await.is_err_and(|error| error.to_string().contains("not_found")));
    assert_eq!(stays.ready().await?.id, session);
    let (_, metrics) = server.internal("GET", "/metrics")?;
    for line in [
        "moorline_handshakes_total{result=\"completed\",key=\"current\"} 1",
        "moorline_handshakes_total{result=\"completed\",key=\"next\"} 1",
        "moorline_handshakes_total{result=\"completed\",key=\"previous\"} 1",
        "moorline_connections_accepted_total 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    stays.close().await;
    drop(server);
    // What was told is what is kept.
    assert_eq!(Running::start(&mut moorline(dir, SERVE))?.text("/identity/0"), next);
    Ok(())
}

#[test]
fn without_a_server_the_file_is_changed_and_it_says_so() -> TestResult {
    let dir = TempDir::new()?;
    let dir = dir.path();
    assert!(refused(dir, &["identity", "next"])?.contains("the first start of the server makes it"));
    drop(Running::start(&mut moorline(dir, SERVE))?);
    let (keys, said) = done(dir, &["identity", "next"])?;
    assert!(said.contains("no server runs here") && said.contains("moorline-data/identity"), "{said}");
    assert_eq!(keys.len(), 2);
    for file in ["identity", "identity.backup"] {
        let mode = fs::metadata(dir.join("moorline-data").join(file))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let backup = ["identity", "show", "--file", "moorline-data/identity.backup"];
    assert_eq!(done(dir, &backup)?.0, [keys[0].trim_end_matches(" current")]);
    let server = Running::start(&mut moorline(dir, SERVE))?;
    assert_eq!(published(&server)?.len(), 2);
    Ok(())
}

#[test]
fn another_data_directory_is_another_server() -> TestResult {
    let dir = TempDir::new()?;
    let dir = dir.path();
    let server = Running::start(&mut moorline(dir, &[SERVE, &["--data-dir", "blue"]].concat()))?;
    assert!(refused(dir, &["status"])?.contains("no server answers at moorline-data/control.sock"));
    done(dir, &["identity", "next", "--data-dir", "blue"])?;
    assert_eq!(published(&server)?.len(), 2);
    Ok(())
}

#[test]
fn keys_of_the_environment_are_changed_there_and_read_again_where_they_are_a_file() -> TestResult {
    let dir = TempDir::new()?;
    let dir = dir.path();
    let generated = |_| Ok::<_, Box<dyn std::error::Error>>(done(dir, &["identity", "generate"])?.0.concat());
    let [first, second] = [generated(1)?, generated(2)?];
    assert!(first.starts_with("mlsec_") && first != second);
    fs::write(dir.join("secret"), &first)?;
    let with_secret = |arguments: &[&str]| {
        let mut command = moorline(dir, arguments);
        command.env("MOORLINE__IDENTITY__KEY_FILE", dir.join("secret"));
        command
    };
    let server = Running::start(&mut with_secret(SERVE))?;
    let (code, _, said) = finished(&mut with_secret(&["identity", "next"]))?;
    assert!(code == Some(1) && said.contains("MOORLINE__IDENTITY__KEY_FILE"), "{said}");
    fs::write(dir.join("secret"), format!("{first}\nnext {second}\n"))?;
    assert_eq!(finished(&mut with_secret(&["reload"]))?, (Some(0), "identity changed\n".into(), String::new()));
    assert_eq!(published(&server)?.len(), 2);
    fs::write(dir.join("secret"), "nonsense")?;
    let (code, shown, said) = finished(&mut with_secret(&["reload"]))?;
    assert_eq!((code, shown.as_str()), (Some(1), "identity kept\n"));
    assert!(said.contains("the identity is kept as it was") && said.contains("mlsec_"), "{said}");
    assert_eq!(published(&server)?.len(), 2);
    Ok(())
}

#[test]
fn a_second_server_on_a_data_directory_is_refused_and_the_first_one_named() -> TestResult {
    let dir = TempDir::new()?;
    let first = Running::start(&mut moorline(dir.path(), SERVE))?;
    let said = refused(dir.path(), SERVE)?;
    assert!(said.contains(&format!("is taken by process {}", first.child.id())), "{said}");
    // The first is as it was, and its socket is still its own.
    assert_eq!(ask(dir.path(), "{\"version\":1,\"request\":\"status\"}\n")?["ok"]["pid"], first.child.id());
    Ok(())
}

#[test]
fn what_a_killed_server_leaves_is_in_nobodys_way_and_a_polite_one_leaves_nothing() -> TestResult {
    let dir = TempDir::new()?;
    let socket = dir.path().join("moorline-data/control.sock");
    // Dropping kills it.
    drop(Running::start(&mut moorline(dir.path(), SERVE))?);
    assert!(socket.exists());
    assert!(refused(dir.path(), &["reload"])?.contains("no server answers"));
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    assert_eq!(ask(dir.path(), "{\"version\":1,\"request\":\"status\"}\n")?["ok"]["pid"], server.child.id());
    server.signal("TERM")?;
    assert_eq!(server.wait()?.code(), Some(0));
    assert!(!socket.exists());
    Ok(())
}

#[test]
fn the_control_socket_answers_line_by_line_and_refuses_what_it_does_not_know() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let socket = dir.path().join("moorline-data/control.sock");
    assert_eq!(fs::metadata(&socket)?.permissions().mode() & 0o777, 0o600);
    let code = |line: &str| Ok::<_, Box<dyn std::error::Error>>(ask(dir.path(), line)?["error"]["code"].clone());
    assert_eq!(code("hello\n")?, "bad_request");
    assert_eq!(code("{\"version\":7,\"request\":\"status\"}\n")?, "version_unsupported");
    assert_eq!(code("{\"version\":1,\"request\":\"fly\"}\n")?, "unsupported");
    assert_eq!(code("{\"version\":1,\"request\":\"token.revoke\",\"params\":{\"jti\":\"x\"}}\n")?, "unsupported");
    assert_eq!(code(&format!("{}\n", "x".repeat(20_000)))?, "bad_request");

    let mut socket = BufReader::new(UnixStream::connect(socket)?);
    socket.get_mut().write_all(b"{\"version\":1,\"request\":\"status\"}\n{\"version\":1,\"request\":\"reload\"}\n")?;
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        socket.read_line(line)?;
    }
    let [status, reloaded] = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap_or_default());
    assert_eq!(status["ok"]["keys"][0], json!({ "key": server.text("/identity/0"), "role": "current" }));
    assert_eq!(status["ok"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(reloaded["ok"]["parts"], json!([{ "name": "identity", "outcome": "unchanged" }]));
    let printed: Value = serde_json::from_str(&done(dir.path(), &["status"])?.0.concat())?;
    assert_eq!(printed["pid"], status["ok"]["pid"]);
    Ok(())
}

#[test]
fn whoever_opens_the_control_socket_and_says_nothing_keeps_nobody_out_for_good() -> TestResult {
    let dir = TempDir::new()?;
    let _server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let connect = || UnixStream::connect(dir.path().join("moorline-data/control.sock"));
    // As many as are answered at once.
    let mut silent = (0..8).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    assert!(ask(dir.path(), "{\"version\":1,\"request\":\"status\"}\n")?["ok"].is_object());
    let mut first = silent.remove(0);
    first.set_read_timeout(Some(PATIENCE))?;
    assert_eq!(first.read(&mut [0; 8])?, 0, "it was not sent away");
    Ok(())
}

#[test]
fn without_a_place_for_it_a_server_with_a_key_of_the_environment_starts_and_warns() -> TestResult {
    let dir = TempDir::new()?;
    fs::write(dir.path().join("file"), "")?;
    let key = done(dir.path(), &["identity", "generate"])?.0.concat();
    let arguments = [SERVE, &["--data-dir", "file/data"]].concat();
    let server = Running::start(moorline(dir.path(), &arguments).env("MOORLINE__IDENTITY__KEY", key))?;
    assert!(server.text("/warnings/0").starts_with("there is no control socket"), "{}", server.banner);
    assert_eq!(server.banner["control"], Value::Null);
    Ok(())
}
