//! TLS that the program ends itself: whose certificate, how it is replaced, and when it refuses to start.

#![cfg(unix)]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
};

use moorline_server::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use support::{PATIENCE, Running, SERVE, TestResult, finished, moorline};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Writes a certificate for localhost that ends in this year, and its key, and gives the certificate.
fn write(dir: &Path, ends: i32) -> TestResult<CertificateDer<'static>> {
    let mut params = CertificateParams::new(["localhost".to_owned()])?;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(ends, 1, 1);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    fs::write(dir.join("cert.pem"), pem("CERTIFICATE", certificate.der())?)?;
    fs::write(dir.join("key.pem"), pem("PRIVATE KEY", &key.serialize_der())?)?;
    Ok(certificate.der().clone())
}

fn pem(label: &str, der: &[u8]) -> TestResult<String> {
    let text = base64(der);
    Ok(format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"))
}

/// Base64 in lines of 64.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (at, three) in bytes.chunks(3).enumerate() {
        if at > 0 && at % 16 == 0 {
            text.push('\n');
        }
        let of = |place: usize| u32::from(three.get(place).copied().unwrap_or_default());
        let all = of(0) << 16 | of(1) << 8 | of(2);
        for digit in 0..4 {
            let place = (all >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit > three.len() { '=' } else { char::from(DIGITS[place]) });
        }
    }
    text
}

fn with_files(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = moorline(dir, arguments);
    command.env("MOORLINE__TLS__CERT_FILE", "cert.pem").env("MOORLINE__TLS__KEY_FILE", "key.pem");
    command
}

/// A connection of somebody who trusts these certificates.
fn connect(server: &Running, trusted: &[&CertificateDer<'static>]) -> TestResult<Tls> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone())?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(server.authority())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
    Ok(StreamOwned::new(connection, socket))
}

/// Asks for the identity document and leaves the connection open.
fn ask(tls: &mut Tls) -> TestResult<String> {
    write!(tls, "GET /moorline HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    while !answer.ends_with("]}") {
        let mut bytes = [0; 4096];
        let read = tls.read(&mut bytes)?;
        assert!(read > 0, "it ended: {answer}");
        answer.push_str(std::str::from_utf8(&bytes[..read])?);
    }
    Ok(answer)
}

#[test]
fn a_certificate_is_replaced_under_open_connections_and_a_broken_one_is_not_taken() -> TestResult {
    let dir = TempDir::new()?;
    let dir = dir.path();
    let first = write(dir, 2999)?;
    let server = Running::start(&mut with_files(dir, SERVE))?;
    assert!(server.text("/listen/0").starts_with("https://127.0.0.1:"), "{}", server.banner);
    assert_eq!(server.text("/tls/names/0"), "localhost");
    assert_eq!(server.text("/tls/not_after"), "2999-01-01T00:00:00Z");
    assert!(server.banner.pointer("/tls/days_left").and_then(serde_json::Value::as_u64) > Some(300_000));
    let mut open = connect(&server, &[&first])?;
    assert!(ask(&mut open)?.starts_with("HTTP/1.1 200"));

    let second = write(dir, 2998)?;
    let reload = || finished(&mut with_files(dir, &["reload"]));
    let (code, shown, errors) = reload()?;
    assert_eq!((code, shown.as_str()), (Some(0), "identity unchanged\ncertificate changed\n"), "{errors}");
    assert!(ask(&mut connect(&server, &[&second])?)?.starts_with("HTTP/1.1 200"));
    assert!(ask(&mut connect(&server, &[&first])?).is_err(), "the first one is still served");
    assert!(ask(&mut open)?.starts_with("HTTP/1.1 200"), "the open connection was dropped");

    fs::write(dir.join("cert.pem"), "-----BEGIN NONSENSE-----")?;
    let (code, shown, errors) = reload()?;
    assert_eq!((code, shown.as_str()), (Some(1), "identity unchanged\ncertificate kept\n"));
    assert!(errors.contains("the certificate is kept as it was: there is no certificate in cert.pem"), "{errors}");
    write(dir, 2021)?;
    assert!(reload()?.2.contains("has expired"));
    assert!(ask(&mut connect(&server, &[&second])?)?.starts_with("HTTP/1.1 200"));

    // And without being told to.
    let third = write(dir, 2997)?;
    while ask(&mut connect(&server, &[&third])?).is_err() {
        server.wait_for("a new TLS certificate is served")?;
    }
    assert!(ask(&mut open)?.starts_with("HTTP/1.1 200"));
    Ok(())
}

#[test]
fn an_expired_certificate_and_a_key_of_another_keep_it_from_starting() -> TestResult {
    let dir = TempDir::new()?;
    write(dir.path(), 2021)?;
    let (code, _, errors) = finished(&mut with_files(dir.path(), SERVE))?;
    assert_eq!(code, Some(1));
    assert!(errors.contains("the certificate cert.pem has expired, on 2021-01-01T00:00:00Z"), "{errors}");

    write(dir.path(), 2999)?;
    let key = fs::read(dir.path().join("key.pem"))?;
    write(dir.path(), 2999)?;
    fs::write(dir.path().join("key.pem"), key)?;
    let (code, _, errors) = finished(&mut with_files(dir.path(), SERVE))?;
    assert_eq!(code, Some(1));
    assert!(errors.contains("the key key.pem is not that of the certificate cert.pem"), "{errors}");

    let mut half = moorline(dir.path(), SERVE);
    let (code, _, errors) = finished(half.env("MOORLINE__TLS__CERT_FILE", "cert.pem"))?;
    assert!(code == Some(1) && errors.contains("need each other"), "{errors}");
    Ok(())
}

#[test]
fn a_self_signed_certificate_is_kept_and_told_how_to_be_trusted() -> TestResult {
    let dir = TempDir::new()?;
    let arguments = [SERVE, &["--tls", "self-signed"]].concat();
    let start = || Running::start(&mut moorline(dir.path(), &arguments));
    let first = start()?;
    assert_eq!(first.text("/tls/self_signed"), "moorline-data/self-signed.pem");
    let print = first.text("/tls/sha256").to_owned();
    drop(first);
    let again = start()?;
    assert_eq!(again.text("/tls/sha256"), print);
    assert!(again.text("/listen/0").starts_with("https://"));
    Ok(())
}

#[test]
fn nothing_turns_tls_on_by_itself() -> TestResult {
    let dir = TempDir::new()?;
    write(dir.path(), 2999)?;
    let server = Running::start(&mut moorline(dir.path(), SERVE))?;
    assert!(server.text("/listen/0").starts_with("http://"));
    assert_eq!(server.banner["tls"], serde_json::Value::Null);
    Ok(())
}

#[test]
fn pages_documents_and_refusals_have_the_headers_that_are_configured() -> TestResult {
    let dir = TempDir::new()?;
    fs::create_dir(dir.path().join("www"))?;
    fs::write(dir.path().join("www/index.html"), "<!doctype html>")?;
    let file = "[headers]\nstrict_transport_security = 'max-age=60'\ncontent_security_policy = \"default-src 'self'\"\n\
                cross_origin_opener_policy = 'same-origin'\ncross_origin_embedder_policy = 'require-corp'\n\
                cross_origin_resource_policy = 'same-origin'\n";
    fs::write(dir.path().join("moorline.toml"), file)?;
    let server = Running::start(&mut moorline(dir.path(), &[SERVE, &["--public", "www"]].concat()))?;
    for path in ["/", "/moorline", "/moorline?origin=null", "/missing"] {
        let mut text = String::new();
        server.request(path)?.read_to_string(&mut text)?;
        for header in [
            "x-content-type-options: nosniff",
            "content-security-policy: default-src 'self'",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-embedder-policy: require-corp",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(text.contains(&format!("{header}\r\n")), "{header} is not in {text}");
        }
        assert!(!text.contains("strict-transport-security"), "{text}");
    }
    assert!(server.text("/warnings/0").contains("strict_transport_security is not sent"), "{}", server.banner);
    Ok(())
}
