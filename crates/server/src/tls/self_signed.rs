//! A certificate that nobody has signed, for tests on one's own machines.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use x509_cert::der::{
    DateTime,
    pem::{self, LineEnding},
};
use zeroize::Zeroizing;

use super::{Files, TlsError};
use crate::data_dir;

const CERTIFICATE: &str = "self-signed.pem";
const KEY: &str = "self-signed.key";

/// Apple's systems take no server's certificate that lasts longer than 825 days, whoever signed it.
const LASTS: Duration = Duration::from_secs(365 * 24 * 3600);

/// The files in the data directory. They are made when they are not there, are about to end, or are for another address:
/// who trusts one has to trust each, so not more often.
pub(super) fn ensure(dir: &Path, listen: IpAddr) -> Result<Files, TlsError> {
    let files = Files { certificate: dir.join(CERTIFICATE), key: dir.join(KEY), self_signed: true };
    let names = names(listen);
    let now = SystemTime::now();
    let does = files.read(now).is_ok_and(|pair| {
        let has = |name: &String| pair.certificate.names.contains(name);
        pair.certificate.urgency(now).is_none() && names.iter().all(has)
    });
    if !does {
        make(&files, names, now)?;
    }
    Ok(files)
}

/// This machine by its usual names, and the address that is listened on.
fn names(listen: IpAddr) -> Vec<String> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    if !listen.is_unspecified() && !addresses.contains(&listen) {
        addresses.push(listen);
    }
    ["localhost".to_owned()].into_iter().chain(addresses.iter().map(ToString::to_string)).collect()
}

fn make(files: &Files, names: Vec<String>, now: SystemTime) -> Result<(), TlsError> {
    let make = |_| TlsError::Make;
    let mut params = CertificateParams::new(names).map_err(make)?;
    params.distinguished_name.push(DnType::CommonName, "Moorline, self-signed");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // The beginning of the day of this moment.
    let day = |time| {
        let date = DateTime::from_system_time(time).map_err(|_| TlsError::Make)?;
        Ok(date_time_ymd(date.year().into(), date.month(), date.day()))
    };
    // A day early, for clocks that are behind.
    params.not_before = day(now - Duration::from_secs(24 * 3600))?;
    params.not_after = day(now + LASTS)?;
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.self_signed(&key).map_err(make)?;
    let der = Zeroizing::new(key.serialize_der());
    let pem = |label, der: &[u8]| pem::encode_string(label, LineEnding::LF, der).map_err(|_| TlsError::Make);
    // The key first: a certificate without its key would be served to nobody, and be made anew.
    let text = Zeroizing::new(pem("PRIVATE KEY", &der)?);
    for (path, text) in [(&files.key, text.as_str()), (&files.certificate, &pem("CERTIFICATE", certificate.der())?)] {
        write(path, text).map_err(|source| TlsError::Write { path: path.clone(), source })?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    data_dir::private(&mut options);
    let mut file = options.open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
