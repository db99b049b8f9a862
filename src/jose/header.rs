//! The JOSE header, checked before any key is looked up.
//!
//! Takes the decoded first part of a token. Gives the members that the gateway uses. Never fetches `jku` or `x5u` and
//! never uses `jwk` or `x5c`: a token cannot supply its own key. It can only name one of the issuer's.

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::jwk::certificate::CertificateReference;
use super::strict_json;

/// The used members of a token's header (RFC 7515 §4).
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    pub(crate) token_type: Option<String>,
    /// `x5t`. Not read where there is a key id.
    certificate_sha1: Option<String>,
    /// `x5t#S256`, likewise.
    certificate_sha256: Option<String>,
}

/// How a token's header names the key that signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyReference<'h> {
    /// `kid`, which decides alone.
    Id(&'h str),
    Certificate(CertificateReference<'h>),
    /// By its algorithm alone.
    Unnamed,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoseHeaderFault {
    #[error("the header is malformed")]
    Malformed,
    #[error("the algorithm is not supported")]
    Algorithm,
}

/// Longer key ids and thumbprints are refused. Issuers use far shorter ones.
const MAX_KEY_ID_BYTES: usize = 256;

/// Extensions that change the meaning of the token (RFC 7515 §4.1.11, RFC 7797 §3). None is implemented.
const REFUSED: [&str; 3] = ["crit", "b64", "zip"];

impl Header {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, JoseHeaderFault> {
        let mut members = strict_json::object(bytes).map_err(|_| JoseHeaderFault::Malformed)?;
        if REFUSED.iter().any(|name| members.contains_key(*name)) {
            return Err(JoseHeaderFault::Malformed);
        }
        let key_id = key_name(&mut members, "kid")?;
        let (certificate_sha1, certificate_sha256) = match key_id {
            Some(_) => (None, None),
            None => (key_name(&mut members, "x5t")?, key_name(&mut members, "x5t#S256")?),
        };
        let token_type = optional_text(&mut members, "typ")?;
        let name = optional_text(&mut members, "alg")?.ok_or(JoseHeaderFault::Malformed)?;
        let algorithm = Algorithm::from_name(&name).ok_or(JoseHeaderFault::Algorithm)?;
        Ok(Self { algorithm, key_id, token_type, certificate_sha1, certificate_sha256 })
    }

    pub(crate) fn key(&self) -> KeyReference<'_> {
        let (sha1, sha256) = (self.certificate_sha1.as_deref(), self.certificate_sha256.as_deref());
        match (self.key_id.as_deref(), sha1, sha256) {
            (Some(id), _, _) => KeyReference::Id(id),
            (None, None, None) => KeyReference::Unnamed,
            (None, sha1, sha256) => KeyReference::Certificate(CertificateReference { sha1, sha256 }),
        }
    }
}

/// A member that names a key.
fn key_name(members: &mut Map<String, Value>, member: &str) -> Result<Option<String>, JoseHeaderFault> {
    let name = optional_text(members, member)?;
    if name.as_ref().is_some_and(|name| name.len() > MAX_KEY_ID_BYTES) {
        return Err(JoseHeaderFault::Malformed);
    }
    Ok(name)
}

fn optional_text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, JoseHeaderFault> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(JoseHeaderFault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(header: &str, fault: JoseHeaderFault) {
        assert_eq!(Header::parse(header.as_bytes()).err(), Some(fault), "{header}");
    }

    #[test]
    fn every_way_to_write_no_algorithm_is_refused() {
        for name in ["none", "None", "nOnE", "NONE", ""] {
            refuses(&format!(r#"{{"alg":"{name}"}}"#), JoseHeaderFault::Algorithm);
        }
        for header in [r#"{}"#, r#"{"alg":0}"#, r#"{"alg":["RS256"]}"#, r#"{"alg":null}"#] {
            refuses(header, JoseHeaderFault::Malformed);
        }
    }

    #[test]
    fn hmac_is_no_algorithm_here() {
        for name in ["HS256", "HS384", "HS512", "ES256K", "Ed448", "ed25519", "eddsa", "rs256"] {
            refuses(&format!(r#"{{"alg":"{name}"}}"#), JoseHeaderFault::Algorithm);
        }
    }

    #[test]
    fn extensions_that_change_the_meaning_are_refused() {
        refuses(r#"{"alg":"RS256","crit":["exp"]}"#, JoseHeaderFault::Malformed);
        refuses(r#"{"alg":"RS256","b64":false}"#, JoseHeaderFault::Malformed);
        refuses(r#"{"alg":"RS256","zip":"DEF"}"#, JoseHeaderFault::Malformed);
    }

    #[test]
    fn members_of_the_wrong_type_are_refused() {
        refuses(r#"{"alg":"RS256","kid":7}"#, JoseHeaderFault::Malformed);
        refuses(r#"{"alg":"RS256","typ":[]}"#, JoseHeaderFault::Malformed);
        refuses(r#"{"alg":"RS256","alg":"RS256"}"#, JoseHeaderFault::Malformed);
    }

    #[test]
    fn a_key_id_of_a_mebibyte_is_refused() {
        refuses(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(1 << 20)), JoseHeaderFault::Malformed);
    }

    #[test]
    fn ed25519_is_another_name_of_eddsa() {
        for name in ["Ed25519", "EdDSA"] {
            let header = Header::parse(format!(r#"{{"alg":"{name}"}}"#).as_bytes()).unwrap();
            assert_eq!(header.algorithm, Algorithm::EdDsa);
        }
    }

    #[test]
    fn a_certificate_names_the_key_only_where_no_key_id_does() {
        let key = |header: &str, expected: KeyReference<'_>| {
            assert_eq!(Header::parse(header.as_bytes()).unwrap().key(), expected, "{header}");
        };
        let certificate = |sha1, sha256| KeyReference::Certificate(CertificateReference { sha1, sha256 });
        key(r#"{"alg":"RS256"}"#, KeyReference::Unnamed);
        key(r#"{"alg":"RS256","kid":"a","x5t":"b","x5t#S256":7}"#, KeyReference::Id("a"));
        key(r#"{"alg":"RS256","kid":"","x5t":"b"}"#, KeyReference::Id(""));
        key(r#"{"alg":"RS256","x5t":"b"}"#, certificate(Some("b"), None));
        key(r#"{"alg":"RS256","x5t":"b","x5t#S256":"c"}"#, certificate(Some("b"), Some("c")));
        refuses(r#"{"alg":"RS256","x5t":7}"#, JoseHeaderFault::Malformed);
        refuses(&format!(r#"{{"alg":"RS256","x5t#S256":"{}"}}"#, "k".repeat(257)), JoseHeaderFault::Malformed);
    }

    #[test]
    fn unknown_members_are_ignored() {
        assert!(Header::parse(br#"{"alg":"ES256","jku":"http://evil.example/","x":1}"#).is_ok());
    }
}
