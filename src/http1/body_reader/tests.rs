use std::fmt::Write;

use super::super::splits::read_split;
use super::*;

const LIMITS: TrailerLimits = TrailerLimits { bytes: 60, fields: 3 };

/// Reads a body to its end: its data and, behind `|`, its trailer fields.
fn read(length: BodyLength, bytes: &[u8]) -> String {
    read_split(bytes, || {
        let (mut reader, mut text) = (BodyReader::new(length, LIMITS), String::new());
        move |buffer| {
            loop {
                match reader.read(buffer)? {
                    BodyPiece::Data(data) => {
                        assert!(!data.is_empty());
                        write!(text, "{}", data.escape_ascii()).unwrap();
                    }
                    BodyPiece::Trailers(fields) => {
                        let values = fields.iter().map(|(name, value)| (name, value.as_bytes().escape_ascii()));
                        values.for_each(|(name, value)| write!(text, "|{name}={value}").unwrap());
                        assert!(reader.is_complete() && reader.read(buffer) == Ok(BodyPiece::End));
                        return Ok(Some(text.clone()));
                    }
                    BodyPiece::End => {
                        assert!(reader.is_complete() && reader.read(buffer) == Ok(BodyPiece::End));
                        return Ok(Some(text.clone()));
                    }
                    BodyPiece::Incomplete => {
                        assert!(!reader.is_complete());
                        return Ok(None);
                    }
                }
            }
        }
    })
}

#[track_caller]
fn chunks_give(cases: &[(&str, &str)]) {
    for (bytes, expected) in cases {
        assert_eq!(read(BodyLength::Chunked, bytes.as_bytes()), *expected, "{bytes:?}");
    }
}

#[test]
fn bodies_of_a_given_length_end_there() {
    for (length, bytes, expected) in [
        (BodyLength::None, "next", " + next"),
        (BodyLength::Exact(0), "next", " + next"),
        (BodyLength::Exact(3), "abc", "abc"),
        (BodyLength::Exact(3), "abcnext", "abc + next"),
        (BodyLength::Exact(3), "ab", "incomplete"),
    ] {
        assert_eq!(read(length, bytes.as_bytes()), expected, "{length:?} {bytes:?}");
    }
    let mut reader = BodyReader::new(BodyLength::Exact(3), LIMITS);
    assert_eq!((reader.remaining(), reader.ends_with_stream()), (Some(3), false));
    assert_eq!(reader.read(&mut BytesMut::from("ab")), Ok(BodyPiece::Data("ab".into())));
    assert_eq!((reader.remaining(), reader.is_complete()), (Some(1), false));
    assert_eq!(reader.read(&mut BytesMut::from("c")), Ok(BodyPiece::Data("c".into())));
    assert!(reader.is_complete(), "known before it is asked for more");
}

#[test]
fn bodies_that_end_with_the_stream_have_no_other_end() {
    let mut reader = BodyReader::new(BodyLength::UntilClose, LIMITS);
    assert_eq!(reader.read(&mut BytesMut::from("0\r\n\r\n")), Ok(BodyPiece::Data("0\r\n\r\n".into())));
    assert_eq!(reader.read(&mut BytesMut::new()), Ok(BodyPiece::Incomplete));
    assert_eq!((reader.remaining(), reader.is_complete(), reader.ends_with_stream()), (None, false, true));
}

#[test]
fn chunks_are_joined_up_to_the_last() {
    chunks_give(&[
        ("0\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nnext", "abcde + next"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("a\r\n0123456789\r\n000\r\n\r\n", "0123456789"),
        ("0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n", "abc"),
        ("3\r\n\r\n0\r\n0\r\n\r\n", "\\r\\n0"),
        ("3\r\nabc\r\n0\r\n", "incomplete"),
        ("3\r\nabc\r\n", "incomplete"),
        ("3\r\nab", "incomplete"),
        ("FFFFFFFFFFFFFFFF\r\nabc", "incomplete"),
    ]);
}

#[test]
fn chunk_sizes_are_hexadecimal_digits() {
    chunks_give(&[
        ("00000000000000003\r\nabc", "chunk_size"),
        ("FFFFFFFFFFFFFFFFF", "chunk_size"),
        ("00000000000000000\r\n\r\n", "chunk_size"),
        ("\r\n", "chunk_size"),
        (";a\r\n", "chunk_size"),
        (" 3\r\nabc", "chunk_size"),
        ("+3\r\nabc", "chunk_size"),
        ("-1\r\n", "chunk_size"),
        ("0x3\r\nabc", "chunk_size"),
        ("3_0\r\n", "chunk_size"),
        ("g\r\n", "chunk_size"),
        ("3 \r\nabc", "chunk_extension"),
        ("3\t\r\nabc", "chunk_extension"),
        ("3 3\r\nabc", "chunk_extension"),
    ]);
}

#[test]
fn chunks_have_crlf_around_them() {
    chunks_give(&[
        ("3\nabc\r\n", "bare_line_feed"),
        ("3\rabc\r\n", "bare_carriage_return"),
        ("3\r\r\nabc\r\n", "bare_carriage_return"),
        ("3\0", "nul"),
        ("3\r\nabc\n0", "bare_line_feed"),
        ("3\r\nabcd\r\n", "chunk_end"),
        ("3\r\nabc\r0", "bare_carriage_return"),
        ("3\r\nabc0\r\n\r\n", "chunk_end"),
        ("3\r\nabc\r\n\r\n", "chunk_size"),
        ("0\r\n\n", "bare_line_feed"),
        ("0\n\r\n", "bare_line_feed"),
        ("0\r\n\rX", "bare_carriage_return"),
    ]);
}

#[test]
fn chunk_extensions_are_checked_and_dropped() {
    let cases = [
        (";a", true),
        (";a=b", true),
        (";a=\"b c;d\\\"\\\\\";e", true),
        (" ; a = b", true),
        ("\t;\ta\t=\tb\t;\tc", true),
        (";a=\"\"", true),
        (";a=\"\u{e9}\t\"", true),
        (";a ;b=\"c\" ;d=e ;f", true),
        (";", false),
        (";;", false),
        (";=b", false),
        (";a=", false),
        (";a ", false),
        (";a=b ", false),
        (";a=\"b\" ", false),
        (";a=\"b\"c", false),
        (";a=\"b", false),
        (";a=b\"c\"", false),
        (";a b", false),
        (";a=b c", false),
        (";a=b=c", false),
        (";a\x01", false),
        (";a=\"\x01\"", false),
        (";a=\"\\\x01\"", false),
        (";a=\x7f", false),
        (";a=\"\x7f\"", false),
        (";\u{e9}", false),
    ];
    for (extension, is_good) in cases {
        let bytes = format!("3{extension}\r\nabc\r\n0{extension}\r\n\r\n");
        let expected = if is_good { "abc" } else { "chunk_extension" };
        assert_eq!(read(BodyLength::Chunked, bytes.as_bytes()), expected, "{extension:?}");
    }
    chunks_give(&[
        ("3;a\nabc", "bare_line_feed"),
        ("3;a=\"\n\"\r\nabc", "bare_line_feed"),
        ("3;a=\"\r\n\"\r\nabc", "chunk_extension"),
        ("3;a\rb", "bare_carriage_return"),
        ("3;a\0", "nul"),
    ]);
}

#[test]
fn chunk_extensions_of_a_body_have_a_limit_in_total() {
    let read_whole = |bytes: String| {
        let (mut reader, mut buffer) = (BodyReader::new(BodyLength::Chunked, LIMITS), BytesMut::from(&bytes[..]));
        loop {
            match reader.read(&mut buffer) {
                Ok(BodyPiece::Data(_)) => {}
                other => return other,
            }
        }
    };
    let one = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(length - 1));
    assert_eq!(read_whole(one(MAX_EXTENSION_BYTES)), Ok(BodyPiece::End));
    assert_eq!(read_whole(one(MAX_EXTENSION_BYTES + 1)), Err(WireFault::ChunkOverhead));
    assert_eq!(
        read_whole(one(MAX_EXTENSION_BYTES + 1).split_off(0)[..16_390].to_owned()),
        Err(WireFault::ChunkOverhead)
    );
    let many = |count: usize| format!("{}0\r\n\r\n", "1;e\r\na\r\n".repeat(count));
    assert_eq!(read_whole(many(MAX_EXTENSION_BYTES / 2)), Ok(BodyPiece::End));
    assert_eq!(read_whole(many(MAX_EXTENSION_BYTES / 2 + 1)), Err(WireFault::ChunkOverhead));
    assert_eq!(read_whole(format!("{}0\r\n\r\n", "1\r\na\r\n".repeat(100_000))), Ok(BodyPiece::End));
}

#[test]
fn trailers_are_read_as_strictly_as_heads() {
    chunks_give(&[
        ("0\r\nA: b\r\n\r\nnext", "|a=b + next"),
        ("1\r\nx\r\n0;a\r\nA: b\r\nC:d\r\nA: e\r\n\r\n", "x|a=b|a=e|c=d"),
        ("0\r\nA: b\r\n", "incomplete"),
        ("0\r\nA: b\n\n", "bare_line_feed"),
        ("0\r\nA: b\r\n\n", "bare_line_feed"),
        ("0\r\nA: b\rc", "bare_carriage_return"),
        ("0\r\nA\0", "nul"),
        ("0\r\nA: b\x01\r\n\r\n", "trailer"),
        ("0\r\nA\r\n\r\n", "trailer"),
        ("0\r\nA : b\r\n\r\n", "trailer"),
        ("0\r\n A: b\r\n\r\n", "trailer"),
        ("0\r\nA: b\r\n c\r\n\r\n", "trailer"),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", "trailer"),
        ("0\r\nA:\r\nA:\r\nA:\r\n\r\n", "|a=|a=|a="),
        ("0\r\nA:\r\nA:\r\nA:\r\nA:\r\n", "trailers_too_large"),
        (&format!("0\r\nA: {}\r\n\r\n", "b".repeat(53)), &format!("|a={}", "b".repeat(53))),
        (&format!("0\r\nA: {}\r\n\r\n", "b".repeat(54)), "trailers_too_large"),
    ]);
}
