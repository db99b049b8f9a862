//! The response to a CORS preflight (Fetch standard, "CORS protocol").

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, HeaderName, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::content::Content;
use super::response_fields::ResponseFields;
use crate::audit::reason::Reason;
use crate::pipeline::record::open_request::OpenRequest;
use crate::pipeline::routing::cors::{Cors, insert_list};

/// Answers the preflight of a request with this method. It carries no credentials, and its response grants nothing but
/// permission to send the request.
pub(crate) fn answer(
    cors: &Cors,
    requested: &Method,
    open: &mut OpenRequest,
    fields: &mut ResponseFields,
    headers: &HeaderMap,
) -> Response<Content> {
    let is_allowed = fields.granted_origin.is_some() && cors.allows(requested, headers);
    if is_allowed {
        open.reserve_if_roomy();
        open.log.allowed();
    } else {
        fields.granted_origin = None;
        open.log.ended_by(Reason::OriginNotAllowed);
    }
    preflight(cors, is_allowed)
}

/// Tells a browser which requests its pages may send. `Cors::finish` adds the origin.
fn preflight(cors: &Cors, is_allowed: bool) -> Response<Content> {
    let mut response = Response::new(Content::whole(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"));
    if is_allowed {
        insert_list(headers, ACCESS_CONTROL_ALLOW_METHODS, cors.methods.names());
        insert_list(headers, ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.iter().map(HeaderName::as_str));
        headers.insert(ACCESS_CONTROL_MAX_AGE, cors.max_age.into());
    }
    response
}
