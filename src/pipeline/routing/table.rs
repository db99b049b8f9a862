//! Finds the one route that a request takes.
//!
//! Precedence depends on the patterns alone, never on their order in the file: exact host, then the longest wildcard,
//! then none; then, segment by segment from the left, exact before `{}` before `/**`. The most specific path decides
//! *before* its method is looked at: a method that it does not list is 405 and never falls through to a wider pattern,
//! so that adding an open route can't open a path that is listed closed. Many servers ignore upper and lower case. So a
//! path is found only if its folded form leads to the same routes: a path that leads to other routes when it is folded
//! is not found, regardless of their access, methods, address rules and targets.

mod condition_conflicts;
mod conditioned;
pub(crate) mod lost;

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::field_conditions::{ConditionFields, resembles};
use super::laxity::Laxity;
use super::resource::ResourceIdentifier;
use super::route::Route;
use super::route_tree::{Leaf, RouteTree};
use crate::pipeline::request::ambiguous::Ambiguous;
use crate::pipeline::request::canonical::CanonicalRequest;
use crate::pipeline::request::case_fold::{fold, may_change};
use crate::pipeline::request::headers::FieldFault;
use crate::pipeline::request::path_forms::PathForms;
use crate::pipeline::request::spelling::lenient_path;
use crate::upstream::service::Upstream;
use condition_conflicts::conflicts_at;
use conditioned::ConditionedPlace;

/// All routes, compiled: looking one up takes as long among ten thousand as among ten.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteTable {
    routes: Vec<Arc<Route>>,
    tree: RouteTree,
    /// The same with folded patterns. `None`: folding changes no pattern, and `tree` is both.
    folded: Option<Box<RouteTree>>,
    /// Folding changes a pattern or a reserved path.
    may_fold: bool,
    /// Folded paths that no route takes: those of endpoints that have precedence over routes.
    reserved: HashSet<String>,
    /// The forms of paths that some route takes.
    path_forms: PathForms,
    /// The places with routes that have conditions on header fields. Most tables have none.
    conditioned: HashMap<Leaf, ConditionedPlace>,
    /// The fields on which any route has a condition.
    condition_fields: ConditionFields,
}

/// Two routes that conflict, as places in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) first: usize,
    pub(crate) second: usize,
    pub(crate) kind: ConflictKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConflictKind {
    /// Both would match the same requests.
    SameRequests,
    /// Their paths differ in upper and lower case only. Their methods do not matter.
    CaseOnly,
    /// The first has fewer conditions on header fields than the second, and admits this.
    FirstLaxer(Laxity),
    /// The second has fewer conditions, and admits this.
    SecondLaxer(Laxity),
    /// Both have equally many conditions, one request may meet them, and their rules differ.
    Unequal,
}

/// The result of a look-up.
#[derive(Debug)]
pub(crate) enum RouteMatch<'t> {
    Route(&'t Route, usize),
    /// A route has the path, but none takes the method. Holds the methods that are allowed.
    MethodNotAllowed(HeaderValue),
    Nothing,
    /// A header field that chooses among the routes of the place could be read in two ways.
    UnclearField(FieldFault),
}

impl RouteTable {
    pub(crate) fn new(routes: Vec<Arc<Route>>) -> Result<Self, Vec<Conflict>> {
        let may_fold = routes.iter().any(|route| may_change(&route.path.to_string()));
        let (mut tree, mut folded) = (RouteTree::default(), may_fold.then(Box::<RouteTree>::default));
        let mut conflicts = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let conflict = |first, kind| Conflict { first, second: index, kind };
            let has_same_requests =
                |first: usize| routes[first].methods.intersects(&route.methods) && routes[first].when == route.when;
            let as_written = tree.insert(route, index, |text| Cow::Borrowed(text), has_same_requests);
            conflicts.extend(as_written.map(|first| conflict(first, ConflictKind::SameRequests)));
            let is_other_case = |first: usize| !route.path.is_same(&routes[first].path);
            let folded = folded.as_mut().and_then(|folded| folded.insert(route, index, fold, is_other_case));
            conflicts.extend(folded.map(|first| conflict(first, ConflictKind::CaseOnly)));
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let conditioned = conditioned_places(&routes, &tree)?;
        let path_forms = routes.iter().fold(PathForms::default(), |all, route| all.union(route.path_forms));
        let condition_fields = ConditionFields::of(routes.iter().filter_map(|route| route.when.as_ref()));
        let reserved = HashSet::default();
        let mut table = Self { routes, tree, folded, may_fold, reserved, path_forms, conditioned, condition_fields };
        table.mark_contested(RouteTree::contest);
        Ok(table)
    }

    /// Reserves these paths, in any case: a path that differs from one of them in case only is not found.
    pub(crate) fn reserving<'p>(mut self, paths: impl IntoIterator<Item = &'p str>) -> Self {
        for path in paths {
            self.may_fold |= may_change(path);
            let folded = fold(path).into_owned();
            self.mark_contested(|tree| tree.contest_matches(&folded));
            self.reserved.insert(folded);
        }
        self
    }

    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Replaces the upstreams of all routes. For a table that no snapshot has yet: a shared route keeps its own.
    pub(crate) fn replace_upstreams(&mut self, replace: impl Fn(&mut Arc<Upstream>)) {
        for route in self.routes.iter_mut().filter_map(Arc::get_mut) {
            route.replace_upstreams(&replace);
        }
    }

    /// Sets the resources of all routes. For a table that no snapshot has yet: a shared route keeps its own.
    pub(crate) fn set_resources(&mut self, resource: impl Fn(&Route) -> Option<Arc<ResourceIdentifier>>) {
        for route in self.routes.iter_mut().filter_map(Arc::get_mut) {
            route.resource = resource(route);
        }
    }

    /// The forms of paths that some route takes.
    pub(crate) fn path_forms(&self) -> PathForms {
        self.path_forms
    }

    /// Refuses a path with optional forms, unless it leads to the one route that has opted in to them, and no service
    /// reads it as the path of an endpoint that has precedence over routes.
    pub(crate) fn check_path_forms(&self, request: &CanonicalRequest) -> Result<(), Ambiguous> {
        let Some(form) = request.forms.iter().next() else { return Ok(()) };
        let (lenient, found) =
            (lenient_path(request.path()), self.routes_at(request.authority.host(), request.decoded_path()));
        let is_below = |root: &String| format!("{}/", fold(&lenient)).starts_with(&format!("{root}/"));
        match *found {
            [only] if !self.reserved.iter().any(is_below) => self.routes[only].check_path_forms(request),
            _ => Err(form.fault()),
        }
    }

    /// `host` is lower case without port and trailing dot; `path` is decoded and canonical.
    pub(crate) fn find<'t>(&'t self, method: &Method, host: &str, path: &str, headers: &HeaderMap) -> RouteMatch<'t> {
        let Some(leaf) = self.leaf(host, path) else {
            return RouteMatch::Nothing;
        };
        if let Some(place) = self.conditioned_at(leaf) {
            return self.find_at(place, method, headers);
        }
        let takes = |route: u32| self.routes[route as usize].methods.contains(method);
        let mut takers = self.tree.takers(leaf);
        match takers.find(|taker| taker.methods.contains(method).unwrap_or_else(|| takes(taker.route))) {
            Some(taker) => RouteMatch::Route(&self.routes[taker.route as usize], taker.route as usize),
            None => RouteMatch::MethodNotAllowed(self.allow(self.tree.routes(leaf))),
        }
    }

    /// Where no condition holds, the place has only its routes without conditions. A wider pattern never takes the
    /// request.
    fn find_at<'t>(&'t self, place: &ConditionedPlace, method: &Method, headers: &HeaderMap) -> RouteMatch<'t> {
        match place.find(&self.routes, method, headers) {
            Err(fault) => RouteMatch::UnclearField(fault),
            Ok(Some(index)) => RouteMatch::Route(&self.routes[index], index),
            Ok(None) if place.plain().is_empty() => RouteMatch::Nothing,
            Ok(None) => RouteMatch::MethodNotAllowed(self.allow(place.plain().iter().copied())),
        }
    }

    /// The route that answers a preflight about this method. A preflight has no field that a condition names.
    pub(crate) fn find_for_preflight(&self, method: &Method, host: &str, path: &str) -> Option<(&Route, usize)> {
        let leaf = self.leaf(host, path)?;
        let index = match self.conditioned_at(leaf) {
            Some(place) => place.for_preflight(&self.routes, method)?,
            None => {
                let takes = |index: &usize| self.routes[*index].methods.contains(method);
                self.tree.routes(leaf).find(takes).filter(|index| self.routes[*index].cors.is_some())?
            }
        };
        Some((&self.routes[index], index))
    }

    /// The fields that chose the route of a request, if its place has conditions.
    pub(crate) fn choosing_fields(&self, host: &str, path: &str, headers: &HeaderMap) -> Option<Box<HeaderMap>> {
        if self.conditioned.is_empty() {
            return None;
        }
        let place = self.conditioned_at(self.leaf(host, path)?)?;
        Some(Box::new(place.fields_of(headers)))
    }

    pub(crate) fn condition_fields(&self) -> &ConditionFields {
        &self.condition_fields
    }

    /// Routes that change a field on which a route of their place has a condition, or one that a service may read as it.
    pub(crate) fn changed_conditions(&self) -> Vec<(usize, HeaderName)> {
        let mut changed = Vec::new();
        for (leaf, place) in &self.conditioned {
            for index in self.tree.routes(*leaf) {
                let Some(route) = self.routes.get(index) else { continue };
                let changes =
                    |name: &&HeaderName| route.request_headers.names().any(|changed| resembles(changed, name));
                let names = place.names().iter().filter(changes);
                changed.extend(names.map(|name| (index, name.clone())));
            }
        }
        changed.sort_unstable_by(|(one, first), (other, second)| (one, first.as_str()).cmp(&(other, second.as_str())));
        changed.dedup();
        changed
    }

    /// The fields on which routes of this place have conditions.
    pub(crate) fn condition_names_at(&self, host: &str, path: &str) -> &[HeaderName] {
        let place = self.leaf(host, path).and_then(|leaf| self.conditioned_at(leaf));
        place.map_or(&[], ConditionedPlace::names)
    }

    fn conditioned_at(&self, leaf: Leaf) -> Option<&ConditionedPlace> {
        if self.conditioned.is_empty() { None } else { self.conditioned.get(&leaf) }
    }

    /// The routes of the place that this path leads to, for all methods, by their places in the list.
    pub(crate) fn routes_at(&self, host: &str, path: &str) -> Vec<usize> {
        self.leaf(host, path).map(|leaf| self.tree.routes(leaf).collect()).unwrap_or_default()
    }

    /// The place that this path leads to, both as it is and folded.
    fn leaf(&self, host: &str, path: &str) -> Option<Leaf> {
        self.tree.leaf(host, path).filter(|leaf| !self.leads_elsewhere_folded(*leaf, host, path))
    }

    /// Whether the folded path leads to other routes than `found`, under the same host rules.
    ///
    /// The folded path matches the folded pattern of `found`, and is looked up only where another pattern could have
    /// precedence:
    /// - Where folding changes neither a pattern nor the path, the same is looked up in the same tree again, and no
    ///   reserved path is left for the path to equal.
    /// - A place that is not contested shares no path with a pattern that precedes it. Folding may remove a character
    ///   that is not ASCII, and thereby a segment, so that the folded pattern may not match.
    fn leads_elsewhere_folded(&self, found: Leaf, host: &str, path: &str) -> bool {
        let changes_nothing = !self.may_fold && !may_change(path);
        if changes_nothing || (!self.tree.is_contested(found) && path.is_ascii()) {
            return false;
        }
        let path = fold(path);
        let is_reserved = self.reserved.contains(path.strip_suffix('/').unwrap_or(&path));
        let folded = self.folded.as_deref().unwrap_or(&self.tree);
        // A route has one pattern, so the same routes are also the same place. They have the order of the list.
        let is_same = |leaf| folded.routes(leaf).eq(self.tree.routes(found));
        is_reserved || !folded.leaf(host, &path).is_some_and(is_same)
    }

    /// Marks places in the tree of folded patterns, and so in the other.
    fn mark_contested(&mut self, mark: impl FnOnce(&mut RouteTree)) {
        match &mut self.folded {
            None => mark(&mut self.tree),
            Some(folded) => {
                mark(folded);
                self.tree.copy_contested(folded);
            }
        }
    }

    fn allow(&self, routes: impl Iterator<Item = usize>) -> HeaderValue {
        let mut names: Vec<&str> = routes.flat_map(|route| self.routes[route].methods.names()).collect();
        names.sort_unstable();
        names.dedup();
        HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
    }
}

/// The places with conditions. `Err`: their routes conflict.
fn conditioned_places(
    routes: &[Arc<Route>],
    tree: &RouteTree,
) -> Result<HashMap<Leaf, ConditionedPlace>, Vec<Conflict>> {
    let (mut places, mut conflicts) = (HashMap::default(), Vec::new());
    if routes.iter().all(|route| route.when.is_none()) {
        return Ok(places);
    }
    for leaf in tree.leaves() {
        let Some(place) = ConditionedPlace::of(routes, tree.routes(leaf)) else { continue };
        let found = conflicts_at(routes, &tree.routes(leaf).collect::<Vec<_>>()).into_iter();
        // Routes with several hosts meet at several places.
        let new: Vec<Conflict> = found.filter(|conflict| !conflicts.contains(conflict)).collect();
        conflicts.extend(new);
        places.insert(leaf, place);
    }
    if conflicts.is_empty() { Ok(places) } else { Err(conflicts) }
}

#[cfg(test)]
mod tests;
