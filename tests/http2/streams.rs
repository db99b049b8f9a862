//! Streams and their states (RFC 9113 §5.1; RFC 7540 §5.3.1).

use super::Outcome::{self, ConnectionError, StreamError};
use super::{CANCEL, Case, PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED, STREAM_ENDS, all_hold, case};
use crate::support::frames::*;

const MALFORMED: Outcome = ConnectionError(&[PROTOCOL_ERROR]);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn frames_that_a_streams_state_does_not_allow_end_it() {
    all_hold(&cases()).await;
}

pub(super) fn cases() -> Vec<Case> {
    let get = || head("GET", &[]);
    let whole = || headers(1, WHOLE, &get());
    let open = || headers(1, OPEN, &get());
    let cancel = || rst_stream(1, CANCEL);
    let test = || data(1, END_STREAM, b"test");
    let rest = || continuation(1, END_HEADERS, &block(&[("x-dummy", "x")]));
    let itself = [&[0, 0, 0, 1, 255], &get()[..]].concat();
    let too_many = (0..=100).flat_map(|number| headers(2 * number + 1, WHOLE, &get())).collect::<Vec<u8>>();
    vec![
        case!("§5.1 idle: DATA": [test()] => MALFORMED),
        case!("§5.1 idle: RST_STREAM": [cancel()] => MALFORMED),
        case!("§5.1 idle: WINDOW_UPDATE": [window_update(1, 100)] => MALFORMED),
        case!("§5.1 idle: CONTINUATION": [continuation(1, END_HEADERS, &get())] => MALFORMED),
        case!("§5.1 half-closed: DATA": [whole(), test()] => StreamError(&[STREAM_CLOSED])),
        case!("§5.1 half-closed: HEADERS": [whole(), whole()] => StreamError(&[STREAM_CLOSED])),
        case!("§5.1 half-closed: CONTINUATION": [whole(), continuation(1, END_HEADERS, &get())] => StreamError(&[STREAM_CLOSED, PROTOCOL_ERROR])),
        case!("§5.1 cancelled: DATA": [open(), cancel(), test()] => StreamError(&[STREAM_CLOSED])),
        case!("§5.1 cancelled: HEADERS": [open(), cancel(), whole()] => StreamError(&[STREAM_CLOSED])),
        case!("§5.1 cancelled: CONTINUATION": [open(), cancel(), rest()] => StreamError(&[STREAM_CLOSED, PROTOCOL_ERROR])),
        case!("§5.1 closed: DATA": [whole(), STREAM_ENDS, test()] => StreamError(&[STREAM_CLOSED])),
        case!("§5.1 closed: HEADERS": [whole(), STREAM_ENDS, whole()] => ConnectionError(&[STREAM_CLOSED])),
        case!("§5.1 closed: CONTINUATION": [whole(), STREAM_ENDS, rest()] => ConnectionError(&[STREAM_CLOSED, PROTOCOL_ERROR])),
        case!("§5.1.1 an even number": [headers(2, WHOLE, &get())] => MALFORMED),
        case!("§5.1.1 a number below the last": [headers(5, WHOLE, &get()), headers(3, WHOLE, &get())] => MALFORMED),
        case!("§5.1.1 a number that is taken": [headers(5, WHOLE, &get()), headers(5, WHOLE, &get())] => StreamError(&[STREAM_CLOSED])),
        case!("§5.1.2 more streams than are taken": [settings(&[(4, 0)]), too_many] => StreamError(&[PROTOCOL_ERROR, REFUSED_STREAM])),
        case!("RFC 7540 §5.3.1 HEADERS that depends on itself": [headers(1, WHOLE | PRIORITISED, &itself)] => StreamError(&[PROTOCOL_ERROR])),
        case!("RFC 7540 §5.3.1 PRIORITY that depends on itself": [priority(1, 1, 255)] => StreamError(&[PROTOCOL_ERROR])),
    ]
}
