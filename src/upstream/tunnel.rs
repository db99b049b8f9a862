//! A request to switch protocols: over a connection of its own, which no other request uses.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::balancing::balancer::TriedServers;
use super::balancing::outcome::ServerOutcome;
use super::body::upload_progress::UploadProgress;
use super::connect::stream::WriteTolerantStream;
use super::exchange::Deadlines;
use super::fault::UpstreamFault;
use super::http1::connection::{Http1Connection, connect};
use super::http1::connection_slot::ConnectionSlot;
use super::http1::exchange::{ExchangeFailure, Http1Exchange};
use super::lease::{ConnectionFate, HeldResponse, Lease};
use super::pools::Pools;
use super::protocol::UpstreamProtocol;
use super::request::UpstreamRequest;
use super::response_body::ResponseBody;
use super::response_head::http1_head;
use super::server_set::RequestSlot;
use super::service::Upstream;
use crate::oauth::caller::Digest;

/// The response of an upstream to a request to switch protocols.
#[derive(Debug)]
pub(crate) enum UpgradeReply {
    /// 101, with these header fields. The caller checks that the protocol is the requested one.
    Switched(HeaderMap, SwitchedStream, TunnelHold),
    Ordinary(Response<ResponseBody>),
}

/// The stream of a connection that has switched protocols.
#[derive(Debug)]
pub(crate) struct SwitchedStream {
    pub(crate) stream: WriteTolerantStream,
    /// Bytes in the other protocol that came with the response.
    pub(crate) early: Bytes,
}

/// The request slot and the connection slot of a tunnel, until its end.
#[derive(Debug)]
pub(crate) struct TunnelHold {
    _slot: RequestSlot,
    _connection_slot: Option<ConnectionSlot>,
}

impl Pools {
    pub(crate) async fn switch(
        &self,
        upstream: &Upstream,
        mut request: UpstreamRequest,
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
        let (slot, connection) = self.connect_tunnel(upstream, key, deadline).await?;
        let exchange = Http1Exchange::new(connection, &slot.pool().target, &mut request, &progress);
        let mut exchange = exchange.with_switch();
        let answered = poll_fn(|context| exchange.poll_head_until(deadline, None, context)).await;
        let head = answered.unwrap_or(Err(ExchangeFailure::Sent(UpstreamFault::Timeout))).map_err(UpstreamFault::from);
        let outcome = head.as_ref().map_or(ServerOutcome::Failure, |head| ServerOutcome::of(head.status));
        slot.observe(upstream, outcome, upstream.millis(Instant::now()));
        let head = head?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let (stream, early, connection_slot) = exchange.into_connection().into_stream();
            let hold = TunnelHold { _slot: slot, _connection_slot: connection_slot };
            return Ok(UpgradeReply::Switched(head.headers, SwitchedStream { stream, early }, hold));
        }
        // An upstream may switch after a response that refuses to, so the connection is never reused.
        let held = HeldResponse::Http1 {
            response: exchange.into_response(&head),
            last_used: Instant::now(),
            fate: ConnectionFate::Closed,
        };
        let response = http1_head(head)?;
        let lease = Lease::new(slot, progress, held);
        Ok(UpgradeReply::Ordinary(response.map(|()| ResponseBody::new(deadlines.body_idle, lease, None))))
    }

    /// A connection to one of the servers: to another one if that fails, as far as retries are allowed.
    async fn connect_tunnel(
        &self,
        upstream: &Upstream,
        key: Option<Digest>,
        deadline: Instant,
    ) -> Result<(RequestSlot, Box<Http1Connection>), UpstreamFault> {
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
            let Ok(connection_slot) = slot.pool().connection_slot() else { continue };
            let connected = timeout_at(deadline, connect(&slot.pool().target, connection_slot)).await;
            match connected.unwrap_or(Err(UpstreamFault::Timeout)) {
                Ok(connection) => return Ok((slot, connection)),
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
