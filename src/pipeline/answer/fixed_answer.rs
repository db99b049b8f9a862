//! Answers of the gateway itself: redirects and fixed texts of the configuration, and the answer to OPTIONS.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};

use super::content::Content;
use crate::pipeline::request::ambiguous::Ambiguous;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::routing::header_rules::own_copy;
use crate::pipeline::routing::pattern::PathPattern;
use crate::pipeline::routing::target::FixedAnswer;

/// To an OPTIONS request about the gateway and not about a resource behind it (RFC 9110 §9.3.7).
pub(crate) fn answer_options() -> Response<Content> {
    let mut response = Response::new(Content::whole(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// `pattern` is that of the route whose answer it is.
pub(crate) fn answer(
    own: &FixedAnswer,
    pattern: &PathPattern,
    request: &CanonicalRequest,
) -> Result<Response<Content>, Ambiguous> {
    match own {
        FixedAnswer::Redirect { origin, path, status } => {
            let target = request.target_at(&path.path(&pattern.spell(request))?)?;
            // Both were parsed as parts of a request line: they contain no line break.
            let location = HeaderValue::try_from(format!("{origin}{target}")).map_err(|_| Ambiguous::Character)?;
            let mut response = Response::new(Content::whole(""));
            *response.status_mut() = *status;
            response.headers_mut().insert(LOCATION, location);
            Ok(response)
        }
        FixedAnswer::Fixed { status, content_type, body } => {
            // The reference count of a shared buffer would be changed by all cores.
            let mut response = Response::new(Content::whole(Bytes::copy_from_slice(body)));
            *response.status_mut() = *status;
            if let Some(content_type) = content_type {
                response.headers_mut().insert(CONTENT_TYPE, own_copy(content_type));
            }
            Ok(response)
        }
    }
}
