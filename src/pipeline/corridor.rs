//! The steps of a request, from its parsed head to its answer, in order from top to bottom.
//!
//! ```text
//! accept → tls → http
//!   │ canonicalise → route → address rule and limits → authenticate → authorize → caller limits, audit slot
//!   │ forward, or answer
//!   │ audit
//! ```
//!
//! The steps in the first line are those of `server/`. The line in the audit log is written when the answer's body
//! has ended, by the [`OpenRequest`] that every answer carries. Each step may refuse, and a refusal is an answer like
//! any other.

use std::rc::Rc;

use http::header::EXPECT;
use http::{Method, Response, Version};

use super::answer::body::AnswerBody;
use super::answer::broken_rule::broken_rule;
use super::answer::content::{Content, keep_if_lasting};
use super::answer::forward::{ForwardContext, forward};
use super::answer::found_and_wanted::found_and_wanted;
use super::answer::rejection::Rejection;
use super::answer::response_fields::ResponseFields;
use super::answer::switch::switch;
use super::answer::{built_in, fixed_answer, grpc, limit_headers};
use super::decide::{DecideContext, DecidedRequest, Permitted, decide};
use super::policy::authorize::Permit;
use super::policy::load::LoadMonitor;
use super::policy::open_streams::BegunStream;
use super::record::open_request::OpenRequest;
use super::record::request_log::RequestLog;
use super::request::peer::Peer;
use super::request::request_id::RequestId;
use super::routing::snapshot::Snapshot;
use super::routing::target::{FixedAnswer, RouteTarget};
use super::worker::Worker;
use crate::http1::fault::WireFault;
use crate::oauth::observer::Unobserved;
use crate::server::exchange_guard::ExchangeGuard;
use crate::server::received_request::{Received, ReceivedHead, ReceivedRequest};
use crate::upstream::body::drain_body::{DrainLimit, drain_body};
use crate::upstream::body::expect_continue;
use crate::upstream::body::request_body::IncomingUpload;
use crate::upstream::body::request_end::RequestEnd;
use crate::upstream::service::Upstream;

/// Every request goes through these steps, also one for the token endpoint or the JWK Set.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    exchange: ExchangeGuard,
    received: Received,
) -> Response<AnswerBody> {
    let snapshot = worker.current.get();
    let trusted = &snapshot.trusted_proxies;
    let peer = match peer.without_trust(trusted) {
        Some(direct) => direct.counted_in(&worker.in_flight, trusted),
        None => peer,
    };
    let headers = received.as_ref().ok().map(|request| &request.head.headers).filter(|_| peer.is_proxy);
    let peer = match headers {
        Some(headers) => peer.with_forwarded(headers, trusted).counted_in(&worker.in_flight, trusted),
        None => peer,
    };
    let mut open = OpenRequest::begin(&worker.recorder, Rc::clone(&snapshot), &peer);
    if let Some(given) = headers.and_then(RequestId::given) {
        open.log.request_id = given;
    }
    let ReceivedRequest { head, body } = match received {
        Ok(request) => request,
        Err(fault) => return refuse_malformed(open, exchange, fault),
    };
    let for_head = head.method == Method::HEAD;
    let is_grpc = grpc::is_call(&head);
    let has_body = body.is_some();
    // Reading the body would send `100 Continue`. Over HTTP/2 it is not sent, and clients whose upload is
    // cut off treat the end of their stream as a failure.
    let holds_back = head.version != Version::HTTP_2 && has_body && head.headers.contains_key(EXPECT);
    // Over HTTP/1.1 a fault in the rest of the request ends the connection; over HTTP/2 it is the stream's error, as
    // long as there is a stream. A gRPC answer may end before its call, and clients wait for it.
    let may_turn_bad = head.version == Version::HTTP_2 && has_body && !is_grpc;
    let (end, watcher) = may_turn_bad.then(RequestEnd::new).unzip();
    // Over HTTP/2 the client gets no `100 Continue`: it sends the body after a timeout of its own.
    let is_awaiting = holds_back && head.version == Version::HTTP_11 && expect_continue::is_awaited(&head.headers);
    let mut upload = IncomingUpload { incoming: body, watcher, is_awaiting };
    let mut fields = ResponseFields::default();
    let decided = answer(&worker, &snapshot, &peer, &mut open, &mut fields, head, &mut upload).await;
    let IncomingUpload { incoming, watcher, .. } = upload;
    match incoming.filter(|_| !holds_back) {
        Some(unread) => {
            let busy = matches!(decided, Err(Rejection::Overload | Rejection::RateLimited(_)));
            drain_body(unread, if busy { DrainLimit::Short } else { DrainLimit::Long }, watcher);
        }
        None => drop(watcher),
    }
    if matches!(&decided, Err(rejection) if rejection.is_load_shed()) {
        let _held = peer.in_flight.as_ref().map(|counter| counter.delay());
        // Boxed to keep the common future small.
        Box::pin(worker.recorder.load.delay_refusal()).await;
    }
    let is_refusal = decided.is_err();
    let mut answer = decided.unwrap_or_else(|rejection| {
        record_refusal(&mut open, &rejection);
        let to_grpc = is_grpc && grpc::may_be_spoken(open.log.matched, &snapshot);
        rejection.into_response(open.log.matched.route(&snapshot), to_grpc, &open.log.request_id)
    });
    if for_head {
        answer = Content::without_body(answer);
    }
    add_fields(&snapshot, &mut open, &fields, &mut answer, is_refusal);
    if open.stream().is_some() {
        // The answer may last for hours.
        open.log.release_snapshot();
    }
    answer.map(|content| AnswerBody::new(content, open, exchange, end.and_then(RequestEnd::hold)))
}

fn record_refusal(open: &mut OpenRequest, rejection: &Rejection) {
    open.refused(rejection.reason(), rejection.identity());
    open.log.rule = broken_rule(rejection);
    open.log.discrepancy = found_and_wanted(rejection).map(Box::new);
    if rejection.is_for_failures() {
        // Rate limits that had room must not look like the cause.
        (open.counts, open.client_counts) = Default::default();
    }
}

/// Refuses a request whose head breaks a rule of HTTP. Its connection ends.
fn refuse_malformed(mut open: Box<OpenRequest>, exchange: ExchangeGuard, fault: WireFault) -> Response<AnswerBody> {
    let rejection = Rejection::Wire(fault);
    open.refused(rejection.reason(), None);
    open.log.rule = broken_rule(&rejection);
    let mut answer = rejection.into_response(None, false, &open.log.request_id);
    open.log.status = Some(answer.status().as_u16());
    ResponseFields::default().add_standard_headers(&open.log.request_id, answer.status(), answer.headers_mut());
    answer.map(|content| AnswerBody::new(content, open, exchange, None))
}

/// Decides a request, and carries out what was decided.
async fn answer(
    worker: &Worker,
    snapshot: &Snapshot,
    peer: &Peer,
    open: &mut OpenRequest,
    fields: &mut ResponseFields,
    mut head: ReceivedHead,
    upload: &mut IncomingUpload,
) -> Result<Response<Content>, Rejection> {
    check_capacity(&worker.recorder.load, peer).await.inspect_err(|_| open.log.presented(&head.headers))?;
    let context = DecideContext { current: &worker.current, snapshot, peer };
    let has_body = upload.incoming.is_some();
    match decide(context, open, fields, &mut head, has_body, &mut Unobserved).await? {
        DecidedRequest::Answered(answer) => Ok(answer),
        DecidedRequest::BuiltIn(endpoint, request) => {
            let body = &mut upload.incoming;
            // Boxed to keep the common future small.
            Box::pin(built_in::answer(snapshot, endpoint, peer, open, fields, (&request, &head), body)).await
        }
        DecidedRequest::Permitted(permitted) => {
            carry_out((worker, snapshot, peer), open, permitted, head, upload).await
        }
    }
}

/// Answers a request that was let through, or forwards it. A protected one needs a slot in the audit log.
async fn carry_out(
    (worker, snapshot, peer): (&Worker, &Snapshot, &Peer),
    open: &mut OpenRequest,
    permitted: Permitted<'_>,
    head: ReceivedHead,
    upload: &mut IncomingUpload,
) -> Result<Response<Content>, Rejection> {
    let Permitted { permit, request, handshake, call, chosen_by } = permitted;
    let is_protected = permit.is_protected();
    open.reserve_for(is_protected)?;
    open.log.allowed();
    let protocol = handshake.as_ref().map(|handshake| Box::from(handshake.protocol()));
    let answer = match choose_destination(&permit, peer, &mut open.log, &head) {
        _ if !call.may_be_forwarded => fixed_answer::answer_options(),
        Destination::Own(own) => fixed_answer::answer(own, &permit.route().path, &request)?,
        Destination::Upstream(to) => {
            let (request_id, limits) = (&open.log.request_id, &snapshot.limits);
            let (pools, mirrors) = (&worker.pools, &worker.mirrors);
            let (from, trust) = (peer, &snapshot.trust);
            let conditions = snapshot.routes.condition_fields();
            let context = ForwardContext {
                to,
                pools,
                mirrors,
                from,
                request: &request,
                request_id,
                limits,
                trust,
                conditions,
                call,
            };
            match handshake {
                None => forward(permit, context, head, upload).await?,
                Some(handshake) => {
                    // Boxed to keep the common future small.
                    Box::pin(switch(permit, context, head, upload, handshake, &worker.tunnels)).await?
                }
            }
        }
    };
    if is_protected {
        open.commit(answer.status()).await?;
    }
    let begun = BegunStream { request, fields: chosen_by, protocol, is_grpc: call.is_grpc };
    keep_if_lasting(&answer, open, (&worker.streams, &worker.current), (snapshot, begun));
    Ok(answer)
}

/// Refuses a request under overload, and delays it while the worker is slow, before any work is done for it.
async fn check_capacity(load: &LoadMonitor, peer: &Peer) -> Result<(), Rejection> {
    if load.is_overloaded() || peer.in_flight.as_ref().is_some_and(|counter| counter.is_over_limit()) {
        return Err(Rejection::Overload);
    }
    if load.must_wait() {
        // Boxed to keep the common future small.
        Box::pin(load.turn()).await;
    }
    Ok(())
}

/// The destination of a permitted request.
pub(crate) enum Destination<'r> {
    Upstream(&'r Upstream),
    Own(&'r FixedAnswer),
}

pub(crate) fn choose_destination<'r>(
    permit: &Permit<'r>,
    peer: &Peer,
    log: &mut RequestLog,
    head: &ReceivedHead,
) -> Destination<'r> {
    let split = match &permit.route().target {
        RouteTarget::Upstream(upstream) => return Destination::Upstream(upstream),
        RouteTarget::Own(own) => return Destination::Own(own),
        RouteTarget::Split(split) => split,
    };
    let pinned = peer.cache.pins.upstream_of(&permit.route().name).and_then(|number| split.branch_of(number));
    let (branch, upstream) = pinned.unwrap_or_else(|| split.choose(peer, &head.headers, permit.caller()));
    log.branch = Some(branch);
    Destination::Upstream(upstream)
}

/// Adds the header fields that the route sets and those that every response carries.
pub(crate) fn add_fields(
    snapshot: &Snapshot,
    open: &mut OpenRequest,
    fields: &ResponseFields,
    response: &mut Response<Content>,
    is_refusal: bool,
) {
    let status = response.status();
    let headers = response.headers_mut();
    open.log.status = Some(status.as_u16());
    if let Some(route) = open.log.matched.route(snapshot) {
        route.apply_response_rules(headers, is_refusal, fields.granted_origin.as_ref());
    }
    fields.add_standard_headers(&open.log.request_id, status, headers);
    let of_rule = (open.log.matched.limits(snapshot), open.counts.by_limit());
    let of_client = open
        .client_counts
        .as_ref()
        .map_or((&[][..], &[][..]), |counted| (snapshot.limits_of_client(&counted.client), counted.counts.by_limit()));
    limit_headers::add_limit_headers(of_rule, of_client, headers);
}
