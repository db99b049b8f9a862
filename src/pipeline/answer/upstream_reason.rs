//! Requests that failed at their upstream, or by their own body: the reason, and the answer for the caller.
//!
//! Part of [`super::rejection`], which builds the answers.
#![deny(clippy::wildcard_enum_match_arm)]

use std::borrow::Cow;

use http::StatusCode;

use crate::audit::reason::Reason;
use crate::oauth::discrepancy::Discrepancy;
use crate::upstream::fault::{BodyFault, UpstreamFault};

/// The status, the error code and the description.
pub(super) type FailureAnswer = (StatusCode, &'static str, Cow<'static, str>);

/// The reason of a request that its upstream did not answer.
pub(super) fn upstream_failed(fault: &UpstreamFault) -> Reason {
    match fault {
        UpstreamFault::Full => Reason::Overload,
        UpstreamFault::Open | UpstreamFault::Connect(_) => Reason::UpstreamConnect,
        UpstreamFault::Timeout => Reason::UpstreamTimeout,
        UpstreamFault::Protocol(_) | UpstreamFault::Unasked(_) | UpstreamFault::Length => Reason::UpstreamProtocol,
        UpstreamFault::Reset(_) => Reason::UpstreamReset,
        UpstreamFault::RequestBody(fault) => request_body_failed(*fault),
    }
}

/// The values that TLS with the server found and wanted, if a fault of TLS makes the server unreachable.
pub(super) fn tls_discrepancy(fault: &UpstreamFault) -> Option<Discrepancy> {
    let (found, wanted) = fault.tls_fault()?.found_and_wanted();
    Some(Discrepancy::new(found, wanted))
}

/// Also for an answer that had begun when it failed.
pub(crate) fn request_body_failed(fault: BodyFault) -> Reason {
    match fault {
        BodyFault::TooLarge => Reason::TooLarge,
        BodyFault::Slow => Reason::Timeout,
        BodyFault::Broken => Reason::ClientGone,
        BodyFault::Malformed(_) => Reason::BadRequest,
    }
}

pub(super) fn upstream_answer(fault: &UpstreamFault) -> FailureAnswer {
    let (status, error, description) = match fault {
        UpstreamFault::Full => {
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "the upstream is overloaded")
        }
        UpstreamFault::Open => {
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "the upstream can't be reached just now")
        }
        UpstreamFault::Connect(_) => (StatusCode::BAD_GATEWAY, "bad_gateway", "the upstream can't be reached"),
        UpstreamFault::Timeout => {
            (StatusCode::GATEWAY_TIMEOUT, "gateway_timeout", "the upstream did not answer in time")
        }
        UpstreamFault::Protocol(_) | UpstreamFault::Unasked(_) | UpstreamFault::Length => {
            (StatusCode::BAD_GATEWAY, "bad_gateway", "the upstream's answer is not valid")
        }
        UpstreamFault::Reset(_) => (StatusCode::BAD_GATEWAY, "bad_gateway", "the upstream's answer is incomplete"),
        UpstreamFault::RequestBody(fault) => return body_answer(*fault),
    };
    (status, error, description.into())
}

pub(super) fn body_answer(fault: BodyFault) -> FailureAnswer {
    let (status, description) = match fault {
        BodyFault::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large".into()),
        BodyFault::Slow => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time".into()),
        BodyFault::Broken => (StatusCode::BAD_REQUEST, "the body is incomplete".into()),
        BodyFault::Malformed(fault) => (StatusCode::BAD_REQUEST, fault.to_string().into()),
    };
    (status, "invalid_request", description)
}
