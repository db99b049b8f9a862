//! Trailers are passed on as trailers, to recipients that can use them, and never as identity.

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::mpsc;

use crate::support::client::{request, with_header};
use crate::support::upstream::by_http2;
use crate::support::wire::{Piped, RawUpstream, Trailed, Wire, within};
use crate::support::{Client, Gateway};

/// An answer with trailers, two of which it has no business to send.
fn answer(announced: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{announced}\r\n5\r\nhello\r\n0\r\n\
         X-Sum: 1\r\nX-Auth-Subject: forged\r\nSet-Cookie: forged\r\nX-Sum: 2\r\n\r\n"
    )
}

const ANNOUNCED: &str = "Trailer: X-Sum, X-Auth-Subject\r\nTrailer: Set-Cookie\r\n";

/// All that a client over HTTP/1.1 is sent.
async fn by_hand(upstream: &RawUpstream, te: &str) -> String {
    let gateway = Gateway::open(upstream.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{te}Connection: close\r\n\r\n")).await;
    String::from_utf8(wire.rest().await).unwrap()
}

#[tokio::test]
async fn answer_trailers_reach_http2_clients_without_unsafe_fields() {
    for announced in [ANNOUNCED, ""] {
        let upstream = RawUpstream::saying(answer(announced)).await;
        let gateway = Gateway::open(upstream.address, "");
        let begun = Client::http2(&gateway).connect().await.begin(request("GET", "/x")).await.unwrap();
        let trailer = begun.headers().get("trailer").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(trailer.as_deref(), (!announced.is_empty()).then_some("x-sum"));
        let collected = within(begun.into_body().collect()).await.unwrap();
        let trailers = collected.trailers().unwrap();
        assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(trailers.len(), 2, "{trailers:?}");
        assert_eq!(collected.to_bytes(), "hello");
        let line = gateway.audit_line(|line| line["url.path"] == "/x");
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"allow".into(), &serde_json::Value::Null));
    }
}

#[tokio::test]
async fn announced_trailers_reach_http1_clients_that_ask_for_them() {
    let upstream = RawUpstream::saying(answer(ANNOUNCED)).await;
    let said = by_hand(&upstream, "TE: trailers\r\n").await;
    assert!(said.ends_with("5\r\nhello\r\n0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n"), "{said}");
    assert!(!said.contains("forged"), "{said}");
    for (announced, te) in [(ANNOUNCED, ""), ("", "TE: trailers\r\n")] {
        let said = by_hand(&RawUpstream::saying(answer(announced)).await, te).await;
        assert!(said.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{said}");
    }
}

/// RFC 9110 §7.6.1: neither in the header, nor in the trailers, nor announced.
#[tokio::test]
async fn fields_that_an_answer_declares_hop_by_hop_do_not_trail() {
    let upstream = RawUpstream::saying(answer("Connection: X-Sum, close\r\nTrailer: X-Sum, X-Other\r\n")).await;
    let said = by_hand(&upstream, "TE: trailers\r\n").await;
    assert!(said.contains("\r\ntrailer: x-other\r\n"), "{said}");
    assert!(said.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{said}");
    let gateway = Gateway::open(upstream.address, "");
    let begun = Client::http2(&gateway).connect().await.begin(request("GET", "/x")).await.unwrap();
    assert_eq!(begun.headers()["trailer"], "x-other");
    let collected = within(begun.into_body().collect()).await.unwrap();
    assert!(collected.trailers().is_none_or(http::HeaderMap::is_empty), "{:?}", collected.trailers());
}

/// The end of an answer waits for its request's, for a while: its trailers wait with it.
#[tokio::test]
async fn trailers_of_an_early_answer_are_not_lost() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            wire.send(answer("")).await;
            wire.rest().await;
        })
    })
    .await;
    for ends_in_time in [true, false] {
        // A connection each: the upstream answers one request on one.
        let gateway = Gateway::open(upstream.address, "");
        let (sender, body) = Piped::new();
        let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
        let begun = within(connection.begin(request("POST", "/x").map(|_| body))).await.unwrap();
        let kept = (!ends_in_time).then_some(sender);
        let collected = within(begun.into_body().collect()).await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-sum"], "1");
        drop(kept);
    }
}

#[tokio::test]
async fn a_connection_is_used_again_after_trailers() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            wire.send(answer("")).await;
            while wire.head().await.is_some() {
                wire.send(answer("")).await;
            }
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        for _ in 0..3 {
            assert_eq!(client.get("/x").await.body, "hello");
        }
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn request_trailers_reach_http2_upstreams_without_unsafe_fields() {
    let (sender, mut seen) = mpsc::channel(1);
    let service = by_http2(move |request| {
        let sender = sender.clone();
        async move {
            let collected = request.into_body().collect().await.unwrap();
            sender.send((collected.trailers().cloned(), collected.to_bytes())).await.unwrap();
            Response::new(Trailed::new(b"ok", &[("x-sum", "2"), ("x-auth-subject", "forged")]))
        }
    })
    .await;
    let gateway = Gateway::before_http2(service, &["path: /x, access: public"]);
    let said = [
        ("x-sum", "1"),
        ("x-auth-subject", "forged"),
        ("authorization", "forged"),
        ("x_auth_scope", "forged"),
        ("client-cert", "forged"),
        ("client_cert_chain", "forged"),
    ];
    // Of a length that was said, of one that was not, and nothing but trailers.
    for (data, length) in [(&b"abc"[..], Some("3")), (b"abc", None), (b"", None)] {
        let mut request = request("POST", "/x").map(|_| Trailed::new(data, &said));
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().unwrap());
        }
        let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
        let answer = within(connection.begin(request)).await.unwrap();
        let (trailers, body) = within(seen.recv()).await.unwrap();
        let trailers = trailers.unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"], &body[..]), (1, &"1".parse().unwrap(), data));
        let collected = within(answer.into_body().collect()).await.unwrap();
        let trailers = collected.trailers().unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"2".parse().unwrap()));
    }
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    let chunks = "3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Auth-Subject: forged\r\nContent-Length: 9\r\n\r\n";
    wire.send(format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")).await;
    let (trailers, body) = within(seen.recv()).await.unwrap();
    assert_eq!((trailers.unwrap().len(), &body[..]), (1, &b"abc"[..]));
}

#[tokio::test]
async fn an_http2_upstream_sees_te_trailers_and_no_other_coding() {
    let service = by_http2(|request| async move {
        let te = request.headers().get_all("te").iter().map(|te| te.to_str().unwrap()).collect::<Vec<_>>().join("+");
        Response::new(Full::<Bytes>::from(te))
    })
    .await;
    let gateway = Gateway::before_http2(service, &["path: /x, access: public"]);
    assert_eq!(Client::http2(&gateway).get("/x").await.body, "");
    assert_eq!(
        Client::http2(&gateway).send(with_header(request("GET", "/x"), "te", "trailers")).await.body,
        "trailers"
    );
    for (te, heard) in [("gzip;q=0.5, trailers", "trailers"), ("gzip", "")] {
        assert_eq!(Client::new(&gateway).send(with_header(request("GET", "/x"), "te", te)).await.body, heard, "{te}");
    }
}
