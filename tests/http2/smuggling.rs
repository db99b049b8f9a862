//! A request that means something else over HTTP/1.1 than over HTTP/2 is never forwarded: it is a stream error or a
//! refusal.

use super::patient;
use crate::support::Gateway;
use crate::support::frames::*;
use crate::support::wire::within;

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "localhost");

/// The gateway's reaction to these requests: the stream's error, or a status that it answers itself. The upstream sees
/// none.
async fn never_passed_on<F: AsRef<[(&'static str, &'static str)]>>(requests: &[F]) {
    let upstream = patient().await;
    let gateway = Gateway::open(upstream.address, "");
    for fields in requests.iter().map(AsRef::as_ref) {
        let mut client = Framed::open(&gateway).await;
        client.say(&headers(1, WHOLE, &block(fields))).await;
        let heard = within(client.until(|frame| frame.kind == HEADERS || frame.code().is_some())).await;
        let Ok(frame) = heard else { panic!("{heard:?}: {fields:?}") };
        match frame.kind {
            HEADERS => {
                assert!(matches!(frame.status(), Some(400 | 405)), "{:?}: {fields:?}", frame.status());
                gateway.audit_line(|line| line["gateway.decision"] == "deny");
            }
            _ => assert_ne!(frame.code(), Some(0), "{fields:?}"),
        }
        assert_eq!(upstream.seen().len(), 0, "{fields:?}");
    }
    // The first of them all that is in order.
    let mut client = Framed::open(&gateway).await;
    client.say(&headers(1, WHOLE, &block(&[METHOD, SCHEME, PATH, AUTHORITY]))).await;
    client.until(Frame::ends_stream).await.unwrap();
    assert_eq!(upstream.seen().len(), 1);
    assert!(!gateway.log_text().contains("panicked"), "{}", gateway.log_text());
}

fn with(field: (&'static str, &'static str)) -> [(&'static str, &'static str); 5] {
    [METHOD, SCHEME, PATH, AUTHORITY, field]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn targets_that_are_no_path_are_refused() {
    let targets = [
        "",
        "*",
        "foo",
        "/a b",
        "/a\r\nX: y",
        "/a\nb",
        "/a\rb",
        "/a\0b",
        "https://other/x",
        "http://localhost/x",
        "//other/x",
        "/\u{7f}",
        "?x",
    ];
    let requests = targets.map(|target| [METHOD, SCHEME, (":path", target), AUTHORITY]);
    never_passed_on(&requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn names_and_values_that_would_split_headers_are_refused() {
    let fields = [
        ("X-Upper", "a"),
        ("x:y", "a"),
        ("x\r\nhost", "a"),
        ("x\nhost", "a"),
        ("x y", "a"),
        (" x", "a"),
        ("", "a"),
        ("x\0", "a"),
        ("x\u{fc}", "a"),
        ("x", "a\r\nhost: b"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("connection", "close"),
        ("connection", "x-auth-subject"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, chunked"),
        ("content-length", "+0"),
        ("content-length", "5"),
        ("content-length", "0, 0"),
        ("content-length", "x"),
        ("content-length", ""),
        ("transfer_encoding", "chunked"),
        ("content_length", "5"),
        ("host", "other"),
    ];
    never_passed_on(&fields.map(with)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn contradicting_pseudo_fields_are_refused() {
    let requests: [&[(&str, &str)]; 17] = [
        &[METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY],
        &[METHOD, SCHEME, PATH, AUTHORITY, (":authority", "other")],
        &[METHOD, SCHEME, PATH, AUTHORITY, PATH],
        &[METHOD, SCHEME, PATH, AUTHORITY, ("x", "y"), (":path", "/other")],
        &[METHOD, (":scheme", "http"), PATH, AUTHORITY],
        &[METHOD, (":scheme", "https://x/?"), PATH, AUTHORITY],
        &[METHOD, (":scheme", ""), PATH, AUTHORITY],
        &[METHOD, (":scheme", "ftp"), PATH, AUTHORITY],
        &[METHOD, SCHEME, PATH, (":authority", "")],
        &[METHOD, SCHEME, PATH, (":authority", "a b")],
        &[METHOD, SCHEME, PATH, (":authority", "user@localhost")],
        &[METHOD, SCHEME, PATH],
        &[(":method", "GET /x HTTP/1.1\r\nX: y"), SCHEME, PATH, AUTHORITY],
        &[(":method", ""), SCHEME, PATH, AUTHORITY],
        &[(":method", "CONNECT"), AUTHORITY],
        &[(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, PATH, AUTHORITY],
        &[METHOD, (":protocol", "websocket"), SCHEME, PATH, AUTHORITY],
    ];
    never_passed_on(&requests).await;
}

/// The fragment is cut off before anything decides (RFC 9110 §7.1 leaves it to the client), and nothing brings it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_fragment_decides_nothing_and_goes_nowhere() {
    let upstream = patient().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut client = Framed::open(&gateway).await;
    client.say(&headers(1, WHOLE, &block(&[METHOD, SCHEME, (":path", "/a#/../b"), AUTHORITY]))).await;
    client.until(Frame::ends_stream).await.unwrap();
    assert_eq!(upstream.only().target, "/a");
}

/// h2 reads over pseudo-fields in trailers that end their stream as they should; like all trailers they stay behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn forbidden_trailers_reach_no_upstream() {
    let upstream = patient().await;
    let gateway = Gateway::open(upstream.address, "");
    let trailers: [&[(&str, &str)]; 6] = [
        &[("x-test", "ok")],
        &[("authorization", "Bearer x")],
        &[("content-length", "5")],
        &[("x-auth-subject", "root"), ("host", "other")],
        &[(":method", "DELETE")],
        &[(":path", "/other"), (":authority", "other")],
    ];
    for fields in trailers {
        let mut client = Framed::open(&gateway).await;
        client
            .say(
                &[headers(1, OPEN, &head("POST", &[])), data(1, 0, b"test"), headers(1, WHOLE, &block(fields))]
                    .concat(),
            )
            .await;
        client.until(|frame| frame.ends_stream() || frame.code().is_some()).await.unwrap();
        for seen in upstream.seen() {
            assert_eq!((&seen.method[..], &seen.target[..], &seen.body[..]), ("POST", "/", &b"test"[..]), "{fields:?}");
            assert!(!format!("{seen:?}").contains("other") && seen.headers.get("x-auth-subject").is_none(), "{seen:?}");
            assert!(seen.headers.get("authorization").is_none() && seen.headers.get("x-test").is_none(), "{seen:?}");
        }
        upstream.forget();
    }
}
