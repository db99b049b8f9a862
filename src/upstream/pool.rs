//! One worker's connections to upstreams: the one used last is used next, so that the others may idle away.
//!
//! A connection comes back only after a whole exchange, both bodies included; anything else ends it. One that carries a caller's
//! identity lies here too while it is pinned, but is given to nobody but by its pin.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;
use tracing::warn;

use crate::telemetry::error_chain::ErrorChain;
use crate::telemetry::metrics::WorkerReport;
use crate::upstream::body::upload_progress::UploadProgress;
use crate::upstream::fault::UpstreamFault;
use crate::upstream::http1::connection::Sender;
use crate::upstream::http2::pool::{Multiplexed, StreamSlot};
use crate::upstream::http2::upload::Uploading;
use crate::upstream::names::KnownAddresses;
use crate::upstream::pinned::{ConnectionFate, PinLimit};
use crate::upstream::server_set::{RequestSlot, ServerSet};
use crate::upstream::service::{Server, Upstream};

/// The pools of all servers, by their upstream's number.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    crews: RefCell<HashMap<u64, Rc<ServerSet>>>,
    pub(super) pin_limit: Arc<PinLimit>,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) target: DialTarget,
    idle: RefCell<VecDeque<Idle>>,
    /// By their numbers, the oldest first.
    pinned: RefCell<BTreeMap<u64, Idle>>,
    next_pin: Cell<u64>,
    /// Those that carry many requests at once.
    pub(super) multiplexed: Rc<Multiplexed>,
    pub(super) sweeps: Cell<u32>,
}

/// A server to connect to: the worker's own copy, since cloning a shared one is traffic between cores.
#[derive(Debug)]
pub(super) struct DialTarget {
    pub(super) name: Arc<str>,
    pub(super) server: Server,
    pub(super) connect_timeout: Duration,
    /// Of this worker's, at once.
    pub(super) most_connections: Option<usize>,
    /// How often its addresses have changed, as the sweeps have seen it.
    pub(super) moves: Cell<u32>,
    addresses: RefCell<KnownAddresses>,
    warned: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    /// When its last request was sent.
    used: Instant,
    /// The sweep that it was put back before.
    sweep: u32,
}

/// A connection in use, to be given back.
#[derive(Debug)]
pub(crate) struct Lease {
    seat: RequestSlot,
    progress: Rc<UploadProgress>,
    held: HeldConnection,
}

#[derive(Debug)]
pub(super) enum HeldConnection {
    Whole {
        sender: Sender,
        /// When its request was sent.
        used: Instant,
        /// Nothing more is to come of the answer that was had, not even by mistake.
        quiet: bool,
        afterwards: ConnectionFate,
    },
    /// One stream of a connection that others use too.
    Stream(StreamSlot, Option<Uploading>),
}

/// 15 s: below what common servers allow, so that we rarely send into a connection that is just being closed.
const IDLE_SWEEPS: u32 = 3;
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// As many as may be under way by default. Fewer would make a crowd connect anew for each request; what is not used ends soon.
const MAX_IDLE: usize = 4096;
const MAX_PINNED: usize = 1024;
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Pools {
    pub(crate) fn new(pin_limit: Arc<PinLimit>) -> Self {
        Self { crews: RefCell::default(), pin_limit }
    }

    /// Ends connections that have idled for too long; runs beside the requests of its worker.
    pub(crate) async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.servers(Pool::prune);
        }
    }

    pub(crate) fn idle(&self) -> usize {
        let mut idle = 0;
        self.servers(|pool| idle += pool.idle());
        idle
    }

    pub(super) fn crew(&self, upstream: &Upstream) -> Rc<ServerSet> {
        if let Some(crew) = self.crews.borrow().get(&upstream.number) {
            return Rc::clone(crew);
        }
        let crew = ServerSet::new(upstream);
        self.crews.borrow_mut().insert(upstream.number, Rc::clone(&crew));
        crew
    }

    /// Adds what was sent where.
    pub(crate) fn report(&self, report: &mut WorkerReport) {
        self.crews.borrow().values().for_each(|crew| crew.report(report));
    }

    fn servers(&self, mut each: impl FnMut(&Pool)) {
        self.crews.borrow().values().for_each(|crew| crew.members.iter().for_each(|member| each(&member.pool)));
    }
}

impl Pool {
    pub(super) fn new(upstream: &Upstream, server: &Server) -> Self {
        let target = DialTarget {
            name: Arc::clone(&upstream.name),
            server: server.for_worker(),
            connect_timeout: upstream.settings.connect_timeout,
            most_connections: upstream.settings.caps.connections,
            moves: Cell::new(0),
            addresses: RefCell::new(server.known()),
            warned: Cell::default(),
        };
        Self {
            target,
            idle: RefCell::default(),
            pinned: RefCell::default(),
            next_pin: Cell::new(0),
            multiplexed: Rc::default(),
            sweeps: Cell::new(0),
        }
    }

    fn idle(&self) -> usize {
        self.idle.borrow().len() + self.pinned.borrow().len() + self.multiplexed.idle()
    }

    /// With the time when it was last used.
    pub(super) fn take(&self) -> Option<(Sender, Instant)> {
        let mut idle = self.idle.borrow_mut();
        let open = std::iter::from_fn(|| idle.pop_back()).find(|idle| !idle.sender.requests.is_closed())?;
        Some((open.sender, open.used))
    }

    /// Keeps a connection for whoever knows the number that this gives; `None` where it is not kept.
    pub(super) fn pin(&self, sender: Sender, used: Instant) -> Option<u64> {
        let mut pinned = self.pinned.borrow_mut();
        if sender.moves != self.target.moves.get() || pinned.len() == MAX_PINNED {
            return None;
        }
        let id = self.next_pin.get();
        self.next_pin.set(id + 1);
        pinned.insert(id, Idle { sender, used, sweep: self.sweeps.get() });
        Some(id)
    }

    pub(super) fn has_pinned(&self, id: u64) -> bool {
        self.pinned.borrow().get(&id).is_some_and(|idle| !idle.sender.requests.is_closed())
    }

    pub(super) fn take_pinned(&self, id: u64) -> Option<(Sender, Instant)> {
        let taken = self.pinned.borrow_mut().remove(&id).filter(|idle| !idle.sender.requests.is_closed())?;
        Some((taken.sender, taken.used))
    }

    /// False where there is none.
    pub(super) fn close_oldest_pinned(&self) -> bool {
        self.pinned.borrow_mut().pop_first().is_some()
    }

    fn put(&self, sender: Sender, used: Instant) {
        if sender.moves != self.target.moves.get() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { sender, used, sweep: self.sweeps.get() });
    }

    pub(super) fn prune(&self) {
        let sweep = self.sweeps.get().wrapping_add(1);
        self.sweeps.set(sweep);
        let fresh = |put_back: u32| sweep.wrapping_sub(put_back) <= IDLE_SWEEPS;
        self.target.look_for_moves();
        let server = &self.target.server;
        let is_there = |address| server.is_at(address);
        let good = |idle: &Idle| !idle.sender.requests.is_closed() && is_there(idle.sender.address);
        self.idle.borrow_mut().retain(|idle| good(idle) && fresh(idle.sweep));
        self.pinned.borrow_mut().retain(|_, idle| good(idle) && fresh(idle.sweep));
        self.multiplexed.prune(sweep, fresh, is_there);
    }
}

impl DialTarget {
    /// What is in use while the server moves is not kept afterwards.
    fn look_for_moves(&self) {
        let known = self.server.known();
        if self.addresses.replace(known.clone()) != known {
            self.moves.set(self.moves.get().wrapping_add(1));
        }
    }

    /// Why nothing gets through to a server, precisely and not too often.
    pub(super) fn warn(&self, fault: &UpstreamFault) {
        let now = Instant::now();
        if self.warned.get().is_some_and(|last| now - last < WARN_EVERY) {
            return;
        }
        self.warned.set(Some(now));
        let server = self.server.authority.to_str().unwrap_or_default();
        warn!(upstream.name = %self.name, server.address = server, "cannot connect to an upstream: {}", ErrorChain(fault));
    }
}

impl Lease {
    pub(super) fn new(seat: RequestSlot, progress: Rc<UploadProgress>, held: HeldConnection) -> Self {
        Self { seat, progress, held }
    }

    /// Of the request's body.
    pub(super) fn progress(&self) -> &UploadProgress {
        &self.progress
    }

    /// The whole answer has come. What is left of the request is not sent: over HTTP/1.1 the connection ends with it, over HTTP/2
    /// the stream.
    pub(super) fn give_back(self) {
        match self.held {
            HeldConnection::Whole { sender, .. } if !self.progress.finished.get() => sender.driver.abort(),
            HeldConnection::Whole { sender, used, quiet, afterwards } => {
                if self.progress.fault.get().is_some() || sender.requests.is_closed() {
                    return;
                }
                match afterwards {
                    ConnectionFate::Shared if quiet => self.seat.pool().put(sender, used),
                    ConnectionFate::Shared | ConnectionFate::Closed => drop(sender),
                    // What comes late reaches its own client only; and answers to HEAD belong to handshakes too.
                    ConnectionFate::Pinned(berth) => berth.keep(&self.seat, sender, used),
                }
            }
            // It was never out of the pool.
            HeldConnection::Stream(slot, uploading) => drop((uploading, slot)),
        }
    }
}
