//! The head of a response (RFC 9112 §4, §5).

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Version};
use memchr::memchr;

use super::fault::WireFault;
use super::field_lines::{read_fields, unfold};
use super::framing::{BodyLength, FramingFields, ResponseFraming};
use super::head_scan::HeadScan;
use super::request_head::{HeadLimits, read_version};

#[derive(Clone, Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1. A higher minor version is read as HTTP/1.1.
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BodyLength,
    /// Whether the fields announce bytes of a body, even if the response cannot have one.
    pub(crate) announces_body: bool,
    /// Whether another request may be sent after this response. False after anything that was accepted leniently.
    pub(crate) keeps_alive: bool,
    /// The seconds for which the server keeps the connection unused, if it announces them.
    pub(crate) announced_idle: Option<u64>,
}

/// Reads one head, interim responses included, of the answer to a request with this method. `Ok(None)`: more bytes are
/// needed. On `Ok(Some)` the head has been removed from `buffer`; header values are slices of it.
///
/// Accepted leniently: folded lines, `Content-Length` several times with one value or beside `chunked`, chunks in
/// HTTP/1.0, a last transfer coding other than `chunked`, and a body that is announced where none can be.
pub(crate) fn read_response(
    scan: &mut HeadScan,
    buffer: &mut BytesMut,
    limits: &HeadLimits,
    method: &Method,
) -> Result<Option<ResponseHead>, WireFault> {
    let Some(found) = scan.find_end(buffer, limits.bytes, limits.fields.saturating_add(1))? else { return Ok(None) };
    let head = buffer.split_to(found.length).freeze();
    let line_length = memchr(b'\r', &head).ok_or(WireFault::StatusLine)?;
    let (version, status) = status_line(&head[..line_length])?;
    let section = head.slice(line_length + 2..);
    let ((mut headers, framing), is_folded) = read_lenient(&section, found.lines.saturating_sub(1))?;
    let framed = framing.response_body(version, &mut headers)?;
    let ResponseFraming { announces_body, is_strict, .. } = framed;
    let (body, is_clean) = match body_rule(method, status) {
        BodyRule::Announced => (framed.length, framed.length != BodyLength::UntilClose),
        BodyRule::Omitted => (BodyLength::None, true),
        BodyRule::Forbidden => (BodyLength::None, !announces_body),
    };
    let keeps_alive = !is_folded && is_strict && is_clean && framing.keeps_alive(version, &headers);
    let announced_idle = framing.announced_idle(&headers);
    Ok(Some(ResponseHead { status, version, headers, body, announces_body, keeps_alive, announced_idle }))
}

/// The fields, and whether lines were folded.
fn read_lenient(section: &Bytes, lines: usize) -> Result<((HeaderMap, FramingFields), bool), WireFault> {
    match read_fields(section, lines) {
        Ok(fields) => Ok((fields, false)),
        Err(WireFault::FoldedLine) => {
            let section = unfold(section).ok_or(WireFault::FoldedLine)?;
            read_fields(&section, lines).map(|fields| (fields, true))
        }
        Err(fault) => Err(fault),
    }
}

/// Version and status code. The reason phrase is dropped, and may be missing with or without its space.
fn status_line(line: &[u8]) -> Result<(Version, StatusCode), WireFault> {
    let version_length = memchr(b' ', line).ok_or(WireFault::StatusLine)?;
    let version = read_version(&line[..version_length]).ok_or(WireFault::Version)?;
    let (status, reason) = line[version_length + 1..].split_at_checked(3).ok_or(WireFault::StatusLine)?;
    let is_reason = reason.is_empty() || (reason[0] == b' ' && reason.iter().all(|byte| is_reason_byte(*byte)));
    let status = StatusCode::from_bytes(status).ok().filter(|_| is_reason).ok_or(WireFault::StatusLine)?;
    Ok((version, status))
}

fn is_reason_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// Whether a response has the body that its fields announce (RFC 9112 §6.3, items 1 and 2).
enum BodyRule {
    Announced,
    /// The fields are those of another response.
    Omitted,
    /// The fields are wrong if they announce a body.
    Forbidden,
}

fn body_rule(method: &Method, status: StatusCode) -> BodyRule {
    let is_tunnel = method == Method::CONNECT && status.is_success();
    if is_tunnel || status.is_informational() || status == StatusCode::NO_CONTENT {
        BodyRule::Forbidden
    } else if method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        BodyRule::Omitted
    } else {
        BodyRule::Announced
    }
}

#[cfg(test)]
mod tests;
