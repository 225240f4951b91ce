//! `moorline key` as its users meet it. Every test has its own directory.

mod support;

use std::{fs, io::Write as _, path::Path, process::Stdio};

use moorline_server::protocol::key::SharedKey;
use tempfile::TempDir;

use support::{TestResult, finished, moorline};

const PASSPHRASE: &str = "correct horse battery staple";

/// What `moorline key from-passphrase` prints when this is typed: the code it ends with, stdout and stderr.
fn from_passphrase(directory: &Path, arguments: &[&str], typed: &str) -> TestResult<(Option<i32>, String, String)> {
    let mut child = moorline(directory, &[&["key", "from-passphrase"], arguments].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or("no stdin")?.write_all(typed.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

/// The one line on stdout, which must be a key.
fn key((code, stdout, stderr): (Option<i32>, String, String)) -> TestResult<String> {
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let text = stdout.trim_end().to_owned();
    assert_eq!(*text.parse::<SharedKey>()?.text(), text);
    Ok(text)
}

#[test]
fn a_new_key_is_one_that_reads_and_another_each_time() -> TestResult {
    let directory = TempDir::new()?;
    let new = || key(finished(&mut moorline(directory.path(), &["key", "new"]))?);
    assert_ne!(new()?, new()?);
    assert_eq!(fs::read_dir(directory.path())?.count(), 0, "nothing of it stays");
    Ok(())
}

#[test]
fn a_passphrase_gives_one_key_for_each_data_directory() -> TestResult {
    let directory = TempDir::new()?;
    let first = from_passphrase(directory.path(), &[], PASSPHRASE)?;
    assert!(first.2.contains("moorline-data/passphrase.salt") && !first.2.contains(PASSPHRASE), "{}", first.2);
    let first = key(first)?;
    // A file has a line's end where there is none when it is piped.
    let again = from_passphrase(directory.path(), &[], &format!("{PASSPHRASE}\r\n"))?;
    assert_eq!(again.2, "", "the salt was made before");
    assert_eq!(key(again)?, first);
    assert_ne!(key(from_passphrase(directory.path(), &["--data-dir", "other"], PASSPHRASE)?)?, first);
    assert_ne!(key(from_passphrase(directory.path(), &[], "correct horse battery stable")?)?, first);
    Ok(())
}

/// The directory that a server makes is its owner's alone, and one that it finds it leaves as it is: so was that of this
/// command, which everybody could enter.
#[cfg(unix)]
#[test]
fn regression_the_directory_that_is_made_for_the_salt_is_its_owners_alone() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = TempDir::new()?;
    key(from_passphrase(directory.path(), &["--data-dir", "deep/data"], PASSPHRASE)?)?;
    let mode = fs::metadata(directory.path().join("deep/data"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    Ok(())
}

#[cfg(unix)]
#[test]
fn the_salt_is_its_owners_alone() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = TempDir::new()?;
    key(from_passphrase(directory.path(), &[], PASSPHRASE)?)?;
    let mode = fs::metadata(directory.path().join("moorline-data/passphrase.salt"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    Ok(())
}

#[test]
fn a_short_passphrase_is_refused_and_leaves_nothing_behind() -> TestResult {
    let directory = TempDir::new()?;
    // Counted in characters: these have twice as many bytes.
    for short in ["", "\n", "eleven char", "ööööööööööö"] {
        let (code, stdout, stderr) = from_passphrase(directory.path(), &[], short)?;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{short}");
        assert!(stderr.contains("at least 12 characters") && stderr.contains("moorline key new"), "{stderr}");
    }
    assert!(!directory.path().join("moorline-data").exists());
    Ok(())
}

#[test]
fn a_damaged_salt_is_named_and_not_made_anew() -> TestResult {
    let directory = TempDir::new()?;
    let salt = directory.path().join("moorline-data/passphrase.salt");
    key(from_passphrase(directory.path(), &[], PASSPHRASE)?)?;
    let cut = fs::read(&salt)?[..19].to_vec();
    fs::write(&salt, &cut)?;
    let (code, stdout, stderr) = from_passphrase(directory.path(), &[], PASSPHRASE)?;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("moorline-data/passphrase.salt is damaged"), "{stderr}");
    assert_eq!(fs::read(&salt)?, cut);
    Ok(())
}
