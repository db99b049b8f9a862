//! A request to switch protocols: over a connection of its own, which no other request uses.

use std::rc::Rc;

use http::header::HOST;
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::Upgraded;
use tokio::time::{Instant, timeout_at};

use super::balancing::balancer::TriedServers;
use super::balancing::outcome::ServerOutcome;
use super::body::incoming_response::IncomingResponse;
use super::body::upload_progress::UploadProgress;
use super::exchange::Deadlines;
use super::fault::UpstreamFault;
use super::http1::connection::{Http1Connection, connect};
use super::http1::connection_slot::ConnectionSlot;
use super::lease::{ConnectionFate, HeldConnection, Lease};
use super::pools::Pools;
use super::protocol::UpstreamProtocol;
use super::request::UpstreamRequest;
use super::response_body::ResponseBody;
use super::response_head::normalize;
use super::server_set::RequestSlot;
use super::service::Upstream;
use crate::oauth::caller::Digest;

/// The response of an upstream to a request to switch protocols.
#[derive(Debug)]
pub(crate) enum UpgradeReply {
    /// 101, with these header fields. The caller checks that the protocol is the requested one.
    Switched(HeaderMap, Upgraded, TunnelHold),
    Ordinary(Response<ResponseBody>),
}

/// The request slot and the connection slot of a tunnel, until its end. Before the switch, and if there is none, the
/// connection's driver holds the connection slot.
#[derive(Debug)]
pub(crate) struct TunnelHold {
    slot: RequestSlot,
    _connection_slot: Option<Rc<ConnectionSlot>>,
}

impl Pools {
    pub(crate) async fn switch(
        &self,
        upstream: &Upstream,
        request: UpstreamRequest,
        progress: Rc<UploadProgress>,
        deadlines: Deadlines,
        key: Option<Digest>,
    ) -> Result<UpgradeReply, UpstreamFault> {
        let deadline = Instant::now() + deadlines.response;
        // Held until there is an outcome.
        let _trial = match &upstream.breaker {
            None => None,
            Some(breaker) => breaker.admit(upstream.millis(Instant::now())).map_err(|_| UpstreamFault::Open)?,
        };
        let (hold, mut connection) = self.connect_tunnel(upstream, key, deadline).await?;
        let slot = &hold.slot;
        let mut request = request.into_http()?;
        request.headers_mut().insert(HOST, slot.pool().target.server.authority.clone());
        let sent = timeout_at(deadline, connection.requests.send_request(request)).await;
        let sent = sent
            .map_err(|_| UpstreamFault::Timeout)
            .and_then(|sent| sent.map_err(|error| UpstreamFault::of(error, None)));
        let outcome = sent.as_ref().map_or(ServerOutcome::Failure, |response| ServerOutcome::of(response.status()));
        slot.observe(upstream, outcome, upstream.millis(Instant::now()));
        let mut response = sent?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = timeout_at(deadline, hyper::upgrade::on(&mut response)).await;
            let stream =
                switched.map_err(|_| UpstreamFault::Timeout)?.map_err(|error| UpstreamFault::Reset(error.into()))?;
            // A tunnel delivers all that was written to it.
            connection.write_progress.close_by_reset(false);
            return Ok(UpgradeReply::Switched(response.into_parts().0.headers, stream, hold));
        }
        normalize(&mut response)?;
        // An upstream may switch after a response that refuses to, so the connection is never reused.
        let held = HeldConnection::Http1 {
            connection,
            last_used: Instant::now(),
            is_reusable: false,
            fate: ConnectionFate::Closed,
        };
        let lease = Lease::new(hold.slot, progress, held);
        let body = |body| ResponseBody::new(IncomingResponse::Http1(body), deadlines.body_idle, lease, None);
        Ok(UpgradeReply::Ordinary(response.map(body)))
    }

    /// A connection to one of the servers: to another one if that fails, as far as retries are allowed.
    async fn connect_tunnel(
        &self,
        upstream: &Upstream,
        key: Option<Digest>,
        deadline: Instant,
    ) -> Result<(TunnelHold, Http1Connection), UpstreamFault> {
        let servers = self.server_set(upstream);
        let now = upstream.millis(Instant::now());
        servers.count_request(now);
        let rules = &upstream.settings.retries;
        let mut retries_left = if rules.connect { rules.attempts } else { 0 };
        let (mut tried, mut fault) = (TriedServers::default(), UpstreamFault::Full);
        loop {
            let Some(slot) = servers.acquire_slot(upstream, key, tried, now) else {
                return Err(fault);
            };
            tried.add(slot.index);
            if slot.pool().target.server.protocol == UpstreamProtocol::Http2 {
                // Extended CONNECT to upstreams is not supported.
                return Err(UpstreamFault::Unasked("a protocol"));
            }
            let Ok(connection_slot) = slot.pool().connection_slot(deadline).await else { continue };
            let connected = timeout_at(deadline, connect(&slot.pool().target, connection_slot.clone())).await;
            match connected.unwrap_or(Err(UpstreamFault::Timeout)) {
                Ok(connection) => return Ok((TunnelHold { slot, _connection_slot: connection_slot }, connection)),
                Err(error) => fault = error,
            }
            slot.observe(upstream, ServerOutcome::Failure, upstream.millis(Instant::now()));
            if retries_left == 0 || Instant::now() >= deadline || !servers.may_retry(now) {
                return Err(fault);
            }
            retries_left -= 1;
            servers.count_retry();
        }
    }
}
