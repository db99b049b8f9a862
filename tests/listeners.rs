//! Listeners: in clear text, redirecting, and on an address that another has.

use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;

use crate::support::client::{request, with_header};
use crate::support::gateway::{folder, program};
use crate::support::wire::Wire;
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

/// A TLS listener, and one more.
async fn with_listener(listener: &str) -> (Upstream, Gateway, Client) {
    let upstream = Upstream::start().await;
    let tls = "{certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]}";
    let sections = format!("listeners: [{{address: 127.0.0.1:0, tls: {tls}}}, {{{listener}}}]");
    let routes = ["path: /open, access: public", "path: /closed, access: {}"];
    let gateway = Gateway::start(&config(upstream.address, &routes, &sections));
    let port = gateway.addresses[1].port();
    (upstream, gateway, Client::plain(([127, 0, 0, 1], port).into()))
}

#[tokio::test]
async fn a_plain_listener_serves_routes_and_on_loopback_tokens_too() {
    let (upstream, gateway, plain) = with_listener("address: 127.0.0.1:0").await;
    let token = plain.granted("app", SECRET, "").await;
    assert_eq!(plain.get_with("/closed", &token).await.status, 200);
    assert_eq!(
        (upstream.only().header("x-forwarded-proto"), upstream.only().header("via")),
        ("http", "1.1 portcullis")
    );
    assert!(upstream.only().header("forwarded").ends_with(";proto=http"));
    assert_eq!(plain.get("/closed").await.status, 401);
    assert_eq!(Client::new(&gateway).get_with("/closed", &token).await.status, 200);
}

#[tokio::test]
async fn a_plain_public_listener_serves_routes_but_no_tokens() {
    let (upstream, gateway, plain) = with_listener("address: 0.0.0.0:0").await;
    assert_eq!(plain.get("/open").await.status, 200);
    assert_eq!(plain.get("/.well-known/jwks.json").await.status, 200);
    let refused = plain.token("app", SECRET, "").await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (403, Some("invalid_request")));
    let line = gateway.audit_of(refused.request_id());
    assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &"bad_request".into()));
    assert_eq!(upstream.seen().len(), 1);
}

const REDIRECT: &str = "address: 127.0.0.1:0, redirect_to: \"https://api.example.com\"";

#[tokio::test]
async fn a_redirect_listener_ignores_the_host_of_the_request() {
    let (upstream, gateway, plain) = with_listener(REDIRECT).await;
    for (method, path, location) in [
        ("GET", "/open", "/open"),
        ("GET", "/open?x=1&y=%20", "/open?x=1&y=%20"),
        ("GET", "/a%2Bb%7e", "/a%2Bb%7e"),
        ("POST", "/none", "/none"),
        ("GET", "/", "/"),
    ] {
        let answer = plain.send(with_host(request(method, path), "evil.example")).await;
        assert_eq!((answer.status, answer.header("location")), (308, &*format!("https://api.example.com{location}")));
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], &line["http.route"]), (&"allow".into(), &"(redirect)".into()));
    }
    let mut wire = Wire::new(plain.tcp().await.unwrap());
    wire.send("GET http://evil.example/open HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().header("location"), Some("https://api.example.com/open"));
    let mut wire = Wire::new(plain.tcp().await.unwrap());
    wire.send("GET //evil.example/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.unwrap().status, 400);
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_redirect_listener_refuses_requests_with_secrets() {
    let (upstream, _gateway, plain) = with_listener(REDIRECT).await;
    let with_secret = with_header(request("GET", "/open"), "authorization", "Bearer secret");
    let form = with_host(request("POST", "/oauth/token"), "localhost");
    for refused in [with_secret, form, request("GET", "/.well-known/jwks.json")] {
        let answer = plain.send(refused).await;
        assert_eq!((answer.status, answer.headers.get("location")), (403, None));
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_second_instance_on_a_taken_address_says_so_and_exits_2() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "workers: 2");
    for (listeners, admin) in
        [(gateway.address(), "127.0.0.1:0"), ("127.0.0.1:0".parse().unwrap(), &*gateway.admin.unwrap().to_string())]
    {
        let folder = folder();
        let sections =
            format!("workers: 2\nlisteners: [{{address: \"{listeners}\"}}]\nadmin: {{address: \"{admin}\"}}");
        std::fs::write(folder.join("gateway.yaml"), config(upstream.address, &["path: /x, access: public"], &sections))
            .unwrap();
        let output = program(&folder).arg("run").stdout(Stdio::null()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("another process has it") && told.contains("cannot listen on 127.0.0.1:"), "{told}");
        std::fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(Client::new(&gateway).get("/x").await.status, 200);
}

#[tokio::test]
async fn connections_are_spread_evenly_over_the_workers() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "workers: 2");
    let (client, admin) = (Client::new(&gateway), Client::plain(gateway.admin.unwrap()));
    let mut open = Vec::new();
    for number in 1..=64 {
        let mut connection = client.connect().await;
        assert_eq!(connection.send(request("GET", "/x")).await.status, 200);
        open.push(connection);
        if [4, 16, 64].contains(&number) {
            let page = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
            let lines = page.lines().filter_map(|line| line.strip_prefix("portcullis_worker_connections{worker="));
            let counts: Vec<f64> = lines.map(|line| line.split(' ').next_back().unwrap().parse().unwrap()).collect();
            let [one, other] = counts[..] else { panic!("{page}") };
            assert!((one + other, (one - other).abs() <= 3.0) == (f64::from(number), true), "{counts:?}");
        }
    }
}

fn with_host(
    mut request: http::Request<http_body_util::Full<bytes::Bytes>>,
    host: &str,
) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    request.headers_mut().insert("host", host.parse().unwrap());
    *request.uri_mut() = request.uri().path_and_query().unwrap().to_string().parse().unwrap();
    request
}

#[tokio::test]
async fn a_failed_handshake_is_in_the_log_of_level_debug() {
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &["path: /open, access: public"], "");
    let gateway = Gateway::start_in(folder(), &yaml, &[("PORTCULLIS_LOG", "debug")]);
    let mut caller = TcpStream::connect(gateway.address()).unwrap();
    caller.write_all(b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let line = gateway.log_line("a TLS handshake failed: closed");
    assert!(line.contains("127.0.0.1") && line.contains("InvalidContentType"), "{line}");
}
