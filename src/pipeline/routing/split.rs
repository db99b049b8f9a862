//! Several upstreams for one route, each with its share of the requests: at random, or by a property of the caller.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

use crate::pipeline::request::peer::Peer;
use crate::pipeline::request::sampling;
use crate::trust::request_key::ABSENT;
use crate::trust::request_key::RequestKey;
use crate::trust::verify::Verified;
use crate::upstream::service::Upstream;

#[derive(Debug)]
pub(crate) struct Split {
    /// One at least.
    branches: Vec<SplitBranch>,
    /// Requests with the same value go to the same branch, on every worker and after a restart. Requests without it go
    /// at random.
    sticky: Option<RequestKey>,
    total: u64,
}

#[derive(Debug)]
struct SplitBranch {
    upstream: Arc<Upstream>,
    weight: u32,
    /// Its own weight and that of all before it.
    up_to: u64,
}

impl Split {
    pub(crate) fn new(weighed: impl IntoIterator<Item = (Arc<Upstream>, u32)>, sticky: Option<RequestKey>) -> Self {
        let mut total = 0;
        let branches = weighed.into_iter().map(|(upstream, weight)| {
            total += u64::from(weight);
            SplitBranch { upstream, weight, up_to: total }
        });
        Self { branches: branches.collect(), sticky, total }
    }

    /// The branch of a request: its place in the list, and its upstream.
    pub(crate) fn choose(&self, peer: &Peer, headers: &HeaderMap, caller: Option<&Verified>) -> (usize, &Upstream) {
        let key = self.sticky.as_ref().map(|per| per.of(peer.address, headers, caller)).filter(|key| *key != ABSENT);
        let branch =
            self.branch_at(key.map_or_else(|| sampling::draw(self.total), |key| sampling::position(key.0, self.total)));
        (branch, &self.branches[branch].upstream)
    }

    /// Whether requests are shared out in the same way, among upstreams of the same names.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let Self { branches, sticky, total } = self;
        let is_same = |(one, other): (&SplitBranch, &SplitBranch)| {
            one.upstream.name == other.upstream.name && one.weight == other.weight
        };
        *sticky == other.sticky
            && *total == other.total
            && branches.len() == other.branches.len()
            && branches.iter().zip(&other.branches).all(is_same)
    }

    /// The branch with the upstream of this number.
    pub(crate) fn branch_of(&self, number: u64) -> Option<(usize, &Upstream)> {
        let mut branches = self.branches.iter().map(|branch| &*branch.upstream).enumerate();
        branches.find(|(_, upstream)| upstream.number == number)
    }

    /// If weights change, requests keep their branch as far as the new weights allow.
    fn branch_at(&self, position: u64) -> usize {
        self.branches.iter().position(|branch| position < branch.up_to).unwrap_or_default()
    }

    pub(crate) fn upstream(&self, branch: usize) -> Option<&Arc<Upstream>> {
        self.branches.get(branch).map(|branch| &branch.upstream)
    }

    pub(super) fn replace_upstreams(&mut self, replace: &impl Fn(&mut Arc<Upstream>)) {
        self.branches.iter_mut().for_each(|branch| replace(&mut branch.upstream));
    }

    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.branches.iter().map(|branch| &branch.upstream)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, branch) in self.branches.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}/{}", branch.upstream.name, branch.weight, self.total)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::route::tests::route;
    use super::super::target::RouteTarget;
    use super::*;

    fn split(weights: &[u32]) -> Split {
        let RouteTarget::Upstream(upstream) = route("/", &[], &[]).target else { panic!("no upstream") };
        Split::new(weights.iter().map(|weight| (Arc::clone(&upstream), *weight)), None)
    }

    #[test]
    fn each_side_has_its_weight() {
        let split = split(&[95, 4, 1]);
        let branches: Vec<usize> = (0..100).map(|position| split.branch_at(position)).collect();
        let count = |branch| branches.iter().filter(|found| **found == branch).count();
        assert_eq!([count(0), count(1), count(2)], [95, 4, 1]);
        assert_eq!(split.to_string(), "legacy 95/100, legacy 4/100, legacy 1/100");
    }

    #[test]
    fn a_caller_on_the_growing_branch_stays_there() {
        let (before, after) = (split(&[95, 5]), split(&[80, 20]));
        for key in 0..10_000 {
            let [was, is] = [&before, &after].map(|split| split.branch_at(sampling::position(key, split.total)));
            assert!(was <= is, "{key}");
        }
    }
}
