//! Passes on a permitted request for another protocol, and opens the tunnel if the upstream agrees.
//!
//! What follows the request is kept until then, and thrown away, or read as the request that it is, if not: no byte of it reaches
//! an upstream that has not agreed to read it as another protocol.

use std::rc::Rc;

use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::answer::Content;
use super::authenticate::judge_client;
use super::authorize::Permit;
use super::cors;
use super::forward::{ForwardContext, hash_key, set_forwarding_headers};
use super::rejection::Rejection;
use super::trailers::strip_head_of_answer;
use super::tunnels::TunnelPermit;
use super::upgrade::{RequestedUpgrade, UpgradeHandshake};
use super::worker::Worker;
use crate::clock;
use crate::server::tunnel::{Tunnel, TunnelTimeouts as TunnelPatience};
use crate::trust::verify::{Expectations, Verified};
use crate::upstream::body::body_timeouts::BodyTimeouts;
use crate::upstream::body::request_body::{IncomingUpload, RequestBody};
use crate::upstream::exchange::Deadlines;
use crate::upstream::fault::UpstreamFault;
use crate::upstream::tunnel::{TunnelHold, UpgradeReply};

/// `head.headers` has been stripped of what stays behind.
pub(crate) async fn switch(
    permit: Permit<'_>,
    passage: ForwardContext<'_>,
    mut head: Parts,
    upload: &mut IncomingUpload,
    mut handshake: Box<UpgradeHandshake>,
) -> Result<Response<Content>, Rejection> {
    let (route, worker, limits) = (permit.route(), passage.worker, passage.limits);
    let place = worker.tunnels().take(passage.from.share.as_ref()).ok_or(Rejection::Overload)?;
    let stream = head.extensions.remove::<OnUpgrade>().filter(|_| head.version == Version::HTTP_2);
    let key = hash_key(&passage, &head.headers, &permit);
    let idle = route.body_idle.unwrap_or(limits.body_idle_timeout);
    let (body, progress) = RequestBody::new(upload, Some(0), BodyTimeouts { idle, min_rate: None }, HeaderMap::clear);
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = if head.method == Method::CONNECT { Method::GET } else { head.method };
    *outgoing.uri_mut() = route.upstream_uri(passage.request)?;
    *outgoing.headers_mut() = head.headers;
    set_forwarding_headers(outgoing.headers_mut(), &permit, &passage, head.version);
    handshake.ask(outgoing.headers_mut());
    let deadlines =
        Deadlines { response: route.timeout.unwrap_or(passage.to.settings.response_timeout), body_idle: idle };
    match worker.pools().switch(passage.to, outgoing, progress, deadlines, key).await? {
        // Over HTTP/2 any success would open the tunnel that the upstream has not agreed to (RFC 9113 §8.5).
        UpgradeReply::Ordinary(answer) if stream.is_some() && answer.status().is_success() => {
            Err(UpstreamFault::Unasked("a success").into())
        }
        UpgradeReply::Ordinary(answer) => {
            let mut answer = answer.map(|body| Content::Streamed(Box::new(body)));
            strip_head_of_answer(answer.headers_mut());
            if route.cors.is_some() {
                cors::strip(answer.headers_mut());
            }
            *answer.version_mut() = Version::default();
            Ok(answer)
        }
        UpgradeReply::Switched(mut headers, upstream, occupied) => {
            if !handshake.is_answered_by(&headers) {
                return Err(UpstreamFault::Unasked("a protocol").into());
            }
            let patience = TunnelPatience { idle: limits.tunnel_idle_timeout, write: limits.write_stall_timeout };
            let goes_on = lasting(Rc::clone(worker), permit.into_caller(), (place, occupied));
            let tunnel = Tunnel { upstream, stream, patience, goes_on };
            if route.cors.is_some() {
                cors::strip(&mut headers);
            }
            Ok(agreed(headers, tunnel, &handshake))
        }
    }
}

/// A tunnel lasts as long as another request with its token would be let in.
fn lasting(
    worker: Rc<Worker>,
    caller: Option<Rc<Verified>>,
    places: (TunnelPermit, TunnelHold),
) -> Box<dyn Fn() -> bool> {
    Box::new(move || {
        let _ = &places;
        caller.as_ref().is_none_or(|verified| {
            // What a route expects of a token does not change, and was looked at when the tunnel was opened.
            let judged = verified.revalidate(Expectations::any_route(), clock::now(), Instant::now());
            let snapshot = worker.snapshot();
            judged.is_ok() && snapshot.trust.holds(&verified.issuer) && judge_client(verified, &snapshot).is_ok()
        })
    })
}

fn agreed(mut headers: HeaderMap, tunnel: Tunnel, handshake: &UpgradeHandshake) -> Response<Content> {
    strip_head_of_answer(&mut headers);
    headers.remove(CONTENT_LENGTH);
    let status = match tunnel.stream {
        Some(_) => {
            // The key was ours (RFC 8441 §5).
            headers.remove(SEC_WEBSOCKET_ACCEPT);
            StatusCode::OK
        }
        None => {
            handshake.agree(&mut headers);
            StatusCode::SWITCHING_PROTOCOLS
        }
    };
    let mut answer = Response::new(Content::Tunnel(Box::new(tunnel)));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Before anything is done for it.
pub(crate) fn judge(
    asked: RequestedUpgrade,
    head: &Parts,
    upload: &IncomingUpload,
) -> Result<Box<UpgradeHandshake>, Rejection> {
    let has_body = upload.incoming.as_ref().is_some_and(|body| !body.is_end_stream());
    asked.judge(head, has_body).map(Box::new).map_err(|fault| Rejection::Header(fault.into()))
}
