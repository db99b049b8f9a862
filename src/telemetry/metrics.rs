//! Metrics in the Prometheus text format. Names are those of OpenTelemetry where it defines one.
//!
//! Each worker keeps its own counters. A scrape collects the reports of all workers, sums them and encodes the sum.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::metric_labels::{
    CertificateLabels, ConnectionLimitLabels, DecisionLabels, DurationLabels, FetchLabels, GrantLabels, IssuerLabels,
    LimitLabels, MirrorLabels, SecretLabels, ServerLabels, SplitLabels, UpstreamLabels, WorkerLabels, WouldDenyLabels,
};
use super::process_usage::ProcessUsage;
use super::reload_counts::ReloadCounts;
use super::shared_status::SharedStoreStatus;
use super::static_token_times::StaticTokenTimes;

/// Counters of one worker, or of all workers together.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerReport {
    pub(crate) decisions: Vec<(DecisionLabels, u64)>,
    pub(crate) would_deny: Vec<(WouldDenyLabels, u64)>,
    pub(crate) durations: Vec<(DurationLabels, Histogram)>,
    pub(crate) limits: Vec<(LimitLabels, u64)>,
    pub(crate) splits: Vec<(SplitLabels, u64)>,
    /// Counts by upstream and outcome.
    pub(crate) mirrored: Vec<(String, &'static str, u64)>,
    /// Time of the last token issued with each secret, in seconds since 1970.
    pub(crate) secrets: Vec<(SecretLabels, u64)>,
    /// By the way in which their clients were authenticated.
    pub(crate) grants: Vec<(GrantLabels, u64)>,
    pub(crate) server_requests: Vec<(ServerLabels, u64)>,
    pub(crate) server_in_flight: Vec<(ServerLabels, u64)>,
    pub(crate) upstream_retries: Vec<(UpstreamLabels, u64)>,
    pub(crate) cached_tokens: u64,
    pub(crate) cached_bytes: u64,
    pub(crate) token_cache_hits: u64,
    pub(crate) token_cache_misses: u64,
    pub(crate) idle_upstream_connections: u64,
    pub(crate) in_flight: u64,
    pub(crate) tunnels: u64,
}

/// Values of the whole process, read at each scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) connections: u64,
    pub(crate) worker_connections: BTreeMap<WorkerLabels, u64>,
    pub(crate) connections_refused: BTreeMap<ConnectionLimitLabels, u64>,
    pub(crate) accept_failures: u64,
    pub(crate) limit_keys: u64,
    pub(crate) shared_store: Option<SharedStoreStatus>,
    pub(crate) database_reachable: Option<bool>,
    pub(crate) signing_keys_left_aside: Option<u64>,
    pub(crate) audit_lines: u64,
    pub(crate) audit_dropped: u64,
    pub(crate) audit_folded: u64,
    pub(crate) audit_failures: u64,
    pub(crate) audit_broken: bool,
    pub(crate) revocations: u64,
    /// Refused because a limit was reached.
    pub(crate) revocations_refused: u64,
    /// 1 or 0.
    pub(crate) server_healthy: Vec<(ServerLabels, f64)>,
    pub(crate) server_ejected: Vec<(ServerLabels, f64)>,
    /// Only for upstreams with a circuit breaker.
    pub(crate) breaker_open: Vec<(UpstreamLabels, f64)>,
    /// Age of each external issuer's JWK Set, in seconds.
    pub(crate) jwks_age: Vec<(IssuerLabels, f64)>,
    pub(crate) jwks_fetches: BTreeMap<FetchLabels, u64>,
    pub(crate) introspections: BTreeMap<FetchLabels, u64>,
    /// Look-ups answered from a JWK Set older than its time to live.
    pub(crate) jwks_stale_served: BTreeMap<IssuerLabels, u64>,
    /// When each certificate ends, in seconds since 1970.
    pub(crate) certificate_expiry: BTreeMap<CertificateLabels, f64>,
    /// 1 or 0.
    pub(crate) certificate_current: BTreeMap<CertificateLabels, u64>,
    /// When each secret that has an end will end, in seconds since 1970.
    pub(crate) secret_expiry: Vec<(SecretLabels, f64)>,
    pub(crate) static_tokens: Vec<StaticTokenTimes>,
    pub(crate) reloads: ReloadCounts,
    pub(crate) usage: ProcessUsage,
}

/// A histogram in seconds, with the bucket bounds that OpenTelemetry recommends for HTTP.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

impl Histogram {
    pub(crate) fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }

    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }

    /// Counts per bucket. The encoder makes them cumulative.
    fn buckets(&self) -> Vec<(f64, u64)> {
        BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.counts).collect()
    }
}

/// The page for Prometheus.
pub(crate) fn page(reports: Vec<WorkerReport>, process: Process) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page { sum: Sum::of(reports), process }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug, Default)]
struct Sum {
    decisions: BTreeMap<DecisionLabels, u64>,
    would_deny: BTreeMap<WouldDenyLabels, u64>,
    durations: BTreeMap<DurationLabels, Histogram>,
    limits: BTreeMap<LimitLabels, u64>,
    splits: BTreeMap<SplitLabels, u64>,
    mirrored: BTreeMap<MirrorLabels, u64>,
    secrets: BTreeMap<SecretLabels, f64>,
    grants: BTreeMap<GrantLabels, u64>,
    server_requests: BTreeMap<ServerLabels, u64>,
    server_in_flight: BTreeMap<ServerLabels, f64>,
    upstream_retries: BTreeMap<UpstreamLabels, u64>,
    total: WorkerReport,
}

impl Sum {
    fn of(reports: Vec<WorkerReport>) -> Self {
        let mut sum = Self::default();
        for report in reports {
            report.decisions.into_iter().for_each(|(labels, count)| *sum.decisions.entry(labels).or_default() += count);
            let reported = report.would_deny.into_iter();
            reported.for_each(|(labels, count)| *sum.would_deny.entry(labels).or_default() += count);
            report
                .durations
                .into_iter()
                .for_each(|(labels, histogram)| sum.durations.entry(labels).or_default().add(&histogram));
            report.limits.into_iter().for_each(|(labels, count)| *sum.limits.entry(labels).or_default() += count);
            report.grants.into_iter().for_each(|(labels, count)| *sum.grants.entry(labels).or_default() += count);
            report.splits.into_iter().for_each(|(labels, count)| *sum.splits.entry(labels).or_default() += count);
            for (upstream, outcome, count) in report.mirrored {
                *sum.mirrored.entry(MirrorLabels { upstream, outcome }).or_default() += count;
            }
            for (labels, last) in report.secrets {
                let latest = sum.secrets.entry(labels).or_default();
                *latest = latest.max(last as f64);
            }
            for (labels, count) in report.server_requests {
                *sum.server_requests.entry(labels).or_default() += count;
            }
            for (labels, count) in report.server_in_flight {
                *sum.server_in_flight.entry(labels).or_default() += count as f64;
            }
            for (labels, count) in report.upstream_retries {
                *sum.upstream_retries.entry(labels).or_default() += count;
            }
            let total = &mut sum.total;
            total.cached_bytes += report.cached_bytes;
            total.cached_tokens += report.cached_tokens;
            total.token_cache_hits += report.token_cache_hits;
            total.token_cache_misses += report.token_cache_misses;
            total.idle_upstream_connections += report.idle_upstream_connections;
            total.in_flight += report.in_flight;
            total.tunnels += report.tunnels;
        }
        sum
    }

    fn tokens_issued(&self) -> u64 {
        self.decisions.iter().filter(|(labels, _)| labels.decision == "issue").map(|(_, count)| count).sum()
    }
}

#[derive(Debug)]
struct Page {
    sum: Sum,
    process: Process,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (sum, process) = (&self.sum, &self.process);
        let mut page = MetricsWriter(&mut encoder);
        page.counters("portcullis_auth_decisions", "Decisions on requests and grants", &sum.decisions)?;
        let help = "Requests that passed because their route only reports what its rule refuses";
        page.counters("portcullis_would_deny", help, &sum.would_deny)?;
        page.counters("portcullis_ratelimit_decisions", "Decisions of rate limits", &sum.limits)?;
        page.counters(
            "portcullis_split_requests",
            "Requests of a traffic split, by the upstream that served them",
            &sum.splits,
        )?;
        page.counters("portcullis_mirrored_requests", "Mirrored requests, by outcome", &sum.mirrored)?;
        page.histograms(
            "http_server_request_duration",
            "Time from the request head to the end of the response",
            &sum.durations,
        )?;
        page.counter("portcullis_tokens_issued", "Access tokens issued", sum.tokens_issued())?;
        page.counters("portcullis_grants", "Access tokens issued, by the authentication of the client", &sum.grants)?;
        page.counter("portcullis_token_cache_hits", "Tokens validated from the cache", sum.total.token_cache_hits)?;
        page.counter(
            "portcullis_token_cache_misses",
            "Tokens whose signature was verified",
            sum.total.token_cache_misses,
        )?;
        page.gauge("portcullis_token_cache_entries", "Tokens in the cache", sum.total.cached_tokens as f64)?;
        page.gauge("portcullis_token_cache_bytes", "Memory used by the token cache", sum.total.cached_bytes as f64)?;
        page.gauges(
            "portcullis_client_secret_last_used_timestamp",
            "Time of the last token issued with a client secret",
            Some(&Unit::Seconds),
            &sum.secrets,
        )?;
        page.gauges(
            "portcullis_client_secret_expiry_timestamp",
            "End of a client secret",
            Some(&Unit::Seconds),
            process.secret_expiry.iter().map(|(labels, end)| (labels, end)),
        )?;
        page.static_tokens(&process.static_tokens)?;
        page.gauge(
            "portcullis_upstream_idle_connections",
            "Idle connections to upstreams",
            sum.total.idle_upstream_connections as f64,
        )?;
        page.upstreams(sum, process)?;
        page.gauge("http_server_active_requests", "Requests in flight", sum.total.in_flight as f64)?;
        page.gauge("portcullis_tunnels", "Open WebSockets and other tunnels", sum.total.tunnels as f64)?;
        page.gauge("portcullis_connections", "Connections from clients", process.connections as f64)?;
        page.levels("portcullis_worker_connections", "Connections of each worker", &process.worker_connections)?;
        let refused = &process.connections_refused;
        page.counters("portcullis_connections_refused", "Connections refused by a limit", refused)?;
        let help = "Connections not accepted for lack of descriptors or memory";
        page.counter("portcullis_accept_failures", help, process.accept_failures)?;
        page.limits(process)?;
        page.audit_log(process)?;
        page.reloads(&process.reloads)?;
        page.certificates(process)?;
        page.trust(process)?;
        page.process(&process.usage)
    }
}

pub(super) struct MetricsWriter<'w, 'e>(&'w mut DescriptorEncoder<'e>);

impl MetricsWriter<'_, '_> {
    fn trust(&mut self, process: &Process) -> fmt::Result {
        self.gauge(
            "portcullis_revocations",
            "Active revocations of tokens, clients, subjects and issuers",
            process.revocations as f64,
        )?;
        self.counter(
            "portcullis_revocations_refused",
            "Revocations refused because the client's share, or all places, were taken",
            process.revocations_refused,
        )?;
        self.gauges(
            "portcullis_jwks_age",
            "Age of an issuer's JWK Set",
            Some(&Unit::Seconds),
            process.jwks_age.iter().map(|(labels, age)| (labels, age)),
        )?;
        let help = "Requests to an issuer's introspection endpoint";
        self.counters("portcullis_introspection_requests", help, &process.introspections)?;
        self.counters("portcullis_jwks_fetch", "Attempts to fetch an issuer's JWK Set", &process.jwks_fetches)?;
        self.counters(
            "portcullis_jwks_stale_served",
            "Look-ups answered from a JWK Set older than its time to live",
            &process.jwks_stale_served,
        )
    }

    fn certificates(&mut self, process: &Process) -> fmt::Result {
        self.gauges(
            "portcullis_certificate_expiry_timestamp",
            "Time at which the certificate of a file ends",
            Some(&Unit::Seconds),
            &process.certificate_expiry,
        )?;
        self.levels(
            "portcullis_certificate_last_reload_successful",
            "0 while a changed certificate file cannot be used",
            &process.certificate_current,
        )
    }

    fn upstreams(&mut self, sum: &Sum, process: &Process) -> fmt::Result {
        let (requests, in_flight) = (&sum.server_requests, &sum.server_in_flight);
        self.counters("portcullis_upstream_server_requests", "Requests sent to a server, retries included", requests)?;
        self.gauges("portcullis_upstream_server_in_flight", "Requests in flight at a server", None, in_flight)?;
        let healthy = process.server_healthy.iter().map(|(labels, value)| (labels, value));
        self.gauges(
            "portcullis_upstream_server_healthy",
            "1 unless the health checks of a server fail",
            None,
            healthy,
        )?;
        let ejected = process.server_ejected.iter().map(|(labels, value)| (labels, value));
        self.gauges("portcullis_upstream_server_ejected", "1 while a server is ejected", None, ejected)?;
        let open = process.breaker_open.iter().map(|(labels, value)| (labels, value));
        self.gauges(
            "portcullis_upstream_breaker_open",
            "1 while the circuit breaker is open and refuses requests",
            None,
            open,
        )?;
        self.counters("portcullis_upstream_retries", "Requests retried", &sum.upstream_retries)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauge_with_unit(name, help, None, value)
    }

    pub(super) fn gauge_with_unit(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    pub(super) fn counter_with_unit(&mut self, name: &str, help: &str, unit: &Unit, value: f64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, Some(unit), MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: &BTreeMap<L, u64>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.iter().try_for_each(|(labels, value)| ConstCounter::new(*value).encode(encoder.encode_family(labels)?))
    }

    fn levels<L: EncodeLabelSet>(&mut self, name: &str, help: &str, values: &BTreeMap<L, u64>) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values
            .iter()
            .try_for_each(|(labels, value)| ConstGauge::new(*value as f64).encode(encoder.encode_family(labels)?))
    }

    pub(super) fn gauges<'v, L: EncodeLabelSet + 'v>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (&'v L, &'v f64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        values
            .into_iter()
            .try_for_each(|(labels, value)| ConstGauge::new(*value).encode(encoder.encode_family(labels)?))
    }

    fn histograms<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: &BTreeMap<L, Histogram>,
    ) -> fmt::Result {
        let mut encoder: MetricEncoder<'_> =
            self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        values.iter().try_for_each(|(labels, histogram)| {
            let count = histogram.counts.iter().sum();
            encoder.encode_family(labels)?.encode_histogram::<NoLabelSet>(
                histogram.sum,
                count,
                &histogram.buckets(),
                None,
            )
        })
    }
}

#[cfg(test)]
mod tests;
