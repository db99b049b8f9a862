//! The header fields that every response carries besides its own.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::pipeline::request::headers::X_REQUEST_ID;
use crate::pipeline::request::request_id::RequestId;

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Facts of a request that every answer to it must show.
#[derive(Debug, Default)]
pub(crate) struct ResponseFields {
    /// The origin whose pages may read the answer, where the route has cross-origin rules.
    pub(crate) granted_origin: Option<HeaderValue>,
    /// The request asks for another protocol than HTTP. If it is refused, the two sides may disagree on the protocol of
    /// the bytes that follow.
    pub(crate) asks_to_switch: bool,
    /// The nonce that the client should use in its next DPoP proof, where that is another one.
    pub(crate) dpop_nonce: Option<HeaderValue>,
}

impl ResponseFields {
    /// Adds the fields that every response carries.
    pub(crate) fn add_standard_headers(&self, request_id: &RequestId, status: StatusCode, headers: &mut HeaderMap) {
        headers.insert(X_REQUEST_ID, request_id.header());
        if let Some(nonce) = &self.dpop_nonce {
            headers.insert(DPOP_NONCE, nonce.clone());
        }
        if self.asks_to_switch && status != StatusCode::SWITCHING_PROTOCOLS {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}
