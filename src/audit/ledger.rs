//! One worker's side of the audit log: places, and the lines that wait to be written.
//!
//! A [`Slot`] is a promise that a line will find room. Protected requests and grants can't go on without one; other answers
//! take one only while half the room is free, so that a flood of refusals never crowds out what must be recorded. Nothing
//! here blocks, allocates per line or crosses to another core, but for handing over a batch.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::error;

use crate::clock;

/// Lines on their way from one worker to the writer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Where each line ends.
    pub(super) ends: Vec<usize>,
    /// Whose places to free once the lines are written.
    pub(super) owner: Option<Arc<Outstanding>>,
}

/// How many lines of one worker have been handed over and are not yet written.
#[derive(Debug, Default)]
pub(crate) struct Outstanding(AtomicUsize);

/// The writer's condition, for all who must know.
#[derive(Debug)]
pub(crate) struct Health {
    /// A write has failed, or the file can't be opened.
    broken: AtomicBool,
    /// A write has been under way for too long.
    stuck: AtomicBool,
    started: Instant,
    /// Milliseconds from `started` to the write that is under way, plus one; 0 between writes.
    writing_since: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failures: AtomicU64,
}

/// What to do with what can't be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Refuse it with 503.
    Block,
    /// Let it pass, and count it.
    Drop,
}

pub(crate) struct Ledger {
    on_failure: OnFailure,
    capacity: usize,
    /// Places taken whose line is not written into `batch` yet.
    reserved: Cell<usize>,
    batch: RefCell<Batch>,
    outstanding: Arc<Outstanding>,
    health: Arc<Health>,
    writer: SyncSender<Batch>,
    waiting: Notify,
}

/// A place for one line. Dropped unused, the place is free again.
pub(crate) struct Slot {
    ledger: Rc<Ledger>,
}

/// The log can't take the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// A batch is handed over when it is this large, or this old.
const BATCH_BYTES: usize = 128 * 1024;
const BATCH_AGE: Duration = Duration::from_millis(5);
/// While the writer does not take batches.
const RETRY_AFTER: Duration = Duration::from_millis(50);
const STUCK_AFTER_MS: u64 = 2000;
/// At the end, for a writer that does not take what is left.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

impl Batch {
    /// As large as the last one was: the next will be like it.
    fn with_capacity(bytes: usize, lines: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(lines), owner: None }
    }

    pub(super) fn push(&mut self, line: impl FnOnce(&mut Vec<u8>)) {
        line(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }
}

impl Ledger {
    pub(crate) fn new(writer: SyncSender<Batch>, health: Arc<Health>, on_failure: OnFailure, capacity: usize) -> Self {
        Self {
            on_failure,
            capacity,
            reserved: Cell::new(0),
            batch: RefCell::default(),
            outstanding: Arc::default(),
            health,
            writer,
            waiting: Notify::new(),
        }
    }

    /// A place for what must be recorded. `None` where the log is lossy by choice and can't take it.
    pub(crate) fn reserve(self: &Rc<Self>) -> Result<Option<Slot>, Unavailable> {
        match (self.take(self.capacity), self.on_failure) {
            (Some(slot), _) => Ok(Some(slot)),
            (None, OnFailure::Block) => Err(Unavailable),
            (None, OnFailure::Drop) => Ok(self.lost()),
        }
    }

    /// A place for what is answered all the same.
    pub(crate) fn reserve_if_roomy(self: &Rc<Self>) -> Option<Slot> {
        self.take(self.capacity / 2).or_else(|| self.lost())
    }

    fn take(self: &Rc<Self>, capacity: usize) -> Option<Slot> {
        if self.health.is_broken() || self.in_use() >= capacity {
            return None;
        }
        self.reserved.set(self.reserved.get() + 1);
        Some(Slot { ledger: Rc::clone(self) })
    }

    fn lost(&self) -> Option<Slot> {
        self.health.dropped.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn in_use(&self) -> usize {
        self.reserved.get() + self.batch.borrow().ends.len() + self.outstanding.0.load(Ordering::Relaxed)
    }

    /// Hands batches over as they fill or age; runs beside the requests of its worker.
    pub(crate) async fn hand_over(self: Rc<Self>) {
        loop {
            self.waiting.notified().await;
            tokio::time::sleep(BATCH_AGE).await;
            while !self.try_hand_over() {
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    fn try_hand_over(&self) -> bool {
        let mut batch = self.batch.borrow_mut();
        let lines = batch.ends.len();
        if lines == 0 {
            return true;
        }
        self.outstanding.0.fetch_add(lines, Ordering::Relaxed);
        let size = batch.bytes.len();
        let full = Batch { owner: Some(Arc::clone(&self.outstanding)), ..std::mem::take(&mut *batch) };
        match self.writer.try_send(full) {
            Ok(()) => {
                *batch = Batch::with_capacity(size, lines);
                true
            }
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                self.outstanding.0.fetch_sub(lines, Ordering::Relaxed);
                *batch = back;
                false
            }
        }
    }

    /// Hands over what is left, waiting for the writer; for the very end.
    pub(crate) fn finish(&self) {
        hand_over_within(&self.writer, self.batch.take());
    }
}

/// Waits for the writer to take a batch, but not for ever: a sink that is stuck must not keep the process from ending.
pub(crate) fn hand_over_within(writer: &SyncSender<Batch>, mut batch: Batch) {
    let deadline = clock::instant() + LAST_PATIENCE;
    while let Err(TrySendError::Full(back)) = writer.try_send(batch) {
        if clock::instant() >= deadline {
            return error!("the audit log takes nothing: its last lines are lost");
        }
        batch = back;
        thread::park_timeout(Duration::from_millis(10));
    }
}

impl Slot {
    /// Writes the line that the place was kept for.
    pub(crate) fn write(self, line: impl FnOnce(&mut Vec<u8>)) {
        let ledger = &self.ledger;
        let (first, full) = {
            let mut batch = ledger.batch.borrow_mut();
            batch.push(line);
            (batch.ends.len() == 1, batch.bytes.len() >= BATCH_BYTES)
        };
        if full {
            ledger.try_hand_over();
        } else if first {
            ledger.waiting.notify_one();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.ledger.reserved.set(self.ledger.reserved.get() - 1);
    }
}

impl Outstanding {
    pub(super) fn written(&self, lines: usize) {
        self.0.fetch_sub(lines, Ordering::Relaxed);
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            broken: AtomicBool::default(),
            stuck: AtomicBool::default(),
            started: clock::instant(),
            writing_since: AtomicU64::default(),
            written: AtomicU64::default(),
            dropped: AtomicU64::default(),
            failures: AtomicU64::default(),
        }
    }
}

impl Health {
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.stuck.load(Ordering::Relaxed)
    }

    /// A write begins or has ended.
    pub(super) fn writing(&self, under_way: bool) {
        let since = if under_way { self.elapsed() + 1 } else { 0 };
        self.writing_since.store(since, Ordering::Relaxed);
    }

    /// Notices a sink that neither takes what is written nor refuses it, such as a pipe that nobody reads. Says whether that is
    /// news.
    pub(crate) fn look(&self) -> Option<bool> {
        let since = self.writing_since.load(Ordering::Relaxed);
        let stuck = since > 0 && self.elapsed().saturating_sub(since - 1) > STUCK_AFTER_MS;
        (self.stuck.swap(stuck, Ordering::Relaxed) != stuck).then_some(stuck)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(clock::instant().saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Says whether that is news.
    pub(super) fn set_broken(&self, broken: bool) -> bool {
        self.broken.swap(broken, Ordering::Relaxed) != broken
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};

    fn ledger(on_failure: OnFailure, capacity: usize) -> (Rc<Ledger>, Receiver<Batch>) {
        let (sender, receiver) = sync_channel(1);
        (Rc::new(Ledger::new(sender, Arc::default(), on_failure, capacity)), receiver)
    }

    #[test]
    fn what_finds_no_place_is_refused() {
        let (ledger, _receiver) = ledger(OnFailure::Block, 2);
        let _first = ledger.reserve().unwrap();
        let second = ledger.reserve().unwrap();
        assert_eq!(ledger.reserve().err(), Some(Unavailable));
        drop(second);
        assert!(ledger.reserve().is_ok());
    }

    #[test]
    fn a_lossy_log_lets_pass_and_counts() {
        let (ledger, _receiver) = ledger(OnFailure::Drop, 1);
        let _first = ledger.reserve().unwrap();
        assert!(ledger.reserve().unwrap().is_none());
        assert_eq!(ledger.health.dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_answered_all_the_same_leaves_half_the_room() {
        let (ledger, _receiver) = ledger(OnFailure::Block, 4);
        let flood: Vec<_> = (0..100).filter_map(|_| ledger.reserve_if_roomy()).collect();
        assert_eq!(flood.len(), 2);
        assert!(ledger.reserve().is_ok());
    }

    #[test]
    fn a_broken_writer_refuses_at_once() {
        let (ledger, _receiver) = ledger(OnFailure::Block, 4);
        ledger.health.set_broken(true);
        assert_eq!(ledger.reserve().err(), Some(Unavailable));
    }

    #[test]
    fn a_place_is_free_again_once_its_line_is_written_and_not_before() {
        let (ledger, receiver) = ledger(OnFailure::Block, 1);
        ledger.reserve().unwrap().unwrap().write(|buffer| buffer.extend_from_slice(b"}\n"));
        assert!(ledger.reserve().is_err());
        assert!(ledger.try_hand_over());
        assert!(ledger.reserve().is_err());
        let batch = receiver.recv().unwrap();
        batch.owner.unwrap().written(batch.ends.len());
        assert!(ledger.reserve().is_ok());
    }

    #[test]
    fn a_batch_that_the_writer_does_not_take_is_kept() {
        let (ledger, receiver) = ledger(OnFailure::Block, 8);
        for line in [b"1", b"2"] {
            ledger.reserve().unwrap().unwrap().write(|buffer| buffer.extend_from_slice(line));
            ledger.try_hand_over();
        }
        assert_eq!(receiver.recv().unwrap().bytes, b"1");
        assert!(ledger.try_hand_over());
        assert_eq!(receiver.recv().unwrap().bytes, b"2");
    }
}
