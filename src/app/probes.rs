//! Data for the admin listener: readiness, the counters of all workers, the state of the issuers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::certificates::{CertificateState, Certificates};
use super::process_parts::ProcessParts;
use super::process_usage::usage;
use super::reload_status::ReloadStatus;
use super::shared_stores::SharedStores;
use crate::audit::health::Health;
use crate::clock::{self, UnixTime};
use crate::issuer::client::Client;
use crate::pipeline::routing::snapshot::{OwnIssuer, Snapshot};
use crate::pipeline::worker::ReportRequest;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::drain::{Drain, Stage};
use crate::telemetry::admin::{MetricsPage, Probes};
use crate::telemetry::metric_labels::{
    CertificateLabels, ConnectionLimitLabels, FetchLabels, IssuerLabels, SecretLabels, ServerLabels, UpstreamLabels,
    WorkerLabels,
};
use crate::telemetry::metrics::{self, Process};
use crate::telemetry::process_usage::ProcessUsage;
use crate::telemetry::static_token_times::StaticTokenTimes;
use crate::trust::introspection::Introspection;
use crate::trust::issuer::TrustedIssuer;
use crate::trust::progress::FetchResult;
use crate::trust::report::{IssuerReport, IssuersReport, KeySetState};
use crate::trust::static_tokens::StaticTokenUse;
use crate::upstream::balancing::status::ServerStatus;
use crate::upstream::server::Server;
use crate::upstream::service::Upstream;

/// The counters of a worker that does not answer in time are left out of the sum.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The parts of the process that a scrape reads.
pub(super) struct ScrapeSources {
    health: Arc<Health>,
    limiter: Arc<ConnectionLimiter>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    certificates: Certificates,
    reloads: Arc<ReloadStatus>,
    shared: SharedStores,
}

impl ScrapeSources {
    pub(super) fn of(
        parts: &ProcessParts,
        (health, snapshot, reloads): (&Arc<Health>, &Arc<ArcSwap<Snapshot>>, &Arc<ReloadStatus>),
    ) -> Self {
        Self {
            health: Arc::clone(health),
            limiter: Arc::clone(&parts.limiter),
            snapshot: Arc::clone(snapshot),
            certificates: parts.certificates.clone(),
            reloads: Arc::clone(reloads),
            shared: parts.shared.clone(),
        }
    }
}

pub(super) fn probes(drain: Drain, sources: ScrapeSources, workers: Vec<mpsc::Sender<ReportRequest>>) -> Probes {
    let ready = {
        let (health, snapshot) = (Arc::clone(&sources.health), Arc::clone(&sources.snapshot));
        let shared = sources.shared.clone();
        move || match drain.stage() {
            Stage::Serving if health.is_broken() => Err("the audit log cannot be written".to_owned()),
            Stage::Serving if !snapshot.load().trust.revocations().are_complete() => Err(shared.unknown_revocations()),
            Stage::Serving if !shared.was_database_reachable() => {
                Err("the database (`shared.postgres`) was not reachable since the start: see the log".to_owned())
            }
            Stage::Serving => Ok(out_of_reach(&snapshot.load()) + &shared.remarks()),
            Stage::Unready | Stage::Draining | Stage::Cut => Err("shutting down".to_owned()),
        }
    };
    let issuers = {
        let snapshot = Arc::clone(&sources.snapshot);
        move || issuers_page(&snapshot.load())
    };
    let config = {
        let reloads = Arc::clone(&sources.reloads);
        move || reloads.page()
    };
    let started = clock::now();
    let metrics = move || -> MetricsPage {
        let process = Process { usage: usage(started), ..process(&sources) };
        let workers = workers.clone();
        Box::pin(async move { metrics::page(collect(&workers).await, process).ok() })
    };
    Probes { ready: Arc::new(ready), issuers: Arc::new(issuers), config: Arc::new(config), metrics: Arc::new(metrics) }
}

/// One line per unreachable issuer. An unreachable issuer does not make the gateway unready, but the operator sees it.
fn out_of_reach(snapshot: &Snapshot) -> String {
    let now = Instant::now();
    let remark = |issuer: &Arc<TrustedIssuer>| {
        let is_unasked = |introspection: &Arc<Introspection>| introspection.with_status(|status| status.out_of_reach);
        let is_unreachable = issuer.introspection.as_ref().is_some_and(is_unasked);
        if !is_unreachable && !issuer.keys.with_progress(|progress| progress.out_of_reach) {
            return None;
        }
        let name = issuer.settings.name.as_str();
        Some(match KeySetState::of(issuer, now) {
            KeySetState::Local => {
                format!("the key file of issuer `{name}` cannot be used: its last good keys are used\n")
            }
            KeySetState::Own | KeySetState::Fresh | KeySetState::Stale => {
                format!("issuer `{name}` is unreachable: its last known good keys are used\n")
            }
            KeySetState::Introspected => {
                format!("issuer `{name}` gives no answers about tokens: requests with its tokens get 503\n")
            }
            KeySetState::Expired | KeySetState::Missing => {
                format!("issuer `{name}` is unreachable: requests with its tokens get 503\n")
            }
        })
    };
    snapshot.trust.issuers().iter().filter_map(remark).collect()
}

fn issuers_page(snapshot: &Snapshot) -> String {
    let now = Instant::now();
    let issuers = snapshot.trust.issuers().iter().map(|issuer| IssuerReport::of(issuer, now)).collect();
    let report = IssuersReport { config: snapshot.config.clone(), issuers };
    serde_json::to_string(&report).unwrap_or_default() + "\n"
}

async fn collect(workers: &[mpsc::Sender<ReportRequest>]) -> Vec<metrics::WorkerReport> {
    let mut reports = Vec::new();
    for worker in workers {
        let (sender, receiver) = oneshot::channel();
        let sent = timeout(REPORT_TIMEOUT, worker.send(sender)).await;
        if sent.is_ok_and(|sent| sent.is_ok())
            && let Ok(Ok(report)) = timeout(REPORT_TIMEOUT, receiver).await
        {
            reports.push(report);
        }
    }
    reports
}

fn process(sources: &ScrapeSources) -> Process {
    let ScrapeSources { health, limiter, snapshot, certificates, reloads, shared } = sources;
    let snapshot = snapshot.load();
    let (now, connections) = (Instant::now(), limiter.counts());
    let (certificate_expiry, certificate_current) = certificate_metrics(&certificates.states());
    let labels = |issuer: &TrustedIssuer| IssuerLabels { issuer: issuer.settings.name.as_str().to_owned() };
    let age = |issuer: &Arc<TrustedIssuer>| Some((labels(issuer), issuer.keys.age(now)?.as_secs_f64()));
    let remote = || snapshot.trust.issuers().iter().filter(|issuer| issuer.keys.is_remote());
    let fetches = |issuer: &Arc<TrustedIssuer>| {
        let labels = |result: FetchResult| FetchLabels { issuer: labels(issuer).issuer, result: result.as_str() };
        issuer.keys.with_progress(|progress| {
            progress.counts().map(|(result, count)| (labels(result), count)).collect::<Vec<_>>()
        })
    };
    let servers = |value: fn(&ServerStatus, u64) -> bool| {
        let of_one = |upstream: &Arc<Upstream>| -> Vec<(ServerLabels, f64)> {
            let now = upstream.millis(now);
            let server = |(server, status): (&Server, &ServerStatus)| {
                let labels = ServerLabels { upstream: upstream.name.to_string(), server: server.name().into_owned() };
                (labels, f64::from(u8::from(value(status, now))))
            };
            upstream.servers.iter().zip(&*upstream.statuses).map(server).collect()
        };
        snapshot.upstreams.iter().flat_map(of_one).collect()
    };
    let breaker = |upstream: &Arc<Upstream>| {
        let is_open = upstream.breaker.as_ref()?.is_open();
        Some((UpstreamLabels { upstream: upstream.name.to_string() }, f64::from(u8::from(is_open))))
    };
    let left_aside = snapshot.oauth.as_ref().map(|oauth| oauth.server.signing_keys_left_aside() as u64);
    Process {
        breaker_open: snapshot.upstreams.iter().filter_map(breaker).collect(),
        server_healthy: servers(|status, _| status.is_healthy()),
        server_ejected: servers(ServerStatus::is_ejected),
        connections: connections.taken,
        worker_connections: (0..)
            .zip(connections.by_worker)
            .map(|(worker, count)| (WorkerLabels { worker }, count))
            .collect(),
        connections_refused: [(ConnectionLimitLabels { limit: "connections_per_address" }, connections.refused)].into(),
        accept_failures: connections.shortages,
        limit_keys: snapshot.limit_store.keys() as u64,
        shared_store: shared.status(),
        signing_keys_left_aside: shared.database.as_ref().and(left_aside),
        database_reachable: shared.database.as_ref().map(|database| !database.is_unreachable()),
        audit_lines: health.written.load(Ordering::Relaxed),
        audit_dropped: health.dropped.load(Ordering::Relaxed),
        audit_folded: health.aggregated.load(Ordering::Relaxed),
        audit_failures: health.failures.load(Ordering::Relaxed),
        audit_broken: health.is_broken(),
        revocations: snapshot.trust.revocations().current().len() as u64,
        revocations_refused: snapshot.trust.revocations().refused(),
        jwks_age: snapshot.trust.issuers().iter().filter_map(age).collect(),
        introspections: snapshot.trust.issuers().iter().flat_map(introspections).collect(),
        jwks_fetches: remote().flat_map(fetches).collect(),
        jwks_stale_served: remote().map(|issuer| (labels(issuer), issuer.keys.stale_served())).collect(),
        certificate_expiry,
        certificate_current,
        secret_expiry: snapshot.oauth.iter().flat_map(secret_expiry).collect(),
        static_tokens: snapshot.trust.static_tokens().uses().map(static_token_times).collect(),
        reloads: reloads.counts(),
        usage: ProcessUsage::default(),
    }
}

/// By file. A file with several users is current if it is for all of them.
fn certificate_metrics(
    states: &[CertificateState],
) -> (BTreeMap<CertificateLabels, f64>, BTreeMap<CertificateLabels, u64>) {
    let (mut expiry, mut current) = (BTreeMap::new(), BTreeMap::new());
    for state in states {
        for (path, end) in &state.ends {
            let labels = CertificateLabels { file: path.display().to_string() };
            expiry.extend(end.map(|end| (labels.clone(), end.seconds() as f64)));
            let is_current = current.entry(labels).or_insert(1);
            *is_current = u64::from(state.is_current).min(*is_current);
        }
    }
    (expiry, current)
}

fn static_token_times(token: StaticTokenUse<'_>) -> StaticTokenTimes {
    StaticTokenTimes {
        name: token.name.to_owned(),
        until: token.until.seconds(),
        last_used: token.last_used.map(UnixTime::seconds),
    }
}

fn introspections(issuer: &Arc<TrustedIssuer>) -> Vec<(FetchLabels, u64)> {
    let Some(introspection) = &issuer.introspection else { return Vec::new() };
    let name = issuer.settings.name.as_str();
    introspection.with_status(|status| {
        let counts = status.counts();
        counts
            .map(|(result, count)| (FetchLabels { issuer: name.to_owned(), result: result.as_str() }, count))
            .collect()
    })
}

/// The secrets that have an end.
fn secret_expiry(oauth: &OwnIssuer) -> Vec<(SecretLabels, f64)> {
    let of_client = |client: &Client| -> Vec<(SecretLabels, f64)> {
        let labels = |secret| SecretLabels { client: client.id.as_str().to_owned(), secret };
        let ends = (1..).zip(client.credentials.expiries());
        ends.filter_map(|(number, end)| Some((labels(number), end?.seconds() as f64))).collect()
    };
    oauth.server.clients().flat_map(of_client).collect()
}
