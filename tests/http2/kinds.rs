//! Each type of frame and its own rules (RFC 9113 §6, §8.4).

use super::Outcome::{self, Answered, ConnectionError, First, StreamError};
use super::{
    CANCEL, Case, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED, Step, all_hold, case, is_pong,
};
use crate::support::frames::*;

const MALFORMED: Outcome = ConnectionError(&[PROTOCOL_ERROR]);
const MISSIZED: Outcome = ConnectionError(&[FRAME_SIZE_ERROR]);
const OVERFLOW: Outcome = ConnectionError(&[FLOW_CONTROL_ERROR]);
const MOST: u32 = (1 << 31) - 1;
const NOTHING: &[u8; 8] = &[0; 8];
const SETTINGS_HEARD: Step = Step::Until(|frame| frame.kind == SETTINGS);
const DATA_HEARD: Step = Step::Until(|frame| frame.kind == DATA);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_type_of_frame_keeps_its_form() {
    all_hold(&cases()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn settings_and_windows_keep_their_bounds() {
    all_hold(&settings_and_windows()).await;
}

pub(super) fn cases() -> Vec<Case> {
    let get = head("GET", &[]);
    let whole = || headers(1, WHOLE, &get);
    let open = || headers(1, OPEN, &get);
    let rest = || continuation(1, END_HEADERS, &block(&[("x-dummy", "x")]));
    let padded = [&[u8::try_from(get.len() + 2).unwrap()], &get[..]].concat();
    let promise = frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 3], &get[..]].concat());
    vec![
        case!("§6.1 DATA on stream 0": [data(0, END_STREAM, b"test")] => MALFORMED),
        case!("§6.1 DATA on a stream that is not open": [headers(1, WHOLE, &head("POST", &[])), data(1, END_STREAM, b"test")] => StreamError(&[STREAM_CLOSED])),
        case!("§6.1 DATA with more padding than payload": [headers(1, OPEN, &head("POST", &[("content-length", "4")])), data(1, END_STREAM | PADDED, b"\x06test")] => MALFORMED),
        case!("§6.2 HEADERS without its end, then PRIORITY": [headers(1, 0, &get), priority(1, 0, 255), rest()] => MALFORMED),
        case!("§6.2 HEADERS without its end, then another": [headers(1, 0, &get), headers(3, WHOLE, &get), rest()] => MALFORMED),
        case!("§6.2 HEADERS on stream 0": [headers(0, WHOLE, &get)] => MALFORMED),
        case!("§6.2 HEADERS with more padding than payload": [headers(1, WHOLE | PADDED, &padded)] => StreamError(&[PROTOCOL_ERROR])),
        case!("§6.3 PRIORITY on stream 0": [priority(0, 0, 255)] => MALFORMED),
        case!("§6.3 PRIORITY of four bytes": [whole(), frame(PRIORITY, 0, 1, b"\x80\0\0\x01")] => StreamError(&[FRAME_SIZE_ERROR])),
        case!("§6.3 PRIORITY for a later stream": [priority(3, 0, 255), whole()] => Answered),
        case!("§6.4 RST_STREAM on stream 0": [rst_stream(0, CANCEL)] => MALFORMED),
        case!("§6.4 RST_STREAM on an idle stream": [rst_stream(1, CANCEL)] => MALFORMED),
        case!("§6.4 RST_STREAM of three bytes": [whole(), frame(RST_STREAM, 0, 1, &[0; 3])] => MISSIZED),
        case!("§6.7 PING is echoed": [ping(0, b"a frame!")] => First(PING, |frame| is_pong(frame) && frame.payload == b"a frame!")),
        case!("§6.7 an answer to PING is not": [ping(ACK, b"invalid!"), ping(0, b"a frame!")] => First(PING, |frame| is_pong(frame) && frame.payload == b"a frame!")),
        case!("§6.7 PING on a stream": [frame(PING, 0, 1, NOTHING)] => MALFORMED),
        case!("§6.7 PING of six bytes": [frame(PING, 0, 0, &[0; 6])] => MISSIZED),
        case!("§6.8 GOAWAY on a stream": [frame(GOAWAY, 0, 1, NOTHING)] => MALFORMED),
        case!("§6.9 WINDOW_UPDATE by nothing": [window_update(0, 0)] => MALFORMED),
        case!("§6.9 WINDOW_UPDATE by nothing on a stream": [open(), window_update(1, 0)] => StreamError(&[PROTOCOL_ERROR])),
        case!("§6.9 WINDOW_UPDATE of three bytes": [frame(WINDOW_UPDATE, 0, 0, b"\0\0\x01")] => MISSIZED),
        case!("§8.4 PUSH_PROMISE": [promise] => MALFORMED),
    ]
}

pub(super) fn settings_and_windows() -> Vec<Case> {
    let get = head("GET", &[]);
    let whole = || headers(1, WHOLE, &get);
    let open = || headers(1, OPEN, &get);
    let one_byte: Outcome = First(DATA, |frame| frame.payload.len() == 1);
    let also_one_byte = || First(DATA, |frame| frame.payload.len() == 1);
    let overflows = |frame: &Frame| frame.code() == Some(FLOW_CONTROL_ERROR);
    vec![
        case!("§6.5 SETTINGS with an answer's flag and a payload": [frame(SETTINGS, ACK, 0, b"\0")] => MISSIZED),
        case!("§6.5 SETTINGS on a stream": [frame(SETTINGS, 0, 1, b"\0\x03\0\0\0\x64")] => MALFORMED),
        case!("§6.5 SETTINGS of eight bytes": [frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64\0\x02")] => StreamError(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR])),
        case!("§6.5.2 ENABLE_PUSH of 2": [settings(&[(2, 2)])] => MALFORMED),
        case!("§6.5.2 INITIAL_WINDOW_SIZE past the most": [settings(&[(4, 1 << 31)])] => OVERFLOW),
        case!("§6.5.2 MAX_FRAME_SIZE below the least": [settings(&[(5, 16_383)])] => MALFORMED),
        case!("§6.5.2 MAX_FRAME_SIZE past the most": [settings(&[(5, 1 << 24)])] => MALFORMED),
        case!("§6.5.2 a setting that nobody knows": [settings(&[(0xff, 1)]), ping(0, NOTHING)] => First(PING, is_pong)),
        case!("§6.5.3 settings are read in order": [settings(&[(4, 100), (4, 1)]), SETTINGS_HEARD, whole()] => one_byte),
        case!("§6.5.3 settings are confirmed": [settings(&[(2, 0)])] => First(SETTINGS, |frame| frame.flags == ACK)),
        case!("§6.9.1 the window is kept to": [settings(&[(4, 1)]), SETTINGS_HEARD, whole()] => also_one_byte()),
        case!("§6.9.1 the connection's window overflows": [window_update(0, MOST), window_update(0, MOST)] => First(GOAWAY, overflows)),
        case!("§6.9.1 a stream's window overflows": [open(), window_update(1, MOST), window_update(1, MOST)] => First(RST_STREAM, overflows)),
        case!("§6.9.2 a window that grows afterwards": [settings(&[(4, 0)]), SETTINGS_HEARD, whole(), settings(&[(4, 1)]), SETTINGS_HEARD] => also_one_byte()),
        case!("§6.9.2 a window below zero": [settings(&[(4, 3)]), SETTINGS_HEARD, whole(), DATA_HEARD, settings(&[(4, 2)]), SETTINGS_HEARD, window_update(1, 2)] => also_one_byte()),
        case!("§6.9.2 a window past the most": [settings(&[(4, 1 << 31)])] => OVERFLOW),
    ]
}
