//! A compact JWS, parsed and verified.
//!
//! Takes the text of a token and gives its *unverified* header and claims. A second step checks the signature with a
//! key. The steps are separate because the claims name the issuer, and the issuer determines the key.

use std::borrow::Cow;

use base64::Engine as _;
use serde_json::{Map, Value};

use super::BASE64URL;
use super::claims::{Claims, ClaimsFault};
use super::header::{Header, JoseHeaderFault};
use super::jwk::VerifyingKey;
use super::strict_json;
use crate::oauth::discrepancy::Discrepancy;

/// A well-formed token. Its content must not be trusted before [`Self::is_signed_by`] returns true.
#[derive(Debug)]
pub(crate) struct Unverified<'t> {
    pub(crate) header: Header,
    pub(crate) claims: Claims,
    signing_input: Cow<'t, str>,
    signature: Vec<u8>,
}

/// Each variant has the values that were found and wanted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenFault {
    #[error("the token is malformed")]
    Malformed(Box<Discrepancy>),
    #[error("the token's algorithm is not supported")]
    Algorithm(Box<Discrepancy>),
    #[error("a required claim is missing")]
    MissingClaim(Box<Discrepancy>),
}

impl<'t> Unverified<'t> {
    pub(crate) fn parse(token: &'t str) -> Result<Self, TokenFault> {
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::parts(token));
        };
        let signing_input = &token[..header.len() + 1 + claims.len()];
        let header = Header::parse(&decode("header", header)?)?;
        let claims = Claims::parse(&decode("claims", claims)?)?;
        let signature = decode("signature", signature)?;
        Ok(Self { header, claims, signing_input: Cow::Borrowed(signing_input), signature })
    }

    pub(crate) fn into_owned(self) -> Unverified<'static> {
        Unverified { signing_input: Cow::Owned(self.signing_input.into_owned()), ..self }
    }

    pub(crate) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        self.header.algorithm == key.algorithm && key.verifies(self.signing_input.as_bytes(), &self.signature)
    }
}

/// The claims of a token that is not verified, as far as they are one JSON object.
pub(crate) fn unverified_claims(token: &str) -> Option<Map<String, Value>> {
    let claims = BASE64URL.decode(token.split('.').nth(1)?).ok()?;
    strict_json::object(&claims).ok()
}

/// `name` is that of the part.
fn decode(name: &str, part: &str) -> Result<Vec<u8>, TokenFault> {
    let fault = |found: String| TokenFault::malformed(found, format!("{name} in base64url without padding"));
    if part.is_empty() {
        return Err(fault(format!("empty {name}")));
    }
    BASE64URL.decode(part).map_err(|_| fault(format!("{name} that is not base64url")))
}

impl TokenFault {
    fn malformed(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::Malformed(Box::new(Discrepancy::new(found, wanted)))
    }

    fn parts(token: &str) -> Self {
        let count = token.split('.').count();
        let hint = if count == ENCRYPTED_PARTS { ", as an encrypted token (JWE)" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        Self::malformed(format!("{count} part{plural}{hint}"), "a signed JWT: 3 parts, separated by `.`")
    }
}

/// RFC 7516 §3.1.
const ENCRYPTED_PARTS: usize = 5;

impl From<JoseHeaderFault> for TokenFault {
    fn from(fault: JoseHeaderFault) -> Self {
        match fault {
            JoseHeaderFault::Malformed(values) => Self::Malformed(values),
            JoseHeaderFault::Algorithm(values) => Self::Algorithm(values),
        }
    }
}

impl From<ClaimsFault> for TokenFault {
    fn from(fault: ClaimsFault) -> Self {
        match fault {
            ClaimsFault::Malformed(values) => Self::Malformed(values),
            ClaimsFault::Missing(values) => Self::MissingClaim(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::Algorithm;
    use super::super::signing::SigningKey;
    use super::*;

    const CLAIMS: &[u8] = br#"{"iss":"i","sub":"s","aud":"a","exp":2000000000}"#;

    fn token() -> (SigningKey, String) {
        let (key, _) = SigningKey::generate(Algorithm::Es256).unwrap();
        let token = key.sign("JWT", CLAIMS).unwrap();
        (key, token)
    }

    #[track_caller]
    fn refuses(token: &str) {
        assert!(Unverified::parse(token).is_err(), "{token:.80} was accepted");
    }

    #[test]
    fn a_token_is_signed_by_its_key_and_no_other() {
        let (key, token) = token();
        let (other, _) = SigningKey::generate(Algorithm::Es256).unwrap();
        let parsed = Unverified::parse(&token).unwrap();
        assert!(parsed.is_signed_by(&key.verifying_key().unwrap()));
        assert!(!parsed.is_signed_by(&other.verifying_key().unwrap()));
    }

    #[test]
    fn two_four_five_and_six_parts_are_refused() {
        let (_, token) = token();
        refuses(token.rsplit_once('.').unwrap().0);
        for tail in [".", ".AAAA", ".AAAA.AAAA", ".AAAA.AAAA.AAAA"] {
            refuses(&format!("{token}{tail}"));
        }
        refuses("");
        refuses("..");
        refuses(&".".repeat(100_000));
    }

    #[test]
    fn an_empty_signature_is_refused() {
        let (_, token) = token();
        refuses(&format!("{}.", token.rsplit_once('.').unwrap().0));
    }

    #[test]
    fn encodings_that_are_not_canonical_are_refused() {
        let (_, token) = token();
        for other in [format!("{token}="), format!("{token}\n"), format!(" {token}"), token.replace('.', ". ")] {
            refuses(&other);
        }
        // 64 bytes leave four unused bits in the last character; they must be zero.
        let (head, last) = token.split_at(token.len() - 1);
        let last = last.as_bytes()[0];
        refuses(&format!("{head}{}", char::from(last + 1)));
    }
}
