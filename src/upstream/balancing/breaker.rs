//! Gives an upstream a rest that fails whatever it is asked, instead of letting every caller wait for that.
//!
//! After so many failures in a row, of all servers together, requests are refused at once. When the time is over one
//! request is let through: if it goes well all are, if not the time begins anew. Counted over all workers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::upstream::balancing::ejection::ServerOutcome;

/// An upstream's rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BreakerRules {
    /// In a row.
    pub(crate) consecutive_failures: u32,
    pub(crate) open_for: Duration,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    rules: BreakerRules,
    failures: AtomicU32,
    /// In milliseconds of the upstream's time; 0 while requests go through. Odd while one tries for all, so that no outcome leaves
    /// the same number.
    open_until: AtomicU64,
}

/// Leave to go through. Given back without an outcome, because the caller left, it is the next one's to try.
#[derive(Debug)]
pub(in crate::upstream) struct BreakerTrial<'b> {
    breaker: &'b Breaker,
    /// Since when one may try, and what stands there meanwhile; `None` while all go through.
    tries: Option<(u64, u64)>,
}

/// What an outcome has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum BreakerChange {
    Opened,
    Closed,
}

impl Breaker {
    pub(in crate::upstream) fn new(rules: BreakerRules) -> Self {
        Self { rules, failures: AtomicU32::new(0), open_until: AtomicU64::new(0) }
    }

    pub(in crate::upstream) fn lets_through(&self, now: u64) -> Option<BreakerTrial<'_>> {
        let until = self.open_until.load(Ordering::Relaxed);
        if until == 0 {
            return Some(BreakerTrial { breaker: self, tries: None });
        }
        // Who is first after the time tries for all; should nothing be heard of it, the next may once the time is over again.
        let again = self.after(now) | 1;
        let is_first = now >= until
            && self.open_until.compare_exchange(until, again, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_first.then_some(BreakerTrial { breaker: self, tries: Some((until, again)) })
    }

    pub(in crate::upstream) fn observe(&self, outcome: ServerOutcome, now: u64) -> Option<BreakerChange> {
        match outcome {
            ServerOutcome::Good => {
                // Read first: while all is well, nobody writes what all cores read.
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
                let was_open = self.is_open() && self.open_until.swap(0, Ordering::Relaxed) > 0;
                was_open.then_some(BreakerChange::Closed)
            }
            ServerOutcome::Bad => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if failures < self.rules.consecutive_failures {
                    return None;
                }
                let was_closed = self.open_until.swap(self.after(now), Ordering::Relaxed) == 0;
                was_closed.then_some(BreakerChange::Opened)
            }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open_until.load(Ordering::Relaxed) > 0
    }

    fn after(&self, now: u64) -> u64 {
        now.saturating_add(u64::try_from(self.rules.open_for.as_millis()).unwrap_or(u64::MAX)).max(2) & !1
    }
}

impl Drop for BreakerTrial<'_> {
    fn drop(&mut self) {
        if let Some((until, again)) = self.tries {
            let _ = self.breaker.open_until.compare_exchange(again, until, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(BreakerRules { consecutive_failures: 3, open_for: Duration::from_secs(5) })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_that_goes_well() {
        let breaker = breaker();
        for outcome in
            [ServerOutcome::Bad, ServerOutcome::Bad, ServerOutcome::Good, ServerOutcome::Bad, ServerOutcome::Bad]
        {
            assert_eq!(breaker.observe(outcome, 1_000), None);
            assert!(lets_through(&breaker, 1_000));
        }
        assert_eq!(breaker.observe(ServerOutcome::Bad, 1_000), Some(BreakerChange::Opened));
        assert!(!lets_through(&breaker, 1_000) && !lets_through(&breaker, 5_999));
        let one_tries = breaker.lets_through(6_000).unwrap();
        assert!(!lets_through(&breaker, 6_000), "the others wait for it");
        assert_eq!(breaker.observe(ServerOutcome::Bad, 6_500), None);
        drop(one_tries);
        assert!(!lets_through(&breaker, 11_000), "the time begins anew");
        let one_tries = breaker.lets_through(11_500).unwrap();
        assert_eq!(breaker.observe(ServerOutcome::Good, 11_600), Some(BreakerChange::Closed));
        drop(one_tries);
        assert!(lets_through(&breaker, 11_600) && lets_through(&breaker, 11_600));
    }

    #[test]
    fn who_leaves_without_an_outcome_leaves_the_try_to_the_next() {
        let breaker = breaker();
        assert_eq!(
            [0; 3].map(|now| breaker.observe(ServerOutcome::Bad, now)),
            [None, None, Some(BreakerChange::Opened)]
        );
        let leaves = breaker.lets_through(5_000).unwrap();
        assert!(!lets_through(&breaker, 5_001));
        drop(leaves);
        assert!(lets_through(&breaker, 5_002));
    }

    #[test]
    fn a_try_of_which_nothing_is_heard_for_long_is_followed_by_another() {
        let breaker = breaker();
        assert_eq!(
            [0; 3].map(|now| breaker.observe(ServerOutcome::Bad, now)),
            [None, None, Some(BreakerChange::Opened)]
        );
        let hangs = breaker.lets_through(5_000).unwrap();
        assert!(!lets_through(&breaker, 9_999) && lets_through(&breaker, 10_002));
        drop(hangs);
    }

    fn lets_through(breaker: &Breaker, now: u64) -> bool {
        breaker.lets_through(now).is_some()
    }
}
