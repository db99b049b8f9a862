//! The head of a request (RFC 9112 §3, §5).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, Version};
use memchr::memchr;

use super::fault::WireFault;
use super::field_lines::read_fields;
use super::framing::BodyLength;
use super::head_scan::HeadScan;
use super::target::RequestTarget;

/// The limits of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    /// Of a request target.
    pub(crate) target_bytes: usize,
    /// Of the whole head, with the empty line that ends it.
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
}

impl HeadLimits {
    /// The same limits for a header list of HTTP/2, whose size counts 32 bytes more for each field (RFC 9113 §6.5.2).
    /// Pseudo-fields take the place of the request line.
    pub(crate) fn header_list_bytes(&self) -> u32 {
        let overhead = self.fields.saturating_add(PSEUDO_FIELDS).saturating_mul(32);
        u32::try_from(self.bytes.saturating_add(overhead)).unwrap_or(u32::MAX)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) target: RequestTarget,
    /// HTTP/1.0 or HTTP/1.1. A higher minor version is read as HTTP/1.1.
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BodyLength,
    /// Whether the client may send another request behind this one.
    pub(crate) keeps_alive: bool,
    /// Whether the client reads trailers of the answer.
    pub(crate) reads_trailers: bool,
}

/// Method, scheme, authority, path and protocol.
const PSEUDO_FIELDS: usize = 5;

/// `Ok(None)`: more bytes are needed. On `Ok(Some)` the head has been removed from `buffer`; header values are slices
/// of it.
pub(crate) fn read_request(
    scan: &mut HeadScan,
    buffer: &mut BytesMut,
    limits: &HeadLimits,
) -> Result<Option<RequestHead>, WireFault> {
    if scan.skips_line(buffer) {
        buffer.advance(2);
    }
    let found = scan.find_end(buffer, limits.bytes, limits.fields.saturating_add(1));
    let found = found.map_err(|fault| oversize_fault(fault, buffer, limits))?;
    let Some(found) = found else { return Ok(None) };
    let head = buffer.split_to(found.length).freeze();
    let line_length = memchr(b'\r', &head).ok_or(WireFault::RequestLine)?;
    let (method, target, version) = request_line(&head.slice(..line_length), limits.target_bytes)?;
    let (headers, framing) = read_fields(&head.slice(line_length + 2..), found.lines - 1)?;
    let body = framing.request_body(version, &headers)?;
    let keeps_alive = framing.keeps_alive(version, &headers);
    let reads_trailers = framing.reads_trailers(&headers);
    Ok(Some(RequestHead { method, target, version, headers, body, keeps_alive, reads_trailers }))
}

fn request_line(line: &Bytes, max_target: usize) -> Result<(Method, RequestTarget, Version), WireFault> {
    let method_length = memchr(b' ', line).ok_or(WireFault::RequestLine)?;
    let rest = line.slice(method_length + 1..);
    let target_length = memchr(b' ', &rest).filter(|length| *length > 0).ok_or(WireFault::RequestLine)?;
    let version = &rest[target_length + 1..];
    if version.contains(&b' ') {
        return Err(WireFault::RequestLine);
    }
    let method = Method::from_bytes(&line[..method_length]).map_err(|_| WireFault::Method)?;
    let version = read_version(version).ok_or(WireFault::Version)?;
    if target_length > max_target {
        return Err(WireFault::TargetTooLong);
    }
    let target = RequestTarget::read(rest.slice(..target_length), &method)?;
    Ok((method, target, version))
}

/// `HTTP/1.0`, `HTTP/1.1`, and higher minor versions as HTTP/1.1 (RFC 9110 §2.5).
pub(super) fn read_version(text: &[u8]) -> Option<Version> {
    match text.strip_prefix(b"HTTP/1.")? {
        b"0" => Some(Version::HTTP_10),
        [minor] if minor.is_ascii_digit() => Some(Version::HTTP_11),
        _ => None,
    }
}

/// If a head has no end within its limit because of a long target, the target is at fault.
fn oversize_fault(fault: WireFault, buffer: &[u8], limits: &HeadLimits) -> WireFault {
    let mut line = buffer[..buffer.len().min(limits.bytes)].split(|byte| *byte == b'\r').next().unwrap_or_default();
    line = memchr(b' ', line).map_or(&[], |space| &line[space + 1..]);
    let target_length = memchr(b' ', line).unwrap_or(line.len());
    if fault == WireFault::HeadTooLarge && target_length > limits.target_bytes {
        return WireFault::TargetTooLong;
    }
    fault
}

#[cfg(test)]
mod tests;
