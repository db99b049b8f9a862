//! The only reader of the system clock.
//!
//! Everything else takes the time as a parameter, so that tests choose it.

use std::cell::Cell;
use std::fmt::{self, Write as _};
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

    /// Reads what RFC 3339 §5.6 calls a `date-time`, in capitals; `None` for anything else, for times before 1970 and for leap
    /// seconds, which this count does not have.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if !is_date_time(text.as_bytes()) {
            return None;
        }
        let millis = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
        u64::try_from(millis).ok().map(|millis| Self { millis })
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
        f.write_str(date_and_time(self.seconds()).as_str())?;
        let millis = self.millis % 1000;
        let digit = |value: u64| char::from(b'0' + (value % 10) as u8);
        f.write_char('.')?;
        [millis / 100, millis / 10, millis].into_iter().try_for_each(|value| f.write_char(digit(value)))?;
        f.write_char('Z')
    }
}

/// The parser takes much more than RFC 3339: signed years, hours alone, spaces, time zones in brackets.
fn is_date_time(text: &[u8]) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let fits = |text: &[u8], shape: &[u8]| {
        let same = |(found, wanted): (&u8, &u8)| if *wanted == b'0' { found.is_ascii_digit() } else { found == wanted };
        text.len() == shape.len() && text.iter().zip(shape).all(same)
    };
    let Some((date_time, rest)) = text.split_at_checked(SHAPE.len()) else { return false };
    let rest = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
    };
    fits(date_time, SHAPE)
        && !date_time.ends_with(b"60")
        && (rest == b"Z" || fits(rest, b"+00:00") || fits(rest, b"-00:00"))
}

/// `2026-01-01T00:00:00`. Most calls are about the second of the call before, which is remembered.
fn date_and_time(seconds: u64) -> DateAndTime {
    thread_local!(static LAST: Cell<(u64, DateAndTime)> = const { Cell::new((u64::MAX, DateAndTime([b'0'; 19]))) });
    let (known, text) = LAST.get();
    if known == seconds {
        return text;
    }
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX)).unwrap_or(jiff::Timestamp::MAX);
    let mut text = DateAndTime([b'0'; 19]);
    let printed = time.to_string();
    if let Some(printed) = printed.as_bytes().get(..19) {
        text.0.copy_from_slice(printed);
    }
    LAST.set((seconds, text));
    text
}

#[derive(Clone, Copy)]
struct DateAndTime([u8; 19]);

impl DateAndTime {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// 2026-01-01T00:00:00Z: this program did not exist before.
const EARLIEST: UnixTime = UnixTime::from_seconds(1_767_225_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339_with_milliseconds() {
        for (millis, text) in [
            (1_767_225_600_007, "2026-01-01T00:00:00.007Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_990, "2000-02-28T23:59:59.990Z"),
        ] {
            assert_eq!(UnixTime { millis }.to_string(), text);
        }
    }

    #[test]
    fn times_are_read_as_rfc_3339_and_nothing_else() {
        for (text, millis) in [
            ("2026-01-01T00:00:00Z", 1_767_225_600_000),
            ("2026-01-01T01:30:00+01:30", 1_767_225_600_000),
            ("2025-12-31T22:00:00.007-02:00", 1_767_225_600_007),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(UnixTime::parse(text), Some(UnixTime { millis }), "{text}");
        }
        for text in [
            "",
            "now",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01t00:00:00z",
            "2026-01-01T00:00:00+01",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00Z[UTC]",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00,5Z",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00+99:00",
            "+002026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "20260101T000000Z",
        ] {
            assert_eq!(UnixTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_clock_before_this_program_existed_is_not_believed() {
        assert!(!UnixTime::from_seconds(0).is_plausible());
        assert!(now().is_plausible());
    }
}
