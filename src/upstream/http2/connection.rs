//! An HTTP/2 connection to a server, and the task that drives it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::super::connect::open::open;
use super::super::connect::stream::WriteTolerantStream;
use super::super::connect::target::DialTarget;
use super::super::connect::write_progress::WriteProgress;
use super::super::settings::KeepAlive;
use super::super::tls_fault::TlsFault;
use super::liveness::{ActivityTracked, Liveness};
use crate::http1::request_head::HeadLimits;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: RefCell<SendRequest<Bytes>>,
    pub(super) state: Rc<ConnectionState>,
    /// Of the server, if it has one.
    pub(super) address: Option<IpAddr>,
}

/// Shared by a connection's driver and its users.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    /// Open streams.
    pub(super) streams: Cell<usize>,
    /// The peer's limit on them; 0 before it has sent its settings.
    max_streams: Cell<usize>,
    pub(super) has_ended: Cell<bool>,
    /// Requests so far.
    requests: Cell<u32>,
    /// Since when it has no open stream, if it has none.
    idle_since: Cell<Option<Instant>>,
    has_settings: Notify,
    pub(super) liveness: Rc<Liveness>,
    pub(super) write_progress: Rc<WriteProgress>,
}

/// The open connections of a pool.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    /// Those included that take no more requests, and dedicated ones.
    pub(super) count: Cell<usize>,
    /// A stream or a connection may be available, or an attempt to connect has failed.
    pub(super) changed: Notify,
}

/// On one connection, whatever the peer allows: the connection's window suffices for all of them.
const MAX_STREAMS: usize = 128;
/// Reset streams that are remembered, so that late frames for them are recognised.
const MAX_RESET_STREAMS: usize = 1024;
/// The bytes of a response that a server may send before the client has taken them.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The sum of all streams' windows: a client that does not read blocks no other.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;
const MAX_FRAME: u32 = 64 * 1024;
const TICK: Duration = Duration::from_secs(20);
/// A ping every 320 s, to be answered within a tick. gRPC servers take clients that ping more often than every 5 min
/// for attackers.
const TICKS_TO_PING: u32 = 16;

impl Connection {
    /// Connects and waits for the peer's settings: a peer that does not speak HTTP/2 is detected here.
    pub(super) async fn open(target: &DialTarget, open_connections: &Rc<OpenConnections>) -> io::Result<Rc<Self>> {
        let (stream, address) = open(&target.server).await?;
        let state = Rc::new(ConnectionState::default());
        // Until it is shared.
        state.write_progress.close_by_reset(true);
        let stream = ActivityTracked {
            stream: WriteTolerantStream::new(stream, Rc::clone(&state.write_progress)),
            liveness: Rc::clone(&state.liveness),
        };
        let (sender, mut connection) =
            client_settings(&target.head_limits).handshake(stream).await.map_err(not_http2)?;
        state.idle_since.set(Some(Instant::now()));
        let driver = Driver {
            pings: connection.ping_pong(),
            connection,
            state: Rc::clone(&state),
            open_connections: Rc::clone(open_connections),
            ticks: ticks(),
            ticks_to_ping: TICKS_TO_PING,
            awaits_pong: false,
        };
        open_connections.count.update(|count| count + 1);
        let (end_sender, end) = oneshot::channel();
        tokio::task::spawn_local(drive(driver, end_sender));
        tokio::select! {
            () = state.has_settings.notified() => Ok(Rc::new(Self { sender: RefCell::new(sender), state, address })),
            end = end => match end {
                Ok(Err(error)) => Err(state.liveness.tls_fault().map_or_else(|| not_http2(error), TlsFault::into_io)),
                Ok(Ok(())) | Err(_) => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server closed the connection before it sent its HTTP/2 settings",
                )),
            },
        }
    }

    pub(super) fn has_free_stream(&self) -> bool {
        self.state.streams.get() < self.state.max_streams.get() && matches!(self.poll_ready(), Poll::Ready(Ok(())))
    }

    /// It was idle for too long, or had as many requests as it may have.
    pub(super) fn is_used_up(&self, rules: &KeepAlive, now: impl FnOnce() -> Instant) -> bool {
        let is_idle_too_long = |since| now().saturating_duration_since(since) >= rules.idle;
        rules.max_requests.is_some_and(|max| self.state.requests.get() >= max)
            || self.state.idle_since.get().is_some_and(is_idle_too_long)
    }

    /// It may open no new streams, or has failed.
    pub(super) fn is_going_away(&self) -> bool {
        matches!(self.poll_ready(), Poll::Ready(Err(_)))
    }

    fn poll_ready(&self) -> Poll<Result<(), h2::Error>> {
        self.sender.borrow_mut().poll_ready(&mut Context::from_waker(Waker::noop()))
    }
}

impl ConnectionState {
    pub(super) fn begin_stream(&self) {
        self.streams.update(|streams| streams + 1);
        self.requests.update(|requests| requests.saturating_add(1));
        self.idle_since.set(None);
    }

    pub(super) fn end_stream(&self) {
        self.streams.update(|streams| streams.saturating_sub(1));
        if self.streams.get() == 0 {
            self.idle_since.set(Some(Instant::now()));
        }
    }
}

fn client_settings(limits: &HeadLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // No stream before the peer's settings: a request that it would refuse is not sent.
        .initial_max_send_streams(0)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        // Responses to callers that have gone arrive for reset streams. That is no reason to close the connection of
        // all others.
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_header_list_size(limits.header_list_bytes());
    builder
}

fn not_http2(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::Other.into());
    }
    io::Error::new(io::ErrorKind::InvalidData, format!("the server does not speak HTTP/2: {error}"))
}

fn ticks() -> Interval {
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Users of a stream get the end of the connection there; the one that still waits for the settings gets it by
/// `end_sender`.
async fn drive(mut driver: Driver, end_sender: oneshot::Sender<Result<(), h2::Error>>) {
    let end = (&mut driver).await;
    driver.state.has_ended.set(true);
    let open_connections = Rc::clone(&driver.open_connections);
    drop(driver);
    open_connections.changed.notify_waiters();
    let _ = end_sender.send(end);
}

/// Moves a connection's bytes, follows its peer's limit on streams, and detects a dead peer by pings.
struct Driver {
    connection: h2::client::Connection<ActivityTracked<WriteTolerantStream>, Bytes>,
    pings: Option<PingPong>,
    state: Rc<ConnectionState>,
    open_connections: Rc<OpenConnections>,
    ticks: Interval,
    ticks_to_ping: u32,
    awaits_pong: bool,
}

impl Future for Driver {
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if let Poll::Ready(end) = Pin::new(&mut this.connection).poll(context) {
                return Poll::Ready(end);
            }
            this.update_max_streams();
            if this.awaits_pong && this.poll_pong(context).is_ready() {
                this.awaits_pong = false;
            }
            if this.ticks.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
            if this.awaits_pong {
                // The peer is dead. Dropping the connection ends its streams.
                return Poll::Ready(Ok(()));
            }
            this.tick();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.open_connections.count.update(|count| count - 1);
    }
}

impl Driver {
    fn update_max_streams(&self) {
        let limit = self.connection.max_concurrent_send_streams().min(MAX_STREAMS);
        let before = self.state.max_streams.replace(limit);
        if limit > before {
            self.state.has_settings.notify_one();
            self.open_connections.changed.notify_waiters();
        }
    }

    fn tick(&mut self) {
        self.ticks_to_ping = if self.state.streams.get() == 0 { TICKS_TO_PING } else { self.ticks_to_ping - 1 };
        if self.ticks_to_ping == 0 {
            self.ticks_to_ping = TICKS_TO_PING;
            self.awaits_pong = self.pings.as_mut().is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok());
        }
    }

    fn poll_pong(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.pings.as_mut().map_or(Poll::Ready(()), |pings| pings.poll_pong(context).map(drop))
    }
}
