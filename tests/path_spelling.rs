//! The spelling in which a path reaches the upstream, and the forms of paths that a route opts in to.

use std::fs;

use crate::support::client::request;
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::wire::{Spoken, Wire};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

/// Each path reaches the upstream of this route as the second one, and is the third one in the audit log.
async fn sent_as(route: &str, cases: &[(&str, &str, &str)]) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &[route]);
    for client in gateway.both() {
        for (path, target, audited) in cases {
            let answer = client.send(request("GET", path)).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            assert_eq!(upstream.seen().pop().unwrap().target, *target, "{path}");
            assert_eq!(gateway.audit_of(answer.request_id())["url.path"], *audited, "{path}");
        }
    }
}

/// Byte by byte over HTTP/1.1.
async fn say(gateway: &Gateway, host: &str, path: &str) -> Spoken {
    let mut wire = Wire::new(Client::new(gateway).tls().await.unwrap());
    wire.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    wire.answer().await.unwrap()
}

#[tokio::test]
async fn a_signed_path_reaches_the_upstream_as_it_was_signed() {
    let route = "path: \"/files/{name}/**\", access: public";
    let cases = [
        ("/files/a%2Bb%40c/%7Ex?sig=%2F%2b", "/files/a%2Bb%40c/%7Ex?sig=%2F%2b", "/files/a+b@c/~x"),
        ("/files/a%3a%3D/%c3%bc%20", "/files/a%3a%3D/%c3%bc%20", "/files/a:=/%C3%BC%20"),
        ("/files/a+b@c/~x/", "/files/a+b@c/~x/", "/files/a+b@c/~x/"),
    ];
    sent_as(route, &cases).await;
}

#[tokio::test]
async fn names_that_could_be_protected_reach_the_upstream_decoded() {
    let route = "path: \"/a+b/{name}/c@d/**\", access: public";
    let cases = [
        (
            "/a%2bb/%61dm%69n/c%40d/wp%2dadmin/%2Ehidden",
            "/a+b/admin/c@d/wp-admin/.hidden",
            "/a+b/admin/c@d/wp-admin/.hidden",
        ),
        ("/%61%2Bb/x%2By%61/c@d/%7e", "/a+b/x%2Bya/c@d/%7e", "/a+b/x+ya/c@d/~"),
    ];
    sent_as(route, &cases).await;
}

#[tokio::test]
async fn a_changed_path_keeps_the_spelling_of_its_matches() {
    let cases = [("/api/v1/a%2Bb/%7E", "/v1/a%2Bb/%7E", "/api/v1/a+b/~"), ("/api/v1%2B", "/v1%2B", "/api/v1+")];
    sent_as("path: /api/**, strip_prefix: /api, access: public", &cases).await;
    let cases = [("/api/a%2Bb/x%3Dy/", "/v2/x%3Dy/a%2Bb/", "/api/a+b/x=y/")];
    sent_as("path: \"/api/{a}/{b}/**\", rewrite: \"/v2/{b}/{a}/**\", access: public", &cases).await;
}

#[tokio::test]
async fn a_redirect_keeps_the_spelling_of_the_caller() {
    let upstream = Upstream::start().await;
    let route = "path: \"/old/{x}/**\", access: public, redirect: {to: \"https://new.example.com/{x}/**\"}";
    let gateway = Gateway::before(upstream.address, &[route]);
    for client in gateway.both() {
        let answer = client.get("/old/a%2Bb/%7e%61?q=%2f").await;
        assert_eq!((answer.status, answer.header("location")), (308, "https://new.example.com/a%2Bb/%7ea?q=%2f"));
    }
}

const LEGACY: &str =
    "path: /app/**, access: public, paths: {allow: [semicolon, encoded_slash, encoded_backslash, empty_segment]}";

#[tokio::test]
async fn forms_that_a_route_opts_in_to_reach_the_upstream() {
    let same = |path| (path, path, path);
    let cases = [
        same("/app/x;jsessionid=A1/y;v=2"),
        same("/app/;jsessionid=A1"),
        same("/app//x//"),
        ("/app/group%2fproject/%2F/x?y=%2f", "/app/group%2fproject/%2F/x?y=%2f", "/app/group%2Fproject/%2F/x"),
        ("/app/a%5cb%3bc", "/app/a%5cb%3bc", "/app/a%5Cb%3Bc"),
    ];
    sent_as(LEGACY, &cases).await;
}

#[tokio::test]
async fn no_other_form_and_no_other_route_is_opted_in() {
    let upstream = Upstream::start().await;
    let one = "path: /one/**, access: public, paths: {allow: [semicolon]}";
    let routes = [one, LEGACY, "path: \"/files/{name}\", access: public", "path: /rest/**, access: {}"];
    let gateway = Gateway::before(upstream.address, &routes);
    for path in [
        "/one/a%2Fb",
        "/one/a%5Cb",
        "/one//a",
        "/one/a\\b",
        "/one;x/a",
        "/app;x/a",
        "//app/a",
        "/app%2Fa",
        "/app\\a",
        "/files/a;b",
        "/files/a%2Fb",
        "/rest/a;b",
        "/rest//a",
        "/none;x",
        "/;x",
        "//",
    ] {
        let answer = say(&gateway, "localhost", path).await;
        assert_eq!(answer.status, 400, "{path}");
        let line = gateway.audit_of(answer.header("x-request-id").unwrap());
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &"bad_request".into()));
        assert!(line["gateway.rule"].is_string(), "{path}: {line}");
    }
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(say(&gateway, "localhost", "/one/a;b").await.status, 200);
}

#[tokio::test]
async fn no_opted_in_path_leads_out_of_its_subtree_on_any_host() {
    let upstream = Upstream::start().await;
    let shop = "path: /shop/**, hosts: [shop.example, \"*.shop.example\"], strip_prefix: /shop, upstream: shop, access: public, paths: {allow: [semicolon, encoded_slash, encoded_backslash, empty_segment]}";
    let closed = "path: /admin/**, access: {}";
    let upstreams = format!("upstreams: {{legacy: 'http://{}', shop: 'unix:./shop.sock'}}", upstream.address);
    let gateway = Gateway::start(&config(upstream.address, &[LEGACY, shop, closed], &upstreams));
    for host in ["localhost", "shop.example", "a.shop.example", "other.example"] {
        for root in ["/app", "/shop"] {
            for rest in [
                "/..;/admin",
                "/.;/..;x=1/admin",
                "/..%2Fadmin",
                "/..%2f..%2fadmin",
                "/x%2F..%2F..%2Fadmin",
                "/..%5Cadmin",
                "/x%5c..%5c..%5cadmin",
                "/%2e%2e;/admin",
                "/%2e%2e%2Fadmin",
                "/..%3b/admin",
                "/%2F../admin",
                "//../admin",
                "/;/../admin",
                "/%252e%252e/admin",
                "/..%252Fadmin",
                "/..%253b/admin",
                "/%252e%252e%255cadmin",
                "/..\\admin",
                "/%ef%bc%8e%ef%bc%8e;/admin",
                "/x%2F%e2%80%a5%2Fadmin",
            ] {
                assert_eq!(say(&gateway, host, &format!("{root}{rest}")).await.status, 400, "{host}{root}{rest}");
            }
        }
    }
    for path in ["/shop//evil.example", "/shop/%2Fevil.example", "/shop/%5Cevil.example", "/shop/;x/evil.example"] {
        assert_eq!(say(&gateway, "shop.example", path).await.status, 400, "{path}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_redirect_listener_takes_the_forms_of_the_routes() {
    let upstream = Upstream::start().await;
    let listeners =
        "listeners: [{address: 127.0.0.1:0, redirect_to: \"https://api.example.com\"}, {address: 127.0.0.1:0}]";
    let gateway = Gateway::start(&config(upstream.address, &[LEGACY], listeners));
    let plain = Client::plain(gateway.addresses[0]);
    for (path, location) in [
        ("/app/x;jsessionid=1?y", Some("https://api.example.com/app/x;jsessionid=1?y")),
        ("/a%2bb%61", Some("https://api.example.com/a%2bba")),
        ("/other/x;jsessionid=1", None),
    ] {
        let mut wire = Wire::new(plain.tcp().await.unwrap());
        wire.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let answer = wire.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("location")), (if location.is_some() { 308 } else { 400 }, location));
    }
}

fn check(routes: &[&str], arguments: &[&str]) -> Finished {
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config("127.0.0.1:9".parse().unwrap(), routes, "")).unwrap();
    let said = run(program(&folder).arg("check").args(arguments));
    fs::remove_dir_all(folder).unwrap();
    said
}

#[test]
fn check_warns_of_the_checks_that_opting_in_gives_up() {
    let (legacy, one) = (format!("name: old-shop, {LEGACY}"), "path: /one/**, access: {}, paths: {allow: [semicolon]}");
    let said = check(&[&legacy, one, "path: /other/**, access: public"], &[]);
    let lines: Vec<&str> = said.stderr.lines().filter(|line| line.ends_with("[lenient-paths]")).collect();
    assert_eq!((said.code, lines.len()), (Some(0), 2), "{}", said.stderr);
    for words in ["`old-shop`", "`semicolon` (", "`encoded_slash` (", "`encoded_backslash` (", "`empty_segment` ("] {
        assert!(lines[0].contains(words), "{words}: {}", lines[0]);
    }
    assert!(lines[1].contains("`/one/**`") && !lines[1].contains("encoded_slash"), "{}", lines[1]);
    assert_eq!(check(&[&legacy], &["--strict"]).code, Some(1));
}
