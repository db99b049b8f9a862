//! The preface, frames as such, and header blocks that come in pieces (RFC 9113 §3, §4, §5.4, §5.5, §6.10, §7).

use super::Outcome::{self, Answered, Closed, ConnectionError, First, PongOrClosed, StreamError};
use super::{COMPRESSION_ERROR, Case, FRAME_SIZE_ERROR, PROTOCOL_ERROR, all_hold, case, is_pong};
use crate::support::frames::*;

const MALFORMED: Outcome = ConnectionError(&[PROTOCOL_ERROR]);
const SIZE: u8 = 16;
const NOTHING: &[u8; 8] = &[0; 8];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn frames_out_of_form_or_order_end_the_connection() {
    all_hold(&cases()).await;
}

/// A field that fills the better part of a block.
fn dummy(number: usize) -> Vec<u8> {
    block(&[(format!("x-dummy{number}"), "x".repeat(4000))])
}

pub(super) fn cases() -> Vec<Case> {
    let get = head("GET", &[]);
    let many: Vec<u8> = (0..5).flat_map(dummy).collect();
    let post = || headers(1, OPEN, &head("POST", &[]));
    let unknown = || frame(SIZE, 0, 0, NOTHING);
    let broken = |flags: u8| headers(1, flags, &get);
    let rest = || continuation(1, END_HEADERS, &dummy(0));
    let pong: Outcome = First(PING, is_pong);
    vec![
        case!(new "§3.4 a preface": [[PREFACE, &settings(&[(4, 65_535)])].concat()] => First(SETTINGS, |_| true)),
        case!(new "§3.4 no preface": [b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()] => Closed),
        case!("§4.1 a frame of an unknown type": [unknown(), ping(0, NOTHING)] => pong),
        case!("§4.1 a flag without a meaning": [ping(SIZE, NOTHING)] => First(PING, is_pong)),
        case!("§4.1 the reserved bit": [frame(PING, 0, 1 << 31, NOTHING)] => First(PING, is_pong)),
        case!("§4.2 DATA as large as may be": [post(), data(1, END_STREAM, &[b'x'; 16_384])] => Answered),
        case!("§4.2 DATA that is too large": [post(), data(1, END_STREAM, &[b'x'; 16_385])] => StreamError(&[FRAME_SIZE_ERROR])),
        case!("§4.2 HEADERS that is too large": [headers(1, WHOLE, &[&get[..], &many].concat())] => ConnectionError(&[FRAME_SIZE_ERROR])),
        case!("§4.3 half a field": [headers(1, WHOLE, b"\x40")] => ConnectionError(&[COMPRESSION_ERROR])),
        case!("§4.3 PRIORITY within a block": [broken(0), priority(1, 0, 255), rest()] => MALFORMED),
        case!("§4.3 another stream's HEADERS within a block": [broken(0), headers(3, WHOLE, &get), rest()] => MALFORMED),
        case!("§5.4.1 an error closes the connection": [frame(PING, 0, 3, NOTHING)] => Closed),
        case!("§5.4.1 an error is told first": [frame(PING, 0, 3, NOTHING)] => First(GOAWAY, |frame| frame.code() == Some(PROTOCOL_ERROR))),
        case!("§5.5 a frame that nobody knows": [unknown(), ping(0, NOTHING)] => First(PING, is_pong)),
        case!("§5.5 a frame that nobody knows within a block": [broken(END_STREAM), unknown()] => MALFORMED),
        case!("§6.10 several CONTINUATION": [broken(END_STREAM), continuation(1, 0, &dummy(0)), rest()] => Answered),
        case!("§6.10 CONTINUATION, then DATA": [broken(0), continuation(1, 0, &dummy(0)), data(1, END_STREAM, b"test")] => MALFORMED),
        case!("§6.10 CONTINUATION on stream 0": [broken(END_STREAM), continuation(0, END_HEADERS, &dummy(0))] => MALFORMED),
        case!("§6.10 CONTINUATION behind a whole block": [broken(WHOLE), rest()] => MALFORMED),
        case!("§6.10 CONTINUATION behind the last": [broken(END_STREAM), rest(), rest()] => MALFORMED),
        case!("§6.10 CONTINUATION behind DATA": [broken(0), data(1, END_STREAM, b"test"), continuation(1, 0, &dummy(0)), continuation(0, END_HEADERS, &dummy(0))] => MALFORMED),
        case!("§7 GOAWAY with an unknown code": [frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\xff")] => Closed),
        case!("§7 RST_STREAM with an unknown code": [post(), rst_stream(1, 0xff), ping(0, NOTHING)] => PongOrClosed),
    ]
}
