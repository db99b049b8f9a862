//! A small body, kept while it passes, for who wants all of it besides.

use std::fmt;

use bytes::Bytes;

pub(in crate::upstream) struct ReplayBuffer {
    bytes: Vec<u8>,
    length: usize,
    then: Box<dyn FnOnce(Bytes)>,
}

impl ReplayBuffer {
    /// Of a body of this length.
    pub(in crate::upstream) fn new(length: usize, then: impl FnOnce(Bytes) + 'static) -> Self {
        Self { bytes: Vec::new(), length, then: Box::new(then) }
    }

    /// Says whether that was all.
    pub(in crate::upstream) fn keep(&mut self, data: &[u8]) -> bool {
        self.bytes.extend_from_slice(data);
        self.bytes.len() >= self.length
    }

    pub(in crate::upstream) fn hand_over(self) {
        (self.then)(self.bytes.into());
    }
}

impl fmt::Debug for ReplayBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Copy({} of {})", self.bytes.len(), self.length)
    }
}
