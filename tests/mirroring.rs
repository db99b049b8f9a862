//! Copies of requests, for an upstream whose answers nobody reads: they cost the caller nothing, whatever becomes of
//! them.

use std::net::SocketAddr;

use http::{Request, Response};
use http_body_util::Full;

use crate::support::client::{request, with_body, with_header, with_token};
use crate::support::gateway::PATIENCE;
use crate::support::upstream::{Seen, listen};
use crate::support::wire::Piped;
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

fn gateway(legacy: SocketAddr, shadow: SocketAddr, route: &str) -> Gateway {
    let upstreams = format!("upstreams: {{legacy: \"http://{legacy}\", shadow: \"http://{shadow}\"}}");
    Gateway::start(&config(legacy, &[&format!("{route}, upstream: legacy")], &upstreams))
}

/// Waits until the upstream has had so many.
async fn seen(upstream: &Upstream, count: usize) -> Vec<Seen> {
    let enough = async {
        while upstream.seen().len() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, enough).await.unwrap();
    upstream.seen()
}

async fn counted(gateway: &Gateway, outcome: &str) -> bool {
    let metrics = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let line = format!("portcullis_mirrored_requests_total{{upstream=\"shadow\",outcome=\"{outcome}\"}} ");
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    metrics.lines().any(|told| told.strip_prefix(&line).is_some_and(|count| count != "0"))
}

/// Waits until a copy has come to this end.
pub(crate) async fn ended(gateway: &Gateway, outcome: &str) {
    let told = async { while !counted(gateway, outcome).await {} };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
}

#[tokio::test]
async fn the_copy_is_the_request_with_a_mark() {
    let (legacy, shadow) = (Upstream::start().await, Upstream::start().await);
    let gateway = gateway(
        legacy.address,
        shadow.address,
        "path: /api/**, access: {}, strip_prefix: /api, mirror: {upstream: shadow}",
    );
    for (index, client) in gateway.both().iter().enumerate() {
        let token = client.granted("app", SECRET, "scope=read:data").await;
        let forged = with_header(request("POST", "/api/x?y"), "x-mirrored", "1");
        let answer = client.send(with_body(with_token(forged, &token), "the body")).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        let (copy, original) = (seen(&shadow, index + 1).await.pop().unwrap(), legacy.seen().pop().unwrap());
        assert_eq!((copy.method.as_str(), copy.target.as_str(), &copy.body[..]), ("POST", "/x?y", &b"the body"[..]));
        assert_eq!((copy.header("x-mirrored"), original.headers.get("x-mirrored")), ("1", None));
        assert_eq!(copy.header("host"), shadow.address.to_string());
        for name in ["x-auth-client-id", "x-auth-scope", "x-request-id", "x-forwarded-for", "via"] {
            assert_eq!(copy.header(name), original.header(name));
        }
        assert_eq!(copy.headers.get("authorization"), None);
    }
    ended(&gateway, "answered").await;
}

#[tokio::test]
async fn the_outcome_of_a_mirrored_copy_does_not_affect_the_caller() {
    let legacy = Upstream::start().await;
    let failing = |_: &Seen| Response::builder().status(500).body(Full::from("x".repeat(1 << 21))).unwrap();
    let broken = Upstream::answering(failing).await;
    let silent = listen(|mut stream| async move {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (shadow, outcome) in [(broken.address, "answered"), (closed, "failed"), (silent, "failed")] {
        let route = "path: /**, access: public, mirror: {upstream: shadow, timeout: 200ms}";
        let gateway = gateway(legacy.address, shadow, route);
        let answer = Client::new(&gateway).send(with_body(request("PUT", "/x"), "body")).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.decision"], "allow");
        ended(&gateway, outcome).await;
    }
}

#[tokio::test]
async fn a_shadow_that_never_answers_holds_no_more_than_its_room() {
    let legacy = Upstream::start().await;
    let silent = listen(|mut stream| async move {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let gateway = gateway(legacy.address, silent, "path: /**, access: public, mirror: {upstream: shadow, timeout: 1h}");
    let mut connection = Client::new(&gateway).connect().await;
    for _ in 0..65 {
        assert_eq!(connection.send(request("GET", "/x")).await.status, 200);
    }
    ended(&gateway, "no_room").await;
    assert_eq!(legacy.seen().len(), 65);
}

#[tokio::test]
async fn bodies_that_are_large_or_of_unknown_length_are_not_copied() {
    let (legacy, shadow) = (Upstream::start().await, Upstream::start().await);
    let gateway = gateway(legacy.address, shadow.address, "path: /**, access: public, mirror: {upstream: shadow}");
    let client = Client::new(&gateway);
    assert_eq!(client.send(with_body(request("POST", "/large"), vec![b'x'; (64 << 10) + 1])).await.status, 200);
    let (pieces, body) = Piped::new();
    pieces.send("a".into()).await.unwrap();
    drop(pieces);
    let sent = Request::builder().method("POST").uri("/chunked").header("host", "localhost").body(body).unwrap();
    assert_eq!(client.connect_for().await.unwrap().send(sent).await.status, 200);
    assert_eq!(client.send(with_body(request("POST", "/fits"), vec![b'x'; 64 << 10])).await.status, 200);
    let copies = seen(&shadow, 1).await;
    assert_eq!(
        copies.iter().map(|seen| (seen.target.as_str(), seen.body.len())).collect::<Vec<_>>(),
        [("/fits", 64 << 10)]
    );
    assert!(counted(&gateway, "unsuitable").await);
}

#[tokio::test]
async fn a_part_of_the_requests_is_copied() {
    let (legacy, shadow) = (Upstream::start().await, Upstream::start().await);
    let route = "path: /**, access: public, mirror: {upstream: shadow, percent: 25}";
    let gateway = gateway(legacy.address, shadow.address, route);
    let mut connection = Client::new(&gateway).connect().await;
    for _ in 0..400 {
        connection.send(request("GET", "/x")).await;
    }
    seen(&shadow, 40).await;
    assert!(shadow.seen().len() < 200, "{}", shadow.seen().len());
}
