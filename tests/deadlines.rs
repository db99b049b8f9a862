//! A slow client is cut off at the deadline that is meant for it, while others are served; a client that is served is
//! not.

use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::{Connection, request, with_header};
use crate::support::wire::{Piped, RawUpstream, Signal, Wire, within};
use crate::support::{Client, Gateway, Upstream};

/// All deadlines but these are an hour away.
async fn patient_but(limits: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, &format!("limits: {{{}}}", with_hours(limits)));
    (upstream, gateway)
}

fn with_hours(limits: &str) -> String {
    let deadlines = [
        "handshake_timeout",
        "first_request_timeout",
        "header_timeout",
        "idle_timeout",
        "body_idle_timeout",
        "write_stall_timeout",
        "connection_age",
    ];
    let long = deadlines.iter().filter(|name| !limits.contains(**name)).map(|name| format!("{name}: 1h"));
    long.chain([limits.to_owned()]).collect::<Vec<_>>().join(", ")
}

/// Sends on, byte by byte, an honest request in between each, until the other end has closed.
async fn drips<T>(wire: &mut Wire<T>, gateway: &Gateway)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let honest = Client::new(gateway);
    loop {
        wire.send("x").await;
        tokio::select! {
            biased;
            rest = wire.rest() => break assert_eq!(rest, b""),
            answer = honest.get("/honest") => assert_eq!(answer.status, 200),
        }
    }
}

#[tokio::test]
async fn a_silent_connection_ends_with_the_handshake_timeout() {
    let (_upstream, gateway) = patient_but("handshake_timeout: 200ms").await;
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut wire = Wire::new(Client::new(&gateway).tcp().await.unwrap());
        wire.send(bytes).await;
        assert_eq!(wire.rest().await, b"");
    }
    let mut wire = Wire::new(Client::new(&gateway).tcp().await.unwrap());
    wire.send(b"\x16\x03\x01\x02\x00").await;
    drips(&mut wire, &gateway).await;
}

#[tokio::test]
async fn a_session_without_requests_ends_with_its_timeout() {
    let (_upstream, gateway) = patient_but("first_request_timeout: 200ms").await;
    for bytes in ["", "G", "GET /x HTTP/1.1\r\nHost: a\r\n"] {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send(bytes).await;
        assert_eq!(wire.rest().await, b"", "{bytes:?}");
    }
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("GET /x HTTP/1.1\r\nHost: ").await;
    drips(&mut wire, &gateway).await;
}

#[tokio::test]
async fn an_http2_session_without_requests_ends_with_its_timeout() {
    let (_upstream, gateway) = patient_but("first_request_timeout: 200ms").await;
    let mut silent = Wire::new(Client::http2(&gateway).tls().await.unwrap());
    silent.rest().await;
    let mut connection = Client::http2(&gateway).connect().await;
    within(connection.closed()).await;
}

#[tokio::test]
async fn an_endless_head_is_cut_by_the_header_timeout_and_audited() {
    let (_upstream, gateway) = patient_but("header_timeout: 200ms").await;
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    wire.send("GET /second HTTP/1.1\r\nHost: ").await;
    drips(&mut wire, &gateway).await;
    let line = gateway.audit_line(|line| line["gateway.reason"] == "timeout");
    assert_eq!((&line["gateway.decision"], line.get("url.path")), (&"deny".into(), None));
}

#[tokio::test]
async fn an_idle_connection_ends_with_the_idle_timeout() {
    let (_upstream, gateway) = patient_but("idle_timeout: 200ms").await;
    for client in gateway.both() {
        let mut connection = client.connect().await;
        assert_eq!(connection.send(request("GET", "/x")).await.status, 200);
        within(connection.closed()).await;
    }
}

#[tokio::test]
async fn a_request_under_way_is_not_idle_and_not_late() {
    let finish = Signal::default();
    let may_finish = finish.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let finish = finish.clone();
        Box::pin(async move {
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\no").await;
            finish.wait().await;
            wire.send("k").await;
        })
    })
    .await;
    let short = "first_request_timeout: 100ms, header_timeout: 100ms, idle_timeout: 100ms, handshake_timeout: 5s";
    let gateway = Gateway::open(upstream.address, &format!("limits: {{{}}}", with_hours(short)));
    for client in gateway.both() {
        let mut connection = client.connect().await;
        let answer = tokio::task::spawn(async move { connection.send(request("GET", "/x")).await });
        // Longer than all of these deadlines: two connections that say nothing have come and gone.
        for _ in 0..2 {
            Wire::new(Client::new(&gateway).tls().await.unwrap()).rest().await;
        }
        may_finish.give();
        assert_eq!(within(answer).await.unwrap().body, "ok");
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_by_the_write_timeout() {
    let ended = Signal::default();
    let has_ended = ended.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let ended = ended.clone();
        Box::pin(async move {
            use tokio::io::AsyncWriteExt;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while wire.stream.write_all(&[0; 16 * 1024]).await.is_ok() {}
            ended.give();
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, &format!("limits: {{{}}}", with_hours("write_stall_timeout: 200ms")));
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    has_ended.wait().await;
    let line = gateway.audit_line(|line| line["url.path"] == "/endless");
    assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &"client_gone".into()));
}

/// A client that never opens its HTTP/2 window leaves the answer in the gateway, and the socket does not show it.
#[tokio::test]
async fn a_client_with_a_closed_window_is_cut_off() {
    let (_upstream, gateway) = patient_but("write_stall_timeout: 300ms, in_flight: 1").await;
    let stream = TokioIo::new(Client::http2(&gateway).tls().await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let handshake = builder.initial_stream_window_size(0).handshake(stream);
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::task::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(sender.send_request(request("GET", "/a//b")).await.unwrap());
        assert_eq!(unread[0].status(), 400);
    }
    assert_eq!(Client::new(&gateway).get("/honest").await.status, 200);
    let _ = within(connection).await;
    assert_eq!(Client::new(&gateway).get("/honest").await.status, 200);
}

#[tokio::test]
async fn connections_of_one_address_beyond_its_limit_are_closed() {
    let (_upstream, gateway) = patient_but("connections_per_address: 2").await;
    let client = Client::new(&gateway);
    let (mut first, mut second) = (client.connect().await, client.connect().await);
    assert_eq!(first.send(request("GET", "/x")).await.status, 200);
    assert_eq!(second.send(request("GET", "/x")).await.status, 200);
    // Closed with a reset, at once or within the handshake.
    assert!(within(client.try_connect()).await.is_err());
    drop(first);
    // The place is free once the gateway has seen the end of its connection.
    let again = async {
        loop {
            if let Ok(connection) = client.try_connect().await {
                break connection;
            }
        }
    };
    assert_eq!(within(again).await.send(request("GET", "/x")).await.status, 200);
    assert_eq!(second.send(request("GET", "/x")).await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_total_wait_for_a_place() {
    let (_upstream, gateway) = patient_but("connections: 2").await;
    let client = Client::new(&gateway);
    let (mut first, mut second) = (client.connect().await, client.connect().await);
    assert_eq!(first.send(request("GET", "/x")).await.status, 200);
    assert_eq!(second.send(request("GET", "/x")).await.status, 200);
    // The kernel accepts it; its handshake begins when the first connection has ended.
    let waiting = client.tcp().await.unwrap();
    drop(first);
    let stream = within(client.tls_on(waiting)).await.unwrap();
    let mut third = Client::over(stream).await.unwrap();
    assert_eq!(third.send(request("GET", "/x")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn more_requests_at_once_than_are_taken_on_are_refused_at_once() {
    let (begun, finish) = (Signal::default(), Signal::default());
    let (has_begun, may_finish) = (begun.clone(), finish.clone());
    let upstream = RawUpstream::start(move |mut wire, _| {
        let (begun, finish) = (begun.clone(), finish.clone());
        Box::pin(async move {
            begun.give();
            finish.wait().await;
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "limits: {in_flight: 1}");
    for client in gateway.both() {
        let first = client.clone();
        let first = tokio::task::spawn(async move { first.get("/x").await });
        has_begun.wait().await;
        let refused = client.get("/y").await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
        assert_eq!(gateway.audit_of(refused.request_id())["gateway.reason"], "overload");
        may_finish.give();
        assert_eq!(within(first).await.unwrap().status, 200);
    }
    assert_eq!(upstream.heads().len(), 2);
}

#[tokio::test]
async fn a_body_below_the_minimum_rate_is_cut_and_audited() {
    let (upstream, gateway) = patient_but("min_body_rate: 1MiB/s").await;
    let slow = |client: Client, path: &'static str| async move {
        let (pieces, body) = Piped::new();
        let mut asked = request("POST", path).map(|_| body);
        asked.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        let drip = tokio::task::spawn(async move {
            while pieces.send("0123456789".into()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let mut connection: Connection<Piped> = client.connect_for().await.unwrap();
        let answer = within(connection.begin(asked)).await;
        drip.abort();
        answer.map(|answer| answer.status().as_u16())
    };
    let [first, second] = gateway.both();
    let (first, second) = tokio::join!(slow(first, "/h1"), slow(second, "/h2"));
    assert_eq!((first.unwrap(), second.unwrap()), (408, 408));
    for path in ["/h1", "/h2"] {
        let line = gateway.audit_line(|line| line["url.path"] == path);
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &"timeout".into()));
        assert!(line["duration_us"].as_u64().unwrap() >= 5_000_000, "{line}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn an_old_connection_is_ended_and_nothing_is_lost() {
    let (upstream, gateway) = patient_but("connection_age: 300ms").await;
    for client in gateway.both() {
        let mut connection = client.connect().await;
        let mut answered = 0;
        let lives = async {
            while let Ok(answer) = connection.try_send(request("GET", "/x")).await {
                assert_eq!(answer.status, 200);
                answered += 1;
            }
        };
        within(lives).await;
        assert!(answered > 1);
        // Requests without an answer reached no upstream.
        assert_eq!(upstream.seen().len(), answered);
        upstream.forget();
    }
}

#[tokio::test]
async fn an_old_connection_ends_after_its_requests_in_flight() {
    let (begun, finish) = (Signal::default(), Signal::default());
    let (has_begun, may_finish) = (begun.clone(), finish.clone());
    let upstream = RawUpstream::start(move |mut wire, _| {
        let (begun, finish) = (begun.clone(), finish.clone());
        Box::pin(async move {
            begun.give();
            finish.wait().await;
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        })
    })
    .await;
    let short = "connection_age: 100ms, first_request_timeout: 400ms, handshake_timeout: 5s";
    let gateway = Gateway::open(upstream.address, &format!("limits: {{{}}}", with_hours(short)));
    for client in gateway.both() {
        let mut connection = client.connect().await;
        let answer = tokio::task::spawn(async move {
            let answer = connection.send(request("GET", "/x")).await;
            (answer.status, connection)
        });
        has_begun.wait().await;
        // Older than that by now: a connection that says nothing has come and gone.
        Wire::new(Client::new(&gateway).tls().await.unwrap()).rest().await;
        may_finish.give();
        let (status, mut connection) = within(answer).await.unwrap();
        assert_eq!(status, 200);
        within(connection.closed()).await;
    }
}

/// A connection that has sent the first byte of a handshake.
async fn stalled(client: &Client) -> Wire<TcpStream> {
    let mut wire = Wire::new(client.tcp().await.unwrap());
    wire.send(b"\x16").await;
    wire
}

/// After this, the gateway has read what was sent before.
async fn has_read_all(client: &Client) {
    assert_eq!(client.get("/x").await.status, 200);
}

async fn is_open(wire: &mut Wire<TcpStream>) -> bool {
    timeout(Duration::ZERO, wire.rest()).await.is_err()
}

#[tokio::test]
async fn handshakes_that_stall_make_room_for_others_the_oldest_first() {
    let limits = "handshakes: 4, connections_per_address: unlimited";
    let second = Duration::from_secs(1);
    // Silent connections make room first, and none of the others in less than a second. On a slow machine, a second can
    // pass before all of them are there.
    loop {
        let (_upstream, gateway) = patient_but(limits).await;
        let client = Client::new(&gateway);
        let began = Instant::now();
        let mut oldest = stalled(&client).await;
        has_read_all(&client).await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(Wire::new(client.tcp().await.unwrap()));
        }
        let is_silent = within(async {
            tokio::select! {
                biased;
                rest = silent[0].rest() => rest.is_empty(),
                _ = oldest.rest() => false,
            }
        });
        if is_silent.await {
            assert!(began.elapsed() >= second || is_open(&mut oldest).await);
            break;
        }
        assert!(began.elapsed() >= second, "the oldest has sent a byte");
    }
    // Where none is silent, the oldest makes room after a second.
    let (_upstream, gateway) = patient_but(limits).await;
    let client = Client::new(&gateway);
    let began = Instant::now();
    let (mut oldest, mut next) = (stalled(&client).await, stalled(&client).await);
    has_read_all(&client).await;
    let (mut third, mut fourth) = (stalled(&client).await, stalled(&client).await);
    let oldest_ends = async {
        loop {
            // One whose byte is late counts as silent: another takes its place.
            tokio::select! {
                biased;
                _ = oldest.rest() => break,
                _ = third.rest() => third = stalled(&client).await,
                _ = fourth.rest() => fourth = stalled(&client).await,
            }
        }
    };
    within(oldest_ends).await;
    assert!(began.elapsed() >= second && is_open(&mut next).await);
    let newcomer = async {
        loop {
            if let Ok(stream) = client.tls().await {
                break Wire::new(stream);
            }
        }
    };
    let mut newcomer = within(newcomer).await;
    newcomer.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(newcomer.answer().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_address_takes_all_the_room_there_is_for_requests() {
    let (begun, finish) = (Signal::default(), Signal::default());
    let (has_begun, may_finish) = (begun.clone(), finish.clone());
    let upstream = RawUpstream::start(move |mut wire, _| {
        let (begun, finish) = (begun.clone(), finish.clone());
        Box::pin(async move {
            begun.give();
            finish.wait().await;
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        })
    })
    .await;
    let asked = |address| with_header(request("GET", "/x"), "x-forwarded-for", address);
    // By default an address has half of the room.
    for limits in ["in_flight: 4", "in_flight: 8, in_flight_per_address: 2"] {
        let sections = format!("trusted_proxies: [127.0.0.0/8]\nlimits: {{{limits}}}");
        let gateway = Gateway::open(upstream.address, &sections);
        for client in gateway.both() {
            let mut under_way = Vec::new();
            for address in ["2001:db8::1", "2001:db8::2", "203.0.113.9", "203.0.113.9"] {
                if address == "203.0.113.9" && under_way.len() == 2 {
                    let refused = client.send(asked("2001:db8::3")).await;
                    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
                    let line = gateway.audit_of(refused.request_id());
                    assert_eq!(
                        (&line["gateway.reason"], &line["client.address"]),
                        (&"overload".into(), &"2001:db8::3".into())
                    );
                }
                let client = client.clone();
                let request = asked(address);
                under_way.push(tokio::task::spawn(async move { client.send(request).await.status }));
                has_begun.wait().await;
            }
            for answer in under_way {
                may_finish.give();
                assert_eq!(within(answer).await.unwrap(), 200);
            }
        }
    }
}

/// An answer that nobody opens a window for waits in the gateway; with it, its upstream.
#[tokio::test]
async fn unread_answers_are_given_up_and_their_upstreams_released() {
    let ended = Signal::default();
    let has_ended = ended.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let ended = ended.clone();
        Box::pin(async move {
            use tokio::io::AsyncWriteExt;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while wire.stream.write_all(&[0; 16 * 1024]).await.is_ok() {}
            ended.give();
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, &format!("limits: {{{}}}", with_hours("write_stall_timeout: 200ms")));
    let stream = TokioIo::new(Client::http2(&gateway).tls().await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.initial_stream_window_size(0).handshake(stream).await.unwrap();
    let connection = tokio::task::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..10 {
        unread.push(within(sender.send_request(request("GET", "/endless"))).await.unwrap());
    }
    let _ = within(connection).await;
    has_ended.wait().await;
    let line = gateway.audit_line(|line| line["url.path"] == "/endless");
    assert_eq!(line["gateway.reason"], "client_gone");
    assert!(gateway.peak_memory() < 256 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_greedy_address_is_still_served_within_its_share() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "limits: {in_flight: 1000, in_flight_per_address: 2}");
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let client = Client::new(&gateway);
        asking.spawn(async move {
            let mut connection = client.connect().await;
            let mut served = 0;
            // Each goes on until it has been served often, however many refusals come in between.
            while served < 20 {
                served += usize::from(connection.send(request("GET", "/x")).await.status == 200);
            }
        });
    }
    within(asking.join_all()).await;
}
