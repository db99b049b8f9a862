//! What a connection has been handed and has not written yet, for a body that must not fail before that is out.
//!
//! hyper and h2 throw away what they hold when a body fails. A connection that was polled, has nothing more to do and whose last
//! write went on holds nothing.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// The bodies that wait for one connection's output.
#[derive(Debug, Default)]
pub(super) struct OutputBacklog {
    waiting: RefCell<Vec<Waker>>,
    /// How often everything was written while a body waited.
    emptied: Cell<u32>,
}

/// The state of a connection's output when a body began to wait for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BacklogMark(u32);

impl OutputBacklog {
    pub(super) fn behind(&self) -> BacklogMark {
        BacklogMark(self.emptied.get())
    }

    /// Ready once everything before `behind` was taken has been written.
    pub(super) fn poll(&self, behind: BacklogMark, context: &mut Context<'_>) -> Poll<()> {
        if self.emptied.get() != behind.0 {
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
