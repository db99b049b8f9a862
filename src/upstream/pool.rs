//! One worker's connections to one server. The connection used last is used next, so that the others become idle and
//! end.
//!
//! An HTTP/1.1 connection returns only after a complete exchange, both bodies included; otherwise it is reset. A
//! connection that carries a caller's identity is kept here too while it is pinned, but is used for its pin only. It is
//! reset at its end, which a caller can bring about as often as it likes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::target::DialTarget;
use super::http1::connection::Http1Connection;
use super::http1::connection_slot::{ConnectionLimit, ConnectionSlot, NoConnectionSlot};
use super::http2::pool::Http2Pool;
use super::server::Server;
use super::settings::UpstreamSettings;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) target: Rc<DialTarget>,
    idle: RefCell<VecDeque<Idle>>,
    /// By their numbers, the oldest first.
    pinned: RefCell<BTreeMap<u64, Idle>>,
    next_pin: Cell<u64>,
    connection_limit: Rc<ConnectionLimit>,
    pub(super) http2: Rc<Http2Pool>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Http1Connection>,
    /// When its last request was sent.
    last_used: Instant,
    /// When it was put back.
    since: Instant,
}

/// How often connections are closed that were idle for too long; none of them is used before.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// As many as the default limit on requests in flight. With fewer, many concurrent requests would open a new connection
/// each.
const MAX_IDLE: usize = 4096;
const MAX_PINNED: usize = 1024;

impl Pool {
    pub(super) fn new(upstream: &Arc<str>, server: &Server, settings: &UpstreamSettings) -> Self {
        let target = Rc::new(DialTarget::new(upstream, server, settings));
        Self {
            http2: Http2Pool::new(Rc::clone(&target)),
            target,
            idle: RefCell::default(),
            pinned: RefCell::default(),
            next_pin: Cell::new(0),
            connection_limit: ConnectionLimit::new(settings.caps.connections),
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.borrow().len() + self.pinned.borrow().len() + self.http2.idle()
    }

    /// An idle connection, with the time of its last request.
    pub(super) fn take(&self, now: Instant) -> Option<(Box<Http1Connection>, Instant)> {
        let mut all = self.idle.borrow_mut();
        while let Some(mut idle) = all.pop_back() {
            if self.is_fresh(&idle, now) && idle.connection.is_usable() {
                idle.connection.write_progress.close_by_reset(true);
                return Some((idle.connection, idle.last_used));
            }
        }
        None
    }

    /// True if the limit allows no further connection.
    pub(super) fn is_full(&self) -> bool {
        self.connection_limit.is_reached()
    }

    pub(super) fn put(&self, connection: Box<Http1Connection>, last_used: Instant) {
        connection.write_progress.close_by_reset(false);
        let has_room = self.target.keep_alive.max_requests.is_none_or(|max| connection.requests < max);
        if !has_room || !self.may_keep(&connection) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, last_used, since: Instant::now() });
    }

    /// Keeps a connection, to be taken by the number that this gives; `None` if it is not kept.
    pub(super) fn pin(&self, connection: Box<Http1Connection>, last_used: Instant) -> Option<u64> {
        let mut pinned = self.pinned.borrow_mut();
        if !self.may_keep(&connection) || pinned.len() == MAX_PINNED {
            return None;
        }
        let id = self.next_pin.get();
        self.next_pin.set(id + 1);
        pinned.insert(id, Idle { connection, last_used, since: Instant::now() });
        Some(id)
    }

    pub(super) fn has_pinned(&self, id: u64) -> bool {
        let mut pinned = self.pinned.borrow_mut();
        let Some(idle) = pinned.get_mut(&id) else { return false };
        self.is_fresh(idle, Instant::now()) && idle.connection.is_usable()
    }

    pub(super) fn take_pinned(&self, id: u64) -> Option<(Box<Http1Connection>, Instant)> {
        let mut taken = self.pinned.borrow_mut().remove(&id)?;
        let is_usable = self.is_fresh(&taken, Instant::now()) && taken.connection.is_usable();
        is_usable.then_some((taken.connection, taken.last_used))
    }

    /// A slot for one more connection. If there is none, the oldest pinned connection that is not in use is closed for
    /// it.
    pub(super) fn connection_slot(&self) -> Result<Option<ConnectionSlot>, NoConnectionSlot> {
        self.connection_limit.acquire().or_else(|full| {
            drop(self.pinned.borrow_mut().pop_first().ok_or(full)?);
            self.connection_limit.acquire()
        })
    }

    /// Closes connections that were idle for too long or whose address no longer belongs to the server.
    pub(super) fn sweep(&self, now: Instant) {
        self.target.check_addresses();
        let server = &self.target.server;
        let is_current = |address| server.is_at(address);
        let is_usable = |idle: &mut Idle| {
            idle.connection.release_buffers();
            is_current(idle.connection.address) && self.is_fresh(idle, now) && idle.connection.is_usable()
        };
        self.idle.borrow_mut().retain_mut(is_usable);
        self.pinned.borrow_mut().retain(|_, idle| is_usable(idle));
        self.http2.sweep(now, is_current);
    }

    /// False if the server has other addresses now, or closes the connection too soon for another request.
    fn may_keep(&self, connection: &Http1Connection) -> bool {
        connection.address_changes == self.target.address_changes.get() && !self.max_idle(connection).is_zero()
    }

    fn is_fresh(&self, idle: &Idle, now: Instant) -> bool {
        now.saturating_duration_since(idle.since) < self.max_idle(&idle.connection)
    }

    /// The server's own time counts if it is shorter than the configured one.
    fn max_idle(&self, connection: &Http1Connection) -> Duration {
        let configured = self.target.keep_alive.idle;
        connection.announced_idle.map_or(configured, |announced| announced.min(configured))
    }
}
