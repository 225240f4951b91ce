//! `moorline watch` and `moorline publish` as their users meet them, against the built server.

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use moorline_client::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use support::{PATIENCE, Running, SERVE, TestResult, finished, moorline};

const ROOMS: &str = "[topics.'room:{id}']\n[topics.'log:{id}']\nhistory = {}\n[auth]\nanonymous = true\n";

fn directory(config: &str) -> TestResult<TempDir> {
    let dir = TempDir::new()?;
    let path = dir.path().join("moorline.toml");
    fs::write(&path, config)?;
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(dir)
}

/// What `moorline publish` prints, which did what it was asked for.
fn publish(dir: &Path, arguments: &[&str]) -> TestResult<String> {
    let (code, position, errors) = finished(&mut moorline(dir, &[&["publish"], arguments].concat()))?;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    Ok(position.trim_end().to_owned())
}

/// Lines as they come, until the end.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    lines
}

/// A `moorline watch` that runs; it is killed when the test is over.
struct Watching {
    child: Child,
    said: Receiver<String>,
    told: Receiver<String>,
}

impl Watching {
    fn start(command: &mut Command) -> TestResult<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let said = lines(child.stdout.take().ok_or("no stdout")?);
        let told = lines(child.stderr.take().ok_or("no stderr")?);
        Ok(Self { child, said, told })
    }

    fn message(&self) -> TestResult<Value> {
        let line = self.said.recv_timeout(PATIENCE)?;
        serde_json::from_str(&line).map_err(|_| line.into())
    }

    /// Waits until standard error has these words.
    fn wait_for(&self, words: &str) -> TestResult<String> {
        loop {
            let line = self.told.recv_timeout(PATIENCE)?;
            if line.contains(words) {
                return Ok(line);
            }
        }
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) -> TestResult {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err("kill failed".into()) }
    }

    /// Waits for the end: standard error ends with the program.
    fn wait(&mut self) -> TestResult<ExitStatus> {
        while self.told.recv_timeout(PATIENCE).is_ok() {}
        Ok(self.child.wait()?)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_with_tls_of_its_own_is_reached_with_its_certificate() -> TestResult {
    let dir = directory(ROOMS)?;
    let server = Running::start(&mut moorline(dir.path(), &[SERVE, &["--tls", "self-signed"]].concat()))?;
    let url = format!("wss://{}/moorline", server.authority());
    let trusting = ["--url", &url, "--ca", "moorline-data/self-signed.pem"];
    let position = publish(dir.path(), &[&["log:1", "1"][..], &trusting].concat())?;
    assert!(!position.is_empty());
    let watching = Watching::start(&mut moorline(
        dir.path(),
        &[&["watch", "log:1", "--history", "1", "--json"][..], &trusting].concat(),
    ))?;
    assert_eq!(watching.message()?["position"], json!(position));
    // Of somebody else's, of none, and of what is none.
    fs::write(dir.path().join("none.pem"), "")?;
    for (ca, expected) in [
        (None, "certificate_refused: Nobody who is trusted here vouches for the server's certificate"),
        (Some("none.pem"), "none.pem does not do"),
        (Some("missing.pem"), "missing.pem cannot be read"),
    ] {
        let ca: Vec<_> = ca.into_iter().flat_map(|file| ["--ca", file]).collect();
        let (code, said, errors) =
            finished(&mut moorline(dir.path(), &[&["publish", "log:1", "2", "--url", &url][..], &ca].concat()))?;
        assert_eq!((code, said.as_str()), (Some(1), ""), "{errors}");
        // Where the system trusts nobody at all, that is said.
        assert!(errors.contains(expected) || errors.contains("the system trusts no authority"), "{errors}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_volatile_is_printed_and_marked() -> TestResult {
    let dir = directory(ROOMS)?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    // It is heard by who is there, which is known by what was said before.
    publish(dir.path(), &["log:1", "1"])?;
    let start = |more: &[&str]| {
        let arguments = [&["watch", "log:1", "--history", "1"], more].concat();
        let watching = Watching::start(&mut moorline(dir.path(), &arguments))?;
        watching.said.recv_timeout(PATIENCE)?;
        TestResult::Ok(watching)
    };
    let (for_programs, for_people) = (start(&["--json"])?, start(&[])?);
    let url = format!("ws://{}/moorline", server.authority());
    let client = Client::builder(&url)?.server_key(server.text("/identity/0"))?.connect()?;
    client.ready().await?;
    client.publish_volatile("log:1", &json!({ "x": 1 })).await?;
    let (heard, read) = (for_programs.message()?, for_people.said.recv_timeout(PATIENCE)?);
    assert_eq!(
        (&heard["data"], &heard["position"], &heard["recovered"]),
        (&json!({ "x": 1 }), &Value::Null, &json!(false))
    );
    assert_eq!(heard["from"]["subject"], "anonymous");
    assert!(read.ends_with("Z anonymous volatile {\"x\":1}"), "{read}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn what_is_published_is_printed_in_a_line_and_a_signal_ends_it() -> TestResult {
    for signal in ["INT", "TERM"] {
        let dir = directory(ROOMS)?;
        let _server = Running::start(&mut moorline(dir.path(), SERVE))?;
        let first = publish(dir.path(), &["log:1", "{ \"text\" : \"hi\" }"])?;
        let second = publish(dir.path(), &["log:1", "-2.50"])?;
        let mut watching = Watching::start(&mut moorline(dir.path(), &["watch", "log:1", "--history", "9", "--json"]))?;
        let message = watching.message()?;
        assert_eq!((&message["data"], &message["position"]), (&json!({ "text": "hi" }), &json!(first)));
        assert_eq!((&message["from"]["subject"], &message["recovered"]), (&json!("anonymous"), &json!(true)));
        assert_eq!(watching.message()?["position"], json!(second));
        let third = publish(dir.path(), &["log:1", "\"now\""])?;
        let message = watching.message()?;
        assert_eq!((&message["position"], &message["recovered"]), (&json!(third), &json!(false)));
        watching.signal(signal)?;
        assert_eq!(watching.wait()?.code(), Some(0), "{signal}");
        // Behind the first, for people.
        let since = ["watch", "log:1", "--since", &first];
        let watching = Watching::start(&mut moorline(dir.path(), &since))?;
        let line = watching.said.recv_timeout(PATIENCE)?;
        assert!(line.starts_with("20") && line.ends_with("Z anonymous -2.50"), "{line}");
        assert!(watching.said.recv_timeout(PATIENCE)?.ends_with("\"now\""));
    }
    Ok(())
}

#[test]
fn a_message_is_json_or_a_text_or_bytes_from_the_line_or_from_standard_input() -> TestResult {
    let dir = directory(ROOMS)?;
    let _server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let piped = |arguments: &[&str], input: &[u8]| -> TestResult<(Option<i32>, String)> {
        let mut command = moorline(dir.path(), &[&["publish", "log:1"], arguments].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().ok_or("no stdin")?.write_all(input)?;
        let output = child.wait_with_output()?;
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    };
    for (arguments, input) in [
        (&[] as &[&str], &b"[1,\n2]\n"[..]),
        (&["-"], b"3"),
        (&["--text"], b"4\n"),
        (&["--text", "{five"], b""),
        (&["--bytes"], b"\x00\xff"),
    ] {
        assert_eq!(piped(arguments, input)?, (Some(0), String::new()), "{arguments:?}");
    }
    let watching = Watching::start(&mut moorline(dir.path(), &["watch", "log:1", "--history", "9", "--json"]))?;
    for expected in [json!([1, 2]), json!(3), json!("4"), json!("{five")] {
        assert_eq!(watching.message()?["data"], expected);
    }
    assert_eq!(watching.message()?["bytes"], json!("AP8="));
    let (code, errors) = piped(&["hello"], b"")?;
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: the message is no JSON: ") && errors.contains("--text"), "{errors}");
    let (code, errors) = piped(&[], b"\xff")?;
    assert!(code == Some(1) && errors.contains("--bytes"), "{errors}");
    Ok(())
}

/// The server is another process each time; what is kept goes on, and of what is not it is said that it does not.
#[test]
fn a_watch_outlives_its_server_and_says_what_it_knows_of_the_time_between() -> TestResult {
    let dir = directory(ROOMS)?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let address = server.authority().to_owned();
    let log = Watching::start(&mut moorline(dir.path(), &["watch", "log:1", "--json", "--history", "1"]))?;
    let room = Watching::start(&mut moorline(dir.path(), &["watch", "room:1", "--json", "--history", "1"]))?;
    for topic in ["log:1", "room:1"] {
        publish(dir.path(), &[topic, "1"])?;
    }
    assert_eq!((log.message()?["data"].clone(), room.message()?["data"].clone()), (json!(1), json!(1)));
    drop(server);
    for watching in [&log, &room] {
        watching.wait_for("the connection is lost (connection_lost); trying again")?;
        watching.wait_for("not connected (server_unreachable); trying again")?;
    }
    let _server = Running::start(&mut moorline(dir.path(), &["serve", "--listen", &address]))?;
    publish(dir.path(), &["log:1", "2"])?;
    log.wait_for("connected again")?;
    log.wait_for("goes on; nothing was missed")?;
    assert_eq!(log.message()?["data"], json!(2));
    room.wait_for("gap: the topic was made anew")?;
    publish(dir.path(), &["room:1", "3"])?;
    assert_eq!(room.message()?["data"], json!(3));
    Ok(())
}

#[cfg(unix)]
#[test]
fn when_nobody_reads_any_more_it_ends_though_nothing_is_said() -> TestResult {
    let dir = directory(ROOMS)?;
    let _server = Running::start(&mut moorline(dir.path(), SERVE))?;
    publish(dir.path(), &["log:1", "1"])?;
    let mut command = moorline(dir.path(), &["watch", "log:1", "--history", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
    stdout.read_line(&mut String::new())?;
    drop(stdout);
    let output = child.wait_with_output()?;
    assert_eq!((output.status.code(), String::from_utf8(output.stderr)?), (Some(0), String::new()));
    Ok(())
}

/// Whoever reads slowly holds up nobody and misses nothing: what waits for him is bounded, and the rest is read later.
#[tokio::test]
async fn who_reads_its_output_late_reads_everything() -> TestResult {
    const MESSAGES: usize = 1_500;
    let dir = directory("[topics.all]\nhistory = { count = 10_000 }\n")?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let mut command = moorline(dir.path(), &["watch", "all", "--json", "--history", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let mut watching = Watching { told: lines(child.stderr.take().ok_or("no stderr")?), said: channel().1, child };
    let url = format!("ws://{}/moorline", server.authority());
    let client = Client::builder(&url)?.server_key(server.text("/identity/0"))?.connect()?;
    let said = "x".repeat(2_000);
    // One that it has seen, from which it then goes on.
    client.publish("all", &(0, &said)).await?;
    let mut stdout = BufReader::new(stdout);
    let mut first = String::new();
    stdout.read_line(&mut first)?;
    assert!(first.contains("\"data\":[0,"), "{first}");
    for number in 1..MESSAGES {
        client.publish("all", &(number, &said)).await?;
    }
    watching.said = lines(stdout);
    for number in 1..MESSAGES {
        assert_eq!(watching.message()?["data"][0], json!(number));
    }
    Ok(())
}

#[test]
fn another_server_is_named_with_its_url_and_its_key() -> TestResult {
    let (dir, elsewhere) = (directory(ROOMS)?, TempDir::new()?);
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let url = format!("ws://{}/moorline", server.authority());
    let key = server.text("/identity/0").to_owned();
    let other = finished(&mut moorline(elsewhere.path(), &["identity", "generate"]))?.1;
    fs::write(elsewhere.path().join("identity"), &other)?;
    #[cfg(unix)]
    fs::set_permissions(elsewhere.path().join("identity"), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let shown = ["identity", "show", "--file", "identity"];
    let other = finished(&mut moorline(elsewhere.path(), &shown))?.1.trim_end().to_owned();
    // Asked for on this machine, pinned, one of several, by the environment.
    publish(elsewhere.path(), &["room:1", "1", "--url", &url])?;
    publish(elsewhere.path(), &["room:1", "1", "--url", &url, "--server-key", &key])?;
    publish(elsewhere.path(), &["room:1", "1", "--url", &url, "--server-key", &format!("{other},{key}")])?;
    let mut command = moorline(elsewhere.path(), &["publish", "room:1", "1"]);
    command.env("MOORLINE_URL", &url).env("MOORLINE_SERVER_KEY", &key).env("MOORLINE_TOKEN", "");
    assert_eq!(finished(&mut command)?.0, Some(0));
    // Not with another's.
    let pinned = ["publish", "room:1", "1", "--url", &url, "--server-key", &other, "--timeout", "5s"];
    let (code, _, errors) = finished(&mut moorline(elsewhere.path(), &pinned))?;
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: server_key_changed: "), "{errors}");
    Ok(())
}

/// Who dials another address than the public ones is refused, and the public one is the proxy's.
#[test]
fn behind_a_proxy_it_takes_the_way_of_the_proxy() -> TestResult {
    let dir = directory(&format!(
        "[server]\npublic_urls = ['wss://app.example.com/moorline']\ntrusted_proxies = ['127.0.0.1']\n{ROOMS}"
    ))?;
    let _server = Running::start(&mut moorline(dir.path(), SERVE))?;
    publish(dir.path(), &["room:1", "1"])?;
    Ok(())
}

#[test]
fn without_encryption_it_speaks_without() -> TestResult {
    let dir = directory(&format!("[server]\nencryption = 'off'\n{ROOMS}"))?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    publish(dir.path(), &["room:1", "1"])?;
    let url = format!("ws://{}/moorline", server.authority());
    publish(dir.path(), &["room:1", "1", "--url", &url, "--plain"])?;
    Ok(())
}

#[test]
fn who_must_sign_in_shows_a_token() -> TestResult {
    let jwt = "[auth.jwt]\nalgorithm = 'HS256'\nsecret = 'a secret of tests, 32 bytes or more'\n[topics.a]\n";
    let dir = directory(jwt)?;
    let _server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["publish", "a", "1"]))?;
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: token_missing: "), "{errors}");
    let issue = |scope: &str| -> TestResult<String> {
        let issued = ["token", "issue", "--subject", "ann", "--scope", scope];
        Ok(finished(&mut moorline(dir.path(), &issued))?.1.trim_end().to_owned())
    };
    let (token, reader) = (issue("topic.publish:a")?, issue("topic.subscribe:a")?);
    publish(dir.path(), &["a", "1", "--token", &token])?;
    assert_eq!(finished(moorline(dir.path(), &["publish", "a", "1"]).env("MOORLINE_TOKEN", &token))?.0, Some(0));
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["publish", "a", "1", "--token", &reader]))?;
    assert!(code == Some(1) && errors.starts_with("error: forbidden: The identity may not do this."), "{errors}");
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["watch", "a", "--token", &token]))?;
    assert!(code == Some(1) && errors.starts_with("error: forbidden: "), "{errors}");
    let mut command = moorline(dir.path(), &["watch", "a", "--history", "1"]);
    let watching = Watching::start(command.env("MOORLINE_TOKEN", &reader))?;
    assert!(watching.said.recv_timeout(PATIENCE)?.ends_with(" ann 1"));
    Ok(())
}

/// A token that was given once is never another one, so there is nothing to wait for.
#[test]
fn a_token_that_has_expired_ends_it() -> TestResult {
    let jwt =
        "[auth.jwt]\nalgorithm = 'HS256'\nsecret = 'a secret of tests, 32 bytes or more'\nleeway = '1ms'\n[topics.a]\n";
    let dir = directory(jwt)?;
    let _server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let issued = ["token", "issue", "--subject", "ann", "--exp", "3s"];
    let token = finished(&mut moorline(dir.path(), &issued))?.1.trim_end().to_owned();
    publish(dir.path(), &["a", "1", "--token", &token])?;
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["watch", "a", "--token", &token]))?;
    assert!(code == Some(1) && errors.contains("expired"), "{errors}");
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["publish", "a", "1", "--token", &token]))?;
    assert!(code == Some(1) && errors.starts_with("error: token_expired: "), "{errors}");
    Ok(())
}

#[test]
fn what_ends_tls_itself_is_not_spoken_to_yet() -> TestResult {
    let dir = directory(ROOMS)?;
    let _server = Running::start(&mut moorline(dir.path(), &[SERVE, &["--tls", "self-signed"]].concat()))?;
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["publish", "room:1", "1"]))?;
    assert!(code == Some(1) && errors.starts_with("error: the configured server ends TLS itself"), "{errors}");
    Ok(())
}

#[test]
fn what_does_not_work_ends_with_1_and_says_what_to_do() -> TestResult {
    let dir = directory(ROOMS)?;
    let nobody = "the configured server's key is not there to be pinned";
    for command in ["watch", "publish"] {
        let (code, _, errors) = finished(moorline(dir.path(), &[command, "room:1"]).stdin(Stdio::null()))?;
        assert_eq!(code, Some(1));
        let expected = if command == "watch" { nobody } else { "no JSON" };
        assert!(errors.contains(expected), "{errors}");
    }
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let address = server.authority().to_owned();
    for arguments in [&["watch", "rooms:1"] as &[&str], &["publish", "rooms:1", "1"]] {
        let (code, said, errors) = finished(&mut moorline(dir.path(), arguments))?;
        assert_eq!((code, said.as_str()), (Some(1), ""));
        assert!(errors.starts_with("error: no_such_channel: There is no channel of this name."), "{errors}");
    }
    drop(server);
    for arguments in [&["watch", "room:1"] as &[&str], &["publish", "room:1", "1"]] {
        let there = ["--timeout", "300ms", "--url", &format!("ws://{address}/moorline")];
        let (code, _, errors) = finished(&mut moorline(dir.path(), &[arguments, &there].concat()))?;
        assert_eq!(code, Some(1));
        assert!(errors.starts_with("error: not connected within 300ms\n  because: server_unreachable: "), "{errors}");
    }
    for arguments in [
        &["watch"] as &[&str],
        &["watch", "a", "--history", "257"],
        &["watch", "a", "--since", "yesterday"],
        &["publish", "a", "1", "--timeout", "10"],
        &["publish", "a", "1", "--text", "--bytes"],
    ] {
        assert_eq!(finished(&mut moorline(dir.path(), arguments))?.0, Some(2), "{arguments:?}");
    }
    Ok(())
}
