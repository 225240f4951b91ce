//! What is revoked stays so, whatever becomes of the file.

use serde_json::Map;

use super::*;
use crate::access::Principal;

type TestResult = Result<(), Box<dyn std::error::Error>>;

const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn subject(tenant: &str, name: &str) -> Subject {
    Subject::new(Tenant::new(tenant).unwrap(), name).unwrap()
}

fn verified(tenant: &str, name: &str, id: Option<&str>, issued: Option<u64>) -> Verified {
    let principal = Principal::new(subject(tenant, name));
    Verified::of(principal, at(NOW + 60), id.map(str::to_owned), issued.map(at), Map::new())
}

fn token(id: &str) -> Revocation {
    Revocation::Token { id: id.to_owned(), expires: None }
}

fn everything_of(tenant: &str, name: &str, before: u64) -> Revocation {
    Revocation::Subject { subject: subject(tenant, name), before: at(before) }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data/revocations")
    }

    fn load(&self) -> Result<Revocations, RevocationError> {
        Revocations::load(&self.path())
    }

    fn write(&self, text: &str) {
        make_directory(&self.path()).unwrap();
        replace(&self.path(), text).unwrap();
    }
}

/// The revocations were read before the directory was locked: what a command wrote in between, which finds no server, was
/// not in force until the next start.
#[test]
fn regression_what_was_revoked_between_reading_and_locking_is_in_force() -> TestResult {
    let place = Place::new();
    let server = place.load()?;
    place.load()?.revoke_blocking(&token("t1"), at(NOW))?;
    let is_revoked = || server.is_revoked(&verified("acme", "ann", Some("t1"), Some(NOW)));
    assert!(!is_revoked(), "it was read before");
    server.read_again()?;
    assert!(is_revoked());
    // What cannot be read is not passed over here either.
    place.write("damaged");
    assert!(matches!(server.read_again(), Err(RevocationError::Damaged { .. })) && is_revoked());
    Ok(())
}

fn check(revocations: &Revocations) {
    let is_revoked = |tenant, name, id, issued| revocations.is_revoked(&verified(tenant, name, id, issued));
    assert!(is_revoked("acme", "bob", Some("t\n1\""), Some(NOW + 9)));
    assert!(!is_revoked("acme", "bob", Some("t2"), Some(NOW)));
    assert!(!is_revoked("acme", "bob", None, None));
    for (issued, revoked) in [(Some(NOW - 1), true), (Some(NOW), true), (Some(NOW + 1), false), (None, true)] {
        assert_eq!(is_revoked("acme", "ann:x", Some("t3"), issued), revoked, "{issued:?}");
    }
    assert!(!is_revoked("rival", "ann:x", None, None), "who is called so elsewhere");
    assert!(!is_revoked("acme:ann", "x", None, None));
}

#[test]
fn what_is_revoked_is_refused_from_then_on_and_after_a_restart() -> TestResult {
    let place = Place::new();
    let revocations = place.load()?;
    revocations.revoke_blocking(&token("t\n1\""), at(NOW))?;
    revocations.revoke_blocking(&everything_of("acme", "ann:x", NOW), at(NOW))?;
    revocations.revoke_blocking(&everything_of("acme", "ann:x", NOW - 500), at(NOW))?;
    check(&revocations);
    check(&place.load()?);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(place.path())?.permissions().mode() & 0o777, 0o600);
    }
    for id in ["", &"x".repeat(MAX_ID + 1)] {
        assert!(matches!(revocations.revoke_blocking(&token(id), at(NOW)), Err(RevocationError::InvalidId)));
    }
    Ok(())
}

#[test]
fn the_longest_names_fit_a_line() -> TestResult {
    let place = Place::new();
    let longest = "\u{1}".repeat(moorline_protocol::limits::MAX_NAME);
    place.load()?.revoke_blocking(&everything_of(&longest, &longest, NOW), at(NOW))?;
    place.load()?.revoke_blocking(&token(&"\u{1}".repeat(MAX_ID)), at(NOW))?;
    let again = place.load()?;
    assert!(again.is_revoked(&verified(&longest, &longest, None, None)));
    assert!(again.is_revoked(&verified("a", "a", Some(&"\u{1}".repeat(MAX_ID)), None)));
    Ok(())
}

#[test]
fn a_damaged_line_is_named_and_nothing_is_forgotten() -> TestResult {
    let place = Place::new();
    let good = r#"{"revoked":"token","jti":"t1","until":1900000000}"#;
    for bad in [
        "x",
        "{}",
        &good[..good.len() - 1],
        r#"{"revoked":"token","jti":"","until":1900000000}"#,
        r#"{"revoked":"token","jti":"t","until":-1}"#,
        r#"{"revoked":"token","jti":"t","until":1,"until":1900000000}"#,
        r#"{"revoked":"token","jti":"t","until":1900000000,"else":1}"#,
        r#"{"revoked":"nobody","jti":"t","until":1900000000}"#,
        r#"{"revoked":"subject","tenant":"","subject":"ann","before":1,"until":1900000000}"#,
        &format!("{good}{good}"),
        &"x".repeat(3 * MAX_LINE),
    ] {
        let text = format!("# comment\n\n{good}\n{bad}\n");
        place.write(&text);
        let error = place.load().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("revocations:4: this line is no revocation"), "{bad:.80}: {error}");
        assert_eq!(fs::read_to_string(place.path())?, text, "and it is left alone");
    }
    place.write(good);
    place.load()?.revoke_blocking(&token("t2"), at(NOW))?;
    let again = place.load()?;
    for id in ["t1", "t2"] {
        assert!(again.is_revoked(&verified("a", "a", Some(id), None)), "a last line without an end stays one");
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_touch_is_refused_with_the_remedy() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    place.write("");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o620))?;
    let error = place.load().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("0620") && error.contains("chmod 600"), "{error}");
    Ok(())
}

#[test]
fn what_has_ended_is_dropped_and_the_file_stays_short() -> TestResult {
    let place = Place::new();
    let revocations = place.load()?;
    let ends = |id: &str, expires| Revocation::Token { id: id.to_owned(), expires: Some(at(expires)) };
    revocations.revoke_blocking(&token("stays"), at(NOW))?;
    let mut longest = 0;
    for round in 0..2 * SPARE_LINES as u64 {
        revocations.revoke_blocking(&ends("again", NOW + round), at(NOW + round))?;
        longest = longest.max(*revocations.lines.lock().unwrap());
    }
    assert!(longest <= 4 * 3 + SPARE_LINES + 2, "{longest}");
    let later = NOW + 10 * SPARE_LINES as u64;
    revocations.compact(&mut revocations.lines.lock().unwrap(), at(later));
    let text = fs::read_to_string(place.path())?;
    assert!(text.contains("\"stays\"") && !text.contains("\"again\""), "{text}");
    let again = place.load()?;
    assert!(again.is_revoked(&verified("a", "a", Some("stays"), None)));
    assert_eq!(*again.lines.lock().unwrap(), *revocations.lines.lock().unwrap());
    Ok(())
}

#[test]
fn an_entry_is_kept_for_as_long_as_its_tokens_may_last() -> TestResult {
    let place = Place::new();
    let revocations = place.load()?;
    revocations.revoke_blocking(&Revocation::Token { id: "known".into(), expires: Some(at(NOW + 60)) }, at(NOW))?;
    revocations.revoke_blocking(&token("unknown"), at(NOW))?;
    revocations.revoke_blocking(&everything_of("a", "ann", NOW), at(NOW))?;
    let in_force = |seconds| {
        revocations.known().forget_ended(seconds);
        revocations.known().len()
    };
    assert_eq!(in_force(NOW + 60), 3);
    assert_eq!(in_force(NOW + 61), 2);
    assert_eq!(in_force(NOW + KEPT.as_secs() - 1), 2);
    assert_eq!(in_force(NOW + KEPT.as_secs()), 0);
    Ok(())
}

#[test]
fn at_the_cap_what_has_ended_makes_room_and_nothing_else_does() -> TestResult {
    let place = Place::new();
    let revocations = place.load()?;
    revocations.known().tokens = (0..MOST).map(|n| (n.to_string().into(), NOW + 60)).collect();
    assert!(matches!(revocations.revoke_blocking(&token("x"), at(NOW)), Err(RevocationError::Full)));
    assert!(!revocations.is_revoked(&verified("a", "a", Some("x"), None)));
    assert!(!place.path().exists());
    revocations.revoke_blocking(&token("x"), at(NOW + 60))?;
    assert!(revocations.is_revoked(&verified("a", "a", Some("x"), None)));
    Ok(())
}

#[test]
fn what_cannot_be_written_is_not_in_force() -> TestResult {
    let place = Place::new();
    let revocations = place.load()?;
    fs::write(place.0.path().join("data"), "in the way")?;
    assert!(matches!(revocations.revoke_blocking(&token("x"), at(NOW)), Err(RevocationError::Write { .. })));
    assert!(!revocations.is_revoked(&verified("a", "a", Some("x"), None)));
    Ok(())
}

#[tokio::test]
async fn whoever_listens_hears_of_a_revocation_when_it_is_in_force() -> TestResult {
    let place = Place::new();
    let revocations = Arc::new(place.load()?);
    let mut changes = revocations.subscribe();
    let hears = tokio::spawn({
        let revocations = revocations.clone();
        async move { changes.changed().await.is_ok() && revocations.is_revoked(&verified("a", "a", Some("x"), None)) }
    });
    revocations.revoke(token("x"), at(NOW)).await?;
    assert!(hears.await?);
    Ok(())
}
