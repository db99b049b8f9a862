//! Counts a request against the rate limits of its route, in two phases.
//!
//! Says what was counted, and whether a limit is exceeded. Records nothing.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;

use crate::oauth::caller::Digest;
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

/// The limits that a request is counted against, and the keys that it is counted by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counting<'r> {
    pub(crate) limits: &'r [RateLimit],
    pub(crate) store: &'r LimitStore,
    pub(crate) keys: CountingKeys<'r>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum CountingKeys<'r> {
    /// Those of the limits of one phase.
    OfPhase(LimitPhase<'r>, IpAddr),
    /// For the limits of one of our own clients: all of its requests are in one bucket.
    OfClient,
}

impl Counting<'_> {
    /// Counts until a limit is exceeded, which it gives: the limits behind it are not charged for a request that is
    /// refused. Gives the place of a limit that must wait for its store, from which [`rest`](Self::rest) counts.
    /// `record` takes each count with the place of its limit.
    pub(crate) fn now(self, mut record: impl FnMut(usize, LimitCount)) -> Result<Option<usize>, ExceededLimit> {
        for (index, limit) in self.limits.iter().enumerate() {
            let Some(key) = self.key(limit) else { continue };
            let Some(count) = self.store.count_now(limit, key) else { return Ok(Some(index)) };
            record(index, count);
            self.check(limit, count)?;
        }
        Ok(None)
    }

    /// The same for the limits from this place on, with waiting.
    pub(crate) async fn rest(
        self,
        from: usize,
        mut record: impl FnMut(usize, LimitCount),
    ) -> Result<(), ExceededLimit> {
        for (index, limit) in self.limits.iter().enumerate().skip(from) {
            let Some(key) = self.key(limit) else { continue };
            let count = self.store.count(limit, key).await;
            record(index, count);
            self.check(limit, count)?;
        }
        Ok(())
    }

    /// `None` for a limit of the other phase.
    fn key(&self, limit: &RateLimit) -> Option<Digest> {
        let by_address = limit.is_by_address();
        match self.keys {
            CountingKeys::OfPhase(LimitPhase::Address, address) => by_address.then(|| RequestKey::by_address(address)),
            CountingKeys::OfPhase(LimitPhase::Caller { headers, caller }, address) => {
                (!by_address).then(|| limit.per.of(address, headers, caller))
            }
            CountingKeys::OfClient => Some(ABSENT),
        }
    }

    fn check(&self, limit: &RateLimit, count: LimitCount) -> Result<(), ExceededLimit> {
        let per = match self.keys {
            CountingKeys::OfPhase(..) => &limit.per,
            CountingKeys::OfClient => &RequestKey::Client,
        };
        if count.allowed { Ok(()) } else { Err(ExceededLimit::of(limit, per, count)) }
    }
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
                format!("the share of limit {name} is used up for {wait}s: one of {replicas}, as Redis is unreachable")
            }
            CountedBy::Nothing => format!("limit {name} cannot be counted: Redis is unreachable"),
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
            let counting = Counting { limits: &limits, store: &store, keys: CountingKeys::OfPhase(phase, address) };
            let exceeded = counting.now(|at, count| remaining.push((at, count.remaining)));
            (remaining, exceeded.is_err())
        };
        assert_eq!(counted(LimitPhase::Address), (vec![(1, 1)], false));
        assert_eq!(counted(by_caller), (vec![(0, 4), (2, 0), (3, 8)], false));
        assert_eq!(counted(by_caller), (vec![(0, 3), (2, 0)], true));
        assert_eq!(counted(by_caller), (vec![(0, 2), (2, 0)], true), "the last was not charged");
    }
}
