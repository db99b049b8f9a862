//! Outlier ejection: a server that fails too often gets no requests for a while.
//!
//! Failures in a row are counted over all workers; the error rate is counted by each worker for itself, and the first
//! worker that sees enough failures ejects the server for all. Some of the servers always stay, and a single server is
//! never ejected.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::settings::Ejection;
use super::outcome::ServerOutcome;
use super::status::ServerStatus;

/// The ejections of one upstream, shared by all workers.
#[derive(Debug)]
pub(in crate::upstream) struct OutlierEjection {
    rules: Ejection,
    /// Held while a server is ejected.
    in_progress: AtomicBool,
}

/// One worker's counts of a server, for the error rate.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::upstream) struct OutcomeCounts {
    since: u64,
    requests: u32,
    failures: u32,
}

/// The longest ejection, unless the first one is configured to be longer. Milliseconds.
const MAX_PERIOD: u64 = 300_000;
/// The window of the error rate, in milliseconds.
const WINDOW: u64 = 10_000;
/// With fewer requests in a window there is no error rate.
const MIN_REQUESTS: u32 = 20;

impl OutlierEjection {
    pub(in crate::upstream) fn new(rules: Ejection) -> Self {
        Self { rules, in_progress: AtomicBool::new(false) }
    }

    /// Counts an outcome. Gives the period of the ejection, in milliseconds, if the server is ejected now.
    pub(in crate::upstream) fn observe(
        &self,
        statuses: &[ServerStatus],
        index: usize,
        outcome: ServerOutcome,
        recent: &Cell<OutcomeCounts>,
        now: u64,
    ) -> Option<u64> {
        let status = &statuses[index];
        let counts = recent.get().with(outcome, now);
        recent.set(counts);
        match outcome {
            ServerOutcome::Success => {
                // Read first: while nothing fails, no worker writes to memory that all of them read.
                if status.failures.load(Ordering::Relaxed) > 0 {
                    status.failures.store(0, Ordering::Relaxed);
                }
                None
            }
            ServerOutcome::Failure => {
                let failures = status.failures.fetch_add(1, Ordering::Relaxed) + 1;
                let exceeds_rate = self.rules.error_rate.is_some_and(|rate| counts.reach(rate));
                if failures < self.rules.consecutive_failures && !exceeds_rate {
                    return None;
                }
                recent.set(OutcomeCounts::default());
                self.eject(statuses, index, now)
            }
        }
    }

    fn eject(&self, statuses: &[ServerStatus], index: usize, now: u64) -> Option<u64> {
        // Two workers at once could exceed the maximum together. The second one leaves the ejection to the next
        // failure.
        if self.in_progress.swap(true, Ordering::Acquire) {
            return None;
        }
        let _in_progress = EjectionInProgress(&self.in_progress);
        let status = &statuses[index];
        let ejected = statuses.iter().filter(|status| status.is_ejected(now)).count();
        if status.is_ejected(now) || ejected >= self.max_ejected(statuses.len()) {
            return None;
        }
        let ended = status.ejected_until.load(Ordering::Relaxed);
        let before = status.ejections.load(Ordering::Relaxed);
        // After a time without failures as long as its last ejection, a server starts with the first period again.
        let is_forgotten = now.saturating_sub(ended) > self.period(before.saturating_sub(1));
        let in_a_row = if is_forgotten { 0 } else { before };
        let period = self.period(in_a_row);
        status.ejections.store(in_a_row.saturating_add(1), Ordering::Relaxed);
        status.eject(now.saturating_add(period));
        Some(period)
    }

    fn max_ejected(&self, servers: usize) -> usize {
        (servers * self.rules.max_ejected as usize / 100).max(1).min(servers - 1)
    }

    /// The milliseconds of an ejection that follows so many others.
    fn period(&self, ejections: u32) -> u64 {
        let first = u64::try_from(self.rules.period.as_millis()).unwrap_or(u64::MAX);
        first.saturating_mul(1 << ejections.min(20)).min(MAX_PERIOD.max(first))
    }
}

impl OutcomeCounts {
    fn with(self, outcome: ServerOutcome, now: u64) -> Self {
        let recent =
            if now.saturating_sub(self.since) < WINDOW { self } else { Self { since: now, ..Self::default() } };
        let failed = u32::from(outcome == ServerOutcome::Failure);
        Self { requests: recent.requests + 1, failures: recent.failures + failed, ..recent }
    }

    fn reach(self, rate: u32) -> bool {
        self.requests >= MIN_REQUESTS && u64::from(self.failures) * 100 >= u64::from(rate) * u64::from(self.requests)
    }
}

struct EjectionInProgress<'u>(&'u AtomicBool);

impl Drop for EjectionInProgress<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULES: Ejection =
        Ejection { consecutive_failures: 3, error_rate: Some(50), period: Duration::from_secs(30), max_ejected: 50 };

    struct Servers {
        ejection: OutlierEjection,
        statuses: Vec<ServerStatus>,
    }

    fn servers(count: usize, rules: Ejection) -> Servers {
        let statuses = (0..count).map(|_| ServerStatus::default()).collect();
        Servers { ejection: OutlierEjection::new(rules), statuses }
    }

    impl Servers {
        /// Each letter is an exchange with this server. Gives the end of its ejection afterwards.
        fn after(&self, server: usize, outcomes: &str, now: u64) -> u64 {
            let recent = Cell::default();
            for letter in outcomes.chars() {
                let outcome = if letter == 'x' { ServerOutcome::Failure } else { ServerOutcome::Success };
                let _ = self.ejection.observe(&self.statuses, server, outcome, &recent, now);
            }
            self.statuses[server].ejected_until.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn failures_in_a_row_eject() {
        let servers = servers(2, RULES);
        assert_eq!(servers.after(0, "xx.xx.xx", 1_000), 0);
        assert_eq!(servers.after(0, ".xxx", 1_000), 31_000);
        assert!(servers.statuses[1].is_available(1_000));
    }

    #[test]
    fn an_error_rate_ejects_if_there_are_enough_requests() {
        let two = servers(2, RULES);
        assert_eq!(two.after(0, &"x.".repeat(9), 1_000), 0);
        assert_eq!(two.after(0, &"..x".repeat(20), 1_000), 0);
        assert_eq!(two.after(0, &".x".repeat(10), 1_000), 31_000);
        let without_rate = servers(2, Ejection { error_rate: None, ..RULES });
        assert_eq!(without_rate.after(0, &".x".repeat(100), 1_000), 0);
    }

    #[test]
    fn some_of_the_servers_always_stay() {
        for (count, max_ejected, ejected) in [(1, 100, 0), (2, 50, 1), (2, 10, 1), (2, 100, 1), (3, 50, 1), (4, 50, 2)]
        {
            let servers = servers(count, Ejection { max_ejected, ..RULES });
            let found = (0..count).filter(|server| servers.after(*server, "xxxxxx", 1_000) > 0).count();
            assert_eq!(found, ejected, "{max_ejected} % of {count}");
        }
    }

    #[test]
    fn repeated_ejections_double_in_length_up_to_a_maximum() {
        let servers = servers(2, RULES);
        let (mut now, mut periods) = (1_000, Vec::new());
        for _ in 0..6 {
            let until = servers.after(0, "xxx", now);
            periods.push((until - now) / 1000);
            now = until + 1;
        }
        assert_eq!(periods, [30, 60, 120, 240, 300, 300]);
        now += 1_000_000;
        assert_eq!(servers.after(0, "xxx", now) - now, 30_000);
    }
}
