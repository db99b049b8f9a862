//! Comparisons of bounds and sets, of which one may be a part of the other.

use std::fmt::Display;

use super::change::Direction;

/// The direction of a change between two bounds, if there is one. `None` is no bound.
pub(super) fn of_bounds<T>(old: Option<&T>, new: Option<&T>, is_within: impl Fn(&T, &T) -> bool) -> Option<Direction> {
    let within = |one: Option<&T>, other: Option<&T>| match (one, other) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(one), Some(other)) => is_within(one, other),
    };
    direction(within(new, old), within(old, new))
}

/// The direction of a change of a number that bounds.
pub(super) fn of_numbers<T: PartialOrd>(old: &T, new: &T) -> Option<Direction> {
    direction(new <= old, old <= new)
}

/// The direction of a change. `narrows`: the new side lets in no more than the old one; `widens`: the reverse.
pub(super) fn direction(narrows: bool, widens: bool) -> Option<Direction> {
    match (narrows, widens) {
        (true, true) => None,
        (true, false) => Some(Direction::Narrower),
        (false, true) => Some(Direction::Wider),
        (false, false) => Some(Direction::Unclear),
    }
}

/// The items that are in one list only: those that were added, and those that were removed.
pub(super) fn added_and_removed<'i, T: PartialEq>(old: &'i [T], new: &'i [T]) -> (Vec<&'i T>, Vec<&'i T>) {
    let lacking = |list: &'i [T], other: &[T]| list.iter().filter(|item| !other.contains(item)).collect();
    (lacking(new, old), lacking(old, new))
}

/// `a, b`, with the number of those that are left out.
pub(super) fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    listed_texts(items.into_iter().map(|item| format!("`{item}`")).collect())
}

/// The same of texts that are quoted already.
pub(super) fn listed_texts(mut texts: Vec<String>) -> String {
    let more = texts.len().saturating_sub(MAX_LISTED);
    texts.truncate(MAX_LISTED);
    let shown = texts.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

const MAX_LISTED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_goes_away_widens() {
        let within = |one: &u8, other: &u8| one <= other;
        assert_eq!(of_bounds(Some(&1), None, within), Some(Direction::Wider));
        assert_eq!(of_bounds(None, Some(&1), within), Some(Direction::Narrower));
        assert_eq!(of_bounds(Some(&1), Some(&2), within), Some(Direction::Wider));
        assert_eq!(of_bounds(Some(&1), Some(&1), within), None);
        assert_eq!(of_bounds(None, None, within), None);
        assert_eq!(of_bounds(Some(&1), Some(&2), |_, _| false), Some(Direction::Unclear));
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(1..=9), "`1`, `2`, `3`, `4`, `5`, `6`, `7`, `8` and 1 more");
    }
}
