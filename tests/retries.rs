//! Retries: none has an effect twice, and their number is bounded.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use crate::servers::{nobody, several};
use crate::support::client::{request, with_body};
use crate::support::wire::RawUpstream;
use crate::support::{Client, Gateway, Upstream};

/// Takes requests and hangs up.
async fn hanging_up() -> RawUpstream {
    RawUpstream::saying("").await
}

/// Answers the first request of every connection, and hangs up on the second, which it remembers.
async fn answering_once() -> (RawUpstream, Arc<Mutex<Vec<String>>>) {
    let seconds = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seconds);
    let upstream = RawUpstream::start(move |mut wire, _| {
        let log = Arc::clone(&log);
        Box::pin(async move {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            let second = wire.head().await;
            log.lock().unwrap().extend(second);
        })
    })
    .await;
    (upstream, seconds)
}

fn posts(upstream: &RawUpstream) -> usize {
    upstream.heads().iter().filter(|head| head.starts_with("POST ")).count()
}

#[tokio::test]
async fn safe_requests_survive_a_server_that_hangs_up() {
    let (bad, good) = (hanging_up().await, Upstream::start().await);
    let gateway = several(&[bad.address, good.address], "balance: round_robin, ejection: none");
    for client in gateway.both() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            for _ in 0..3 {
                let answer = client.send(request(method, "/x")).await;
                assert_eq!(answer.status, 200, "{method}");
                assert_eq!(gateway.audit_of(answer.request_id())["http.response.status_code"], 200);
            }
        }
    }
    assert!(bad.heads().len() >= 6);
    assert_eq!(good.seen().len(), 18, "no request came twice");
    let requests = gateway.audit_text().lines().filter(|line| line.contains("\"url.path\":\"/x\"")).count();
    assert_eq!(requests, 18, "a retry has no line of its own");
    let page = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let retries = format!("portcullis_upstream_retries_total{{upstream=\"legacy\"}} {}", bad.heads().len());
    assert!(page.contains(&retries), "{page}");
}

#[tokio::test]
async fn unsafe_requests_are_never_sent_twice() {
    let (bad, good) = (hanging_up().await, Upstream::start().await);
    let gateway = several(&[bad.address, good.address], "balance: round_robin, retries: {attempts: 3}, ejection: none");
    let mut failed = 0;
    for client in gateway.both() {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            for _ in 0..2 {
                let answer = client.send(request(method, "/x")).await;
                failed += usize::from(answer.status == 502);
            }
        }
        // A body has been read from its client, and is gone.
        for _ in 0..2 {
            let answer = client.send(with_body(request("GET", "/x"), "body")).await;
            failed += usize::from(answer.status == 502);
        }
    }
    assert_eq!((bad.heads().len(), failed), (10, 10));
    assert_eq!(good.seen().len(), 10);
}

#[tokio::test]
async fn where_nothing_was_sent_everything_is_tried_again_elsewhere() {
    let good = Upstream::start().await;
    let gateway = several(&[nobody(), good.address], "balance: round_robin, ejection: none");
    for client in gateway.both() {
        for _ in 0..5 {
            let answer = client.send(with_body(request("POST", "/x"), "once")).await;
            assert_eq!(answer.status, 200);
        }
    }
    let bodies: Vec<_> = good.seen().iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(bodies, vec![Bytes::from("once"); 10]);
}

/// A single server, nothing configured: it closes its idle connection while a request is on its way there.
#[tokio::test]
async fn a_safe_request_that_meets_a_closing_connection_is_retried() {
    let (upstream, seconds) = answering_once().await;
    let gateway = Gateway::open(upstream.address, "");
    let client = Client::new(&gateway);
    for (method, status, sent) in [("GET", 200, 2), ("POST", 502, 1)] {
        let path = format!("/{method}");
        assert_eq!(client.get("/first").await.status, 200);
        // The connection has rested after 500 ms. A busy machine only makes this longer.
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(client.send(request(method, &path)).await.status, status, "{method}");
        let heads = [upstream.heads(), seconds.lock().unwrap().clone()].concat();
        assert_eq!(heads.iter().filter(|head| head.contains(&path)).count(), sent, "{method}: {heads:?}");
        if method == "GET" {
            // Uses up the connection that the retry has left.
            assert_eq!(client.send(request("DELETE", "/last")).await.status, 502);
        }
    }
}

#[tokio::test]
async fn a_storm_of_retries_is_held_down_by_the_budget() {
    let bad = hanging_up().await;
    let gateway = several(&[bad.address], "retries: {attempts: 5}");
    let client = Client::new(&gateway);
    let mut connection = client.connect().await;
    const REQUESTS: usize = 400;
    for _ in 0..REQUESTS {
        assert_eq!(connection.send(request("GET", "/x")).await.status, 502);
    }
    let sent = bad.heads().len();
    assert!(sent > REQUESTS && sent <= REQUESTS * 12 / 10 + 30, "{sent}");
}

fn answer(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from("said")).unwrap()
}

#[tokio::test]
async fn answers_that_are_named_are_tried_again_where_that_is_safe() {
    let (busy, good) = (Upstream::answering(|_| answer(503)).await, Upstream::answering(|_| answer(404)).await);
    let keys = "balance: round_robin, retries: {on: [503]}, ejection: none";
    let gateway = several(&[busy.address, good.address], keys);
    let client = Client::new(&gateway);
    for _ in 0..6 {
        assert_eq!(client.get("/x").await.status, 404);
    }
    let posted: Vec<_> = [client.send(request("POST", "/x")).await, client.send(request("POST", "/x")).await].into();
    assert!(posted.iter().any(|answer| (answer.status, &answer.body[..]) == (503, b"said")));
    let alone = several(&[busy.address], "retries: {on: [503], attempts: 2}");
    busy.forget();
    assert_eq!(Client::new(&alone).get("/x").await.status, 503, "the last answer is the answer");
    assert_eq!(busy.seen().len(), 3);
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_followed_by_another() {
    let (silent, good) = (RawUpstream::saying_and_staying("").await, Upstream::start().await);
    let keys = "balance: round_robin, retries: {per_try_timeout: 100ms}, response_timeout: 1s, ejection: none";
    let gateway = several(&[silent.address, good.address], keys);
    let client = Client::new(&gateway);
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    assert!((100..1_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let statuses = [client.send(request("POST", "/x")).await.status, client.send(request("POST", "/x")).await.status];
    assert!(statuses.contains(&504), "no try can follow: {statuses:?}");
    assert_eq!(posts(&silent), 1);
}

#[tokio::test]
async fn nothing_is_tried_again_where_retries_are_off() {
    let (bad, good) = (hanging_up().await, Upstream::start().await);
    for dead in [bad.address, nobody()] {
        let gateway = several(&[dead, good.address], "balance: round_robin, retries: none, ejection: none");
        let client = Client::new(&gateway);
        let statuses = [client.get("/x").await.status, client.get("/x").await.status];
        assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
    }
}
