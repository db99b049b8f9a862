//! The definition of a look-up, without a tree: every route is looked at.

use super::*;
use crate::pipeline::routing::pattern::{HostPattern, Segment};

/// The outcome of a look-up: the route, or the routes whose methods are allowed.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Route(usize),
    MethodNotAllowed(HeaderValue),
    Nothing,
}

struct Reference<'r> {
    routes: &'r [Arc<Route>],
    reserved: &'r [&'r str],
}

/// The precedence of a place, the most specific first: of its host, then segment by segment.
type Rank = (usize, Vec<u8>);

impl Reference<'_> {
    /// `routes` are those of the place that was found.
    fn answer(&self, routes: &[usize], method: &Method) -> Answer {
        match routes.iter().find(|index| self.routes[**index].methods.contains(method)) {
            _ if routes.is_empty() => Answer::Nothing,
            Some(index) => Answer::Route(*index),
            None => {
                let mut names: Vec<_> = routes.iter().flat_map(|index| self.routes[*index].methods.names()).collect();
                names.sort_unstable();
                names.dedup();
                Answer::MethodNotAllowed(names.join(", ").parse().unwrap())
            }
        }
    }

    fn routes_at(&self, host: &str, path: &str) -> Vec<usize> {
        let found = self.place(host, path, str::to_owned);
        let folded = fold(path);
        let may_fold = self.routes.iter().map(|route| route.path.to_string()).any(|path| may_change(&path));
        let may_fold = may_fold || self.reserved.iter().any(|path| may_change(path));
        if !may_fold && !may_change(path) {
            return found;
        }
        let is_reserved = self.reserved.iter().any(|path| fold(path) == folded.strip_suffix('/').unwrap_or(&folded));
        let is_same = self.place(host, &folded, |text| fold(text).into_owned()) == found;
        if is_reserved || !is_same { Vec::new() } else { found }
    }

    /// The routes of the most specific pattern that matches, where exact segments have the given spelling.
    fn place(&self, host: &str, path: &str, spelling: fn(&str) -> String) -> Vec<usize> {
        let rank = |route: &Route| {
            let path = rank_of_path(route, path, spelling)?;
            let any = route.hosts.is_empty().then_some(usize::MAX);
            let host = route.hosts.iter().filter_map(|pattern| rank_of_host(pattern, host)).chain(any).min()?;
            Some((host, path))
        };
        let ranks: Vec<Option<Rank>> = self.routes.iter().map(|route| rank(route)).collect();
        let Some(best) = ranks.iter().flatten().min() else { return Vec::new() };
        (0..ranks.len()).filter(|index| ranks[*index].as_ref() == Some(best)).collect()
    }

    /// Two routes under one host, with the same path and a method in common, or whose paths differ in case only.
    fn has_conflict(&self) -> bool {
        let folded = |route: &Route| {
            let texts = route.path.segments.iter().map(|segment| segment.literal().map(|text| fold(text).into_owned()));
            (texts.collect::<Vec<_>>(), route.path.subtree)
        };
        let conflict = |one: &Route, other: &Route| {
            let no_host = one.hosts.is_empty() && other.hosts.is_empty();
            let is_same = one.path.is_same(&other.path);
            (no_host || one.hosts.iter().any(|host| other.hosts.contains(host)))
                && (if is_same { one.methods.intersects(&other.methods) } else { folded(one) == folded(other) })
        };
        let pairs = |index: usize| self.routes[..index].iter().map(move |other| (&self.routes[index], other));
        (0..self.routes.len()).flat_map(pairs).any(|(one, other)| conflict(one, other))
    }
}

fn rank_of_host(pattern: &HostPattern, host: &str) -> Option<usize> {
    match pattern {
        HostPattern::Exact(name) => (name == host).then_some(0),
        HostPattern::Wildcard(suffix) => host.ends_with(suffix).then(|| usize::MAX - suffix.len()),
    }
}

fn rank_of_path(route: &Route, path: &str, spelling: fn(&str) -> String) -> Option<Vec<u8>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    // An empty segment at the end makes no difference.
    let mut rest: Vec<&str> = path.split_terminator('/').collect();
    let after = rest.split_off(route.path.segments.len().min(rest.len()));
    let is_whole = rest.len() == route.path.segments.len() && (after.is_empty() || route.path.subtree);
    let rank = |(segment, text): (&Segment, &str)| match segment {
        Segment::Exact(expected) => (spelling(expected) == text).then_some(1),
        Segment::Any => (!text.is_empty()).then_some(2),
    };
    let end = if route.path.subtree { 3 } else { 0 };
    let ranks = route.path.segments.iter().zip(rest).map(rank).chain([Some(end)]);
    ranks.collect::<Option<Vec<u8>>>().filter(|_| is_whole)
}

const HOSTS: [&[&str]; 6] = [&[], &[], &["h.example"], &["*.h.example"], &["*.example", "other"], &["w.h.example"]];
const METHODS: [&[&str]; 4] = [&[], &["GET"], &["POST", "PURGE"], &["DELETE"]];
/// Segments in every case, also with characters that have several lower or upper cases.
const PATTERN: &str = "(/([abkABK\u{131}\u{17f}s\u{212a}]|i\u{307}|bb|\\{x\\}|\\{Id\\})){0,3}(/\\*\\*)?";

/// The same, with empty segments and with one that folding removes.
const PATH: &str = "(/([abkABK\u{131}\u{17f}sS\u{212a}iI]|\u{307}|i\u{307}|bb|bB|other)?){0,4}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_table_finds_what_a_search_of_all_routes_finds(
        routes in prop::collection::vec(
            (PATTERN, 0..HOSTS.len(), 0..METHODS.len()), 0..9),
        paths in prop::collection::vec(PATH, 1..12),
        host in prop::sample::select(vec!["h.example", "w.h.example", "x.w.h.example", "other", ".h.example", ""]),
        reserved in prop::sample::subsequence(vec!["/a", "/a/b", "/A/k", "/bb"], 0..3),
    ) {
        let route_of = |(path, host, methods): &(String, usize, usize)| {
            Arc::new(route(if path.is_empty() { "/" } else { path }, HOSTS[*host], METHODS[*methods]))
        };
        let routes: Vec<Arc<Route>> = routes.iter().map(route_of).collect();
        let reference = Reference { routes: &routes, reserved: &reserved };
        let table = RouteTable::new(routes.clone());
        prop_assert_eq!(table.is_err(), reference.has_conflict());
        let Ok(table) = table else { return Ok(()) };
        let table = table.reserving(reserved.iter().copied());
        for path in &paths {
            let routes = reference.routes_at(host, path);
            prop_assert_eq!(&table.routes_at(host, path), &routes, "{:?}", path);
            for method in ["GET", "HEAD", "POST", "PURGE", "OPTIONS"] {
                let method = method.parse().unwrap();
                let found = match table.find(&method, host, path, &HeaderMap::new()) {
                    RouteMatch::Route(_, index) => Answer::Route(index),
                    RouteMatch::MethodNotAllowed(allow) => Answer::MethodNotAllowed(allow),
                    RouteMatch::Nothing | RouteMatch::UnclearField(_) => Answer::Nothing,
                };
                prop_assert_eq!(found, reference.answer(&routes, &method), "{} {:?}", method, path);
            }
        }
    }
}
