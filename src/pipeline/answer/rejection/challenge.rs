//! The challenge of a refusal: how to authenticate (RFC 9110 §11.6.1).
//!
//! One exhaustive match. A refusal has one challenge at most.
#![deny(clippy::wildcard_enum_match_arm)]

use http::HeaderValue;

use super::{INVALID_TOKEN, Rejection};
use crate::issuer::authorization_server::TokenRefusal;
use crate::pipeline::policy::authenticate::AuthenticateError;
use crate::pipeline::routing::access::Forbidden;
use crate::pipeline::routing::route::Route;

const REALM: &str = "portcullis";

/// The value of `WWW-Authenticate`.
pub(crate) fn challenge(rejection: &Rejection, _route: Option<&Route>) -> Option<HeaderValue> {
    let text = match rejection {
        Rejection::Unauthenticated(AuthenticateError::Missing { .. }) => format!("Bearer realm=\"{REALM}\""),
        Rejection::Unauthenticated(AuthenticateError::Refused(refused)) if !refused.reason.is_outage() => {
            format!("Bearer realm=\"{REALM}\", error=\"invalid_token\", error_description=\"{INVALID_TOKEN}\"")
        }
        Rejection::Forbidden(Forbidden::MissingScope { all_of, any_of, .. }) => {
            let scope = all_of.union(any_of);
            format!("Bearer realm=\"{REALM}\", error=\"insufficient_scope\", scope=\"{scope}\"")
        }
        Rejection::Token(TokenRefusal::Fault(fault)) if fault.wants_challenge() => format!("Basic realm=\"{REALM}\""),
        Rejection::Overload
        | Rejection::Wire(_)
        | Rejection::Ambiguous(_)
        | Rejection::Header(_)
        | Rejection::ClearText
        | Rejection::NoRoute
        | Rejection::MethodNotAllowed(_)
        | Rejection::RateLimited(_)
        | Rejection::Unauthenticated(
            AuthenticateError::Ambiguous(_)
            | AuthenticateError::Refused(_)
            | AuthenticateError::TooManyFailures { .. }
            | AuthenticateError::Clock,
        )
        | Rejection::Forbidden(
            Forbidden::ClaimMismatch(_) | Forbidden::ClientNotAllowed(_) | Forbidden::AddressNotAllowed { .. },
        )
        | Rejection::AuditUnavailable
        | Rejection::TooLarge
        | Rejection::BodyTimeout
        | Rejection::ClientGone
        | Rejection::Token(_)
        | Rejection::Upstream(_) => return None,
    };
    HeaderValue::try_from(text).ok()
}
