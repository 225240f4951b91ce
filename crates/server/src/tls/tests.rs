use std::{fs, time::SystemTimeError};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

type TestResult = Result<(), Box<dyn std::error::Error>>;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Writes a certificate that is valid for this many days from now, and its key.
fn write(dir: &TempDir, name: &str, days: i32) -> Result<TlsSection, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(["a.example".to_owned(), "192.0.2.7".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name}\u{7}"));
    let now = x509_cert::der::DateTime::from_system_time(SystemTime::now())?;
    let today = date_time_ymd(now.year().into(), now.month(), now.day());
    params.not_before = today - 400 * DAY;
    params.not_after = today - 1_000 * DAY + u32::try_from(1_000 + days)? * DAY;
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let pem = |label, der: &[u8]| {
        x509_cert::der::pem::encode_string(label, x509_cert::der::pem::LineEnding::LF, der)
            .map_err(|error| error.to_string())
    };
    let files = [dir.path().join(format!("{name}.pem")), dir.path().join(format!("{name}.key"))];
    fs::write(&files[0], pem("CERTIFICATE", certificate.der())?)?;
    fs::write(&files[1], pem("PRIVATE KEY", &key.serialize_der())?)?;
    let [certificate, key] = files;
    Ok(TlsSection { cert_file: Some(certificate), key_file: Some(key), self_signed: false })
}

fn open(section: &TlsSection) -> Result<Tls, TlsError> {
    Tls::open(section, None, [127, 0, 0, 1].into(), Arc::default()).map(|tls| tls.expect("something is configured"))
}

fn error(section: &TlsSection) -> String {
    open(section).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn what_a_certificate_says_is_told_without_what_spoils_a_terminal() -> TestResult {
    let dir = TempDir::new()?;
    let certificate = open(&write(&dir, "one", 30)?)?.certificate();
    assert_eq!(certificate.common_name.as_deref(), Some("one\u{fffd}"));
    assert_eq!(certificate.names, ["a.example", "192.0.2.7"]);
    assert!((29..=30).contains(&certificate.days_left(SystemTime::now())));
    assert!(certificate.not_after().ends_with("T00:00:00Z"), "{}", certificate.not_after());
    assert_eq!(certificate.fingerprint.len(), 64);
    Ok(())
}

#[test]
fn it_is_warned_of_a_certificate_that_ends_soon_and_one_that_has_ended_is_refused() -> TestResult {
    let dir = TempDir::new()?;
    let warning = |days| Ok::<_, Box<dyn std::error::Error>>(open(&write(&dir, "one", days)?)?.warnings());
    let of_time = |warnings: Vec<String>| warnings.into_iter().find(|text| text.contains("certificate"));
    assert_eq!(of_time(warning(17)?), None);
    assert!(of_time(warning(14)?).is_some_and(|text| text.ends_with("does what renews it run?")));
    assert!(of_time(warning(4)?).is_some_and(|text| text.ends_with("renew it now")));
    let expired = error(&write(&dir, "one", -1)?);
    assert!(expired.contains("one.pem has expired, on ") && expired.ends_with("renew it"), "{expired}");
    let certificate = open(&write(&dir, "one", 30)?)?.certificate();
    assert!(certificate.warning(SystemTime::now() - 1_000 * DAY).is_some_and(|text| text.contains("clock")));
    Ok(())
}

#[test]
fn a_pair_that_does_not_fit_or_is_none_is_refused_with_what_is_wrong() -> TestResult {
    let dir = TempDir::new()?;
    let (one, two) = (write(&dir, "one", 30)?, write(&dir, "two", 30)?);
    let mixed = TlsSection { key_file: two.key_file.clone(), ..one.clone() };
    assert!(error(&mixed).contains("two.key is not that of the certificate"), "{}", error(&mixed));
    let swapped = TlsSection { cert_file: one.key_file.clone(), ..one.clone() };
    assert!(error(&swapped).starts_with("there is no certificate in "), "{}", error(&swapped));
    let swapped = TlsSection { key_file: one.cert_file.clone(), ..one.clone() };
    assert!(error(&swapped).starts_with("there is no private key in "), "{}", error(&swapped));
    let half = TlsSection { key_file: None, ..one.clone() };
    assert!(error(&half).contains("need each other"));
    let both = TlsSection { self_signed: true, ..one.clone() };
    assert!(error(&both).contains("exclude each other"));
    let missing = TlsSection { cert_file: Some("/nowhere".into()), ..one.clone() };
    assert!(error(&missing).contains("/nowhere cannot be read"));
    for bytes in [&b""[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &[0xff; 100]] {
        fs::write(one.cert_file.as_ref().ok_or("no file")?, bytes)?;
        assert!(error(&one).starts_with("there is no certificate in "), "{}", error(&one));
    }
    Ok(())
}

#[test]
fn a_new_pair_is_served_from_the_next_look_and_a_broken_one_never() -> TestResult {
    let dir = TempDir::new()?;
    let section = write(&dir, "one", 30)?;
    let tls = open(&section)?;
    let first = tls.certificate().fingerprint;
    tls.look();
    assert!(!tls.reload()?);
    write(&dir, "one", 60)?;
    tls.look();
    let second = tls.certificate().fingerprint;
    assert_ne!(first, second);

    fs::write(section.cert_file.as_ref().ok_or("no file")?, "broken")?;
    tls.look();
    assert!(tls.reload().is_err());
    assert_eq!(tls.certificate().fingerprint, second);
    let served = tls.served.0.read().map_err(|error| error.to_string())?.clone();
    assert!(served.end_entity_cert().is_ok());
    Ok(())
}

#[test]
fn the_metrics_tell_when_the_certificate_that_is_served_ends() -> TestResult {
    let dir = TempDir::new()?;
    let section = write(&dir, "one", 30)?;
    let metrics = Arc::<Metrics>::default();
    let told = || {
        let text = metrics.exposition();
        let line = text.lines().find_map(|line| line.strip_prefix("moorline_tls_certificate_not_after_seconds "));
        line.map(str::to_owned)
    };
    assert_eq!(told(), None, "who serves none must not be told that it is over");
    let tls = Tls::open(&section, None, [127, 0, 0, 1].into(), metrics.clone())?.ok_or("nothing is configured")?;
    let ends = || Ok::<_, SystemTimeError>(tls.certificate().ends().duration_since(SystemTime::UNIX_EPOCH)?.as_secs());
    let first = ends()?;
    assert_eq!(told(), Some(first.to_string()));
    write(&dir, "one", 60)?;
    assert!(tls.reload()?);
    assert_eq!((told(), ends()?), (Some((first + 30 * DAY.as_secs()).to_string()), first + 30 * DAY.as_secs()));
    // One that does not do is not served, and so not told of.
    write(&dir, "one", -1)?;
    assert!(tls.reload().is_err());
    assert_eq!(told(), Some(ends()?.to_string()));
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_key_that_everybody_can_read_is_warned_of() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = TempDir::new()?;
    let section = write(&dir, "one", 30)?;
    let key = section.key_file.as_ref().ok_or("no file")?;
    fs::set_permissions(key, fs::Permissions::from_mode(0o604))?;
    assert!(open(&section)?.warnings()[0].contains("chmod o= "));
    fs::set_permissions(key, fs::Permissions::from_mode(0o640))?;
    assert_eq!(open(&section)?.warnings(), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_self_signed_certificate_is_made_once_and_anew_for_another_address() -> TestResult {
    let dir = TempDir::new()?;
    let data = DataDir::open(dir.path())?;
    let section = TlsSection { self_signed: true, ..TlsSection::default() };
    let open = |address: [u8; 4]| {
        let tls = Tls::open(&section, Some(&data), address.into(), Arc::default())?.ok_or(TlsError::Make)?;
        Ok::<_, TlsError>(tls.certificate())
    };
    let first = open([127, 0, 0, 1])?;
    assert_eq!(first.names, ["localhost", "127.0.0.1", "::1"]);
    assert!((360..=366).contains(&first.days_left(SystemTime::now())));
    assert_eq!(open([0, 0, 0, 0])?, first);
    let second = open([192, 0, 2, 7])?;
    assert_eq!(second.names, ["localhost", "127.0.0.1", "::1", "192.0.2.7"]);
    // It does for this machine, too.
    assert_eq!(open([127, 0, 0, 1])?, second);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(dir.path().join("self-signed.key"))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(matches!(Tls::open(&section, None, [127, 0, 0, 1].into(), Arc::default()), Err(TlsError::NoDirectory)));
    Ok(())
}
