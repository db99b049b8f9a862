//! Behind proxies: whom the gateway believes about who is calling, and what limits, audit log and upstream are told
//! then.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::support::client::{request, with_header};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

const TRUSTING: &str = "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]";

/// A gateway that has this to say about proxies, with `/**` open.
async fn gateway(sections: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, sections);
    (upstream, gateway)
}

fn saying(fields: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    fields.iter().fold(request("GET", "/x"), |request, (name, value)| with_header(request, name, value))
}

/// The client and the peer of the audit log, and the forwarding fields of the upstream.
async fn told(sections: &str, fields: &[(&'static str, &str)]) -> (String, Option<String>, String) {
    let (upstream, gateway) = gateway(sections).await;
    let mut told = Vec::new();
    for client in gateway.both() {
        let answer = client.send(saying(fields)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let line = gateway.audit_of(answer.request_id());
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.headers.get_all("x-forwarded-for").iter().count(), 1);
        let peer = line.get("network.peer.address").map(|peer| peer.as_str().unwrap().to_owned());
        told.push((
            line["client.address"].as_str().unwrap().to_owned(),
            peer,
            seen.header("x-forwarded-for").to_owned(),
        ));
    }
    assert_eq!(told[0], told[1]);
    told.remove(0)
}

#[tokio::test]
async fn no_forwarded_header_is_believed_by_default() {
    for sections in ["", "trusted_proxies: [10.0.0.0/8, \"::1/128\"]"] {
        for value in ["203.0.113.9", "10.0.0.7", "unknown", "fe80::1%eth0", &"203.0.113.9, ".repeat(1000)] {
            let fields = [("x-forwarded-for", value), ("forwarded", "for=192.0.2.1"), ("x-real-ip", "192.0.2.2")];
            assert_eq!(told(sections, &fields).await, ("127.0.0.1".to_owned(), None, "127.0.0.1".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_its_client_is_not() {
    for (fields, client, forwarded_for) in [
        (&[("x-forwarded-for", "203.0.113.9")][..], "203.0.113.9", "203.0.113.9, 127.0.0.1"),
        (&[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.7")], "203.0.113.9", "203.0.113.9, 10.0.0.7, 127.0.0.1"),
        (
            &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9")],
            "203.0.113.9",
            "203.0.113.9, 127.0.0.1",
        ),
        (&[("forwarded", "for=1.1.1.1, for=\"[2001:db8::1]:99\"")], "2001:db8::1", "2001:db8::1, 127.0.0.1"),
        (
            &[("forwarded", "for=203.0.113.9"), ("x-forwarded-for", "203.0.113.9")],
            "203.0.113.9",
            "203.0.113.9, 127.0.0.1",
        ),
        (&[("x-forwarded-for", "garbage, 10.0.0.7")], "10.0.0.7", "10.0.0.7, 127.0.0.1"),
        (&[("x-forwarded-for", &"1.1.1.1, ".repeat(1000))], "1.1.1.1", "1.1.1.1, 127.0.0.1"),
    ] {
        let expected = (client.to_owned(), Some("127.0.0.1".to_owned()), forwarded_for.to_owned());
        assert_eq!(told(TRUSTING, fields).await, expected, "{fields:?}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_without_a_client_counts_for_itself() {
    for fields in [&[][..], &[("x-forwarded-for", "")], &[("x-forwarded-for", "unknown")], &[("forwarded", "for=\"")]] {
        assert_eq!(told(TRUSTING, fields).await, ("127.0.0.1".to_owned(), None, "127.0.0.1".to_owned()), "{fields:?}");
    }
}

#[tokio::test]
async fn headers_that_name_different_clients_refuse_the_request() {
    let (upstream, gateway) = gateway(TRUSTING).await;
    for client in gateway.both() {
        let answer = client.send(saying(&[("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=10.9.9.9")])).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("invalid_request")));
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.reason"], &line["client.address"]), (&"bad_request".into(), &"127.0.0.1".into()));
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn the_upstream_gets_a_standard_forwarded_field_only() {
    let (upstream, gateway) = gateway(TRUSTING).await;
    let fields = [
        ("x-forwarded-for", "203.0.113.9, 10.0.0.7"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-prefix", "/evil"),
        ("x-real-ip", "1.1.1.1"),
        ("x-auth-subject", "forged"),
        ("x-client-cert", "forged"),
    ];
    assert_eq!(Client::new(&gateway).send(saying(&fields)).await.status, 200);
    let seen = upstream.only();
    let forwarded = "for=203.0.113.9, for=10.0.0.7, for=127.0.0.1;host=\"localhost\";proto=https";
    assert_eq!(seen.header("forwarded"), forwarded);
    assert_eq!((seen.header("x-forwarded-host"), seen.header("x-forwarded-proto")), ("localhost", "https"));
    assert_eq!((seen.header("x-real-ip"), seen.header("x-forwarded-port")), ("203.0.113.9", "443"));
    for name in ["x-forwarded-prefix", "x-auth-subject", "x-client-cert"] {
        assert_eq!(seen.headers.get(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_trusted_proxys_request_id_is_kept_and_a_strangers_is_not() {
    for (sections, id, kept) in [
        (TRUSTING, "7b3c6a52-4a0e-4d61-9f63-0a6a2f5bb9f5", true),
        (TRUSTING, "has space", false),
        (TRUSTING, &*"a".repeat(129), false),
        ("", "7b3c6a52-4a0e-4d61-9f63-0a6a2f5bb9f5", false),
    ] {
        let (upstream, gateway) = gateway(sections).await;
        for client in gateway.both() {
            let answer = client.send(saying(&[("x-request-id", id)])).await;
            assert_eq!(answer.request_id() == id, kept, "{id}");
            assert_eq!(upstream.seen().pop().unwrap().header("x-request-id"), answer.request_id());
            gateway.audit_of(answer.request_id());
        }
    }
}

#[tokio::test]
async fn limits_by_address_are_the_clients_own_behind_a_trusted_proxy() {
    let upstream = Upstream::start().await;
    let route = "path: /x, access: public, rate_limits: [{rate: 1/h, burst: 2, per: address}]";
    let gateway = Gateway::start(&config(upstream.address, &[route], &format!("workers: 2\n{TRUSTING}")));
    let client = Client::new(&gateway);
    let mut got = Vec::new();
    for address in [
        "203.0.113.9",
        "1.1.1.1, 203.0.113.9",
        "203.0.113.9:99",
        "203.0.113.10",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8::3",
        "2001:db8:0:1::1",
    ] {
        got.push(client.send(saying(&[("x-forwarded-for", address)])).await.status);
    }
    assert_eq!(got, [200, 200, 429, 200, 200, 200, 429, 200]);
}
