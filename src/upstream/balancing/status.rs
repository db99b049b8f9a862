//! The state of a server that all workers and the control plane share: read by every request, written when something
//! changes.
//!
//! No field depends on another one, so relaxed loads and stores suffice. Times are milliseconds of the upstream's own
//! clock; 0 is never.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct ServerStatus {
    /// By its health checks.
    is_unhealthy: AtomicBool,
    pub(super) ejected_until: AtomicU64,
    /// When it became available again.
    recovered_at: AtomicU64,
    /// In a row.
    pub(super) failures: AtomicU32,
    /// In a row: each lasts longer than the one before.
    pub(super) ejections: AtomicU32,
    /// Counted only if the configuration limits it.
    in_flight: AtomicUsize,
}

/// The share with which a recovered server starts, in percent.
const MIN_SHARE: u64 = 10;

impl ServerStatus {
    pub(crate) fn is_healthy(&self) -> bool {
        !self.is_unhealthy.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    pub(super) fn is_available(&self, now: u64) -> bool {
        self.is_healthy() && !self.is_ejected(now)
    }

    /// True if that is a change.
    pub(in crate::upstream) fn set_healthy(&self, healthy: bool, now: u64) -> bool {
        let was_healthy = !self.is_unhealthy.swap(!healthy, Ordering::Relaxed);
        if healthy && !was_healthy {
            self.recovered_at.store(now, Ordering::Relaxed);
        }
        was_healthy != healthy
    }

    pub(super) fn eject(&self, until: u64) {
        self.failures.store(0, Ordering::Relaxed);
        self.ejected_until.store(until, Ordering::Relaxed);
        self.recovered_at.store(until, Ordering::Relaxed);
    }

    /// The percentage of its weight that counts: less than 100 during the slow start.
    pub(super) fn share(&self, slow_start: Option<Duration>, now: u64) -> u64 {
        let recovered_at = self.recovered_at.load(Ordering::Relaxed);
        match slow_start {
            Some(whole) if recovered_at > 0 => {
                let whole = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX).max(1);
                (now.saturating_sub(recovered_at).saturating_mul(100) / whole).clamp(MIN_SHARE, 100)
            }
            Some(_) | None => 100,
        }
    }

    /// Counts one more request in flight, if fewer than `limit` are. Each counted request ends with
    /// [`end_request`](Self::end_request).
    pub(in crate::upstream) fn begin_request(&self, limit: usize) -> bool {
        let more = |count: usize| (count < limit).then_some(count + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(in crate::upstream) fn end_request(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn is_full(&self, limit: Option<usize>) -> bool {
        limit.is_some_and(|limit| self.in_flight.load(Ordering::Relaxed) >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovered_server_starts_with_a_part_of_its_share() {
        let status = ServerStatus::default();
        let slow = Some(Duration::from_secs(30));
        assert_eq!(status.share(slow, 5), 100, "it was always available");
        assert!(status.set_healthy(false, 10) && status.set_healthy(true, 1_000));
        assert!(!status.set_healthy(true, 2_000), "no change");
        assert_eq!([1_000, 16_000, 31_000, 99_000].map(|now| status.share(slow, now)), [10, 50, 100, 100]);
        assert_eq!(status.share(None, 1_000), 100);
    }

    #[test]
    fn an_ejected_server_is_available_again_after_its_period() {
        let status = ServerStatus::default();
        status.eject(5_000);
        assert!(status.is_ejected(4_999) && !status.is_available(4_999));
        assert!(status.is_available(5_000));
        assert_eq!(status.share(Some(Duration::from_secs(10)), 10_000), 50);
    }

    #[test]
    fn requests_in_flight_are_counted_exactly() {
        let status = ServerStatus::default();
        assert!(status.begin_request(1) && !status.begin_request(1));
        assert!(status.is_full(Some(1)) && !status.is_full(None));
        status.end_request();
        assert!(status.begin_request(1));
    }
}
