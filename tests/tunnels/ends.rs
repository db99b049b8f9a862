//! How many there may be, how long they last, and that nothing is left of them.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{OPEN, YES, asking, counting_open, echoes, opened, parrot};
use crate::support::client::{basic, request, with_body, with_header};
use crate::support::issuer::{Key, now};
use crate::support::wire::{RawUpstream, Signal, Wire, within};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Issuer};

fn sections(limits: &str) -> String {
    format!("limits: {{{limits}}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_without_a_byte_ends_and_one_with_some_does_not() {
    let upstream = parrot().await;
    let gateway =
        Gateway::start(&config(upstream.address, &[OPEN], &sections("tunnel_idle_timeout: 3s, idle_timeout: 200ms")));
    let (mut silent, mut busy) = (opened(&gateway, "").await, opened(&gateway, "").await);
    let begun = Instant::now();
    let has_ended = Cell::new(false);
    let ends = async {
        assert!(silent.rest().await.is_empty() && begun.elapsed() >= Duration::from_secs(3));
        has_ended.set(true);
    };
    // It talks until the other has ended, and its own pauses are much shorter than the timeout.
    let talks = async {
        while !has_ended.get() {
            echoes(&mut busy, "still here").await;
        }
    };
    tokio::join!(ends, talks);
    assert!(busy.rest().await.is_empty(), "it ends too, when it is silent");
}

/// Neither is the idle timeout of requests for them, nor the age at which a connection is told to go.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_limits_of_connections_leave_tunnels_alone() {
    let upstream = parrot().await;
    let limits = sections("idle_timeout: 100ms, connection_age: 200ms, first_request_timeout: 100ms");
    let gateway = Gateway::start(&config(upstream.address, &[OPEN], &limits));
    let mut wire = opened(&gateway, "").await;
    // Connections that begin later reach these limits and end.
    for begun in ["", "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", ""] {
        let mut other = Wire::new(Client::new(&gateway).tls().await.unwrap());
        other.send(begun).await;
        other.rest().await;
    }
    echoes(&mut wire, "still here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tunnels_have_a_bound_and_are_no_requests_in_flight() {
    let (address, _) = counting_open().await;
    let limits = sections("tunnels: 2, tunnels_per_address: 2, in_flight: 2, in_flight_per_address: 2");
    let gateway = Gateway::start(&config(address, &[OPEN], &limits));
    let first = opened(&gateway, "").await;
    let _second = opened(&gateway, "").await;
    let refused = asking(&gateway, "\r\n").await.answer().await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(gateway.audit_line(|line| line["http.response.status_code"] == 503)["gateway.reason"], "overload");
    assert_eq!(Client::new(&gateway).get("/nowhere").await.status, 404);
    drop(first);
    within(async { while asking(&gateway, "\r\n").await.answer().await.unwrap().status != 101 {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_address_takes_all_tunnels() {
    let (address, _) = counting_open().await;
    let gateway = Gateway::start(&config(address, &[OPEN], &sections("tunnels: 4")));
    let _tunnels = [opened(&gateway, "").await, opened(&gateway, "").await];
    assert_eq!(asking(&gateway, "\r\n").await.answer().await.unwrap().status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_ends_with_the_token_that_opened_it() {
    let (address, _) = counting_open().await;
    let issuer = Issuer::start(&[Key::rsa()]).await;
    let sections =
        format!("issuers: {{corp: {{issuer: \"{}\", audiences: [https://api.example.com]}}}}", issuer.issuer);
    let route = "path: /chat, access: {issuers: [corp]}, websocket: true";
    let gateway = Gateway::start(&config(address, &[route], &sections));
    let mut claims = issuer.claims();
    // With the leeway of half a minute there is a second left of it.
    claims["exp"] = json!(now() - 28);
    let begun = Instant::now();
    let mut short = opened(&gateway, &format!("Authorization: Bearer {}\r\n", Key::rsa().sign(&claims))).await;
    let long = opened(&gateway, &format!("Authorization: Bearer {}\r\n", Key::rsa().sign(&issuer.claims()))).await;
    assert!(short.rest().await.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(long);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_ends_when_the_token_that_opened_it_is_revoked() {
    let upstream = parrot().await;
    let gateway = Gateway::before(upstream.address, &["path: /chat, access: {}, websocket: true"]);
    let client = Client::new(&gateway);
    let [token, other] = [client.granted("app", SECRET, "").await, client.granted("app", SECRET, "").await];
    let mut revoked = opened(&gateway, &format!("Authorization: Bearer {token}\r\n")).await;
    let mut kept = opened(&gateway, &format!("Authorization: Bearer {other}\r\n")).await;
    let revocation = with_header(request("POST", "/oauth/revoke"), "content-type", "application/x-www-form-urlencoded");
    let mut revocation = with_body(revocation, format!("token={token}"));
    revocation.headers_mut().insert("authorization", basic("app", SECRET));
    assert_eq!(client.send(revocation).await.status, 200);
    assert!(revoked.rest().await.is_empty());
    echoes(&mut kept, "still here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_side_that_takes_nothing_is_left_and_memory_is_bounded() {
    let ended = Signal::default();
    let signal = ended.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let ended = signal.clone();
        Box::pin(async move {
            wire.send(format!("{YES}\r\n")).await;
            let piece = vec![0; 64 * 1024];
            while tokio::io::AsyncWriteExt::write_all(&mut wire.stream, &piece).await.is_ok() {}
            ended.give();
        })
    })
    .await;
    let gateway = Gateway::start(&config(upstream.address, &[OPEN], &sections("write_stall_timeout: 500ms")));
    let mut listening = opened(&gateway, "").await;
    assert_eq!(within(listening.take(16 << 20)).await.len(), 16 << 20);
    drop(listening);
    ended.wait().await;
    let before = gateway.peak_memory();
    let deaf = opened(&gateway, "").await;
    ended.wait().await;
    assert!(gateway.peak_memory() - before < 4 << 20, "{} bytes more", gateway.peak_memory() - before);
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_hangs_up_leaves_nothing_behind() {
    let (address, open) = counting_open().await;
    let gateway = Gateway::before(address, &[OPEN]);
    for _ in 0..10 {
        drop(opened(&gateway, "").await);
        // Before there is an answer, too.
        drop(asking(&gateway, "\r\n").await);
    }
    within(async {
        while open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let idle = "portcullis_tunnels 0";
    let admin = Client::plain(gateway.admin.unwrap());
    within(async { while !String::from_utf8_lossy(&admin.get("/metrics").await.body).contains(idle) {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tunnels_go_on_through_the_drain_and_end_with_it() {
    let upstream = parrot().await;
    let mut gateway = Gateway::start(&config(upstream.address, &[OPEN], "shutdown: {drain: 500ms}"));
    let mut wire = opened(&gateway, "").await;
    gateway.signal("TERM");
    gateway.log_line("shutting down");
    echoes(&mut wire, "still here").await;
    assert!(wire.rest().await.is_empty());
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log_text());
    gateway.audit_line(|line| line["gateway.event"] == "stop");
    assert_eq!(gateway.audit_text().matches("\"http.response.status_code\":101").count(), 1);
}
