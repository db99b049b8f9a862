//! Heads into bytes (RFC 9112 §3, §4).

use http::{HeaderMap, Method, StatusCode, Version};

use super::field_block::{FieldBlock, write_field, write_unframed};
use super::framing::BodyLength;
use super::target::OriginForm;

/// Appends the head of an HTTP/1.1 request. `length` alone decides on the framing fields, those in `headers` are left
/// out. `blocks` come before `headers`. The body of a request cannot end with the connection: with `UntilClose` chunks are announced.
pub(crate) fn write_request_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &OriginForm,
    headers: &HeaderMap,
    blocks: &[&FieldBlock],
    length: BodyLength,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    blocks.iter().for_each(|block| out.extend_from_slice(block.text()));
    write_unframed(out, headers);
    match length {
        BodyLength::None => {}
        BodyLength::Exact(bytes) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked | BodyLength::UntilClose => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a response. `headers` alone decide on the body.
pub(crate) fn write_response_head(out: &mut Vec<u8>, version: Version, status: StatusCode, headers: &HeaderMap) {
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    headers.iter().for_each(|(name, value)| write_field(out, name, value));
    out.extend_from_slice(b"\r\n");
}
