//! Request targets (RFC 9112 §3.2).

use std::fmt;

use bytes::Bytes;
use http::Method;

use super::fault::WireFault;

/// A path and perhaps a query: begins with `/`, visible ASCII without `#`. The characters `"`, `<` and `>`, which URIs
/// do not have, occur in queries only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginForm {
    text: Bytes,
    path_length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestTarget {
    Origin(OriginForm),
    Absolute {
        /// In lower case.
        scheme: Bytes,
        /// Host and perhaps port, as they came.
        authority: Bytes,
        /// `/` if the URI has no path.
        path: OriginForm,
    },
    /// Host and port, of `CONNECT`.
    Authority(Bytes),
    /// `*`, of `OPTIONS`.
    Asterisk,
}

impl fmt::Display for OriginForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl OriginForm {
    pub(crate) fn from_bytes(text: Bytes) -> Result<Self, WireFault> {
        let path_length = memchr::memchr(b'?', &text).unwrap_or(text.len());
        let (path, query) = text.split_at(path_length);
        let is_path = path.first() == Some(&b'/') && all(path, is_path_byte);
        if !is_path || !all(query, is_query_byte) {
            return Err(if text.contains(&b'#') { WireFault::Fragment } else { WireFault::Target });
        }
        Ok(Self { text, path_length })
    }

    /// Path and query.
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.text).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        &self.as_str()[..self.path_length]
    }

    /// Without its `?`. A query may be empty.
    pub(crate) fn query(&self) -> Option<&str> {
        self.as_str().get(self.path_length + 1..)
    }
}

impl RequestTarget {
    /// Reads the target of a request with this method.
    pub(super) fn read(text: Bytes, method: &Method) -> Result<Self, WireFault> {
        match text.first() {
            _ if method == Method::CONNECT => authority_form(text),
            Some(b'/') => OriginForm::from_bytes(text).map(Self::Origin),
            Some(b'*') if text.len() == 1 && method == Method::OPTIONS => Ok(Self::Asterisk),
            _ => absolute_form(&text),
        }
    }
}

fn authority_form(text: Bytes) -> Result<RequestTarget, WireFault> {
    match port(&text) {
        Some(port) if !port.is_empty() => Ok(RequestTarget::Authority(text)),
        _ => Err(WireFault::Target),
    }
}

fn absolute_form(text: &Bytes) -> Result<RequestTarget, WireFault> {
    let scheme_length = memchr::memmem::find(text, b"://").ok_or(WireFault::Target)?;
    let scheme = text.slice(..scheme_length);
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    let rest = text.slice(scheme_length + 3..);
    let authority_length = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let authority = rest.slice(..authority_length);
    if !is_scheme || port(&authority).is_none() {
        return Err(WireFault::Target);
    }
    let path = match rest.get(authority_length) {
        Some(b'/') => rest.slice(authority_length..),
        None => Bytes::from_static(b"/"),
        Some(_) => Bytes::from([b"/", &rest[authority_length..]].concat()),
    };
    let scheme = if scheme.iter().any(u8::is_ascii_uppercase) { scheme.to_ascii_lowercase().into() } else { scheme };
    Ok(RequestTarget::Absolute { scheme, authority, path: OriginForm::from_bytes(path)? })
}

/// The port of an authority without user information, empty if it has none. `None` if the text is not an authority.
fn port(authority: &[u8]) -> Option<&[u8]> {
    let host_length = match authority.first()? {
        b'[' => {
            let end = memchr::memchr(b']', authority)?;
            authority[1..end].iter().all(|byte| is_name_byte(*byte) || *byte == b':').then_some(end + 1)?
        }
        _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_length);
    let is_host = host_length > 0 && (host[0] == b'[' || host.iter().all(|byte| is_name_byte(*byte)));
    let port = if port.is_empty() { port } else { port.strip_prefix(b":")? };
    (is_host && port.iter().all(u8::is_ascii_digit)).then_some(port)
}

/// Without an early end, so that the compiler can look at many bytes at once.
fn all(bytes: &[u8], is_good: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |good, byte| good & is_good(*byte))
}

fn is_path_byte(byte: u8) -> bool {
    is_query_byte(byte) & (byte != b'"') & (byte != b'<') & (byte != b'>')
}

fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() & (byte != b'#')
}

/// A byte of a registered name (RFC 3986 §3.2.2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests;
