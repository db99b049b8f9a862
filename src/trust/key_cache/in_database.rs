//! The gateway's own keys in a database. A token with an unknown key id waits for the next read, which all waiting
//! requests share. Ids that were not found are remembered, so that invented ids cause few reads.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{KeyCache, KeyLookup, KeySetOrigin, KeyState, MAX_WAIT};
use crate::jose::algorithm::Algorithm;
use crate::jose::header::KeyReference;
use crate::jose::key_set::KeySet;

/// Ids that the database did not have, with the times until which they are not read again.
#[derive(Debug, Default)]
pub(super) struct AbsentKeys(Mutex<HashMap<Box<str>, Instant>>);

/// A read that has begun. Requests that come later wait for another one.
#[derive(Debug)]
pub(crate) struct OwnKeysRead {
    number: u64,
}

const ABSENT_FOR: Duration = Duration::from_secs(10);
const MOST_ABSENT: usize = 4096;
/// Our ids are thumbprints.
const LONGEST_ID: usize = 128;

impl KeyCache {
    /// A cache of the gateway's own keys in a database. Empty until they are read.
    pub(crate) fn in_database(keys: KeySet) -> Self {
        Self::new(KeyState { origin: KeySetOrigin::Database { failed: false }, keys: Arc::new(keys) })
    }

    /// The same for a command that could not read them, and reads no more.
    pub(crate) fn out_of_reach() -> Self {
        let cache = Self::in_database(KeySet::default());
        cache.waiters.close();
        cache
    }

    pub(super) fn is_in_database(&self) -> bool {
        matches!(self.state.load().origin, KeySetOrigin::Database { .. })
    }

    /// To be called before a read of the database.
    pub(crate) fn begin_read(&self) -> OwnKeysRead {
        // Misses from now on need another read.
        self.wanted.store(false, Ordering::SeqCst);
        OwnKeysRead { number: self.begun.fetch_add(1, Ordering::SeqCst) + 1 }
    }

    /// `None`: the read has failed, and the known keys stay.
    pub(crate) fn end_read(&self, read: &OwnKeysRead, keys: Option<KeySet>) {
        let failed = keys.is_none();
        let keys = keys.map_or_else(|| self.keys(), Arc::new);
        self.state.store(Arc::new(KeyState { origin: KeySetOrigin::Database { failed }, keys }));
        self.attempts.send_replace(read.number);
    }

    pub(super) async fn find_in_database(&self, named: KeyReference<'_>, algorithm: Algorithm) -> KeyLookup {
        let started = Instant::now();
        let found = |state: &KeyState| state.find(named, algorithm, started).cloned();
        if let Some(key) = found(&self.state.load()) {
            return KeyLookup::Found(key);
        }
        // Our tokens name their keys.
        let KeyReference::Id(id) = named else { return KeyLookup::Unknown };
        if id.len() > LONGEST_ID || self.absent.has(id, started) {
            return KeyLookup::Unknown;
        }
        let Ok(_permit) = self.waiters.try_acquire() else { return KeyLookup::Unavailable };
        let mut attempts = self.attempts.subscribe();
        let seen = self.begun.load(Ordering::SeqCst);
        self.mark_wanted();
        if timeout_at(started + MAX_WAIT, attempts.wait_for(|ended| *ended > seen)).await.is_err() {
            return KeyLookup::Unavailable;
        }
        let state = self.state.load();
        match (found(&state), state.origin) {
            (Some(key), _) => KeyLookup::Found(key),
            (None, KeySetOrigin::Database { failed: true }) => KeyLookup::Unavailable,
            (None, _) => {
                self.absent.remember(id, Instant::now());
                KeyLookup::Unknown
            }
        }
    }
}

impl AbsentKeys {
    fn has(&self, id: &str, now: Instant) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).is_some_and(|until| now < *until)
    }

    /// If the table is full, expired ids are removed. If none has expired, the id is not remembered.
    fn remember(&self, id: &str, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_ABSENT {
            known.retain(|_, until| now < *until);
        }
        if known.len() < MOST_ABSENT {
            known.insert(id.into(), now + ABSENT_FOR);
        }
    }
}
