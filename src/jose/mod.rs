//! Keys, key sets, signing and verifying: JWS and JWK (RFC 7515, RFC 7517). OAuth is not handled here.
//!
//! Only this module uses `jsonwebtoken`, for the JWK types and thumbprints. aws-lc makes and verifies signatures with
//! keys that are parsed once. `jsonwebtoken` would parse the key at every call, which makes an RSA signature 2.6
//! times as expensive. Its claim checks are not used either, because they accept invalid tokens (an `exp` in
//! milliseconds, an array for `iss`, `crit`). [`header`] and [`claims`] are strict instead.

pub(crate) mod algorithm;
pub(crate) mod certificate_facts;
pub(crate) mod claims;
pub(crate) mod client_proofs;
mod der;
mod ed25519;
pub(crate) mod header;
pub(crate) mod jwk;
pub(crate) mod key_set;
pub(crate) mod numeric_date;
pub(crate) mod private_key_file;
pub(crate) mod public_key_file;
mod roca;
pub(crate) mod signing;
pub(crate) mod strict_json;
pub(crate) mod token;
pub(crate) mod x509;

/// Unpadded base64url. Any non-canonical encoding is refused (RFC 7515 §2).
pub(crate) use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
