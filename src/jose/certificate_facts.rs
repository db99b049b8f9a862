//! Facts of an X.509 certificate: its subject, the time in which it is valid, and whether it is an authority's
//! (RFC 5280 §4.1).
//!
//! Takes certificates of any origin, and verifies nothing.

use std::fmt::Write as _;

use super::der::{BMP_STRING, BOOLEAN, DerReader, GENERALIZED_TIME, OBJECT_ID, OCTET_STRING, SEQUENCE, SET, UTC_TIME};
use crate::clock::UnixTime;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFacts {
    /// Such as `CN=service, O=Example`. Without control characters; empty if it names only alternatives.
    pub(crate) subject: String,
    /// `None`: before 1970.
    pub(crate) valid_from: Option<UnixTime>,
    /// `None`: it has no end.
    pub(crate) valid_until: Option<UnixTime>,
    /// It may issue certificates: a CA by its basic constraints, or of version 1, which has none.
    pub(crate) is_authority: bool,
}

/// The optional version, which precedes the serial number.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.19.
const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";
/// 2.5.4, of the usual attributes of a name.
const ATTRIBUTES: &[u8] = b"\x55\x04";
const MAX_SUBJECT: usize = 200;

impl CertificateFacts {
    /// `None` if it is no certificate.
    pub(crate) fn read(certificate: &[u8]) -> Option<Self> {
        let mut fields = DerReader::new(certificate).enter(SEQUENCE)?.enter(SEQUENCE)?;
        let mut first = fields;
        let has_version = first.next()?.0 == VERSION;
        fields.skip_optional(VERSION);
        let [_serial, _algorithm, _issuer] = [fields.next()?, fields.next()?, fields.next()?];
        let mut validity = fields.enter(SEQUENCE)?;
        let [valid_from, valid_until] = [validity.next()?, validity.next()?].map(|(tag, text)| time(tag, text));
        let subject = subject(fields.enter(SEQUENCE)?);
        let is_authority = match fields.find(EXTENSIONS) {
            Some(mut extensions) => may_issue(extensions.enter(SEQUENCE)?),
            None => !has_version,
        };
        Some(Self { subject, valid_from, valid_until, is_authority })
    }

    /// When a certificate ends. `None` if it has no end that can be read.
    pub(crate) fn end_of(certificate: &[u8]) -> Option<UnixTime> {
        Self::read(certificate)?.valid_until
    }
}

/// The object id of the algorithm by which a certificate was signed.
pub(crate) fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let mut fields = DerReader::new(certificate).enter(SEQUENCE)?;
    fields.content(SEQUENCE)?;
    fields.enter(SEQUENCE)?.content(OBJECT_ID)
}

/// Always in UTC and to the second.
fn time(tag: u8, text: &[u8]) -> Option<UnixTime> {
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (century, digits) = match (tag, digits.len()) {
        (GENERALIZED_TIME, 14) => digits.split_at(2),
        (UTC_TIME, 12) => (if digits < "50" { "20" } else { "19" }, digits),
        _ => return None,
    };
    let part = |at: usize| &digits[2 * at..2 * at + 2];
    UnixTime::parse(&format!("{century}{}-{}-{}T{}:{}:{}Z", part(0), part(1), part(2), part(3), part(4), part(5)))
}

/// The usual attributes, the most specific first as people write them.
fn subject(mut names: DerReader<'_>) -> String {
    let mut attributes = Vec::new();
    while let Some((SET, set)) = names.next() {
        let attribute = DerReader::new(set).enter(SEQUENCE).and_then(|mut pair| {
            let label = label(pair.content(OBJECT_ID)?)?;
            let (tag, value) = pair.next()?;
            Some(format!("{label}={}", shown(tag, value)))
        });
        attributes.extend(attribute);
    }
    attributes.reverse();
    attributes.join(", ").chars().take(MAX_SUBJECT).collect()
}

fn label(object_id: &[u8]) -> Option<&'static str> {
    match object_id.strip_prefix(ATTRIBUTES)? {
        [3] => Some("CN"),
        [6] => Some("C"),
        [7] => Some("L"),
        [8] => Some("ST"),
        [10] => Some("O"),
        [11] => Some("OU"),
        _ => None,
    }
}

/// The text of a value. Control characters could change a terminal.
fn shown(tag: u8, value: &[u8]) -> String {
    let text = match tag {
        BMP_STRING => {
            let units: Vec<u16> = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(value).into_owned(),
    };
    text.chars().fold(String::new(), |mut shown, c| {
        let _ = if c.is_control() { write!(shown, "{}", c.escape_default()) } else { shown.write_char(c) };
        shown
    })
}

fn may_issue(mut extensions: DerReader<'_>) -> bool {
    while let Some(mut extension) = extensions.enter(SEQUENCE) {
        if extension.content(OBJECT_ID) == Some(BASIC_CONSTRAINTS) {
            extension.skip_optional(BOOLEAN);
            let constraints = extension.enter(OCTET_STRING).and_then(|mut value| value.enter(SEQUENCE));
            return constraints.and_then(|mut constraints| constraints.content(BOOLEAN)).is_some_and(|ca| ca != [0]);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::super::x509;
    use super::*;

    fn certificate(name: &str) -> CertificateDer<'static> {
        let pair = x509::pair(name, &["localhost"], &[]).unwrap();
        CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
    }

    fn facts(name: &str) -> CertificateFacts {
        CertificateFacts::read(&certificate(name)).unwrap()
    }

    #[test]
    fn the_subject_is_shown_without_control_characters() {
        assert_eq!(facts("service").subject, "CN=service");
        assert_eq!(facts("dé\u{1b}[2J").subject, "CN=dé\\u{1b}[2J");
        assert_eq!(facts(&"a".repeat(500)).subject.len(), MAX_SUBJECT);
        assert!(!facts("service").is_authority);
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (tag, text, expected) in [
            (UTC_TIME, "260228010203Z", Some("2026-02-28T01:02:03Z")),
            (UTC_TIME, "991231235959Z", Some("1999-12-31T23:59:59Z")),
            (GENERALIZED_TIME, "20500101000000Z", Some("2050-01-01T00:00:00Z")),
            (GENERALIZED_TIME, "99991231235959Z", None),
            (GENERALIZED_TIME, "20260101000000", None),
            (UTC_TIME, "20260101000000Z", None),
            (UTC_TIME, "261301000000Z", None),
            (SEQUENCE, "260101000000Z", None),
        ] {
            assert_eq!(time(tag, text.as_bytes()), expected.and_then(UnixTime::parse), "{text}");
        }
    }

    #[test]
    fn only_a_ca_or_a_certificate_of_version_1_is_an_authority() {
        let read = |extension: &[u8]| may_issue(DerReader::new(extension));
        assert!(read(b"\x30\x0f\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x05\x30\x03\x01\x01\xff"));
        assert!(read(b"\x30\x0c\x06\x03\x55\x1d\x13\x04\x05\x30\x03\x01\x01\xff"));
        assert!(!read(b"\x30\x09\x06\x03\x55\x1d\x13\x04\x02\x30\x00"));
        assert!(!read(b"\x30\x0c\x06\x03\x55\x1d\x0f\x04\x05\x30\x03\x01\x01\xff"));
        assert!(!read(b""));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            CertificateFacts::read(&bytes);
        }

        #[test]
        fn no_damage_to_a_certificate_is_too_odd(at in 0usize..600, byte in any::<u8>(), cut in 0usize..600) {
            let mut bytes = certificate("service").to_vec();
            let length = bytes.len();
            bytes[at % length] = byte;
            CertificateFacts::read(&bytes);
            CertificateFacts::read(&bytes[..cut.min(length)]);
        }
    }
}
