//! The counts of one worker. They are summed over all workers for a report.

use std::time::Duration;

use foldhash::HashMap;
use http::Method;

use super::limit_refusals::{LimitRefusals, LimitedClient};
use super::rule_counts::{DecisionKey, DurationKey, RuleCounts};
use crate::audit::reason::Reason;
use crate::audit::record::Decision;
use crate::clock::UnixTime;
use crate::issuer::client_auth::ClientAuthMethod;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::pipeline::routing::rate_limit::{CountedLimit, client_limit_name};
use crate::pipeline::routing::series::{SeriesId, SeriesNames, SeriesTable};
use crate::telemetry::metric_labels::{
    DecisionLabels, DurationLabels, GrantLabels, LimitLabels, SecretLabels, SplitLabels, WouldDenyLabels,
};
use crate::telemetry::metrics::WorkerReport;

/// Used by its worker alone: no locks and no atomics.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    /// By the number of their series; `None` until its first request. As long as the table of series at most.
    series: Vec<Option<Box<RuleCounts>>>,
    limit_refusals: LimitRefusals,
    /// When each secret of our own clients last got a token: as many as the configuration has, at most.
    secrets: HashMap<(Identity, usize), UnixTime>,
    grants: HashMap<ClientAuthMethod, u64>,
    /// Issuers by number: the reference count of a shared name would be changed by all cores at once.
    issuers: Vec<String>,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct RequestOutcome<'e> {
    pub(crate) series: SeriesId,
    pub(crate) issuer: Option<&'e IssuerName>,
    pub(crate) decision: Decision,
    pub(crate) reason: Option<Reason>,
    /// The refusal that the route has only reported.
    pub(crate) would_deny: Option<Reason>,
    pub(crate) method: Option<&'e Method>,
    pub(crate) status: Option<u16>,
    pub(crate) duration: Duration,
    /// The branch of a split.
    pub(crate) branch: Option<usize>,
}

impl WorkerMetrics {
    pub(crate) fn ended(&mut self, outcome: &RequestOutcome<'_>) {
        let RequestOutcome { decision, reason, .. } = *outcome;
        let issuer = outcome.issuer.map(|name| self.number(name));
        let Some(counts) = self.counts_of(outcome.series) else { return };
        if let (Some(method), Some(status)) = (outcome.method, outcome.status) {
            let key = DurationKey { method: method_label(method), status };
            counts.durations.entry(key).observe(outcome.duration);
        }
        if let Some(branch) = outcome.branch {
            counts.count_branch(branch);
        }
        if let Some(reason) = outcome.would_deny {
            *counts.would_deny.entry(reason) += 1;
        }
        *counts.decisions.entry(DecisionKey { issuer, decision, reason }) += 1;
    }

    /// `None` if the number of the series belongs to another rule meanwhile.
    fn counts_of(&mut self, SeriesId { number, epoch }: SeriesId) -> Option<&mut RuleCounts> {
        let index = number as usize;
        if index >= self.series.len() {
            self.series.resize_with(index + 1, || None);
        }
        let counts = self.series[index].get_or_insert_default();
        if counts.epoch < epoch {
            **counts = RuleCounts { epoch, ..RuleCounts::default() };
            self.limit_refusals.forget(number);
        }
        (counts.epoch == epoch).then_some(&mut **counts)
    }

    fn number(&mut self, issuer: &IssuerName) -> u16 {
        let known = self.issuers.iter().position(|name| name == issuer.as_str());
        let number = known.unwrap_or_else(|| {
            // The last one stands for all names beyond the bound.
            if self.issuers.len() < usize::from(u16::MAX) {
                self.issuers.push(issuer.as_str().to_owned());
            }
            self.issuers.len() - 1
        });
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    pub(crate) fn let_through(&mut self, series: SeriesId, limit: CountedLimit) {
        self.counts_of(series).into_iter().for_each(|counts| counts.count_allowed(limit));
    }

    /// `client` is proven.
    pub(crate) fn refused_by(&mut self, series: SeriesId, limit: CountedLimit, client: Option<(IssuerName, Identity)>) {
        let client = client.map_or(LimitedClient::Unknown, |(issuer, client)| LimitedClient::Known(issuer, client));
        self.limit_refusals.count(series, limit, client);
    }

    /// A client that was authenticated in this way got a token.
    pub(crate) fn granted(&mut self, method: ClientAuthMethod) {
        *self.grants.entry(method).or_default() += 1;
    }

    /// `secret` counts from 1.
    pub(crate) fn secret_used(&mut self, client: &Identity, secret: usize, now: UnixTime) {
        match self.secrets.get_mut(&(client.clone(), secret)) {
            Some(last) => *last = now.max(*last),
            None => drop(self.secrets.insert((client.clone(), secret), now)),
        }
    }

    /// Forgets the secrets of clients that are not configured any more.
    pub(crate) fn forget_secrets(&mut self, is_configured: impl Fn(&Identity) -> bool) {
        self.secrets.retain(|(client, _), _| is_configured(client));
    }

    /// The counts under the names that the table gives them.
    pub(crate) fn report(&self, table: &SeriesTable) -> WorkerReport {
        let mut report = WorkerReport::default();
        for (number, counts) in (0..).zip(&self.series) {
            let Some(counts) = counts else { continue };
            if let Some(names) = table.names(SeriesId { number, epoch: counts.epoch }) {
                self.report_rule(names, counts, &mut report);
            }
        }
        let secrets = self.secrets.iter().map(|((client, secret), last)| {
            (SecretLabels { client: client.as_str().to_owned(), secret: *secret as u64 }, last.seconds())
        });
        report.secrets = secrets.collect();
        let grants = self.grants.iter().map(|(method, count)| (GrantLabels { auth_method: method.as_str() }, *count));
        report.grants = grants.collect();
        report.limits.extend(self.limit_refusals.iter().filter_map(|(series, limit, client, count)| {
            let names = table.names(series)?;
            let labels = LimitLabels {
                http_route: names.rule.clone(),
                limit: limit_name(names, limit),
                decision: "deny",
                oauth_client_id: client.label(),
            };
            Some((labels, count))
        }));
        report
    }

    fn report_rule(&self, names: &SeriesNames, counts: &RuleCounts, report: &mut WorkerReport) {
        let route = || names.rule.clone();
        let issuer_name = |number: u16| self.issuers.get(usize::from(number)).cloned();
        report.decisions.extend(counts.decisions.iter().map(|(key, count)| {
            let labels = DecisionLabels {
                http_route: route(),
                issuer: key.issuer.and_then(issuer_name).unwrap_or_default(),
                decision: key.decision.as_str(),
                reason: key.reason.map_or("", Reason::as_str),
            };
            (labels, *count)
        }));
        report.would_deny.extend(
            counts
                .would_deny
                .iter()
                .map(|(reason, count)| (WouldDenyLabels { http_route: route(), reason: reason.as_str() }, *count)),
        );
        report.durations.extend(counts.durations.iter().map(|(key, histogram)| {
            let labels = DurationLabels {
                http_route: route(),
                http_request_method: key.method,
                http_response_status_code: key.status,
            };
            (labels, histogram.clone())
        }));
        let of_rule = counts.allowed.iter().enumerate().map(|(place, count)| (CountedLimit::OfRule(place), count));
        let of_clients = counts.allowed_by_client_limits.iter().enumerate();
        let of_clients = of_clients.map(|(place, count)| (CountedLimit::OfClient(place), count));
        report.limits.extend(of_rule.chain(of_clients).filter(|(_, count)| **count > 0).map(|(limit, count)| {
            let labels = LimitLabels {
                http_route: route(),
                limit: limit_name(names, limit),
                decision: "allow",
                oauth_client_id: String::new(),
            };
            (labels, *count)
        }));
        let splits = counts.splits.iter().enumerate().filter(|(_, count)| **count > 0);
        report.splits.extend(splits.map(|(branch, count)| {
            let upstream = names.branches.get(branch).cloned().unwrap_or_default();
            (SplitLabels { http_route: route(), upstream }, *count)
        }));
    }
}

fn limit_name(names: &SeriesNames, limit: CountedLimit) -> String {
    match limit {
        CountedLimit::OfRule(place) => names.limits.get(place).cloned().unwrap_or_default(),
        CountedLimit::OfClient(place) => client_limit_name(place),
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
