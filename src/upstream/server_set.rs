//! One worker's view of an upstream: the pool of each server, and the slots of the requests that they serve.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::balancing::balancer::{Balancer, TriedServers};
use super::balancing::ejection::OutcomeCounts;
use super::balancing::outcome::ServerOutcome;
use super::balancing::retry_budget::Budget;
use super::balancing::status::ServerStatus;
use super::pool::Pool;
use super::service::Upstream;
use crate::oauth::caller::Digest;
use crate::telemetry::metric_labels::{ServerLabels, UpstreamLabels};
use crate::telemetry::metrics::WorkerReport;

#[derive(Debug)]
pub(super) struct ServerSet {
    upstream: Arc<str>,
    servers: Box<[ServerEntry]>,
    statuses: Arc<[ServerStatus]>,
    balancer: Balancer,
    budget: Budget,
    retries: Cell<u64>,
}

#[derive(Debug)]
struct ServerEntry {
    name: Box<str>,
    pool: Rc<Pool>,
    requests: Cell<u64>,
    recent: Cell<OutcomeCounts>,
}

/// A request in flight at a server, until its response has ended.
#[derive(Debug)]
pub(super) struct RequestSlot {
    servers: Rc<ServerSet>,
    pub(super) index: usize,
    /// It is counted in the server's [`ServerStatus`].
    is_limited: bool,
}

impl ServerSet {
    pub(super) fn new(upstream: &Upstream) -> Rc<Self> {
        let servers = upstream.servers.iter().map(|server| ServerEntry {
            name: server.name().into_owned().into_boxed_str(),
            pool: Rc::new(Pool::new(&upstream.name, server, &upstream.settings)),
            requests: Cell::new(0),
            recent: Cell::default(),
        });
        Rc::new(Self {
            upstream: Arc::clone(&upstream.name),
            servers: servers.collect(),
            statuses: Arc::clone(&upstream.statuses),
            balancer: Balancer::new(&upstream.servers),
            budget: Budget::new(),
            retries: Cell::new(0),
        })
    }

    /// A slot at the server that the balancer chooses. `None` if every server was tried or is full.
    pub(super) fn acquire_slot(
        self: &Rc<Self>,
        upstream: &Upstream,
        key: Option<Digest>,
        mut tried: TriedServers,
        now: u64,
    ) -> Option<RequestSlot> {
        loop {
            let index = self.balancer.choose(&upstream.settings, &self.statuses, key, tried, now)?;
            if let Some(slot) = self.acquire_slot_at(upstream, index) {
                return Some(slot);
            }
            // Another worker has taken its last slot.
            tried.add(index);
        }
    }

    pub(super) fn acquire_slot_at(self: &Rc<Self>, upstream: &Upstream, index: usize) -> Option<RequestSlot> {
        let is_limited = match upstream.settings.caps.in_flight {
            Some(limit) if !self.statuses[index].begin_request(limit) => return None,
            Some(_) => true,
            None => false,
        };
        self.balancer.begin_request(index);
        let requests = &self.servers[index].requests;
        requests.set(requests.get() + 1);
        Some(RequestSlot { servers: Rc::clone(self), index, is_limited })
    }

    /// Counts a request for the retry budget.
    pub(super) fn count_request(&self, now: u64) {
        self.budget.count_request(now);
    }

    /// True if the retry budget allows one more retry; it is counted then.
    pub(super) fn may_retry(&self, now: u64) -> bool {
        self.budget.take_retry(now)
    }

    pub(super) fn count_retry(&self) {
        self.retries.set(self.retries.get() + 1);
    }

    pub(super) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.servers.iter().map(|server| &*server.pool)
    }

    pub(super) fn report(&self, report: &mut WorkerReport) {
        let upstream = String::from(&*self.upstream);
        for (index, server) in self.servers.iter().enumerate() {
            let labels = ServerLabels { upstream: upstream.clone(), server: String::from(&*server.name) };
            report.server_in_flight.push((labels.clone(), u64::from(self.balancer.in_flight(index))));
            report.server_requests.push((labels, server.requests.get()));
        }
        report.upstream_retries.push((UpstreamLabels { upstream }, self.retries.get()));
    }
}

impl RequestSlot {
    pub(super) fn pool(&self) -> &Rc<Pool> {
        &self.servers.servers[self.index].pool
    }

    pub(super) fn observe(&self, upstream: &Upstream, outcome: ServerOutcome, now: u64) {
        upstream.observe(self.index, outcome, &self.servers.servers[self.index].recent, now);
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.servers.balancer.end_request(self.index);
        if self.is_limited {
            self.servers.statuses[self.index].end_request();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::tests::upstream;
    use super::*;

    const NOW: u64 = 1_000_000;

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let upstream = upstream(&[1], |settings| settings.caps.in_flight = Some(1));
        let servers = ServerSet::new(&upstream);
        let acquire = || servers.acquire_slot(&upstream, None, TriedServers::default(), NOW);
        let slot = acquire();
        assert!(slot.is_some() && acquire().is_none());
        drop(slot);
        assert!(acquire().is_some());
        assert_eq!((servers.balancer.in_flight(0), servers.servers[0].requests.get()), (0, 2));
    }
}
