//! The reasons of requests that failed at their upstream.
//!
//! Part of [`super::rejection`], which builds the answers.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::audit::reason::Reason;
use crate::upstream::fault::{BodyFault, UpstreamFault};

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

/// Also for an answer that had begun when it failed.
pub(crate) fn request_body_failed(fault: BodyFault) -> Reason {
    match fault {
        BodyFault::TooLarge => Reason::TooLarge,
        BodyFault::Slow => Reason::Timeout,
        BodyFault::Broken => Reason::ClientGone,
        BodyFault::Malformed(_) => Reason::BadRequest,
    }
}
