//! One worker: a thread, a runtime, and everything that its requests share and no other thread sees.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::HashSet;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::answer::mirror::Mirrors;
use super::policy::current_snapshot::CurrentSnapshot;
use super::policy::load::LoadMonitor;
use super::policy::open_streams::OpenStreams;
use super::policy::tunnels::Tunnels;
use super::record::recorder::Recorder;
use super::request::in_flight::InFlightByAddress;
use super::routing::snapshot::Snapshot;
use crate::audit::ledger::Ledger;
use crate::server::worker_connections::WorkerConnections;
use crate::telemetry::metrics::WorkerReport;
use crate::upstream::pin_limit::PinLimit;
use crate::upstream::pools::Pools;

/// Asks a worker for its counts.
pub(crate) type ReportRequest = oneshot::Sender<WorkerReport>;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) current: Rc<CurrentSnapshot>,
    pub(crate) recorder: Rc<Recorder>,
    pub(crate) in_flight: Rc<InFlightByAddress>,
    pub(crate) tunnels: Rc<Tunnels>,
    pub(crate) streams: Rc<OpenStreams>,
    pub(crate) pools: Rc<Pools>,
    pub(crate) mirrors: Rc<Mirrors>,
    pub(crate) connections: Rc<WorkerConnections>,
    /// Their number, over which limits of the process are spread.
    workers: usize,
}

/// How often a worker looks for a new snapshot, whether it has requests or not.
const FOLLOW_EVERY: Duration = Duration::from_millis(50);
/// The time until clients that could not be looked up are looked up again.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);

impl Worker {
    pub(crate) fn new(
        published: Arc<ArcSwap<Snapshot>>,
        ledger: Rc<Ledger>,
        workers: usize,
        load: LoadMonitor,
        pin_limit: Arc<PinLimit>,
    ) -> Self {
        let snapshot = published.load_full();
        let share = snapshot.limits.share(workers);
        let connections = WorkerConnections::new(&snapshot.limits, share, has_websocket(&snapshot));
        Self {
            recorder: Rc::new(Recorder::new(ledger, load, Rc::clone(&connections.guard))),
            in_flight: InFlightByAddress::new(share.in_flight_per_address),
            tunnels: Tunnels::new(share.tunnels, share.tunnels_per_address),
            streams: OpenStreams::new(),
            pools: Rc::new(Pools::new(pin_limit)),
            mirrors: Rc::default(),
            connections,
            current: Rc::new(CurrentSnapshot::new(published)),
            workers,
        }
    }

    /// Follows the published snapshot: the limits that the worker holds itself, its open streams, and the pools and
    /// tokens that no request uses any more. Never ends.
    pub(crate) async fn follow_snapshots(self: Rc<Self>) {
        let (mut applied, mut has_former_pools) = (self.current.generation(), false);
        loop {
            sleep(FOLLOW_EVERY).await;
            let snapshot = self.current.get();
            if applied != self.current.generation() {
                applied = self.current.generation();
                has_former_pools = true;
                self.apply(&snapshot);
                self.streams.recheck(&snapshot).await;
            }
            self.current.remove_former_tokens();
            if has_former_pools {
                let current: HashSet<u64> = snapshot.upstreams.iter().map(|upstream| upstream.number).collect();
                has_former_pools = !self.pools.retire(|number| current.contains(&number));
            }
        }
    }

    /// Judges open streams again when their clients in the database have changed. Never ends.
    pub(crate) async fn follow_stored_clients(self: Rc<Self>) {
        let mut judged = None;
        loop {
            sleep(FOLLOW_EVERY).await;
            let snapshot = self.current.get();
            let stored = snapshot.oauth.as_ref().and_then(|oauth| oauth.server.stored_clients());
            let version = stored.map(|stored| stored.version());
            if judged == version && !self.streams.has_due_client() {
                continue;
            }
            judged = version;
            if self.streams.recheck_clients(&snapshot).await.is_err() {
                sleep(LOOK_UP_AGAIN).await;
            }
        }
    }

    fn apply(&self, snapshot: &Snapshot) {
        let share = snapshot.limits.share(self.workers);
        self.recorder.load.set_max(share.in_flight);
        self.recorder.ledger.set_rules(snapshot.audit);
        self.in_flight.set_max(share.in_flight_per_address);
        self.tunnels.set_max(share.tunnels, share.tunnels_per_address);
        self.connections.set_limits(&snapshot.limits, share, has_websocket(snapshot));
    }

    /// Accepts fewer requests while the event loop lags.
    pub(crate) async fn monitor_load(self: Rc<Self>) {
        self.recorder.load.run_timeouts().await;
    }

    /// Closes idle upstream connections.
    pub(crate) async fn sweep_pools(self: Rc<Self>) {
        Rc::clone(&self.pools).sweep().await;
    }

    /// Hands audit lines to the writer.
    pub(crate) async fn hand_over_lines(self: Rc<Self>) {
        Rc::clone(&self.recorder.ledger).hand_over().await;
    }

    /// Writes the lines that sum up refusals too frequent for a line each.
    pub(crate) async fn flush_aggregates(self: Rc<Self>) {
        Rc::clone(&self.recorder.ledger).flush_aggregates().await;
    }

    /// Answers requests for counts until all their senders are gone.
    pub(crate) async fn report(self: Rc<Self>, mut requests: mpsc::Receiver<ReportRequest>) {
        while let Some(request) = requests.recv().await {
            // A requester that has stopped waiting needs no answer.
            let _ = request.send(self.counts());
        }
    }

    fn counts(&self) -> WorkerReport {
        let snapshot = self.current.get();
        let mut report = WorkerReport {
            idle_upstream_connections: self.pools.idle() as u64,
            in_flight: self.recorder.load.in_flight() as u64,
            mirrored: self.mirrors.counts(),
            tunnels: self.tunnels.open() as u64,
            ..self.recorder.metrics(|metrics| {
                let server = snapshot.oauth.as_ref().map(|oauth| &oauth.server);
                metrics.forget_secrets(|client| server.is_some_and(|server| server.has_client(client)));
                metrics.report(&snapshot.series)
            })
        };
        self.current.report(&mut report);
        self.pools.report(&mut report);
        report
    }
}

/// Whether HTTP/2 clients are told of WebSocket.
fn has_websocket(snapshot: &Snapshot) -> bool {
    snapshot.routes.routes().iter().any(|route| route.upgrades.has_websocket())
}
