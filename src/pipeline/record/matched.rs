//! The rule that a request matched, and its data in the snapshot.

use crate::pipeline::routing::rate_limit::RateLimit;
use crate::pipeline::routing::route::Route;
use crate::pipeline::routing::series::SeriesId;
use crate::pipeline::routing::snapshot::{BuiltIn, OwnIssuer, REDIRECT, Snapshot};
use crate::pipeline::routing::target::RouteTarget;

/// The rule that a request matched. A route is kept as its place in the list, which is cheap to copy and to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatchedRule {
    Nothing,
    BuiltIn(BuiltIn),
    Redirect,
    Route(usize),
}

impl MatchedRule {
    pub(crate) fn route(self, snapshot: &Snapshot) -> Option<&Route> {
        match self {
            Self::Route(index) => snapshot.routes.routes().get(index).map(|route| &**route),
            Self::Nothing | Self::BuiltIn(_) | Self::Redirect => None,
        }
    }

    /// The name in audit lines and metrics.
    pub(crate) fn name(self, snapshot: &Snapshot) -> Option<&str> {
        match self {
            Self::Nothing => None,
            Self::BuiltIn(built_in) => Some(built_in.name()),
            Self::Redirect => Some(REDIRECT),
            Self::Route(_) => self.route(snapshot).map(|route| route.name.as_str()),
        }
    }

    pub(crate) fn limits(self, snapshot: &Snapshot) -> &[RateLimit] {
        match self {
            Self::Route(_) => self.route(snapshot).map_or(&[], |route| &route.limits),
            Self::BuiltIn(built_in) if built_in.counts_token_limits() => {
                snapshot.oauth.as_ref().map_or(&[], |oauth: &OwnIssuer| &oauth.token_limits)
            }
            Self::BuiltIn(_) | Self::Nothing | Self::Redirect => &[],
        }
    }

    /// The metrics series that it counts in.
    pub(crate) fn series(self, snapshot: &Snapshot) -> SeriesId {
        match self {
            Self::Nothing => snapshot.series_of_nothing(),
            Self::Redirect => snapshot.series_of_redirects(),
            Self::BuiltIn(built_in) => snapshot.series_of(built_in),
            Self::Route(index) => snapshot.series_of_route(index),
        }
    }

    pub(crate) fn target(self, snapshot: &Snapshot) -> Option<&RouteTarget> {
        self.route(snapshot).map(|route| &route.target)
    }

    /// The upstream that a request went to where its route has several.
    pub(crate) fn branch_name(self, snapshot: &Snapshot, branch: usize) -> &str {
        match self.target(snapshot) {
            Some(RouteTarget::Split(split)) => split.upstream(branch).map_or("", |upstream| &upstream.name),
            Some(RouteTarget::Upstream(_) | RouteTarget::Own(_)) | None => "",
        }
    }
}
