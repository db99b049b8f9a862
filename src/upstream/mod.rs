//! The services behind us: connections to them, kept alive and reused, and bodies streamed both ways.

pub(crate) mod body;
pub(crate) mod connect;
pub(crate) mod fault;
pub(crate) mod pool;
pub(crate) mod service;
