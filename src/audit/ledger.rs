//! One worker's side of the audit log: places, and the lines that wait to be written.
//!
//! A [`LineSlot`] is a promise that a line will find room. Protected requests and grants can't go on without one; other answers
//! take one only while half the room is free, so that a flood of refusals never crowds out what must be recorded. A decision
//! without a slot is counted in a folded line. Nothing
//! here blocks, allocates per line or crosses to another core, but for handing over a batch.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use tracing::error;

use super::aggregate::{Decided, Kind, RefusalAggregator};
use super::health::Health;
use crate::clock;

/// Lines on their way from one worker to the writer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Where each line ends.
    pub(super) ends: Vec<usize>,
    /// Whose places to free once the lines are written.
    pub(super) owner: Option<Arc<Outstanding>>,
    /// Who goes on once the lines are on the disk; dropped where they can't be written.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

/// How many lines of one worker have been handed over and are not yet written.
#[derive(Debug, Default)]
pub(crate) struct Outstanding(AtomicUsize);

/// What to do with what can't be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Refuse it with 503.
    Block,
    /// Let it pass, and count it.
    Drop,
}

/// Which answers wait until their line is on the disk, and not just in the system's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Synced {
    Nothing,
    Grants,
    /// Grants and requests for protected routes.
    All,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) on_failure: OnFailure,
    pub(crate) synced: Synced,
    /// Refusals of one stranger that have their own line in a second; `None` is all.
    pub(crate) refusals: Option<u32>,
}

/// The way to the writer.
#[derive(Clone, Debug)]
pub(crate) struct LineSender {
    writer: SyncSender<Batch>,
    health: Arc<Health>,
}

pub(crate) struct Ledger {
    rules: Rules,
    capacity: usize,
    /// Places taken whose line is not written into `batch` yet.
    reserved: Cell<usize>,
    batch: RefCell<Batch>,
    outstanding: Arc<Outstanding>,
    lines: LineSender,
    waiting: Notify,
    folder: RefCell<RefusalAggregator>,
    folding: Notify,
}

/// A place for one line. Dropped unused, the place is free again.
pub(crate) struct LineSlot {
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
/// How often folded refusals are told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// For a line to reach the disk.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);
/// At the end, for a writer that does not take what is left.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

impl Batch {
    /// As large as the last one was: the next will be like it.
    fn with_capacity(bytes: usize, lines: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(lines), ..Self::default() }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    pub(super) fn push(&mut self, line: impl FnOnce(&mut Vec<u8>)) {
        line(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }
}

impl Ledger {
    pub(crate) fn new(lines: LineSender, rules: Rules, capacity: usize) -> Self {
        Self {
            rules,
            capacity,
            reserved: Cell::new(0),
            batch: RefCell::default(),
            outstanding: Arc::default(),
            lines,
            waiting: Notify::new(),
            folder: RefCell::new(RefusalAggregator::new(rules.refusals)),
            folding: Notify::new(),
        }
    }

    pub(crate) fn synced(&self) -> Synced {
        self.rules.synced
    }

    /// A place for what must be recorded. `None` where the log is lossy by choice and can't take it.
    pub(crate) fn reserve(self: &Rc<Self>) -> Result<Option<LineSlot>, Unavailable> {
        match (self.take(self.capacity), self.rules.on_failure) {
            (Some(slot), _) => Ok(Some(slot)),
            (None, OnFailure::Block) => Err(Unavailable),
            (None, OnFailure::Drop) => Ok(None),
        }
    }

    /// A place for what is answered all the same. Without one, another is looked for when the answer has ended.
    pub(crate) fn reserve_if_roomy(self: &Rc<Self>) -> Option<LineSlot> {
        self.take(self.capacity / 2)
    }

    /// A place for the line of a decision after its answer: the one that it has already or a new one. `None` where it is counted
    /// in a folded line instead, because there are many of its kind or no room.
    pub(crate) fn place_or_fold(self: &Rc<Self>, decided: &Decided<'_>, place: Option<LineSlot>) -> Option<LineSlot> {
        let place = match decided.kind {
            Kind::Unauthenticated(_) => {
                self.folding.notify_one();
                if !self.folder.borrow_mut().within_budget(decided.address) {
                    self.fold(decided);
                    return None;
                }
                place.or_else(|| self.reserve_if_roomy())
            }
            Kind::Refused(_) | Kind::Answered(_) => place.or_else(|| self.reserve_if_roomy()),
            Kind::Retracted(_) => place.or_else(|| self.take_of(self.capacity)),
        };
        if place.is_none() {
            self.lines.health.dropped.fetch_add(1, Ordering::Relaxed);
            self.fold(decided);
        }
        place
    }

    fn fold(&self, decided: &Decided<'_>) {
        self.lines.health.folded.fetch_add(1, Ordering::Relaxed);
        self.folder.borrow_mut().fold(decided);
        self.folding.notify_one();
    }

    /// Tells once a second what was folded; runs beside the requests of its worker.
    pub(crate) async fn flush_aggregates(self: Rc<Self>) {
        loop {
            self.folding.notified().await;
            sleep(TELL_EVERY).await;
            let mut room = self.room();
            let has_room = || {
                let any = room > 0;
                room = room.saturating_sub(1);
                any
            };
            let mut batch = self.batch.borrow_mut();
            if !self.folder.borrow_mut().tell(has_room, &mut batch) {
                self.folding.notify_one();
            }
            if !batch.ends.is_empty() {
                self.waiting.notify_one();
            }
        }
    }

    /// For folded lines: they are few, and stand for what found no room in the first half.
    fn room(&self) -> usize {
        if self.lines.health.is_broken() { 0 } else { (self.capacity * 3 / 4).saturating_sub(self.in_use()) }
    }

    fn take(self: &Rc<Self>, capacity: usize) -> Option<LineSlot> {
        if self.lines.health.is_broken() { None } else { self.take_of(capacity) }
    }

    fn take_of(self: &Rc<Self>, capacity: usize) -> Option<LineSlot> {
        if self.in_use() >= capacity {
            return None;
        }
        self.reserved.set(self.reserved.get() + 1);
        Some(LineSlot { ledger: Rc::clone(self) })
    }

    fn in_use(&self) -> usize {
        self.reserved.get() + self.batch.borrow().ends.len() + self.outstanding.0.load(Ordering::Relaxed)
    }

    /// Hands batches over as they fill or age; runs beside the requests of its worker.
    pub(crate) async fn hand_over(self: Rc<Self>) {
        loop {
            self.waiting.notified().await;
            sleep(BATCH_AGE).await;
            while !self.try_hand_over() {
                sleep(RETRY_AFTER).await;
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
        match self.lines.writer.try_send(full) {
            Ok(()) => {
                self.lines.health.handed_over.fetch_add(lines as u64, Ordering::Relaxed);
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
        let mut batch = self.batch.take();
        self.folder.borrow_mut().tell(|| true, &mut batch);
        self.lines.hand_over_within(batch);
    }
}

impl LineSender {
    pub(crate) fn new(writer: SyncSender<Batch>, health: Arc<Health>) -> Self {
        Self { writer, health }
    }

    /// Waits for the writer to take a batch, but not for ever: a sink that is stuck must not keep the process from ending.
    pub(crate) fn hand_over_within(&self, mut batch: Batch) {
        let (deadline, lines) = (clock::instant() + LAST_PATIENCE, batch.ends.len() as u64);
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
            error!(lines, "the audit log takes nothing: lines are lost");
        }
    }
}

impl LineSlot {
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

    /// Writes the line and waits until it is on the disk. Dropped while it waits, the line is written all the same.
    pub(crate) async fn commit(self, line: impl FnOnce(&mut Vec<u8>)) -> Result<(), Unavailable> {
        let ledger = Rc::clone(&self.ledger);
        let (sender, on_disk) = oneshot::channel();
        ledger.batch.borrow_mut().waiting.push(sender);
        self.write(line);
        // Whoever comes while the disk is busy is written together with the others that wait.
        ledger.try_hand_over();
        match (timeout(COMMIT_WITHIN, on_disk).await, ledger.rules.on_failure) {
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

impl Outstanding {
    pub(super) fn written(&self, lines: usize) {
        self.0.fetch_sub(lines, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for LineSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::reason::Reason;
    use crate::audit::record::Decision;
    use std::sync::mpsc::{Receiver, sync_channel};

    fn ledger(on_failure: OnFailure, capacity: usize) -> (Rc<Ledger>, Receiver<Batch>) {
        let (sender, receiver) = sync_channel(1);
        let rules = Rules { on_failure, synced: Synced::Grants, refusals: Some(1) };
        (Rc::new(Ledger::new(LineSender::new(sender, Arc::default()), rules, capacity)), receiver)
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
        assert!(ledger.place_or_fold(&decided(Kind::Answered(Decision::Allow)), None).is_none());
        assert_eq!(ledger.lines.health.dropped.load(Ordering::Relaxed), 1);
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
        ledger.lines.health.set_broken(true);
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

    fn refusal() -> Decided<'static> {
        decided(Kind::Unauthenticated(Reason::NoToken))
    }

    fn decided(kind: Kind) -> Decided<'static> {
        Decided { address: std::net::Ipv4Addr::LOCALHOST.into(), kind, time: clock::now(), config: "c" }
    }

    #[test]
    fn every_decision_that_finds_no_room_is_counted_in_a_folded_line() {
        let (ledger, receiver) = ledger(OnFailure::Drop, 8);
        ledger.lines.health.set_broken(true);
        for kind in [
            Kind::Unauthenticated(Reason::NoToken),
            Kind::Refused(Reason::MissingScope),
            Kind::Answered(Decision::Allow),
            Kind::Answered(Decision::Issue),
        ] {
            assert!(ledger.place_or_fold(&decided(kind), None).is_none(), "{kind:?}");
        }
        assert!(ledger.place_or_fold(&decided(Kind::Retracted(Decision::Error)), None).is_some(), "it can wait");
        let _taken: Vec<_> = std::iter::from_fn(|| ledger.take_of(8)).collect();
        assert!(ledger.place_or_fold(&decided(Kind::Retracted(Decision::Error)), None).is_none());
        let health = &ledger.lines.health;
        let counts = [&health.dropped, &health.folded].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [5, 5]);
        ledger.finish();
        let text = String::from_utf8(receiver.recv().unwrap().bytes).unwrap();
        for told in ["no_token\":1", "missing_scope\":1", "allow\":1", "issue\":1", "error\":1"] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }

    #[test]
    fn lines_that_the_writer_never_takes_are_counted() {
        let (ledger, receiver) = ledger(OnFailure::Block, 8);
        drop(receiver);
        ledger.reserve().unwrap().unwrap().write(|buffer| buffer.extend_from_slice(b"}\n"));
        ledger.finish();
        assert_eq!((ledger.lines.health.take_lost(), ledger.lines.health.dropped.load(Ordering::Relaxed)), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_beyond_the_number_are_told_in_one_line_within_a_second() {
        let (ledger, receiver) = ledger(OnFailure::Block, 8);
        assert!(ledger.place_or_fold(&refusal(), None).is_some());
        for _ in 0..100 {
            assert!(ledger.place_or_fold(&refusal(), ledger.reserve().unwrap()).is_none(), "a place is given back");
        }
        assert_eq!(ledger.in_use(), 0);
        let tasks = async { tokio::join!(Rc::clone(&ledger).flush_aggregates(), Rc::clone(&ledger).hand_over()) };
        let _ = timeout(TELL_EVERY + BATCH_AGE + Duration::from_millis(1), tasks).await;
        let batch = receiver.try_recv().unwrap();
        assert!(String::from_utf8(batch.bytes).unwrap().contains("\"gateway.folded.count\":100,"));
        assert_eq!(batch.ends.len(), 1);
    }

    #[test]
    fn refusals_that_find_no_room_are_counted_and_told_at_the_end() {
        let (ledger, receiver) = ledger(OnFailure::Block, 8);
        ledger.lines.health.set_broken(true);
        assert!(ledger.place_or_fold(&refusal(), None).is_none());
        ledger.finish();
        let batch = receiver.recv().unwrap();
        assert!(String::from_utf8(batch.bytes).unwrap().contains("\"gateway.folded.count\":1,"));
    }

    #[tokio::test]
    async fn a_commit_waits_for_the_disk() {
        let (ledger, receiver) = ledger(OnFailure::Block, 8);
        let commit = || ledger.reserve().unwrap().unwrap().commit(|bytes| bytes.extend_from_slice(b"}\n"));
        let writer = thread::spawn(move || {
            receiver.recv().unwrap().waiting.pop().unwrap().send(()).unwrap();
            drop(receiver.recv().unwrap());
        });
        assert_eq!(commit().await, Ok(()));
        assert_eq!(commit().await, Err(Unavailable), "it could not be written");
        writer.join().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_does_not_wait_for_ever() {
        let (ledger, receiver) = ledger(OnFailure::Block, 8);
        let slot = ledger.reserve().unwrap().unwrap();
        assert_eq!(slot.commit(|bytes| bytes.extend_from_slice(b"}\n")).await, Err(Unavailable));
        assert_eq!(receiver.recv().unwrap().ends.len(), 1, "the line is written all the same");
    }
}
