//! Blamed for a deadline is the side that is waited for: a caller that stalls its upload is never its server's failure.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::servers::{nobody, several};
use crate::support::client::request;
use crate::support::frames::{END_STREAM, HEADERS};
use crate::support::wire::{Piped, RawUpstream, Signal, Wire, within};
use crate::support::world::config;
use crate::support::{Client, Gateway};
use crate::upstream_http2::by_hand::by_hand;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    CallerSilent,
    CallerSlow,
    UpstreamTakesNothing,
    UpstreamSaysNothing,
    /// The caller is silent too, which does not show: what it has sent is still here.
    Both,
}

use Waited::{Both, CallerSilent, CallerSlow, UpstreamSaysNothing, UpstreamTakesNothing};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    Response,
    PerTry,
    BodyIdle,
    MinRate,
    /// The caller's own: whoever it waits for, no server is to blame for it.
    Grpc,
}

const DEADLINES: [Deadline; 5] =
    [Deadline::Response, Deadline::PerTry, Deadline::BodyIdle, Deadline::MinRate, Deadline::Grpc];
const SIDES: [Waited; 5] = [CallerSilent, CallerSlow, UpstreamTakesNothing, UpstreamSaysNothing, Both];

impl Deadline {
    /// Where the deadline itself does not end the exchange, the route's timeout does.
    const fn route(self) -> &'static str {
        match self {
            Self::Response => "timeout: 3s",
            Self::PerTry => "timeout: 900ms",
            Self::BodyIdle => "timeout: 900ms, body_idle_timeout: 300ms",
            Self::MinRate => "timeout: 6s",
            Self::Grpc => "timeout: 1h",
        }
    }

    const fn upstream(self) -> &'static str {
        match self {
            Self::PerTry => "retries: {attempts: 1, per_try_timeout: 200ms}",
            Self::Response | Self::BodyIdle | Self::MinRate | Self::Grpc => "retries: none",
        }
    }
}

/// The outcome of an exchange: its status, the reason in the audit log, an open breaker, ejected servers.
type Fate = (u16, String, bool, usize);

fn expected(deadline: Deadline, waited: Waited, by_http2: bool) -> Fate {
    let is_callers = matches!(waited, CallerSilent | CallerSlow);
    let is_grpc = deadline == Deadline::Grpc;
    // A call is told in its own words by services that it may speak with.
    let status = if is_grpc && by_http2 { 200 } else { [504, 408][usize::from(is_callers)] };
    let reason = if is_callers { "timeout" } else { "upstream_timeout" };
    let counts = !is_callers && !is_grpc;
    (status, reason.to_owned(), counts, usize::from(counts))
}

/// A server that never answers, and takes what it is sent or nothing of it.
async fn silent(by_http2: bool, takes: bool) -> SocketAddr {
    if !by_http2 && !takes {
        return full_at_once();
    }
    if !by_http2 {
        let upstream = RawUpstream::start(|mut wire, _| Box::pin(async move { drop(wire.rest().await) }));
        return upstream.await.address;
    }
    by_hand(move |mut service| async move {
        service.opened().await.unwrap();
        while takes && service.next().await.is_some() {}
        pending().await
    })
    .await
}

/// A server that accepts connections and reads nothing. The kernel's buffers for it are small: uploads fill them long
/// before any deadline, on a busy machine too.
fn full_at_once() -> SocketAddr {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.set_recv_buffer_size(4096).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(16).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // Open until the end of the test: the kernel accepts connections without it.
    std::mem::forget(listener);
    address
}

/// Says what a caller says that keeps somebody waiting; for as long as the other end takes it.
async fn speak(waited: Waited, pieces: Sender<Bytes>) {
    let mebibytes = || Bytes::from(vec![0; 1 << 20]);
    match waited {
        UpstreamSaysNothing => drop(pieces.send("whole".into()).await),
        CallerSilent => {
            let _ = pieces.send("half".into()).await;
            pieces.closed().await;
        }
        CallerSlow => {
            while pieces.send("drip".into()).await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        }
        UpstreamTakesNothing => while pieces.send(mebibytes()).await.is_ok() {},
        Both => {
            for _ in 0..8 {
                let _ = pieces.send(mebibytes()).await;
            }
            pieces.closed().await;
        }
    }
}

fn upload(path: &str) -> (Sender<Bytes>, Request<Piped>) {
    let (pieces, body) = Piped::new();
    (pieces, request("POST", path).map(|_| body))
}

/// One cell of the table; its exchange's status.
async fn exchange(client: Client, deadline: Deadline, waited: Waited, path: String) -> u16 {
    if (deadline, waited) == (Deadline::PerTry, UpstreamSaysNothing) {
        // Only what has no body can be tried again.
        return within(client.get(&path)).await.status;
    }
    let (pieces, mut asked) = upload(&path);
    if deadline == Deadline::Grpc {
        asked.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        asked.headers_mut().insert("grpc-timeout", "4S".parse().unwrap());
    }
    let speaking = tokio::task::spawn(speak(waited, pieces));
    let mut connection = client.connect_for().await.unwrap();
    let answer = within(connection.begin(asked)).await.unwrap();
    let status = answer.status().as_u16();
    let _ = within(answer.into_body().collect()).await;
    speaking.abort();
    status
}

/// Every deadline, whoever is waited for, and what that does to the servers.
async fn every_deadline_blames_the_side_that_is_waited_for(by_http2: bool) {
    let cells: Vec<_> = DEADLINES.iter().flat_map(|deadline| SIDES.map(|waited| (*deadline, waited))).collect();
    let protocol = if by_http2 { "http2" } else { "http1" };
    let (mut upstreams, mut routes) = (String::from("upstreams:\n"), Vec::new());
    for (number, (deadline, waited)) in cells.iter().enumerate() {
        let takes = !matches!(waited, UpstreamTakesNothing | Both);
        let (one, other) = (silent(by_http2, takes).await, silent(by_http2, takes).await);
        upstreams += &format!(
            "  u{number}: {{servers: [\"http://{one}\", \"http://{other}\"], protocol: {protocol}, {}, \
             ejection: {{consecutive_failures: 1, duration: 1h}}, \
             circuit_breaker: {{consecutive_failures: 1, open_for: 1h}}}}\n",
            deadline.upstream()
        );
        routes.push(format!("path: /{number}, access: public, upstream: u{number}, {}", deadline.route()));
    }
    let sections = format!("limits: {{min_body_rate: 1KiB/s, body_bytes: unlimited}}\n{upstreams}");
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let gateway = Gateway::start(&config(SocketAddr::from(([127, 0, 0, 1], 9)), &routes, sections.trim()));
    let mut exchanges = JoinSet::new();
    for (number, (deadline, waited)) in cells.iter().copied().enumerate() {
        let http2 = deadline == Deadline::Grpc || number % 2 == 0;
        let client = if http2 { Client::http2(&gateway) } else { Client::new(&gateway) };
        exchanges.spawn(async move { (number, exchange(client, deadline, waited, format!("/{number}")).await) });
    }
    let mut statuses = exchanges.join_all().await;
    statuses.sort_unstable();
    let page = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let count = |name: &str, number: usize| {
        let gauge = format!("{name}{{upstream=\"u{number}\"");
        page.lines().filter(|line| line.starts_with(&gauge) && line.ends_with(" 1.0")).count()
    };
    for ((deadline, waited), (number, status)) in cells.into_iter().zip(statuses) {
        let line = gateway.audit_line(|line| line["url.path"] == format!("/{number}"));
        let reason = line["gateway.reason"].as_str().unwrap().to_owned();
        let is_open = count("portcullis_upstream_breaker_open", number) == 1;
        let fate = (status, reason, is_open, count("portcullis_upstream_server_ejected", number));
        assert_eq!(fate, expected(deadline, waited, by_http2), "{deadline:?}, {waited:?}, upstream by {protocol}");
        let retried = format!("portcullis_upstream_retries_total{{upstream=\"u{number}\"}} 1");
        let is_retried = (deadline, waited) == (Deadline::PerTry, UpstreamSaysNothing);
        assert_eq!(page.contains(&retried), is_retried, "{deadline:?}, {waited:?}, upstream by {protocol}");
    }
}

#[tokio::test]
async fn http1_deadlines_blame_the_side_that_is_waited_for() {
    every_deadline_blames_the_side_that_is_waited_for(false).await;
}

#[tokio::test]
async fn http2_deadlines_blame_the_side_that_is_waited_for() {
    every_deadline_blames_the_side_that_is_waited_for(true).await;
}

/// The bytes that a peer has not taken may be the rest of an upload: it fits into its window but for a few bytes.
#[tokio::test]
async fn a_window_closed_before_the_last_bytes_is_waited_for() {
    let server = silent(true, false).await;
    let routes = ["path: /x, access: public, timeout: 300ms, body_idle_timeout: 100ms"];
    let gateway = Gateway::before_http2(server, &routes);
    let (pieces, asked) = upload("/x");
    let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
    let answer = tokio::task::spawn(async move { within(connection.begin(asked)).await.unwrap().status() });
    within(pieces.send(vec![0; 65_535 + 10].into())).await.unwrap();
    assert_eq!(answer.await.unwrap(), 504);
    assert_eq!(gateway.audit_line(|line| line["url.path"] == "/x")["gateway.reason"], "upstream_timeout");
}

/// Stalled by strangers on a public route, an upstream serves the others as before, over the same connection where that
/// is shared.
#[tokio::test]
async fn uploads_stalled_by_unknown_callers_harm_no_other_caller() {
    let by_http1 = RawUpstream::start(|mut wire, mut head| {
        Box::pin(async move {
            while head.starts_with("GET ") {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved").await;
                let Some(next) = wire.head().await else { return };
                head = next;
            }
            wire.rest().await;
        })
    })
    .await;
    let by_http2 = by_hand(|mut service| async move {
        while let Some(frame) = service.next().await {
            if frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
                service.answer(frame.stream, format!("connection {}", service.number).as_bytes()).await;
            }
        }
    })
    .await;
    for (protocol, address, said) in [("http1", by_http1.address, "served"), ("http2", by_http2, "connection 0")] {
        let upstreams = format!(
            "upstreams: {{legacy: {{servers: [\"http://{address}\"], protocol: {protocol}, \
             circuit_breaker: {{consecutive_failures: 5, open_for: 1h}}}}}}"
        );
        // One of them stalls for longer than a silent peer is taken for dead.
        let routes = [
            "path: /soon, access: public, timeout: 200ms",
            "path: /late, access: public, timeout: 5500ms",
            "path: /others, access: public",
        ];
        let limits = "limits: {min_body_rate: unlimited}\n";
        let gateway = Gateway::start(&config(address, &routes, &format!("{limits}{upstreams}")));
        assert_eq!(Client::new(&gateway).get("/others").await.body, said);
        let mut stalling = JoinSet::new();
        for path in ["/soon", "/soon", "/soon", "/soon", "/soon", "/soon", "/late"] {
            let client = Client::http2(&gateway);
            stalling.spawn(async move {
                let (pieces, asked) = upload(path);
                let mut connection = client.connect_for().await.unwrap();
                let answer = within(connection.begin(asked)).await.unwrap();
                drop(pieces);
                answer.status().as_u16()
            });
        }
        assert_eq!(stalling.join_all().await, [408; 7]);
        for client in gateway.both() {
            let answer = client.get("/others").await;
            assert_eq!((answer.status, &answer.body[..]), (200, said.as_bytes()), "{protocol}");
        }
    }
}

/// The caller may not send before it is told to.
#[tokio::test]
async fn an_upstream_that_owes_its_100_is_waited_for() {
    let server = silent(false, true).await;
    let upstreams = format!(
        "upstreams: {{legacy: {{servers: [\"http://{server}\"], \
         circuit_breaker: {{consecutive_failures: 1, open_for: 1h}}}}}}"
    );
    let routes = ["path: /x, access: public, timeout: 300ms"];
    let gateway = Gateway::start(&config(server, &routes, &upstreams));
    for status in [504, 503] {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
        assert_eq!(wire.answer().await.unwrap().status, status);
    }
}

/// Many services end a connection whose request does not go on; one that fails whatever it is asked is still found out.
#[tokio::test]
async fn an_upstream_that_hangs_up_on_a_stalled_upload_has_not_failed() {
    let signal = Signal::default();
    let hang_up = signal.clone();
    let upstream = RawUpstream::start(move |mut wire, head| {
        let hang_up = hang_up.clone();
        Box::pin(async move {
            if head.contains(" /slow ") {
                drop(wire.rest().await);
            } else if head.contains("transfer-encoding") {
                hang_up.wait().await;
            }
        })
    })
    .await;
    let upstreams = format!(
        "upstreams: {{legacy: {{servers: [\"http://{0}\"], retries: none, \
         circuit_breaker: {{consecutive_failures: 1, open_for: 1h}}}}, other: \"http://{0}\"}}",
        upstream.address
    );
    let routes = ["path: /x, access: public", "path: /slow, access: public, timeout: 1200ms, upstream: other"];
    let gateway = Gateway::start(&config(upstream.address, &routes, &upstreams));
    let (pieces, asked) = upload("/x");
    let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
    let answer = tokio::task::spawn(async move { within(connection.begin(asked)).await.unwrap().status() });
    within(pieces.send("half".into())).await.unwrap();
    // For longer than that a caller must have been waited for.
    assert_eq!(Client::new(&gateway).get("/slow").await.status, 504);
    signal.give();
    assert_eq!(answer.await.unwrap(), 502);
    assert_eq!(Client::new(&gateway).get("/x").await.status, 502, "it is asked again");
    assert_eq!(Client::new(&gateway).get("/x").await.status, 503, "that was its own failure");
}

/// The caller was waited for before, but not by the server.
#[tokio::test]
async fn a_refused_connection_counts_after_a_slow_caller_too() {
    let gateway = several(&[nobody()], "retries: none, circuit_breaker: {consecutive_failures: 1, open_for: 1h}");
    let (pieces, body) = Piped::new();
    let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
    // Whether this request has a body is awaited for a second.
    let answer = within(connection.begin(request("GET", "/x").map(|_| body))).await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(Client::new(&gateway).get("/x").await.status, 503);
    drop(pieces);
}
