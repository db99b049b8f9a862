//! The services behind us: connections to them, kept alive and reused, and bodies streamed both ways.

mod answer_head;
pub(crate) mod body;
pub(crate) mod connect;
mod copy;
pub(crate) mod exchange;
pub(crate) mod fault;
pub(crate) mod go_ahead;
mod http2;
mod incoming;
pub(crate) mod linger;
pub(crate) mod names;
pub(crate) mod patience;
pub(crate) mod pool;
pub(crate) mod request_end;
pub(crate) mod service;
mod stream;
mod stream_exchange;
pub(crate) mod tls;
pub(crate) mod tunnel;
mod upload;
