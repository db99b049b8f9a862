//! DPoP proofs (RFC 9449 §4.2): a JWT that its sender signs anew for each request, with a key that its header contains.
//!
//! Takes the text of a proof. Gives its claims, which must not be trusted before [`UnverifiedProof::is_signed_by`]
//! returns true, and its key. Whether the claims are about the request is not compared here.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::BASE64URL;
use super::algorithm::{Algorithm, ED25519};
use super::claims::{ClaimsFault, date, text};
use super::header::REFUSED;
use super::jwk::VerifyingKey;
use super::numeric_date::NumericDate;
use super::strict_json;
use crate::oauth::confirmation::Thumbprint;
use crate::oauth::discrepancy::{Discrepancy, one_of, short};

/// A well-formed proof.
#[derive(Debug)]
pub(crate) struct UnverifiedProof<'p> {
    pub(crate) claims: ProofClaims,
    /// As it is encoded.
    header: &'p str,
    signing_input: &'p str,
    signature: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct ProofClaims {
    /// `jti`.
    pub(crate) id: String,
    /// `htm`.
    pub(crate) method: String,
    /// `htu`.
    pub(crate) uri: String,
    /// `iat`.
    pub(crate) issued_at: NumericDate,
    /// `ath`: the digest of the access token.
    pub(crate) token_digest: Option<String>,
    pub(crate) nonce: Option<String>,
}

/// The key of a proof, with the header that has it: a proof with the same header has the same key.
#[derive(Debug)]
pub(crate) struct ProofKey {
    header: Box<str>,
    key: VerifyingKey,
    pub(crate) thumbprint: Thumbprint,
}

/// Longer proofs are refused. One with an RSA key of 8,192 bits has 4,000 bytes.
const MAX_PROOF_BYTES: usize = 8192;
/// A longer `jti` is refused.
const MAX_ID_BYTES: usize = 256;
const PROOF_TYPE: &str = "dpop+jwt";

/// The algorithms of proofs.
const PROOF_ALGORITHMS: [Algorithm; 5] = Algorithm::DEFAULT;

/// Their names, for challenges and metadata.
pub(crate) const PROOF_ALGORITHM_NAMES: [&str; 6] = {
    let [a, b, c, d, e] = PROOF_ALGORITHMS;
    [a.as_str(), b.as_str(), c.as_str(), d.as_str(), e.as_str(), ED25519]
};

impl<'p> UnverifiedProof<'p> {
    pub(crate) fn parse(proof: &'p str) -> Result<Self, Discrepancy> {
        if proof.len() > MAX_PROOF_BYTES {
            let wanted = format!("a proof of at most {MAX_PROOF_BYTES} bytes");
            return Err(Discrepancy::new(format!("a proof of {} bytes", proof.len()), wanted));
        }
        let mut parts = proof.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            let found = format!("a proof of {} parts", proof.split('.').count());
            return Err(Discrepancy::new(found, "a signed JWT: 3 parts, separated by `.`"));
        };
        let signing_input = &proof[..header.len() + 1 + claims.len()];
        let claims = ProofClaims::parse(&decode("claims", claims)?)?;
        Ok(Self { claims, header, signing_input, signature: decode("signature", signature)? })
    }

    /// The key that the header contains.
    pub(crate) fn key(&self) -> Result<ProofKey, Discrepancy> {
        ProofKey::parse(self.header)
    }

    /// Whether this key is the one that the header contains, without a look into it.
    pub(crate) fn has_header_of(&self, key: &ProofKey) -> bool {
        self.header == &*key.header
    }

    pub(crate) fn is_signed_by(&self, key: &ProofKey) -> bool {
        self.has_header_of(key) && key.key.verifies(self.signing_input.as_bytes(), &self.signature)
    }
}

impl ProofKey {
    fn parse(header: &str) -> Result<Self, Discrepancy> {
        let members = object("header", &decode("header", header)?)?;
        if let Some(name) = REFUSED.iter().find(|name| members.contains_key(**name)) {
            return Err(Discrepancy::new(format!("header member {name}"), format!("no {name}")));
        }
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        if text("typ") != Some(PROOF_TYPE) {
            return Err(Discrepancy::new(one_of("typ", text("typ")), format!("typ={PROOF_TYPE}")));
        }
        let algorithm = text("alg").and_then(Algorithm::from_name).filter(|named| PROOF_ALGORITHMS.contains(named));
        let algorithm = algorithm
            .ok_or_else(|| Discrepancy::new(one_of("alg", text("alg")), one_of("alg", PROOF_ALGORITHM_NAMES)))?;
        let wanted = || format!("jwk with a public key for {algorithm}");
        let jwk = members.get("jwk").ok_or_else(|| Discrepancy::new("no jwk", wanted()))?;
        let key = VerifyingKey::from_jwk(jwk, &[algorithm])
            .map_err(|fault| Discrepancy::new(format!("a jwk that cannot be used, since {fault}"), wanted()))?;
        let thumbprint = Thumbprint::parse(&key.thumbprint);
        let thumbprint = thumbprint.ok_or_else(|| Discrepancy::new("a jwk without a thumbprint", wanted()))?;
        Ok(Self { header: header.into(), key, thumbprint })
    }

    /// The bytes of the header that has it.
    pub(crate) fn header_bytes(&self) -> usize {
        self.header.len()
    }
}

impl ProofClaims {
    fn parse(bytes: &[u8]) -> Result<Self, Discrepancy> {
        let all = object("claims", bytes)?;
        let required = |name: &str| -> Result<String, Discrepancy> {
            let value = optional(&all, name)?.filter(|value| !value.is_empty());
            value.ok_or_else(|| Discrepancy::new(format!("no {name}"), name))
        };
        let (id, issued_at) = (required("jti")?, date(&all, "iat", bytes).map_err(values)?);
        if id.len() > MAX_ID_BYTES {
            let wanted = format!("a jti of at most {MAX_ID_BYTES} bytes");
            return Err(Discrepancy::new(format!("a jti of {} bytes", id.len()), wanted));
        }
        Ok(Self {
            id,
            method: required("htm")?,
            uri: required("htu")?,
            issued_at: issued_at.ok_or_else(|| Discrepancy::new("no iat", "iat"))?,
            token_digest: optional(&all, "ath")?,
            nonce: optional(&all, "nonce")?,
        })
    }
}

fn optional(all: &Map<String, Value>, name: &str) -> Result<Option<String>, Discrepancy> {
    text(all, name).map(|value| value.map(str::to_owned)).map_err(values)
}

fn values(fault: ClaimsFault) -> Discrepancy {
    match fault {
        ClaimsFault::Malformed(values) | ClaimsFault::Missing(values) => *values,
    }
}

fn object(part: &str, bytes: &[u8]) -> Result<Map<String, Value>, Discrepancy> {
    strict_json::object(bytes).map_err(|fault| {
        Discrepancy::new(format!("a proof whose {part} has {}", fault.without_content()), "one JSON object")
    })
}

fn decode(name: &str, part: &str) -> Result<Vec<u8>, Discrepancy> {
    let bytes = BASE64URL.decode(part).ok().filter(|bytes| !bytes.is_empty());
    bytes.ok_or_else(|| {
        Discrepancy::new(format!("{name}={}, which is not base64url", short(part)), "base64url without padding")
    })
}

#[cfg(test)]
mod tests;
