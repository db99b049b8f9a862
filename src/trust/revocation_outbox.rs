//! The revocations of this replica that are not in the shared store yet.

use std::sync::{Mutex, PoisonError};

use foldhash::HashSet;
use tokio::sync::Notify;

use crate::clock::UnixTime;
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

    /// Up to `most` of them, those of many tokens first: a store that is full for single tokens still takes the others.
    /// They stay until they are [removed](Self::remove).
    pub(super) fn first(&self, most: usize) -> Vec<SharedRevocation> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = |is_token: bool| pending.iter().filter(move |entry| entry.is_token == is_token);
        of_kind(false).chain(of_kind(true)).take(most).copied().collect()
    }

    pub(super) fn remove(&self, sent: &[SharedRevocation]) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in sent {
            pending.remove(entry);
        }
    }

    /// Removes the expired ones.
    pub(super) fn forget_expired(&self, now: UnixTime) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|entry| now.seconds() < entry.expires_at);
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until entries are added.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::caller::Digest;

    #[test]
    fn rules_about_many_tokens_are_sent_first() {
        let outbox = RevocationOutbox::default();
        let entry = |number: u128, is_token| SharedRevocation {
            digest: Digest(number),
            is_token,
            issued_before: None,
            expires_at: 10,
            by: None,
        };
        outbox.add((0..9).map(|number| entry(number, number != 5)));
        assert_eq!(outbox.first(1), [entry(5, false)]);
        outbox.remove(&[entry(5, false)]);
        assert_eq!((outbox.first(99).len(), outbox.len()), (8, 8));
        outbox.forget_expired(UnixTime::from_seconds(10));
        assert_eq!(outbox.len(), 0);
    }
}
