//! Whether the other end takes what it is sent: of a connection, or of one stream of HTTP/2.

use std::sync::atomic::{AtomicBool, Ordering};

/// What a writer leaves for those that have to know which side an exchange waits for. Atomic only because hyper wants a stream that
/// could go to another thread.
#[derive(Debug, Default)]
pub(in crate::upstream) struct WriteProgress {
    is_blocked: AtomicBool,
    gave_up: AtomicBool,
}

impl WriteProgress {
    /// The last write could not go on.
    pub(in crate::upstream) fn block(&self) {
        self.is_blocked.store(true, Ordering::Relaxed);
    }

    pub(in crate::upstream) fn free(&self) {
        self.is_blocked.store(false, Ordering::Relaxed);
    }

    pub(in crate::upstream) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Nothing was taken for so long that nothing more is written.
    pub(in crate::upstream) fn give_up(&self) {
        self.gave_up.store(true, Ordering::Relaxed);
    }

    pub(in crate::upstream) fn has_given_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }
}
