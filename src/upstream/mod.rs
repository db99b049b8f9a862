//! The services behind us: which of their servers gets a request, connections to it, kept alive and reused, bodies streamed both
//! ways, and what becomes of servers that fail. `exchange` is where a request comes in.

pub(crate) mod balancing;
pub(crate) mod body;
mod connect;
mod connection_auth;
pub(crate) mod exchange;
pub(crate) mod fault;
pub(crate) mod health_check;
pub(crate) mod http1;
mod http2;
pub(crate) mod names;
pub(crate) mod pinned;
pub(crate) mod pool;
mod response_head;
pub(crate) mod server_set;
pub(crate) mod service;
pub(crate) mod tls;
pub(crate) mod tunnel;
