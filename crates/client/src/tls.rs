//! TLS under `wss://`: whom a client believes to be the server that it dialled.

use std::{io, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, DEFAULT_VERSIONS, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::Error;

#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Who is vouched for by these authorities; without any, by those that the system trusts.
    pub(crate) fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        if authorities.is_empty() {
            // Those that do not read are passed over: systems have strange ones.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        } else {
            roots.add_parsable_certificates(authorities.iter().cloned());
        }
        if roots.is_empty() {
            return Err(Error::NoAuthorities);
        }
        // With our cryptography, whatever else is in the program.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(DEFAULT_VERSIONS)
            .expect("ring has the cipher suites of the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config).into()))
    }

    pub(crate) async fn connect(&self, host: &str, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        // In a URL an address of IPv6 stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.0.connect(name, socket).await
    }
}

/// The certificates of a PEM file; `None` where there is none, or one that does not read.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    let read = RootCertStore::empty().add_parsable_certificates(found.iter().cloned());
    (read == (found.len(), 0) && !found.is_empty()).then_some(found)
}

/// Whether it failed because of the server's certificate.
pub(crate) fn is_of_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}
