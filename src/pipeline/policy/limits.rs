//! Counts a request against the rate limits of its route, in two phases.
//!
//! Says what was counted, and whether a limit is exceeded. Records nothing.

use std::net::IpAddr;

use http::HeaderMap;

use crate::pipeline::routing::limit_store::LimitStore;
use crate::pipeline::routing::rate_limit::{LimitCount, MAX_LIMITS, RateLimit};
use crate::trust::request_key::RequestKey;
use crate::trust::verify::Verified;

/// When limits are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LimitPhase<'r> {
    /// Limits by address: before any signature is verified, so that a flood of bad tokens is cheap.
    Address,
    /// All others: when the caller is known. A public route has no caller.
    Caller { headers: &'r HeaderMap, caller: Option<&'r Verified> },
}

/// What each limit of a route counted, by its place in the list.
#[derive(Debug, Default)]
pub(crate) struct LimitCounts {
    by_limit: [Option<LimitCount>; MAX_LIMITS],
    /// The count that refuses the request.
    pub(crate) exceeded: Option<LimitCount>,
}

/// Counts until a limit is exceeded: the limits behind it are not charged for a request that is refused.
pub(crate) fn count(limits: &[RateLimit], store: &LimitStore, phase: LimitPhase<'_>, address: IpAddr) -> LimitCounts {
    let mut counts = LimitCounts::default();
    let is_by_address = matches!(phase, LimitPhase::Address);
    for (limit, counted) in limits.iter().zip(&mut counts.by_limit) {
        if limit.is_by_address() != is_by_address {
            continue;
        }
        let key = match phase {
            LimitPhase::Address => RequestKey::by_address(address),
            LimitPhase::Caller { headers, caller } => limit.per.of(address, headers, caller),
        };
        let count = store.count(limit, key);
        *counted = Some(count);
        if !count.allowed {
            counts.exceeded = Some(count);
            break;
        }
    }
    counts
}

impl LimitCounts {
    pub(crate) fn by_limit(&self) -> &[Option<LimitCount>] {
        &self.by_limit
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, LimitCount)> {
        self.by_limit.iter().enumerate().filter_map(|(index, count)| count.map(|count| (index, count)))
    }

    /// Adds what another phase counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (index, count) in other.iter() {
            self.by_limit[index] = Some(count);
        }
        self.exceeded = self.exceeded.or(other.exceeded);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::pipeline::routing::rate_limit::{LimitPlace, LimitRate};

    fn limit(place: usize, per: RequestKey, burst: u32) -> RateLimit {
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate = LimitRate { amount: number(1), period: Duration::from_secs(3600), burst: number(burst) };
        RateLimit::new("l".to_owned(), rate, per, LimitPlace(place))
    }

    #[test]
    fn each_phase_counts_its_limits_and_stops_at_the_first_exceeded() {
        let limits = [
            limit(0, RequestKey::Route, 5),
            limit(1, RequestKey::Address, 2),
            limit(2, RequestKey::Route, 1),
            limit(3, RequestKey::Route, 9),
        ];
        let store = LimitStore::new(&limits.each_ref().map(|limit| limit.rate));
        let address = "10.0.0.1".parse().unwrap();
        let headers = HeaderMap::new();
        let by_caller = LimitPhase::Caller { headers: &headers, caller: None };
        let remaining =
            |counts: &LimitCounts| counts.iter().map(|(at, count)| (at, count.remaining)).collect::<Vec<_>>();
        let mut all = count(&limits, &store, LimitPhase::Address, address);
        assert_eq!((remaining(&all), all.exceeded), (vec![(1, 1)], None));
        all.add(&count(&limits, &store, by_caller, address));
        assert_eq!((remaining(&all), all.exceeded), (vec![(0, 4), (1, 1), (2, 0), (3, 8)], None));
        let second = count(&limits, &store, by_caller, address);
        assert_eq!(remaining(&second), [(0, 3), (2, 0)]);
        assert!(second.exceeded.is_some_and(|count| !count.allowed));
        assert_eq!(
            remaining(&count(&limits, &store, by_caller, address)),
            [(0, 2), (2, 0)],
            "the last was not charged"
        );
    }
}
