//! Chunks into bytes (RFC 9112 §7.1).

use http::HeaderMap;

use super::field_block::write_unframed;

/// The end of a chunk, behind its data.
pub(crate) const CHUNK_END: &[u8] = b"\r\n";

/// Appends the line before the data of a chunk. `length` is that of the data, in bytes, and not 0: an empty chunk would
/// end the body. For 0 nothing is written.
pub(crate) fn write_chunk_size(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "an empty chunk ends the body");
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    out.extend((0..digits).rev().map(|place| b"0123456789abcdef"[length >> (4 * place) & 15]));
    if digits > 0 {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the last chunk and the trailer section. Framing fields are left out.
pub(crate) fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        write_unframed(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn chunk_sizes_are_lower_case_without_leading_zeros() {
        for (length, expected) in [
            (1, "1\r\n"),
            (15, "f\r\n"),
            (16, "10\r\n"),
            (255, "ff\r\n"),
            (0xABCDE, "abcde\r\n"),
            (usize::MAX, "ffffffffffffffff\r\n"),
        ] {
            let mut out = Vec::new();
            write_chunk_size(&mut out, length);
            assert_eq!(str::from_utf8(&out), Ok(expected));
        }
    }

    #[test]
    fn last_chunks_carry_trailers_but_no_framing_fields() {
        let value = HeaderValue::from_static("1");
        let fields = ["a", "content-length", "transfer-encoding", "b"].map(http::HeaderName::from_static);
        let trailers = fields.map(|name| (name, value.clone())).into_iter().collect();
        for (trailers, expected) in [(None, "0\r\n\r\n"), (Some(&trailers), "0\r\na: 1\r\nb: 1\r\n\r\n")] {
            let mut out = Vec::new();
            write_last_chunk(&mut out, trailers);
            assert_eq!(str::from_utf8(&out), Ok(expected));
        }
    }
}
