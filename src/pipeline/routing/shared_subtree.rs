//! Whether one rule covers the subtree of a route that opts in to forms of paths which services read in different ways.
//!
//! For every service such a path begins with the segments before the `/**` of its route, and may be any path below. So
//! no other route may take a part of the subtree where the route itself is found, and none may reach the same server
//! there, on any host: its rule would not hold for a path that the service reads as one of its own. A wider route is
//! permitted on hosts where the route takes the whole subtree from it. Pure, for `check` and the start; not used for
//! requests.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::overlap::{Here, OverlapMember, OverlapTree, by_server};
use super::pattern::{HostPattern, PathPattern, Segment};
use super::route::Route;
use super::table::RouteTable;

/// The first other route in the subtree of a route that opts in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SharedSubtree {
    pub(crate) other: usize,
    /// The server that both reach. `None`: the other route takes a part of the paths at the gateway.
    pub(crate) server: Option<String>,
}

/// The routes that opt in without being alone in their subtree, by their places in the list.
pub(crate) fn shared_subtrees(table: &RouteTable) -> BTreeMap<usize, SharedSubtree> {
    let routes = table.routes();
    let mut found = BTreeMap::new();
    if table.path_forms().is_empty() {
        return found;
    }
    let at_gateway = |(index, route): (usize, &Route)| {
        let PathPattern { segments, subtree, .. } = route.path.clone();
        OverlapMember { index, segments, subtree }
    };
    let members: Vec<_> = routes.iter().map(|route| &**route).enumerate().map(at_gateway).collect();
    for (own, other) in first_met(routes, &members, takes_part) {
        found.insert(own, SharedSubtree { other, server: None });
    }
    for (server, members) in by_server(table) {
        for (own, other) in first_met(routes, &members, |own, other| !takes_all(own, other)) {
            found.entry(own).or_insert_with(|| SharedSubtree { other, server: Some(server.clone()) });
        }
    }
    found
}

/// For each member that opts in the first other one whose pattern matches a path that it matches too, and for which
/// `is_meant` holds.
fn first_met(
    routes: &[impl AsRef<Route>],
    members: &[OverlapMember],
    is_meant: impl Fn(&Route, &Route) -> bool,
) -> Vec<(usize, usize)> {
    let route = |member: &OverlapMember| routes[member.index].as_ref();
    let opted_in: Vec<&OverlapMember> = members.iter().filter(|member| !route(member).path_forms.is_empty()).collect();
    if opted_in.is_empty() {
        return Vec::new();
    }
    let mut tree = OverlapTree::default();
    members.iter().enumerate().for_each(|(at, member)| tree.insert(member, at, member.index));
    let first = |own: &&OverlapMember| {
        let mut found = None;
        tree.meeting(&own.segments, own.subtree, own.index, &mut |here: &Here| {
            let mut others = here.values().flatten().map(|at| &members[*at]).filter(|other| other.index != own.index);
            found = others.find(|other| is_meant(route(own), route(other))).map(|other| other.index);
            found.is_none()
        });
        found.map(|other| (own.index, other))
    };
    opted_in.iter().filter_map(first).collect()
}

/// Whether `other` takes requests from the middle of the subtree of `own`, whose path both match.
fn takes_part(own: &Route, other: &Route) -> bool {
    let is_same = own.path.is_same(&other.path);
    let (depth, other_depth) = (own.path.segments.len(), other.path.segments.len());
    let is_below = other_depth > depth || (other_depth == depth && !other.path.subtree);
    let takes = |own_host: Host<'_>, other_host: Host<'_>| match specificity(other_host).cmp(&specificity(own_host)) {
        _ if !have_host_in_common(own_host, other_host) => false,
        Ordering::Greater => is_below,
        Ordering::Equal => is_same || (is_below && !precedes(&own.path, &other.path)),
        Ordering::Less => false,
    };
    hosts(own).iter().any(|own| hosts(other).iter().any(|other| takes(*own, *other)))
}

/// Whether `own` takes each request for the paths of its subtree that `other` would take without it, so that a service
/// never gets them by `other`.
fn takes_all(own: &Route, other: &Route) -> bool {
    let stripped = |route: &Route| route.path.segments[..route.strip_segments].to_vec();
    let has_same_path = own.rewrite.is_none() && other.rewrite.is_none() && stripped(own) == stripped(other);
    let is_on_all_hosts = hosts(other).iter().all(|host| hosts(own).contains(host));
    has_same_path && is_on_all_hosts && precedes(&own.path, &other.path)
}

/// Whether a path that both patterns match leads to the first, under one host.
fn precedes(one: &PathPattern, other: &PathPattern) -> bool {
    let kinds = one.segments.iter().zip(&other.segments);
    let mut different = kinds.filter_map(|pair| match pair {
        (Segment::Exact(_), Segment::Any) => Some(true),
        (Segment::Any, Segment::Exact(_)) => Some(false),
        (Segment::Exact(_), Segment::Exact(_)) | (Segment::Any, Segment::Any) => None,
    });
    different.next().unwrap_or_else(|| {
        let (depth, other_depth) = (one.segments.len(), other.segments.len());
        depth > other_depth || (depth == other_depth && !one.subtree && other.subtree)
    })
}

/// `None`: any host.
type Host<'r> = Option<&'r HostPattern>;

fn hosts(route: &Route) -> Vec<Host<'_>> {
    if route.hosts.is_empty() { vec![None] } else { route.hosts.iter().map(Some).collect() }
}

/// Of two patterns that match a host, the one with the larger number decides.
fn specificity(host: Host<'_>) -> usize {
    match host {
        None => 0,
        Some(HostPattern::Wildcard(suffix)) => suffix.len(),
        Some(HostPattern::Exact(_)) => usize::MAX,
    }
}

fn have_host_in_common(one: Host<'_>, other: Host<'_>) -> bool {
    match (one, other) {
        (None, _) | (_, None) => true,
        (Some(HostPattern::Exact(one)), Some(HostPattern::Exact(other))) => one == other,
        (Some(HostPattern::Exact(name)), Some(HostPattern::Wildcard(suffix)))
        | (Some(HostPattern::Wildcard(suffix)), Some(HostPattern::Exact(name))) => name.ends_with(suffix),
        (Some(HostPattern::Wildcard(one)), Some(HostPattern::Wildcard(other))) => {
            one.ends_with(other) || other.ends_with(one)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::route::tests::route;
    use super::super::target::{FixedAnswer, RouteTarget};
    use super::*;
    use crate::pipeline::request::path_forms::PathForm;

    /// A route that opts in, at the upstream of the helper of routes.
    fn opted_in(path: &str, hosts: &[&str]) -> Route {
        Route { path_forms: PathForm::ALL.into_iter().collect(), ..route(path, hosts, &[]) }
    }

    fn closed(path: &str, hosts: &[&str]) -> Route {
        let answer =
            FixedAnswer::Fixed { status: http::StatusCode::FORBIDDEN, content_type: None, body: Box::default() };
        Route { target: RouteTarget::Own(Box::new(answer)), ..route(path, hosts, &[]) }
    }

    #[track_caller]
    fn is(own: Route, other: Route, expected: Option<&str>) {
        let table = RouteTable::new(vec![Arc::new(own), Arc::new(other)]).unwrap();
        let found = shared_subtrees(&table).remove(&0);
        let words = found.as_ref().map(|found| found.server.as_deref().unwrap_or("part"));
        assert_eq!(words, expected);
    }

    const SERVER: Option<&str> = Some("localhost:9");
    const PART: Option<&str> = Some("part");

    #[test]
    fn a_subtree_that_one_route_covers_is_not_shared() {
        is(opted_in("/app/**", &[]), route("/other/**", &[], &[]), None);
        is(opted_in("/app/**", &[]), route("/", &[], &[]), None);
        is(opted_in("/app/**", &[]), route("/**", &[], &[]), None);
        is(opted_in("/app/**", &[]), route("/{x}/y", &[], &[]), None);
        is(opted_in("/app/**", &["a"]), route("/{x}/**", &["a"], &[]), None);
        is(opted_in("/{t}/**", &[]), opted_in("/**", &[]), None);
    }

    #[test]
    fn a_route_of_any_host_at_the_same_server_shares_the_subtree() {
        is(opted_in("/app/**", &[]), route("/app/admin", &["a"], &[]), PART);
        is(opted_in("/app/**", &["b"]), route("/app/admin", &["a"], &[]), SERVER);
        is(opted_in("/app/**", &["a"]), route("/**", &["b"], &[]), SERVER);
        is(opted_in("/app/**", &["a"]), route("/**", &[], &[]), SERVER);
        is(opted_in("/app/**", &["*.example"]), route("/**", &["a.example"], &[]), SERVER);
        is(opted_in("/{t}/**", &[]), route("/app/**", &[], &[]), SERVER);
        is(opted_in("/**", &["a"]), route("/", &["b"], &[]), SERVER);
        is(opted_in("/app/**", &["a"]), route("/APP/x", &["b"], &[]), SERVER);
    }

    #[test]
    fn paths_are_compared_as_the_service_gets_them() {
        let stripping = |path: &str| Route { strip_segments: 1, ..route(path, &[], &[]) };
        let opted_in_stripping = |path: &str| Route { strip_segments: 1, ..opted_in(path, &[]) };
        is(opted_in_stripping("/v1/**"), route("/admin", &[], &[]), SERVER);
        is(opted_in("/app/**", &[]), stripping("/v1/app/x"), SERVER);
        is(opted_in("/app/**", &[]), stripping("/v1/**"), SERVER);
        is(opted_in_stripping("/v1/app/**"), stripping("/v1/**"), None);
        is(opted_in_stripping("/v1/app/**"), stripping("/v1/other/**"), None);
    }

    #[test]
    fn a_route_inside_the_subtree_is_refused_whatever_its_target() {
        is(opted_in("/app/**", &[]), closed("/app/admin/**", &[]), PART);
        is(opted_in("/app/**", &[]), closed("/app", &[]), PART);
        is(opted_in("/app/**", &[]), closed("/app/{x}/y", &["a"]), PART);
        is(opted_in("/app/**", &["*.example"]), closed("/app/x", &["a.example"]), PART);
        is(opted_in("/app/**", &["a.example"]), closed("/app/x", &["*.example"]), None);
        is(opted_in("/app/**", &["a"]), closed("/app/x", &["b"]), None);
        is(opted_in("/app/**", &[]), closed("/app/**", &["a"]), None);
        is(opted_in("/{t}/**", &[]), closed("/app/**", &[]), None);
        is(opted_in("/app/**", &[]), closed("/**", &[]), None);
    }

    #[test]
    fn routes_of_one_path_with_different_methods_share_it() {
        let only = |route: Route, method: &str| {
            let methods = super::super::method_set::MethodSet::new([method.parse().unwrap()]);
            Route { methods, ..route }
        };
        is(only(opted_in("/app/**", &[]), "GET"), only(route("/app/**", &[], &[]), "POST"), PART);
        is(only(opted_in("/app/**", &[]), "GET"), only(closed("/app/**", &[]), "POST"), PART);
    }
}
