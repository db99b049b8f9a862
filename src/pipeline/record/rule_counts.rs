//! The counts of one rule.
//!
//! They are in one allocation. So counting a request reads few cache lines, also where each request matches another of
//! many routes.

use std::hash::Hash;

use foldhash::HashMap;

use crate::audit::reason::Reason;
use crate::audit::record::Decision;
use crate::pipeline::routing::rate_limit::{CountedLimit, MAX_LIMITS};
use crate::telemetry::metrics::Histogram;

#[derive(Debug, Default)]
pub(super) struct RuleCounts {
    /// Of the series that they are of.
    pub(super) epoch: u32,
    pub(super) decisions: CountsByKey<DecisionKey, u64>,
    /// Requests that have passed although the rule refuses them.
    pub(super) would_deny: CountsByKey<Reason, u64>,
    pub(super) durations: CountsByKey<DurationKey, Histogram>,
    /// Requests that a limit let through, by the place of the limit in its rule.
    pub(super) allowed: [u64; MAX_LIMITS],
    /// The same for limits of clients, by their place in the client's list.
    pub(super) allowed_by_client_limits: Vec<u64>,
    /// By branch of the rule's split.
    pub(super) splits: Vec<u64>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DecisionKey {
    pub(super) issuer: Option<u16>,
    pub(super) decision: Decision,
    pub(super) reason: Option<Reason>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DurationKey {
    pub(super) method: &'static str,
    pub(super) status: u16,
}

/// A value for each key. The first is stored in place: most requests of a rule have the same key.
#[derive(Debug)]
pub(super) struct CountsByKey<K, V> {
    first: Option<(K, V)>,
    others: HashMap<K, V>,
}

impl RuleCounts {
    pub(super) fn count_branch(&mut self, branch: usize) {
        count_at(&mut self.splits, branch);
    }

    pub(super) fn count_allowed(&mut self, limit: CountedLimit) {
        match limit {
            CountedLimit::OfRule(place) => self.allowed.get_mut(place).into_iter().for_each(|count| *count += 1),
            CountedLimit::OfClient(place) => count_at(&mut self.allowed_by_client_limits, place),
        }
    }
}

fn count_at(counts: &mut Vec<u64>, place: usize) {
    if place >= counts.len() {
        counts.resize(place + 1, 0);
    }
    counts[place] += 1;
}

impl<K: Eq + Hash, V: Default> CountsByKey<K, V> {
    pub(super) fn entry(&mut self, key: K) -> &mut V {
        match &mut self.first {
            Some((first, _)) if *first != key => self.others.entry(key).or_default(),
            first => &mut first.get_or_insert_with(|| (key, V::default())).1,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.first.iter().map(|(key, value)| (key, value)).chain(&self.others)
    }
}

impl<K, V> Default for CountsByKey<K, V> {
    fn default() -> Self {
        Self { first: None, others: HashMap::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_keeps_its_own_value() {
        let mut counts = CountsByKey::<u8, u64>::default();
        for key in [7, 1, 7, 2, 1, 7] {
            *counts.entry(key) += 1;
        }
        let mut all: Vec<_> = counts.iter().map(|(key, count)| (*key, *count)).collect();
        all.sort_unstable();
        assert_eq!(all, [(1, 2), (2, 1), (7, 3)]);
    }

    #[test]
    fn branches_and_limits_are_counted_by_their_places() {
        let mut counts = RuleCounts::default();
        counts.count_branch(2);
        counts.count_branch(0);
        counts.count_branch(2);
        assert_eq!(counts.splits, [1, 0, 2]);
        for place in [1, 1, MAX_LIMITS] {
            counts.count_allowed(CountedLimit::OfRule(place));
            counts.count_allowed(CountedLimit::OfClient(place));
        }
        assert_eq!(counts.allowed[..3], [0, 2, 0]);
        assert_eq!(counts.allowed_by_client_limits, [0, 2, 0, 0, 0, 0, 0, 0, 1]);
    }
}
