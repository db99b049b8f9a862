//! The challenge of a refusal: how to authenticate (RFC 9110 §11.6.1).
//!
//! One exhaustive match. A refusal has one challenge at most.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use http::HeaderValue;

use super::{INVALID_TOKEN, Rejection};
use crate::issuer::authorization_server::TokenRefusal;
use crate::oauth::scope::ScopeSet;
use crate::pipeline::policy::authenticate::AuthenticateError;
use crate::pipeline::routing::access::{Access, Forbidden};
use crate::pipeline::routing::route::Route;
use crate::trust::failed_check::TokenError;

const REALM: &str = "portcullis";

/// The value of `WWW-Authenticate`. `route` is that of the request, if it has one.
pub(crate) fn challenge(rejection: &Rejection, route: Option<&Route>) -> Option<HeaderValue> {
    let parts = match rejection {
        Rejection::Unauthenticated(AuthenticateError::Missing { .. }) => Challenge::bearer(vec![], scopes_of(route)),
        Rejection::Unauthenticated(AuthenticateError::Refused(refused))
            if refused.reason != TokenError::KeysUnavailable =>
        {
            let error = vec![("error", "invalid_token"), ("error_description", INVALID_TOKEN)];
            Challenge::bearer(error, scopes_of(route))
        }
        Rejection::Forbidden(Forbidden::MissingScope { all_of, any_of, .. }) => {
            Challenge::bearer(vec![("error", "insufficient_scope")], all_of.union(any_of))
        }
        Rejection::Token(TokenRefusal::Fault(fault)) if fault.wants_challenge() => Challenge::basic(),
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
    HeaderValue::try_from(parts.text(route)).ok()
}

/// A challenge in parts.
struct Challenge {
    scheme: &'static str,
    parameters: Vec<(&'static str, &'static str)>,
    scope: ScopeSet,
    /// Whether it says where the resource is described.
    names_resource: bool,
}

impl Challenge {
    const fn bearer(parameters: Vec<(&'static str, &'static str)>, scope: ScopeSet) -> Self {
        Self { scheme: "Bearer", parameters, scope, names_resource: true }
    }

    /// Of the token endpoint.
    fn basic() -> Self {
        Self { scheme: "Basic", parameters: Vec::new(), scope: ScopeSet::default(), names_resource: false }
    }

    fn text(&self, route: Option<&Route>) -> String {
        let mut text = format!("{} realm=\"{REALM}\"", self.scheme);
        let mut add = |name: &str, value: &dyn fmt::Display| text += &format!(", {name}=\"{value}\"");
        self.parameters.iter().for_each(|(name, value)| add(name, value));
        if !self.scope.is_empty() {
            add("scope", &self.scope);
        }
        let resource = route.and_then(|route| route.resource.as_ref()).filter(|_| self.names_resource);
        if let Some(resource) = resource {
            add("resource_metadata", &resource.metadata_url);
        }
        text
    }
}

/// The scopes that a token for the route needs. Said only where clients are told of the resource.
fn scopes_of(route: Option<&Route>) -> ScopeSet {
    match route {
        Some(Route { resource: Some(_), access: Access::Protected(rule), .. }) => rule.all_of.union(&rule.any_of),
        Some(_) | None => ScopeSet::default(),
    }
}
