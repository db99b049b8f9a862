//! Requests whose end could be read in two ways are refused, and the connection with them: nothing is smuggled past the
//! gateway.

use crate::support::wire::Wire;
use crate::support::{Client, Gateway, Upstream};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// One of these statuses or a close (0), no second answer, and nothing of it at the upstream; then an honest request
/// passes.
async fn refused(statuses: &[u16], requests: &[String]) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "limits: {body_bytes: 1MiB, body_idle_timeout: 300ms}");
    for request in requests {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        let shown: String = request.chars().take(400).collect();
        wire.send(request).await;
        let status = wire.answer().await.map_or(0, |answer| answer.status);
        assert!(statuses.contains(&status), "{status}: {shown:?}");
        assert_eq!(wire.rest().await, b"", "{shown:?}");
        assert_eq!(upstream.seen().len(), 0, "{shown:?}: {:?}", upstream.seen());
    }
    assert_eq!(Client::new(&gateway).get("/canary").await.status, 200);
    assert!(!gateway.log_text().contains("panicked"), "{}", gateway.log_text());
}

fn with_fields(fields: &[&str]) -> Vec<String> {
    let head = |field: &&str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{SMUGGLED}");
    fields.iter().map(head).collect()
}

fn with_chunks(chunks: &[&str]) -> Vec<String> {
    let head = |chunk: &&str| format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
    chunks.iter().map(head).collect()
}

#[tokio::test]
async fn a_length_beside_a_coding_is_refused() {
    let both = ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"];
    let chunked = |both: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{both}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{SMUGGLED}");
    refused(&[400], &both.map(chunked)).await;
}

/// Each is refused with an answer in JSON that carries the identifier of its line in the audit log.
#[tokio::test]
async fn a_malformed_head_is_answered_and_audited_like_any_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "");
    for (input, status, reason) in [
        ("GET /x HTTP/1.1\nHost: a\n\n".to_owned(), 400, "bad_request"),
        ("GET /x HTTP/1.1\r\nHost: a\nX: b\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET /x HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET /x HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), 505, "bad_request"),
        ("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(), 501, "bad_request"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(64 * 1024)), 414, "too_large"),
        (format!("GET /x HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(64 * 1024)), 431, "too_large"),
    ] {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send(&input).await;
        let answer = wire.answer().await.unwrap();
        let shown: String = input.chars().take(60).collect();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{shown:?}");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"], "invalid_request", "{shown:?}");
        let line = gateway.audit_of(answer.header("x-request-id").unwrap());
        assert_eq!((&line["gateway.reason"], &line["http.response.status_code"]), (&reason.into(), &status.into()));
        assert_eq!(wire.rest().await, b"", "{shown:?}");
    }
    assert_eq!(gateway.audit_text().matches("\"deny\"").count(), 7, "one line each");
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn lengths_that_are_no_number_or_several_are_refused() {
    let fields = [
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -0",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999",
        "Content-Length: ",
        "Content-Length: 5_0",
        "Content-Length: \"5\"",
    ];
    refused(&[400], &with_fields(&fields)).await;
}

#[tokio::test]
async fn codings_that_are_not_chunked_are_refused() {
    let fields = [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: xchunked, chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    ];
    // With a body that is good in chunks: what is wrong is the coding alone.
    let chunked = |field: &&str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    refused(&[400, 501], &fields.iter().map(chunked).collect::<Vec<_>>()).await;
    refused(&[400, 501], &with_fields(&fields)).await;
}

#[tokio::test]
async fn names_that_almost_frame_are_refused() {
    let fields = [
        "Transfer-Encoding : chunked",
        "Transfer Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Content_Length: 5",
        "Content-Length : 5",
        "Content-Length\t: 5",
    ];
    let with_end = |field: &&str| format!("POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n\r\n");
    refused(&[400], &fields.iter().map(with_end).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn chunks_that_are_none_are_refused() {
    let chunks = [
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "10000000000000000\r\nabc\r\n0\r\n\r\n",
        "3_0\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\rabc\r\n0\r\n\r\n",
        "3;a\r\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "zz\r\nabc\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
    ];
    refused(&[400, 413, 502, 0], &with_chunks(&chunks)).await;
}

#[tokio::test]
async fn impossible_chunks_are_waited_for_like_any_others() {
    let chunks =
        ["FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFE\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n", "3\r\nab"];
    refused(&[408], &with_chunks(&chunks)).await;
}

#[tokio::test]
async fn extensions_and_trailers_without_end_are_refused() {
    let one = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    let many = "1;x\r\na\r\n".repeat(100_000) + "0\r\n\r\n";
    let trailers = format!("1\r\na\r\n0\r\n{}\r\n", "X-A: b\r\n".repeat(10_000));
    refused(&[400, 413, 431, 0], &with_chunks(&[&one, &many, &trailers])).await;
}

#[tokio::test]
async fn http_1_0_has_no_chunks_and_no_body_without_a_length() {
    let chunked = "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned();
    refused(&[400], &[chunked]).await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send(format!("POST /x HTTP/1.0\r\nHost: a\r\n\r\n{SMUGGLED}")).await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    assert_eq!(wire.rest().await, b"");
    assert_eq!(upstream.only().body, "");
}

#[tokio::test]
async fn heads_with_bytes_that_do_not_belong_are_refused() {
    let fields = [
        "X: a\rb",
        "X: a\0b",
        "X: a\u{1}b",
        "X: a\u{7f}b",
        "X\0: a",
        "X\u{1}: a",
        "X y: a",
        "X : a",
        "no colon",
        ": a",
        "X\t: a",
        "X: a\r\n folded",
        "X: a\r\n\tfolded",
        "\u{fc}: a",
        "X(y): a",
    ];
    let in_field = |field: &&str| format!("GET /x HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    refused(&[400], &fields.iter().map(in_field).collect::<Vec<_>>()).await;
    refused(&[400], &["GET /x HTTP/1.1\r\n Host: a\r\n\r\n".to_owned()]).await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_431_and_targets_414() {
    let head = |fields: &str| format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let hundred: String = (0..101).map(|number| format!("X-{number}: a\r\n")).collect();
    let large = format!("X: {}\r\n", "a".repeat(33 * 1024));
    let total: String = (0..50).map(|number| format!("X-{number}: {}\r\n", "a".repeat(1000))).collect();
    let name = format!("{}: a\r\n", "a".repeat(33 * 1024));
    refused(&[431], &[head(&hundred), head(&large), head(&total), head(&name)]).await;
    let one = |field: String| head(&format!("Connection: close\r\n{field}\r\n"));
    let long_name = one(format!("{}: a", "a".repeat(8192)));
    refused(&[431], &[long_name]).await;
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "a".repeat(8192));
    refused(&[414], &[target]).await;
}

#[tokio::test]
async fn other_http_versions_are_refused() {
    let texts = [
        "GET /\r\n",
        "GET / HTTP/01.1\r\nHost: a\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1x\r\nHost: a\r\n\r\n",
        "garbage\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    refused(&[400, 505, 0], &texts.map(str::to_owned)).await;
}

/// A higher minor version adds nothing that HTTP/1.1 must know (RFC 9110 §2.5).
#[tokio::test]
async fn a_higher_minor_version_is_served_as_http_1_1() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    for _ in 0..2 {
        wire.send("GET /x HTTP/1.2\r\nHost: a\r\n\r\n").await;
        let answer = wire.answer().await.unwrap();
        assert_eq!((answer.status, answer.head.split(' ').next()), (200, Some("HTTP/1.1")));
    }
}

/// Some readers take `0`, CRLF, LF for the end of a body, and what follows for a request.
#[tokio::test]
async fn a_body_whose_end_is_no_line_end_hides_no_request() {
    let ends = ["0\r\n\n", "0\n\r\n", "0\r\nA: b\n\n", "0\r\nA: b\n\r\n", "0;a=b\n\r\n", "0\r\n\r\r\n"];
    refused(&[400, 502], &with_chunks(&ends.map(|end| format!("{end}{SMUGGLED}")).each_ref().map(String::as_str)))
        .await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_by_their_own_rules() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &["path: /open, access: public", "path: /closed, access: {}"]);
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.send(ask("/open") + &ask("/closed") + &ask("/none") + &ask("/open")).await;
    for status in [200, 401, 404, 200] {
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(gateway.audit_of(answer.header("x-request-id").unwrap())["http.response.status_code"], status);
    }
    assert_eq!(upstream.seen().len(), 2);
}
