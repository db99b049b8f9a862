//! Upstreams that fail: each failure has its answer and its reason, and no answer that was cut ever looks whole.

use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client::{request, with_body};
use crate::support::port::free_port;
use crate::support::wire::{Piped, RawUpstream, Signal, Wire, within};
use crate::support::world::config;
use crate::support::{Client, Gateway};

/// Short enough to wait for, long enough for an honest upstream on a busy machine.
const SOON: &str = "300ms";

fn gateway(upstream: &RawUpstream) -> Gateway {
    let route = format!("path: /**, access: public, name: all, timeout: {SOON}");
    let limits = format!("limits: {{body_idle_timeout: {SOON}}}");
    Gateway::start(&config(upstream.address, &[&route], &limits))
}

/// The client gets this status and the audit log this reason, over either protocol.
async fn answers(gateway: &Gateway, status: u16, reason: &str) {
    for client in gateway.both() {
        let answer = within(client.get("/x")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["error"], if status == 504 { "gateway_timeout" } else { "bad_gateway" });
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &reason.into()));
        assert_eq!(line["http.response.status_code"], status);
    }
}

/// An upstream that says this and closes is 502 with this reason.
async fn is_502(said: impl Into<Bytes>, reason: &str) {
    answers(&gateway(&RawUpstream::saying(said).await), 502, reason).await;
}

/// The client sees the connection or stream break: nobody can take what there is for all.
async fn breaks(upstream: &RawUpstream, reason: &str) {
    let gateway = gateway(upstream);
    for (path, client) in ["/1", "/2"].into_iter().zip(gateway.both()) {
        let answer = within(client.connect().await.try_send(request("GET", path))).await;
        assert!(answer.is_err(), "{answer:?}");
        let line = gateway.audit_line(|line| line["url.path"] == path);
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &reason.into()));
        assert_eq!(line["http.response.status_code"], 200);
    }
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let said = String::from_utf8(wire.rest().await).unwrap();
    assert!(!said.ends_with("0\r\n\r\n"), "{said}");
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_502() {
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    nobody.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = nobody.local_addr().unwrap().as_socket().unwrap();
    answers(&Gateway::open(address, ""), 502, "upstream_connect").await;
}

#[tokio::test]
async fn an_upstream_that_takes_no_connection_is_504() {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    // One connection fills a queue of none; the kernel drops the next one's first packet.
    let _filling = TcpStream::connect(address).await.unwrap();
    let upstreams = format!("upstreams: {{legacy: {{servers: [\"http://{address}\"], connect_timeout: {SOON}}}}}");
    answers(&Gateway::open(address, &upstreams), 504, "upstream_timeout").await;
}

#[tokio::test]
async fn an_upstream_whose_first_byte_is_late_is_504() {
    answers(&gateway(&RawUpstream::saying_and_staying("").await), 504, "upstream_timeout").await;
}

#[tokio::test]
async fn an_upstream_that_drips_its_head_is_504() {
    let upstream = RawUpstream::saying_and_staying("HTTP/1.1 200 OK\r\nContent-Le").await;
    answers(&gateway(&upstream), 504, "upstream_timeout").await;
}

#[tokio::test]
async fn an_upstream_has_a_deadline_of_its_own() {
    let upstream = RawUpstream::saying_and_staying("").await;
    let upstreams =
        format!("upstreams: {{legacy: {{servers: [\"http://{}\"], response_timeout: {SOON}}}}}", upstream.address);
    answers(&Gateway::open(upstream.address, &upstreams), 504, "upstream_timeout").await;
}

#[tokio::test]
async fn an_upstream_that_only_ever_says_wait_is_502() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move { while wire.stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {} })
    })
    .await;
    answers(&gateway(&upstream), 502, "upstream_protocol").await;
    let hints = |count| "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count);
    let said = hints(16) + "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(Client::new(&gateway(&RawUpstream::saying(said).await)).get("/x").await.body, "ok");
    is_502(hints(17), "upstream_protocol").await;
}

/// It waits for its peer, as the gateway would wait for it.
#[tokio::test]
async fn an_upstream_of_another_protocol_is_502_without_a_wait() {
    let upstream = RawUpstream::saying_and_staying("220 mail.example.com ESMTP\r\n").await;
    answers(&gateway(&upstream), 502, "upstream_protocol").await;
}

#[tokio::test]
async fn hints_before_the_answer_are_not_the_answer() {
    let said = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let gateway = gateway(&RawUpstream::saying(said).await);
    for client in gateway.both() {
        let answer = client.get("/x").await;
        assert_eq!((answer.status, &answer.body[..], answer.headers.get("link")), (200, &b"ok"[..], None));
    }
}

#[tokio::test]
async fn an_upstream_that_closes_before_its_head_is_502() {
    is_502("", "upstream_reset").await;
    is_502("HTTP/1.1 200 OK\r\nContent-", "upstream_reset").await;
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_502() {
    for said in [
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 2OO OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\na",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ] {
        is_502(said, "upstream_protocol").await;
    }
}

/// Also where no body follows, and nobody but the client would look at it.
#[tokio::test]
async fn a_length_that_is_no_number_or_several_is_502_for_head_too() {
    for length in ["+5", "5x", "", "-1", "5, 6", "99999999999999999999", "5\r\nContent-Length: 6"] {
        for (method, status) in [("HEAD", "200 OK"), ("GET", "304 Not Modified")] {
            let said = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
            let gateway = gateway(&RawUpstream::saying(said).await);
            for client in gateway.both() {
                let answer = within(client.send(request(method, "/x"))).await;
                assert_eq!(answer.status, 502, "{method} {status} {length:?}");
                assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "upstream_protocol");
            }
        }
    }
}

#[tokio::test]
async fn a_repeated_length_is_forwarded_once_and_none_with_204() {
    let twice = ["5\r\nContent-Length: 5", "5, 5"].map(|length| (length, "200 OK", "hello", Some("5")));
    for (length, status, body, passed) in twice.into_iter().chain([("5", "204 No Content", "", None)]) {
        let said = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        let gateway = gateway(&RawUpstream::saying(said).await);
        for client in gateway.both() {
            let answer = within(client.get("/x")).await;
            let lengths: Vec<_> =
                answer.headers.get_all("content-length").iter().map(|length| length.to_str().unwrap()).collect();
            assert_eq!((&answer.body[..], lengths), (body.as_bytes(), Vec::from_iter(passed)), "{length:?}");
        }
    }
}

#[tokio::test]
async fn an_unrequested_coding_is_502() {
    for coding in ["gzip, chunked", "gzip", "identity", "xchunked"] {
        is_502(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"), "upstream_protocol").await;
    }
}

#[tokio::test]
async fn an_unrequested_upgrade_is_502_and_no_tunnel() {
    let said = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfree";
    let gateway = gateway(&RawUpstream::saying_and_staying(said).await);
    answers(&gateway, 502, "upstream_protocol").await;
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 502);
}

#[tokio::test]
async fn a_huge_head_is_502() {
    is_502(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(1024 * 1024)), "upstream_protocol").await;
    is_502(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: a\r\n".repeat(10_000)), "upstream_protocol").await;
    is_502(format!("HTTP/1.1 200 OK\r\nset-cookie: {}\r\n\r\n", "a".repeat(100_000)), "upstream_protocol").await;
}

#[tokio::test]
async fn the_limits_of_an_answers_head_are_configurable() {
    let said = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "x: a\r\n".repeat(250));
    let upstream = RawUpstream::saying(said).await;
    answers(&gateway(&upstream), 502, "upstream_protocol").await;
    for (limits, status) in
        [("header_count: 251", 200), ("header_count: 250", 502), ("header_count: 999, header_bytes: 1KiB", 502)]
    {
        let server = format!("servers: [\"http://{}\"]", upstream.address);
        let upstreams = format!("upstreams: {{legacy: {{{server}, answers: {{{limits}}}}}}}");
        let gateway = Gateway::open(upstream.address, &upstreams);
        assert_eq!(Client::new(&gateway).get("/x").await.status, status, "{limits}");
    }
}

#[tokio::test]
async fn an_answer_that_is_shorter_than_announced_breaks() {
    breaks(&RawUpstream::saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await, "upstream_reset").await;
}

#[tokio::test]
async fn a_chunked_answer_that_is_cut_breaks() {
    for cut in ["5\r\nhello\r\n", "5\r\nhel", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0", "5\r\nhello", ""] {
        let said = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{cut}");
        breaks(&RawUpstream::saying(said).await, "upstream_reset").await;
    }
}

#[tokio::test]
async fn a_chunked_answer_with_bad_chunks_breaks() {
    for bad in ["5\r\nhello\r\nzz\r\n", "5\r\nhelloXX", "-1\r\n", "5\r\nhello\r\nFFFFFFFFFFFFFFFFF\r\n"] {
        let said = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{bad}");
        breaks(&RawUpstream::saying_and_staying(said).await, "upstream_protocol").await;
    }
}

#[tokio::test]
async fn an_answer_without_a_length_that_ends_in_a_reset_breaks() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            wire.send("hello".repeat(100_000)).await;
            SockRef::from(&wire.stream).set_linger(Some(Duration::ZERO)).unwrap();
        })
    });
    let gateway = gateway(&upstream.await);
    for client in gateway.both() {
        let answer = within(client.connect().await.try_send(request("GET", "/x"))).await;
        assert!(answer.is_err() || answer.unwrap().status == 502);
    }
}

#[tokio::test]
async fn an_answer_that_stalls_breaks() {
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
    ] {
        breaks(&RawUpstream::saying_and_staying(said).await, "upstream_timeout").await;
    }
}

/// An upstream that has read a request may have done what it says.
#[tokio::test]
async fn a_request_read_and_not_answered_is_502_and_never_resent() {
    let upstream = RawUpstream::start(|mut wire, first| {
        Box::pin(async move {
            if first.contains(" /warm ") {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                wire.head().await;
            }
        })
    })
    .await;
    let gateway = gateway(&upstream);
    for client in gateway.both() {
        for method in ["GET", "POST"] {
            for (warm, connections) in [(false, 1), (true, 1)] {
                let before = upstream.connections();
                if warm {
                    assert_eq!(client.get("/warm").await.status, 200);
                }
                assert_eq!(client.send(with_body(request(method, "/x"), "once")).await.status, 502);
                assert_eq!(upstream.connections() - before, connections, "{method}, over a kept connection: {warm}");
            }
        }
    }
}

#[tokio::test]
async fn an_unreachable_upstream_is_tried_once_a_request_and_recovers() {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gateway = Gateway::open(address, "");
    for _ in 0..3 {
        answers(&gateway, 502, "upstream_connect").await;
        let listener = std::net::TcpListener::bind(address).unwrap();
        let flapping = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").unwrap();
        });
        assert_eq!(within(Client::new(&gateway).get("/x")).await.body, "ok");
        flapping.join().unwrap();
    }
}

#[tokio::test]
async fn an_early_answer_to_an_upload_arrives_though_upstream_closes() {
    let said = "HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 8\r\n\r\ntoo much";
    let gateway = gateway(&RawUpstream::saying(said).await);
    let (sender, body) = Piped::new();
    let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
    let upload = tokio::task::spawn(async move { while sender.send(vec![0; 64 * 1024].into()).await.is_ok() {} });
    let answer = within(connection.try_send(request("POST", "/x").map(|_| body))).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (413, &b"too much"[..]));
    drop(connection);
    within(upload).await.unwrap();
    // Over HTTP/1.1 by hand: the library gives up on reading once it can't write.
    let (read, mut write) = tokio::io::split(Client::new(&gateway).tls().await.unwrap());
    let upload = tokio::task::spawn(async move {
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";
        write.write_all(head.as_bytes()).await.unwrap();
        while write.write_all(&vec![0; 64 * 1024]).await.is_ok() {}
    });
    let answer = Wire::new(read).answer().await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (413, &b"too much"[..]));
    within(upload).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_hangs_up_ends_its_upstream_request() {
    for said in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"] {
        let (reached, ended) = (Signal::default(), Signal::default());
        let (has_reached, has_ended) = (reached.clone(), ended.clone());
        let upstream = RawUpstream::start(move |mut wire, _| {
            let (reached, ended) = (reached.clone(), ended.clone());
            Box::pin(async move {
                wire.send(said).await;
                reached.give();
                wire.rest().await;
                ended.give();
            })
        })
        .await;
        let gateway = Gateway::open(upstream.address, "");
        for (number, client) in gateway.both().iter().enumerate() {
            let mut connection = client.connect().await;
            let path = format!("/{number}");
            let asking = tokio::task::spawn(async move {
                let answer = connection.begin(request("GET", &path)).await;
                // Keeps what has come, and waits for more.
                let (answer, ()) = (answer, std::future::pending().await);
                drop((answer, connection));
            });
            has_reached.wait().await;
            asking.abort();
            has_ended.wait().await;
            let line = gateway.audit_line(|line| line["url.path"] == format!("/{number}"));
            assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &"client_gone".into()));
            assert_eq!(line["http.route"], "all");
        }
    }
}
