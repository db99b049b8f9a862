//! Redirects and fixed answers: what a route says without any upstream.

use crate::support::client::{request, with_body, with_header, with_token};
use crate::support::world::{SECRET, config};
use crate::support::{Gateway, Upstream};

async fn gateway(routes: &[&str]) -> (Gateway, Upstream) {
    let upstream = Upstream::start().await;
    (Gateway::before(upstream.address, routes), upstream)
}

#[tokio::test]
async fn a_redirect_takes_captures_and_query_along() {
    let (gateway, upstream) = gateway(&[
        "path: \"/old/{id}/**\", access: public, redirect: {to: \"https://new.example.com/v2/{id}/**\"}",
        "path: /here/**, access: public, redirect: {to: /there/**, status: 302}",
        "path: /root, access: public, redirect: {to: \"http://new.example.com:8080/\", status: 303}",
    ])
    .await;
    for client in gateway.both() {
        for (path, status, location) in [
            ("/old/7", 308, "https://new.example.com/v2/7"),
            ("/old/a%20b/c?d=e&f=%20", 308, "https://new.example.com/v2/a%20b/c?d=e&f=%20"),
            ("/here/x/", 302, "/there/x/"),
            ("/root?x", 303, "http://new.example.com:8080/?x"),
        ] {
            let answer = client.get(path).await;
            assert_eq!((answer.status, answer.header("location")), (status, location));
            let line = gateway.audit_of(answer.request_id());
            assert_eq!(
                (&line["gateway.decision"], &line["http.response.status_code"]),
                (&"allow".into(), &status.into())
            );
        }
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn no_request_chooses_where_a_redirect_leads() {
    let (gateway, _upstream) = gateway(&["path: /**, access: public, redirect: {to: /**}"]).await;
    for client in gateway.both() {
        let mut sent = with_header(request("GET", "/x"), "x-forwarded-host", "evil.example");
        let headers = sent.headers_mut();
        headers.insert("host", "evil.example".parse().unwrap());
        *sent.uri_mut() = "https://evil.example/x?y=%0d%0aSet-Cookie:a".parse().unwrap();
        let answer = client.send(sent).await;
        assert_eq!((answer.status, answer.header("location")), (308, "/x?y=%0d%0aSet-Cookie:a"));
        for path in ["//evil.example", "/%2fevil.example", "/%0d%0aSet-Cookie:a", "/%5cevil.example"] {
            assert_eq!(client.send(request("GET", path)).await.status, 400, "{path}");
        }
    }
}

#[tokio::test]
async fn a_fixed_answer_is_given_as_it_stands() {
    let (gateway, upstream) = gateway(&[
        "path: /hello, access: public, respond: {body: \"hello, world\\n\"}",
        "path: /gone/**, access: public, respond: {status: 410, body: '{\"gone\":true}', content_type: application/json}",
        "path: /empty, access: public, respond: {status: 204}",
    ])
    .await;
    for client in gateway.both() {
        let answer = client.get("/hello").await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello, world\n"[..]));
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        let answer = client.send(with_body(request("POST", "/gone/x"), "a body that nobody reads")).await;
        assert_eq!((answer.status, answer.header("content-type")), (410, "application/json"));
        assert_eq!(answer.json()["gone"], true);
        let answer = client.get("/empty").await;
        assert_eq!((answer.status, answer.body.len(), answer.headers.get("content-type")), (204, 0, None));
        let answer = client.send(request("HEAD", "/hello")).await;
        assert_eq!((answer.header("content-length"), answer.body.len()), ("13", 0));
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn access_rules_and_limits_hold_for_them_as_for_any_route() {
    let (gateway, _upstream) = gateway(&[
        "path: /closed, access: {scopes: [read:data]}, respond: {body: inside}, rate_limits: [{rate: 1/h, per: client}]",
        "path: /moved, access: {scopes: [write:data]}, redirect: {to: /closed}",
        "path: /nowhere, access: public, deny_from: [127.0.0.0/8], respond: {body: inside}",
    ])
    .await;
    let client = &gateway.both()[0];
    let token = client.granted("app", SECRET, "scope=read:data").await;
    assert_eq!(client.get("/closed").await.status, 401);
    let answer = client.get_with("/closed", &token).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"inside"[..]));
    assert_eq!(gateway.audit_of(answer.request_id())["oauth.client_id"], "app");
    assert_eq!(client.get_with("/closed", &token).await.status, 429);
    let answer = client.send(with_token(request("GET", "/moved"), &token)).await;
    assert_eq!((answer.status, answer.headers.get("location")), (403, None));
    assert_eq!(client.get("/nowhere").await.status, 403);
}

#[test]
fn check_says_where_each_route_leads() {
    let folder = crate::support::gateway::folder();
    let routes = [
        "path: /a/**, access: public, redirect: {to: \"https://new.example.com/**\", status: 301}",
        "path: /b, access: public, respond: {status: 503, body: \"back soon\"}",
        "path: /c, access: public, upstream: {legacy: 95, canary: 5}, mirror: {upstream: shadow}",
    ];
    let upstreams =
        "upstreams: {legacy: \"http://127.0.0.1:1\", canary: \"http://127.0.0.1:2\", shadow: \"http://127.0.0.1:3\"}";
    let yaml = config("127.0.0.1:9".parse().unwrap(), &routes, upstreams);
    std::fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let output = crate::support::gateway::program(&folder).arg("check").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    for shown in [
        "301 to https://new.example.com/**",
        "503 from the configuration",
        "legacy 95/100, canary 5/100, copies to shadow",
    ] {
        assert!(told.contains(shown), "{shown}:\n{told}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
