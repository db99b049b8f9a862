//! A client that is refused during its upload can read the answer, and its connection is not lost.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use crate::support::client::{request, with_body};
use crate::support::frames::{END_STREAM, HEADERS, RST_STREAM};
use crate::support::wire::{Piped, RawUpstream, Signal, Wire, within};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};
use crate::upstream_http2::by_hand::by_hand;

const MEBIBYTE: usize = 1024 * 1024;

async fn world() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let routes =
        ["path: /open, access: public", "path: /closed, access: {}", "path: /small, access: public, body_bytes: 1KiB"];
    let gateway = Gateway::start(&config(upstream.address, &routes, ""));
    (upstream, gateway)
}

const REFUSALS: [(&str, u16); 4] = [("/closed", 401), ("/small", 413), ("/none", 404), ("/a//b", 400)];

#[tokio::test]
async fn a_large_upload_that_is_refused_is_answered() {
    let (upstream, gateway) = world().await;
    for client in gateway.both() {
        for (path, status) in REFUSALS {
            let upload = with_body(request("POST", path), vec![0; 4 * MEBIBYTE]);
            assert_eq!(within(client.connect().await.try_send(upload)).await.unwrap().status, status, "{path}");
        }
    }
    assert_eq!(upstream.seen().len(), 0);
}

/// As simple clients do: nothing is read before all is written.
#[tokio::test]
async fn a_client_that_writes_all_before_it_reads_gets_its_answer() {
    let (_upstream, gateway) = world().await;
    for (path, status) in REFUSALS {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 4 * MEBIBYTE);
        wire.send([head.as_bytes(), &vec![0; 4 * MEBIBYTE]].concat()).await;
        assert_eq!(wire.answer().await.unwrap().status, status, "{path}");
        wire.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(wire.answer().await.unwrap().status, 200, "{path}");
    }
}

/// An HTTP/2 stream that is refused ends whole: a reset, even without an error, is a failure to common clients.
#[tokio::test]
async fn a_refused_upload_over_http2_may_be_sent_to_its_end() {
    let (_upstream, gateway) = world().await;
    // A body without a length is not refused for its length yet.
    for (path, status) in REFUSALS.into_iter().filter(|(path, _)| *path != "/small") {
        let (sender, body) = Piped::new();
        let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
        let answer = within(connection.try_send(request("POST", path).map(|_| body))).await.unwrap();
        assert_eq!(answer.status, status, "{path}");
        for _ in 0..10 {
            within(sender.send(vec![0; 1024].into())).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_and_never_ends_is_cut() {
    let (_upstream, gateway) = world().await;
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await;
    assert_eq!(wire.answer().await.unwrap().status, 401);
    assert_eq!(wire.rest().await, b"");
}

/// Uploads that stall are not cut for that.
const PATIENT: &str = "limits: {body_bytes: unlimited, min_body_rate: unlimited, body_idle_timeout: 1h}";

/// The whole answer, before the request has ended.
const EARLY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";

/// Answers as soon as it has a head; the signal is given when its connection ends.
async fn early(said: &'static str) -> (RawUpstream, Signal) {
    let ended = Signal::default();
    let has_ended = ended.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let ended = ended.clone();
        Box::pin(async move {
            wire.send(said).await;
            wire.rest().await;
            ended.give();
        })
    })
    .await;
    (upstream, has_ended)
}

#[tokio::test]
async fn an_upload_to_an_upstream_by_http1_ends_with_its_whole_answer() {
    for said in [
        EARLY,
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n0\r\n\r\n",
    ] {
        let (upstream, has_ended) = early(said).await;
        let gateway = Gateway::open(upstream.address, PATIENT);
        // The client goes on sending, or stalls.
        for sends in [true, false] {
            for client in gateway.both() {
                let (sender, body) = Piped::new();
                let mut connection = client.connect_for().await.unwrap();
                within(sender.send("half".into())).await.unwrap();
                let answer = within(connection.begin(request("POST", "/x").map(|_| body))).await.unwrap();
                let upload = tokio::task::spawn(async move {
                    while sends && sender.send(vec![0; 1024].into()).await.is_ok() {}
                    sender.closed().await;
                });
                let is_empty = answer.status() == 204;
                let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
                assert_eq!(body, if is_empty { "" } else { "early" });
                has_ended.wait().await;
                upload.abort();
            }
        }
    }
}

#[tokio::test]
async fn an_http2_upload_ends_with_its_answer_not_its_connection() {
    let resets = Arc::new(Semaphore::new(0));
    let seen = Arc::clone(&resets);
    let address = by_hand(move |mut service| {
        let resets = Arc::clone(&seen);
        async move {
            while let Some(frame) = service.next().await {
                match (frame.kind, frame.flags & END_STREAM) {
                    (HEADERS, 0) => service.answer(frame.stream, b"early").await,
                    (HEADERS, _) => {
                        let said = format!("connection {}", service.number);
                        service.answer(frame.stream, said.as_bytes()).await;
                    }
                    (RST_STREAM, _) => resets.add_permits(1),
                    _ => {}
                }
            }
        }
    })
    .await;
    let upstreams = format!("upstreams: {{legacy: {{servers: [\"http://{address}\"], protocol: http2}}}}");
    let gateway = Gateway::open(address, &format!("{PATIENT}\n{upstreams}"));
    for client in gateway.both() {
        let (sender, body) = Piped::new();
        let mut connection = client.connect_for().await.unwrap();
        within(sender.send("half".into())).await.unwrap();
        let answer = within(connection.try_send(request("POST", "/x").map(|_| body))).await.unwrap();
        assert_eq!(answer.body, "early");
        within(resets.acquire()).await.unwrap().forget();
        assert_eq!(within(client.get("/next")).await.body, "connection 0");
    }
}

/// In both directions at once.
#[tokio::test]
async fn an_answer_that_is_still_coming_stops_no_upload() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            wire.send(format!("{head}4\r\nsoon\r\n")).await;
            // The first piece, the second, the end, each in a chunk.
            assert_eq!(wire.take(9).await, b"4\r\nhalf\r\n");
            assert_eq!(wire.take(9).await, b"4\r\nrest\r\n");
            assert_eq!(wire.take(5).await, b"0\r\n\r\n");
            wire.send("4\r\ndone\r\n0\r\n\r\n").await;
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        let (sender, body) = Piped::new();
        let mut connection = client.connect_for().await.unwrap();
        within(sender.send("half".into())).await.unwrap();
        let answer = within(connection.begin(request("POST", "/x").map(|_| body))).await.unwrap();
        let mut body = answer.into_body();
        assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "soon");
        within(sender.send("rest".into())).await.unwrap();
        drop(sender);
        assert_eq!(within(body.collect()).await.unwrap().to_bytes(), "done");
    }
}
