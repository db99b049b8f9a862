//! Whether requests reach a route, as the table finds routes.
//!
//! Looks up paths in place of all that a pattern matches: a segment that is in no route stands for each `{name}`. Where
//! another pattern takes such a path, it takes all others of the same length as well. Pure, for `check` and the start.

use std::collections::HashMap;

use super::laxity::{Laxity, laxity};
use super::overlap::{OTHER, hosts};
use super::pattern::{HostPattern, PathPattern, Segment};
use super::route::Route;
use super::table::RouteTable;

/// A route that no request reaches, and the routes that take its paths, by their places in the list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShadowedRoute {
    pub(crate) route: usize,
    /// Empty if its paths are not found, because they lead elsewhere when they are folded.
    pub(crate) by: Vec<usize>,
}

/// A route with a wildcard host that takes requests for a host with stricter routes of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostOverlap {
    pub(crate) wildcard: usize,
    /// The first route of the host.
    pub(crate) exact: usize,
    pub(crate) host: String,
    /// The requests that the one admits and the other refuses.
    pub(crate) laxity: Laxity,
}

/// The bound on the look-ups for one table, so that `check` answers in time. Beyond it nothing more is found.
const BUDGET: usize = 1_000_000;

pub(crate) fn shadowed_routes(table: &RouteTable) -> Vec<ShadowedRoute> {
    let longest = longest(table);
    let mut left = BUDGET;
    let mut shadowed = Vec::new();
    for (index, route) in table.routes().iter().enumerate() {
        let cost = samples_of(&route.path, longest).count() * hosts(route).len();
        if cost > left {
            break;
        }
        left -= cost;
        shadowed.extend(shadow(table, index, route, longest));
    }
    shadowed
}

/// One for each wildcard host and each host that it covers.
pub(crate) fn host_overlaps(table: &RouteTable) -> Vec<HostOverlap> {
    let (mut exact, mut wildcards): (Hosts<'_>, Hosts<'_>) = Default::default();
    for (index, route) in table.routes().iter().enumerate() {
        for host in &route.hosts {
            match host {
                HostPattern::Exact(name) => exact.add(name, index),
                HostPattern::Wildcard(suffix) => wildcards.add(suffix, index),
            }
        }
    }
    let longest = longest(table);
    let mut left = BUDGET;
    let mut found = Vec::new();
    for suffix in &wildcards.order {
        for host in exact.order.iter().filter(|host| host.ends_with(suffix)) {
            let (by_wildcard, own) = (&wildcards.routes[suffix], &exact.routes[host]);
            let cost = by_wildcard.len() * own.len();
            if cost > left {
                return found;
            }
            left -= cost;
            let overlap = |wildcard: &usize| overlap_of(table, *wildcard, own, host, longest);
            found.extend(by_wildcard.iter().filter(|route| !own.contains(route)).find_map(overlap));
        }
    }
    found
}

/// The routes of each host, and the hosts in the order of the list.
#[derive(Default)]
struct Hosts<'t> {
    order: Vec<&'t str>,
    routes: HashMap<&'t str, Vec<usize>>,
}

impl<'t> Hosts<'t> {
    fn add(&mut self, host: &'t str, route: usize) {
        let routes = self.routes.entry(host).or_default();
        if routes.is_empty() {
            self.order.push(host);
        }
        routes.push(route);
    }
}

fn shadow(table: &RouteTable, index: usize, route: &Route, longest: usize) -> Option<ShadowedRoute> {
    let mut by = Vec::new();
    for host in hosts(route) {
        // The longest first: hardly another route takes those.
        for path in samples_of(&route.path, longest).rev() {
            let found = table.routes_at(&host, &path);
            if found.contains(&index) {
                return None;
            }
            by.extend(found);
        }
    }
    by.sort_unstable();
    by.dedup();
    Some(ShadowedRoute { route: index, by })
}

fn overlap_of(table: &RouteTable, wildcard: usize, own: &[usize], host: &str, longest: usize) -> Option<HostOverlap> {
    let routes = table.routes();
    let route = &routes[wildcard];
    let stricter: Option<Vec<Laxity>> = own.iter().map(|own| laxity(route, &routes[*own])).collect();
    let laxity = stricter?.into_iter().next()?;
    let is_reached = |path: String| table.routes_at(host, &path).contains(&wildcard);
    let is_overlap = samples_of(&route.path, longest).rev().any(is_reached);
    is_overlap.then(|| HostOverlap { wildcard, exact: own[0], host: host.to_owned(), laxity })
}

/// One segment more than any pattern: a path of this length is taken by subtrees only.
fn longest(table: &RouteTable) -> usize {
    table.routes().iter().map(|route| route.path.segments.len() + 1).max().unwrap_or(1)
}

/// Paths that a pattern matches, one of each length up to `longest`.
fn samples_of(pattern: &PathPattern, longest: usize) -> impl DoubleEndedIterator<Item = String> + ExactSizeIterator {
    let literal = |segment: &Segment| segment.literal().unwrap_or(OTHER).to_owned();
    let segments: Vec<String> = pattern.segments.iter().map(literal).collect();
    let more = if pattern.subtree { longest.saturating_sub(segments.len()) } else { 0 };
    (0..more + 1).map(move |more| format!("/{}", [&segments[..], &vec![OTHER.to_owned(); more][..]].concat().join("/")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::access::{Access, AccessRule};
    use super::super::route::tests::route;
    use super::*;

    fn table(routes: Vec<Route>) -> RouteTable {
        RouteTable::new(routes.into_iter().map(Arc::new).collect()).unwrap()
    }

    #[track_caller]
    fn shadows(paths: &[&str], expected: &[(usize, &[usize])]) {
        let found = shadowed_routes(&table(paths.iter().map(|path| route(path, &[], &[])).collect()));
        let found: Vec<(usize, &[usize])> = found.iter().map(|found| (found.route, &found.by[..])).collect();
        assert_eq!(found, expected, "{paths:?}");
    }

    #[test]
    fn a_subtree_whose_every_length_is_taken_is_shadowed() {
        shadows(&["/a/**", "/a", "/a/{x}/**"], &[(0, &[1, 2])]);
        shadows(&["/a/**", "/a", "/a/{x}", "/a/{x}/{y}/**"], &[(0, &[1, 2, 3])]);
        shadows(&["/**", "/", "/{x}/**"], &[(0, &[1, 2])]);
        shadows(&["/{a}/**", "/{a}", "/{a}/{b}/**"], &[(0, &[1, 2])]);
    }

    #[test]
    fn a_path_that_is_left_keeps_a_route_reachable() {
        shadows(&["/a/**", "/a/{x}/**"], &[]);
        shadows(&["/a/**", "/a", "/a/{x}"], &[]);
        shadows(&["/a/**", "/a", "/a/b/**"], &[]);
        shadows(&["/{a}", "/b", "/c"], &[]);
        shadows(&["/a/{x}/c/**", "/a/b/**", "/a/{x}"], &[]);
    }

    #[test]
    fn paths_that_lead_elsewhere_folded_reach_no_route() {
        shadows(&["/A/**", "/a", "/a/{x}/**"], &[(0, &[])]);
    }

    #[test]
    fn another_host_takes_nothing_away() {
        let routes = vec![route("/a/**", &[], &[]), route("/**", &["*.example.com"], &[])];
        assert_eq!(shadowed_routes(&table(routes)), []);
    }

    #[test]
    fn a_wildcard_that_is_laxer_than_every_route_of_a_host_is_found() {
        let strict = || Access::Protected(Arc::new(AccessRule::default()));
        let own = |path| Route { access: strict(), ..route(path, &["api.example.com"], &[]) };
        let wide = |path, hosts: &[&str]| route(path, hosts, &[]);
        let found = |routes| host_overlaps(&table(routes)).len();
        assert_eq!(found(vec![own("/orders/**"), wide("/**", &["*.example.com"])]), 1);
        assert_eq!(found(vec![own("/orders/**"), wide("/orders/{id}", &["*.example.com"])]), 0);
        assert_eq!(found(vec![own("/**"), wide("/x", &["*.example.com"])]), 0);
        assert_eq!(found(vec![own("/orders/**"), wide("/**", &["*.example.org"])]), 0);
        assert_eq!(found(vec![own("/orders/**"), wide("/x", &["*.example.com", "api.example.com"])]), 0);
        let public = wide("/ping", &["api.example.com"]);
        assert_eq!(found(vec![own("/orders/**"), public, wide("/**", &["*.example.com"])]), 0);
    }
}
