//! The built program as its users meet it: what it prints, how it ends. Every test has its own directory and port 0.

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Stdio,
};

use serde_json::Value;
use tempfile::TempDir;

use support::{Running, SERVE, TestResult, answer, finished, moorline};

#[test]
fn it_starts_without_any_configuration_and_tells_what_it_does() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    assert_eq!(server.text("/version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(server.banner.pointer("/config/file"), Some(&Value::Null));
    assert!(server.text("/listen/0").starts_with("http://127.0.0.1:"));
    assert!(server.text("/listen/0").ends_with("/moorline"));
    assert!(server.text("/identity/0").starts_with("mlpub_"));
    assert_eq!((server.text("/identity_origin"), server.text("/auth")), ("created", "open"));
    assert_eq!((server.text("/encryption"), server.text("/suites/0")), ("on", "aes-256-gcm"));
    assert!(server.text("/trust").contains("VITE_MOORLINE_SERVER_KEY"));
    assert_eq!(server.banner.pointer("/warnings"), Some(&Value::Array(Vec::new())));
    assert!(dir.path().join("moorline-data/identity").is_file());
    Ok(())
}

#[test]
fn people_get_the_banner_as_lines() -> TestResult {
    let dir = TempDir::new()?;
    let mut command = moorline(dir.path(), SERVE);
    command.env("MOORLINE__LOG__FORMAT", "pretty").env("MOORLINE__INTERNAL__LISTEN", "127.0.0.1:0");
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let stderr = BufReader::new(child.stderr.take().ok_or("no stderr")?);
    let lines: Vec<String> = stderr.lines().map_while(Result::ok).take(10).collect();
    child.kill()?;
    child.wait()?;
    assert_eq!(lines[0], format!("moorline {}   defaults + 2 environment variables", env!("CARGO_PKG_VERSION")));
    let names: Vec<_> = lines[1..].iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["listen", "internal", "control", "identity", "trust", "auth", "origins", "sealed", "topics"]);
    assert!(lines[2].starts_with("internal  http://127.0.0.1:"), "{}", lines[2]);
    assert!(lines[3].ends_with("moorline-data/control.sock"), "{}", lines[3]);
    assert!(lines[4].ends_with("(made now, kept in moorline-data/identity)"), "{}", lines[4]);
    Ok(())
}

#[test]
fn flags_come_over_the_environment_over_the_file() -> TestResult {
    let dir = TempDir::new()?;
    let file = "[server]\ndata_dir = 'of-file'\npath = '/of-file'\n[auth]\nanonymous = true\n[log]\nlevel = 'error'";
    fs::create_dir(dir.path().join("conf"))?;
    fs::write(dir.path().join("conf/live.toml"), file)?;
    let server = Running::start(
        moorline(dir.path(), &["serve", "-c", "conf/live.toml", "--listen", "127.0.0.1:0", "--data-dir", "of-flag"])
            .env("MOORLINE__SERVER__LISTEN", "127.0.0.1:1")
            .env("MOORLINE__SERVER__DATA_DIR", "of-environment")
            .env("MOORLINE__SERVER__PUBLIC_URLS", "wss://a.example/m,wss://b.example/m"),
    )?;
    assert_eq!(server.text("/config/file"), "conf/live.toml");
    assert_eq!(server.banner.pointer("/config/variables/2"), Some(&Value::from("MOORLINE__SERVER__PUBLIC_URLS")));
    assert!(server.text("/listen/0").ends_with("/of-file"));
    assert_eq!((server.text("/public/1"), server.text("/auth")), ("wss://b.example/m", "anonymous"));
    assert!(dir.path().join("of-flag/identity").is_file());
    assert_eq!(fs::read_dir(dir.path())?.count(), 2);
    Ok(())
}

#[test]
fn what_it_should_worry_about_is_in_the_banner() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(
        moorline(dir.path(), &["serve", "--listen", "0.0.0.0:0"])
            .env("MOORLINE__AUTH__ANONYMOUS", "true")
            .env("MOORLINE__SERVER__ENCRYPTION", "off"),
    )?;
    let warnings = server.banner.pointer("/warnings").and_then(Value::as_array).ok_or("no warnings")?;
    assert!(warnings.len() >= 2, "{warnings:?}");
    assert_eq!((server.text("/encryption"), server.text("/identity/0")), ("off", ""));
    Ok(())
}

#[test]
fn identity_show_prints_the_served_key_and_nothing_else() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    let (code, shown, errors) = finished(&mut moorline(dir.path(), &["identity", "show"]))?;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let key = server.text("/identity/0");
    assert_eq!(shown, format!("{key}\n"));
    let mut answer = String::new();
    server.request("/moorline")?.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(key), "{answer}");
    let file = ["identity", "show", "--file", "moorline-data/identity"];
    assert_eq!(finished(moorline(dir.path(), &file).env("MOORLINE_CONFIG", "/nowhere"))?.1, shown);
    Ok(())
}

#[test]
fn the_identity_stays_across_starts() -> TestResult {
    let dir = TempDir::new()?;
    let first = Running::start(&mut moorline(dir.path(), SERVE))?.text("/identity/0").to_owned();
    let again = Running::start(&mut moorline(dir.path(), SERVE))?;
    assert_eq!((again.text("/identity/0"), again.text("/identity_origin")), (first.as_str(), "file"));
    Ok(())
}

#[test]
fn before_the_first_start_there_is_no_identity_to_show_and_none_is_made() -> TestResult {
    let dir = TempDir::new()?;
    let (code, shown, errors) = finished(&mut moorline(dir.path(), &["identity", "show"]))?;
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(errors.contains("the first start of the server makes it"), "{errors}");
    assert_eq!(fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}

#[test]
fn the_internal_listener_answers_what_the_public_one_never_does() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(moorline(dir.path(), SERVE).env("MOORLINE__INTERNAL__LISTEN", "127.0.0.1:0"))?;
    assert!(server.text("/internal").starts_with("http://127.0.0.1:"), "{}", server.banner);
    assert_eq!(server.banner.pointer("/warnings"), Some(&Value::Array(Vec::new())));
    assert_eq!(server.internal("GET", "/healthz")?, (200, "ok\n".into()));
    // The banner comes just before it serves.
    while server.internal("GET", "/readyz")? == (503, "starting\n".into()) {}
    assert_eq!(server.internal("GET", "/readyz")?, (200, "ready\n".into()));
    assert_eq!(server.internal("POST", "/readyz")?.0, 405);
    assert_eq!(server.internal("POST", "/metrics")?.0, 405);
    assert_eq!(server.internal("GET", "/moorline")?.0, 404);
    // The last one is for tests of the repository, and in no program.
    for path in ["/metrics", "/healthz", "/readyz", "/echo"] {
        assert_eq!(answer(server.request(path)?)?.0, 404, "{path}");
    }
    Ok(())
}

#[test]
fn metrics_tell_the_version_and_what_happened() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(moorline(dir.path(), SERVE).env("MOORLINE__INTERNAL__LISTEN", "127.0.0.1:0"))?;
    let has = |line: &str| -> TestResult<bool> {
        let (status, text) = server.internal("GET", "/metrics")?;
        Ok(status == 200 && text.lines().any(|found| found == line))
    };
    assert!(has(&format!("moorline_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")))?);
    assert!(has("moorline_upgrades_refused_total{reason=\"subprotocol\"} 0")?);
    let mut socket = TcpStream::connect(server.authority())?;
    write!(
        socket,
        "GET /moorline HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        server.authority()
    )?;
    assert_eq!(answer(socket)?.0, 400);
    assert!(has("moorline_upgrades_refused_total{reason=\"subprotocol\"} 1")?);
    assert!(has("moorline_connections_accepted_total 0")?);
    Ok(())
}

#[test]
fn without_being_asked_for_there_is_no_internal_listener() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    assert_eq!(server.banner.pointer("/internal"), Some(&Value::Null));
    Ok(())
}

#[cfg(unix)]
#[test]
fn while_it_drains_the_internal_listener_says_so() -> TestResult {
    let dir = TempDir::new()?;
    large_file(dir.path())?;
    let arguments = [SERVE, &["--public", "www"]].concat();
    let mut command = moorline(dir.path(), &arguments);
    command.env("MOORLINE__TIMEOUTS__SHUTDOWN", "1h").env("MOORLINE__INTERNAL__LISTEN", "127.0.0.1:0");
    let server = Running::start(&mut command)?;
    let mut download = server.request("/large")?;
    download.read_exact(&mut [0; 64])?;
    server.signal("TERM")?;
    server.wait_for("closing")?;
    while server.internal("GET", "/readyz")? != (503, "draining\n".into()) {}
    assert_eq!(server.internal("GET", "/healthz")?, (200, "ok\n".into()));
    drop(download);
    assert_eq!(server.wait()?.code(), Some(0));
    Ok(())
}

#[cfg(unix)]
#[test]
fn regression_pages_are_served_and_dotfiles_beside_them_are_not() -> TestResult {
    let dir = TempDir::new()?;
    let www = dir.path().join("www");
    for (file, text) in [
        ("index.html", "page"),
        (".env", "SECRET=1"),
        (".git/HEAD", "ref"),
        (".well-known/security.txt", "Contact"),
        (".well-known/.env", "SECRET=1"),
    ] {
        let file = www.join(file);
        fs::create_dir_all(file.parent().unwrap_or(&www))?;
        fs::write(file, text)?;
    }
    // A link is the author's own doing, wherever it leads.
    std::os::unix::fs::symlink(".env", www.join("linked"))?;
    let server = Running::start(&mut moorline(dir.path(), &[SERVE, &["--public", "www"]].concat()))?;
    for path in ["/.env", "/%2eenv", "/.git/HEAD", "/.git", "/.git/", "/.well-known/.env"] {
        assert_eq!(answer(server.request(path)?)?, (404, String::new()), "{path}");
    }
    for (path, text) in [("/", "page"), ("/.well-known/security.txt", "Contact"), ("/linked", "SECRET=1")] {
        assert_eq!(answer(server.request(path)?)?, (200, text.into()), "{path}");
    }
    Ok(())
}

/// More than the buffers of a socket take, so that a client who does not read keeps the server waiting.
#[cfg(unix)]
fn large_file(dir: &Path) -> TestResult {
    fs::create_dir(dir.join("www"))?;
    Ok(fs::File::create(dir.join("www/large"))?.set_len(256 * 1024 * 1024)?)
}

#[cfg(unix)]
#[test]
fn sigterm_and_sigint_close_politely() -> TestResult {
    for name in ["TERM", "INT"] {
        let dir = TempDir::new()?;
        let server = Running::start(&mut moorline(dir.path(), SERVE))?;
        server.signal(name)?;
        assert_eq!(server.wait()?.code(), Some(0), "{name}");
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_at_once() -> TestResult {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let dir = TempDir::new()?;
        large_file(dir.path())?;
        let arguments = [SERVE, &["--public", "www"]].concat();
        let server = Running::start(moorline(dir.path(), &arguments).env("MOORLINE__TIMEOUTS__SHUTDOWN", "1h"))?;
        let mut download = server.request("/large")?;
        download.read_exact(&mut [0; 64])?;
        server.signal(name)?;
        server.wait_for("closing")?;
        server.signal(name)?;
        assert_eq!(server.wait()?.code(), Some(code), "{name}");
    }
    Ok(())
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest() -> TestResult {
    let dir = TempDir::new()?;
    fs::write(dir.path().join("moorline.toml"), "[server]\nlisen = '127.0.0.1:0'\n")?;
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["serve"]))?;
    assert_eq!(code, Some(1));
    assert_eq!(errors, "error: moorline.toml:2:1: unknown key lisen in [server]; did you mean listen?\n");
    Ok(())
}

#[test]
fn an_open_server_does_not_start_where_others_reach_it() -> TestResult {
    let dir = TempDir::new()?;
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["serve", "--listen", "0.0.0.0:0"]))?;
    assert_eq!(code, Some(1));
    assert!(errors.contains("[auth] anonymous = true") && errors.contains("public_urls"), "{errors}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_keeps_it_from_starting() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = TempDir::new()?;
    drop(Running::start(&mut moorline(dir.path(), SERVE))?);
    fs::set_permissions(dir.path().join("moorline-data/identity"), fs::Permissions::from_mode(0o644))?;
    let (code, _, errors) = finished(&mut moorline(dir.path(), SERVE))?;
    assert_eq!(code, Some(1));
    assert!(errors.contains("chmod 600 moorline-data/identity"), "{errors}");
    Ok(())
}

#[test]
fn an_error_tells_its_cause() -> TestResult {
    let dir = TempDir::new()?;
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["-c", "other.toml", "serve"]))?;
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: the configuration other.toml cannot be read\n  because: "), "{errors}");
    let (code, _, errors) = finished(&mut moorline(dir.path(), &["serve", "--public", "dist"]))?;
    assert!(code == Some(1) && errors.contains("dist is not there"), "{errors}");
    Ok(())
}

#[test]
fn wrong_use_ends_with_2() -> TestResult {
    let dir = TempDir::new()?;
    for arguments in [&[] as &[&str], &["serv"], &["serve", "--listen", "80"], &["serve", "--port", "80"]] {
        assert_eq!(finished(&mut moorline(dir.path(), arguments))?.0, Some(2), "{arguments:?}");
    }
    Ok(())
}
