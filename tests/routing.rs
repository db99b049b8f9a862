//! Which route a request takes, told by the audit log; the same over HTTP/1.1 and HTTP/2.

use http::Request;

use crate::support::client::request;
use crate::support::{Gateway, Upstream};

/// Every request answers with this status, and the audit log names this route.
async fn takes(routes: &[&str], cases: &[(&str, &str, u16, Option<&str>)]) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, routes);
    for client in gateway.both() {
        for (method, url, status, route) in cases {
            let answer = client.send(to(method, url)).await;
            let line = gateway.audit_of(answer.request_id());
            let found = (answer.status, line["http.route"].as_str());
            assert_eq!(found, (*status, *route), "{method} {url}");
            assert_eq!(upstream.seen().len(), usize::from(answer.status == 200), "{method} {url}");
            upstream.forget();
        }
    }
}

/// A request for a URL such as `a.example/path`.
fn to(method: &str, url: &str) -> Request<http_body_util::Full<bytes::Bytes>> {
    let (host, path) = url.split_once('/').unwrap();
    let mut request = request(method, "/");
    *request.uri_mut() = format!("https://{host}/{path}").parse().unwrap();
    request.headers_mut().insert("host", host.parse().unwrap());
    request
}

#[tokio::test]
async fn the_most_specific_path_wins_wherever_it_stands() {
    let mut routes = [
        "name: rest, path: /**, access: public",
        "name: tree, path: /api/**, access: public",
        "name: one, path: \"/api/{id}\", access: public",
        "name: exact, path: /api/x, access: public",
        "name: deep, path: \"/api/{id}/y\", access: public",
    ];
    let cases = [
        ("GET", "a/", 200, Some("rest")),
        ("GET", "a/other/thing", 200, Some("rest")),
        ("GET", "a/api", 200, Some("tree")),
        ("GET", "a/api/", 200, Some("tree")),
        ("GET", "a/api/x", 200, Some("exact")),
        ("GET", "a/api/x/", 200, Some("exact")),
        ("GET", "a/api/%78", 200, Some("exact")),
        ("GET", "a/api/7", 200, Some("one")),
        ("GET", "a/api/7/y", 200, Some("deep")),
        ("GET", "a/api/x/y", 200, Some("deep")),
        ("GET", "a/api/x/z", 200, Some("tree")),
        ("GET", "a/api/x/y/z", 200, Some("tree")),
        ("GET", "a/apix", 200, Some("rest")),
    ];
    takes(&routes, &cases).await;
    routes.reverse();
    takes(&routes, &cases).await;
}

#[tokio::test]
async fn the_exact_host_goes_before_the_longest_wildcard_before_none() {
    let routes = [
        "name: none, path: /x, access: public",
        "name: wide, path: /x, hosts: [\"*.example.com\"], access: public",
        "name: long, path: /x, hosts: [\"*.eu.example.com\"], access: public",
        "name: exact, path: /x, hosts: [api.eu.example.com], access: public",
        "name: six, path: /x, hosts: [\"[::1]\"], access: public",
    ];
    let cases = [
        ("GET", "api.eu.example.com/x", 200, Some("exact")),
        ("GET", "API.EU.Example.COM/x", 200, Some("exact")),
        ("GET", "api.eu.example.com./x", 200, Some("exact")),
        ("GET", "api.eu.example.com:8443/x", 200, Some("exact")),
        ("GET", "b.eu.example.com/x", 200, Some("long")),
        ("GET", "a.b.eu.example.com/x", 200, Some("long")),
        ("GET", "eu.example.com/x", 200, Some("wide")),
        ("GET", "example.com/x", 200, Some("none")),
        ("GET", "eu.example.com.evil/x", 200, Some("none")),
        ("GET", "[::1]/x", 200, Some("six")),
        ("GET", "[::1]:8443/x", 200, Some("six")),
        ("GET", "127.0.0.1/x", 200, Some("none")),
    ];
    takes(&routes, &cases).await;
}

#[tokio::test]
async fn a_host_without_the_path_leaves_it_to_a_wider_one() {
    let routes =
        ["name: ping, path: /ping, access: public", "name: api, path: /api/**, hosts: [a.example], access: public"];
    let cases = [
        ("GET", "a.example/ping", 200, Some("ping")),
        ("GET", "a.example/api/x", 200, Some("api")),
        ("GET", "b.example/api/x", 404, None),
    ];
    takes(&routes, &cases).await;
}

#[tokio::test]
async fn an_open_route_never_opens_a_path_that_is_listed_closed() {
    let routes = [
        "name: open, path: /**, access: public",
        "name: closed, path: /admin, methods: [GET], access: {}",
        "name: inner, path: /admin/help, access: public",
    ];
    let cases = [
        ("GET", "a/admin", 401, Some("closed")),
        ("HEAD", "a/admin", 401, Some("closed")),
        ("GET", "a/admin/", 401, Some("closed")),
        ("GET", "a/%61dmin", 401, Some("closed")),
        ("GET", "a/admin?x=/public", 401, Some("closed")),
        ("GET", "a/admin?/../open", 401, Some("closed")),
        ("POST", "a/admin", 405, None),
        ("GET", "a/admin/help", 200, Some("inner")),
        ("GET", "a/admin/other", 200, Some("open")),
        ("GET", "a/Admin", 404, None),
        ("POST", "a/%41DMIN", 404, None),
        ("GET", "a/Other", 200, Some("open")),
    ];
    takes(&routes, &cases).await;
}

/// The route that a service which ignores case would take is never another than ours: then there is no answer but 404.
#[tokio::test]
async fn a_path_that_leads_elsewhere_in_another_case_is_not_found() {
    const OPEN: &str = "name: open, path: /**, methods: [GET], access: public";
    let scoped = "name: scoped, path: /**, methods: [POST], access: {scopes: [write:data]}";
    let elsewhere = ["a/Admin/x", "a/ADMIN/x", "a/%41dmin/x", "a/adm%C4%B1n/x", "a/adm%C4%B0n/x"];
    for stricter in [
        "name: admin, path: /admin/**, methods: [GET], access: {scopes: [read:data]}",
        "name: admin, path: /admin/**, methods: [DELETE], access: public",
        "name: admin, path: /admin/**, access: public, allow_from: [192.0.2.0/24]",
        "name: admin, path: /admin/**, access: public, respond: {status: 404}",
        "name: admin, path: /ADMIN/**, access: public",
        "name: admin, path: \"/{any}/x\", access: public, hosts: [b], websocket: true",
    ] {
        // A folded look-up keeps to the hosts: the last of these routes is none of this host's.
        let status = if stricter.contains("hosts: [b]") { 200 } else { 404 };
        let exact = if stricter.contains("/ADMIN") { "a/ADMIN/y" } else { "a/other/y" };
        let mut cases: Vec<_> = elsewhere.map(|url| ("GET", url, status, (status == 200).then_some("open"))).to_vec();
        cases.push(("GET", exact, 200, Some(if exact.contains("ADMIN") { "admin" } else { "open" })));
        cases.push(("GET", "a/Other/Y", 200, Some("open")));
        cases.retain(|(_, url, ..)| !(stricter.contains("/ADMIN") && *url == "a/ADMIN/x"));
        takes(&[OPEN, scoped, stricter], &cases).await;
    }
}

#[tokio::test]
async fn no_405_is_sent_where_the_folded_path_takes_the_method() {
    let routes = [
        "name: api, path: /api/**, methods: [GET], access: {}",
        "name: admin, path: /api/admin/**, access: {scopes: [write:data]}",
    ];
    let cases = [
        ("GET", "a/api/Admin/x", 404, None),
        ("POST", "a/api/Admin/x", 404, None),
        ("POST", "a/api/other", 405, None),
        ("GET", "a/api/admin/x", 401, Some("admin")),
        ("GET", "a/API/admin/x", 404, None),
    ];
    takes(&routes, &cases).await;
}

#[tokio::test]
async fn preflights_and_websockets_follow_the_folded_path_rule() {
    let upstream = Upstream::start().await;
    let routes = [
        "path: /**, access: public, cors: {origins: [https://page.example]}, websocket: true",
        "path: /admin/**, access: {}",
    ];
    let gateway = Gateway::before(upstream.address, &routes);
    for client in gateway.both() {
        for (path, status) in [("/other", 204), ("/Admin", 404)] {
            let mut preflight = request("OPTIONS", path);
            preflight.headers_mut().insert("origin", "https://page.example".parse().unwrap());
            preflight.headers_mut().insert("access-control-request-method", "GET".parse().unwrap());
            let answer = client.send(preflight).await;
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.headers.contains_key("access-control-allow-origin"), status == 204, "{path}");
        }
    }
}

/// Credentials for the token endpoint never reach a service by a slip of the case.
#[tokio::test]
async fn built_in_paths_in_another_case_are_not_found() {
    let routes = ["name: open, path: /**, access: public"];
    let cases = [
        ("POST", "a/oauth/Token", 404, None),
        ("POST", "a/OAuth/revoke", 404, None),
        ("GET", "a/.well-known/JWKS.json", 404, None),
        ("GET", "a/.Well-Known/openid-configuration/", 404, None),
        ("GET", "a/oauth/Other", 200, Some("open")),
    ];
    takes(&routes, &cases).await;
}

#[tokio::test]
async fn case_counts_in_paths_and_methods() {
    let routes = ["name: ping, path: /ping, methods: [GET], access: public"];
    let cases = [
        ("GET", "a/ping", 200, Some("ping")),
        ("GET", "a/PING", 404, None),
        ("get", "a/ping", 405, None),
        ("Get", "a/ping", 405, None),
        ("FOO", "a/ping", 405, None),
        ("TRACE", "a/ping", 405, None),
        ("GET", "a/pin", 404, None),
        ("GET", "a/ping/x", 404, None),
        ("GET", "a/", 404, None),
    ];
    takes(&routes, &cases).await;
}

#[tokio::test]
async fn a_placeholder_is_one_segment_that_is_not_empty() {
    let routes = ["name: user, path: \"/users/{id}\", access: public"];
    let cases = [
        ("GET", "a/users/7", 200, Some("user")),
        ("GET", "a/users/7/", 200, Some("user")),
        ("GET", "a/users/a%20b", 200, Some("user")),
        ("GET", "a/users/", 404, None),
        ("GET", "a/users", 404, None),
        ("GET", "a/users/7/posts", 404, None),
        ("GET", "a/users/..", 400, None),
        ("GET", "a/users/%2e%2e", 400, None),
        ("GET", "a/users/a%2fb", 400, None),
    ];
    takes(&routes, &cases).await;
}

#[tokio::test]
async fn a_known_path_with_another_method_is_405_and_says_which() {
    let upstream = Upstream::start().await;
    let routes = [
        "path: /x, methods: [GET, DELETE], access: public",
        "path: /x, methods: [PUT], access: {}",
        "path: /**, access: public",
    ];
    let gateway = Gateway::before(upstream.address, &routes);
    for client in gateway.both() {
        let answer = client.send(request("POST", "/x")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "DELETE, GET, HEAD, PUT"));
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "method_not_allowed");
        let nowhere = client.send(request("GET", "/.well-known/jwks.json/x")).await;
        assert_eq!(nowhere.status, 200);
    }
}

#[tokio::test]
async fn head_follows_get_and_its_rule() {
    let routes = [
        "name: open, path: /open, methods: [GET], access: public",
        "name: closed, path: /closed, methods: [GET], access: {}",
        "name: post, path: /post, methods: [POST], access: public",
    ];
    let cases = [
        ("HEAD", "a/open", 200, Some("open")),
        ("HEAD", "a/closed", 401, Some("closed")),
        ("HEAD", "a/post", 405, None),
    ];
    takes(&routes, &cases).await;
}

#[tokio::test]
async fn built_in_endpoints_go_before_routes_on_any_host() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "");
    for client in gateway.both() {
        for (method, path, status) in [
            ("GET", "/.well-known/jwks.json", 200),
            ("HEAD", "/.well-known/jwks.json", 200),
            ("GET", "/.well-known/%6awks.json", 200),
            ("POST", "/.well-known/jwks.json", 405),
            ("GET", "/.well-known/oauth-authorization-server", 200),
            ("GET", "/.well-known/openid-configuration", 200),
            ("GET", "/oauth/token", 405),
        ] {
            let answer = client.send(to(method, &format!("other.example{path}"))).await;
            assert_eq!(answer.status, status, "{method} {path}");
        }
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn the_gateways_own_answers_to_head_have_a_length_and_no_body() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &["path: /closed, access: {}"]);
    for client in gateway.both() {
        for path in ["/closed", "/none", "/a//b", "/.well-known/jwks.json"] {
            let (head, get) = (client.send(request("HEAD", path)).await, client.send(request("GET", path)).await);
            assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
            assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
        }
    }
}
