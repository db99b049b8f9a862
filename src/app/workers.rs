//! The workers: each is a thread with its own runtime and sockets.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::process_parts::ProcessParts;
use super::start_error::StartError;
use super::watchdog::{Heartbeat, Watchdog};
use crate::audit::ledger::{Ledger, LineSender};
use crate::pipeline::connection::{self, ListenerRuntime};
use crate::pipeline::policy::load::LoadMonitor;
use crate::pipeline::routing::snapshot::Snapshot;
use crate::pipeline::worker::{ReportRequest, Worker};
use crate::server::accept::{self, HandoffChannels, WorkerListener};
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::drain::{Drain, Shutdown, Stage};
use crate::server::inherited_sockets::QueueOwner;
use crate::server::listener::ListenerId;
use crate::server::watch::GuardSignal;
use crate::upstream::pin_limit::PinLimit;

/// The capacity of the audit queues of all workers together, in lines.
const AUDIT_LINES: usize = 8192;

/// The values that every worker needs.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) drain: Drain,
    pub(super) pin_limit: Arc<PinLimit>,
    pub(super) lines: LineSender,
    pub(super) memory_is_short: Arc<AtomicBool>,
    /// The time for connections of a listener that is removed.
    pub(super) shutdown: Arc<ArcSwap<Shutdown>>,
}

impl Plan {
    pub(super) fn new(
        snapshot: &Arc<ArcSwap<Snapshot>>,
        parts: &ProcessParts,
        drain: Drain,
        lines: &LineSender,
        shutdown: &Arc<ArcSwap<Shutdown>>,
    ) -> Self {
        Self {
            snapshot: Arc::clone(snapshot),
            limiter: Arc::clone(&parts.limiter),
            drain,
            pin_limit: Arc::default(),
            lines: lines.clone(),
            memory_is_short: Arc::clone(&parts.memory_is_short),
            shutdown: Arc::clone(shutdown),
        }
    }
}

/// One worker's socket of a listener.
#[derive(Debug)]
pub(super) struct WorkerSocket {
    pub(super) listener: ListenerId,
    pub(super) socket: TcpListener,
    pub(super) queue: QueueOwner,
    pub(super) handoff_channels: HandoffChannels,
    pub(super) runtime: Arc<ArcSwap<ListenerRuntime>>,
}

/// A change of a worker's listeners.
#[derive(Debug)]
pub(super) enum WorkerChange {
    Listen(WorkerSocket),
    /// Accepts no more connections, and drains those that are open as a shutdown does.
    Close(ListenerId),
}

pub(super) type Workers = Vec<(JoinHandle<()>, oneshot::Receiver<()>)>;

/// The ways to reach one worker.
#[derive(Clone, Debug)]
pub(super) struct WorkerHandle {
    pub(super) reports: mpsc::Sender<ReportRequest>,
    pub(super) changes: mpsc::Sender<WorkerChange>,
}

/// Changes that a worker has not made yet.
const MAX_CHANGES: usize = 64;

/// Starts one worker for each list of sockets.
pub(super) fn start(
    sockets: Vec<Vec<WorkerChange>>,
    plan: &Plan,
    mut watchdog: Option<&mut Watchdog>,
) -> Result<(Workers, Vec<WorkerHandle>), StartError> {
    let (mut workers, mut handles) = (Vec::new(), Vec::new());
    let (count, rules) = (sockets.len(), plan.snapshot.load().audit);
    for (number, first) in sockets.into_iter().enumerate() {
        let ledger_capacity = AUDIT_LINES.div_ceil(count);
        let plan = plan.clone();
        let heartbeat = watchdog.as_mut().map(|watchdog| watchdog.heartbeat());
        let (reports, report_requests) = mpsc::channel(8);
        let (changes, later) = mpsc::channel(MAX_CHANGES);
        let (ended, has_ended) = oneshot::channel();
        let runtime = move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            let ledger = Rc::new(Ledger::new(plan.lines.clone(), rules, ledger_capacity));
            runtime.block_on(work(plan, (first, later), Rc::clone(&ledger), count, (report_requests, heartbeat)));
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
        handles.push(WorkerHandle { reports, changes });
    }
    Ok((workers, handles))
}

/// Runs one worker: its listeners and its background tasks. Begins with the `first` changes.
async fn work(
    mut plan: Plan,
    (first, mut later): (Vec<WorkerChange>, mpsc::Receiver<WorkerChange>),
    ledger: Rc<Ledger>,
    workers: usize,
    (reports, heartbeat): (mpsc::Receiver<ReportRequest>, Option<Heartbeat>),
) {
    let in_flight = plan.snapshot.load().limits.share(workers).in_flight;
    let load = LoadMonitor::new(in_flight, Arc::clone(&plan.memory_is_short));
    let (snapshot, pin_limit) = (Arc::clone(&plan.snapshot), Arc::clone(&plan.pin_limit));
    let worker = Rc::new(Worker::new(snapshot, ledger, workers, load, pin_limit));
    let background_tasks =
        run_background_tasks(Rc::clone(&worker), Arc::clone(&plan.limiter), plan.drain.clone(), (reports, heartbeat));
    let background_tasks = tokio::task::spawn_local(background_tasks);
    let mut listeners = WorkerListeners { worker, all: JoinSet::new(), drains: HashMap::default() };
    first.into_iter().for_each(|change| listeners.change(change, &plan));
    // Without a listener there is nothing to wait for.
    while !listeners.all.is_empty() {
        tokio::select! {
            biased;
            () = plan.drain.reached(Stage::Draining) => break,
            Some(change) = later.recv() => listeners.change(change, &plan),
            Some(_) = listeners.all.join_next() => {}
        }
    }
    while listeners.all.join_next().await.is_some() {}
    background_tasks.abort();
}

/// The accept loops of one worker.
struct WorkerListeners {
    worker: Rc<Worker>,
    all: JoinSet<()>,
    drains: HashMap<ListenerId, watch::Sender<Stage>>,
}

impl WorkerListeners {
    fn change(&mut self, change: WorkerChange, plan: &Plan) {
        match change {
            WorkerChange::Listen(socket) => self.listen(socket, plan),
            WorkerChange::Close(listener) => self.close(listener, plan.shutdown.load().drain),
        }
    }

    fn listen(&mut self, socket: WorkerSocket, plan: &Plan) {
        let WorkerSocket { listener: id, socket, queue, handoff_channels, runtime } = socket;
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "cannot start a listener of a worker: the worker accepts no connections on it");
                return;
            }
        };
        let (stage, drain) = plan.drain.of_listener();
        self.drains.insert(id, stage);
        let worker = Rc::clone(&self.worker);
        let handshakes = Rc::clone(&worker.connections.handshakes);
        let listener = WorkerListener::new((listener, queue), handoff_channels, Arc::clone(&plan.limiter), handshakes);
        let guard = Rc::clone(&worker.connections.guard);
        let runtime = Rc::new(runtime);
        let serve = move |accepted| connection::serve(&worker, &runtime, accepted);
        self.all.spawn_local(async move {
            accept::run(listener, drain, serve).await;
            guard.remove_listener(id, None);
        });
    }

    fn close(&mut self, id: ListenerId, drain: Duration) {
        let Some(stage) = self.drains.remove(&id) else { return };
        let guard = Rc::clone(&self.worker.connections.guard);
        stage.send_replace(Stage::Draining);
        guard.remove_listener(id, Some(GuardSignal::Drain));
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = sleep(drain) => {
                    guard.remove_listener(id, Some(GuardSignal::Cut));
                    stage.send_replace(Stage::Cut);
                    // The accept loop ends a short time later.
                    stage.closed().await;
                }
                () = stage.closed() => {}
            }
        });
    }
}

/// The background tasks of a worker. Each is a separate task, so that a panic ends only one of them.
async fn run_background_tasks(
    worker: Rc<Worker>,
    limiter: Arc<ConnectionLimiter>,
    drain: Drain,
    (reports, heartbeat): (mpsc::Receiver<ReportRequest>, Option<Heartbeat>),
) {
    let mut tasks = JoinSet::new();
    tasks.spawn_local(Rc::clone(&worker.connections).run_timeouts());
    tasks.spawn_local(Rc::clone(&worker.connections).make_room(limiter));
    tasks.spawn_local(Rc::clone(&worker.connections).propagate_drain(drain));
    tasks.spawn_local(Rc::clone(&worker).monitor_load());
    tasks.spawn_local(Rc::clone(&worker).sweep_pools());
    tasks.spawn_local(Rc::clone(&worker).follow_snapshots());
    tasks.spawn_local(Rc::clone(&worker).follow_stored_clients());
    tasks.spawn_local(Rc::clone(&worker).hand_over_lines());
    tasks.spawn_local(Rc::clone(&worker).flush_aggregates());
    tasks.spawn_local(Rc::clone(&worker).report(reports));
    if let Some(heartbeat) = heartbeat {
        tasks.spawn_local(heartbeat.run());
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(died) = ended {
            tracing::error!(%died, "a background task of a worker ended because of a panic: its work is not done until a restart");
        }
    }
}
