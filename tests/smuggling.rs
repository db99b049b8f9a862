//! A request is where its connection says it is and nowhere else: none in a body, behind an upgrade or in a trailer,
//! and each answer goes to its own request.

use crate::support::client::{request, with_header};
use crate::support::upstream::Seen;
use crate::support::wire::{Wire, field};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

const SECRET: &str = "planted-secret-d41d8c";

/// `/open` is open, `/small` too for a body of one byte, `/closed` is closed.
struct World {
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    async fn start() -> Self {
        let upstream = Upstream::answering(|seen: &Seen| {
            http::Response::builder().header("x-case", seen.headers["x-case"].clone()).body("ok".into()).unwrap()
        })
        .await;
        let routes = [
            "path: /open/**, access: public",
            "path: /small, access: public, body_bytes: 1B",
            "path: /closed, access: {}",
        ];
        let gateway = Gateway::start(&config(upstream.address, &routes, "limits: {body_idle_timeout: 300ms}"));
        Self { upstream, gateway }
    }

    /// The statuses of all answers to these bytes, with the number of the request that each one tells.
    async fn say(&self, bytes: impl AsRef<[u8]>) -> Vec<(u16, Option<String>)> {
        let mut wire = Wire::new(Client::new(&self.gateway).tls().await.unwrap());
        wire.send(bytes).await;
        let mut said = Vec::new();
        while let Some(answer) = wire.answer().await {
            if answer.status < 200 {
                continue;
            }
            if let Some(id) = answer.header("x-request-id") {
                assert_eq!(self.gateway.audit_of(id)["http.response.status_code"], answer.status);
            }
            said.push((answer.status, answer.header("x-case").map(str::to_owned)));
            if field(&answer.head, "connection") == Some("close") {
                break;
            }
        }
        said
    }

    fn seen(&self) -> Vec<String> {
        self.upstream.seen().iter().map(|seen| seen.header("x-case").to_owned()).collect()
    }

    /// A client goes on being served, and what was planted is nowhere.
    async fn goes_on(&self) {
        for client in self.gateway.both() {
            assert_eq!(client.send(with_header(request("GET", "/open/canary"), "x-case", "canary")).await.status, 200);
        }
        let written = self.gateway.log_text() + &self.gateway.audit_text();
        assert!(!written.contains("panicked") && !written.contains(SECRET), "{written}");
    }
}

fn ask(method: &str, path: &str, case: &str, fields: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nX-Case: {case}\r\n{fields}\r\n{body}")
}

fn hidden() -> String {
    ask("GET", "/open/hidden", "hidden", &format!("Authorization: Bearer {SECRET}\r\n"), "")
}

fn last() -> String {
    ask("GET", "/open/last", "last", "Connection: close\r\n", "")
}

#[tokio::test]
async fn a_request_inside_a_body_is_never_a_request() {
    let world = World::start().await;
    let (inner, chunk) = (hidden(), format!("{:x}\r\n{}\r\n0\r\n\r\n", hidden().len(), hidden()));
    for (path, expected) in
        [("/open/x", 200), ("/closed", 401), ("/small", 413), ("/none", 404), ("/open//x", 400), ("/open/%2561", 400)]
    {
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
            for expect in ["", "Expect: 100-continue\r\n", "Expect: something-else\r\n"] {
                for (framing, body) in [
                    (format!("Content-Length: {}", inner.len()), &inner),
                    ("Transfer-Encoding: chunked".to_owned(), &chunk),
                ] {
                    // The body that an answer to HEAD announces never comes: the request has a connection of its own.
                    let next = if method == "HEAD" { String::new() } else { last() };
                    let close = if method == "HEAD" { "Connection: close\r\n" } else { "" };
                    let said =
                        world.say(ask(method, path, "outer", &format!("{expect}{close}{framing}\r\n"), body) + &next);
                    let mut said = said.await.into_iter();
                    let first = said.next().map(|answer| answer.0);
                    assert_eq!(first, Some(expected), "{method} {path} {expect}{framing}");
                    let next = said.next().map(|answer| (answer.0, answer.1.unwrap_or_default()));
                    assert!(
                        next.is_none_or(|next| next == (200, "last".to_owned())),
                        "{method} {path} {expect}{framing}"
                    );
                }
            }
        }
        assert!(!world.seen().contains(&"hidden".to_owned()), "{path}");
        assert_eq!(world.seen().contains(&"outer".to_owned()), expected == 200, "{path}");
        world.upstream.forget();
    }
    world.goes_on().await;
}

#[tokio::test]
async fn bytes_after_an_upgrade_request_are_the_next_request() {
    let world = World::start().await;
    for upgrade in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n",
    ] {
        let closed = ask("GET", "/closed", "closed", "", "");
        let said = world.say(ask("GET", "/open/x", "first", upgrade, "") + &closed + &last()).await;
        let said: Vec<_> = said.iter().map(|(status, case)| (*status, case.as_deref())).collect();
        assert_eq!(said, [(200, Some("first")), (401, None), (200, Some("last"))], "{upgrade}");
        let seen = world.upstream.seen();
        assert_eq!(["upgrade", "http2-settings"].map(|name| seen[0].headers.get(name)), [None; 2]);
        assert_eq!(seen[0].header("connection"), "keep-alive", "the gateway's own");
        assert_eq!(world.seen(), ["first", "last"]);
        world.upstream.forget();
    }
    world.goes_on().await;
}

#[tokio::test]
async fn no_method_makes_a_tunnel() {
    let world = World::start().await;
    for (method, target, statuses) in [
        ("CONNECT", "a:443", [400, 405]),
        ("CONNECT", "/open/x", [400, 405]),
        ("TRACE", "/open/x", [405, 405]),
        ("FOO", "/open/x", [405, 405]),
    ] {
        let said =
            world.say(ask(method, target, "first", "", "") + &ask("GET", "/closed", "closed", "", "") + &last()).await;
        assert!(said.first().is_none_or(|first| statuses.contains(&first.0)), "{method} {target}: {said:?}");
        assert!(
            said.iter()
                .skip(1)
                .all(|(status, case)| [(401, None), (200, Some("last"))].contains(&(*status, case.as_deref())))
        );
        assert!(!world.seen().contains(&"first".to_owned()), "{method}");
    }
    world.goes_on().await;
}

#[tokio::test]
async fn unambiguous_lengths_and_sizes_are_forwarded() {
    let world = World::start().await;
    let mut passed = 0;
    for (fields, body) in [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ("Content-Length: 05\r\n", "hello"),
        ("Content-Length:\t5 \r\n", "hello"),
        ("Transfer-Encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0005;a=\"b\"\r\nhello\r\n0;x\r\n\r\n"),
    ] {
        let said = world.say(ask("POST", "/open/x", "first", fields, body) + &last()).await;
        let seen = world.upstream.seen();
        match said[0].0 {
            200 => {
                let first = seen.iter().find(|seen| seen.header("x-case") == "first").unwrap();
                let framing =
                    ["content-length", "transfer-encoding"].map(|name| first.headers.get_all(name).iter().count());
                assert_eq!((&first.body[..], framing.iter().sum::<usize>()), (&b"hello"[..], 1), "{fields:?}");
                assert_eq!(said.get(1).map(|next| next.0), Some(200), "{fields:?}");
                passed += 1;
            }
            status => assert_eq!((status, seen.len()), (400, 0), "{fields:?}"),
        }
        world.upstream.forget();
    }
    assert!(passed >= 4, "{passed}");
    world.goes_on().await;
}

#[tokio::test]
async fn trailers_neither_frame_nor_identify() {
    let world = World::start().await;
    for trailer in [
        "Content-Length: 50",
        "Transfer-Encoding: chunked",
        "Host: b",
        "Authorization: Bearer forged",
        "X-Auth-Subject: forged",
        "X-Forwarded-For: forged",
        "X-Case: forged",
        "Connection: close",
    ] {
        let announced = "Transfer-Encoding: chunked\r\nTrailer: X-Auth-Subject, Content-Length\r\n";
        let body = format!("3\r\nabc\r\n0\r\n{trailer}\r\n\r\n");
        let said = world.say(ask("POST", "/open/x", "first", announced, &body) + &last()).await;
        assert_eq!(said.len(), 2, "{trailer}: {said:?}");
        for seen in world.upstream.seen() {
            assert!(!format!("{:?}", seen.headers).contains("forged"), "{trailer}: {seen:?}");
            assert_eq!(["trailer", "authorization"].map(|name| seen.headers.get(name)), [None; 2]);
        }
        assert_eq!(world.seen(), ["first", "last"], "{trailer}");
        world.upstream.forget();
    }
    world.goes_on().await;
}

#[tokio::test]
async fn every_one_of_many_requests_in_one_breath_gets_its_own_answer() {
    let world = World::start().await;
    let cases: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    let path = |number: usize| ["/open/x", "/closed", "/none"][number % 3];
    let breath: String =
        cases.iter().enumerate().map(|(number, case)| ask("GET", path(number), case, "", "")).collect();
    let said = world.say(breath + &last()).await;
    assert_eq!(said.len(), 61);
    for (number, (status, case)) in said[..60].iter().enumerate() {
        let expected = [(200, Some(cases[number].as_str())), (401, None), (404, None)][number % 3];
        assert_eq!((*status, case.as_deref()), expected, "{number}");
    }
    assert_eq!(world.upstream.seen().len(), 21);
    world.goes_on().await;
}

#[tokio::test]
async fn a_fragment_is_refused() {
    let world = World::start().await;
    for target in ["/open/x#/../../closed", "/closed#/open", "/open/x?a#b?c", "/open/x#", "http://a/open/x#b"] {
        let said = world.say(ask("GET", target, "first", "", "") + &last()).await;
        assert_eq!(said, [(400, None)], "{target}");
        assert!(world.upstream.seen().is_empty(), "{target}");
    }
    world.goes_on().await;
}

#[tokio::test]
async fn credentials_are_said_once_and_in_their_place_or_not_at_all() {
    let world = World::start().await;
    let bearer = format!("Authorization: Bearer {SECRET}\r\n");
    for (path, fields, status) in [
        ("/closed", bearer.repeat(2), 400),
        ("/closed", format!("Authorization: Basic YTpi\r\n{bearer}"), 400),
        ("/closed", format!("Authorization: Bearer a, Bearer {SECRET}\r\n"), 401),
        ("/closed", format!("Cookie: access_token={SECRET}\r\n"), 401),
        ("/closed", format!("Proxy-Authorization: Bearer {SECRET}\r\n"), 401),
        ("/closed", "X-Auth-Subject: admin\r\nX-Auth-Scope: read:data\r\nX-Forwarded-User: admin\r\n".to_owned(), 401),
        (&format!("/closed?access_token={SECRET}"), String::new(), 401),
    ] {
        let said = world.say(ask("GET", path, "first", &format!("{fields}Connection: close\r\n"), "")).await;
        assert_eq!((said[0].0, world.seen().len()), (status, 0), "{path} {fields}");
    }
    world.goes_on().await;
}

#[tokio::test]
async fn the_peer_is_the_other_end_of_the_socket() {
    let world = World::start().await;
    let hops = "10.0.0.1, ".repeat(1000) + "10.0.0.2";
    for named in [&hops, "unknown", "fe80::1%eth0", "\"[::1]:80\"", "127.0.0.1, evil", "", ",,,"] {
        let fields = format!(
            "X-Forwarded-For: {named}\r\nX-Real-IP: 10.0.0.3\r\nForwarded: for=10.0.0.4\r\nConnection: close\r\n"
        );
        let mut wire = Wire::new(Client::new(&world.gateway).tls().await.unwrap());
        wire.send(ask("GET", "/open/x", "first", &fields, "")).await;
        let answer = wire.answer().await.unwrap();
        let seen = world.upstream.only();
        assert_eq!((answer.status, seen.header("x-forwarded-for")), (200, "127.0.0.1"));
        assert_eq!(seen.headers.get_all("x-forwarded-for").iter().count(), 1);
        assert!(!seen.header("forwarded").contains("10.0.0.4") && seen.header("x-real-ip") == "127.0.0.1");
        assert_eq!(world.gateway.audit_of(answer.header("x-request-id").unwrap())["client.address"], "127.0.0.1");
        world.upstream.forget();
    }
    world.goes_on().await;
}
