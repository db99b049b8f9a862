//! The verification of servers' certificates: by their authorities, or because the configuration has the very
//! certificate.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime as PkiTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::tls_fault::TlsFault;
use crate::clock::UnixTime;
use crate::jose::certificate_facts::CertificateFacts;

/// The certificates by which servers are known.
#[derive(Debug)]
pub(crate) struct TrustedCertificates {
    pub(crate) authorities: Arc<RootCertStore>,
    /// Of servers. Each verifies itself and nothing that it may have signed.
    pub(crate) pinned: Vec<CertificateDer<'static>>,
}

/// Accepts a pinned certificate if it is for the name and valid now, whether an authority's or not. Any other one must
/// be of an authority.
#[derive(Debug)]
pub(super) struct PinningVerifier {
    pinned: Vec<CertificateDer<'static>>,
    /// `None` without authorities.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl TrustedCertificates {
    pub(crate) fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.pinned.is_empty()
    }
}

impl PinningVerifier {
    pub(super) fn new(trusted: &TrustedCertificates, provider: &Arc<CryptoProvider>) -> Result<Arc<Self>, Error> {
        let roots = Arc::clone(&trusted.authorities);
        let authorities = (!roots.is_empty())
            .then(|| WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build())
            .transpose()
            .map_err(|error| Error::General(error.to_string()))?;
        let algorithms = provider.signature_verification_algorithms;
        Ok(Arc::new(Self { pinned: trusted.pinned.clone(), authorities, algorithms }))
    }
}

impl ServerCertVerifier for PinningVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: PkiTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            is_valid_at(end_entity, now)?;
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => {
                authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn is_valid_at(certificate: &CertificateDer<'_>, time: PkiTime) -> Result<(), Error> {
    let facts = CertificateFacts::read(certificate).ok_or(CertificateError::BadEncoding)?;
    let now = UnixTime::from_seconds(time.as_secs());
    match (facts.valid_from, facts.valid_until) {
        (Some(from), _) if now < from => Err(TlsFault::not_yet_valid(time, from).into()),
        (_, Some(until)) if now > until => Err(TlsFault::expired(time, until).into()),
        _ => Ok(()),
    }
}
