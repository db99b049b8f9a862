//! Dates of tokens: a number of seconds since 1970, with or without a fraction (`NumericDate`, RFC 7519 §2).
//!
//! Takes the text of a JSON number and gives a date in the years 1970 to 9999. The decimal digits are read, never a
//! float: the float that is nearest to `1799999999.9999999` is a whole second later.

/// A date. It has to be rounded before it is compared, because the clock has whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumericDate {
    seconds: u64,
    has_fraction: bool,
}

/// The last second of the year 9999. Milliseconds of today are far beyond it.
const LAST: u64 = 253_402_300_799;

impl NumericDate {
    pub(crate) fn from_seconds(seconds: u64) -> Option<Self> {
        (seconds <= LAST).then_some(Self { seconds, has_fraction: false })
    }

    /// Reads a number as JSON writes it (RFC 8259 §6). `None` for a negative number and for one beyond the year 9999.
    pub(crate) fn parse(number: &str) -> Option<Self> {
        let (decimal, exponent) = match number.split_once(['e', 'E']) {
            Some((decimal, exponent)) => (decimal, exponent.parse::<i32>().ok()?),
            None => (number, 0),
        };
        let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
        let point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
        let mut date = Self { seconds: 0, has_fraction: false };
        let mut place = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            if place < point {
                date.append(digit)?;
            } else {
                date.has_fraction |= digit != 0;
            }
            place += 1;
        }
        // A positive number ends this loop after twelve digits at most.
        while place < point && date.seconds > 0 {
            date.append(0)?;
            place += 1;
        }
        Some(date)
    }

    pub(crate) fn rounded_down(self) -> u64 {
        self.seconds
    }

    pub(crate) fn rounded_up(self) -> u64 {
        self.seconds + u64::from(self.has_fraction)
    }

    fn append(&mut self, digit: u64) -> Option<()> {
        self.seconds = Self::from_seconds(self.seconds * 10 + digit)?.seconds;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn rounds(number: &str, down: u64, up: u64) {
        let date = NumericDate::parse(number).unwrap();
        assert_eq!((date.rounded_down(), date.rounded_up()), (down, up), "{number}");
    }

    #[test]
    fn a_fraction_is_rounded_by_its_digits_and_never_as_a_float() {
        rounds("1799999999.9999999", 1_799_999_999, 1_800_000_000);
        rounds("1799999999.99999999999999999999999999999999", 1_799_999_999, 1_800_000_000);
        rounds("1800000000.0000000000000000000000000000001", 1_800_000_000, 1_800_000_001);
        rounds("1800000000.000", 1_800_000_000, 1_800_000_000);
        rounds("253402300799.999", 253_402_300_799, 253_402_300_800);
        rounds("0", 0, 0);
        rounds("0.25", 0, 1);
    }

    #[test]
    fn an_exponent_moves_the_point() {
        rounds("2e9", 2_000_000_000, 2_000_000_000);
        rounds("1.5E+9", 1_500_000_000, 1_500_000_000);
        rounds("18000000005e-1", 1_800_000_000, 1_800_000_001);
        rounds("18000000000e-1", 1_800_000_000, 1_800_000_000);
        rounds("0.00000000018e19", 1_800_000_000, 1_800_000_000);
        rounds("1e-400", 0, 1);
        rounds("0e2000000000", 0, 0);
        rounds("0e-2000000000", 0, 0);
    }

    #[test]
    fn a_number_outside_of_the_years_1970_to_9999_is_no_date() {
        for number in [
            "-1",
            "-0",
            "-0.5",
            "253402300800",
            "1800000000000",
            "1e12",
            "1e400",
            "1e2000000000",
            "1e99999999999999999999",
            "99999999999999999999",
            "0.1e2000000000",
        ] {
            assert_eq!(NumericDate::parse(number), None, "{number}");
        }
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_number_is_the_same_date(seconds in 0..=LAST, millis in 0_u64..1000, shift in 0_usize..30) {
            let (down, up) = (seconds, seconds + u64::from(millis > 0));
            rounds(&format!("{seconds}.{millis:03}"), down, up);
            rounds(&format!("{seconds}{millis:03}e-3"), down, up);
            rounds(&format!("{seconds}{millis:03}{}E-{}", "0".repeat(shift), shift + 3), down, up);
            rounds(&format!("0.{}{seconds:012}{millis:03}e+{}", "0".repeat(shift), shift + 12), down, up);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[-+.eE0-9]{0,40}") {
            let _ = NumericDate::parse(&text);
        }
    }
}
