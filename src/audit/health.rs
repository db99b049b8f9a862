//! The writer's condition, and the counts of written and lost lines, for readiness, for metrics and for every decision
//! that needs a line.
//!
//! Counters and flags only; none of them blocks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::clock;

/// The writer's condition and its counters.
#[derive(Debug)]
pub(crate) struct Health {
    /// A write has failed, or the file can't be opened.
    broken: AtomicBool,
    /// A write has taken too long.
    stuck: AtomicBool,
    started: Instant,
    /// Milliseconds from `started` to the begin of the current write, plus one; 0 between writes.
    writing_since: AtomicU64,
    pub(crate) written: AtomicU64,
    /// Decisions without a slot for their line, and lines that were lost.
    pub(crate) dropped: AtomicU64,
    /// Decisions that are counted in an aggregate line.
    pub(crate) aggregated: AtomicU64,
    /// Lines handed over to the writer.
    pub(super) handed_over: AtomicU64,
    /// Lines that were lost and are counted in no aggregate line. The writer records their number once it works again.
    lost: AtomicU64,
    pub(crate) failures: AtomicU64,
}

const STUCK_AFTER_MS: u64 = 2000;

impl Default for Health {
    fn default() -> Self {
        Self {
            broken: AtomicBool::default(),
            stuck: AtomicBool::default(),
            started: clock::instant(),
            writing_since: AtomicU64::default(),
            written: AtomicU64::default(),
            dropped: AtomicU64::default(),
            aggregated: AtomicU64::default(),
            handed_over: AtomicU64::default(),
            lost: AtomicU64::default(),
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

    /// Detects a sink on which a write neither succeeds nor fails, such as a pipe without a reader. Returns a change of
    /// that condition.
    pub(crate) fn check_stuck(&self) -> Option<bool> {
        let since = self.writing_since.load(Ordering::Relaxed);
        let stuck = since > 0 && self.elapsed().saturating_sub(since - 1) > STUCK_AFTER_MS;
        (self.stuck.swap(stuck, Ordering::Relaxed) != stuck).then_some(stuck)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(clock::instant().saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn lose(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines that were lost and are not recorded yet.
    pub(super) fn take_lost(&self) -> u64 {
        // Nearly always zero: a load disturbs no other core.
        if self.lost.load(Ordering::Relaxed) == 0 { 0 } else { self.lost.swap(0, Ordering::Relaxed) }
    }

    /// Lines that were handed over and are not written.
    pub(crate) fn unwritten(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed).saturating_sub(self.written.load(Ordering::Relaxed))
    }

    /// Returns whether the flag has changed.
    pub(super) fn set_broken(&self, broken: bool) -> bool {
        self.broken.swap(broken, Ordering::Relaxed) != broken
    }
}
