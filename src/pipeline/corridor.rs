//! The request's way, from a parsed head to an answer: one direction, read from top to bottom.
//!
//! ```text
//! accept → tls → http │ canonicalise → route → peer limits → authenticate → authorize → caller limits, audit place → forward │ audit
//! ```
//!
//! What stands left of the first bar is `server/`; the line in the audit log is written when the answer's body has ended, by the
//! [`Trail`] that every answer carries. Each room may refuse, and a refusal is an answer like any other.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{AUTHORIZATION, EXPECT, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::access::Access;
use super::answer::{AnswerBody, Content};
use super::authenticate::authenticate;
use super::authorize::{Permit, allow_public, authorize};
use super::built_in;
use super::canonical::CanonicalRequest;
use super::forward::{Passage, forward};
use super::headers::strip_request;
use super::limits::{Limit, Per};
use super::peer::{Entrance, Peer};
use super::rejection::Rejection;
use super::route::Route;
use super::routes::Found;
use super::snapshot::Snapshot;
use super::trail::{Place, Trail};
use super::worker::Worker;
use crate::server::guard::Exchange;
use crate::upstream::body::{Linger, linger};

/// Every request takes this way, the token endpoint and the JWK Set included.
pub(crate) async fn walk(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    exchange: Exchange,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let snapshot = worker.snapshot();
    let mut trail = Trail::begin(&worker, Rc::clone(&snapshot), &peer);
    let (head, body) = request.into_parts();
    let for_head = head.method == Method::HEAD;
    // Who waits to be told to go on must not be told so by our reading.
    let holds_back = !body.is_end_stream() && head.headers.contains_key(EXPECT);
    let mut body = Some(body);
    let decided = decide(&worker, &snapshot, &peer, &mut trail, head, &mut body).await;
    if let Some(unread) = body.filter(|_| !holds_back) {
        let busy = matches!(decided, Err(Rejection::Overload | Rejection::RateLimited(_)));
        linger(unread, if busy { Linger::Short } else { Linger::Long });
    }
    let mut answer = decided.unwrap_or_else(|rejection| rejection.answer(&mut trail));
    if for_head {
        answer = Content::withheld(answer);
    }
    trail.sign(answer.status().as_u16(), answer.headers_mut());
    answer.map(|content| AnswerBody::new(content, trail, exchange))
}

async fn decide(
    worker: &Worker,
    snapshot: &Snapshot,
    peer: &Peer,
    trail: &mut Trail,
    mut head: Parts,
    body: &mut Option<Incoming>,
) -> Result<Response<Content>, Rejection> {
    if worker.is_overloaded() {
        return Err(Rejection::Overload);
    }
    let request = CanonicalRequest::new(&head, peer.scheme(), &peer.last_authority, &snapshot.limits)?;
    trail.request(&request);
    if let Entrance::Redirect { origin } = &peer.entrance {
        return redirect(origin, snapshot, trail, &request, &head);
    }
    if let Some((oauth, built_in)) = snapshot.built_in(request.decoded_path()) {
        trail.place = Place::BuiltIn(built_in);
        return built_in::answer(oauth, built_in, peer, trail, &request, &head, body).await;
    }
    let route = find_route(snapshot, trail, &request)?;
    count_address(&route.limits, peer, trail)?;
    let permit = match &route.access {
        Access::Public => allow_public(route).ok_or(Rejection::NoRoute)?,
        Access::Protected(rule) => {
            let caller = authenticate(worker, snapshot, rule, &head.headers, trail.now).await?;
            trail.caller(&caller);
            authorize(route, rule, caller)?
        }
    };
    count_caller(&permit, peer, trail, &head)?;
    let is_protected = permit.caller().is_some();
    if is_protected {
        trail.reserve()?;
    } else {
        trail.reserve_if_roomy();
    }
    strip_request(&mut head.headers)?;
    trail.allowed();
    let passage =
        Passage { worker, from: peer, request: &request, request_id: trail.request_id, limits: &snapshot.limits };
    let answer = forward(permit, passage, head, body).await?;
    if is_protected {
        trail.commit(answer.status()).await?;
    }
    Ok(answer)
}

fn find_route<'s>(
    snapshot: &'s Snapshot,
    trail: &mut Trail,
    request: &'s CanonicalRequest,
) -> Result<&'s Route, Rejection> {
    match snapshot.routes.find(&request.method, request.authority.host(), request.decoded_path()) {
        Found::Route(route, index) => {
            trail.place = Place::Route(index);
            Ok(route)
        }
        Found::MethodNotAllowed(allow) => Err(Rejection::MethodNotAllowed(allow)),
        Found::Nothing => Err(Rejection::NoRoute),
    }
}

/// Address limits come before any signature is looked at, so that a flood of bad tokens is cheap.
pub(super) fn count_address(limits: &[Arc<Limit>], peer: &Peer, trail: &mut Trail) -> Result<(), Rejection> {
    for (index, limit) in limits.iter().enumerate().filter(|(_, limit)| limit.is_by_address()) {
        let count = limit.count(Per::by_address(peer.address));
        trail.counted(index, count);
        if !count.allowed {
            return Err(Rejection::RateLimited(count));
        }
    }
    Ok(())
}

fn count_caller(permit: &Permit<'_>, peer: &Peer, trail: &mut Trail, head: &Parts) -> Result<(), Rejection> {
    let limits = &permit.route().limits;
    for (index, limit) in limits.iter().enumerate().filter(|(_, limit)| !limit.is_by_address()) {
        let count = limit.count(limit.per.key(peer.address, &head.headers, permit.caller()));
        trail.counted(index, count);
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
    trail: &mut Trail,
    request: &CanonicalRequest,
    head: &Parts,
) -> Result<Response<Content>, Rejection> {
    trail.place = Place::Redirect;
    if head.headers.contains_key(AUTHORIZATION) || snapshot.built_in(request.decoded_path()).is_some() {
        return Err(Rejection::ClearText);
    }
    let location = format!("{origin}{}", request.target());
    let location = HeaderValue::try_from(location).map_err(|_| Rejection::NoRoute)?;
    trail.allowed();
    let mut response = Response::new(Content::whole(""));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
