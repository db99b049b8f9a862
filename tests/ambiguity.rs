//! A request that could be read in two ways is refused and never repaired: paths, hosts, framing. No upstream sees any
//! of it, and the gateway goes on.

use crate::support::client::request;
use crate::support::wire::{Wire, field, within};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

/// `/open` and all below is open, `/admin` and all below closed.
struct World {
    upstream: Upstream,
    gateway: Gateway,
}

impl World {
    async fn start() -> Self {
        let upstream = Upstream::start().await;
        let routes = ["path: /open/**, access: public", "path: /admin/**, access: {}"];
        let gateway = Gateway::start(&config(upstream.address, &routes, ""));
        Self { upstream, gateway }
    }

    /// The status, and whether the connection was closed behind it; 0 where there was no answer at all.
    async fn say(&self, bytes: &[u8]) -> (u16, bool) {
        let mut wire = Wire::new(Client::new(&self.gateway).tls().await.unwrap());
        wire.send(bytes).await;
        match wire.answer().await {
            Some(answer) => (answer.status, field(&answer.head, "connection") == Some("close")),
            None => (0, true),
        }
    }

    /// These bytes get one of these statuses (0 is none at all), over a connection that is then closed; no upstream
    /// sees them.
    async fn refuses(&self, bytes: &[u8], statuses: &[u16]) {
        let (status, closed) = self.say(bytes).await;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
        assert!(statuses.contains(&status), "{status}: {text:?}");
        assert!(closed || status != 0, "{text:?}");
        assert_eq!(self.upstream.seen().len(), 0, "{text:?}");
    }

    /// After all that, an honest request is answered.
    async fn goes_on(&self) {
        for client in self.gateway.both() {
            assert_eq!(client.get("/open/canary").await.status, 200);
        }
        assert_eq!(self.upstream.seen().len(), 2);
        assert!(!self.gateway.log_text().contains("panicked"), "{}", self.gateway.log_text());
    }
}

/// Paths over HTTP/1.1, byte by byte, and over HTTP/2 where its client can be made to say them.
async fn paths_are(statuses: &[u16], paths: &[&str]) {
    let world = World::start().await;
    for path in paths {
        world.refuses(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), statuses).await;
        let url = format!("https://localhost{path}");
        let Ok(uri) = url.parse::<http::Uri>() else { continue };
        let mut over_http2 = request("GET", "/");
        *over_http2.uri_mut() = uri;
        let answer = within(Client::http2(&world.gateway).connect().await.try_send(over_http2)).await;
        assert!(answer.is_ok_and(|answer| statuses.contains(&answer.status)), "{path} over HTTP/2");
        assert_eq!(world.upstream.seen().len(), 0, "{path} over HTTP/2");
    }
    world.goes_on().await;
}

async fn heads_are(statuses: &[u16], heads: &[&str]) {
    let world = World::start().await;
    for head in heads {
        world.refuses(head.as_bytes(), statuses).await;
    }
    world.goes_on().await;
}

#[tokio::test]
async fn dot_segments_are_refused_however_they_are_spelt() {
    paths_are(
        &[400],
        &[
            "/open/../admin",
            "/open/%2e%2e/admin",
            "/open/%2E%2e/admin",
            "/open/.%2e/admin",
            "/open/%2e./admin",
            "/open/./../admin",
            "/open/./x",
            "/open/%2e/x",
            "/open/..",
            "/open/.",
            "/..",
            "/.",
            "/open/..;/admin",
            "/open/%252e%252e/admin",
            "/open/%252e%252e%252fadmin",
            "/open/%25%32%65%25%32%65/admin",
        ],
    )
    .await;
}

#[tokio::test]
async fn empty_segments_are_refused() {
    paths_are(&[400], &["/open//x", "/open//", "//admin", "//localhost/admin", "/open///x", "//"]).await;
}

#[tokio::test]
async fn encoded_and_backward_slashes_are_refused() {
    paths_are(&[400], &["/open%2fx", "/open%2Fx", "/open%5cx", "/open/..%2fadmin", "/open\\x", "/open/..\\admin"])
        .await;
}

#[tokio::test]
async fn bad_escapes_controls_and_raw_bytes_are_refused() {
    paths_are(
        &[400],
        &[
            "/open/%c0%ae%c0%ae/admin",
            "/open/%e0%80%ae",
            "/open/%zz",
            "/open/%",
            "/open/%2",
            "/open/%00",
            "/open/%0d%0aX:y",
            "/open/%7f",
            "/open/%ff",
            "/open/%u002e",
            "/open/\u{fc}",
            "/open/\u{ff0e}\u{ff0e}/admin",
            "/open/\"x\"",
            "/open/{x}",
            "/open/x|y",
            "/open/\u{7f}",
            "/open/x?a=\u{7f}",
            "/open/x?a=\u{fc}",
        ],
    )
    .await;
}

#[tokio::test]
async fn path_parameters_are_refused() {
    paths_are(&[400], &["/admin;x=1", "/open;/admin", "/open/x;jsessionid=1", "/;/admin"]).await;
}

#[tokio::test]
async fn a_closed_path_stays_closed_with_any_suffix() {
    paths_are(&[401], &["/admin?x=/open", "/admin?", "/admin/?/../open", "/%61dmin/x", "/admin/%78", "/admin/"]).await;
}

#[tokio::test]
async fn long_paths_of_nothing_are_refused_at_once() {
    let (slashes, dots, long) = ("/".repeat(8000), "../".repeat(2000), "a".repeat(8193));
    paths_are(&[400], &[&slashes, &format!("/open/{dots}")]).await;
    paths_are(&[414], &[&format!("/open/{long}"), &format!("/open?{long}")]).await;
}

#[tokio::test]
async fn targets_that_are_no_path_are_refused() {
    heads_are(
        &[400, 405, 0],
        &[
            "CONNECT internal:443 HTTP/1.1\r\nHost: internal:443\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET open/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/open/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  /open/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /open/x y HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\t/open/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let long = format!("GET /open/x HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(8192));
    heads_are(
        &[400],
        &[
            "GET /open/x HTTP/1.1\r\n\r\n",
            "GET /open/x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET http://a/open/x HTTP/1.1\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost:\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: a:b\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: a:99999\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: [::1\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: a%00\r\n\r\n",
            "GET /open/x HTTP/1.1\r\nHost: \u{e4}\r\n\r\n",
            "GET http://b/open/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://user@a/open/x HTTP/1.1\r\nHost: a\r\n\r\n",
            &long,
        ],
    )
    .await;
}

#[tokio::test]
async fn a_request_over_http_1_0_may_name_no_host() {
    let world = World::start().await;
    assert_eq!(world.say(b"GET /open/x HTTP/1.0\r\n\r\n").await.0, 200);
    let seen = world.upstream.seen();
    assert!(!seen[0].headers.contains_key("x-forwarded-host"));
    assert_eq!(seen[0].headers["forwarded"], "for=127.0.0.1;proto=https");
}

#[tokio::test]
async fn a_request_about_the_gateway_is_answered_by_it() {
    let world = World::start().await;
    let forwarded = |left| format!("OPTIONS /open/x HTTP/1.1\r\nHost: a\r\nMax-Forwards: {left}\r\n\r\n");
    assert_eq!(world.say(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await, (204, false));
    assert_eq!(world.say(forwarded(0).as_bytes()).await, (204, false));
    assert_eq!(world.upstream.seen().len(), 0);
    assert_eq!(world.say(forwarded(1).as_bytes()).await, (200, false));
    assert_eq!(world.upstream.seen()[0].headers["max-forwards"], "0");
}

#[tokio::test]
async fn over_http2_too_host_and_authority_agree() {
    let world = World::start().await;
    let client = Client::http2(&world.gateway);
    for host in ["other", "localhost:1", "", "localhost, other"] {
        let mut twofold = request("GET", "/open/x");
        twofold.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(client.send(twofold).await.status, 400, "{host:?}");
    }
    let mut alone = request("GET", "/open/x");
    alone.headers_mut().remove("host");
    assert_eq!((world.upstream.seen().len(), client.send(alone).await.status), (0, 200));
}

#[tokio::test]
async fn an_absolute_target_names_the_host() {
    let world = World::start().await;
    let (status, _) = world.say(b"GET https://localhost/open/x?y HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((status, world.upstream.only().target.as_str()), (200, "/open/x?y"));
    let (status, _) = world.say(b"GET http://localhost/open/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((status, world.upstream.seen().len()), (400, 1), "a scheme that is not the connection's");
}
