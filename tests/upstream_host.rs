//! The `Host` that a service gets, which over HTTP/2 is `:authority`: its own, the caller's, or a configured one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::support::client::with_body;
use crate::support::gateway::PATIENCE;
use crate::support::upstream::{Seen, by_http2, listen};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};
use crate::websocket::{Echo, handshake};

/// A request to this host.
fn to_host(host: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://{host}/x")).header("host", host).body(Full::default()).unwrap()
}

/// Answers with its `Host`.
async fn over_http1() -> Upstream {
    Upstream::answering(|seen: &Seen| Response::new(Full::from(seen.header("host").to_owned()))).await
}

fn authority(request: &Request<Incoming>) -> String {
    assert!(!request.headers().contains_key("host"), "{request:?}");
    request.uri().authority().unwrap().to_string()
}

/// Answers with its `:authority`.
async fn over_http2() -> SocketAddr {
    by_http2(|request| async move { Response::new(Full::<Bytes>::from(authority(&request))) }).await
}

fn gateway(service: SocketAddr, upstream: &str, route: &str) -> Gateway {
    let upstreams = format!("upstreams: {{legacy: {{servers: [\"http://{service}\"]{upstream}}}}}");
    let route = format!("path: /**, access: public, hosts: [api.example.com, \"[::1]\"]{route}");
    Gateway::start(&config(service, &[&route], &upstreams))
}

/// The `Host` that services of either protocol get from callers of either. An empty `expected` is the server's own.
async fn gets(upstream: &str, route: &str, sent: &str, expected: &str) {
    let service = over_http1().await;
    for (service, protocol) in [(service.address, "http1"), (over_http2().await, "http2")] {
        let gateway = gateway(service, &format!("{upstream}, protocol: {protocol}"), route);
        let expected = if expected.is_empty() { service.to_string() } else { expected.to_owned() };
        for client in gateway.both() {
            let answer = client.send(to_host(sent)).await;
            assert_eq!((answer.status, &answer.body[..]), (200, expected.as_bytes()), "{upstream} {route} {protocol}");
        }
    }
}

#[tokio::test]
async fn the_rule_of_the_route_takes_precedence() {
    const SENT: &str = "API.Example.com:8443";
    const NAME: &str = ", host: {name: legacy.internal}";
    for (upstream, route, expected) in [
        ("", "", ""),
        (", host: upstream", "", ""),
        (NAME, "", "legacy.internal"),
        (", host: preserve", "", "api.example.com:8443"),
        (NAME, ", host: upstream", ""),
        (NAME, ", host: preserve", "api.example.com:8443"),
        (NAME, ", host: {name: \"Other.internal:81\"}", "Other.internal:81"),
        (", host: preserve", ", host: upstream", ""),
    ] {
        gets(upstream, route, SENT, expected).await;
    }
}

#[tokio::test]
async fn preserve_sends_the_canonical_host() {
    for (sent, expected) in [
        ("api.example.com", "api.example.com"),
        ("Api.EXAMPLE.com.", "api.example.com"),
        ("api.example.com:443", "api.example.com"),
        ("api.example.com:80", "api.example.com:80"),
        ("[::1]:8443", "[::1]:8443"),
    ] {
        gets(", host: preserve", "", sent, expected).await;
    }
}

/// Both servers answer 503, so that the request is sent to the one and then to the other.
#[tokio::test]
async fn a_retry_names_the_server_that_it_goes_to() {
    for protocol in ["http1", "http2"] {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut servers = Vec::new();
        for _ in 0..2 {
            let log = Arc::clone(&seen);
            let answer = |host: String, log: Arc<Mutex<Vec<String>>>| {
                log.lock().unwrap().push(host);
                Response::builder().status(503).body(Full::<Bytes>::default()).unwrap()
            };
            servers.push(if protocol == "http1" {
                Upstream::answering(move |seen| answer(seen.header("host").to_owned(), Arc::clone(&log))).await.address
            } else {
                by_http2(move |request| {
                    let answered = answer(authority(&request), Arc::clone(&log));
                    async move { answered }
                })
                .await
            });
        }
        let keys = format!("protocol: {protocol}, ejection: none, retries: {{attempts: 1, on: [503]}}");
        let upstreams = format!(
            "upstreams: {{legacy: {{servers: [\"http://{}\", \"http://{}\"], {keys}}}}}",
            servers[0], servers[1]
        );
        let gateway = Gateway::open(servers[0], &upstreams);
        assert_eq!(Client::new(&gateway).get("/x").await.status, 503);
        let mut expected = servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        expected.sort();
        seen.lock().unwrap().sort();
        assert_eq!(*seen.lock().unwrap(), expected, "{protocol}");
    }
}

/// Refuses the first stream unprocessed, and answers others with their `:authority`.
async fn refusing_once() -> SocketAddr {
    let has_refused = Arc::new(AtomicBool::new(false));
    listen(move |stream| {
        let has_refused = Arc::clone(&has_refused);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if !has_refused.swap(true, Ordering::SeqCst) {
                    respond.send_reset(Reason::REFUSED_STREAM);
                    continue;
                }
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(request.uri().authority().unwrap().to_string().into(), true).unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_repeated_stream_keeps_its_host() {
    for (route, expected) in [(", host: preserve", "api.example.com"), (", host: {name: a.internal}", "a.internal")] {
        let gateway = gateway(refusing_once().await, ", protocol: http2", route);
        let answer = Client::new(&gateway).send(with_body(to_host("api.example.com"), "body")).await;
        assert_eq!((answer.status, &answer.body[..]), (200, expected.as_bytes()));
    }
}

#[tokio::test]
async fn a_copy_gets_the_host_of_its_own_upstream() {
    for (route, original, copy) in [
        ("", "legacy.internal", None),
        (", host: preserve", "localhost", Some("localhost")),
        (", host: {name: both.internal}", "both.internal", Some("both.internal")),
    ] {
        let (legacy, shadow) = (Upstream::start().await, Upstream::start().await);
        let upstreams = format!(
            "upstreams: {{legacy: {{servers: [\"http://{}\"], host: {{name: legacy.internal}}}}, shadow: \"http://{}\"}}",
            legacy.address, shadow.address
        );
        let route = format!(
            "path: /**, access: public, hosts: [localhost], mirror: {{upstream: shadow}}, upstream: legacy{route}"
        );
        let gateway = Gateway::start(&config(legacy.address, &[&route], &upstreams));
        assert_eq!(Client::new(&gateway).get("/x").await.status, 200);
        let copied = async {
            while shadow.seen().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, copied).await.unwrap();
        assert_eq!(legacy.only().header("host"), original);
        let own = shadow.address.to_string();
        assert_eq!(shadow.only().header("host"), copy.unwrap_or(&own));
    }
}

#[tokio::test]
async fn each_side_of_a_split_gets_its_own_host() {
    let (one, two) = (over_http1().await, over_http1().await);
    let upstreams = format!(
        "upstreams: {{one: \"http://{}\", two: {{servers: [\"http://{}\"], host: {{name: two.internal}}}}}}",
        one.address, two.address
    );
    let route = "path: /**, access: public, upstream: {one: 1, two: 1}, sticky: header:X-Side";
    let gateway = Gateway::start(&config(one.address, &[route], &upstreams));
    let mut connection = Client::new(&gateway).connect().await;
    // With the same value always the same side: of 40 values, each side has some.
    for number in 0..40 {
        let mut request = to_host("localhost");
        request.headers_mut().insert("x-side", number.into());
        connection.send(request).await;
    }
    assert!(!one.seen().is_empty() && !two.seen().is_empty());
    assert!(one.seen().iter().all(|seen| seen.header("host") == one.address.to_string()));
    assert!(two.seen().iter().all(|seen| seen.header("host") == "two.internal"));
}

#[tokio::test]
async fn health_checks_follow_the_rule_of_the_upstream() {
    for protocol in ["http1", "http2"] {
        for (rule, expected) in [("{name: legacy.internal}", "legacy.internal"), ("preserve", "")] {
            let seen: Arc<Mutex<Option<String>>> = Arc::default();
            let log = Arc::clone(&seen);
            let answer = move |host: String| {
                log.lock().unwrap().replace(host);
                Response::new(Full::<Bytes>::default())
            };
            let service = if protocol == "http1" {
                Upstream::answering(move |seen| answer(seen.header("host").to_owned())).await.address
            } else {
                by_http2(move |request| {
                    let answered = answer(authority(&request));
                    async move { answered }
                })
                .await
            };
            let keys = format!(", protocol: {protocol}, host: {rule}, health_check: {{path: /ping, interval: 20ms}}");
            let _gateway = gateway(service, &keys, "");
            let checked = async {
                loop {
                    if let Some(host) = seen.lock().unwrap().take() {
                        return host;
                    }
                    tokio::task::yield_now().await;
                }
            };
            let host = tokio::time::timeout(PATIENCE, checked).await.unwrap();
            assert_eq!(host, if expected.is_empty() { service.to_string() } else { expected.to_owned() }, "{protocol}");
        }
    }
}

#[tokio::test]
async fn a_tunnels_handshake_has_the_same_host() {
    for (route, expected) in [("", None), (", host: {name: live.internal}", Some("live.internal"))] {
        let echo = Echo::start().await;
        let route = format!("path: /ws, access: public, websocket: true{route}");
        let gateway = Gateway::before(echo.address, &[&route]);
        let stream = Client::new(&gateway).tls().await.unwrap();
        tokio_tungstenite::client_async(handshake("/ws"), stream).await.unwrap();
        let own = echo.address.to_string();
        assert_eq!(echo.asked()["host"], expected.unwrap_or(&own));
    }
}
