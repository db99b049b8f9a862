//! The changes of routes: which requests are taken by another route, and what it demands instead.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::change::{ChangeSubject, Changes, Direction};
use super::regions::{Classified, Region, RoutePair, regions};
use super::route_rules::{
    RouteChange, access_text, compare_routes, has_same_requests, methods_text, path_text, route_text,
};
use super::view::AccessView;
use crate::pipeline::routing::route::Route;

pub(super) fn compare(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let sides = Sides::new(old, new);
    let classified = [(old, &sides.old_classes), (new, &sides.new_classes)];
    let [before, after] = classified.map(|(view, classes)| Classified { table: view.routes, classes });
    let found = regions(&before, &after);
    let mut report = Report { sides: &sides, changes, reported: HashSet::new() };
    for (pair, region) in &found.pairs {
        report.region(*pair, region);
    }
    for path in &found.freed_fields {
        let text =
            format!("{path} is no longer chosen by the same header fields, so that repeated ones are not refused");
        changes.add(Direction::Unclear, &ChangeSubject::named(&["routes"]), text);
    }
    if !found.are_all {
        let text = "the routes overlap in too many ways to compare all";
        changes.add(Direction::Unclear, &ChangeSubject::named(&["routes"]), text);
    }
}

/// The routes of both sides. Routes of one name that are the same in every demand have the same class.
struct Sides<'v, 'c> {
    old: &'v AccessView<'c>,
    new: &'v AccessView<'c>,
    old_classes: Vec<usize>,
    new_classes: Vec<usize>,
    old_by_name: HashMap<&'c str, usize>,
    new_by_name: HashMap<&'c str, usize>,
}

impl<'v, 'c> Sides<'v, 'c> {
    fn new(old: &'v AccessView<'c>, new: &'v AccessView<'c>) -> Self {
        let by_name = |view: &AccessView<'c>| -> HashMap<&'c str, usize> {
            view.routes.routes().iter().enumerate().map(|(index, route)| (route.name.as_str(), index)).collect()
        };
        let (old_by_name, new_by_name) = (by_name(old), by_name(new));
        let count = old.routes.routes().len();
        let class = |(index, route): (usize, &Arc<Route>)| {
            let same = old_by_name.get(route.name.as_str()).filter(|same| {
                let other = old.routes.routes().get(**same);
                other.is_some_and(|other| {
                    has_same_requests(other, route)
                        && compare_routes((other, old.limits), (route, new.limits)).is_empty()
                })
            });
            same.copied().unwrap_or(count + index)
        };
        let new_classes = new.routes.routes().iter().enumerate().map(class).collect();
        Self { old, new, old_classes: (0..count).collect(), new_classes, old_by_name, new_by_name }
    }
}

struct Report<'r, 'v, 'c> {
    sides: &'r Sides<'v, 'c>,
    changes: &'r mut Changes,
    /// Texts, each of which is said once.
    reported: HashSet<String>,
}

impl Report<'_, '_, '_> {
    fn region(&mut self, (old_index, new_index): RoutePair, region: &Region) {
        let old = old_index.and_then(|index| self.sides.old.routes.routes().get(index));
        let new = new_index.and_then(|index| self.sides.new.routes.routes().get(index));
        let subject = match (new_index, old_index) {
            (Some(index), _) => ChangeSubject::item("routes", index),
            (None, Some(index)) => ChangeSubject::item("routes", index).of_old(),
            (None, None) => return,
        };
        match (old, new) {
            (None, Some(new)) => self.taken(new, region, &subject),
            (Some(old), None) => self.refused(old, region, &subject),
            (Some(old), Some(new)) => self.other(old, new, region, &subject),
            (None, None) => {}
        }
    }

    /// Requests that no route took.
    fn taken(&mut self, new: &Route, region: &Region, subject: &ChangeSubject) {
        let what = if self.sides.old_by_name.contains_key(new.name.as_str()) {
            format!("route {} now takes {}{}", route_text(new), methods(region), region.example)
        } else {
            format!("route {} is new: {}{}, {}", route_text(new), methods(region), path_text(new), access_text(new))
        };
        self.add(Direction::Wider, subject, what);
    }

    /// Requests that no route takes any more.
    fn refused(&mut self, old: &Route, region: &Region, subject: &ChangeSubject) {
        let text = if self.sides.new_by_name.contains_key(old.name.as_str()) {
            format!("route {} no longer takes {}{}", route_text(old), methods(region), region.example)
        } else {
            format!("route {} is removed: {}{}", route_text(old), methods(region), path_text(old))
        };
        self.add(Direction::Narrower, subject, text);
    }

    /// Requests that another route takes, or one with other demands.
    fn other(&mut self, old: &Route, new: &Route, region: &Region, subject: &ChangeSubject) {
        let found = compare_routes((old, self.sides.old.limits), (new, self.sides.new.limits));
        let what = if old.name == new.name {
            route_text(new)
        } else {
            let text = format!(
                "{}{} is taken by route {} instead of {}",
                methods(region),
                region.example,
                route_text(new),
                route_text(old)
            );
            self.add(Direction::Changed, subject, text);
            format!("{} (instead of {})", route_text(new), route_text(old))
        };
        for RouteChange { direction, before, after } in found {
            self.add(direction, subject, format!("{before}{what}{after}"));
        }
    }

    fn add(&mut self, direction: Direction, subject: &ChangeSubject, text: String) {
        if self.reported.insert(text.clone()) {
            self.changes.add(direction, subject, text);
        }
    }
}

/// The methods and a space, unless these are all.
fn methods(region: &Region) -> String {
    methods_text(region.methods.iter().map(String::as_str))
}
