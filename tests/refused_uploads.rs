//! Who is refused while still sending reads why, and its connection is not lost for it.

use crate::support::client::{request, with_body};
use crate::support::wire::{Piped, Wire, within};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

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
