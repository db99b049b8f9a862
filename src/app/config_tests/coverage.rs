//! Which routes and rules the tests of a configuration are about.

use std::collections::HashSet;

use super::outcome::{ActualDecision, TestOutcome, TestedRequest};
use crate::pipeline::routing::access::Access;
use crate::pipeline::routing::route::Route;
use crate::pipeline::routing::table::RouteTable;

/// A route is covered by a request that it allows, and its rule by a request that it refuses. Failed requests do not
/// count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestCoverage {
    pub(crate) routes: usize,
    /// Names of routes that allow no request of a test.
    pub(crate) never_allowed: Vec<String>,
    /// Routes with a rule of access or addresses.
    pub(crate) rules: usize,
    /// Names of routes whose rule refuses no request of a test.
    pub(crate) never_refused: Vec<String>,
}

impl TestCoverage {
    pub(super) fn of(routes: &RouteTable, tests: &[TestOutcome<'_>]) -> Self {
        let (mut allowing, mut refusing) = (HashSet::new(), HashSet::new());
        let passed = tests.iter().flat_map(|outcome| &outcome.requests).filter(|tested| tested.has_passed());
        for TestedRequest { actual, .. } in passed {
            match actual {
                ActualDecision::Allowed { route } | ActualDecision::Answered { route, .. } => allowing.extend(route),
                ActualDecision::Refused { route, .. } => refusing.extend(route),
            }
        }
        let without = |routes: &[&Route], names: &HashSet<&String>| {
            routes.iter().filter(|route| !names.contains(&route.name)).map(|route| route.name.clone()).collect()
        };
        let routes: Vec<&Route> = routes.routes().iter().map(|route| &**route).collect();
        let rules: Vec<&Route> = routes.iter().copied().filter(|route| has_rule(route)).collect();
        Self {
            routes: routes.len(),
            never_allowed: without(&routes, &allowing),
            rules: rules.len(),
            never_refused: without(&rules, &refusing),
        }
    }

    /// Rounded down: 100 means that nothing is missing.
    pub(crate) fn percent(&self) -> usize {
        let all = self.routes + self.rules;
        let covered = all - self.never_allowed.len() - self.never_refused.len();
        (covered * 100).checked_div(all).unwrap_or(100)
    }
}

fn has_rule(route: &Route) -> bool {
    let has_access = match route.access {
        Access::Public => false,
        Access::Protected(_) => true,
    };
    has_access || route.from.allow.is_some() || route.from.deny.is_some()
}
