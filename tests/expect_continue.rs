//! A client that waits to be told (`Expect: 100-continue`) is told once its upstream has said so, and never when the
//! answer is there already.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::client::{request, with_body, with_header};
use crate::support::wire::{RawUpstream, Signal, Talk, Wire, field, within};
use crate::support::{Client, Gateway, Upstream};

const ASKED: &str = "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

struct World {
    gateway: Gateway,
    upstream: RawUpstream,
    asked: Signal,
    go_on: Signal,
}

impl World {
    /// The upstream says when it was asked, and waits for the test before it does the rest.
    async fn start(talk: impl Fn(Wire<TcpStream>) -> Talk + Copy + Send + Sync + 'static) -> Self {
        let (asked, go_on) = (Signal::default(), Signal::default());
        let (saying, waiting) = (asked.clone(), go_on.clone());
        let upstream = RawUpstream::start(move |wire, _| {
            saying.give();
            let waiting = waiting.clone();
            Box::pin(async move {
                waiting.wait().await;
                talk(wire).await;
            })
        })
        .await;
        Self { gateway: Gateway::open(upstream.address, ""), upstream, asked, go_on }
    }

    async fn ask(&self) -> Wire<TlsStream<TcpStream>> {
        let mut wire = Wire::new(Client::new(&self.gateway).tls().await.unwrap());
        wire.send(ASKED).await;
        self.asked.wait().await;
        wire
    }

    fn expectation(&self) -> Option<String> {
        field(&self.upstream.heads()[0], "expect").map(str::to_owned)
    }
}

#[tokio::test]
async fn a_client_gets_100_only_when_the_upstream_sends_it() {
    let world = World::start(|mut wire| {
        Box::pin(async move {
            wire.send(CONTINUE).await;
            assert_eq!(wire.take(3).await, b"abc");
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            wire.rest().await;
        })
    })
    .await;
    let begun = Instant::now();
    let mut wire = world.ask().await;
    assert_eq!(world.expectation().as_deref(), Some("100-continue"));
    let early = timeout(Duration::from_millis(200), wire.head()).await;
    // On a busy machine the second may be over by now, after which the gateway waits no longer.
    assert!(early.is_err() || begun.elapsed() >= Duration::from_secs(1), "{early:?}");
    world.go_on.give();
    let told = match early {
        Ok(told) => told,
        Err(_) => within(wire.head()).await,
    };
    assert_eq!(told.unwrap(), CONTINUE);
    wire.send("abc").await;
    assert_eq!(wire.answer().await.unwrap().body, b"ok");
}

#[tokio::test]
async fn a_silent_upstream_is_waited_for_one_second_at_most() {
    let world = World::start(|mut wire| {
        Box::pin(async move {
            assert_eq!(wire.take(3).await, b"abc");
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            wire.rest().await;
        })
    })
    .await;
    let begun = Instant::now();
    let mut wire = world.ask().await;
    world.go_on.give();
    assert_eq!(within(wire.head()).await.unwrap(), CONTINUE);
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    wire.send("abc").await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn an_early_answer_arrives_without_the_body_being_requested() {
    let world = World::start(|mut wire| {
        Box::pin(async move {
            wire.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 8\r\n\r\ntoo ").await;
            // Longer than the gateway waits for an upstream that says nothing.
            assert!(timeout(Duration::from_millis(1500), wire.take(1)).await.is_err(), "a body, or the end");
            wire.send("much").await;
            assert_eq!(wire.rest().await, b"");
        })
    })
    .await;
    let mut wire = world.ask().await;
    world.go_on.give();
    let answer = wire.answer().await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (413, &b"too much"[..]));
    assert_eq!(wire.rest().await, b"", "the connection ends: nobody knows whether a body follows");
    let line = world.gateway.audit_line(|line| line["url.path"] == "/x");
    assert_eq!((&line["gateway.decision"], &line["http.response.status_code"]), (&"allow".into(), &413.into()));
}

#[tokio::test]
async fn a_client_that_hangs_up_while_waiting_leaves_no_connection() {
    let gone = Signal::default();
    let seen = gone.clone();
    let asked = Signal::default();
    let saying = asked.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let (seen, saying) = (seen.clone(), saying.clone());
        Box::pin(async move {
            saying.give();
            wire.rest().await;
            seen.give();
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send(ASKED).await;
    asked.wait().await;
    drop(wire);
    gone.wait().await;
}

#[tokio::test]
async fn other_interim_answers_are_not_passed_on() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
    let upstream = RawUpstream::saying(format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).await;
    let gateway = Gateway::open(upstream.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    assert_eq!(Client::http2(&gateway).get("/x").await.body, "ok");
}

#[tokio::test]
async fn over_http2_the_body_passes_and_expect_stays_behind() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "");
    let request = with_header(with_body(request("POST", "/x"), "abc"), "expect", "100-continue");
    assert_eq!(Client::http2(&gateway).send(request).await.status, 200);
    assert_eq!((&upstream.only().body[..], upstream.only().headers.get("expect")), (&b"abc"[..], None));
}

#[tokio::test]
async fn connections_are_used_again_after_a_body_that_was_asked_for() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "");
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    for _ in 0..3 {
        wire.send(ASKED).await;
        assert_eq!(within(wire.head()).await.unwrap(), CONTINUE);
        wire.send("abc").await;
        assert_eq!(wire.answer().await.unwrap().body, b"ok");
    }
    let bodies: Vec<_> = upstream.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["abc"; 3]);
}
