//! Exhausted resources: descriptors, connections, time. Everything over the limit is refused
//! quickly, the rest is served, and afterwards everything is as it was before.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::support::client::request;
use crate::support::gateway::{folder, program};
use crate::support::wire::{Wire, within};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

const OPEN: &str = "path: /**, access: public";

/// How many files the gateway has open.
fn descriptors(gateway: &Gateway) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gateway.id())).unwrap().count()
}

fn limit_files(gateway: &Gateway, to: usize) {
    let id = gateway.id().to_string();
    let done = Command::new("prlimit").args(["--pid", &id, &format!("--nofile={to}:")]).status().unwrap();
    assert!(done.success());
}

/// A number on the page of metrics.
async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let page = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits until the gateway has nothing left of what its clients have had.
async fn is_at_rest(gateway: &Gateway, files: usize) {
    let rest = async {
        while metric(gateway, "portcullis_connections").await > 0.0
            || metric(gateway, "http_server_active_requests").await > 0.0
            || descriptors(gateway) > files
        {
            tokio::task::yield_now().await;
        }
    };
    within(rest).await;
}

/// How many files it needs at rest, with the connection that the page of metrics takes.
async fn needs(gateway: &Gateway) -> usize {
    assert_eq!(Client::new(gateway).get("/warm").await.status, 200);
    descriptors(gateway) + 2
}

#[tokio::test]
async fn without_descriptors_accepting_waits_and_recovers() {
    let upstream = Upstream::start().await;
    let sections = "limits: {connections_per_address: unlimited, first_request_timeout: 1h, handshake_timeout: 1h}";
    let gateway = Gateway::start(&config(upstream.address, &[OPEN], sections));
    let files = needs(&gateway).await;
    limit_files(&gateway, files + 20);
    let began = std::time::Instant::now();
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(Client::new(&gateway).tcp().await.unwrap());
    }
    gateway.log_line("cannot accept connections");
    // Those that were taken before are still served.
    let stream = Client::new(&gateway).tls_on(held.swap_remove(0)).await.unwrap();
    drop(stream);
    drop(held);
    let client = Client::new(&gateway);
    let recovers = async { while client.try_connect().await.is_err() {} };
    within(recovers).await;
    assert_eq!(client.get("/canary").await.status, 200);
    let told = gateway.log_text().matches("cannot accept connections").count() as u64;
    assert!(told <= began.elapsed().as_secs() + 1, "{told} times in {:?}", began.elapsed());
    assert!(metric(&gateway, "portcullis_accept_failures_total").await >= told as f64);
    is_at_rest(&gateway, files).await;
}

#[tokio::test]
async fn connections_take_half_of_the_descriptors() {
    let upstream = Upstream::start().await;
    let sections = "limits: {connections_per_address: unlimited, handshake_timeout: 1h}";
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config(upstream.address, &[OPEN], sections)).unwrap();
    let mut command = Command::new("prlimit");
    command.current_dir(&folder).arg("--nofile=256").arg(program(&folder).get_program()).arg("run");
    let gateway = Gateway::spawn(folder, command, true);
    assert!(gateway.log_line("limits.connections").contains("\"kept\":128"));
    let files = needs(&gateway).await;
    let mut all = Vec::new();
    for _ in 0..1000 {
        all.push(Client::new(&gateway).tcp().await.unwrap());
    }
    // The rest wait in the kernel's queue.
    within(async { while metric(&gateway, "portcullis_connections").await < 128.0 {} }).await;
    assert_eq!(Client::plain(gateway.admin.unwrap()).get("/readyz").await.status, 200);
    assert!(descriptors(&gateway) <= files + 128);
    // The last of them is served when its turn comes: silent connections before it make room.
    let last = all.pop().unwrap();
    let served = async {
        let stream = Client::new(&gateway).tls_on(last).await.unwrap();
        let mut served: crate::support::client::Connection = Box::pin(Client::over(stream)).await.unwrap();
        assert_eq!(served.send(request("GET", "/x")).await.status, 200);
    };
    within(served).await;
    let refused = "portcullis_connections_refused_total{limit=\"connections_per_address\"}";
    assert_eq!(metric(&gateway, refused).await, 0.0);
    drop(all);
    assert!(!gateway.log_text().contains("cannot accept"), "it never came to that");
    is_at_rest(&gateway, files).await;
}

#[tokio::test]
async fn refused_connections_are_counted_and_logged_with_the_key() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "limits: {connections_per_address: 2}");
    let client = Client::new(&gateway);
    let _held = [client.connect().await, client.connect().await];
    for _ in 0..5 {
        assert!(within(client.try_connect()).await.is_err());
    }
    let refused = "portcullis_connections_refused_total{limit=\"connections_per_address\"}";
    assert_eq!(metric(&gateway, refused).await, 5.0);
    let log = gateway.log_line("connections were refused");
    for part in ["raise `limits.connections_per_address`", "\"client.address\":\"127.0.0.1\""] {
        assert!(log.contains(part), "{part}: {log}");
    }
    // The refusals may be in two seconds, and so in two events.
    let logged = || {
        let events = gateway.log_text();
        let events = events.lines().filter(|line| line.contains("connections were refused"));
        let counts = events.map(|line| serde_json::from_str::<Value>(line).unwrap()["count"].as_u64().unwrap());
        counts.sum::<u64>()
    };
    within(async {
        while logged() < 5 {
            tokio::task::yield_now().await
        }
    })
    .await;
    assert_eq!(logged(), 5);
}

#[tokio::test]
async fn clients_that_reset_or_close_half_way_leave_nothing_behind() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "limits: {connections_per_address: unlimited}");
    let files = needs(&gateway).await;
    let resets = |stream: &TcpStream| SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    for _ in 0..2000 {
        resets(&Client::new(&gateway).tcp().await.unwrap());
    }
    for client in gateway.both() {
        for begun in [
            "",
            "GET /x HT",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            for half_closed in [false, true] {
                for _ in 0..10 {
                    let mut wire = Wire::new(client.tls().await.unwrap());
                    wire.send(begun).await;
                    if half_closed {
                        SockRef::from(wire.stream.get_ref().0).shutdown(std::net::Shutdown::Write).unwrap();
                        within(async { while !wire.take(1).await.is_empty() {} }).await;
                    } else {
                        resets(wire.stream.get_ref().0);
                    }
                }
            }
        }
    }
    is_at_rest(&gateway, files).await;
    assert_eq!(Client::new(&gateway).get("/canary").await.status, 200);
    assert!(!gateway.log_text().contains("panicked"), "{}", gateway.log_text());
    // A busy loop would go on doing nothing.
    let before = run_time(&gateway);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(run_time(&gateway) - before < Duration::from_millis(150));
}

fn run_time(gateway: &Gateway) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.id())).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default());
    stats
        .map(|stat| Duration::from_nanos(stat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)))
        .sum()
}

/// As many as there are kinds of slowness, a hundred of each, and one that means well.
#[tokio::test]
async fn slow_clients_are_cut_off_and_an_honest_one_is_served() {
    let upstream = Upstream::start().await;
    let limits = "connections_per_address: unlimited, handshake_timeout: 1s, first_request_timeout: 1s, header_timeout: 1s, \
                  idle_timeout: 1s, body_idle_timeout: 1s, write_stall_timeout: 1s";
    let gateway = Gateway::open(upstream.address, &format!("workers: 2\nlimits: {{{limits}}}"));
    let files = needs(&gateway).await;
    let client = Client::new(&gateway);
    let (mut bare, mut secured) = (Vec::new(), Vec::new());
    for number in 0..100 {
        for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
            let mut wire = Wire::new(client.tcp().await.unwrap());
            wire.send(begun).await;
            bare.push(wire);
        }
        for begun in [
            "",
            "GET /x HTTP/1.1\r\nHos",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHos",
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            let mut wire = Wire::new(client.tls().await.unwrap());
            wire.send(begun).await;
            secured.push(wire);
        }
        if number % 10 == 0 {
            assert_eq!(client.get("/canary").await.status, 200);
        }
    }
    let gone = async {
        for wire in &mut bare {
            assert_eq!(wire.rest().await, b"");
        }
        for wire in &mut secured {
            wire.rest().await;
        }
    };
    let canary = async {
        loop {
            assert_eq!(client.get("/canary").await.status, 200);
        }
    };
    tokio::select! {
        () = gone => {}
        () = canary => {}
    }
    is_at_rest(&gateway, files + 64).await;
}
