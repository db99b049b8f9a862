//! Field lines (RFC 9112 §5) into a header map.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

use super::fault::WireFault;
use super::framing::FramingFields;

/// The room for fields that are added to a header on its way, so that it need not grow.
const ADDED_LATER: usize = 4;
const CRLF: usize = 2;

/// Reads a section of `lines` field lines, with the empty line that ends it. Its line ends have been checked. Values
/// are slices of it.
pub(super) fn read_fields(section: &Bytes, lines: usize) -> Result<(HeaderMap, FramingFields), WireFault> {
    let mut framing = FramingFields::default();
    let mut headers = HeaderMap::try_with_capacity(lines + ADDED_LATER).map_err(|_| WireFault::TooManyFields)?;
    let mut rest: &[u8] = section;
    while let Some(length) = memchr(b'\r', rest).filter(|length| *length > 0) {
        let (name, value) = read_line(&rest[..length], section).ok_or_else(|| broken_rule(rest))?;
        framing.note(&name);
        headers.try_append(name, value).map_err(|_| WireFault::TooManyFields)?;
        rest = &rest[length + CRLF..];
    }
    Ok((headers, framing))
}

/// `name ":" OWS value OWS`, of a section. `None` if a rule is broken.
fn read_line(line: &[u8], section: &Bytes) -> Option<(HeaderName, HeaderValue)> {
    let colon = memchr(b':', line)?;
    // Neither type takes a blank before the colon, a control byte or an empty name.
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_maybe_shared(section.slice_ref(trim_blanks(&line[colon + 1..]))).ok()?;
    Some((name, value))
}

/// Without optional white space (RFC 9110 §5.6.3), which has no other bytes than these two.
fn trim_blanks(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|byte| !is_blank(*byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(*byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// The rule that the first invalid line of a section breaks.
fn broken_rule(section: &[u8]) -> WireFault {
    for line in section.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match memchr(b':', line) {
            _ if line.is_empty() => {}
            _ if line.starts_with(b" ") || line.starts_with(b"\t") => return WireFault::FoldedLine,
            None => return WireFault::FieldLine,
            Some(name_length) if HeaderName::from_bytes(&line[..name_length]).is_err() => return WireFault::FieldName,
            Some(name_length) if HeaderValue::from_bytes(&line[name_length + 1..]).is_err() => {
                return WireFault::FieldValue;
            }
            Some(_) => {}
        }
    }
    WireFault::FieldLine
}

/// Joins folded lines by one space (RFC 9112 §5.2). `None` if the first line continues none, or a continuation is
/// blank.
pub(super) fn unfold(section: &[u8]) -> Option<Bytes> {
    let mut joined: Vec<u8> = Vec::with_capacity(section.len());
    for line in section.split_inclusive(|byte| *byte == b'\n') {
        let blanks = line.iter().take_while(|byte| is_blank(**byte)).count();
        if blanks > 0 {
            let line_end = joined.strip_suffix(b"\r\n")?;
            let text_length = line_end.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |last| last + 1);
            joined.truncate(text_length);
            joined.push(b' ');
            if line[blanks..].starts_with(b"\r") {
                return None;
            }
        }
        joined.extend_from_slice(&line[blanks..]);
    }
    Some(joined.into())
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
