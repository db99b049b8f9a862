//! Checks the DPoP proof of a request (RFC 9449 §4.3).
//!
//! Takes the fields of a request and, on a route, its token. Gives the key that made the proof. The comparisons come
//! first, the signature after them, and the note of the use last, so that only good proofs are noted.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::UnixTime;
use crate::jose::dpop::{ProofClaims, ProofKey, UnverifiedProof};
use crate::oauth::confirmation::Thumbprint;
use crate::oauth::discrepancy::{one_of, short};
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::proof_url::is_url_of;
use crate::pipeline::request::public_origin::PublicOrigin;
use crate::pipeline::routing::own_hosts::ProofHosts;
use crate::trust::failed_proof::{FailedProof, ProofError};
use crate::trust::known_proof::KnownProof;
use crate::trust::proof_nonces::NonceState;
use crate::trust::proof_replays::{MAX_AHEAD, ProofUse};
use crate::trust::proof_rules::ProofRules;
use crate::trust::verify::VerifiedToken;

/// The field of a proof.
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// A request with the rules for its proof.
#[derive(Debug)]
pub(crate) struct ProofRequest<'r> {
    pub(crate) rules: &'r ProofRules,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) request: &'r CanonicalRequest,
    pub(crate) origin: PublicOrigin<'r>,
    /// The hosts that the origin may have.
    pub(crate) hosts: ProofHosts<'r>,
    pub(crate) now: UnixTime,
}

/// A proof that is good for the request.
#[derive(Debug)]
pub(crate) struct CheckedProof {
    pub(crate) key: Thumbprint,
    /// The nonce that the client should use from now on.
    pub(crate) next_nonce: Option<HeaderValue>,
}

impl ProofRequest<'_> {
    /// The proof of a token request. `None` if there is none.
    pub(crate) async fn check(&self) -> Result<Option<CheckedProof>, FailedProof> {
        let Some(text) = self.only_field()? else { return Ok(None) };
        let proof = UnverifiedProof::parse(text)?;
        let next_nonce = self.check_claims(&proof.claims)?;
        let key = proof.key()?;
        self.verify(&proof, &key).await?;
        Ok(Some(CheckedProof { key: key.thumbprint, next_nonce }))
    }

    /// The proof of a request with this token, whose text is `token`. It is bound to the key `bound_to`.
    pub(crate) async fn check_for(
        &self,
        verified: &VerifiedToken,
        token: &[u8],
        bound_to: Thumbprint,
    ) -> Result<CheckedProof, FailedProof> {
        let wanted = "one field DPoP";
        let text = self.only_field()?.ok_or_else(|| FailedProof::new(ProofError::Missing, "no field DPoP", wanted))?;
        let proof = UnverifiedProof::parse(text)?;
        let next_nonce = self.check_claims(&proof.claims)?;
        let known = verified.known_proof.borrow().clone().filter(|known| proof.has_header_of(&known.key));
        let known = match known {
            Some(known) => known,
            None => Rc::new(KnownProof::new(&proof, token)?),
        };
        if proof.claims.token_digest.as_deref() != Some(&*known.token_digest) {
            let found = one_of("ath", proof.claims.token_digest.as_deref());
            return Err(FailedProof::invalid(found, format!("ath={}", known.token_digest)));
        }
        let key = known.key.thumbprint;
        if key != bound_to {
            let wanted = format!("the key with the thumbprint {bound_to:?} (cnf.jkt)");
            return Err(FailedProof::invalid(format!("a key with the thumbprint {key:?}"), wanted));
        }
        self.verify(&proof, &known.key).await?;
        if known.may_be_kept() {
            verified.known_proof.replace(Some(known));
        }
        Ok(CheckedProof { key, next_nonce })
    }

    /// The text of the only `DPoP` field, if there is one.
    fn only_field(&self) -> Result<Option<&str>, FailedProof> {
        let mut values = self.headers.get_all(DPOP).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(FailedProof::invalid("more than one field DPoP", "one field DPoP"));
        }
        let text = value.to_str().map_err(|_| FailedProof::invalid("a proof that is not ASCII", "a signed JWT"))?;
        Ok(Some(text))
    }

    /// Compares the claims with the request and the time. Gives the nonce that the client should use next.
    fn check_claims(&self, claims: &ProofClaims) -> Result<Option<HeaderValue>, FailedProof> {
        let method = self.request.method.as_str();
        if claims.method != method {
            return Err(FailedProof::invalid(format!("htm={}", short(&claims.method)), format!("htm={method}")));
        }
        if !is_url_of(&claims.uri, &self.origin, self.request) {
            let PublicOrigin { scheme, host, port, .. } = &self.origin;
            let wanted = format!("htu={scheme}://{host}:{port}{}", self.request.path());
            return Err(FailedProof::invalid(format!("htu={}", short(&claims.uri)), wanted));
        }
        self.hosts.check(self.origin.host)?;
        self.check_time(claims)?;
        if !self.rules.settings.nonce {
            return Ok(None);
        }
        let state = claims.nonce.as_deref().map(|nonce| self.rules.nonces.state(nonce, self.now));
        match state {
            Some(NonceState::Current) => Ok(None),
            Some(NonceState::Previous) => Ok(self.rules.nonces.current(self.now)),
            Some(NonceState::Unknown) => Err(FailedProof::new(ProofError::Nonce, "another nonce", NONCE)),
            None => Err(FailedProof::new(ProofError::Nonce, "no nonce", NONCE)),
        }
    }

    fn check_time(&self, claims: &ProofClaims) -> Result<(), FailedProof> {
        let (now, max_age) = (self.now.seconds(), self.rules.settings.max_age.as_secs());
        let (issued_down, issued_up) = (claims.issued_at.rounded_down(), claims.issued_at.rounded_up());
        if issued_up > now + MAX_AHEAD {
            let found = format!("iat {}s ahead", issued_up - now);
            return Err(FailedProof::invalid(found, format!("iat at most {MAX_AHEAD}s ahead")));
        }
        if issued_down.saturating_add(max_age) < now || issued_down <= self.rules.replays.forgotten() {
            let found = format!("iat {}s ago", now.saturating_sub(issued_down));
            return Err(FailedProof::invalid(found, format!("iat at most {max_age}s ago (oauth.dpop.max_age)")));
        }
        Ok(())
    }

    /// Verifies the signature, and notes the use.
    async fn verify(&self, proof: &UnverifiedProof<'_>, key: &ProofKey) -> Result<(), FailedProof> {
        if !proof.is_signed_by(key) {
            let found = "a signature by another key, or of other content";
            return Err(FailedProof::invalid(found, "a signature by the key in the header"));
        }
        match self.rules.use_once(key.thumbprint, &proof.claims, self.now).await {
            ProofUse::First => Ok(()),
            ProofUse::Repeated => {
                let found = format!("jti={}, which was used before", short(&proof.claims.id));
                Err(FailedProof::new(ProofError::Replayed, found, "a new jti for each request"))
            }
            ProofUse::StoreUnreachable => {
                Err(FailedProof::new(ProofError::Nonce, "a nonce of all replicas", NONCE_OF_PROCESS))
            }
            ProofUse::NoRoom => {
                Err(FailedProof::new(ProofError::NoRoom, "as many proofs as can be remembered", "fewer requests"))
            }
        }
    }
}

const NONCE: &str = "the nonce of the field DPoP-Nonce, from the last two minutes and this process or its replicas";
const NONCE_OF_PROCESS: &str = "a nonce of this process, as Redis is unreachable";

#[cfg(test)]
mod tests;
