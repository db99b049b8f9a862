//! A DPoP proof that is not accepted: the reason, and the values that the check found and wanted.

use crate::oauth::discrepancy::Discrepancy;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FailedProof {
    pub(crate) reason: ProofError,
    pub(crate) values: Box<Discrepancy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProofError {
    /// A token that is bound to a key came without a proof.
    Missing,
    Invalid,
    /// The proof was used before.
    Replayed,
    /// It lacks a current nonce of this process.
    Nonce,
    /// It cannot be known whether the proof was used before.
    NoRoom,
}

impl FailedProof {
    pub(crate) fn new(reason: ProofError, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { reason, values: Box::new(Discrepancy::new(found, wanted)) }
    }

    pub(crate) fn invalid(found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::new(ProofError::Invalid, found, wanted)
    }
}

impl From<Discrepancy> for FailedProof {
    fn from(values: Discrepancy) -> Self {
        Self { reason: ProofError::Invalid, values: Box::new(values) }
    }
}
