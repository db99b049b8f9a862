//! One worker's handle to the published snapshot, with the tokens that were verified under it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::pipeline::request::connection_cache::ConnectionCache;
use crate::pipeline::routing::snapshot::{SharedSnapshot, Snapshot};
use crate::telemetry::metrics::WorkerReport;
use crate::trust::token_cache::{CachedToken, TokenCache};
use crate::trust::verify::Verified;

#[derive(Debug)]
pub(crate) struct CurrentSnapshot {
    published: Arc<ArcSwap<Snapshot>>,
    current: RefCell<SharedSnapshot>,
    /// Counts snapshots: a caller that a connection caches was verified under one of them.
    generation: Cell<u64>,
    tokens: RefCell<TokenCache>,
    token_hits: Cell<u64>,
    token_misses: Cell<u64>,
}

impl CurrentSnapshot {
    pub(crate) fn new(published: Arc<ArcSwap<Snapshot>>) -> Self {
        Self {
            current: RefCell::new(Rc::new(published.load_full())),
            published,
            generation: Cell::new(0),
            tokens: RefCell::new(TokenCache::new()),
            token_hits: Cell::new(0),
            token_misses: Cell::new(0),
        }
    }

    /// The current snapshot. A request keeps the one that it began with.
    pub(crate) fn get(&self) -> SharedSnapshot {
        let published = self.published.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(&published, &current) {
            *current = Rc::new(Arc::clone(&published));
            self.generation.set(self.generation.get() + 1);
            // A token becomes invalid when the configuration of its issuer changes. Checked once here, and not at every
            // hit.
            self.tokens.borrow_mut().keep(|verified| published.trust.holds(&verified.issuer));
        }
        Rc::clone(&current)
    }

    /// The caller that this token was verified for. Most connections bring the same token again and again, which costs
    /// no look-up in the worker's cache.
    pub(crate) fn verified(&self, token: &[u8], connection: &ConnectionCache) -> Option<Rc<Verified>> {
        let generation = self.generation.get();
        let mut last = connection.last_caller.borrow_mut();
        let again = last.as_ref().filter(|(of, _)| *of == generation).and_then(|(_, last)| last.verified(token));
        let found = again.or_else(|| {
            let tokens = self.tokens.borrow();
            let known = tokens.get(token)?;
            *last = Some((generation, known.downgrade()));
            Some(Rc::clone(&known.verified))
        });
        let counter = if found.is_some() { &self.token_hits } else { &self.token_misses };
        counter.set(counter.get() + 1);
        found
    }

    pub(crate) fn remember(&self, token: &[u8], verified: Rc<Verified>) {
        // A request that began before the last change may bring a token that is not valid any more.
        if self.get().trust.holds(&verified.issuer) {
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
