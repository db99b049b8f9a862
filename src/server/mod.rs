//! From bytes to requests: listeners, TLS, connection timeouts and the drain. Knows nothing of OAuth or routes.

pub(crate) mod accept;
pub(crate) mod answering;
pub(crate) mod certificate;
pub(crate) mod connection;
pub(crate) mod connection_limiter;
pub(crate) mod drain;
pub(crate) mod exchange_guard;
pub(crate) mod frame_meter;
pub(crate) mod guard;
mod guard_clock;
mod guard_timeouts;
pub(crate) mod handshakes;
pub(crate) mod http_connection;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod output_backlog;
mod protocols;
pub(crate) mod proxy_header;
pub(crate) mod received_request;
pub(crate) mod socket;
pub(crate) mod tls;
pub(crate) mod tunnel;
pub(crate) mod watch;
pub(crate) mod watched_io;
pub(crate) mod worker_connections;
