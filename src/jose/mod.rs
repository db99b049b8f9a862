//! Keys, key sets, signing and verifying: JWS and JWK (RFC 7515, RFC 7517), nothing of OAuth.
//!
//! The only home of `jsonwebtoken`, which gives us the JWK types and thumbprints. Signatures are made and checked by
//! aws-lc with keys that were parsed once: `jsonwebtoken` parses the key anew at every call, which makes an RSA signature
//! 2.6 times as dear. Its claim checks are not used either, because they let pass what must not pass (a float `exp`, an
//! array for `iss`, `crit`): [`header`] and [`claims`] are strict instead.

pub(crate) mod algorithm;
pub(crate) mod claims;
mod ed25519;
pub(crate) mod header;
pub(crate) mod jwk;
pub(crate) mod key_set;
mod roca;
pub(crate) mod signing;
pub(crate) mod strict_json;
pub(crate) mod token;
pub(crate) mod x509;

/// Unpadded base64url; anything that is not the one canonical encoding is refused (RFC 7515 §2).
pub(crate) use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
