//! `token_header`: the tokens of some issuers come in a field of their own. They count nowhere else, and the field never
//! reaches a service that did not ask for it.

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::client::{request, with_header, with_token};
use crate::support::command::run_with;
use crate::support::gateway::program;
use crate::support::issuer::{Issuer, Key};
use crate::support::port::free_port;
use crate::support::upstream::by_http2;
use crate::support::wire::{Trailed, within};
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway, Upstream};

const FIELD: &str = "cf-access-jwt-assertion";
const OTHER_FIELD: &str = "x-goog-iap-jwt-assertion";

/// `corp` uses `Authorization`, `access` and `iap` a field each. All have the same key.
struct World {
    gateway: Gateway,
    upstream: Upstream,
    corp: Issuer,
    key: Key,
}

const ROUTES: [&str; 6] = [
    "path: /any, access: {}",
    "path: /public, access: public",
    "path: /passed, access: {}, forward_token: true",
    "path: /public-passed, access: public, forward_token: true",
    "path: /corp, access: {issuers: [corp]}",
    "path: /cors, access: {}, cors: {origins: [https://app.example.com]}",
];

impl World {
    async fn start() -> Self {
        let key = Key::new("k", "ES256");
        let (corp, upstream) = (Issuer::start(&[&key]).await, Upstream::start().await);
        let url = &corp.issuer;
        let sections = format!(
            "issuers:\n  corp: {{issuer: '{url}', audiences: [https://api.example.com]}}\n  \
             access: {{issuer: 'urn:access', jwks_uri: '{url}/jwks', audiences: [https://api.example.com], token_header: Cf-Access-Jwt-Assertion}}\n  \
             iap: {{issuer: 'urn:iap', jwks_uri: '{url}/jwks', audiences: [https://api.example.com], token_header: X-Goog-IAP-JWT-Assertion}}\n"
        );
        let gateway = Gateway::start(&config(upstream.address, &ROUTES, &sections));
        Self { gateway, upstream, corp, key }
    }

    /// A good token of this issuer.
    fn token(&self, issuer: &str) -> String {
        let mut claims = self.corp.claims();
        if issuer != "corp" {
            claims["iss"] = format!("urn:{issuer}").into();
        }
        self.key.sign(&claims)
    }

    fn line(&self, answer: &Answer) -> Value {
        self.gateway.audit_of(answer.request_id())
    }
}

type Asked = Request<Full<Bytes>>;

fn in_field(path: &str, field: &'static str, token: &str) -> Asked {
    with_header(request("GET", path), field, token)
}

#[tokio::test]
async fn a_token_is_accepted_in_the_field_of_its_issuer() {
    let world = World::start().await;
    for client in world.gateway.both() {
        for (issuer, field) in [("access", FIELD), ("iap", OTHER_FIELD)] {
            let answer = client.send(in_field("/any", field, &world.token(issuer))).await;
            let line = world.line(&answer);
            assert_eq!((answer.status, &line["oauth.issuer"]), (200, &issuer.into()), "{line}");
        }
        // Credentials of another scheme count as none.
        let both = with_header(in_field("/any", FIELD, &world.token("access")), "authorization", "Basic YTpi");
        assert_eq!(client.send(both).await.status, 200);
        assert_eq!(client.get_with("/any", &world.token("corp")).await.status, 200);
    }
}

#[tokio::test]
async fn a_token_counts_in_no_other_field_even_if_it_is_known() {
    let world = World::start().await;
    let (corp, access) = (world.token("corp"), world.token("access"));
    for client in world.gateway.both() {
        for _ in 0..2 {
            // Both are remembered by the worker from their own field.
            assert_eq!(client.get_with("/any", &corp).await.status, 200);
            assert_eq!(client.send(in_field("/any", FIELD, &access)).await.status, 200);
            for (asked, found, wanted) in [
                (with_token(request("GET", "/any"), &access), "authorization", FIELD),
                (in_field("/any", OTHER_FIELD, &access), OTHER_FIELD, FIELD),
                (in_field("/any", FIELD, &corp), FIELD, "authorization"),
            ] {
                let answer = client.send(asked).await;
                let line = world.line(&answer);
                assert_eq!((answer.status, &line["gateway.reason"]), (401, &"issuer_not_allowed".into()), "{line}");
                assert_eq!(line["gateway.found"], format!("a token in {found}"));
                assert_eq!(line["gateway.wanted"], format!("a token in {wanted}"));
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_was_never_seen_is_refused_in_another_field() {
    let world = World::start().await;
    for _ in 0..2 {
        let answer = Client::new(&world.gateway).get_with("/any", &world.token("access")).await;
        assert_eq!((answer.status, &world.line(&answer)["gateway.reason"]), (401, &"issuer_not_allowed".into()));
    }
    assert_eq!(world.upstream.seen().len(), 0);
}

#[tokio::test]
async fn credentials_in_two_fields_are_refused_where_they_count() {
    let world = World::start().await;
    let (corp, access, iap) = (world.token("corp"), world.token("access"), world.token("iap"));
    let doubled = |path: &str| {
        [
            with_token(in_field(path, FIELD, &access), &corp),
            with_header(in_field(path, FIELD, &access), "authorization", "Bearer"),
            with_header(in_field(path, FIELD, &access), OTHER_FIELD, &iap),
            with_header(in_field(path, FIELD, &access), FIELD, &access),
        ]
    };
    for client in world.gateway.both() {
        for asked in doubled("/any") {
            let answer = client.send(asked).await;
            assert_eq!((answer.status, &world.line(&answer)["gateway.reason"]), (400, &"bad_request".into()));
            assert_eq!(answer.json()["error"], "invalid_request");
        }
        for asked in doubled("/public") {
            assert_eq!(client.send(asked).await.status, 200);
            let seen = world.upstream.seen().pop().unwrap();
            assert!(!seen.headers.contains_key(FIELD) && !seen.headers.contains_key(OTHER_FIELD), "{seen:?}");
        }
    }
}

#[tokio::test]
async fn the_field_reaches_a_service_only_by_forward_token() {
    let world = World::start().await;
    for client in world.gateway.both() {
        for (path, passes) in [("/any", false), ("/public", false), ("/passed", true), ("/public-passed", true)] {
            let answer = client.send(in_field(path, FIELD, &world.token("access"))).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(world.upstream.seen().pop().unwrap().headers.contains_key(FIELD), passes, "{path}");
        }
        // Forged: the service might believe it.
        assert_eq!(client.send(in_field("/public", FIELD, "forged")).await.status, 200);
        assert!(!world.upstream.seen().pop().unwrap().headers.contains_key(FIELD));
    }
}

#[tokio::test]
async fn neither_a_trailer_nor_a_copy_has_the_field() {
    let (sender, mut seen) = mpsc::channel(2);
    let service = by_http2(move |request| {
        let sender = sender.clone();
        async move {
            let headers = request.headers().clone();
            let collected = request.into_body().collect().await.unwrap();
            sender.send((headers, collected.trailers().cloned().unwrap_or_default())).await.unwrap();
            Response::new(Full::<Bytes>::from("ok"))
        }
    })
    .await;
    let sections = format!(
        "issuers: {{access: {{issuer: 'urn:access', jwks_uri: 'http://127.0.0.1:9/jwks', audiences: [a], token_header: {FIELD}}}}}\n\
         upstreams: {{legacy: {{servers: ['http://{service}'], protocol: http2}}}}"
    );
    let routes = ["path: /x, access: public, mirror: {upstream: legacy}"];
    let gateway = Gateway::start(&config(service, &routes, &sections));
    let asked = with_header(request("POST", "/x"), FIELD, "forged");
    let trailers = [("x-sum", "1"), (FIELD, "forged"), ("cf_access_jwt_assertion", "forged")];
    let asked = with_header(asked, "content-length", "3").map(|_| Trailed::new(b"abc", &trailers));
    let answer = Client::http2(&gateway).connect_for().await.unwrap().send(asked).await;
    assert_eq!(answer.status, 200);
    for _ in 0..2 {
        let (headers, trailers) = within(seen.recv()).await.unwrap();
        assert!(!headers.contains_key(FIELD), "{headers:?}");
        assert!(!trailers.keys().any(|name| name.as_str().starts_with("cf")), "{trailers:?}");
        assert_eq!(trailers.contains_key("x-sum"), !headers.contains_key("x-mirrored"));
    }
}

#[tokio::test]
async fn a_token_in_clear_text_is_refused() {
    let (upstream, port) = (Upstream::start().await, free_port());
    let sections = format!(
        "issuers: {{access: {{issuer: 'urn:access', jwks_uri: 'http://127.0.0.1:9/jwks', audiences: [a], token_header: {FIELD}}}}}\n\
         listeners: [{{address: 127.0.0.1:0, tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}]}}}}, {{address: '127.0.0.1:{port}', redirect_to: https://localhost}}]"
    );
    let _gateway = Gateway::start(&config(upstream.address, &ROUTES[1..2], &sections));
    let client = Client::plain(([127, 0, 0, 1], port).into());
    assert_eq!(client.get("/public").await.status, 308);
    assert_eq!(client.send(in_field("/public", FIELD, "a.b.c")).await.status, 403);
}

#[tokio::test]
async fn names_that_are_read_as_the_field_are_refused_everywhere() {
    let world = World::start().await;
    for client in world.gateway.both() {
        for path in ["/public", "/public-passed"] {
            for name in ["cf_access_jwt_assertion", "cf-access-jwt_assertion", "x_goog-iap-jwt-assertion"] {
                let answer = client.send(in_field(path, name, "forged")).await;
                assert_eq!(answer.status, 400, "{name}");
            }
        }
    }
    let listed = with_header(request("GET", "/public"), "connection", "Cf-Access-Jwt-Assertion");
    assert_eq!(Client::new(&world.gateway).send(listed).await.status, 400);
    assert_eq!(world.upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_value_that_is_no_token_is_malformed() {
    let world = World::start().await;
    let (client, token) = (Client::new(&world.gateway), world.token("access"));
    let long = "a".repeat(8 * 1024 + 1);
    for value in ["", "a", "Bearer a.b.c", &format!("Bearer {token}"), &format!("{token}, {token}"), &long] {
        let answer = client.send(in_field("/any", FIELD, value)).await;
        assert_eq!((answer.status, &world.line(&answer)["gateway.reason"]), (401, &"malformed".into()), "{value:.20}");
    }
    let none = client.send(request("GET", "/any")).await;
    assert_eq!((none.status, &world.line(&none)["gateway.reason"]), (401, &"no_token".into()));
}

#[tokio::test]
async fn a_preflight_permits_the_fields_of_tokens() {
    let world = World::start().await;
    let preflight = with_header(request("OPTIONS", "/cors"), "origin", "https://app.example.com");
    let preflight = with_header(preflight, "access-control-request-method", "GET");
    let preflight = with_header(preflight, "access-control-request-headers", FIELD);
    let answer = Client::new(&world.gateway).send(preflight).await;
    let expected = format!("authorization, content-type, {FIELD}, {OTHER_FIELD}");
    assert_eq!((answer.status, answer.header("access-control-allow-headers")), (204, expected.as_str()));
}

#[tokio::test]
async fn several_spaces_may_follow_the_scheme() {
    let world = World::start().await;
    for client in world.gateway.both() {
        for (spaces, status) in [(" ", 200), ("  ", 200), ("        ", 200), ("\t", 401), (" \t", 401)] {
            let mut asked = request("GET", "/any");
            let value = format!("Bearer{spaces}{}", world.token("corp"));
            asked.headers_mut().insert("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(client.send(asked).await.status, status, "{spaces:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_inspect_reads_a_token_in_its_field() {
    let world = World::start().await;
    for issuer in ["access", "corp"] {
        let mut command = program(&world.gateway.folder);
        let said = run_with(command.args(["token", "inspect", "--format", "json"]), &world.token(issuer));
        let shown: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!((said.code, &shown["good"]), (Some(0), &json!(true)), "{shown}");
    }
}
