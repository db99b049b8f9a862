//! A copy of a small body, made while it is forwarded.

use std::fmt;

use bytes::Bytes;

pub(crate) struct BodyCopy {
    bytes: Vec<u8>,
    length: usize,
    then: Box<dyn FnOnce(Bytes)>,
}

impl BodyCopy {
    /// `then` gets the copy.
    pub(crate) fn new(length: usize, then: impl FnOnce(Bytes) + 'static) -> Self {
        Self { bytes: Vec::new(), length, then: Box::new(then) }
    }

    /// True if the copy is complete.
    pub(crate) fn append(&mut self, data: &[u8]) -> bool {
        self.bytes.extend_from_slice(data);
        self.bytes.len() >= self.length
    }

    pub(crate) fn pass_on(self) {
        (self.then)(self.bytes.into());
    }
}

impl fmt::Debug for BodyCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyCopy({} of {})", self.bytes.len(), self.length)
    }
}
