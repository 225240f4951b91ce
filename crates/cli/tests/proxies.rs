//! Behind proxies: whose word counts, as the log shows it.

mod support;

use std::{io::Write as _, net::TcpStream, process::Command};

use tempfile::TempDir;

use support::{PATIENCE, Running, SERVE, TestResult, answer, finished, moorline};

/// A server that lets everybody in, and believes this proxy.
fn behind(dir: &TempDir, proxies: &str) -> Command {
    let mut command = moorline(dir.path(), SERVE);
    command
        .env("MOORLINE__AUTH__ANONYMOUS", "true")
        .env("MOORLINE__SERVER__PUBLIC_URLS", "wss://app.example/moorline")
        .env("MOORLINE__SERVER__TRUSTED_PROXIES", proxies)
        .env("MOORLINE__LOG__LEVEL", "debug");
    command
}

/// Asks in the way of a page that is refused, since a refusal is logged with who was refused.
fn ask(server: &Running, before: &[u8], headers: &str) -> TestResult<u16> {
    let mut socket = TcpStream::connect(server.authority())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET /moorline HTTP/1.1\r\nHost: app.example\r\nOrigin: https://evil.example\r\n{headers}Connection: close\r\n\r\n"
    );
    // In one piece: the server may close as soon as it has seen that the first line is wrong.
    socket.write_all(&[before, request.as_bytes()].concat())?;
    Ok(answer(socket)?.0)
}

#[test]
fn the_log_has_the_clients_address_and_not_the_proxys_or_one_that_the_client_made_up() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(&mut behind(&dir, "127.0.0.1"))?;
    assert_eq!(server.text("/trusted_proxies/0"), "127.0.0.1/32");
    for (headers, expected) in [
        ("X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\n", "203.0.113.9:0"),
        ("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 203.0.113.10\r\n", "203.0.113.10:0"),
        ("Forwarded: for=1.1.1.1, for=\"[2001:db8::9]:51234\";proto=https\r\n", "[2001:db8::9]:51234"),
        ("X-Forwarded-For: unknown\r\n", "127.0.0.1:"),
    ] {
        assert_eq!(ask(&server, b"", headers)?, 403);
        server.wait_for(&format!("\"address\":\"{expected}"))?;
    }
    assert_eq!(ask(&server, b"", "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=1.1.1.1\r\n")?, 403);
    server.wait_for("name different clients")?;
    server.wait_for("\"address\":\"127.0.0.1:")?;
    Ok(())
}

#[test]
fn what_an_untrusted_address_says_of_others_is_ignored_and_warned_of_once() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(&mut behind(&dir, "192.0.2.1"))?;
    assert_eq!(ask(&server, b"", "X-Forwarded-For: 203.0.113.9\r\n")?, 403);
    server.wait_for("is not among [server] trusted_proxies")?;
    server.wait_for("\"address\":\"127.0.0.1:")?;
    assert_eq!(ask(&server, b"", "Forwarded: for=203.0.113.9\r\n")?, 403);
    let next = server.next_with(&["trusted_proxies", "\"address\":\"127.0.0.1:"])?;
    assert!(!next.contains("trusted_proxies"), "{next}");
    Ok(())
}

#[test]
fn a_host_is_that_of_the_request_whatever_a_proxy_says() -> TestResult {
    let dir = TempDir::new()?;
    let server = Running::start(&mut behind(&dir, "127.0.0.1"))?;
    let mut socket = TcpStream::connect(server.authority())?;
    write!(
        socket,
        "GET /moorline HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: app.example\r\nForwarded: host=app.example\r\nConnection: close\r\n\r\n"
    )?;
    assert_eq!(answer(socket)?.0, 421);
    Ok(())
}

#[test]
fn the_proxy_protocol_is_taken_from_trusted_proxies_and_nobody_else() -> TestResult {
    let dir = TempDir::new()?;
    let mut command = behind(&dir, "127.0.0.1");
    let server = Running::start(command.env("MOORLINE__SERVER__PROXY_PROTOCOL", "true"))?;
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    binary.extend([203, 0, 113, 10, 192, 0, 2, 1, 0xc8, 0x22, 1, 0xbb]);
    for (header, expected) in [
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n".to_vec(), "203.0.113.9:51234"),
        (binary, "203.0.113.10:51234"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1:"),
    ] {
        assert_eq!(ask(&server, &header, "")?, 403);
        server.wait_for(&format!("\"address\":\"{expected}"))?;
    }
    // Who is behind the proxy is no proxy.
    assert_eq!(ask(&server, b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n", "X-Forwarded-For: 1.1.1.1\r\n")?, 403);
    server.wait_for("\"address\":\"203.0.113.9:51234")?;
    // Nor does whoever is behind a proxy that does not know him speak for others.
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        assert_eq!(ask(&server, header, "X-Forwarded-For: 203.0.113.77\r\n")?, 403);
        let line = server.next_with(&["a request was refused"])?;
        assert!(line.contains("\"address\":\"127.0.0.1:"), "{line}");
    }
    // A trusted one that says nothing is not answered: nobody knows for whom it asks.
    assert!(ask(&server, b"", "").is_err());
    server.wait_for("sent no PROXY header")?;

    let dir = TempDir::new()?;
    let mut command = behind(&dir, "192.0.2.1");
    let server = Running::start(command.env("MOORLINE__SERVER__PROXY_PROTOCOL", "true"))?;
    assert_eq!(ask(&server, b"", "")?, 403);
    assert_eq!(ask(&server, b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n", "")?, 400);
    Ok(())
}

#[test]
fn a_trusted_proxy_that_stalls_is_cut_off() -> TestResult {
    let dir = TempDir::new()?;
    let mut command = behind(&dir, "127.0.0.1");
    command.env("MOORLINE__SERVER__PROXY_PROTOCOL", "true").env("MOORLINE__TIMEOUTS__UPGRADE", "200ms");
    let server = Running::start(&mut command)?;
    let mut socket = TcpStream::connect(server.authority())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"PROXY TCP4 ")?;
    server.wait_for("sent no PROXY header")?;
    Ok(())
}

#[test]
fn an_open_server_is_not_put_behind_proxies() -> TestResult {
    let dir = TempDir::new()?;
    let mut command = moorline(dir.path(), SERVE);
    let (code, _, errors) = finished(command.env("MOORLINE__SERVER__TRUSTED_PROXIES", "127.0.0.1"))?;
    assert_eq!(code, Some(1));
    assert!(errors.contains("trusted_proxies is set, but nothing says who may come in"), "{errors}");
    let mut command = moorline(dir.path(), SERVE);
    command.env("MOORLINE__AUTH__ANONYMOUS", "true").env("MOORLINE__SERVER__PROXY_PROTOCOL", "true");
    let (code, _, errors) = finished(&mut command)?;
    assert!(code == Some(1) && errors.contains("no proxy is trusted"), "{errors}");
    // And without being told that there is one, it sees it by what every proxy writes.
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    assert_eq!(ask_open(&server)?, 421);
    Ok(())
}

fn ask_open(server: &Running) -> TestResult<u16> {
    let mut socket = TcpStream::connect(server.authority())?;
    write!(
        socket,
        "GET /moorline HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n"
    )?;
    Ok(answer(socket)?.0)
}
