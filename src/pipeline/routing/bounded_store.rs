//! The keys of one limit, up to a cap.

use std::hash::{BuildHasherDefault, Hasher};

use governor::nanos::Nanos;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::state::{InMemoryState, NotKeyed, StateStore};

/// Keys up to a cap, and one bucket for the rest.
#[derive(Debug)]
pub(super) struct BoundedStore {
    states: DashMapStateStore<u128, BuildHasherDefault<PassthroughHasher>>,
    cap: usize,
    overflow: InMemoryState,
}

impl BoundedStore {
    pub(super) fn new(cap: usize, shards: usize) -> Self {
        let hasher = BuildHasherDefault::default();
        Self {
            states: DashMapStateStore::with_capacity_and_hasher_and_shard_amount(0, hasher, shards),
            cap,
            overflow: InMemoryState::default(),
        }
    }
}

impl StateStore for BoundedStore {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, key: &u128, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(state) = self.states.get(key) {
            return state.measure_and_replace(&NotKeyed::NonKey, f);
        }
        if self.states.len() >= self.cap {
            return self.overflow.measure_and_replace(&NotKeyed::NonKey, f);
        }
        self.states.entry(*key).or_default().measure_and_replace(&NotKeyed::NonKey, f)
    }
}

impl ShrinkableKeyedStateStore<u128> for BoundedStore {
    fn retain_recent(&self, drop_below: Nanos) {
        self.states.retain_recent(drop_below);
    }

    fn shrink_to_fit(&self) {
        self.states.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.states.len()
    }

    fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

/// Keys are digests already; addresses are spread by a multiplication.
#[derive(Default)]
struct PassthroughHasher(u64);

impl Hasher for PassthroughHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        let folded = (key >> 64) as u64 ^ key as u64;
        self.0 = folded.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
