//! JWKs, read one by one: an unusable key does not affect the others.
//!
//! Takes a JWK and the algorithms that its issuer may use; gives a key that is parsed, fit to verify with, and bound to
//! exactly one algorithm. Private members, symmetric keys, weak RSA and points off the curve make a key unusable.

pub(crate) mod certificate;
mod key_type;

use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use serde::Deserialize;
use serde_json::Value;

use super::algorithm::Algorithm;
use certificate::CertificateThumbprints;
use key_type::KeyType;

/// A public key that verifies signatures of one algorithm.
pub(crate) struct VerifyingKey {
    pub(crate) key_id: Option<Arc<str>>,
    pub(crate) algorithm: Algorithm,
    /// RFC 7638, SHA-256. Two keys with the same thumbprint are the same key.
    pub(crate) thumbprint: Box<str>,
    /// A token without a key id may name the key by it.
    pub(super) certificate: CertificateThumbprints,
    public: ParsedPublicKey,
}

/// Why a JWK is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableKey {
    #[error("it is not a JWK")]
    Malformed,
    #[error("its `kty` is not supported")]
    KeyType,
    #[error("its `crv` is not supported")]
    Curve,
    #[error("it is symmetric")]
    Symmetric,
    #[error("it has private members")]
    Private,
    #[error("it is not for verifying signatures")]
    Purpose,
    #[error("its algorithm is not allowed for this issuer")]
    Algorithm,
    #[error("its `alg` is unknown, or does not fit its `kty` and `crv`")]
    UnfitAlgorithm,
    #[error("it has no `alg`, and several `algorithms` of this issuer fit it: list only the one that is used")]
    UnnamedAlgorithm,
    #[error("it is an RSA key of {0} bits, and 2048 are needed")]
    ShortRsa(usize),
    #[error("its parameters are weak or invalid")]
    Parameters,
    #[error("another key has the same id and algorithm")]
    Ambiguous,
    #[error("it comes after the first 64 usable keys")]
    BeyondLimit,
}

impl VerifyingKey {
    pub(crate) fn from_jwk(value: &Value, allowed: &[Algorithm]) -> Result<Self, UnusableKey> {
        if has_private_members(value) {
            return Err(UnusableKey::Private);
        }
        let jwk = JwkMembers::deserialize(value).map_err(|_| UnusableKey::Malformed)?;
        if jwk.kty == "oct" {
            return Err(UnusableKey::Symmetric);
        }
        if !jwk.is_for_verifying() {
            return Err(UnusableKey::Purpose);
        }
        let key_type = KeyType::of(&jwk)?;
        let algorithm = only_algorithm(key_type, jwk.alg.as_deref(), allowed)?;
        let parameters = key_type.parameters(&jwk)?;
        let public = parameters.public_key(algorithm)?;
        Ok(Self {
            thumbprint: thumbprint(&parameters.jwk())?,
            certificate: CertificateThumbprints::of(&jwk),
            key_id: jwk.kid.map(Into::into),
            algorithm,
            public,
        })
    }

    /// True if `signature` over `message` was made by this key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }

    /// True if both have the same material and verify the same algorithm.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.thumbprint == other.thumbprint
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// RFC 7638 over SHA-256, in base64url.
pub(crate) fn thumbprint(jwk: &Jwk) -> Result<Box<str>, UnusableKey> {
    jwk.thumbprint(ThumbprintHash::SHA256).map(Into::into).map_err(|_| UnusableKey::Malformed)
}

pub(super) fn has_private_members(jwk: &Value) -> bool {
    PRIVATE_MEMBERS.iter().any(|name| jwk.get(name).is_some())
}

/// Private members of RSA, EC and OKP keys (RFC 7518 §6).
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// The members that the gateway reads. `jsonwebtoken` has them too, but it knows neither `ES512` nor `Ed25519`, and a
/// `kty` that it does not know is a syntax error to it.
#[derive(Deserialize)]
struct JwkMembers {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    x5c: Option<Vec<String>>,
    x5t: Option<String>,
    #[serde(rename = "x5t#S256")]
    x5t_s256: Option<String>,
}

impl JwkMembers {
    /// `jwt-svid` means the same as `sig` (SPIFFE Trust Domain and Bundle §4.2.2).
    fn is_for_verifying(&self) -> bool {
        let used_for_signatures = matches!(self.purpose.as_deref(), None | Some("sig" | "jwt-svid"));
        let may_verify = self.key_ops.as_ref().is_none_or(|all| all.iter().any(|operation| operation == "verify"));
        used_for_signatures && may_verify
    }
}

/// A key has one algorithm: the one it names, else the issuer's only one for its type, else RS256 for RSA.
fn only_algorithm(key_type: KeyType, named: Option<&str>, allowed: &[Algorithm]) -> Result<Algorithm, UnusableKey> {
    let mut fitting = allowed.iter().copied().filter(|algorithm| key_type.fits(*algorithm));
    if let Some(named) = named {
        let named = Algorithm::from_name(named).filter(|named| key_type.fits(*named));
        let named = named.ok_or(UnusableKey::UnfitAlgorithm)?;
        return fitting.find(|algorithm| *algorithm == named).ok_or(UnusableKey::Algorithm);
    }
    let fitting: Vec<Algorithm> = fitting.collect();
    match fitting[..] {
        [only] => Ok(only),
        [] => Err(UnusableKey::Algorithm),
        [..] if fitting.contains(&Algorithm::Rs256) => Ok(Algorithm::Rs256),
        [..] => Err(UnusableKey::UnnamedAlgorithm),
    }
}

#[cfg(test)]
mod tests;
