//! A request that can be sent a second time, once it was sent.
//!
//! Only a request without a body that cannot have had an effect: its method is safe (RFC 9110 §9.2.1). PUT and DELETE
//! are idempotent and yet not sent again: a write of another client in between would be overwritten.

use std::time::Duration;

use http::Method;
use http_body::Body as _;

use super::request::UpstreamRequest;
use super::settings::Retries;

/// A connection without a request for this long may be about to be closed by the upstream; upstreams that close idle
/// connections wait longer.
pub(super) const IDLE_FOR: Duration = Duration::from_millis(500);

/// True if a request can be sent again once it was sent.
pub(super) fn is_replayable(request: &UpstreamRequest, rules: &Retries) -> bool {
    let is_safe = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    is_safe && rules.attempts > 0 && request.body.is_end_stream()
}
