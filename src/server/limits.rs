//! The limits on connections and requests, with their defaults.
//!
//! `config::raw::limits` has the form of each limit in the file.

use std::time::Duration;

/// The limits of one process. `None` is unlimited, which the configuration must state explicitly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) connections: Option<usize>,
    /// IPv6 counts by /64.
    pub(crate) connections_per_address: Option<usize>,
    /// Handshakes at the same time.
    pub(crate) handshakes: Option<usize>,
    /// Includes the PROXY header.
    pub(crate) handshake_timeout: Option<Duration>,
    /// From the end of the handshake to the first whole request head.
    pub(crate) first_request_timeout: Option<Duration>,
    /// From the first byte of a later request head to its last.
    pub(crate) header_timeout: Option<Duration>,
    /// From the end of a request to the first byte of the next.
    pub(crate) idle_timeout: Option<Duration>,
    /// Between two parts of a body, in either direction.
    pub(crate) body_idle_timeout: Option<Duration>,
    /// The minimum rate of request bodies in bytes per second, while the gateway waits for the client.
    pub(crate) min_body_rate: Option<u64>,
    /// The time for which a client may read nothing although there is output for it. Twice as long for an HTTP/2
    /// stream, because it ends the whole connection.
    pub(crate) write_stall_timeout: Option<Duration>,
    /// Up to a tenth less at random, so that connections that began together do not end together. Requests in flight
    /// are finished.
    pub(crate) connection_age: Option<Duration>,
    /// The request target of a request line.
    pub(crate) uri_bytes: usize,
    /// The request line and header fields together.
    pub(crate) header_bytes: usize,
    pub(crate) header_count: usize,
    /// For routes without a limit of their own.
    pub(crate) body_bytes: Option<u64>,
    pub(crate) token_bytes: usize,
    pub(crate) h2_streams: u32,
    /// Requests in flight in the whole process. Each worker gets an equal share.
    pub(crate) in_flight: usize,
    /// Default: [`limit_per_address`] of `in_flight`.
    pub(crate) in_flight_per_address: usize,
    /// Open tunnels in the whole process. Each worker gets an equal share.
    pub(crate) tunnels: usize,
    /// Default: [`limit_per_address`] of `tunnels`.
    pub(crate) tunnels_per_address: usize,
    /// Without a byte in either direction.
    pub(crate) tunnel_idle_timeout: Option<Duration>,
    pub(crate) memory: Memory,
}

/// One worker's share of the limits.
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

/// The memory budget. Near it, the gateway accepts fewer connections and requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The memory of the machine or the control group.
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

const IN_FLIGHT: usize = 4096;
const TUNNELS: usize = 1000;

/// Half of the limit of the process, so that one address cannot use all. Unlimited if that is.
pub(crate) fn limit_per_address(all: usize) -> usize {
    if all == usize::MAX { all } else { all.div_ceil(2) }
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
            in_flight: IN_FLIGHT,
            in_flight_per_address: limit_per_address(IN_FLIGHT),
            tunnels: TUNNELS,
            tunnels_per_address: limit_per_address(TUNNELS),
            tunnel_idle_timeout: seconds(300),
            memory: Memory::Available,
        }
    }
}
