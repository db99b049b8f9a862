use std::fmt::Write;

use super::super::splits::read_split;
use super::*;

const LIMITS: HeadLimits = HeadLimits { target_bytes: 0, bytes: 200, fields: 5 };

/// Status, `1.0` if that is the version, fields, length of the body, `body` if one is announced, `close` if no request
/// may follow, and the announced seconds.
fn text(head: &ResponseHead) -> String {
    let mut text = head.status.as_str().to_owned();
    if head.version == Version::HTTP_10 {
        text.push_str(" 1.0");
    }
    for (name, value) in &head.headers {
        write!(text, " {name}={}", value.as_bytes().escape_ascii()).unwrap();
    }
    match head.body {
        BodyLength::None => text.push_str(" [none]"),
        BodyLength::Exact(bytes) => write!(text, " [{bytes}]").unwrap(),
        BodyLength::Chunked => text.push_str(" [chunked]"),
        BodyLength::UntilClose => text.push_str(" [until close]"),
    }
    text.push_str(if head.announces_body { " body" } else { "" });
    text.push_str(if head.keeps_alive { "" } else { " close" });
    if let Some(seconds) = head.announced_idle {
        write!(text, " idle {seconds}").unwrap();
    }
    text
}

fn read(method: &Method, bytes: &[u8]) -> String {
    read_split(bytes, || {
        let mut scan = HeadScan::default();
        move |buffer| Ok(read_response(&mut scan, buffer, &LIMITS, method)?.as_ref().map(text))
    })
}

#[track_caller]
fn gives(cases: &[(&str, &str)]) {
    for (bytes, expected) in cases {
        assert_eq!(read(&Method::GET, bytes.as_bytes()), *expected, "{bytes:?}");
    }
}

/// Cases are status lines.
#[track_caller]
fn lines_give(cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        let bytes = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(read(&Method::GET, bytes.as_bytes()), *expected, "{line:?}");
    }
}

/// Cases are field lines of a `200`, without their line end.
#[track_caller]
fn fields_give(cases: &[(&str, &str)]) {
    for (fields, expected) in cases {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        assert_eq!(read(&Method::GET, bytes.as_bytes()), *expected, "{fields:?}");
    }
}

#[test]
fn the_least_announced_time_of_keep_alive_is_read() {
    let given = |value: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\nContent-Length: 0\r\n\r\n");
        read(&Method::GET, head.as_bytes()).split_once(" idle ").map(|(_, seconds)| seconds.to_owned())
    };
    for (value, seconds) in [
        ("timeout=5", "5"),
        ("timeout=5, max=100", "5"),
        ("max=100,TIMEOUT = 0", "0"),
        ("timeout=7, timeout=3", "3"),
        ("timeout=7\r\nKeep-Alive: timeout=3", "3"),
        ("timeout=99999999999999999999999", "18446744073709551615"),
    ] {
        assert_eq!(given(value).as_deref(), Some(seconds), "{value}");
    }
    for value in ["", "5", "timeout", "timeout=", "timeout=-1", "timeout=5s", "max=5", "xtimeout=5"] {
        assert_eq!(given(value), None, "{value}");
    }
}

#[test]
fn status_lines_may_lack_a_reason() {
    let good = "200 content-length=0 [0]";
    lines_give(&[
        ("HTTP/1.1 200 OK", good),
        ("HTTP/1.1 200 ", good),
        ("HTTP/1.1 200", good),
        ("HTTP/1.1 200 Not  so\tb\u{e4}d", good),
        ("HTTP/1.3 200 OK", good),
        ("HTTP/1.1 999 OK", "999 content-length=0 [0]"),
        ("HTTP/1.1 200 a\x01b", "status_line"),
        ("HTTP/1.1 200\tOK", "status_line"),
        ("HTTP/1.1 200OK", "status_line"),
        ("HTTP/1.1 2000", "status_line"),
        ("HTTP/1.1 20", "status_line"),
        ("HTTP/1.1 099 OK", "status_line"),
        ("HTTP/1.1 2x0 OK", "status_line"),
        ("HTTP/1.1 -20 OK", "status_line"),
        ("HTTP/1.1  200 OK", "status_line"),
        ("HTTP/1.1", "status_line"),
        ("HTTP/1.1 ", "status_line"),
        (" HTTP/1.1 200 OK", "version"),
        ("ICY 200 OK", "version"),
        ("HTTP/2.0 200 OK", "version"),
        ("http/1.1 200 OK", "version"),
    ]);
}

#[test]
fn responses_have_the_line_ends_and_limits_of_requests() {
    gives(&[
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 200 OK\n", "bare_line_feed"),
        ("HTTP/1.1 200 OK\r\nA: b\rc", "bare_carriage_return"),
        ("HTTP/1.1 200 OK\r\nA: \0", "nul"),
        ("HTTP/1.1 200 OK\r\nA: b", "incomplete"),
        ("HTTP/1.1 204 No Content\r\n\r\nHTTP", "204 [none] + HTTP"),
        (&format!("HTTP/1.1 200 {}", "O".repeat(188)), "head_too_large"),
        (&format!("HTTP/1.1 200\r\n{}", "A:\r\n".repeat(6)), "too_many_fields"),
    ]);
    fields_give(&[("A b", "field_line"), ("A : b", "field_name"), ("A: \x7f", "field_value")]);
}

#[test]
fn response_bodies_have_the_announced_length() {
    fields_give(&[
        ("Content-Length: 5", "200 content-length=5 [5] body"),
        ("Transfer-Encoding: chunked", "200 transfer-encoding=chunked [chunked] body"),
        ("Transfer-Encoding: Chunked", "200 transfer-encoding=Chunked [chunked] body"),
        ("Transfer-Encoding: gzip, chunked", "200 transfer-encoding=gzip, chunked [chunked] body"),
        ("A: b", "200 a=b [until close] close"),
        ("Content-Length: +5", "length"),
        ("Content-Length: 5 5", "length"),
        ("Content-Length:", "length"),
        ("Content-Length: 9223372036854775809", "length"),
        ("Content-Length: 5, 6", "several_lengths"),
        ("Content-Length: 5\r\nContent-Length: 6", "several_lengths"),
        ("Content-Length: 5,", "length"),
        ("Content-Length: 5, x", "length"),
        ("Transfer-Encoding: chunked, chunked", "coding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "coding"),
        ("Transfer-Encoding: chunked,", "coding"),
        ("Transfer-Encoding: chunked;a=b", "coding"),
        ("Transfer-Encoding:", "coding"),
    ]);
}

#[test]
fn lenient_readings_end_the_connection() {
    fields_give(&[
        ("Content-Length: 5\r\nContent-Length: 5", "200 content-length=5 [5] body close"),
        ("Content-Length: 5, 5,05", "200 content-length=5 [5] body close"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "200 transfer-encoding=chunked [chunked] body close"),
        ("Transfer-Encoding: gzip", "200 transfer-encoding=gzip [until close] body close"),
        ("Transfer-Encoding: chunked, gzip", "200 transfer-encoding=chunked, gzip [until close] body close"),
        ("Transfer-Encoding: gzip\r\nContent-Length: 5", "200 transfer-encoding=gzip [until close] body close"),
        ("Content-Length: 5\r\nA: b\r\n c", "200 content-length=5 a=b c [5] body close"),
        ("Content-Length: 5\r\nA: b \t\r\n\t \tc\r\n d ", "200 content-length=5 a=b c d [5] body close"),
        ("A:\r\n b\r\nContent-Length: 5", "200 a=b content-length=5 [5] body close"),
        (" A: b\r\nContent-Length: 5", "folded_line"),
        ("A: b\r\n \r\nContent-Length: 5", "folded_line"),
        ("A: b\r\n\t", "folded_line"),
        ("A: b\r\n \x0cc", "field_value"),
        ("A: b\r\n c\r\nd", "field_line"),
    ]);
    gives(&[(
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
        "200 1.0 connection=keep-alive transfer-encoding=chunked [chunked] body close",
    )]);
}

#[test]
fn some_responses_have_no_body_whatever_they_announce() {
    for (method, status, fields, expected) in [
        (Method::GET, 100, "", "100 [none]"),
        (Method::GET, 103, "Content-Length: 5\r\n", "103 content-length=5 [none] body close"),
        (Method::GET, 204, "Content-Length: 5\r\n", "204 content-length=5 [none] body close"),
        (Method::GET, 204, "Content-Length: 0\r\n", "204 content-length=0 [none]"),
        (Method::GET, 204, "Transfer-Encoding: chunked\r\n", "204 transfer-encoding=chunked [none] body close"),
        (Method::GET, 304, "Content-Length: 5\r\n", "304 content-length=5 [none] body"),
        (Method::HEAD, 200, "Content-Length: 5\r\n", "200 content-length=5 [none] body"),
        (Method::HEAD, 200, "", "200 [none]"),
        (Method::HEAD, 200, "Content-Length: x\r\n", "length"),
        (Method::CONNECT, 200, "Content-Length: 5\r\n", "200 content-length=5 [none] body close"),
        (Method::CONNECT, 403, "Content-Length: 5\r\n", "403 content-length=5 [5] body"),
        (Method::GET, 205, "Content-Length: 5\r\n", "205 content-length=5 [5] body"),
    ] {
        let bytes = format!("HTTP/1.1 {status} \r\n{fields}\r\n");
        assert_eq!(read(&method, bytes.as_bytes()), expected, "{method} {bytes:?}");
    }
}

#[test]
fn connections_persist_if_both_versions_and_fields_say_so() {
    gives(&[
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "200 content-length=0 connection=close [0] close",
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "200 1.0 content-length=0 [0] close"),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
            "200 1.0 content-length=0 connection=keep-alive [0]",
        ),
    ]);
}
