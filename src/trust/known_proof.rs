//! The parts of a DPoP proof that the next one with the same token has too, so that they are computed once.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;

use crate::jose::BASE64URL;
use crate::jose::dpop::{ProofKey, UnverifiedProof};
use crate::oauth::discrepancy::Discrepancy;

/// The key of a proof, and the digest of its token.
#[derive(Debug)]
pub(crate) struct KnownProof {
    pub(crate) key: ProofKey,
    /// As `ath` must be.
    pub(crate) token_digest: Box<str>,
}

/// A longer header is read anew each time, so that a token in the cache stays small.
const MAX_KNOWN_HEADER: usize = 2048;

impl KnownProof {
    pub(crate) fn new(proof: &UnverifiedProof<'_>, token: &[u8]) -> Result<Self, Discrepancy> {
        Ok(Self { key: proof.key()?, token_digest: token_digest(token) })
    }

    pub(crate) fn may_be_kept(&self) -> bool {
        self.key.header_bytes() <= MAX_KNOWN_HEADER
    }
}

/// `ath` of a token (RFC 9449 §4.2).
pub(crate) fn token_digest(token: &[u8]) -> Box<str> {
    BASE64URL.encode(digest(&SHA256, token)).into()
}
