//! Ranges, validators and codings are between the client and the service: they pass as they are, both ways.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use crate::support::client::{request, with_header};
use crate::support::upstream::Seen;
use crate::support::{Answer, Gateway, Upstream};

/// Bytes that no text is made of.
fn content() -> Bytes {
    (0..1000_u32).map(|number| (number * 7 % 256) as u8).collect()
}

const MULTIPART: &str =
    "--b\r\nContent-Range: bytes 0-1/10\r\n\r\nab\r\n--b\r\nContent-Range: bytes 4-5/10\r\n\r\nef\r\n--b--\r\n";

fn response(status: u16, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(Full::new(body.into())).unwrap()
}

/// A file service in small: knows what RFC 9110 §13 and §14 say of the few things that it is asked.
fn file(asked: &Seen) -> Response<Full<Bytes>> {
    let said = |name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap());
    let validators =
        [("etag", "W/\"v1\""), ("last-modified", "Tue, 15 Nov 1994 12:45:26 GMT"), ("accept-ranges", "bytes")];
    let with = |more: &[(&'static str, &'static str)]| [&validators[..], more].concat();
    if said("if-match") == Some("\"v0\"") {
        return response(412, &[], "");
    }
    if said("if-none-match") == Some("\"v0\", W/\"v1\"") || said("if-modified-since").is_some() {
        return response(304, &with(&[("vary", "Accept-Encoding, Origin")]), "");
    }
    match (said("range"), said("if-range")) {
        (Some("bytes=10-19"), None | Some("W/\"v1\"")) => {
            response(206, &with(&[("content-range", "bytes 10-19/1000")]), content().slice(10..20))
        }
        (Some("bytes=0-1,4-5"), None) => {
            response(206, &with(&[("content-type", "multipart/byteranges; boundary=b")]), MULTIPART)
        }
        (Some("bytes=2000-"), None) => response(416, &[("content-range", "bytes */1000")], ""),
        _ => response(200, &validators, content()),
    }
}

async fn asked(fields: &[(&'static str, &str)]) -> Vec<Answer> {
    let upstream = Upstream::answering(file).await;
    let gateway = Gateway::open(upstream.address, "");
    let mut answers = Vec::new();
    for client in gateway.both() {
        let mut request = request("GET", "/file");
        for (name, value) in fields {
            request = with_header(request, name, value);
        }
        answers.push(client.send(request).await);
        let seen = upstream.seen().pop().unwrap();
        for (name, value) in fields {
            assert_eq!(seen.header(name), *value);
        }
    }
    answers
}

#[tokio::test]
async fn ranges_pass() {
    for answer in asked(&[("range", "bytes=10-19")]).await {
        assert_eq!((answer.status, answer.header("content-range")), (206, "bytes 10-19/1000"));
        assert_eq!((answer.header("content-length"), &answer.body), ("10", &content().slice(10..20)));
    }
    for answer in asked(&[("range", "bytes=10-19"), ("if-range", "W/\"v1\"")]).await {
        assert_eq!(answer.status, 206);
    }
    for answer in asked(&[("range", "bytes=0-1,4-5")]).await {
        assert_eq!(answer.header("content-type"), "multipart/byteranges; boundary=b");
        assert_eq!((answer.status, &answer.body[..]), (206, MULTIPART.as_bytes()));
    }
    for answer in asked(&[("range", "bytes=2000-")]).await {
        assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */1000"));
    }
    for answer in asked(&[("range", "bytes=10-19"), ("if-range", "\"old\"")]).await {
        assert_eq!((answer.status, answer.header("accept-ranges"), &answer.body), (200, "bytes", &content()));
    }
}

#[tokio::test]
async fn conditions_and_validators_pass_weak_or_strong() {
    for answer in asked(&[("if-none-match", "\"v0\", W/\"v1\"")]).await {
        assert_eq!((answer.status, answer.header("etag"), answer.body.len()), (304, "W/\"v1\"", 0));
        assert_eq!(answer.header("vary"), "Accept-Encoding, Origin");
    }
    for answer in asked(&[("if-modified-since", "Tue, 15 Nov 1994 12:45:26 GMT")]).await {
        assert_eq!((answer.status, answer.header("last-modified")), (304, "Tue, 15 Nov 1994 12:45:26 GMT"));
    }
    for answer in asked(&[("if-match", "\"v0\"")]).await {
        assert_eq!(answer.status, 412);
    }
}

#[tokio::test]
async fn an_encoded_body_passes_byte_for_byte() {
    for coding in ["gzip", "br", "zstd", "identity"] {
        let upstream = Upstream::answering(move |_| {
            response(200, &[("content-encoding", coding), ("vary", "Accept-Encoding"), ("etag", "\"s\"")], content())
        })
        .await;
        let gateway = Gateway::open(upstream.address, "");
        for client in gateway.both() {
            let answer = client.send(with_header(request("GET", "/x"), "accept-encoding", "gzip, br;q=0.5")).await;
            assert_eq!((answer.header("content-encoding"), answer.header("vary")), (coding, "Accept-Encoding"));
            assert_eq!((answer.header("etag"), &answer.body), ("\"s\"", &content()));
            assert_eq!(upstream.seen().pop().unwrap().header("accept-encoding"), "gzip, br;q=0.5");
        }
    }
}

#[tokio::test]
async fn head_says_how_long_the_body_would_be() {
    let upstream = Upstream::answering(file).await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        let mut connection = client.connect().await;
        let head = connection.send(request("HEAD", "/file")).await;
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "1000", 0));
        let get = connection.send(request("GET", "/file")).await;
        let both = |name: &str| (head.headers.get(name).cloned(), get.headers.get(name).cloned());
        for name in ["etag", "last-modified", "accept-ranges", "content-length"] {
            let (head, get) = both(name);
            assert!(head.is_some() && head == get, "{name}: {head:?} {get:?}");
        }
    }
}

#[tokio::test]
async fn encoded_and_partial_bodies_reach_the_upstream_unchanged() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "");
    let fields = [("content-encoding", "zstd"), ("content-range", "bytes 0-999/5000"), ("digest", "sha-256=x")];
    for client in gateway.both() {
        let mut sent = request("PUT", "/x");
        *sent.body_mut() = Full::new(content());
        for (name, value) in fields {
            sent = with_header(sent, name, value);
        }
        assert_eq!(client.send(sent).await.status, 200);
        let seen = upstream.seen().pop().unwrap();
        assert!(fields.iter().all(|(name, value)| seen.headers[*name] == *value), "{seen:?}");
        assert_eq!(seen.body, content());
    }
}
