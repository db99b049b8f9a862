//! HTTP/1.1 to a server: a connection carries one request after the other.

mod reusable_deadline;
pub(super) mod connection_slot;
pub(super) mod connection;
