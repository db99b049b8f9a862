//! What the admin listener is told: readiness, and the counts of all workers.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::audit::ledger::Health;
use crate::pipeline::snapshot::Snapshot;
use crate::pipeline::worker::ReportRequest;
use crate::server::drain::{Drain, Stage};
use crate::server::places::Places;
use crate::telemetry::admin::{self, Probes};
use crate::telemetry::metrics::{self, IssuerLabels, Process};
use crate::trust::issuer::TrustedIssuer;

/// A worker that does not answer by then is left out of the sum.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn probes(
    drain: Drain,
    health: Arc<Health>,
    places: Arc<Places>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    workers: Vec<mpsc::Sender<ReportRequest>>,
) -> Probes {
    let ready = {
        let health = Arc::clone(&health);
        move || match drain.stage() {
            Stage::Serving if health.is_broken() => Err("the audit log can't be written"),
            Stage::Serving => Ok(()),
            Stage::Unready | Stage::Draining | Stage::Cut => Err("shutting down"),
        }
    };
    let metrics = move || -> admin::MetricsPage {
        let process = process(&health, &places, &snapshot.load());
        let workers = workers.clone();
        Box::pin(async move { metrics::page(collect(&workers).await, process).ok() })
    };
    Probes { ready: Arc::new(ready), metrics: Arc::new(metrics) }
}

async fn collect(workers: &[mpsc::Sender<ReportRequest>]) -> Vec<metrics::Report> {
    let mut reports = Vec::new();
    for worker in workers {
        let (sender, receiver) = oneshot::channel();
        let asked = timeout(REPORT_TIMEOUT, worker.send(sender)).await;
        if asked.is_ok_and(|sent| sent.is_ok())
            && let Ok(Ok(report)) = timeout(REPORT_TIMEOUT, receiver).await
        {
            reports.push(report);
        }
    }
    reports
}

fn process(health: &Health, places: &Places, snapshot: &Snapshot) -> Process {
    let (now, connections) = (tokio::time::Instant::now(), places.counts());
    let age = |issuer: &Arc<TrustedIssuer>| {
        let labels = IssuerLabels { issuer: issuer.settings.name.as_str().to_owned() };
        Some((labels, issuer.keys.age(now)?.as_secs_f64()))
    };
    Process {
        connections: connections.taken,
        connections_refused: connections.refused,
        accept_failures: connections.shortages,
        limit_keys: snapshot.all_limits().map(|limit| limit.keys() as u64).sum(),
        audit_lines: health.written.load(Ordering::Relaxed),
        audit_dropped: health.dropped.load(Ordering::Relaxed),
        audit_failures: health.failures.load(Ordering::Relaxed),
        audit_broken: health.is_broken(),
        jwks_age: snapshot.trust.issuers().iter().filter_map(age).collect(),
    }
}

pub(super) async fn serve_admin(listener: TcpListener, probes: Probes) {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => admin::serve(listener, probes).await,
        Err(error) => tracing::error!(%error, "the admin listener could not start"),
    }
}
