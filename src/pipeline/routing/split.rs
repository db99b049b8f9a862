//! Several upstreams for one route, each with its part of the requests: at random, or by a property of the caller.

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
    sides: Vec<SplitBranch>,
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
        let sides = weighed.into_iter().map(|(upstream, weight)| {
            total += u64::from(weight);
            SplitBranch { upstream, weight, up_to: total }
        });
        Self { sides: sides.collect(), sticky, total }
    }

    /// The branch of a request: its place in the list, and its upstream.
    pub(crate) fn choose(&self, peer: &Peer, headers: &HeaderMap, caller: Option<&Verified>) -> (usize, &Upstream) {
        let key = self.sticky.as_ref().map(|per| per.of(peer.address, headers, caller)).filter(|key| *key != ABSENT);
        let side =
            self.side_at(key.map_or_else(|| sampling::draw(self.total), |key| sampling::place(key.0, self.total)));
        (side, &self.sides[side].upstream)
    }

    /// The branch with the upstream of this number.
    pub(crate) fn side_of(&self, number: u64) -> Option<(usize, &Upstream)> {
        let mut sides = self.sides.iter().map(|side| &*side.upstream).enumerate();
        sides.find(|(_, upstream)| upstream.number == number)
    }

    /// Where weights change, no request changes its branch without need.
    fn side_at(&self, place: u64) -> usize {
        self.sides.iter().position(|side| place < side.up_to).unwrap_or_default()
    }

    pub(crate) fn upstream(&self, side: usize) -> Option<&Arc<Upstream>> {
        self.sides.get(side).map(|side| &side.upstream)
    }

    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.sides.iter().map(|side| &side.upstream)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, side) in self.sides.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}/{}", side.upstream.name, side.weight, self.total)?;
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
        let sides: Vec<usize> = (0..100).map(|place| split.side_at(place)).collect();
        let count = |side| sides.iter().filter(|found| **found == side).count();
        assert_eq!([count(0), count(1), count(2)], [95, 4, 1]);
        assert_eq!(split.to_string(), "legacy 95/100, legacy 4/100, legacy 1/100");
    }

    #[test]
    fn whoever_is_on_the_growing_side_stays_there() {
        let (before, after) = (split(&[95, 5]), split(&[80, 20]));
        for key in 0..10_000 {
            let [was, is] = [&before, &after].map(|split| split.side_at(sampling::place(key, split.total)));
            assert!(was <= is, "{key}");
        }
    }
}
