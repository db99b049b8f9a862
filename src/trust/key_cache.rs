//! The keys of one issuer as requests see them: read without locks, published by one refresher.
//!
//! A request whose key id is missing may wait for the refresher's next attempt, never longer than [`PATIENCE`]. Absent
//! and cannot-tell are different answers: [`Lookup::Unknown`] refuses the token, [`Lookup::Unavailable`] asks the caller to come back.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::jose::algorithm::Algorithm;
use crate::jose::jwk::VerifyingKey;
use crate::jose::key_set::KeySet;

/// One issuer's keys, shared by all workers.
#[derive(Debug)]
pub(crate) struct KeyCache {
    state: ArcSwap<KeyState>,
    /// How many attempts have ended; waiters watch it.
    attempts: watch::Sender<u64>,
    nudged: Notify,
    waiters: Semaphore,
}

/// What the refresher last found out.
#[derive(Debug)]
pub(crate) struct KeyState {
    origin: Origin,
    keys: Arc<KeySet>,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    /// Ours: always right, never fetched.
    Memory,
    Remote {
        attempts: u64,
        last_attempt: Option<Instant>,
        fetched: Option<Instant>,
        usable_until: Option<Instant>,
    },
}

#[derive(Debug)]
pub(crate) enum Lookup {
    Found(Arc<VerifyingKey>),
    /// The issuer's current set has no such key.
    Unknown,
    /// The issuer's current set can't be had.
    Unavailable,
}

/// A set younger than this is believed as it is.
pub(crate) const BELIEVED_FOR: Duration = Duration::from_secs(5);
/// How long a request waits for the refresher.
const PATIENCE: Duration = Duration::from_secs(2);
/// More requests than this don't wait; they are told that the keys are unavailable.
const MAX_WAITERS: usize = 1024;

impl KeyCache {
    /// Keys of our own, from memory.
    pub(crate) fn own(keys: KeySet) -> Self {
        Self::new(KeyState { origin: Origin::Memory, keys: Arc::new(keys) })
    }

    /// After a rotation of our own keys; cached tokens of a key that went die with it.
    pub(crate) fn replace_own(&self, keys: KeySet) {
        self.state.store(Arc::new(KeyState { origin: Origin::Memory, keys: Arc::new(keys) }));
    }

    /// An external issuer's cache, before its first fetch has ended.
    pub(crate) fn remote() -> Self {
        let origin = Origin::Remote { attempts: 0, last_attempt: None, fetched: None, usable_until: None };
        Self::new(KeyState { origin, keys: Arc::default() })
    }

    fn new(state: KeyState) -> Self {
        Self {
            state: ArcSwap::from_pointee(state),
            attempts: watch::Sender::new(0),
            nudged: Notify::new(),
            waiters: Semaphore::new(MAX_WAITERS),
        }
    }

    /// True while this very key may be believed.
    pub(crate) fn still_holds(&self, key: &VerifyingKey, now: Instant) -> bool {
        let state = self.state.load();
        state.is_usable(now) && state.keys.holds(key)
    }

    /// The key for this header, waiting for a refetch where the set may be out of date.
    pub(crate) async fn find(&self, key_id: Option<&str>, algorithm: Algorithm) -> Lookup {
        let seen = match self.look(key_id, algorithm, Instant::now()) {
            Ok(lookup) => return lookup,
            Err(seen) => seen,
        };
        // Dropped by a caller who hangs up, this cancels nothing: the refresher fetches for all.
        let Ok(_place) = self.waiters.try_acquire() else {
            return Lookup::Unavailable;
        };
        let mut attempts = self.attempts.subscribe();
        self.nudged.notify_one();
        if timeout(PATIENCE, attempts.wait_for(|ended| *ended > seen)).await.is_err() {
            return Lookup::Unavailable;
        }
        self.look(key_id, algorithm, Instant::now()).unwrap_or(Lookup::Unavailable)
    }

    /// What is known now; `Err` with the attempts seen where it is worth waiting for the next.
    fn look(&self, key_id: Option<&str>, algorithm: Algorithm, now: Instant) -> Result<Lookup, u64> {
        let state = self.state.load();
        if state.is_usable(now)
            && let Some(key) = state.keys.find(key_id, algorithm)
        {
            return Ok(Lookup::Found(Arc::clone(key)));
        }
        let Origin::Remote { attempts, last_attempt, fetched, .. } = state.origin else {
            return Ok(Lookup::Unknown);
        };
        let young = |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < BELIEVED_FOR);
        match (young(fetched), young(last_attempt)) {
            (true, _) => Ok(Lookup::Unknown),
            (false, true) => Ok(Lookup::Unavailable),
            (false, false) => Err(attempts),
        }
    }

    /// Ends with the next request that misses a key.
    pub(crate) async fn nudged(&self) {
        self.nudged.notified().await;
    }

    /// Publishes a fetched set, good until `usable_until`, and wakes who waits.
    pub(crate) fn publish(&self, keys: KeySet, now: Instant, usable_until: Instant) {
        let attempts = self.ended() + 1;
        let origin =
            Origin::Remote { attempts, last_attempt: Some(now), fetched: Some(now), usable_until: Some(usable_until) };
        self.state.store(Arc::new(KeyState { origin, keys: Arc::new(keys) }));
        self.attempts.send_replace(attempts);
    }

    /// Records an attempt that failed: the last good set stays, and who waits is told.
    pub(crate) fn publish_failure(&self, now: Instant) {
        let state = self.state.load();
        let ended = self.ended() + 1;
        let origin = match state.origin {
            Origin::Memory => Origin::Memory,
            Origin::Remote { fetched, usable_until, .. } => {
                Origin::Remote { attempts: ended, last_attempt: Some(now), fetched, usable_until }
            }
        };
        self.state.store(Arc::new(KeyState { origin, keys: Arc::clone(&state.keys) }));
        self.attempts.send_replace(ended);
    }

    /// True if a token could be verified now.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        self.state.load().is_usable(now)
    }

    /// Seconds since the set was fetched; `None` for our own and for one never had.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        match self.state.load().origin {
            Origin::Memory => None,
            Origin::Remote { fetched, .. } => Some(now.saturating_duration_since(fetched?)),
        }
    }

    fn ended(&self) -> u64 {
        *self.attempts.borrow()
    }
}

impl KeyState {
    fn is_usable(&self, now: Instant) -> bool {
        match self.origin {
            Origin::Memory => true,
            Origin::Remote { usable_until, .. } => usable_until.is_some_and(|until| now < until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::signing::SigningKey;

    fn key() -> Arc<VerifyingKey> {
        Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().0.verifying_key().unwrap())
    }

    fn publish(cache: &KeyCache, key: &Arc<VerifyingKey>) {
        let now = Instant::now();
        cache.publish(KeySet::from_keys(vec![Arc::clone(key)]), now, now + Duration::from_secs(3600));
    }

    async fn find(cache: &KeyCache, key: &VerifyingKey) -> Lookup {
        cache.find(key.key_id.as_deref(), Algorithm::Es256).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_young_set_is_believed_as_it_is() {
        let (cache, known, unknown) = (KeyCache::remote(), key(), key());
        publish(&cache, &known);
        assert!(matches!(find(&cache, &known).await, Lookup::Found(_)));
        let before = Instant::now();
        assert!(matches!(find(&cache, &unknown).await, Lookup::Unknown));
        assert_eq!(before, Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_key_waits_for_one_refetch_of_an_older_set() {
        let (cache, old, new) = (Arc::new(KeyCache::remote()), key(), key());
        publish(&cache, &old);
        tokio::time::advance(BELIEVED_FOR).await;
        let refresher = async {
            cache.nudged().await;
            publish(&cache, &new);
        };
        let ((), first, second) = tokio::join!(refresher, find(&cache, &new), find(&cache, &new));
        assert!(matches!((first, second), (Lookup::Found(_), Lookup::Found(_))));
        assert!(!cache.still_holds(&old, Instant::now()), "a removed key is believed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refetch_that_does_not_come_is_not_waited_for_longer_than_two_seconds() {
        let cache = KeyCache::remote();
        let before = Instant::now();
        assert!(matches!(find(&cache, &key()).await, Lookup::Unavailable));
        assert_eq!(before.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refetch_that_fails_is_cannot_tell_and_never_unknown() {
        let (cache, known) = (KeyCache::remote(), key());
        publish(&cache, &known);
        tokio::time::advance(BELIEVED_FOR).await;
        let refresher = async {
            cache.nudged().await;
            cache.publish_failure(Instant::now());
        };
        let ((), lookup) = tokio::join!(refresher, cache.find(Some("other"), Algorithm::Es256));
        assert!(matches!(lookup, Lookup::Unavailable));
        assert!(matches!(find(&cache, &known).await, Lookup::Found(_)), "the last good set went");
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_beyond_its_time_is_not_believed() {
        let (cache, known) = (KeyCache::remote(), key());
        publish(&cache, &known);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(!cache.still_holds(&known, Instant::now()));
        assert!(matches!(find(&cache, &known).await, Lookup::Unavailable));
    }

    #[tokio::test(start_paused = true)]
    async fn the_1025th_waiter_is_not_kept() {
        let cache = KeyCache::remote();
        let places: Vec<_> = (0..MAX_WAITERS).map(|_| cache.waiters.try_acquire().unwrap()).collect();
        let before = Instant::now();
        assert!(matches!(find(&cache, &key()).await, Lookup::Unavailable));
        assert_eq!(before, Instant::now());
        drop(places);
    }
}
