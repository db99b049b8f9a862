//! `keep_alive` of an upstream: how long and how often its connections are used, and that the server's own time counts.

use std::net::SocketAddr;

use crate::support::client::{request, with_body};
use crate::support::upstream::listen;
use crate::support::wire::{RawUpstream, within};
use crate::support::world::config;
use crate::support::{Client, Gateway};
use crate::upstream_http2::{Book, serve};

const ROUTE: &[&str] = &["path: /**, access: public, name: all"];

/// Answers request after request on one connection, with these field lines.
async fn announcing(fields: &str) -> RawUpstream {
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    RawUpstream::start(move |mut wire, _| {
        let answer = answer.clone();
        Box::pin(async move {
            wire.send(&answer).await;
            while wire.head().await.is_some() {
                wire.send(&answer).await;
            }
        })
    })
    .await
}

fn before(service: SocketAddr, keys: &str) -> Gateway {
    let upstreams = format!("upstreams: {{legacy: {{servers: [\"http://{service}\"], {keys}}}}}");
    Gateway::start(&config(service, ROUTE, &upstreams))
}

/// The connections that this number of requests has taken.
async fn connections_for(requests: usize, fields: &str, keys: &str) -> usize {
    let upstream = announcing(fields).await;
    let gateway = before(upstream.address, keys);
    let client = Client::new(&gateway);
    for _ in 0..requests {
        let answer = client.send(with_body(request("POST", "/x"), "")).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        assert!(!answer.headers.contains_key("keep-alive"), "{answer:?}");
    }
    upstream.connections()
}

#[tokio::test]
async fn a_server_that_waits_for_a_second_gets_no_second_request() {
    for fields in ["Keep-Alive: timeout=1\r\n", "Keep-Alive: max=7, Timeout = 0\r\n"] {
        assert_eq!(connections_for(3, fields, "").await, 3, "{fields}");
    }
    for fields in ["", "Keep-Alive: timeout=60\r\n", "Keep-Alive: max=1\r\n", "Keep-Alive: timeout=soon\r\n"] {
        assert_eq!(connections_for(3, fields, "").await, 1, "{fields}");
    }
}

/// Apache httpd and Tomcat announce their time to such requests only.
#[tokio::test]
async fn servers_are_asked_for_their_time() {
    let upstream = RawUpstream::start(|mut wire, head| {
        Box::pin(async move {
            let is_asked = head.to_ascii_lowercase().contains("\r\nconnection: keep-alive\r\n");
            let time = if is_asked { "Keep-Alive: timeout=1\r\n" } else { "" };
            let answer = format!("HTTP/1.1 200 OK\r\n{time}Content-Length: 2\r\n\r\nok");
            wire.send(&answer).await;
            while wire.head().await.is_some() {
                wire.send(&answer).await;
            }
        })
    })
    .await;
    let gateway = before(upstream.address, "");
    let client = Client::new(&gateway);
    for _ in 0..2 {
        assert_eq!(client.send(with_body(request("POST", "/x"), "")).await.status, 200);
    }
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn a_connection_serves_no_more_than_max_requests() {
    assert_eq!(connections_for(7, "", "keep_alive: {max_requests: 3}").await, 3);
    assert_eq!(connections_for(3, "", "keep_alive: {max_requests: 1}").await, 3);
}

/// Asks until a connection has become too old to be used.
async fn is_not_used_after_its_time(gateway: &Gateway, connections: impl Fn() -> usize) {
    let client = Client::new(gateway);
    within(async {
        while connections() < 2 {
            assert_eq!(client.get("/x").await.status, 200);
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_not_used() {
    let upstream = announcing("").await;
    let gateway = before(upstream.address, "keep_alive: {idle: 1ms}");
    is_not_used_after_its_time(&gateway, || upstream.connections()).await;
}

/// A service over HTTP/2, and the connections and requests that it got.
async fn by_http2() -> (SocketAddr, Book) {
    let book = Book::default();
    let log = book.clone();
    (listen(move |stream| serve(stream, None, log.clone())).await, book)
}

#[tokio::test]
async fn http2_connections_have_the_same_bounds() {
    let (service, book) = by_http2().await;
    let gateway = before(service, "protocol: http2, keep_alive: {idle: 1ms}");
    is_not_used_after_its_time(&gateway, || book.connections()).await;
    for (keys, connections) in [("", 1), (", keep_alive: {max_requests: 3}", 3)] {
        let (service, book) = by_http2().await;
        let gateway = before(service, &format!("protocol: http2{keys}"));
        for _ in 0..7 {
            assert_eq!(Client::new(&gateway).get("/x").await.status, 200);
        }
        assert_eq!(book.connections(), connections, "{keys}");
    }
}
