//! A compact JWS, parsed and verified.
//!
//! Takes the text of a token and gives its *unverified* header and claims. A second step checks the signature with a
//! key. The steps are separate because the claims name the issuer, and the issuer determines the key.

use base64::Engine as _;

use super::BASE64URL;
use super::claims::{Claims, ClaimsFault};
use super::header::{Header, JoseHeaderFault};
use super::jwk::VerifyingKey;
use crate::oauth::discrepancy::Discrepancy;

/// A well-formed token. Its content must not be trusted before [`Self::is_signed_by`] returns true.
#[derive(Debug)]
pub(crate) struct Unverified<'t> {
    pub(crate) header: Header,
    pub(crate) claims: Claims,
    signing_input: &'t str,
    signature: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenFault {
    #[error("the token is malformed")]
    Malformed(Option<Box<Discrepancy>>),
    #[error("the token's algorithm is not supported")]
    Algorithm,
    #[error("a required claim is missing")]
    MissingClaim(Box<Discrepancy>),
}

impl<'t> Unverified<'t> {
    pub(crate) fn parse(token: &'t str) -> Result<Self, TokenFault> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed(None))?;
        let (header, claims) = signing_input.split_once('.').ok_or(TokenFault::Malformed(None))?;
        let header = Header::parse(&decode(header)?)?;
        let claims = Claims::parse(&decode(claims)?)?;
        Ok(Self { header, claims, signing_input, signature: decode(signature)? })
    }

    pub(crate) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        self.header.algorithm == key.algorithm && key.verifies(self.signing_input.as_bytes(), &self.signature)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenFault> {
    if part.is_empty() {
        return Err(TokenFault::Malformed(None));
    }
    BASE64URL.decode(part).map_err(|_| TokenFault::Malformed(None))
}

impl From<JoseHeaderFault> for TokenFault {
    fn from(fault: JoseHeaderFault) -> Self {
        match fault {
            JoseHeaderFault::Malformed => Self::Malformed(None),
            JoseHeaderFault::Algorithm => Self::Algorithm,
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
