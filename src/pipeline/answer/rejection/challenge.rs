//! The challenge of a refusal: how to authenticate (RFC 9110 §11.6.1).
//!
//! One exhaustive match. A refusal has one challenge at most: `Bearer`, or `DPoP` alone where the route demands proofs,
//! or where one was not good (RFC 9449 §7.1).
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt::Write as _;

use http::HeaderValue;

use super::{INVALID_TOKEN, Rejection};
use crate::issuer::authorization_server::TokenRefusal;
use crate::issuer::grant::proof_description;
use crate::jose::dpop::PROOF_ALGORITHM_NAMES;
use crate::oauth::bound::TokenBinding;
use crate::oauth::scope::ScopeSet;
use crate::pipeline::policy::authenticate::AuthenticateError;
use crate::pipeline::routing::access::{Access, Forbidden};
use crate::pipeline::routing::route::Route;
use crate::trust::failed_check::TokenError;
use crate::trust::failed_proof::ProofError;

const REALM: &str = "portcullis";

/// A scheme and its parameters.
struct Challenge(String);

/// The value of `WWW-Authenticate`.
pub(crate) fn challenge(rejection: &Rejection, route: Option<&Route>) -> Option<HeaderValue> {
    let challenge = match rejection {
        Rejection::Unauthenticated(AuthenticateError::Missing { .. }) => {
            Challenge::of_token(demands_proofs(route)).for_route(route)
        }
        Rejection::Unauthenticated(AuthenticateError::Refused(refused)) => of_refused(refused.reason, route)?,
        Rejection::Forbidden(Forbidden::MissingScope { all_of, any_of, .. }) => {
            let scope = all_of.union(any_of).to_string();
            let challenge = Challenge::of_token(demands_proofs(route)).with("error", "insufficient_scope");
            challenge.with("scope", &scope).of_resource(route)
        }
        Rejection::Token(TokenRefusal::Fault(fault)) if fault.wants_challenge() => Challenge::new("Basic"),
        Rejection::Overload
        | Rejection::Wire(_)
        | Rejection::Ambiguous(_)
        | Rejection::Header(_)
        | Rejection::Misdirected
        | Rejection::ClearText
        | Rejection::NoRoute
        | Rejection::MethodNotAllowed(_)
        | Rejection::RateLimited(_)
        | Rejection::Unauthenticated(
            AuthenticateError::Ambiguous(_) | AuthenticateError::TooManyFailures { .. } | AuthenticateError::Clock,
        )
        | Rejection::Forbidden(
            Forbidden::ClaimMismatch(_) | Forbidden::ClientNotAllowed(_) | Forbidden::AddressNotAllowed { .. },
        )
        | Rejection::AuditUnavailable
        | Rejection::TooLarge
        | Rejection::BodyTimeout
        | Rejection::ClientGone
        | Rejection::Token(_)
        | Rejection::NoResponseType
        | Rejection::Upstream(_) => return None,
    };
    HeaderValue::try_from(challenge.0).ok()
}

/// The challenge after a token that is refused. `None` where the token may be good.
fn of_refused(reason: TokenError, route: Option<&Route>) -> Option<Challenge> {
    let (by_proofs, (error, description)) = match reason {
        TokenError::KeysUnavailable
        | TokenError::IntrospectionUnavailable
        | TokenError::StoreUnavailable
        | TokenError::Proof(ProofError::NoRoom) => return None,
        TokenError::Proof(proof) => (true, proof_error(proof)),
        TokenError::NotBound => (demands_proofs(route) || takes_proofs(route), ("invalid_token", INVALID_TOKEN)),
        TokenError::Malformed
        | TokenError::TooManyScopes
        | TokenError::UnknownIssuer
        | TokenError::IssuerNotAllowed
        | TokenError::TypeNotAllowed
        | TokenError::AlgNotAllowed
        | TokenError::MissingClaim
        | TokenError::BadAudience
        | TokenError::Expired
        | TokenError::NotYetValid
        | TokenError::UnknownKid
        | TokenError::BadSignature
        | TokenError::Inactive
        | TokenError::Revoked
        | TokenError::UnknownClient
        | TokenError::NotProven
        | TokenError::StaticTokenEnded
        | TokenError::UnknownStaticToken => (demands_proofs(route), ("invalid_token", INVALID_TOKEN)),
    };
    let challenge = Challenge::of_token(by_proofs).with("error", error).with("error_description", description);
    Some(challenge.for_route(route))
}

/// The code and the public text of a proof that is refused.
pub(super) fn proof_error(reason: ProofError) -> (&'static str, &'static str) {
    let error = match reason {
        ProofError::Missing => "invalid_token",
        ProofError::Invalid | ProofError::Replayed => "invalid_dpop_proof",
        ProofError::Nonce => "use_dpop_nonce",
        ProofError::NoRoom => "temporarily_unavailable",
    };
    (error, proof_description(reason))
}

/// Whether every token at this route is bound to a DPoP key.
fn demands_proofs(route: Option<&Route>) -> bool {
    binding(route) == TokenBinding::Dpop
}

/// Whether tokens must be bound here, and may be so to a DPoP key.
fn takes_proofs(route: Option<&Route>) -> bool {
    binding(route) == TokenBinding::Either
}

fn binding(route: Option<&Route>) -> TokenBinding {
    match route.map(|route| &route.access) {
        Some(Access::Protected(rule)) => rule.bound,
        Some(Access::Public) | None => TokenBinding::None,
    }
}

impl Challenge {
    fn new(scheme: &str) -> Self {
        Self(format!("{scheme} realm=\"{REALM}\""))
    }

    /// How to present a token: with a proof or as a bearer token.
    fn of_token(by_proofs: bool) -> Self {
        if by_proofs { Self::new("DPoP").with("algs", &PROOF_ALGORITHM_NAMES.join(" ")) } else { Self::new("Bearer") }
    }

    /// Where a route has a resource: the scopes that it needs, and where the resource is described.
    fn for_route(self, route: Option<&Route>) -> Self {
        let scopes = match route {
            Some(Route { resource: Some(_), access: Access::Protected(rule), .. }) => rule.all_of.union(&rule.any_of),
            Some(_) | None => ScopeSet::default(),
        };
        let challenge = if scopes.is_empty() { self } else { self.with("scope", &scopes.to_string()) };
        challenge.of_resource(route)
    }

    /// Where the resource of a route is described (RFC 9728 §5.1).
    fn of_resource(self, route: Option<&Route>) -> Self {
        match route.and_then(|route| route.resource.as_ref()) {
            Some(resource) => self.with("resource_metadata", &resource.metadata_url),
            None => self,
        }
    }

    /// The value has no quotation mark and no backslash.
    fn with(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.0, ", {name}=\"{value}\"");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::failed_check::FailedCheck;
    use crate::trust::failed_proof::FailedProof;

    #[test]
    fn a_proof_that_cannot_be_remembered_is_no_fault_of_the_caller() {
        let check = FailedCheck::from(FailedProof::new(ProofError::NoRoom, "a", "b"));
        let rejection = Rejection::Unauthenticated(AuthenticateError::Refused(check.of(None)));
        assert_eq!(challenge(&rejection, None), None);
        assert_eq!(rejection.public().status, http::StatusCode::SERVICE_UNAVAILABLE);
        assert!(rejection.retry_after().is_some());
    }
}
