//! The bounds on connections and on the requests they carry.

use std::time::Duration;

/// What one process takes on. `None` is unlimited, which the configuration must spell out.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: Option<usize>,
    /// IPv6 counts by /64.
    pub(crate) connections_per_address: Option<usize>,
    pub(crate) handshake_timeout: Option<Duration>,
    /// From the end of the handshake to the first whole request head.
    pub(crate) first_request_timeout: Option<Duration>,
    /// From the first byte of a later request head to its last.
    pub(crate) header_timeout: Option<Duration>,
    /// From the end of a request to the first byte of the next.
    pub(crate) idle_timeout: Option<Duration>,
    /// Between two pieces of a body, in either direction.
    pub(crate) body_idle_timeout: Option<Duration>,
    /// How long a peer may take no byte that we have for it.
    pub(crate) write_stall_timeout: Option<Duration>,
    /// The request target of a request line.
    pub(crate) uri_bytes: usize,
    /// The request line and header fields together.
    pub(crate) header_bytes: usize,
    pub(crate) header_count: usize,
    /// What a route takes that sets no bound of its own.
    pub(crate) body_bytes: Option<u64>,
    pub(crate) token_bytes: usize,
    pub(crate) h2_streams: u32,
    /// Requests under way at once, in the whole process; each worker takes its share.
    pub(crate) in_flight: usize,
    pub(crate) memory: Memory,
}

/// How much memory the process may take before it takes on less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// As much as the machine or the control group has.
    Available,
    Bytes(u64),
    Unlimited,
}

impl Memory {
    /// `None` is unlimited.
    pub(crate) fn bytes(self, available: impl FnOnce() -> Option<u64>) -> Option<u64> {
        match self {
            Self::Available => available(),
            Self::Bytes(bytes) => Some(bytes),
            Self::Unlimited => None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        Self {
            connections: Some(10_000),
            connections_per_address: Some(256),
            handshake_timeout: seconds(10),
            first_request_timeout: seconds(10),
            header_timeout: seconds(10),
            idle_timeout: seconds(60),
            body_idle_timeout: seconds(30),
            write_stall_timeout: seconds(30),
            uri_bytes: 8 * 1024,
            header_bytes: 32 * 1024,
            header_count: 100,
            body_bytes: Some(10 * 1024 * 1024),
            token_bytes: 8 * 1024,
            h2_streams: 100,
            in_flight: 4096,
            memory: Memory::Available,
        }
    }
}
