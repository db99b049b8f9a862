//! Forwards a permitted request for a protocol other than HTTP, and opens the tunnel if the upstream agrees.
//!
//! The bytes that follow the request are kept until the upstream has answered. If the upstream does not agree, they are
//! discarded, or read as the next request: no byte of them reaches an upstream that has not agreed to the other
//! protocol.

use std::rc::Rc;

use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT};
use http::{HeaderMap, Method, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::content::Content;
use super::forward::{ForwardContext, clean, clean_header, hash_key, upstream_request};
use super::rejection::Rejection;
use crate::clock::{self, UnixTime};
use crate::pipeline::policy::authorize::Permit;
use crate::pipeline::policy::tunnels::{TunnelPermit, Tunnels};
use crate::pipeline::request::upgrade::{RequestedUpgrade, UpgradeHandshake};
use crate::server::received_request::ReceivedHead;
use crate::server::tunnel::{Tunnel, TunnelTimeouts};
use crate::trust::verify::Verified;
use crate::upstream::body::body_timeouts::BodyTimeouts;
use crate::upstream::body::request_body::{IncomingUpload, RequestBody};
use crate::upstream::exchange::Deadlines;
use crate::upstream::fault::UpstreamFault;
use crate::upstream::tunnel::{SwitchedStream, TunnelHold, UpgradeReply};

/// `head.headers` has only fields that may be forwarded.
pub(crate) async fn switch(
    permit: Permit<'_>,
    context: ForwardContext<'_>,
    mut head: ReceivedHead,
    upload: &mut IncomingUpload,
    mut handshake: Box<UpgradeHandshake>,
    tunnels: &Rc<Tunnels>,
) -> Result<Response<Content>, Rejection> {
    let (route, limits) = (permit.route(), context.limits);
    let place = tunnels.take(context.from.in_flight.as_ref()).ok_or(Rejection::Overload)?;
    let stream = head.extensions.remove::<OnUpgrade>().filter(|_| head.version == Version::HTTP_2);
    let key = hash_key(&context, &head.headers, &permit);
    let idle = route.body_idle.unwrap_or(limits.body_idle_timeout);
    let (body, progress) =
        RequestBody::new(upload, Some(0), BodyTimeouts { idle, min_rate: None }, Box::new(HeaderMap::clear));
    if head.method == Method::CONNECT {
        head.method = Method::GET;
    }
    let mut outgoing = upstream_request(&permit, &context, head, body)?;
    handshake.add_request_fields(&mut outgoing.headers);
    let deadlines =
        Deadlines { response: route.timeout.unwrap_or(context.to.settings.response_timeout), body_idle: idle };
    match context.pools.switch(context.to, outgoing, progress, deadlines, key).await? {
        // Over HTTP/2 any success would open the tunnel that the upstream has not agreed to (RFC 9113 §8.5).
        UpgradeReply::Ordinary(answer) if stream.is_some() && answer.status().is_success() => {
            Err(UpstreamFault::Unasked("a success").into())
        }
        UpgradeReply::Ordinary(answer) => {
            let mut answer = answer.map(Box::new);
            clean(&mut answer, route, &context);
            Ok(answer.map(Content::Streamed))
        }
        UpgradeReply::Switched(mut headers, switched_stream, occupied) => {
            if !handshake.matches(&headers) {
                return Err(UpstreamFault::Unasked("a protocol").into());
            }
            let timeouts = TunnelTimeouts { idle: limits.tunnel_idle_timeout, write: limits.write_stall_timeout };
            let ends_at = permit.ends_at();
            let may_continue = remains_valid(permit.into_caller(), ends_at, (place, occupied));
            let SwitchedStream { stream: upstream, early: upstream_early } = switched_stream;
            let tunnel = Tunnel { upstream: Box::new(upstream), upstream_early, stream, timeouts, may_continue };
            clean_header(&mut headers, route, &context);
            Ok(switched(headers, tunnel, &handshake))
        }
    }
}

/// A tunnel lasts as long as its token is valid, and one that a route only reports as long as that. New configurations judge it as they judge other open streams.
fn remains_valid(
    caller: Option<Rc<Verified>>,
    ends_at: Option<UnixTime>,
    places: (TunnelPermit, TunnelHold),
) -> Box<dyn FnMut() -> bool> {
    Box::new(move || {
        let _ = &places;
        let now = clock::now();
        let has_ended = ends_at.is_some_and(|end| end <= now || !now.is_plausible());
        !has_ended && caller.as_ref().is_none_or(|verified| verified.check_tunnel(clock::now(), Instant::now()).is_ok())
    })
}

fn switched(mut headers: HeaderMap, tunnel: Tunnel, handshake: &UpgradeHandshake) -> Response<Content> {
    headers.remove(CONTENT_LENGTH);
    let status = match tunnel.stream {
        Some(_) => {
            // The key was made by the gateway (RFC 8441 §5).
            headers.remove(SEC_WEBSOCKET_ACCEPT);
            StatusCode::OK
        }
        None => {
            handshake.add_response_fields(&mut headers);
            StatusCode::SWITCHING_PROTOCOLS
        }
    };
    let mut answer = Response::new(Content::Tunnel(Box::new(tunnel)));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Checks the handshake before any work is done for it.
pub(crate) fn check_handshake(
    requested: RequestedUpgrade,
    head: &ReceivedHead,
    has_body: bool,
) -> Result<Box<UpgradeHandshake>, Rejection> {
    requested.check(head, has_body).map(Box::new).map_err(|fault| Rejection::Header(fault.into()))
}
