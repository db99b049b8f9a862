//! Federation: platform tokens, which are tokens of external issuers that authenticate clients.
//!
//! The configuration alone decides which client a token is a credential of: its issuer, its subject and its claims must
//! be those of exactly one client.

pub(crate) mod index;
pub(crate) mod overlap;

use crate::oauth::caller::IssuerName;
use crate::oauth::subject_pattern::SubjectPattern;
use crate::trust::claim_rule::{ClaimRule, narrows};

/// The tokens of an issuer that are credentials of a client. All parts must hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FederatedIdentity {
    pub(crate) issuer: IssuerName,
    /// Of an issuer with tenants, each of which could issue a token with this subject.
    pub(crate) tenant: Option<String>,
    pub(crate) subject: SubjectPattern,
    pub(crate) claims: Vec<ClaimRule>,
    /// Whether a token counts once only.
    pub(crate) once: bool,
}

impl FederatedIdentity {
    /// True if every token that is a credential by the other entry is one by this entry.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let is_uses = !self.once || other.once;
        is_uses && self.is_of_issuer_of(other) && self.subject.covers(&other.subject) && self.takes_claims_of(other)
    }

    fn is_of_issuer_of(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.tenant == other.tenant
    }

    /// True if every token with the claims that the other entry wants has those that this entry wants.
    fn takes_claims_of(&self, other: &Self) -> bool {
        self.claims.iter().all(|wanted| other.claims.iter().any(|claim| narrows(claim, wanted)))
    }
}
