//! Services that speak HTTP/2 frame by frame, as none would by itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{before, service, yaml};
use crate::support::client::{request, with_body};
use crate::support::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PREFACE, SETTINGS, WHOLE, data, frame, headers,
    rst_stream, settings,
};
use crate::support::upstream::listen;
use crate::support::wire::{Trailed, Wire, within};
use crate::support::{Client, Gateway};

/// A connection past the preface.
pub(crate) struct Service {
    pub(crate) wire: Wire<TcpStream>,
    /// The first connection is 0.
    pub(crate) number: usize,
}

impl Service {
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let head = self.wire.take(9).await;
        let head: [u8; 9] = head.try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.wire.take(length).await;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next stream that is opened, confirming what there is to confirm.
    pub(crate) async fn opened(&mut self) -> Option<Frame> {
        loop {
            let heard = self.next().await?;
            match (heard.kind, heard.flags) {
                (SETTINGS, 0) => self.say(&frame(SETTINGS, ACK, 0, b"")).await,
                (HEADERS, _) => return Some(heard),
                _ => {}
            }
        }
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.wire.send(bytes).await;
    }

    /// 200 with this body.
    pub(crate) async fn answer(&mut self, stream: u32, body: &[u8]) {
        self.say(&[headers(stream, END_HEADERS, &[0x88]), data(stream, END_STREAM, body)].concat()).await;
    }
}

/// Before a service by hand.
async fn gateway<F, Fut>(talk: F) -> Gateway
where
    F: Fn(Service) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    before(by_hand(talk).await)
}

/// Greets and leaves each connection to `talk`.
pub(crate) async fn by_hand<F, Fut>(talk: F) -> SocketAddr
where
    F: Fn(Service) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let connections = AtomicUsize::new(0);
    let talk = Arc::new(talk);
    listen(move |stream| {
        let number = connections.fetch_add(1, Ordering::SeqCst);
        let talk = Arc::clone(&talk);
        async move {
            let mut wire = Wire::new(stream);
            assert_eq!(wire.take(PREFACE.len()).await, PREFACE);
            wire.send(settings(&[])).await;
            talk(Service { wire, number }).await;
        }
    })
    .await
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

#[tokio::test]
async fn a_request_beyond_a_goaway_goes_over_another_connection() {
    for body in ["", "not to be sent twice"] {
        let gateway = gateway(|mut service| async move {
            let first = service.opened().await.unwrap();
            service.answer(first.stream, format!("connection {}", service.number).as_bytes()).await;
            if service.number == 0 {
                let second = service.opened().await.unwrap();
                service.say(&goaway(second.stream - 2, NO_ERROR)).await;
                service.wire.rest().await;
            }
            while service.opened().await.is_some() {}
        })
        .await;
        let client = Client::new(&gateway);
        assert_eq!(client.get("/a").await.body, "connection 0");
        let answer = within(client.send(with_body(request("POST", "/b"), body))).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"connection 1"[..]));
    }
}

#[tokio::test]
async fn requests_begun_before_a_goaway_are_answered() {
    let gateway = gateway(|mut service| async move {
        let first = service.opened().await.unwrap();
        service.say(&goaway(first.stream, NO_ERROR)).await;
        service.answer(first.stream, format!("connection {}", service.number).as_bytes()).await;
        service.wire.rest().await;
    })
    .await;
    let client = Client::new(&gateway);
    for number in 0..3 {
        assert_eq!(within(client.get("/")).await.body, format!("connection {number}"));
    }
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_with_its_whole_body() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&bodies);
    let gateway = gateway(move |mut service| {
        let bodies = Arc::clone(&log);
        async move {
            let mut tries = 0;
            while let Some(opened) = service.opened().await {
                tries += 1;
                let mut body = Vec::new();
                loop {
                    let next = service.next().await.unwrap();
                    if next.kind == DATA {
                        body.extend(&next.payload);
                        if next.ends_stream() {
                            break;
                        }
                    }
                }
                bodies.lock().unwrap().push(String::from_utf8(body).unwrap());
                if tries < 3 {
                    service.say(&rst_stream(opened.stream, REFUSED_STREAM)).await;
                } else {
                    service.answer(opened.stream, b"at last").await;
                }
            }
        }
    })
    .await;
    let answer = within(Client::new(&gateway).send(with_body(request("POST", "/"), "whole"))).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"at last"[..]));
    assert_eq!(*bodies.lock().unwrap(), ["whole", "whole", "whole"]);
}

/// Once for nothing, and then as often as there are retries.
#[tokio::test]
async fn a_peer_that_refuses_everything_is_asked_a_few_times_only() {
    for (retries, expected) in [("none", 2), ("{attempts: 1}", 3), ("{attempts: 3}", 5), ("{on: [reset]}", 2)] {
        let heads = Arc::new(AtomicUsize::new(0));
        let address = refusing(Arc::clone(&heads)).await;
        let upstream = format!("{{servers: [\"http://{address}\"], protocol: http2, retries: {retries}}}");
        let gateway = Gateway::start(&yaml(&upstream));
        let answer = within(Client::new(&gateway).send(with_body(request("POST", "/"), "x"))).await;
        assert_eq!(answer.status, 502);
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "upstream_reset");
        assert_eq!(heads.load(Ordering::SeqCst), expected, "{retries}");
    }
}

#[tokio::test]
async fn many_refused_requests_are_retried_within_the_budget() {
    let heads = Arc::new(AtomicUsize::new(0));
    let address = refusing(Arc::clone(&heads)).await;
    let upstream = format!("{{servers: [\"http://{address}\"], protocol: http2, retries: {{attempts: 5}}}}");
    let gateway = Gateway::start(&yaml(&upstream));
    let client = Client::http2(&gateway);
    let mut connection = client.connect().await;
    for _ in 0..40 {
        assert_eq!(within(connection.send(request("GET", "/"))).await.status, 502);
    }
    // One connection of a client is one worker's, and so is its budget.
    assert_eq!(heads.load(Ordering::SeqCst), 40 + 40 + 30);
}

#[tokio::test]
async fn a_request_refused_by_one_server_goes_whole_to_another() {
    let heads = Arc::new(AtomicUsize::new(0));
    let refusing = refusing(Arc::clone(&heads)).await;
    let (serving, _) = service(None).await;
    let servers = format!("[\"http://{refusing}\", \"http://{serving}\"]");
    let gateway = Gateway::start(&yaml(&format!(
        "{{servers: {servers}, protocol: http2, balance: round_robin, ejection: none}}"
    )));
    let client = Client::new(&gateway);
    let mut bodies = Vec::new();
    for _ in 0..4 {
        let answer = within(client.send(with_body(request("POST", "/x"), "whole"))).await;
        bodies.push(answer.body);
    }
    assert!(bodies.iter().all(|body| *body == format!("POST http://{serving}/x none 5")), "{bodies:?}");
    assert!(heads.load(Ordering::SeqCst) > 0);
}

/// Refuses every stream.
async fn refusing(heads: Arc<AtomicUsize>) -> SocketAddr {
    by_hand(move |mut service| {
        let heads = Arc::clone(&heads);
        async move {
            while let Some(opened) = service.opened().await {
                heads.fetch_add(1, Ordering::SeqCst);
                service.say(&rst_stream(opened.stream, REFUSED_STREAM)).await;
            }
        }
    })
    .await
}

/// Anything but a refusal may have had an effect.
#[tokio::test]
async fn a_request_that_was_reset_or_cut_off_is_not_sent_again() {
    for hangs_up in [false, true] {
        let heads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&heads);
        let gateway = gateway(move |mut service| {
            let count = Arc::clone(&count);
            async move {
                while let Some(opened) = service.opened().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    if hangs_up {
                        return;
                    }
                    service.say(&rst_stream(opened.stream, INTERNAL_ERROR)).await;
                }
            }
        })
        .await;
        let answer = within(Client::new(&gateway).get("/")).await;
        assert_eq!((answer.status, heads.load(Ordering::SeqCst)), (502, 1));
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "upstream_reset");
    }
}

/// Only the end of the stream makes an answer complete, for any reason that the peer gives.
#[tokio::test]
async fn an_answer_that_is_reset_in_its_middle_is_cut_for_the_client() {
    for code in [CANCEL, NO_ERROR, INTERNAL_ERROR] {
        let gateway = gateway(move |mut service| async move {
            while let Some(opened) = service.opened().await {
                let begun = [headers(opened.stream, END_HEADERS, &[0x88]), data(opened.stream, 0, b"the first half")];
                service.say(&begun.concat()).await;
                service.say(&rst_stream(opened.stream, code)).await;
            }
        })
        .await;
        for client in gateway.both() {
            let cut = within(client.connect().await.try_send(request("GET", "/"))).await;
            assert!(cut.is_err(), "{code}: {cut:?}");
        }
    }
}

/// A service that has its answer ready may end the upload so (RFC 9113 §8.1).
#[tokio::test]
async fn a_whole_answer_before_the_end_of_the_upload_is_whole() {
    let gateway = gateway(|mut service| async move {
        while let Some(opened) = service.opened().await {
            service.say(&headers(opened.stream, WHOLE, &[0x8d])).await;
            service.say(&rst_stream(opened.stream, NO_ERROR)).await;
        }
    })
    .await;
    for client in gateway.both() {
        let answer = within(client.send(with_body(request("POST", "/"), vec![0; 1 << 20]))).await;
        assert_eq!(answer.status, 404);
    }
}

/// The queue is ours: that it is long says nothing about the server.
#[tokio::test]
async fn waiting_in_vain_for_capacity_is_overload_without_blame() {
    let address = by_hand(|mut service| async move {
        // One stream, whose answer has no end.
        service.say(&settings(&[(3, 1)])).await;
        let opened = service.opened().await.unwrap();
        service.say(&headers(opened.stream, END_HEADERS, &[0x88])).await;
        service.wire.rest().await;
    })
    .await;
    let upstream = format!(
        "{{servers: [\"http://{address}\"], protocol: http2, max_connections: 1, response_timeout: 300ms, \
         circuit_breaker: {{consecutive_failures: 1, open_for: 60s}}}}"
    );
    let gateway = Gateway::start(&yaml(&upstream));
    let client = Client::new(&gateway);
    let mut connection = client.connect().await;
    let _held = within(connection.begin(request("GET", "/held"))).await.unwrap();
    for _ in 0..2 {
        let answer = within(client.get("/waits")).await;
        assert_eq!(answer.status, 503);
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "overload");
    }
}

/// A peer may give no more room for what has none left to come.
#[tokio::test]
async fn the_end_of_an_upload_and_its_trailers_need_no_room() {
    const BODY: &[u8] = b"all the room";
    let address = by_hand(|mut service| async move {
        service.say(&settings(&[(4, u32::try_from(BODY.len()).unwrap())])).await;
        while let Some(opened) = service.opened().await {
            let mut ended = false;
            while !ended {
                ended = service.next().await.unwrap().ends_stream();
            }
            service.answer(opened.stream, b"whole").await;
        }
    })
    .await;
    let gateway = before(address);
    for client in gateway.both() {
        // The first finds out how much room there is.
        for trailers in [&[][..], &[], &[("x-sum", "1")]] {
            let mut connection = client.connect_for().await.unwrap();
            let body = Trailed::new(BODY, trailers);
            let answer = within(connection.send(request("POST", "/").map(|_| body))).await;
            assert_eq!((answer.status, &answer.body[..]), (200, &b"whole"[..]));
        }
        let answer = within(client.send(with_body(request("POST", "/"), BODY))).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn connections_that_take_no_more_requests_count_as_connections() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let end = Arc::new(Notify::new());
    let ends = Arc::clone(&end);
    let address = by_hand(move |mut service| {
        count.fetch_add(1, Ordering::SeqCst);
        let end = Arc::clone(&ends);
        async move {
            let opened = service.opened().await.unwrap();
            let last = [headers(opened.stream, END_HEADERS, &[0x88]), goaway(opened.stream, NO_ERROR)].concat();
            service.say(&last).await;
            end.notified().await;
            service.say(&data(opened.stream, END_STREAM, b"held")).await;
            service.wire.rest().await;
        }
    })
    .await;
    let upstream =
        format!("{{servers: [\"http://{address}\"], protocol: http2, max_connections: 1, response_timeout: 500ms}}");
    let gateway = Gateway::start(&yaml(&upstream));
    let client = Client::new(&gateway);
    let mut connection = client.connect().await;
    let held = within(connection.begin(request("GET", "/held"))).await.unwrap();
    assert_eq!(within(client.get("/waits")).await.status, 503);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    end.notify_one();
    within(held.into_body().collect()).await.unwrap();
    end.notify_one();
    assert_eq!(within(client.get("/")).await.body, "held");
}

/// Takes longer than other tests, since the silence that is too long is 5 s.
#[tokio::test]
async fn a_dead_connection_is_left_even_if_callers_give_up_early() {
    let gateway = gateway(|mut service| async move {
        // The first request is answered by then: the confirmation of the settings that goes before it is no sign of
        // life later.
        let mut is_first = true;
        while let Some(opened) = service.opened().await {
            if std::mem::take(&mut is_first) || service.number > 0 {
                service.answer(opened.stream, format!("connection {}", service.number).as_bytes()).await;
            }
        }
    })
    .await;
    let client = Client::http2(&gateway);
    assert_eq!(within(client.get("/")).await.body, "connection 0");
    let mut given_up = 0;
    let answered = async {
        loop {
            let mut connection = client.connect().await;
            match timeout(Duration::from_millis(500), connection.send(request("GET", "/"))).await {
                Ok(answer) => return answer.body,
                Err(_) => given_up += 1,
            }
        }
    };
    assert_eq!(within(answered).await, "connection 1");
    assert!(given_up > 1, "{given_up}");
}
