//! The certificate of a key. A token without a key id may name the key by the thumbprints of its certificate.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::BASE64URL;
use super::JwkMembers;

/// Thumbprints of a key's certificate, in base64url: its `x5t` and `x5t#S256` (RFC 7517 §4.8, §4.9), else those of the
/// first certificate of `x5c`. They only select a key, which must have made the signature, so SHA-1 protects nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateThumbprints {
    sha1: Option<Box<str>>,
    sha256: Option<Box<str>>,
}

/// The thumbprints by which a token's header names a certificate, in base64url (RFC 7515 §4.1.7, §4.1.8). At least one is
/// present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CertificateReference<'h> {
    pub(crate) sha1: Option<&'h str>,
    pub(crate) sha256: Option<&'h str>,
}

impl CertificateThumbprints {
    pub(super) fn of(jwk: &JwkMembers) -> Self {
        let first = jwk.x5c.as_ref().and_then(|chain| chain.first());
        let certificate = first.and_then(|text| STANDARD.decode(text).ok());
        let computed =
            |algorithm: &'static Algorithm| Some(BASE64URL.encode(digest(algorithm, certificate.as_deref()?)).into());
        let given = |text: &Option<String>| text.as_deref().map(|text| text.trim_end_matches('=').into());
        Self {
            sha1: given(&jwk.x5t).or_else(|| computed(&SHA1_FOR_LEGACY_USE_ONLY)),
            sha256: given(&jwk.x5t_s256).or_else(|| computed(&SHA256)),
        }
    }

    /// True if the key has no certificate.
    pub(crate) fn is_unknown(&self) -> bool {
        self.sha1.is_none() && self.sha256.is_none()
    }

    /// True if all thumbprints in the token's header are those of this certificate.
    pub(crate) fn agrees(&self, reference: CertificateReference<'_>) -> bool {
        let same = |wanted: Option<&str>, own: &Option<Box<str>>| wanted.is_none() || wanted == own.as_deref();
        same(reference.sha1, &self.sha1) && same(reference.sha256, &self.sha256)
    }
}
