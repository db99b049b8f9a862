//! The circuit breaker: spares callers the wait for an upstream that fails every request.
//!
//! After a number of failures in a row, counted over all servers and all workers, it opens: requests are refused at
//! once. When its time is over, one request is let through as a trial. If the trial succeeds the breaker closes,
//! otherwise the time starts again. While a trial waits for its caller, it says nothing about the upstream, and the
//! next request is a trial too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::super::settings::BreakerRules;
use super::outcome::ServerOutcome;

#[derive(Debug)]
pub(crate) struct Breaker {
    rules: BreakerRules,
    /// In a row.
    failures: AtomicU32,
    /// Milliseconds of the upstream's time; 0 while the breaker is closed. Odd during a trial, so that no outcome sets
    /// the number that the trial has set. Shared with the trials.
    open_until: Arc<AtomicU64>,
}

/// The permission to send a request while the breaker is open. If it is dropped without an outcome, because the caller
/// has gone, the next request is the trial.
#[derive(Debug)]
pub(in crate::upstream) struct BreakerTrial {
    open_until: Arc<AtomicU64>,
    /// The value of `open_until` before the trial.
    before: u64,
    /// Its value while the trial excludes others.
    during: u64,
}

/// The request is refused.
#[derive(Debug)]
pub(in crate::upstream) struct BreakerOpen;

/// The effect of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum BreakerChange {
    Opened,
    Closed,
}

impl Breaker {
    pub(in crate::upstream) fn new(rules: BreakerRules) -> Self {
        Self { rules, failures: AtomicU32::new(0), open_until: Arc::default() }
    }

    /// `Ok(None)` while the breaker is closed.
    pub(in crate::upstream) fn admit(&self, now: u64) -> Result<Option<BreakerTrial>, BreakerOpen> {
        let before = self.open_until.load(Ordering::Relaxed);
        if before == 0 {
            return Ok(None);
        }
        // A trial without an outcome is followed by another one once the time is over again.
        let during = self.period_end(now) | 1;
        if now < before || !replace(&self.open_until, before, during) {
            return Err(BreakerOpen);
        }
        Ok(Some(BreakerTrial { open_until: Arc::clone(&self.open_until), before, during }))
    }

    pub(in crate::upstream) fn observe(&self, outcome: ServerOutcome, now: u64) -> Option<BreakerChange> {
        match outcome {
            ServerOutcome::Success => {
                // Read first: while nothing fails, no worker writes to memory that all of them read.
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
                let was_open = self.is_open() && self.open_until.swap(0, Ordering::Relaxed) > 0;
                was_open.then_some(BreakerChange::Closed)
            }
            ServerOutcome::Failure => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if failures < self.rules.consecutive_failures {
                    return None;
                }
                let was_closed = self.open_until.swap(self.period_end(now), Ordering::Relaxed) == 0;
                was_closed.then_some(BreakerChange::Opened)
            }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open_until.load(Ordering::Relaxed) > 0
    }

    /// The end of a period that starts now: even, and never 0.
    fn period_end(&self, now: u64) -> u64 {
        now.saturating_add(u64::try_from(self.rules.open_for.as_millis()).unwrap_or(u64::MAX)).max(2) & !1
    }
}

impl BreakerTrial {
    /// The trial waits for its caller: it does not exclude another one meanwhile.
    pub(in crate::upstream) fn pause(&self) {
        replace(&self.open_until, self.during, self.before);
    }

    /// The trial waits for the upstream again. It excludes others, unless there is another one by now.
    pub(in crate::upstream) fn resume(&self) {
        replace(&self.open_until, self.before, self.during);
    }
}

impl Drop for BreakerTrial {
    fn drop(&mut self) {
        self.pause();
    }
}

/// True if the value was `from`.
fn replace(value: &AtomicU64, from: u64, to: u64) -> bool {
    value.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ServerOutcome::{Failure, Success};
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(BreakerRules { consecutive_failures: 3, open_for: Duration::from_secs(5) })
    }

    fn admits(breaker: &Breaker, now: u64) -> bool {
        breaker.admit(now).is_ok()
    }

    #[test]
    fn a_breaker_opens_after_failures_and_closes_after_one_success() {
        let breaker = breaker();
        for outcome in [Failure, Failure, Success, Failure, Failure] {
            assert_eq!(breaker.observe(outcome, 1_000), None);
            assert!(admits(&breaker, 1_000));
        }
        assert_eq!(breaker.observe(Failure, 1_000), Some(BreakerChange::Opened));
        assert!(!admits(&breaker, 1_000) && !admits(&breaker, 5_999));
        let trial = breaker.admit(6_000).unwrap();
        assert!(!admits(&breaker, 6_000), "one trial at a time");
        assert_eq!(breaker.observe(Failure, 6_500), None);
        drop(trial);
        assert!(!admits(&breaker, 11_000), "the time starts again");
        let trial = breaker.admit(11_500).unwrap();
        assert_eq!(breaker.observe(Success, 11_600), Some(BreakerChange::Closed));
        drop(trial);
        assert!(admits(&breaker, 11_600) && admits(&breaker, 11_600));
    }

    #[test]
    fn after_a_trial_without_an_outcome_the_next_is_the_trial() {
        let breaker = breaker();
        assert_eq!([0; 3].map(|now| breaker.observe(Failure, now)), [None, None, Some(BreakerChange::Opened)]);
        let abandoned = breaker.admit(5_000).unwrap();
        assert!(!admits(&breaker, 5_001));
        drop(abandoned);
        assert!(admits(&breaker, 5_002));
    }

    #[test]
    fn a_trial_that_takes_too_long_is_followed_by_another() {
        let breaker = breaker();
        assert_eq!([0; 3].map(|now| breaker.observe(Failure, now)), [None, None, Some(BreakerChange::Opened)]);
        let hanging = breaker.admit(5_000).unwrap();
        assert!(!admits(&breaker, 9_999) && admits(&breaker, 10_002));
        drop(hanging);
    }

    #[test]
    fn a_trial_that_waits_for_its_caller_does_not_exclude_another() {
        let breaker = breaker();
        assert_eq!([0; 3].map(|now| breaker.observe(Failure, now)), [None, None, Some(BreakerChange::Opened)]);
        let stalled = breaker.admit(5_000).unwrap().unwrap();
        stalled.pause();
        stalled.resume();
        assert!(!admits(&breaker, 5_001), "it waits for the upstream again");
        stalled.pause();
        let other = breaker.admit(5_010).unwrap().unwrap();
        stalled.resume();
        stalled.pause();
        assert!(!admits(&breaker, 5_011), "the other one goes on");
        drop(stalled);
        assert!(!admits(&breaker, 5_012));
        drop(other);
        assert!(admits(&breaker, 5_013));
    }
}
