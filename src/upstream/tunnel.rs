//! A request for another protocol: over a connection of its own, which never carries another.

use std::rc::Rc;

use http::header::HOST;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use tokio::time::{Instant, timeout_at};

use crate::oauth::caller::Digest;
use crate::upstream::balancing::ejection::ServerOutcome;
use crate::upstream::body::incoming_response::Answered;
use crate::upstream::body::request_body::{RequestBody, ResponseBody};
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::exchange::Deadlines;
use crate::upstream::fault::UpstreamFault;
use crate::upstream::http1::connection::{Sender, connect};
use crate::upstream::pinned::{ConnectionFate, room};
use crate::upstream::pool::{HeldConnection, Lease, Pools};
use crate::upstream::response_head::make_passable;
use crate::upstream::server_set::{ConnectionSlot, RequestSlot, TriedServers};
use crate::upstream::service::{Upstream, UpstreamProtocol};

/// What an upstream answers to it.
#[derive(Debug)]
pub(crate) enum UpgradeReply {
    /// 101, with this header; whether to what was asked is not judged here.
    Switched(HeaderMap, Upgraded, TunnelHold),
    Ordinary(Response<ResponseBody>),
}

/// A tunnel's place at its server, and room for its connection, for as long as there is the tunnel. Until then, and where there
/// comes to be none, it is the connection that has the room.
#[derive(Debug)]
pub(crate) struct TunnelHold {
    seat: RequestSlot,
    _room: Option<Rc<ConnectionSlot>>,
}

impl Pools {
    pub(crate) async fn switch(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        progress: Rc<UploadProgress>,
        deadlines: Deadlines,
        key: Option<Digest>,
    ) -> Result<UpgradeReply, UpstreamFault> {
        let deadline = Instant::now() + deadlines.response;
        // Until there is an outcome.
        let _trial = match &upstream.breaker {
            None => None,
            Some(breaker) => Some(breaker.lets_through(upstream.millis(Instant::now())).ok_or(UpstreamFault::Open)?),
        };
        let (occupied, mut sender) = self.occupy(upstream, key, deadline).await?;
        let seat = &occupied.seat;
        request.headers_mut().insert(HOST, seat.pool().target.server.authority.clone());
        let sent = timeout_at(deadline, sender.requests.send_request(request)).await;
        let sent = sent
            .map_err(|_| UpstreamFault::Timeout)
            .and_then(|sent| sent.map_err(|error| UpstreamFault::of(error, None)));
        let outcome = sent.as_ref().map_or(ServerOutcome::Bad, |response| ServerOutcome::of(response.status()));
        seat.observe(upstream, outcome, upstream.millis(Instant::now()));
        let mut response = sent?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = timeout_at(deadline, hyper::upgrade::on(&mut response)).await;
            let stream =
                switched.map_err(|_| UpstreamFault::Timeout)?.map_err(|error| UpstreamFault::Reset(error.into()))?;
            return Ok(UpgradeReply::Switched(response.into_parts().0.headers, stream, occupied));
        }
        make_passable(&mut response)?;
        // An upstream may go on in another protocol that has said no only by half: never quiet enough for another request.
        let held =
            HeldConnection::Whole { sender, used: Instant::now(), quiet: false, afterwards: ConnectionFate::Closed };
        let lease = Lease::new(occupied.seat, progress, held);
        let body = |body| ResponseBody::new(Answered::Http1(body), deadlines.body_idle, lease);
        Ok(UpgradeReply::Ordinary(response.map(body)))
    }

    /// A connection to one of the servers: to another where one takes none, as far as retries go.
    async fn occupy(
        &self,
        upstream: &Upstream,
        key: Option<Digest>,
        deadline: Instant,
    ) -> Result<(TunnelHold, Sender), UpstreamFault> {
        let crew = self.crew(upstream);
        let now = upstream.millis(Instant::now());
        crew.budget.request(now);
        let rules = &upstream.settings.retries;
        let mut retries_left = if rules.connect { rules.attempts } else { 0 };
        let (mut tried, mut failed) = (TriedServers::default(), UpstreamFault::Full);
        loop {
            let Some(seat) = crew.seat(upstream, key, tried, now) else {
                return Err(failed);
            };
            tried.add(seat.index);
            if seat.pool().target.server.protocol == UpstreamProtocol::Http2 {
                // Extended CONNECT is not spoken to upstreams.
                return Err(UpstreamFault::Unasked("a protocol"));
            }
            let Ok(room) = room(&seat, upstream, deadline).await else { continue };
            let connected = timeout_at(deadline, connect(&seat.pool().target, room.clone())).await;
            match connected.unwrap_or(Err(UpstreamFault::Timeout)) {
                Ok(sender) => return Ok((TunnelHold { seat, _room: room }, sender)),
                Err(fault) => failed = fault,
            }
            seat.observe(upstream, ServerOutcome::Bad, upstream.millis(Instant::now()));
            if retries_left == 0 || Instant::now() >= deadline || !crew.budget.retry(now) {
                return Err(failed);
            }
            retries_left -= 1;
            crew.retries.set(crew.retries.get() + 1);
        }
    }
}
