//! The revocations as all workers use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::revocation::{RevocationEntry, Revocations};

/// The revocations that all workers use. A token is checked once for each version.
#[derive(Debug, Default)]
pub(crate) struct PublishedRevocations {
    version: AtomicU64,
    current: ArcSwap<Revocations>,
    /// The number of revocations refused because of a limit.
    refused: AtomicU64,
    /// Whether the revocations of the other replicas are not known yet. Until then, no token is accepted.
    are_incomplete: AtomicBool,
}

impl PublishedRevocations {
    /// The revocations of a configuration alone.
    pub(crate) fn of_rules(rules: &[RevocationEntry]) -> Self {
        let mut known = Revocations::default();
        rules.iter().for_each(|entry| known.add(entry));
        Self::from(known)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Revocations>> {
        self.current.load()
    }

    pub(crate) fn are_complete(&self) -> bool {
        !self.are_incomplete.load(Ordering::Acquire)
    }

    pub(crate) fn set_complete(&self, are_complete: bool) {
        self.are_incomplete.store(!are_complete, Ordering::Release);
    }

    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The version is increased last: a reader that reads the version first gets at least the revocations of that
    /// version.
    pub(super) fn publish(&self, revocations: Arc<Revocations>) {
        self.current.store(revocations);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// Used by the command line, which checks one token.
impl From<Revocations> for PublishedRevocations {
    fn from(revocations: Revocations) -> Self {
        Self { current: ArcSwap::from_pointee(revocations), ..Self::default() }
    }
}
