//! Passes a permitted request on to its upstream, and the answer back.
//!
//! Takes a [`Permit`], which only `authorize` makes. The request line comes from the canonical request alone; bodies are streamed both ways.

use std::pin::pin;
use std::rc::Rc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, FORWARDED, TE, TRANSFER_ENCODING, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::answer::Content;
use super::authorize::Permit;
use super::canonical::CanonicalRequest;
use super::cors;
use super::grpc;
use super::headers::{
    X_AUTH_CLIENT_ID, X_AUTH_ISSUER, X_AUTH_SCOPE, X_AUTH_SUBJECT, X_FORWARDED_FOR, X_FORWARDED_HOST,
    X_FORWARDED_PROTO, X_REQUEST_ID,
};
use super::limits::ABSENT;
use super::peer::Peer;
use super::rejection::Rejection;
use super::request_id::RequestId;
use super::trailers;
use super::worker::Worker;
use crate::oauth::caller::Digest;
use crate::server::connection_limiter::network;
use crate::server::limits::Limits;
use crate::upstream::body::body_timeouts::BodyTimeouts;
use crate::upstream::body::request_body::{IncomingUpload, RequestBody, has_payload};
use crate::upstream::connection_binding::{ConnectionBinding, PinScope};
use crate::upstream::exchange::Deadlines;
use crate::upstream::fault::UpstreamFault;
use crate::upstream::service::Upstream;
use crate::upstream::settings::Balance;

/// What goes with a request, besides the request itself.
pub(crate) struct ForwardContext<'p> {
    pub(crate) to: &'p Upstream,
    pub(crate) worker: &'p Rc<Worker>,
    pub(crate) from: &'p Peer,
    pub(crate) request: &'p CanonicalRequest,
    pub(crate) request_id: &'p RequestId,
    pub(crate) limits: &'p Limits,
    /// Until when a gRPC caller waits.
    pub(crate) deadline: Option<Instant>,
    /// The client reads trailers, which an HTTP/2 upstream is told.
    pub(crate) reads_trailers: bool,
    /// The request says that a proxy has passed it on, trusted or not.
    pub(crate) is_relayed: bool,
}

/// `head.headers` has been stripped of what stays behind.
pub(crate) async fn forward(
    permit: Permit<'_>,
    passage: ForwardContext<'_>,
    head: Parts,
    upload: &mut IncomingUpload,
) -> Result<Response<Content>, Rejection> {
    let route = permit.route();
    let least = upload.incoming.as_ref().map_or(0, |body| body.size_hint().lower());
    if route.body_bytes.is_some_and(|limit| least > limit) {
        return Err(Rejection::TooLarge);
    }
    // Before the headers are ours.
    let key = hash_key(&passage, &head.headers, &permit);
    let body_idle = route.body_idle.unwrap_or(passage.limits.body_idle_timeout);
    let by_http2 = passage.to.speaks_http2();
    // Messages of a call may come as rarely as there is something to say.
    let min_rate = passage.limits.min_body_rate.filter(|_| !(by_http2 && grpc::is_call(&head)));
    let patience = BodyTimeouts { idle: body_idle, min_rate };
    let (mut body, progress) = RequestBody::new(upload, route.body_bytes, patience, trailers::strip_request);
    // What an HTTP/2 upstream says on the way is not heard.
    let go_ahead = (upload.is_awaiting && !by_http2).then(|| body.wait());
    let is_open = !body.is_end_stream() && body.size_hint().exact().is_none();
    if is_open && head.version == Version::HTTP_2 && !has_payload(&head.method) {
        // Boxed, so that no other request has room for it.
        Box::pin(body.begin()).await.map_err(UpstreamFault::RequestBody)?;
    }
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = head.method;
    *outgoing.uri_mut() = route.upstream_uri(passage.request)?;
    *outgoing.headers_mut() = head.headers;
    if !outgoing.body().is_end_stream() && outgoing.body().size_hint().exact().is_none() {
        // Said here, because for GET and HEAD hyper takes a body of unknown length for none.
        outgoing.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    set_forwarding_headers(outgoing.headers_mut(), &permit, &passage, head.version);
    let bond = bond(&permit, &passage, outgoing.headers(), head.version);
    if let Some(mirror) = &route.mirror {
        mirror.copy(passage.worker, &mut outgoing, &bond);
    }
    if passage.reads_trailers && by_http2 {
        outgoing.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(go_ahead) = &go_ahead {
        go_ahead.ask(&mut outgoing);
    }
    let deadlines = Deadlines { response: route.timeout.unwrap_or(passage.to.settings.response_timeout), body_idle };
    let waits = passage.deadline.map(|_| Rc::clone(&progress));
    let mut sending = pin!(passage.worker.pools().send(passage.to, outgoing, progress, deadlines, key, bond));
    let answer = match passage.deadline {
        None => sending.await?,
        Some(deadline) => match timeout_at(deadline, &mut sending).await {
            Ok(answer) => answer?,
            Err(_) => return Err(waits.map_or(UpstreamFault::Timeout, |progress| progress.timeout()).into()),
        },
    };
    let mut answer = answer.map(Box::new);
    if let Some(deadline) = passage.deadline {
        let is_call = grpc::is_answer(answer.headers());
        answer.body_mut().until(deadline, is_call);
    }
    if let Some(go_ahead) = go_ahead {
        answer.body_mut().answers(go_ahead);
    }
    let mut answer = answer.map(Content::Streamed);
    trailers::strip_head_of_answer(answer.headers_mut());
    if route.cors.is_some() {
        cors::strip(answer.headers_mut());
    }
    *answer.version_mut() = Version::default();
    Ok(answer)
}

/// What the upstream is balanced by, where it is by the request; `None` where the request has nothing of that.
pub(super) fn hash_key(passage: &ForwardContext<'_>, headers: &HeaderMap, permit: &Permit<'_>) -> Option<Digest> {
    let Balance::Hash(per) = &passage.to.settings.balance else {
        return None;
    };
    Some(per.key(passage.from.address, headers, permit.caller())).filter(|key| *key != ABSENT)
}

/// How a request is tied to the connection that it came by. On a protected route that connection may be of several callers.
fn bond<'p>(
    permit: &Permit<'p>,
    passage: &ForwardContext<'p>,
    headers: &HeaderMap,
    version: Version,
) -> ConnectionBinding<'p> {
    let (route, from) = (permit.route(), passage.from);
    let is_public = permit.caller().is_none();
    let tie = PinScope { pins: &from.pins, route: &route.name, address: network(from.address) };
    let may_stay = is_public && version == Version::HTTP_11 && from.is_direct_client() && !passage.is_relayed;
    ConnectionBinding::new((is_public || route.forward_token).then_some(headers), may_stay.then_some(tie))
}

/// Says to the upstream who is calling and by which way, after whatever others have said was removed.
pub(super) fn set_forwarding_headers(
    headers: &mut HeaderMap,
    permit: &Permit<'_>,
    passage: &ForwardContext<'_>,
    version: Version,
) {
    let (route, from, authority) = (permit.route(), passage.from, &passage.request.authority);
    // The connection to the upstream frames the body anew.
    headers.remove(CONTENT_LENGTH);
    if permit.caller().is_some() && !route.forward_token {
        headers.remove(AUTHORIZATION);
    }
    route.request_headers.apply(headers);
    headers.reserve(MAX_ADDED);
    headers.insert(X_FORWARDED_FOR, from.forwarded_for.clone());
    headers.insert(X_FORWARDED_PROTO, from.proto());
    headers.insert(X_FORWARDED_HOST, authority.header.clone());
    headers.insert(FORWARDED, from.forwarded(authority));
    headers.insert(VIA, via(version));
    headers.insert(X_REQUEST_ID, passage.request_id.header());
    if let Some(verified) = permit.caller() {
        let caller = &verified.caller;
        if let Some(client) = &caller.client {
            headers.insert(X_AUTH_CLIENT_ID, client.header().clone());
        }
        headers.insert(X_AUTH_SUBJECT, caller.subject.header().clone());
        headers.insert(X_AUTH_SCOPE, caller.scope_header.clone());
        headers.insert(X_AUTH_ISSUER, caller.issuer_header.clone());
    }
}

/// How many fields [`set_forwarding_headers`] adds at most, and `Host`.
const MAX_ADDED: usize = 11;

/// RFC 9110 §7.6.3.
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 portcullis",
        Version::HTTP_2 => "2 portcullis",
        _ => "1.1 portcullis",
    })
}
