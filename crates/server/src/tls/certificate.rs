//! What a certificate says of itself, for people. Whether it is trusted is for clients to judge.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate as X509,
    der::{
        DateTime, Decode as _, Tag, Tagged as _,
        asn1::{Any, ObjectIdentifier},
    },
    ext::pkix::{SubjectAltName, name::GeneralName},
};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How urgent it is to do something about a certificate, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It ends within 15 days: what renews it by itself should have done so.
    Soon,
    /// It ends within 5 days.
    Now,
    /// It is over.
    Expired,
}

/// What an operator wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The common name of its subject, if it has one.
    pub common_name: Option<String>,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// SHA-256 over it, in hexadecimal digits.
    pub fingerprint: String,
    from: SystemTime,
    to: SystemTime,
}

impl Certificate {
    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = X509::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        let common_name = body
            .subject()
            .iter()
            .find(|attribute| attribute.oid == COMMON_NAME)
            .and_then(|attribute| text(&attribute.value));
        let names = match body.get_extension::<SubjectAltName>() {
            Ok(Some((_, SubjectAltName(names)))) => names.iter().filter_map(name).collect(),
            Ok(None) => Vec::new(),
            Err(_) => return None,
        };
        let validity = body.validity();
        Some(Self {
            common_name,
            names,
            fingerprint: Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect(),
            from: UNIX_EPOCH + validity.not_before.to_unix_duration(),
            to: UNIX_EPOCH + validity.not_after.to_unix_duration(),
        })
    }

    /// When it ends.
    pub(super) fn ends(&self) -> SystemTime {
        self.to
    }

    /// When it begins, as RFC 3339 has it.
    pub fn not_before(&self) -> String {
        rfc3339(self.from)
    }

    /// When it ends, as RFC 3339 has it.
    pub fn not_after(&self) -> String {
        rfc3339(self.to)
    }

    /// Whole days until its end; 0 on its last day and after it.
    pub fn days_left(&self, now: SystemTime) -> u64 {
        self.to.duration_since(now).unwrap_or_default().as_secs() / DAY.as_secs()
    }

    /// Whether something should be done about it.
    pub fn urgency(&self, now: SystemTime) -> Option<Urgency> {
        let left = self.to.duration_since(now).ok();
        match left {
            None => Some(Urgency::Expired),
            Some(left) if left < 5 * DAY => Some(Urgency::Now),
            Some(left) if left < 15 * DAY => Some(Urgency::Soon),
            Some(_) => None,
        }
    }

    /// What an operator should be told.
    pub(super) fn warning(&self, now: SystemTime) -> Option<String> {
        let (days, end) = (self.days_left(now), self.not_after());
        if now < self.from {
            return Some(format!(
                "the TLS certificate is not valid before {}: clients refuse it until then; is this clock right?",
                self.not_before()
            ));
        }
        Some(match self.urgency(now)? {
            Urgency::Soon => format!("the TLS certificate ends in {days} days, on {end}; does what renews it run?"),
            Urgency::Now => format!("the TLS certificate ends in {days} days, on {end}: renew it now"),
            Urgency::Expired => format!("the TLS certificate has expired, on {end}: clients refuse it; renew it"),
        })
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.common_name.as_deref().unwrap_or("no common name"))?;
        if !self.names.is_empty() {
            write!(formatter, " for {}", self.names.join(", "))?;
        }
        write!(
            formatter,
            ", {} to {} ({} days left)",
            self.not_before(),
            self.not_after(),
            self.days_left(SystemTime::now())
        )
    }
}

/// A name of the subject; those that are no text of a kind that is in use are passed over.
fn text(value: &Any) -> Option<String> {
    let plain = match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString => value.value(),
        _ => return None,
    };
    Some(printable(std::str::from_utf8(plain).ok()?))
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(printable(name.as_str())),
        GeneralName::IpAddress(bytes) => {
            let address = match *bytes.as_bytes() {
                [a, b, c, d] => IpAddr::from([a, b, c, d]),
                ref bytes => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
            };
            Some(address.to_string())
        }
        _ => None,
    }
}

/// It goes to terminals and logs, and somebody else may have chosen it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(253).collect()
}

fn rfc3339(time: SystemTime) -> String {
    DateTime::from_system_time(time).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}
