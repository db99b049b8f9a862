//! Requests whose fields or bodies are malformed (RFC 9113 §8.1, §8.2, §8.3).

use super::Outcome::{self, StreamError};
use super::{Case, PROTOCOL_ERROR, all_hold, case};
use crate::support::frames::*;

const MALFORMED: Outcome = StreamError(&[PROTOCOL_ERROR]);
const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "localhost");

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_malformed_request_is_a_stream_error() {
    all_hold(&cases()).await;
}

pub(super) fn cases() -> Vec<Case> {
    let with = |fields: &[(&str, &str)]| headers(1, WHOLE, &head("GET", fields));
    let bare = |fields: &[(&str, &str)]| headers(1, WHOLE, &block(fields));
    let post = |fields: &[(&str, &str)]| headers(1, OPEN, &head("POST", fields));
    let trailers = |fields: &[(&str, &str)]| headers(1, OPEN, &block(fields));
    let test = |flags: u8| data(1, flags, b"test");
    let one = [("content-length", "1")];
    vec![
        case!("§8.1 a second HEADERS that does not end the stream": [post(&[]), test(0), trailers(&[("x-test", "ok")])] => MALFORMED),
        case!("§8.2.1 a name in upper case": [with(&[("X-TEST", "ok")])] => MALFORMED),
        case!("§8.3 a pseudo-field that nobody knows": [with(&[(":test", "ok")])] => MALFORMED),
        case!("§8.3 a pseudo-field of answers": [with(&[(":status", "200")])] => MALFORMED),
        case!("§8.3 a pseudo-field in trailers": [post(&[]), test(0), trailers(&[(":method", "POST")])] => MALFORMED),
        case!("§8.3 a pseudo-field behind a field": [bare(&[("x-test", "ok"), METHOD, SCHEME, PATH, AUTHORITY])] => MALFORMED),
        case!("§8.2.2 connection": [with(&[("connection", "keep-alive")])] => MALFORMED),
        case!("§8.2.2 te other than trailers": [with(&[("trailers", "test"), ("te", "trailers, deflate")])] => MALFORMED),
        case!("§8.3.1 an empty :path": [bare(&[METHOD, SCHEME, (":path", ""), AUTHORITY])] => MALFORMED),
        case!("§8.3.1 no :method": [bare(&[SCHEME, PATH, AUTHORITY])] => MALFORMED),
        case!("§8.3.1 no :scheme": [bare(&[METHOD, PATH, AUTHORITY])] => MALFORMED),
        case!("§8.3.1 no :path": [bare(&[METHOD, SCHEME, AUTHORITY])] => MALFORMED),
        case!("§8.3.1 two :method": [with(&[METHOD])] => MALFORMED),
        case!("§8.3.1 two :scheme": [with(&[SCHEME])] => MALFORMED),
        case!("§8.3.1 two :path": [with(&[PATH])] => MALFORMED),
        case!("§8.1.1 a length that the body does not have": [post(&one), test(END_STREAM)] => MALFORMED),
        case!("§8.1.1 a length that the bodys pieces do not have": [post(&one), test(0), test(END_STREAM)] => MALFORMED),
    ]
}
