//! `limits`. A limit on memory that an unauthenticated client can use cannot be `unlimited`.

use super::super::decode::mirror;
use super::super::source::At;
use super::super::values::{Bound, ByteRate, Period, PositiveCount, Size, bytes_per_second, count, kibibytes, seconds};

mirror! {
    struct RawLimits {
        connections: At<Bound<PositiveCount>> = Bound::AtMost(count(10_000)),
        /// An IPv6 address counts as its /64.
        connections_per_address: At<Bound<PositiveCount>> = Bound::AtMost(count(256)),
        handshakes: At<Bound<PositiveCount>> = Bound::AtMost(count(512)),
        handshake_timeout: At<Bound<Period>> = Bound::AtMost(seconds(10)),
        first_request_timeout: At<Bound<Period>> = Bound::AtMost(seconds(10)),
        header_timeout: At<Bound<Period>> = Bound::AtMost(seconds(10)),
        idle_timeout: At<Bound<Period>> = Bound::AtMost(seconds(60)),
        body_idle_timeout: At<Bound<Period>> = Bound::AtMost(seconds(30)),
        min_body_rate: At<Bound<ByteRate>> = Bound::AtMost(bytes_per_second(240)),
        write_stall_timeout: At<Bound<Period>> = Bound::AtMost(seconds(30)),
        connection_age: At<Bound<Period>> = Bound::AtMost(seconds(3600)),
        uri_bytes: At<Size> = kibibytes(8),
        header_bytes: At<Size> = kibibytes(32),
        header_count: At<PositiveCount> = count(100),
        body_bytes: At<Bound<Size>> = Bound::AtMost(kibibytes(10 * 1024)),
        token_bytes: At<Size> = kibibytes(8),
        h2_streams: At<PositiveCount> = count(100),
        in_flight: At<Bound<PositiveCount>> = Bound::AtMost(count(4096)),
        /// Default: half of `in_flight`.
        in_flight_per_address: Option<At<Bound<PositiveCount>>>,
        tunnels: At<Bound<PositiveCount>> = Bound::AtMost(count(1000)),
        /// Default: half of `tunnels`.
        tunnels_per_address: Option<At<Bound<PositiveCount>>>,
        tunnel_idle_timeout: At<Bound<Period>> = Bound::AtMost(seconds(300)),
        /// Default: nine tenths of the memory of the machine or the control group.
        memory: Option<At<Bound<Size>>>,
    }
}
