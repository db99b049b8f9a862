//! One request and its response: the server that gets it, the time that it may take, and the attempts at other servers.
//!
//! A request is sent a second time only if nothing of it was sent the first time, or if it has no body and cannot have
//! had an effect; and only as far as the upstream's retry budget allows.

use std::rc::Rc;
use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use super::attempt::{AttemptFailure, UpstreamExchange};
use super::balancing::outcome::ServerOutcome;
use super::body::upload_progress::UploadProgress;
use super::connection_binding::ConnectionBinding;
use super::fault::UpstreamFault;
use super::lease::Lease;
use super::pools::Pools;
use super::request::UpstreamRequest;
use super::response_body::ResponseBody;
use super::server_set::RequestSlot;
use super::service::Upstream;
use crate::oauth::caller::Digest;

/// The timeouts of a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// To the first byte of the response, all attempts included.
    pub(crate) response: Duration,
    /// Between two chunks of its body.
    pub(crate) body_idle: Option<Duration>,
}

impl Pools {
    /// Sends a request and gives the response, whose body is still to arrive. Requests of the same `key` go to the same
    /// server if the upstream is balanced by hash.
    pub(crate) async fn send(
        &self,
        upstream: &Upstream,
        request: UpstreamRequest,
        progress: Rc<UploadProgress>,
        deadlines: Deadlines,
        key: Option<Digest>,
        binding: ConnectionBinding<'_>,
    ) -> Result<Response<ResponseBody>, UpstreamFault> {
        let servers = self.server_set(upstream);
        let mut exchange =
            UpstreamExchange::new(servers, upstream, request, progress, deadlines.response, key, binding);
        exchange.servers.count_request(exchange.now);
        // Held until there is an outcome.
        let _trial = match &upstream.breaker {
            None => None,
            Some(breaker) => breaker.admit(exchange.now).map_err(|_| UpstreamFault::Open)?,
        }
        .map(|trial| UploadProgress::hold_trial(&exchange.progress, trial));
        let mut slot = exchange.acquire_slot().ok_or(UpstreamFault::Full)?;
        loop {
            let index = slot.index;
            let failure = match exchange.attempt(&slot).await {
                Ok((response, mut held)) => {
                    exchange.observe(&slot, ServerOutcome::of(response.status()));
                    let may_retry =
                        exchange.can_restore() && upstream.settings.retries.statuses.contains(&response.status());
                    if let Some(next) = exchange.retry_slot(index, may_retry, true) {
                        slot = next;
                        exchange.restore()?;
                        continue;
                    }
                    let head = (response.status(), response.headers());
                    exchange.binding.settle(head, &mut held, upstream, &self.pin_limit);
                    let lease = Lease::new(slot, exchange.progress, held);
                    let continue_sender = exchange.request.and_then(|request| request.continue_sender);
                    return Ok(response.map(|()| ResponseBody::new(deadlines.body_idle, lease, continue_sender)));
                }
                Err(failure) => failure,
            };
            if failure.counts_against_server() {
                exchange.observe(&slot, ServerOutcome::Failure);
            }
            // Released before the next attempt acquires one.
            drop(slot);
            slot = exchange.slot_after(failure, index)?;
        }
    }
}

impl UpstreamExchange<'_> {
    fn acquire_slot(&self) -> Option<RequestSlot> {
        match self.binding.server(self.upstream) {
            Some(server) => self.servers.acquire_slot_at(self.upstream, server),
            None => self.servers.acquire_slot(self.upstream, self.key, self.tried, self.now),
        }
    }

    /// The slot of the next attempt after a failure at the server `index`, or the fault if there is none.
    fn slot_after(&mut self, failure: AttemptFailure, index: usize) -> Result<RequestSlot, UpstreamFault> {
        let retries = &self.upstream.settings.retries;
        match failure {
            AttemptFailure::Unsent(fault) => self.retry_slot(index, retries.connect, false).ok_or(fault),
            AttemptFailure::Unprocessed(fault) => self.retry_slot(index, retries.connect, true).ok_or(fault),
            AttemptFailure::Full => {
                self.tried.add(index);
                let is_in_time = Instant::now() < self.deadline;
                is_in_time.then(|| self.acquire_slot()).flatten().ok_or(UpstreamFault::Full)
            }
            AttemptFailure::Sent { fault, may_retry } => {
                let may_retry = may_retry && self.can_restore();
                let slot = self.retry_slot(index, may_retry, true).ok_or(fault)?;
                self.restore()?;
                Ok(slot)
            }
        }
    }

    /// The slot of a retry, if one is allowed: at another server, or with `same` at the same one if there is no other.
    fn retry_slot(&mut self, index: usize, may_retry: bool, same: bool) -> Option<RequestSlot> {
        if !may_retry || self.retries_left == 0 {
            return None;
        }
        let now = Instant::now();
        if now >= self.deadline {
            return None;
        }
        self.tried.add(index);
        let other = self.acquire_slot();
        let slot = other.or_else(|| same.then(|| self.servers.acquire_slot_at(self.upstream, index)).flatten())?;
        if !self.servers.may_retry(self.upstream.millis(now)) {
            return None;
        }
        self.retries_left -= 1;
        self.servers.count_retry();
        Some(slot)
    }

    /// Records an outcome. A failure while the caller keeps the server waiting may be the server's reaction to that,
    /// and is not recorded.
    fn observe(&self, slot: &RequestSlot, outcome: ServerOutcome) {
        if outcome == ServerOutcome::Failure && self.progress.is_stalled_by_caller() {
            return;
        }
        if self.upstream.servers.len() > 1 || self.upstream.breaker.is_some() {
            slot.observe(self.upstream, outcome, self.upstream.millis(Instant::now()));
        }
    }
}
