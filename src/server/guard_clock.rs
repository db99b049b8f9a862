//! The coarse clock of a worker's connections, and the timeouts that are counted in its ticks.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::guard_timeouts::GuardTimeouts;
use super::limits::Limits;
use crate::clock::{self, UnixTime};

/// Shared by the guard and all connections that it watches.
#[derive(Debug)]
pub(super) struct GuardClock {
    tick: Cell<Duration>,
    timeouts: Cell<GuardTimeouts>,
    now: Cell<u32>,
    /// The tick at which the drain began.
    drains_since: Cell<Option<u32>>,
    date: RefCell<DateLine>,
}

/// The `Date` field line of answers, rendered once a second. It may be a tick late.
#[derive(Debug)]
struct DateLine {
    seconds: u64,
    text: String,
}

impl DateLine {
    fn new(now: UnixTime) -> Self {
        Self { seconds: now.seconds(), text: format!("date: {}\r\n", now.to_http_date()) }
    }
}

impl GuardClock {
    pub(super) fn new(limits: &Limits) -> Self {
        let (tick, timeouts) = GuardTimeouts::new(limits);
        Self {
            tick: Cell::new(tick),
            timeouts: Cell::new(timeouts),
            now: Cell::new(0),
            drains_since: Cell::new(None),
            date: RefCell::new(DateLine::new(clock::now())),
        }
    }

    /// Other limits, also for connections that are open. A tick never becomes longer: the ticks that a connection has
    /// counted so far would then stand for more time than has passed.
    pub(super) fn set_limits(&self, limits: &Limits) {
        let (tick, timeouts) = GuardTimeouts::within(limits, self.tick.get());
        self.tick.set(tick);
        self.timeouts.set(timeouts);
    }

    pub(super) fn tick(&self) -> Duration {
        self.tick.get()
    }

    pub(super) fn timeouts(&self) -> GuardTimeouts {
        self.timeouts.get()
    }

    /// The current tick. Ticks wrap around.
    pub(super) fn now(&self) -> u32 {
        self.now.get()
    }

    pub(super) fn advance(&self) {
        self.now.set(self.now.get().wrapping_add(1));
        let now = clock::now();
        if self.date.borrow().seconds != now.seconds() {
            self.date.replace(DateLine::new(now));
        }
    }

    /// Calls `write` with the field line of the current date.
    pub(super) fn with_date<T>(&self, write: impl FnOnce(&[u8]) -> T) -> T {
        write(self.date.borrow().text.as_bytes())
    }

    pub(super) fn ticks_since(&self, since: u32) -> u32 {
        self.now.get().wrapping_sub(since)
    }

    /// Records that the drain has begun. Later calls change nothing.
    pub(super) fn begin_drain(&self) {
        self.drains_since.set(self.drains_since.get().or(Some(self.now.get())));
    }

    /// The number of ticks since the drain began.
    pub(super) fn drain_ticks(&self) -> Option<u32> {
        self.drains_since.get().map(|since| self.ticks_since(since))
    }
}
