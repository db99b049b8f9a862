//! Distinguished names: of the subject of a certificate (RFC 5280 §4.1.2.4), and as text (RFC 4514).
//!
//! Two names are equal if they have the same attributes in the same order, with the same texts: the kind of string that
//! a certificate has does not count, capital letters do. A name that has a value of another kind equals none.

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
        let mut name = split(text, b',')?.into_iter().map(name_part).collect::<Result<Vec<_>, _>>()?;
        name.reverse();
        Ok(Self(name))
    }

    /// A name without parts names nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
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
    let name = name.trim_matches(' ');
    let known = KINDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let kind = known.map(|(_, kind)| kind.to_vec()).or_else(|| object_id(name)).ok_or(DistinguishedNameFault::Kind)?;
    Ok(NameAttribute { kind, value: unescaped(value)? })
}

/// Without the spaces around it, and with escapes replaced (RFC 4514 §3).
fn unescaped(text: &str) -> Result<String, DistinguishedNameFault> {
    let text = text.trim_start_matches(' ');
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
            ("CN=a,O=b", " cn = a , o = b "),
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

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[A-Za-z=,+\\\\ #\"é0-9.]{0,40}") {
            let _ = DistinguishedName::parse(&text);
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = DistinguishedName::of_der(DerReader::new(&bytes));
        }
    }
}
