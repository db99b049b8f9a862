//! The workers: each is a thread with its own runtime and sockets.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

use super::start_error::StartError;
use crate::audit::ledger::{Ledger, LineSender};
use crate::config::types::Config;
use crate::pipeline::connection::{self, ListenerRuntime};
use crate::pipeline::policy::load::LoadMonitor;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::pipeline::worker::{ReportRequest, Worker};
use crate::server::accept::{self, HandoffChannels, WorkerListener};
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::drain::Drain;
use crate::server::limits::WorkerLimits;
use crate::upstream::pin_limit::PinLimit;

/// The capacity of the audit queues of all workers together, in lines.
const AUDIT_LINES: usize = 8192;

/// The values that every worker needs.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) listener_runtimes: Vec<ListenerRuntime>,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) drain: Drain,
    pub(super) pin_limit: Arc<PinLimit>,
    pub(super) lines: LineSender,
    pub(super) memory_is_short: Arc<AtomicBool>,
}

pub(super) type Workers = Vec<(JoinHandle<()>, oneshot::Receiver<()>)>;

pub(super) fn start(
    config: &Config,
    sockets: Vec<Vec<TcpListener>>,
    plan: &mut Plan,
) -> Result<(Workers, Vec<mpsc::Sender<ReportRequest>>), StartError> {
    let (mut workers, mut reports) = (Vec::new(), Vec::new());
    let with_handoff_channels =
        |sockets: Vec<TcpListener>| sockets.into_iter().zip(accept::handoff_channels(config.workers));
    let mut sockets: Vec<_> = sockets.into_iter().map(with_handoff_channels).collect();
    for number in 0..config.workers {
        let mine: Vec<(TcpListener, HandoffChannels)> = sockets.iter_mut().filter_map(Iterator::next).collect();
        let ledger_capacity = AUDIT_LINES.div_ceil(config.workers);
        let share = config.limits.share(config.workers);
        let (plan, rules) = (plan.clone(), config.audit.rules);
        let (report_sender, report_requests) = mpsc::channel(8);
        let (ended, has_ended) = oneshot::channel();
        let runtime = move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            let ledger = Rc::new(Ledger::new(plan.lines.clone(), rules, ledger_capacity));
            runtime.block_on(work(plan, mine, Rc::clone(&ledger), share, report_requests));
            // Requests that are still in flight are dropped with the runtime. That records them.
            drop(runtime);
            ledger.finish();
            drop(ended);
            Ok::<_, io::Error>(())
        };
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            if let Err(error) = runtime() {
                tracing::error!(%error, "cannot start a worker: its share of the connections is not served");
            }
        })?;
        workers.push((thread, has_ended));
        reports.push(report_sender);
    }
    Ok((workers, reports))
}

/// Runs one worker: its listeners and its background tasks.
async fn work(
    plan: Plan,
    sockets: Vec<(TcpListener, HandoffChannels)>,
    ledger: Rc<Ledger>,
    share: WorkerLimits,
    reports: mpsc::Receiver<ReportRequest>,
) {
    let pressure = LoadMonitor::new(share.in_flight, plan.memory_is_short);
    let worker = Rc::new(Worker::new(plan.snapshot, ledger, share, pressure, plan.pin_limit));
    let background_tasks =
        run_background_tasks(Rc::clone(&worker), Arc::clone(&plan.limiter), plan.drain.clone(), reports);
    let background_tasks = tokio::task::spawn_local(background_tasks);
    let mut listeners = tokio::task::JoinSet::new();
    for ((socket, handoff_channels), listener_runtime) in sockets.into_iter().zip(plan.listener_runtimes) {
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "cannot start a listener of a worker: the worker accepts no connections on it");
                continue;
            }
        };
        let (worker, drain) = (Rc::clone(&worker), plan.drain.clone());
        let worker_listener = WorkerListener::new(
            listener,
            handoff_channels,
            Arc::clone(&plan.limiter),
            Rc::clone(&worker.connections.handshakes),
        );
        let serve = move |accepted| connection::serve(&worker, &listener_runtime, accepted);
        listeners.spawn_local(accept::run(worker_listener, drain, serve));
    }
    while listeners.join_next().await.is_some() {}
    background_tasks.abort();
}

/// The background tasks of a worker. Each is a separate task, so that a panic ends only one of them.
async fn run_background_tasks(
    worker: Rc<Worker>,
    limiter: Arc<ConnectionLimiter>,
    drain: Drain,
    reports: mpsc::Receiver<ReportRequest>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_local(Rc::clone(&worker.connections).run_timeouts());
    tasks.spawn_local(Rc::clone(&worker.connections).make_room(limiter));
    tasks.spawn_local(Rc::clone(&worker.connections).propagate_drain(drain));
    tasks.spawn_local(Rc::clone(&worker).monitor_load());
    tasks.spawn_local(Rc::clone(&worker).sweep_pools());
    tasks.spawn_local(Rc::clone(&worker).hand_over_lines());
    tasks.spawn_local(Rc::clone(&worker).flush_aggregates());
    tasks.spawn_local(Rc::clone(&worker).report(reports));
    while let Some(ended) = tasks.join_next().await {
        if let Err(died) = ended {
            tracing::error!(%died, "a background task of a worker ended because of a panic: its work is not done until a restart");
        }
    }
}
