//! `token inspect` of a platform's token: it is judged as the credential that it is, and opens no route.

use std::fs;

use serde_json::{Value, json};

use super::{World, platform_token, with_platform};
use crate::support::command::run_with;
use crate::support::gateway::{folder, program};
use crate::support::issuer::{Key, now};

/// The output as text and as JSON.
fn inspected(world: &World, token: &str) -> (String, Value) {
    let inspect = |format: &str| {
        let mut command = program(&world.gateway.folder);
        run_with(command.args(["token", "inspect", "--format", format]), token).stdout
    };
    (inspect("text"), serde_json::from_str(&inspect("json")).unwrap())
}

#[tokio::test]
async fn a_credential_is_said_to_open_no_route() {
    let (world, key) = with_platform().await;
    let token = platform_token(&world, &key, "system:serviceaccount:prod:app", "gold");
    let (text, said) = inspected(&world, &token);
    let (_, judged) = text.split_once("as the credential of a client").unwrap_or_else(|| panic!("{text}"));
    assert!(judged.contains("client pod") && judged.contains("for federation only"), "{text}");
    assert!(judged.ends_with("tokens of issuer `platform`, which has no `audiences`, never authenticate a request\n"));
    assert!(!text.contains("issuer_not_allowed") && !text.contains("no change"), "{text}");
    assert_eq!((&said["good"], &said["credential"]["good"]), (&json!(false), &json!(true)), "{said}");
}

#[tokio::test]
async fn a_token_for_several_services_is_told_to_be_for_one() {
    let (world, key) = with_platform().await;
    let (now, issuer) = (now(), "https://platform.example.com");
    let token = key.sign(&json!({
        "iss": issuer, "sub": "system:serviceaccount:prod:app", "aud": [world.issuer, "https://other.example.com"],
        "iat": now, "exp": now + 600, "tier": "gold",
    }));
    let (text, said) = inspected(&world, &token);
    assert!(text.contains("must be our issuer alone"), "{text}");
    assert_eq!(said["credential"]["reason"], "bad_audience", "{said}");
}

#[tokio::test]
async fn a_credential_of_an_unknown_platform_gets_no_audience() {
    let (world, key) = with_platform().await;
    let now = now();
    let token = key.sign(&json!({
        "iss": "https://new.example.com", "sub": "build\u{1b}[1m", "aud": world.issuer, "iat": now, "exp": now + 600,
    }));
    let (text, said) = inspected(&world, &token);
    assert_eq!((&said["reason"], &said["change"]), (&json!("unknown_issuer"), &Value::Null), "{said}");
    let why = said["no_change"].as_str().unwrap();
    for part in ["without `audiences`", "{issuer: \"https://new.example.com\"}", "`oauth.clients.ID.federation`"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert!(!text.contains("\u{1b}[1m"), "{text:?}");
    // For another service, an entry with its audience may be meant.
    let token = key.sign(&json!({
        "iss": "https://new.example.com", "sub": "a", "aud": "https://api.example.com", "iat": now, "exp": now + 600,
    }));
    let (_, said) = inspected(&world, &token);
    assert!(said["change"].as_str().unwrap().contains("audiences"), "{said}");
}

#[tokio::test]
async fn a_credential_for_one_use_needs_an_id() {
    let (folder, key) = (folder(), Key::new("k1", "ES256"));
    fs::write(folder.join("platform.json"), json!({ "keys": [key.jwk()] }).to_string()).unwrap();
    let clients = "    job: {federation: [{issuer: platform, subject: job, once: true}], scopes: [read:data]}\n\
                   issuers:\n  platform: {issuer: 'https://platform.example.com', jwks_file: platform.json}";
    let world = World::start(folder, clients).await;
    let now = now();
    for (id, good, found, part) in [
        (json!("id-1"), true, Value::Null, "matches, if its `jti` was not used before (`once`): that is not checked"),
        (Value::Null, false, json!("no jti"), "wanted jti, as the entry has `once`"),
    ] {
        let mut claims = json!({
            "iss": "https://platform.example.com", "sub": "job", "aud": world.issuer, "iat": now, "exp": now + 600,
            "jti": id,
        });
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let (text, said) = inspected(&world, &key.sign(&claims));
        let credential = &said["credential"];
        assert_eq!((&credential["good"], &credential["entries"][0]["found"]), (&json!(good), &found), "{said}");
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn explain_compares_a_credential_with_each_entry() {
    let (world, key) = with_platform().await;
    let token = platform_token(&world, &key, "system:serviceaccount:prod:app", "gold");
    let explain = |format: &str| {
        let mut command = program(&world.gateway.folder);
        command.args(["explain", "POST", "/auth/oauth/token", "--token-file", "-", "--format", format]);
        run_with(&mut command, &token).stdout
    };
    let said: Value = serde_json::from_str(&explain("json")).unwrap();
    let credential = &said["credential"];
    assert_eq!((&credential["client"], &credential["entries"][0]["matches"]), (&json!("pod"), &json!(true)), "{said}");
    let text = explain("text");
    assert!(text.contains("as the credential of a client") && text.contains("differs: "), "{text}");
}
