//! Valid exchanges, each with its answer.

use super::Outcome::{Answered, Closed, First, PongOrClosed};
use super::{Case, STREAM_ENDS, all_hold, case, is_pong};
use crate::support::frames::*;

const X_TEST: &[(&str, &str)] = &[("x-test", "ok")];
const NOTHING: &[u8; 8] = &[0; 8];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn inspect_answers_for_each_route() {
    all_hold(&cases()).await;
}

pub(super) fn cases() -> Vec<Case> {
    let whole = || headers(1, WHOLE, &head("GET", &[]));
    let post = || headers(1, OPEN, &head("POST", &[]));
    let shut = || settings(&[(4, 0)]);
    let get = head("GET", &[]);
    let is_ours = |frame: &Frame| frame.flags & ACK == 0;
    vec![
        case!(new "§3.4 the first frame is SETTINGS": [[PREFACE, &settings(&[(4, 65_535)])].concat()] => First(SETTINGS, is_ours)),
        case!("§5.1 PRIORITY on an idle stream": [priority(1, 0, 255), ping(0, NOTHING)] => First(PING, is_pong)),
        case!("§5.1 WINDOW_UPDATE on a half-closed stream": [shut(), whole(), window_update(1, 1)] => First(DATA, |_| true)),
        case!("§5.1 PRIORITY on a half-closed stream": [shut(), whole(), priority(1, 0, 255), window_update(1, 1)] => First(DATA, |_| true)),
        case!("§5.1 RST_STREAM on a half-closed stream": [whole(), rst_stream(1, 8), ping(0, NOTHING)] => PongOrClosed),
        case!("§5.1 PRIORITY on a closed stream": [whole(), STREAM_ENDS, priority(1, 0, 255), ping(0, NOTHING)] => First(PING, is_pong)),
        case!("§6.1 one DATA frame": [post(), data(1, END_STREAM, b"test")] => Answered),
        case!("§6.1 several DATA frames": [post(), data(1, 0, b"test"), data(1, END_STREAM, b"test")] => Answered),
        case!("§6.1 DATA with padding": [post(), data(1, END_STREAM | PADDED, b"\x06test\0\0\0\0\0\0")] => Answered),
        case!("§6.2 HEADERS": [whole()] => Answered),
        case!("§6.2 HEADERS with padding": [headers(1, WHOLE | PADDED, &[&[8], &get[..], &[0; 8]].concat())] => Answered),
        case!("§6.2 HEADERS with priority": [headers(1, WHOLE | PRIORITISED, &[&[0, 0, 0, 0, 255], &get[..]].concat())] => Answered),
        case!("§6.3 PRIORITY with the least weight": [priority(1, 0, 0), whole()] => Answered),
        case!("§6.3 PRIORITY with the most weight": [priority(1, 0, 255), whole()] => Answered),
        case!("§6.3 PRIORITY with a dependency": [priority(3, 1, 0), whole()] => Answered),
        case!("§6.3 PRIORITY that is exclusive": [priority(1, 1 << 31, 0), whole()] => Answered),
        case!("§6.3 PRIORITY on a later stream": [priority(3, 0, 255), whole()] => Answered),
        case!("§6.4 RST_STREAM": [headers(1, OPEN, &get), rst_stream(1, 8), ping(0, NOTHING)] => PongOrClosed),
        case!("§6.5 SETTINGS with all that there is": [settings(&[(1, 4096), (2, 1), (3, 100), (4, 65_535), (5, 16_384), (6, 100)])] => First(SETTINGS, |frame| frame.flags == ACK)),
        case!("§6.7 PING": [ping(0, b"a frame!")] => First(PING, |frame| is_pong(frame) && frame.payload == b"a frame!")),
        case!("§6.8 GOAWAY": [frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0goodbye")] => Closed),
        case!("§6.9 WINDOW_UPDATE on the connection": [window_update(0, 1), ping(0, NOTHING)] => First(PING, |_| true)),
        case!("§6.9 WINDOW_UPDATE on a stream": [whole(), window_update(1, 1)] => Answered),
        case!("§6.10 one CONTINUATION": [headers(1, END_STREAM, &get[..5]), continuation(1, END_HEADERS, &get[5..])] => Answered),
        case!("§6.10 several CONTINUATION": [headers(1, END_STREAM, &get[..5]), continuation(1, 0, &get[5..10]), continuation(1, END_HEADERS, &get[10..])] => Answered),
        case!("§8.1 GET": [whole()] => Answered),
        case!("§8.1 HEAD": [headers(1, WHOLE, &head("HEAD", &[]))] => Answered),
        case!("§8.1 POST": [post(), data(1, END_STREAM, b"test")] => Answered),
        case!("§8.1 POST with trailers": [headers(1, OPEN, &head("POST", &[("trailer", "x-test")])), data(1, 0, b"test"), headers(1, WHOLE, &block(X_TEST))] => Answered),
    ]
}
