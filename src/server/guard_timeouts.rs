//! The timeouts of the connection guard, counted in ticks of its clock.

use std::time::Duration;

use super::limits::Limits;

/// Numbers of ticks. `None` is no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuardTimeouts {
    /// After this time without a request, a connection gives up its buffers.
    pub(super) rest: u32,
    pub(super) first_request: Option<u32>,
    pub(super) head: Option<u32>,
    pub(super) idle: Option<u32>,
    pub(super) write: Option<u32>,
    /// For an answer on one of the streams of an HTTP/2 connection.
    pub(super) stream: Option<u32>,
    age: Option<u32>,
}

const LONGEST_TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// A client that sends its next request sooner finds the buffers in place.
const REST_AFTER: Duration = Duration::from_secs(1);

impl GuardTimeouts {
    /// The tick is an eighth of the shortest timeout, so that timeouts are exact to an eighth.
    pub(super) fn new(limits: &Limits) -> (Duration, Self) {
        Self::within(limits, LONGEST_TICK)
    }

    /// The same, with a tick of this length at most.
    pub(super) fn within(limits: &Limits, longest_tick: Duration) -> (Duration, Self) {
        let all = [
            limits.first_request_timeout,
            limits.header_timeout,
            limits.idle_timeout,
            limits.write_stall_timeout,
            limits.connection_age,
        ];
        let shortest = all.into_iter().flatten().min().unwrap_or(LONGEST_TICK);
        let tick = (shortest / 8).clamp(SHORTEST_TICK, longest_tick.max(SHORTEST_TICK));
        // Rounded up, plus one: no connection is ended before its time.
        let ticks = |limit: Duration| u32::try_from(limit.as_nanos().div_ceil(tick.as_nanos()) + 1).unwrap_or(u32::MAX);
        let timeouts = Self {
            rest: ticks(REST_AFTER),
            first_request: limits.first_request_timeout.map(ticks),
            head: limits.header_timeout.map(ticks),
            idle: limits.idle_timeout.map(ticks),
            write: limits.write_stall_timeout.map(ticks),
            stream: limits.write_stall_timeout.map(|timeout| ticks(timeout.saturating_mul(2))),
            age: limits.connection_age.map(ticks),
        };
        (tick, timeouts)
    }

    /// An age between 90 % of the maximum and the maximum, so that connections that began together do not end together.
    pub(super) fn random_age(&self) -> Option<u32> {
        self.age.map(|maximum| maximum - fastrand::u32(..=maximum / 10))
    }
}
