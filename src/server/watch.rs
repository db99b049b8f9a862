//! The state of one connection: its progress, as it reports it, and the signals that it gets for it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::answering::Answering;
use super::guard_clock::GuardClock;
use super::listener::ListenerId;
use super::output_backlog::OutputBacklog;
use super::tunnel::Tunnel;

/// The guard's view of one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    clock: Rc<GuardClock>,
    listener: ListenerId,
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
    /// Of an HTTP/2 connection.
    pub(super) unwritten: OutputBacklog,
}

/// The time that a new connection has, from the beginning of the drain, to send its first request.
pub(super) const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

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

impl Watch {
    /// A connection whose handshake has ended. One that begins after the drain has begun is signalled at once.
    pub(super) fn new(
        clock: Rc<GuardClock>,
        multiplexed: bool,
        listener: ListenerId,
        drain: Option<GuardSignal>,
    ) -> Self {
        Self {
            phase: Cell::new(Phase::First),
            since: Cell::new(clock.now()),
            retires_at: Cell::new(clock.timeouts().random_age().map(|age| clock.now().wrapping_add(age))),
            clock,
            listener,
            stalled_since: Cell::new(None),
            in_flight: Cell::new(0),
            signal: Cell::new(drain),
            is_closing: Cell::new(false),
            task: RefCell::default(),
            multiplexed,
            is_late: drain.is_some(),
            answers: RefCell::default(),
            tunnel: RefCell::default(),
            unwritten: OutputBacklog::default(),
        }
    }

    /// The listener by which the connection came.
    pub(super) fn listener(&self) -> ListenerId {
        self.listener
    }

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

    pub(super) fn send_signal(&self, signal: GuardSignal) {
        self.signal.set(Some(signal));
        self.wake();
    }

    pub(super) fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Wakes the connection's task, unless it is the current one.
    pub(super) fn wake_other(&self, context: &Context<'_>) {
        if let Some(task) = self.task.borrow().as_ref().filter(|task| !task.will_wake(context.waker())) {
            task.wake_by_ref();
        }
    }

    /// An HTTP/2 connection was polled and is pending. Unless its last write stalled, its write buffers are empty.
    pub(super) fn polled(&self) {
        if self.unwritten.is_awaited() && self.stalled_since.get().is_none() {
            self.unwritten.emptied();
        }
    }

    pub(super) fn begin_request(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.enter(Phase::Busy);
    }

    pub(super) fn end_request(&self) {
        let left = self.in_flight.get() - 1;
        self.in_flight.set(left);
        if left == 0 {
            self.enter(Phase::Idle);
        }
    }

    pub(super) fn begin_answer(&self) -> Rc<Answering> {
        let answering = Rc::new(Answering::new(Rc::clone(&self.clock)));
        let mut answers = self.answers.borrow_mut();
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Rc::downgrade(&answering));
        answering
    }

    /// After the last answer, the connection becomes this tunnel.
    pub(super) fn put_tunnel(&self, tunnel: Box<Tunnel>) {
        self.tunnel.replace(Some(tunnel));
    }

    /// The tunnel that follows the last answer, if any.
    pub(super) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }

    /// No request is in flight: the head of the next one has not been read whole.
    pub(super) fn awaits_request(&self) -> bool {
        self.phase.get() != Phase::Busy
    }

    pub(super) fn close_after_answer(&self) {
        self.is_closing.set(true);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Calls `write` with the field line of the current date.
    pub(super) fn with_date<T>(&self, write: impl FnOnce(&[u8]) -> T) -> T {
        self.clock.with_date(write)
    }

    /// No request so far on a new connection: its client is about to send one.
    pub(super) fn awaits_first_request(&self) -> bool {
        let is_new = self.is_late || self.clock.ticks_since(self.since.get()) <= 1;
        self.phase.get() == Phase::First && is_new
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
            (true, None) => self.stalled_since.set(Some(self.clock.now())),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now());
    }

    /// Sends the signal that is due at this tick, if any.
    pub(super) fn check(&self) {
        if let Some(overdue) = self.overdue() {
            self.send_signal(GuardSignal::Overdue(overdue));
        } else if self.is_old() {
            self.send_signal(GuardSignal::Drain);
        } else if self.rest_ticks() == Some(self.clock.timeouts().rest) && self.signal.get().is_none() {
            self.send_signal(GuardSignal::Rest);
        }
    }

    /// The number of ticks without a request. `None` for HTTP/2, whose frames need no request.
    fn rest_ticks(&self) -> Option<u32> {
        let rests = self.phase.get() == Phase::Idle && !self.multiplexed && self.stalled_since.get().is_none();
        rests.then(|| self.clock.ticks_since(self.since.get()))
    }

    /// Whether the connection is still idle after [`GuardSignal::Rest`] was sent.
    pub(super) fn may_rest(&self) -> bool {
        self.rest_ticks().is_some_and(|rest_ticks| rest_ticks >= self.clock.timeouts().rest)
    }

    /// True once.
    fn is_old(&self) -> bool {
        // As a difference, since ticks wrap around.
        let old = self.retires_at.get().is_some_and(|at| self.clock.ticks_since(at) < u32::MAX / 2);
        if old {
            self.retires_at.set(None);
        }
        old
    }

    /// The number of idle ticks and the timeout to report. `None` if the connection has not been idle long enough.
    pub(super) fn idle(&self) -> Option<(u32, TimeoutKind)> {
        let overdue = match self.phase.get() {
            Phase::First => TimeoutKind::FirstRequest,
            Phase::Idle => TimeoutKind::Idle,
            Phase::Head | Phase::Busy => return None,
        };
        let idle_ticks = self.clock.ticks_since(self.since.get());
        (idle_ticks >= self.clock.timeouts().rest && self.signal.get().is_none()).then_some((idle_ticks, overdue))
    }

    /// A graceful close of HTTP/2 needs a reply of the client. A client that does not reply is not waited for.
    fn ignores_shutdown(&self) -> bool {
        let Some(drain_ticks) = self.clock.drain_ticks() else { return false };
        let waits = self.multiplexed && matches!(self.phase.get(), Phase::First | Phase::Idle);
        waits && self.clock.ticks_since(self.since.get()).min(drain_ticks) >= self.clock.timeouts().rest
    }

    fn overdue(&self) -> Option<TimeoutKind> {
        if self.ignores_shutdown() {
            return Some(TimeoutKind::Idle);
        }
        let timeouts = self.clock.timeouts();
        let over = |since: u32, limit: Option<u32>| limit.is_some_and(|limit| self.clock.ticks_since(since) >= limit);
        let stalled = self.stalled_since.get().is_some_and(|since| over(since, timeouts.write));
        if stalled || self.answers.borrow().iter().filter_map(Weak::upgrade).any(|answer| answer.is_stalled()) {
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
