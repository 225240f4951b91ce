//! `moorline token` as its users meet it. Every test has its own directory.

use std::{
    error::Error,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

type TestResult<T = ()> = Result<T, Box<dyn Error>>;

const CONFIG: &str = "[auth.jwt]\nalgorithm = 'HS256'\nsecret = 'a secret of tests, 32 bytes or more'\naudience = ['app']\n\
                      tenant_claim = 'org'\n";

/// A directory with this configuration in it, which is its owner's alone.
fn directory(config: &str) -> TestResult<TempDir> {
    let directory = TempDir::new()?;
    let path = directory.path().join("moorline.toml");
    fs::write(&path, config)?;
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(directory)
}

/// What `moorline token` prints with this on standard input: the code it ends with, stdout and stderr.
fn token(directory: &Path, arguments: &[&str], input: &str) -> TestResult<(Option<i32>, String, String)> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_moorline"))
        .current_dir(directory)
        .arg("token")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Who is called wrongly does not read.
    let _ = child.stdin.take().ok_or("no stdin")?.write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

fn issue(directory: &Path, flags: &[&str]) -> TestResult<String> {
    let (code, token, errors) = token(directory, &[&["issue"], flags].concat(), "")?;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(token.lines().count(), 1, "{token}");
    Ok(token)
}

#[test]
fn a_token_is_made_and_judged_by_one_configuration() -> TestResult {
    let directory = directory(CONFIG)?;
    let flags = ["--subject", "ann", "--scope", "call:say game.write", "--tenant", "acme", "--role", "admin"];
    let made = issue(directory.path(), &[&flags[..], &["--meta", r#"{"name":"Ann"}"#, "--exp", "7d"]].concat())?;
    let (code, said, errors) = token(directory.path(), &["verify"], &made)?;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let said: Value = serde_json::from_str(&said)?;
    assert_eq!((&said["subject"], &said["tenant"], &said["role"]), (&json!("ann"), &json!("acme"), &json!("admin")));
    assert_eq!((&said["scopes"], &said["meta"]), (&json!(["call:say", "game.write"]), &json!({ "name": "Ann" })));
    let claims = &said["claims"];
    assert_eq!(claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(a, b)| a - b), Some(7 * 86_400));
    let unlisted = issue(directory.path(), &["--subject", "ann", "--tenant", "acme"])?;
    let (_, said, _) = token(directory.path(), &["verify", unlisted.trim()], "")?;
    assert_eq!(serde_json::from_str::<Value>(&said)?["scopes"], Value::Null);
    Ok(())
}

#[test]
fn verify_says_why_a_token_is_refused_and_inspect_believes_nothing() -> TestResult {
    let (ours, other) = (directory(CONFIG)?, directory(&CONFIG.replace("tests", "others"))?);
    let foreign = issue(other.path(), &["--subject", "ann"])?;
    let (code, shown, errors) = token(ours.path(), &["verify"], &foreign)?;
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert_eq!(errors, "error: the token is refused: its signature is not that of the key\n");
    let (_, _, errors) = token(ours.path(), &["verify", "-"], &issue(ours.path(), &["--subject=a", "--audience=b"])?)?;
    assert!(errors.contains("another audience (aud)"), "{errors}");
    let (code, shown, errors) = token(ours.path(), &["inspect"], &foreign)?;
    assert_eq!((code, errors.as_str()), (Some(0), "not verified: anybody can have written this\n"));
    assert_eq!(serde_json::from_str::<Value>(&shown)?["claims"]["sub"], json!("ann"));
    let (code, _, errors) = token(ours.path(), &["inspect", "no.token"], "")?;
    assert!(code == Some(1) && errors.contains("this is no token"), "{errors}");
    Ok(())
}

#[test]
fn a_bound_token_is_judged_with_its_clients_key() -> TestResult {
    let directory = directory(CONFIG)?;
    let key = format!("-{}", "A".repeat(42));
    let made = issue(directory.path(), &["--subject", "ann", "--client-key", &key])?;
    assert!(token(directory.path(), &["verify"], &made)?.2.contains("bound to the key of another client"));
    assert_eq!(token(directory.path(), &["verify", "--client-key", &key], &made)?.0, Some(0));
    Ok(())
}

#[test]
fn what_is_revoked_is_refused() -> TestResult {
    let directory = directory(CONFIG)?;
    let made = |name: &str| issue(directory.path(), &["--subject", name, "--tenant", "acme"]);
    let (ann, bob, eve) = (made("ann")?, made("bob")?, made("eve")?);
    let (_, said, _) = token(directory.path(), &["verify"], &ann)?;
    let said: Value = serde_json::from_str(&said)?;
    let id = said["jti"].as_str().ok_or("no jti")?;
    for what in [&["--jti", id][..], &["--subject", "bob", "--tenant", "acme"], &["--subject", "eve"]] {
        let (code, _, errors) = token(directory.path(), &[&["revoke"], what].concat(), "")?;
        assert!(code == Some(0) && errors.contains("moorline-data/revocations"), "{errors}");
    }
    for revoked in [&ann, &bob] {
        assert!(token(directory.path(), &["verify"], revoked)?.2.contains("it was revoked"));
    }
    assert_eq!(token(directory.path(), &["verify"], &eve)?.0, Some(0), "she is in another tenant");
    let elsewhere = token(directory.path(), &["revoke", "--jti", "-x", "--data-dir", "other"], "")?;
    assert!(elsewhere.0 == Some(0) && directory.path().join("other/revocations").is_file());
    Ok(())
}

/// A server that has the directory and takes no commands did not hear of it, and the command said that none runs.
#[test]
fn regression_nothing_is_revoked_behind_the_back_of_a_server_that_takes_no_commands() -> TestResult {
    let directory = directory(CONFIG)?;
    let data_dir = directory.path().join("moorline-data");
    let server = moorline_server::DataDir::open(&data_dir)?;
    let revoke = || token(directory.path(), &["revoke", "--jti", "a"], "");
    let (code, _, errors) = revoke()?;
    assert!(code == Some(1) && errors.contains("is taken by process"), "{errors}");
    assert!(!data_dir.join("revocations").exists());
    drop(server);
    assert_eq!(revoke()?.0, Some(0));
    Ok(())
}

#[test]
fn what_cannot_be_done_says_what_would_do() -> TestResult {
    let bare = directory("")?;
    let (code, _, errors) = token(bare.path(), &["issue", "--subject", "ann"], "")?;
    assert!(code == Some(1) && errors.contains("[auth.issue] private_key_file"), "{errors}");
    let (code, _, errors) = token(bare.path(), &["verify", "x"], "")?;
    assert!(code == Some(1) && errors.contains("[auth.jwt]"), "{errors}");
    let ours = directory(CONFIG)?;
    let (code, _, errors) = token(ours.path(), &["issue", "--subject", "ann", "--scope", "topic.subcribe:x"], "")?;
    assert!(code == Some(1) && errors.contains("did you mean topic.subscribe:"), "{errors}");
    let (_, _, errors) = token(ours.path(), &["issue", "--subject", "ann", "--exp", "90d"], "")?;
    assert!(errors.contains("max_ttl"), "{errors}");
    for wrong in [
        &["issue"][..],
        &["issue", "--subject", "a", "--exp", "90"],
        &["issue", "--subject", "a", "--client-key", "x"],
        &["revoke"],
        &["revoke", "--jti", "a", "--subject", "b"],
        &["revoke", "--jti", "a", "--tenant", "b"],
    ] {
        assert_eq!(token(ours.path(), wrong, "")?.0, Some(2), "{wrong:?}");
    }
    Ok(())
}
