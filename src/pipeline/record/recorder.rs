//! Where one worker records its requests: audit lines, metrics, and the number in flight.

use std::cell::RefCell;
use std::rc::Rc;

use super::metrics::WorkerMetrics;
use crate::audit::ledger::Ledger;
use crate::pipeline::policy::load::LoadMonitor;
use crate::pipeline::request::request_id::RequestIds;

#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) load: LoadMonitor,
    pub(crate) request_ids: RequestIds,
    metrics: RefCell<WorkerMetrics>,
}

impl Recorder {
    pub(crate) fn new(ledger: Rc<Ledger>, load: LoadMonitor) -> Self {
        Self { ledger, load, request_ids: RequestIds::new(), metrics: RefCell::default() }
    }

    pub(crate) fn metrics<T>(&self, with: impl FnOnce(&mut WorkerMetrics) -> T) -> T {
        with(&mut self.metrics.borrow_mut())
    }
}
