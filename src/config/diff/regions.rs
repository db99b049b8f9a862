//! The requests that two route tables take by different routes.
//!
//! Hosts, paths and methods fall into regions, in each of which a table has one answer. One request of each region is
//! looked up in both tables, by the tables themselves. A request of a region is the most general one: each segment is
//! one that a pattern names, the same in another case, or one that no pattern names. A pattern that matches the most
//! general path of a region matches all its paths. Where both tables lead to the same on every way, none is looked up.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use http::{HeaderMap, Method};

use super::field_choices::FieldChoices;
use super::segment_tree::{SegmentTree, Shapes, Walk};
use crate::pipeline::request::case_fold::fold;
use crate::pipeline::routing::table::{RouteMatch, RouteTable};

/// The routes of a request in the old and in the new table, by their places in the lists.
pub(super) type RoutePair = (Option<usize>, Option<usize>);

/// The requests of one pair.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) methods: BTreeSet<String>,
    /// Host and path of one of them, for the reader.
    pub(super) example: String,
}

#[derive(Debug, Default)]
pub(super) struct Regions {
    pub(super) pairs: BTreeMap<RoutePair, Region>,
    /// False if there were too many regions to look at all.
    pub(super) are_all: bool,
    /// Paths where a repeated header field is refused no more, because it chooses no route any more.
    pub(super) freed_fields: BTreeSet<String>,
}

/// The regions that are looked at. With it a comparison ends in time, also that of tables made to overlap.
const MAX_REGIONS: usize = 1_000_000;
/// Makes another spelling of any segment, which folds to the same.
const OTHER_CASE: &str = "\u{307}";

/// A table, with a class for each route. Routes of one class are the same in both tables.
pub(super) struct Classified<'t> {
    pub(super) table: &'t RouteTable,
    pub(super) classes: &'t [usize],
}

pub(super) fn regions(old: &Classified<'_>, new: &Classified<'_>) -> Regions {
    let mut shapes = Shapes::default();
    let mut tree =
        |side: &Classified<'_>, is_folded| SegmentTree::new(side.table, side.classes, is_folded, &mut shapes);
    let trees = [tree(old, false), tree(new, false), tree(old, true), tree(new, true)];
    let mut search = RegionSearch {
        trees: &trees,
        tables: [old.table, new.table],
        classes: [old.classes, new.classes],
        other: unused_segment([old.table, new.table]),
        seen: HashSet::new(),
        looked_up: HashSet::new(),
        left: MAX_REGIONS,
        found: Regions::default(),
    };
    for host in hosts(&trees, &search.other) {
        search.walk(&host);
    }
    search.found.are_all = search.left > 0;
    search.found
}

/// A text that no pattern has, also folded.
fn unused_segment(tables: [&RouteTable; 2]) -> String {
    let routes = tables.into_iter().flat_map(|table| table.routes());
    let texts: HashSet<String> = routes
        .flat_map(|route| route.path.segments.iter().filter_map(|segment| segment.literal()))
        .map(|text| fold(text).into_owned())
        .collect();
    let candidates = (0..).map(|number| format!("other{number}"));
    let mut unused = candidates.filter(|text| !texts.contains(text));
    unused.next().unwrap_or_default()
}

/// One host of each kind: each that is named, one below each wildcard, and one that is in none.
fn hosts(trees: &[SegmentTree], other: &str) -> Vec<String> {
    let exact: BTreeSet<String> = trees.iter().flat_map(|tree| tree.exact_hosts()).map(str::to_owned).collect();
    let wildcards: BTreeSet<&str> = trees.iter().flat_map(|tree| tree.wildcard_hosts()).collect();
    let unused = |suffix: &str| {
        let candidates = (0..).map(|number: usize| format!("{other}x{number}{suffix}"));
        let mut unused = candidates.filter(|host| !exact.contains(host));
        unused.next().unwrap_or_default()
    };
    let of_wildcards: Vec<String> = wildcards.iter().map(|suffix| unused(suffix)).collect();
    // No wildcard holds a name without a dot.
    let of_none = unused("");
    exact.iter().cloned().chain(of_wildcards).chain([of_none]).collect()
}

struct RegionSearch<'t> {
    /// Old and new as written, old and new folded.
    trees: &'t [SegmentTree; 4],
    tables: [&'t RouteTable; 2],
    classes: [&'t [usize]; 2],
    /// A segment that no pattern names.
    other: String,
    /// Places, and whether their paths end in an empty segment.
    seen: HashSet<([Walk; 4], bool)>,
    /// The routes of places that were looked up.
    looked_up: HashSet<[Vec<usize>; 2]>,
    left: usize,
    found: Regions,
}

/// A place to look at.
struct OpenRegion {
    walks: [Walk; 4],
    path: String,
    shown: String,
    /// The path ends in a segment that is empty, or becomes so by folding: a slash at the end, which makes no
    /// difference to a table, although it would between two segments.
    ends_empty: bool,
}

impl RegionSearch<'_> {
    fn walk(&mut self, host: &str) {
        let walks = self.trees.each_ref().map(|tree| tree.start(host));
        let mut open = vec![OpenRegion { walks, path: String::new(), shown: String::new(), ends_empty: false }];
        while let Some(region) = open.pop() {
            let [old, new, old_folded, new_folded] = [0, 1, 2, 3].map(|at| self.shape(&region.walks, at));
            let is_same = old == new && old_folded == new_folded;
            if self.left == 0 {
                continue;
            }
            if region.ends_empty {
                self.look_up(host, &region);
            }
            let key = (region.walks, region.ends_empty);
            if is_same || self.seen.contains(&key) {
                continue;
            }
            self.left -= 1;
            let region = OpenRegion { walks: key.0, ..region };
            if !region.ends_empty {
                self.look_up(host, &region);
            }
            for (segment, folded, shown) in self.segments(&region.walks) {
                let spelt = [&segment, &segment, &folded, &folded];
                let step = |at: usize| match (self.trees.get(at), region.walks.get(at), spelt.get(at)) {
                    (Some(tree), Some(walk), Some(segment)) => tree.step(walk, segment),
                    _ => Walk::new(),
                };
                let walks = [step(0), step(1), step(2), step(3)];
                let (path, shown) = (format!("{}/{segment}", region.path), format!("{}/{shown}", region.shown));
                open.push(OpenRegion { walks, path, shown, ends_empty: folded.is_empty() });
            }
            self.seen.insert((region.walks, region.ends_empty));
        }
    }

    fn shape(&self, walks: &[Walk; 4], at: usize) -> Vec<usize> {
        match (self.trees.get(at), walks.get(at)) {
            (Some(tree), Some(walk)) => tree.shape_of(walk),
            _ => Vec::new(),
        }
    }

    /// The segments that differ for one of the walks: as they are, folded, and as they are shown.
    fn segments(&self, walks: &[Walk; 4]) -> Vec<(String, String, String)> {
        let mut named: BTreeSet<&str> = BTreeSet::new();
        for (tree, walk) in self.trees.iter().zip(walks) {
            named.extend(tree.segments(walk));
        }
        let mut segments = Vec::new();
        for text in named {
            let folded = fold(text).into_owned();
            segments.push((text.to_owned(), folded.clone(), text.to_owned()));
            segments.push((format!("{text}{OTHER_CASE}"), folded, format!("{text} in another spelling")));
        }
        segments.push((self.other.clone(), self.other.clone(), "*".to_owned()));
        // A segment that is empty, and one that becomes empty by folding.
        segments.push((String::new(), String::new(), String::new()));
        segments.push((OTHER_CASE.to_owned(), String::new(), "an unusual segment".to_owned()));
        segments
    }

    fn look_up(&mut self, host: &str, region: &OpenRegion) {
        let path = if region.path.is_empty() { "/" } else { &region.path };
        let [old, new] = self.tables;
        let leaves = [old, new].map(|table| table.routes_at(host, path));
        // The routes of a place decide which of them takes a method.
        if !self.looked_up.insert(leaves.clone()) {
            return;
        }
        let mut methods: BTreeSet<String> = BTreeSet::new();
        for (table, leaf) in [old, new].into_iter().zip(&leaves) {
            for route in leaf.iter().filter_map(|index| table.routes().get(*index)) {
                methods.extend(route.methods.names().map(str::to_owned));
            }
        }
        let sides = leaves.each_ref().map(|leaf| &leaf[..]);
        let Some(choices) = FieldChoices::of([old, new], sides) else {
            self.left = 0;
            return;
        };
        let shown = if region.shown.is_empty() { "/" } else { &region.shown };
        if choices.frees_fields {
            self.found.freed_fields.insert(shown.to_owned());
        }
        for headers in choices.all() {
            for name in &methods {
                self.look_up_request(name, (host, path), &headers, &format!("{shown}{}", choices.text(&headers)));
            }
        }
    }

    /// Looks up one request in both tables.
    fn look_up_request(&mut self, name: &str, (host, path): (&str, &str), headers: &HeaderMap, shown: &str) {
        let Ok(method) = Method::from_bytes(name.as_bytes()) else { return };
        let [old, new] = self.tables.map(|table| match table.find(&method, host, path, headers) {
            RouteMatch::Route(_, index) => Some(index),
            RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing | RouteMatch::UnclearField(_) => None,
        });
        if self.class(0, old) == self.class(1, new) {
            return;
        }
        let new_region = || Region { methods: BTreeSet::new(), example: shown.to_owned() };
        self.found.pairs.entry((old, new)).or_insert_with(new_region).methods.insert(name.to_owned());
    }

    fn class(&self, side: usize, route: Option<usize>) -> Option<usize> {
        self.classes.get(side)?.get(route?).copied()
    }
}
