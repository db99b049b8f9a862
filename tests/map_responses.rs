//! Mapped answers: a client can follow the redirects and use the cookies of a service that knows only its own address
//! and paths.

use http::{HeaderMap, Response};
use http_body_util::Full;

use crate::support::client::{request, with_header};
use crate::support::upstream::{Seen, by_http2};
use crate::support::wire::{RawUpstream, Wire};
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway, Upstream};

const STRIPPED: &str = "path: /shop/**, access: public, strip_prefix: /shop";

/// A service that answers with these fields. `HOST` in a value is its own address.
async fn saying(fields: &'static [(&'static str, &'static str)]) -> Upstream {
    Upstream::answering(move |seen| {
        let mut response = Response::builder().status(302);
        for (name, value) in fields {
            response = response.header(*name, value.replace("HOST", seen.header("host")));
        }
        response.body(Full::default()).unwrap()
    })
    .await
}

/// The values of this field in the answer to a request for `path`, by both protocols.
async fn answered(route: &str, path: &str, fields: &'static [(&'static str, &'static str)]) -> Vec<String> {
    let upstream = saying(fields).await;
    let gateway = Gateway::before(upstream.address, &[route]);
    let mut both = Vec::new();
    for client in gateway.both() {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 302, "{answer:?}");
        both.push(values(&answer.headers, fields[0].0));
    }
    assert_eq!(both[0], both[1]);
    both.remove(0)
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

/// A shop that wants a session: it sends visitors to its login, which gives them one.
async fn shop() -> Upstream {
    Upstream::answering(|seen: &Seen| {
        let home = format!("http://{}", seen.header("host"));
        let has_session = seen.headers.get("cookie").is_some_and(|cookie| cookie == "sid=1");
        let response = match (&seen.target[..], has_session) {
            ("/login", _) => Response::builder()
                .status(303)
                .header("location", "/basket?new")
                .header("set-cookie", "sid=1; Path=/; HttpOnly; Domain=127.0.0.1"),
            (_, true) => Response::builder().status(200),
            (_, false) => Response::builder().status(302).header("location", format!("{home}/login")),
        };
        response.body(Full::from(seen.target.clone())).unwrap()
    })
    .await
}

/// As a browser does, with cookies by their paths. Gives the last answer and the paths on the way.
async fn visited(client: &Client, path: &str) -> (Answer, Vec<String>) {
    let (mut path, mut way, mut jar) = (path.to_owned(), Vec::new(), Vec::<(String, String)>::new());
    loop {
        let sent = jar.iter().filter(|(below, _)| path.starts_with(below.as_str())).map(|(_, pair)| pair.as_str());
        let sent = sent.collect::<Vec<_>>().join("; ");
        let request = request("GET", &path);
        let request = if sent.is_empty() { request } else { with_header(request, "cookie", &sent) };
        let answer = client.send(request).await;
        for cookie in values(&answer.headers, "set-cookie") {
            let (pair, attributes) = cookie.split_once("; ").unwrap();
            assert!(!attributes.contains("Domain"), "a browser refuses {cookie}");
            let below = attributes.split("; ").find_map(|attribute| attribute.strip_prefix("Path=")).unwrap();
            jar.push((below.to_owned(), pair.to_owned()));
        }
        way.push(path);
        let Some(location) = answer.headers.get("location") else { return (answer, way) };
        path = location.to_str().unwrap().to_owned();
        assert!(path.starts_with('/') && way.len() < 5, "{path} after {way:?}");
    }
}

#[tokio::test]
async fn a_visitor_gets_a_session_below_a_stripped_prefix() {
    let upstream = shop().await;
    for (route, prefix) in [
        (STRIPPED, "/shop"),
        ("path: /old/shop/**, access: public, rewrite: \"/**\"", "/old/shop"),
        ("path: \"/{tenant}/shop/**\", access: public, rewrite: \"/**\"", "/acme/shop"),
        ("path: /**, access: public", ""),
    ] {
        let gateway = Gateway::before(upstream.address, &[route]);
        for client in gateway.both() {
            let (answer, way) = visited(&client, &format!("{prefix}/basket")).await;
            assert_eq!((answer.status, &answer.body[..]), (200, &b"/basket?new"[..]), "{route}");
            let expected = ["basket", "login", "basket?new"].map(|page| format!("{prefix}/{page}"));
            assert_eq!(way, expected, "{route}");
        }
    }
}

#[tokio::test]
async fn every_field_with_a_url_is_mapped() {
    for (fields, expected) in [
        (&[("location", "https://HOST/x?y#z")][..], "/shop/x?y#z"),
        (&[("content-location", "/x")], "/shop/x"),
        (&[("refresh", "5; url=http://HOST/x")], "5; url=/shop/x"),
        (&[("location", "y")], "/shop/a/y"),
    ] {
        assert_eq!(answered(STRIPPED, "/shop/a/b", fields).await, [expected]);
    }
    let cookies =
        &[("set-cookie", "a=1; Path=/x"), ("set-cookie", "__Host-b=2; Secure; Path=/"), ("set-cookie", "c=3")];
    let expected = ["a=1; Path=/shop/x", "__Host-b=2; Secure; Path=/", "c=3"];
    assert_eq!(answered(STRIPPED, "/shop/a", cookies).await, expected);
}

#[tokio::test]
async fn references_to_other_places_stay_as_they_were() {
    for fields in [
        &[("location", "https://login.example/x")][..],
        &[("location", "https://localhost/x")],
        &[("location", "//evil.example/x")],
        &[("location", "/shop/x")],
        &[("location", "/\\evil.example")],
        &[("set-cookie", "a=1; Path=/shop; Domain=example.com")],
    ] {
        assert_eq!(answered(STRIPPED, "/shop/a", fields).await, [fields[0].1]);
    }
    let upstream = saying(&[("location", "http://HOST//evil.example")]).await;
    let gateway = Gateway::before(upstream.address, &["path: /**, access: public"]);
    let answer = Client::new(&gateway).get("/x").await;
    assert_eq!(answer.header("location"), format!("http://{}//evil.example", upstream.address));
}

#[tokio::test]
async fn a_route_without_mapping_passes_answers_as_they_are() {
    let route = "path: /shop/**, access: public, strip_prefix: /shop, map_responses: false";
    assert_eq!(answered(route, "/shop/a", &[("location", "/x")]).await, ["/x"]);
    assert_eq!(answered(route, "/shop/a", &[("set-cookie", "a=1; Path=/")]).await, ["a=1; Path=/"]);
}

/// A `Host` that a caller has made up changes no answer.
#[tokio::test]
async fn the_host_of_a_request_is_never_in_a_mapped_field() {
    let upstream = saying(&[("location", "http://HOST/x"), ("content-location", "https://evil.example/y")]).await;
    let gateway = Gateway::before(upstream.address, &[STRIPPED]);
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send("GET /shop/a HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    let answer = wire.answer().await.unwrap();
    let told = (answer.header("location"), answer.header("content-location"));
    assert_eq!(told, (Some("/shop/x"), Some("https://evil.example/y")));
}

#[tokio::test]
async fn a_response_rule_of_the_route_is_not_mapped() {
    let route = "path: /shop/**, access: public, strip_prefix: /shop, response_headers: {set: {Location: /x}}";
    assert_eq!(answered(route, "/shop/a", &[("location", "/y")]).await, ["/x"]);
}

#[tokio::test]
async fn answers_of_an_http2_upstream_are_mapped() {
    let service = by_http2(|request| async move {
        let location = format!("http://{}/x", request.uri().authority().unwrap());
        Response::builder().status(302).header("location", location).body(Full::<bytes::Bytes>::default()).unwrap()
    })
    .await;
    let gateway = Gateway::before_http2(service, &[STRIPPED]);
    for client in gateway.both() {
        assert_eq!(client.get("/shop/a").await.header("location"), "/shop/x");
    }
}

#[tokio::test]
async fn answers_to_handshakes_are_mapped() {
    let cookie = "Set-Cookie: a=1; Path=/\r\nLocation: /x\r\n";
    let agreed = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{cookie}\r\n");
    let refused = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n{cookie}\r\n");
    for (answer, status) in [(agreed, 101), (refused, 403)] {
        let upstream = RawUpstream::saying_and_staying(answer).await;
        let gateway = Gateway::before(upstream.address, &[&format!("{STRIPPED}, upgrades: [tcp]")]);
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send("GET /shop/a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").await;
        let answer = wire.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("set-cookie")), (status, Some("a=1; Path=/shop")), "{}", answer.head);
        assert_eq!(answer.header("location"), Some("/shop/x"));
    }
}

#[tokio::test]
async fn the_upstream_gets_the_prefix_that_was_removed() {
    let upstream = Upstream::start().await;
    let routes = [
        STRIPPED,
        "path: \"/a b/{x}/**\", access: public, rewrite: \"/{x}/**\"",
        "path: /moved/**, access: public, rewrite: /new/**",
        "path: \"/t/{tenant}/**\", access: public, rewrite: \"/**\"",
        "path: /plain/**, access: public",
    ];
    let gateway = Gateway::before(upstream.address, &routes);
    for client in gateway.both() {
        // One connection for all of them.
        let mut connection = client.connect().await;
        for (path, prefix) in [
            ("/shop/x", Some("/shop")),
            ("/shop/y", Some("/shop")),
            ("/a%20b/x/y", Some("/a%20b")),
            ("/moved/x", None),
            ("/t/acme/x", None),
            ("/plain/x", None),
            ("/shop", Some("/shop")),
        ] {
            let forged = with_header(request("GET", path), "x-forwarded-prefix", "/forged");
            assert_eq!(connection.send(forged).await.status, 200);
            let seen = upstream.seen().pop().unwrap();
            let prefixes = values(&seen.headers, "x-forwarded-prefix");
            assert_eq!(prefixes, prefix.into_iter().collect::<Vec<_>>(), "{path}");
        }
    }
}

#[tokio::test]
async fn each_side_of_a_split_is_known_by_its_own_address() {
    let (stable, canary) =
        (saying(&[("location", "http://HOST/x")]).await, saying(&[("location", "http://HOST/y")]).await);
    let upstreams =
        format!("upstreams: {{stable: \"http://{}\", canary: \"http://{}\"}}", stable.address, canary.address);
    let route = "path: /shop/**, access: public, strip_prefix: /shop, upstream: {stable: 50, canary: 50}";
    let gateway = Gateway::start(&config(stable.address, &[route], &upstreams));
    let mut connection = Client::new(&gateway).connect().await;
    while stable.seen().is_empty() || canary.seen().is_empty() {
        let location = connection.send(request("GET", "/shop/a")).await.header("location").to_owned();
        assert!(["/shop/x", "/shop/y"].contains(&location.as_str()), "{location}");
    }
}
