//! The canonical form of a request, on which every decision is based.
//!
//! Built once from the raw head; routing, policy, the audit log and the upstream request line all use it and nothing
//! else. A request that could be read in two ways is refused: dot and empty segments, encoded slashes and backslashes,
//! control bytes, bad escapes, escapes of escapes, path parameters, two hosts. A path that can be read in one way only
//! is written in one way: escapes of ordinary characters are decoded, hex digits are upper case (RFC 3986 §6.2.2).

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Version};

use super::ambiguous::Ambiguous;
use super::authority::Authority;
use crate::http1::target::{OriginForm, RequestTarget};
use crate::server::limits::Limits;
use crate::server::received_request::ReceivedHead;

/// {method, authority, path, raw query}.
#[derive(Debug)]
pub(crate) struct CanonicalRequest {
    pub(crate) method: Method,
    pub(crate) authority: Rc<Authority>,
    target: OriginForm,
    /// The path with every escape decoded, where that differs from the canonical spelling.
    decoded: Option<Box<str>>,
}

impl CanonicalRequest {
    /// `last` is the host that the connection's last request named. The same host is not read again.
    pub(crate) fn new(
        head: &ReceivedHead,
        scheme: &str,
        last: &RefCell<Option<Rc<Authority>>>,
        limits: &Limits,
    ) -> Result<Self, Ambiguous> {
        // The scheme of an absolute target or of HTTP/2 must be the connection's own.
        if matches!(&head.target, RequestTarget::Absolute { scheme: named, .. } if named != scheme) {
            return Err(Ambiguous::Scheme);
        }
        // h2 reads an empty length as 0.
        if head.version == Version::HTTP_2 && head.headers.get_all(CONTENT_LENGTH).iter().any(HeaderValue::is_empty) {
            return Err(Ambiguous::Length);
        }
        if head.headers.len() > limits.header_count {
            return Err(Ambiguous::TooManyFields);
        }
        let raw = match &head.target {
            RequestTarget::Origin(path) | RequestTarget::Absolute { path, .. } => path,
            RequestTarget::Authority(_) | RequestTarget::Asterisk => return Err(Ambiguous::Target),
        };
        if raw.as_str().len() > limits.uri_bytes {
            return Err(Ambiguous::UriTooLong);
        }
        let authority = Authority::of(head, scheme, last)?;
        let (target, decoded) = match spelling(raw.path())? {
            Spelling::Canonical => (raw.clone(), None),
            Spelling::Other { canonical, decoded } => {
                (join(&canonical, raw.query())?, decoded.map(String::into_boxed_str))
            }
        };
        Ok(Self { method: head.method.clone(), authority, target, decoded })
    }

    /// The canonical spelling, for the audit log and the upstream.
    pub(crate) fn path(&self) -> &str {
        self.target.path()
    }

    /// The path that routes are matched against.
    pub(crate) fn decoded_path(&self) -> &str {
        self.decoded.as_deref().unwrap_or_else(|| self.target.path())
    }

    /// Path and query in their canonical spelling.
    pub(crate) fn target(&self) -> &OriginForm {
        &self.target
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// This path with the query of the request, for a route that rewrites the path.
    pub(crate) fn target_at(&self, path: &str) -> Result<OriginForm, Ambiguous> {
        join(path, self.query())
    }

    /// The target without its first `segments` path segments, for a route that strips them.
    pub(crate) fn target_without(&self, segments: usize) -> Result<OriginForm, Ambiguous> {
        if segments == 0 {
            return Ok(self.target.clone());
        }
        let rest = self.path().splitn(segments + 2, '/').nth(segments + 1).unwrap_or_default();
        join(&format!("/{rest}"), self.query())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Spelling {
    /// The canonical and the decoded form.
    Canonical,
    Other {
        canonical: String,
        decoded: Option<String>,
    },
}

fn spelling(path: &str) -> Result<Spelling, Ambiguous> {
    let after_slash = path.strip_prefix('/').ok_or(Ambiguous::Target)?;
    let mut plain = true;
    for byte in path.bytes() {
        match byte {
            b'/' => {}
            b'%' => plain = false,
            b';' => return Err(Ambiguous::Parameter),
            b'\\' => return Err(Ambiguous::Slash),
            _ if is_ordinary(byte) => {}
            _ => return Err(Ambiguous::Character),
        }
    }
    if plain {
        refuse_segments(after_slash)?;
        return Ok(Spelling::Canonical);
    }
    let (canonical, decoded) = respell(path)?;
    refuse_segments(&canonical[1..])?;
    refuse_second_reading(&decoded)?;
    let decoded = (decoded != canonical).then_some(decoded);
    Ok(Spelling::Other { canonical, decoded })
}

/// Unreserved, sub-delimiters but `;`, `:` and `@` (RFC 3986 §3.3).
fn is_ordinary(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
        )
}

/// A trailing slash leaves an empty last segment, which is fine; any other is not.
fn refuse_segments(after_slash: &str) -> Result<(), Ambiguous> {
    let mut segments = after_slash.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_some() => return Err(Ambiguous::EmptySegment),
            "." | ".." => return Err(Ambiguous::DotSegment),
            _ => {}
        }
    }
    Ok(())
}

/// The canonical and the decoded spelling.
fn respell(path: &str) -> Result<(String, String), Ambiguous> {
    let mut canonical = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            canonical.push(char::from(byte));
            decoded.push(byte);
            continue;
        }
        let value = escape(bytes.next(), bytes.next()).ok_or(Ambiguous::Escape)?;
        match value {
            b'/' | b'\\' => return Err(Ambiguous::Slash),
            // A proxy behind the gateway that decodes the path and does not encode it again would turn this into a path
            // parameter.
            b';' => return Err(Ambiguous::Parameter),
            0..=0x1f | 0x7f => return Err(Ambiguous::Character),
            ordinary if is_ordinary(ordinary) => canonical.push(char::from(ordinary)),
            other => push_escape(&mut canonical, other),
        }
        decoded.push(value);
    }
    let decoded = String::from_utf8(decoded).map_err(|_| Ambiguous::Escape)?;
    // C1 control characters can be found only after the bytes are decoded to characters.
    if decoded.chars().any(char::is_control) { Err(Ambiguous::Character) } else { Ok((canonical, decoded)) }
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
    spelling(&spelt).ok()?;
    Some(spelt.split_off(1))
}

fn push_escape(text: &mut String, byte: u8) {
    text.push('%');
    text.push(char::from(HEX[usize::from(byte >> 4)]));
    text.push(char::from(HEX[usize::from(byte & 15)]));
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn escape(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high?)? << 4 | digit(low?)?)
}

/// A service that decodes once more, or reads full-width characters as ASCII, must read the same path as the gateway.
fn refuse_second_reading(decoded: &str) -> Result<(), Ambiguous> {
    if decoded.as_bytes().windows(3).any(|text| text[0] == b'%' && escape(Some(text[1]), Some(text[2])).is_some()) {
        return Err(Ambiguous::EncodedTwice);
    }
    if decoded.is_ascii() {
        return Ok(());
    }
    // Only a path with a dot segment is refused: full-width punctuation in names is legitimate.
    let folded: String = decoded.chars().flat_map(folded).collect();
    let again: Vec<u8> = percent_encoding::percent_decode_str(&folded).collect();
    if again.split(|byte| matches!(byte, b'/' | b'\\')).any(is_dotted) { Err(Ambiguous::DotSegment) } else { Ok(()) }
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

/// A dot segment, also one with a path parameter, which some servers remove first.
fn is_dotted(segment: &[u8]) -> bool {
    matches!(segment.split(|byte| *byte == b';').next(), Some(b"." | b".."))
}

fn join(path: &str, query: Option<&str>) -> Result<OriginForm, Ambiguous> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    OriginForm::from_bytes(Bytes::from(text)).map_err(|_| Ambiguous::Character)
}

#[cfg(test)]
mod tests;
