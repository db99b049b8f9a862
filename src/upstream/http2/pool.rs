//! HTTP/2 to a server: a few connections for each worker, with many requests on each.
//!
//! A connection is used once its peer has said how many streams it takes, and for no more than that. While all are full, requests
//! wait for room in the order in which they came, in bounded number and within their deadline.

mod dedicated;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};

use crate::upstream::connect::stream::ListenToTheEnd;
use crate::upstream::connect::write_progress::WriteProgress;
use crate::upstream::fault::UpstreamFault;
use crate::upstream::http1::connection::{MAX_HEAD_BYTES, open};
use crate::upstream::http2::liveness::{ActivityTracked, Liveness};
use crate::upstream::pool::Pool;

/// Streams that were given up and are remembered, so that what still comes for them is known.
const MAX_GIVEN_UP: usize = 1024;

/// A worker's connections to one server.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Multiplexed {
    connections: RefCell<Vec<Rc<Connection>>>,
    is_opening: Cell<bool>,
    /// Connections that there are, those included that take no more requests.
    open: Cell<usize>,
    waiting: Cell<usize>,
    /// Room has come about, or an attempt to make some has ended.
    news: Notify,
    failures: Cell<u64>,
    last_failure: RefCell<Option<OpenFailure>>,
}

#[derive(Debug)]
struct Connection {
    sender: RefCell<SendRequest<Bytes>>,
    state: Rc<Http2State>,
    /// Of the server, where that has one.
    address: Option<IpAddr>,
}

/// What a connection's driver knows and its users want to know.
#[derive(Debug, Default)]
struct Http2State {
    /// Streams of ours that are under way.
    streams: Cell<usize>,
    /// How many the peer takes; none before it has said so.
    limit: Cell<usize>,
    has_ended: Cell<bool>,
    /// The sweep that it was last in use before.
    used: Cell<u32>,
    greeted: Notify,
    silence: Rc<Liveness>,
    intake: Arc<WriteProgress>,
}

/// The right to one stream on a connection, while it is held.
#[derive(Debug)]
pub(in crate::upstream) struct StreamSlot {
    all: Rc<Multiplexed>,
    connection: Rc<Connection>,
    /// Since when the peer owes a word; `None` while it does not.
    asked: Cell<Option<u64>>,
}

#[derive(Debug)]
struct OpenFailure {
    at: Instant,
    /// `None` where it took too long.
    error: Option<(io::ErrorKind, String)>,
}

/// One that waits, counted.
struct WaitingForStream<'m>(&'m Multiplexed);

const MOST_CONNECTIONS: usize = 8;
/// On one connection, whatever its peer allows: the connection's window has room for all of them.
const MOST_STREAMS: usize = 128;
/// Requests that wait for room.
const MOST_WAITING: usize = 1024;
/// What a server may send of one answer before the client takes it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Room for all streams' windows: one client that does not read holds up no other.
const CONNECTION_WINDOW: u32 = MOST_STREAMS as u32 * STREAM_WINDOW;
const MAX_FRAME: u32 = 64 * 1024;
/// After a failed attempt to open one more while others serve.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(20);
/// A ping every 320 s, to be answered within a tick. gRPC servers take those that ping more often than every 5 min for attackers.
const TICKS_TO_PING: u32 = 16;

impl Multiplexed {
    /// Room for one more request; waits for it if it must.
    pub(in crate::upstream) async fn room(pool: &Rc<Pool>, deadline: Instant) -> Result<StreamSlot, UpstreamFault> {
        let all = &pool.multiplexed;
        if all.waiting.get() == 0
            && let Some(slot) = all.take()
        {
            return Ok(slot);
        }
        let _waiting = WaitingForStream::begin(all)?;
        let failures = all.failures.get();
        loop {
            let mut news = std::pin::pin!(all.news.notified());
            news.as_mut().enable();
            if let Some(slot) = all.take() {
                return Ok(slot);
            }
            if all.connections.borrow().is_empty() && all.failures.get() != failures {
                return Err(all.failure());
            }
            Self::open_another(pool);
            if timeout_at(deadline, news).await.is_err() {
                return Err(all.waited_in_vain(failures));
            }
        }
    }

    /// Nothing is wrong with a server that serves others, however long our own queue for it.
    fn waited_in_vain(&self, failures_before: u64) -> UpstreamFault {
        let is_out_of_reach = self.is_opening.get() && self.connections.borrow().is_empty();
        let has_failed = self.failures.get() != failures_before;
        if is_out_of_reach || has_failed { UpstreamFault::Timeout } else { UpstreamFault::Full }
    }

    /// A connection is used no more by new requests: it may be dead.
    pub(in crate::upstream) fn retire(&self, slot: &StreamSlot) {
        self.connections.borrow_mut().retain(|connection| !Rc::ptr_eq(connection, &slot.connection));
        self.news.notify_waiters();
    }

    pub(in crate::upstream) fn idle(&self) -> usize {
        self.connections.borrow().iter().filter(|connection| connection.state.streams.get() == 0).count()
    }

    /// Ends connections that have idled for too long, and takes no more requests for servers that are elsewhere now.
    pub(in crate::upstream) fn prune(
        &self,
        sweep: u32,
        is_fresh: impl Fn(u32) -> bool,
        is_there: impl Fn(Option<IpAddr>) -> bool,
    ) {
        self.connections.borrow_mut().retain(|connection| {
            let state = &connection.state;
            if state.streams.get() > 0 {
                state.used.set(sweep);
            }
            !state.has_ended.get() && is_fresh(state.used.get()) && is_there(connection.address)
        });
    }

    /// The first with room, so that the others may idle away.
    fn take(self: &Rc<Self>) -> Option<StreamSlot> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !connection.state.has_ended.get() && !connection.is_going_away());
        let connection = Rc::clone(connections.iter().find(|connection| connection.has_room())?);
        connection.state.streams.set(connection.state.streams.get() + 1);
        Some(StreamSlot { all: Rc::clone(self), connection, asked: Cell::default() })
    }

    fn open_another(pool: &Rc<Pool>) {
        let all = &pool.multiplexed;
        let in_use = all.connections.borrow().len();
        let is_full =
            in_use >= MOST_CONNECTIONS || pool.target.most_connections.is_some_and(|most| all.open.get() >= most);
        let failed_lately = || all.last_failure.borrow().as_ref().is_some_and(|last| last.at.elapsed() < RETRY_AFTER);
        if all.is_opening.get() || is_full || (in_use > 0 && failed_lately()) {
            return;
        }
        all.is_opening.set(true);
        let pool = Rc::clone(pool);
        // Apart from whoever asked for it, who may leave: others wait for it too.
        tokio::task::spawn_local(async move {
            let target = &pool.target;
            let opened = timeout(target.connect_timeout, connect(&pool)).await;
            let opened =
                opened.map_err(|_| UpstreamFault::Timeout).and_then(|opened| opened.map_err(UpstreamFault::Connect));
            let all = &pool.multiplexed;
            all.is_opening.set(false);
            match opened.inspect_err(|fault| target.warn(fault)) {
                Ok(connection) => all.connections.borrow_mut().push(connection),
                Err(fault) => all.failed(&fault),
            }
            all.news.notify_waiters();
        });
    }

    fn failed(&self, fault: &UpstreamFault) {
        let error = match fault {
            UpstreamFault::Connect(error) => Some((error.kind(), error.to_string())),
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

    /// The last failure, for one of those who waited.
    fn failure(&self) -> UpstreamFault {
        match self.last_failure.borrow().as_ref().and_then(|last| last.error.as_ref()) {
            Some((kind, text)) => UpstreamFault::Connect(io::Error::new(*kind, text.clone())),
            None => UpstreamFault::Timeout,
        }
    }
}

impl Connection {
    fn has_room(&self) -> bool {
        self.state.streams.get() < self.state.limit.get() && matches!(self.poll_ready(), Poll::Ready(Ok(())))
    }

    /// It was told to open no new streams, or has broken.
    fn is_going_away(&self) -> bool {
        matches!(self.poll_ready(), Poll::Ready(Err(_)))
    }

    fn poll_ready(&self) -> Poll<Result<(), h2::Error>> {
        self.sender.borrow_mut().poll_ready(&mut Context::from_waker(Waker::noop()))
    }
}

impl StreamSlot {
    /// Begins a stream with this head.
    pub(in crate::upstream) fn begin(
        &self,
        head: Request<()>,
        is_all: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.connection.sender.borrow_mut().send_request(head, is_all)
    }
}

impl StreamSlot {
    /// Whether the peer owes a word by now.
    pub(in crate::upstream) fn asks(&self, is_owed: bool) {
        match (is_owed, self.asked.get()) {
            (true, None) => self.asked.set(Some(self.connection.state.silence.asked())),
            (false, Some(_)) => self.asked.set(None),
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Of the connection that it is on.
    pub(in crate::upstream) fn intake(&self) -> &Arc<WriteProgress> {
        &self.connection.state.intake
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let streams = &self.connection.state.streams;
        streams.set(streams.get().saturating_sub(1));
        if self.asked.get().is_some_and(|asked| self.connection.state.silence.is_suspicious(asked)) {
            self.all.retire(self);
        }
        self.all.news.notify_one();
    }
}

impl<'m> WaitingForStream<'m> {
    fn begin(all: &'m Multiplexed) -> Result<Self, UpstreamFault> {
        let waiting = all.waiting.get();
        if waiting == MOST_WAITING {
            return Err(UpstreamFault::Full);
        }
        all.waiting.set(waiting + 1);
        Ok(Self(all))
    }
}

impl Drop for WaitingForStream<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

/// Connects and waits until the peer has said how many streams it takes: who does not speak HTTP/2 is found out here.
async fn connect(pool: &Rc<Pool>) -> io::Result<Rc<Connection>> {
    let (stream, address) = open(&pool.target.server).await?;
    let state = Rc::new(Http2State::default());
    let stream = ActivityTracked {
        stream: ListenToTheEnd::new(stream, Arc::clone(&state.intake)),
        silence: Rc::clone(&state.silence),
    };
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // None before the peer has spoken: what it would refuse is not sent.
        .initial_max_send_streams(0)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        // Callers that give up have answers come for streams that are no more: that is no reason to end everybody's connection.
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(MAX_GIVEN_UP)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX));
    let (sender, mut connection) = builder.handshake(stream).await.map_err(not_http2)?;
    state.used.set(pool.sweeps.get());
    let driver = Driver {
        pings: connection.ping_pong(),
        connection,
        state: Rc::clone(&state),
        news: Rc::clone(&pool.multiplexed),
        ticks: ticks(),
        ticks_to_ping: TICKS_TO_PING,
        awaits_pong: false,
    };
    pool.multiplexed.open.update(|open| open + 1);
    let (tell, end) = oneshot::channel();
    tokio::task::spawn_local(drive(driver, tell));
    tokio::select! {
        () = state.greeted.notified() => Ok(Rc::new(Connection { sender: RefCell::new(sender), state, address })),
        end = end => match end {
            Ok(Err(error)) => Err(not_http2(error)),
            Ok(Ok(())) | Err(_) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up before it said anything")),
        },
    }
}

/// Whoever has a stream hears of the end there; whoever still waits for the greeting is told.
async fn drive(mut driver: Driver, tell: oneshot::Sender<Result<(), h2::Error>>) {
    let end = (&mut driver).await;
    driver.state.has_ended.set(true);
    let news = Rc::clone(&driver.news);
    drop(driver);
    news.news.notify_waiters();
    let _ = tell.send(end);
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

/// Moves a connection's bytes, follows what its peer allows, and finds out when nobody is there any more.
struct Driver {
    connection: h2::client::Connection<ActivityTracked<ListenToTheEnd>, Bytes>,
    pings: Option<PingPong>,
    state: Rc<Http2State>,
    news: Rc<Multiplexed>,
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
            this.follow();
            if this.awaits_pong && this.poll_pong(context).is_ready() {
                this.awaits_pong = false;
            }
            if this.ticks.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
            if this.awaits_pong {
                // Dropped, it ends all that is on it.
                return Poll::Ready(Ok(()));
            }
            this.tick();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.news.open.update(|open| open - 1);
    }
}

impl Driver {
    fn follow(&self) {
        let limit = self.connection.max_concurrent_send_streams().min(MOST_STREAMS);
        let before = self.state.limit.replace(limit);
        if limit > before {
            self.state.greeted.notify_one();
            self.news.news.notify_waiters();
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
