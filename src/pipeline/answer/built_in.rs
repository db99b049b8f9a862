//! The endpoints that we answer ourselves: token, revocation, JWK Set, issuer metadata.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, PRAGMA};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::content::Content;
use super::rejection::Rejection;
use crate::clock;
use crate::issuer::metadata::CachedDocument;
use crate::issuer::revocation::Revoked;
use crate::pipeline::corridor::count_address;
use crate::pipeline::record::request_log::RequestLog;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::peer::{ListenerMode, Peer};
use crate::pipeline::routing::snapshot::{BuiltIn, OwnIssuer, Snapshot};

/// Larger token requests are refused.
const MAX_TOKEN_REQUEST: usize = 16 * 1024;
/// A token request is small: all of it is here soon, or it is an attack.
const TOKEN_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) async fn answer(
    snapshot: &Snapshot,
    (oauth, built_in): (&OwnIssuer, BuiltIn),
    peer: &Peer,
    log: &mut RequestLog,
    request: &CanonicalRequest,
    head: &Parts,
    body: &mut Option<Incoming>,
) -> Result<Response<Content>, Rejection> {
    match built_in {
        BuiltIn::Jwks => document(&request.method, head, oauth.server.jwks(), log),
        BuiltIn::Metadata => document(&request.method, head, oauth.server.metadata(), log),
        BuiltIn::Token => token(oauth, peer, log, request, head, body).await,
        BuiltIn::Revocation => revoke(snapshot, oauth, peer, log, request, head, body).await,
    }
}

fn document(
    method: &Method,
    head: &Parts,
    document: CachedDocument,
    log: &mut RequestLog,
) -> Result<Response<Content>, Rejection> {
    if *method != Method::GET && *method != Method::HEAD {
        return Err(Rejection::MethodNotAllowed(HeaderValue::from_static("GET, HEAD")));
    }
    log.allowed();
    let held = head.headers.get_all(IF_NONE_MATCH).iter().any(|tags| document.is_held(tags));
    let mut response = if held {
        let mut unchanged = Response::new(Content::whole(Bytes::new()));
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        let mut whole = Response::new(Content::whole(document.json));
        whole.headers_mut().insert(CONTENT_TYPE, JSON);
        whole
    };
    response.headers_mut().insert(CACHE_CONTROL, document.cache_control);
    response.headers_mut().insert(ETAG, document.etag);
    Ok(response)
}

async fn token(
    oauth: &OwnIssuer,
    peer: &Peer,
    log: &mut RequestLog,
    request: &CanonicalRequest,
    head: &Parts,
    body: &mut Option<Incoming>,
) -> Result<Response<Content>, Rejection> {
    admit(oauth, peer, log, request)?;
    // A token that can't be recorded is not issued.
    log.reserve()?;
    let body = collect(body.take()).await?;
    // A body may take its time: what is judged is judged when it is there.
    let now = clock::now();
    let issued = oauth.server.token(&head.headers, request.query(), &body, peer.source_address(), now).await?;
    let mut response = Response::new(Content::whole(issued.body.clone()));
    log.granted(issued);
    log.commit(response.status()).await?;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}

async fn revoke(
    snapshot: &Snapshot,
    oauth: &OwnIssuer,
    peer: &Peer,
    log: &mut RequestLog,
    request: &CanonicalRequest,
    head: &Parts,
    body: &mut Option<Incoming>,
) -> Result<Response<Content>, Rejection> {
    admit(oauth, peer, log, request)?;
    // Ending trust can't wait for the log.
    log.reserve_if_roomy();
    let body = collect(body.take()).await?;
    let with = (&snapshot.trust, &oauth.revoker);
    match oauth.server.revoke(with, &head.headers, request.query(), &body, peer.source_address(), clock::now()).await? {
        Revoked::Token(verified) => log.caller(&verified),
        Revoked::Nothing { client } => log.client(client),
    }
    log.allowed();
    let mut response = Response::new(Content::whole(""));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What takes client secrets takes them where nobody else can read them, and not too often.
fn admit(oauth: &OwnIssuer, peer: &Peer, log: &mut RequestLog, request: &CanonicalRequest) -> Result<(), Rejection> {
    if peer.entrance == (ListenerMode::Plain { loopback: false }) {
        return Err(Rejection::ClearText);
    }
    if request.method != Method::POST {
        return Err(Rejection::MethodNotAllowed(HeaderValue::from_static("POST")));
    }
    count_address(&oauth.token_limits, peer, log)
}

async fn collect(body: Option<Incoming>) -> Result<Bytes, Rejection> {
    let Some(body) = body else {
        return Ok(Bytes::new());
    };
    let whole = timeout(TOKEN_REQUEST_TIMEOUT, Limited::new(body, MAX_TOKEN_REQUEST).collect()).await;
    match whole {
        Err(_) => Err(Rejection::BodyTimeout),
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Rejection::TooLarge),
        Ok(Err(_)) => Err(Rejection::ClientGone),
    }
}
