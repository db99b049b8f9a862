//! When a certificate ends: its `notAfter` (RFC 5280 §4.1.2.5), read from its DER.
//!
//! Takes certificates whose form the TLS library has accepted. Verifies nothing.

use crate::clock::UnixTime;

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The optional version, which precedes the serial number.
const VERSION: u8 = 0xa0;

/// `None` if the time is not in the form of the RFC, or later than the year 9999 has days: then it has no end.
pub(crate) fn ends_at(certificate: &[u8]) -> Option<UnixTime> {
    let mut certificate = Elements(Elements(certificate).content(SEQUENCE)?);
    let mut fields = Elements(certificate.content(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    let [_serial, _algorithm, _issuer] = [fields.next()?, fields.next()?, fields.next()?];
    let mut validity = Elements(fields.content(SEQUENCE)?);
    let _not_before = validity.next()?;
    let (tag, text) = validity.next()?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Always in UTC and to the second.
fn time(tag: u8, text: &str) -> Option<UnixTime> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (GENERALIZED_TIME, 14) => (digits[..4].to_owned(), &digits[4..]),
        (UTC_TIME, 12) => (format!("{}{}", if digits < "50" { "20" } else { "19" }, &digits[..2]), &digits[2..]),
        _ => return None,
    };
    let part = |at: usize| &rest[2 * at..2 * at + 2];
    UnixTime::parse(&format!("{year}-{}-{}T{}:{}:{}Z", part(0), part(1), part(2), part(3), part(4)))
}

/// DER elements one after the other.
struct Elements<'d>(&'d [u8]);

impl<'d> Elements<'d> {
    /// The tag and the content of the next element.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // No certificate has 4 GiB.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn content(&mut self, wanted: u8) -> Option<&'d [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::x509::certificate_until;
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        for year in [1999, 2026, 2049, 2050, 4096] {
            let expected = UnixTime::parse(&format!("{year}-02-28T00:00:00Z"));
            assert_eq!(ends_at(&certificate_until(year)), expected, "{year}");
        }
    }

    #[test]
    fn other_times_have_no_end() {
        for (tag, text) in [
            (GENERALIZED_TIME, "99991231235959Z"),
            (GENERALIZED_TIME, "20260101000000"),
            (GENERALIZED_TIME, "20260101000000.5Z"),
            (UTC_TIME, "2601010000Z"),
            (UTC_TIME, "261301000000Z"),
            (SEQUENCE, "260101000000Z"),
        ] {
            assert_eq!(time(tag, text), None, "{text}");
        }
        assert_eq!(time(UTC_TIME, "500101000000Z"), None, "before 1970");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            ends_at(&bytes);
        }

        #[test]
        fn a_cut_certificate_has_no_end_or_the_same(cut in 0usize..400) {
            let whole = certificate_until(2026);
            let end = ends_at(&whole[..cut.min(whole.len())]);
            prop_assert!(end.is_none() || end == ends_at(&whole));
        }
    }
}
