//! Rate limits of several replicas: cells are taken from the store before they are spent.
//!
//! A replica takes a *lease*, a few cells of a limit at once, spends them from memory, and takes the next lease in the
//! background when half of the last one is spent. So replicas together never spend more than the limit while the store
//! answers, and a request seldom waits: only the first one of a key, one that comes before the next lease, and those of
//! a limit so slow that a lease is one cell.

pub(crate) mod key_lease;
pub(crate) mod lease_store;
pub(crate) mod leased_limit;

use std::num::NonZeroU32;
use std::time::Duration;

/// A limit of `amount` cells per `period`, and `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseTerms {
    pub(crate) amount: NonZeroU32,
    pub(crate) period: Duration,
    pub(crate) burst: NonZeroU32,
}

/// A lease is about the cells that are spent in this time.
const LEASE_TIME: Duration = Duration::from_millis(100);

impl LeaseTerms {
    /// One cell of this many replicas, each with a part of the limit.
    pub(crate) fn interval(&self, replicas: u32) -> Duration {
        let nanos = self.period.as_nanos() * u128::from(replicas) / u128::from(self.amount.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).max(1))
    }

    /// The burst of one of this many replicas.
    pub(crate) fn burst_of_each(&self, replicas: u32) -> u32 {
        (self.burst.get() / replicas.max(1)).max(1)
    }

    /// The cells of the largest lease, so that all replicas have some.
    fn largest_lease(&self, alive: u32) -> u32 {
        let in_time = LEASE_TIME.as_nanos() / self.interval(alive).as_nanos().max(1);
        let of_burst = self.burst.get() / alive.max(1).saturating_mul(2).max(1);
        u32::try_from(in_time).unwrap_or(u32::MAX).min(of_burst).max(1)
    }
}

#[cfg(test)]
mod tests;
