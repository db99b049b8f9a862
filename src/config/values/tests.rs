use std::fmt::Debug;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

#[track_caller]
fn is<T: ScalarValue + PartialEq + Debug>(text: &str, value: T) {
    assert_eq!(T::parse(text), Ok(value), "{text}");
}

#[track_caller]
fn none_is<T: ScalarValue + Debug>(texts: &[&str]) {
    for text in texts {
        assert!(T::parse(text).is_err(), "{text:?} is {:?}", T::parse(text));
    }
}

#[track_caller]
fn hints<T: ScalarValue + Debug>(text: &str, hint: &str) {
    assert_eq!(T::parse(text).unwrap_err(), hint, "{text}");
}

#[test]
fn durations_have_a_unit() {
    is("500ms", Duration::from_millis(500));
    is("30s", Duration::from_secs(30));
    is("5m", Duration::from_secs(300));
    is("1h", Duration::from_secs(3600));
    is("30d", Duration::from_secs(30 * 86_400));
    is("0s", Duration::ZERO);
    hints::<Duration>("30", "the units are `ms`, `s`, `m`, `h` and `d`");
    hints::<Duration>("3651d", "it is longer than `3650d`");
    hints::<Duration>("18446744073709551615d", "it is longer than `3650d`");
    none_is::<Duration>(&[
        "", "s", "-1s", "+1s", "1.5s", "1 s", " 1s", "01s", "1S", "1min", "1h30m", "1e3s", "12:30", "1_0s",
    ]);
}

#[test]
fn periods_are_not_zero() {
    is("1ms", Period(Duration::from_millis(1)));
    hints::<Period>("0s", "it cannot be 0");
}

#[test]
fn times_have_an_offset() {
    is("2026-01-01T00:00:00Z", UnixTime::from_seconds(1_767_225_600));
    is("2026-01-01T02:00:00+02:00", UnixTime::from_seconds(1_767_225_600));
    none_is::<UnixTime>(&["", "2026-01-01", "2026-01-01T00:00:00", "now", "1767225600"]);
}

#[test]
fn sizes_have_a_binary_unit() {
    is("512B", Size(512));
    is("8KiB", Size(8192));
    is("10MiB", Size(10 << 20));
    is("1GiB", Size(1 << 30));
    hints::<Size>("512", "the units are `B`, `KiB`, `MiB` and `GiB`");
    hints::<Size>("0B", "it cannot be 0");
    hints::<Size>("1025GiB", "it is larger than `1024GiB`");
    none_is::<Size>(&["10MB", "10mib", "1kB", "1 KiB", "1.5GiB", "-1B", "0x10B", "99999999999999999999B"]);
}

#[test]
fn rates_name_their_time() {
    let rate =
        |count, seconds| RatePerPeriod { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(seconds) };
    is("10/s", rate(10, 1));
    is("600/min", rate(600, 60));
    is("10000/h", rate(10_000, 3600));
    is("1000000/d", rate(1_000_000, 86_400));
    hints::<RatePerPeriod>("0/s", "it cannot be 0");
    none_is::<RatePerPeriod>(&["10", "/s", "10/", "10/m", "10 / s", "10/10s", "1.5/s", "-1/s", "4294967296/s"]);
}

#[test]
fn counts_are_plain_digits() {
    is("1", PositiveCount(NonZeroU32::MIN));
    is("4294967295", PositiveCount(NonZeroU32::MAX));
    hints::<PositiveCount>("0", "it cannot be 0");
    hints::<PositiveCount>("4294967296", "it is too large");
    none_is::<PositiveCount>(&[
        "", "-1", "+1", "1e3", "0o17", "0x10", "0755", "1_000", "1.0", "12:30", ".inf", "~", "１",
    ]);
}

#[test]
fn only_true_and_false_are_boolean() {
    is("true", true);
    is("false", false);
    none_is::<bool>(&["yes", "no", "on", "off", "True", "FALSE", "1", "0", "y", "n", ""]);
}

#[test]
fn no_limit_is_spelt_out() {
    is("unlimited", Bound::<PositiveCount>::Unlimited);
    is("5", Bound::AtMost(PositiveCount::parse("5").unwrap()));
    hints::<Bound<PositiveCount>>("0", "to lift the limit, write `unlimited`");
    hints::<Bound<Period>>("0s", "to lift the limit, write `unlimited`");
    none_is::<Bound<PositiveCount>>(&["Unlimited", "none", "-1", "infinite", ".inf"]);
}

#[test]
fn defaults_are_as_documented() {
    is("10000", count(10_000));
    is("1", count(1));
    is("30s", seconds(30));
    is("8KiB", kibibytes(8));
}

#[test]
fn addresses_are_numbers() {
    is("127.0.0.1:8443", SocketAddr::from(([127, 0, 0, 1], 8443)));
    assert!(SocketAddr::parse("[::]:8443").is_ok());
    none_is::<SocketAddr>(&["localhost:8443", "127.0.0.1", ":8443", "8443", "127.1:80", "0.0.0.0:65536", "::1:80"]);
}

proptest! {
    #[test]
    fn every_duration_survives_being_written(number in 0..=3650u64, unit in "ms|s|m|h|d") {
        let milliseconds = match unit.as_str() { "ms" => 1, "s" => 1000, "m" => 60_000, "h" => 3_600_000, _ => 86_400_000 };
        is(&format!("{number}{unit}"), Duration::from_millis(number * milliseconds));
    }

    #[test]
    fn no_text_breaks_a_parser(text in any::<String>()) {
        let _ = (Bound::<PositiveCount>::parse(&text), Period::parse(&text), Size::parse(&text), RatePerPeriod::parse(&text));
        let _ = (SocketAddr::parse(&text), UnixTime::parse(&text));
    }
}
