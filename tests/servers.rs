//! An upstream of several servers: who gets a request, who gets none, and what each takes at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use crate::support::client::{request, with_header};
use crate::support::port::free_port;
use crate::support::wire::{RawUpstream, Signal, Wire, within};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

/// `legacy` is these servers, used as `keys` say.
pub(crate) fn several(servers: &[SocketAddr], keys: &str) -> Gateway {
    let servers: Vec<_> = servers.iter().map(|server| format!("\"http://{server}\"")).collect();
    with_servers(&servers.join(", "), keys, "")
}

fn with_servers(servers: &str, keys: &str, sections: &str) -> Gateway {
    let upstreams = format!("{sections}\nupstreams: {{legacy: {{servers: [{servers}], {keys}}}}}");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    Gateway::start(&config(nowhere, &["path: /**, access: public, name: all"], upstreams.trim()))
}

/// An address where nobody takes a connection.
pub(crate) fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn answer(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from(body)).unwrap()
}

/// Well as long as the flag says so; its checks are counted.
async fn moody(is_well: &Arc<AtomicBool>, checks: &Arc<AtomicUsize>) -> Upstream {
    let (is_well, checks) = (Arc::clone(is_well), Arc::clone(checks));
    Upstream::answering(move |seen| {
        if seen.target != "/ping" {
            return answer(200, "ok");
        }
        checks.fetch_add(1, Ordering::SeqCst);
        if is_well.load(Ordering::SeqCst) { answer(200, "pong") } else { answer(503, "") }
    })
    .await
}

/// The requests that are none of the checks.
fn asked(upstream: &Upstream) -> usize {
    upstream.seen().iter().filter(|seen| seen.target != "/ping").count()
}

async fn all_are_ok(client: &Client, count: usize) {
    for _ in 0..count {
        assert_eq!(client.get("/x").await.status, 200);
    }
}

#[tokio::test]
async fn every_server_has_its_part_and_its_own_name() {
    let (light, heavy) = (Upstream::start().await, Upstream::start().await);
    let servers = format!("\"http://{}\", {{url: \"http://{}\", weight: 2}}", light.address, heavy.address);
    let gateway = with_servers(&servers, "balance: round_robin", "");
    for client in gateway.both() {
        all_are_ok(&client, 15).await;
    }
    assert_eq!((light.seen().len(), heavy.seen().len()), (10, 20));
    for upstream in [light, heavy] {
        assert!(upstream.seen().iter().all(|seen| seen.header("host") == upstream.address.to_string()));
    }
}

#[tokio::test]
async fn requests_of_one_key_go_to_one_server() {
    let upstreams = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    let gateway =
        several(&upstreams.each_ref().map(|upstream| upstream.address), "balance: {hash: \"header:X-Tenant\"}");
    let client = Client::new(&gateway);
    let mut used = [false; 3];
    for tenant in 0..20 {
        for _ in 0..3 {
            client.send(with_header(request("GET", "/x"), "x-tenant", &tenant.to_string())).await;
        }
        let counts = upstreams.each_ref().map(|upstream| upstream.seen().len());
        let owner = counts.iter().position(|count| *count > 0).unwrap();
        assert_eq!(counts.iter().sum::<usize>(), counts[owner], "{counts:?}");
        used[owner] = true;
        upstreams.iter().for_each(Upstream::forget);
    }
    assert_eq!(used, [true; 3]);
}

#[tokio::test]
async fn an_unhealthy_server_gets_nothing_until_it_is_well_again() {
    let (is_well, checks) = (Arc::new(AtomicBool::new(true)), Arc::default());
    let (moody, steady) = (moody(&is_well, &checks).await, Upstream::answering(|_| answer(200, "pong")).await);
    let keys = "balance: round_robin, health_check: {path: /ping, interval: 20ms, status: [200], body: pong}";
    let gateway = several(&[moody.address, steady.address], keys);
    let client = Client::new(&gateway);
    all_are_ok(&client, 4).await;
    assert_eq!(asked(&moody), 2);
    is_well.store(false, Ordering::SeqCst);
    assert!(gateway.log_line("server is unhealthy").contains("status 503"));
    all_are_ok(&client, 10).await;
    assert_eq!(asked(&moody), 2);
    let metrics = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let server = format!("{{upstream=\"legacy\",server=\"{}\"}}", moody.address);
    let page = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(page.contains(&format!("portcullis_upstream_server_healthy{server} 0.0")), "{page}");
    assert!(page.contains(&format!("portcullis_upstream_server_requests_total{server} 2")), "{page}");
    is_well.store(true, Ordering::SeqCst);
    gateway.log_line("server is healthy again");
    all_are_ok(&client, 10).await;
    assert_eq!(asked(&moody), 7);
}

#[tokio::test]
async fn a_check_without_a_path_connects_and_nothing_else() {
    let steady = Upstream::start().await;
    let gateway = several(&[nobody(), steady.address], "health_check: {interval: 20ms}, retries: none, ejection: none");
    gateway.log_line("server is unhealthy");
    all_are_ok(&Client::new(&gateway), 20).await;
    assert_eq!(steady.seen().len(), 20);
}

#[tokio::test]
async fn an_answer_without_the_text_that_is_looked_for_is_unhealthy() {
    let (wrong, right) = (Upstream::start().await, Upstream::answering(|_| answer(200, "so, pong it is")).await);
    let keys = "retries: none, health_check: {path: /ping, interval: 20ms, body: pong}";
    let gateway = several(&[wrong.address, right.address], keys);
    assert!(gateway.log_line("server is unhealthy").contains("does not contain the configured text"));
    all_are_ok(&Client::new(&gateway), 10).await;
    assert_eq!((asked(&wrong), asked(&right)), (0, 10));
}

#[tokio::test]
async fn a_server_whose_health_flaps_stays() {
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checks);
    let flapping = Upstream::answering(move |seen| match &seen.target[..] {
        "/ping" if !counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) => answer(503, ""),
        _ => answer(200, "ok"),
    });
    let flapping = flapping.await;
    let gateway = several(&[flapping.address], "health_check: {path: /ping, interval: 5ms}");
    let client = Client::new(&gateway);
    while checks.load(Ordering::SeqCst) < 20 {
        all_are_ok(&client, 1).await;
    }
    assert!(!gateway.log_text().contains("unhealthy"), "two failures in a row are not three");
}

#[tokio::test]
async fn where_all_servers_are_unhealthy_all_are_used() {
    let (is_well, checks) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let upstreams = [moody(&is_well, &checks).await, moody(&is_well, &checks).await];
    let addresses = upstreams.each_ref().map(|upstream| upstream.address);
    let gateway = several(&addresses, "balance: round_robin, health_check: {path: /ping, interval: 20ms}");
    for address in addresses {
        gateway.log_line(&address.to_string());
    }
    all_are_ok(&Client::new(&gateway), 10).await;
    assert_eq!(upstreams.each_ref().map(asked), [5, 5]);
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_ejected_for_a_while() {
    let (failing, good) = (Upstream::answering(|_| answer(503, "")).await, Upstream::start().await);
    let keys = "balance: round_robin, ejection: {consecutive_failures: 3, duration: 300ms}, retries: none";
    let gateway = several(&[failing.address, good.address], keys);
    let client = Client::new(&gateway);
    let began = Instant::now();
    for _ in 0..6 {
        client.get("/x").await;
    }
    assert_eq!(failing.seen().len(), 3);
    gateway.log_line("ejected");
    let before = good.seen().len();
    while failing.seen().len() == 3 {
        assert!(began.elapsed() < Duration::from_secs(20));
        client.get("/x").await;
    }
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(good.seen().len() > before);
}

#[tokio::test]
async fn a_server_that_is_alone_is_never_ejected() {
    let failing = Upstream::answering(|_| answer(503, "")).await;
    let gateway = several(&[failing.address], "ejection: {consecutive_failures: 1}");
    for _ in 0..5 {
        assert_eq!(Client::new(&gateway).get("/x").await.status, 503);
    }
    assert_eq!(failing.seen().len(), 5);
}

#[tokio::test]
async fn an_upstream_that_keeps_failing_is_ejected() {
    let is_well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_well);
    let failing =
        Upstream::answering(move |_| if told.load(Ordering::SeqCst) { answer(200, "ok") } else { answer(503, "") });
    let failing = failing.await;
    let gateway = several(&[failing.address], "circuit_breaker: {consecutive_failures: 3, open_for: 200ms}");
    let client = Client::new(&gateway);
    for _ in 0..3 {
        assert_eq!(client.get("/x").await.status, 503);
    }
    let refused = client.get("/x").await;
    assert_eq!((refused.status, refused.header("retry-after"), failing.seen().len()), (503, "1", 3));
    assert_eq!(gateway.audit_of(refused.request_id())["gateway.reason"], "upstream_connect");
    is_well.store(true, Ordering::SeqCst);
    within(async { while client.get("/x").await.status != 200 {} }).await;
    all_are_ok(&client, 10).await;
}

/// Uploads that wait for their callers are no reason to refuse all others.
#[tokio::test]
async fn a_stalled_upload_does_not_keep_the_circuit_breaker_open() {
    let upstream = RawUpstream::start(|mut wire, head| {
        Box::pin(async move {
            if head.starts_with("POST ") {
                wire.rest().await;
            } else if head.contains(" /well ") {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        })
    })
    .await;
    let rules = "circuit_breaker: {consecutive_failures: 1, open_for: 3s}, retries: none";
    let gateway = several(&[upstream.address], rules);
    let client = Client::new(&gateway);
    assert_eq!(client.get("/ill").await.status, 502);
    let is_trial = || upstream.heads().iter().any(|head| head.starts_with("POST "));
    let _stalled = loop {
        let mut wire = Wire::new(client.tls().await.unwrap());
        wire.send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n").await;
        // The upload is refused, or it is the trial.
        tokio::select! {
            refused = wire.answer() => assert_eq!(refused.unwrap().status, 503),
            () = until(is_trial) => break wire,
        }
    };
    assert_eq!(client.get("/well").await.status, 200);
    assert_eq!(client.get("/well").await.status, 200);
}

/// Answers each request when told.
async fn slow(release: &Signal) -> RawUpstream {
    let release = release.clone();
    RawUpstream::start(move |mut wire, _| {
        let release = release.clone();
        Box::pin(async move {
            loop {
                release.wait().await;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                if wire.head().await.is_none() {
                    break;
                }
            }
        })
    })
    .await
}

async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_takes_as_many_requests_and_connections_as_it_may() {
    for cap in ["max_in_flight: 1", "max_connections: 1"] {
        let release = Signal::default();
        let upstream = slow(&release).await;
        let gateway = several(&[upstream.address], cap);
        let (first, second) = (Client::new(&gateway), Client::new(&gateway));
        let first = tokio::spawn(async move { first.get("/first").await.status });
        until(|| upstream.connections() == 1).await;
        let refused = second.get("/second").await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{cap}");
        assert_eq!(gateway.audit_of(refused.request_id())["gateway.reason"], "overload");
        release.give();
        assert_eq!(first.await.unwrap(), 200);
        // The answer's end and its place may come one after the other.
        release.give();
        within(async { while second.get("/third").await.status != 200 {} }).await;
    }
}

#[tokio::test]
async fn requests_refused_by_a_full_server_go_to_the_others() {
    let release = Signal::default();
    let (full, free) = (slow(&release).await, Upstream::start().await);
    for cap in ["max_in_flight: 1", "max_connections: 1"] {
        let before = full.connections();
        let gateway = several(&[full.address, free.address], &format!("balance: round_robin, {cap}"));
        let waiting = Client::new(&gateway);
        let waiting = tokio::spawn(async move { waiting.get("/first").await.status });
        until(|| full.connections() == before + 1).await;
        all_are_ok(&Client::new(&gateway), 5).await;
        release.give();
        assert_eq!(waiting.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn where_all_servers_are_down_the_answer_comes_at_once() {
    let gateway = several(&[nobody(), nobody(), nobody()], "retries: {attempts: 5}, connect_timeout: 1h");
    for _ in 0..20 {
        let answer = within(Client::new(&gateway).get("/x")).await;
        assert_eq!(answer.status, 502);
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "upstream_connect");
    }
}

/// Connections that nobody takes and nobody refuses do not add up.
#[tokio::test]
async fn however_many_are_tried_the_routes_time_is_kept() {
    let mut full = Vec::new();
    for _ in 0..3 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        full.push((socket, TcpStream::connect(address).await.unwrap(), address));
    }
    let addresses: Vec<_> = full.iter().map(|(_, _, address)| *address).collect();
    let keys = "retries: {attempts: 5}, connect_timeout: 400ms, response_timeout: 500ms";
    let gateway = several(&addresses, keys);
    let began = Instant::now();
    let answer = within(Client::new(&gateway).get("/x")).await;
    assert_eq!(answer.status, 504);
    // Five attempts to connect would take 2 s.
    assert!((500..2_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}
