//! Which metrics series a rule of a snapshot counts in.
//!
//! Workers count by number, which is cheap. A number belongs to a rule's name, its limits and its branches, and stays
//! theirs in every later snapshot: the counters of a rule that stays never go back. The counters of a rule that is
//! removed stay until the gateway restarts, as those of other programs do. They are bounded: beyond [`MAX_RETIRED`]
//! of them, a new rule takes the number of the one that was removed first, whose counters end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The series of one rule. The same number has another epoch when it is given to another rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SeriesId {
    pub(crate) number: u32,
    pub(crate) epoch: u32,
}

/// The names that the counters of a rule need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SeriesNames {
    pub(crate) rule: String,
    /// By place in the rule.
    pub(crate) limits: Vec<String>,
    /// The upstreams of the rule's split.
    pub(crate) branches: Vec<String>,
}

/// The series of all rules of a snapshot, and those of removed rules.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    /// By the place of the rule.
    rules: Vec<SeriesId>,
    /// By number.
    all: Vec<Arc<NumberedSeries>>,
    /// Counts tables.
    table: u64,
}

#[derive(Clone, Debug)]
struct NumberedSeries {
    epoch: u32,
    names: Arc<SeriesNames>,
    /// The first table without the rule.
    retired_in: Option<u64>,
}

/// Series of removed rules that are kept.
const MAX_RETIRED: usize = 10_000;

impl SeriesTable {
    /// `rules` are those of the snapshot, in order.
    pub(crate) fn new(rules: Vec<SeriesNames>, before: Option<&Self>) -> Self {
        Self::with_retired(rules, before, MAX_RETIRED)
    }

    fn with_retired(rules: Vec<SeriesNames>, before: Option<&Self>, max_retired: usize) -> Self {
        let known = before.map_or(&[][..], |before| &before.all);
        let by_names: HashMap<&SeriesNames, usize> =
            known.iter().enumerate().map(|(number, series)| (&*series.names, number)).collect();
        let table = before.map_or(0, |before| before.table + 1);
        let used: HashSet<usize> = rules.iter().filter_map(|names| by_names.get(names).copied()).collect();
        let mut all = known.to_vec();
        for (number, series) in all.iter_mut().enumerate() {
            let retired_in = (!used.contains(&number)).then(|| series.retired_in.unwrap_or(table));
            if series.retired_in != retired_in {
                *series = Arc::new(NumberedSeries { retired_in, ..NumberedSeries::clone(series) });
            }
        }
        let mut retired: Vec<usize> = (0..all.len()).filter(|number| !used.contains(number)).collect();
        retired.sort_by_key(|number| std::cmp::Reverse(all[*number].retired_in));
        let rules = rules.into_iter().map(|names| {
            if let Some(number) = by_names.get(&names) {
                return id(*number, all[*number].epoch);
            }
            let freed = if retired.len() > max_retired { retired.pop() } else { None };
            let epoch = freed.map_or(0, |number| all[number].epoch + 1);
            let series = Arc::new(NumberedSeries { epoch, names: Arc::new(names), retired_in: None });
            let number = match freed {
                Some(number) => {
                    all[number] = series;
                    number
                }
                None => {
                    all.push(series);
                    all.len() - 1
                }
            };
            id(number, epoch)
        });
        let rules = rules.collect();
        Self { rules, all, table }
    }

    /// The series of the rule at this place.
    pub(crate) fn of(&self, rule: usize) -> SeriesId {
        self.rules.get(rule).copied().unwrap_or(SeriesId { number: 0, epoch: 0 })
    }

    /// `None` once its number was given to another rule.
    pub(crate) fn names(&self, id: SeriesId) -> Option<&SeriesNames> {
        self.all.get(id.number as usize).filter(|series| series.epoch == id.epoch).map(|series| &*series.names)
    }
}

fn id(number: usize, epoch: u32) -> SeriesId {
    SeriesId { number: u32::try_from(number).unwrap_or(u32::MAX), epoch }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rules: &[&str], before: Option<&SeriesTable>) -> SeriesTable {
        let names = |rule: &&str| SeriesNames { rule: (*rule).to_owned(), ..SeriesNames::default() };
        SeriesTable::with_retired(rules.iter().map(names).collect(), before, 1)
    }

    #[test]
    fn a_rule_keeps_its_series_at_another_place_and_when_it_returns() {
        let first = table(&["a", "b"], None);
        let second = table(&["b"], Some(&first));
        let third = table(&["c", "a", "b"], Some(&second));
        assert_eq!((second.of(0), third.of(2)), (first.of(1), first.of(1)));
        assert_eq!(third.of(1), first.of(0), "it came back");
        assert_eq!(third.names(third.of(0)).unwrap().rule, "c");
    }

    #[test]
    fn the_series_of_removed_rules_are_kept_up_to_a_bound() {
        let first = table(&["a", "b"], None);
        let second = table(&["b"], Some(&first));
        assert_eq!(second.names(first.of(0)).unwrap().rule, "a", "still reported");
        let third = table(&["c"], Some(&second));
        assert_eq!((third.of(0).number, third.of(0).epoch), (first.of(0).number, 1), "the one that was removed first");
        assert_eq!(third.names(first.of(0)), None);
        assert_eq!(third.names(first.of(1)).unwrap().rule, "b");
    }

    #[test]
    fn a_rule_with_other_limits_has_other_series() {
        let with = |limits: &[&str]| SeriesNames {
            rule: "a".to_owned(),
            limits: limits.iter().map(|limit| (*limit).to_owned()).collect(),
            branches: Vec::new(),
        };
        let first = SeriesTable::new(vec![with(&["client"])], None);
        let second = SeriesTable::new(vec![with(&["address", "client"])], Some(&first));
        assert_ne!(first.of(0), second.of(0));
        assert_eq!(second.names(first.of(0)), Some(&with(&["client"])));
    }
}
