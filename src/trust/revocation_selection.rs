//! Which entries are added to the known revocations: those that are new, within the limits.

use std::sync::Arc;

use super::revocation::{MAX_ENTRIES, RevocationEntry, Revocations, RevocationsFull};
use crate::clock::UnixTime;

/// Adds the entries that are new and returns them.
pub(super) fn merge(
    known: &mut Arc<Revocations>,
    mut news: Vec<RevocationEntry>,
    now: UnixTime,
) -> Vec<RevocationEntry> {
    news.retain(|entry| entry.is_live(now) && !known.cover(entry));
    // Other processes keep to the limits too. If they do not, revoking has priority over the limit.
    if !news.is_empty() {
        let known = Arc::make_mut(known);
        news.iter().for_each(|entry| known.add(entry));
        if known.len() > MAX_ENTRIES && known.has_expired(now) {
            known.forget_expired(now);
        }
    }
    news
}

/// Adds the entries that the limits allow. Returns the entries to write, and the indices of the others with the limit
/// that they exceed.
pub(super) fn select<'e>(
    known: &mut Arc<Revocations>,
    wanted: impl Iterator<Item = &'e RevocationEntry>,
    now: UnixTime,
) -> (Vec<RevocationEntry>, Vec<(usize, RevocationsFull)>) {
    let (mut chosen, mut refused) = (Vec::new(), Vec::new());
    let known = Arc::make_mut(known);
    for (number, entry) in wanted.enumerate() {
        // A rule of the configuration may be removed before the tokens expire.
        if known.cover(entry) && !known.has_standing(entry) {
            continue;
        }
        if known.full_for(entry).is_some() && known.has_expired(now) {
            known.forget_expired(now);
        }
        match known.full_for(entry) {
            Some(full) => refused.push((number, full)),
            None => {
                known.add(entry);
                chosen.push(entry.clone());
            }
        }
    }
    (chosen, refused)
}
