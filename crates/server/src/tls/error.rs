//! Why there is no TLS.

use std::{error, fmt, io, path::PathBuf};

use tokio_rustls::rustls;

/// Why a certificate and its key do not do.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// There is a certificate without a key, or the other way round.
    Half,
    /// There are files, and a self-signed one is asked for.
    Both,
    /// A self-signed certificate has no directory to be kept in.
    NoDirectory,
    /// A file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no certificate in the file, or a damaged one.
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no private key in the file, or none that can be used.
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The key is that of another certificate.
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is over.
    Expired {
        /// The file.
        path: PathBuf,
        /// When it ended.
        since: String,
    },
    /// A self-signed certificate cannot be made.
    Make,
    /// What was made cannot be kept.
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The TLS library does not take its own settings.
    Rustls(rustls::Error),
}

impl TlsError {
    /// In one line, with what the system says.
    pub(crate) fn with_cause(&self) -> String {
        match error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Half => formatter.write_str("[tls] cert_file and [tls] key_file need each other; set both, or neither"),
            Self::Both => formatter.write_str(
                "[tls] self_signed and [tls] cert_file exclude each other; leave out the one that is not meant",
            ),
            Self::NoDirectory => formatter.write_str(
                "a self-signed certificate is kept in the data directory, and there is none: [server] data_dir or --data-dir",
            ),
            Self::Read { path, .. } => write!(formatter, "the TLS file {} cannot be read", path.display()),
            Self::Certificate { path } => write!(
                formatter,
                "there is no certificate in {}, or a damaged one; it must be PEM (-----BEGIN CERTIFICATE-----), the \
                 server's own first",
                path.display()
            ),
            Self::Key { path } => write!(
                formatter,
                "there is no private key in {} that can be used; it must be PEM, without a password, ECDSA (P-256, P-384), \
                 Ed25519 or RSA",
                path.display()
            ),
            Self::Mismatch { certificate, key } => write!(
                formatter,
                "the key {} is not that of the certificate {}; take both from one issue",
                key.display(),
                certificate.display()
            ),
            Self::Expired { path, since } => write!(
                formatter,
                "the certificate {} has expired, on {since}: no client would connect; renew it",
                path.display()
            ),
            Self::Make => formatter.write_str("a self-signed certificate could not be made"),
            Self::Write { path, .. } => write!(formatter, "{} cannot be written", path.display()),
            Self::Rustls(_) => formatter.write_str("TLS cannot be set up"),
        }
    }
}

impl error::Error for TlsError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => Some(source),
            Self::Rustls(error) => Some(error),
            Self::Half
            | Self::Both
            | Self::NoDirectory
            | Self::Certificate { .. }
            | Self::Key { .. }
            | Self::Mismatch { .. }
            | Self::Expired { .. }
            | Self::Make => None,
        }
    }
}
