//! TLS that the server ends itself: the certificate, what an operator must know of it, and how it is replaced.
//!
//! It owns the pair of certificate and key that new connections get. It never turns TLS on by itself, never touches a
//! connection that stands, and never gives up a pair that works for one that does not.

mod certificate;
mod error;
mod self_signed;

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, CertificateError, InconsistentKeys, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};
use zeroize::Zeroizing;

use crate::{config::TlsSection, data_dir::DataDir, metrics::Metrics, tasks::Tasks};

pub use certificate::{Certificate, Urgency};
pub use error::TlsError;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(3);

/// What is read of a file of certificates: enough for any chain, not for a wrong path to a huge file.
const MOST: u64 = 1024 * 1024;

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Whether we made them.
    self_signed: bool,
}

/// Which files were read: what `stat` says of both changes when either is written or replaced.
type Stamp = [Option<(SystemTime, u64, u64)>; 2];

/// What was read.
struct Pair {
    certified: Arc<CertifiedKey>,
    certificate: Certificate,
}

/// The pair that handshakes get from now on.
struct Served(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for Served {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Served")
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// What was read last.
struct Known {
    stamp: Stamp,
    certificate: Certificate,
    /// How urgent it was to do something about the certificate when that was last looked at.
    urgency: Option<Urgency>,
}

/// The certificate of a server, which follows its files.
pub(crate) struct Tls {
    files: Files,
    served: Arc<Served>,
    config: Arc<ServerConfig>,
    known: Mutex<Known>,
    /// Tell when it ends.
    metrics: Arc<Metrics>,
}

impl Tls {
    /// Reads what is configured, or makes it; `None` when nothing is.
    pub(crate) fn open(
        section: &TlsSection,
        data_dir: Option<&DataDir>,
        listen: IpAddr,
        metrics: Arc<Metrics>,
    ) -> Result<Option<Self>, TlsError> {
        let files = match (&section.cert_file, &section.key_file, section.self_signed) {
            (None, None, false) => return Ok(None),
            (Some(certificate), Some(key), false) => {
                Files { certificate: certificate.clone(), key: key.clone(), self_signed: false }
            }
            (None, None, true) => self_signed::ensure(data_dir.ok_or(TlsError::NoDirectory)?.path(), listen)?,
            (_, _, true) => return Err(TlsError::Both),
            (Some(_), None, false) | (None, Some(_), false) => return Err(TlsError::Half),
        };
        let stamp = files.stamp();
        let Pair { certified, certificate } = files.read(SystemTime::now())?;
        let served = Arc::new(Served(RwLock::new(certified)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Rustls)?
            .with_no_client_auth()
            .with_cert_resolver(served.clone());
        // WebSockets are HTTP/1.1's, and so is everything else here.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let urgency = certificate.urgency(SystemTime::now());
        metrics.serve_certificate(certificate.ends());
        let known = Mutex::new(Known { stamp, certificate, urgency });
        Ok(Some(Self { files, served, config: Arc::new(config), known, metrics }))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.clone())
    }

    /// The certificate that is served.
    pub(crate) fn certificate(&self) -> Certificate {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).certificate.clone()
    }

    /// The file of a certificate that we made ourselves, for those who have to trust it.
    pub(crate) fn self_signed(&self) -> Option<&Path> {
        self.files.self_signed.then_some(self.files.certificate.as_path())
    }

    /// What an operator should look at.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(self.certificate().warning(SystemTime::now()));
        if is_readable_by_all(&self.files.key) {
            let key = self.files.key.display();
            warnings.push(format!("everybody on this machine can read the TLS key {key}; run: chmod o= {key}"));
        }
        warnings
    }

    /// Reads the files again and serves what is in them, if it does. Says whether that is another certificate.
    ///
    /// # Errors
    /// Why what is there now does not do; the one before is kept.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files, so that what is written meanwhile is seen the next time.
        known.stamp = self.files.stamp();
        let Pair { certified, certificate } = self.files.read(SystemTime::now())?;
        let changed = certificate.fingerprint != known.certificate.fingerprint;
        // Also where only the chain is another.
        *self.served.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
        self.metrics.serve_certificate(certificate.ends());
        known.urgency = certificate.urgency(SystemTime::now());
        known.certificate = certificate;
        Ok(changed)
    }

    /// Looks whether the files are others than those that were read, and whether time has made something of the
    /// certificate.
    fn look(&self) {
        let (stamp, before) = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            (known.stamp, known.urgency)
        };
        if self.files.stamp() != stamp {
            match self.reload() {
                Ok(true) => tracing::info!(certificate = %self.certificate(), "a new TLS certificate is served"),
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    error = %error.with_cause(),
                    "the TLS certificate has changed and does not do; the one before is still served"
                ),
            }
        }
        let now = SystemTime::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let urgency = known.certificate.urgency(now);
        known.urgency = urgency;
        if urgency > before
            && let Some(warning) = known.certificate.warning(now)
        {
            tracing::warn!("{warning}");
        }
    }

    /// Follows the files until the server stops. Asking the system by the clock works on every file system, also where
    /// a directory is mounted anew or a link is turned; to be told of changes does not.
    pub(crate) fn follow(self: &Arc<Self>, tasks: &Tasks) {
        let (tls, stopping) = (self.clone(), tasks.clone());
        tasks.spawn(async move {
            let ever = async {
                loop {
                    tokio::time::sleep(LOOK).await;
                    let tls = tls.clone();
                    if tokio::task::spawn_blocking(move || tls.look()).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = ever => {}
                () = stopping.stopping() => {}
            }
        });
    }
}

impl Files {
    fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            #[cfg(unix)]
            let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
            #[cfg(not(unix))]
            let inode = 0;
            Some((metadata.modified().ok()?, inode, metadata.len()))
        })
    }

    fn read(&self, now: SystemTime) -> Result<Pair, TlsError> {
        let text = read(&self.certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let damaged = || TlsError::Certificate { path: self.certificate.clone() };
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(damaged)?;
        let certificate = chain.first().and_then(Certificate::read).ok_or_else(damaged)?;
        if certificate.urgency(now) == Some(Urgency::Expired) {
            return Err(TlsError::Expired { path: self.certificate.clone(), since: certificate.not_after() });
        }
        let text = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Key { path: self.key.clone() })?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => damaged(),
            _ => TlsError::Key { path: self.key.clone() },
        })?;
        Ok(Pair { certified: Arc::new(certified), certificate })
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |source| TlsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length > MOST {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    // All of it from the start: what grows leaves copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
    file.take(MOST).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(unix)]
fn is_readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_all(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests;
