//! The connection guard: timeouts that hyper does not have.
//!
//! Each worker has one coarse clock and checks all its connections at each tick, so that a request needs no timer. A
//! connection records its progress in its [`Watch`]; the guard ends connections without progress. Timeouts are exact to
//! one tick.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use foldhash::HashMap;

use super::drain::{Drain, Stage};
use super::guard_clock::GuardClock;
use super::limits::Limits;
use super::listener::ListenerId;
use super::watch::{GuardSignal, Watch};

/// The guard of one worker's connections.
#[derive(Debug)]
pub(crate) struct Guard {
    clock: Rc<GuardClock>,
    stage: Cell<Option<GuardSignal>>,
    watches: RefCell<Vec<Weak<Watch>>>,
    /// The listeners that are being removed, and the last signal to their connections.
    removed: RefCell<HashMap<ListenerId, GuardSignal>>,
}

impl Guard {
    pub(crate) fn new(limits: &Limits) -> Rc<Self> {
        let clock = Rc::new(GuardClock::new(limits));
        Rc::new(Self { clock, stage: Cell::new(None), watches: RefCell::default(), removed: RefCell::default() })
    }

    /// Other timeouts, also for connections that are open.
    pub(super) fn set_limits(&self, limits: &Limits) {
        self.clock.set_limits(limits);
    }

    /// Watches a connection whose handshake has ended.
    pub(crate) fn watch(&self, multiplexed: bool, listener: ListenerId) -> Rc<Watch> {
        let signal = self.stage.get().or_else(|| self.removed.borrow().get(&listener).copied());
        let watch = Rc::new(Watch::new(Rc::clone(&self.clock), multiplexed, listener, signal));
        self.watches.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Checks all connections at every tick. Never ends.
    pub(crate) async fn run_timeouts(self: Rc<Self>) {
        loop {
            let tick = self.clock.tick();
            let mut ticks = tokio::time::interval(tick);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while tick == self.clock.tick() {
                ticks.tick().await;
                self.check_all();
            }
        }
    }

    fn check_all(&self) {
        self.clock.advance();
        self.watches.borrow_mut().retain(|watch| {
            let Some(watch) = watch.upgrade() else {
                return false;
            };
            watch.check();
            true
        });
    }

    /// Ends up to `at_most` connections that have been idle for some time, the longest idle first.
    pub(crate) fn end_idle(&self, at_most: usize) {
        let watches = self.watches.borrow();
        let idle_since = |watch: Rc<Watch>| watch.idle().map(|(idle_ticks, overdue)| (watch, idle_ticks, overdue));
        let mut idle: Vec<_> = watches.iter().filter_map(Weak::upgrade).filter_map(idle_since).collect();
        idle.sort_unstable_by_key(|(_, idle_ticks, _)| std::cmp::Reverse(*idle_ticks));
        idle.into_iter().take(at_most).for_each(|(watch, _, overdue)| watch.send_signal(GuardSignal::Overdue(overdue)));
    }

    /// Signals the end of a listener to its connections, also to those whose handshake ends later. `None` once it has
    /// none.
    pub(crate) fn remove_listener(&self, listener: ListenerId, signal: Option<GuardSignal>) {
        let Some(signal) = signal else {
            self.removed.borrow_mut().remove(&listener);
            return;
        };
        self.removed.borrow_mut().insert(listener, signal);
        let watches = self.watches.borrow();
        let of_listener = watches.iter().filter_map(Weak::upgrade).filter(|watch| watch.listener() == listener);
        of_listener.for_each(|watch| watch.send_signal(signal));
    }

    /// The drain timeout of the process or of this listener has passed: the gateway itself cuts the requests in flight.
    pub(crate) fn has_cut(&self, listener: ListenerId) -> bool {
        let is_cut = |signal: Option<GuardSignal>| signal == Some(GuardSignal::Cut);
        is_cut(self.stage.get()) || is_cut(self.removed.borrow().get(&listener).copied())
    }

    /// Signals the stages of the drain to all connections. Never ends.
    pub(crate) async fn propagate_drain(self: Rc<Self>, mut drain: Drain) {
        for (stage, signal) in [(Stage::Draining, GuardSignal::Drain), (Stage::Cut, GuardSignal::Cut)] {
            drain.reached(stage).await;
            self.stage.set(Some(signal));
            self.clock.begin_drain();
            let watches = self.watches.borrow();
            watches.iter().filter_map(Weak::upgrade).for_each(|watch| watch.send_signal(signal));
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
