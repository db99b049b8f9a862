//! The only reader of the system clock.
//!
//! All other code takes the time as a parameter, so that tests can choose it.

use std::cell::Cell;
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

    /// Reads RFC 3339 §5.6 in upper case, with an offset and at most milliseconds. Gives `None` for anything else. A
    /// leap second also gives `None`: this type cannot represent it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if !is_rfc_3339(text) {
            return None;
        }
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self { millis: u64::try_from(time.as_millisecond()).ok()? })
    }

    /// RFC 3339 without milliseconds, in UTC, for humans.
    pub(crate) fn to_the_second(self) -> String {
        format!("{}Z", date_and_time(self.seconds()).as_str())
    }

    /// RFC 3339 with milliseconds, in UTC, without `fmt` (faster).
    pub(crate) fn print(self) -> [u8; 24] {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        text[..19].copy_from_slice(&date_and_time(self.seconds()).0);
        let millis = self.millis % 1000;
        for (place, value) in [(20, millis / 100), (21, millis / 10), (22, millis)] {
            text[place] = b'0' + (value % 10) as u8;
        }
        text
    }

    /// Zero if `other` is later.
    pub(crate) fn since(self, other: Self) -> Duration {
        Duration::from_millis(self.millis.saturating_sub(other.millis))
    }

    /// Reads the date of an HTTP header, in any of the three formats of RFC 9110 §5.6.7.
    pub(crate) fn from_http_date(text: &str) -> Option<Self> {
        let date = httpdate::parse_http_date(text).ok()?;
        Some(Self::from_seconds(date.duration_since(UNIX_EPOCH).ok()?.as_secs()))
    }

    /// The date of an HTTP header (RFC 9110 §5.6.7).
    pub(crate) fn to_http_date(self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.seconds()))
    }

    pub(crate) fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { millis: self.millis.saturating_add(millis) }
    }

    /// False if the clock is certainly wrong. Then no token can be issued or validated.
    pub(crate) fn is_plausible(self) -> bool {
        self >= EARLIEST
    }
}

/// RFC 3339 with milliseconds, in UTC.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.print()).unwrap_or_default())
    }
}

/// Accepts `2026-01-01T00:00:00`, then an optional fraction of one to three digits, then `Z` or an offset such as
/// `+01:00`. The calendar library alone would accept more formats.
fn is_rfc_3339(text: &str) -> bool {
    let fits = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                b'5' => matches!(byte, b'0'..=b'5'),
                b'2' => matches!(byte, b'0'..=b'2'),
                other => byte == other,
            })
    };
    let Some((time, rest)) = text.split_at_checked(19) else { return false };
    let fraction = rest.strip_prefix('.').map(|rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let offset = match fraction {
        Some(digits @ 1..=3) => rest.get(1 + digits..).unwrap_or_default(),
        Some(_) => return false,
        None => rest,
    };
    let known = offset == "Z" || fits(offset, "+20:50") || fits(offset, "-20:50");
    let hours = offset.get(1..3).unwrap_or_default();
    fits(time, "0000-00-00T20:50:50") && known && hours < "24"
}

/// `2026-01-01T00:00:00`. The last result is cached, because most calls are for the same second.
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

/// 2026-01-01T00:00:00Z, before the first release of this program.
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
    fn times_are_read_with_any_offset() {
        for (text, seconds) in [
            ("2026-01-01T00:00:00Z", 1_767_225_600),
            ("2026-01-01T00:00:00.000Z", 1_767_225_600),
            ("2026-01-01T01:30:00+01:30", 1_767_225_600),
            ("2025-12-31T12:00:00.0-12:00", 1_767_225_600),
            ("2024-02-29T23:59:59-00:00", 1_709_251_199),
        ] {
            assert_eq!(UnixTime::parse(text), Some(UnixTime::from_seconds(seconds)), "{text}");
        }
        assert_eq!(UnixTime::parse("2026-01-01T00:00:00.25Z"), Some(UnixTime { millis: 1_767_225_600_250 }));
        assert_eq!(UnixTime::from_seconds(1_767_225_600).to_the_second(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn other_formats_than_rfc_3339_with_an_offset_are_refused() {
        for bad in [
            "",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01 00:00:00Z",
            "2026-01-01t00:00:00z",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+01",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+01:60",
            "2026-01-01T00:00:00Z[UTC]",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.1234Z",
            "2026-01-01T00:00:00,5Z",
            "2026-01-01T24:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2016-12-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "+02026-01-01T00:00:00Z",
            "1767225600",
            "2026-01-01T00:00:0\u{660}Z",
            "2026-01-01T00:00:00\u{2212}01:00",
        ] {
            assert_eq!(UnixTime::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_of_http_headers_are_read() {
        let read = |text| UnixTime::from_http_date(text).map(UnixTime::seconds);
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(text), Some(784_111_777), "{text}");
        }
        for bad in ["", "Sun, 06 Nov 1994 08:49:37", "Mon, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1894 08:49:37 GMT"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_clock_before_this_program_existed_is_not_believed() {
        assert!(!UnixTime::from_seconds(0).is_plausible());
        assert!(now().is_plausible());
    }
}
