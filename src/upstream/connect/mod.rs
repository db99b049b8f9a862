//! The byte stream to a server.

pub(in crate::upstream) mod stream;
pub(in crate::upstream) mod write_progress;
