//! Upgrade handshakes: valid requests and answers, and the results of invalid ones.

use std::time::Instant;

use super::{ASK, OPEN, YES, asking, echoes, opened, parrot, refusing};
use crate::support::gateway::PATIENCE;
use crate::support::wire::{RawUpstream, Signal, Wire, field, within};
use crate::support::world::config;
use crate::support::{Client, Gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bytes_before_the_agreement_are_passed_on_after_it() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            // Nothing may come before the answer.
            let early = tokio::time::timeout(std::time::Duration::from_millis(100), wire.take(1)).await;
            assert!(early.is_err(), "{early:?}");
            wire.send(format!("{YES}\r\nhello")).await;
            let heard = wire.take(5).await;
            wire.send(heard).await;
        })
    })
    .await;
    let gateway = Gateway::before(upstream.address, &[OPEN]);
    let mut wire = asking(&gateway, "\r\nearly").await;
    let answer = wire.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    assert!(answer.header("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(
        (answer.header("sec-websocket-accept"), answer.header("content-length")),
        (Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), None)
    );
    assert_eq!(wire.rest().await, b"helloearly");
    let [head] = &upstream.heads()[..] else { panic!("{:?}", upstream.heads()) };
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    assert_eq!((field(head, "upgrade"), field(head, "connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(field(head, "sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
}

/// Otherwise a client could hide requests behind a no (request smuggling by a failed upgrade).
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bytes_after_a_refused_upgrade_reach_no_upstream() {
    const HIDDEN: &str = "\r\nGET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (answer, status) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
        ("HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno", 200),
        ("HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 7\r\nContent-Length: 2\r\n\r\nno", 426),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", 502),
    ] {
        let upstream = refusing(answer).await;
        let gateway = Gateway::before(upstream.address, &[OPEN, "path: /hidden, access: public"]);
        let mut wire = asking(&gateway, HIDDEN).await;
        let told = wire.answer().await.unwrap();
        assert_eq!((told.status, told.header("connection"), told.header("upgrade")), (status, Some("close"), None));
        // In order, not torn off: TLS has its goodbye.
        let goodbye = within(tokio::io::AsyncReadExt::read(&mut wire.stream, &mut [0; 1])).await;
        assert!(matches!(goodbye, Ok(0)), "{answer}: {goodbye:?}");
        assert_eq!((upstream.heads().len(), upstream.connections()), (1, 1), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_no_has_its_room_at_a_server_until_its_end() {
    let go_on = Signal::default();
    let release = go_on.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let release = release.clone();
        Box::pin(async move {
            wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno").await;
            release.wait().await;
            wire.send("!").await;
            wire.rest().await;
        })
    })
    .await;
    let sections = format!("upstreams: {{legacy: {{servers: [\"http://{}\"], max_connections: 1}}}}", upstream.address);
    let gateway = Gateway::start(&config(upstream.address, &[OPEN], &sections));
    let mut first = asking(&gateway, "\r\n").await;
    assert!(within(first.head()).await.unwrap().starts_with("HTTP/1.1 403 "));
    let refused = asking(&gateway, "\r\n").await.answer().await.unwrap();
    assert_eq!((refused.status, upstream.connections()), (503, 1));
    go_on.give();
    assert_eq!(within(first.take(3)).await, b"no!");
    // The answer's end and its connection's come one after the other.
    let deadline = Instant::now() + PATIENCE;
    while upstream.connections() == 1 {
        assert!(Instant::now() < deadline);
        asking(&gateway, "\r\n").await.head().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_has_heard_a_no_carries_no_other_request() {
    let upstream = refusing("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let gateway = Gateway::before(upstream.address, &[OPEN, "path: /other, access: public"]);
    assert_eq!(asking(&gateway, "\r\n").await.answer().await.unwrap().status, 403);
    assert_eq!(Client::new(&gateway).get("/other").await.status, 403);
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_yes_to_something_else_is_none() {
    let other = |from: &str, to: &str| {
        assert!(YES.contains(from));
        format!("{}\r\nsmuggled", YES.replace(from, to))
    };
    let answers = [
        other("s3pPLM", "x3pPLM"),
        other("Sec-WebSocket-Accept", "X-Accept"),
        other("Upgrade: websocket", "Upgrade: h2c"),
        other("Upgrade: websocket", "Upgrade: websocket, h2c"),
        other("Upgrade: websocket", "X-Upgrade: websocket"),
        other("Connection: Upgrade", "Connection: close"),
        format!("{YES}Sec-WebSocket-Protocol: other\r\n\r\nsmuggled"),
        format!("{YES}Sec-WebSocket-Extensions: x-other\r\n\r\nsmuggled"),
        format!("{YES}Upgrade: h2c\r\n\r\nsmuggled"),
    ];
    for answer in answers {
        let upstream = RawUpstream::saying_and_staying(answer.clone()).await;
        let gateway = Gateway::before(upstream.address, &[OPEN]);
        let mut wire = asking(&gateway, "Sec-WebSocket-Protocol: chat\r\n\r\n").await;
        let told = wire.answer().await.unwrap();
        assert_eq!(told.status, 502, "{answer}");
        assert!(wire.rest().await.is_empty(), "{answer}");
        let line = gateway.audit_line(|line| line["http.route"] == "chat");
        assert_eq!(line["gateway.reason"], "upstream_protocol", "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_unsolicited_yes_is_none() {
    let upstream = RawUpstream::saying_and_staying(format!("{YES}\r\n")).await;
    let gateway = Gateway::before(upstream.address, &[OPEN]);
    for client in gateway.both() {
        assert_eq!(client.get("/chat").await.status, 502);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_yes_that_comes_late_is_a_timeout() {
    let upstream = RawUpstream::start(|mut wire, _| Box::pin(async move { drop(wire.rest().await) })).await;
    let gateway = Gateway::before(upstream.address, &["path: /chat, access: public, websocket: true, timeout: 200ms"]);
    let mut wire = asking(&gateway, "\r\nearly").await;
    assert_eq!(wire.answer().await.unwrap().status, 504);
    assert!(wire.rest().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn malformed_token_requests_are_refused() {
    let upstream = parrot().await;
    let gateway = Gateway::before(upstream.address, &["path: /chat, access: public, websocket: true, upgrades: [tcp]"]);
    for (from, to) in [
        ("Upgrade: websocket", "Upgrade: websocket, tcp"),
        ("Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: tcp"),
        ("Version: 13", "Version: 12"),
        ("Version: 13", "Version: 13, 12"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ("GET", "POST"),
        ("GET", "HEAD"),
        ("Host: localhost", "Host: localhost\r\nContent-Length: 5"),
        ("Host: localhost", "Host: localhost\r\nContent-Length: 5\r\nExpect: 100-continue"),
        ("Host: localhost", "Host: localhost\r\nTransfer-Encoding: chunked"),
    ] {
        assert!(ASK.contains(from));
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send(format!("{}\r\n", ASK.replace(from, to))).await;
        let told = wire.answer().await.unwrap();
        assert_eq!((told.status, told.header("connection")), (400, Some("close")), "{to}");
    }
    assert_eq!(upstream.connections(), 0);
}

/// As if the fields were not there: they are hop-by-hop, and stay behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_for_another_protocol_is_an_ordinary_request() {
    let upstream = RawUpstream::start(|mut wire, head| {
        Box::pin(async move {
            if field(&head, "content-length") == Some("5") {
                assert_eq!(wire.take(5).await, b"hello");
            }
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        })
    })
    .await;
    let gateway = Gateway::before(upstream.address, &[OPEN, "path: /closed, access: public"]);
    let mut cases = vec![
        ASK.replace("Upgrade: websocket", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA") + "\r\n",
        ASK.replace("Connection: Upgrade", "Connection: keep-alive") + "\r\n",
        ASK.replace("HTTP/1.1", "HTTP/1.0") + "\r\n",
    ];
    let closed = ASK.replace("/chat", "/closed");
    cases.push(format!("{closed}\r\n"));
    cases.push(format!("{}Content-Length: 5\r\n\r\nhello", closed.replace("GET", "POST")));
    cases.push(closed.replace("Upgrade: websocket", "Upgrade: websocket, h2c") + "\r\n");
    for case in cases {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send(&case).await;
        assert_eq!(wire.answer().await.unwrap().status, 200, "{case}");
        let head = upstream.heads().pop().unwrap();
        let hop_by_hop = ["upgrade", "http2-settings"].map(|name| field(&head, name));
        assert_eq!((hop_by_hop, field(&head, "connection")), ([None, None], Some("keep-alive")), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn other_protocols_are_opened_one_by_one() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\nConnection: upgrade\r\n\r\n").await;
            // After one side has ended, the other may still answer.
            let heard = wire.rest().await;
            wire.send([&b"heard "[..], &heard].concat()).await;
        })
    })
    .await;
    let gateway =
        Gateway::before(upstream.address, &["path: /attach, methods: [POST], access: public, upgrades: [tcp]"]);
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send(
        "POST /attach HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: TCP\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let answer = wire.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("tcp")));
    wire.send("all there is").await;
    within(tokio::io::AsyncWriteExt::shutdown(&mut wire.stream)).await.unwrap();
    assert_eq!(wire.rest().await, b"heard all there is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connection_listed_fields_do_not_remove_the_handshake() {
    let upstream = parrot().await;
    let gateway = Gateway::before(upstream.address, &[OPEN]);
    let mut wire = opened(&gateway, "Connection: Sec-WebSocket-Key, Sec-WebSocket-Version\r\n").await;
    echoes(&mut wire, "hello").await;
    let head = &upstream.heads()[0];
    assert_eq!(field(head, "sec-websocket-version"), Some("13"), "{head}");
}
