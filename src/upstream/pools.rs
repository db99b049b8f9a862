//! One worker's pools for all upstreams.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::HashMap;
use tokio::time::Instant;

use super::pin_limit::PinLimit;
use super::pool::{Pool, SWEEP_EVERY};
use super::server_set::ServerSet;
use super::service::Upstream;
use crate::telemetry::metrics::WorkerReport;

#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// By the number of their upstream.
    server_sets: RefCell<HashMap<u64, Rc<ServerSet>>>,
    pub(super) pin_limit: Arc<PinLimit>,
}

impl Pools {
    pub(crate) fn new(pin_limit: Arc<PinLimit>) -> Self {
        Self { server_sets: RefCell::default(), pin_limit }
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
