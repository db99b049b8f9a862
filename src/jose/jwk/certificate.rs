//! The certificate of a key, as far as a token may name the key by it.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::BASE64URL;
use super::JwkMembers;

/// Thumbprints of a key's certificate, in base64url: its `x5t` and `x5t#S256` (RFC 7517 §4.8, §4.9), else those of the
/// first certificate of `x5c`. They only find a key: the signature is verified by the key, and SHA-1 protects nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateThumbprints {
    sha1: Option<Box<str>>,
    sha256: Option<Box<str>>,
}

/// What a token's header says of the certificate of its key (RFC 7515 §4.1.7, §4.1.8). At least one is there.
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

    /// True if nothing is known of a certificate.
    pub(crate) fn is_unknown(&self) -> bool {
        self.sha1.is_none() && self.sha256.is_none()
    }

    /// True if all that the token says of its certificate is true of this one.
    pub(crate) fn agrees(&self, reference: CertificateReference<'_>) -> bool {
        let same = |wanted: Option<&str>, own: &Option<Box<str>>| wanted.is_none() || wanted == own.as_deref();
        same(reference.sha1, &self.sha1) && same(reference.sha256, &self.sha256)
    }
}
