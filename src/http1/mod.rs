//! HTTP/1.1 (RFC 9112): readers and writers without input and output.

pub(crate) mod fault;
pub(crate) mod target;
