//! The services behind us: which of their servers gets a request, connections to it, kept alive and reused, bodies streamed both
//! ways, and what becomes of servers that fail. `exchange` is where a request comes in.

mod answer_head;
pub(crate) mod body;
pub(crate) mod body_timeouts;
pub(crate) mod breaker;
pub(crate) mod connect;
mod connection_auth;
pub(crate) mod drain_body;
pub(crate) mod ejection;
pub(crate) mod exchange;
pub(crate) mod expect_continue;
pub(crate) mod fault;
pub(crate) mod health;
mod http2;
mod incoming;
mod liveness;
pub(crate) mod names;
pub(crate) mod pinned;
pub(crate) mod pool;
mod replay;
pub(crate) mod request_end;
pub(crate) mod retry;
mod reusable_deadline;
pub(crate) mod server_set;
pub(crate) mod service;
pub(crate) mod status;
mod stream;
mod stream_exchange;
pub(crate) mod tls;
pub(crate) mod tunnel;
mod upload;
pub(crate) mod upload_progress;
mod write_progress;
