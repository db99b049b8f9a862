//! Checks that the caller of a bound token has the keys that the token is bound to.
//!
//! Takes a verified caller, the proofs of its request and the binding that the route demands; gives a [`ProvenCaller`],
//! without which no request is authorized. A token that is not bound needs no proof.

use std::rc::Rc;

use super::authenticate::{PresentedCaller, TokenScheme};
use super::proof_check::{CheckedProof, ProofRequest};
use crate::oauth::bound::TokenBinding;
use crate::oauth::confirmation::{Confirmation, Thumbprint};
use crate::trust::failed_check::FailedCheck;
use crate::trust::verify::Verified;

/// The key and the certificate of which a request proves possession.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PresentedProofs {
    /// The key of its DPoP proof, which was checked for this request and this token.
    pub(crate) key: Option<Thumbprint>,
    /// The client certificate of its connection.
    pub(crate) certificate: Option<Thumbprint>,
}

/// A caller whose token is bound to no key, or who has proven the possession of its keys. Made only here, so that a
/// forgotten check does not compile.
#[derive(Clone, Debug)]
pub(crate) struct ProvenCaller(Rc<Verified>);

/// The key of the DPoP proof of a request, where its token needs one. A proof beside a bearer token does not count.
pub(crate) async fn proven_key(
    proof: &ProofRequest<'_>,
    PresentedCaller { caller, token, scheme }: &PresentedCaller<'_>,
) -> Result<Option<CheckedProof>, FailedCheck> {
    match (scheme, caller.token().zip(caller.confirmation().key)) {
        (TokenScheme::Bearer, None) => Ok(None),
        (TokenScheme::Bearer, Some(_)) => Err(FailedCheck::no_proof("a bound token as a bearer token")),
        (TokenScheme::Dpop, None) => Err(FailedCheck::not_for_dpop()),
        (TokenScheme::Dpop, Some((verified, key))) => Ok(Some(proof.check_for(verified, token, key).await?)),
    }
}

/// `bound` is the binding that the route demands.
pub(crate) fn prove(
    caller: &Rc<Verified>,
    proofs: &PresentedProofs,
    bound: TokenBinding,
) -> Result<ProvenCaller, FailedCheck> {
    let confirmation = caller.confirmation();
    if confirmation.key.is_some() && confirmation.key != proofs.key {
        return Err(FailedCheck::no_proof("a bound token without proof of possession"));
    }
    if let Some(bound) = confirmation.certificate.filter(|bound| Some(*bound) != proofs.certificate) {
        return Err(FailedCheck::no_certificate(proofs.certificate, bound));
    }
    check_binding(confirmation, bound)?;
    Ok(ProvenCaller(Rc::clone(caller)))
}

fn check_binding(confirmation: Confirmation, bound: TokenBinding) -> Result<(), FailedCheck> {
    if bound.holds(&confirmation) { Ok(()) } else { Err(FailedCheck::not_bound(confirmation, bound)) }
}

impl ProvenCaller {
    /// For a decision without a request that could have a proof: about a stream whose request had one, or about a
    /// token alone. The token must have the binding that the route demands.
    pub(crate) fn without_request(caller: &Rc<Verified>, bound: TokenBinding) -> Result<Self, FailedCheck> {
        check_binding(caller.confirmation(), bound)?;
        Ok(Self(Rc::clone(caller)))
    }

    pub(crate) fn into_verified(self) -> Rc<Verified> {
        self.0
    }

    pub(crate) fn verified(&self) -> &Rc<Verified> {
        &self.0
    }
}

impl std::ops::Deref for ProvenCaller {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.0
    }
}
