//! What all workers and the control plane know of a server: read by every request, written when something changes.
//!
//! Nothing of it depends on anything else, so that relaxed loads and stores do. Times are milliseconds of the upstream's own clock;
//! 0 is never.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Shared by all workers and the control plane.
#[derive(Debug, Default)]
pub(crate) struct ServerStatus {
    /// By its health checks.
    is_unhealthy: AtomicBool,
    pub(in crate::upstream) ejected_until: AtomicU64,
    /// Since when it has been there again.
    back_since: AtomicU64,
    /// In a row.
    pub(in crate::upstream) failures: AtomicU32,
    /// In a row, too: each lasts longer than the one before.
    pub(in crate::upstream) ejections: AtomicU32,
    /// Counted only where it is bounded.
    in_flight: AtomicUsize,
}

/// The share that a server begins with that is back, in a hundred.
const LEAST_SHARE: u64 = 10;

impl ServerStatus {
    pub(crate) fn is_healthy(&self) -> bool {
        !self.is_unhealthy.load(Ordering::Relaxed)
    }

    /// Whether it has been taken out for its failures.
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    pub(in crate::upstream) fn is_available(&self, now: u64) -> bool {
        self.is_healthy() && !self.is_ejected(now)
    }

    /// Says whether that is news.
    pub(in crate::upstream) fn set_healthy(&self, healthy: bool, now: u64) -> bool {
        let was_healthy = !self.is_unhealthy.swap(!healthy, Ordering::Relaxed);
        if healthy && !was_healthy {
            self.back_since.store(now, Ordering::Relaxed);
        }
        was_healthy != healthy
    }

    pub(in crate::upstream) fn eject(&self, until: u64) {
        self.failures.store(0, Ordering::Relaxed);
        self.ejected_until.store(until, Ordering::Relaxed);
        self.back_since.store(until, Ordering::Relaxed);
    }

    /// In a hundred: how much of its weight counts.
    pub(in crate::upstream) fn share(&self, slow_start: Option<Duration>, now: u64) -> u64 {
        let back_since = self.back_since.load(Ordering::Relaxed);
        match slow_start {
            Some(whole) if back_since > 0 => {
                let whole = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX).max(1);
                (now.saturating_sub(back_since).saturating_mul(100) / whole).clamp(LEAST_SHARE, 100)
            }
            Some(_) | None => 100,
        }
    }

    /// Whether one more is taken; who is let in says [`end`](Self::end).
    pub(in crate::upstream) fn begin(&self, at_most: usize) -> bool {
        let more = |count: usize| (count < at_most).then_some(count + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(in crate::upstream) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(in crate::upstream) fn is_full(&self, at_most: Option<usize>) -> bool {
        at_most.is_some_and(|at_most| self.in_flight.load(Ordering::Relaxed) >= at_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_back_begins_with_a_part_of_its_share() {
        let status = ServerStatus::default();
        let slow = Some(Duration::from_secs(30));
        assert_eq!(status.share(slow, 5), 100, "it never was away");
        assert!(status.set_healthy(false, 10) && status.set_healthy(true, 1_000));
        assert!(!status.set_healthy(true, 2_000), "no news");
        assert_eq!([1_000, 16_000, 31_000, 99_000].map(|now| status.share(slow, now)), [10, 50, 100, 100]);
        assert_eq!(status.share(None, 1_000), 100);
    }

    #[test]
    fn an_ejected_server_is_back_when_its_time_is_over() {
        let status = ServerStatus::default();
        status.eject(5_000);
        assert!(status.is_ejected(4_999) && !status.is_available(4_999));
        assert!(status.is_available(5_000));
        assert_eq!(status.share(Some(Duration::from_secs(10)), 10_000), 50);
    }

    #[test]
    fn what_is_under_way_is_counted_exactly() {
        let status = ServerStatus::default();
        assert!(status.begin(1) && !status.begin(1));
        assert!(status.is_full(Some(1)) && !status.is_full(None));
        status.end();
        assert!(status.begin(1));
    }
}
