//! External issuers: a changed entry counts for the next request, and tokens that were verified before are no exception.

use std::fs;

use serde_json::{Value, json};

use super::config_page;
use crate::support::client::{request, with_header, with_token};
use crate::support::gateway::folder;
use crate::support::issuer::{Key, now};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const ROUTES: [&str; 2] =
    ["name: data, path: /data, access: {scopes: [read]}", "name: open, path: /open, access: public"];
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://corp.example", "sub": "spiffe://corp.example/app", "aud": "api", "azp": "app", "scope": "read",
        "iat": now(), "exp": now() + 600, "jti": "1",
    });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn keys(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

/// A configuration with these entries, one a line. They have these keys, unless they have a bundle.
fn with_entries(upstream: &Upstream, keys: &str, entries: &str) -> String {
    let mut issuers = "issuers:\n".to_owned();
    for (at, entry) in entries.lines().enumerate() {
        let jwks = if entry.contains("bundle") { String::new() } else { format!(", jwks: {keys}") };
        issuers += &format!("  entry-{at}: {{{entry}{jwks}}}\n");
    }
    config(upstream.address, &ROUTES, &issuers)
}

const CORP: &str = "issuer: 'https://corp.example', audiences: [api]";
const CORP_TOO: &str = "issuer: 'https://corp.example', audiences: [b]";
const NEW: &str = "issuer: 'https://new.example', audiences: [b]";
const SPIFFE: &str = "spiffe: {trust_domain: corp.example, bundle: keys.json}, audiences: [api]";

fn corp(more: &str) -> String {
    format!("{CORP}, {more}")
}

fn tenants(names: &str) -> String {
    format!("issuer: 'https://x.example/{{tenant}}', audiences: [api], tenants: [{names}]")
}

#[tokio::test]
async fn a_tightened_issuer_counts_for_a_cached_token() {
    let (upstream, key) = (Upstream::start().await, Key::new("k", "ES256"));
    let (keys, folder) = (keys(&[&key]), folder());
    fs::write(folder.join("keys.json"), &keys).unwrap();
    let yaml = |entries: &str| with_entries(&upstream, &keys, entries);
    let gateway = Gateway::start_in(folder, &yaml(CORP), &[]);
    let no_aud = json!({"aud": null, "azp": "api"});
    let roles = json!({"scope": null, "roles": ["read"]});
    for (before, after, changes, reason) in [
        (CORP.to_owned(), corp("types: [other]"), json!({}), "type_not_allowed"),
        (CORP.replace("api", "api, b"), CORP_TOO.to_owned(), json!({}), "bad_audience"),
        (corp("audience_claim: azp"), CORP.to_owned(), no_aud, "missing_claim"),
        (corp("scope_claim: [scope, roles]"), corp("scope_claim: [scope]"), roles, "missing_scope"),
        (CORP.to_owned(), corp("allow_scopes: [write]"), json!({}), "missing_scope"),
        (tenants("a, b"), tenants("b"), json!({"iss": "https://x.example/a"}), "unknown_issuer"),
        (SPIFFE.to_owned(), SPIFFE.replace("corp", "other"), json!({"iss": null}), "unknown_issuer"),
        // The entry of the token is unchanged; another one is new.
        (CORP.to_owned(), format!("{CORP}\n{CORP_TOO}"), json!({"aud": ["api", "b"]}), "bad_audience"),
        (SPIFFE.to_owned(), format!("{SPIFFE}\n{NEW}"), json!({"iss": "https://new.example"}), "bad_audience"),
    ] {
        let token = key.sign(&claims(&changes));
        for (entries, expected) in [(&before, None), (&before, None), (&after, Some(reason)), (&before, None)] {
            gateway.reloads(&yaml(entries));
            assert_eq!(reason_of(&gateway, &token).await.as_deref(), expected, "{entries}");
        }
    }
}

/// Why this token is refused.
async fn reason_of(gateway: &Gateway, token: &str) -> Option<String> {
    let answer = Client::new(gateway).get_with("/data", token).await;
    let line = gateway.audit_of(answer.request_id());
    let reason = line["gateway.reason"].as_str().map(str::to_owned);
    assert_eq!(answer.status == 200, reason.is_none(), "{line}");
    reason
}

#[tokio::test]
async fn keys_in_a_file_are_those_of_the_new_configuration() {
    let upstream = Upstream::start().await;
    let [old, new, newest] = ["old", "new", "newest"].map(|id| Key::new(id, "ES256"));
    let folder = folder();
    fs::write(folder.join("old.json"), keys(&[&old])).unwrap();
    fs::write(folder.join("new.json"), keys(&[&new])).unwrap();
    let yaml = |file: &str| {
        let issuers = format!("issuers: {{corp: {{{CORP}, jwks_file: {file}}}}}");
        config(upstream.address, &ROUTES, &issuers)
    };
    let gateway = Gateway::start_in(folder, &yaml("old.json"), &[]);
    let [of_old, of_new, of_newest] = [&old, &new, &newest].map(|key| key.sign(&claims(&json!({}))));
    assert_eq!(reason_of(&gateway, &of_old).await, None);
    let first = config_page(&gateway).await["config"].clone();
    gateway.reloads(&yaml("new.json"));
    assert_eq!(reason_of(&gateway, &of_old).await.as_deref(), Some("unknown_kid"));
    assert_eq!(reason_of(&gateway, &of_new).await, None);
    // The new file is watched.
    fs::write(gateway.folder.join("new.json"), keys(&[&newest])).unwrap();
    gateway.log_line("the keys of a changed `jwks_file` are in use");
    assert_eq!(reason_of(&gateway, &of_new).await.as_deref(), Some("unknown_kid"));
    assert_eq!(reason_of(&gateway, &of_newest).await, None);
    // A change that was not noticed yet comes with the configuration, and is a revision of its own.
    gateway.reloads(&yaml("old.json"));
    assert_eq!(config_page(&gateway).await["config"], first);
    fs::write(gateway.folder.join("old.json"), keys(&[&new])).unwrap();
    gateway.reloads(&yaml("old.json"));
    assert_eq!(reason_of(&gateway, &of_old).await.as_deref(), Some("unknown_kid"));
    assert_eq!(reason_of(&gateway, &of_new).await, None);
    assert_ne!(config_page(&gateway).await["config"], first);
    fs::write(gateway.folder.join("old.json"), "{\"keys\": []}").unwrap();
    gateway.refuses_reload(&yaml("old.json"), "it has no usable key");
    assert_eq!(reason_of(&gateway, &of_new).await, None, "the last good keys");
}

#[tokio::test]
async fn a_field_for_tokens_is_removed_and_passed_by_the_rule_in_use() {
    const FIELD: &str = "cf-access-jwt-assertion";
    let (upstream, key) = (Upstream::start().await, Key::new("k", "ES256"));
    let keys = keys(&[&key]);
    let yaml = |more: &str| with_entries(&upstream, &keys, &format!("{CORP}{more}"));
    let (with, without) = (yaml(&format!(", token_header: {FIELD}")), yaml(""));
    let gateway = Gateway::start(&with);
    let token = key.sign(&claims(&json!({})));
    let mut connections = Vec::new();
    for client in gateway.both() {
        connections.push(client.connect().await);
    }
    for (yaml, is_removed) in [(&with, true), (&without, false), (&with, true)] {
        gateway.reloads(yaml);
        for connection in &mut connections {
            for _ in 0..2 {
                let in_field = connection.send(with_header(request("GET", "/data"), FIELD, &token)).await.status;
                let in_authorization = connection.send(with_token(request("GET", "/data"), &token)).await.status;
                let expected = if is_removed { [200, 401] } else { [401, 200] };
                assert_eq!([in_field, in_authorization], expected);
            }
            assert_eq!(connection.send(with_header(request("GET", "/open"), FIELD, "x")).await.status, 200);
            assert_eq!(upstream.seen().pop().unwrap().headers.contains_key(FIELD), !is_removed);
        }
    }
}

#[tokio::test]
async fn a_changed_subject_claim_counts_for_a_cached_token() {
    let (upstream, key) = (Upstream::start().await, Key::new("k", "ES256"));
    let keys = keys(&[&key]);
    let yaml = |more: &str| with_entries(&upstream, &keys, &format!("{CORP}{more}"));
    let gateway = Gateway::start(&yaml(""));
    let token = key.sign(&claims(&json!({})));
    for (more, subject) in [("", "spiffe://corp.example/app"), (", subject_claim: azp", "app")] {
        gateway.reloads(&yaml(more));
        for _ in 0..2 {
            assert_eq!(reason_of(&gateway, &token).await, None);
            assert_eq!(upstream.seen().pop().unwrap().header("x-auth-subject"), subject);
        }
    }
}

#[tokio::test]
async fn our_issuer_can_change_and_keeps_its_keys() {
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &["name: data, path: /data, access: {scopes: [read:data]}"], "");
    let gateway = Gateway::start(&yaml);
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    assert_eq!(client.get_with("/data", &token).await.status, 200);
    let jwks = client.get("/.well-known/jwks.json").await.body;
    gateway.reloads(&yaml.replace("issuer: https://localhost:8443", "issuer: https://localhost:8443/auth"));
    assert_eq!(client.get_with("/data", &token).await.status, 401);
    assert_eq!(client.get("/.well-known/jwks.json").await.status, 404);
    assert_eq!(client.get("/auth/.well-known/jwks.json").await.body, jwks);
    let metadata = client.get("/.well-known/oauth-authorization-server/auth").await.json();
    assert_eq!(metadata["issuer"], "https://localhost:8443/auth");
    assert_eq!(metadata["token_endpoint"], "https://localhost:8443/auth/oauth/token");
}
