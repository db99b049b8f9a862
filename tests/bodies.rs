//! Bodies are streamed, both ways at once, framed anew, bounded, and never gathered.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::support::client::{request, with_body};
use crate::support::wire::{Piped, RawUpstream, Signal, Wire, field, within};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

const MEBIBYTE: usize = 1024 * 1024;

fn piped(path: &str) -> (tokio::sync::mpsc::Sender<Bytes>, Request<Piped>) {
    let (sender, body) = Piped::new();
    (sender, request("POST", path).map(|_| body))
}

async fn next(body: &mut Incoming) -> Bytes {
    within(body.frame()).await.unwrap().unwrap().into_data().unwrap()
}

/// How the upstream is told of the body of this request, sent by hand.
async fn framed(text: &str) -> String {
    let upstream = RawUpstream::saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = Gateway::open(upstream.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send(text).await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    upstream.heads().pop().unwrap()
}

#[tokio::test]
async fn a_known_length_stays_known_and_a_chunked_body_chunked() {
    let known = framed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!((field(&known, "content-length"), field(&known, "transfer-encoding")), (Some("3"), None));
    let chunked = framed("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    assert_eq!((field(&chunked, "content-length"), field(&chunked, "transfer-encoding")), (None, Some("chunked")));
    let none = framed("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((field(&none, "content-length"), field(&none, "transfer-encoding")), (None, None));
    let empty = framed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(field(&empty, "transfer-encoding"), None);
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_on_with_every_method() {
    let upstream = Upstream::answering(|seen| Response::new(Full::from(seen.body.clone()))).await;
    let gateway = Gateway::open(upstream.address, "");
    for method in ["GET", "DELETE", "POST", "OPTIONS"] {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send(format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer().await.unwrap().body, b"hello", "{method}");
        let mut connection = Client::http2(&gateway).connect_for::<Piped>().await.unwrap();
        let (sender, body) = Piped::new();
        sender.send(Bytes::from_static(b"hello")).await.unwrap();
        drop(sender);
        let answer = connection.send(request(method, "/").map(|_| body)).await;
        assert_eq!(answer.body, "hello", "{method} over HTTP/2");
    }
}

#[tokio::test]
async fn a_get_with_a_body_is_framed_and_poisons_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    for method in ["GET", "DELETE", "OPTIONS"] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n";
        wire.send(format!(
            "{method} /first HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ))
        .await;
        assert_eq!(wire.answer().await.unwrap().status, 200);
        wire.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(wire.answer().await.unwrap().status, 200);
    }
    let targets: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/first", "/second"].repeat(3));
}

#[tokio::test]
async fn an_upstream_may_answer_before_it_has_read_the_whole_request() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            // The first piece, chunked: `5\r\nfirst\r\n`.
            assert_eq!(wire.take(10).await, b"5\r\nfirst\r\n");
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
            assert_eq!(wire.take(16).await, b"6\r\nsecond\r\n0\r\n\r\n");
            wire.send("5\r\nwhole\r\n0\r\n\r\n").await;
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        let (sender, request) = piped("/x");
        sender.send("first".into()).await.unwrap();
        let response = within(client.connect_for().await.unwrap().begin(request)).await.unwrap();
        let mut body = response.into_body();
        assert_eq!(next(&mut body).await, "half");
        sender.send("second".into()).await.unwrap();
        drop(sender);
        assert_eq!(next(&mut body).await, "whole");
        assert_eq!(within(body.collect()).await.unwrap().to_bytes(), "");
    }
}

#[tokio::test]
async fn a_download_reaches_the_client_piece_by_piece() {
    let more = Signal::default();
    let told = more.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let more = more.clone();
        Box::pin(async move {
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n").await;
            for piece in ["one", "two", "six"] {
                more.wait().await;
                wire.send(piece).await;
            }
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        let mut body = within(client.connect().await.begin(request("GET", "/x"))).await.unwrap().into_body();
        for piece in ["one", "two", "six"] {
            told.give();
            assert_eq!(next(&mut body).await, piece);
        }
        assert!(within(body.frame()).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn large_bodies_pass_both_ways_in_little_memory() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            let mut left = 64 * MEBIBYTE;
            wire.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {left}\r\n\r\n")).await;
            while left > 0 {
                let piece = wire.take(MEBIBYTE).await;
                left -= piece.len();
                wire.send(piece).await;
            }
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "limits: {body_bytes: unlimited}");
    let before = gateway.peak_memory();
    for client in gateway.both() {
        let (sender, request) = piped("/echo");
        let (head, body) = request.into_parts();
        let mut request = Request::from_parts(head, body);
        request.headers_mut().insert("content-length", (64 * MEBIBYTE).into());
        let piece = Bytes::from(vec![7; MEBIBYTE]);
        tokio::task::spawn(async move {
            for _ in 0..64 {
                sender.send(piece.clone()).await.unwrap();
            }
        });
        let mut connection = client.connect_for().await.unwrap();
        let mut body = within(connection.begin(request)).await.unwrap().into_body();
        let mut got = 0;
        while let Some(frame) = within(body.frame()).await {
            got += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(got, 64 * MEBIBYTE);
    }
    let grown = gateway.peak_memory() - before;
    assert!(grown < 24 * MEBIBYTE as u64, "{grown} bytes more");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_never_reaches_the_upstream() {
    let upstream = Upstream::start().await;
    let routes = ["path: /small, access: public, body_bytes: 4B", "path: /usual, access: public"];
    let gateway = Gateway::start(&config(upstream.address, &routes, "limits: {body_bytes: 8B}"));
    for client in gateway.both() {
        for (path, body, status) in [
            ("/small", "1234", 200),
            ("/small", "12345", 413),
            ("/usual", "12345678", 200),
            ("/usual", "123456789", 413),
        ] {
            let before = upstream.seen().len();
            let answer = client.send(with_body(request("POST", path), body)).await;
            assert_eq!(answer.status, status, "{path} {body}");
            assert_eq!(upstream.seen().len() - before, usize::from(status == 200));
            if status == 413 {
                assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "too_large");
            }
        }
    }
}

#[tokio::test]
async fn a_route_may_take_more_than_the_rest() {
    let upstream = Upstream::start().await;
    let route = "path: /large, access: public, body_bytes: unlimited";
    let gateway = Gateway::start(&config(upstream.address, &[route], "limits: {body_bytes: 8B}"));
    for client in gateway.both() {
        assert_eq!(client.send(with_body(request("POST", "/large"), vec![0; MEBIBYTE])).await.status, 200);
        assert_eq!(upstream.seen().pop().unwrap().body.len(), MEBIBYTE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_found_too_large_never_reaches_the_upstream_whole() {
    let (begun, ended) = (Signal::default(), Signal::default());
    let (has_begun, has_ended) = (begun.clone(), ended.clone());
    let upstream = RawUpstream::start(move |mut wire, _| {
        let (begun, ended) = (begun.clone(), ended.clone());
        Box::pin(async move {
            assert_eq!(wire.take(10).await, b"5\r\n12345\r\n");
            begun.give();
            assert_eq!(wire.rest().await, b"");
            ended.give();
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "limits: {body_bytes: 8B}");
    for client in gateway.both() {
        let (sender, request) = piped("/x");
        sender.send("12345".into()).await.unwrap();
        let mut connection = client.connect_for().await.unwrap();
        let answer = tokio::task::spawn(async move { connection.try_send(request).await });
        has_begun.wait().await;
        sender.send("67890".into()).await.unwrap();
        let answer = within(answer).await.unwrap().unwrap();
        assert_eq!(answer.status, 413);
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "too_large");
        has_ended.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upload_that_stops_is_408_and_ends_the_upstream_request() {
    let ended = Signal::default();
    let seen_end = ended.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let ended = ended.clone();
        Box::pin(async move {
            wire.rest().await;
            ended.give();
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "limits: {body_idle_timeout: 200ms}");
    for client in gateway.both() {
        let (sender, request) = piped("/x");
        sender.send("12345".into()).await.unwrap();
        let answer = within(client.connect_for().await.unwrap().try_send(request)).await.unwrap();
        assert_eq!(answer.status, 408);
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "timeout");
        seen_end.wait().await;
        drop(sender);
    }
}

/// The upstream sees the first half of an upload and then the end of its connection; what it saw never looks whole.
async fn breaks_off(length: Option<u64>, half: &'static [u8]) {
    let (begun, ended) = (Signal::default(), Signal::default());
    let (has_begun, has_ended) = (begun.clone(), ended.clone());
    let upstream = RawUpstream::start(move |mut wire, _| {
        let (begun, ended) = (begun.clone(), ended.clone());
        Box::pin(async move {
            assert_eq!(wire.take(half.len()).await, half);
            begun.give();
            assert_eq!(wire.rest().await, b"");
            ended.give();
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "");
    for (path, client) in ["/1", "/2"].into_iter().zip(gateway.both()) {
        let (sender, mut request) = piped(path);
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.into());
        }
        sender.send("half".into()).await.unwrap();
        let mut connection = client.connect_for().await.unwrap();
        let asking = tokio::task::spawn(async move { connection.try_send(request).await });
        has_begun.wait().await;
        asking.abort();
        has_ended.wait().await;
        let line = gateway.audit_line(|line| line["url.path"] == path);
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &"client_gone".into()));
        drop(sender);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upload_that_breaks_off_never_looks_whole_to_the_upstream() {
    breaks_off(None, b"4\r\nhalf\r\n").await;
    breaks_off(Some(8), b"half").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_found_too_large_after_the_answer_began_is_reported_so() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").await;
            wire.rest().await;
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "limits: {body_bytes: 8B}");
    for (path, client) in ["/1", "/2"].into_iter().zip(gateway.both()) {
        let (sender, request) = piped(path);
        sender.send("12345".into()).await.unwrap();
        let mut body = within(client.connect_for().await.unwrap().begin(request)).await.unwrap().into_body();
        assert_eq!(next(&mut body).await, "half");
        sender.send("67890".into()).await.unwrap();
        assert!(within(body.collect()).await.is_err());
        let line = gateway.audit_line(|line| line["url.path"] == path);
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &"too_large".into()));
    }
}

#[tokio::test]
async fn a_refused_client_that_expects_100_gets_no_continue() {
    let upstream = Upstream::start().await;
    let routes = ["path: /x, access: {}", "path: /small, access: public, body_bytes: 1B"];
    let gateway = Gateway::before(upstream.address, &routes);
    for (path, status) in [("/x", 401), ("/small", 413), ("/none", 404)] {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"))
            .await;
        assert_eq!(wire.answer().await.unwrap().status, status, "{path}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn framing_of_an_answer_follows_its_upstream() {
    for said in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
    ] {
        let upstream = RawUpstream::saying(said).await;
        let gateway = Gateway::open(upstream.address, "");
        for client in gateway.both() {
            let answer = within(client.get("/x")).await;
            assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]), "{said:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_framed_by_what_its_upstream_sent() {
    let upstream = RawUpstream::saying(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        let answer = within(client.get("/x")).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    }
}

#[tokio::test]
async fn an_answer_without_a_body_has_none_whatever_its_length() {
    for (method, status, head) in [
        ("GET", 304, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", 204, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", 200, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", 200, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        let upstream = RawUpstream::saying(format!("{head}hello")).await;
        let gateway = Gateway::open(upstream.address, "");
        for client in gateway.both() {
            let mut connection = client.connect().await;
            for _ in 0..2 {
                let answer = within(connection.send(request(method, "/x"))).await;
                assert_eq!((answer.status, answer.body.len()), (status, 0), "{head:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_empty_answer_has_length_zero() {
    let upstream = Upstream::answering(|_| Response::new(Full::default())).await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        assert_eq!(client.get("/x").await.header("content-length"), "0");
    }
}
