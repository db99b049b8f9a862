//! An answer that breaks off after its head: the client gets that head, so that it does not send the request again.
//!
//! Common clients (curl, browsers, Go) resend a request, a POST too, if a kept connection ends without a byte of the
//! answer.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::frames::{
    END_HEADERS, END_STREAM, Framed, HEADERS, PADDED, RST_STREAM, block, data, headers, rst_stream,
};
use crate::support::wire::{RawUpstream, Signal, Wire, field, within};
use crate::support::{Client, Gateway};
use crate::upstream_http2::by_hand;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
const INTERNAL_ERROR: u32 = 2;

/// After an honest answer over the same connection.
async fn kept(gateway: &Gateway) -> Wire<TlsStream<TcpStream>> {
    let mut wire = Wire::new(Client::new(gateway).tls().await.unwrap());
    wire.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 404);
    wire
}

/// The client is told of the answer before it breaks off, and the audit log says the same.
async fn tells_before_it_breaks(gateway: &Gateway, what: &str) {
    tells_over_http1(gateway, what).await;
    tells_over_http2(gateway, what).await;
}

async fn tells_over_http1(gateway: &Gateway, what: &str) {
    let mut wire = kept(gateway).await;
    wire.send("POST /broken HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nonce").await;
    let said = String::from_utf8(wire.rest().await).unwrap();
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && !said.ends_with("\r\n0\r\n\r\n"), "{what}: {said:?}");
    let line = gateway.audit_of(field(&said, "x-request-id").unwrap());
    let (reason, rule) = (line["gateway.reason"].as_str().unwrap(), line["gateway.rule"].as_str());
    let is_told = (reason, rule) == ("upstream_reset", None) || (reason, rule.is_some()) == ("upstream_protocol", true);
    assert!(is_told, "{what}: {line}");
    assert_eq!(line["http.response.status_code"], 200, "{what}");
}

async fn tells_over_http2(gateway: &Gateway, what: &str) {
    let mut client = Framed::open(gateway).await;
    let head = [(":method", "POST"), (":scheme", "https"), (":path", "/broken"), (":authority", "localhost")];
    client.say(&[headers(1, END_HEADERS, &block(&head)), data(1, END_STREAM, b"once")].concat()).await;
    let told = client.until(|frame| matches!(frame.kind, HEADERS | RST_STREAM)).await.unwrap();
    assert_eq!(told.status(), Some(200), "{what}: {told:?}");
    let end = client.until(|frame| frame.kind == RST_STREAM || frame.ends_stream()).await.unwrap();
    assert_eq!(end.kind, RST_STREAM, "{what}");
}

fn gateway_before(upstream: &RawUpstream) -> Gateway {
    Gateway::before(upstream.address, &["path: /broken, access: public"])
}

#[tokio::test]
async fn a_head_arrives_though_its_body_fails_in_the_same_read() {
    for bad in ["zz\r\n", "-1\r\n", "5\r\nhello\r\nzz\r\n", "5\r\nhelloXX", "FFFFFFFFFFFFFFFFF\r\nhello"] {
        let upstream = RawUpstream::saying_and_staying(format!("{CHUNKED}{bad}")).await;
        tells_before_it_breaks(&gateway_before(&upstream), bad).await;
    }
}

#[tokio::test]
async fn a_head_arrives_though_the_upstream_hangs_up_with_it() {
    for cut in [CHUNKED, LENGTH, &format!("{CHUNKED}5\r\nhel"), &format!("{LENGTH}half")] {
        let upstream = RawUpstream::saying(cut.to_owned()).await;
        tells_before_it_breaks(&gateway_before(&upstream), cut).await;
    }
}

/// The head and the reset may come in the same read, in which case the head is lost before the gateway sees it.
#[tokio::test]
async fn a_reset_with_the_head_is_reported_and_never_silent() {
    for head in [CHUNKED, LENGTH] {
        let upstream = RawUpstream::start(move |mut wire, _| {
            Box::pin(async move {
                wire.take(4).await;
                wire.send(head).await;
                socket2::SockRef::from(&wire.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            })
        })
        .await;
        let gateway = gateway_before(&upstream);
        for _ in 0..20 {
            let mut wire = kept(&gateway).await;
            wire.send("POST /broken HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nonce").await;
            let head = within(wire.head()).await.expect("a head");
            let status = head.split(' ').nth(1).unwrap();
            assert!(matches!(status, "200" | "502"), "{head:?}");
            let line = gateway.audit_of(field(&head, "x-request-id").unwrap());
            assert_eq!(line["http.response.status_code"].to_string(), status);
        }
    }
}

#[tokio::test]
async fn a_head_over_http2_arrives_though_its_stream_fails() {
    let short = || headers(1, END_HEADERS, &[vec![0x88], block(&[("content-length", "5")])].concat());
    let breaks = [
        ("reset", [headers(1, END_HEADERS, &[0x88]), rst_stream(1, INTERNAL_ERROR)].concat()),
        ("fewer bytes than announced", [short(), data(1, END_STREAM, b"abc")].concat()),
        ("more bytes than announced", [short(), data(1, END_STREAM, b"abcdefgh")].concat()),
        ("more padding than payload", [headers(1, END_HEADERS, &[0x88]), data(1, PADDED, b"\x06abc")].concat()),
    ];
    for (what, said) in breaks {
        let address = by_hand::by_hand(move |mut service| {
            let said = said.clone();
            async move {
                service.opened().await.unwrap();
                while !service.next().await.unwrap().ends_stream() {}
                service.say(&said).await;
                service.wire.rest().await;
            }
        })
        .await;
        // Each exchange has an upstream connection of its own: its stream is the first.
        let routes = ["path: /broken, access: public"];
        tells_over_http1(&Gateway::before_http2(address, &routes), what).await;
        tells_over_http2(&Gateway::before_http2(address, &routes), what).await;
    }
}

/// Over HTTP/1.0 and without a length, the end of the connection is the end of the answer. In clear text nothing but a
/// reset tells the two apart.
#[tokio::test]
async fn an_answer_that_is_cut_off_does_not_end_like_a_whole_one() {
    let has_ended = Signal::default();
    let ended = has_ended.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let ended = ended.clone();
        Box::pin(async move {
            wire.send(CHUNKED).await;
            let chunk = [b"4000\r\n", &[b'x'; 0x4000][..], b"\r\n"].concat();
            while wire.stream.write_all(&chunk).await.is_ok() {}
            ended.give();
        })
    })
    .await;
    let sections = "listeners: [{address: 127.0.0.1:0}]\nlimits: {write_stall_timeout: 200ms}";
    let gateway = Gateway::open(upstream.address, sections);
    let mut stream = Client::plain(gateway.addresses[0]).tcp().await.unwrap();
    stream.write_all(b"GET /endless HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    has_ended.wait().await;
    let end = within(stream.read_to_end(&mut Vec::new())).await;
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}
