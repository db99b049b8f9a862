//! HTTP/1.1 to a server: a connection carries one request after the other.

pub(super) mod reusable_deadline;
pub(super) mod connection_slot;
mod output_buffer;
pub(super) mod connection;
mod upload;
mod shared_connection;
pub(super) mod response;
pub(super) mod exchange;
