//! An answer that comes before its request has ended does not end before it: what the client does wrong then is still a
//! stream error, and never a whole request to the upstream.

use std::sync::{Arc, Mutex};

use super::{ANSWER, CANCEL, FLOW_CONTROL_ERROR, PROTOCOL_ERROR, hasty, patient};
use crate::support::Gateway;
use crate::support::frames::*;
use crate::support::wire::{RawUpstream, Signal, within};
use crate::support::world::config;

/// The frames that are sent once the answer's head is there, and the code that the stream then ends with.
type Wrong = (Vec<Vec<u8>>, u32);

const WHOLLY: [(&str, &str); 1] = [("content-length", "4")];

/// A request's first frames, and what is wrong behind them.
fn wrongs() -> Vec<(Vec<u8>, Wrong)> {
    let post = |fields: &[(&str, &str)]| headers(1, OPEN, &head("POST", fields));
    let get = || headers(1, OPEN, &head("GET", &[]));
    let trailers = |flags: u8, field: (&str, &str)| headers(1, flags, &block(&[field]));
    let test = |flags: u8| data(1, flags, b"test");
    let most = (1 << 31) - 1;
    vec![
        (post(&[]), (vec![test(0), trailers(OPEN, ("x-test", "ok"))], PROTOCOL_ERROR)),
        (post(&[]), (vec![trailers(OPEN, ("x-test", "ok"))], PROTOCOL_ERROR)),
        (post(&[]), (vec![test(0), trailers(OPEN, (":method", "POST"))], PROTOCOL_ERROR)),
        (post(&[]), (vec![test(0), trailers(WHOLE, ("X-Test", "ok"))], PROTOCOL_ERROR)),
        (post(&[]), (vec![test(0), trailers(WHOLE, ("connection", "close"))], PROTOCOL_ERROR)),
        (post(&[("content-length", "1")]), (vec![test(END_STREAM)], PROTOCOL_ERROR)),
        (post(&[("content-length", "1")]), (vec![test(0), test(END_STREAM)], PROTOCOL_ERROR)),
        (post(&[("content-length", "8")]), (vec![test(END_STREAM)], PROTOCOL_ERROR)),
        (post(&WHOLLY), (vec![test(0), data(1, END_STREAM, b"x")], PROTOCOL_ERROR)),
        (post(&WHOLLY), (vec![test(0), trailers(OPEN, ("x-test", "ok"))], PROTOCOL_ERROR)),
        (get(), (vec![window_update(1, most), window_update(1, most)], FLOW_CONTROL_ERROR)),
        (get(), (vec![window_update(1, 0)], PROTOCOL_ERROR)),
    ]
}

/// The stream, or the connection, ends with this code and with no other, and the answer is never whole.
async fn ends_with(client: &mut Framed, code: u32, shown: &[Vec<u8>]) {
    let ended = client.until(|frame| frame.ends_stream() || frame.code().is_some()).await;
    let ended = ended.unwrap_or_else(|end| panic!("{end:?}: {shown:?}"));
    assert_eq!(ended.code(), Some(code), "{ended:?}: {shown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn errors_after_an_early_answer_are_still_stream_errors() {
    let upstream = hasty().await;
    let gateway = Gateway::open(upstream.address, "");
    for (opening, (wrong, code)) in wrongs() {
        let mut client = Framed::open(&gateway).await;
        client.say(&opening).await;
        client.until(|frame| frame.kind == HEADERS).await.unwrap();
        for bytes in &wrong {
            client.say(bytes).await;
        }
        ends_with(&mut client, code, &wrong).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn errors_after_a_refusal_are_still_stream_errors() {
    let upstream = patient().await;
    let gateway = Gateway::start(&config(upstream.address, &["path: /, access: {}"], ""));
    for (opening, (wrong, code)) in wrongs() {
        let mut client = Framed::open(&gateway).await;
        client.say(&opening).await;
        let answer = client.until(|frame| frame.kind == HEADERS).await.unwrap();
        assert_eq!(answer.status(), Some(401));
        for bytes in &wrong {
            client.say(bytes).await;
        }
        ends_with(&mut client, code, &wrong).await;
    }
    assert_eq!(upstream.seen().len(), 0);
}

/// The part of a request's body that it gets until its connection ends; it answers as soon as it has the head.
async fn listening() -> (RawUpstream, Arc<Mutex<Vec<Vec<u8>>>>, Signal) {
    let (heard, ended) = (Arc::new(Mutex::new(Vec::new())), Signal::default());
    let (bodies, has_ended) = (Arc::clone(&heard), ended.clone());
    let upstream = RawUpstream::start(move |mut wire, _| {
        let (bodies, ended) = (Arc::clone(&bodies), ended.clone());
        Box::pin(async move {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ANSWER}", ANSWER.len())).await;
            let body = wire.rest().await;
            bodies.lock().unwrap().push(body);
            ended.give();
        })
    })
    .await;
    (upstream, heard, has_ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_turns_bad_never_looks_whole_to_the_upstream() {
    let (upstream, heard, ended) = listening().await;
    let gateway = Gateway::open(upstream.address, "");
    for (opening, (wrong, code)) in wrongs() {
        let mut client = Framed::open(&gateway).await;
        client.say(&opening).await;
        client.until(|frame| frame.kind == HEADERS).await.unwrap();
        client.say(&wrong.concat()).await;
        ends_with(&mut client, code, &wrong).await;
        ended.wait().await;
        let body = heard.lock().unwrap().pop().unwrap();
        assert!(!body.ends_with(b"0\r\n\r\n"), "{wrong:?}: {body:?}");
        let length = upstream.heads().pop().and_then(|head| {
            crate::support::wire::field(&head, "content-length").map(|length| length.parse::<usize>().unwrap())
        });
        assert!(length.is_none_or(|length| body.len() < length), "{wrong:?}: {body:?}");
        let line = gateway.audit_line(|line| line["gateway.decision"] == "error");
        assert_eq!(line["gateway.reason"], "client_gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upload_behind_its_answer_ends_the_answer() {
    let upstream = hasty().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut client = Framed::open(&gateway).await;
    client.say(&headers(1, OPEN, &head("POST", &[]))).await;
    let begun = client.until(|frame| frame.kind == DATA).await.unwrap();
    assert_eq!((&begun.payload[..], begun.ends_stream()), (ANSWER.as_bytes(), false));
    client.say(&[data(1, 0, b"test"), data(1, END_STREAM, b"test")].concat()).await;
    let last = client.until(|frame| frame.ends_stream() || frame.code().is_some()).await.unwrap();
    assert_eq!((last.kind, last.payload.len()), (DATA, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_may_wait_for_its_answer_before_it_ends_its_request() {
    let upstream = hasty().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut client = Framed::open(&gateway).await;
    client.say(&headers(1, OPEN, &head("POST", &[]))).await;
    within(client.until(Frame::ends_stream)).await.unwrap();
    let line = gateway.audit_line(|line| line["url.path"] == "/");
    assert_eq!((&line["gateway.decision"], line.get("gateway.reason")), (&"allow".into(), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_cancels_after_an_early_answer_is_client_gone() {
    let upstream = hasty().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut client = Framed::open(&gateway).await;
    client.say(&headers(1, OPEN, &head("POST", &[]))).await;
    client.until(|frame| frame.kind == DATA).await.unwrap();
    client.say(&rst_stream(1, CANCEL)).await;
    let line = gateway.audit_line(|line| line["url.path"] == "/");
    assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &"client_gone".into()));
}

/// Ended by an empty frame, in the same breath or later. To services a coding where no body may be is a request of
/// another kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_get_that_is_ended_by_an_empty_frame_has_no_body() {
    let upstream = patient().await;
    let gateway = Gateway::open(upstream.address, "");
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        for ends in [vec![data(1, END_STREAM, b"")], vec![data(1, 0, b""), data(1, END_STREAM, b"")]] {
            for in_one_breath in [true, false] {
                let mut client = Framed::open(&gateway).await;
                let opening = headers(1, OPEN, &head(method, &[]));
                let said = if in_one_breath {
                    vec![[opening, ends.concat()].concat()]
                } else {
                    [vec![opening], ends.clone()].concat()
                };
                for bytes in said {
                    client.say(&bytes).await;
                }
                client.until(Frame::ends_stream).await.unwrap();
                let seen = upstream.only();
                let framing = ["transfer-encoding", "content-length"].map(|name| seen.headers.get(name));
                assert_eq!(framing, [None, None], "{method}");
                upstream.forget();
            }
        }
    }
    // One that has a body keeps it, however late it comes.
    let mut client = Framed::open(&gateway).await;
    client.say(&[headers(1, OPEN, &head("GET", &[])), data(1, 0, b""), data(1, 0, b"te")].concat()).await;
    client.say(&data(1, END_STREAM, b"st")).await;
    client.until(Frame::ends_stream).await.unwrap();
    let seen = upstream.only();
    assert_eq!((&seen.body[..], seen.header("transfer-encoding")), (&b"test"[..], "chunked"));
}

/// Ended by an empty frame, as some clients do: its last piece waits for that and then goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_of_known_length_reaches_the_upstream_whole() {
    let upstream = patient().await;
    let gateway = Gateway::open(upstream.address, "");
    for end in [
        vec![data(1, END_STREAM, b"test")],
        vec![data(1, 0, b"te"), data(1, 0, b"st"), data(1, 0, b""), data(1, END_STREAM, b"")],
    ] {
        let mut client = Framed::open(&gateway).await;
        client.say(&headers(1, OPEN, &head("POST", &WHOLLY))).await;
        for bytes in &end {
            client.say(bytes).await;
        }
        client.until(Frame::ends_stream).await.unwrap();
        let seen = upstream.only();
        assert_eq!((&seen.body[..], seen.header("content-length")), (&b"test"[..], "4"));
        upstream.forget();
    }
    let trailers = headers(1, WHOLE, &block(&[("authorization", "Bearer x"), ("x-test", "ok")]));
    let mut client = Framed::open(&gateway).await;
    client.say(&[headers(1, OPEN, &head("POST", &WHOLLY)), data(1, 0, b"test"), trailers].concat()).await;
    client.until(Frame::ends_stream).await.unwrap();
    let seen = upstream.only();
    assert_eq!(
        (&seen.body[..], seen.headers.get("authorization"), seen.headers.get("x-test")),
        (&b"test"[..], None, None)
    );
}
