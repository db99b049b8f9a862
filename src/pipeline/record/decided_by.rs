//! The snapshot that decides a request, or only the names that the record of the request needs from it.
//!
//! Tunnels and streams of events last for hours. They give up the snapshot: each could be of another configuration, and
//! a large one takes many megabytes.

use super::matched::MatchedRule;
use crate::pipeline::routing::series::SeriesId;
use crate::pipeline::routing::snapshot::SharedSnapshot;

#[derive(Debug)]
pub(super) enum DecidedBy {
    Snapshot(SharedSnapshot),
    Names(Box<DecidedNames>),
}

#[derive(Debug)]
pub(super) struct DecidedNames {
    config: String,
    route: Option<String>,
    upstream: Option<String>,
    series: SeriesId,
}

impl DecidedBy {
    /// Keeps the names of this rule and branch alone.
    pub(super) fn keep_names(&mut self, rule: MatchedRule, branch: Option<usize>) {
        *self = Self::Names(Box::new(DecidedNames {
            config: self.config().to_owned(),
            route: self.route(rule).map(str::to_owned),
            upstream: self.upstream(rule, branch).map(str::to_owned),
            series: self.series(rule),
        }));
    }

    /// `None` after it was given up.
    pub(super) fn snapshot(&self) -> Option<&SharedSnapshot> {
        match self {
            Self::Snapshot(snapshot) => Some(snapshot),
            Self::Names(_) => None,
        }
    }

    /// The revision of the configuration.
    pub(super) fn config(&self) -> &str {
        match self {
            Self::Snapshot(snapshot) => &snapshot.config,
            Self::Names(names) => &names.config,
        }
    }

    pub(super) fn route(&self, rule: MatchedRule) -> Option<&str> {
        match self {
            Self::Snapshot(snapshot) => rule.name(snapshot),
            Self::Names(names) => names.route.as_deref(),
        }
    }

    /// The upstream, where the route has several.
    pub(super) fn upstream(&self, rule: MatchedRule, branch: Option<usize>) -> Option<&str> {
        match self {
            Self::Snapshot(snapshot) => branch.map(|branch| rule.branch_name(snapshot, branch)),
            Self::Names(names) => names.upstream.as_deref(),
        }
    }

    /// The metrics series that the request counts in.
    pub(super) fn series(&self, rule: MatchedRule) -> SeriesId {
        match self {
            Self::Snapshot(snapshot) => rule.series(snapshot),
            Self::Names(names) => names.series,
        }
    }
}
