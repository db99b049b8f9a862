//! Pages of other origins, by the rules that browsers keep (Fetch standard): what they ask first, what they may read
//! then.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use crate::support::client::{request, with_header, with_token};
use crate::support::upstream::Seen;
use crate::support::world::SECRET;
use crate::support::{Answer, Client, Gateway, Upstream};

const APP: &str = "https://app.example.com";
const CORS: &str = "cors: {origins: [\"https://app.example.com\", \"https://*.example.org\"], headers: [Authorization, X-Own], expose: [X-Count], max_age: 5m}";

fn from(origin: &str, request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    with_header(request, "origin", origin)
}

/// The preflight of a browser before it sends `method` with these headers.
fn preflight(path: &str, origin: &str, method: &str, headers: &str) -> Request<Full<Bytes>> {
    let asked = with_header(from(origin, request("OPTIONS", path)), "access-control-request-method", method);
    if headers.is_empty() { asked } else { with_header(asked, "access-control-request-headers", headers) }
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

/// Nothing is allowed, and nobody who stores the answer takes it for one to another origin.
#[track_caller]
fn allows_nothing(answer: &Answer) {
    let said: Vec<&str> = answer.headers.keys().map(http::HeaderName::as_str).collect();
    assert!(!said.iter().any(|name| name.starts_with("access-control-")), "{answer:?}");
    assert!(answer.headers.get_all("vary").iter().any(|value| value == "Origin"), "{answer:?}");
}

async fn closed_route() -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(
        upstream.address,
        &[
            &format!("path: /data, name: data, methods: [GET, PUT], access: {{scopes: [read:data]}}, {CORS}"),
            "path: /**, access: {}",
        ],
    );
    (gateway, upstream)
}

#[tokio::test]
async fn a_preflight_needs_no_credentials_and_no_options_route() {
    let (gateway, upstream) = closed_route().await;
    for client in gateway.both() {
        let answer = client.send(preflight("/data", APP, "PUT", "authorization,x-own")).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(APP));
        assert_eq!(header(&answer, "access-control-allow-methods"), Some("GET, HEAD, PUT"));
        assert_eq!(header(&answer, "access-control-allow-headers"), Some("authorization, x-own"));
        assert_eq!(header(&answer, "access-control-max-age"), Some("300"));
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
        let vary: Vec<&str> = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(vary.join(", "), "Access-Control-Request-Method, Access-Control-Request-Headers, Origin");
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], &line["http.route"]), (&"allow".into(), &"data".into()));
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn unlisted_requests_are_not_allowed() {
    let (gateway, upstream) = closed_route().await;
    for client in gateway.both() {
        for (origin, method, headers) in [
            ("https://app.example.com.evil.com", "PUT", ""),
            ("https://evilapp.example.com", "PUT", ""),
            ("https://app.example.com:8443", "PUT", ""),
            ("https://app.example.com.", "PUT", ""),
            ("https://APP.example.com", "PUT", ""),
            ("http://app.example.com", "PUT", ""),
            ("https://example.org", "PUT", ""),
            ("https://evil.com/.example.org", "PUT", ""),
            ("null", "PUT", ""),
            (APP, "PUT", "x-other"),
        ] {
            let answer = client.send(preflight("/data", origin, method, headers)).await;
            assert_eq!(answer.status, 204, "{origin} {method} {headers}");
            allows_nothing(&answer);
        }
        let answer = client.send(preflight("/data", "https://a.b.example.org", "GET", "")).await;
        assert_eq!(header(&answer, "access-control-allow-origin"), Some("https://a.b.example.org"));
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_preflight_is_allowed_in_the_log_only_if_it_is() {
    let (gateway, _) = closed_route().await;
    let client = Client::new(&gateway);
    for (origin, decision, reason) in [(APP, "allow", None), ("https://evil.com", "deny", Some("origin_not_allowed"))] {
        let answer = client.send(preflight("/data", origin, "PUT", "")).await;
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((line["gateway.decision"].as_str(), line["gateway.reason"].as_str()), (Some(decision), reason));
    }
}

/// Only a route that says so answers strangers, and only the question that browsers ask.
#[tokio::test]
async fn other_options_requests_need_the_routes_access() {
    let (gateway, upstream) = closed_route().await;
    for client in gateway.both() {
        assert_eq!(client.send(preflight("/other", APP, "PUT", "")).await.status, 401);
        assert_eq!(client.send(preflight("/data", APP, "DELETE", "")).await.status, 405);
        assert_eq!(client.send(request("OPTIONS", "/data")).await.status, 405);
        assert_eq!(client.send(from(APP, request("OPTIONS", "/other"))).await.status, 401);
        let asked = with_header(request("OPTIONS", "/data"), "access-control-request-method", "PUT");
        assert_eq!(client.send(asked).await.status, 405);
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn address_rules_and_limits_count_for_preflights() {
    let upstream = Upstream::start().await;
    let limited = format!("path: /limited, access: {{}}, rate_limits: [{{rate: 2/h, per: address}}], {CORS}");
    let denied = format!("path: /denied, access: {{}}, deny_from: [127.0.0.0/8], {CORS}");
    let gateway = Gateway::before(upstream.address, &[&limited, &denied]);
    let client = Client::new(&gateway);
    assert_eq!(client.send(preflight("/denied", APP, "GET", "")).await.status, 403);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.send(preflight("/limited", APP, "GET", "")).await.status);
    }
    assert_eq!(statuses, [204, 204, 429]);
}

#[tokio::test]
async fn answers_and_refusals_name_the_allowed_origin() {
    let theirs = |_: &Seen| {
        let response = Response::builder().header("access-control-allow-origin", "*").header("vary", "Accept");
        let response = response.header("access-control-allow-credentials", "true").header("x-count", "1");
        response.body(Full::from("ok")).unwrap()
    };
    let upstream = Upstream::answering(theirs).await;
    let route =
        format!("path: /data, access: {{scopes: [read:data]}}, rate_limits: [{{rate: 1/h, per: client}}], {CORS}");
    let gateway = Gateway::before(upstream.address, &[&route]);
    let client = Client::new(&gateway);
    let good = client.granted("app", SECRET, "scope=read:data").await;
    let poor = client.granted("app", SECRET, "scope=write:data").await;
    let send = |origin: &str, token: &str| {
        let sent = from(origin, request("GET", "/data"));
        let sent = if token.is_empty() { sent } else { with_token(sent, token) };
        let client = client.clone();
        async move { client.send(sent).await }
    };
    for (token, status) in [("", 401), (&*poor, 403), (&good, 200), (&good, 429)] {
        let answer = send(APP, token).await;
        assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (status, Some(APP)));
        assert_eq!(header(&answer, "access-control-expose-headers"), Some("x-count"));
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
        assert!(answer.headers.get_all("vary").iter().any(|value| value == "Origin"), "{answer:?}");
    }
    let other = client.granted("other", SECRET, "scope=read:data").await;
    let answer = send("https://evil.example", &other).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]), "it is the browser that keeps it from the page");
    allows_nothing(&answer);
    let answer = client.get("/data").await;
    assert_eq!(answer.status, 401);
    allows_nothing(&answer);
}

#[tokio::test]
async fn any_origin_is_a_star_that_varies_by_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &["path: /x, access: public, cors: {origins: [\"*\"]}"]);
    for client in gateway.both() {
        for sent in [request("GET", "/x"), from(APP, request("GET", "/x")), from("null", request("GET", "/x"))] {
            let answer = client.send(sent).await;
            assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (200, Some("*")));
            assert_eq!(header(&answer, "vary"), None);
        }
        let answer = client.send(preflight("/x", APP, "DELETE", "content-type")).await;
        assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
        assert_eq!(header(&answer, "access-control-allow-headers"), Some("authorization, content-type"));
    }
}

#[tokio::test]
async fn cors_credentials_follow_the_route_and_name_the_origin() {
    let upstream = Upstream::start().await;
    let cors = "cors: {origins: [\"https://app.example.com\"], credentials: true, methods: [GET]}";
    let gateway = Gateway::before(upstream.address, &[&format!("path: /x, access: public, {cors}")]);
    let client = Client::new(&gateway);
    for sent in [from(APP, request("GET", "/x")), preflight("/x", APP, "GET", "")] {
        let answer = client.send(sent).await;
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(APP));
        assert_eq!(header(&answer, "access-control-allow-credentials"), Some("true"));
    }
    let answer = client.send(preflight("/x", APP, "DELETE", "")).await;
    assert_eq!(answer.status, 204);
    allows_nothing(&answer);
}

#[tokio::test]
async fn the_method_that_is_asked_for_chooses_the_route() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(
        upstream.address,
        &[
            "path: /x, name: read, methods: [GET], access: {}, cors: {origins: [\"https://read.example\"]}",
            "path: /x, name: write, methods: [POST], access: {}, cors: {origins: [\"https://write.example\"]}",
            "path: /x, name: theirs, methods: [OPTIONS, DELETE], access: public",
        ],
    );
    let client = Client::new(&gateway);
    for (origin, method, route) in [("https://read.example", "GET", "read"), ("https://write.example", "POST", "write")]
    {
        let answer = client.send(preflight("/x", origin, method, "")).await;
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(origin));
        assert_eq!(gateway.audit_of(answer.request_id())["http.route"], route);
    }
    assert_eq!(upstream.seen().len(), 0);
    // A service that speaks for itself goes on doing so.
    assert_eq!(client.send(preflight("/x", "https://any.example", "DELETE", "")).await.status, 200);
    assert_eq!(upstream.only().method, "OPTIONS");
}
