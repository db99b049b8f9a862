//! Connections to upstreams are kept and used again, but only where nothing is left over from the last request.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncReadExt as _;

use crate::support::client::{request, with_body, with_header};
use crate::support::wire::{Piped, RawUpstream, Signal, Wire, field, within};
use crate::support::{Client, Gateway};

/// Answers request after request on one connection, with `ok` or as the path tells.
async fn patient() -> RawUpstream {
    let heads = Arc::new(AtomicUsize::new(0));
    RawUpstream::start(move |mut wire, first| {
        let heads = Arc::clone(&heads);
        Box::pin(async move {
            let mut head = Some(first);
            while let Some(text) = head {
                heads.fetch_add(1, Ordering::SeqCst);
                let length = field(&text, "content-length").map_or(0, |length| length.parse().unwrap());
                if text.contains(" /early ") {
                    wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
                } else {
                    wire.take(length).await;
                    wire.send(said(&text)).await;
                }
                head = wire.head().await;
            }
        })
    })
    .await
}

fn said(head: &str) -> &'static str {
    match head.split(' ').nth(1).unwrap() {
        "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        "/bare" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "/204" => "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
        "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        "/chunks" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "/close" => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "/longer" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more than that",
        "/two" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother",
        "/tunnel" => {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        }
        "/folded" => "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
        "/twice" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "/both" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "/old" => "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "/garbage" => "HTTP/1.1 2OO OK\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    }
}

/// After a request for this path the next one comes over a connection of its own, with its own answer.
async fn is_not_used_again_after(path: &str) {
    let upstream = patient().await;
    let gateway = Gateway::open(upstream.address, "");
    let client = Client::new(&gateway);
    client.get(path).await;
    let next = client.get("/next").await;
    assert_eq!((next.status, &next.body[..], upstream.connections()), (200, &b"ok"[..], 2), "{path}");
}

#[tokio::test]
async fn one_connection_serves_request_after_request_of_all_clients() {
    let upstream = patient().await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        for number in 0..10 {
            assert_eq!(client.get(&format!("/{number}")).await.status, 200);
            let upload = with_body(request("POST", "/upload"), vec![0; 100_000]);
            assert_eq!(client.send(upload).await.status, 200);
        }
        assert_eq!(client.send(request("HEAD", "/bare")).await.status, 200);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_connection_is_not_reused_after_the_upstream_closes_it() {
    is_not_used_again_after("/close").await;
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_more_than_was_announced() {
    is_not_used_again_after("/longer").await;
}

#[tokio::test]
async fn an_unsolicited_answer_never_reaches_the_next_client() {
    is_not_used_again_after("/two").await;
}

/// Another reader may have taken it for something else, with an end elsewhere.
#[tokio::test]
async fn a_connection_is_not_used_again_after_a_doubtful_answer() {
    for path in ["/folded", "/twice", "/both", "/old"] {
        let upstream = patient().await;
        let gateway = Gateway::open(upstream.address, "");
        for (number, client) in gateway.both().iter().enumerate() {
            let answer = within(client.get(path)).await;
            assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]), "{path}");
            assert_eq!(upstream.connections(), number + 1, "{path}");
        }
    }
}

/// A body that must not come might come late, when another request has the connection.
#[tokio::test]
async fn a_connection_with_a_body_announced_in_vain_is_not_reused() {
    for (method, path) in [("HEAD", "/head"), ("HEAD", "/chunks"), ("GET", "/204"), ("GET", "/304")] {
        let upstream = patient().await;
        let gateway = Gateway::open(upstream.address, "");
        for (number, client) in gateway.both().iter().enumerate() {
            assert_eq!(within(client.send(request(method, path))).await.body, "", "{method} {path}");
            assert_eq!(upstream.connections(), number + 1, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_garbage() {
    is_not_used_again_after("/garbage").await;
}

#[tokio::test]
async fn a_connection_is_not_used_again_while_an_upload_is_left_over() {
    let upstream = patient().await;
    let gateway = Gateway::open(upstream.address, "");
    for (number, client) in gateway.both().iter().enumerate() {
        let (sender, body) = Piped::new();
        let mut early = request("POST", "/early").map(|_| body);
        early.headers_mut().insert("content-length", 10.into());
        sender.send("12345".into()).await.unwrap();
        let mut connection = client.connect_for().await.unwrap();
        assert_eq!(within(connection.begin(early)).await.unwrap().status(), 403);
        drop((connection, sender));
        assert_eq!(client.get("/next").await.body, "ok");
        assert_eq!(upstream.connections(), number + 2);
    }
}

#[tokio::test]
async fn an_idle_connection_closed_by_the_upstream_costs_no_request() {
    const UPLOAD: &str = "not to be sent twice";
    let closed = Signal::default();
    let has_closed = closed.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let closed = closed.clone();
        Box::pin(async move {
            // A reset because of an unread body could overtake the answer.
            wire.take(UPLOAD.len()).await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            wire.close().await;
            closed.give();
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "");
    let mut connection = Client::new(&gateway).connect().await;
    for _ in 0..50 {
        let posted = connection.send(with_body(request("POST", "/x"), UPLOAD)).await;
        assert_eq!((posted.status, &posted.body[..]), (200, &b"ok"[..]));
        has_closed.wait().await;
    }
    assert_eq!(upstream.heads().len(), 50);
}

/// Says how each of its connections has ended: by a reset or by a regular end.
async fn ended_by() -> (RawUpstream, Arc<Mutex<Vec<Option<io::ErrorKind>>>>) {
    let ends = Arc::<Mutex<Vec<_>>>::default();
    let log = Arc::clone(&ends);
    let upstream = RawUpstream::start(move |mut wire, head| {
        let log = Arc::clone(&log);
        Box::pin(async move {
            if !head.contains(" /silent ") {
                wire.send(said(&head)).await;
            }
            let end = loop {
                match wire.stream.read(&mut [0; 1024]).await {
                    Ok(0) => break None,
                    Ok(_) => {}
                    Err(error) => break Some(error.kind()),
                }
            };
            log.lock().unwrap().push(end);
        })
    })
    .await;
    (upstream, ends)
}

/// Waits until this is so.
async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A handshake for this path.
fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A port that waits in the kernel after a regular end is lost to the next connection for a minute. None may be lost to
/// what a caller without credentials does.
#[tokio::test]
async fn a_connection_that_is_given_up_is_reset() {
    let (upstream, ends) = ended_by().await;
    let gateway = Gateway::before(upstream.address, &["path: /**, access: public, websocket: true, name: all"]);
    let reset = async |count: usize, what: &str| {
        until(|| ends.lock().unwrap().len() >= count).await;
        assert_eq!(ends.lock().unwrap()[count - 1], Some(io::ErrorKind::ConnectionReset), "{what}");
    };
    let (client, by_http2) = (Client::new(&gateway), Client::http2(&gateway));
    let negotiate = || with_header(request("GET", "/x"), "authorization", "Negotiate x");
    assert_eq!(by_http2.send(negotiate()).await.status, 200);
    reset(1, "credentials for the connection").await;
    assert_eq!(client.send(with_header(negotiate(), "via", "1.1 proxy")).await.status, 200);
    reset(2, "the same by a proxy").await;
    let mut pinned = client.connect().await;
    assert_eq!(pinned.send(negotiate()).await.status, 200);
    drop(pinned);
    reset(3, "the same, pinned").await;
    assert_eq!(client.send(request("HEAD", "/head")).await.status, 200);
    reset(4, "an answer to HEAD with a length").await;
    let mut upload = Wire::new(client.tls().await.unwrap());
    upload.send("POST /silent HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    until(|| upstream.heads().len() == 5).await;
    drop(upload);
    reset(5, "an upload that its caller leaves").await;
    let mut declined = Wire::new(client.tls().await.unwrap());
    declined.send(upgrade("/x")).await;
    assert_eq!(declined.answer().await.unwrap().status, 200);
    reset(6, "an upgrade that is declined").await;
    let mut cancelled = Wire::new(client.tls().await.unwrap());
    cancelled.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until(|| upstream.heads().len() == 7).await;
    drop(cancelled);
    reset(7, "a request whose caller has gone").await;
}

#[tokio::test]
async fn a_tunnel_ends_regularly() {
    let (upstream, ends) = ended_by().await;
    let gateway = Gateway::before(upstream.address, &["path: /**, access: public, websocket: true, name: all"]);
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send(upgrade("/tunnel")).await;
    assert_eq!(wire.answer().await.unwrap().status, 101);
    wire.send(vec![0; 100_000]).await;
    drop(wire);
    until(|| !ends.lock().unwrap().is_empty()).await;
    assert_eq!(*ends.lock().unwrap(), [None]);
}

/// They would be closed after the exchange, and missing to all others.
#[tokio::test]
async fn credentials_for_a_connection_do_not_use_up_the_idle_ones() {
    let upstream = patient().await;
    let gateway = Gateway::open(upstream.address, "");
    let by_http2 = Client::http2(&gateway);
    assert_eq!(by_http2.get("/x").await.body, "ok");
    for own in 2..5 {
        let negotiate = with_header(request("GET", "/x"), "authorization", "Negotiate x");
        assert_eq!(by_http2.send(negotiate).await.body, "ok");
        assert_eq!(upstream.connections(), own);
        assert_eq!(by_http2.get("/x").await.body, "ok");
        assert_eq!(upstream.connections(), own);
    }
}
