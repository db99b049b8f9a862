//! One worker's handle to the published snapshot, with the tokens that were verified under it.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::inactive_tokens::InactiveTokens;
use super::static_callers::StaticCallers;
use crate::pipeline::request::connection_cache::ConnectionCache;
use crate::pipeline::routing::snapshot::{SharedSnapshot, Snapshot};
use crate::telemetry::metrics::WorkerReport;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::token_cache::{CachedToken, TokenCache};
use crate::trust::verify::{Verified, VerifiedToken};

#[derive(Debug)]
pub(crate) struct CurrentSnapshot {
    published: Arc<ArcSwap<Snapshot>>,
    current: RefCell<SharedSnapshot>,
    /// Counts snapshots: a caller that a connection caches was verified under one of them.
    generation: Cell<u64>,
    tokens: RefCell<TokenCache>,
    pub(crate) static_callers: StaticCallers,
    pub(crate) inactive_tokens: InactiveTokens,
    /// Issuers of earlier snapshots whose tokens may be in the cache.
    former_issuers: RefCell<Vec<Arc<TrustedIssuer>>>,
    /// The current snapshot, as long as all tokens in the cache are of its issuers; otherwise null. Only compared.
    holds_all_cached: Cell<*const Snapshot>,
    token_hits: Cell<u64>,
    token_misses: Cell<u64>,
}

/// Tokens that are removed at once: the other requests of the worker wait meanwhile.
const MAX_REMOVED: usize = 512;

impl CurrentSnapshot {
    pub(crate) fn new(published: Arc<ArcSwap<Snapshot>>) -> Self {
        let current = published.load_full();
        Self {
            holds_all_cached: Cell::new(Arc::as_ptr(&current)),
            current: RefCell::new(Rc::new(current)),
            published,
            generation: Cell::new(0),
            tokens: RefCell::new(TokenCache::new()),
            static_callers: StaticCallers::default(),
            inactive_tokens: InactiveTokens::default(),
            former_issuers: RefCell::default(),
            token_hits: Cell::new(0),
            token_misses: Cell::new(0),
        }
    }

    /// The current snapshot. A request keeps the one that it began with.
    pub(crate) fn get(&self) -> SharedSnapshot {
        let published = self.published.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(&published, &current) {
            self.replace(&mut current, Arc::clone(&published));
        }
        Rc::clone(&current)
    }

    #[cold]
    fn replace(&self, current: &mut SharedSnapshot, published: Arc<Snapshot>) {
        // A token becomes invalid when the configuration of its issuer changes.
        let is_former = |issuer: &&Arc<TrustedIssuer>| !published.trust.holds(issuer);
        let mut former = self.former_issuers.borrow_mut();
        former.extend(current.trust.issuers().iter().filter(is_former).cloned());
        self.holds_all_cached.set(if former.is_empty() { Arc::as_ptr(&published) } else { ptr::null() });
        self.generation.set(self.generation.get() + 1);
        *current = Rc::new(published);
    }

    /// Another number for each snapshot that this worker has used.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Removes some of the tokens of former issuers, which no request uses any more. To be called at intervals.
    pub(crate) fn remove_former_tokens(&self) {
        let mut former = self.former_issuers.borrow_mut();
        if former.is_empty() {
            return;
        }
        let is_former = |verified: &Verified| {
            let of = |token: &VerifiedToken| former.iter().any(|issuer| Arc::ptr_eq(issuer, &token.issuer));
            verified.token().is_some_and(of)
        };
        if self.tokens.borrow_mut().remove_some(MAX_REMOVED, is_former) < MAX_REMOVED {
            former.clear();
            self.holds_all_cached.set(Arc::as_ptr(&self.current.borrow()));
        }
    }

    /// The caller that this token was verified for, by an issuer of the request's snapshot. Most connections bring the
    /// same token again and again, which costs no look-up in the worker's cache.
    pub(crate) fn verified(
        &self,
        token: &[u8],
        snapshot: &Snapshot,
        connection: &ConnectionCache,
    ) -> Option<Rc<Verified>> {
        let generation = self.generation.get();
        let mut last = connection.last_caller.borrow_mut();
        let again = last.as_ref().filter(|(of, _)| *of == generation).and_then(|(_, last)| last.verified(token));
        let found = again.or_else(|| {
            let tokens = self.tokens.borrow();
            let known = tokens.get(token)?;
            *last = Some((generation, known.downgrade()));
            Some(Rc::clone(&known.verified))
        });
        // A request that began under another snapshot is decided by the issuers of that one.
        let found =
            found.filter(|verified| ptr::eq(self.holds_all_cached.get(), snapshot) || snapshot.trust.knows(verified));
        let counter = if found.is_some() { &self.token_hits } else { &self.token_misses };
        counter.set(counter.get() + 1);
        found
    }

    pub(crate) fn remember(&self, token: &[u8], verified: Rc<Verified>) {
        // A request that began before the last change may bring a token that is not valid any more.
        if self.get().trust.knows(&verified) {
            self.tokens.borrow_mut().insert(CachedToken::new(token, verified));
        }
    }

    pub(crate) fn forget(&self, token: &[u8], connection: &ConnectionCache) {
        self.tokens.borrow_mut().remove(token);
        connection.last_caller.take();
    }

    pub(crate) fn report(&self, report: &mut WorkerReport) {
        let tokens = self.tokens.borrow();
        report.cached_tokens = tokens.len() as u64;
        report.cached_bytes = tokens.bytes();
        report.token_cache_hits = self.token_hits.get();
        report.token_cache_misses = self.token_misses.get();
    }
}
