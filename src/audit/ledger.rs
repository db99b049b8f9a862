//! One worker's side of the audit log: slots for lines, and the lines that wait to be written.
//!
//! A [`LineSlot`] guarantees capacity for one line. Protected requests and grants can't proceed without one; other
//! answers get one only while less than half the capacity is in use, so that a flood of refusals leaves slots for the
//! lines that are mandatory. A decision without a slot is counted in an aggregate line. Nothing here blocks, allocates
//! per line or crosses to another core, except handing over a batch.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::error;

use super::aggregate::{Decided, Kind, RefusalAggregator};
use super::batch::{Batch, Outstanding};
use super::health::Health;
use crate::clock;

/// The treatment of a request that cannot be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Refuse it with 503.
    Block,
    /// Allow it, and count the lost line.
    Drop,
}

/// Which answers wait until their line is on the disk, and not just in the system's page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Synced {
    Nothing,
    Grants,
    /// Grants and requests for protected routes.
    All,
}

/// The settings of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) on_failure: OnFailure,
    pub(crate) synced: Synced,
    /// Unauthenticated refusals of one address that have their own line in a second; `None` is all.
    pub(crate) refusals: Option<u32>,
}

/// Sends batches to the writer.
#[derive(Clone, Debug)]
pub(crate) struct LineSender {
    writer: SyncSender<Batch>,
    health: Arc<Health>,
}

pub(crate) struct Ledger {
    rules: Cell<Rules>,
    capacity: usize,
    /// Slots whose line is not written into `batch` yet.
    reserved: Cell<usize>,
    batch: RefCell<Batch>,
    /// The time of the first line in `batch`.
    began: Cell<Instant>,
    outstanding: Arc<Outstanding>,
    lines: LineSender,
    /// `batch` has lines.
    has_lines: Notify,
    aggregator: RefCell<RefusalAggregator>,
    /// `aggregator` has counts.
    has_counts: Notify,
}

/// Capacity for one line. Dropping it releases the slot.
pub(crate) struct LineSlot {
    ledger: Rc<Ledger>,
}

/// There is no slot for the line, or it could not be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// A batch is handed over when it is this large, or this old. It is some 100 lines: on a core that the writer shares
/// with a worker, requests wait while the writer has its turn.
const BATCH_BYTES: usize = 32 * 1024;
const BATCH_AGE: Duration = Duration::from_millis(5);
/// The pause between two tries while the writer accepts no batch.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// How often aggregate lines are written.
const FLUSH_AGGREGATES_EVERY: Duration = Duration::from_secs(1);
/// The time for a line to reach the disk.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time at the end for the writer to accept the last batch.
const FINAL_TIMEOUT: Duration = Duration::from_secs(2);

impl Ledger {
    pub(crate) fn new(lines: LineSender, rules: Rules, capacity: usize) -> Self {
        Self {
            rules: Cell::new(rules),
            capacity,
            reserved: Cell::new(0),
            batch: RefCell::default(),
            began: Cell::new(Instant::now()),
            outstanding: Arc::default(),
            lines,
            has_lines: Notify::new(),
            aggregator: RefCell::new(RefusalAggregator::new(rules.refusals)),
            has_counts: Notify::new(),
        }
    }

    /// Other rules, for the decisions from now on.
    pub(crate) fn set_rules(&self, rules: Rules) {
        self.rules.set(rules);
        self.aggregator.borrow_mut().set_max_single(rules.refusals);
    }

    pub(crate) fn synced(&self) -> Synced {
        self.rules.get().synced
    }

    /// A slot for a mandatory line. `None` where there is none and the configuration allows lost lines.
    pub(crate) fn reserve(self: &Rc<Self>) -> Result<Option<LineSlot>, Unavailable> {
        match (self.acquire(self.capacity), self.rules.get().on_failure) {
            (Some(slot), _) => Ok(Some(slot)),
            (None, OnFailure::Block) => Err(Unavailable),
            (None, OnFailure::Drop) => Ok(None),
        }
    }

    /// A slot for an answer that does not depend on it. Without one, the line tries again when the answer has ended.
    pub(crate) fn reserve_optional(self: &Rc<Self>) -> Option<LineSlot> {
        self.acquire(self.capacity / 2)
    }

    /// A slot for the line of a decision after its answer: the one that it already has, or a new one. `None` where it
    /// is counted in an aggregate line instead, because there are many of its kind or no slot is free.
    pub(crate) fn slot_or_aggregate(
        self: &Rc<Self>,
        decided: &Decided<'_>,
        slot: Option<LineSlot>,
    ) -> Option<LineSlot> {
        let slot = match decided.kind {
            Kind::Unauthenticated(_) => {
                self.has_counts.notify_one();
                if !self.aggregator.borrow_mut().within_budget(decided.address) {
                    self.aggregate(decided);
                    return None;
                }
                slot.or_else(|| self.reserve_optional())
            }
            Kind::Refused(_) | Kind::Answered(_) => slot.or_else(|| self.reserve_optional()),
            Kind::Retracted(_) => slot.or_else(|| self.acquire_even_if_broken(self.capacity)),
        };
        if slot.is_none() {
            self.lines.health.dropped.fetch_add(1, Ordering::Relaxed);
            self.aggregate(decided);
        }
        slot
    }

    fn aggregate(&self, decided: &Decided<'_>) {
        self.lines.health.aggregated.fetch_add(1, Ordering::Relaxed);
        self.aggregator.borrow_mut().add(decided);
        self.has_counts.notify_one();
    }

    /// Writes aggregate lines once a second; runs beside the requests of its worker.
    pub(crate) async fn flush_aggregates(self: Rc<Self>) {
        loop {
            self.has_counts.notified().await;
            sleep(FLUSH_AGGREGATES_EVERY).await;
            let mut free = self.free_for_aggregates();
            let has_room = || {
                let is_free = free > 0;
                free = free.saturating_sub(1);
                is_free
            };
            let mut batch = self.batch.borrow_mut();
            if !self.aggregator.borrow_mut().flush(has_room, &mut batch) {
                self.has_counts.notify_one();
            }
            if !batch.ends.is_empty() {
                self.has_lines.notify_one();
            }
        }
    }

    /// Aggregate lines are few, and replace lines for which the first half of the capacity was full: they may use three
    /// quarters.
    fn free_for_aggregates(&self) -> usize {
        if self.lines.health.is_broken() { 0 } else { (self.capacity * 3 / 4).saturating_sub(self.in_use()) }
    }

    /// Unless `capacity` slots are in use.
    fn acquire(self: &Rc<Self>, capacity: usize) -> Option<LineSlot> {
        if self.lines.health.is_broken() { None } else { self.acquire_even_if_broken(capacity) }
    }

    fn acquire_even_if_broken(self: &Rc<Self>, capacity: usize) -> Option<LineSlot> {
        if self.in_use() >= capacity {
            return None;
        }
        self.reserved.set(self.reserved.get() + 1);
        Some(LineSlot { ledger: Rc::clone(self) })
    }

    fn in_use(&self) -> usize {
        self.reserved.get() + self.batch.borrow().ends.len() + self.outstanding.lines()
    }

    /// Hands batches over as they fill or age; runs beside the requests of its worker.
    pub(crate) async fn hand_over(self: Rc<Self>) {
        loop {
            self.has_lines.notified().await;
            self.grow_old().await;
            while !self.try_hand_over() {
                sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Waits until the batch is old. A batch that begins in the meantime, because one was full, has its full time.
    async fn grow_old(&self) {
        while let due = self.began.get() + BATCH_AGE
            && due > Instant::now()
        {
            sleep_until(due).await;
        }
    }

    fn try_hand_over(&self) -> bool {
        let mut batch = self.batch.borrow_mut();
        let lines = batch.ends.len();
        if lines == 0 {
            return true;
        }
        self.outstanding.add(lines);
        let size = batch.bytes.len();
        let full = Batch { owner: Some(Arc::clone(&self.outstanding)), ..std::mem::take(&mut *batch) };
        match self.lines.writer.try_send(full) {
            Ok(()) => {
                self.lines.health.handed_over.fetch_add(lines as u64, Ordering::Relaxed);
                *batch = Batch::with_capacity(size, lines);
                true
            }
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                self.outstanding.written(lines);
                *batch = back;
                false
            }
        }
    }

    /// Hands over the last lines, and waits for the writer. To be called at the end.
    pub(crate) fn finish(&self) {
        let mut batch = self.batch.take();
        self.aggregator.borrow_mut().flush(|| true, &mut batch);
        self.lines.hand_over_within(batch);
    }
}

impl LineSender {
    pub(crate) fn new(writer: SyncSender<Batch>, health: Arc<Health>) -> Self {
        Self { writer, health }
    }

    /// Waits for the writer to accept a batch, up to a timeout: a sink that is stuck must not keep the process from
    /// ending.
    pub(crate) fn hand_over_within(&self, mut batch: Batch) {
        let (deadline, lines) = (clock::instant() + FINAL_TIMEOUT, batch.ends.len() as u64);
        loop {
            match self.writer.try_send(batch) {
                Ok(()) => {
                    self.health.handed_over.fetch_add(lines, Ordering::Relaxed);
                    return;
                }
                Err(TrySendError::Full(back)) if clock::instant() < deadline => batch = back,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => break,
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        if lines > 0 {
            self.health.lose(lines);
            error!(
                lines,
                "the audit log could not be written before the process ended: its last lines are lost; check its disk"
            );
        }
    }
}

impl LineSlot {
    /// Writes the line into the slot.
    pub(crate) fn write(self, line: impl FnOnce(&mut Vec<u8>)) {
        let ledger = &self.ledger;
        let (first, full) = {
            let mut batch = ledger.batch.borrow_mut();
            batch.push(line);
            (batch.ends.len() == 1, batch.bytes.len() >= BATCH_BYTES)
        };
        if first {
            ledger.began.set(Instant::now());
        }
        if full {
            ledger.try_hand_over();
        } else if first {
            ledger.has_lines.notify_one();
        }
    }

    /// Writes the line and waits until it is on the disk. Dropped while it waits, the line is written all the same.
    pub(crate) async fn commit(self, line: impl FnOnce(&mut Vec<u8>)) -> Result<(), Unavailable> {
        let ledger = Rc::clone(&self.ledger);
        let (sender, on_disk) = oneshot::channel();
        ledger.batch.borrow_mut().waiters.push(sender);
        self.write(line);
        // Lines that arrive during a flush share the next one.
        ledger.try_hand_over();
        match (timeout(COMMIT_TIMEOUT, on_disk).await, ledger.rules.get().on_failure) {
            (Ok(Ok(())), _) => Ok(()),
            (Ok(Err(_)) | Err(_), OnFailure::Block) => Err(Unavailable),
            // Not lost: the line is written as soon as it can be.
            (Ok(Err(_)) | Err(_), OnFailure::Drop) => Ok(()),
        }
    }
}

impl Drop for LineSlot {
    fn drop(&mut self) {
        self.ledger.reserved.set(self.ledger.reserved.get() - 1);
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for LineSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LineSlot")
    }
}

#[cfg(test)]
mod tests;
