//! One worker: a thread, a runtime, and everything that its requests share and no other thread sees.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::answer::mirror::Mirrors;
use super::policy::current_snapshot::CurrentSnapshot;
use super::policy::load::LoadMonitor;
use super::policy::tunnels::Tunnels;
use super::record::recorder::Recorder;
use super::request::in_flight::InFlightByAddress;
use super::routing::snapshot::Snapshot;
use crate::audit::ledger::Ledger;
use crate::server::connection::Protocols;
use crate::server::connection_limiter::ConnectionLimiter;
use crate::server::drain::Drain;
use crate::server::guard::Guard;
use crate::server::handshakes::Handshakes;
use crate::server::limits::WorkerLimits;
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
    pub(crate) pools: Rc<Pools>,
    pub(crate) mirrors: Rc<Mirrors>,
    pub(crate) guard: Rc<Guard>,
    pub(crate) handshakes: Rc<Handshakes>,
    pub(crate) protocols: Protocols,
}

/// How often a full worker closes connections to make room for new ones, and how many at most.
const MAKE_ROOM_EVERY: Duration = Duration::from_millis(100);
const MAKE_ROOM_FOR: usize = 16;

impl Worker {
    pub(crate) fn new(
        published: Arc<ArcSwap<Snapshot>>,
        ledger: Rc<Ledger>,
        share: WorkerLimits,
        load: LoadMonitor,
        pin_limit: Arc<PinLimit>,
    ) -> Self {
        let snapshot = published.load_full();
        let limits = &snapshot.limits;
        let has_websocket = snapshot.routes.routes().iter().any(|route| route.upgrades.has_websocket());
        let guard = Guard::new(limits);
        Self {
            recorder: Rc::new(Recorder::new(ledger, load, Rc::clone(&guard))),
            in_flight: InFlightByAddress::new(share.in_flight_per_address),
            tunnels: Tunnels::new(share.tunnels, share.tunnels_per_address),
            pools: Rc::new(Pools::new(pin_limit)),
            mirrors: Rc::default(),
            guard,
            handshakes: Handshakes::new(share.handshakes, limits.handshake_timeout),
            protocols: Protocols::new(limits, has_websocket),
            current: Rc::new(CurrentSnapshot::new(published)),
        }
    }

    /// Enforces the timeouts of connections.
    pub(crate) async fn run_timeouts(self: Rc<Self>) {
        Rc::clone(&self.guard).run_timeouts().await;
    }

    /// Accepts fewer requests while the event loop lags.
    pub(crate) async fn monitor_load(self: Rc<Self>) {
        self.recorder.load.run_timeouts().await;
    }

    /// Passes the stages of the drain on to connections.
    pub(crate) async fn propagate_drain(self: Rc<Self>, drain: Drain) {
        let handshakes = Rc::clone(&self.handshakes).follow_drain(drain.clone());
        tokio::join!(Rc::clone(&self.guard).propagate_drain(drain), handshakes);
    }

    /// While new connections wait because the limit on all connections is reached, ends stalled handshakes and the connections that have
    /// been idle for longest: otherwise idle connections would lock all others out until they are closed for their age.
    pub(crate) async fn make_room(self: Rc<Self>, connections: Arc<ConnectionLimiter>) {
        loop {
            sleep(MAKE_ROOM_EVERY).await;
            if connections.has_waiting_listeners() {
                self.handshakes.end_stalled(MAKE_ROOM_FOR);
                self.guard.end_idle(MAKE_ROOM_FOR);
            }
        }
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
            ..self.recorder.metrics(|metrics| metrics.report(&snapshot))
        };
        self.current.report(&mut report);
        self.pools.report(&mut report);
        report
    }
}
