//! Tokens that are bound to a client certificate (RFC 8705 §3): good only on connections with that certificate.

use serde_json::Value;

use super::*;
use crate::support::issuer::{Issuer, Key};

const SECRET: &str = "client_secret=correct%20horse%20battery%20staple";

const OAUTH: &str = r#"oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {algorithm: ES256}
  token_endpoint: {rate_limits: [{rate: 10000/s, per: address}]}
  clients:
    app: {certificates: [{san_uri: "spiffe://example.com/app"}], scopes: [read:data]}
    mtls: {secrets: [{value: correct horse battery staple}], bound: mtls, scopes: [read:data]}
    either: {secrets: [{value: correct horse battery staple}], bound: either, scopes: [read:data]}
    bearer: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}
"#;

const ROUTES: [&str; 2] =
    ["path: /bound, access: {scopes: [read:data]}", "path: /only, access: {scopes: [read:data], bound: mtls}"];

pub(super) async fn start() -> Mutual {
    Mutual::with("optional", &ROUTES, OAUTH).await
}

async fn granted(mutual: &Mutual, by: &Arc<ClientConfig>, parameters: &str) -> String {
    access_token(&ask(mutual.asking(), by, token_request(parameters)).await.unwrap())
}

/// The claims of a token, which is not verified.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Also with the token of another connection in the cache, and twice on one connection.
async fn is_refused(mutual: &Mutual, to: SocketAddr, by: &Arc<ClientConfig>, token: &str, why: &str) {
    let mut connection = connect(to, by).await.unwrap();
    for _ in 0..2 {
        let answer = connection.send(with_bearer(token)).await;
        assert_eq!(answer.status, 401, "{why}");
        assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{why}: {answer:?}");
        let line = mutual.gateway.audit_of(answer.request_id());
        assert_eq!(line["gateway.reason"], "not_proven", "{why}: {line}");
    }
}

#[tokio::test]
async fn a_bound_token_is_good_with_its_certificate_alone() {
    let mutual = start().await;
    // Another certificate of the same client, with the same names, is another key.
    let [app, renewed, other] = ["app", "app", "other"].map(|name| mutual.issue(name));
    for alpn in ["http/1.1", "h2"] {
        let by = presenting(&app, alpn);
        let token = granted(&mutual, &by, "client_id=app").await;
        assert_eq!(claims(&token)["cnf"], serde_json::json!({"x5t#S256": thumbprint(&app)}));
        let mut connection = connect(mutual.asking(), &by).await.unwrap();
        for _ in 0..3 {
            assert_eq!(connection.send(with_bearer(&token)).await.status, 200, "{alpn}");
        }
        is_refused(&mutual, mutual.asking(), &presenting(&renewed, alpn), &token, "a renewed certificate").await;
        is_refused(&mutual, mutual.asking(), &presenting(&other, alpn), &token, "another client").await;
        is_refused(&mutual, mutual.asking(), &presenting(None, alpn), &token, "no certificate").await;
        is_refused(&mutual, mutual.other(), &by, &token, "a listener that asks for none").await;
        assert_eq!(connection.send(with_bearer(&token)).await.status, 200, "{alpn}");
    }
}

#[tokio::test]
async fn a_resumed_session_proves_its_certificate() {
    let mutual = start().await;
    let app = mutual.issue("app");
    for versions in [[&TLS12].as_slice(), &[&TLS13]] {
        let by = presenting_by(&app, versions, "http/1.1");
        let token = granted(&mutual, &by, "client_id=app").await;
        let stream = handshake(mutual.asking(), Arc::clone(&by), "localhost").await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        let mut connection: Connection = Client::over(stream).await.unwrap();
        assert_eq!(connection.send(with_bearer(&token)).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_must_bind_gets_no_token_without_a_certificate() {
    let mutual = start().await;
    let app = mutual.issue("app");
    let (with, without) = (presenting(&app, "h2"), presenting(None, "h2"));
    for client in ["mtls", "either"] {
        let parameters = format!("client_id={client}&{SECRET}");
        let token = granted(&mutual, &with, &parameters).await;
        assert_eq!(claims(&token)["cnf"], serde_json::json!({"x5t#S256": thumbprint(&app)}), "{client}");
        let refused = ask(mutual.asking(), &without, token_request(&parameters)).await.unwrap();
        assert_eq!(refused.status, 400, "{client} {refused:?}");
        let error = if client == "mtls" { "invalid_request" } else { "invalid_dpop_proof" };
        assert_eq!(refused.json()["error"], error);
        let line = mutual.gateway.audit_of(refused.request_id());
        assert_eq!(line["gateway.reason"], "not_proven", "{line}");
    }
    let token = granted(&mutual, &with, &format!("client_id=bearer&{SECRET}")).await;
    assert!(claims(&token).get("cnf").is_none());
}

#[tokio::test]
async fn a_route_that_demands_a_binding_refuses_bearer_tokens() {
    let mutual = start().await;
    let by = presenting(&mutual.issue("app"), "h2");
    let only = |token: &str| {
        let mut request = with_bearer(token);
        *request.uri_mut() = "https://localhost/only".parse().unwrap();
        request
    };
    let bearer = granted(&mutual, &by, &format!("client_id=bearer&{SECRET}")).await;
    let refused = ask(mutual.asking(), &by, only(&bearer)).await.unwrap();
    assert_eq!(refused.status, 401);
    assert_eq!(mutual.gateway.audit_of(refused.request_id())["gateway.reason"], "not_bound");
    let bound = granted(&mutual, &by, "client_id=app").await;
    assert_eq!(ask(mutual.asking(), &by, only(&bound)).await.unwrap().status, 200);
    assert_eq!(ask(mutual.other(), &by, only(&bound)).await.unwrap().status, 401);
}

#[tokio::test]
async fn tokens_of_other_issuers_are_bound_alike() {
    let key = Key::new("one", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let issuers = format!("issuers: {{idp: {{issuer: \"{}\", audiences: [https://api.example.com]}}}}", issuer.issuer);
    let mutual = Mutual::with("required", &["path: /bound, access: {issuers: [idp]}"], &issuers).await;
    mutual.gateway.log_line("fetched the JWK Set\",\"issuer.name\":\"idp\"");
    let [app, other] = ["app", "other"].map(|name| mutual.issue(name));
    let mut claims = issuer.claims();
    claims["cnf"] = serde_json::json!({"x5t#S256": thumbprint(&app)});
    let token = key.sign(&claims);
    assert_eq!(ask(mutual.asking(), &presenting(&app, "h2"), with_bearer(&token)).await.unwrap().status, 200);
    is_refused(&mutual, mutual.asking(), &presenting(&other, "h2"), &token, "another certificate").await;
    is_refused(&mutual, mutual.other(), &presenting(&app, "h2"), &token, "another listener").await;
}
