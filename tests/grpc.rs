//! gRPC passes in all its kinds; callers are refused in their own words, and waited for as long as they wait.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::outside::{installed, outside, python, timed};
use crate::support::client::{request, with_body, with_header, with_token};
use crate::support::command::run;
use crate::support::port::free_port;
use crate::support::upstream::by_http2;
use crate::support::wire::{Piped, Signal, within};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

/// A message of five bytes, framed.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

fn call(path: &str) -> Request<Full<Bytes>> {
    let call = with_body(request("POST", path), MESSAGE);
    with_header(with_header(call, "content-type", "application/grpc+proto"), "te", "trailers")
}

/// The header of an answer that has nothing else.
async fn trailers_only(gateway: &Gateway, call: Request<Full<Bytes>>) -> HeaderMap {
    let answer = within(Client::http2(gateway).connect().await.begin(call)).await.unwrap();
    let (head, body) = answer.into_parts();
    assert_eq!((head.status.as_u16(), &head.headers["content-type"]), (200, &"application/grpc".parse().unwrap()));
    let collected = within(body.collect()).await.unwrap();
    assert!(collected.trailers().is_none() && collected.to_bytes().is_empty());
    head.headers
}

async fn status(gateway: &Gateway, call: Request<Full<Bytes>>) -> (String, String) {
    let headers = trailers_only(gateway, call).await;
    let of = |name: &str| headers[name].to_str().unwrap().to_owned();
    (of("grpc-status"), of("grpc-message"))
}

/// Before a service that speaks HTTP/2.
fn before(service: SocketAddr, routes: &[&str]) -> Gateway {
    let upstreams = format!("upstreams: {{legacy: {{servers: [\"http://{service}\"], protocol: http2}}}}");
    Gateway::start(&config(service, routes, &upstreams))
}

fn told(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

#[tokio::test]
async fn a_refused_call_gets_its_status_and_the_public_text() {
    let service = by_http2(|_| async { Response::new(Full::<Bytes>::default()) }).await;
    let routes = [
        "path: /data, access: {scopes: [write:data]}",
        "path: /once, access: public, rate_limits: [{rate: 1/h, per: address}]",
        "path: /small, access: public, body_bytes: 4B",
        "path: /get, access: public, methods: [GET]",
    ];
    let gateway = before(service, &routes);
    let token = Client::new(&gateway).granted("app", SECRET, "scope=read:data").await;

    let headers = trailers_only(&gateway, call("/data")).await;
    assert_eq!(
        (&headers["grpc-status"], &headers["grpc-message"]),
        (&"16".parse().unwrap(), &"an access token is required".parse().unwrap())
    );
    assert_eq!(headers["www-authenticate"], "Bearer realm=\"portcullis\"");
    let line = gateway.audit_of(headers["x-request-id"].to_str().unwrap());
    let said = ["gateway.decision", "gateway.reason", "http.response.status_code"].map(|name| line[name].clone());
    assert_eq!(said, [json!("deny"), json!("no_token"), json!(200)]);

    let forged = with_token(call("/data"), "nonsense");
    assert_eq!(status(&gateway, forged).await, told("16", "the access token is invalid or expired"));
    let lacking = with_token(call("/data"), &token);
    assert_eq!(status(&gateway, lacking).await, told("7", "the token lacks the scope write:data"));
    assert_eq!(status(&gateway, call("/none")).await.0, "12");
    assert_eq!(status(&gateway, call("/get")).await.0, "12");
    assert_eq!(status(&gateway, call("/small")).await, told("8", "the body is too large"));
    assert_eq!(status(&gateway, with_header(call("/small"), "x_auth_subject", "a")).await.0, "13");

    assert_eq!(Client::http2(&gateway).send(call("/once")).await.status, 200);
    let headers = trailers_only(&gateway, call("/once")).await;
    assert_eq!(headers["grpc-status"], "8");
    let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&seconds));
    assert_eq!(headers["grpc-retry-pushback-ms"], (seconds * 1000).to_string());
    assert!(headers.contains_key("ratelimit"));
}

#[tokio::test]
async fn callers_without_grpc_are_refused_as_before() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &["path: /data, access: {}"]);
    assert_eq!(Client::new(&gateway).send(call("/data")).await.status, 401);
    // A service of HTTP/1.1 is none of gRPC, whoever asks for it, and neither is the token endpoint.
    assert_eq!(Client::http2(&gateway).send(call("/data")).await.status, 401);
    assert!(Client::http2(&gateway).send(call("/oauth/token")).await.status >= 400);
    let service = by_http2(|_| async { Response::new(Full::<Bytes>::default()) }).await;
    let gateway = before(service, &["path: /data, access: {}"]);
    for other in ["application/grpc-web+proto", "application/json"] {
        let call = with_header(with_body(request("POST", "/data"), MESSAGE), "content-type", other);
        let answer = Client::http2(&gateway).send(call).await;
        assert_eq!((answer.status, answer.headers.get("grpc-status")), (401, None), "{other}");
    }
}

#[tokio::test]
async fn unreachable_and_silent_upstreams_have_a_status() {
    let silent = by_http2(|_| std::future::pending::<Response<Full<Bytes>>>()).await;
    let routes = ["path: /slow, access: public, timeout: 200ms", "path: /patient, access: public"];
    let gateway = before(silent, &routes);
    let late = told("4", "the upstream did not answer in time");
    assert_eq!(status(&gateway, call("/slow")).await, late);
    // The caller's patience is less than the route's.
    let begun = Instant::now();
    let headers = trailers_only(&gateway, with_header(call("/patient"), "grpc-timeout", "250m")).await;
    assert_eq!(headers["grpc-status"], "4");
    // The route itself would wait for longer than any test does.
    assert!(begun.elapsed() >= Duration::from_millis(250));
    let line = gateway.audit_of(headers["x-request-id"].to_str().unwrap());
    assert_eq!(line["gateway.reason"], "upstream_timeout");
    // And the other way round.
    assert_eq!(status(&gateway, with_header(call("/slow"), "grpc-timeout", "1H")).await, late);

    let (code, message) = status(&gateway, with_header(call("/slow"), "grpc-timeout", "soon")).await;
    assert_eq!((&code[..], &message[..]), ("13", "grpc-timeout is not a time, or there are several"));

    let gateway = before(([127, 0, 0, 1], free_port()).into(), &["path: /**, access: public"]);
    assert_eq!(status(&gateway, call("/x")).await, told("14", "the upstream can't be reached"));
}

/// A service that sends what it is given, and says when its stream has gone.
async fn streaming(pieces: mpsc::Sender<mpsc::Sender<Bytes>>) -> SocketAddr {
    by_http2(move |_| {
        let pieces = pieces.clone();
        async move {
            let (sender, body) = Piped::new();
            pieces.send(sender).await.unwrap();
            Response::builder().header("content-type", "application/grpc").body(body).unwrap()
        }
    })
    .await
}

#[tokio::test]
async fn a_call_past_its_deadline_ends_with_a_status() {
    let (pieces, mut begun) = mpsc::channel(1);
    let gateway = Gateway::before_http2(streaming(pieces).await, &["path: /x, access: public"]);
    let mut connection = Client::http2(&gateway).connect().await;
    let call = with_header(call("/x"), "grpc-timeout", "300m");
    let mut answer = within(connection.begin(call)).await.unwrap();
    let service = within(begun.recv()).await.unwrap();
    service.send(Bytes::from_static(MESSAGE)).await.unwrap();
    let first = within(answer.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(first.data_ref().unwrap(), MESSAGE);
    let collected = within(answer.into_body().collect()).await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "4");
    assert_eq!(trailers["grpc-message"], "the call took longer than its deadline");
    within(service.closed()).await;
    let line = gateway.audit_line(|line| line["url.path"] == "/x");
    assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"error".into(), &"upstream_timeout".into()));
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_service() {
    let (pieces, mut begun) = mpsc::channel(1);
    let gateway = Gateway::before_http2(streaming(pieces).await, &["path: /x, access: public"]);
    let mut connection = Client::http2(&gateway).connect().await;
    let answer = within(connection.begin(call("/x"))).await.unwrap();
    let service = within(begun.recv()).await.unwrap();
    drop(answer);
    within(service.closed()).await;

    let (called, gone) = (Signal::default(), Signal::default());
    let (calling, going) = (called.clone(), gone.clone());
    let service = by_http2(move |_| {
        let (calling, going) = (calling.clone(), Gone(going.clone()));
        async move {
            calling.give();
            std::future::pending::<()>().await;
            drop(going);
            Response::new(Full::<Bytes>::default())
        }
    })
    .await;
    let gateway = Gateway::before_http2(service, &["path: /x, access: public"]);
    let mut connection = Client::http2(&gateway).connect().await;
    {
        let mut calling = std::pin::pin!(connection.begin(call("/x")));
        tokio::select! { _ = &mut calling => panic!("answered"), () = called.wait() => {} }
    }
    gone.wait().await;
}

/// Gives its signal when it is dropped.
struct Gone(Signal);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.give();
    }
}

#[tokio::test]
async fn tunnel_messages_may_be_rare_and_slow() {
    let service = by_http2(|request| async move { Response::new(request.into_body()) }).await;
    let routes = ["path: /usual, access: public", "path: /quiet, access: public, body_idle_timeout: unlimited"];
    let limits = "limits: {body_idle_timeout: 300ms, min_body_rate: 1MiB/s}";
    let upstreams = format!("upstreams: {{legacy: {{servers: [\"http://{service}\"], protocol: http2}}}}\n{limits}");
    let gateway = Gateway::start(&config(service, &routes, &upstreams));
    let mut calls = Vec::new();
    for path in ["/quiet", "/usual"] {
        let (sender, body) = Piped::new();
        let mut connection = Client::http2(&gateway).connect_for().await.unwrap();
        let mut answer = within(connection.begin(call(path).map(|_| body))).await.unwrap();
        sender.send(Bytes::from_static(MESSAGE)).await.unwrap();
        assert_eq!(within(answer.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap(), MESSAGE);
        calls.push((connection, sender, answer));
    }
    let (_connection, _sender, usual) = calls.pop().unwrap();
    assert!(within(usual.into_body().collect()).await.is_err(), "it was silent for too long");
    // The other has been silent for longer still.
    let (_connection, sender, quiet) = calls.pop().unwrap();
    sender.send(Bytes::from_static(MESSAGE)).await.unwrap();
    drop(sender);
    assert_eq!(within(quiet.into_body().collect()).await.unwrap().to_bytes(), MESSAGE);
}

#[tokio::test]
async fn a_service_that_breaks_off_is_a_stream_that_is_reset() {
    let (pieces, mut begun) = mpsc::channel(1);
    let service = by_http2(move |_| {
        let pieces = pieces.clone();
        async move {
            let (sender, body) = Piped::new();
            pieces.send(sender).await.unwrap();
            let body = body.map_err(|never| -> std::io::Error { match never {} });
            Response::new(body.with_trailers(async { Some(Err(std::io::Error::other("it breaks"))) }))
        }
    })
    .await;
    let gateway = Gateway::before_http2(service, &["path: /x, access: public"]);
    let mut connection = Client::http2(&gateway).connect().await;
    let answer = within(connection.begin(call("/x"))).await.unwrap();
    within(begun.recv()).await.unwrap().send(Bytes::from_static(MESSAGE)).await.unwrap();
    assert!(within(answer.into_body().collect()).await.is_err());
    assert_eq!(gateway.audit_line(|line| line["url.path"] == "/x")["gateway.reason"], "upstream_reset");
}

/// A service of `tests/outside/` that says its port, until it is dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Service {
    pub(crate) fn start(mut python: Command) -> Self {
        let mut child = python.current_dir(outside()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let port = told["port"].as_u64().unwrap().try_into().unwrap();
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client and a server that we did not write, with every kind of call.
#[tokio::test(flavor = "multi_thread")]
async fn grpcio_calls_grpcio() {
    let test = "gRPC by grpcio";
    let (Some(service), Some(mut client)) = (python(test, "grpc_service.py"), python(test, "grpc_client.py")) else {
        return;
    };
    let grpcio = Command::new(service.get_program()).current_dir(outside()).args(["-c", "import grpc"]).output();
    if !installed(test, "grpcio", grpcio.is_ok_and(|output| output.status.success())) {
        return;
    }
    let service = Service::start(service);
    let routes = [
        "path: /test.Guarded/**, access: {scopes: [read:data]}",
        "path: /test.Admin/**, access: {scopes: [write:data]}",
        "path: /test.Once/**, access: public, rate_limits: [{rate: 1/h, per: address}]",
    ];
    let (address, nowhere) = (service.address, free_port());
    let upstreams = format!(
        "  - {{path: /test.Down/**, access: public, upstream: down}}\n\
         upstreams: {{legacy: {{servers: [\"http://{address}\"], protocol: http2}}, \
         down: {{servers: [\"http://127.0.0.1:{nowhere}\"], protocol: http2}}}}"
    );
    let gateway = Gateway::start(&config(address, &routes, &upstreams));
    let token = Client::new(&gateway).granted("app", SECRET, "scope=read:data").await;
    client.current_dir(outside()).env("ORIGIN", format!("https://localhost:{}", gateway.address().port()));
    client.env("CA", gateway.folder.join("certs/localhost.crt")).env("TOKEN", token);
    client.env("CLIENT_ID", "app").env("CLIENT_SECRET", SECRET).env("PYTHONDONTWRITEBYTECODE", "1");
    let done = timed("grpc_client.py", || run(&mut client));
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    let mut expected = json!({
        "unary": ["echo:x", "early", "00ff", "late", "fe01", "OK"],
        "large": true,
        "metadata": {
            "x-mine": ["1", "2"], "x-mine-bin": ["0080"], "x-auth-subject": ["app"], "x-auth-client-id": ["app"],
            "authorization": null, "deadline": true,
        },
        "server_stream": true,
        "client_stream": "499500",
        "in_turn": true,
        "greeting": ["hello", "you said hi", 0],
        "early_end": ["FAILED_PRECONDITION", "enough", true],
        "error": ["NOT_FOUND", "100% gone: \u{fc}\n", {"grpc-status-details-bin": "080512026e6f"}],
        "midway": ["DATA_LOSS", "broke", ["first"]],
        "cancel": "yes",
        "deadline": ["DEADLINE_EXCEEDED", "yes"],
        "crowd": true,
        "unknown_method": "UNIMPLEMENTED",
        "no_token": ["UNAUTHENTICATED", "an access token is required"],
        "forged": ["UNAUTHENTICATED", "the access token is invalid or expired"],
        "no_scope": ["PERMISSION_DENIED", "the token lacks the scope write:data"],
        "no_route": ["UNIMPLEMENTED", "no such resource"],
        "once": "echo:",
        "down": ["UNAVAILABLE", "the upstream can't be reached"],
    });
    let limited = &told["limited"];
    assert_eq!(
        (&limited[0], &limited[1]),
        (&json!("RESOURCE_EXHAUSTED"), &json!("too many requests; see Retry-After"))
    );
    assert!(limited[2]["retry-after"].is_string() && limited[2]["grpc-retry-pushback-ms"].is_string(), "{limited}");
    expected["limited"] = limited.clone();
    assert_eq!(told, expected);
}
