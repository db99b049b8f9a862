//! Forwards a permitted request to its upstream, and returns the answer.
//!
//! Takes a [`Permit`], which only `authorize` makes. The request line comes from the canonical request alone; bodies
//! are streamed both ways.

use std::pin::pin;
use std::rc::Rc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version};
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::content::Content;
use super::grpc;
use super::map_response::ResponseMapping;
use super::mirror::{self, Mirrors};
use super::rejection::Rejection;
use crate::http1::field_block::FieldBlock;
use crate::network::counted_network;
use crate::oauth::caller::Digest;
use crate::pipeline::policy::authorize::Permit;
use crate::pipeline::policy::proof_check::DPOP;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::headers::{
    FieldFault, X_AUTH_CLIENT_ID, X_AUTH_ISSUER, X_AUTH_SCOPE, X_AUTH_SUBJECT, X_REQUEST_ID, strip_request,
};
use crate::pipeline::request::max_forwards::count_hop;
use crate::pipeline::request::peer::Peer;
use crate::pipeline::request::request_id::RequestId;
use crate::pipeline::request::trailers;
use crate::pipeline::routing::cors;
use crate::pipeline::routing::field_conditions::ConditionFields;
use crate::pipeline::routing::route::Route;
use crate::server::limits::Limits;
use crate::server::received_request::ReceivedHead;
use crate::trust::request_key::ABSENT;
use crate::trust::token_fields::TokenFields;
use crate::trust::verify::{Trust, Verified};
use crate::upstream::body::body_timeouts::BodyTimeouts;
use crate::upstream::body::request_body::{BufferFault, IncomingUpload, RequestBody, StripTrailers, has_payload};
use crate::upstream::connection_binding::{ConnectionBinding, PinScope};
use crate::upstream::exchange::Deadlines;
use crate::upstream::fault::{BodyFault, UpstreamFault};
use crate::upstream::host::RequestHost;
use crate::upstream::pools::Pools;
use crate::upstream::request::{AddedFields, UpstreamRequest};
use crate::upstream::response_body::ResponseBody;
use crate::upstream::service::Upstream;
use crate::upstream::settings::Balance;

/// The parts that forwarding needs besides the request itself.
pub(crate) struct ForwardContext<'p> {
    pub(crate) to: &'p Upstream,
    pub(crate) pools: &'p Rc<Pools>,
    pub(crate) mirrors: &'p Rc<Mirrors>,
    pub(crate) from: &'p Peer,
    pub(crate) request: &'p CanonicalRequest,
    pub(crate) request_id: &'p RequestId,
    pub(crate) limits: &'p Limits,
    pub(crate) trust: &'p Trust,
    /// They are not forwarded as trailers.
    pub(crate) conditions: &'p ConditionFields,
    pub(crate) call: CallFacts,
}

/// Facts of the call, read from the head before its hop-by-hop fields are removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallFacts {
    /// The deadline of a gRPC caller.
    deadline: Option<Instant>,
    /// The client reads trailers. The request to an HTTP/2 upstream says so.
    reads_trailers: bool,
    /// The request says that a proxy, trusted or not, has forwarded it.
    is_relayed: bool,
    /// False if it says that no further proxy may forward it.
    pub(crate) may_be_forwarded: bool,
    pub(crate) is_grpc: bool,
}

impl ForwardContext<'_> {
    /// The `Host` of the request, or of its copy, to this upstream.
    pub(super) fn host_at(&self, upstream: &Upstream, route: &Route) -> RequestHost {
        upstream.settings.host.for_request(route.host.as_ref(), || self.request.authority.canonical())
    }
}

impl CallFacts {
    /// Reads the facts, and removes the fields that are not forwarded.
    pub(crate) fn take(
        head: &mut ReceivedHead,
        token_fields: &TokenFields,
        may_speak_http2: bool,
    ) -> Result<Self, FieldFault> {
        let is_grpc = grpc::is_call(head);
        let deadline = if is_grpc { grpc::deadline(&head.headers)? } else { None };
        let reads_trailers = may_speak_http2 && trailers::are_asked_for(&head.headers);
        let is_relayed = strip_request(&mut head.headers, token_fields)?;
        let may_be_forwarded = count_hop(&head.method, &mut head.headers);
        Ok(Self { deadline, reads_trailers, is_relayed, may_be_forwarded, is_grpc })
    }
}

/// `head.headers` has only fields that may be forwarded.
pub(crate) async fn forward(
    permit: Permit<'_>,
    context: ForwardContext<'_>,
    head: ReceivedHead,
    upload: &mut IncomingUpload,
) -> Result<Response<Content>, Rejection> {
    let route = permit.route();
    let least = upload.incoming.as_ref().map_or(0, |body| body.size_hint().lower());
    if route.body_bytes.is_some_and(|limit| least > limit) {
        return Err(Rejection::TooLarge);
    }
    // The key is read from the client's headers, before the gateway changes them.
    let key = hash_key(&context, &head.headers, &permit);
    let body_idle = route.body_idle.unwrap_or(context.limits.body_idle_timeout);
    let by_http2 = context.to.speaks_http2();
    // The messages of a gRPC call may be far apart: there is no minimum rate.
    let min_rate = context.limits.min_body_rate.filter(|_| !(by_http2 && grpc::is_call(&head)));
    let timeouts = BodyTimeouts { idle: body_idle, min_rate };
    let (mut body, progress) = RequestBody::new(
        upload,
        route.body_bytes,
        timeouts,
        strip_trailers(context.trust.token_fields(), context.conditions),
    );
    let is_open = !body.is_end_stream() && body.size_hint().exact().is_none();
    let buffer = route.buffer_request.filter(|_| is_open);
    // Interim responses of an HTTP/2 upstream are not read. Reading a body that is buffered makes the server send
    // `100 Continue`.
    let expect_continue = (upload.is_awaiting && !by_http2 && buffer.is_none()).then(|| body.wait());
    // Boxed to keep the common future small.
    if let Some(limit) = buffer {
        Box::pin(buffered(&mut body, limit, context.call.deadline)).await?;
    } else if is_open && head.version == Version::HTTP_2 && (!by_http2 || !has_payload(&head.method)) {
        Box::pin(body.begin()).await.map_err(UpstreamFault::RequestBody)?;
    }
    let version = head.version;
    let mut outgoing = upstream_request(&permit, &context, head, body)?;
    let binding = binding(&permit, &context, &outgoing.headers, version);
    if let Some(rule) = &route.mirror {
        let host = context.host_at(&rule.upstream, route);
        mirror::copy(rule, (context.pools, context.mirrors), &mut outgoing, (&binding, host));
    }
    ask_for_trailers(&mut outgoing, &context);
    outgoing.continue_sender = expect_continue;
    let deadlines = Deadlines { response: route.timeout.unwrap_or(context.to.settings.response_timeout), body_idle };
    let waits = context.call.deadline.map(|_| Rc::clone(&progress));
    let mut sending = pin!(context.pools.send(context.to, outgoing, progress, deadlines, key, binding));
    let answer = match context.call.deadline {
        None => sending.await?,
        Some(deadline) => match timeout_at(deadline, &mut sending).await {
            Ok(answer) => answer?,
            Err(_) => return Err(waits.map_or(UpstreamFault::Timeout, |progress| progress.timeout()).into()),
        },
    };
    let mut answer = answer.map(Box::new);
    if let Some(deadline) = context.call.deadline {
        let is_call = grpc::is_answer(answer.headers());
        answer.body_mut().until(deadline, is_call);
    }
    clean(&mut answer, route, &context);
    Ok(answer.map(Content::Streamed))
}

/// The request to the upstream with this body, without the fields that the connection to it adds. `head.headers` has
/// only fields that may be forwarded.
#[inline]
pub(crate) fn upstream_request(
    permit: &Permit<'_>,
    context: &ForwardContext<'_>,
    head: ReceivedHead,
    body: RequestBody,
) -> Result<UpstreamRequest, Rejection> {
    let route = permit.route();
    let mut outgoing = UpstreamRequest::new(head.method, route.upstream_target(context.request)?, head.headers, body);
    outgoing.added = prepare_header(&mut outgoing.headers, permit, context);
    outgoing.received_by = Some(head.version);
    outgoing.host = context.host_at(context.to, route);
    Ok(outgoing)
}

/// Says to an upstream that speaks HTTP/2 that the client reads trailers.
pub(crate) fn ask_for_trailers(outgoing: &mut UpstreamRequest, context: &ForwardContext<'_>) {
    if context.call.reads_trailers && context.to.speaks_http2() {
        outgoing.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes the trailers that may not be forwarded, tokens and fields that choose routes included. Without such fields,
/// nothing is allocated.
fn strip_trailers(token_fields: &TokenFields, conditions: &ConditionFields) -> StripTrailers {
    if token_fields.is_empty() && conditions.is_empty() {
        return Box::new(trailers::strip_request);
    }
    let (token_fields, conditions) = (token_fields.clone(), conditions.clone());
    Box::new(move |fields| {
        trailers::strip_request(fields);
        token_fields.remove_alike(fields);
        conditions.remove_alike(fields);
    })
}

/// Waits for the whole body, for a gRPC caller until its deadline at most.
async fn buffered(body: &mut RequestBody, limit: usize, deadline: Option<Instant>) -> Result<(), Rejection> {
    let buffering = body.buffer(limit);
    let ended = match deadline {
        None => buffering.await,
        Some(deadline) => {
            let in_time = timeout_at(deadline, buffering).await;
            in_time.unwrap_or(Err(BufferFault::Body(BodyFault::Slow)))
        }
    };
    ended.map_err(|fault| match fault {
        BufferFault::Body(fault) => UpstreamFault::RequestBody(fault).into(),
        BufferFault::NoRoom => Rejection::Overload,
    })
}

/// Removes the fields of an upstream's answer that are not for the client, and maps the others to the public side.
pub(crate) fn clean(answer: &mut Response<Box<ResponseBody>>, route: &Route, context: &ForwardContext<'_>) {
    let not_as_trailers = clean_header(answer.headers_mut(), route, context);
    if !not_as_trailers.is_empty() {
        answer.body_mut().without_trailers(not_as_trailers);
    }
    *answer.version_mut() = Version::default();
}

/// The same for a header alone. Returns the names that may not follow as trailers.
pub(crate) fn clean_header(headers: &mut HeaderMap, route: &Route, context: &ForwardContext<'_>) -> Vec<HeaderName> {
    let stripped = trailers::strip_head_of_answer(headers);
    if route.cors.is_some() {
        cors::strip(headers);
    }
    if stripped.has_references && route.map_responses {
        let sent_host = &context.host_at(context.to, route);
        ResponseMapping { route, request: context.request, upstream: context.to, sent_host }.apply(headers);
    }
    stripped.hop_by_hop
}

/// The key by which the upstream is balanced, where it is balanced by a hash; `None` where the request lacks the value.
pub(crate) fn hash_key(context: &ForwardContext<'_>, headers: &HeaderMap, permit: &Permit<'_>) -> Option<Digest> {
    let Balance::Hash(per) = &context.to.settings.balance else {
        return None;
    };
    Some(per.of(context.from.address, headers, permit.caller())).filter(|key| *key != ABSENT)
}

/// How a request is bound to the connection that it came on. On a protected route that connection may carry requests of
/// several callers.
fn binding<'p>(
    permit: &Permit<'p>,
    context: &ForwardContext<'p>,
    headers: &HeaderMap,
    version: Version,
) -> ConnectionBinding<'p> {
    let (route, from) = (permit.route(), context.from);
    let passes = permit.passes_credentials();
    let tie = PinScope { pins: &from.cache.pins, route: &route.name, address: counted_network(from.address) };
    // The credential of the service is the same for all callers, and theirs does not reach it.
    if context.to.settings.replaces_authorization() {
        return ConnectionBinding::new(None, None);
    }
    let may_stay = passes && version == Version::HTTP_11 && from.is_direct_client() && !context.call.is_relayed;
    ConnectionBinding::new((passes || permit.forwards_token()).then_some(headers), may_stay.then_some(tie))
}

/// Changes the header to the one for the upstream, and gives the fields that are added to it: those that describe the
/// caller and the connection of the request. Fields of the same names from outside have been removed.
fn prepare_header(headers: &mut HeaderMap, permit: &Permit<'_>, context: &ForwardContext<'_>) -> AddedFields {
    let route = permit.route();
    // The connection to the upstream sets its own framing of the body.
    headers.remove(CONTENT_LENGTH);
    if !permit.forwards_token() {
        if !permit.passes_credentials() {
            headers.remove(AUTHORIZATION);
            headers.remove(DPOP);
        }
        // On public routes too: a service may believe the field without verifying the token.
        context.trust.token_fields().remove_from(headers);
    }
    if !context.trust.static_tokens().is_empty() {
        // Whatever the route forwards: the service could use such a token in the name of its owner.
        context.trust.static_tokens().remove_from(headers);
    }
    route.request_headers.apply(headers);
    if let Some(credential) = &context.to.settings.authorization {
        credential.remove_from(headers);
    }
    headers.insert(X_REQUEST_ID, context.request_id.header());
    let identity = permit.caller().map(|verified| verified.identity_fields.get_or_init(|| identity_fields(verified)));
    let prefix = route.forwarded_prefix.as_ref().map(|prefix| context.from.cache.prefix_field(prefix));
    [Some(context.from.forwarding_fields(&context.request.authority)), identity.cloned(), prefix]
}

/// The fields by which upstreams know the caller.
fn identity_fields(verified: &Verified) -> Rc<FieldBlock> {
    let caller = &verified.caller;
    let client = caller.client.as_ref().map(|client| (X_AUTH_CLIENT_ID, client.header().clone()));
    let subject = caller.subject.as_ref().map(|subject| (X_AUTH_SUBJECT, subject.header().clone()));
    let others = [(X_AUTH_SCOPE, caller.scope_header.clone()), (X_AUTH_ISSUER, caller.issuer_header.clone())];
    Rc::new(FieldBlock::new(client.into_iter().chain(subject).chain(others).collect()))
}
