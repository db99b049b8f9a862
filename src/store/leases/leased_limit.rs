//! The leases of one limit, by key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use tokio::sync::oneshot;

use super::LeaseTerms;
use super::key_lease::{Granted, KeyLease, Spending};
use super::lease_store::{LeaseStore, StoreView};
use crate::clock;
use crate::oauth::caller::Digest;
use crate::store::settings::OnLoss;

/// One limit, whose cells come from the store.
#[derive(Debug)]
pub(crate) struct LeasedLimit {
    /// The same at all replicas.
    identity: Digest,
    terms: LeaseTerms,
    store: Arc<LeaseStore>,
    shards: Box<[Mutex<LeaseShard>]>,
    keys_per_shard: usize,
    /// The lease of all keys for which the table has no room.
    overflow: Mutex<KeyLease>,
}

type LeaseShard = HashMap<u128, KeyLease, FixedState>;

/// The result of counting a request.
#[derive(Debug)]
pub(crate) enum LeaseCount {
    Allowed {
        remaining: u32,
        wait: Duration,
        by: LeasedBy,
    },
    Refused {
        wait: Duration,
        by: LeasedBy,
    },
    /// Count again when the store has answered.
    Wait(oneshot::Receiver<()>),
    /// The store is unreachable, and this process counts alone.
    Local,
}

/// The counter of a leased limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeasedBy {
    Store,
    /// The store is unreachable, and this replica has a share of the limit.
    Share {
        replicas: u32,
    },
    /// The store is unreachable, and every request is refused.
    Nothing,
}

const SHARDS: usize = 64;
/// The name of the overflow in the store, which no key can have.
const OVERFLOW: &str = "overflow";
/// The wait of refusals by `on_loss: deny`.
const DENIED_FOR: Duration = Duration::from_secs(1);
const TOO_MUCH_ASKED_WAIT: Duration = Duration::from_millis(50);

impl LeasedLimit {
    pub(crate) fn new(identity: Digest, terms: LeaseTerms, store: Arc<LeaseStore>, most_keys: usize) -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        let overflow = Mutex::new(KeyLease::new(clock::instant()));
        Self { identity, terms, store, shards, keys_per_shard: most_keys.div_ceil(SHARDS), overflow }
    }

    /// The longest time that a request waits for an answer.
    pub(crate) fn max_wait(&self) -> Duration {
        self.store.max_wait()
    }

    /// Counts a request with this key.
    pub(crate) fn count(self: &Arc<Self>, key: Digest, now: Instant) -> LeaseCount {
        self.with_lease(key, now, |lease, key| self.count_on(lease, key, now))
    }

    /// Removes the keys that have no state.
    pub(crate) fn forget_idle(&self) {
        let now = clock::instant();
        for shard in &self.shards {
            locked(shard).retain(|_, lease| !lease.is_idle(now));
        }
    }

    pub(crate) fn keys(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).len()).sum()
    }

    /// `key` is `None` for the overflow.
    fn with_lease<T>(&self, key: Digest, now: Instant, act: impl FnOnce(&mut KeyLease, Option<Digest>) -> T) -> T {
        let place = (key.0 ^ key.0 >> 64) as usize;
        let mixed = place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - SHARDS.ilog2());
        if let Some(shard) = self.shards.get(mixed) {
            let mut shard = locked(shard);
            let has_room = shard.len() < self.keys_per_shard || shard.contains_key(&key.0);
            if has_room {
                return act(shard.entry(key.0).or_insert_with(|| KeyLease::new(now)), Some(key));
            }
        }
        act(&mut locked(&self.overflow), None)
    }

    fn count_on(self: &Arc<Self>, lease: &mut KeyLease, key: Option<Digest>, now: Instant) -> LeaseCount {
        let view = self.store.view();
        let (alive, loss) = match &**view {
            StoreView::Reachable { alive, .. } => (*alive, None),
            StoreView::Unreachable(loss) => (1, Some(*loss)),
        };
        let Some(loss) = loss else { return self.count_leased(lease, key, alive, now) };
        // The store has counted the cells of an earlier lease.
        if let Some((remaining, wait)) = lease.take(now) {
            return LeaseCount::Allowed { remaining, wait, by: LeasedBy::Store };
        }
        match self.store.on_loss() {
            OnLoss::Share => {
                let by = LeasedBy::Share { replicas: loss.replicas };
                match lease.spend_share(&self.terms, &loss, now) {
                    Ok(remaining) => {
                        let burst = self.terms.burst_of_each(loss.replicas);
                        let wait = self.terms.interval(loss.replicas) * burst.saturating_sub(remaining);
                        LeaseCount::Allowed { remaining, wait, by }
                    }
                    Err(wait) => LeaseCount::Refused { wait, by },
                }
            }
            OnLoss::Local => LeaseCount::Local,
            OnLoss::Deny => LeaseCount::Refused { wait: DENIED_FOR, by: LeasedBy::Nothing },
        }
    }

    fn count_leased(
        self: &Arc<Self>,
        lease: &mut KeyLease,
        key: Option<Digest>,
        alive: u32,
        now: Instant,
    ) -> LeaseCount {
        let by = LeasedBy::Store;
        let (count, ask) = match lease.spend(self.terms.largest_lease(alive), now) {
            Spending::Spent { remaining, until_end, ask } => {
                (LeaseCount::Allowed { remaining, wait: until_end, by }, ask)
            }
            Spending::Denied { wait } => (LeaseCount::Refused { wait, by }, None),
            Spending::Wait { answered, ask } => (LeaseCount::Wait(answered), ask),
        };
        if let Some(wanted) = ask {
            if self.store.reserve_request(lease.is_in_use(now)) {
                self.ask(key, wanted, now);
            } else {
                // Too many requests to the store: once its cells are spent, the bucket counts as empty for a while.
                lease.answered(Granted::Nothing { for_time: TOO_MUCH_ASKED_WAIT }, &self.terms, now, now);
            }
        }
        count
    }

    fn ask(self: &Arc<Self>, key: Option<Digest>, wanted: u32, asked_at: Instant) {
        let identity = format!("{:032x}", self.identity.0);
        let name = match key {
            Some(key) => Digest::of(&[&identity, &format!("{:032x}", key.0)]),
            None => Digest::of(&[&identity, OVERFLOW]),
        };
        let limit = Arc::clone(self);
        self.store.ask((name, self.terms, wanted), move |granted| {
            let now = clock::instant();
            match key {
                Some(key) => {
                    // The key stays in the table until the answer.
                    limit.with_lease(key, now, |lease, _| lease.answered(granted, &limit.terms, asked_at, now));
                }
                None => locked(&limit.overflow).answered(granted, &limit.terms, asked_at, now),
            }
        });
    }
}

/// A panic of another thread leaves the state consistent.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
