//! The bounds on connections and on the requests they carry.

use std::time::Duration;

/// What one process takes on. `None` is unlimited, which the configuration must spell out.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: Option<usize>,
    /// IPv6 counts by /64.
    pub(crate) connections_per_address: Option<usize>,
    /// Under way at once.
    pub(crate) handshakes: Option<usize>,
    /// A PROXY header included.
    pub(crate) handshake_timeout: Option<Duration>,
    /// From the end of the handshake to the first whole request head.
    pub(crate) first_request_timeout: Option<Duration>,
    /// From the first byte of a later request head to its last.
    pub(crate) header_timeout: Option<Duration>,
    /// From the end of a request to the first byte of the next.
    pub(crate) idle_timeout: Option<Duration>,
    /// Between two pieces of a body, in either direction.
    pub(crate) body_idle_timeout: Option<Duration>,
    /// Bytes in a second, of request bodies, while it is the client that is waited for.
    pub(crate) min_body_rate: Option<u64>,
    /// How long a peer may take no byte that we have for it; twice as long on a stream of HTTP/2, which takes its connection along.
    pub(crate) write_stall_timeout: Option<Duration>,
    /// Up to a tenth less, so that connections that came together do not go together; what is under way ends first.
    pub(crate) connection_age: Option<Duration>,
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
    pub(crate) in_flight_per_address: usize,
    /// Open at once, in the whole process; each worker takes its share.
    pub(crate) tunnels: usize,
    pub(crate) tunnels_per_address: usize,
    /// Without a byte in either direction.
    pub(crate) tunnel_idle_timeout: Option<Duration>,
    pub(crate) memory: Memory,
}

/// One worker's part of what the process takes on at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerLimits {
    pub(crate) in_flight: usize,
    pub(crate) in_flight_per_address: usize,
    pub(crate) tunnels: usize,
    pub(crate) tunnels_per_address: usize,
    pub(crate) handshakes: Option<usize>,
}

impl Limits {
    pub(crate) fn share(&self, workers: usize) -> WorkerLimits {
        WorkerLimits {
            in_flight: self.in_flight.div_ceil(workers),
            in_flight_per_address: self.in_flight_per_address.div_ceil(workers),
            tunnels: self.tunnels.div_ceil(workers),
            tunnels_per_address: self.tunnels_per_address.div_ceil(workers),
            handshakes: self.handshakes.map(|all| all.div_ceil(workers)),
        }
    }
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
            handshakes: Some(512),
            handshake_timeout: seconds(10),
            first_request_timeout: seconds(10),
            header_timeout: seconds(10),
            idle_timeout: seconds(60),
            body_idle_timeout: seconds(30),
            min_body_rate: Some(240),
            write_stall_timeout: seconds(30),
            connection_age: seconds(3600),
            uri_bytes: 8 * 1024,
            header_bytes: 32 * 1024,
            header_count: 100,
            body_bytes: Some(10 * 1024 * 1024),
            token_bytes: 8 * 1024,
            h2_streams: 100,
            in_flight: 4096,
            in_flight_per_address: 2048,
            tunnels: 1000,
            tunnels_per_address: 500,
            tunnel_idle_timeout: seconds(300),
            memory: Memory::Available,
        }
    }
}
