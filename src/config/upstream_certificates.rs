//! The certificates of an upstream's TLS: its files, and its client configuration made from them again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::UnixTime;
use crate::file_watch::{FileWatch, read_regular};
use crate::server::certificate::{self, CertificateError, CertificateFiles};
use crate::upstream::pinning::TrustedCertificates;
use crate::upstream::protocol::UpstreamProtocol;
use crate::upstream::tls::{self, CheckedClientConfig, CurrentClientConfig, RootsFault};

/// The files of one upstream, which it uses until they have new content.
#[derive(Debug)]
pub(crate) struct UpstreamCertificates {
    pub(crate) trusted: TrustedRoots,
    pub(crate) identity: Option<CertificateFiles>,
    pub(crate) protocol: UpstreamProtocol,
    /// Watches the files since before they were read.
    pub(crate) watch: FileWatch,
    /// Of the files as they were read first.
    pub(crate) ends: Vec<CertificateEnd>,
    pub(crate) current: Arc<CurrentClientConfig>,
}

/// The certificates that verify the servers.
#[derive(Debug)]
pub(crate) enum TrustedRoots {
    System(Arc<TrustedCertificates>),
    File(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamCertificatesError {
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` {fault}")]
    Roots { path: PathBuf, fault: RootsFault },
    #[error(transparent)]
    Identity(#[from] CertificateError),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// A file, and when its certificate ends. `None` if it never does.
pub(crate) type CertificateEnd = (PathBuf, Option<UnixTime>);

impl UpstreamCertificates {
    /// The present content of the files, as a configuration that is not in use yet.
    pub(crate) fn load(&self) -> Result<(CheckedClientConfig, Vec<CertificateEnd>), UpstreamCertificatesError> {
        let mut ends = Vec::new();
        let roots = match &self.trusted {
            TrustedRoots::System(roots) => Arc::clone(roots),
            TrustedRoots::File(path) => {
                let pem = read_ca(path)?;
                ends.push((path.clone(), tls::last_end(&pem)));
                Arc::new(roots(path, &pem)?)
            }
        };
        let identity = self.identity.as_ref().map(CertificateFiles::load).transpose()?;
        if let (Some(files), Some(pair)) = (&self.identity, &identity) {
            ends.push((files.cert.clone(), certificate::ends_at(pair)));
        }
        Ok((tls::client_config(&roots, identity, self.protocol)?, ends))
    }
}

/// Reads a file of certificates that can verify servers.
pub(crate) fn read_ca(path: &Path) -> Result<Vec<u8>, UpstreamCertificatesError> {
    let failed = |source| UpstreamCertificatesError::Read { path: path.to_owned(), source };
    let pem = read_regular(path).map_err(failed)?.to_vec();
    roots(path, &pem)?;
    Ok(pem)
}

fn roots(path: &Path, pem: &[u8]) -> Result<TrustedCertificates, UpstreamCertificatesError> {
    tls::roots(pem).map_err(|fault| UpstreamCertificatesError::Roots { path: path.to_owned(), fault })
}
