//! Properties of the codec, with inputs that are close to valid messages.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Pieces of messages, good and bad.
const PIECES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b=c HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.0\r\n",
    "CONNECT a:1 HTTP/1.1\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100\r\n",
    "HTTP/1.0 204 \r\n",
    "Host: a\r\n",
    "A:\t b \r\n",
    " c\r\n",
    "Content-Length: ",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "\r\n",
    "\r\n\r\n",
    "3\r\nabc\r\n",
    "0\r\n",
    "0\r\n\r\n",
    ";a=\"b\\\"\"",
    ", ",
    "5",
    "hello",
    "\r",
    "\n",
    "\0",
    " ",
    ":",
    "#",
    "\u{e9}",
];

fn near_messages() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Parts of a message, one on each line, as [`http1_round_trip`] takes them.
fn parts() -> impl Strategy<Value = String> {
    (
        "[A-Z!-]{1,20}",
        "/[!-~]{0,20}",
        "[1-9][0-9]{2}",
        "([A-Za-z-]{1,9}:[ -~]{0,9};){0,5}",
        "([A-Za-z-]{1,9}:[ -~]{0,9};){0,3}",
        vec(".{0,20}", 0..4),
    )
        .prop_map(|(method, target, status, fields, trailers, chunks)| {
            [vec![method, target, status, fields, trailers], chunks].concat().join("\n")
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_read_alike_however_they_are_cut(data in near_messages()) {
        http1_request(&data);
    }

    #[test]
    fn responses_are_read_alike_however_they_are_cut(data in near_messages()) {
        http1_response(&data);
    }

    #[test]
    fn chunked_bodies_are_read_alike_however_they_are_cut(data in near_messages()) {
        http1_body(&data);
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..200)) {
        for entrance in [http1_request, http1_response, http1_body, http1_round_trip] {
            entrance(&data);
        }
    }

    #[test]
    fn written_messages_are_read_back_as_they_were(data in parts()) {
        http1_round_trip(data.as_bytes());
    }
}
