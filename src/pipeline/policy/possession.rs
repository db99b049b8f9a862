//! Checks that the caller of a bound token has the keys that the token is bound to.
//!
//! Takes a verified caller and the proofs of its request; gives a [`ProvenCaller`], without which nobody is authorized.
//! A token that is bound to no key needs no proof.

use std::rc::Rc;

use crate::trust::failed_check::FailedCheck;
use crate::trust::verify::Verified;

/// A caller whose token is bound to no key, or who has proven the possession of its keys. Made only here, so that a
/// forgotten check does not compile.
#[derive(Clone, Debug)]
pub(crate) struct ProvenCaller(Rc<Verified>);

pub(crate) fn prove(caller: &Rc<Verified>) -> Result<ProvenCaller, FailedCheck> {
    match caller.token().map(|token| token.claims.confirmation).filter(|confirmation| !confirmation.is_none()) {
        None => Ok(ProvenCaller(Rc::clone(caller))),
        Some(confirmation) => Err(FailedCheck::not_proven(confirmation)),
    }
}

impl ProvenCaller {
    /// For a decision without a request that could have a proof: about a stream whose request had one, or about a
    /// token alone.
    pub(crate) fn without_request(caller: &Rc<Verified>) -> Self {
        Self(Rc::clone(caller))
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
