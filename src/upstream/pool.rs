//! One worker's connections to upstreams: the one used last is used next, so that the others may idle away.
//!
//! A connection comes back only after a whole exchange, both bodies included; anything else ends it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;
use tracing::warn;

use super::balance::{Crew, Seat};
use super::body::Progress;
use super::connect::Sender;
use super::fault::{BodyFault, UpstreamFault};
use super::http2::{Multiplexed, Slot};
use super::names::Known;
use super::service::{Server, Upstream};
use crate::telemetry::chain::Chain;
use crate::telemetry::metrics::Report;

/// The pools of all servers, by their upstream's number.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    crews: RefCell<HashMap<u64, Rc<Crew>>>,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) target: Target,
    idle: RefCell<VecDeque<Idle>>,
    /// Those that carry many requests at once.
    pub(super) multiplexed: Rc<Multiplexed>,
    pub(super) sweeps: Cell<u32>,
}

/// A server to connect to: the worker's own copy, since cloning a shared one is traffic between cores.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: Arc<str>,
    pub(super) server: Server,
    pub(super) connect_timeout: Duration,
    /// Of this worker's, at once.
    pub(super) most_connections: Option<usize>,
    /// How often its addresses have changed, as the sweeps have seen it.
    pub(super) moves: Cell<u32>,
    addresses: RefCell<Known>,
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
    seat: Seat,
    progress: Rc<Progress>,
    held: Held,
}

#[derive(Debug)]
pub(super) enum Held {
    Whole {
        sender: Sender,
        /// When its request was sent.
        used: Instant,
        /// Nothing more is to come of the answer that was had, not even by mistake.
        quiet: bool,
    },
    /// One stream of a connection that others use too.
    Stream(Slot),
}

/// 15 s: below what common servers allow, so that we rarely send into a connection that is just being closed.
const IDLE_SWEEPS: u32 = 3;
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// As many as may be under way by default. Fewer would make a crowd connect anew for each request; what is not used ends soon.
const MAX_IDLE: usize = 4096;
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Pools {
    /// Ends connections that have idled for too long; runs beside the requests of its worker.
    pub(crate) async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.servers(Pool::prune);
        }
    }

    pub(crate) fn idle(&self) -> usize {
        let mut idle = 0;
        self.servers(|pool| idle += pool.idle.borrow().len() + pool.multiplexed.idle());
        idle
    }

    pub(super) fn crew(&self, upstream: &Upstream) -> Rc<Crew> {
        if let Some(crew) = self.crews.borrow().get(&upstream.number) {
            return Rc::clone(crew);
        }
        let crew = Crew::new(upstream);
        self.crews.borrow_mut().insert(upstream.number, Rc::clone(&crew));
        crew
    }

    /// Adds what was sent where.
    pub(crate) fn report(&self, report: &mut Report) {
        self.crews.borrow().values().for_each(|crew| crew.report(report));
    }

    fn servers(&self, mut each: impl FnMut(&Pool)) {
        self.crews.borrow().values().for_each(|crew| crew.members.iter().for_each(|member| each(&member.pool)));
    }
}

impl Pool {
    pub(super) fn new(upstream: &Upstream, server: &Server) -> Self {
        let target = Target {
            name: Arc::clone(&upstream.name),
            server: server.for_worker(),
            connect_timeout: upstream.settings.connect_timeout,
            most_connections: upstream.settings.caps.connections,
            moves: Cell::new(0),
            addresses: RefCell::new(server.known()),
            warned: Cell::default(),
        };
        Self { target, idle: RefCell::default(), multiplexed: Rc::default(), sweeps: Cell::new(0) }
    }

    /// With the time when it was last used.
    pub(super) fn take(&self) -> Option<(Sender, Instant)> {
        let mut idle = self.idle.borrow_mut();
        let open = std::iter::from_fn(|| idle.pop_back()).find(|idle| !idle.sender.requests.is_closed())?;
        Some((open.sender, open.used))
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

    fn prune(&self) {
        let sweep = self.sweeps.get().wrapping_add(1);
        self.sweeps.set(sweep);
        let fresh = |put_back: u32| sweep.wrapping_sub(put_back) <= IDLE_SWEEPS;
        self.target.look_for_moves();
        let server = &self.target.server;
        let is_there = |address| server.is_at(address);
        let good = |idle: &Idle| !idle.sender.requests.is_closed() && is_there(idle.sender.address);
        self.idle.borrow_mut().retain(|idle| good(idle) && fresh(idle.sweep));
        self.multiplexed.prune(sweep, fresh, is_there);
    }
}

impl Target {
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
        warn!(upstream.name = %self.name, server.address = server, "cannot connect to an upstream: {}", Chain(fault));
    }
}

impl Lease {
    pub(super) fn new(seat: Seat, progress: Rc<Progress>, held: Held) -> Self {
        Self { seat, progress, held }
    }

    /// What became of the request's body, if it could not be passed on to its end.
    pub(super) fn request_fault(&self) -> Option<BodyFault> {
        self.progress.fault.get()
    }

    pub(super) fn give_back(self) {
        match self.held {
            Held::Whole { sender, used, quiet } => {
                let whole = self.progress.finished.get() && self.progress.fault.get().is_none();
                if whole && quiet && !sender.requests.is_closed() {
                    self.seat.pool().put(sender, used);
                }
            }
            // It was never out of the pool.
            Held::Stream(slot) => drop(slot),
        }
    }
}
