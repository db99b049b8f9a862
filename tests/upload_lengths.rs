//! The announced length of uploads to HTTP/1.1 services: none is left open where there is no body, and a body of
//! unknown length goes in chunks, or whole where `buffer_request` says so.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body::Body;

use crate::support::client::{Connection, request, with_body};
use crate::support::wire::{Piped, RawUpstream, Trailed, Wire, within};
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway, Upstream};

/// A gateway whose only route has these keys.
fn with_keys(service: SocketAddr, keys: &str) -> Gateway {
    Gateway::start(&config(service, &[&format!("path: /**, access: public, name: all{keys}")], ""))
}

async fn sent<B>(client: &Client, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let mut connection: Connection<B> = client.connect_for().await.unwrap();
    within(connection.send(request)).await
}

/// A request with these pieces as its body, whose length is not announced.
async fn piped(client: &Client, method: &str, pieces: &[&[u8]]) -> Answer {
    let (sender, body) = Piped::new();
    let pieces: Vec<Bytes> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let sending = async move {
        for piece in pieces {
            // An early answer ends the body.
            let _ = sender.send(piece).await;
        }
    };
    let (answer, ()) = tokio::join!(sent(client, request(method, "/x").map(|_| body)), sending);
    answer
}

#[tokio::test]
async fn requests_without_a_body_announce_a_length_of_zero() {
    let upstream = Upstream::start().await;
    let gateway = with_keys(upstream.address, "");
    for method in ["POST", "PUT", "PATCH"] {
        for client in gateway.both() {
            assert_eq!(client.send(request(method, "/x")).await.status, 200);
        }
        // Over HTTP/2, ended by an empty frame.
        assert_eq!(piped(&Client::http2(&gateway), method, &[]).await.status, 200);
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 9);
    for request in seen {
        assert_eq!(request.header("content-length"), "0", "{request:?}");
        assert!(!request.headers.contains_key("transfer-encoding"), "{request:?}");
    }
}

#[tokio::test]
async fn uploads_of_unknown_length_go_in_chunks() {
    let upstream = Upstream::start().await;
    let gateway = with_keys(upstream.address, "");
    for client in gateway.both() {
        upstream.forget();
        assert_eq!(piped(&client, "POST", &[b"one, ", b"two"]).await.status, 200);
        let seen = upstream.only();
        assert_eq!((seen.header("transfer-encoding"), &seen.body[..]), ("chunked", &b"one, two"[..]));
        assert!(!seen.headers.contains_key("content-length"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_buffered_upload_goes_whole_with_its_length() {
    let upstream = Upstream::start().await;
    let gateway = with_keys(upstream.address, ", buffer_request: 64KiB");
    let large = vec![7; 32 * 1024];
    for client in gateway.both() {
        for pieces in [&[][..], &[&b"one, "[..], b"two"], &[&large, &large]] {
            upstream.forget();
            assert_eq!(piped(&client, "POST", pieces).await.status, 200);
            let (seen, body) = (upstream.only(), pieces.concat());
            assert_eq!(seen.header("content-length"), body.len().to_string());
            assert!(!seen.headers.contains_key("transfer-encoding"), "{seen:?}");
            assert_eq!(seen.body, body);
        }
    }
}

#[tokio::test]
async fn an_upload_beyond_the_buffer_is_413_and_sent_nowhere() {
    let upstream = RawUpstream::saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = with_keys(upstream.address, ", buffer_request: 64KiB");
    let large = vec![7; 32 * 1024];
    for client in gateway.both() {
        let answer = piped(&client, "POST", &[&large, &large, b"x"]).await;
        assert_eq!(answer.status, 413);
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "too_large");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn an_upload_of_known_length_is_not_buffered() {
    let upstream = Upstream::start().await;
    let gateway = with_keys(upstream.address, ", buffer_request: 1KiB");
    for client in gateway.both() {
        upstream.forget();
        assert_eq!(client.send(with_body(request("POST", "/x"), vec![0; 100_000])).await.status, 200);
        assert_eq!(upstream.only().header("content-length"), "100000");
    }
}

#[tokio::test]
async fn a_buffered_upload_is_asked_for_and_loses_its_trailers() {
    let upstream = Upstream::start().await;
    let gateway = with_keys(upstream.address, ", buffer_request: 1KiB");
    let trailed = request("POST", "/x").map(|_| Trailed::new(b"body", &[("x-sum", "1")]));
    assert_eq!(sent(&Client::http2(&gateway), trailed).await.status, 200);
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 100);
    assert!(upstream.seen().len() == 1, "nothing is sent before the body is there");
    wire.send("4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    for request in seen {
        assert_eq!((request.header("content-length"), &request.body[..]), ("4", &b"body"[..]));
        assert!(!request.headers.contains_key("expect"), "{request:?}");
    }
}

#[tokio::test]
async fn a_stalled_upload_ends_before_the_service_gets_it() {
    let upstream = RawUpstream::saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = with_keys(upstream.address, ", buffer_request: 64KiB, body_idle_timeout: 100ms");
    for client in gateway.both() {
        let (sender, body) = Piped::new();
        sender.send("half".into()).await.unwrap();
        let answer = sent(&client, request("POST", "/x").map(|_| body)).await;
        assert_eq!((answer.status, upstream.connections()), (408, 0));
        drop(sender);
    }
}
