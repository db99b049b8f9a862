//! Client certificates: whether a listener asks for them, and the authorities that must have issued them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConnection};

use super::certificate::CertificateError;
use crate::clock::UnixTime;
use crate::file_watch::read_regular;
use crate::jose::certificate_facts::CertificateFacts;
use crate::jose::client_certificate::ClientCertificate;

/// The configuration of a listener that asks for client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MutualTls {
    pub(crate) demand: CertificateDemand,
    /// The file of the authorities, in PEM.
    pub(crate) ca: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateDemand {
    /// A client without a certificate may connect. One with a wrong certificate may not.
    Optional,
    Required,
}

/// The authorities of client certificates, as read from their file.
#[derive(Debug)]
pub(crate) struct ClientAuthorities {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// The client of a TLS connection, at a listener that asks for certificates.
#[derive(Clone, Debug)]
pub(crate) struct TlsClient {
    pub(crate) certificate: Option<Rc<ClientCertificate>>,
    /// The name that the client has asked for by SNI.
    pub(crate) server_name: Option<Box<str>>,
    /// `None` without a certificate.
    chain: Option<Rc<VerifiedChain>>,
}

/// The certificates that a client has presented, its own first.
#[derive(Debug)]
struct VerifiedChain {
    certificates: Vec<CertificateDer<'static>>,
    /// The authorities that were asked last, and whether they accept it.
    last: RefCell<(Arc<ClientAuthorities>, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsClientFault {
    #[error("the client certificate cannot be read")]
    Unreadable,
    #[error("the client certificate of the resumed session has ended")]
    Ended,
}

impl MutualTls {
    /// Reads the authorities from their file.
    pub(crate) fn load(&self) -> Result<ClientAuthorities, CertificateError> {
        let path = &self.ca;
        let pem = read_regular(path).map_err(|source| CertificateError::Read { path: path.clone(), source })?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
        let certificates = certificates.ok_or_else(|| CertificateError::NoCertificate { path: path.clone() })?;
        let unusable = |reason: String| CertificateError::Unusable { path: path.clone(), reason };
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            if !CertificateFacts::read(certificate).is_some_and(|facts| facts.is_authority) {
                return Err(unusable("one of its certificates is not that of an authority (`CA:TRUE`)".to_owned()));
            }
            roots.add(certificate.clone()).map_err(|fault| unusable(fault.to_string()))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = match self.demand {
            CertificateDemand::Optional => verifier.allow_unauthenticated(),
            CertificateDemand::Required => verifier,
        };
        let verifier = verifier.build().map_err(|fault| unusable(fault.to_string()))?;
        Ok(ClientAuthorities { certificates, verifier })
    }
}

impl ClientAuthorities {
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// When the last of them ends: from then on none of them verifies a client. `None` if one never ends.
    pub(crate) fn ends_at(&self) -> Option<UnixTime> {
        let ends: Option<Vec<UnixTime>> =
            self.certificates.iter().map(|certificate| CertificateFacts::end_of(certificate)).collect();
        ends.and_then(|ends| ends.into_iter().max())
    }
}

impl TlsClient {
    /// The client of a connection whose handshake has ended. A resumed session has the certificate that it began with,
    /// which nothing has verified again.
    pub(super) fn of(
        connection: &ServerConnection,
        authorities: &Arc<ClientAuthorities>,
        now: UnixTime,
    ) -> Result<Self, TlsClientFault> {
        let chain = connection.peer_certificates().unwrap_or_default();
        let presented = chain.first();
        let read = |der: &CertificateDer<'_>| ClientCertificate::read(der).ok_or(TlsClientFault::Unreadable);
        let certificate = presented.map(read).transpose()?;
        if certificate.as_ref().is_some_and(|certificate| certificate.has_ended(now)) {
            return Err(TlsClientFault::Ended);
        }
        let server_name = connection.server_name().map(Box::from);
        let chain = presented.map(|_| Rc::new(VerifiedChain::new(chain, authorities)));
        Ok(Self { certificate: certificate.map(Rc::new), server_name, chain })
    }

    /// Whether these authorities would let it in. They may have replaced those of its handshake.
    pub(super) fn is_accepted_by(&self, authorities: &Arc<ClientAuthorities>, now: UnixTime) -> bool {
        self.chain.as_ref().is_none_or(|chain| chain.is_accepted_by(authorities, now))
    }
}

impl VerifiedChain {
    fn new(chain: &[CertificateDer<'_>], by: &Arc<ClientAuthorities>) -> Self {
        let certificates = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Self { certificates, last: RefCell::new((Arc::clone(by), true)) }
    }

    fn is_accepted_by(&self, authorities: &Arc<ClientAuthorities>, now: UnixTime) -> bool {
        let mut last = self.last.borrow_mut();
        if !Arc::ptr_eq(&last.0, authorities) {
            *last = (Arc::clone(authorities), self.is_verified_by(authorities, now));
        }
        last.1
    }

    fn is_verified_by(&self, authorities: &ClientAuthorities, now: UnixTime) -> bool {
        let now = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
        let chain = self.certificates.split_first();
        chain.is_some_and(|(own, others)| authorities.verifier.verify_client_cert(own, others, now).is_ok())
    }
}
