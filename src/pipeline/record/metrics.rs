//! The counts of one worker. They are summed over all workers for a report.

use std::time::Duration;

use foldhash::HashMap;
use http::Method;

use super::matched::MatchedRule;
use crate::audit::reason::Reason;
use crate::audit::record::Decision;
use crate::clock::UnixTime;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::pipeline::routing::rate_limit::LimitCount;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::telemetry::metric_labels::{DecisionLabels, DurationLabels, LimitLabels, SecretLabels, SplitLabels};
use crate::telemetry::metrics::{Histogram, WorkerReport};

/// Used by its worker alone: no locks and no atomics.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    decisions: HashMap<DecisionKey, u64>,
    durations: HashMap<DurationKey, Histogram>,
    limits: HashMap<(MatchedRule, u8, bool), u64>,
    /// Counts by rule and branch of its split.
    splits: HashMap<(MatchedRule, usize), u64>,
    /// When each secret of our own clients last got a token: as many as the configuration has, at most.
    secrets: HashMap<(Identity, usize), UnixTime>,
    /// Issuers by number: the reference count of a shared name would be changed by all cores at once.
    issuers: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DecisionKey {
    rule: MatchedRule,
    issuer: Option<u16>,
    decision: Decision,
    reason: Option<Reason>,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct RequestOutcome<'e> {
    pub(crate) rule: MatchedRule,
    pub(crate) issuer: Option<&'e IssuerName>,
    pub(crate) decision: Decision,
    pub(crate) reason: Option<Reason>,
    pub(crate) method: Option<&'e Method>,
    pub(crate) status: Option<u16>,
    pub(crate) duration: Duration,
    /// The branch of a split.
    pub(crate) branch: Option<usize>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DurationKey {
    rule: MatchedRule,
    method: &'static str,
    status: u16,
}

impl WorkerMetrics {
    pub(crate) fn ended(&mut self, outcome: &RequestOutcome<'_>) {
        let RequestOutcome { rule, decision, reason, .. } = *outcome;
        if let (Some(method), Some(status)) = (outcome.method, outcome.status) {
            let key = DurationKey { rule, method: method_label(method), status };
            self.durations.entry(key).or_default().observe(outcome.duration);
        }
        if let Some(branch) = outcome.branch {
            *self.splits.entry((rule, branch)).or_default() += 1;
        }
        let issuer = outcome.issuer.map(|name| self.number(name));
        *self.decisions.entry(DecisionKey { rule, issuer, decision, reason }).or_default() += 1;
    }

    fn number(&mut self, issuer: &IssuerName) -> u16 {
        let known = self.issuers.iter().position(|name| name == issuer.as_str());
        let number = known.unwrap_or_else(|| {
            self.issuers.push(issuer.as_str().to_owned());
            self.issuers.len() - 1
        });
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    pub(crate) fn counted(&mut self, rule: MatchedRule, limit: usize, count: LimitCount) {
        let limit = u8::try_from(limit).unwrap_or(u8::MAX);
        *self.limits.entry((rule, limit, count.allowed)).or_default() += 1;
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
        let route = |rule: MatchedRule| rule.name(snapshot).unwrap_or_default().to_owned();
        let decisions = self.decisions.iter().map(|(key, count)| {
            let labels = DecisionLabels {
                route: route(key.rule),
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
                http_route: route(key.rule),
                http_request_method: key.method,
                http_response_status_code: key.status,
            };
            (labels, histogram.clone())
        });
        let limits = self.limits.iter().map(|((rule, limit, allowed), count)| {
            let decision = if *allowed { "allow" } else { "deny" };
            let limit = rule.limits(snapshot).get(usize::from(*limit)).map_or("", |limit| &limit.name).to_owned();
            (LimitLabels { route: route(*rule), limit, decision }, *count)
        });
        let splits = self.splits.iter().map(|((rule, branch), count)| {
            let upstream = rule.branch_name(snapshot, *branch).to_owned();
            (SplitLabels { route: route(*rule), upstream }, *count)
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

/// Clients choose methods freely; labels must stay few.
fn method_label(method: &Method) -> &'static str {
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
