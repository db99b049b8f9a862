//! The connection guard: timeouts that hyper does not have.
//!
//! Each worker has one coarse clock and checks all its connections at each tick, so that a request needs no timer. A
//! connection records its progress in its [`Watch`]; the guard ends connections without progress. Timeouts are exact to
//! one tick.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::drain::{Drain, Stage};
use super::guard_clock::GuardClock;
use super::limits::Limits;
use super::watch::{GuardSignal, Watch};

/// The guard of one worker's connections.
#[derive(Debug)]
pub(crate) struct Guard {
    clock: Rc<GuardClock>,
    stage: Cell<Option<GuardSignal>>,
    watches: RefCell<Vec<Weak<Watch>>>,
}

impl Guard {
    pub(crate) fn new(limits: &Limits) -> Rc<Self> {
        let clock = Rc::new(GuardClock::new(limits));
        Rc::new(Self { clock, stage: Cell::new(None), watches: RefCell::default() })
    }

    /// Watches a connection whose handshake has ended.
    pub(crate) fn watch(&self, multiplexed: bool) -> Rc<Watch> {
        let watch = Rc::new(Watch::new(Rc::clone(&self.clock), multiplexed, self.stage.get()));
        self.watches.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Checks all connections at every tick. Never ends.
    pub(crate) async fn run_timeouts(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(self.clock.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.check_all();
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

    /// The drain timeout has passed: the gateway itself cuts the requests in flight.
    pub(crate) fn has_cut(&self) -> bool {
        self.stage.get() == Some(GuardSignal::Cut)
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
