//! Scheme, host and port as the public sees them: the statements that the gateway believes, and their effects.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;

use crate::support::client::{request, with_header};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const TRUSTING: &str = "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]";
const BELIEVING: &str = "believe: [scheme, host, port]";
const TLS: &str = "tls: {certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]}";

type Fields<'f> = &'f [(&'static str, &'f str)];

/// A gateway with a listener by TLS, and one in clear text that is not bound to a loopback address.
async fn gateway(keys: &str, sections: &str, route: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let listeners =
        format!("listeners: [{{address: 127.0.0.1:0, {TLS}, {keys}}}, {{address: 0.0.0.0:0, {keys}}}]\n{sections}");
    let gateway = Gateway::start(&config(upstream.address, &[route], &listeners));
    (upstream, gateway)
}

/// Over HTTP/1.1 and HTTP/2 by TLS, and in clear text.
fn clients(gateway: &Gateway) -> [Client; 3] {
    let [http1, http2] = gateway.both();
    [http1, http2, plain(gateway)]
}

fn plain(gateway: &Gateway) -> Client {
    Client::plain(SocketAddr::from(([127, 0, 0, 1], gateway.addresses[1].port())))
}

fn saying(fields: Fields<'_>) -> Request<Full<Bytes>> {
    fields.iter().fold(request("GET", "/x"), |request, (name, value)| with_header(request, name, value))
}

/// The value of a field, of which there is one.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    assert_eq!(headers.get_all(name).iter().count(), 1, "{name}: {headers:?}");
    headers[name].to_str().unwrap()
}

/// Scheme, host and port in the fields of a request, all of which agree.
fn origin(headers: &HeaderMap) -> String {
    let [scheme, host, port] = ["proto", "host", "port"].map(|part| only(headers, &format!("x-forwarded-{part}")));
    let described = format!(";host=\"{host}\";proto={scheme}");
    assert_eq!(only(headers, "forwarded").matches(&described).count(), 1, "{headers:?}");
    assert_eq!(only(headers, "forwarded").matches("proto").count(), 1, "{headers:?}");
    format!("{scheme} {host} {port}")
}

const PUBLIC_ROUTE: &str = "path: /**, access: public";

#[tokio::test]
async fn the_connection_is_described_where_no_proxy_is_believed() {
    let fields = [
        ("x-forwarded-for", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1;host=a;proto=gopher"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example, other.example"),
        ("x-forwarded-port", "zero"),
        ("x-real-ip", "9.9.9.9"),
    ];
    // The fields of other peers are removed, and so are those of a proxy where nothing is believed.
    for (keys, sections, client) in
        [(BELIEVING, "trusted_proxies: [10.0.0.0/8]", "127.0.0.1"), ("proxy_protocol: false", TRUSTING, "1.1.1.1")]
    {
        let (upstream, gateway) = gateway(keys, sections, PUBLIC_ROUTE).await;
        for (client_of, expected) in
            clients(&gateway).iter().zip(["https localhost 443", "https localhost 443", "http localhost 80"])
        {
            assert_eq!(client_of.send(saying(&fields)).await.status, 200);
            let seen = upstream.seen().pop().unwrap().headers;
            assert_eq!((&*origin(&seen), only(&seen, "x-real-ip")), (expected, client));
        }
    }
}

#[tokio::test]
async fn the_port_is_the_one_that_the_caller_named() {
    let (upstream, gateway) = gateway("proxy_protocol: false", "", PUBLIC_ROUTE).await;
    let mut connection = Client::new(&gateway).connect().await;
    for (host, expected) in [("a:8443", "https a:8443 8443"), ("a", "https a 443"), ("a:8443", "https a:8443 8443")] {
        let request = Request::get("/x").header("host", host).body(Full::default()).unwrap();
        assert_eq!(connection.send(request).await.status, 200);
        assert_eq!(origin(&upstream.seen().pop().unwrap().headers), expected);
    }
}

#[tokio::test]
async fn believed_parts_are_passed_on_to_the_service() {
    const CLIENT: (&str, &str) = ("x-forwarded-for", "203.0.113.9");
    let standard = "for=9.9.9.9;proto=http;host=x, for=203.0.113.9;proto=https;host=\"api.example:444\", for=10.0.0.7";
    let cases: [(&str, Fields<'_>, &str); 7] = [
        (BELIEVING, &[CLIENT, ("x-forwarded-proto", "https")], "https localhost 443"),
        (BELIEVING, &[("x-forwarded-proto", "https")], "https localhost 443"),
        (
            BELIEVING,
            &[CLIENT, ("x-forwarded-proto", "https"), ("x-forwarded-host", "api.example"), ("x-forwarded-port", "444")],
            "https api.example:444 444",
        ),
        (BELIEVING, &[("forwarded", standard)], "https api.example:444 444"),
        (BELIEVING, &[("forwarded", standard), ("x-forwarded-host", "api.example:444")], "https api.example:444 444"),
        ("believe: [scheme]", &[("forwarded", standard), ("x-forwarded-port", "zero")], "https localhost 443"),
        (
            "believe: [port]",
            &[CLIENT, ("x-forwarded-port", "8080"), ("x-forwarded-proto", "gopher")],
            "http localhost:8080 8080",
        ),
    ];
    for (keys, fields, expected) in cases {
        let (upstream, gateway) = gateway(keys, TRUSTING, PUBLIC_ROUTE).await;
        let answer = plain(&gateway).send(saying(fields)).await;
        assert_eq!(answer.status, 200, "{fields:?} {answer:?}");
        let seen = upstream.only().headers;
        assert_eq!(origin(&seen), expected, "{fields:?}");
        // Services read the first element or the last: only the client's says more than an address.
        assert!(only(&seen, "forwarded").split(", ").skip(1).all(|element| !element.contains(';')), "{seen:?}");
        assert!(only(&seen, "x-forwarded-for").starts_with(only(&seen, "x-real-ip")), "{seen:?}");
    }
}

#[tokio::test]
async fn a_refused_statement_is_recorded_with_its_rule() {
    const STANDARD: (&str, &str) = ("forwarded", "for=203.0.113.9;proto=https;host=api.example");
    let cases: [(Fields<'_>, &str); 9] = [
        (&[STANDARD, ("x-forwarded-proto", "http")], "forwarded_scheme_contradiction"),
        (&[STANDARD, ("x-forwarded-host", "other.example")], "forwarded_host_contradiction"),
        (&[("x-forwarded-host", "a:8443"), ("x-forwarded-port", "443")], "forwarded_port_contradiction"),
        (&[("x-forwarded-proto", "https, http")], "forwarded_scheme"),
        (&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "https")], "forwarded_scheme"),
        (&[("x-forwarded-proto", "gopher")], "forwarded_scheme"),
        (&[("x-forwarded-host", "a, b")], "forwarded_host"),
        (&[("x-forwarded-host", "a/b")], "forwarded_host"),
        (&[("x-forwarded-port", "65536")], "forwarded_port"),
    ];
    let (upstream, gateway) = gateway(BELIEVING, TRUSTING, PUBLIC_ROUTE).await;
    for (fields, rule) in cases {
        for client in clients(&gateway) {
            let answer = client.send(saying(fields)).await;
            assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("invalid_request")), "{fields:?}");
            let line = gateway.audit_of(answer.request_id());
            assert_eq!((&line["gateway.reason"], &line["gateway.rule"]), (&"bad_request".into(), &rule.into()));
        }
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_believed_scheme_decides_about_secrets() {
    let form = |proto: &str| {
        let body = format!("grant_type=client_credentials&client_id=app&client_secret={}", SECRET.replace(' ', "+"));
        let request = Request::post("https://localhost/oauth/token").header("host", "localhost");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = request.header("x-forwarded-for", "203.0.113.9").header("x-forwarded-proto", proto);
        request.body(Full::<Bytes>::from(body)).unwrap()
    };
    let status = async |keys: &str, sections: &str, proto: &str| {
        let (_, gateway) = gateway(keys, sections, PUBLIC_ROUTE).await;
        let mut statuses = Vec::new();
        for client in clients(&gateway) {
            statuses.push(client.send(form(proto)).await.status);
        }
        statuses
    };
    assert_eq!(status("believe: [scheme]", TRUSTING, "https").await, [200, 200, 200]);
    assert_eq!(status("believe: [scheme]", TRUSTING, "http").await, [403, 403, 403]);
    assert_eq!(status("believe: [host, port]", TRUSTING, "https").await, [200, 200, 403]);
    assert_eq!(status("proxy_protocol: false", TRUSTING, "https").await, [200, 200, 403]);
    assert_eq!(status("believe: [scheme]", "trusted_proxies: [10.0.0.0/8]", "https").await, [200, 200, 403]);
}

#[tokio::test]
async fn a_believed_origin_chooses_no_route_and_no_issuer() {
    let route = "path: /**, access: public, hosts: [localhost], host: preserve";
    let (upstream, gateway) = gateway(BELIEVING, TRUSTING, route).await;
    let stated = [("x-forwarded-host", "api.example"), ("x-forwarded-proto", "https")];
    for client in clients(&gateway) {
        assert_eq!(client.send(saying(&stated)).await.status, 200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!((seen.header("host"), seen.header("x-forwarded-host")), ("localhost", "api.example"));
        let mut metadata = saying(&stated);
        *metadata.uri_mut() = "https://localhost/.well-known/oauth-authorization-server".parse().unwrap();
        assert_eq!(client.send(metadata).await.json()["issuer"], "https://localhost:8443");
        let other = Request::get("https://other.example/x").header("host", "other.example");
        let other = other.header("x-forwarded-host", "localhost").body(Full::default()).unwrap();
        assert_eq!(client.send(other).await.status, 404);
    }
}
