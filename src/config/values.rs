//! Checked values of scalars: counts, durations, times, sizes, rates, limits, addresses.
//!
//! Each value has one spelling, and [`ScalarValue::parse`] is the only way to create one. Nothing is rounded or
//! normalised. Digits are decimal without sign, separators or leading zeros. Values with a type in the domain (scopes,
//! paths, issuers) stay text here and are parsed there.

mod addresses;

use std::num::NonZeroU32;
use std::time::Duration;

use super::form::ValueForm;
use crate::clock::UnixTime;

/// A type that a scalar is parsed into.
pub(super) trait ScalarValue: Sized {
    const QUOTES: Quotes = Quotes::May;

    /// Completes "expected …".
    fn expected() -> String;

    /// The form of the texts that [`parse`](Self::parse) accepts, for the schema.
    fn form() -> ValueForm;

    /// `Err` adds a hint to [`expected`](Self::expected), or is empty.
    fn parse(text: &str) -> Result<Self, Hint>;
}

/// Whether a value may be written in quotation marks. Numbers and truth values may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    May,
    MustNot,
}

pub(super) type Hint = &'static str;

/// A whole number above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PositiveCount(NonZeroU32);

/// A time span above 0. A key that allows 0 takes a plain [`Duration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period(Duration);

/// A number of bytes above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(u64);

/// A number of bytes in each second, above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRate(u64);

/// A whole number of hundredths, from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percent(u32);

/// A number per second, minute, hour or day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RatePerPeriod {
    pub(crate) count: NonZeroU32,
    pub(crate) per: Duration,
}

/// A bound, or the word `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound<T> {
    Unlimited,
    AtMost(T),
}

impl PositiveCount {
    pub(crate) const fn get(self) -> u32 {
        self.0.get()
    }
}

impl Period {
    pub(crate) const fn get(self) -> Duration {
        self.0
    }
}

impl Size {
    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }
}

impl Percent {
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl ByteRate {
    pub(crate) const fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl<T> Bound<T> {
    /// `None` if there is no limit.
    pub(crate) fn at_most(self) -> Option<T> {
        match self {
            Self::Unlimited => None,
            Self::AtMost(limit) => Some(limit),
        }
    }
}

/// Used by the command line, which takes durations in the same form.
impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as ScalarValue>::parse(text).map_err(|hint| match hint {
            "" => format!("expected {}", <Self as ScalarValue>::expected()),
            hint => format!("expected {}: {hint}", <Self as ScalarValue>::expected()),
        })
    }
}

/// Used for the defaults of the raw structs. 0 becomes 1.
pub(super) const fn count(number: u32) -> PositiveCount {
    PositiveCount(NonZeroU32::MIN.saturating_add(number.saturating_sub(1)))
}

pub(super) const fn seconds(number: u64) -> Period {
    Period(Duration::from_secs(number))
}

pub(super) const fn percent(number: u32) -> Percent {
    Percent(number)
}

pub(super) const fn kibibytes(number: u64) -> Size {
    Size(number * 1024)
}

impl ScalarValue for bool {
    const QUOTES: Quotes = Quotes::MustNot;

    fn expected() -> String {
        "`true` or `false`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::Bool
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        text.parse().map_err(|_| "")
    }
}

impl ScalarValue for PositiveCount {
    const QUOTES: Quotes = Quotes::MustNot;

    fn expected() -> String {
        "a count such as `100`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::Integer(1, u32::MAX.into())
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        if text == UNLIMITED {
            return Err(NEVER_UNLIMITED);
        }
        let number = u32::try_from(decimal(text)?).map_err(|_| TOO_LARGE)?;
        NonZeroU32::new(number).map(Self).ok_or(NOT_ZERO)
    }
}

impl ScalarValue for Duration {
    fn expected() -> String {
        "a duration such as `30s`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern("(0|[1-9][0-9]*)(ms|s|m|h|d)", Self::expected(), &["500ms", "30s", "5m", "1h", "30d"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        let (number, unit) = number_and_unit(text)?;
        let unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err("the units are `ms`, `s`, `m`, `h` and `d`"),
        };
        let milliseconds = number.checked_mul(unit).filter(|&product| product <= LONGEST_MILLISECONDS);
        milliseconds.map(Self::from_millis).ok_or("it is longer than `3650d`")
    }
}

impl ScalarValue for Period {
    fn expected() -> String {
        Duration::expected()
    }

    fn form() -> ValueForm {
        ValueForm::pattern("[1-9][0-9]*(ms|s|m|h|d)", Self::expected(), &["500ms", "30s", "5m", "1h", "30d"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        let duration = Duration::parse(text)?;
        if duration.is_zero() { Err(NOT_ZERO) } else { Ok(Self(duration)) }
    }
}

impl ScalarValue for Size {
    fn expected() -> String {
        "a size such as `8KiB`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern("[1-9][0-9]*(B|KiB|MiB|GiB)", Self::expected(), &["512B", "8KiB", "10MiB", "1GiB"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        let (number, unit) = number_and_unit(text)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err("the units are `B`, `KiB`, `MiB` and `GiB`"),
        };
        match number.checked_mul(1 << shift) {
            Some(0) => Err(NOT_ZERO),
            Some(bytes) if bytes <= LARGEST_BYTES => Ok(Self(bytes)),
            _ => Err("it is larger than `1024GiB`"),
        }
    }
}

impl ScalarValue for Percent {
    fn expected() -> String {
        "a part such as `50%`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern("([1-9][0-9]?|100)%", Self::expected(), &["50%"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        let number = text.strip_suffix('%').ok_or("it ends in `%`")?;
        match decimal(number)? {
            0 => Err(NOT_ZERO),
            number @ 1..=100 => Ok(Self(number as u32)),
            _ => Err("it cannot be more than `100%`"),
        }
    }
}

impl ScalarValue for ByteRate {
    fn expected() -> String {
        "a rate such as `240B/s`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern("[1-9][0-9]*(B|KiB|MiB|GiB)/s", Self::expected(), &["240B/s", "1KiB/s"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        let size = text.strip_suffix("/s").ok_or("it is a size and `/s`")?;
        Size::parse(size).map(|size| Self(size.bytes()))
    }
}

impl ScalarValue for RatePerPeriod {
    fn expected() -> String {
        "a rate such as `10/s`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::pattern("[1-9][0-9]*/(s|min|h|d)", Self::expected(), &["10/s", "600/min", "10000/h", "1000000/d"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        let (number, unit) = text.split_once('/').ok_or(RATE_UNITS)?;
        let seconds = match unit {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(RATE_UNITS),
        };
        Ok(Self { count: PositiveCount::parse(number)?.0, per: Duration::from_secs(seconds) })
    }
}

impl<T: ScalarValue> ScalarValue for Bound<T> {
    const QUOTES: Quotes = T::QUOTES;

    fn expected() -> String {
        format!("{}, or `unlimited`", T::expected())
    }

    fn form() -> ValueForm {
        T::form().or_word(UNLIMITED)
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        if text == UNLIMITED {
            return Ok(Self::Unlimited);
        }
        match T::parse(text) {
            Err(NOT_ZERO) => Err("to lift the limit, write `unlimited`"),
            result => result.map(Self::AtMost),
        }
    }
}

impl ScalarValue for UnixTime {
    fn expected() -> String {
        "a time such as `2027-01-31T00:00:00Z`".to_owned()
    }

    fn form() -> ValueForm {
        let pattern = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,3})?(Z|[+-][0-9]{2}:[0-9]{2})";
        ValueForm::pattern(pattern, Self::expected(), &["2027-01-31T00:00:00Z", "2027-01-31T00:00:00+01:00"])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        Self::parse(text).ok_or("RFC 3339, with `Z` or an offset such as `+01:00`")
    }
}

/// The leading digits and the rest.
fn number_and_unit(text: &str) -> Result<(u64, &str), Hint> {
    if text == UNLIMITED {
        return Err(NEVER_UNLIMITED);
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Ok((decimal(&text[..end])?, &text[end..]))
}

fn decimal(digits: &str) -> Result<u64, Hint> {
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !plain || (digits.starts_with('0') && digits != "0") {
        return Err("");
    }
    digits.parse().map_err(|_| TOO_LARGE)
}

const UNLIMITED: &str = "unlimited";

const NEVER_UNLIMITED: Hint = "this limit cannot be lifted";

const NOT_ZERO: Hint = "it cannot be 0";

const RATE_UNITS: Hint = "the units are `/s`, `/min`, `/h` and `/d`";

const TOO_LARGE: Hint = "it is too large";

/// Ten years. Arithmetic on instants does not overflow with it.
const LONGEST_MILLISECONDS: u64 = 3650 * 86_400_000;

const LARGEST_BYTES: u64 = 1024 << 30;

#[cfg(test)]
mod tests;
