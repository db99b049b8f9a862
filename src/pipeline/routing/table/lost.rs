//! The routes that come close to taking a request, and why each does not.
//!
//! Decides nothing: it asks the table itself, and a table of each such route alone. For a command that explains a
//! decision.

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderMap, Method};

use super::conditioned::ConditionedPlace;
use super::{RouteMatch, RouteTable};
use crate::pipeline::routing::pattern::{HostPattern, Segment};
use crate::pipeline::routing::route::Route;

/// A route that does not take a request, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LostRoute {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// The parts of a request by which its route is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoughtRequest<'r> {
    pub(crate) method: &'r Method,
    pub(crate) host: &'r str,
    pub(crate) path: &'r str,
    pub(crate) headers: &'r HeaderMap,
}

/// A configuration may have thousands of routes.
const MAX_SHOWN: usize = 8;

impl RouteTable {
    /// The closest routes first. `chosen` is the place of the route that takes the request.
    pub(crate) fn lost_routes(&self, chosen: Option<usize>, request: &SoughtRequest<'_>) -> Vec<LostRoute> {
        let path = request.path;
        let segments = segments_of(path);
        let mut near: Vec<(usize, bool, usize)> = (0..self.routes.len())
            .filter(|index| Some(*index) != chosen)
            .map(|index| (index, &self.routes[index].path))
            .map(|(index, pattern)| {
                let shared = pattern.segments.iter().zip(&segments).take_while(|(wanted, found)| fits(wanted, found));
                let shared = shared.count();
                (index, shared == pattern.segments.len(), shared)
            })
            .filter(|(_, fits_whole, shared)| chosen.is_none() || *fits_whole || *shared > 0)
            .collect();
        near.sort_by_key(|(_, fits_whole, shared)| Reverse((*fits_whole, *shared)));
        let near = near.into_iter().take(MAX_SHOWN).map(|(index, ..)| index);
        near.map(|index| {
            let name = self.routes[index].name.clone();
            LostRoute { name, why: self.why_lost(index, request) }
        })
        .collect()
    }

    fn why_lost(&self, index: usize, request: &SoughtRequest<'_>) -> String {
        let SoughtRequest { method, host, path, headers } = *request;
        let route = &self.routes[index];
        let is_at_its_place = || self.routes_at(host, path).contains(&index);
        if let Some(when) = &route.when
            && route.methods.contains(method)
            && is_at_its_place()
        {
            let is_met = conditions_hold(route, headers);
            let why = if is_met { "a route with more conditions takes it" } else { "this does not hold" };
            return format!("it is for requests with {when}, and {why}");
        }
        // One route has no conflict.
        let alone = Self::new(vec![Arc::clone(route)]).unwrap_or_default();
        match alone.find(method, host, path, headers) {
            RouteMatch::MethodNotAllowed(allow) if is_at_its_place() => {
                format!("it takes {}, not {method}", allow.to_str().unwrap_or_default())
            }
            RouteMatch::Route(..) | RouteMatch::MethodNotAllowed(_) => self.why_another(route, host, path),
            RouteMatch::Nothing if alone.takes_under_its_hosts(route, path) => {
                let hosts: Vec<String> = route.hosts.iter().map(HostPattern::to_string).collect();
                format!("it is for host {}, not {host}", hosts.join("|"))
            }
            RouteMatch::Nothing | RouteMatch::UnclearField(_) => segment_difference(route, path),
        }
    }

    /// Why a route does not get a request that it would take if it were the only one.
    fn why_another(&self, lost: &Route, host: &str, path: &str) -> String {
        match self.tree.leaf(host, path) {
            Some(leaf) if !self.leads_elsewhere_folded(leaf, host, path) => {
                let taking = self.tree.routes(leaf).next().map(|first| self.routes[first].path.to_string());
                match taking.unwrap_or_default() {
                    same if same == lost.path.to_string() => {
                        "it has fewer conditions than the route that takes it".to_owned()
                    }
                    other => format!("it is less specific than {other}"),
                }
            }
            Some(_) | None => "the path leads elsewhere where upper and lower case are ignored".to_owned(),
        }
    }

    fn takes_under_its_hosts(&self, route: &Route, path: &str) -> bool {
        route.hosts.iter().any(|host| {
            let named = match host {
                HostPattern::Exact(name) => name.clone(),
                HostPattern::Wildcard(suffix) => format!("any{suffix}"),
            };
            !self.routes_at(&named, path).is_empty()
        })
    }
}

/// Whether these fields meet all conditions of a route.
fn conditions_hold(route: &Arc<Route>, headers: &HeaderMap) -> bool {
    let routes = std::slice::from_ref(route);
    let alone = ConditionedPlace::of(routes, std::iter::once(0));
    let mut methods = route.methods.names().filter_map(|name| Method::from_bytes(name.as_bytes()).ok());
    alone.zip(methods.next()).is_some_and(|(alone, method)| matches!(alone.find(routes, &method, headers), Ok(Some(_))))
}

/// The first difference between a path and the pattern of a route that does not match it.
fn segment_difference(route: &Route, path: &str) -> String {
    let (found, wanted) = (segments_of(path), &route.path.segments);
    let differs = (1..).zip(wanted.iter().zip(&found)).find(|(_, (wanted, found))| !fits(wanted, found));
    if let Some((place, (Segment::Exact(wanted), found))) = differs {
        return format!("segment {place} is `{found}`, not `{wanted}`");
    }
    let least = if route.path.subtree { " or more" } else { "" };
    format!("the path has {} segments, not {}{least}", found.len(), wanted.len())
}

fn fits(wanted: &Segment, found: &str) -> bool {
    wanted.literal().is_none_or(|literal| literal == found)
}

fn segments_of(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::routing::route::tests::route;

    #[test]
    fn each_lost_route_says_why_it_lost() {
        let of_host = route("/items/{id}", &["*.example.com"], &[]);
        let routes = vec![
            route("/items/{id}", &[], &["GET"]),
            of_host,
            route("/items/**", &[], &[]),
            route("/items/{id}/parts", &[], &[]),
            route("/orders", &[], &[]),
        ];
        let named = |(number, route)| Arc::new(Route { name: format!("r{number}"), ..route });
        let table = RouteTable::new(routes.into_iter().enumerate().map(named).collect()).unwrap();
        let lost = |method: Method, path| -> Vec<String> {
            let headers = HeaderMap::new();
            let chosen = match table.find(&method, "localhost", path, &headers) {
                RouteMatch::Route(_, index) => Some(index),
                RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing | RouteMatch::UnclearField(_) => None,
            };
            let sought = SoughtRequest { method: &method, host: "localhost", path, headers: &headers };
            let lost = table.lost_routes(chosen, &sought);
            lost.into_iter().map(|lost| format!("{}: {}", lost.name, lost.why)).collect()
        };
        assert_eq!(
            lost(Method::GET, "/items/1"),
            [
                "r1: it is for host *.example.com, not localhost",
                "r2: it is less specific than /items/{id}",
                "r3: the path has 2 segments, not 3",
            ]
        );
        assert_eq!(lost(Method::POST, "/items/1")[0], "r0: it takes GET, HEAD, not POST");
        assert_eq!(
            lost(Method::GET, "/order")[..2],
            ["r0: segment 1 is `order`, not `items`".to_owned(), "r1: segment 1 is `order`, not `items`".to_owned()]
        );
        assert_eq!(lost(Method::GET, "/Items/1")[0], "r0: segment 1 is `Items`, not `items`");
    }
}
