//! HTTP/2 to a server: a connection carries many requests at once.

mod liveness;
mod connection;
pub(super) mod pool;
mod dedicated;
pub(super) mod upload;
pub(super) mod response;
pub(super) mod exchange;
