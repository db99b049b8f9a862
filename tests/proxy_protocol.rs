//! The PROXY protocol: a load balancer says for whom it connects, before TLS, and only those that are trusted may.

use tokio::net::TcpStream;

use crate::support::client::{Connection, request, with_header};
use crate::support::wire::Wire;
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway, Upstream};

const TLS: &str = "tls: {certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]}";
const V1: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xcb\0\x71\x09\xc0\0\x02\x01\x12\x67\x01\xbb\x04\0\x01x";

/// A gateway whose first listener wants PROXY headers, from these.
async fn gateway(trusted: &str, limits: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let listeners = format!(
        "listeners: [{{address: 127.0.0.1:0, proxy_protocol: true, {TLS}}}, {{address: 127.0.0.1:0, proxy_protocol: true}}]"
    );
    let sections = format!("{listeners}\ntrusted_proxies: [{trusted}]\nlimits: {{{limits}}}");
    let gateway = Gateway::start(&config(upstream.address, &["path: /**, access: public"], &sections));
    (upstream, gateway)
}

/// A connection that begins with this, the rest in pieces of `step`.
async fn introduced(client: &Client, header: &[u8], step: usize) -> TcpStream {
    let mut wire = Wire::new(client.tcp().await.unwrap());
    for piece in header.chunks(step) {
        wire.send(piece).await;
    }
    wire.stream
}

async fn asked(client: &Client, header: &[u8], step: usize, x_forwarded_for: Option<&str>) -> Answer {
    let stream = client.tls_on(introduced(client, header, step).await).await.unwrap();
    let mut connection: Connection = Box::pin(Client::over(stream)).await.unwrap();
    let said = x_forwarded_for.map(|value| with_header(request("GET", "/x"), "x-forwarded-for", value));
    connection.send(said.unwrap_or_else(|| request("GET", "/x"))).await
}

#[tokio::test]
async fn a_client_named_by_a_trusted_load_balancer_is_the_client() {
    let (upstream, gateway) = gateway("127.0.0.0/8", "").await;
    for client in gateway.both() {
        for header in [V1, V2] {
            for step in [1, 20, 1000] {
                let answer = asked(&client, header, step, Some("1.1.1.1")).await;
                let line = gateway.audit_of(answer.request_id());
                assert_eq!(
                    (&line["client.address"], &line["network.peer.address"]),
                    (&"203.0.113.9".into(), &"127.0.0.1".into())
                );
                assert_eq!(upstream.seen().pop().unwrap().header("x-forwarded-for"), "203.0.113.9");
            }
        }
    }
}

#[tokio::test]
async fn in_clear_text_too_and_with_the_request_in_the_same_breath() {
    let (_upstream, gateway) = gateway("127.0.0.0/8", "").await;
    let mut wire = Wire::new(Client::plain(gateway.addresses[1]).tcp().await.unwrap());
    wire.send([V1, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
    let answer = wire.answer().await.unwrap();
    let line = gateway.audit_of(answer.header("x-request-id").unwrap());
    assert_eq!((answer.status, &line["client.address"]), (200, &"203.0.113.9".into()));
}

#[tokio::test]
async fn a_load_balancer_may_connect_for_itself_or_an_unknown_client() {
    let (_upstream, gateway) = gateway("127.0.0.0/8", "").await;
    let client = Client::new(&gateway);
    for (header, forwarded, expected) in [
        (&b"PROXY UNKNOWN\r\n"[..], None, "127.0.0.1"),
        // The fields of an unknown client are not the load balancer's.
        (b"PROXY UNKNOWN\r\n", Some("1.1.1.1"), "127.0.0.1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", None, "127.0.0.1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", Some("203.0.113.9"), "203.0.113.9"),
        // A proxy behind the load balancer.
        (b"PROXY TCP4 127.0.0.2 127.0.0.1 1 2\r\n", Some("203.0.113.9"), "203.0.113.9"),
    ] {
        let answer = asked(&client, header, 1000, forwarded).await;
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["client.address"]), (200, &expected.into()), "{line}");
    }
}

#[tokio::test]
async fn a_connection_without_a_valid_proxy_header_is_closed() {
    let (upstream, gateway_) = gateway("127.0.0.0/8", "").await;
    let client = Client::new(&gateway_);
    assert!(client.tls().await.is_err());
    for bad in [
        &b"PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n"[..],
        b"PROXY TCP5 203.0.113.9 192.0.2.1 4711 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        &[b'P'; 200],
        &[&V1[..V1.len() - 2], &[b' '; 200]].concat(),
    ] {
        let mut wire = Wire::new(introduced(&client, bad, 1000).await);
        assert_eq!(wire.rest().await, b"");
    }
    let (_, stranger) = gateway("10.0.0.0/8, \"::1/128\"", "").await;
    let client = Client::new(&stranger);
    for header in [V1, V2] {
        assert!(client.tls_on(introduced(&client, header, 1000).await).await.is_err());
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_header_that_does_not_come_ends_with_the_handshake_timeout() {
    let (_upstream, gateway) = gateway("127.0.0.0/8", "handshake_timeout: 200ms, first_request_timeout: 1h").await;
    for address in &gateway.addresses {
        for begun in [&b""[..], b"P", &V1[..20], &V2[..20]] {
            let mut wire = Wire::new(Client::plain(*address).tcp().await.unwrap());
            wire.send(begun).await;
            assert_eq!(wire.rest().await, b"");
        }
    }
    let mut wire = Wire::new(introduced(&Client::new(&gateway), V1, 1000).await);
    assert_eq!(wire.rest().await, b"", "header and TLS share one deadline");
}

#[tokio::test]
async fn connections_are_counted_by_the_named_client() {
    let (_upstream, gateway) = gateway("127.0.0.0/8", "connections_per_address: 1").await;
    let client = Client::new(&gateway);
    let first = client.tls_on(introduced(&client, V1, 1000).await).await.unwrap();
    assert!(client.tls_on(introduced(&client, V2, 1000).await).await.is_err());
    let other = b"PROXY TCP4 203.0.113.10 192.0.2.1 4711 443\r\n";
    let _other = client.tls_on(introduced(&client, other, 1000).await).await.unwrap();
    drop(first);
    let again = async { while client.tls_on(introduced(&client, V1, 1000).await).await.is_err() {} };
    crate::support::wire::within(again).await;
}
