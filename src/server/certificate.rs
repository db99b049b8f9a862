//! Certificates and their private keys, from PEM files.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::clock::UnixTime;
use crate::file_privacy::{self, TooOpen};
use crate::file_watch::{open_regular, read_regular, read_whole};
use crate::jose::certificate_facts::CertificateFacts;
use crate::jose::x509::{self, CertificateFault};

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// Make the pair if both files are missing. For development only.
    pub(crate) self_signed: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` holds no certificate in PEM")]
    NoCertificate { path: PathBuf },
    #[error("`{path}` holds no private key in PEM")]
    NoKey { path: PathBuf },
    #[error("`{path}` can be read by everyone (mode {:o}); {}", fault.mode, fault.remedy)]
    KeyMode { path: PathBuf, fault: TooOpen },
    #[error("the key `{key}` is not the one of the certificate `{cert}`")]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("`{path}` is not usable: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error(transparent)]
    Make(#[from] CertificateFault),
}

impl CertificateFiles {
    pub(crate) fn are_missing(&self) -> bool {
        !self.cert.exists() && !self.key.exists()
    }

    /// Loads the pair and checks that the key belongs to the certificate.
    pub(crate) fn load(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let chain = self.chain()?;
        let key = self.private_key()?;
        let signing_key = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| {
            let reason = "no RSA, ECDSA or Ed25519 key that TLS can sign with".to_owned();
            CertificateError::Unusable { path: self.key.clone(), reason }
        })?;
        let pair = CertifiedKey::new(chain, signing_key);
        match pair.keys_match() {
            Ok(()) => Ok(Arc::new(pair)),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(CertificateError::Mismatch { cert: self.cert.clone(), key: self.key.clone() })
            }
            Err(rustls::Error::InvalidCertificate(_)) => {
                let reason = "its first certificate cannot be read".to_owned();
                Err(CertificateError::Unusable { path: self.cert.clone(), reason })
            }
            Err(error) => Err(CertificateError::Unusable { path: self.cert.clone(), reason: error.to_string() }),
        }
    }

    /// Makes and writes the pair for `localhost` and the loopback addresses.
    pub(crate) fn make(&self) -> Result<(), CertificateError> {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let pair = x509::pair("Portcullis development certificate", &["localhost"], &loopback)?;
        write(&self.key, 0o600, pair.key.as_bytes())?;
        write(&self.cert, 0o644, pair.certificate.as_bytes())
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let pem =
            read_regular(&self.cert).map_err(|source| CertificateError::Read { path: self.cert.clone(), source })?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) | Err(_) => Err(CertificateError::NoCertificate { path: self.cert.clone() }),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, CertificateError> {
        let read = |source| CertificateError::Read { path: self.key.clone(), source };
        let (file, _) = open_regular(&self.key).map_err(read)?;
        if let Err(fault) = file_privacy::check_key(&file).map_err(read)? {
            return Err(CertificateError::KeyMode { path: self.key.clone(), fault });
        }
        let pem = read_whole(file).map_err(read)?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| CertificateError::NoKey { path: self.key.clone() })
    }
}

/// When the certificate of a pair ends. `None` if it never does.
pub(crate) fn ends_at(pair: &CertifiedKey) -> Option<UnixTime> {
    pair.cert.first().and_then(|certificate| CertificateFacts::end_of(certificate))
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), CertificateError> {
    let write = || {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(bytes)
    };
    write().map_err(|source| CertificateError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use tempfile::{TempDir, tempdir};

    use super::*;

    /// Their folder is made with them.
    fn files(folder: &TempDir) -> CertificateFiles {
        let certs = folder.path().join("certs");
        CertificateFiles { cert: certs.join("a.crt"), key: certs.join("a.key"), self_signed: true }
    }

    #[test]
    fn a_self_signed_pair_is_made_and_loads() {
        let folder = tempdir().unwrap();
        let files = files(&folder);
        assert!(files.are_missing());
        files.make().unwrap();
        assert!(files.load().is_ok());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let folders = [tempdir().unwrap(), tempdir().unwrap()];
        let [one, other] = folders.each_ref().map(files);
        one.make().unwrap();
        other.make().unwrap();
        let mixed = CertificateFiles { key: other.key.clone(), ..one.clone() };
        assert!(matches!(mixed.load(), Err(CertificateError::Mismatch { .. })));
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let folder = tempdir().unwrap();
        let files = files(&folder);
        files.make().unwrap();
        let swapped = CertificateFiles { cert: files.key.clone(), key: files.cert.clone(), self_signed: false };
        assert!(matches!(swapped.load(), Err(CertificateError::NoCertificate { .. })));
        let no_key = CertificateFiles { key: files.cert.clone(), ..files.clone() };
        assert!(matches!(no_key.load(), Err(CertificateError::KeyMode { fault: TooOpen { mode: 0o644, .. }, .. })));
    }
}
