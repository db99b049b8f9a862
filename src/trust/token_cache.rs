//! Tokens that were found good, one cache a worker, so that a signature is checked once and not at every request.
//!
//! Keyed by the whole token, bounded by bytes, with eviction that a flood of new tokens can't turn against regular
//! callers. A hit is never believed as it is: [`Verified::judge_again`] judges time, route and keys anew.

use std::rc::Rc;

use foldhash::quality::RandomState;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::verify::Verified;

/// One worker's cache.
pub(crate) struct TokenCache {
    entries: Cache<Box<[u8]>, Rc<Verified>, Weight, RandomState>,
}

/// What one worker's cache may hold, tokens and claims together.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// A guess that sizes the tables; only bytes are a bound.
const EXPECTED_TOKENS: usize = 8192;

impl TokenCache {
    pub(crate) fn new() -> Self {
        Self { entries: Cache::with(EXPECTED_TOKENS, MAX_BYTES, Weight, RandomState::default(), Default::default()) }
    }

    pub(crate) fn get(&self, token: &[u8]) -> Option<&Rc<Verified>> {
        self.entries.get(token)
    }

    pub(crate) fn insert(&mut self, token: &[u8], verified: Rc<Verified>) {
        self.entries.insert(token.into(), verified);
    }

    pub(crate) fn remove(&mut self, token: &[u8]) {
        self.entries.remove(token);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Box<[u8]>, Rc<Verified>> for Weight {
    fn weight(&self, token: &Box<[u8]>, _: &Rc<Verified>) -> u64 {
        // The claims stand in the token once, in base64; parsed they take about three times that, plus a fixed part.
        4 * token.len() as u64 + 1024
    }
}
