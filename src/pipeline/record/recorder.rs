//! Where one worker records its requests: audit lines, metrics, and the number in flight.

use std::cell::RefCell;
use std::rc::Rc;

use super::metrics::WorkerMetrics;
use crate::audit::ledger::Ledger;
use crate::audit::reason::Reason;
use crate::pipeline::policy::load::LoadMonitor;
use crate::pipeline::request::request_id::RequestIds;
use crate::server::guard::Guard;
use crate::server::listener::ListenerId;

#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) load: LoadMonitor,
    pub(crate) request_ids: RequestIds,
    metrics: RefCell<WorkerMetrics>,
    guard: Rc<Guard>,
}

impl Recorder {
    pub(crate) fn new(ledger: Rc<Ledger>, load: LoadMonitor, guard: Rc<Guard>) -> Self {
        Self { ledger, load, request_ids: RequestIds::new(), metrics: RefCell::default(), guard }
    }

    /// The reason as it is recorded. At the end of the drain the gateway closes its connections, which looks as if the
    /// clients had gone.
    pub(super) fn recorded(&self, reason: Reason, listener: ListenerId) -> Reason {
        if reason == Reason::ClientGone && self.guard.has_cut(listener) { Reason::Shutdown } else { reason }
    }

    pub(crate) fn metrics<T>(&self, with: impl FnOnce(&mut WorkerMetrics) -> T) -> T {
        with(&mut self.metrics.borrow_mut())
    }
}
