//! Requests leases from the store, and follows whether the store is reachable.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::Script;

use super::LeaseTerms;
use super::key_lease::{Granted, Loss};
use crate::clock;
use crate::oauth::caller::Digest;
use crate::store::redis_store::RedisStore;
use crate::store::settings::{InstanceSettings, OnLoss};
use crate::store::shared_state::{ReplicaCounts, SharedState};

/// The store of all limits of this process.
#[derive(Debug)]
pub(crate) struct LeaseStore {
    redis: RedisStore,
    on_loss: OnLoss,
    instance: InstanceSettings,
    view: ArcSwap<StoreView>,
    /// The number of requests to the store without an answer.
    asking: AtomicUsize,
}

/// The state of the store as limits need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreView {
    Reachable { epoch: String, alive: u32 },
    Unreachable(Loss),
}

/// The limit on `asking`. Beyond it, requests are refused as if the bucket were empty.
const MAX_ASKING: usize = 4096;
/// The same limit for keys without a lease, so that a flood of new keys does not delay other keys.
const MAX_ASKING_NEW: usize = 2048;
const LOSS_IS_KNOWN_AFTER: Duration = Duration::from_millis(20);

static LEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lease.lua")));
static LOSSES: AtomicU64 = AtomicU64::new(0);

impl LeaseStore {
    /// Starts the task that follows the state of the store.
    pub(crate) fn start(redis: RedisStore, instance: InstanceSettings, on_loss: OnLoss) -> Arc<Self> {
        let away = StoreView::Unreachable(Loss::now(instance.most));
        let (view, asking) = (ArcSwap::from_pointee(away), AtomicUsize::new(0));
        let store = Arc::new(Self { redis, on_loss, instance, view, asking });
        store.refresh();
        let follower = Arc::clone(&store);
        let mut changes = store.redis.state();
        store.redis.control().spawn(async move {
            while changes.changed().await.is_ok() {
                follower.refresh();
            }
        });
        store
    }

    pub(super) fn view(&self) -> arc_swap::Guard<Arc<StoreView>> {
        self.view.load()
    }

    pub(crate) fn on_loss(&self) -> OnLoss {
        self.on_loss
    }

    /// The longest time that a request waits for an answer. A loss of the store is known earlier.
    pub(crate) fn max_wait(&self) -> Duration {
        self.redis.timeout() + LOSS_IS_KNOWN_AFTER
    }

    /// Counts one more request to the store. False if there are too many.
    pub(super) fn reserve_request(&self, is_in_use: bool) -> bool {
        let most = if is_in_use { MAX_ASKING } else { MAX_ASKING_NEW };
        let is_free = self.asking.fetch_add(1, Ordering::Relaxed) < most;
        if !is_free {
            self.asking.fetch_sub(1, Ordering::Relaxed);
        }
        is_free
    }

    /// Asks for cells in the control plane, and gives the answer to `answered`.
    pub(super) fn ask(
        self: &Arc<Self>,
        (name, terms, wanted): (Digest, LeaseTerms, u32),
        answered: impl FnOnce(Granted) + Send + 'static,
    ) {
        let store = Arc::clone(self);
        self.redis.control().spawn(async move {
            let mut granted = store.granted(name, terms, wanted).await;
            store.asking.fetch_sub(1, Ordering::Relaxed);
            if granted == Granted::Unknown {
                // Requests that wait must see the new state of the store.
                store.refresh();
                if matches!(**store.view.load(), StoreView::Reachable { .. }) {
                    granted = Granted::Nothing { for_time: REFUSED_WAIT };
                }
            }
            answered(granted);
        });
    }

    async fn granted(&self, name: Digest, terms: LeaseTerms, wanted: u32) -> Granted {
        let StoreView::Reachable { epoch, .. } = &**self.view.load() else { return Granted::Unknown };
        let limit = format!("limit:{:032x}", name.0);
        let keys = [limit.as_str(), "epoch", "replicas"].map(|name| self.redis.key(name)).to_vec();
        let arguments = vec![
            epoch.clone(),
            terms.period.as_micros().to_string(),
            terms.amount.to_string(),
            terms.burst.to_string(),
            wanted.to_string(),
            self.instance.heartbeat.as_millis().to_string(),
        ];
        let micros = |number: i64| Duration::from_micros(u64::try_from(number).unwrap_or_default());
        match self.redis.invoke::<(i64, i64, i64)>(&LEASE, keys, arguments).await {
            Ok((count @ 1.., for_time, _)) => {
                Granted::Cells { count: u32::try_from(count).unwrap_or(1), for_time: micros(for_time) }
            }
            Ok((0, _, wait)) => Granted::Nothing { for_time: micros(wait) },
            Ok((..0, _, _)) => {
                self.redis.look_again();
                // The heartbeat learns the epoch soon.
                Granted::Nothing { for_time: OTHER_EPOCH_WAIT }
            }
            Err(_) => Granted::Unknown,
        }
    }

    /// Takes over the state of the store.
    fn refresh(&self) {
        let state = self.redis.state().borrow().clone();
        let (of_unknown, of_lost) = (self.instance.most, |replicas: ReplicaCounts| replicas.known);
        self.view.rcu(|known| {
            let away = |replicas: u32| match &**known {
                StoreView::Unreachable(loss) if loss.replicas == replicas => StoreView::Unreachable(*loss),
                StoreView::Unreachable(_) | StoreView::Reachable { .. } => StoreView::Unreachable(Loss::now(replicas)),
            };
            match &state {
                SharedState::Reached { epoch, replicas } => {
                    StoreView::Reachable { epoch: epoch.clone(), alive: replicas.alive }
                }
                SharedState::Unknown => away(of_unknown),
                SharedState::Lost { replicas } => away(of_lost(*replicas)),
            }
        });
    }
}

const OTHER_EPOCH_WAIT: Duration = Duration::from_millis(50);
/// The store is reachable, and has refused a request.
const REFUSED_WAIT: Duration = Duration::from_millis(200);

impl Loss {
    pub(super) fn now(replicas: u32) -> Self {
        let number = LOSSES.fetch_add(1, Ordering::Relaxed);
        Self { number, since: clock::instant(), replicas: replicas.max(1) }
    }
}
