//! The request as the upstream sees it, and the answer as the client sees it: complete, and without foreign fields.
//!
//! Every request is sent over HTTP/1.1 and over HTTP/2 unless one of them has no words for it.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use crate::support::client::{request, with_body, with_header, with_token};
use crate::support::upstream::Seen;
use crate::support::wire::{Spoken, Wire};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const ALL: &str = "path: /**, access: public";

/// Sends the request over both protocols; gives what the upstream saw and what the client got.
async fn through(route: &str, request: &Request<Full<Bytes>>) -> Vec<(Seen, Answer)> {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &[route]);
    let mut passed = Vec::new();
    for client in gateway.both() {
        let answer = client.send(request.clone()).await;
        let seen = upstream.seen().pop().unwrap_or_else(|| panic!("nothing came through: {answer:?}"));
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.decision"], "allow");
        passed.push((seen, answer));
    }
    passed
}

/// The header field does not reach the upstream, by either protocol.
async fn stays_behind(name: &'static str, value: &str) {
    let sent = with_header(with_header(request("GET", "/x"), name, value), "x-other", "kept");
    for (seen, _) in through(ALL, &sent).await {
        assert!(seen.headers.get_all(name).iter().all(|left| left != value), "{name}: {seen:?}");
        assert_eq!(seen.header("x-other"), "kept");
    }
}

/// The upstream's answer as clients get it.
async fn answered(request: &Request<Full<Bytes>>, answer: fn() -> Response<Full<Bytes>>) -> Vec<Answer> {
    let upstream = Upstream::answering(move |_| answer()).await;
    let gateway = Gateway::before(upstream.address, &[ALL]);
    let mut answers = Vec::new();
    for client in gateway.both() {
        answers.push(client.send(request.clone()).await);
    }
    answers
}

/// Says this by hand to a gateway with one public route; gives the answer and what the upstream saw of it.
async fn by_hand(text: &str) -> (Spoken, Vec<Seen>) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &[ALL]);
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send(text).await;
    let answer = wire.answer().await.unwrap();
    (answer, upstream.seen())
}

#[tokio::test]
async fn method_target_header_and_body_pass_as_they_are() {
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let sent =
            with_header(with_body(request(method, "/a/b?x=1&x=2&y=%20;"), "the body"), "x-custom", "a, b; c=\"d\"");
        for (seen, answer) in through(ALL, &sent).await {
            assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, "/a/b?x=1&x=2&y=%20;"));
            assert_eq!((seen.header("x-custom"), &seen.body[..]), ("a, b; c=\"d\"", &b"the body"[..]));
        }
    }
}

#[tokio::test]
async fn repeated_header_fields_keep_their_values_and_order() {
    let sent = with_header(with_header(request("GET", "/x"), "x-many", "1"), "x-many", "2");
    for (seen, _) in through(ALL, &sent).await {
        assert_eq!(seen.headers.get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}

#[tokio::test]
async fn a_method_of_the_routes_own_passes() {
    for (seen, _) in through("path: /x, methods: [PROPFIND], access: public", &request("PROPFIND", "/x")).await {
        assert_eq!(seen.method, "PROPFIND");
    }
}

#[tokio::test]
async fn status_header_and_body_of_the_answer_pass_as_they_are() {
    let answer = || {
        let response = Response::builder().status(418).header("etag", "\"a\"").header("location", "http://inside/x");
        let response = response.header("set-cookie", "a=1; Path=/").header("set-cookie", "b=2");
        response.header("www-authenticate", "Basic realm=\"theirs\"").body(Full::from("short and stout")).unwrap()
    };
    for got in answered(&request("GET", "/x"), answer).await {
        assert_eq!((got.status, &got.body[..]), (418, &b"short and stout"[..]));
        assert_eq!((got.header("etag"), got.header("location")), ("\"a\"", "http://inside/x"));
        assert_eq!(got.header("www-authenticate"), "Basic realm=\"theirs\"");
        assert_eq!(got.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1; Path=/", "b=2"]);
    }
}

/// Ours would be `deny`, with a reason.
#[tokio::test]
async fn an_upstreams_own_401_passes_and_is_audited_as_allowed() {
    let theirs = |_: &Seen| {
        let response = Response::builder().status(401).header("www-authenticate", "Bearer realm=\"theirs\"");
        response.body(Full::from("theirs")).unwrap()
    };
    let upstream = Upstream::answering(theirs).await;
    let gateway = Gateway::before(upstream.address, &[ALL]);
    for client in gateway.both() {
        let answer = client.get("/x").await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer realm=\"theirs\""));
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], line.get("gateway.reason")), (&"allow".into(), None));
    }
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_not_followed() {
    let to_itself =
        |_: &Seen| Response::builder().status(302).header("location", "/elsewhere").body(Full::default()).unwrap();
    let upstream = Upstream::answering(to_itself).await;
    let gateway = Gateway::before(upstream.address, &[ALL]);
    for (number, client) in gateway.both().iter().enumerate() {
        assert_eq!(client.get("/x").await.header("location"), "/elsewhere");
        assert_eq!(upstream.seen().len(), number + 1);
    }
}

#[tokio::test]
async fn an_answer_loses_hop_by_hop_fields_and_keeps_its_cookies() {
    let answer = || {
        let response = Response::builder().header("connection", "x-once, set-cookie").header("x-once", "1");
        let response = response.header("keep-alive", "timeout=5").header("proxy-connection", "keep-alive");
        let response = response.header("x-auth-subject", "forged").header("ratelimit", "forged");
        let response = response.header("x-request-id", "forged").header("upgrade", "h2c").header("set-cookie", "a=1");
        response.body(Full::from("ok")).unwrap()
    };
    for got in answered(&request("GET", "/x"), answer).await {
        for name in ["x-once", "keep-alive", "proxy-connection", "upgrade", "x-auth-subject", "ratelimit", "connection"]
        {
            assert_eq!(got.headers.get(name), None, "{name}");
        }
        assert_eq!((got.header("set-cookie"), got.request_id().len()), ("a=1", 32));
    }
}

#[tokio::test]
async fn answers_to_head_have_a_length_and_no_body() {
    let answer = || Response::builder().header("content-length", "12345").body(Full::default()).unwrap();
    for got in answered(&request("HEAD", "/x"), answer).await {
        assert_eq!((got.status, got.header("content-length"), got.body.len()), (200, "12345", 0));
    }
}

#[tokio::test]
async fn answers_without_content_have_none() {
    let no_content = || Response::builder().status(204).header("x-own", "1").body(Full::default()).unwrap();
    let not_modified = || Response::builder().status(304).header("x-own", "1").body(Full::default()).unwrap();
    for (status, answer) in [(204, no_content as fn() -> _), (304, not_modified)] {
        for got in answered(&request("GET", "/x"), answer).await {
            assert_eq!((got.status, got.header("x-own"), got.body.len()), (status, "1", 0));
            assert_eq!(got.headers.get("content-length"), None);
        }
    }
}

#[tokio::test]
async fn a_prefix_is_stripped_and_the_query_kept() {
    for (path, target) in
        [("/api/v1/x?y=/api", "/v1/x?y=/api"), ("/api", "/"), ("/api/?q", "/?q"), ("/api/a%20b/", "/a%20b/")]
    {
        for (seen, _) in through("path: /api/**, access: public, strip_prefix: /api", &request("GET", path)).await {
            assert_eq!(seen.target, target, "{path}");
        }
    }
}

#[tokio::test]
async fn headers_are_set_and_removed_as_the_route_says() {
    let sent = with_header(with_header(request("GET", "/x"), "x-env", "theirs"), "x-debug", "1");
    let route = "path: /x, access: public, headers: {set: {X-Env: prod, X-New: \"1\"}, remove: [X-Debug]}";
    for (seen, _) in through(route, &sent).await {
        assert_eq!(seen.headers.get_all("x-env").iter().collect::<Vec<_>>(), ["prod"]);
        assert_eq!((seen.header("x-new"), seen.headers.get("x-debug")), ("1", None));
    }
}

#[tokio::test]
async fn the_upstream_receives_client_host_and_protocol() {
    for ((seen, answer), via) in through(ALL, &request("GET", "/x")).await.iter().zip(["1.1", "2"]) {
        assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
        assert_eq!(seen.header("x-forwarded-proto"), "https");
        assert_eq!(seen.header("x-forwarded-host"), "localhost");
        assert_eq!((seen.header("x-forwarded-port"), seen.header("x-real-ip")), ("443", "127.0.0.1"));
        assert_eq!(seen.header("forwarded"), "for=127.0.0.1;host=\"localhost\";proto=https");
        assert_eq!(seen.header("via"), format!("{via} portcullis"));
        assert_eq!(seen.header("x-request-id"), answer.request_id());
        assert!(seen.header("host").starts_with("127.0.0.1:"), "{seen:?}");
        assert_eq!(seen.headers.get_all("host").iter().count(), 1);
    }
}

#[tokio::test]
async fn gateway_headers_are_never_accepted_from_a_client() {
    let names = [
        "x-auth-subject",
        "x-auth-client-id",
        "x-auth-scope",
        "x-auth-issuer",
        "x-auth-anything",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-prefix",
        "x-forwarded-user",
        "forwarded",
        "via",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-client-cert",
        "x-request-id",
        "x-http-method-override",
        "x-original-method",
        "client-cert",
        "client-cert-chain",
        "x-client-cert-chain",
        "x-client-verify",
        "x-client-dn",
        "x-forwarded-port",
        "x-forwarded-client-cert",
        "x-forwarded-tls-client-cert",
        "x-ssl-client-verify",
        "x-ssl-client-s-dn",
        "ssl-client-cert",
        "x-tls-client-cert",
        "x-arr-clientcert",
        "x-amzn-mtls-clientcert-leaf",
    ];
    for name in names {
        stays_behind(name, "10.9.8.7").await;
    }
}

#[tokio::test]
async fn look_alikes_of_protected_names_are_refused_others_pass() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &[ALL]);
    let names = [
        "x_auth_subject",
        "x-auth_subject",
        "x_forwarded_for",
        "x_forwarded_port",
        "x-forwarded_prefix",
        "x_real_ip",
        "x.real.ip",
        "content_length",
        "transfer_encoding",
        "proxy_connection",
        "x_request_id",
        "http2_settings",
        "client_cert",
        "client_cert-chain",
        "ssl_client_verify",
    ];
    for client in gateway.both() {
        for name in names {
            let answer = client.send(with_header(request("GET", "/x"), name, "1")).await;
            assert_eq!((answer.status, upstream.seen().len()), (400, 0), "{name}");
            assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "bad_request");
        }
    }
    for client in gateway.both() {
        client.send(with_header(request("GET", "/x"), "api_key", "1")).await;
        assert_eq!(upstream.seen().pop().unwrap().header("api_key"), "1");
    }
}

#[tokio::test]
async fn hop_by_hop_and_connection_listed_fields_stay_behind() {
    let (answer, seen) = by_hand(
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Once\r\nX-Once: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
         X-Other: kept\r\n\r\n",
    )
    .await;
    assert_eq!((answer.status, seen[0].header("x-other")), (200, "kept"));
    assert_eq!(seen[0].header("connection"), "keep-alive", "the gateway's own");
    let gone = ["x-once", "keep-alive", "te", "proxy-connection", "proxy-authorization", "upgrade", "http2-settings"];
    assert_eq!(gone.map(|name| seen[0].headers.get(name)), [None; 7]);
}

#[tokio::test]
async fn connection_may_not_list_protected_names() {
    for listed in
        ["X-Auth-Subject", "close, Authorization", "Host", "Content-Length", "X-Forwarded-For", "x_auth_scope", "\"a\""]
    {
        let (answer, seen) = by_hand(&format!("GET /x HTTP/1.1\r\nHost: a\r\nConnection: {listed}\r\n\r\n")).await;
        assert_eq!((answer.status, seen.len()), (400, 0), "{listed}");
    }
}

#[tokio::test]
async fn trailers_are_never_merged_into_the_header() {
    let (answer, seen) = by_hand(
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\
         X-Auth-Subject: forged\r\nContent-Length: 9\r\nHost: b\r\nX-Late: 1\r\n\r\n",
    )
    .await;
    assert_eq!((answer.status, &seen[0].body[..]), (200, &b"abc"[..]));
    assert_eq!(["x-auth-subject", "content-length", "x-late"].map(|name| seen[0].headers.get(name)), [None; 3]);
    assert_ne!(seen[0].header("host"), "b");
}

#[tokio::test]
async fn cookies_that_http2_sends_apart_become_one_field() {
    let sent = with_header(with_header(request("GET", "/x"), "cookie", "a=1"), "cookie", "b=2");
    for (seen, _) in through(ALL, &sent).await {
        assert_eq!(seen.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}

#[tokio::test]
async fn trace_context_passes() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent = with_header(with_header(request("GET", "/x"), "traceparent", traceparent), "tracestate", "a=b");
    for (seen, _) in through(ALL, &sent).await {
        assert_eq!((seen.header("traceparent"), seen.header("tracestate")), (traceparent, "a=b"));
    }
}

#[tokio::test]
async fn authorization_is_the_services_own_on_a_public_route() {
    let sent = with_header(request("GET", "/x"), "authorization", "Basic dGhlaXI6b3du");
    for (seen, _) in through(ALL, &sent).await {
        assert_eq!(seen.header("authorization"), "Basic dGhlaXI6b3du");
        assert_eq!(seen.headers.get("x-auth-subject"), None);
    }
}

#[tokio::test]
async fn a_protected_route_names_its_caller_and_keeps_the_token() {
    let upstream = Upstream::start().await;
    let rule = "access: {scopes: [read:data]}";
    let kept = format!("path: /kept, {rule}");
    let passed = format!("path: /passed, {rule}, forward_token: true");
    let gateway = Gateway::start(&config(upstream.address, &[&kept, &passed], ""));
    let token = Client::new(&gateway).granted("app", SECRET, "scope=read:data").await;
    for client in gateway.both() {
        for (path, authorization) in [("/kept", None), ("/passed", Some(format!("Bearer {token}")))] {
            let forged = with_header(with_token(request("GET", path), &token), "x-auth-scope", "admin");
            assert_eq!(client.send(forged).await.status, 200);
            let seen = upstream.seen().pop().unwrap();
            assert_eq!(
                seen.headers.get("authorization").map(|value| value.to_str().unwrap()),
                authorization.as_deref()
            );
            assert_eq!((seen.header("x-auth-client-id"), seen.header("x-auth-subject")), ("app", "app"));
            assert_eq!(
                (seen.header("x-auth-scope"), seen.header("x-auth-issuer")),
                ("read:data", "https://localhost:8443")
            );
            assert_eq!(seen.headers.get_all("x-auth-scope").iter().count(), 1);
        }
    }
}

#[tokio::test]
async fn an_upstream_may_get_no_via() {
    let (legacy, other) = (Upstream::start().await, Upstream::start().await);
    let mine = format!("legacy: {{servers: [\"http://{}\"], via: false}}", legacy.address);
    let sections = format!("upstreams: {{{mine}, other: \"http://{}\"}}", other.address);
    let route = "path: /x, access: public, mirror: {upstream: other}";
    let gateway =
        Gateway::start(&config(legacy.address, &[route, "path: /y, access: public, upstream: other"], &sections));
    let vias = |upstream: &Upstream| -> Vec<String> {
        let seen = upstream.seen().pop().unwrap();
        seen.headers.get_all("via").iter().map(|via| via.to_str().unwrap().to_owned()).collect()
    };
    for (client, via) in gateway.both().iter().zip(["1.1 portcullis", "2 portcullis"]) {
        assert_eq!(client.get("/y").await.status, 200);
        assert_eq!(vias(&other), [via]);
        other.forget();
        assert_eq!(client.get("/x").await.status, 200);
        assert_eq!(vias(&legacy), [""; 0]);
        while other.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(vias(&other), [via]);
    }
}

/// They are between a proxy and the service: the client has no proxy to answer.
#[tokio::test]
async fn challenges_for_proxies_are_not_passed_on() {
    let answer = || {
        let response = Response::builder().status(407).header("proxy-authenticate", "Basic realm=\"theirs\"");
        response.header("proxy-authentication-info", "nextnonce=\"x\"").body(Full::from("no")).unwrap()
    };
    for got in answered(&request("GET", "/x"), answer).await {
        assert_eq!((got.status, &got.body[..]), (407, &b"no"[..]));
        assert!(!got.headers.keys().any(|name| name.as_str().starts_with("proxy-")), "{got:?}");
    }
    stays_behind("proxy-authentication-info", "nextnonce=\"x\"").await;
}
