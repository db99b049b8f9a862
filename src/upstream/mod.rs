//! The services behind us: which of their servers gets a request, connections to it, kept alive and reused, bodies streamed both
//! ways, and what becomes of servers that fail. `exchange` is where a request comes in.

mod alarm;
mod answer_head;
pub(crate) mod balance;
pub(crate) mod body;
pub(crate) mod breaker;
pub(crate) mod connect;
mod connection_auth;
mod copy;
pub(crate) mod ejection;
pub(crate) mod exchange;
pub(crate) mod fault;
pub(crate) mod go_ahead;
pub(crate) mod health;
mod http2;
mod incoming;
mod intake;
pub(crate) mod linger;
pub(crate) mod names;
pub(crate) mod patience;
pub(crate) mod pinned;
pub(crate) mod pool;
pub(crate) mod progress;
pub(crate) mod request_end;
pub(crate) mod retry;
pub(crate) mod service;
mod silence;
pub(crate) mod status;
mod stream;
mod stream_exchange;
pub(crate) mod tls;
pub(crate) mod tunnel;
mod upload;
