//! An answer on an HTTP/2 stream, as the connection guard sees it.

use std::cell::Cell;
use std::rc::Rc;

use super::guard_clock::GuardClock;

/// An answer on an HTTP/2 stream. While the client's flow-control window is closed, h2 does not poll its body.
#[derive(Debug)]
pub(crate) struct Answering {
    clock: Rc<GuardClock>,
    since: Cell<u32>,
    /// The body had data at the last poll. Otherwise it waits for the upstream.
    had_data: Cell<bool>,
}

impl Answering {
    pub(super) fn new(clock: Rc<GuardClock>) -> Self {
        let since = Cell::new(clock.now());
        Self { clock, since, had_data: Cell::new(true) }
    }

    /// Records a poll of the body, and whether it had data.
    pub(crate) fn polled(&self, had_data: bool) {
        self.since.set(self.clock.now());
        self.had_data.set(had_data);
    }

    /// The client has not read the data of the body for the time of the limit.
    pub(super) fn is_stalled(&self) -> bool {
        let limit = self.clock.timeouts().stream;
        self.had_data.get() && limit.is_some_and(|limit| self.clock.ticks_since(self.since.get()) >= limit)
    }
}
