//! The keys of clients in two configurations.

use std::collections::BTreeSet;

use super::change::{ChangeSubject, Changes, Direction};
use crate::issuer::client_auth::client_keys::{ClientKeySource, ClientKeys};

/// Only public keys are known, so that no key can be said to open more than another.
pub(super) fn compare(
    (id, subject): (&str, &ChangeSubject),
    old: &ClientKeys,
    new: &ClientKeys,
    changes: &mut Changes,
) {
    let (old, new) = (names(old), names(new));
    let (added, removed) = (new.difference(&old).count(), old.difference(&new).count());
    if added + removed > 0 {
        let direction = if added > 0 { Direction::Unclear } else { Direction::Narrower };
        let text = format!("keys of client `{id}` changed: {added} added, {removed} removed");
        changes.add(direction, subject, text);
    }
}

/// Each key by algorithm, id and thumbprint, and each place that keys are fetched from.
fn names(keys: &ClientKeys) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in &keys.sources {
        match source {
            ClientKeySource::Local(set) => names.extend(set.keys().map(|key| {
                format!("{} {} {}", key.algorithm, key.thumbprint, key.key_id.as_deref().unwrap_or_default())
            })),
            ClientKeySource::Fetched(fetched) => {
                names.extend(fetched.source.place.uri().map(|uri| uri.as_str().to_owned()));
            }
        }
    }
    names
}
