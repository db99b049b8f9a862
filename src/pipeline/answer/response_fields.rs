//! The header fields that every response carries besides its own.

use std::sync::Arc;

use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::limit_headers::announce;
use crate::pipeline::policy::limits::Counts;
use crate::pipeline::request::headers::X_REQUEST_ID;
use crate::pipeline::request::request_id::RequestId;
use crate::pipeline::routing::rate_limit::RateLimit;
use crate::pipeline::routing::route::Route;

/// What a request has brought about that its response is to say, whichever response it gets.
#[derive(Debug, Default)]
pub(crate) struct ResponseFields {
    /// The origin whose pages may read the response, where the route has rules for other origins.
    pub(crate) granted_origin: Option<HeaderValue>,
    /// What was counted against the limits of the matched rule.
    pub(crate) counts: Counts,
    /// The request asks for another protocol than HTTP. If it is refused, the two sides may disagree on the protocol of the bytes
    /// that follow.
    pub(crate) asks_to_switch: bool,
}

impl ResponseFields {
    /// Adds the fields that the route sets.
    pub(crate) fn apply_response_rules(&self, route: &Route, headers: &mut HeaderMap, is_refusal: bool) {
        route.apply_response_rules(headers, is_refusal, self.granted_origin.as_ref());
    }

    /// Adds the fields that every response carries.
    pub(crate) fn add_standard_headers(
        &self,
        request_id: &RequestId,
        limits: &[Arc<RateLimit>],
        status: StatusCode,
        headers: &mut HeaderMap,
    ) {
        headers.insert(X_REQUEST_ID, request_id.header());
        if self.asks_to_switch && status != StatusCode::SWITCHING_PROTOCOLS {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        announce(limits, self.counts.by_limit(), headers);
    }
}
