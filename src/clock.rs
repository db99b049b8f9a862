//! The only reader of the system clock.
//!
//! Everything else takes the time as a parameter, so that tests choose it.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted (RFC 7519 §2, NumericDate).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnixTime {
    millis: u64,
}

/// The wall clock now.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the clock")]
pub(crate) fn now() -> UnixTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime { millis: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX) }
}

/// The monotonic clock now: for deadlines and durations, never for tokens.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

impl UnixTime {
    pub(crate) const fn from_seconds(seconds: u64) -> Self {
        Self { millis: seconds.saturating_mul(1000) }
    }

    pub(crate) const fn seconds(self) -> u64 {
        self.millis / 1000
    }

    pub(crate) fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { millis: self.millis.saturating_add(millis) }
    }

    /// False where the clock is certainly wrong: no token can be issued or judged by it.
    pub(crate) fn is_plausible(self) -> bool {
        self >= EARLIEST
    }
}

/// RFC 3339 with milliseconds, in UTC.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.millis).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{time:.3}")
    }
}

/// 2026-01-01T00:00:00Z: this program did not exist before.
const EARLIEST: UnixTime = UnixTime::from_seconds(1_767_225_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339_with_milliseconds() {
        assert_eq!(UnixTime { millis: 1_767_225_600_007 }.to_string(), "2026-01-01T00:00:00.007Z");
    }

    #[test]
    fn a_clock_before_this_program_existed_is_not_believed() {
        assert!(!UnixTime::from_seconds(0).is_plausible());
        assert!(now().is_plausible());
    }
}
