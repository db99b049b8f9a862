//! What the check that refuses a request found, and what it wanted, for the audit log.

use super::rejection::Rejection;
use super::token_rejection::grant_discrepancy;
use super::upstream_reason::tls_discrepancy;
use crate::issuer::authorization_server::TokenRefusal;
use crate::oauth::discrepancy::Discrepancy;

/// `None` where the reason says all.
pub(crate) fn found_and_wanted(rejection: &Rejection) -> Option<Discrepancy> {
    match rejection {
        Rejection::Unauthenticated(error) => error.discrepancy(),
        Rejection::Forbidden(forbidden) => Some(forbidden.discrepancy()),
        Rejection::RateLimited(limit) => Some((*limit.values).clone()),
        Rejection::Token(TokenRefusal::Fault(fault)) => grant_discrepancy(fault),
        Rejection::Token(TokenRefusal::KeysUnavailable { values, .. }) => Some((**values).clone()),
        Rejection::Upstream(fault) => tls_discrepancy(fault),
        // Most refusals are about the request as a whole.
        _ => None,
    }
}
