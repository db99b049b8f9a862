//! The HTTP/1.1 codec beside llhttp, the parser of Node, without its lenient flags: the verdicts of its published tests
//! and of its source. Each difference has its reason. No gateway runs.

use http::Method;
use portcullis::fuzzing::http1::{WireEnd, WireReading, read_one_response, read_requests};

/// Whether llhttp accepts a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Llhttp {
    Accepts,
    Refuses,
}

use Llhttp::{Accepts, Refuses};

/// A message, llhttp's verdict, ours (`whole`, or the rule that is broken), and the reason if the verdicts differ.
type Case = (&'static str, Llhttp, &'static str, &'static str);

const METHODS: &str = "llhttp has a list of methods; here routes say which ones they take";
const FRAGMENT: &str = "a fragment is never sent (RFC 9112 §3.2), and what is behind it would be dropped unseen";
const PATHS: &str = "RFC 3986 has none of `\"<>` in a path; in queries, old clients send them";
const USER: &str = "user information in a target is deprecated, and hides the host (RFC 9110 §4.2.4)";
const ONE_EMPTY_LINE: &str = "RFC 9112 §2.2 has one empty line before a request line";
const SPACES: &str = "the grammar of RFC 9112 §3 has single spaces; other readers find another target";
const LATER_VERSION: &str = "a later minor version is read as the latest one that is known (RFC 9110 §2.5)";
const OTHER_VERSION: &str = "no HTTP/0.9; HTTP/2 has its own connections";
const CODINGS: &str = "the service would have to undo a coding that nobody has offered";
const BLANKS: &str = "the grammar of RFC 9112 §7.1.1 has blanks around `;` and `=`";
const FOLDED: &str = "a proxy joins folded lines of a response (RFC 9112 §5.2); the connection is closed after it";
const LENGTHS: &str = "equal lengths are one (RFC 9110 §8.6); the connection of the service is closed after it";
const BOTH: &str = "chunks override a length (RFC 9112 §6.3); the connection of the service is closed after it";

const REQUESTS: &[Case] = &[
    ("GET / HTTP/1.1\r\n\r\n", Accepts, "whole", ""),
    ("GET / ICE/1.0\r\nHost: a\r\n\r\n", Refuses, "version", ""),
    ("GET / IHTTP/1.0\r\nHost: a\r\n\r\n", Refuses, "version", ""),
    ("PUT / RTSP/1.0\r\nHost: a\r\n\r\n", Refuses, "version", ""),
    ("ANNOUNCE / HTTP/1.0\r\nHost: a\r\n\r\n", Refuses, "whole", METHODS),
    ("MKCOLA / HTTP/1.1\r\n\r\n", Refuses, "whole", METHODS),
    ("GET / HTTP/5.6\r\n\r\n", Refuses, "version", ""),
    ("GET / HTTP/1.2\r\n\r\n", Refuses, "whole", LATER_VERSION),
    ("GET / HTTP/0.9\r\n\r\n", Accepts, "version", OTHER_VERSION),
    ("GET / HTTP/2.0\r\n\r\n", Accepts, "version", OTHER_VERSION),
    ("\r\nGET / HTTP/1.1\r\n\r\n", Accepts, "whole", ""),
    ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Accepts, "request_line", ONE_EMPTY_LINE),
    ("GET / HTTP/1.1\r\nA: 1\rB: 2\r\n\r\n", Refuses, "bare_carriage_return", ""),
    ("POST / HTTP/1.1\r\nx:x\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n", Refuses, "bare_line_feed", ""),
    ("POST / HTTP/1.1\r\nx:\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n\r\n", Refuses, "bare_line_feed", ""),
    ("GET / HTTP/1.1\r\nHost: a\r\n\rZGET /evil HTTP/1.1\r\nHost: a\r\n\r\n", Refuses, "bare_carriage_return", ""),
    ("POST / HTTP/1.1\nHost: a\n\n", Refuses, "bare_line_feed", ""),
    ("GET / HTTP/1.1\r\nFo@: a\r\n\r\n", Refuses, "field_name", ""),
    ("GET / HTTP/1.1\r\nFo\x01o: a\r\n\r\n", Refuses, "field_name", ""),
    ("GET / HTTP/1.1\r\n: a\r\n\r\n", Refuses, "field_name", ""),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refuses, "field_name", ""),
    ("GET / HTTP/1.1\r\nname\r\n : value\r\n\r\n", Refuses, "field_line", ""),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refuses, "folded_line", ""),
    ("POST / HTTP/1.1\r\nA: b\r\n Content-Length: 38\r\n\r\n", Refuses, "folded_line", ""),
    ("GET /a b HTTP/1.1\r\n\r\n", Refuses, "request_line", ""),
    ("GET  /  HTTP/1.1\r\n\r\n", Accepts, "request_line", SPACES),
    ("GET /\r\n\r\n", Accepts, "request_line", OTHER_VERSION),
    ("GET /\u{3b4} HTTP/1.1\r\n\r\n", Refuses, "target", ""),
    ("GET /?a=\\\"b\\\" HTTP/1.1\r\n\r\n", Accepts, "whole", ""),
    ("GET /\"a\" HTTP/1.1\r\n\r\n", Accepts, "target", PATHS),
    ("GET /?a=| HTTP/1.1\r\n\r\n", Accepts, "whole", ""),
    ("GET /?a?b HTTP/1.1\r\n\r\n", Accepts, "whole", ""),
    ("GET /?a#b HTTP/1.1\r\n\r\n", Accepts, "fragment", FRAGMENT),
    ("GET http://a:1234?b HTTP/1.1\r\n\r\n", Accepts, "whole", ""),
    ("GET http://u:p@a:1234/ HTTP/1.1\r\n\r\n", Accepts, "target", USER),
    ("CONNECT a_0.b:443 HTTP/1.0\r\n\r\n", Accepts, "whole", ""),
    ("PUT / HTTP/1.1\r\nContent-Length: 003\r\n\r\nabc", Accepts, "whole", ""),
    ("POST / HTTP/1.1\r\nContent-Length:  3 \r\n\r\nabc", Accepts, "whole", ""),
    ("POST / HTTP/1.1\r\nContent-Length:\t3\t\r\n\r\nabc", Accepts, "whole", ""),
    ("PUT / HTTP/1.1\r\nContent-Length: 1000000000000000000000\r\n\r\n", Refuses, "length", ""),
    ("PUT / HTTP/1.1\r\nContent-Length: 4 2\r\n\r\n", Refuses, "length", ""),
    ("PUT / HTTP/1.1\r\nContent-Length:\r\n\r\n", Refuses, "length", ""),
    ("PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Refuses, "several_lengths", ""),
    ("PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: identity\r\n\r\n", Refuses, "length_and_coding", ""),
    ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", Refuses, "length_and_coding", ""),
    ("PUT / HTTP/1.1\r\nTransfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello", Refuses, "length_and_coding", ""),
    ("PUT / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n", Refuses, "coding", ""),
    ("PUT / HTTP/1.1\r\nTransfer-Encoding: pigeons\r\n\r\n", Refuses, "coding", ""),
    ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunkedchunked\r\n\r\n0\r\n\r\n", Refuses, "coding", ""),
    ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked, deflate\r\n\r\n", Refuses, "coding", ""),
    ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: deflate\r\n\r\n", Refuses, "coding", ""),
    ("PUT / HTTP/1.1\r\nTransfer-Encoding: deflate, chunked\r\n\r\n0\r\n\r\n", Accepts, "coding", CODINGS),
    (
        "PUT / HTTP/1.1\r\nTransfer-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Accepts,
        "coding",
        CODINGS,
    ),
];

/// Chunked bodies of requests.
const BODIES: &[Case] = &[
    ("a\r\n0123456789\r\n0\r\n\r\n", Accepts, "whole", ""),
    ("A\r\n0123456789\r\n000\r\n\r\n", Accepts, "whole", ""),
    ("0\r\nVary: *\r\nContent-Type: a\r\n\r\n", Accepts, "whole", ""),
    ("1;a;b=c;d=e\r\nx\r\n0\r\n\r\n", Accepts, "whole", ""),
    ("1;a=\"I \\\"b\\\"; \\\\c\\\\\";d\r\nx\r\n0\r\n\r\n", Accepts, "whole", ""),
    ("1;a=\"b; c\r\nx\r\n0\r\n\r\n", Refuses, "chunk_extension", ""),
    ("1;\r\nx\r\n0\r\n\r\n", Refuses, "chunk_extension", ""),
    ("1 a\r\nx\r\n0 b\r\n\r\n", Refuses, "chunk_extension", ""),
    ("1 \r\nx\r\n0\r\n\r\n", Refuses, "chunk_extension", ""),
    ("1 \n \r\nx\r\n", Refuses, "bare_line_feed", ""),
    ("1 ;a\r\nx\r\n0\r\n\r\n", Refuses, "whole", BLANKS),
    ("1\r\nx\r\n\r\n", Refuses, "chunk_size", ""),
    ("5\r\r;ABCD\r\n34\r\n", Refuses, "bare_carriage_return", ""),
    ("5\r\nABCDE0\r\n\r\n", Refuses, "chunk_end", ""),
];

const RESPONSES: &[Case] = &[
    ("HTTP/1.1 200  OK\r\nContent-Length: 0\r\n\r\n", Accepts, "whole", ""),
    ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Accepts, "whole", ""),
    ("HTP/1.1 200 OK\r\n\r\n", Refuses, "version", ""),
    ("HTTP/01.1 200 OK\r\n\r\n", Refuses, "version", ""),
    ("HTTP/11.1 200 OK\r\n\r\n", Refuses, "version", ""),
    ("HTTP/1.01 200 OK\r\n\r\n", Refuses, "version", ""),
    ("HTTP/5.6 200 OK\r\n\r\n", Refuses, "version", ""),
    ("HTTP/1.1\t200 OK\r\n\r\n", Refuses, "version", ""),
    ("\rHTTP/1.1\t200 OK\r\n\r\n", Refuses, "bare_carriage_return", ""),
    ("HTTP/1.1  200 OK\r\n\r\n", Refuses, "status_line", ""),
    ("HTTP/1.1 2 OK\r\n\r\n", Refuses, "status_line", ""),
    ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", Refuses, "bare_line_feed", ""),
    ("HTTP/1.1 200 OK\r\nA: 1\rB: 2\r\n\r\n", Refuses, "bare_carriage_return", ""),
    ("HTTP/1.1 200 OK\r\n Host: a\r\n\r\n", Refuses, "folded_line", ""),
    ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Refuses, "whole", FOLDED),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello", Refuses, "coding", ""),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", Refuses, "whole", BOTH),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", Refuses, "whole", LENGTHS),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", Refuses, "several_lengths", ""),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, deflate\r\n\r\nWorld", Accepts, "whole", ""),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\nWorld", Accepts, "whole", ""),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunkedchunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n", Accepts, "whole", ""),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n25  \r\nabc", Refuses, "chunk_extension", ""),
];

#[test]
fn requests_are_judged_as_by_llhttp_or_for_a_reason() {
    check(REQUESTS, |bytes| read_requests([bytes]));
}

#[test]
fn chunked_bodies_are_judged_as_by_llhttp_or_for_a_reason() {
    let head: &[u8] = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(BODIES, |bytes| read_requests([head, bytes]));
}

#[test]
fn responses_are_judged_as_by_llhttp_or_for_a_reason() {
    check(RESPONSES, |bytes| read_one_response(&Method::GET, [bytes]));
}

fn check(cases: &[Case], read: impl Fn(&[u8]) -> WireReading) {
    for (message, llhttp, ours, reason) in cases {
        let reading = read(message.as_bytes());
        let verdict = match (reading.messages.first(), reading.end) {
            (Some(first), _) if first.is_whole => "whole",
            (_, WireEnd::Fault(rule)) => rule,
            (_, WireEnd::NoMore | WireEnd::Closed) => "incomplete",
        };
        assert_eq!(verdict, *ours, "{message:?}");
        let is_alike = (*llhttp == Accepts) == (verdict == "whole");
        assert_eq!(is_alike, reason.is_empty(), "{message:?}: a reason for each difference, and none else");
    }
}
