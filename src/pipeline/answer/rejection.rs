//! Every refusal: its answer for the caller, and its reason for the operator.
//!
//! One exhaustive match each. Public texts are fixed. They contain nothing of the configuration but a missing scope and,
//! for routes of a resource, its scopes and the URL of its document; and nothing of the request but a scope that an
//! authenticated client may not request.
#![deny(clippy::wildcard_enum_match_arm)]

mod challenge;
mod conversions;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::content::Content;
use super::grpc;
use super::token_rejection::{grant_status, token_refused, unauthenticated};
use super::upstream_reason::{FailureAnswer, body_answer, upstream_answer, upstream_failed};
use super::wire_rejection::malformed_status;
use crate::audit::reason::Reason;
use crate::http1::fault::WireFault;
use crate::issuer::authorization_server::TokenRefusal;
use crate::issuer::grant::GrantFault;
use crate::pipeline::policy::authenticate::AuthenticateError;
use crate::pipeline::policy::limits::ExceededLimit;
use crate::pipeline::record::recorded_identity::RecordedIdentity;
use crate::pipeline::request::ambiguous::Ambiguous;
use crate::pipeline::request::headers::FieldFault;
use crate::pipeline::request::request_id::RequestId;
use crate::pipeline::request::upgrade::{UpgradeFault, VERSION};
use crate::pipeline::routing::access::{Forbidden, missing_scope};
use crate::pipeline::routing::rate_limit::seconds;
use crate::pipeline::routing::route::Route;
use crate::trust::failed_check::RefusedToken;
use crate::trust::failed_check::TokenError;
use crate::trust::failed_proof::ProofError;
use crate::trust::revoker::NotRevoked;
use crate::upstream::fault::{BodyFault, UpstreamFault};

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Rejection {
    Overload,
    /// The request's head breaks a rule of HTTP.
    Wire(WireFault),
    Ambiguous(Ambiguous),
    Header(FieldFault),
    /// The host is not the one for which the client has presented its certificate.
    Misdirected,
    /// Credentials were sent in clear text, where others can read them.
    ClearText,
    NoRoute,
    MethodNotAllowed(HeaderValue),
    RateLimited(ExceededLimit),
    Unauthenticated(AuthenticateError),
    Forbidden(Forbidden),
    AuditUnavailable,
    TooLarge,
    BodyTimeout,
    ClientGone,
    Token(TokenRefusal),
    /// The authorization endpoint gives neither codes nor tokens (RFC 6749 §4.1.2.1).
    NoResponseType,
    Upstream(UpstreamFault),
}

/// The public part of a refusal.
struct Public<'p> {
    status: StatusCode,
    error: &'static str,
    description: std::borrow::Cow<'p, str>,
}

/// Seconds; for shortages that end soon.
const SOON: HeaderValue = HeaderValue::from_static("1");
/// Seconds; for an issuer that can't be reached.
const LATER: HeaderValue = HeaderValue::from_static("5");

impl Rejection {
    /// `route` is that of the request, if it has one. The body names the request, so that a report of the refusal leads to its line in the audit log.
    pub(crate) fn into_response(
        self,
        route: Option<&Route>,
        to_grpc: bool,
        request_id: &RequestId,
    ) -> Response<Content> {
        let (public, request_id) = (self.public(), request_id.as_str());
        let body = json!({ "error": public.error, "error_description": public.description, "request_id": request_id });
        // The line break is for people at terminals.
        let mut response = Response::new(Content::whole(format!("{body}\n")));
        *response.status_mut() = public.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = challenge::challenge(&self, route) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds);
        }
        if matches!(self, Self::Header(FieldFault::Upgrade(UpgradeFault::Version))) {
            headers.insert("sec-websocket-version", VERSION);
        }
        if to_grpc {
            grpc::refuse(&mut response, &public.description);
        }
        if let Self::MethodNotAllowed(allow) = self {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }

    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Overload => Reason::Overload,
            Self::Ambiguous(Ambiguous::UriTooLong | Ambiguous::TooManyFields)
            | Self::Header(FieldFault::TooLarge)
            | Self::TooLarge => Reason::TooLarge,
            Self::Wire(fault) if fault.is_size() => Reason::TooLarge,
            Self::Wire(_) | Self::Ambiguous(_) | Self::Header(_) | Self::Misdirected | Self::ClearText => {
                Reason::BadRequest
            }
            Self::NoRoute => Reason::NoRoute,
            Self::MethodNotAllowed(_) => Reason::MethodNotAllowed,
            Self::RateLimited(_) => Reason::RateLimited,
            Self::Unauthenticated(error) => unauthenticated(error),
            Self::Forbidden(Forbidden::MissingScope { .. }) => Reason::MissingScope,
            Self::Forbidden(Forbidden::ClaimMismatch(_)) => Reason::ClaimMismatch,
            Self::Forbidden(Forbidden::ClientNotAllowed(_)) => Reason::ClientNotAllowed,
            Self::Forbidden(Forbidden::AddressNotAllowed { .. }) => Reason::AddressNotAllowed,
            Self::AuditUnavailable => Reason::AuditUnavailable,
            Self::BodyTimeout => Reason::Timeout,
            Self::ClientGone => Reason::ClientGone,
            Self::Token(refusal) => token_refused(refusal),
            Self::NoResponseType => Reason::UnsupportedGrant,
            Self::Upstream(fault) => upstream_failed(fault),
        }
    }

    fn public(&self) -> Public<'_> {
        let (status, error, description) = match self {
            Self::Overload => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "too many requests are in flight")
            }
            Self::Wire(fault) => {
                let status = malformed_status(*fault);
                return Public { status, ..Public::bad_request(fault.to_string()) };
            }
            Self::Ambiguous(Ambiguous::UriTooLong) => {
                (StatusCode::URI_TOO_LONG, "invalid_request", "the request target is too long")
            }
            Self::Ambiguous(Ambiguous::TooManyFields) => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "invalid_request", "the header has too many fields")
            }
            Self::Ambiguous(ambiguous) => return Public::bad_request(ambiguous.to_string()),
            Self::Header(FieldFault::TooLarge) => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "invalid_request", "a header field is too large")
            }
            Self::Header(fault) => return Public::bad_request(fault.to_string()),
            Self::Misdirected => (
                StatusCode::MISDIRECTED_REQUEST,
                "invalid_request",
                "the host is not the server name of the connection",
            ),
            Self::ClearText => {
                (StatusCode::FORBIDDEN, "invalid_request", "credentials must not be sent in clear text; use https")
            }
            Self::NoRoute => (StatusCode::NOT_FOUND, "not_found", "no such resource"),
            Self::MethodNotAllowed(_) => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the resource does not take this method")
            }
            Self::RateLimited(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests; see Retry-After")
            }
            Self::Unauthenticated(error) => return Public::unauthenticated(error),
            Self::Forbidden(Forbidden::MissingScope { all_of, any_of, .. }) => {
                let description = missing_scope(all_of, any_of).into();
                return Public { status: StatusCode::FORBIDDEN, error: "insufficient_scope", description };
            }
            Self::Forbidden(
                Forbidden::ClaimMismatch(_) | Forbidden::ClientNotAllowed(_) | Forbidden::AddressNotAllowed { .. },
            ) => (StatusCode::FORBIDDEN, "access_denied", "this caller may not use this resource"),
            Self::NoResponseType => (
                StatusCode::BAD_REQUEST,
                "unsupported_response_type",
                "this endpoint issues neither codes nor tokens; clients get tokens at the token endpoint",
            ),
            Self::AuditUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "the request can't be recorded just now")
            }
            Self::TooLarge => return Public::from(body_answer(BodyFault::TooLarge)),
            Self::BodyTimeout => return Public::from(body_answer(BodyFault::Slow)),
            Self::ClientGone => return Public::from(body_answer(BodyFault::Broken)),
            Self::Upstream(fault) => return Public::from(upstream_answer(fault)),
            Self::Token(refusal) => return Public::token(refusal),
        };
        Public { status, error, description: description.into() }
    }

    /// True where the request may have been valid, and the load was too high.
    pub(crate) fn is_load_shed(&self) -> bool {
        matches!(self, Self::Overload | Self::Token(TokenRefusal::Busy(_)))
    }

    /// Refused because earlier attempts have failed.
    pub(crate) fn is_for_failures(&self) -> bool {
        matches!(
            self,
            Self::Token(TokenRefusal::TooManyFailures { .. })
                | Self::Unauthenticated(AuthenticateError::TooManyFailures { .. })
        )
    }

    fn retry_after(&self) -> Option<HeaderValue> {
        match self {
            Self::RateLimited(limit) => Some(seconds(limit.wait).max(1).into()),
            Self::Overload
            | Self::AuditUnavailable
            | Self::Token(TokenRefusal::Busy(_) | TokenRefusal::ReplayUnavailable)
            | Self::Upstream(UpstreamFault::Full | UpstreamFault::Open) => Some(SOON),
            Self::Unauthenticated(AuthenticateError::Refused(refused)) if refused.reason.is_outage() => Some(LATER),
            Self::Unauthenticated(AuthenticateError::Refused(refused))
                if refused.reason == TokenError::Proof(ProofError::NoRoom) =>
            {
                Some(LATER)
            }
            Self::Token(TokenRefusal::Fault(GrantFault::Proof { failed, .. }))
                if failed.reason == ProofError::NoRoom =>
            {
                Some(LATER)
            }
            Self::Token(TokenRefusal::NotRevoked(NotRevoked::Busy)) => Some(SOON),
            Self::Token(TokenRefusal::TooManyFailures { wait, .. })
            | Self::Unauthenticated(AuthenticateError::TooManyFailures { wait }) => Some(seconds(*wait).max(1).into()),
            Self::Unauthenticated(AuthenticateError::Clock)
            | Self::Token(
                TokenRefusal::Clock
                | TokenRefusal::KeysUnavailable { .. }
                | TokenRefusal::StoreUnavailable { .. }
                | TokenRefusal::NotRevoked(NotRevoked::Full | NotRevoked::ShareFull | NotRevoked::Broken),
            ) => Some(LATER),
            Self::Unauthenticated(
                AuthenticateError::Missing { .. } | AuthenticateError::Ambiguous(_) | AuthenticateError::Refused(_),
            )
            | Self::Token(TokenRefusal::Fault(_) | TokenRefusal::Broken)
            | Self::Wire(_)
            | Self::Ambiguous(_)
            | Self::Header(_)
            | Self::Misdirected
            | Self::ClearText
            | Self::NoRoute
            | Self::MethodNotAllowed(_)
            | Self::Forbidden(_)
            | Self::TooLarge
            | Self::BodyTimeout
            | Self::ClientGone
            | Self::NoResponseType
            | Self::Upstream(_) => None,
        }
    }

    /// The identity that the refused request claimed or proved.
    pub(crate) fn identity(&self) -> Option<RecordedIdentity> {
        match self {
            Self::Unauthenticated(AuthenticateError::Refused(refused)) => {
                refused.claimed.clone().map(RecordedIdentity::Claimed)
            }
            Self::Token(
                TokenRefusal::TooManyFailures { client, .. }
                | TokenRefusal::KeysUnavailable { client, .. }
                | TokenRefusal::StoreUnavailable { client },
            ) => Some(RecordedIdentity::claimed_client(client.clone())),
            Self::Token(TokenRefusal::Fault(fault)) => fault.client().map(|client| {
                if fault.is_authenticated() {
                    RecordedIdentity::Client(client)
                } else {
                    RecordedIdentity::claimed_client(Some(client))
                }
            }),
            Self::Overload
            | Self::Wire(_)
            | Self::Ambiguous(_)
            | Self::Header(_)
            | Self::Misdirected
            | Self::ClearText
            | Self::NoRoute
            | Self::MethodNotAllowed(_)
            | Self::RateLimited(_)
            | Self::Unauthenticated(
                AuthenticateError::Missing { .. }
                | AuthenticateError::Ambiguous(_)
                | AuthenticateError::TooManyFailures { .. }
                | AuthenticateError::Clock,
            )
            | Self::Forbidden(_)
            | Self::AuditUnavailable
            | Self::TooLarge
            | Self::BodyTimeout
            | Self::ClientGone
            | Self::Token(_)
            | Self::NoResponseType
            | Self::Upstream(_) => None,
        }
    }
}

const TOO_MANY_FAILURES: (StatusCode, &str, &str) =
    (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many failures; see Retry-After");
pub(super) const INVALID_TOKEN: &str = "the access token is invalid or expired";

fn proof_status(reason: ProofError) -> StatusCode {
    match reason {
        ProofError::Missing | ProofError::Invalid | ProofError::Replayed | ProofError::Nonce => {
            StatusCode::UNAUTHORIZED
        }
        ProofError::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl Public<'_> {
    fn bad_request(description: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: "invalid_request", description: description.into() }
    }

    fn unauthenticated(error: &AuthenticateError) -> Self {
        let (status, error, description) = match error {
            AuthenticateError::Missing { .. } => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "an access token is required")
            }
            AuthenticateError::Ambiguous(_) => {
                (StatusCode::BAD_REQUEST, "invalid_request", "more than one header field with credentials")
            }
            AuthenticateError::Clock => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "tokens can't be verified just now")
            }
            AuthenticateError::TooManyFailures { .. } => TOO_MANY_FAILURES,
            AuthenticateError::Refused(refused) if refused.reason == TokenError::StoreUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "the token can't be checked just now")
            }
            AuthenticateError::Refused(refused) if refused.reason.is_outage() => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "the token's issuer can't be reached just now",
            ),
            AuthenticateError::Refused(RefusedToken { reason: TokenError::Proof(reason), .. }) => {
                let (error, description) = challenge::proof_error(*reason);
                (proof_status(*reason), error, description)
            }
            AuthenticateError::Refused(_) => (StatusCode::UNAUTHORIZED, "invalid_token", INVALID_TOKEN),
        };
        Self { status, error, description: description.into() }
    }

    fn token(refusal: &TokenRefusal) -> Self {
        let unavailable =
            |description: &'static str| (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
        let (status, error, description) = match refusal {
            TokenRefusal::Fault(fault) => {
                let (status, error) = (grant_status(fault), fault.code().as_str());
                return Self { status, error, description: fault.description() };
            }
            TokenRefusal::TooManyFailures { .. } => TOO_MANY_FAILURES,
            TokenRefusal::Busy(_) => unavailable("too many tokens are being issued"),
            TokenRefusal::Clock => unavailable("tokens can't be issued just now"),
            TokenRefusal::ReplayUnavailable => unavailable("the use of an assertion can't be recorded just now"),
            TokenRefusal::KeysUnavailable { .. } | TokenRefusal::StoreUnavailable { .. } => {
                unavailable("the client can't be authenticated just now")
            }
            TokenRefusal::NotRevoked(_) => unavailable("the token can't be revoked just now"),
            TokenRefusal::Broken => {
                (StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the token could not be signed")
            }
        };
        Self { status, error, description: description.into() }
    }
}

impl From<FailureAnswer> for Public<'_> {
    fn from((status, error, description): FailureAnswer) -> Self {
        Self { status, error, description }
    }
}
