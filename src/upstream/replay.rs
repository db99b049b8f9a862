//! A request that can be sent a second time, once it was sent.
//!
//! Only a request without a body that cannot have had an effect: its method is safe (RFC 9110 §9.2.1). PUT and DELETE
//! are idempotent and yet not sent again: a write of another client in between would be overwritten.

use std::time::Duration;

use http::{HeaderMap, Method, Request, Uri};
use hyper::body::Body as _;

use super::body::request_body::RequestBody;
use super::settings::Retries;

#[derive(Debug)]
pub(super) struct ReplayableHead {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

/// A connection without a request for this long may be about to be closed by the upstream; upstreams that close idle
/// connections wait longer.
pub(super) const IDLE_FOR: Duration = Duration::from_millis(500);

impl ReplayableHead {
    pub(super) fn of(request: &Request<RequestBody>) -> Self {
        Self { method: request.method().clone(), uri: request.uri().clone(), headers: request.headers().clone() }
    }

    pub(super) fn with(self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}

/// True if a request can be sent again once it was sent.
pub(super) fn is_replayable(request: &Request<RequestBody>, rules: &Retries) -> bool {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    is_safe && rules.attempts > 0 && request.body().is_end_stream()
}
