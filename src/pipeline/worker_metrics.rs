//! What one worker has counted; summed over all workers when someone asks.

use std::time::Duration;

use foldhash::HashMap;
use http::Method;

use super::limits::LimitCount;
use super::request_log::{MatchedRule, REDIRECT};
use super::snapshot::Snapshot;
use super::target::RouteTarget;
use crate::audit::reason::Reason;
use crate::audit::record::Decision;
use crate::clock::UnixTime;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::telemetry::metric_labels::{DecisionLabels, DurationLabels, LimitLabels, SecretLabels, SplitLabels};
use crate::telemetry::metrics::{Histogram, WorkerReport};

/// Touched by its worker alone: no locks and no atomics.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    decisions: HashMap<DecisionKey, u64>,
    durations: HashMap<DurationKey, Histogram>,
    limits: HashMap<(MatchedRule, u8, bool), u64>,
    /// By route, and the side of its split that served.
    splits: HashMap<(MatchedRule, usize), u64>,
    /// When each secret of our own clients last got a token: as many as the configuration has, at most.
    secrets: HashMap<(Identity, usize), UnixTime>,
    /// Issuers by number: a shared name would be counted by all cores at once.
    issuers: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DecisionKey {
    place: MatchedRule,
    issuer: Option<u16>,
    decision: Decision,
    reason: Option<Reason>,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct RequestOutcome<'e> {
    pub(crate) place: MatchedRule,
    pub(crate) issuer: Option<&'e IssuerName>,
    pub(crate) decision: Decision,
    pub(crate) reason: Option<Reason>,
    pub(crate) method: Option<&'e Method>,
    pub(crate) status: Option<u16>,
    pub(crate) duration: Duration,
    /// Of a split.
    pub(crate) side: Option<usize>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DurationKey {
    place: MatchedRule,
    method: &'static str,
    status: u16,
}

impl WorkerMetrics {
    pub(crate) fn ended(&mut self, ending: &RequestOutcome<'_>) {
        let RequestOutcome { place, decision, reason, .. } = *ending;
        if let (Some(method), Some(status)) = (ending.method, ending.status) {
            let key = DurationKey { place, method: known(method), status };
            self.durations.entry(key).or_default().observe(ending.duration);
        }
        if let Some(side) = ending.side {
            *self.splits.entry((place, side)).or_default() += 1;
        }
        let issuer = ending.issuer.map(|name| self.number(name));
        *self.decisions.entry(DecisionKey { place, issuer, decision, reason }).or_default() += 1;
    }

    fn number(&mut self, issuer: &IssuerName) -> u16 {
        let known = self.issuers.iter().position(|name| name == issuer.as_str());
        let number = known.unwrap_or_else(|| {
            self.issuers.push(issuer.as_str().to_owned());
            self.issuers.len() - 1
        });
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    pub(crate) fn counted(&mut self, place: MatchedRule, limit: usize, count: LimitCount) {
        let limit = u8::try_from(limit).unwrap_or(u8::MAX);
        *self.limits.entry((place, limit, count.allowed)).or_default() += 1;
    }

    /// `secret` counts from 1.
    pub(crate) fn secret_used(&mut self, client: &Identity, secret: usize, now: UnixTime) {
        match self.secrets.get_mut(&(client.clone(), secret)) {
            Some(last) => *last = now.max(*last),
            None => drop(self.secrets.insert((client.clone(), secret), now)),
        }
    }

    /// The counts under the names that the snapshot gives them.
    pub(crate) fn report(&self, snapshot: &Snapshot) -> WorkerReport {
        let route = |place: MatchedRule| route_name(snapshot, place).to_owned();
        let decisions = self.decisions.iter().map(|(key, count)| {
            let labels = DecisionLabels {
                route: route(key.place),
                issuer: key
                    .issuer
                    .and_then(|number| self.issuers.get(usize::from(number)))
                    .cloned()
                    .unwrap_or_default(),
                decision: key.decision.as_str(),
                reason: key.reason.map_or("", Reason::as_str),
            };
            (labels, *count)
        });
        let durations = self.durations.iter().map(|(key, histogram)| {
            let labels = DurationLabels {
                http_route: route(key.place),
                http_request_method: key.method,
                http_response_status_code: key.status,
            };
            (labels, histogram.clone())
        });
        let limits = self.limits.iter().map(|((place, limit, allowed), count)| {
            let decision = if *allowed { "allow" } else { "deny" };
            (
                LimitLabels { route: route(*place), limit: limit_name(snapshot, *place, *limit).to_owned(), decision },
                *count,
            )
        });
        let splits = self.splits.iter().map(|((place, side), count)| {
            let upstream = side_name(snapshot, *place, *side).to_owned();
            (SplitLabels { route: route(*place), upstream }, *count)
        });
        let secrets = self.secrets.iter().map(|((client, secret), last)| {
            (SecretLabels { client: client.as_str().to_owned(), secret: *secret as u64 }, last.seconds())
        });
        WorkerReport {
            secrets: secrets.collect(),
            decisions: decisions.collect(),
            durations: durations.collect(),
            limits: limits.collect(),
            splits: splits.collect(),
            ..WorkerReport::default()
        }
    }
}

fn route_name(snapshot: &Snapshot, place: MatchedRule) -> &str {
    match place {
        MatchedRule::Nowhere => "",
        MatchedRule::BuiltIn(built_in) => built_in.name(),
        MatchedRule::Redirect => REDIRECT,
        MatchedRule::Route(index) => snapshot.routes.routes().get(index).map_or("", |route| &route.name),
    }
}

/// The upstream that a request went to where its route has several.
pub(super) fn side_name(snapshot: &Snapshot, place: MatchedRule, side: usize) -> &str {
    let MatchedRule::Route(index) = place else { return "" };
    match snapshot.routes.routes().get(index).map(|route| &route.target) {
        Some(RouteTarget::Split(split)) => split.upstream(side).map_or("", |upstream| &upstream.name),
        Some(RouteTarget::Upstream(_) | RouteTarget::Own(_)) | None => "",
    }
}

fn limit_name(snapshot: &Snapshot, place: MatchedRule, limit: u8) -> &str {
    let limits = match place {
        MatchedRule::Route(index) => snapshot.routes.routes().get(index).map(|route| &route.limits),
        MatchedRule::BuiltIn(_) => snapshot.oauth.as_ref().map(|oauth| &oauth.token_limits),
        MatchedRule::Nowhere | MatchedRule::Redirect => None,
    };
    limits.and_then(|limits| limits.get(usize::from(limit))).map_or("", |limit| &limit.name)
}

/// Strangers choose methods; labels must stay few.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
