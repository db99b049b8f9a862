//! Distinguished names: of the subject of a certificate (RFC 5280 §4.1.2.4), and as text (RFC 4514).
//!
//! Two names are equal if they have the same attributes in the same order, with the same texts: the kind of string that
//! a certificate has does not count, capital letters do. A name that has a value of another kind equals none.

use std::fmt;

use super::der::{BMP_STRING, DerReader, IA5_STRING, NUMERIC_STRING, OBJECT_ID, PRINTABLE_STRING, SEQUENCE, SET};
use super::der::{UTF8_STRING, base128};

/// The most general part first, as in certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DistinguishedName(Vec<NamePart>);

/// A relative distinguished name: its attributes in a fixed order.
type NamePart = Vec<NameAttribute>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NameAttribute {
    /// The content of the object identifier in DER.
    kind: Vec<u8>,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DistinguishedNameFault {
    #[error(
        "expected attributes such as `CN=client,O=Example`, in the order that `openssl x509 -nameopt RFC2253` prints"
    )]
    Shape,
    #[error(
        "this is the form of `openssl x509 -subject`, whose order is the reverse: write what `openssl x509 -noout -subject \
         -nameopt RFC2253` prints after `subject=`"
    )]
    Order,
    #[error("an attribute has an unknown name: write its object identifier, such as `2.5.4.97`")]
    Kind,
    #[error("an attribute has no value, or one in hexadecimal: write its text")]
    Value,
    #[error("write `\\` before each of the characters `\" + , ; < > \\` in a value")]
    Escape,
}

/// Names of attributes, with the content of their object identifiers in DER: those of RFC 4514 §3, and others that
/// `openssl` prints.
const KINDS: [(&str, &[u8]); 14] = [
    ("CN", b"\x55\x04\x03"),
    ("SN", b"\x55\x04\x04"),
    ("serialNumber", b"\x55\x04\x05"),
    ("C", b"\x55\x04\x06"),
    ("L", b"\x55\x04\x07"),
    ("ST", b"\x55\x04\x08"),
    ("STREET", b"\x55\x04\x09"),
    ("O", b"\x55\x04\x0a"),
    ("OU", b"\x55\x04\x0b"),
    ("title", b"\x55\x04\x0c"),
    ("GN", b"\x55\x04\x2a"),
    ("DC", b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19"),
    ("UID", b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01"),
    ("emailAddress", b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"),
];

impl DistinguishedName {
    /// Reads the parts of a name in DER. `None` if a value is of a kind that has no certain text.
    pub(super) fn of_der(mut parts: DerReader<'_>) -> Option<Self> {
        let mut name = Vec::new();
        while let Some((tag, part)) = parts.next() {
            let mut attributes = DerReader::new(part);
            let mut read = Vec::new();
            while let Some(mut attribute) = attributes.enter(SEQUENCE) {
                let kind = attribute.content(OBJECT_ID)?.to_vec();
                let (tag, value) = attribute.next()?;
                read.push(NameAttribute { kind, value: text(tag, value)? });
            }
            if tag != SET || !attributes.is_empty() || read.is_empty() {
                return None;
            }
            read.sort_unstable();
            name.push(read);
        }
        parts.is_empty().then_some(Self(name))
    }

    /// Reads the text of a name, whose first part is the most specific one (RFC 4514 §2.1). Spaces between parts are
    /// ignored.
    pub(crate) fn parse(text: &str) -> Result<Self, DistinguishedNameFault> {
        let parts = split(text, b',')?;
        if is_reverse(text, &parts) {
            return Err(DistinguishedNameFault::Order);
        }
        let mut name = parts.into_iter().map(name_part).collect::<Result<Vec<_>, _>>()?;
        name.reverse();
        Ok(Self(name))
    }

    /// A name without parts names nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// In the form that [`DistinguishedName::parse`] reads.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().rev().enumerate() {
            for (inner, NameAttribute { kind, value }) in part.iter().enumerate() {
                let separator = if inner > 0 { "+" } else { "," };
                let known = KINDS.iter().find(|(_, known)| known == kind).map(|(name, _)| (*name).to_owned());
                let name = known.unwrap_or_else(|| dotted(kind));
                write!(f, "{}{name}={}", if at + inner > 0 { separator } else { "" }, escape(value))?;
            }
        }
        Ok(())
    }
}

/// The object identifier of this content in DER.
fn dotted(kind: &[u8]) -> String {
    let (mut arcs, mut arc) = (Vec::new(), 0_u64);
    for byte in kind {
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            arcs.push(std::mem::take(&mut arc));
        }
    }
    let Some((joined, rest)) = arcs.split_first() else { return String::new() };
    let first = (joined / 40).min(2);
    let all = [first, joined - 40 * first].into_iter().chain(rest.iter().copied());
    all.map(|arc| arc.to_string()).collect::<Vec<_>>().join(".")
}

fn escape(value: &str) -> String {
    let mut text = String::new();
    let (inner, last) = (value.trim_start_matches(' '), value.trim_end_matches(' ').len());
    let first = value.len() - inner.len();
    for (at, character) in value.char_indices() {
        let is_outer = at < first || at >= last || (at == 0 && character == '#');
        if is_outer || "\"+,;<>\\".contains(character) {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

fn text(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING | NUMERIC_STRING => String::from_utf8(value.to_vec()).ok(),
        BMP_STRING if value.len().is_multiple_of(2) => {
            let units: Vec<u16> = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// Whether this is in a form of `openssl` whose first part is the most general one. RFC 2253 has no spaces between parts,
/// so a name with spaces is meant so if it begins with an organization or a place, and ends with a name.
fn is_reverse(text: &str, parts: &[&str]) -> bool {
    let is_one_of = |part: Option<&&str>, kinds: &[&str]| {
        let kind = part.and_then(|part| part.split_once('=')).map(|(kind, _)| kind.trim_matches(' '));
        kind.is_some_and(|kind| kinds.iter().any(|known| known.eq_ignore_ascii_case(kind)))
    };
    let is_spaced = parts.iter().any(|part| part.starts_with(' '));
    let is_from_general = is_one_of(parts.first(), &["C", "ST", "L", "O", "OU", "DC"])
        && is_one_of(parts.last(), &["CN", "emailAddress"]);
    text.starts_with('/') || text.starts_with("subject=") || (is_spaced && is_from_general)
}

/// The texts between separators that have no `\` before them.
fn split(text: &str, separator: u8) -> Result<Vec<&str>, DistinguishedNameFault> {
    let (mut parts, mut from, mut is_escaped) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        if byte == separator && !is_escaped {
            parts.push(&text[from..at]);
            from = at + 1;
        }
        is_escaped = byte == b'\\' && !is_escaped;
    }
    parts.push(&text[from..]);
    if is_escaped { Err(DistinguishedNameFault::Escape) } else { Ok(parts) }
}

fn name_part(text: &str) -> Result<NamePart, DistinguishedNameFault> {
    let mut attributes = split(text, b'+')?.into_iter().map(attribute).collect::<Result<NamePart, _>>()?;
    attributes.sort_unstable();
    Ok(attributes)
}

fn attribute(text: &str) -> Result<NameAttribute, DistinguishedNameFault> {
    let (name, value) = text.split_once('=').ok_or(DistinguishedNameFault::Shape)?;
    if name.ends_with(' ') || value.starts_with(' ') {
        return Err(DistinguishedNameFault::Order);
    }
    let name = name.trim_start_matches(' ');
    let known = KINDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let kind = known.map(|(_, kind)| kind.to_vec()).or_else(|| object_id(name)).ok_or(DistinguishedNameFault::Kind)?;
    Ok(NameAttribute { kind, value: unescaped(value)? })
}

/// Without the spaces after it, and with escapes replaced (RFC 4514 §3).
fn unescaped(text: &str) -> Result<String, DistinguishedNameFault> {
    if text.is_empty() || text.starts_with('#') {
        return Err(DistinguishedNameFault::Value);
    }
    // Trailing spaces that are escaped belong to the value.
    let (mut value, mut kept) = (Vec::new(), 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                value.push(escaped(&mut bytes).ok_or(DistinguishedNameFault::Escape)?);
                kept = value.len();
            }
            b'"' | b';' | b'<' | b'>' | 0 => return Err(DistinguishedNameFault::Escape),
            b' ' => value.push(byte),
            _ => {
                value.push(byte);
                kept = value.len();
            }
        }
    }
    value.truncate(kept);
    String::from_utf8(value).map_err(|_| DistinguishedNameFault::Escape)
}

/// The byte that follows a `\`: a special character, or two hexadecimal digits.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = bytes.next()?;
    if b" \"#+,;<=>\\".contains(&first) {
        return Some(first);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(first)? << 4 | digit(bytes.next()?)?)
}

/// The content of a dotted object identifier in DER (X.690 §8.19).
fn object_id(text: &str) -> Option<Vec<u8>> {
    let arcs: Option<Vec<u32>> = text.split('.').map(|arc| arc.parse().ok()).collect();
    let arcs = arcs?;
    let [first @ 0..=2, second, rest @ ..] = &arcs[..] else { return None };
    if *first < 2 && *second >= 40 {
        return None;
    }
    let joined = first.checked_mul(40)?.checked_add(*second)?;
    Some(std::iter::once(joined).chain(rest.iter().copied()).flat_map(base128).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(one: &str, other: &str) -> bool {
        DistinguishedName::parse(one).unwrap() == DistinguishedName::parse(other).unwrap()
    }

    #[test]
    fn spaces_and_spellings_of_one_name_are_equal() {
        for (one, other) in [
            ("CN=a,O=b", "CN=a, O=b"),
            ("CN=a,O=b", " cn=a , o=b "),
            ("OU=a,CN=b", "OU=a,CN=b "),
            ("CN=a+OU=c,O=b", "OU=c+CN=a,O=b"),
            ("CN=a\\,b", "CN=a\\2cb"),
            ("CN=a\\ ", "2.5.4.3=a\\20"),
            ("CN=\\#a\\=b", "CN=\\#a=b"),
            ("CN=d\\C3\\A9", "CN=dé"),
            ("DC=example", "0.9.2342.19200300.100.1.25=example"),
            ("emailAddress=a@b", "1.2.840.113549.1.9.1=a@b"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn other_names_are_not_equal() {
        for (one, other) in [
            ("CN=a,O=b", "O=b,CN=a"),
            ("CN=a", "CN=A"),
            ("CN=a,O=b", "CN=a+O=b"),
            ("CN=a", "CN=a,O=b"),
            ("CN=a", "O=a"),
            ("CN=a\\,O=b", "CN=a,O=b"),
            ("CN=a\\ ", "CN=a"),
            ("CN=a  b", "CN=a b"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_broken_name_says_what_is_wrong() {
        for (text, fault) in [
            ("", DistinguishedNameFault::Shape),
            ("client", DistinguishedNameFault::Shape),
            ("CN=a,", DistinguishedNameFault::Shape),
            ("O = Example, CN = billing", DistinguishedNameFault::Order),
            ("O=Example, CN=billing", DistinguishedNameFault::Order),
            ("C=AT, O=Example, CN=billing, emailAddress=a@b", DistinguishedNameFault::Order),
            ("/O=Example/CN=billing", DistinguishedNameFault::Order),
            ("subject=CN=billing,O=Example", DistinguishedNameFault::Order),
            ("CN = billing", DistinguishedNameFault::Order),
            ("CN=billing+OU= a", DistinguishedNameFault::Order),
            ("XY=a", DistinguishedNameFault::Kind),
            ("3.1=a", DistinguishedNameFault::Kind),
            ("1.40=a", DistinguishedNameFault::Kind),
            ("CN=", DistinguishedNameFault::Value),
            ("CN=#0c0161", DistinguishedNameFault::Value),
            ("CN=\"a\"", DistinguishedNameFault::Escape),
            ("CN=a;b", DistinguishedNameFault::Escape),
            ("CN=a\\", DistinguishedNameFault::Escape),
            ("CN=a\\zz", DistinguishedNameFault::Escape),
            ("CN=\\ff", DistinguishedNameFault::Escape),
        ] {
            assert_eq!(DistinguishedName::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_value_without_a_certain_text_has_no_name() {
        let with = |tag: u8| {
            let der = [b"\x31\x0c\x30\x0a\x06\x03\x55\x04\x03".as_slice(), &[tag], b"\x03abc"].concat();
            DistinguishedName::of_der(DerReader::new(&der))
        };
        for tag in [UTF8_STRING, PRINTABLE_STRING, IA5_STRING, NUMERIC_STRING] {
            assert_eq!(with(tag), DistinguishedName::parse("CN=abc").ok(), "{tag}");
        }
        for tag in [BMP_STRING, 0x14, 0x1c, SET] {
            assert_eq!(with(tag), None, "{tag}");
        }
    }

    #[test]
    fn the_text_of_a_name_reads_as_the_same_name() {
        for text in [
            "CN=billing,O=Example",
            "OU=c+CN=a,O=b",
            "CN=\\#a\\,b\\\\,O=\\ b\\ ",
            "2.5.4.97=a,1.3.6.1.4.1.311.60.2.1.3=AT,2.999=b",
            "emailAddress=é@b",
        ] {
            let name = DistinguishedName::parse(text).unwrap();
            assert_eq!(DistinguishedName::parse(&name.to_string()), Ok(name), "{text}");
        }
        assert_eq!(DistinguishedName::parse("cn=a, 2.5.4.10=\\62").unwrap().to_string(), "CN=a,O=b");
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[A-Za-z=,+\\\\ #\"é0-9.]{0,40}") {
            if let Ok(name) = DistinguishedName::parse(&text) {
                prop_assert_eq!(DistinguishedName::parse(&name.to_string()), Ok(name));
            }
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = DistinguishedName::of_der(DerReader::new(&bytes));
        }
    }
}
