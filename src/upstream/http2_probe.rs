//! The request of a health check or of `check --connect` over HTTP/2.

use bytes::Bytes;
use http::header::USER_AGENT;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Empty;

use super::http1_probe::PRODUCT_NAME;
use super::server::Server;
use super::service_credential::ServiceCredential;

/// A request without a body. `host` is its `:authority`.
pub(super) fn request(
    server: &Server,
    method: Method,
    host: &HeaderValue,
    path: &PathAndQuery,
    credential: Option<&ServiceCredential>,
) -> http::Result<Request<Empty<Bytes>>> {
    let scheme = if server.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(path.clone());
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = uri.build()?;
    request.headers_mut().insert(USER_AGENT, PRODUCT_NAME);
    if let Some(credential) = credential {
        request.headers_mut().insert(credential.name().clone(), credential.value().clone());
    }
    Ok(request)
}
