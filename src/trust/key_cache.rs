//! The keys of one issuer, as requests see them. Reads take no lock. One refresher task publishes.
//!
//! A request with an unknown key id may wait for the refresher's next attempt, at most [`MAX_WAIT`]. An unknown key and
//! unavailable keys are different results: [`KeyLookup::Unknown`] refuses the token, [`KeyLookup::Unavailable`] asks
//! the caller to retry.
//!
//! A request whose signature the known key did not make may wait likewise, for another key of the same id. Such requests
//! have a limit of their own, so that forged tokens do not keep requests with a new key from waiting.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use in_database::AbsentKeys;

use super::progress::RefreshProgress;
use crate::jose::algorithm::Algorithm;
use crate::jose::header::KeyReference;
use crate::jose::jwk::VerifyingKey;
use crate::jose::key_set::KeySet;

/// The keys of one issuer, shared by all workers.
#[derive(Debug)]
pub(crate) struct KeyCache {
    state: ArcSwap<KeyState>,
    /// The number of finished attempts. Waiting requests watch it.
    attempts: watch::Sender<u64>,
    /// The number of reads of the database that have begun.
    begun: AtomicU64,
    /// True if a key was missing that a newer set may have.
    wanted: AtomicBool,
    nudged: Notify,
    /// A permit for each request that waits for an unknown key.
    waiters: Semaphore,
    /// A permit for each request that waits because the known key did not make its signature.
    signature_waiters: Semaphore,
    /// Look-ups answered from a set older than its time to live.
    stale_served: AtomicU64,
    /// Ids that a recent read of the database did not have.
    absent: AbsentKeys,
    /// For operators. Requests do not read it.
    progress: Mutex<RefreshProgress>,
}

/// The result of the refresher's last attempt.
#[derive(Debug)]
pub(crate) struct KeyState {
    origin: KeySetOrigin,
    keys: Arc<KeySet>,
}

#[derive(Clone, Copy, Debug)]
enum KeySetOrigin {
    /// The gateway's own keys: always current, never fetched.
    Memory,
    /// The gateway's own keys in a database, which other gateways change. A missing key causes one read.
    Database {
        /// Whether the last attempt to read them has failed.
        failed: bool,
    },
    /// An issuer's keys from a file or from the configuration: always current, never fetched.
    Local,
    Remote {
        attempts: u64,
        last_attempt: Option<Instant>,
        times: Option<Times>,
    },
}

/// The time at which a set was requested, and the times until which it may be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Taken before the request to the issuer: keys published later may be missing from the set.
    pub(crate) requested_at: Instant,
    /// The end of the time to live.
    pub(crate) fresh_until: Instant,
    pub(crate) usable_until: Instant,
}

#[derive(Debug)]
pub(crate) enum KeyLookup {
    Found(Arc<VerifyingKey>),
    /// The issuer's current set does not have this key.
    Unknown,
    /// The issuer's current set is not available.
    Unavailable,
}

/// A set younger than this is not refetched for a missing key.
pub(crate) const BELIEVED_FOR: Duration = Duration::from_secs(5);
/// Bounds of the time to live that an issuer may choose for its set.
pub(super) const MIN_TTL: Duration = Duration::from_secs(60);
pub(super) const MAX_TTL: Duration = Duration::from_secs(60 * 60);
/// How long a request waits for the refresher.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Further requests do not wait and get [`KeyLookup::Unavailable`].
const MAX_WAITERS: usize = 1024;
/// Further requests do not wait for another key of the same id.
const MAX_SIGNATURE_WAITERS: usize = 64;

impl KeyCache {
    /// A cache of the gateway's own keys, held in memory.
    pub(crate) fn own(keys: KeySet) -> Self {
        Self::new(KeyState { origin: KeySetOrigin::Memory, keys: Arc::new(keys) })
    }

    /// Replaces the own keys after a rotation. Cached tokens of a removed key become invalid with it.
    pub(crate) fn replace_own(&self, keys: KeySet) {
        self.state.store(Arc::new(KeyState { origin: KeySetOrigin::Memory, keys: Arc::new(keys) }));
    }

    /// A cache of an external issuer's keys that are not fetched.
    pub(crate) fn local(keys: Arc<KeySet>) -> Self {
        Self::new(KeyState { origin: KeySetOrigin::Local, keys })
    }

    /// Replaces keys that are not fetched. Cached tokens of a removed key become invalid with it.
    pub(crate) fn replace_local(&self, keys: Arc<KeySet>) {
        self.state.store(Arc::new(KeyState { origin: KeySetOrigin::Local, keys }));
    }

    /// The cache of an external issuer before its first fetch.
    pub(crate) fn remote() -> Self {
        let origin = KeySetOrigin::Remote { attempts: 0, last_attempt: None, times: None };
        Self::new(KeyState { origin, keys: Arc::default() })
    }

    /// The cache of an external issuer, with a set that an earlier process fetched.
    pub(crate) fn restored(keys: KeySet, times: Times) -> Self {
        let origin = KeySetOrigin::Remote { attempts: 0, last_attempt: None, times: Some(times) };
        Self::new(KeyState { origin, keys: Arc::new(keys) })
    }

    fn new(state: KeyState) -> Self {
        Self {
            state: ArcSwap::from_pointee(state),
            attempts: watch::Sender::new(0),
            begun: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            nudged: Notify::new(),
            waiters: Semaphore::new(MAX_WAITERS),
            signature_waiters: Semaphore::new(MAX_SIGNATURE_WAITERS),
            stale_served: AtomicU64::new(0),
            absent: AbsentKeys::default(),
            progress: Mutex::default(),
        }
    }

    /// True if this exact key is in the set and the set may be used.
    pub(crate) fn is_current(&self, key: &VerifyingKey, now: Instant) -> bool {
        let state = self.state.load();
        let holds = state.is_usable(now) && state.keys.holds(key);
        if holds {
            self.count_stale(&state, now);
        }
        holds
    }

    /// The key that a token's header names. Waits for a refetch if the set may be out of date.
    pub(crate) async fn find(&self, named: KeyReference<'_>, algorithm: Algorithm) -> KeyLookup {
        let started = Instant::now();
        if self.is_in_database() {
            return self.find_in_database(named, algorithm).await;
        }
        let mut seen = match self.look_up(named, algorithm, started) {
            Ok(lookup) => return lookup,
            Err(seen) => seen,
        };
        // If the caller disconnects, this future is dropped. Nothing is cancelled: the refresher fetches for all
        // requests.
        let Ok(_permit) = self.waiters.try_acquire() else {
            return KeyLookup::Unavailable;
        };
        let mut attempts = self.attempts.subscribe();
        // After a slow attempt, the new set may already be out of date. Then only the next attempt gives an answer.
        loop {
            if timeout_at(started + MAX_WAIT, attempts.wait_for(|ended| *ended > seen)).await.is_err() {
                return KeyLookup::Unavailable;
            }
            match self.look_up(named, algorithm, Instant::now()) {
                Ok(lookup) => return lookup,
                Err(newer) => seen = newer,
            }
        }
    }

    /// The key that has replaced `tried`, which did not make the signature of a token. `None` if there is none, or if
    /// the issuer cannot be asked now. Waits for one refetch, as [`Self::find`] does.
    pub(crate) async fn find_replacement(
        &self,
        named: KeyReference<'_>,
        algorithm: Algorithm,
        tried: &VerifyingKey,
    ) -> Option<Arc<VerifyingKey>> {
        let started = Instant::now();
        let other =
            |state: &KeyState, now| state.find(named, algorithm, now).filter(|key| !key.is_same(tried)).cloned();
        let seen = {
            let state = self.state.load();
            if let Some(key) = other(&state, started) {
                return Some(key);
            }
            self.missed(&state, started).err()?
        };
        let _permit = self.signature_waiters.try_acquire().ok()?;
        let mut attempts = self.attempts.subscribe();
        timeout_at(started + MAX_WAIT, attempts.wait_for(|ended| *ended > seen)).await.ok()?.ok()?;
        other(&self.state.load(), Instant::now())
    }

    /// The result from the current set. `Err`, with the number of attempts so far, if the next attempt may find the
    /// key.
    fn look_up(&self, named: KeyReference<'_>, algorithm: Algorithm, now: Instant) -> Result<KeyLookup, u64> {
        let state = self.state.load();
        if let Some(key) = state.find(named, algorithm, now) {
            self.count_stale(&state, now);
            return Ok(KeyLookup::Found(Arc::clone(key)));
        }
        self.missed(&state, now)
    }

    /// The result where the current set lacks a key. The miss is marked for the refresher.
    fn missed(&self, state: &KeyState, now: Instant) -> Result<KeyLookup, u64> {
        let KeySetOrigin::Remote { attempts, last_attempt, times } = state.origin else {
            return Ok(KeyLookup::Unknown);
        };
        self.mark_wanted();
        let young = |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < BELIEVED_FOR);
        match (young(times.map(|times| times.requested_at)), young(last_attempt)) {
            (true, _) if state.is_usable(now) => Ok(KeyLookup::Unknown),
            (false, false) => Err(attempts),
            (true, _) | (false, true) => Ok(KeyLookup::Unavailable),
        }
    }

    /// Only the first miss writes, so that many misses cost one read each.
    fn mark_wanted(&self) {
        if !self.wanted.load(Ordering::SeqCst) {
            self.wanted.store(true, Ordering::SeqCst);
            self.nudged.notify_one();
        }
    }

    /// Completes once a request has missed a key since the last attempt ended.
    pub(crate) async fn wanted(&self) {
        while !self.wanted.load(Ordering::SeqCst) {
            self.nudged.notified().await;
        }
    }

    /// Publishes a fetched set and wakes the waiting requests.
    pub(crate) fn publish(&self, keys: KeySet, times: Times) {
        let attempts = self.ended() + 1;
        let origin = KeySetOrigin::Remote { attempts, last_attempt: Some(times.requested_at), times: Some(times) };
        // Reset before the set becomes visible: requests that missed a key earlier are woken and look again.
        self.wanted.store(false, Ordering::SeqCst);
        self.state.store(Arc::new(KeyState { origin, keys: Arc::new(keys) }));
        self.attempts.send_replace(attempts);
    }

    /// Records a failed attempt. The last known good set stays, and the waiting requests are woken.
    pub(crate) fn publish_failure(&self, now: Instant) {
        let state = self.state.load();
        let ended = self.ended() + 1;
        let origin = match state.origin {
            origin @ (KeySetOrigin::Memory | KeySetOrigin::Database { .. } | KeySetOrigin::Local) => origin,
            KeySetOrigin::Remote { times, .. } => {
                KeySetOrigin::Remote { attempts: ended, last_attempt: Some(now), times }
            }
        };
        self.wanted.store(false, Ordering::SeqCst);
        self.state.store(Arc::new(KeyState { origin, keys: Arc::clone(&state.keys) }));
        self.attempts.send_replace(ended);
    }

    /// Changes how long the present set may be used after its time to live.
    pub(crate) fn set_max_stale(&self, max_stale: Duration) {
        let limit = |state: &Arc<KeyState>| {
            let origin = match state.origin {
                origin @ (KeySetOrigin::Memory | KeySetOrigin::Database { .. } | KeySetOrigin::Local) => origin,
                KeySetOrigin::Remote { attempts, last_attempt, times } => {
                    let limit = |times: Times| Times { usable_until: times.fresh_until + max_stale, ..times };
                    KeySetOrigin::Remote { attempts, last_attempt, times: times.map(limit) }
                }
            };
            KeyState { origin, keys: Arc::clone(&state.keys) }
        };
        self.state.rcu(limit);
    }

    /// True if a token could be verified now.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        self.state.load().is_usable(now)
    }

    /// Time since the set was fetched. `None` for sets that are not fetched and before the first fetch.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.times()?.requested_at))
    }

    /// `None` for sets that are not fetched and before the first fetch.
    pub(crate) fn times(&self) -> Option<Times> {
        match self.state.load().origin {
            KeySetOrigin::Memory | KeySetOrigin::Database { .. } | KeySetOrigin::Local => None,
            KeySetOrigin::Remote { times, .. } => times,
        }
    }

    /// True if the issuer's keys are fetched.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self.state.load().origin, KeySetOrigin::Remote { .. })
    }

    /// True if these are the gateway's own keys.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.state.load().origin, KeySetOrigin::Memory | KeySetOrigin::Database { .. })
    }

    pub(crate) fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.state.load().keys)
    }

    /// Look-ups answered from a set older than its time to live.
    pub(crate) fn stale_served(&self) -> u64 {
        self.stale_served.load(Ordering::Relaxed)
    }

    /// Reads or writes the refresher's progress.
    pub(crate) fn with_progress<T>(&self, access: impl FnOnce(&mut RefreshProgress) -> T) -> T {
        access(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count_stale(&self, state: &KeyState, now: Instant) {
        if let KeySetOrigin::Remote { times: Some(times), .. } = state.origin
            && now >= times.fresh_until
        {
            self.stale_served.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ended(&self) -> u64 {
        *self.attempts.borrow()
    }
}

impl KeyState {
    fn find(&self, named: KeyReference<'_>, algorithm: Algorithm, now: Instant) -> Option<&Arc<VerifyingKey>> {
        self.keys.find(named, algorithm).filter(|_| self.is_usable(now))
    }

    fn is_usable(&self, now: Instant) -> bool {
        match self.origin {
            KeySetOrigin::Memory | KeySetOrigin::Database { .. } | KeySetOrigin::Local => true,
            KeySetOrigin::Remote { times, .. } => times.is_some_and(|times| now < times.usable_until),
        }
    }
}

impl Times {
    pub(crate) fn new(requested_at: Instant, ttl: Duration, max_stale: Duration) -> Self {
        Self { requested_at, fresh_until: requested_at + ttl, usable_until: requested_at + ttl + max_stale }
    }
}

mod in_database;
#[cfg(test)]
mod tests;
