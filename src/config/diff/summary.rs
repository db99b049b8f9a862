//! The changes of a reload, for a line of the log.

use super::change::{AccessChange, Direction};

/// The numbers of changes, and the first texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessSummary {
    /// Includes changes that are unclear.
    pub(crate) wider: usize,
    pub(crate) narrower: usize,
    pub(crate) changed: usize,
    /// Empty without changes.
    pub(crate) text: String,
}

/// Of the text.
const MAX_BYTES: usize = 4096;

impl AccessSummary {
    pub(crate) fn of(changes: &[AccessChange]) -> Self {
        let count = |is_counted: &dyn Fn(Direction) -> bool| {
            changes.iter().filter(|change| is_counted(change.direction)).count()
        };
        Self {
            wider: count(&Direction::may_widen),
            narrower: count(&|direction| direction == Direction::Narrower),
            changed: count(&|direction| direction == Direction::Changed),
            text: text(changes),
        }
    }
}

/// Whole texts, those first that may widen access.
fn text(changes: &[AccessChange]) -> String {
    let mut sorted: Vec<&AccessChange> = changes.iter().collect();
    sorted.sort_by_key(|change| change.direction);
    let mut text = String::new();
    for (shown, change) in sorted.iter().enumerate() {
        let left = format!("; and {} more", sorted.len() - shown);
        let separator = if shown == 0 { "" } else { "; " };
        let next = format!("{separator}{}: {}", change.direction, change.text);
        if text.len() + next.len() + left.len() > MAX_BYTES {
            text.push_str(if shown == 0 { left.trim_start_matches("; and ") } else { &left });
            break;
        }
        text.push_str(&next);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::change::ChangeSubject;
    use super::*;

    fn change(direction: Direction, text: &str) -> AccessChange {
        AccessChange { direction, subject: ChangeSubject::named(&["routes"]), text: text.to_owned() }
    }

    #[test]
    fn wider_changes_come_first() {
        let changes = [
            change(Direction::Changed, "a"),
            change(Direction::Narrower, "b"),
            change(Direction::Unclear, "c"),
            change(Direction::Wider, "d"),
        ];
        let text = "wider: d; unclear: c; narrower: b; changed: a".to_owned();
        assert_eq!(AccessSummary::of(&changes), AccessSummary { wider: 2, narrower: 1, changed: 1, text });
        assert_eq!(AccessSummary::of(&[]), AccessSummary::default());
    }

    #[test]
    fn a_long_summary_says_how_many_are_left_out() {
        let changes: Vec<_> = (0..10_000).map(|number| change(Direction::Wider, &format!("change {number}"))).collect();
        let summary = AccessSummary::of(&changes);
        assert!(summary.text.len() <= MAX_BYTES && summary.text.ends_with(" more"), "{}", summary.text);
        assert_eq!(summary.wider, 10_000);
        let one = AccessSummary::of(&[change(Direction::Wider, &"x".repeat(MAX_BYTES))]);
        assert_eq!(one.text, "1 more");
    }
}
