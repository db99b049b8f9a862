//! The workers: one thread each, with a runtime, sockets and everything else of its own.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

use super::StartError;
use crate::audit::ledger::{Ledger, LineSender};
use crate::config::types::Config;
use crate::pipeline::load::LoadMonitor;
use crate::pipeline::snapshot::Snapshot;
use crate::pipeline::worker::{ListenerRuntime, ReportRequest, Worker};
use crate::server::accept::{self, HandoffChannels, WorkerListener};
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::drain::Drain;
use crate::server::limits::WorkerLimits;
use crate::upstream::pin_limit::PinLimit;

/// Room for lines in the audit log's queues, over all workers.
const AUDIT_LINES: usize = 8192;

/// What every worker is given.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) gates: Vec<ListenerRuntime>,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) places: Arc<ConnectionLimiter>,
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
    let with_doors = |sockets: Vec<TcpListener>| sockets.into_iter().zip(accept::doors(config.workers));
    let mut sockets: Vec<_> = sockets.into_iter().map(with_doors).collect();
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
            // What is still open is dropped with the runtime, and leaves its lines.
            drop(runtime);
            ledger.finish();
            drop(ended);
            Ok::<_, io::Error>(())
        };
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            if let Err(error) = runtime() {
                tracing::error!(%error, "a worker could not start");
            }
        })?;
        workers.push((thread, has_ended));
        reports.push(report_sender);
    }
    Ok((workers, reports))
}

/// One worker's life: its listeners, and what it tends beside them.
async fn work(
    plan: Plan,
    sockets: Vec<(TcpListener, HandoffChannels)>,
    ledger: Rc<Ledger>,
    share: WorkerLimits,
    reports: mpsc::Receiver<ReportRequest>,
) {
    let pressure = LoadMonitor::new(share.in_flight, plan.memory_is_short);
    let worker = Rc::new(Worker::new(plan.snapshot, ledger, share, pressure, plan.pin_limit));
    let tending = tend(Rc::clone(&worker), Arc::clone(&plan.places), plan.drain.clone(), reports);
    let tending = tokio::task::spawn_local(tending);
    let mut listeners = tokio::task::JoinSet::new();
    for ((socket, doors), gate) in sockets.into_iter().zip(plan.gates) {
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a listener could not start");
                continue;
            }
        };
        let (worker, gate, drain) = (Rc::clone(&worker), Rc::new(gate), plan.drain.clone());
        let intake = WorkerListener::new(listener, doors, Arc::clone(&plan.places), Rc::clone(worker.handshakes()));
        let serve = move |accepted| Rc::clone(&worker).serve(Rc::clone(&gate), accepted);
        listeners.spawn_local(accept::run(intake, drain, serve));
    }
    while listeners.join_next().await.is_some() {}
    tending.abort();
}

/// What a worker does beside its requests. Each is a task of its own, so that none takes another with it.
async fn tend(
    worker: Rc<Worker>,
    places: Arc<ConnectionLimiter>,
    drain: Drain,
    reports: mpsc::Receiver<ReportRequest>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_local(Rc::clone(&worker).run_timeouts());
    tasks.spawn_local(Rc::clone(&worker).monitor_load());
    tasks.spawn_local(Rc::clone(&worker).make_room(places));
    tasks.spawn_local(Rc::clone(&worker).propagate_drain(drain));
    tasks.spawn_local(Rc::clone(&worker).sweep_pools());
    tasks.spawn_local(Rc::clone(&worker).hand_over_lines());
    tasks.spawn_local(Rc::clone(&worker).flush_aggregates());
    tasks.spawn_local(Rc::clone(&worker).report(reports));
    while let Some(ended) = tasks.join_next().await {
        if let Err(died) = ended {
            tracing::error!(%died, "a worker's own task died");
        }
    }
}
