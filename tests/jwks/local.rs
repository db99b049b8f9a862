//! Keys that are not fetched: from a file that is watched, or from the configuration itself.

use std::fs;

use serde_json::{Value, json};

use super::{World, set, token};
use crate::support::Client;
use crate::support::command::run;
use crate::support::gateway::program;
use crate::support::issuer::Key;

/// The report of the issuer `corp`.
async fn report(world: &World) -> Value {
    let page = Client::plain(world.gateway.admin.unwrap()).get("/issuers").await.json();
    page["issuers"].as_array().unwrap().iter().find(|issuer| issuer["name"] == "corp").unwrap().clone()
}

async fn with_file(content: &str) -> World {
    let line = "corp: {issuer: corp, jwks_file: keys.json}".to_owned();
    World::trusting_beside(&[("keys.json", content)], &[line]).await
}

#[tokio::test]
async fn a_changed_key_file_is_used_without_a_restart() {
    let (old, new) = (Key::new("old", "ES256"), Key::new("new", "EdDSA"));
    // With a byte order mark, as some tools write it.
    let world = with_file(&format!("\u{feff}{}", set(&[old.jwk()]))).await;
    world.accepts(&token(&old, "corp")).await;
    world.refuses(&token(&new, "corp"), 401, "unknown_kid").await;
    let symmetric = json!({"kty": "oct", "kid": "shared", "k": "c2VjcmV0"});
    fs::write(world.gateway.folder.join("keys.json"), set(&[new.jwk(), symmetric])).unwrap();
    world.gateway.log_line("the keys of a changed `jwks_file` are in use");
    world.accepts(&token(&new, "corp")).await;
    world.refuses(&token(&old, "corp"), 401, "unknown_kid").await;
    let report = report(&world).await;
    assert_eq!(
        (&report["state"], &report["out_of_reach"], &report["age_s"]),
        (&json!("local"), &json!(false), &json!(null))
    );
    assert_eq!(report["left_aside"], json!([{"kid": "shared", "reason": "it is symmetric"}]));
}

#[tokio::test]
async fn a_key_file_that_cannot_be_used_leaves_the_last_good_keys() {
    let key = Key::new("k1", "ES256");
    let world = with_file(&set(&[key.jwk()])).await;
    let path = world.gateway.folder.join("keys.json");
    let large = format!("{}{}", set(&[key.jwk()]), " ".repeat(256 * 1024));
    for (content, why) in [
        (Some("{\"keys\":["), "it is not a JWK Set"),
        (Some("{\"keys\":[]}"), "it has no usable key"),
        (Some(&*large), "has more than 262144 bytes"),
        (None, "no such file"),
    ] {
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let log = world.gateway.log_line(why);
        assert!(log.contains("cannot use a changed `jwks_file`: the previous keys stay in use"), "{log}");
        world.accepts(&token(&key, "corp")).await;
    }
    let faulty = report(&world).await;
    assert_eq!((&faulty["state"], &faulty["out_of_reach"]), (&json!("local"), &json!(true)));
    assert!(faulty["last_error"]["error"].as_str().unwrap().contains("no such file"), "{faulty}");
    let ready = Client::plain(world.gateway.admin.unwrap()).get("/readyz").await;
    let ready = String::from_utf8(ready.body.to_vec()).unwrap();
    assert_eq!(ready, "ok\nthe key file of issuer `corp` cannot be used: its last good keys are used\n");
    fs::write(&path, set(&[key.jwk()])).unwrap();
    world.gateway.log_line("the keys of a changed `jwks_file` are in use");
    assert_eq!(report(&world).await["out_of_reach"], false);
}

/// Another issuer's file must not keep an operator from revoking tokens.
#[tokio::test]
async fn a_key_file_that_cannot_be_used_hinders_no_other_command() {
    let world = with_file(&set(&[Key::new("k1", "ES256").jwk()])).await;
    fs::write(world.gateway.folder.join("keys.json"), "{\"keys\":[").unwrap();
    let said = |arguments: &[&str]| run(program(&world.gateway.folder).args(arguments));
    let revoked = said(&["token", "revoke", "--issuer", "corp", "--client", "app"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
    let issuers = said(&["issuers"]);
    assert!(issuers.code == Some(1) && issuers.stdout.contains("file not usable"), "{}", issuers.stdout);
    assert!(issuers.stdout.contains("it is not a JWK Set"), "{}", issuers.stdout);
    assert_eq!(said(&["check"]).code, Some(2));
}

#[tokio::test]
async fn keys_in_the_configuration_verify_tokens_without_fetching() {
    let (first, second) = (Key::new("k1", "ES256"), Key::new("k2", "EdDSA"));
    // JSON is YAML.
    let line = format!("corp: {{issuer: corp, jwks: {}}}", set(&[first.jwk(), second.jwk()]));
    let world = World::trusting(&[line]).await;
    for key in [&first, &second] {
        world.accepts(&token(key, "corp")).await;
    }
    world.refuses(&token(&Key::new("k3", "ES256"), "corp"), 401, "unknown_kid").await;
    world.refuses(&token(&Key::new("k1", "ES256"), "corp"), 401, "bad_signature").await;
    let report = report(&world).await;
    assert_eq!((&report["state"], &report["jwks_uri"]), (&json!("local"), &json!(null)));
    assert!(!world.gateway.folder.join("state/jwks").exists());
}
