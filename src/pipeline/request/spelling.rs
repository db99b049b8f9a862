//! The spellings of a path: the canonical one, the decoded one, and the caller's own.
//!
//! A path that could be read in two ways is refused: dot and empty segments, encoded slashes and backslashes, control
//! bytes, bad escapes, escapes of escapes, path parameters. Of these, the forms that a route has opted in to are
//! accepted here, but never a dot segment, however a service splits the path and removes its parameters. A path that
//! can be read in one way only has one canonical spelling: escapes of ordinary characters are decoded, hex digits are
//! upper case (RFC 3986 §6.2.2).
//!
//! The caller's own spelling means the same to every reader that decodes once. Punctuation that is escaped stays
//! escaped there, since signatures of URLs cover it. Letters, digits, `-`, `.` and `_` never stay escaped: no client
//! needs that, and a service that compares the undecoded path with names to be protected would not recognise them.

use percent_encoding::percent_decode_str;

use super::ambiguous::Ambiguous;
use super::path_forms::{PathForm, PathForms};

/// The spellings of an accepted path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Spelling {
    /// `None`: the path as it came.
    pub(super) canonical: Option<String>,
    /// Every escape decoded, except those of `/`, `\` and `;`. `None`: the canonical spelling.
    pub(super) decoded: Option<String>,
    /// The caller's own. `None`: the canonical spelling.
    pub(super) received: Option<String>,
    pub(super) forms: PathForms,
}

/// Forms that are not `allowed` are refused.
pub(super) fn spelling(path: &str, allowed: PathForms) -> Result<Spelling, Ambiguous> {
    let after_slash = path.strip_prefix('/').ok_or(Ambiguous::Target)?;
    let (mut has_escape, mut has_semicolon) = (false, false);
    for byte in path.bytes() {
        match byte {
            b'/' => {}
            b'%' => has_escape = true,
            b';' if allowed.contains(PathForm::Semicolon) => has_semicolon = true,
            b';' => return Err(Ambiguous::Parameter),
            b'\\' => return Err(Ambiguous::Slash),
            _ if is_ordinary(byte) => {}
            _ => return Err(Ambiguous::Character),
        }
    }
    let mut spelling = if has_escape { respell(path, allowed)? } else { Spelling::default() };
    let after_slash = spelling.canonical.as_ref().map_or(after_slash, |canonical| &canonical[1..]);
    if has_semicolon {
        spelling.forms.insert(PathForm::Semicolon);
    }
    if has_empty_segment(after_slash, allowed)? {
        spelling.forms.insert(PathForm::EmptySegment);
    }
    if !spelling.forms.is_empty() {
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        refuse_other_readings(&decoded)?;
        refuse_dots(&decoded)?;
    } else if let Some(decoded) = spelling.decoded.as_ref().or(spelling.canonical.as_ref()) {
        refuse_other_readings(decoded)?;
    }
    Ok(spelling)
}

/// Refuses a path for an upstream that has a dot segment for some service, or begins like the name of a host: `//` or
/// `/\`, also encoded or after a path parameter.
pub(crate) fn check_forwarded(path: &str) -> Result<(), Ambiguous> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    refuse_dots(&decoded)?;
    let mut segments = lenient_segments(decoded.strip_prefix('/').ok_or(Ambiguous::Target)?);
    let begins_empty = segments.next().is_some_and(str::is_empty);
    if begins_empty && segments.next().is_some() { Err(Ambiguous::EmptySegment) } else { Ok(()) }
}

/// The path as a service reads it that decodes it, takes backslashes for slashes, and removes path parameters and empty
/// segments.
pub(crate) fn lenient_path(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    lenient_segments(&decoded).filter(|segment| !segment.is_empty()).fold(String::new(), |path, name| path + "/" + name)
}

/// The spelling of a configured path that is written decoded, without its first slash; `None` if no request could have
/// it.
pub(crate) fn canonical_spelling(decoded: &str) -> Option<String> {
    let mut spelt = String::from("/");
    for byte in decoded.bytes() {
        if is_ordinary(byte) || byte == b'/' {
            spelt.push(char::from(byte));
        } else {
            push_escape(&mut spelt, byte);
        }
    }
    spelling(&spelt, PathForms::default()).ok()?;
    Some(spelt.split_off(1))
}

/// Unreserved, sub-delimiters but `;`, `:` and `@` (RFC 3986 §3.3).
const fn is_ordinary(byte: u8) -> bool {
    is_of_names(byte)
        || matches!(byte, b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// The characters of the names that a service may protect.
const fn is_of_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// Whether there is an empty segment. A trailing slash leaves an empty last one, which does not count.
fn has_empty_segment(after_slash: &str, allowed: PathForms) -> Result<bool, Ambiguous> {
    let mut found = false;
    let mut segments = after_slash.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_none() => {}
            "" if allowed.contains(PathForm::EmptySegment) => found = true,
            "" => return Err(Ambiguous::EmptySegment),
            dots if is_dots(dots) => return Err(Ambiguous::DotSegment),
            _ => {}
        }
    }
    Ok(found)
}

/// Spells a path that has escapes. It is ASCII.
fn respell(path: &str, allowed: PathForms) -> Result<Spelling, Ambiguous> {
    let mut spelling = Spelling::default();
    let mut canonical = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((plain, escape, value, after)) = first_escape(rest)? {
        match PathForm::of_escaped(value) {
            Some(form) if allowed.contains(form) => spelling.forms.insert(form),
            Some(form) => return Err(form.fault()),
            None if value.is_ascii_control() => return Err(Ambiguous::Character),
            None => {}
        }
        canonical.push_str(plain);
        let start = canonical.len();
        if is_ordinary(value) {
            canonical.push(char::from(value))
        } else {
            push_escape(&mut canonical, value)
        }
        let kept = if is_of_names(value) { &canonical[start..] } else { escape };
        match &mut spelling.received {
            Some(received) => received.extend([plain, kept]),
            None if kept == &canonical[start..] => {}
            None => {
                let mut received = String::with_capacity(path.len());
                received.extend([&canonical[..start], kept]);
                spelling.received = Some(received);
            }
        }
        rest = after;
    }
    canonical.push_str(rest);
    spelling.received.iter_mut().for_each(|received| received.push_str(rest));
    let decoded = decode(&canonical)?;
    spelling.decoded = (decoded != canonical).then_some(decoded);
    spelling.canonical = Some(canonical);
    Ok(spelling)
}

/// The text of a canonical path, with its escapes of `/`, `\` and `;` as they are.
fn decode(canonical: &str) -> Result<String, Ambiguous> {
    let mut decoded = Vec::with_capacity(canonical.len());
    let mut rest = canonical;
    while let Some((plain, escape, value, after)) = first_escape(rest)? {
        decoded.extend_from_slice(plain.as_bytes());
        match PathForm::of_escaped(value) {
            Some(_) => decoded.extend_from_slice(escape.as_bytes()),
            None => decoded.push(value),
        }
        rest = after;
    }
    decoded.extend_from_slice(rest.as_bytes());
    let decoded = String::from_utf8(decoded).map_err(|_| Ambiguous::Escape)?;
    // C1 control characters can be found only after the bytes are decoded to characters.
    if decoded.chars().any(char::is_control) { Err(Ambiguous::Character) } else { Ok(decoded) }
}

/// The text before the first escape, the escape, its byte, and the text after it.
fn first_escape(text: &str) -> Result<Option<(&str, &str, u8, &str)>, Ambiguous> {
    let Some(at) = text.find('%') else { return Ok(None) };
    let (plain, escaped) = text.split_at(at);
    let (escape, after) = escaped.split_at_checked(3).ok_or(Ambiguous::Escape)?;
    let value = value_of(escape.as_bytes()).ok_or(Ambiguous::Escape)?;
    Ok(Some((plain, escape, value, after)))
}

fn push_escape(text: &mut String, byte: u8) {
    text.push('%');
    text.push(char::from(HEX[usize::from(byte >> 4)]));
    text.push(char::from(HEX[usize::from(byte & 15)]));
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The byte of an escape.
fn value_of(escape: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match escape {
        [b'%', high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// A service that decodes once more, or reads full-width characters as ASCII, must read the same path as the gateway.
fn refuse_other_readings(decoded: &str) -> Result<(), Ambiguous> {
    if decoded.as_bytes().windows(3).any(|text| value_of(text).is_some()) {
        return Err(Ambiguous::EncodedTwice);
    }
    if decoded.is_ascii() {
        return Ok(());
    }
    // Only a path with a dot segment is refused: full-width punctuation in names is legitimate.
    let folded: String = decoded.chars().flat_map(folded).collect();
    refuse_dots(&percent_decode_str(&folded).decode_utf8_lossy())
}

/// Refuses a decoded path with a dot segment, also one between encoded slashes or before a path parameter.
fn refuse_dots(decoded: &str) -> Result<(), Ambiguous> {
    if lenient_segments(decoded).any(is_dots) { Err(Ambiguous::DotSegment) } else { Ok(()) }
}

/// The character's compatibility form (Unicode NFKC), as far as paths are read by it.
fn folded(character: char) -> impl Iterator<Item = char> {
    let (plain, times) = match character {
        '\u{2024}' | '\u{fe52}' => ('.', 1),
        '\u{2025}' => ('.', 2),
        '\u{fe54}' => (';', 1),
        '\u{fe68}' => ('\\', 1),
        '\u{fe6a}' => ('%', 1),
        // The full-width forms are in the order of ASCII.
        '\u{ff01}'..='\u{ff5e}' => {
            (char::from_u32(u32::from(character) - 0xff01 + u32::from('!')).unwrap_or(character), 1)
        }
        other => (other, 1),
    };
    std::iter::repeat_n(plain, times)
}

/// The segments of a decoded path, split at all slashes, without path parameters, which some servers remove first.
fn lenient_segments(decoded: &str) -> impl Iterator<Item = &str> {
    decoded.split(['/', '\\']).map(|segment| segment.split(';').next().unwrap_or_default())
}

fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

#[cfg(test)]
mod tests;
