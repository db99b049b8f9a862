//! Lets a response body wait until its HTTP/2 connection has written its earlier output.
//!
//! When a body fails, h2 discards the output that it has not written yet. A connection has written
//! everything when it was polled, is pending, and its last write did not stall.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// The bodies that wait for the output of one connection.
#[derive(Debug, Default)]
pub(super) struct OutputBacklog {
    waiting: RefCell<Vec<Waker>>,
    /// The number of times that everything was written while a body waited.
    emptied: Cell<u32>,
}

/// The position in a connection's output at which a body began to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BacklogMark(u32);

impl OutputBacklog {
    pub(super) fn output_mark(&self) -> BacklogMark {
        BacklogMark(self.emptied.get())
    }

    /// Ready once everything before the mark has been written.
    pub(super) fn poll(&self, output_mark: BacklogMark, context: &mut Context<'_>) -> Poll<()> {
        if self.emptied.get() != output_mark.0 {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Everything has been written.
    pub(super) fn emptied(&self) {
        self.emptied.set(self.emptied.get().wrapping_add(1));
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}
