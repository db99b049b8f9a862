//! The admin listener: alive, ready, and what was counted, in the text format that Prometheus reads.

use std::collections::{BTreeMap, HashSet};

use tokio::net::TcpStream;

use crate::support::client::{request, with_token};
use crate::support::wire::{Wire, within};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

/// A page of metrics, checked line by line.
struct Page {
    kinds: BTreeMap<String, String>,
    samples: Vec<(String, String, f64)>,
}

impl Page {
    async fn of(gateway: &Gateway) -> Self {
        let answer = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
        Self::read(std::str::from_utf8(&answer.body).unwrap())
    }

    fn read(text: &str) -> Self {
        let (mut page, mut seen) = (Self { kinds: BTreeMap::new(), samples: Vec::new() }, HashSet::new());
        assert_eq!(text.lines().last(), Some("# EOF"));
        assert!(text.ends_with('\n'));
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(comment) = line.strip_prefix("# ") {
                let [keyword, name, rest] = *comment.splitn(3, ' ').collect::<Vec<_>>() else { panic!("{line}") };
                match keyword {
                    "TYPE" => assert!(page.kinds.insert(name.to_owned(), rest.to_owned()).is_none(), "{line}"),
                    "HELP" => {}
                    "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                    other => panic!("{other}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) =
                series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
            assert!(page.kind_of(name).is_some(), "{line} has no TYPE");
            check_labels(labels);
            assert!(seen.insert(series.to_owned()), "{line} twice");
            page.samples.push((name.to_owned(), labels.to_owned(), value.parse().unwrap()));
        }
        page
    }

    fn kind_of(&self, name: &str) -> Option<&str> {
        let suffixes = ["", "_total", "_bucket", "_count", "_sum"];
        suffixes.iter().find_map(|suffix| self.kinds.get(name.strip_suffix(suffix)?)).map(String::as_str)
    }

    /// The sum over the series of this name whose labels contain all of these.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |(n, l, _): &&(String, String, f64)| n == name && labels.iter().all(|label| l.contains(label));
        self.samples.iter().filter(fits).map(|(_, _, value)| value).sum()
    }
}

/// `name="value"`, separated by commas, quotes and line ends in values escaped.
fn check_labels(labels: &str) {
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{labels}"));
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{labels}");
        let mut escaped = false;
        let end = after.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        rest = &after[end.unwrap_or_else(|| panic!("{labels}")) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

async fn world() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let routes = [
        "name: open, path: /open/**, access: public",
        "name: \"da\\\"ta\", path: /data, access: {scopes: [read:data]}, rate_limits: [{rate: 1/h, burst: 2, per: client}]",
    ];
    let gateway = Gateway::start(&config(upstream.address, &routes, "workers: 2"));
    (upstream, gateway)
}

#[tokio::test]
async fn probes_report_liveness_and_readiness_only() {
    let (_upstream, gateway) = world().await;
    let admin = Client::plain(gateway.admin.unwrap());
    for (method, path, status) in [
        ("GET", "/livez", 200),
        ("HEAD", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/", 404),
        ("GET", "/open/x", 404),
        ("GET", "/oauth/token", 404),
        ("POST", "/livez", 405),
    ] {
        assert_eq!(admin.send(request(method, path)).await.status, status, "{method} {path}");
    }
    assert_eq!(Client::new(&gateway).get("/metrics").await.status, 404);
}

#[tokio::test]
async fn a_fresh_page_is_valid() {
    let (_upstream, gateway) = world().await;
    let page = Page::of(&gateway).await;
    for (name, kind) in [
        ("portcullis_auth_decisions", "counter"),
        ("portcullis_tokens_issued", "counter"),
        ("portcullis_ratelimit_decisions", "counter"),
        ("http_server_request_duration_seconds", "histogram"),
        ("http_server_active_requests", "gauge"),
        ("portcullis_connections", "gauge"),
    ] {
        assert_eq!(page.kinds.get(name).map(String::as_str), Some(kind), "{name} in {:?}", page.kinds);
    }
    assert_eq!(page.sum("portcullis_tokens_issued_total", &[]), 0.0);
}

#[tokio::test]
async fn decisions_are_counted_over_all_workers() {
    let (_upstream, gateway) = world().await;
    let mut asked = 0.0;
    for client in gateway.both() {
        let token = client.granted("app", SECRET, "").await;
        for path in ["/open/a", "/open/b", "/data", "/none"] {
            client.get(path).await;
        }
        for _ in 0..2 {
            let last = client.send(with_token(request("GET", "/data"), &token)).await;
            gateway.audit_of(last.request_id());
        }
        asked += 7.0;
    }
    let page = Page::of(&gateway).await;
    let decisions = |labels: &[&str]| page.sum("portcullis_auth_decisions_total", labels);
    assert_eq!(decisions(&["http_route=\"open\"", "issuer=\"\"", "decision=\"allow\"", "reason=\"\""]), 4.0);
    let data = "http_route=\"da\\\"ta\"";
    assert_eq!(decisions(&[data, "decision=\"deny\"", "reason=\"no_token\""]), 2.0);
    assert_eq!(decisions(&[data, "issuer=\"self\"", "decision=\"allow\""]), 2.0);
    assert_eq!(decisions(&[data, "issuer=\"self\"", "decision=\"deny\"", "reason=\"rate_limited\""]), 2.0);
    assert_eq!(decisions(&["http_route=\"\"", "decision=\"deny\"", "reason=\"no_route\""]), 2.0);
    assert_eq!(page.sum("portcullis_tokens_issued_total", &[]), 2.0);
    assert_eq!(page.sum("portcullis_ratelimit_decisions_total", &[data, "decision=\"allow\""]), 2.0);
    assert_eq!(page.sum("portcullis_ratelimit_decisions_total", &[data, "decision=\"deny\""]), 2.0);
    assert_eq!(page.sum("http_server_request_duration_seconds_count", &[]), asked);
    assert_eq!(page.sum("http_server_request_duration_seconds_bucket", &["le=\"+Inf\""]), asked);
    let status = ["http_route=\"open\"", "http_request_method=\"GET\"", "http_response_status_code=\"200\""];
    assert_eq!(page.sum("http_server_request_duration_seconds_count", &status), 4.0);
}

#[tokio::test]
async fn strangers_make_no_series() {
    let (_upstream, gateway) = world().await;
    let client = Client::new(&gateway);
    client.get("/none").await;
    client.send(request("FOO", "/none")).await;
    let before = Page::of(&gateway).await.samples.len();
    let mut connection = client.connect().await;
    for number in 0..100 {
        let mut asked = request("GET", &format!("/none/{number}"));
        *asked.method_mut() = format!("M{number}").parse().unwrap();
        asked.headers_mut().insert("host", format!("h{number}.example").parse().unwrap());
        *asked.uri_mut() = format!("/none/{number}").parse().unwrap();
        assert_eq!(connection.send(asked).await.status, 404);
    }
    assert_eq!(Page::of(&gateway).await.samples.len(), before);
}

/// The answer of the admin listener to a request with these fields.
async fn asked_with(gateway: &Gateway, fields: &str) -> u16 {
    let mut wire = Wire::new(TcpStream::connect(gateway.admin.unwrap()).await.unwrap());
    wire.send(format!("GET /metrics HTTP/1.1\r\n{fields}Connection: close\r\n\r\n")).await;
    within(wire.answer()).await.unwrap().status
}

/// A page that has the name of its own server point at this address would otherwise read what it likes (DNS rebinding).
#[tokio::test]
async fn the_admin_listener_answers_to_addresses_and_its_own_names() {
    let upstream = Upstream::start().await;
    let sections = "admin: {address: 127.0.0.1:0, hosts: [Gateway.Internal, portcullis]}";
    let gateway = Gateway::start(&config(upstream.address, &["path: /x, access: public"], sections));
    for host in [
        "127.0.0.1",
        "127.0.0.1:9901",
        "10.0.0.7:80",
        "[::1]",
        "[::1]:9901",
        "localhost",
        "LOCALHOST:9901",
        "localhost.",
        "gateway.internal:9901",
        "Portcullis",
    ] {
        assert_eq!(asked_with(&gateway, &format!("Host: {host}\r\n")).await, 200, "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "xlocalhost",
        "internal",
        "a.gateway.internal",
        "[::1]x",
        "[::1",
        "::1",
        "localhost:x",
        "localhost:",
        "localhost:99999",
        "user@localhost",
        "localhost/",
        "",
        "127.1",
        "0x7f.0.0.1",
        "127.0.0.1, evil.example",
    ] {
        assert_eq!(asked_with(&gateway, &format!("Host: {host}\r\n")).await, 421, "{host}");
    }
    assert_eq!(asked_with(&gateway, "").await, 421);
    assert_eq!(asked_with(&gateway, "Host: localhost\r\nHost: localhost\r\n").await, 421);
    assert_eq!(asked_with(&gateway, "Host: localhost\r\nHost: evil.example\r\n").await, 421);
}

#[tokio::test]
async fn the_default_admin_listener_answers_to_addresses_only() {
    let (_upstream, gateway) = world().await;
    for (host, status) in [("localhost", 200), ("127.0.0.1", 200), ("gateway.internal", 421)] {
        assert_eq!(asked_with(&gateway, &format!("Host: {host}\r\n")).await, status, "{host}");
    }
    // Also where the request line names it.
    let mut wire = Wire::new(TcpStream::connect(gateway.admin.unwrap()).await.unwrap());
    wire.send("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(within(wire.answer()).await.unwrap().status, 421);
}
