//! The connection guard: timeouts that hyper does not have.
//!
//! Each worker has one coarse clock and checks all its connections at each tick, so that a request needs no timer. A
//! connection records its progress; the guard ends connections without progress. Timeouts are exact to one tick.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::drain::{Drain, Stage};
use super::guard_timeouts::GuardTimeouts;
use super::limits::Limits;
use super::output_backlog::{BacklogMark, OutputBacklog};
use super::tunnel::Tunnel;

/// The guard of one worker's connections.
#[derive(Debug)]
pub(crate) struct Guard {
    tick: Duration,
    now: Cell<u32>,
    timeouts: GuardTimeouts,
    stage: Cell<Option<GuardSignal>>,
    /// The tick at which the drain began.
    drains_since: Cell<Option<u32>>,
    watches: RefCell<Vec<Weak<Watch>>>,
}

/// The guard's view of one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    guard: Rc<Guard>,
    phase: Cell<Phase>,
    since: Cell<u32>,
    /// The end of the connection's age. `None` once it has been signalled.
    retires_at: Cell<Option<u32>>,
    /// The tick at which writing stalled.
    stalled_since: Cell<Option<u32>>,
    in_flight: Cell<u32>,
    signal: Cell<Option<GuardSignal>>,
    /// The connection ends after the answer to the current or next request.
    is_closing: Cell<bool>,
    /// hyper may neither read from the stream nor close it.
    holds_stream: Cell<bool>,
    /// The waker of the connection's task. Polls are far more frequent than signals.
    task: RefCell<Option<Waker>>,
    /// HTTP/2: a received byte does not mean that a request begins, and a client may stop reading one answer without
    /// blocking the socket.
    multiplexed: bool,
    /// The handshake ended after the drain had begun.
    is_late: bool,
    answers: RefCell<Vec<Weak<Answering>>>,
    /// The tunnel that follows the last answer.
    tunnel: RefCell<Option<Box<Tunnel>>>,
    /// A request asked to switch protocols, so hyper may end the connection for a switch.
    may_switch: Cell<bool>,
    unwritten: OutputBacklog,
}

/// An answer on an HTTP/2 stream. While the client's flow-control window is closed, h2 does not poll its body.
#[derive(Debug)]
pub(crate) struct Answering {
    watch: Rc<Watch>,
    since: Cell<u32>,
    /// The body had data at the last poll. Otherwise it waits for the upstream.
    offered: Cell<bool>,
}

/// Counts a request in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct ExchangeGuard(Rc<Watch>);

/// A signal of the guard to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuardSignal {
    /// Free the buffers: there has been no request for some time.
    Rest,
    /// End now: a timeout has passed.
    Overdue(TimeoutKind),
    /// End after the requests in flight.
    Drain,
    /// End now: the drain timeout has passed.
    Cut,
}

/// The timeout that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeoutKind {
    FirstRequest,
    Head,
    /// Not an error: the connection was not used.
    Idle,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    First,
    Idle,
    Head,
    Busy,
}

impl Guard {
    pub(crate) fn new(limits: &Limits) -> Rc<Self> {
        let (tick, timeouts) = GuardTimeouts::new(limits);
        Rc::new(Self {
            tick,
            now: Cell::new(0),
            timeouts,
            stage: Cell::new(None),
            drains_since: Cell::new(None),
            watches: RefCell::default(),
        })
    }

    /// Watches a connection whose handshake has ended.
    pub(crate) fn watch(self: &Rc<Self>, multiplexed: bool) -> Rc<Watch> {
        let watch = Rc::new(Watch {
            guard: Rc::clone(self),
            phase: Cell::new(Phase::First),
            since: Cell::new(self.now.get()),
            retires_at: Cell::new(self.timeouts.random_age().map(|age| self.now.get().wrapping_add(age))),
            stalled_since: Cell::new(None),
            in_flight: Cell::new(0),
            signal: Cell::new(None),
            is_closing: Cell::new(false),
            holds_stream: Cell::new(false),
            task: RefCell::default(),
            multiplexed,
            is_late: self.stage.get().is_some(),
            answers: RefCell::default(),
            tunnel: RefCell::default(),
            may_switch: Cell::new(false),
            unwritten: OutputBacklog::default(),
        });
        // A connection that begins after the drain has begun is signalled at once.
        watch.signal.set(self.stage.get());
        self.watches.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Checks all connections at every tick. Never ends.
    pub(crate) async fn run_timeouts(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(self.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.check_all();
        }
    }

    fn check_all(&self) {
        self.now.set(self.now.get().wrapping_add(1));
        self.watches.borrow_mut().retain(|watch| {
            let Some(watch) = watch.upgrade() else {
                return false;
            };
            if let Some(overdue) = watch.overdue() {
                watch.send_signal(GuardSignal::Overdue(overdue));
            } else if watch.is_old() {
                watch.send_signal(GuardSignal::Drain);
            } else if watch.rest_ticks() == Some(self.timeouts.rest) && watch.signal.get().is_none() {
                watch.send_signal(GuardSignal::Rest);
            }
            true
        });
    }

    /// Ends up to `at_most` connections that have been idle for some time, the longest idle first.
    pub(crate) fn end_idle(&self, at_most: usize) {
        let watches = self.watches.borrow();
        let mut idle: Vec<_> = watches.iter().filter_map(Weak::upgrade).filter_map(|watch| watch.idle()).collect();
        idle.sort_unstable_by_key(|(_, for_ticks, _)| std::cmp::Reverse(*for_ticks));
        idle.into_iter().take(at_most).for_each(|(watch, _, overdue)| watch.send_signal(GuardSignal::Overdue(overdue)));
    }

    /// The drain timeout has passed: the gateway itself cuts the requests in flight.
    pub(crate) fn has_cut(&self) -> bool {
        self.stage.get() == Some(GuardSignal::Cut)
    }

    /// Signals the stages of the drain to all connections. Never ends.
    pub(crate) async fn propagate_drain(self: Rc<Self>, mut drain: Drain) {
        for (stage, signal) in [(Stage::Draining, GuardSignal::Drain), (Stage::Cut, GuardSignal::Cut)] {
            drain.reached(stage).await;
            self.stage.set(Some(signal));
            self.drains_since.set(self.drains_since.get().or(Some(self.now.get())));
            let watches = self.watches.borrow();
            watches.iter().filter_map(Weak::upgrade).for_each(|watch| watch.send_signal(signal));
        }
        std::future::pending().await
    }
}

impl Watch {
    /// Ready with the next signal.
    pub(super) fn poll_signal(&self, context: &mut Context<'_>) -> Poll<GuardSignal> {
        self.poll_has_signal(context).map(|()| self.signal.take().unwrap_or(GuardSignal::Rest))
    }

    /// Ready when there is a signal; leaves the signal for [`Self::poll_signal`].
    pub(super) fn poll_has_signal(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.signal.get().is_some() {
            return Poll::Ready(());
        }
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn send_signal(&self, signal: GuardSignal) {
        self.signal.set(Some(signal));
        self.wake();
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// The connection was polled and is pending. Unless its last write stalled, its write buffers are empty.
    pub(super) fn polled(&self) {
        if self.unwritten.is_awaited() && self.stalled_since.get().is_none() {
            self.unwritten.emptied();
        }
    }

    #[cfg(test)]
    pub(super) fn signal_drain(&self) {
        self.send_signal(GuardSignal::Drain);
    }

    /// Records a request whose head has been read.
    pub(crate) fn begin_with<B>(self: &Rc<Self>, request: &Request<B>) -> ExchangeGuard {
        // Over HTTP/1.1, only requests to switch protocols have extensions.
        if !self.multiplexed && !request.extensions().is_empty() {
            self.may_switch.set(true);
        }
        self.begin()
    }

    /// Records that a request head has been read whole.
    pub(crate) fn begin(self: &Rc<Self>) -> ExchangeGuard {
        self.in_flight.set(self.in_flight.get() + 1);
        self.enter(Phase::Busy);
        ExchangeGuard(Rc::clone(self))
    }

    /// The number of ticks without a request. `None` for HTTP/2, whose frames need no request.
    fn rest_ticks(&self) -> Option<u32> {
        let rests = self.phase.get() == Phase::Idle && !self.multiplexed && self.stalled_since.get().is_none();
        rests.then(|| self.guard.now.get().wrapping_sub(self.since.get()))
    }

    /// Whether the connection is still idle after [`GuardSignal::Rest`] was sent.
    pub(super) fn may_rest(&self) -> bool {
        self.rest_ticks().is_some_and(|rest_ticks| rest_ticks >= self.guard.timeouts.rest)
    }

    pub(super) fn hold_stream(&self, holds: bool) {
        self.holds_stream.set(holds);
    }

    pub(super) fn holds_stream(&self) -> bool {
        self.holds_stream.get()
    }

    /// The tunnel that follows the last answer, if any.
    pub(super) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }

    /// Whether hyper may have ended the connection because of a protocol switch.
    pub(super) fn may_switch(&self) -> bool {
        self.may_switch.get()
    }

    /// No request is in flight: the head of the next one has not been read whole.
    pub(super) fn awaits_request(&self) -> bool {
        self.phase.get() != Phase::Busy
    }

    pub(super) fn close_after_answer(&self) {
        self.is_closing.set(true);
    }

    /// Adds `Connection: close` if the connection ends after this answer. hyper adds it only if it is told to end
    /// before it has the answer. HTTP/2 uses GOAWAY instead.
    pub(crate) fn announce_close<B>(&self, answer: &mut Response<B>) {
        if self.is_closing.get() && !self.multiplexed && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }

    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed
    }

    pub(super) fn read(&self) {
        if self.phase.get() == Phase::Idle && !self.multiplexed {
            self.enter(Phase::Head);
        }
    }

    pub(super) fn wrote(&self, pending: bool) {
        match (pending, self.stalled_since.get()) {
            (false, None) | (true, Some(_)) => {}
            (false, Some(_)) => self.stalled_since.set(None),
            (true, None) => self.stalled_since.set(Some(self.guard.now.get())),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.guard.now.get());
    }

    /// True once.
    fn is_old(&self) -> bool {
        let now = self.guard.now.get();
        // As a difference, since ticks wrap around.
        let old = self.retires_at.get().is_some_and(|at| now.wrapping_sub(at) < u32::MAX / 2);
        if old {
            self.retires_at.set(None);
        }
        old
    }

    /// The number of idle ticks and the timeout to report. `None` if the connection has not been idle long enough.
    fn idle(self: Rc<Self>) -> Option<(Rc<Self>, u32, TimeoutKind)> {
        let overdue = match self.phase.get() {
            Phase::First => TimeoutKind::FirstRequest,
            Phase::Idle => TimeoutKind::Idle,
            Phase::Head | Phase::Busy => return None,
        };
        let for_ticks = self.guard.now.get().wrapping_sub(self.since.get());
        (for_ticks >= self.guard.timeouts.rest && self.signal.get().is_none()).then_some((self, for_ticks, overdue))
    }

    /// A graceful close of HTTP/2 needs a reply of the client. A client that does not reply is not waited for.
    fn ignores_shutdown(&self) -> bool {
        let Some(drains_since) = self.guard.drains_since.get() else { return false };
        let for_ticks = |since: u32| self.guard.now.get().wrapping_sub(since);
        let waits = self.multiplexed && matches!(self.phase.get(), Phase::First | Phase::Idle);
        waits && for_ticks(self.since.get()).min(for_ticks(drains_since)) >= self.guard.timeouts.rest
    }

    fn overdue(&self) -> Option<TimeoutKind> {
        if self.ignores_shutdown() {
            return Some(TimeoutKind::Idle);
        }
        let now = self.guard.now.get();
        let timeouts = &self.guard.timeouts;
        let over = |since: u32, limit: Option<u32>| limit.is_some_and(|limit| now.wrapping_sub(since) >= limit);
        let refused = |answer: &Answering| answer.offered.get() && over(answer.since.get(), timeouts.stream);
        let stalled = self.stalled_since.get().is_some_and(|since| over(since, timeouts.write));
        if stalled || self.answers.borrow().iter().filter_map(Weak::upgrade).any(|answer| refused(&answer)) {
            return Some(TimeoutKind::Write);
        }
        let (limit, overdue) = match self.phase.get() {
            Phase::First => (timeouts.first_request, TimeoutKind::FirstRequest),
            Phase::Idle => (timeouts.idle, TimeoutKind::Idle),
            Phase::Head => (timeouts.head, TimeoutKind::Head),
            Phase::Busy => return None,
        };
        over(self.since.get(), limit).then_some(overdue)
    }
}

impl ExchangeGuard {
    /// The connection, or the HTTP/2 stream, becomes a tunnel.
    pub(crate) fn start_tunnel(&self, mut tunnel: Box<Tunnel>) {
        let Some(stream) = tunnel.stream.take() else {
            self.0.tunnel.replace(Some(tunnel));
            return;
        };
        // While the tunnel lasts, its connection is not idle.
        let exchange = self.0.begin();
        tokio::task::spawn_local(async move {
            // It fails if the client has gone or received another answer.
            if let Ok(stream) = stream.await {
                tunnel.run(TokioIo::new(stream), Bytes::new()).await;
            }
            drop(exchange);
        });
    }

    /// A mark behind all output that the connection has been given so far. Wakes the connection, which over HTTP/2 is
    /// another task than the caller.
    pub(crate) fn output_mark(&self) -> BacklogMark {
        self.0.wake();
        self.0.unwritten.output_mark()
    }

    /// Ready once everything before the mark has been written.
    pub(crate) fn poll_written(&self, output_mark: BacklogMark, context: &mut Context<'_>) -> Poll<()> {
        self.0.unwritten.poll(output_mark, context)
    }

    /// Records that an answer begins. `None` for HTTP/1.1, where the socket shows whether the client reads.
    pub(crate) fn answer(&self) -> Option<Rc<Answering>> {
        let watch = &self.0;
        if !watch.multiplexed {
            return None;
        }
        let since = Cell::new(watch.guard.now.get());
        let answering = Rc::new(Answering { watch: Rc::clone(watch), since, offered: Cell::new(true) });
        let mut answers = watch.answers.borrow_mut();
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Rc::downgrade(&answering));
        Some(answering)
    }
}

impl Answering {
    /// Records a poll of the body, and whether it had data.
    pub(crate) fn asked(&self, offered: bool) {
        self.since.set(self.watch.guard.now.get());
        self.offered.set(offered);
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        let left = self.0.in_flight.get() - 1;
        self.0.in_flight.set(left);
        if left == 0 {
            self.0.enter(Phase::Idle);
        }
    }
}

#[cfg(test)]
mod tests;
