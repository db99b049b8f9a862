//! Finds the one route that a request takes.
//!
//! Precedence depends on the patterns alone, never on their order in the file: exact host, then the longest wildcard,
//! then none; then, segment by segment from the left, exact before `{}` before `/**`. The most specific path decides
//! *before* its method is looked at: a method that it does not list is 405 and never falls through to a wider pattern,
//! so that adding an open route can't open a path that is listed closed. Many servers ignore upper and lower case. So a
//! path is found only if its folded form leads to the same routes: a path that leads to other routes when it is folded
//! is not found, regardless of their access, methods, address rules and targets.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use http::{HeaderValue, Method};

use super::method_set::MethodSet;
use super::pattern::{HostPattern, PathPattern, Segment};
use super::route::Route;
use crate::pipeline::request::case_fold::{fold, may_change};

/// All routes, compiled: looking one up takes as long among ten thousand as among ten.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    routes: Vec<Arc<Route>>,
    trees: Trees,
    /// The same with folded patterns.
    folded: Trees,
    /// Folding changes a pattern or a reserved path.
    may_fold: bool,
    /// Folded paths that no route takes: those of endpoints that have precedence over routes.
    reserved: HashSet<String>,
}

/// A tree of path segments for each host that is named.
#[derive(Debug, Default)]
struct Trees {
    exact: HashMap<String, RouteNode>,
    /// Keyed by the suffix, which starts with a dot.
    wildcard: HashMap<String, RouteNode>,
    any: RouteNode,
}

/// Two routes that conflict, as places in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) first: usize,
    pub(crate) second: usize,
    pub(crate) kind: ConflictKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConflictKind {
    /// Both would match the same requests.
    SameRequests,
    /// Their paths differ in upper and lower case only. Their methods do not matter.
    CaseOnly,
}

/// The result of a look-up.
#[derive(Debug)]
pub(crate) enum RouteMatch<'t> {
    Route(&'t Route, usize),
    /// A route has the path, but none takes the method. Holds the methods that are allowed.
    MethodNotAllowed(HeaderValue),
    Nothing,
}

/// A place in the tree of path segments.
#[derive(Debug, Default)]
struct RouteNode {
    exact: HashMap<String, Self>,
    any: Option<Box<Self>>,
    /// Patterns that end here.
    here: Leaf,
    /// Patterns that end in `/**` here.
    subtree: Leaf,
}

#[derive(Debug, Default)]
struct Leaf {
    by_methods: Vec<(MethodSet, usize)>,
}

impl RouteTable {
    pub(crate) fn new(routes: Vec<Arc<Route>>) -> Result<Self, Vec<Conflict>> {
        let mut table = Self::default();
        let mut conflicts = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let as_written = table.trees.insert(route, index, str::to_owned, |leaf| leaf.conflicting(route));
            let conflict = |first, kind| Conflict { first, second: index, kind };
            conflicts.extend(as_written.map(|first| conflict(first, ConflictKind::SameRequests)));
            let is_other_case = |leaf: &Leaf| leaf.indices().find(|first| !route.path.is_same(&routes[*first].path));
            let folded = table.folded.insert(route, index, |text| fold(text).into_owned(), is_other_case);
            conflicts.extend(folded.map(|first| conflict(first, ConflictKind::CaseOnly)));
            table.may_fold |= may_change(&route.path.to_string());
        }
        table.routes = routes;
        if conflicts.is_empty() { Ok(table) } else { Err(conflicts) }
    }

    /// Reserves these paths, in any case: a path that differs from one of them in case only is not found.
    pub(crate) fn reserving<'p>(mut self, paths: impl IntoIterator<Item = &'p str>) -> Self {
        for path in paths {
            self.may_fold |= may_change(path);
            self.reserved.insert(fold(path).into_owned());
        }
        self
    }

    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// `host` is lower case without port and trailing dot; `path` is decoded and canonical.
    pub(crate) fn find<'t>(&'t self, method: &Method, host: &'t str, path: &str) -> RouteMatch<'t> {
        let Some(leaf) = self.trees.leaf(host, path) else {
            return RouteMatch::Nothing;
        };
        if self.leads_elsewhere_folded(leaf, host, path) {
            return RouteMatch::Nothing;
        }
        match leaf.by_methods.iter().find(|(methods, _)| methods.contains(method)) {
            Some((_, index)) => RouteMatch::Route(&self.routes[*index], *index),
            None => RouteMatch::MethodNotAllowed(leaf.allow()),
        }
    }

    /// The routes of the place that this path leads to, for all methods, by their places in the list.
    pub(crate) fn routes_at(&self, host: &str, path: &str) -> Vec<usize> {
        let leaf = self.trees.leaf(host, path).filter(|leaf| !self.leads_elsewhere_folded(leaf, host, path));
        leaf.map(|leaf| leaf.indices().collect()).unwrap_or_default()
    }

    /// Whether the folded path leads to other routes than `found`, under the same host rules.
    ///
    /// Where folding changes no pattern, the folded trees equal the exact ones. A path that folding does not change is
    /// then looked up in equal trees, and no reserved path is left for it to equal: the answer is no, without a
    /// look-up.
    fn leads_elsewhere_folded(&self, found: &Leaf, host: &str, path: &str) -> bool {
        if !self.may_fold && !may_change(path) {
            return false;
        }
        let folded = fold(path);
        let is_reserved = || self.reserved.contains(folded.strip_suffix('/').unwrap_or(&folded));
        is_reserved() || self.folded.leaf(host, &folded).is_none_or(|leaf| !leaf.has_same_routes(found))
    }
}

impl Trees {
    /// Gives the first route that `conflicting` finds among those of the same place.
    fn insert(
        &mut self,
        route: &Route,
        index: usize,
        spelling: impl Fn(&str) -> String,
        conflicting: impl Fn(&Leaf) -> Option<usize>,
    ) -> Option<usize> {
        let insert = |root: &mut RouteNode| {
            let leaf = root.place(&route.path, &spelling);
            let first = conflicting(leaf);
            leaf.by_methods.push((route.methods.clone(), index));
            first
        };
        match route.hosts[..] {
            [] => insert(&mut self.any),
            // All are inserted, so that each host has the route.
            ref hosts => hosts.iter().map(|host| insert(self.root(host))).fold(None, Option::or),
        }
    }

    fn leaf<'t>(&'t self, host: &'t str, path: &str) -> Option<&'t Leaf> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        self.roots_of(host).find_map(|root| root.find(path))
    }

    /// The trees that may know this host, most specific first.
    fn roots_of<'t>(&'t self, host: &'t str) -> impl Iterator<Item = &'t RouteNode> {
        let exact = (!self.exact.is_empty()).then(|| self.exact.get(host)).flatten();
        let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot..]).filter(|_| !self.wildcard.is_empty());
        let wildcards = suffixes.filter_map(|suffix| self.wildcard.get(suffix));
        exact.into_iter().chain(wildcards).chain(std::iter::once(&self.any))
    }

    fn root(&mut self, host: &HostPattern) -> &mut RouteNode {
        match host {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Wildcard(suffix) => self.wildcard.entry(suffix.clone()).or_default(),
        }
    }
}

impl RouteNode {
    /// The place of routes with this pattern, below this node.
    fn place(&mut self, pattern: &PathPattern, spelling: impl Fn(&str) -> String) -> &mut Leaf {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Exact(text) => node.exact.entry(spelling(text)).or_default(),
                Segment::Any => node.any.get_or_insert_default(),
            };
        }
        if pattern.subtree { &mut node.subtree } else { &mut node.here }
    }

    /// `rest` has neither leading nor trailing slash. Tries the wider branches where a more specific one has no match.
    fn find(&self, rest: &str) -> Option<&Leaf> {
        if rest.is_empty() {
            return self.here.or(&self.subtree);
        }
        let (segment, after) = rest.split_once('/').unwrap_or((rest, ""));
        let exact = self.exact.get(segment).and_then(|node| node.find(after));
        let any = || self.any.as_ref().filter(|_| !segment.is_empty()).and_then(|node| node.find(after));
        exact.or_else(any).or_else(|| self.subtree.non_empty())
    }
}

impl Leaf {
    fn non_empty(&self) -> Option<&Self> {
        (!self.by_methods.is_empty()).then_some(self)
    }

    fn or<'l>(&'l self, other: &'l Self) -> Option<&'l Self> {
        self.non_empty().or_else(|| other.non_empty())
    }

    /// The first route of the leaf that takes a method of this one.
    fn conflicting(&self, route: &Route) -> Option<usize> {
        self.by_methods.iter().find(|(methods, _)| methods.intersects(&route.methods)).map(|(_, index)| *index)
    }

    fn indices(&self) -> impl Iterator<Item = usize> {
        self.by_methods.iter().map(|(_, index)| *index)
    }

    /// A route has one pattern, so the same routes are also the same place; routes enter every leaf in the order of the
    /// list.
    fn has_same_routes(&self, other: &Self) -> bool {
        self.indices().eq(other.indices())
    }

    fn allow(&self) -> HeaderValue {
        let mut names: Vec<&str> = self.by_methods.iter().flat_map(|(methods, _)| methods.names()).collect();
        names.sort_unstable();
        names.dedup();
        HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests;
