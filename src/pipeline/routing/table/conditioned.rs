//! The routes of a place of which some are for requests with certain header fields.
//!
//! More conditions go before fewer, whatever the order of the file is. A look-up takes as long among a thousand values
//! of a field as among two.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use http::{HeaderMap, HeaderName, Method};

use crate::pipeline::request::headers::FieldFault;
use crate::pipeline::routing::field_conditions::{FieldConditions, check_names, value_of};
use crate::pipeline::routing::route::Route;

/// The routes of one place.
#[derive(Clone, Debug)]
pub(super) struct ConditionedPlace {
    /// The fields on which a route has a condition.
    names: Vec<HeaderName>,
    /// The most conditions first.
    groups: Vec<ConditionGroup>,
    /// Routes without a condition.
    plain: Vec<usize>,
}

/// The routes with conditions on the same fields.
#[derive(Clone, Debug)]
struct ConditionGroup {
    names: Vec<HeaderName>,
    /// The field by whose values the routes are found.
    key: HeaderName,
    by_value: HashMap<String, Vec<RankedRoute>>,
}

/// A route with its precedence: the smallest rank decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RankedRoute {
    rank: usize,
    index: usize,
}

impl ConditionedPlace {
    /// `None`: no route of the place has a condition.
    pub(super) fn of(routes: &[Arc<Route>], place: impl Iterator<Item = usize>) -> Option<Self> {
        let (mut conditioned, mut plain): (Vec<(usize, &FieldConditions)>, Vec<usize>) = Default::default();
        for index in place {
            match routes.get(index).and_then(|route| route.when.as_ref()) {
                Some(when) => conditioned.push((index, when)),
                None => plain.push(index),
            }
        }
        conditioned.sort_by_cached_key(|(_, when)| (Reverse(when.count()), when.key()));
        let mut place = Self { names: Vec::new(), groups: Vec::new(), plain };
        for (rank, (index, when)) in conditioned.into_iter().enumerate() {
            place.add(RankedRoute { rank, index }, when, routes);
        }
        (!place.groups.is_empty()).then_some(place)
    }

    fn add(&mut self, route: RankedRoute, when: &FieldConditions, routes: &[Arc<Route>]) {
        let names: Vec<HeaderName> = when.iter().map(|condition| condition.name.clone()).collect();
        let new: Vec<HeaderName> = names.iter().filter(|name| !self.names.contains(name)).cloned().collect();
        self.names.extend(new);
        let group = match self.groups.iter().position(|group| group.names == names) {
            Some(known) => known,
            None => {
                let Some(key) = most_varied(&names, routes) else { return };
                self.groups.push(ConditionGroup { names, key, by_value: HashMap::default() });
                self.groups.len() - 1
            }
        };
        let Some(group) = self.groups.get_mut(group) else { return };
        for value in when.iter().filter(|condition| condition.name == group.key).flat_map(|of_key| &of_key.values) {
            group.by_value.entry(value.clone()).or_default().push(route);
        }
    }

    pub(super) fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// The routes without a condition.
    pub(super) fn plain(&self) -> &[usize] {
        &self.plain
    }

    /// The route that takes a request with this method and these fields.
    pub(super) fn find(
        &self,
        routes: &[Arc<Route>],
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<usize>, FieldFault> {
        check_names(headers, &self.names)?;
        let values = self.names.iter().map(|name| value_of(headers, name)).collect::<Result<Vec<_>, _>>()?;
        let takes = |index: usize| routes.get(index).is_some_and(|route| route.methods.contains(method));
        let conditioned = self.conditioned(routes, &values, takes);
        Ok(conditioned.or_else(|| self.plain.iter().copied().find(|index| takes(*index))))
    }

    fn conditioned(
        &self,
        routes: &[Arc<Route>],
        values: &[Option<Cow<'_, str>>],
        takes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let value = |name: &HeaderName| {
            let at = self.names.iter().position(|known| known == name)?;
            values.get(at)?.as_deref()
        };
        let conditions = |index: usize| routes.get(index).and_then(|route| route.when.as_ref());
        let is_meant =
            |route: &&RankedRoute| takes(route.index) && conditions(route.index).is_some_and(|when| when.hold(value));
        let found = self.groups.iter().filter_map(|group| {
            let candidates = group.by_value.get(value(&group.key)?)?;
            candidates.iter().find(is_meant)
        });
        found.min().map(|route| route.index)
    }

    /// The route that answers a preflight, which has none of the fields: the one with the fewest conditions of those
    /// with rules for pages of other origins.
    pub(super) fn for_preflight(&self, routes: &[Arc<Route>], method: &Method) -> Option<usize> {
        let mut ranked: Vec<RankedRoute> =
            self.groups.iter().flat_map(|group| group.by_value.values().flatten().copied()).collect();
        ranked.sort_unstable_by_key(|route| Reverse(route.rank));
        let mut all = self.plain.iter().copied().chain(ranked.into_iter().map(|route| route.index));
        all.find(|index| routes.get(*index).is_some_and(|route| route.cors.is_some() && route.methods.contains(method)))
    }

    /// The fields of a request that chose its route.
    pub(super) fn fields_of(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for name in &self.names {
            for value in headers.get_all(name) {
                kept.append(name.clone(), value.clone());
            }
        }
        kept
    }
}

/// The field of these that has the most values in all routes.
fn most_varied(names: &[HeaderName], routes: &[Arc<Route>]) -> Option<HeaderName> {
    let count = |name: &&HeaderName| {
        let conditions = routes.iter().filter_map(|route| route.when.as_ref()).flat_map(FieldConditions::iter);
        let of_name = conditions.filter(|condition| condition.name == **name);
        of_name.flat_map(|condition| &condition.values).collect::<HashSet<&String>>().len()
    };
    names.iter().max_by_key(count).cloned()
}
