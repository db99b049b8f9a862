//! The request's way, from a parsed head to an answer: one direction, read from top to bottom.
//!
//! ```text
//! accept → tls → http │ canonicalise → route → address rule and limits → authenticate → authorize → caller limits, audit place → forward, or answer │ audit
//! ```
//!
//! What stands left of the first bar is `server/`; the line in the audit log is written when the answer's body has ended, by the
//! [`RequestLog`] that every answer carries. Each room may refuse, and a refusal is an answer like any other.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{AUTHORIZATION, EXPECT, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};

use super::access::Access;
use super::answer::{AnswerBody, Content};
use super::authenticate::authenticate;
use super::authorize::{Permit, admit, allow_public, authorize};
use super::built_in;
use super::canonical::CanonicalRequest;
use super::cors::{Cors, asked_method};
use super::fixed_answer;
use super::forward::{ForwardContext, forward};
use super::grpc;
use super::headers::{FieldFault, strip_request};
use super::limits::RateLimit;
use super::peer::{AddressTrust, ListenerMode, Peer};
use super::rejection::Rejection;
use super::request_id::RequestId;
use super::request_log::{MatchedRule, RequestLog};
use super::route::Route;
use super::routes::RouteMatch;
use super::snapshot::Snapshot;
use super::switch::{judge, switch};
use super::target::{FixedAnswer, RouteTarget};
use super::trailers;
use super::upgrade::is_extended_connect;
use super::worker::Worker;
use crate::audit::reason::Reason;
use crate::oauth::per::Per;
use crate::server::guard::ExchangeGuard;
use crate::upstream::body::drain_body::{DrainLimit, drain_body};
use crate::upstream::body::expect_continue;
use crate::upstream::body::request_body::IncomingUpload;
use crate::upstream::body::request_end::RequestEnd;
use crate::upstream::service::Upstream;

/// Every request takes this way, the token endpoint and the JWK Set included.
pub(crate) async fn walk(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    exchange: ExchangeGuard,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let snapshot = worker.snapshot();
    let trusted = &snapshot.trusted_proxies;
    let peer =
        if peer.is_proxy { worker.counted(peer.with_forwarded(request.headers(), trusted), trusted) } else { peer };
    let mut log = RequestLog::begin(&worker, Rc::clone(&snapshot), &peer);
    if let Some(given) = peer.is_proxy.then(|| RequestId::given(request.headers())).flatten() {
        log.request_id = given;
    }
    let (head, body) = request.into_parts();
    let for_head = head.method == Method::HEAD;
    // Who waits to be told to go on must not be told so by our reading.
    // Over HTTP/2 nobody is told so, and clients that are cut off take the end of their stream for its failure.
    let holds_back = head.version != Version::HTTP_2 && !body.is_end_stream() && head.headers.contains_key(EXPECT);
    let is_grpc = grpc::is_call(&head);
    // Over HTTP/1.1 what is wrong with the rest ends the connection; over HTTP/2 it is the stream's error, as long as there is one.
    // A gRPC answer may end before its call, and clients wait for it.
    let may_turn_bad = head.version == Version::HTTP_2 && !body.is_end_stream() && !is_grpc;
    let (end, watcher) = may_turn_bad.then(RequestEnd::new).unzip();
    // Over HTTP/2 the client is not told: it goes on by itself after a while.
    let is_awaiting = holds_back && head.version == Version::HTTP_11 && expect_continue::is_awaited(&head.headers);
    let mut upload = IncomingUpload { incoming: Some(body), watcher, is_awaiting };
    let decided = decide(&worker, &snapshot, &peer, &mut log, head, &mut upload).await;
    let IncomingUpload { incoming, watcher, .. } = upload;
    match incoming.filter(|_| !holds_back) {
        Some(unread) => {
            let busy = matches!(decided, Err(Rejection::Overload | Rejection::RateLimited(_)));
            drain_body(unread, if busy { DrainLimit::Short } else { DrainLimit::Long }, watcher);
        }
        None => drop(watcher),
    }
    if matches!(&decided, Err(rejection) if rejection.is_load_shed()) {
        let _held = peer.share.as_ref().map(|share| share.tarpit());
        // Boxed, so that no other request has room for it.
        Box::pin(worker.pressure().tarpit()).await;
    }
    let is_refusal = decided.is_err();
    let mut answer = decided.unwrap_or_else(|rejection| {
        let to_grpc = is_grpc && log.may_be_grpc();
        rejection.answer(&mut log, to_grpc)
    });
    if for_head {
        answer = Content::withheld(answer);
    }
    log.apply_response_rules(answer.headers_mut(), is_refusal);
    log.sign(answer.status().as_u16(), answer.headers_mut());
    answer.map(|content| AnswerBody::new(content, log, exchange, end.and_then(RequestEnd::hold)))
}

async fn decide(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    peer: &Peer,
    log: &mut RequestLog,
    mut head: Parts,
    upload: &mut IncomingUpload,
) -> Result<Response<Content>, Rejection> {
    check_capacity(worker, peer).await?;
    let request = CanonicalRequest::new(&head, peer.scheme(), &peer.last_authority, &snapshot.limits)?;
    log.request(&request);
    if let ListenerMode::Redirect { origin } = &peer.entrance {
        return redirect(origin, snapshot, log, &request, &head);
    }
    if let Some((oauth, built_in)) = snapshot.built_in(request.decoded_path()) {
        log.place = MatchedRule::BuiltIn(built_in);
        let body = &mut upload.incoming;
        // Boxed, so that no other request has room for it.
        return Box::pin(built_in::answer(snapshot, (oauth, built_in), peer, log, &request, &head, body)).await;
    }
    let asked = asked_method(&request.method, &head.headers);
    let route = find_route(snapshot, log, &request, &head, asked.as_ref())?;
    log.granted_origin = route.cors.as_ref().and_then(|cors| cors.origins.grant(&head.headers));
    let upgrade = if route.upgrades.is_empty() { None } else { route.upgrades.asked(&head) };
    log.asks_to_switch = upgrade.is_some() && head.version == Version::HTTP_11;
    // The cheapest refusal there is: it spends nothing of anyone's quota.
    let admitted = admit(route, peer.source_address().certain())?;
    count_address(&route.limits, peer, log)?;
    if let (Some(asked), Some(cors)) = (asked, &route.cors) {
        return Ok(preflight(cors, &asked, log, &head));
    }
    let permit = match &route.access {
        Access::Public => allow_public(&admitted).ok_or(Rejection::NoRoute)?,
        Access::Protected(rule) => {
            let caller = authenticate(worker, snapshot, rule, peer, &head.headers, log.now).await?;
            log.caller(&caller);
            authorize(&admitted, rule, caller, snapshot.oauth.as_ref().map(|oauth| &*oauth.server))?
        }
    };
    count_caller(&permit, peer, log, &head)?;
    let is_protected = permit.caller().is_some();
    let handshake = upgrade.map(|upgrade| judge(upgrade, &head, upload)).transpose()?;
    if is_protected {
        log.reserve()?;
    } else {
        log.reserve_if_roomy();
    }
    let deadline = grpc::deadline(&head)?;
    let reads_trailers = route.target.may_speak_http2() && trailers::are_asked_for(&head.headers);
    let is_relayed = strip_request(&mut head.headers)?;
    log.allowed();
    let answer = match resolve_destination(&permit, peer, log, &head) {
        Destination::To(to) => {
            let (request, request_id, limits) = (&request, &log.request_id, &snapshot.limits);
            let passage = ForwardContext {
                to,
                worker,
                from: peer,
                request,
                request_id,
                limits,
                deadline,
                reads_trailers,
                is_relayed,
            };
            match handshake {
                None => forward(permit, passage, head, upload).await?,
                // Boxed, so that no other request has room for it.
                Some(handshake) => Box::pin(switch(permit, passage, head, upload, handshake)).await?,
            }
        }
        Destination::Own(own) => fixed_answer::answer(own, &request)?,
    };
    if is_protected {
        log.commit(answer.status()).await?;
    }
    Ok(answer)
}

/// Refuses a request under overload, and delays it while the worker is slow, before any work is done for it.
async fn check_capacity(worker: &Worker, peer: &Peer) -> Result<(), Rejection> {
    match peer.knowledge {
        _ if worker.is_overloaded(peer) => return Err(Rejection::Overload),
        AddressTrust::Contradicted => return Err(Rejection::Header(FieldFault::Contradiction)),
        AddressTrust::Certain | AddressTrust::Uncertain => {}
    }
    if worker.pressure().is_crowded() {
        // Boxed to keep the common future small.
        Box::pin(worker.pressure().turn()).await;
    }
    Ok(())
}

/// Where a permitted request goes.
enum Destination<'r> {
    To(&'r Upstream),
    Own(&'r FixedAnswer),
}

fn resolve_destination<'r>(permit: &Permit<'r>, peer: &Peer, log: &mut RequestLog, head: &Parts) -> Destination<'r> {
    let split = match &permit.route().target {
        RouteTarget::Upstream(upstream) => return Destination::To(upstream),
        RouteTarget::Own(own) => return Destination::Own(own),
        RouteTarget::Split(split) => split,
    };
    let pinned = peer.pins.upstream_of(&permit.route().name).and_then(|number| split.side_of(number));
    let (side, upstream) = pinned.unwrap_or_else(|| split.choose(peer, &head.headers, permit.caller()));
    log.side = Some(side);
    Destination::To(upstream)
}

/// `asked` is the method that a preflight is about: its route is looked for first, which need not take OPTIONS itself.
fn find_route<'s>(
    snapshot: &'s Snapshot,
    log: &mut RequestLog,
    request: &'s CanonicalRequest,
    head: &Parts,
    asked: Option<&Method>,
) -> Result<&'s Route, Rejection> {
    let find = |method| snapshot.routes.find(method, request.authority.host(), request.decoded_path());
    let mut found = find(&request.method);
    if let Some(asked) = asked
        && let RouteMatch::Route(route, index) = find(asked)
        && route.cors.is_some()
    {
        found = RouteMatch::Route(route, index);
    }
    if is_extended_connect(head)
        && let RouteMatch::Route(route, index) = find(&Method::GET)
        && route.upgrades.has_websocket()
    {
        // What is a GET over HTTP/1.1 (RFC 8441 §5). No route takes CONNECT otherwise.
        found = RouteMatch::Route(route, index);
    }
    match found {
        RouteMatch::Route(route, index) => {
            log.place = MatchedRule::Route(index);
            Ok(route)
        }
        RouteMatch::MethodNotAllowed(allow) => Err(Rejection::MethodNotAllowed(allow)),
        RouteMatch::Nothing => Err(Rejection::NoRoute),
    }
}

/// Says to a browser what its pages may send. It shows no credentials with the question, and gets nothing for it.
fn preflight(cors: &Cors, asked: &Method, log: &mut RequestLog, head: &Parts) -> Response<Content> {
    let is_allowed = log.granted_origin.is_some() && cors.allows(asked, &head.headers);
    if is_allowed {
        log.reserve_if_roomy();
        log.allowed();
    } else {
        log.granted_origin = None;
        log.ended_by(Reason::ClientNotAllowed);
    }
    cors.preflight(is_allowed)
}

/// Address limits come before any signature is looked at, so that a flood of bad tokens is cheap.
pub(super) fn count_address(limits: &[Arc<RateLimit>], peer: &Peer, log: &mut RequestLog) -> Result<(), Rejection> {
    for (index, limit) in limits.iter().enumerate().filter(|(_, limit)| limit.is_by_address()) {
        let count = limit.count(Per::by_address(peer.address));
        log.counted(index, count);
        if !count.allowed {
            return Err(Rejection::RateLimited(count));
        }
    }
    Ok(())
}

fn count_caller(permit: &Permit<'_>, peer: &Peer, log: &mut RequestLog, head: &Parts) -> Result<(), Rejection> {
    let limits = &permit.route().limits;
    for (index, limit) in limits.iter().enumerate().filter(|(_, limit)| !limit.is_by_address()) {
        let count = limit.count(limit.per.key(peer.address, &head.headers, permit.caller()));
        log.counted(index, count);
        if !count.allowed {
            return Err(Rejection::RateLimited(count));
        }
    }
    Ok(())
}

/// 308 to the same path at another origin, never one that `Host` has named. What was a secret has been read by then: it is refused, not led on.
fn redirect(
    origin: &str,
    snapshot: &Snapshot,
    log: &mut RequestLog,
    request: &CanonicalRequest,
    head: &Parts,
) -> Result<Response<Content>, Rejection> {
    log.place = MatchedRule::Redirect;
    if head.headers.contains_key(AUTHORIZATION) || snapshot.built_in(request.decoded_path()).is_some() {
        return Err(Rejection::ClearText);
    }
    let location = format!("{origin}{}", request.target());
    let location = HeaderValue::try_from(location).map_err(|_| Rejection::NoRoute)?;
    log.allowed();
    let mut response = Response::new(Content::whole(""));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
