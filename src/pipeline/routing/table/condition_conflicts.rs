//! Routes of one place whose conditions would let a caller choose a laxer rule, by a field that it leaves out or adds.
//!
//! A route with fewer conditions takes the requests that leave a field out. It must be at least as strict as each with
//! more conditions that a request of it may also meet. Of two with equally many conditions that one request may meet,
//! neither precedes by its meaning, so they must be equally strict.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Conflict, ConflictKind};
use crate::pipeline::routing::field_conditions::FieldConditions;
use crate::pipeline::routing::laxity::{Laxity, laxity_in_full};
use crate::pipeline::routing::route::Route;

/// The conflicts of the routes of one place.
pub(super) fn conflicts_at(routes: &[Arc<Route>], place: &[usize]) -> Vec<Conflict> {
    let mut found = Vec::new();
    for (at, second) in place.iter().enumerate() {
        for first in place.iter().take(at) {
            let (Some(one), Some(other)) = (routes.get(*first), routes.get(*second)) else { continue };
            let kind = conflict(one, other);
            found.extend(kind.map(|kind| Conflict { first: *first, second: *second, kind }));
        }
    }
    found
}

fn conflict(first: &Route, second: &Route) -> Option<ConflictKind> {
    if !first.methods.intersects(&second.methods) || !may_meet(first.when.as_ref(), second.when.as_ref()) {
        return None;
    }
    let count = |route: &Route| route.when.as_ref().map_or(0, FieldConditions::count);
    let is_laxer = |lax: &Route, strict: &Route| laxity_in_full(lax, strict);
    match count(first).cmp(&count(second)) {
        Ordering::Less => is_laxer(first, second).map(ConflictKind::FirstLaxer),
        Ordering::Greater => is_laxer(second, first).map(ConflictKind::SecondLaxer),
        Ordering::Equal => {
            let unequal: Option<Laxity> = is_laxer(first, second).or_else(|| is_laxer(second, first));
            unequal.map(|_| ConflictKind::Unequal)
        }
    }
}

fn may_meet(one: Option<&FieldConditions>, other: Option<&FieldConditions>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.may_meet(other),
        (None, _) | (_, None) => true,
    }
}
