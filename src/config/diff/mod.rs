//! The difference of two configurations in terms of access: which requests the one decides otherwise than the other.
//!
//! Pure: takes two resolved configurations, and gives [`AccessChange`]s. Reads no text, so that comments, formatting
//! and the order of routes make no difference.
//!
//! **Sound for stateless decisions**: if routing, address rules, authentication or authorization decide a request in
//! another way, there is a change that says so; one that is [`Wider`](change::Direction::Wider) or
//! [`Unclear`](change::Direction::Unclear) if the request is let in that was refused before. The reverse does not hold:
//! a change may be about requests that never come. Every resolved type is destructured without `..`, so that a new
//! setting does not compile until it is compared. One exception is known: a token of more scopes than one set can have
//! is refused, and an issuer that may grant fewer scopes may have fewer such tokens.

pub(crate) mod change;
pub(crate) mod places;
pub(crate) mod summary;
pub(crate) mod view;

mod bound;
mod callers;
mod client_keys;
mod federation;
mod field_choices;
mod issuers;
mod limits;
mod listeners;
mod process;
mod regions;
mod resources;
mod route_changes;
mod route_rules;
mod segment_tree;
mod shared;
mod static_tokens;
mod upstreams;

use change::{AccessChange, Changes};
use view::AccessView;

/// The changes that the new configuration makes, in the order of its subjects.
pub(crate) fn diff(old: &AccessView<'_>, new: &AccessView<'_>) -> Vec<AccessChange> {
    let mut changes = Changes::default();
    listeners::compare(old, new, &mut changes);
    process::compare(old, new, &mut changes);
    shared::compare(old, new, &mut changes);
    callers::compare(old, new, &mut changes);
    issuers::compare(old, new, &mut changes);
    static_tokens::compare(old, new, &mut changes);
    upstreams::compare(old, new, &mut changes);
    route_changes::compare(old, new, &mut changes);
    resources::compare(old, new, &mut changes);
    changes.0
}

#[cfg(test)]
mod tests;
