//! One worker's connections to upstreams: the one used last is used next, so that the others may idle away.
//!
//! A connection comes back only after a whole exchange, both bodies included; anything else ends it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use http::HeaderValue;

use super::body::Progress;
use super::connect::Sender;
use super::fault::BodyFault;
use super::service::Upstream;

/// The pools of all upstreams.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_name: RefCell<HashMap<Arc<str>, Rc<Pool>>>,
}

#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<VecDeque<Idle>>,
    sweeps: Cell<u32>,
    /// The worker's own copy: cloning a shared one is traffic between cores.
    pub(super) authority: HeaderValue,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    /// The sweep that it was put back before.
    sweep: u32,
}

/// A connection in use, to be given back.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Rc<Pool>,
    sender: Sender,
    progress: Rc<Progress>,
    /// Nothing more is to come of the answer that was had, not even by mistake.
    quiet: bool,
}

/// 15 s: below what common servers allow, so that we rarely send into a connection that is just being closed.
const IDLE_SWEEPS: u32 = 3;
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const MAX_IDLE: usize = 256;

impl Pools {
    /// Ends connections that have idled for too long; runs beside the requests of its worker.
    pub(crate) async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.by_name.borrow().values().for_each(|pool| pool.prune());
        }
    }

    pub(crate) fn idle(&self) -> usize {
        self.by_name.borrow().values().map(|pool| pool.idle.borrow().len()).sum()
    }

    pub(super) fn pool(&self, upstream: &Upstream) -> Rc<Pool> {
        if let Some(pool) = self.by_name.borrow().get(&upstream.name) {
            return Rc::clone(pool);
        }
        let authority = HeaderValue::from_bytes(upstream.server.authority.as_bytes());
        let authority = authority.unwrap_or_else(|_| upstream.server.authority.clone());
        let pool = Rc::new(Pool { idle: RefCell::default(), sweeps: Cell::new(0), authority });
        self.by_name.borrow_mut().insert(Arc::clone(&upstream.name), Rc::clone(&pool));
        pool
    }
}

impl Pool {
    pub(super) fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop_back()).map(|idle| idle.sender).find(|sender| !sender.is_closed())
    }

    fn put(&self, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { sender, sweep: self.sweeps.get() });
    }

    fn prune(&self) {
        let sweep = self.sweeps.get().wrapping_add(1);
        self.sweeps.set(sweep);
        let fresh = |idle: &Idle| sweep.wrapping_sub(idle.sweep) <= IDLE_SWEEPS;
        self.idle.borrow_mut().retain(|idle| !idle.sender.is_closed() && fresh(idle));
    }
}

impl Lease {
    pub(super) fn new(pool: Rc<Pool>, sender: Sender, progress: Rc<Progress>, quiet: bool) -> Self {
        Self { pool, sender, progress, quiet }
    }

    /// What became of the request's body, if it could not be passed on to its end.
    pub(super) fn request_fault(&self) -> Option<BodyFault> {
        self.progress.fault.get()
    }

    pub(super) fn give_back(self) {
        let whole = self.progress.finished.get() && self.progress.fault.get().is_none();
        if whole && self.quiet && !self.sender.is_closed() {
            self.pool.put(self.sender);
        }
    }
}
