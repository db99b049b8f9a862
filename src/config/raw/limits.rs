//! `limits`. A limit on memory that an unauthenticated client can use cannot be `unlimited`.
//!
//! A row has the name and the form of a limit. Its meaning and its default are those of the field of [`Limits`] with
//! the same name; a name that only one of both has does not compile.

use std::time::Duration;

use super::super::decode::mirror;
use super::super::source::At;
use super::super::values::{Bound, ByteRate, Period, PositiveCount, Size};
use crate::server::limits::{Limits, Memory, limit_per_address};

/// A row is `name: form`, or `name: form = rule(other)` if its default depends on another limit that is above it.
macro_rules! limits {
    ($($key:ident: $form:ty $(= $default:ident($other:ident))?,)*) => {
        mirror! {
            struct RawLimits {
                $($key: At<Option<$form>> = None,)*
            }
        }

        impl RawLimits {
            /// The limits of the file, with the defaults of those that it does not have.
            pub(crate) fn or_default(&self) -> Limits {
                let defaults = Limits::default();
                $(let $key = match self.$key.value {
                    Some(given) => given.limit(),
                    None => limits!(@default defaults, $key $(, $default($other))?),
                };)*
                Limits { $($key),* }
            }
        }
    };
    (@default $defaults:ident, $key:ident) => { $defaults.$key };
    (@default $defaults:ident, $key:ident, $default:ident($other:ident)) => { $default($other) };
}

limits! {
    connections: Bound<PositiveCount>,
    connections_per_address: Bound<PositiveCount>,
    handshakes: Bound<PositiveCount>,
    handshake_timeout: Bound<Period>,
    first_request_timeout: Bound<Period>,
    header_timeout: Bound<Period>,
    idle_timeout: Bound<Period>,
    body_idle_timeout: Bound<Period>,
    min_body_rate: Bound<ByteRate>,
    write_stall_timeout: Bound<Period>,
    connection_age: Bound<Period>,
    uri_bytes: Size,
    header_bytes: Size,
    header_count: PositiveCount,
    body_bytes: Bound<Size>,
    token_bytes: Size,
    h2_streams: PositiveCount,
    in_flight: Bound<PositiveCount>,
    in_flight_per_address: Bound<PositiveCount> = limit_per_address(in_flight),
    tunnels: Bound<PositiveCount>,
    tunnels_per_address: Bound<PositiveCount> = limit_per_address(tunnels),
    tunnel_idle_timeout: Bound<Period>,
    memory: Bound<Size>,
}

/// A value of the file as a value of [`Limits`].
trait LimitValue<T> {
    fn limit(self) -> T;
}

impl<V: LimitValue<T>, T> LimitValue<Option<T>> for Bound<V> {
    fn limit(self) -> Option<T> {
        self.at_most().map(V::limit)
    }
}

impl LimitValue<usize> for Bound<PositiveCount> {
    fn limit(self) -> usize {
        self.at_most().map_or(usize::MAX, PositiveCount::limit)
    }
}

impl LimitValue<Memory> for Bound<Size> {
    fn limit(self) -> Memory {
        self.at_most().map_or(Memory::Unlimited, |size| Memory::Bytes(size.bytes()))
    }
}

impl LimitValue<usize> for PositiveCount {
    fn limit(self) -> usize {
        self.get() as usize
    }
}

impl LimitValue<u32> for PositiveCount {
    fn limit(self) -> u32 {
        self.get()
    }
}

impl LimitValue<usize> for Size {
    fn limit(self) -> usize {
        usize::try_from(self.bytes()).unwrap_or(usize::MAX)
    }
}

impl LimitValue<u64> for Size {
    fn limit(self) -> u64 {
        self.bytes()
    }
}

impl LimitValue<u64> for ByteRate {
    fn limit(self) -> u64 {
        self.bytes_per_second()
    }
}

impl LimitValue<Duration> for Period {
    fn limit(self) -> Duration {
        self.get()
    }
}
