//! Rate limits over replicas: a replica takes cells of a limit from the store before it spends them.
//!
//! A replica takes a *lease* of a few cells, spends them from memory, and takes the next lease in the background when
//! half of the last one is spent. So the replicas together never spend more than the limit while the store answers. A
//! request waits for the store only if its key is new, if it arrives before the next lease, or if the limit is so slow
//! that a lease is one cell.

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

/// A lease has about as many cells as are spent in this time.
const LEASE_TIME: Duration = Duration::from_millis(100);

impl LeaseTerms {
    /// The time between two cells of a replica, if this many replicas share the limit.
    pub(crate) fn interval(&self, replicas: u32) -> Duration {
        let nanos = self.period.as_nanos() * u128::from(replicas) / u128::from(self.amount.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).max(1))
    }

    /// The burst of one of this many replicas.
    pub(crate) fn burst_of_each(&self, replicas: u32) -> u32 {
        (self.burst.get() / replicas.max(1)).max(1)
    }

    /// The size of the largest lease, so that cells are left for the other replicas.
    fn largest_lease(&self, alive: u32) -> u32 {
        let in_time = LEASE_TIME.as_nanos() / self.interval(alive).as_nanos().max(1);
        let of_burst = self.burst.get() / alive.max(1).saturating_mul(2).max(1);
        u32::try_from(in_time).unwrap_or(u32::MAX).min(of_burst).max(1)
    }
}

#[cfg(test)]
mod tests;
