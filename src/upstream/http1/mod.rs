//! HTTP/1.1 to a server.

pub(crate) mod connection;
pub(in crate::upstream) mod reusable_deadline;
