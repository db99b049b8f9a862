//! Whether the peer takes what is sent to it, of a connection or of one HTTP/2 stream, and how a connection is closed.

use std::cell::Cell;

/// Shared by a writer and the code that has to know which side an exchange waits for.
#[derive(Debug, Default)]
pub(crate) struct WriteProgress {
    is_blocked: Cell<bool>,
    has_given_up: Cell<bool>,
    closes_by_reset: Cell<bool>,
}

impl WriteProgress {
    /// The last write could not proceed.
    pub(crate) fn block(&self) {
        self.is_blocked.set(true);
    }

    pub(crate) fn unblock(&self) {
        self.is_blocked.set(false);
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// The peer took nothing for so long that writing has ended.
    pub(crate) fn give_up(&self) {
        self.has_given_up.set(true);
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.has_given_up.get()
    }

    /// Whether the connection is reset if it is closed now. A reset leaves no state in the kernel: after a regular end
    /// the port would be in TIME_WAIT for a minute, and callers that make the gateway give up its connections could use
    /// up the ports for all others.
    pub(crate) fn close_by_reset(&self, is_reset: bool) {
        self.closes_by_reset.set(is_reset);
    }

    pub(crate) fn closes_by_reset(&self) -> bool {
        self.closes_by_reset.get()
    }
}
