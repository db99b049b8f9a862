//! The parts of the server that one worker's connections share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::connection_limiter::ConnectionLimiter;
use super::drain::Drain;
use super::guard::Guard;
use super::handshakes::Handshakes;
use super::limits::{Limits, WorkerLimits};
use super::protocols::Protocols;

/// One worker's connections.
#[derive(Debug)]
pub(crate) struct WorkerConnections {
    pub(crate) guard: Rc<Guard>,
    pub(crate) handshakes: Rc<Handshakes>,
    protocols: RefCell<Rc<Protocols>>,
}

/// How often a full worker closes connections to make room for new ones, and how many at most.
const MAKE_ROOM_EVERY: Duration = Duration::from_millis(100);
const MAKE_ROOM_FOR: usize = 16;

impl WorkerConnections {
    /// `tunnels`: whether any route accepts WebSocket.
    pub(crate) fn new(limits: &Limits, share: WorkerLimits, tunnels: bool) -> Rc<Self> {
        Rc::new(Self {
            guard: Guard::new(limits),
            handshakes: Handshakes::new(share.handshakes, limits.handshake_timeout),
            protocols: RefCell::new(Rc::new(Protocols::new(limits, tunnels))),
        })
    }

    /// Other limits. Those of heads and of HTTP/2 streams count for new connections, the timeouts for all.
    pub(crate) fn set_limits(&self, limits: &Limits, share: WorkerLimits, tunnels: bool) {
        self.guard.set_limits(limits);
        self.handshakes.set_limits(share.handshakes, limits.handshake_timeout);
        self.protocols.replace(Rc::new(Protocols::new(limits, tunnels)));
    }

    pub(super) fn protocols(&self) -> Rc<Protocols> {
        Rc::clone(&self.protocols.borrow())
    }

    /// Enforces the timeouts of connections. Never ends.
    pub(crate) async fn run_timeouts(self: Rc<Self>) {
        Rc::clone(&self.guard).run_timeouts().await;
    }

    /// Passes the stages of the drain on to connections. Never ends.
    pub(crate) async fn propagate_drain(self: Rc<Self>, drain: Drain) {
        let handshakes = Rc::clone(&self.handshakes).follow_drain(drain.clone());
        tokio::join!(Rc::clone(&self.guard).propagate_drain(drain), handshakes);
    }

    /// While new connections wait because the limit on all connections is reached, ends stalled handshakes and the
    /// connections that have been idle for longest: otherwise idle connections would lock all others out until they are
    /// closed for their age. Never ends.
    pub(crate) async fn make_room(self: Rc<Self>, limiter: Arc<ConnectionLimiter>) {
        loop {
            sleep(MAKE_ROOM_EVERY).await;
            if limiter.has_waiting_listeners() {
                self.handshakes.end_stalled(MAKE_ROOM_FOR);
                self.guard.end_idle(MAKE_ROOM_FOR);
            }
        }
    }
}
