//! The response to a CORS preflight (Fetch standard, "CORS protocol").

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, HeaderName, VARY,
};
use http::{HeaderValue, Response, StatusCode};

use super::content::Content;
use crate::pipeline::routing::cors::{Cors, insert_list};

/// Tells a browser which requests its pages may send. `Cors::finish` adds the origin.
pub(crate) fn preflight(cors: &Cors, is_allowed: bool) -> Response<Content> {
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
