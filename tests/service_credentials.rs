//! The credential of a service itself: every request to its servers has it, no other request does, and no output shows
//! it.

use std::fs;
use std::net::SocketAddr;

use http::Response;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::mpsc;

use crate::support::client::{request, with_header, with_token};
use crate::support::command::run;
use crate::support::gateway::{folder, program};
use crate::support::upstream::{Seen, by_http2};
use crate::support::wire::{RawUpstream, Trailed, Wire, field, within};
use crate::support::world::{SECRET as CLIENT_SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const SECRET: &str = "hunter2-hunter2";
const BEARER: &str = "authorization: {bearer: \"${TOKEN}\"}";
const BEARER_FIELD: &str = "Bearer hunter2-hunter2";
const KEY: &str = "authorization: {header: X-Api-Key, value: \"${TOKEN}\"}";

fn upstreams(legacy: SocketAddr, keys: &str) -> String {
    format!("upstreams: {{legacy: {{servers: [\"http://{legacy}\"], {keys}}}}}")
}

/// A gateway whose upstream `legacy` has these keys.
fn gateway(legacy: SocketAddr, keys: &str, routes: &[&str]) -> Gateway {
    start(&config(legacy, routes, &upstreams(legacy, keys)))
}

fn start(yaml: &str) -> Gateway {
    Gateway::start_in(folder(), yaml, &[("TOKEN", SECRET)])
}

fn values<'s>(seen: &'s Seen, name: &str) -> Vec<&'s str> {
    seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn the_service_gets_its_credential_and_never_the_callers_field() {
    for (keys, name, expected) in [
        (BEARER, "authorization", BEARER_FIELD),
        (
            "authorization: {basic: {user: gateway, password: \"${TOKEN}\"}}",
            "authorization",
            "Basic Z2F0ZXdheTpodW50ZXIyLWh1bnRlcjI=",
        ),
        (KEY, "x-api-key", SECRET),
        ("authorization: {header: Authorization, value: \"Token ${TOKEN}\"}", "authorization", "Token hunter2-hunter2"),
    ] {
        let upstream = Upstream::start().await;
        let routes = ["path: /open, access: public", "path: /closed, access: {}"];
        let gateway = gateway(upstream.address, keys, &routes);
        let token = Client::new(&gateway).granted("app", CLIENT_SECRET, "").await;
        for client in gateway.both() {
            for path in ["/open", "/closed"] {
                let mut sent = request("GET", path);
                if path == "/closed" {
                    sent = with_token(sent, &token);
                }
                if path == "/open" || name != "authorization" {
                    sent = with_header(sent, name, "Bearer forged");
                }
                assert_eq!(client.send(sent).await.status, 200, "{keys} {path}");
                let seen = upstream.seen().pop().unwrap();
                assert_eq!(values(&seen, name), [expected], "{keys} {path}");
            }
        }
    }
}

#[tokio::test]
async fn another_field_passes_beside_the_credential() {
    let upstream = Upstream::start().await;
    let gateway = gateway(upstream.address, KEY, &["path: /x, access: {}, forward_token: true"]);
    let client = Client::new(&gateway);
    let token = client.granted("app", CLIENT_SECRET, "").await;
    assert_eq!(client.get_with("/x", &token).await.status, 200);
    assert_eq!(upstream.only().header("authorization"), format!("Bearer {token}"));
    assert_eq!(upstream.only().header("x-api-key"), SECRET);
}

/// CGI, WSGI and PHP read `X_Api_Key` as `X-Api-Key`.
#[tokio::test]
async fn no_name_that_a_service_may_read_as_the_credentials_passes() {
    let upstream = Upstream::start().await;
    let gateway = gateway(upstream.address, KEY, &["path: /open, access: public"]);
    for client in gateway.both() {
        for name in ["x_api_key", "x-api_key", "x.api.key"] {
            assert_eq!(client.send(with_header(request("GET", "/open"), name, "forged")).await.status, 200);
            let seen = upstream.seen().pop().unwrap();
            assert_eq!((values(&seen, name), values(&seen, "x-api-key")), (vec![], vec![SECRET]), "{name}");
        }
    }
}

#[tokio::test]
async fn no_trailer_has_the_name_of_the_credential() {
    let (sender, mut trailers) = mpsc::unbounded_channel();
    let service = by_http2(move |request| {
        let sender = sender.clone();
        async move {
            let collected = request.into_body().collect().await.unwrap();
            sender.send(collected.trailers().cloned().unwrap_or_default()).unwrap();
            Response::new(Full::<bytes::Bytes>::default())
        }
    })
    .await;
    let gateway = gateway(service, &format!("protocol: http2, {KEY}"), &["path: /x, access: public"]);
    let both = [("x-api-key", "forged"), ("x_api_key", "forged")];
    for (sent, left) in [(&[both[0], both[1], ("x-sum", "1")][..], &["x-sum"][..]), (&both, &[])] {
        let request = request("POST", "/x").map(|_| Trailed::new(b"abc", sent));
        let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
        assert_eq!(within(connection.begin(request)).await.unwrap().status(), 200);
        let trailers = within(trailers.recv()).await.unwrap();
        assert_eq!(trailers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), left);
    }
}

#[tokio::test]
async fn no_other_upstream_gets_the_credential() {
    let (legacy, other) = (Upstream::start().await, Upstream::start().await);
    let mine = format!("legacy: {{servers: [\"http://{}\"], {KEY}}}", legacy.address);
    let sections = format!("upstreams: {{{mine}, other: \"http://{}\"}}", other.address);
    let routes = [
        "path: /to-other, access: public, upstream: other",
        "path: /copied-to-other, access: public, mirror: {upstream: other}",
        "path: /copied-to-legacy, access: public, upstream: other, mirror: {upstream: legacy}",
    ];
    let gateway = start(&config(legacy.address, &routes, &sections));
    let client = Client::new(&gateway);
    let send = async |path| {
        client.send(with_header(request("GET", path), "x-api-key", "callers")).await;
        if path != "/to-other" {
            while legacy.seen().is_empty() || other.seen().is_empty() {
                tokio::task::yield_now().await;
            }
        }
        let [mine, others] = [&legacy, &other].map(|upstream| upstream.seen().pop());
        legacy.forget();
        other.forget();
        let keys = |seen: Option<Seen>| seen.map(|seen| values(&seen, "x-api-key").join("+"));
        (keys(mine), keys(others))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(send("/to-other").await, (None, text("callers")));
    // The copy is the request as its own upstream gets it, without its credential.
    assert_eq!(send("/copied-to-other").await, (text(SECRET), text("")));
    assert_eq!(send("/copied-to-legacy").await, (text(SECRET), text("callers")));
}

#[tokio::test]
async fn a_retry_at_another_server_has_the_credential_once() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let busy = |_: &Seen| Response::builder().status(503).body(Full::default()).unwrap();
    let upstream = Upstream::answering(busy).await;
    let keys = format!(
        "legacy: {{servers: [\"http://{closed}\", \"http://{}\"], balance: round_robin, ejection: none, {BEARER}, \
         retries: {{attempts: 2, on: [connect, 503]}}}}",
        upstream.address
    );
    let yaml = config(upstream.address, &["path: /x, access: public"], &format!("upstreams: {{{keys}}}"));
    let gateway = start(&yaml);
    for _ in 0..4 {
        Client::new(&gateway).get("/x").await;
    }
    assert!(upstream.seen().len() >= 4);
    for seen in upstream.seen() {
        assert_eq!(values(&seen, "authorization"), [BEARER_FIELD]);
    }
}

#[tokio::test]
async fn an_http2_service_gets_its_credential() {
    let (sender, mut checks) = mpsc::unbounded_channel();
    let service = by_http2(move |request| {
        let values = request.headers().get_all("authorization").iter().map(|value| value.to_str().unwrap());
        let values = values.collect::<Vec<_>>().join("+");
        if request.uri().path() == "/ping" {
            let _ = sender.send(values.clone());
        }
        async move { Response::new(Full::<bytes::Bytes>::from(values)) }
    })
    .await;
    let keys = format!("protocol: http2, {BEARER}, health_check: {{path: /ping, interval: 20ms}}");
    let gateway = gateway(service, &keys, &["path: /x, access: public"]);
    for client in gateway.both() {
        let answer = client.send(with_header(request("GET", "/x"), "authorization", "Basic Zm9yZ2Vk")).await;
        assert_eq!(answer.body, BEARER_FIELD);
    }
    assert_eq!(within(checks.recv()).await.unwrap(), BEARER_FIELD);
}

#[tokio::test]
async fn handshakes_and_health_checks_have_the_credential() {
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    let upstream = RawUpstream::saying_and_staying(agreed).await;
    let tunnels = gateway(upstream.address, BEARER, &["path: /x, access: public, upgrades: [tcp]"]);
    let mut wire = Wire::new(Client::new(&tunnels).tls().await.unwrap());
    let fields = "Host: a\r\nAuthorization: Basic Zm9yZ2Vk\r\nConnection: Upgrade\r\nUpgrade: tcp";
    wire.send(format!("GET /x HTTP/1.1\r\n{fields}\r\n\r\n")).await;
    assert_eq!(wire.answer().await.unwrap().status, 101);
    let [head] = &upstream.heads()[..] else { panic!("{:?}", upstream.heads()) };
    assert_eq!(field(head, "authorization"), Some(BEARER_FIELD));
    assert_eq!(head.to_ascii_lowercase().matches("authorization").count(), 1);

    let checked = Upstream::start().await;
    let keys = format!("{KEY}, health_check: {{path: /ping, interval: 20ms}}");
    let _gateway = gateway(checked.address, &keys, &["path: /x, access: {}"]);
    while checked.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(values(&checked.seen()[0], "x-api-key"), [SECRET]);
}

/// The credential is the same for all callers, so their requests share connections.
#[tokio::test]
async fn a_callers_ntlm_neither_passes_nor_pins_a_connection() {
    let upstream = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            loop {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                let Some(head) = wire.head().await else { break };
                assert_eq!(field(&head, "authorization"), Some(BEARER_FIELD));
            }
        })
    })
    .await;
    let gateway = gateway(upstream.address, BEARER, &["path: /x, access: public"]);
    for _ in 0..3 {
        let ntlm = with_header(request("GET", "/x"), "authorization", "NTLM TlRMTVNTUAABAAAA");
        assert_eq!(Client::new(&gateway).send(ntlm).await.status, 200);
    }
    assert_eq!(upstream.connections(), 1);
    assert_eq!(field(&upstream.heads()[0], "authorization"), Some(BEARER_FIELD));
}

/// The warnings of `check`, and all that it prints.
fn checked(keys: &str, route: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = folder();
    let legacy: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let yaml = config(legacy, &[route], &format!("{}\nallow_literal_secrets: false", upstreams(legacy, keys)));
    let yaml = yaml.replace("{value: correct horse battery staple}", "{value: \"${CLIENT}\"}");
    fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let mut command = program(&folder);
    let finished = run(command.args(arguments).env("TOKEN", SECRET).env("CLIENT", CLIENT_SECRET));
    fs::remove_dir_all(folder).unwrap();
    (finished.code, finished.stdout + &finished.stderr)
}

#[test]
fn a_public_route_to_a_service_with_a_credential_is_warned_of() {
    for (route, warns) in [
        ("path: /x, access: public", true),
        ("path: /x, access: {}", false),
        ("path: /x, access: {}, mirror: {upstream: legacy}", false),
    ] {
        let (code, text) = checked(KEY, route, &["check"]);
        assert_eq!(code, Some(0), "{text}");
        let is_warned = text.contains("this route is public, and upstream `legacy` gets the service's own credential");
        assert_eq!(is_warned, warns, "{route}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_key_that_the_credential_makes_useless_is_refused() {
    for (keys, route, message) in [
        (BEARER, "path: /x, access: {}, forward_token: true", "never the token: remove `forward_token`"),
        (KEY, "path: /x, access: {}, headers: {set: {x-api-KEY: a}}", "sets this header by its `authorization`"),
        (KEY, "path: /x, access: {}, headers: {add: {X-Api-Key: a}}", "sets this header by its `authorization`"),
    ] {
        let (code, text) = checked(keys, route, &["check"]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(message), "{text}");
    }
    let (code, text) = checked(KEY, "path: /x, access: {}, headers: {remove: [X-Api-Key]}", &["check"]);
    assert_eq!(code, Some(0), "{text}");
}

#[tokio::test]
async fn no_output_of_the_gateway_shows_the_credential() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = config(closed, &["path: /x, access: public, name: x"], &upstreams(closed, BEARER));
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), &yaml).unwrap();
    let mut command = program(&folder);
    command.arg("run").env("TOKEN", SECRET).env("PORTCULLIS_LOG", "trace");
    let gateway = Gateway::spawn(folder, command, true);
    let answer = Client::new(&gateway).get("/x").await;
    assert_eq!(answer.status, 502);
    let line = gateway.audit_of(answer.request_id()).to_string();
    assert!(gateway.log_line("cannot connect to a server").contains("legacy"));
    for text in [line, gateway.log_text(), format!("{answer:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
