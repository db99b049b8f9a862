//! The gateway's own endpoints: token, revocation, introspection, authorization, JWK Set, issuer metadata, and documents
//! about resources.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, PRAGMA,
};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::timeout;

use super::content::Content;
use super::count_limits::count_client;
use super::rejection::Rejection;
use super::response_fields::ResponseFields;
use super::token_binding::confirmation;
use crate::clock::{self, UnixTime};
use crate::issuer::authorization_server::EndpointRequest;
use crate::issuer::introspection::IntrospectedToken;
use crate::issuer::metadata::CachedDocument;
use crate::issuer::revocation::Revoked;
use crate::oauth::observer::Unobserved;
use crate::pipeline::policy::proof_check::ProofRequest;
use crate::pipeline::record::open_request::OpenRequest;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::peer::Peer;
use crate::pipeline::routing::own_hosts::ProofHosts;
use crate::pipeline::routing::resource::ProtectedResource;
use crate::pipeline::routing::snapshot::{BuiltIn, BuiltInEndpoint, OwnIssuer, Snapshot};
use crate::server::received_request::ReceivedHead;
use crate::upstream::body::drain_body::ClientBody;

/// Larger token requests are refused.
const MAX_TOKEN_REQUEST: usize = 16 * 1024;
/// A token request is small: a client that needs longer to send it is an attacker.
const TOKEN_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BY_PAGES: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Client secrets are accepted only where no third party can read them.
pub(crate) fn admit(built_in: BuiltIn, peer: &Peer, method: &Method) -> Result<(), Rejection> {
    match built_in {
        BuiltIn::Jwks | BuiltIn::Metadata if *method == Method::GET || *method == Method::HEAD => Ok(()),
        BuiltIn::Jwks | BuiltIn::Metadata => Err(Rejection::MethodNotAllowed(HeaderValue::from_static("GET, HEAD"))),
        // RFC 6749 §3.1 lets clients use either.
        BuiltIn::Authorization if matches!(*method, Method::GET | Method::HEAD | Method::POST) => {
            Err(Rejection::NoResponseType)
        }
        BuiltIn::Authorization => Err(Rejection::MethodNotAllowed(HeaderValue::from_static("GET, HEAD, POST"))),
        BuiltIn::Resource if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) => Ok(()),
        BuiltIn::Resource => Err(Rejection::MethodNotAllowed(READ_BY_PAGES)),
        BuiltIn::Token | BuiltIn::Revocation | BuiltIn::Introspection if !peer.keeps_secrets() => {
            Err(Rejection::ClearText)
        }
        BuiltIn::Token | BuiltIn::Revocation | BuiltIn::Introspection if *method == Method::POST => Ok(()),
        BuiltIn::Token | BuiltIn::Revocation | BuiltIn::Introspection => {
            Err(Rejection::MethodNotAllowed(HeaderValue::from_static("POST")))
        }
    }
}

/// The request was admitted and counted.
pub(crate) async fn answer(
    snapshot: &Snapshot,
    endpoint: BuiltInEndpoint<'_>,
    peer: &Peer,
    open: &mut OpenRequest,
    fields: &mut ResponseFields,
    (request, head): (&CanonicalRequest, &ReceivedHead),
    body: &mut Option<ClientBody>,
) -> Result<Response<Content>, Rejection> {
    match endpoint {
        BuiltInEndpoint::Jwks(oauth) => Ok(document(head, oauth.server.jwks(), open)),
        BuiltInEndpoint::Metadata(oauth) => Ok(document(head, oauth.server.metadata(), open)),
        BuiltInEndpoint::Authorization => Err(Rejection::NoResponseType),
        BuiltInEndpoint::Token(oauth) => token((snapshot, oauth), peer, open, fields, (request, head), body).await,
        BuiltInEndpoint::Revocation(oauth) => revoke(snapshot, oauth, peer, open, request, head, body).await,
        BuiltInEndpoint::Introspection(oauth) => introspect(snapshot, oauth, peer, open, request, head, body).await,
        BuiltInEndpoint::Resource(resource) => Ok(describe(resource, head, open)),
    }
}

/// A resource document, which pages of any origin may read. Browsers ask before they send the fields of a
/// client of the Model Context Protocol.
fn describe(resource: &ProtectedResource, head: &ReceivedHead, open: &mut OpenRequest) -> Response<Content> {
    let mut response = if head.method == Method::OPTIONS {
        open.log.allowed();
        let mut granted = Response::new(Content::whole(Bytes::new()));
        *granted.status_mut() = StatusCode::NO_CONTENT;
        let headers = granted.headers_mut();
        headers.insert(ALLOW, READ_BY_PAGES);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        granted
    } else {
        document(head, resource.document.clone(), open)
    };
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn document(head: &ReceivedHead, document: CachedDocument, open: &mut OpenRequest) -> Response<Content> {
    open.log.allowed();
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
    response
}

async fn token(
    (snapshot, oauth): (&Snapshot, &OwnIssuer),
    peer: &Peer,
    open: &mut OpenRequest,
    fields: &mut ResponseFields,
    (request, head): (&CanonicalRequest, &ReceivedHead),
    body: &mut Option<ClientBody>,
) -> Result<Response<Content>, Rejection> {
    // A token is not issued if its audit record cannot be written.
    open.reserve()?;
    let body = collect(body.take()).await?;
    // A body may take long to arrive: times are checked against the clock after it has.
    let now = clock::now();
    let grant = oauth.server.decide(endpoint_request(snapshot, peer, request, head, &body, now)).await?;
    let proof = ProofRequest {
        rules: &snapshot.proofs,
        headers: &head.headers,
        request,
        origin: peer.public_origin(&request.authority),
        hosts: ProofHosts { own: &snapshot.own_hosts, of_route: &[] },
        now,
    };
    let certificate = peer.thumbprint(now);
    let confirmation = confirmation(&grant, &proof, certificate, fields).await.inspect_err(|_| {
        open.log.client(grant.client().clone());
    })?;
    let grant = oauth.server.redeem(grant, now).await?;
    open.log.client(grant.client().clone());
    count_client(snapshot, grant.client(), open, &mut Unobserved).await?;
    let issued = oauth.server.issue(grant, confirmation, now).await?;
    let mut response = not_stored(issued.body.clone());
    open.granted(issued);
    open.commit(response.status()).await?;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}

async fn revoke(
    snapshot: &Snapshot,
    oauth: &OwnIssuer,
    peer: &Peer,
    open: &mut OpenRequest,
    request: &CanonicalRequest,
    head: &ReceivedHead,
    body: &mut Option<ClientBody>,
) -> Result<Response<Content>, Rejection> {
    // A revocation does not wait for the audit log.
    open.reserve_if_roomy();
    let body = collect(body.take()).await?;
    let request = endpoint_request(snapshot, peer, request, head, &body, clock::now());
    match oauth.server.revoke(&oauth.revoker, request).await? {
        Revoked::Token(verified) => open.log.caller(&verified),
        Revoked::Nothing { client } => open.log.client(client),
    }
    open.log.allowed();
    Ok(not_stored(""))
}

async fn introspect(
    snapshot: &Snapshot,
    oauth: &OwnIssuer,
    peer: &Peer,
    open: &mut OpenRequest,
    request: &CanonicalRequest,
    head: &ReceivedHead,
    body: &mut Option<ClientBody>,
) -> Result<Response<Content>, Rejection> {
    // Nothing is said of a token if that cannot be recorded.
    open.reserve()?;
    let body = collect(body.take()).await?;
    let request = endpoint_request(snapshot, peer, request, head, &body, clock::now());
    let IntrospectedToken { body, client, token_id } = oauth.server.introspect(&snapshot.trust, request).await?;
    open.log.asked_about(client, token_id);
    open.log.allowed();
    let mut response = not_stored(body);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

/// An answer that no cache may keep.
fn not_stored(body: impl Into<Bytes>) -> Response<Content> {
    let mut response = Response::new(Content::whole(body));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn endpoint_request<'r>(
    snapshot: &'r Snapshot,
    peer: &'r Peer,
    request: &'r CanonicalRequest,
    head: &'r ReceivedHead,
    body: &'r [u8],
    now: UnixTime,
) -> EndpointRequest<'r> {
    let (from, trust, certificate) = (peer.source_address(), &snapshot.trust, peer.certificate());
    EndpointRequest { headers: &head.headers, query: request.query(), body, from, certificate, now, trust }
}

async fn collect(body: Option<ClientBody>) -> Result<Bytes, Rejection> {
    let Some(body) = body else {
        return Ok(Bytes::new());
    };
    let whole = timeout(TOKEN_REQUEST_TIMEOUT, Limited::new(body, MAX_TOKEN_REQUEST).collect()).await;
    match whole {
        Err(_) => Err(Rejection::BodyTimeout),
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Rejection::TooLarge),
        Ok(Err(error)) => Err(error.downcast_ref().map_or(Rejection::ClientGone, |fault| Rejection::Wire(*fault))),
    }
}
