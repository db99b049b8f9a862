//! A rate limit as configured: its name, its rate, and the key that it counts by. `limit_store` counts.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use crate::oauth::identity::Identity;
use crate::trust::request_key::RequestKey;

/// One `rate_limits` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// Names the limit in answers; unique on its route.
    pub(crate) name: String,
    pub(crate) rate: LimitRate,
    pub(crate) per: RequestKey,
    /// Seconds in which an empty bucket fills, at least one.
    pub(crate) window: u64,
    pub(crate) place: LimitPlace,
    /// Its name at the top level of the configuration, if it is there. Several routes may count by it.
    pub(crate) shared: Option<Arc<str>>,
}

/// The place of a limit among all limits of its configuration. The store finds the buckets by it, without a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitPlace(pub(crate) usize);

/// `amount` per `period`, up to `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitRate {
    pub(crate) amount: NonZeroU32,
    pub(crate) period: Duration,
    /// The bucket's whole size.
    pub(crate) burst: NonZeroU32,
    /// Counted over all replicas that share a store.
    pub(crate) over_replicas: bool,
}

/// The result of counting one request against one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitCount {
    pub(crate) allowed: bool,
    /// The tokens that are left in the bucket.
    pub(crate) remaining: u32,
    /// Until the bucket is full again, or until the next request is let through.
    pub(crate) wait: Duration,
    pub(crate) by: CountedBy,
}

/// The counter of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountedBy {
    /// The buckets of this process.
    Process,
    /// The store of all replicas.
    Store,
    /// The store is unreachable, and this replica has one of this many shares of the limit.
    Share { replicas: u32 },
    /// The store is unreachable, and the buckets of this process count instead.
    Local,
    /// The store is unreachable, and every request is refused.
    Nothing,
}

/// The limits of our own clients. Each counts all requests of its client. Most clients have none.
pub(crate) type ClientLimits = HashMap<Identity, Vec<RateLimit>>;

/// A limit of those that a request is counted against, by its place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CountedLimit {
    /// Of the rule that the request matched.
    OfRule(usize),
    OfClient(usize),
}

/// More limits on one route are a configuration error.
pub(crate) const MAX_LIMITS: usize = 8;

impl CountedBy {
    /// The mode of `on_loss`, if the store is unreachable.
    pub(crate) const fn mode_of_loss(self) -> Option<&'static str> {
        match self {
            Self::Process | Self::Store => None,
            Self::Share { .. } => Some("share"),
            Self::Local => Some("local"),
            Self::Nothing => Some("deny"),
        }
    }
}

impl fmt::Display for LimitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { amount, period, burst, over_replicas: _ } = self;
        write!(f, "{amount} in {}s, {burst} at once", period.as_secs())
    }
}

impl LimitRate {
    /// Whether it lets through no more, neither in a long time nor at once, nor over several replicas.
    pub(crate) fn is_at_most(&self, other: &Self) -> bool {
        let [speed, other_speed] =
            [(self, other), (other, self)].map(|(one, two)| u128::from(one.amount.get()) * two.period.as_nanos());
        speed <= other_speed && self.burst <= other.burst && self.over_replicas >= other.over_replicas
    }
}

impl RateLimit {
    pub(crate) fn new(name: String, rate: LimitRate, per: RequestKey, place: LimitPlace) -> Self {
        let window = seconds(rate.period * rate.burst.get() / rate.amount.get()).max(1);
        Self { name, rate, per, window, place, shared: None }
    }

    /// The requests at once, and the seconds in which an empty bucket fills.
    pub(crate) fn quota(&self, by: CountedBy) -> (u64, u64) {
        let LimitRate { amount, period, burst, over_replicas: _ } = self.rate;
        match by {
            CountedBy::Process | CountedBy::Store | CountedBy::Local => (burst.get().into(), self.window),
            CountedBy::Share { replicas } => {
                let of_each = (burst.get() / replicas.max(1)).max(1);
                let fills = period.as_secs_f64() * f64::from(replicas) * f64::from(of_each) / f64::from(amount.get());
                (of_each.into(), (fills.ceil() as u64).max(1))
            }
            CountedBy::Nothing => (0, self.window),
        }
    }

    /// Equal on all replicas, and in all versions.
    pub(crate) fn rate_text(&self) -> String {
        let LimitRate { amount, period, burst, over_replicas } = self.rate;
        format!("{amount}/{}ms/{burst}/{over_replicas}", period.as_millis())
    }

    pub(crate) fn is_by_address(&self) -> bool {
        self.per == RequestKey::Address
    }
}

/// The name of a client's limit at this place. No name in the configuration begins so.
pub(crate) fn client_limit_name(index: usize) -> String {
    if index == 0 { "(client)".to_owned() } else { format!("(client)-{}", index + 1) }
}

/// Rounded up: a client that waits so long is let in.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!([0, 1, 1000, 1001].map(|ms| seconds(Duration::from_millis(ms))), [0, 1, 1, 2]);
    }
}
