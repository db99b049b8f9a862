//! Events reach the client as they happen, and a stream of them may be quiet for as long as its route allows.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use tokio::sync::{Mutex, mpsc, watch};

use crate::support::client::request;
use crate::support::wire::{RawUpstream, within};
use crate::support::world::config;
use crate::support::{Client, Gateway};

/// The connection is not used again: the gateway must not send the next request while it is being closed.
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
                    Connection: close\r\n\r\n";

/// Sends what it is given, when it is given it.
pub(crate) async fn source() -> (RawUpstream, mpsc::Sender<String>) {
    let (sender, receiver) = mpsc::channel::<String>(1);
    let receiver = Arc::new(Mutex::new(receiver));
    let upstream = RawUpstream::start(move |mut wire, _| {
        let receiver = Arc::clone(&receiver);
        Box::pin(async move {
            wire.send(HEAD).await;
            let mut events = receiver.lock().await;
            while let Some(event) = events.recv().await {
                wire.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
                if event.is_empty() {
                    return;
                }
            }
        })
    })
    .await;
    (upstream, sender)
}

#[tokio::test]
async fn an_event_arrives_before_the_next_is_sent() {
    let (upstream, sender) = source().await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        let mut stream = within(client.connect().await.begin(request("GET", "/events"))).await.unwrap();
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        for number in 0..100 {
            let event = format!("id: {number}\ndata: {}\n\n", "x".repeat(number));
            sender.send(event.clone()).await.unwrap();
            let mut came = Vec::new();
            while came.len() < event.len() {
                let frame = within(stream.body_mut().frame()).await.unwrap().unwrap();
                came.extend_from_slice(frame.data_ref().unwrap());
            }
            assert_eq!(String::from_utf8(came).unwrap(), event);
        }
        sender.send(String::new()).await.unwrap();
        assert_eq!(within(stream.into_body().collect()).await.unwrap().to_bytes(), "");
    }
}

#[tokio::test]
async fn a_stream_may_be_quiet_for_as_long_as_its_route_allows() {
    let (go_on, goes_on) = watch::channel(0);
    let upstream = RawUpstream::start(move |mut wire, head| {
        let mut goes_on = goes_on.clone();
        Box::pin(async move {
            wire.send(HEAD).await;
            let round = if head.contains("?1 ") { 1 } else { 2 };
            if head.contains("/usual") {
                wire.rest().await;
            } else if goes_on.wait_for(|now| *now >= round).await.is_ok() {
                wire.send("3\r\nend\r\n0\r\n\r\n").await;
            }
        })
    })
    .await;
    let routes = [
        "path: /usual, access: public",
        "path: /long, access: public, body_idle_timeout: 1m",
        "path: /unlimited, access: public, body_idle_timeout: unlimited",
    ];
    let gateway = Gateway::start(&config(upstream.address, &routes, "limits: {body_idle_timeout: 200ms}"));
    for (round, client) in [1, 2].into_iter().zip(gateway.both()) {
        let begin = async |path: &str| {
            let mut connection = client.connect().await;
            let stream = within(connection.begin(request("GET", &format!("{path}?{round}")))).await.unwrap();
            (connection, stream.into_body())
        };
        let (_one, long) = begin("/long").await;
        let (_two, unlimited) = begin("/unlimited").await;
        let (_three, usual) = begin("/usual").await;
        assert!(within(usual.collect()).await.is_err(), "it was quiet for too long");
        // The others have been quiet for longer still.
        go_on.send_replace(round);
        for quiet in [long, unlimited] {
            assert_eq!(within(quiet.collect()).await.unwrap().to_bytes(), "end");
        }
    }
}

#[tokio::test]
async fn leaving_a_quiet_stream_is_noticed_and_ends_the_upstream() {
    let (sender, mut gone) = mpsc::channel(2);
    let upstream = RawUpstream::start(move |mut wire, _| {
        let sender = sender.clone();
        Box::pin(async move {
            wire.send(HEAD).await;
            wire.send("1\r\na\r\n").await;
            wire.rest().await;
            sender.send(()).await.unwrap();
        })
    })
    .await;
    let gateway = Gateway::open(upstream.address, "");
    for (path, client) in ["/1", "/2"].into_iter().zip(gateway.both()) {
        let mut connection = client.connect().await;
        let mut stream = within(connection.begin(request("GET", path))).await.unwrap();
        within(stream.body_mut().frame()).await.unwrap().unwrap();
        drop((stream, connection));
        within(gone.recv()).await.unwrap();
        let line = gateway.audit_line(|line| line["url.path"] == path);
        assert_eq!(line["gateway.reason"], "client_gone");
    }
    assert_eq!(Client::new(&gateway).get("/.well-known/jwks.json").await.status, 200);
}
