//! `oauth.clients.ID.keys`: a client proves itself by an assertion that counts once, over reloads, restarts and gateways
//! of one state directory, and what cannot be recorded is refused.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::client::{basic, request, with_body, with_header};
use crate::support::gateway::folder;
use crate::support::issuer::{Issuer, Key, Published, Site, now};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway};

const ISSUER: &str = "https://localhost:8443";
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A configuration with these clients, one a line.
fn yaml(clients: &[&str]) -> String {
    let oauth = format!(
        "oauth:\n  issuer: {ISSUER}\n  audiences: [https://api.example.com]\n  signing_keys: {{algorithm: ES256}}\n  \
         token_endpoint: {{rate_limits: [{{rate: 10000/s, per: address}}]}}\n  clients:\n"
    );
    let clients: String = clients.iter().map(|client| format!("    {client}\n")).collect();
    config(NOWHERE, &["path: /ping, access: public, name: ping"], &(oauth + &clients))
}

/// The entry of a client with this key.
fn entry(id: &str, keys: &str) -> String {
    format!("{id}: {{keys: [{keys}], scopes: [read:data]}}")
}

fn written(key: &Key) -> String {
    format!("{{jwk: {}}}", key.jwk())
}

fn claims(client: &str) -> Value {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let token_id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    json!({"iss": client, "sub": client, "aud": ISSUER, "jti": format!("{token_id}"), "iat": now(), "exp": now() + 60})
}

fn asked_with(parameters: &[(&str, &str)]) -> Request<Full<bytes::Bytes>> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials").extend_pairs(parameters);
    let request = with_header(request("POST", "/oauth/token"), "content-type", "application/x-www-form-urlencoded");
    with_body(request, form.finish())
}

fn asked(assertion: &str) -> Request<Full<bytes::Bytes>> {
    asked_with(&[("client_assertion_type", JWT_BEARER), ("client_assertion", assertion)])
}

async fn answered(gateway: &Gateway, assertion: &str) -> Answer {
    Client::new(gateway).send(asked(assertion)).await
}

/// The assertion is refused for this reason, with the one public text.
async fn refused(gateway: &Gateway, assertion: &str, reason: &str) -> Value {
    let answer = answered(gateway, assertion).await;
    let (error, text) = (&answer.json()["error"], &answer.json()["error_description"]);
    assert_eq!((answer.status, error), (401, &json!("invalid_client")), "{answer:?}");
    assert_eq!(text, "client authentication failed");
    let line = gateway.audit_of(answer.request_id());
    assert_eq!(line["gateway.reason"], reason, "{line}");
    assert!(!gateway.audit_text().contains(assertion) && !gateway.log_text().contains(assertion));
    line
}

async fn granted(gateway: &Gateway, assertion: &str) -> Value {
    let answer = answered(gateway, assertion).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    gateway.audit_of(answer.request_id())
}

#[tokio::test]
async fn an_assertion_gets_a_token_once() {
    let key = Key::new("k1", "ES256");
    let gateway = Gateway::start(&yaml(&[&entry("app", &written(&key))]));
    let assertion = key.sign(&claims("app"));
    let line = granted(&gateway, &assertion).await;
    assert_eq!((&line["oauth.client_id"], &line["oauth.verified"]), (&json!("app"), &Value::Null));
    assert_eq!((&line["oauth.auth_method"], &line["oauth.auth_kid"]), (&json!("private_key_jwt"), &json!("k1")));
    let metrics = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("portcullis_grants_total{auth_method=\"private_key_jwt\"} 1"), "{metrics}");
    let line = refused(&gateway, &assertion, "assertion_replayed").await;
    assert_eq!((&line["oauth.client_id"], &line["oauth.verified"]), (&json!("app"), &json!(false)));
}

#[tokio::test]
async fn simultaneous_uses_of_one_assertion_give_one_token() {
    let key = Key::new("k1", "ES256");
    let gateway = Gateway::start(&yaml(&[&entry("app", &written(&key))]).replace("workers: 1", "workers: 2"));
    let assertion = key.sign(&claims("app"));
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, asked) = (Client::new(&gateway), asked(&assertion));
        answers.spawn(async move { client.send(asked).await.status });
    }
    let statuses = answers.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

#[tokio::test]
async fn a_used_assertion_stays_used_after_reload_and_restart() {
    let key = Key::new("k1", "ES256");
    let folder = folder();
    let text = yaml(&[&entry("app", &written(&key))]);
    let mut gateway = Gateway::start_in(folder.clone(), &text, &[]);
    let (first, second) = (key.sign(&claims("app")), key.sign(&claims("app")));
    granted(&gateway, &first).await;
    gateway.reloads(&text.replace("scopes: [read:data]", "scopes: [read:data, more]"));
    refused(&gateway, &first, "assertion_replayed").await;
    granted(&gateway, &second).await;
    gateway.signal("KILL");
    gateway.wait();
    let gateway_again = Gateway::start_in(folder, &text, &[]);
    refused(&gateway_again, &first, "assertion_replayed").await;
    refused(&gateway_again, &second, "assertion_replayed").await;
    granted(&gateway_again, &key.sign(&claims("app"))).await;
}

#[tokio::test]
async fn two_gateways_of_one_state_directory_accept_an_assertion_once() {
    let key = Key::new("k1", "ES256");
    let state = folder();
    let text = yaml(&[&entry("app", &written(&key))]) + &format!("state_directory: {}\n", state.display());
    let [one, other] = [0, 0].map(|_| Gateway::start(&text));
    for _ in 0..5 {
        let assertion = key.sign(&claims("app"));
        let both = tokio::join!(answered(&one, &assertion), answered(&other, &assertion));
        let mut statuses = [both.0.status, both.1.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401]);
    }
    fs::remove_dir_all(state).unwrap();
}

#[tokio::test]
async fn a_use_that_cannot_be_recorded_is_refused() {
    let key = Key::new("k1", "ES256");
    let secret = format!("app2: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}");
    let gateway = Gateway::start(&yaml(&[&entry("app", &written(&key)), &secret]));
    // A folder in the place of the file: root could write everywhere else.
    let file = gateway.folder.join("state/replay.jsonl");
    fs::create_dir(&file).unwrap();
    let assertion = key.sign(&claims("app"));
    let answer = answered(&gateway, &assertion).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
    assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "replay_unavailable");
    gateway.log_line("the uses of assertions cannot be recorded");
    assert_eq!(Client::new(&gateway).token("app2", SECRET, "").await.status, 200, "secrets need no record");
    fs::remove_dir(&file).unwrap();
    granted(&gateway, &assertion).await;
    refused(&gateway, &assertion, "assertion_replayed").await;
}

#[tokio::test]
async fn every_refused_assertion_has_one_answer_and_its_reason() {
    let [own, others] = ["k1", "k2"].map(|id| Key::new(id, "ES256"));
    let gateway = Gateway::start(&yaml(&[&entry("app", &written(&own)), &entry("other", &written(&others))]));
    let with = |name: &str, value: Value| {
        let mut claims = claims("app");
        claims[name] = value;
        own.sign(&claims)
    };
    let typed = |kind: &str| own.sign_with(&json!({"typ": kind, "alg": "ES256", "kid": "k1"}), &claims("app"));
    let none =
        format!("{}.", own.sign_text(r#"{"alg":"none"}"#, &claims("app").to_string()).rsplit_once('.').unwrap().0);
    for (assertion, reason) in [
        (with("aud", json!("https://other.example.com")), "bad_audience"),
        (with("exp", json!(now() - 31)), "expired"),
        (with("exp", json!(now() + 400)), "lifetime_too_long"),
        (with("iat", json!(now() + 100)), "not_yet_valid"),
        (with("jti", Value::Null), "missing_claim"),
        (with("sub", json!("other")), "unknown_issuer"),
        (typed("at+jwt"), "type_not_allowed"),
        (own.sign_with(&json!({"alg": "HS256"}), &claims("app")), "alg_not_allowed"),
        (none, "alg_not_allowed"),
        ("not-a-token.at-all".to_owned(), "malformed"),
        (others.sign(&claims("app")), "unknown_kid"),
        (others.alias("k1", "ES256").sign(&claims("app")), "bad_signature"),
        (own.alias("k2", "ES256").sign(&claims("other")), "bad_signature"),
        (own.sign(&claims("nobody")), "invalid_client"),
    ] {
        refused(&gateway, &assertion, reason).await;
    }
    granted(&gateway, &own.sign(&claims("app"))).await;
}

#[tokio::test]
async fn a_request_authenticates_in_one_way() {
    let key = Key::new("k1", "ES256");
    let both = format!("app: {{keys: [{}], secrets: [{{value: {SECRET}}}], scopes: [read:data]}}", written(&key));
    let gateway = Gateway::start(&yaml(&[&both]));
    let client = Client::new(&gateway);
    let assertion = key.sign(&claims("app"));
    let own = [("client_assertion_type", JWT_BEARER), ("client_assertion", &*assertion)];
    let mut with_basic = asked(&assertion);
    with_basic.headers_mut().insert("authorization", basic("app", SECRET));
    let mut in_query = asked(&assertion);
    *in_query.uri_mut() = format!("/oauth/token?client_assertion={assertion}").parse().unwrap();
    for request in [
        with_basic,
        in_query,
        asked_with(&[own[0], own[1], ("client_secret", SECRET), ("client_id", "app")]),
        asked_with(&[own[0], own[1], ("client_id", "other")]),
        asked_with(&[own[0], own[1], ("assertion", &*assertion)]),
        asked_with(&[own[0], own[1], own[1]]),
        asked_with(&own[..1]),
        asked_with(&own[1..]),
    ] {
        let answer = client.send(request).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_request")), "{answer:?}");
    }
    let saml = "urn:ietf:params:oauth:client-assertion-type:saml2-bearer";
    let answer = client.send(asked_with(&[("client_assertion_type", saml), own[1]])).await;
    assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("invalid_client")), "{answer:?}");
    // None of them has used it.
    assert_eq!(client.send(asked_with(&[own[0], own[1], ("client_id", "app")])).await.status, 200);
    assert_eq!(client.token("app", SECRET, "").await.status, 200, "the secret is another way");
}

#[tokio::test]
async fn an_assertion_in_json_and_for_a_revocation_counts_too() {
    let key = Key::new("k1", "ES256");
    let gateway = Gateway::start(&yaml(&[&entry("app", &written(&key))]));
    let body = json!({"client_assertion_type": JWT_BEARER, "client_assertion": key.sign(&claims("app"))});
    let json = with_header(request("POST", "/oauth/token"), "content-type", "application/json");
    let answer = Client::new(&gateway).send(with_body(json, body.to_string())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let assertion = key.sign(&claims("app"));
    let mut revocation =
        asked_with(&[("client_assertion_type", JWT_BEARER), ("client_assertion", &assertion), ("token", &token)]);
    *revocation.uri_mut() = "/oauth/revoke".parse().unwrap();
    assert_eq!(Client::new(&gateway).send(revocation).await.status, 200);
    refused(&gateway, &assertion, "assertion_replayed").await;
}

#[tokio::test]
async fn forged_assertions_and_guesses_delay_no_client() {
    let [own, others] = [0, 1].map(|_| Key::new("k1", "ES256"));
    let gateway = Gateway::start(&yaml(&[&entry("app", &written(&own))]));
    let expired = |key: &Key, client: &str| {
        let mut claims = claims(client);
        claims["exp"] = json!(now() - 100);
        key.sign(&claims)
    };
    for client in ["app", "nobody"] {
        for _ in 0..30 {
            assert_eq!(answered(&gateway, &others.sign(&claims(client))).await.status, 401, "{client}");
            assert_eq!(answered(&gateway, &expired(&others, client)).await.status, 401, "{client}");
        }
    }
    let mut guesses = Vec::new();
    for _ in 0..20 {
        guesses.push(Client::new(&gateway).token("app", "wrong", "").await.status);
    }
    assert!(guesses.contains(&429), "secrets are counted: {guesses:?}");
    granted(&gateway, &own.sign(&claims("app"))).await;
}

#[tokio::test]
async fn signed_assertions_from_elsewhere_are_delayed() {
    let key = Key::new("k1", "ES256");
    let elsewhere = format!("app: {{keys: [{}], allow_from: [192.0.2.0/24], scopes: [read:data]}}", written(&key));
    let gateway = Gateway::start(&yaml(&[&elsewhere]));
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(answered(&gateway, &key.sign(&claims("app"))).await.status);
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn a_signature_from_a_forbidden_address_is_refused() {
    let key = Key::new("k1", "ES256");
    let elsewhere = format!("app: {{keys: [{}], allow_from: [192.0.2.0/24], scopes: [read:data]}}", written(&key));
    let gateway = Gateway::start(&yaml(&[&elsewhere]));
    let assertion = key.sign(&claims("app"));
    refused(&gateway, &assertion, "address_not_allowed").await;
    gateway.reloads(&yaml(&[&entry("app", &written(&key))]));
    granted(&gateway, &assertion).await;
}

/// A file of the gateway with the public key in PEM.
fn public_pem(folder: &Path, key: &Key, name: &str) -> PathBuf {
    let (private, public) = (folder.join("private.pem"), folder.join(name));
    fs::write(&private, key.pem()).unwrap();
    let made = Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public).status();
    assert!(made.unwrap().success());
    fs::remove_file(private).unwrap();
    public
}

#[tokio::test]
async fn keys_in_files_follow_a_reload() {
    let [old, new, of_set] = ["", "", "s"].map(|id| Key::new(id, "ES256"));
    let folder = folder();
    public_pem(&folder, &old, "app.pem");
    fs::write(folder.join("set.json"), json!({"keys": [of_set.jwk()]}).to_string()).unwrap();
    let text = yaml(&[&entry("app", "{file: app.pem}, {file: set.json}")]);
    let gateway = Gateway::start_in(folder.clone(), &text, &[]);
    granted(&gateway, &old.sign(&claims("app"))).await;
    granted(&gateway, &of_set.sign(&claims("app"))).await;
    refused(&gateway, &new.sign(&claims("app")), "bad_signature").await;
    public_pem(&folder, &new, "app.pem");
    assert!(gateway.reload_file().contains("was reloaded"));
    granted(&gateway, &new.sign(&claims("app"))).await;
    refused(&gateway, &old.sign(&claims("app")), "bad_signature").await;
}

#[tokio::test]
async fn keys_at_a_url_follow_its_rotation() {
    let [old, new] = ["k1", "k2"].map(|id| Key::new(id, "ES256"));
    let issuer = Issuer::start(&[&old]).await;
    let text = yaml(&[&entry("app", &format!("{{jwks_uri: \"{}/jwks\"}}", issuer.issuer))]);
    let gateway = Gateway::start(&text);
    granted(&gateway, &old.sign(&claims("app"))).await;
    let extra = Key::new("k3", "ES256");
    issuer.publish(Published::keys(&[&new, &extra]));
    // It asks for the set, which is not fetched twice within five seconds.
    answered(&gateway, &new.sign(&claims("app"))).await;
    gateway.log_line("\"issuer.name\":\"app\",\"keys.count\":2,");
    granted(&gateway, &new.sign(&claims("app"))).await;
    refused(&gateway, &old.sign(&claims("app")), "unknown_kid").await;
    let fetches = issuer.fetches();
    gateway.reloads(&text.replace("scopes: [read:data]", "scopes: [read:data, more]"));
    granted(&gateway, &new.sign(&claims("app"))).await;
    assert_eq!(issuer.fetches(), fetches, "a reload keeps the set");
}

#[tokio::test]
async fn unknown_clients_and_keys_cause_no_fetch_for_each_request() {
    let [own, others] = ["k1", "k2"].map(|id| Key::new(id, "ES256"));
    let issuer = Issuer::start(&[&own]).await;
    let gateway = Gateway::start(&yaml(&[&entry("app", &format!("{{jwks_uri: \"{}/jwks\"}}", issuer.issuer))]));
    gateway.log_line("fetched the JWK Set");
    for number in 0..50 {
        answered(&gateway, &others.sign(&claims(&format!("nobody-{number}")))).await;
        // More failures would delay the client.
        if number < 5 {
            answered(&gateway, &others.sign(&claims("app"))).await;
        }
    }
    assert!(issuer.fetches() <= 3, "{} fetches", issuer.fetches());
    granted(&gateway, &own.sign(&claims("app"))).await;
}

#[tokio::test]
async fn a_set_that_cannot_be_fetched_is_unavailable() {
    let key = Key::new("k1", "ES256");
    let site = Site::new();
    let gateway = Gateway::start(&yaml(&[&entry("app", &format!("{{jwks_uri: \"http://{}/jwks\"}}", site.address))]));
    gateway.log_line("cannot refresh the JWK Set");
    let answer = answered(&gateway, &key.sign(&claims("app"))).await;
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("temporarily_unavailable")), "{answer:?}");
    let line = gateway.audit_of(answer.request_id());
    assert_eq!((&line["gateway.reason"], &line["oauth.client_id"]), (&json!("keys_unavailable"), &json!("app")));
    refused(&gateway, &key.sign(&claims("nobody")), "invalid_client").await;
}

#[tokio::test]
async fn the_metadata_lists_the_ways_that_some_client_can_use() {
    const METHODS: &str = "token_endpoint_auth_methods_supported";
    const ALGORITHMS: &str = "token_endpoint_auth_signing_alg_values_supported";
    let key = Key::new("k1", "ES256");
    let (by_key, by_secret) =
        (entry("app", &written(&key)), format!("old: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}"));
    let gateway = Gateway::start(&yaml(&[&by_key]));
    let metadata = async || Client::new(&gateway).get("/.well-known/oauth-authorization-server").await.json();
    let only_keys = metadata().await;
    assert_eq!(only_keys[METHODS], json!(["private_key_jwt"]));
    assert_eq!(only_keys["revocation_endpoint_auth_methods_supported"], json!(["private_key_jwt"]));
    assert!(only_keys[ALGORITHMS].as_array().unwrap().contains(&json!("ES256")));
    gateway.reloads(&yaml(&[&by_key, &by_secret]));
    assert_eq!(metadata().await[METHODS], json!(["client_secret_basic", "client_secret_post", "private_key_jwt"]));
    gateway.reloads(&yaml(&[&by_secret]));
    let only_secrets = metadata().await;
    assert_eq!(only_secrets[METHODS], json!(["client_secret_basic", "client_secret_post"]));
    assert_eq!(only_secrets.get(ALGORITHMS), None);
}
