//! The revocations of this replica that the others do not know yet.

use std::sync::{Mutex, PoisonError};

use foldhash::HashSet;
use tokio::sync::Notify;

use crate::store::redis_revocations::SharedRevocation;

/// Bounded as the revocations themselves: each is in it once.
#[derive(Debug, Default)]
pub(crate) struct RevocationOutbox {
    pending: Mutex<HashSet<SharedRevocation>>,
    filled: Notify,
}

impl RevocationOutbox {
    pub(super) fn add(&self, entries: impl Iterator<Item = SharedRevocation>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extend(entries);
        drop(pending);
        self.filled.notify_one();
    }

    /// Some of them. They stay until they are [removed](Self::remove).
    pub(super) fn first(&self, most: usize) -> Vec<SharedRevocation> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.iter().take(most).copied().collect()
    }

    pub(super) fn remove(&self, sent: &[SharedRevocation]) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|entry| !sent.contains(entry));
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Until something is added.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}
