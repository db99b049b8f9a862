//! `federation`: a platform token is the credential of exactly one client at the token endpoint, and no access
//! token anywhere.

mod once;
mod recipes;
mod refused;
mod tenants;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Map, Value, json};

use crate::support::client::{basic, request, with_body, with_header};
use crate::support::issuer::{Issuer, Key, now};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const OWN: &str = "https://localhost:8443";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const DEPLOY: &str = "repo:acme/api:ref:refs/heads/main";

const CLIENTS: &str = r#"
    deploy:
      federation: [{issuer: ci, subject: "repo:acme/*:ref:refs/heads/main"}]
      scopes: [read:data, write:data]
      audiences: [https://api.example.com, https://billing.example.com]
    one: {federation: [{issuer: ci, subject: "repo:acme/*:both", claims: {a: "1"}}], scopes: [read:data]}
    two: {federation: [{issuer: ci, subject: "repo:acme/*:both", claims: {b: "1"}}], scopes: [read:data]}
    elsewhere: {federation: [{issuer: ci, subject: "elsewhere"}], scopes: [read:data], allow_from: [192.0.2.0/24]}
    once: {federation: [{issuer: ci, subject: "repo:acme/*:once", once: true}], scopes: [read:data]}
    app: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}
"#;

const ROUTES: [&str; 3] = [
    "path: /any, access: {}",
    "path: /audience, access: {audiences: [https://localhost:8443]}",
    "path: /read, access: {scopes: [read:data]}",
];

/// A gateway with clients of the platform `ci`, in front of a service.
struct World {
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
    ci: Issuer,
    key: Key,
}

type Asked = Request<Full<Bytes>>;

impl World {
    async fn start() -> Self {
        let key = Key::new("k", "ES256");
        let (ci, upstream) = (Issuer::start(&[&key]).await, Upstream::start().await);
        let gateway = Gateway::start(&yaml(&ci, &upstream, CLIENTS, ""));
        gateway.log_line("fetched the JWK Set\",\"issuer.name\":\"ci\"");
        let client = Client::new(&gateway);
        Self { gateway, client, upstream, ci, key }
    }

    /// A platform token with these changes.
    fn token(&self, changes: Value) -> String {
        self.key.sign(&self.claims(changes))
    }

    fn claims(&self, changes: Value) -> Value {
        let (now, Value::Object(changes)) = (now(), changes) else { panic!() };
        let mut claims: Map<String, Value> = Map::new();
        let good = json!({"iss": self.ci.issuer, "sub": DEPLOY, "aud": OWN, "iat": now, "nbf": now, "exp": now + 600});
        claims.extend(good.as_object().unwrap().clone());
        claims.extend(changes);
        claims.retain(|_, value| !value.is_null());
        Value::Object(claims)
    }

    /// The answer to a request that gets a token, and its audit line.
    async fn grants(&self, asked: Asked) -> (Value, Value) {
        let answer = self.client.send(asked).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!(answer.status, 200, "{answer:?} {line}");
        (answer.json(), line)
    }

    /// The status, the error and the private reason of a request that gets none, and its audit line.
    async fn refuses(&self, asked: Asked, (status, error, reason): (u16, &str, &str)) -> Value {
        let answer = self.client.send(asked).await;
        let line = self.gateway.audit_of(answer.request_id());
        let found = (answer.status, answer.json()["error"].clone(), line["gateway.reason"].clone());
        assert_eq!(found, (status, error.into(), reason.into()), "{answer:?} {line}");
        line
    }
}

fn yaml(ci: &Issuer, upstream: &Upstream, clients: &str, more: &str) -> String {
    let sections = format!(
        "issuers:\n  ci: {{issuer: '{}'}}\noauth:\n  issuer: {OWN}\n  \
         audiences: [https://api.example.com, https://billing.example.com]\n  signing_keys: {{algorithm: ES256}}\n  \
         token_endpoint: {{rate_limits: [{{rate: 10000/s, per: address}}]}}\n  clients:{clients}{more}",
        ci.issuer
    );
    config(upstream.address, &ROUTES, &sections)
}

fn form(fields: &[(&str, &str)]) -> Asked {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let asked = with_header(request("POST", "/oauth/token"), "content-type", "application/x-www-form-urlencoded");
    with_body(asked, body)
}

/// As a client assertion, with further parameters.
fn by_assertion(token: &str, more: &[(&str, &str)]) -> Asked {
    let own =
        [("grant_type", "client_credentials"), ("client_assertion_type", JWT_BEARER), ("client_assertion", token)];
    form(&[&own, more].concat())
}

/// As the grant.
fn by_grant(token: &str, more: &[(&str, &str)]) -> Asked {
    form(&[&[("grant_type", GRANT), ("assertion", token)], more].concat())
}

#[tokio::test]
async fn a_platform_token_gets_an_access_token_in_each_way() {
    let world = World::start().await;
    let spiffe = |token: &str| {
        let own = [("client_assertion_type", JWT_SPIFFE), ("client_assertion", token)];
        form(&[&[("grant_type", "client_credentials")], &own[..]].concat())
    };
    let as_json = |token: &str| {
        let body = json!({"client_assertion_type": JWT_BEARER, "client_assertion": token}).to_string();
        with_body(with_header(request("POST", "/oauth/token"), "content-type", "application/json"), body)
    };
    for aud in [json!(OWN), json!([OWN])] {
        let token = world.token(json!({"aud": aud}));
        for asked in [by_assertion(&token, &[]), spiffe(&token), as_json(&token), by_grant(&token, &[])] {
            let (granted, line) = world.grants(asked).await;
            assert_eq!(granted["scope"], "read:data write:data");
            let facts = ["gateway.decision", "oauth.client_id", "oauth.federated_issuer", "oauth.federated_subject"];
            assert_eq!(facts.map(|name| &line[name]), ["issue", "deploy", "ci", DEPLOY], "{line}");
            let access = granted["access_token"].as_str().unwrap();
            assert_eq!(world.client.get_with("/read", access).await.status, 200);
            assert_eq!(world.upstream.seen().last().unwrap().header("x-auth-client-id"), "deploy");
            assert!(!world.gateway.audit_text().contains(&token) && !world.gateway.log_text().contains(&token));
        }
    }
}

#[tokio::test]
async fn scope_and_audience_of_a_platform_client_are_its_own() {
    let world = World::start().await;
    let token = world.token(json!({}));
    let audience = [("scope", "read:data"), ("resource", "https://billing.example.com")];
    for asked in [by_assertion(&token, &audience), by_grant(&token, &audience)] {
        let (granted, line) = world.grants(asked).await;
        assert_eq!((&granted["scope"], &line["oauth.scope"]), (&"read:data".into(), &"read:data".into()));
    }
    for (more, error) in [(("scope", "admin"), "invalid_scope"), (("audience", "https://x.example"), "invalid_target")]
    {
        for asked in [by_assertion(&token, &[more]), by_grant(&token, &[more])] {
            let line = world.refuses(asked, (400, error, error)).await;
            assert_eq!((&line["oauth.client_id"], &line["oauth.verified"]), (&"deploy".into(), &Value::Null));
        }
    }
}

#[tokio::test]
async fn client_id_beside_a_platform_token_must_agree() {
    let world = World::start().await;
    let token = world.token(json!({}));
    for asked in [by_assertion(&token, &[("client_id", "deploy")]), by_grant(&token, &[("client_id", "deploy")])] {
        world.grants(asked).await;
    }
    for other in ["app", "once", "nobody", DEPLOY] {
        let more = [("client_id", other)];
        world.refuses(by_assertion(&token, &more), (401, "invalid_client", "no_federated_client")).await;
        world.refuses(by_grant(&token, &more), (400, "invalid_grant", "no_federated_client")).await;
    }
}

#[tokio::test]
async fn a_platform_token_beside_another_credential_is_refused() {
    let world = World::start().await;
    let token = world.token(json!({}));
    let secret = [("client_id", "app"), ("client_secret", SECRET)];
    let assertion = [("client_assertion_type", JWT_BEARER), ("client_assertion", &*token)];
    let mut asked = vec![by_assertion(&token, &secret), by_grant(&token, &secret), by_grant(&token, &assertion)];
    for mut request in [by_assertion(&token, &[]), by_grant(&token, &[])] {
        request.headers_mut().insert("authorization", basic("app", SECRET));
        asked.push(request);
    }
    asked.push(form(&[("grant_type", GRANT)]));
    asked.push(form(&[("grant_type", GRANT), ("client_id", "app"), ("client_secret", SECRET)]));
    for request in asked {
        world.refuses(request, (400, "invalid_request", "invalid_request")).await;
    }
    let query = format!("/oauth/token?assertion={token}");
    let mut asked = by_grant(&token, &[]);
    *asked.uri_mut() = format!("https://localhost{query}").parse().unwrap();
    world.refuses(asked, (400, "invalid_request", "invalid_request")).await;
}

#[tokio::test]
async fn the_metadata_offers_what_clients_can_use() {
    let world = World::start().await;
    let metadata = world.client.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["grant_types_supported"], json!(["client_credentials", GRANT]));
    let methods = metadata["token_endpoint_auth_methods_supported"].as_array().unwrap();
    assert!(
        methods.contains(&json!("private_key_jwt")) && methods.contains(&json!("client_secret_basic")),
        "{metadata}"
    );
    let without = Gateway::open(world.upstream.address, "");
    let client = Client::new(&without);
    let metadata = client.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["grant_types_supported"], json!(["client_credentials"]));
    let answer = client.send(by_grant(&world.token(json!({})), &[])).await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("unsupported_grant_type")));
}

#[tokio::test]
async fn a_platform_token_authenticates_a_revocation_too() {
    let world = World::start().await;
    let platform = world.token(json!({}));
    let (granted, _) = world.grants(by_assertion(&platform, &[])).await;
    let access = granted["access_token"].as_str().unwrap();
    let mut revoke = form(&[("token", access), ("client_assertion_type", JWT_BEARER), ("client_assertion", &platform)]);
    *revoke.uri_mut() = "https://localhost/oauth/revoke".parse().unwrap();
    assert_eq!(world.client.send(revoke).await.status, 200);
    assert_eq!(world.client.get_with("/read", access).await.status, 401);
}

#[tokio::test]
async fn a_reload_changes_the_clients_of_a_platform() {
    let world = World::start().await;
    let token = world.token(json!({}));
    world.grants(by_grant(&token, &[])).await;
    let other = CLIENTS.replace("repo:acme/*:ref:refs/heads/main", "repo:acme/*:ref:refs/heads/release");
    world.gateway.reloads(&yaml(&world.ci, &world.upstream, &other, ""));
    world.refuses(by_grant(&token, &[]), (400, "invalid_grant", "no_federated_client")).await;
    let revoked = format!("revoked: [{{issuer: ci, subject: '{DEPLOY}'}}]");
    world.gateway.reloads(&yaml(&world.ci, &world.upstream, CLIENTS, &revoked));
    world.refuses(by_grant(&token, &[]), (400, "invalid_grant", "revoked")).await;
}
