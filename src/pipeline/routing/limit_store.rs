//! Counts rate limits in token buckets by key: in this process, or by leases from the store of all replicas.
//!
//! A limit keeps at most `MAX_KEYS` keys. Keys whose bucket is full again are removed first, at no loss. While the
//! table is full, new keys share one bucket: they are slowed, never passed unlimited.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock, FakeRelativeClock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::bounded_store::BoundedStore;
use super::rate_limit::{CountedBy, LimitCount, LimitPlace, LimitRate, RateLimit};
use crate::clock;
use crate::oauth::caller::Digest;
use crate::store::leases::LeaseTerms;
use crate::store::leases::lease_store::LeaseStore;
use crate::store::leases::leased_limit::{LeaseCount, LeasedBy, LeasedLimit};

/// The buckets of all limits of a configuration.
#[derive(Debug)]
pub(crate) struct LimitStore {
    by_place: Vec<Arc<LimitBuckets>>,
    /// By what the limits are about.
    places: HashMap<Digest, usize>,
}

/// The buckets of one limit.
#[derive(Debug)]
struct LimitBuckets {
    burst: u32,
    /// Until one more request is let through, once the bucket is empty.
    interval: Duration,
    /// Refused requests that were not logged yet.
    refused: AtomicU64,
    limiter: RateLimiter<u128, BoundedStore, LimitClock, StateInformationMiddleware>,
    /// The leases of a limit that is counted over replicas. Then `limiter` counts only with `on_loss: local`, while the
    /// store is unreachable.
    leased: Option<Arc<LeasedLimit>>,
}

const MAX_KEYS: usize = 100_000;
/// The shards of all limits together, as far as each may have fewer. A shard takes 128 bytes, also where it is empty.
const MAX_SHARDS: usize = 4096;
/// A table has at least two.
const MIN_SHARDS_OF_EACH: usize = 2;
/// Enough that cores seldom wait for each other.
const SHARDS_PER_CORE: usize = 4;

impl LimitStore {
    /// `rates` are those of all limits of the configuration, by place.
    pub(crate) fn new(rates: &[LimitRate]) -> Self {
        Self::following(rates, &[], None, None)
    }

    /// The same, with the buckets of `before` for the limits that are about the same.
    /// `leases` is the store of the limits that are counted over replicas.
    pub(crate) fn following(
        rates: &[LimitRate],
        identities: &[Option<Digest>],
        before: Option<&Self>,
        leases: Option<&Arc<LeaseStore>>,
    ) -> Self {
        let shards = shards_of_each(rates.len());
        let store = || BoundedStore::new(MAX_KEYS, shards);
        let kept = |identity: &Digest| {
            let before = before?;
            before.by_place.get(*before.places.get(identity)?).map(Arc::clone)
        };
        let buckets = |(place, rate): (usize, &LimitRate)| {
            let identity = identities.get(place).and_then(Option::as_ref);
            let leased = leases.zip(identity).filter(|_| rate.over_replicas);
            let new = || {
                let leased = leased.map(|(leases, identity)| leased_limit(rate, *identity, leases));
                Arc::new(LimitBuckets::new(*rate, LimitClock::System(clock::instant()), store(), leased))
            };
            identity.and_then(kept).unwrap_or_else(new)
        };
        let by_place = rates.iter().enumerate().map(buckets).collect();
        let places = identities.iter().enumerate().filter_map(|(place, identity)| Some(((*identity)?, place)));
        Self { by_place, places: places.collect() }
    }

    /// `None` if the request must wait for the store of all replicas, because the key is new here, the next lease is on
    /// its way, or the limit is slow. Then [`count`](Self::count) counts it.
    pub(crate) fn count_now(&self, limit: &RateLimit, key: Digest) -> Option<LimitCount> {
        let Some(buckets) = self.by_place.get(limit.place.0) else { return Some(lost_place(limit)) };
        match &buckets.leased {
            None => Some(buckets.count(key)),
            Some(leased) => buckets.counted(leased.count(key, clock::instant()), key).ok(),
        }
    }

    /// Waits for the store of all replicas if it must.
    pub(crate) async fn count(&self, limit: &RateLimit, key: Digest) -> LimitCount {
        let Some(buckets) = self.by_place.get(limit.place.0) else { return lost_place(limit) };
        match &buckets.leased {
            None => buckets.count(key),
            Some(leased) => buckets.count_leased(leased, key).await,
        }
    }

    /// Counts in this process alone.
    pub(crate) fn count_in_process(&self, limit: &RateLimit, key: Digest) -> LimitCount {
        self.by_place.get(limit.place.0).map_or_else(|| lost_place(limit), |buckets| buckets.count(key))
    }

    /// Removes the keys whose bucket is full again; a new key starts with a full bucket anyway.
    pub(crate) fn forget_idle(&self) {
        self.by_place.iter().for_each(|limit| limit.forget_idle());
    }

    pub(crate) fn keys(&self) -> usize {
        self.by_place.iter().map(|limit| limit.keys()).sum()
    }

    /// The number of requests that each limit has refused since the last call.
    pub(crate) fn take_refused(&self) -> impl Iterator<Item = (LimitPlace, u64)> {
        // Most are zero: a load disturbs no other core.
        let take =
            |count: &AtomicU64| if count.load(Ordering::Relaxed) == 0 { 0 } else { count.swap(0, Ordering::Relaxed) };
        self.by_place.iter().enumerate().map(move |(place, limit)| (LimitPlace(place), take(&limit.refused)))
    }
}

impl LimitBuckets {
    fn new(rate: LimitRate, clock: LimitClock, store: BoundedStore, leased: Option<Arc<LeasedLimit>>) -> Self {
        let interval = rate.period / rate.amount.get();
        // A period that is not zero always makes a quota.
        let quota = Quota::with_period(interval.max(Duration::from_nanos(1))).unwrap_or(Quota::per_second(rate.amount));
        let limiter = RateLimiter::new(quota.allow_burst(rate.burst), store, clock);
        Self { burst: rate.burst.get(), interval, refused: AtomicU64::new(0), limiter, leased }
    }

    fn count(&self, key: Digest) -> LimitCount {
        match self.limiter.check_key(&key.0) {
            Ok(left) => {
                let remaining = left.remaining_burst_capacity();
                let wait = self.interval * (self.burst - remaining);
                LimitCount { allowed: true, remaining, wait, by: CountedBy::Process }
            }
            Err(not_until) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let wait = not_until.wait_time_from(self.limiter.clock().now());
                LimitCount { allowed: false, remaining: 0, wait, by: CountedBy::Process }
            }
        }
    }

    /// Counts again at each answer of the store, until its timeout.
    async fn count_leased(&self, leased: &Arc<LeasedLimit>, key: Digest) -> LimitCount {
        let until = tokio::time::Instant::now() + leased.max_wait();
        loop {
            let answered = match self.counted(leased.count(key, clock::instant()), key) {
                Ok(count) => return count,
                Err(answered) => answered,
            };
            if timeout_at(until, answered).await.is_err() {
                // Nothing was leased in time: refused rather than not limited.
                self.refused.fetch_add(1, Ordering::Relaxed);
                return LimitCount { allowed: false, remaining: 0, wait: self.interval, by: CountedBy::Store };
            }
        }
    }

    /// In place of the store, which is unreachable.
    fn count_locally(&self, key: Digest) -> LimitCount {
        LimitCount { by: CountedBy::Local, ..self.count(key) }
    }

    /// `Err`: it is known when the store has answered.
    fn counted(&self, counted: LeaseCount, key: Digest) -> Result<LimitCount, oneshot::Receiver<()>> {
        let (allowed, remaining, wait, by) = match counted {
            LeaseCount::Allowed { remaining, wait, by } => (true, remaining, wait, by),
            LeaseCount::Refused { wait, by } => (false, 0, wait, by),
            LeaseCount::Local => return Ok(self.count_locally(key)),
            LeaseCount::Wait(answered) => return Err(answered),
        };
        if !allowed {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        let by = match by {
            LeasedBy::Store => CountedBy::Store,
            LeasedBy::Share { replicas } => CountedBy::Share { replicas },
            LeasedBy::Nothing => CountedBy::Nothing,
        };
        Ok(LimitCount { allowed, remaining, wait, by })
    }

    fn forget_idle(&self) {
        self.limiter.retain_recent();
        self.leased.iter().for_each(|leased| leased.forget_idle());
    }

    fn keys(&self) -> usize {
        self.limiter.len() + self.leased.as_ref().map_or(0, |leased| leased.keys())
    }
}

/// A limit of another configuration: refused rather than not limited.
fn lost_place(limit: &RateLimit) -> LimitCount {
    LimitCount { allowed: false, remaining: 0, wait: limit.rate.period, by: CountedBy::Process }
}

fn leased_limit(rate: &LimitRate, identity: Digest, leases: &Arc<LeaseStore>) -> Arc<LeasedLimit> {
    let LimitRate { amount, period, burst, over_replicas: _ } = *rate;
    Arc::new(LeasedLimit::new(identity, LeaseTerms { amount, period, burst }, Arc::clone(leases), MAX_KEYS))
}

/// A power of two. Without a bound on all of them, the memory would grow with the product of limits and cores.
fn shards_of_each(limits: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = (cores * SHARDS_PER_CORE).next_power_of_two();
    let share = (MAX_SHARDS / limits.max(1)).max(MIN_SHARDS_OF_EACH);
    most.min(1 << share.ilog2())
}

/// The real clock, or a test's.
#[derive(Clone, Debug)]
enum LimitClock {
    /// Time since this instant.
    System(Instant),
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests turn the clock by hand"))]
    Fake(FakeRelativeClock),
}

impl Clock for LimitClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        match self {
            Self::System(start) => clock::instant().saturating_duration_since(*start).into(),
            Self::Fake(clock) => clock.now().duration_since(Nanos::new(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limit(amount: u32, period: u64, burst: u32, keys: usize) -> (LimitBuckets, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate = LimitRate {
            amount: number(amount),
            period: Duration::from_secs(period),
            burst: number(burst),
            over_replicas: false,
        };
        (LimitBuckets::new(rate, LimitClock::Fake(clock.clone()), BoundedStore::new(keys, 4), None), clock)
    }

    fn allowed(limit: &LimitBuckets, key: u128, times: usize) -> usize {
        (0..times).filter(|_| limit.count(Digest(key)).allowed).count()
    }

    #[test]
    fn a_burst_is_the_whole_bucket_and_refills_at_the_rate() {
        let (limit, clock) = limit(10, 1, 20, 100);
        assert_eq!(allowed(&limit, 1, 100), 20);
        clock.advance(Duration::from_secs(1));
        assert_eq!(allowed(&limit, 1, 100), 10);
        clock.advance(Duration::from_secs(60));
        assert_eq!(allowed(&limit, 1, 100), 20);
    }

    #[test]
    fn a_slow_rate_is_exact_too() {
        let (limit, clock) = limit(100, 3600, 1, 100);
        assert_eq!(allowed(&limit, 1, 5), 1);
        clock.advance(Duration::from_millis(35_999));
        assert_eq!(allowed(&limit, 1, 5), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(allowed(&limit, 1, 5), 1);
    }

    #[test]
    fn keys_have_buckets_of_their_own() {
        let (limit, _clock) = limit(1, 1, 1, 100);
        assert_eq!(allowed(&limit, 1, 3) + allowed(&limit, 2, 3), 2);
    }

    #[test]
    fn answers_carry_remaining_requests_and_reset_time() {
        let (limit, _clock) = limit(10, 1, 2, 100);
        let seconds = Duration::from_secs_f64;
        assert_eq!(
            limit.count(Digest(1)),
            LimitCount { allowed: true, remaining: 1, wait: seconds(0.1), by: CountedBy::Process }
        );
        assert_eq!(
            limit.count(Digest(1)),
            LimitCount { allowed: true, remaining: 0, wait: seconds(0.2), by: CountedBy::Process }
        );
        assert_eq!(
            limit.count(Digest(1)),
            LimitCount { allowed: false, remaining: 0, wait: seconds(0.1), by: CountedBy::Process }
        );
    }

    #[test]
    fn beyond_the_cap_newcomers_share_one_bucket() {
        let (limit, clock) = limit(1, 1, 2, 10);
        for key in 1..=10 {
            assert_eq!(allowed(&limit, key, 1), 1);
        }
        assert_eq!((11..=20).map(|key| allowed(&limit, key, 1)).sum::<usize>(), 2);
        assert_eq!(limit.keys(), 10);
        clock.advance(Duration::from_secs(10));
        limit.forget_idle();
        assert_eq!(limit.keys(), 0);
        assert_eq!(allowed(&limit, 21, 5), 2);
    }

    #[test]
    fn buckets_go_on_at_another_place() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate =
            LimitRate { amount: number(1), period: Duration::from_secs(3600), burst: number(5), over_replicas: false };
        let [one, other] = [Digest(1), Digest(2)].map(Some);
        let before = LimitStore::following(&[rate], &[one], None, None);
        assert_eq!(allowed(&before.by_place[0], 7, 3), 3);
        let after = LimitStore::following(&[rate; 3], &[None, other, one], Some(&before), None);
        assert_eq!(after.by_place.iter().map(|limit| allowed(limit, 7, 9)).collect::<Vec<_>>(), [5, 5, 2]);
    }

    #[test]
    fn many_limits_have_few_shards_each() {
        let few = shards_of_each(1);
        assert!(few >= 4 && few.is_power_of_two());
        assert_eq!([10_000, 100_000].map(shards_of_each), [2, 2]);
        for limits in 0..5000 {
            let shards = shards_of_each(limits);
            assert!((2..=few).contains(&shards) && shards.is_power_of_two(), "{limits}");
        }
    }
}
