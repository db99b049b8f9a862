use std::fmt::Write;

use super::super::splits::read_split;
use super::*;

const LIMITS: HeadLimits = HeadLimits { target_bytes: 30, bytes: 200, fields: 5 };

/// Method, target, `1.0` if that is the version, fields, length of the body, `close` if no request may follow.
fn text(head: &RequestHead) -> String {
    let target = match &head.target {
        RequestTarget::Origin(form) => form.as_str().to_owned(),
        RequestTarget::Absolute { scheme, authority, path } => {
            format!("{}|{}|{}", scheme.escape_ascii(), authority.escape_ascii(), path.as_str())
        }
        RequestTarget::Authority(authority) => format!("authority {}", authority.escape_ascii()),
        RequestTarget::Asterisk => "asterisk".to_owned(),
    };
    let mut text = format!("{} {target}", head.method);
    if head.version == Version::HTTP_10 {
        text.push_str(" 1.0");
    }
    for (name, value) in &head.headers {
        write!(text, " {name}={}", value.as_bytes().escape_ascii()).unwrap();
    }
    match head.body {
        BodyLength::None => {}
        BodyLength::Exact(bytes) => write!(text, " [{bytes}]").unwrap(),
        BodyLength::Chunked => text.push_str(" [chunked]"),
        BodyLength::UntilClose => text.push_str(" [until close]"),
    }
    if !head.keeps_alive {
        text.push_str(" close");
    }
    text
}

fn read(bytes: &[u8]) -> String {
    read_split(bytes, || {
        let mut scan = HeadScan::default();
        move |buffer| Ok(read_request(&mut scan, buffer, &LIMITS)?.as_ref().map(text))
    })
}

#[track_caller]
fn gives(cases: &[(&str, &str)]) {
    for (bytes, expected) in cases {
        assert_eq!(read(bytes.as_bytes()), *expected, "{bytes:?}");
    }
}

/// Cases are request lines.
#[track_caller]
fn lines_give(cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        assert_eq!(read(format!("{line}\r\n\r\n").as_bytes()), *expected, "{line:?}");
    }
}

/// Cases are field lines of a `POST` to `/`, without their line end.
#[track_caller]
fn fields_give(cases: &[(&str, &str)]) {
    for (fields, expected) in cases {
        assert_eq!(read(format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()), *expected, "{fields:?}");
    }
}

#[test]
fn heads_are_read_up_to_their_end() {
    gives(&[
        ("GET / HTTP/1.1\r\n\r\n", "GET /"),
        ("GET / HTTP/1.1\r\n\r\nGET /", "GET / + GET /"),
        ("GET / HTTP/1.1\r\n\r\n\n\0", "GET / + \\n\\x00"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", "POST / host=a content-length=1 [1] + x"),
        ("GET /a?b=c HTTP/1.1\r\nA: 1\r\nB: 2\r\nA: 3\r\n\r\n", "GET /a?b=c a=1 a=3 b=2"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "incomplete"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", "incomplete"),
        ("", "incomplete"),
    ]);
}

#[test]
fn one_empty_line_before_a_request_line_is_skipped() {
    gives(&[
        ("\r\nGET / HTTP/1.1\r\n\r\n", "GET /"),
        ("\r\n", "incomplete"),
        ("\r", "incomplete"),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", "request_line"),
        ("\r\n\r\n", "request_line"),
        ("\nGET / HTTP/1.1\r\n\r\n", "bare_line_feed"),
        ("\rGET / HTTP/1.1\r\n\r\n", "bare_carriage_return"),
    ]);
}

#[test]
fn line_ends_other_than_crlf_and_nul_are_refused_at_once() {
    gives(&[
        ("GET / HTTP/1.1\n", "bare_line_feed"),
        ("GET / HTTP/1.1\r\nHost: a\n", "bare_line_feed"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", "bare_line_feed"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "bare_line_feed"),
        ("GET / HTTP/1.1\r\n\r", "incomplete"),
        ("GET / HTTP/1.1\r\n\rX", "bare_carriage_return"),
        ("GET / HTTP/1.1\r\nA: b\rc", "bare_carriage_return"),
        ("GET / HTTP/1.1\r\r\n", "bare_carriage_return"),
        ("GET /\0", "nul"),
        ("GET / HTTP/1.1\r\nA\0", "nul"),
        ("GET / HTTP/1.1\r\nA: \0", "nul"),
    ]);
}

#[test]
fn request_lines_have_three_parts_with_single_spaces() {
    lines_give(&[
        ("GET /", "request_line"),
        ("GET", "request_line"),
        ("GET  / HTTP/1.1", "request_line"),
        ("GET /  HTTP/1.1", "request_line"),
        (" GET / HTTP/1.1", "request_line"),
        ("GET / HTTP/1.1 ", "request_line"),
        ("GET /a b HTTP/1.1", "request_line"),
        ("GET\t/\tHTTP/1.1", "request_line"),
        ("GET /\tHTTP/1.1", "request_line"),
        ("GET /\t HTTP/1.1", "target"),
        ("GET / ", "version"),
    ]);
}

#[test]
fn methods_are_tokens() {
    lines_give(&[
        ("M-SEARCH / HTTP/1.1", "M-SEARCH /"),
        ("get / HTTP/1.1", "get /"),
        ("!#$%&'*+-.^_`|~0 / HTTP/1.1", "!#$%&'*+-.^_`|~0 /"),
        ("G@T / HTTP/1.1", "method"),
        ("G\tT / HTTP/1.1", "method"),
        ("GET: / HTTP/1.1", "method"),
        ("\u{e9} / HTTP/1.1", "method"),
        (" / HTTP/1.1", "method"),
    ]);
}

#[test]
fn versions_are_1_0_and_1_1_and_later_minor_ones() {
    lines_give(&[
        ("GET / HTTP/1.0", "GET / 1.0 close"),
        ("GET / HTTP/1.2", "GET /"),
        ("GET / HTTP/1.9", "GET /"),
        ("GET / HTTP/1.10", "version"),
        ("GET / HTTP/1.", "version"),
        ("GET / HTTP/1", "version"),
        ("GET / HTTP/01.1", "version"),
        ("GET / HTTP/0.9", "version"),
        ("GET / HTTP/2.0", "version"),
        ("PRI * HTTP/2.0", "version"),
        ("GET / http/1.1", "version"),
        ("GET / HTTPS/1.1", "version"),
        ("GET / HTTP/1,1", "version"),
        ("GET / RTSP/1.0", "version"),
    ]);
}

#[test]
fn targets_have_the_form_that_their_method_allows() {
    lines_give(&[
        ("OPTIONS * HTTP/1.1", "OPTIONS asterisk"),
        ("GET * HTTP/1.1", "target"),
        ("OPTIONS ** HTTP/1.1", "target"),
        ("CONNECT a.b:443 HTTP/1.1", "CONNECT authority a.b:443"),
        ("CONNECT [::1]:1 HTTP/1.1", "CONNECT authority [::1]:1"),
        ("CONNECT a.b HTTP/1.1", "target"),
        ("CONNECT a.b: HTTP/1.1", "target"),
        ("CONNECT / HTTP/1.1", "target"),
        ("CONNECT http://a:1/ HTTP/1.1", "target"),
        ("GET a.b:443 HTTP/1.1", "target"),
        ("GET http://a.b/c?d HTTP/1.1", "GET http|a.b|/c?d"),
        ("GET HTTPS://A:8/ HTTP/1.1", "GET https|A:8|/"),
        ("GET index.html HTTP/1.1", "target"),
        ("GET /#a HTTP/1.1", "fragment"),
        ("GET /?a#b HTTP/1.1", "fragment"),
        ("GET /\u{e9} HTTP/1.1", "target"),
        ("GET /\x7f HTTP/1.1", "target"),
        ("GET /?\x01 HTTP/1.1", "target"),
    ]);
}

#[test]
fn limits_are_exact() {
    let target = |length: usize| format!("/{}", "t".repeat(length - 1));
    lines_give(&[
        (&format!("GET {} HTTP/1.1", target(30)), &format!("GET {}", target(30))),
        (&format!("GET {} HTTP/1.1", target(31)), "target_too_long"),
        (&format!("GET {} HTTP/1.1", target(300)), "target_too_long"),
    ]);
    let head = |length: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(length - 23));
    gives(&[
        (&head(200), &format!("GET / a={}", "a".repeat(177))),
        (&head(201), "head_too_large"),
        (&head(200)[..199], "incomplete"),
        (&head(201)[..200], "incomplete"),
        (&"G".repeat(200), "incomplete"),
        (&"G".repeat(201), "head_too_large"),
        (&format!("GET /{}", "t".repeat(195)), "incomplete"),
        (&format!("GET /{}", "t".repeat(196)), "target_too_long"),
        (&format!("GET / HTTP/1.1\r\n{}\r\n", "A:\r\n".repeat(5)), "GET / a= a= a= a= a="),
        (&format!("GET / HTTP/1.1\r\n{}", "A:\r\n".repeat(6)), "too_many_fields"),
    ]);
}

#[test]
fn field_lines_follow_the_grammar() {
    fields_give(&[
        ("A:b", "POST / a=b"),
        ("A: \t b c \t ", "POST / a=b c"),
        ("A:", "POST / a="),
        ("A: \t", "POST / a="),
        ("A: \u{e9}", "POST / a=\\xc3\\xa9"),
        ("A: b\tc", "POST / a=b\\tc"),
        ("A: b\x01c", "field_value"),
        ("A: b\x7fc", "field_value"),
        ("A", "field_line"),
        ("A b", "field_line"),
        (": b", "field_name"),
        ("A : b", "field_name"),
        ("A\t: b", "field_name"),
        ("A(: b", "field_name"),
        ("\u{e9}: b", "field_name"),
        (" A: b", "folded_line"),
        ("A: b\r\n c", "folded_line"),
        ("A: b\r\n\tc: d", "folded_line"),
        ("A: b\r\n ", "folded_line"),
    ]);
}

#[test]
fn request_bodies_have_one_length_or_chunks() {
    fields_give(&[
        ("Content-Length: 0", "POST / content-length=0 [0]"),
        ("Content-Length: 007", "POST / content-length=007 [7]"),
        ("content-length:9223372036854775808", "POST / content-length=9223372036854775808 [9223372036854775808]"),
        ("Content-Length: 9223372036854775809", "length"),
        ("Content-Length: 18446744073709551616", "length"),
        ("Content-Length: 99999999999999999999999", "length"),
        ("Content-Length:", "length"),
        ("Content-Length: +5", "length"),
        ("Content-Length: -5", "length"),
        ("Content-Length: 0x5", "length"),
        ("Content-Length: 5 5", "length"),
        ("Content-Length: 5_0", "length"),
        ("Content-Length: 5, 5", "several_lengths"),
        ("Content-Length: 5,", "several_lengths"),
        ("Content-Length: 5\r\nContent-Length: 5", "several_lengths"),
        ("Content-Length: 5\r\nA: b\r\ncontent-length: 6", "several_lengths"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "length_and_coding"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", "length_and_coding"),
        ("Transfer-Encoding: chunked", "POST / transfer-encoding=chunked [chunked]"),
        ("Transfer-Encoding:CHUNKED ", "POST / transfer-encoding=CHUNKED [chunked]"),
        ("Transfer-Encoding: gzip", "coding"),
        ("Transfer-Encoding: identity", "coding"),
        ("Transfer-Encoding: gzip, chunked", "coding"),
        ("Transfer-Encoding: chunked, chunked", "coding"),
        ("Transfer-Encoding: chunked,", "coding"),
        ("Transfer-Encoding: \"chunked\"", "coding"),
        ("Transfer-Encoding: chunked;a=b", "coding"),
        ("Transfer-Encoding: xchunked", "coding"),
        ("Transfer-Encoding:", "coding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "coding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "coding"),
        ("Transfer-Encoding : chunked", "field_name"),
        ("Transfer_Encoding: chunked", "POST / transfer_encoding=chunked"),
    ]);
    gives(&[
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "coding_in_http_1_0"),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "length_and_coding"),
        ("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", "POST / 1.0 content-length=5 [5] close"),
    ]);
}

#[test]
fn connections_persist_by_version_and_connection_options() {
    fields_give(&[
        ("Connection: close", "POST / connection=close close"),
        ("Connection: a, CLOSE ,b", "POST / connection=a, CLOSE ,b close"),
        ("Connection: a\r\nConnection: close", "POST / connection=a connection=close close"),
        ("Connection: closed", "POST / connection=closed"),
        ("Connection: keep-alive", "POST / connection=keep-alive"),
        ("Connection: upgrade", "POST / connection=upgrade"),
    ]);
    gives(&[
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET / 1.0 connection=Keep-Alive"),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET / 1.0 connection=keep-alive, close close"),
    ]);
}

#[test]
fn a_scan_starts_anew_after_each_head() {
    let (mut scan, mut buffer) =
        (HeadScan::default(), BytesMut::from("\r\nGET /1 HTTP/1.1\r\n\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"));
    let mut next = || read_request(&mut scan, &mut buffer, &LIMITS).unwrap().as_ref().map(text);
    assert_eq!([next(), next(), next()], [Some("GET /1".to_owned()), Some("GET /2".to_owned()), None]);
}

#[test]
fn heads_with_many_fields_are_read() {
    let limits = HeadLimits { target_bytes: 10, bytes: 10_000, fields: 1000 };
    let bytes = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    let head = read_request(&mut HeadScan::default(), &mut BytesMut::from(&bytes[..]), &limits).unwrap().unwrap();
    assert_eq!(head.headers.len(), 1000);
}
