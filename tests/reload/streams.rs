//! Streams that are open at a reload are judged once by the new configuration. The unchanged ones go on.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;

use crate::support::client::{request, with_header, with_token};
use crate::support::upstream::by_http2;
use crate::support::wire::{Piped, RawUpstream, Wire, within};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway};
use crate::tunnels::{echoes, opened, parrot};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
                    Connection: close\r\n\r\n5\r\nhello\r\n";
const OPEN: &str = "path: /**, access: public, websocket: true, name: all";

/// Begins a stream of events at each request, and keeps it open.
async fn events() -> RawUpstream {
    RawUpstream::saying_and_staying(HEAD).await
}

/// An open stream of events, of which the first has come.
async fn stream(client: &Client, token: &str) -> Response<Incoming> {
    let wanted = request("GET", "/events");
    let wanted = if token.is_empty() { wanted } else { with_token(wanted, token) };
    let mut answer = within(client.connect().await.begin(wanted)).await.unwrap();
    let first = within(answer.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(first.data_ref().unwrap(), "hello");
    answer
}

/// The end of a stream that the gateway cuts, and its line in the audit log.
async fn is_cut(gateway: &Gateway, answer: Response<Incoming>) {
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(within(answer.into_body().collect()).await.is_err(), "it looks complete");
    let line = gateway.audit_of(&id);
    assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &"reload_closed".into()));
}

/// A route to `/events` with this rule of access and these keys.
fn ruled(access: &str) -> String {
    format!("name: events, path: /events, access: {access}")
}

#[tokio::test]
async fn event_streams_that_would_not_be_let_in_end() {
    let upstream = events().await;
    let good = ruled("{scopes: [read:data]}");
    let yaml = |route: &str, sections: &str| config(upstream.address, &[route], sections);
    let gateway = Gateway::start(&yaml(&good, ""));
    let token = Client::new(&gateway).granted("app", SECRET, "scope=read:data").await;
    for (route, sections) in [
        (ruled("{scopes: [write:data]}"), ""),
        (ruled("{scopes: [read:data], clients: [other]}"), ""),
        (ruled("{scopes: [read:data], audiences: [https://other.example.com]}"), ""),
        (ruled("{scopes: [read:data], claims: {team: red}}"), ""),
        (format!("{good}, deny_from: [127.0.0.0/8]"), ""),
        (good.replace("/events", "/elsewhere"), ""),
        (format!("{good}, methods: [POST]"), ""),
        // The last one: removed entries end later.
        (good.clone(), "revoked: [{client: app}]"),
    ] {
        gateway.reloads(&yaml(&good, ""));
        let [one, two] = gateway.both();
        let open = [stream(&one, &token).await, stream(&two, &token).await];
        gateway.reloads(&yaml(&route, sections));
        for open in open {
            is_cut(&gateway, open).await;
        }
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_client_and_others_go_on() {
    let upstream = events().await;
    let yaml = config(upstream.address, &[&ruled("{scopes: [read:data]}")], "");
    let gateway = Gateway::start(&yaml);
    let client = Client::new(&gateway);
    let [app, other] = [client.granted("app", SECRET, "").await, client.granted("other", SECRET, "").await];
    let (kept, removed) = (stream(&client, &app).await, stream(&client, &other).await);
    let only_app: String =
        yaml.lines().filter(|line| !line.contains("other:")).map(|line| format!("{line}\n")).collect();
    gateway.reloads(&only_app);
    is_cut(&gateway, removed).await;
    let unlisted = yaml.replace("app: {secrets", "app: {allow_from: [192.0.2.0/24], secrets");
    assert_ne!(unlisted, yaml);
    gateway.reloads(&unlisted);
    is_cut(&gateway, kept).await;
}

#[tokio::test]
async fn a_stream_that_is_still_allowed_never_notices() {
    let (upstream, sender) = crate::events::source().await;
    let route = ruled("{scopes: [read:data]}");
    let gateway = Gateway::start(&config(upstream.address, &[&route], ""));
    let token = Client::new(&gateway).granted("app", SECRET, "").await;
    let mut connection = Client::new(&gateway).connect().await;
    let mut open = within(connection.begin(with_token(request("GET", "/events"), &token))).await.unwrap();
    for sections in ["limits: {in_flight: 10}", "shutdown: {drain: 7s}", "dns: {stale_for: 31s}"] {
        gateway.reloads(&config(upstream.address, &[&route, "path: /new, access: public"], sections));
        sender.send("more".to_owned()).await.unwrap();
        let frame = within(open.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(frame.data_ref().unwrap(), "more");
    }
    // A limit that the request would not pass now is not counted again.
    gateway.reloads(&config(
        upstream.address,
        &[&format!("{route}, rate_limits: [{{rate: 1/h, burst: 1, per: address}}]")],
        "",
    ));
    gateway.reloads(&config(upstream.address, &[&ruled("public")], ""));
    sender.send(String::new()).await.unwrap();
    assert_eq!(within(open.into_body().collect()).await.unwrap().to_bytes(), "");
}

#[tokio::test]
async fn a_public_stream_ends_if_its_route_asks_for_a_caller() {
    let upstream = events().await;
    let gateway = Gateway::start(&config(upstream.address, &[&ruled("public")], ""));
    let open = stream(&Client::new(&gateway), "").await;
    gateway.reloads(&config(upstream.address, &[&ruled("{}")], ""));
    is_cut(&gateway, open).await;
}

#[tokio::test]
async fn streams_are_left_alone_if_the_configuration_says_so() {
    let (upstream, sender) = crate::events::source().await;
    let keep = "reload: {open_streams: keep}";
    let gateway = Gateway::start(&config(upstream.address, &[&ruled("public")], ""));
    let mut connection = Client::new(&gateway).connect().await;
    let mut open = within(connection.begin(request("GET", "/events"))).await.unwrap();
    gateway.reloads(&config(upstream.address, &[&ruled("{}")], keep));
    sender.send("more".to_owned()).await.unwrap();
    let frame = within(open.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(frame.data_ref().unwrap(), "more");
    gateway.reloads(&config(upstream.address, &[&ruled("{}")], ""));
    is_cut(&gateway, open).await;
}

/// A gRPC service that keeps its calls open.
async fn calls(open: mpsc::Sender<mpsc::Sender<Bytes>>) -> SocketAddr {
    by_http2(move |_| {
        let open = open.clone();
        async move {
            let (sender, body) = Piped::new();
            open.send(sender).await.unwrap();
            Response::builder().header("content-type", "application/grpc").body(body).unwrap()
        }
    })
    .await
}

#[tokio::test]
async fn a_grpc_call_ends_with_a_status() {
    let (sender, mut begun) = mpsc::channel(1);
    let service = calls(sender).await;
    let upstreams = format!("upstreams: {{legacy: {{servers: [\"http://{service}\"], protocol: http2}}}}\n");
    let yaml = |access: &str| config(service, &[&format!("name: call, path: /x, access: {access}")], &upstreams);
    let good = yaml("{scopes: [read:data]}");
    let gateway = Gateway::start(&good);
    let token = Client::new(&gateway).granted("app", SECRET, "").await;
    let without: String = good.lines().filter(|line| !line.contains("app:")).map(|line| format!("{line}\n")).collect();
    for (tightened, code) in
        [(yaml("{scopes: [write:data], issuers: [self]}"), "0"), (yaml("{clients: [other]}"), "7"), (without, "16")]
    {
        let mut connection = Client::http2(&gateway).connect().await;
        let call = with_header(with_token(request("POST", "/x"), &token), "content-type", "application/grpc");
        let mut answer = within(connection.begin(call)).await.unwrap();
        let service = within(begun.recv()).await.unwrap();
        service.send(Bytes::from_static(b"\0\0\0\0\x02hi")).await.unwrap();
        within(answer.body_mut().frame()).await.unwrap().unwrap();
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        gateway.reloads(&tightened);
        if code == "0" {
            // The token has this scope too.
            service.send(Bytes::from_static(b"\0\0\0\0\x02hi")).await.unwrap();
            within(answer.body_mut().frame()).await.unwrap().unwrap();
            continue;
        }
        let collected = within(answer.into_body().collect()).await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], code);
        within(service.closed()).await;
        assert_eq!(gateway.audit_of(&id)["gateway.reason"], "reload_closed");
        gateway.reloads(&good);
    }
}

async fn tunnel(gateway: &Gateway, token: &str) -> Wire<TlsStream<TcpStream>> {
    let mut wire = opened(gateway, &format!("Authorization: Bearer {token}\r\n")).await;
    echoes(&mut wire, "hello").await;
    wire
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tunnels_that_would_not_be_let_in_end() {
    let upstream = parrot().await;
    let chat = |rest: &str| config(upstream.address, &[&format!("name: chat, path: /chat, {rest}")], "");
    let good = chat("access: {scopes: [read:data]}, websocket: true");
    let gateway = Gateway::start(&good);
    let client = Client::new(&gateway);
    let [app, other] = [client.granted("app", SECRET, "").await, client.granted("other", SECRET, "").await];
    for tightened in [
        chat("access: {scopes: [read:data], clients: [other]}, websocket: true"),
        chat("access: {scopes: [write:data]}, websocket: true, deny_from: [127.0.0.1]"),
        chat("access: {scopes: [read:data]}"),
        chat("access: {scopes: [read:data]}, upgrades: [other]"),
        config(upstream.address, &[OPEN], "").replace("/**", "/elsewhere"),
    ] {
        let mut open = tunnel(&gateway, &app).await;
        gateway.reloads(&tightened);
        assert!(within(open.rest()).await.is_empty(), "{tightened}");
        gateway.reloads(&good);
    }
    let line = gateway.audit_line(|line| line["gateway.reason"] == "reload_closed");
    assert_eq!((&line["url.path"], &line["http.response.status_code"]), (&"/chat".into(), &101.into()));
    let (mut kept, mut ended) = (tunnel(&gateway, &other).await, tunnel(&gateway, &app).await);
    gateway.reloads(&chat("access: {clients: [other]}, websocket: true"));
    assert!(within(ended.rest()).await.is_empty());
    gateway.reloads(&chat("access: public, websocket: true"));
    echoes(&mut kept, "still here").await;
}
