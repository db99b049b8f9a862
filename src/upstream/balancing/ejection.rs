//! Takes out a server that keeps failing, for a while.
//!
//! What counts is how exchanges end: no connection, broken off, too late, not HTTP, or a gateway's status (502, 503, 504). Failures in a row
//! are counted over all workers, their rate by each worker for itself; whoever has seen enough ejects for all. A part of
//! the servers always stays, and a server that is alone is never ejected.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use tracing::{info, warn};

use crate::upstream::balancing::breaker::BreakerChange;
use crate::upstream::service::Upstream;

/// An upstream's rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ejection {
    /// In a row.
    pub(crate) consecutive_failures: u32,
    /// In a hundred.
    pub(crate) error_rate: Option<u32>,
    /// The first time; twice as long each time that follows soon.
    pub(crate) period: Duration,
    /// In a hundred of the servers, and yet one if there are two.
    pub(crate) max_ejected: u32,
}

/// How an exchange ended, as far as it says something about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum ServerOutcome {
    Good,
    Bad,
}

/// What one worker has seen of a server lately.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::upstream) struct OutcomeCounts {
    since: u64,
    requests: u32,
    failures: u32,
}

/// Ejections that follow each other last no longer, unless the first does.
const LONGEST: Duration = Duration::from_secs(300);
/// Milliseconds over which a rate is taken.
const WINDOW: u64 = 10_000;
/// Fewer make no rate.
const LEAST_REQUESTS: u32 = 20;

impl ServerOutcome {
    pub(in crate::upstream) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Self::Bad,
            _ => Self::Good,
        }
    }
}

impl Upstream {
    /// Notes how an exchange with a server ended, in the worker's own record too.
    pub(in crate::upstream) fn observe(
        &self,
        index: usize,
        outcome: ServerOutcome,
        seen: &Cell<OutcomeCounts>,
        now: u64,
    ) {
        if let Some(change) = self.breaker.as_ref().and_then(|breaker| breaker.observe(outcome, now)) {
            match change {
                BreakerChange::Opened => {
                    warn!(upstream.name = &*self.name, "an upstream keeps failing: its requests are refused")
                }
                BreakerChange::Closed => info!(upstream.name = &*self.name, "an upstream takes requests again"),
            }
        }
        let Some(rules) = self.settings.ejection.filter(|_| self.servers.len() > 1) else {
            return;
        };
        let status = &self.statuses[index];
        let recent = seen.get().and(outcome, now);
        seen.set(recent);
        match outcome {
            ServerOutcome::Good => {
                // Read first: while all is well, nobody writes what all cores read.
                if status.failures.load(Ordering::Relaxed) > 0 {
                    status.failures.store(0, Ordering::Relaxed);
                }
            }
            ServerOutcome::Bad => {
                let failures = status.failures.fetch_add(1, Ordering::Relaxed) + 1;
                let too_often = rules.error_rate.is_some_and(|rate| recent.is_over(rate));
                if failures >= rules.consecutive_failures || too_often {
                    seen.set(OutcomeCounts::default());
                    self.eject(index, rules, now);
                }
            }
        }
    }

    fn eject(&self, index: usize, rules: Ejection, now: u64) {
        // Two workers at once could go below the floor together. Who comes second leaves it to the next failure.
        if self.is_ejecting.swap(true, Ordering::Acquire) {
            return;
        }
        let _done = EjectionInProgress(&self.is_ejecting);
        let status = &self.statuses[index];
        let ejected = self.statuses.iter().filter(|status| status.is_ejected(now)).count();
        if status.is_ejected(now) || ejected >= rules.most(self.servers.len()) {
            return;
        }
        let ended = status.ejected_until.load(Ordering::Relaxed);
        let before = status.ejections.load(Ordering::Relaxed);
        // Good for as long as it was away the last time: that is forgotten.
        let forgotten = now.saturating_sub(ended) > rules.lasts(before.saturating_sub(1));
        let times = if forgotten { 0 } else { before };
        let period = rules.lasts(times);
        status.ejections.store(times.saturating_add(1), Ordering::Relaxed);
        status.eject(now.saturating_add(period));
        let (server, period_ms) = (&*self.servers[index].name(), period);
        warn!(upstream.name = &*self.name, server, period_ms, "a server keeps failing: ejected");
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self { consecutive_failures: 5, error_rate: Some(50), period: Duration::from_secs(30), max_ejected: 50 }
    }
}

impl Ejection {
    fn most(&self, servers: usize) -> usize {
        (servers * self.max_ejected as usize / 100).max(1).min(servers - 1)
    }

    /// Milliseconds, after so many ejections in a row.
    fn lasts(&self, times: u32) -> u64 {
        let longest = LONGEST.max(self.period);
        let period = self.period.saturating_mul(1 << times.min(20)).min(longest);
        u64::try_from(period.as_millis()).unwrap_or(u64::MAX)
    }
}

impl OutcomeCounts {
    fn and(self, outcome: ServerOutcome, now: u64) -> Self {
        let recent =
            if now.saturating_sub(self.since) < WINDOW { self } else { Self { since: now, ..Self::default() } };
        let failed = u32::from(outcome == ServerOutcome::Bad);
        Self { requests: recent.requests + 1, failures: recent.failures + failed, ..recent }
    }

    fn is_over(&self, rate: u32) -> bool {
        self.requests >= LEAST_REQUESTS && u64::from(self.failures) * 100 >= u64::from(rate) * u64::from(self.requests)
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
    use super::*;
    use crate::upstream::service::tests::upstream;

    const RULES: Ejection =
        Ejection { consecutive_failures: 3, error_rate: Some(50), period: Duration::from_secs(30), max_ejected: 50 };

    fn rules(change: impl FnOnce(&mut Ejection)) -> Ejection {
        let mut rules = RULES;
        change(&mut rules);
        rules
    }

    fn with(servers: usize, rules: Ejection) -> Upstream {
        upstream(&vec![1; servers], |settings| settings.ejection = Some(rules))
    }

    /// Each letter is an exchange with this server; the time that ejections end then.
    fn after(upstream: &Upstream, server: usize, outcomes: &str, now: u64) -> u64 {
        let seen = Cell::default();
        for letter in outcomes.chars() {
            let outcome = if letter == 'x' { ServerOutcome::Bad } else { ServerOutcome::Good };
            upstream.observe(server, outcome, &seen, now);
        }
        upstream.statuses[server].ejected_until.load(Ordering::Relaxed)
    }

    #[test]
    fn failures_in_a_row_eject() {
        let upstream = with(2, RULES);
        assert_eq!(after(&upstream, 0, "xx.xx.xx", 1_000), 0);
        assert_eq!(after(&upstream, 0, ".xxx", 1_000), 31_000);
        assert!(upstream.statuses[1].is_available(1_000));
    }

    #[test]
    fn a_rate_of_failures_ejects_where_there_are_enough_requests() {
        let upstream = with(2, RULES);
        assert_eq!(after(&upstream, 0, &"x.".repeat(9), 1_000), 0);
        assert_eq!(after(&upstream, 0, &"..x".repeat(20), 1_000), 0);
        assert_eq!(after(&upstream, 0, &".x".repeat(10), 1_000), 31_000);
        let upstream = with(2, rules(|rules| rules.error_rate = None));
        assert_eq!(after(&upstream, 0, &".x".repeat(100), 1_000), 0);
    }

    #[test]
    fn a_part_of_the_servers_always_stays() {
        for (servers, max_ejected, ejected) in
            [(1, 100, 0), (2, 50, 1), (2, 10, 1), (2, 100, 1), (3, 50, 1), (4, 50, 2)]
        {
            let upstream = with(servers, rules(|rules| rules.max_ejected = max_ejected));
            let count = (0..servers).filter(|server| after(&upstream, *server, "xxxxxx", 1_000) > 0).count();
            assert_eq!(count, ejected, "{max_ejected} % of {servers}");
        }
    }

    #[test]
    fn each_ejection_that_follows_soon_lasts_twice_as_long_up_to_a_bound() {
        let upstream = with(2, RULES);
        let (mut now, mut lasted) = (1_000, Vec::new());
        for _ in 0..6 {
            let until = after(&upstream, 0, "xxx", now);
            lasted.push((until - now) / 1000);
            now = until + 1;
        }
        assert_eq!(lasted, [30, 60, 120, 240, 300, 300]);
        now += 1_000_000;
        assert_eq!(after(&upstream, 0, "xxx", now) - now, 30_000);
    }
}
