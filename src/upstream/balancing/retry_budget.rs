//! The retry budget of one worker for an upstream: a share of its requests, and a minimum if there are few.

use std::cell::Cell;

#[derive(Debug)]
pub(in crate::upstream) struct Budget {
    window_start: Cell<u64>,
    /// Of the previous window and the current one.
    requests: [Cell<u32>; 2],
    retries: [Cell<u32>; 2],
}

/// Retries, in percent of the requests.
const SHARE: u64 = 20;
/// Retries in a window, whatever the number of requests.
const MIN_RETRIES: u64 = 30;
/// Milliseconds.
const WINDOW: u64 = 10_000;

impl Budget {
    pub(in crate::upstream) fn new() -> Self {
        Self { window_start: Cell::new(0), requests: Default::default(), retries: Default::default() }
    }

    pub(in crate::upstream) fn count_request(&self, now: u64) {
        self.advance(now);
        self.requests[1].set(self.requests[1].get().saturating_add(1));
    }

    /// True if one more retry is allowed; it is counted then.
    pub(in crate::upstream) fn take_retry(&self, now: u64) -> bool {
        self.advance(now);
        let sum = |counts: &[Cell<u32>; 2]| counts.iter().map(|count| u64::from(count.get())).sum::<u64>();
        // Over both windows: retries that the previous window has used are not allowed again.
        let allowed = (sum(&self.requests) * SHARE / 100).max(MIN_RETRIES);
        let is_within = sum(&self.retries) < allowed;
        if is_within {
            self.retries[1].set(self.retries[1].get() + 1);
        }
        is_within
    }

    fn advance(&self, now: u64) {
        let age = now.saturating_sub(self.window_start.get());
        if age < WINDOW {
            return;
        }
        for counts in [&self.requests, &self.retries] {
            counts[0].set(if age < 2 * WINDOW { counts[1].get() } else { 0 });
            counts[1].set(0);
        }
        self.window_start.set(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_is_retried_and_never_more() {
        let budget = Budget::new();
        let mut retried = 0;
        for number in 0..100_000_u64 {
            let now = 20_000 + number;
            budget.count_request(now);
            retried += u64::from(budget.take_retry(now));
        }
        assert!((19_000..=20_000 + 2 * MIN_RETRIES).contains(&retried), "{retried}");
    }

    #[test]
    fn an_upstream_with_few_requests_has_a_minimum_of_retries() {
        let budget = Budget::new();
        assert_eq!((0..100).filter(|_| budget.take_retry(50_000)).count() as u64, MIN_RETRIES);
        assert!(!budget.take_retry(50_000 + WINDOW), "the previous window counts too");
        assert!(budget.take_retry(50_000 + 4 * WINDOW));
    }
}
