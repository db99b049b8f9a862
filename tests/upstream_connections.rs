//! Connections to upstreams are kept and used again, but only where nothing is left over from the last request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::{request, with_body};
use crate::support::wire::{RawUpstream, Signal, field, within};
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
async fn a_connection_is_not_used_again_after_the_upstream_has_said_so() {
    is_not_used_again_after("/close").await;
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_more_than_was_announced() {
    is_not_used_again_after("/longer").await;
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_never_reaches_the_next_client() {
    is_not_used_again_after("/two").await;
}

/// What may not come might come late, when another request has the connection.
#[tokio::test]
async fn a_connection_is_not_used_again_after_a_body_was_announced_that_may_not_come() {
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
        let (sender, body) = crate::support::wire::Piped::new();
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
async fn an_upstream_that_has_closed_its_idle_connection_does_not_cost_a_request() {
    let closed = Signal::default();
    let has_closed = closed.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let closed = closed.clone();
        Box::pin(async move {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            drop(wire);
            closed.give();
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "");
    let mut connection = Client::new(&gateway).connect().await;
    for _ in 0..50 {
        let posted = connection.send(with_body(request("POST", "/x"), "not to be sent twice")).await;
        assert_eq!((posted.status, &posted.body[..]), (200, &b"ok"[..]));
        has_closed.wait().await;
    }
    assert_eq!(upstream.heads().len(), 50);
}
