//! Counts a request against the rate limits of its route, in two phases.
//!
//! Says what was counted, and whether a limit is exceeded. Records nothing.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;

use crate::oauth::discrepancy::{Discrepancy, short};
use crate::pipeline::routing::limit_store::LimitStore;
use crate::pipeline::routing::rate_limit::{CountedBy, LimitCount, LimitRate, MAX_LIMITS, RateLimit, seconds};
use crate::trust::request_key::{ABSENT, RequestKey};
use crate::trust::verify::Verified;

/// When limits are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LimitPhase<'r> {
    /// Limits by address: before any signature is verified, so that a flood of bad tokens is cheap.
    Address,
    /// All others: when the caller is known. A public route has no caller.
    Caller { headers: &'r HeaderMap, caller: Option<&'r Verified> },
}

/// The count of each limit of a route, by its place in the list.
#[derive(Debug, Default)]
pub(crate) struct LimitCounts([Option<LimitCount>; MAX_LIMITS]);

/// A limit that refuses a request.
#[derive(Debug)]
pub(crate) struct ExceededLimit {
    /// Until the next request is let through.
    pub(crate) wait: Duration,
    pub(crate) values: Box<Discrepancy>,
}

/// Counts until a limit is exceeded, which it gives: the limits behind it are not charged for a request that is
/// refused. `record` takes each count with the place of its limit.
pub(crate) async fn count(
    limits: &[RateLimit],
    store: &LimitStore,
    phase: LimitPhase<'_>,
    address: IpAddr,
    mut record: impl FnMut(usize, LimitCount),
) -> Option<ExceededLimit> {
    let is_by_address = matches!(phase, LimitPhase::Address);
    for (index, limit) in limits.iter().enumerate().filter(|(_, limit)| limit.is_by_address() == is_by_address) {
        let key = match phase {
            LimitPhase::Address => RequestKey::by_address(address),
            LimitPhase::Caller { headers, caller } => limit.per.of(address, headers, caller),
        };
        let count = store.count(limit, key).await;
        record(index, count);
        if !count.allowed {
            return Some(ExceededLimit::of(limit, &limit.per, count));
        }
    }
    None
}

/// Counts a request of one of our own clients against the client's limits, until one is exceeded.
pub(crate) async fn count_client(
    limits: &[RateLimit],
    store: &LimitStore,
    mut record: impl FnMut(usize, LimitCount),
) -> Option<ExceededLimit> {
    for (index, limit) in limits.iter().enumerate() {
        // All of the client's requests are in one bucket.
        let count = store.count(limit, ABSENT).await;
        record(index, count);
        if !count.allowed {
            return Some(ExceededLimit::of(limit, &RequestKey::Client, count));
        }
    }
    None
}

impl ExceededLimit {
    /// Names the limit as `RateLimit` in the answer does.
    fn of(limit: &RateLimit, per: &RequestKey, count: LimitCount) -> Self {
        let LimitRate { amount, period, burst, over_replicas: _ } = limit.rate;
        let wanted = format!("at most {amount} in {}s per {}, {burst} at once", period.as_secs(), per);
        let (name, wait) = (short(&limit.name), seconds(count.wait).max(1));
        let found = match count.by {
            CountedBy::Process | CountedBy::Store | CountedBy::Local => format!("limit {name} is used up for {wait}s"),
            CountedBy::Share { replicas } => {
                format!(
                    "the share of limit {name} is used up for {wait}s: one of {replicas}, as the shared store is away"
                )
            }
            CountedBy::Nothing => format!("limit {name} cannot be counted: the shared store is away"),
        };
        Self { wait: count.wait, values: Box::new(Discrepancy::new(found, wanted)) }
    }
}

impl LimitCounts {
    pub(crate) fn by_limit(&self) -> &[Option<LimitCount>] {
        &self.0
    }

    pub(crate) fn set(&mut self, index: usize, count: LimitCount) {
        if let Some(place) = self.0.get_mut(index) {
            *place = Some(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::routing::rate_limit::LimitPlace;
    use std::num::NonZeroU32;

    fn limit(place: usize, per: RequestKey, burst: u32) -> RateLimit {
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate = LimitRate {
            amount: number(1),
            period: Duration::from_secs(3600),
            burst: number(burst),
            over_replicas: false,
        };
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
        let counted = |phase| {
            let mut remaining = Vec::new();
            let counting = count(&limits, &store, phase, address, |at, count| remaining.push((at, count.remaining)));
            // Without a store of several replicas it never waits.
            let exceeded = futures_util::FutureExt::now_or_never(counting).unwrap();
            (remaining, exceeded.is_some())
        };
        assert_eq!(counted(LimitPhase::Address), (vec![(1, 1)], false));
        assert_eq!(counted(by_caller), (vec![(0, 4), (2, 0), (3, 8)], false));
        assert_eq!(counted(by_caller), (vec![(0, 3), (2, 0)], true));
        assert_eq!(counted(by_caller), (vec![(0, 2), (2, 0)], true), "the last was not charged");
    }
}
