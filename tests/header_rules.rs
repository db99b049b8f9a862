//! Changes of header fields by a route, in requests and in answers.

use http::Response;
use http_body_util::Full;

use crate::support::client::{request, with_header};
use crate::support::upstream::Seen;
use crate::support::{Answer, Gateway, Upstream};

fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn fields_are_added_to_those_of_the_caller() {
    let upstream = Upstream::start().await;
    let route = "path: /x, access: public, headers: {set: {X-One: a}, add: {X-One: b, X-Many: c}}";
    let gateway = Gateway::before(upstream.address, &[route]);
    for client in gateway.both() {
        client.send(with_header(request("GET", "/x"), "x-many", "theirs")).await;
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.headers.get_all("x-many").iter().collect::<Vec<_>>(), ["theirs", "c"]);
        assert_eq!(seen.headers.get_all("x-one").iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}

const ANSWERING: &str = "response_headers: {set: {Strict-Transport-Security: max-age=60, Cache-Control: \"max-age=5\"}, add: {Link: <b>}, remove: [Server, X-Powered-By]}";

fn theirs(_: &Seen) -> Response<Full<bytes::Bytes>> {
    let response = Response::builder().header("server", "theirs/1.0").header("x-powered-by", "magic");
    let response = response.header("link", "<a>").header("cache-control", "private").header("x-own", "1");
    response.body(Full::from("ok")).unwrap()
}

#[tokio::test]
async fn answers_are_changed_as_the_route_says() {
    let upstream = Upstream::answering(theirs).await;
    let gateway = Gateway::before(upstream.address, &[&format!("path: /x, access: public, {ANSWERING}")]);
    for client in gateway.both() {
        let answer = client.get("/x").await;
        assert_eq!(values(&answer, "strict-transport-security"), ["max-age=60"]);
        assert_eq!(values(&answer, "cache-control"), ["max-age=5"]);
        assert_eq!(values(&answer, "link"), ["<a>", "<b>"]);
        assert_eq!((values(&answer, "x-own"), answer.status), (vec!["1"], 200));
        assert!(["server", "x-powered-by"].iter().all(|name| !answer.headers.contains_key(*name)), "{answer:?}");
        assert_eq!(answer.request_id().len(), 32);
    }
}

/// Fields that browsers remember must not depend on whether a request was allowed, and no refusal may be stored.
#[tokio::test]
async fn refusals_get_the_routes_headers_that_they_lack() {
    let upstream = Upstream::start().await;
    let limits = "rate_limits: [{rate: 1/h, per: address}]";
    let closed = format!("path: /closed, access: {{}}, {ANSWERING}");
    let limited = format!("path: /limited, access: public, {limits}, {ANSWERING}");
    let gateway = Gateway::before(upstream.address, &[&closed, &limited]);
    let client = &gateway.both()[0];
    assert_eq!(client.get("/limited").await.status, 200);
    for (path, status) in [("/closed", 401), ("/limited", 429)] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.header("strict-transport-security")), (status, "max-age=60"));
        assert_eq!((answer.header("cache-control"), answer.header("link")), ("no-store", "<b>"));
    }
    let elsewhere = client.get("/none").await;
    assert!(!elsewhere.headers.contains_key("strict-transport-security"), "{elsewhere:?}");
}
