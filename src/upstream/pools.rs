//! One worker's pools for all upstreams.

use std::cell::RefCell;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::HashMap;
use tokio::time::Instant;

use super::pin_limit::PinLimit;
use super::pool::{Pool, SWEEP_EVERY};
use super::server_set::ServerSet;
use super::service::Upstream;
use crate::telemetry::metric_labels::{ServerLabels, UpstreamLabels};
use crate::telemetry::metrics::WorkerReport;

#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// By the number of their upstream.
    server_sets: RefCell<HashMap<u64, Rc<ServerSet>>>,
    former: RefCell<FormerCounts>,
    pub(super) pin_limit: Arc<PinLimit>,
}

/// The counts of upstreams that are configured no more, or in another way.
#[derive(Debug, Default)]
struct FormerCounts {
    requests: HashMap<ServerLabels, u64>,
    retries: HashMap<UpstreamLabels, u64>,
}

/// Of servers and of upstreams. Counts of further ones are not kept.
const MAX_FORMER: usize = 10_000;

impl FormerCounts {
    fn add(&mut self, report: WorkerReport) {
        add_all(&mut self.requests, report.server_requests);
        add_all(&mut self.retries, report.upstream_retries);
    }
}

fn add_all<L: Eq + Hash>(sums: &mut HashMap<L, u64>, counts: Vec<(L, u64)>) {
    for (labels, count) in counts {
        if let Some(sum) = sums.get_mut(&labels) {
            *sum += count;
        } else if sums.len() < MAX_FORMER {
            sums.insert(labels, count);
        }
    }
}

impl Pools {
    pub(crate) fn new(pin_limit: Arc<PinLimit>) -> Self {
        Self { pin_limit, ..Self::default() }
    }

    /// Closes connections that were idle for too long. Runs beside the requests of its worker and never returns.
    pub(crate) async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let now = Instant::now();
            self.for_each_pool(|pool| pool.sweep(now));
        }
    }

    /// The number of idle connections.
    pub(crate) fn idle(&self) -> usize {
        let mut idle = 0;
        self.for_each_pool(|pool| idle += pool.idle());
        idle
    }

    /// Adds the counts of each server.
    pub(crate) fn report(&self, report: &mut WorkerReport) {
        self.server_sets.borrow().values().for_each(|servers| servers.report(report));
        let former = self.former.borrow();
        report.server_requests.extend(former.requests.iter().map(|(labels, count)| (labels.clone(), *count)));
        report.upstream_retries.extend(former.retries.iter().map(|(labels, count)| (labels.clone(), *count)));
    }

    /// Drops the pools of upstreams that are not current, once they have neither requests nor connections. Their counts
    /// stay. True if there is none left.
    pub(crate) fn retire(&self, is_current: impl Fn(u64) -> bool) -> bool {
        let (mut ended, mut all_ended) = (WorkerReport::default(), true);
        self.server_sets.borrow_mut().retain(|number, servers| {
            if is_current(*number) {
                return true;
            }
            let is_used = Rc::strong_count(servers) > 1 || servers.pools().any(|pool| pool.idle() > 0);
            all_ended &= !is_used;
            if !is_used {
                servers.report(&mut ended);
            }
            is_used
        });
        self.former.borrow_mut().add(ended);
        all_ended
    }

    pub(super) fn server_set(&self, upstream: &Upstream) -> Rc<ServerSet> {
        if let Some(servers) = self.server_sets.borrow().get(&upstream.number) {
            return Rc::clone(servers);
        }
        let servers = ServerSet::new(upstream);
        self.server_sets.borrow_mut().insert(upstream.number, Rc::clone(&servers));
        servers
    }

    fn for_each_pool(&self, mut each: impl FnMut(&Pool)) {
        self.server_sets.borrow().values().for_each(|servers| servers.pools().for_each(&mut each));
    }
}
