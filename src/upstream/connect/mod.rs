//! The byte stream to a server: by TCP, TLS or a Unix socket.

pub(super) mod write_progress;
pub(super) mod stream;
pub(super) mod open;
pub(super) mod target;
