//! Bounds on headers that the file raises hold over both versions of HTTP, in both directions.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;

use crate::support::client::{request, with_header};
use crate::support::upstream::by_http2;
use crate::support::wire::RawUpstream;
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway};

const ROUTE: &[&str] = &["path: /**, access: public, name: all"];
const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

type Asked = Request<Full<bytes::Bytes>>;

fn with_value(bytes: usize) -> Asked {
    with_header(request("GET", "/x"), "x-long", &"a".repeat(bytes))
}

fn with_fields(count: usize) -> Asked {
    let mut request = request("GET", "/x");
    for number in 0..count {
        let name = HeaderName::try_from(format!("x-{number}")).unwrap();
        request.headers_mut().insert(name, HeaderValue::from_static("a"));
    }
    request
}

fn with_target(bytes: usize) -> Asked {
    request("GET", &format!("/{}", "a".repeat(bytes - 1)))
}

async fn has_status(client: &Client, request: Asked, status: u16) -> Answer {
    let answer = client.send(request).await;
    assert_eq!(answer.status, status, "{:.200}", format!("{answer:?}"));
    answer
}

#[tokio::test]
async fn raised_bounds_on_requests_hold_over_both_versions() {
    let upstream = RawUpstream::saying(OK).await;
    let limits = "limits: {header_bytes: 256KiB, header_count: 500, uri_bytes: 60KiB, token_bytes: 200KiB}";
    let gateway = Gateway::start(&config(upstream.address, ROUTE, limits));
    for client in gateway.both() {
        has_status(&client, with_value(240 * 1024), 200).await;
        has_status(&client, with_fields(480), 200).await;
        has_status(&client, with_target(60 * 1024), 200).await;
    }
    let longest = upstream.heads().iter().map(String::len).max().unwrap();
    assert!(longest > 240 * 1024, "{longest}");
    for client in gateway.both() {
        has_status(&client, with_value(300 * 1024), 431).await;
        has_status(&client, with_fields(510), 431).await;
        has_status(&client, with_target(61 * 1024), 414).await;
    }
}

#[tokio::test]
async fn default_bounds_on_requests_are_the_same_over_both_versions() {
    let upstream = RawUpstream::saying(OK).await;
    let gateway = Gateway::start(&config(upstream.address, ROUTE, ""));
    for client in gateway.both() {
        has_status(&client, with_value(31 * 1024), 200).await;
        has_status(&client, with_fields(90), 200).await;
        has_status(&client, with_value(40 * 1024), 431).await;
        has_status(&client, with_fields(110), 431).await;
    }
}

/// An upstream with these bounds on its answers, by both versions of HTTP.
fn answers_within(service: SocketAddr, protocol: &str, bounds: &str) -> Gateway {
    let upstream = format!("{{servers: [\"http://{service}\"], protocol: {protocol}, answers: {{{bounds}}}}}");
    Gateway::start(&config(service, ROUTE, &format!("upstreams: {{legacy: {upstream}}}")))
}

fn fields(count: usize, bytes: usize) -> Vec<(String, String)> {
    (0..count).map(|number| (format!("x-{number}"), "a".repeat(bytes))).collect()
}

async fn service_of(protocol: &str, fields: Vec<(String, String)>) -> SocketAddr {
    if protocol == "http1" {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        return RawUpstream::saying(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n")).await.address;
    }
    by_http2(move |_| {
        let fields = fields.clone();
        async move {
            let fill =
                |response: http::response::Builder, (name, value)| response.header::<String, String>(name, value);
            fields.into_iter().fold(Response::builder(), fill).body(Full::<bytes::Bytes>::default()).unwrap()
        }
    })
    .await
}

#[tokio::test]
async fn bounds_on_answers_hold_over_both_versions() {
    for protocol in ["http1", "http2"] {
        for (bounds, answer, status) in [
            ("header_bytes: 400KiB", fields(1, 300 * 1024), 200),
            ("header_bytes: 400KiB", fields(1, 500 * 1024), 502),
            ("header_count: 700", fields(600, 10), 200),
            ("header_count: 700", fields(710, 10), 502),
            ("header_count: 10", fields(20, 10), 502),
        ] {
            let case = format!("{protocol} {bounds} {} fields", answer.len());
            let gateway = answers_within(service_of(protocol, answer).await, protocol, bounds);
            let answer = Client::new(&gateway).get("/x").await;
            assert_eq!(answer.status, status, "{case}");
            if status == 502 {
                let reason = &gateway.audit_of(answer.request_id())["gateway.reason"];
                // The HTTP/2 library resets the stream of a header list that is too large.
                assert!(
                    ["upstream_protocol", "upstream_reset"].iter().any(|known| reason == known),
                    "{case}: {reason}"
                );
            }
        }
    }
}
