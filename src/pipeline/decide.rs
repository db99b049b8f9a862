//! The decision about a request: refused, answered by the gateway, or permitted.
//!
//! The corridor carries out what is decided here. Commands that explain or test a configuration decide by the same
//! function, and carry nothing out.

use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::answer::content::Content;
use super::answer::count_limits::{count_caller, count_rule};
use super::answer::forward::CallFacts;
use super::answer::found_and_wanted::found_and_wanted;
use super::answer::rejection::Rejection;
use super::answer::response_fields::ResponseFields;
use super::answer::switch::check_handshake;
use super::answer::{built_in, fixed_answer, preflight};
use super::observed::{observed_cors_and_upgrade, observed_form, observed_route};
use super::policy::authenticate::{PresentedCaller, authenticate};
use super::policy::authorize::{Admitted, Permit, admit, allow_public, authorize};
use super::policy::current_snapshot::CurrentSnapshot;
use super::policy::foreign_credentials::are_foreign;
use super::policy::limits::LimitPhase;
use super::policy::possession::{PresentedProofs, ProvenCaller, prove, proven_key};
use super::policy::proof_check::ProofRequest;
use super::record::matched::MatchedRule;
use super::record::open_request::OpenRequest;
use super::record::request_log::RequestLog;
use super::request::ambiguous::Ambiguous;
use super::request::authority::Authority;
use super::request::canonical::CanonicalRequest;
use super::request::headers::FieldFault;
use super::request::peer::{AddressTrust, ListenerMode, Peer};
use super::request::upgrade::{UpgradeHandshake, is_extended_connect};
use super::routing::access::{Access, AccessRule};
use super::routing::cors::requested_method;
use super::routing::own_hosts::ProofHosts;
use super::routing::route::Route;
use super::routing::snapshot::{BuiltInEndpoint, Snapshot};
use super::routing::table::RouteMatch;
use crate::http1::target::RequestTarget;
use crate::oauth::confirmation::Thumbprint;
use crate::oauth::discrepancy::Discrepancy;
use crate::oauth::observer::{Observation, Observer, Room};
use crate::server::received_request::ReceivedHead;
use crate::trust::failed_check::{FailedCheck, TokenError};
use crate::trust::failed_proof::ProofError;
use crate::trust::passed_check::{self, report};

/// The surroundings that decide a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecideContext<'d, 's> {
    pub(crate) current: &'d CurrentSnapshot,
    pub(crate) snapshot: &'s Snapshot,
    pub(crate) peer: &'d Peer,
}

/// A request that is not refused.
#[derive(Debug)]
pub(crate) enum DecidedRequest<'s> {
    /// The gateway answers at once.
    Answered(Response<Content>),
    /// An endpoint of the gateway answers, which may still refuse.
    BuiltIn(BuiltInEndpoint<'s>, CanonicalRequest),
    Permitted(Permitted<'s>),
}

/// A request that its route lets through. Its head has only fields that may be forwarded.
#[derive(Debug)]
pub(crate) struct Permitted<'s> {
    pub(crate) permit: Permit<'s>,
    pub(crate) request: CanonicalRequest,
    pub(crate) handshake: Option<Box<UpgradeHandshake>>,
    pub(crate) call: CallFacts,
    /// The header fields that chose the route, where routes have conditions.
    pub(crate) chosen_by: Option<Box<HeaderMap>>,
}

/// Decides whether a request is refused, answered by the gateway, or let through. Limits are counted.
pub(crate) async fn decide<'s>(
    context: DecideContext<'_, 's>,
    open: &mut OpenRequest,
    fields: &mut ResponseFields,
    head: &mut ReceivedHead,
    has_body: bool,
    observer: &mut impl Observer,
) -> Result<DecidedRequest<'s>, Rejection> {
    let DecideContext { snapshot, peer, .. } = context;
    check_peer(peer).inspect_err(|_| open.log.presented(&head.headers))?;
    if head.target == RequestTarget::Asterisk {
        return answer_asterisk(peer, &mut open.log, head).map(DecidedRequest::Answered);
    }
    let request = canonicalise(snapshot, peer, head);
    observer.observe_all(|| observed_form(head, &request));
    let request = request.inspect_err(|_| open.log.presented(&head.headers))?;
    open.log.request(&request);
    if peer.is_misdirected(request.authority.host()) {
        open.log.presented(&head.headers);
        return Err(Rejection::Misdirected);
    }
    if let ListenerMode::Redirect { origin } = &peer.listener_mode {
        return redirect(origin, snapshot, &mut open.log, &request, head).map(DecidedRequest::Answered);
    }
    if let Some(endpoint) = snapshot.built_in(request.decoded_path(), request.authority.host()) {
        let built_in = endpoint.kind();
        open.log.matched = MatchedRule::BuiltIn(built_in);
        observer.observe(|| Observation::noted(Room::Route, "route", built_in.name()));
        built_in::admit(built_in, peer, &request.method)?;
        count_rule(open.log.matched.limits(snapshot), snapshot, LimitPhase::Address, peer, open, observer).await?;
        return Ok(DecidedRequest::BuiltIn(endpoint, request));
    }
    let requested = requested_method(&request.method, &head.headers);
    let found = find_route(snapshot, &mut open.log, &request, head, requested.as_ref());
    observer.observe_all(|| observed_route(snapshot, open.log.matched, (&request, head), &found));
    let route = found.inspect_err(|_| open.log.presented(&head.headers))?;
    fields.granted_origin = route.cors.as_ref().and_then(|cors| cors.origins.grant(&head.headers));
    let upgrade = if route.upgrades.is_empty() { None } else { route.upgrades.requested(head) };
    fields.asks_to_switch = upgrade.is_some() && head.version == Version::HTTP_11;
    observer.observe_all(|| observed_cors_and_upgrade(route, fields, upgrade.is_some(), requested.as_ref()));
    let admitted = admit_address(route, snapshot, peer, open, observer).await;
    let admitted = admitted.inspect_err(|_| open.log.presented(&head.headers))?;
    if let (Some(requested), Some(cors)) = (requested, &route.cors) {
        return Ok(DecidedRequest::Answered(preflight::answer(cors, &requested, open, fields, &head.headers)));
    }
    let (log, asked) = (&mut open.log, (&request, &head.headers));
    let permit = find_permit(&admitted, context, log, fields, asked, observer).await?;
    count_by_caller(&permit, context, open, &head.headers, observer).await?;
    let handshake = upgrade.map(|upgrade| check_handshake(upgrade, head, has_body)).transpose()?;
    let chosen_by = snapshot.routes.choosing_fields(request.authority.host(), request.decoded_path(), &head.headers);
    let call = CallFacts::take(head, snapshot.trust.token_fields(), route.target.may_speak_http2())?;
    Ok(DecidedRequest::Permitted(Permitted { permit, request, handshake, call, chosen_by }))
}

/// Refuses a request whose proxy contradicts itself, or states an origin or a certificate that is not valid.
fn check_peer(peer: &Peer) -> Result<(), Rejection> {
    match peer.address_trust {
        AddressTrust::Contradicted => return Err(Rejection::Header(FieldFault::Contradiction)),
        AddressTrust::Certain | AddressTrust::Uncertain => {}
    }
    peer.stated.as_ref().map_err(|fault| Rejection::Header((*fault).into()))?;
    peer.certificate.as_ref().map(drop).map_err(|fault| Rejection::Header(*fault))
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
async fn admit_address<'r>(
    route: &'r Route,
    snapshot: &Snapshot,
    peer: &Peer,
    open: &mut OpenRequest,
    observer: &mut impl Observer,
) -> Result<Admitted<'r>, Rejection> {
    let from = peer.source_address().certain();
    // The cheapest refusal: it is counted against no limit.
    let admitted = observer.report(Room::Address, "address", admit(route, from), |_| {
        let any = || Discrepancy::new(format!("address {}", peer.text()), "any address");
        route.from.described(from).unwrap_or_else(any)
    })?;
    count_rule(&route.limits, snapshot, LimitPhase::Address, peer, open, observer).await?;
    Ok(admitted)
}

/// Finds the caller, where the route needs one, and checks that it may use the route.
async fn find_permit<'r>(
    admitted: &Admitted<'r>,
    DecideContext { current, snapshot, peer }: DecideContext<'_, '_>,
    log: &mut RequestLog,
    fields: &mut ResponseFields,
    (request, headers): (&CanonicalRequest, &HeaderMap),
    observer: &mut impl Observer,
) -> Result<Permit<'r>, Rejection> {
    let rule = match admitted.access() {
        Access::Public => {
            observer.observe(|| Observation::noted(Room::Authorize, "access", "public: no token is needed"));
            return allow_public(admitted).ok_or(Rejection::NoRoute);
        }
        Access::Protected(rule) => rule,
    };
    let authenticated = authenticate(current, snapshot, rule, peer, headers, log.now, observer).await;
    let proven = match authenticated {
        Ok(presented) => {
            let origin = peer.public_origin(&request.authority);
            let hosts = ProofHosts { own: &snapshot.own_hosts, of_route: admitted.hosts() };
            let proof = ProofRequest { rules: &snapshot.proofs, headers, request, origin, hosts, now: log.now };
            let certificate = peer.thumbprint(log.now);
            let proven = prove_possession(&proof, certificate, &presented, rule, fields, observer).await;
            proven.map_err(|check| presented.caller.refused(check).into())
        }
        Err(error) => Err(error),
    };
    let caller = match proven {
        Ok(caller) => caller,
        Err(error) => {
            log.presented(headers);
            let foreign = admitted.only_reports(log.now) && are_foreign(snapshot, rule, headers, &error);
            let reported = Permit::reported(admitted, &error, foreign, log.now);
            return report_only(reported, error.into(), log);
        }
    };
    log.caller(caller.verified());
    let own_clients = snapshot.oauth.as_ref().map(|oauth| &*oauth.server);
    authorize(admitted, rule, caller.clone(), own_clients, observer).or_else(|forbidden| {
        let reported = Permit::reported_caller(admitted, caller.into_verified(), &forbidden, log.now);
        report_only(reported, forbidden.into(), log)
    })
}

/// Checks that the caller has the keys that its token is bound to, and that the token has the binding that the rule
/// demands. Tells the client the nonce that it needs.
async fn prove_possession(
    proof: &ProofRequest<'_>,
    certificate: Option<Thumbprint>,
    presented: &PresentedCaller<'_>,
    rule: &AccessRule,
    fields: &mut ResponseFields,
    observer: &mut impl Observer,
) -> Result<ProvenCaller, FailedCheck> {
    let checked = proven_key(proof, presented).await;
    fields.dpop_nonce = match &checked {
        Ok(checked) => checked.as_ref().and_then(|checked| checked.next_nonce.clone()),
        Err(check) if check.reason == TokenError::Proof(ProofError::Nonce) => proof.rules.nonces.current(proof.now),
        Err(_) => None,
    };
    let proven = checked.and_then(|checked| {
        let proofs = PresentedProofs { key: checked.map(|checked| checked.key), certificate };
        prove(&presented.caller, &proofs, rule.bound)
    });
    let needs_none = proven.is_ok() && presented.caller.confirmation().is_none();
    if needs_none { proven } else { report(observer, "proof of possession", proven, |_| passed_check::possession()) }
}

/// Records the refusal of a request that has a permit all the same, because its route only reports.
fn report_only<'r>(
    permit: Option<Permit<'r>>,
    refusal: Rejection,
    log: &mut RequestLog,
) -> Result<Permit<'r>, Rejection> {
    let Some(permit) = permit else { return Err(refusal) };
    log.reported(refusal.reason(), found_and_wanted(&refusal));
    if let Some(identity) = refusal.identity() {
        log.identity = identity;
    }
    Ok(permit)
}

/// Counts the request against the limits of its route that are not by address, and against those of its client. A route
/// that only reports refuses none.
async fn count_by_caller(
    permit: &Permit<'_>,
    DecideContext { snapshot, peer, .. }: DecideContext<'_, '_>,
    open: &mut OpenRequest,
    headers: &HeaderMap,
    observer: &mut impl Observer,
) -> Result<(), Rejection> {
    let (route, caller) = (permit.route(), permit.caller());
    let by_caller = LimitPhase::Caller { headers, caller };
    let mut counted = count_rule(&route.limits, snapshot, by_caller, peer, open, observer).await;
    if counted.is_ok() {
        counted = count_caller(snapshot, caller, open, observer).await;
    }
    match counted {
        Err(refusal) if route.only_reports(open.log.now) => {
            open.log.reported(refusal.reason(), found_and_wanted(&refusal));
            Ok(())
        }
        counted => counted,
    }
}

/// `requested` is the method that a preflight is about: its route is looked for first, and need not take OPTIONS
/// itself.
fn find_route<'s>(
    snapshot: &'s Snapshot,
    log: &mut RequestLog,
    request: &CanonicalRequest,
    head: &ReceivedHead,
    requested: Option<&Method>,
) -> Result<&'s Route, Rejection> {
    let (host, path) = (request.authority.host(), request.decoded_path());
    let find = |method| snapshot.routes.find(method, host, path, &head.headers);
    let mut found = find(&request.method);
    if let Some(requested) = requested
        && let Some((route, index)) = snapshot.routes.find_for_preflight(requested, host, path)
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
        RouteMatch::UnclearField(fault) => Err(Rejection::Header(fault)),
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
    let is_endpoint = || snapshot.built_in(request.decoded_path(), request.authority.host()).is_some();
    if has_token || head.headers.contains_key(AUTHORIZATION) || is_endpoint() {
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
