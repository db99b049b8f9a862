//! One worker's HTTP/2 connections to one server: a few, with many requests on each.
//!
//! A connection is used once its peer has sent its limit on streams, and never beyond that limit. While all connections
//! are full, requests wait for a stream in the order of their arrival, in limited number and until their deadline.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Request;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::connect::target::DialTarget;
use super::super::connect::write_progress::WriteProgress;
use super::super::fault::UpstreamFault;
use super::super::tls_fault::TlsFault;
use super::connection::{Connection, OpenConnections};

#[derive(Debug)]
pub(crate) struct Http2Pool {
    pub(super) target: Rc<DialTarget>,
    connections: RefCell<Vec<Rc<Connection>>>,
    pub(super) is_opening: Cell<bool>,
    pub(super) open: Rc<OpenConnections>,
    /// Requests that wait for a stream.
    waiting: Cell<usize>,
    failures: Cell<u64>,
    last_failure: RefCell<Option<OpenFailure>>,
}

/// A stream on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    pool: Rc<Http2Pool>,
    connection: Rc<Connection>,
    /// The mark of [`Liveness`](super::liveness::Liveness) while a response is awaited from the peer.
    awaiting_since: Cell<Option<u64>>,
}

#[derive(Debug)]
struct OpenFailure {
    at: Instant,
    /// `None` after a timeout.
    error: Option<ConnectError>,
}

/// An error of connecting, for several requests.
#[derive(Debug)]
enum ConnectError {
    Tls(TlsFault),
    Other(io::ErrorKind, String),
}

/// A waiting request, counted until it is dropped.
struct WaitingForStream<'m>(&'m Http2Pool);

const MAX_CONNECTIONS: usize = 8;
/// Requests that wait for a stream.
const MAX_WAITING: usize = 1024;
/// After a failed attempt to open one more connection while others are in use.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Http2Pool {
    pub(crate) fn new(target: Rc<DialTarget>) -> Rc<Self> {
        Rc::new(Self {
            target,
            connections: RefCell::default(),
            is_opening: Cell::default(),
            open: Rc::default(),
            waiting: Cell::default(),
            failures: Cell::default(),
            last_failure: RefCell::default(),
        })
    }

    /// A stream for one request; waits for it if necessary.
    pub(crate) async fn acquire(pool: &Rc<Self>, deadline: Instant) -> Result<StreamSlot, UpstreamFault> {
        if pool.waiting.get() == 0
            && let Some(slot) = pool.take()
        {
            return Ok(slot);
        }
        let _waiting = WaitingForStream::begin(pool)?;
        let failures = pool.failures.get();
        loop {
            let mut changed = std::pin::pin!(pool.open.changed.notified());
            changed.as_mut().enable();
            if let Some(slot) = pool.take() {
                return Ok(slot);
            }
            if pool.connections.borrow().is_empty() && pool.failures.get() != failures {
                return Err(pool.failure());
            }
            Self::open_another(pool);
            if timeout_at(deadline, changed).await.is_err() {
                return Err(pool.wait_fault(failures));
            }
        }
    }

    /// No new request uses the connection: it may be dead.
    fn retire(&self, connection: &Rc<Connection>) {
        self.connections.borrow_mut().retain(|kept| !Rc::ptr_eq(kept, connection));
        self.open.changed.notify_waiters();
    }

    pub(crate) fn idle(&self) -> usize {
        self.connections.borrow().iter().filter(|connection| connection.state.streams.get() == 0).count()
    }

    /// Closes connections that were idle for too long, and retires those whose address no longer belongs to the server.
    pub(crate) fn sweep(&self, now: Instant, is_current: impl Fn(Option<IpAddr>) -> bool) {
        self.connections.borrow_mut().retain(|connection| {
            let is_used_up = connection.is_used_up(&self.target.keep_alive, || now);
            !connection.state.has_ended.get() && !is_used_up && is_current(connection.address)
        });
    }

    /// The first connection with a free stream, so that the others become idle and end.
    fn take(self: &Rc<Self>) -> Option<StreamSlot> {
        let mut connections = self.connections.borrow_mut();
        let is_usable = |connection: &Connection| {
            !connection.state.has_ended.get()
                && !connection.is_going_away()
                && !connection.is_used_up(&self.target.keep_alive, Instant::now)
        };
        connections.retain(|connection| is_usable(connection));
        let connection = connections.iter().find(|connection| connection.has_free_stream())?;
        Some(StreamSlot::new(Rc::clone(self), Rc::clone(connection)))
    }

    fn open_another(pool: &Rc<Self>) {
        let in_use = pool.connections.borrow().len();
        let is_full =
            in_use >= MAX_CONNECTIONS || pool.target.max_connections.is_some_and(|max| pool.open.count.get() >= max);
        let failed_lately = || pool.last_failure.borrow().as_ref().is_some_and(|last| last.at.elapsed() < RETRY_AFTER);
        if pool.is_opening.get() || is_full || (in_use > 0 && failed_lately()) {
            return;
        }
        pool.is_opening.set(true);
        let pool = Rc::clone(pool);
        // A task of its own: the request that needs the connection may be cancelled, and others wait for it too.
        tokio::task::spawn_local(async move {
            let target = &pool.target;
            let opening = Connection::open(target, &pool.open);
            let opened = timeout(target.connect_timeout, opening).await;
            let opened =
                opened.map_err(|_| UpstreamFault::Timeout).and_then(|opened| opened.map_err(UpstreamFault::Connect));
            pool.is_opening.set(false);
            match opened.inspect_err(|fault| target.warn(fault)) {
                Ok(connection) => {
                    connection.state.write_progress.close_by_reset(false);
                    pool.connections.borrow_mut().push(connection);
                }
                Err(fault) => pool.record_failure(&fault),
            }
            pool.open.changed.notify_waiters();
        });
    }

    /// The fault of a request that has waited until its deadline. A server that serves others is not to blame for the
    /// queue.
    fn wait_fault(&self, failures_before: u64) -> UpstreamFault {
        let is_unreachable = self.is_opening.get() && self.connections.borrow().is_empty();
        let has_failed = self.failures.get() != failures_before;
        if is_unreachable || has_failed { UpstreamFault::Timeout } else { UpstreamFault::Full }
    }

    fn record_failure(&self, fault: &UpstreamFault) {
        let error = match fault {
            UpstreamFault::Connect(error) => Some(ConnectError::of(error)),
            UpstreamFault::Timeout
            | UpstreamFault::Full
            | UpstreamFault::Open
            | UpstreamFault::Protocol(_)
            | UpstreamFault::Unasked(_)
            | UpstreamFault::Length
            | UpstreamFault::Reset(_)
            | UpstreamFault::RequestBody(_) => None,
        };
        self.failures.set(self.failures.get().wrapping_add(1));
        *self.last_failure.borrow_mut() = Some(OpenFailure { at: Instant::now(), error });
    }

    /// The last failure, for each of the waiting requests.
    fn failure(&self) -> UpstreamFault {
        match self.last_failure.borrow().as_ref().and_then(|last| last.error.as_ref()) {
            Some(error) => UpstreamFault::Connect(error.again()),
            None => UpstreamFault::Timeout,
        }
    }
}

impl ConnectError {
    fn of(error: &io::Error) -> Self {
        match TlsFault::within(error) {
            Some(fault) => Self::Tls(fault.clone()),
            None => Self::Other(error.kind(), error.to_string()),
        }
    }

    fn again(&self) -> io::Error {
        match self {
            Self::Tls(fault) => fault.clone().into_io(),
            Self::Other(kind, text) => io::Error::new(*kind, text.clone()),
        }
    }
}

impl StreamSlot {
    /// Counts one more stream on the connection.
    pub(super) fn new(pool: Rc<Http2Pool>, connection: Rc<Connection>) -> Self {
        connection.state.begin_stream();
        Self { pool, connection, awaiting_since: Cell::default() }
    }

    pub(super) fn send_head(
        &self,
        head: Request<()>,
        is_complete: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.connection.sender.borrow_mut().send_request(head, is_complete)
    }

    /// Whether a response is due from the peer.
    pub(super) fn set_awaiting_response(&self, is_awaiting: bool) {
        match (is_awaiting, self.awaiting_since.get()) {
            (true, None) => self.awaiting_since.set(Some(self.connection.state.liveness.await_response())),
            (false, Some(_)) => self.awaiting_since.set(None),
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Of the connection.
    pub(super) fn write_progress(&self) -> &Rc<WriteProgress> {
        &self.connection.state.write_progress
    }

    /// No new request uses the connection.
    pub(crate) fn retire_connection(&self) {
        self.pool.retire(&self.connection);
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let state = &self.connection.state;
        state.end_stream();
        if self.awaiting_since.get().is_some_and(|mark| state.liveness.is_silent_since(mark)) {
            self.retire_connection();
        }
        self.pool.open.changed.notify_one();
    }
}

impl<'m> WaitingForStream<'m> {
    fn begin(pool: &'m Http2Pool) -> Result<Self, UpstreamFault> {
        let waiting = pool.waiting.get();
        if waiting == MAX_WAITING {
            return Err(UpstreamFault::Full);
        }
        pool.waiting.set(waiting + 1);
        Ok(Self(pool))
    }
}

impl Drop for WaitingForStream<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}
