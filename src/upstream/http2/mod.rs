//! HTTP/2 to a server.

pub(in crate::upstream) mod exchange;
pub(in crate::upstream) mod liveness;
pub(in crate::upstream) mod pool;
pub(in crate::upstream) mod upload;
