//! Our introspection endpoint: clients that are listed learn whether a token of ours is active (RFC 7662), and nobody
//! else does.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::client::{basic, request, with_body, with_header};
use crate::support::issuer::{Key, now};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const PATH: &str = "/oauth/introspect";

struct World {
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
}

impl World {
    async fn start() -> Self {
        let upstream = Upstream::start().await;
        let gateway = Gateway::start(&yaml(&upstream, "introspection: {clients: [other]}", ""));
        Self { client: Client::new(&gateway), gateway, upstream }
    }

    async fn asks(&self, client: &str, token: &str) -> Answer {
        self.client.send(by(client, question(&format!("token={token}")))).await
    }

    async fn is_inactive(&self, token: &str) {
        let answer = self.asks("other", token).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"active": false})), "{token}");
    }

    async fn is_active(&self, token: &str) -> Value {
        let answer = self.asks("other", token).await;
        assert_eq!((answer.status, &answer.json()["active"]), (200, &json!(true)), "{answer:?}");
        answer.json()
    }
}

fn yaml(upstream: &Upstream, introspection: &str, app: &str) -> String {
    let app = if app.is_empty() {
        "app: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}"
    } else {
        app
    };
    let oauth = format!(
        "oauth:\n  issuer: https://localhost:8443\n  audiences: [https://api.example.com]\n  signing_keys: {{algorithm: \
         ES256}}\n  {introspection}\n  clients:\n    {app}\n    other: {{secrets: [{{value: correct horse battery \
         staple}}], scopes: [read:data]}}\n"
    );
    config(upstream.address, &["path: /data, access: {}"], &oauth)
}

fn question(form: &str) -> Request<Full<Bytes>> {
    let asked = with_header(request("POST", PATH), "content-type", "application/x-www-form-urlencoded");
    with_body(asked, form.to_owned())
}

fn by(client: &str, mut asked: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    asked.headers_mut().insert("authorization", basic(client, SECRET));
    asked
}

#[tokio::test]
async fn a_listed_client_learns_the_claims_of_an_active_token() {
    let world = World::start().await;
    let token = world.client.granted("app", SECRET, "").await;
    let answer = world.asks("other", &token).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("content-type"), "application/json");
    let said = answer.json();
    for (name, value) in [
        ("active", json!(true)),
        ("token_type", json!("Bearer")),
        ("iss", json!("https://localhost:8443")),
        ("sub", json!("app")),
        ("client_id", json!("app")),
        ("aud", json!("https://api.example.com")),
        ("scope", json!("read:data")),
    ] {
        assert_eq!(said[name], value, "{said}");
    }
    assert!(said["exp"].as_u64() > said["iat"].as_u64() && said["nbf"].is_u64() && said["cnf"].is_null(), "{said}");
    let line = world.gateway.audit_of(answer.request_id());
    let facts = ["http.route", "gateway.decision", "oauth.client_id", "oauth.jti"].map(|name| &line[name]);
    assert_eq!(facts, [&json!("(introspection)"), &json!("allow"), &json!("other"), &said["jti"]], "{line}");
    assert_eq!(line["oauth.subject"], Value::Null, "it is no request of the caller: {line}");
    for extra in ["&token_type_hint=refresh_token", "&token_type_hint=access_token&x=1"] {
        let asked = world.client.send(by("other", question(&format!("token={token}{extra}")))).await;
        assert_eq!(asked.json(), said);
    }
}

#[tokio::test]
async fn a_token_that_is_not_valid_now_is_only_inactive() {
    let world = World::start().await;
    let token = world.client.granted("app", SECRET, "").await;
    let key = Key::new("k", "ES256");
    let foreign = key.sign(&json!({"iss": "https://elsewhere.example.com", "sub": "a", "aud": "a", "exp": now() + 60}));
    let forged = key.sign(&json!({"iss": "https://localhost:8443", "sub": "app", "aud": "a", "exp": now() + 60}));
    for bad in ["x", "a.b.c", &token[..token.len() - 1], &foreign, &forged] {
        world.is_inactive(bad).await;
    }
    world.is_active(&token).await;
    let revocation = with_header(request("POST", "/oauth/revoke"), "content-type", "application/x-www-form-urlencoded");
    let revoked = world.client.send(by("app", with_body(revocation, format!("token={token}")))).await;
    assert_eq!(revoked.status, 200);
    world.is_inactive(&token).await;
    let another = world.client.granted("app", SECRET, "").await;
    world.is_active(&another).await;
    let gone = yaml(
        &world.upstream,
        "introspection: {clients: [other]}",
        "new: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}",
    );
    world.gateway.reloads(&gone);
    world.is_inactive(&another).await;
}

#[tokio::test]
async fn a_client_that_is_not_listed_learns_nothing() {
    let world = World::start().await;
    let token = world.client.granted("app", SECRET, "").await;
    for asked in [&*token, "x"] {
        let answer = world.asks("app", asked).await;
        assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("unauthorized_client")), "{answer:?}");
        let line = world.gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.reason"], &line["oauth.client_id"]), (&json!("client_not_allowed"), &json!("app")));
    }
    let mut wrong = question(&format!("token={token}"));
    wrong.headers_mut().insert("authorization", basic("other", "not the right secret"));
    for asked in [wrong, question(&format!("token={token}")), question(&format!("token={token}&client_id=other"))] {
        let answer = world.client.send(asked).await;
        assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("invalid_client")), "{answer:?}");
    }
}

#[tokio::test]
async fn other_methods_and_malformed_requests_are_refused() {
    let world = World::start().await;
    let token = world.client.granted("app", SECRET, "").await;
    for method in ["GET", "HEAD", "PUT"] {
        let answer = world.client.send(by("other", request(method, &format!("{PATH}?x=1")))).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
    }
    let in_query = request("POST", &format!("{PATH}?token={token}"));
    let in_query = with_header(in_query, "content-type", "application/x-www-form-urlencoded");
    for (asked, status) in [
        (question(""), 400),
        (question("token="), 400),
        (question(&format!("token={token}&token={token}")), 400),
        (in_query, 400),
        (with_body(request("POST", PATH), format!("token={token}")), 415),
    ] {
        let answer = world.client.send(by("other", asked)).await;
        assert_eq!((answer.status, &answer.json()["error"]), (status, &json!("invalid_request")), "{answer:?}");
    }
}

#[tokio::test]
async fn the_endpoint_exists_only_where_it_is_configured() {
    let world = World::start().await;
    let metadata = world.client.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["introspection_endpoint"], "https://localhost:8443/oauth/introspect");
    let methods = &metadata["token_endpoint_auth_methods_supported"];
    assert_eq!(&metadata["introspection_endpoint_auth_methods_supported"], methods);
    world.gateway.reloads(&yaml(&world.upstream, "token_ttl: 1h", ""));
    let metadata = world.client.get("/.well-known/oauth-authorization-server").await.json();
    assert!(metadata.get("introspection_endpoint").is_none(), "{metadata}");
    assert!(metadata.get("introspection_endpoint_auth_methods_supported").is_none(), "{metadata}");
    assert_eq!(world.asks("other", "x").await.status, 404);
}

#[tokio::test]
async fn introspection_counts_for_the_token_endpoints_limits() {
    let upstream = Upstream::start().await;
    let sections = "introspection: {clients: [other]}\n  token_endpoint: {rate_limits: [{rate: 2/h, per: address}]}";
    let gateway = Gateway::start(&yaml(&upstream, sections, ""));
    let client = Client::new(&gateway);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.send(by("other", question("token=x"))).await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
}
