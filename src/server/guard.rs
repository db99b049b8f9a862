//! The connection guard: deadlines that hold where hyper has none.
//!
//! A worker keeps one coarse clock and looks over all its connections at each tick, so that a request sets no timer. A
//! connection stamps what moves; the guard ends the ones that have stood still for too long. Deadlines are kept to within one tick.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::limits::Limits;

/// One worker's guard over its connections.
#[derive(Debug)]
pub(crate) struct Guard {
    tick: Duration,
    now: Cell<u32>,
    patience: Patience,
    watches: RefCell<Vec<Weak<Watch>>>,
}

/// One connection as the guard sees it.
#[derive(Debug)]
pub(crate) struct Watch {
    guard: Rc<Guard>,
    phase: Cell<Phase>,
    since: Cell<u32>,
    /// When a write last could not go on.
    stalled_since: Cell<Option<u32>>,
    in_flight: Cell<u32>,
    expired: Cell<Option<Overdue>>,
    wake: Notify,
    /// HTTP/2 peers may send frames without a request, so that a byte does not begin one.
    multiplexed: bool,
}

/// A request under way on a connection.
#[derive(Debug)]
pub(crate) struct Exchange(Rc<Watch>);

/// What a connection has been waiting for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
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

/// The limits in ticks.
#[derive(Debug)]
struct Patience {
    first_request: Option<u32>,
    head: Option<u32>,
    idle: Option<u32>,
    write: Option<u32>,
}

const LONGEST_TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(10);

impl Guard {
    pub(crate) fn new(limits: &Limits) -> Rc<Self> {
        let all =
            [limits.first_request_timeout, limits.header_timeout, limits.idle_timeout, limits.write_stall_timeout];
        let shortest = all.into_iter().flatten().min().unwrap_or(LONGEST_TICK);
        let tick = (shortest / 8).clamp(SHORTEST_TICK, LONGEST_TICK);
        // Rounded up and one more, so that nobody is cut before the time.
        let ticks = |limit: Option<Duration>| {
            limit.map(|limit| u32::try_from(limit.as_nanos().div_ceil(tick.as_nanos()) + 1).unwrap_or(u32::MAX))
        };
        let patience = Patience {
            first_request: ticks(limits.first_request_timeout),
            head: ticks(limits.header_timeout),
            idle: ticks(limits.idle_timeout),
            write: ticks(limits.write_stall_timeout),
        };
        Rc::new(Self { tick, now: Cell::new(0), patience, watches: RefCell::default() })
    }

    /// Watches a connection whose handshake has ended.
    pub(crate) fn watch(self: &Rc<Self>, multiplexed: bool) -> Rc<Watch> {
        let watch = Rc::new(Watch {
            guard: Rc::clone(self),
            phase: Cell::new(Phase::First),
            since: Cell::new(self.now.get()),
            stalled_since: Cell::new(None),
            in_flight: Cell::new(0),
            expired: Cell::new(None),
            wake: Notify::new(),
            multiplexed,
        });
        self.watches.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Looks over all connections at every tick; runs beside them.
    pub(crate) async fn keep_watch(self: Rc<Self>) {
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
                watch.expired.set(Some(overdue));
                watch.wake.notify_one();
            }
            true
        });
    }
}

impl Watch {
    /// Ends when the connection is overdue.
    pub(crate) async fn expired(&self) -> Overdue {
        loop {
            if let Some(overdue) = self.expired.get() {
                return overdue;
            }
            self.wake.notified().await;
        }
    }

    /// A request head has come in whole.
    pub(crate) fn begin(self: &Rc<Self>) -> Exchange {
        self.in_flight.set(self.in_flight.get() + 1);
        self.enter(Phase::Busy);
        Exchange(Rc::clone(self))
    }

    /// No request has come yet.
    pub(super) fn is_new(&self) -> bool {
        self.phase.get() == Phase::First
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

    fn overdue(&self) -> Option<Overdue> {
        let now = self.guard.now.get();
        let patience = &self.guard.patience;
        let over = |since: u32, limit: Option<u32>| limit.is_some_and(|limit| now.wrapping_sub(since) >= limit);
        if self.stalled_since.get().is_some_and(|since| over(since, patience.write)) {
            return Some(Overdue::Write);
        }
        let (limit, overdue) = match self.phase.get() {
            Phase::First => (patience.first_request, Overdue::FirstRequest),
            Phase::Idle => (patience.idle, Overdue::Idle),
            Phase::Head => (patience.head, Overdue::Head),
            Phase::Busy => return None,
        };
        over(self.since.get(), limit).then_some(overdue)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let left = self.0.in_flight.get() - 1;
        self.0.in_flight.set(left);
        if left == 0 {
            self.0.enter(Phase::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Rc<Guard> {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        Guard::new(&Limits {
            first_request_timeout: seconds(8),
            header_timeout: seconds(8),
            idle_timeout: seconds(60),
            write_stall_timeout: seconds(30),
            ..Limits::default()
        })
    }

    fn pass(guard: &Guard, ticks: u32) {
        for _ in 0..ticks {
            guard.look();
        }
    }

    #[test]
    fn a_connection_without_a_first_request_is_overdue() {
        let guard = guard();
        let watch = guard.watch(false);
        pass(&guard, 8);
        assert_eq!(watch.expired.get(), None);
        pass(&guard, 1);
        assert_eq!(watch.expired.get(), Some(Overdue::FirstRequest));
    }

    #[test]
    fn a_head_that_drips_is_overdue_long_before_the_idle_timeout() {
        let guard = guard();
        let watch = guard.watch(false);
        drop(watch.begin());
        pass(&guard, 30);
        watch.read();
        for _ in 0..9 {
            assert_eq!(watch.expired.get(), None);
            watch.read();
            pass(&guard, 1);
        }
        assert_eq!(watch.expired.get(), Some(Overdue::Head));
    }

    #[test]
    fn an_idle_connection_is_overdue_and_a_busy_one_is_not() {
        let guard = guard();
        let (idle, busy) = (guard.watch(false), guard.watch(false));
        drop(idle.begin());
        let _exchange = busy.begin();
        pass(&guard, 1000);
        assert_eq!(idle.expired.get(), Some(Overdue::Idle));
        assert_eq!(busy.expired.get(), None);
    }

    #[test]
    fn frames_between_requests_do_not_begin_one_on_http2() {
        let guard = guard();
        let watch = guard.watch(true);
        drop(watch.begin());
        watch.read();
        pass(&guard, 20);
        assert_eq!(watch.expired.get(), None);
    }

    #[test]
    fn a_peer_that_takes_nothing_is_overdue_even_while_busy() {
        let guard = guard();
        let watch = guard.watch(false);
        let _exchange = watch.begin();
        watch.wrote(true);
        pass(&guard, 29);
        watch.wrote(false);
        watch.wrote(true);
        pass(&guard, 30);
        assert_eq!(watch.expired.get(), None);
        pass(&guard, 1);
        assert_eq!(watch.expired.get(), Some(Overdue::Write));
    }

    #[test]
    fn connections_that_have_gone_are_forgotten() {
        let guard = guard();
        drop(guard.watch(false));
        pass(&guard, 1);
        assert!(guard.watches.borrow().is_empty());
    }
}
