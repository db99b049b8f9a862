//! The connection guard: deadlines that hold where hyper has none.
//!
//! A worker keeps one coarse clock and looks over all its connections at each tick, so that a request sets no timer. A
//! connection stamps what moves; the guard ends the ones that have stood still for too long. Deadlines are kept to within one tick.

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

/// One worker's guard over its connections.
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

/// One connection as the guard sees it.
#[derive(Debug)]
pub(crate) struct Watch {
    guard: Rc<Guard>,
    phase: Cell<Phase>,
    since: Cell<u32>,
    /// When it has lived long enough; `None` once it has been told so.
    retires: Cell<Option<u32>>,
    /// When a write last could not go on.
    stalled_since: Cell<Option<u32>>,
    in_flight: Cell<u32>,
    told: Cell<Option<GuardSignal>>,
    /// The connection ends after the answer to the current or next request.
    is_closing: Cell<bool>,
    /// Whoever has the stream may neither read from it nor close it.
    holds_stream: Cell<bool>,
    /// The connection's task, which is polled far more often than it is told anything.
    task: RefCell<Option<Waker>>,
    /// HTTP/2 peers may send frames without a request, so that a byte does not begin one, and may refuse an answer without
    /// the socket showing it.
    multiplexed: bool,
    /// Its handshake ended after the drain had begun.
    is_late: bool,
    answers: RefCell<Vec<Weak<Answering>>>,
    /// What the connection becomes once its last answer has been sent.
    tunnel: RefCell<Option<Box<Tunnel>>>,
    /// A request has named another protocol, whoever may have listened.
    may_switch: Cell<bool>,
    unwritten: OutputBacklog,
}

/// An answer on its way through an HTTP/2 stream. While the peer's window is closed, nobody asks for its body.
#[derive(Debug)]
pub(crate) struct Answering {
    watch: Rc<Watch>,
    since: Cell<u32>,
    /// There is something for the peer to take; otherwise the upstream is waited for.
    offered: Cell<bool>,
}

/// A request under way on a connection.
#[derive(Debug)]
pub(crate) struct ExchangeGuard(Rc<Watch>);

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuardSignal {
    /// Keep no more than it takes to wait: nothing has been under way for a while.
    Rest,
    /// End now: it has stood still for too long.
    Overdue(TimeoutKind),
    /// Finish what is in flight and end.
    Drain,
    /// End now: the time to drain is over.
    Cut,
}

/// What a connection has been waiting for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeoutKind {
    FirstRequest,
    Head,
    /// Nothing is wrong: it is just not used.
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
            retires: Cell::new(self.timeouts.random_age().map(|age| self.now.get().wrapping_add(age))),
            stalled_since: Cell::new(None),
            in_flight: Cell::new(0),
            told: Cell::new(None),
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
        // Whoever comes after the drain has begun is told so at once.
        watch.told.set(self.stage.get());
        self.watches.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Looks over all connections at every tick; runs beside them.
    pub(crate) async fn run_timeouts(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(self.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look();
        }
    }

    fn look(&self) {
        self.now.set(self.now.get().wrapping_add(1));
        self.watches.borrow_mut().retain(|watch| {
            let Some(watch) = watch.upgrade() else {
                return false;
            };
            if let Some(overdue) = watch.overdue() {
                watch.tell(GuardSignal::Overdue(overdue));
            } else if watch.is_old() {
                watch.tell(GuardSignal::Drain);
            } else if watch.rested() == Some(self.timeouts.rest) && watch.told.get().is_none() {
                watch.tell(GuardSignal::Rest);
            }
            true
        });
    }

    /// Ends so many connections on which nothing is under way, if it has not been for a while: those first that have waited longest.
    pub(crate) fn end_idle(&self, at_most: usize) {
        let watches = self.watches.borrow();
        let mut idle: Vec<_> = watches.iter().filter_map(Weak::upgrade).filter_map(|watch| watch.idle()).collect();
        idle.sort_unstable_by_key(|(_, for_ticks, _)| std::cmp::Reverse(*for_ticks));
        idle.into_iter().take(at_most).for_each(|(watch, _, overdue)| watch.tell(GuardSignal::Overdue(overdue)));
    }

    /// The time to drain is over: what is still under way is cut by the gateway itself.
    pub(crate) fn has_cut(&self) -> bool {
        self.stage.get() == Some(GuardSignal::Cut)
    }

    /// Hands the stages of the drain on to all connections; runs beside them.
    pub(crate) async fn propagate_drain(self: Rc<Self>, mut drain: Drain) {
        for (stage, told) in [(Stage::Draining, GuardSignal::Drain), (Stage::Cut, GuardSignal::Cut)] {
            drain.reached(stage).await;
            self.stage.set(Some(told));
            self.drains_since.set(self.drains_since.get().or(Some(self.now.get())));
            let watches = self.watches.borrow();
            watches.iter().filter_map(Weak::upgrade).for_each(|watch| watch.tell(told));
        }
        std::future::pending().await
    }
}

impl Watch {
    /// Ready when there is something that the connection has not been told yet.
    pub(super) fn poll_told(&self, context: &mut Context<'_>) -> Poll<GuardSignal> {
        self.poll_is_told(context).map(|()| self.told.take().unwrap_or(GuardSignal::Rest))
    }

    /// The same, and leaves it to be told.
    pub(super) fn poll_is_told(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.told.get().is_some() {
            return Poll::Ready(());
        }
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn tell(&self, told: GuardSignal) {
        self.told.set(Some(told));
        self.wake();
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// The connection was polled and has nothing more to do now. Unless its last write could not go on, its buffers are empty.
    pub(super) fn polled(&self) {
        if self.unwritten.is_awaited() && self.stalled_since.get().is_none() {
            self.unwritten.emptied();
        }
    }

    #[cfg(test)]
    pub(super) fn tell_to_drain(&self) {
        self.tell(GuardSignal::Drain);
    }

    /// This request has come in.
    pub(crate) fn begin_with<B>(self: &Rc<Self>, request: &Request<B>) -> ExchangeGuard {
        // Nothing else is in there over HTTP/1.1, and with no request but these.
        if !self.multiplexed && !request.extensions().is_empty() {
            self.may_switch.set(true);
        }
        self.begin()
    }

    /// A request head has come in whole.
    pub(crate) fn begin(self: &Rc<Self>) -> ExchangeGuard {
        self.in_flight.set(self.in_flight.get() + 1);
        self.enter(Phase::Busy);
        ExchangeGuard(Rc::clone(self))
    }

    /// For how long nothing has been under way, in ticks. Frames of HTTP/2 come and go without a request.
    fn rested(&self) -> Option<u32> {
        let rests = self.phase.get() == Phase::Idle && !self.multiplexed && self.stalled_since.get().is_none();
        rests.then(|| self.guard.now.get().wrapping_sub(self.since.get()))
    }

    /// It was told to rest, and nothing has come in between.
    pub(super) fn may_rest(&self) -> bool {
        self.rested().is_some_and(|rested| rested >= self.guard.timeouts.rest)
    }

    pub(super) fn hold_stream(&self, holds: bool) {
        self.holds_stream.set(holds);
    }

    pub(super) fn holds_stream(&self) -> bool {
        self.holds_stream.get()
    }

    /// For whoever has sent the last answer: what follows it, if not the end.
    pub(super) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }

    /// Whether hyper may have ended the connection in the belief that someone goes on in another protocol.
    pub(super) fn may_switch(&self) -> bool {
        self.may_switch.get()
    }

    /// No request is under way: the head of the next one has not been read whole.
    pub(super) fn awaits_request(&self) -> bool {
        self.phase.get() != Phase::Busy
    }

    pub(super) fn close_after_answer(&self) {
        self.is_closing.set(true);
    }

    /// Adds `Connection: close` where the connection ends after this answer. hyper adds it only if it learns of the end before it
    /// has the answer. Over HTTP/2, GOAWAY says it.
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
        let old = self.retires.get().is_some_and(|at| now.wrapping_sub(at) < u32::MAX / 2);
        if old {
            self.retires.set(None);
        }
        old
    }

    /// For how many ticks nothing has been under way, where that is worth a name; `None` where it is not long.
    fn idle(self: Rc<Self>) -> Option<(Rc<Self>, u32, TimeoutKind)> {
        let overdue = match self.phase.get() {
            Phase::First => TimeoutKind::FirstRequest,
            Phase::Idle => TimeoutKind::Idle,
            Phase::Head | Phase::Busy => return None,
        };
        let for_ticks = self.guard.now.get().wrapping_sub(self.since.get());
        (for_ticks >= self.guard.timeouts.rest && self.told.get().is_none()).then_some((self, for_ticks, overdue))
    }

    /// Over HTTP/2 the end in order takes an answer of the peer's. One that says nothing is not waited for.
    fn is_deaf(&self) -> bool {
        let Some(drains_since) = self.guard.drains_since.get() else { return false };
        let for_ticks = |since: u32| self.guard.now.get().wrapping_sub(since);
        let waits = self.multiplexed && matches!(self.phase.get(), Phase::First | Phase::Idle);
        waits && for_ticks(self.since.get()).min(for_ticks(drains_since)) >= self.guard.timeouts.rest
    }

    fn overdue(&self) -> Option<TimeoutKind> {
        if self.is_deaf() {
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
    /// The answer hands the connection, or its stream of one, over to a tunnel.
    pub(crate) fn lead_on(&self, mut tunnel: Box<Tunnel>) {
        let Some(stream) = tunnel.stream.take() else {
            self.0.tunnel.replace(Some(tunnel));
            return;
        };
        // As long as the tunnel lasts, its connection does not idle.
        let exchange = self.0.begin();
        tokio::task::spawn_local(async move {
            // Otherwise the client has gone, or was answered something else after all.
            if let Ok(stream) = stream.await {
                tunnel.run(TokioIo::new(stream), Bytes::new()).await;
            }
            drop(exchange);
        });
    }

    /// What was handed to the connection before this is to be written first. The connection is polled for it once: over HTTP/2 it
    /// is another task than the one that asks.
    pub(crate) fn behind(&self) -> BacklogMark {
        self.0.wake();
        self.0.unwritten.behind()
    }

    /// Ready once everything before `behind` was taken has been written.
    pub(crate) fn poll_written(&self, behind: BacklogMark, context: &mut Context<'_>) -> Poll<()> {
        self.0.unwritten.poll(behind, context)
    }

    /// The answer begins. `None` where the socket itself shows whether the peer takes it.
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
    /// The body was asked for, and had something to offer or not.
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
