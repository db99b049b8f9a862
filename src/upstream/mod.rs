//! The services behind us: connections to them, kept alive and reused, and bodies streamed both ways.

mod answer_head;
pub(crate) mod body;
pub(crate) mod connect;
pub(crate) mod exchange;
pub(crate) mod fault;
pub(crate) mod pool;
pub(crate) mod request_end;
pub(crate) mod service;
pub(crate) mod tunnel;
