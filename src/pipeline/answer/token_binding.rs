//! The keys that a token is bound to when it is issued: those of which the token request proves possession.

use super::rejection::Rejection;
use super::response_fields::ResponseFields;
use crate::issuer::authorization_server::{DecidedGrant, TokenRefusal};
use crate::issuer::grant::GrantFault;
use crate::oauth::bound::TokenBinding;
use crate::oauth::confirmation::{Confirmation, Thumbprint};
use crate::pipeline::policy::proof_check::ProofRequest;
use crate::trust::failed_proof::{FailedProof, ProofError};

/// `certificate` is the client certificate of the request. A proof binds the token of any client (RFC 9449 §5).
pub(super) async fn confirmation(
    grant: &DecidedGrant<'_>,
    proof: &ProofRequest<'_>,
    certificate: Option<Thumbprint>,
    fields: &mut ResponseFields,
) -> Result<Confirmation, Rejection> {
    let refused = |failed| {
        let fault = GrantFault::Proof { client: grant.client().clone(), failed };
        Rejection::Token(TokenRefusal::Fault(fault))
    };
    let checked = proof.check().await;
    fields.dpop_nonce = match &checked {
        // The client needs it for its requests with the token.
        Ok(Some(_)) if proof.rules.settings.nonce => proof.rules.nonces.current(proof.now),
        Err(failed) if failed.reason == ProofError::Nonce => proof.rules.nonces.current(proof.now),
        Ok(_) | Err(_) => None,
    };
    let key = checked.map_err(refused)?.map(|checked| checked.key);
    let confirmation = Confirmation { key, certificate: grant.certificate(certificate, key.is_some()) };
    match grant.bound() {
        bound if bound.holds(&confirmation) => Ok(confirmation),
        TokenBinding::Mtls => {
            let fault = GrantFault::NoCertificate { client: grant.client().clone() };
            Err(Rejection::Token(TokenRefusal::Fault(fault)))
        }
        TokenBinding::None | TokenBinding::Dpop => Err(refused(missing("a field DPoP with a proof"))),
        TokenBinding::Either => Err(refused(missing("a field DPoP with a proof, or a client certificate"))),
    }
}

fn missing(wanted: &'static str) -> FailedProof {
    FailedProof::new(ProofError::Missing, "no proof of possession", wanted)
}
