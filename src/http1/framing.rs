//! The length of a body, as the fields of a head give it (RFC 9112 §6).

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::fault::WireFault;

/// Of HTTP/1.0 and RFC 2068 §19.7.1.1, and still sent by many servers.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// The greatest accepted `Content-Length`, in bytes.
const MAX_LENGTH: u64 = 1 << 63;

/// The length of a message body (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    None,
    /// In bytes.
    Exact(u64),
    Chunked,
    /// The body ends with the connection. Only responses have such a body.
    UntilClose,
}

/// The fields of a head that decide on its body and its connection. Noted while the fields are read, so that absent
/// ones are not looked up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FramingFields {
    pub(super) length: bool,
    pub(super) coding: bool,
    pub(super) connection: bool,
    pub(super) te: bool,
    pub(super) keep_alive: bool,
}

/// The body that the fields of a response announce, whatever its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResponseFraming {
    pub(super) length: BodyLength,
    pub(super) announces_body: bool,
    /// False after anything that was accepted leniently.
    pub(super) is_strict: bool,
}

impl FramingFields {
    pub(super) fn note(&mut self, name: &HeaderName) {
        self.length |= *name == CONTENT_LENGTH;
        self.coding |= *name == TRANSFER_ENCODING;
        self.connection |= *name == CONNECTION;
        self.te |= *name == TE;
        self.keep_alive |= *name == KEEP_ALIVE;
    }

    /// The length of a request's body, by strict rules: one `Content-Length`, or one `Transfer-Encoding: chunked`.
    pub(super) fn request_body(self, version: Version, headers: &HeaderMap) -> Result<BodyLength, WireFault> {
        match (self.coding, self.length) {
            (true, true) => Err(WireFault::LengthAndCoding),
            (true, false) if version == Version::HTTP_10 => Err(WireFault::CodingInHttp10),
            (true, false) => {
                let mut values = headers.get_all(TRANSFER_ENCODING).iter();
                let is_chunked = values.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
                if is_chunked && values.next().is_none() { Ok(BodyLength::Chunked) } else { Err(WireFault::Coding) }
            }
            (false, true) => {
                let mut values = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
                let first = values.next().unwrap_or_default();
                if first.contains(&b',') || values.next().is_some() {
                    return Err(WireFault::SeveralLengths);
                }
                length(first).map(BodyLength::Exact)
            }
            (false, false) => Ok(BodyLength::None),
        }
    }

    /// The body that a response announces. Several equal lengths become one in `headers`; lengths beside a coding are
    /// removed.
    pub(super) fn response_body(self, version: Version, headers: &mut HeaderMap) -> Result<ResponseFraming, WireFault> {
        if self.coding {
            let is_chunked = ends_with_chunked(headers)?;
            headers.remove(CONTENT_LENGTH);
            let length = if is_chunked { BodyLength::Chunked } else { BodyLength::UntilClose };
            let is_strict = is_chunked && !self.length && version != Version::HTTP_10;
            return Ok(ResponseFraming { length, announces_body: true, is_strict });
        }
        if !self.length {
            return Ok(ResponseFraming { length: BodyLength::UntilClose, announces_body: false, is_strict: true });
        }
        let mut values = headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(is_comma));
        let first = length(values.next().unwrap_or_default().trim_ascii())?;
        let mut is_strict = true;
        for value in values {
            is_strict = false;
            if length(value.trim_ascii())? != first {
                return Err(WireFault::SeveralLengths);
            }
        }
        if !is_strict {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(first));
        }
        Ok(ResponseFraming { length: BodyLength::Exact(first), announces_body: first > 0, is_strict })
    }

    /// Whether the recipient reads trailers (RFC 9110 §10.1.4).
    pub(super) fn reads_trailers(self, headers: &HeaderMap) -> bool {
        self.te && lists(headers, &TE, "trailers")
    }

    /// The seconds for which the sender keeps an unused connection, if it announces them: the least `timeout` of
    /// `Keep-Alive`. Its `max` is not read: a server that counts says `Connection: close` in its last response.
    pub(super) fn announced_idle(self, headers: &HeaderMap) -> Option<u64> {
        if !self.keep_alive {
            return None;
        }
        let values = headers.get_all(KEEP_ALIVE).iter();
        values.flat_map(|value| value.as_bytes().split(is_comma)).filter_map(timeout_parameter).min()
    }

    /// Whether the connection persists after the message, by version and `Connection` (RFC 9112 §9.3).
    pub(super) fn keeps_alive(self, version: Version, headers: &HeaderMap) -> bool {
        let is_named = |option: &str| lists(headers, &CONNECTION, option);
        match (self.connection, version == Version::HTTP_10) {
            (false, is_old) => !is_old,
            (true, false) => !is_named("close"),
            (true, true) => is_named("keep-alive") && !is_named("close"),
        }
    }
}

/// Whether the last transfer coding is `chunked`. A second `chunked` is refused (RFC 9112 §6.1), and so is a value that
/// is no list of tokens.
fn ends_with_chunked(headers: &HeaderMap) -> Result<bool, WireFault> {
    let values = headers.get_all(TRANSFER_ENCODING).iter();
    let (mut chunked, mut is_last) = (0, false);
    for coding in values.flat_map(|value| value.as_bytes().split(is_comma)).map(<[u8]>::trim_ascii) {
        is_last = coding.eq_ignore_ascii_case(b"chunked");
        chunked += usize::from(is_last);
        // A field name is a token too.
        if chunked > 1 || HeaderName::from_bytes(coding).is_err() {
            return Err(WireFault::Coding);
        }
    }
    Ok(is_last)
}

/// Whether a field whose value is a list has this member.
fn lists(headers: &HeaderMap, name: &HeaderName, member: &str) -> bool {
    let mut members = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(is_comma));
    members.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(member.as_bytes()))
}

/// The number of `timeout=N`; the greatest one if it has too many digits.
fn timeout_parameter(parameter: &[u8]) -> Option<u64> {
    let equals = memchr::memchr(b'=', parameter)?;
    let (name, value) = (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let seconds = || std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX);
    (name.eq_ignore_ascii_case(b"timeout") && is_number).then(seconds)
}

fn is_comma(byte: &u8) -> bool {
    *byte == b','
}

/// A `Content-Length`: digits and nothing else (RFC 9110 §8.6).
pub(crate) fn length(digits: &[u8]) -> Result<u64, WireFault> {
    if digits.is_empty() {
        return Err(WireFault::Length);
    }
    let mut length = 0_u64;
    for digit in digits {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'));
        length = value
            .and_then(|value| length.checked_mul(10)?.checked_add(value))
            .filter(|length| *length <= MAX_LENGTH)
            .ok_or(WireFault::Length)?;
    }
    Ok(length)
}
