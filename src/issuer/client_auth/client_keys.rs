//! The public keys by which a client signs its assertions, as the configuration keeps them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::jose::algorithm::Algorithm;
use crate::jose::header::KeyReference;
use crate::jose::jwk::VerifyingKey;
use crate::jose::key_set::KeySet;
use crate::trust::key_cache::{KeyCache, KeyLookup};
use crate::trust::key_source::FetchedKeys;

#[derive(Clone, Debug, Default)]
pub(crate) struct ClientKeys {
    pub(crate) sources: Vec<ClientKeySource>,
}

#[derive(Clone, Debug)]
pub(crate) enum ClientKeySource {
    /// Written in the configuration, or in a file that it names.
    Local(Arc<KeySet>),
    Fetched(Box<FetchedClientKeys>),
}

/// A JWK Set of the client that is fetched in the background.
#[derive(Clone, Debug)]
pub(crate) struct FetchedClientKeys {
    pub(crate) source: FetchedKeys,
    pub(crate) cache: Arc<KeyCache>,
    /// Unique in the process, for a client and its source.
    pub(crate) number: u64,
}

/// A set was never fetched or is too old, and may have the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FetchFailed;

/// The keys that are tried for one assertion.
const MAX_TRIED: usize = 8;

impl ClientKeys {
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    pub(crate) fn fetched(&self) -> impl Iterator<Item = &FetchedClientKeys> {
        self.sources.iter().filter_map(ClientKeySource::fetched)
    }

    /// The known keys that may have signed with this algorithm. Nothing is fetched.
    pub(super) fn fitting(&self, named: KeyReference<'_>, algorithm: Algorithm) -> Vec<Arc<VerifyingKey>> {
        let now = Instant::now();
        let sets = self.sources.iter().filter_map(|source| source.usable(now));
        let mut fitting = Vec::new();
        for set in sets {
            fitting.extend(set.fitting(named, algorithm).take(MAX_TRIED - fitting.len()).cloned());
        }
        fitting
    }

    /// As [`Self::fitting`], after the sets that are fetched were asked for anew, if they may have a key that is not
    /// known yet.
    pub(super) async fn fitting_after_fetch(
        &self,
        named: KeyReference<'_>,
        algorithm: Algorithm,
    ) -> Result<Vec<Arc<VerifyingKey>>, FetchFailed> {
        let mut failed = Ok(Vec::new());
        for fetched in self.fetched() {
            match fetched.cache.find(named, algorithm).await {
                KeyLookup::Found(_) | KeyLookup::Unknown => {}
                // The set that is known does not have the key.
                KeyLookup::Unavailable if fetched.cache.is_usable(Instant::now()) => {}
                KeyLookup::Unavailable => failed = Err(FetchFailed),
            }
        }
        let fitting = self.fitting(named, algorithm);
        if fitting.is_empty() { failed } else { Ok(fitting) }
    }
}

impl ClientKeys {
    /// The keys that have replaced tried ones, which did not make a signature. A set that is fetched is asked for anew
    /// if it is not young. `kid` may have stayed the same.
    pub(super) async fn replacements(
        &self,
        named: KeyReference<'_>,
        algorithm: Algorithm,
        tried: &[Arc<VerifyingKey>],
    ) -> Vec<Arc<VerifyingKey>> {
        let mut replacements = Vec::new();
        for fetched in self.fetched() {
            let known = fetched.cache.keys();
            if let Some(key) = tried.iter().find(|key| known.holds(key)) {
                replacements.extend(fetched.cache.find_replacement(named, algorithm, key).await);
            }
        }
        replacements
    }
}

impl FetchedClientKeys {
    /// Before the first fetch.
    pub(crate) fn new(source: FetchedKeys) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { source, cache: Arc::new(KeyCache::remote()), number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }
}

impl ClientKeys {
    /// Goes on with what the keys of the client before have fetched from the same places.
    pub(crate) fn take_over(&mut self, before: &Self) {
        for source in &mut self.sources {
            if let ClientKeySource::Fetched(fetched) = source
                && let Some(same) = before.fetched().find(|known| known.source == fetched.source)
            {
                **fetched = same.clone();
            }
        }
    }
}

impl ClientKeySource {
    fn fetched(&self) -> Option<&FetchedClientKeys> {
        match self {
            Self::Local(_) => None,
            Self::Fetched(fetched) => Some(fetched),
        }
    }

    fn usable(&self, now: Instant) -> Option<Arc<KeySet>> {
        match self {
            Self::Local(keys) => Some(Arc::clone(keys)),
            Self::Fetched(fetched) => Some(fetched.cache.keys()).filter(|_| fetched.cache.is_usable(now)),
        }
    }
}
