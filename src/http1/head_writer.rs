//! Heads into bytes (RFC 9112 §3, §4).

use http::{HeaderMap, Method, StatusCode, Version};

use super::field_block::{FieldBlock, write_field, write_unframed};
use super::framing::BodyLength;
use super::target::OriginForm;

/// Appends the head of an HTTP/1.1 request. `length` alone decides on the framing fields, those in `headers` are left
/// out. `blocks` come before `headers`. The body of a request cannot end with the connection: with `UntilClose` chunks
/// are announced.
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
        BodyLength::Exact(bytes) => write_content_length(out, bytes),
        BodyLength::Chunked | BodyLength::UntilClose => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a response. `headers` alone decide on the body.
pub(crate) fn write_response_head(out: &mut Vec<u8>, version: Version, status: StatusCode, headers: &HeaderMap) {
    write_status_line(out, version, status);
    headers.iter().for_each(|(name, value)| write_field(out, name, value));
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn write_status_line(out: &mut Vec<u8>, version: Version, status: StatusCode) {
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn write_content_length(out: &mut Vec<u8>, bytes: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(fields: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap())
        });
        let mut headers = HeaderMap::new();
        fields.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    fn request(fields: &[(&'static str, &'static [u8])], blocks: &[&FieldBlock], length: BodyLength) -> String {
        let mut out = b"before ".to_vec();
        let target = OriginForm::from_bytes("/a?b".into()).unwrap();
        write_request_head(&mut out, &Method::PUT, &target, &headers(fields), blocks, length);
        out.escape_ascii().to_string()
    }

    #[test]
    fn request_heads_are_framed_by_the_length_alone() {
        let fields: &[(_, &[u8])] = &[("Content-Length", b"1"), ("A", b"b"), ("Transfer-Encoding", b"gzip")];
        for (length, framing) in [
            (BodyLength::None, ""),
            (BodyLength::Exact(0), "content-length: 0\\r\\n"),
            (BodyLength::Exact(u64::MAX), "content-length: 18446744073709551615\\r\\n"),
            (BodyLength::Chunked, "transfer-encoding: chunked\\r\\n"),
            (BodyLength::UntilClose, "transfer-encoding: chunked\\r\\n"),
        ] {
            let expected = format!("before PUT /a?b HTTP/1.1\\r\\na: b\\r\\n{framing}\\r\\n");
            assert_eq!(request(fields, &[], length), expected);
        }
    }

    #[test]
    fn request_heads_have_all_blocks_before_all_fields() {
        let fields: &[(_, &[u8])] = &[("Host", b"a"), ("X", b"\xe9 \tz"), ("Y", b""), ("x", b"2")];
        let block = |name| FieldBlock::new(vec![(HeaderName::from_static(name), HeaderValue::from_static("v")); 2]);
        let (first, second) = (block("first"), block("second"));
        assert_eq!(
            request(fields, &[&first, &second], BodyLength::None),
            "before PUT /a?b HTTP/1.1\\r\\nfirst: v\\r\\nfirst: v\\r\\nsecond: v\\r\\nsecond: v\\r\\nhost: a\\r\\nx: \\xe9 \\tz\\r\\nx: 2\\r\\ny: \\r\\n\\r\\n"
        );
        assert_eq!((first.fields().len(), FieldBlock::default().text()), (2, &b""[..]));
    }

    #[test]
    fn response_heads_are_framed_by_their_fields() {
        let fields: &[(_, &[u8])] = &[("Content-Length", b"1"), ("A", b"b")];
        for (version, status, line) in [
            (Version::HTTP_11, 200, "HTTP/1.1 200 OK"),
            (Version::HTTP_10, 404, "HTTP/1.0 404 Not Found"),
            (Version::HTTP_2, 299, "HTTP/1.1 299 "),
        ] {
            let mut out = Vec::new();
            write_response_head(&mut out, version, StatusCode::from_u16(status).unwrap(), &headers(fields));
            assert_eq!(str::from_utf8(&out).unwrap(), format!("{line}\r\ncontent-length: 1\r\na: b\r\n\r\n"));
        }
    }
}
