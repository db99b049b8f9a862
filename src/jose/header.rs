//! The JOSE header, checked before any key is looked up.
//!
//! Takes the decoded first part of a token. Gives the members that the gateway uses. Never fetches `jku` or `x5u` and
//! never uses `jwk` or `x5c`: a token cannot supply its own key. It can only name one of the issuer's.

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::claims::json_type;
use super::jwk::certificate::CertificateReference;
use super::strict_json;
use crate::oauth::discrepancy::{Discrepancy, one_of};

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

/// Each variant has the values that were found and wanted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoseHeaderFault {
    #[error("the header is malformed")]
    Malformed(Box<Discrepancy>),
    #[error("the algorithm is not supported")]
    Algorithm(Box<Discrepancy>),
}

impl JoseHeaderFault {
    fn malformed(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::Malformed(Box::new(Discrepancy::new(found, wanted)))
    }

    fn algorithm(found: &str) -> Self {
        let wanted = one_of("alg", Algorithm::ALL.map(Algorithm::as_str));
        Self::Algorithm(Box::new(Discrepancy::new(format!("alg={found}"), wanted)))
    }
}

/// Longer key ids and thumbprints are refused. Issuers use far shorter ones.
const MAX_KEY_ID_BYTES: usize = 256;

/// Extensions that change the meaning of the token (RFC 7515 §4.1.11, RFC 7797 §3). None is implemented.
pub(super) const REFUSED: [&str; 3] = ["crit", "b64", "zip"];

impl Header {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, JoseHeaderFault> {
        let mut members = strict_json::object(bytes).map_err(|fault| {
            JoseHeaderFault::malformed(
                format!("a header with {}", fault.without_content()),
                "a header of one JSON object",
            )
        })?;
        if let Some(name) = REFUSED.iter().find(|name| members.contains_key(**name)) {
            return Err(JoseHeaderFault::malformed(format!("header member {name}"), format!("no {name}")));
        }
        let key_id = key_name(&mut members, "kid")?;
        let (certificate_sha1, certificate_sha256) = match key_id {
            Some(_) => (None, None),
            None => (key_name(&mut members, "x5t")?, key_name(&mut members, "x5t#S256")?),
        };
        let token_type = optional_text(&mut members, "typ")?;
        let name = optional_text(&mut members, "alg")?.ok_or_else(|| JoseHeaderFault::malformed("no alg", "alg"))?;
        let algorithm = Algorithm::from_name(&name).ok_or_else(|| JoseHeaderFault::algorithm(&name))?;
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
    match name.as_ref().map(String::len) {
        Some(length) if length > MAX_KEY_ID_BYTES => {
            let (found, wanted) =
                (format!("{member} of {length} bytes"), format!("{member} of at most {MAX_KEY_ID_BYTES} bytes"));
            Err(JoseHeaderFault::malformed(found, wanted))
        }
        Some(_) | None => Ok(name),
    }
}

fn optional_text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, JoseHeaderFault> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(value) => {
            let found = format!("header member {name} is {}", json_type(&value));
            Err(JoseHeaderFault::malformed(found, format!("{name} is a string")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Refused {
        Malformed,
        Algorithm,
    }

    #[track_caller]
    fn refuses(header: &str, expected: Refused) {
        let refused = match Header::parse(header.as_bytes()) {
            Ok(_) => None,
            Err(JoseHeaderFault::Malformed(_)) => Some(Refused::Malformed),
            Err(JoseHeaderFault::Algorithm(_)) => Some(Refused::Algorithm),
        };
        assert_eq!(refused, Some(expected), "{header}");
    }

    #[test]
    fn every_way_to_write_no_algorithm_is_refused() {
        for name in ["none", "None", "nOnE", "NONE", ""] {
            refuses(&format!(r#"{{"alg":"{name}"}}"#), Refused::Algorithm);
        }
        for header in [r#"{}"#, r#"{"alg":0}"#, r#"{"alg":["RS256"]}"#, r#"{"alg":null}"#] {
            refuses(header, Refused::Malformed);
        }
    }

    #[test]
    fn hmac_is_no_algorithm_here() {
        for name in ["HS256", "HS384", "HS512", "ES256K", "Ed448", "ed25519", "eddsa", "rs256"] {
            refuses(&format!(r#"{{"alg":"{name}"}}"#), Refused::Algorithm);
        }
    }

    #[test]
    fn extensions_that_change_the_meaning_are_refused() {
        refuses(r#"{"alg":"RS256","crit":["exp"]}"#, Refused::Malformed);
        refuses(r#"{"alg":"RS256","b64":false}"#, Refused::Malformed);
        refuses(r#"{"alg":"RS256","zip":"DEF"}"#, Refused::Malformed);
    }

    #[test]
    fn members_of_the_wrong_type_are_refused() {
        refuses(r#"{"alg":"RS256","kid":7}"#, Refused::Malformed);
        refuses(r#"{"alg":"RS256","typ":[]}"#, Refused::Malformed);
        refuses(r#"{"alg":"RS256","alg":"RS256"}"#, Refused::Malformed);
    }

    #[test]
    fn a_key_id_of_a_mebibyte_is_refused() {
        refuses(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(1 << 20)), Refused::Malformed);
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
        refuses(r#"{"alg":"RS256","x5t":7}"#, Refused::Malformed);
        refuses(&format!(r#"{{"alg":"RS256","x5t#S256":"{}"}}"#, "k".repeat(257)), Refused::Malformed);
    }

    #[test]
    fn unknown_members_are_ignored() {
        assert!(Header::parse(br#"{"alg":"ES256","jku":"http://evil.example/","x":1}"#).is_ok());
    }
}
