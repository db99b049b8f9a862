//! The path that the upstream gets if a route rewrites it.

use crate::support::client::request;
use crate::support::wire::Wire;
use crate::support::{Client, Gateway, Upstream};

async fn sent_as(route: &str, cases: &[(&str, &str)]) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &[&format!("{route}, access: public")]);
    for client in gateway.both() {
        for (path, target) in cases {
            let answer = client.send(request("GET", path)).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(upstream.seen().pop().unwrap().target, *target, "{path}");
            assert_eq!(gateway.audit_of(answer.request_id())["url.path"], path.split('?').next().unwrap());
        }
    }
}

#[tokio::test]
async fn captures_go_where_the_template_has_them_and_the_query_stays() {
    let route = "path: \"/shops/{shop}/items/{item}/**\", rewrite: \"/v2/{item}/of/{shop}/**\"";
    let cases = [
        ("/shops/a/items/7", "/v2/7/of/a"),
        ("/shops/a/items/7/", "/v2/7/of/a/"),
        ("/shops/a/items/7/x/y?q=/z&r=%2F", "/v2/7/of/a/x/y?q=/z&r=%2F"),
        ("/shops/a%20b/items/50%25/%C3%BC", "/v2/50%25/of/a%20b/%C3%BC"),
    ];
    sent_as(route, &cases).await;
}

#[tokio::test]
async fn a_template_without_captures_is_one_path() {
    sent_as("path: /old/**, rewrite: \"/new path\"", &[("/old", "/new%20path"), ("/old/x/y?z", "/new%20path?z")]).await;
    sent_as("path: /**, rewrite: /below/**", &[("/", "/below/"), ("/x", "/below/x")]).await;
}

/// By hand, since no client would write them.
#[tokio::test]
async fn no_capture_climbs_out_of_the_template() {
    let upstream = Upstream::start().await;
    let route = "path: \"/api/{x}/**\", access: public, rewrite: \"/safe/{x}/**\"";
    let gateway = Gateway::before(upstream.address, &[route]);
    for path in [
        "/api/%2e%2e/secret",
        "/api/../secret",
        "/api/x/..%2f..%2fsecret",
        "/api/x/%2e%2e/%2e%2e/secret",
        "/api/x%2f..%2f../secret",
        "/api/..;/secret",
        "/api/x//secret",
        "/api/%252e%252e/secret",
    ] {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(wire.answer().await.unwrap().status, 400, "{path}");
    }
    assert_eq!(upstream.seen().len(), 0);
}
