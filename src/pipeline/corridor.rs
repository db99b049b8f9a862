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

use http::header::{AUTHORIZATION, EXPECT, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::answer::body::AnswerBody;
use super::answer::broken_rule::broken_rule;
use super::answer::content::{Content, keep_if_lasting};
use super::answer::count_limits::{count_caller, count_rule};
use super::answer::forward::{CallFacts, ForwardContext, forward};
use super::answer::found_and_wanted::found_and_wanted;
use super::answer::rejection::Rejection;
use super::answer::response_fields::ResponseFields;
use super::answer::switch::{check_handshake, switch};
use super::answer::{built_in, fixed_answer, grpc, limit_headers, preflight};
use super::policy::authenticate::authenticate;
use super::policy::authorize::{Admitted, Permit, admit, allow_public, authorize};
use super::policy::limits::LimitPhase;
use super::policy::load::LoadMonitor;
use super::record::matched::MatchedRule;
use super::record::open_request::OpenRequest;
use super::record::request_log::RequestLog;
use super::request::ambiguous::Ambiguous;
use super::request::authority::Authority;
use super::request::canonical::CanonicalRequest;
use super::request::headers::FieldFault;
use super::request::peer::{AddressTrust, ListenerMode, Peer};
use super::request::request_id::RequestId;
use super::request::upgrade::is_extended_connect;
use super::routing::access::Access;
use super::routing::cors::requested_method;
use super::routing::route::Route;
use super::routing::snapshot::Snapshot;
use super::routing::table::RouteMatch;
use super::routing::target::{FixedAnswer, RouteTarget};
use super::worker::Worker;
use crate::http1::fault::WireFault;
use crate::http1::target::RequestTarget;
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
    let decided = decide(&worker, &snapshot, &peer, &mut open, &mut fields, head, &mut upload).await;
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
        rejection.into_response(is_grpc && grpc::may_be_spoken(open.log.matched, &snapshot))
    });
    if for_head {
        answer = Content::without_body(answer);
    }
    add_fields(&snapshot, &mut open, &fields, &mut answer, is_refusal);
    if Content::may_last(&answer, is_grpc) {
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
    let mut answer = rejection.into_response(false);
    open.log.status = Some(answer.status().as_u16());
    ResponseFields::default().add_standard_headers(&open.log.request_id, answer.status(), answer.headers_mut());
    answer.map(|content| AnswerBody::new(content, open, exchange, None))
}

/// Decides whether a request is refused, answered by the gateway, or forwarded.
async fn decide(
    worker: &Worker,
    snapshot: &Snapshot,
    peer: &Peer,
    open: &mut OpenRequest,
    fields: &mut ResponseFields,
    mut head: ReceivedHead,
    upload: &mut IncomingUpload,
) -> Result<Response<Content>, Rejection> {
    check_capacity(&worker.recorder.load, peer).await.inspect_err(|_| open.log.presented(&head.headers))?;
    if head.target == RequestTarget::Asterisk {
        return answer_asterisk(peer, &mut open.log, &head);
    }
    let request = canonicalise(snapshot, peer, &head).inspect_err(|_| open.log.presented(&head.headers))?;
    open.log.request(&request);
    if let ListenerMode::Redirect { origin } = &peer.listener_mode {
        return redirect(origin, snapshot, &mut open.log, &request, &head);
    }
    if let Some((oauth, built_in)) = snapshot.built_in(request.decoded_path()) {
        open.log.matched = MatchedRule::BuiltIn(built_in);
        built_in::admit(built_in, peer, &request.method)?;
        count_rule(open.log.matched.limits(snapshot), snapshot, LimitPhase::Address, peer, open)?;
        let body = &mut upload.incoming;
        // Boxed to keep the common future small.
        return Box::pin(built_in::answer(snapshot, (oauth, built_in), peer, open, &request, &head, body)).await;
    }
    let requested = requested_method(&request.method, &head.headers);
    let route = find_route(snapshot, &mut open.log, &request, &head, requested.as_ref())
        .inspect_err(|_| open.log.presented(&head.headers))?;
    fields.granted_origin = route.cors.as_ref().and_then(|cors| cors.origins.grant(&head.headers));
    let upgrade = if route.upgrades.is_empty() { None } else { route.upgrades.requested(&head) };
    fields.asks_to_switch = upgrade.is_some() && head.version == Version::HTTP_11;
    let admitted = admit_address(route, snapshot, peer, open).inspect_err(|_| open.log.presented(&head.headers))?;
    if let (Some(requested), Some(cors)) = (requested, &route.cors) {
        return Ok(preflight::answer(cors, &requested, open, fields, &head.headers));
    }
    let permit = find_permit(&admitted, (worker, snapshot, peer), &mut open.log, &head.headers).await?;
    let by_caller = LimitPhase::Caller { headers: &head.headers, caller: permit.caller() };
    count_rule(&route.limits, snapshot, by_caller, peer, open)?;
    count_caller(snapshot, permit.caller(), open)?;
    let handshake = upgrade.map(|upgrade| check_handshake(upgrade, &head, upload)).transpose()?;
    let is_protected = permit.caller().is_some();
    open.reserve_for(is_protected)?;
    let call = CallFacts::take(&mut head, snapshot.trust.token_fields(), route.target.may_speak_http2())?;
    open.log.allowed();
    let protocol = handshake.as_ref().map(|handshake| Box::from(handshake.protocol()));
    let answer = match choose_destination(&permit, peer, &mut open.log, &head) {
        _ if !call.may_be_forwarded => fixed_answer::answer_options(),
        Destination::Own(own) => fixed_answer::answer(own, &permit.route().path, &request)?,
        Destination::Upstream(to) => {
            let (request_id, limits) = (&open.log.request_id, &snapshot.limits);
            let (pools, mirrors) = (&worker.pools, &worker.mirrors);
            let (from, token_fields) = (peer, snapshot.trust.token_fields());
            let context =
                ForwardContext { to, pools, mirrors, from, request: &request, request_id, limits, token_fields, call };
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
    keep_if_lasting(&answer, open, (&worker.streams, &worker.current), (snapshot, request, protocol, call.is_grpc));
    Ok(answer)
}

/// The canonical form of a request. Forms of paths that services read in different ways need the consent of the route.
fn canonicalise(snapshot: &Snapshot, peer: &Peer, head: &ReceivedHead) -> Result<CanonicalRequest, Ambiguous> {
    let (last_authority, path_forms) = (&peer.cache.last_authority, snapshot.routes.path_forms());
    let request = CanonicalRequest::new(head, peer.scheme(), last_authority, &snapshot.limits, path_forms)?;
    snapshot.routes.check_path_forms(&request)?;
    Ok(request)
}

/// Answers `OPTIONS *`, which is about the gateway itself and has no route.
fn answer_asterisk(peer: &Peer, log: &mut RequestLog, head: &ReceivedHead) -> Result<Response<Content>, Rejection> {
    Authority::of(head, peer.scheme(), &peer.cache.last_authority)?;
    log.method(&head.method);
    log.allowed();
    Ok(fixed_answer::answer_options())
}

/// Checks that the address may use the route, within its limits by address.
fn admit_address<'r>(
    route: &'r Route,
    snapshot: &Snapshot,
    peer: &Peer,
    open: &mut OpenRequest,
) -> Result<Admitted<'r>, Rejection> {
    // The cheapest refusal: it is counted against no limit.
    let admitted = admit(route, peer.source_address().certain())?;
    count_rule(&route.limits, snapshot, LimitPhase::Address, peer, open)?;
    Ok(admitted)
}

/// Finds the caller, where the route needs one, and checks that it may use the route.
async fn find_permit<'r>(
    admitted: &Admitted<'r>,
    (worker, snapshot, peer): (&Worker, &Snapshot, &Peer),
    log: &mut RequestLog,
    headers: &HeaderMap,
) -> Result<Permit<'r>, Rejection> {
    let rule = match admitted.access() {
        Access::Public => return allow_public(admitted).ok_or(Rejection::NoRoute),
        Access::Protected(rule) => rule,
    };
    let authenticated = authenticate(&worker.current, snapshot, rule, &peer.cache, headers, log.now).await;
    let caller = authenticated.inspect_err(|_| log.presented(headers))?;
    log.caller(&caller);
    let own_clients = snapshot.oauth.as_ref().map(|oauth| &*oauth.server);
    Ok(authorize(admitted, rule, caller, own_clients)?)
}

/// Refuses a request under overload, and delays it while the worker is slow, before any work is done for it.
async fn check_capacity(load: &LoadMonitor, peer: &Peer) -> Result<(), Rejection> {
    let is_overloaded = load.is_overloaded() || peer.in_flight.as_ref().is_some_and(|counter| counter.is_over_limit());
    match peer.address_trust {
        _ if is_overloaded => return Err(Rejection::Overload),
        AddressTrust::Contradicted => return Err(Rejection::Header(FieldFault::Contradiction)),
        AddressTrust::Certain | AddressTrust::Uncertain => {}
    }
    if let Err(fault) = peer.stated {
        return Err(Rejection::Header(fault.into()));
    }
    if load.must_wait() {
        // Boxed to keep the common future small.
        Box::pin(load.turn()).await;
    }
    Ok(())
}

/// The destination of a permitted request.
enum Destination<'r> {
    Upstream(&'r Upstream),
    Own(&'r FixedAnswer),
}

fn choose_destination<'r>(
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

/// `requested` is the method that a preflight is about: its route is looked for first, and need not take OPTIONS
/// itself.
fn find_route<'s>(
    snapshot: &'s Snapshot,
    log: &mut RequestLog,
    request: &'s CanonicalRequest,
    head: &ReceivedHead,
    requested: Option<&Method>,
) -> Result<&'s Route, Rejection> {
    let find = |method| snapshot.routes.find(method, request.authority.host(), request.decoded_path());
    let mut found = find(&request.method);
    if let Some(requested) = requested
        && let RouteMatch::Route(route, index) = find(requested)
        && route.cors.is_some()
    {
        found = RouteMatch::Route(route, index);
    }
    if is_extended_connect(head)
        && let RouteMatch::Route(route, index) = find(&Method::GET)
        && route.upgrades.has_websocket()
    {
        // Over HTTP/1.1 it is a GET (RFC 8441 §5). No route takes CONNECT otherwise.
        found = RouteMatch::Route(route, index);
    }
    match found {
        RouteMatch::Route(route, index) => {
            log.matched = MatchedRule::Route(index);
            Ok(route)
        }
        RouteMatch::MethodNotAllowed(allow) => Err(Rejection::MethodNotAllowed(allow)),
        RouteMatch::Nothing => Err(Rejection::NoRoute),
    }
}

/// Answers 308 to the same path at the configured origin, never at one that `Host` names. A secret in the request has
/// already been sent in clear text: such a request is refused, so that the fault is noticed.
fn redirect(
    origin: &str,
    snapshot: &Snapshot,
    log: &mut RequestLog,
    request: &CanonicalRequest,
    head: &ReceivedHead,
) -> Result<Response<Content>, Rejection> {
    log.matched = MatchedRule::Redirect;
    let has_token = snapshot.trust.token_fields().present(&head.headers).next().is_some();
    if has_token || head.headers.contains_key(AUTHORIZATION) || snapshot.built_in(request.decoded_path()).is_some() {
        log.presented(&head.headers);
        return Err(Rejection::ClearText);
    }
    let location = format!("{origin}{}", request.received_target()?);
    let location = HeaderValue::try_from(location).map_err(|_| Rejection::NoRoute)?;
    log.allowed();
    let mut response = Response::new(Content::whole(""));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Adds the header fields that the route sets and those that every response carries.
fn add_fields(
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
