//! Our own signing keys change while the gateway runs: nobody's token fails for it, nobody learns a key too late, and
//! whoever asks is told what there is.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::support::client::{request, with_header};
use crate::support::command::{Finished, run};
use crate::support::gateway::{PATIENCE, program};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const JWKS: &str = "/.well-known/jwks.json";

/// A gateway whose only route wants a token of its own.
struct World {
    gateway: Gateway,
    client: Client,
    _upstream: Upstream,
}

impl World {
    async fn with_keys(signing_keys: &str) -> Self {
        let upstream = Upstream::start().await;
        let oauth = format!(
            "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  token_ttl: 60s
  signing_keys: {signing_keys}
  token_endpoint: {{rate_limits: [{{rate: 10000/s, per: address}}]}}
  clients: {{app: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}}}
"
        );
        let gateway = Gateway::start(&config(upstream.address, &["path: /data, access: {}"], &oauth));
        Self { client: Client::new(&gateway), gateway, _upstream: upstream }
    }

    async fn token(&self) -> String {
        self.client.granted("app", SECRET, "").await
    }

    async fn status(&self, token: &str) -> u16 {
        self.client.get_with("/data", token).await.status
    }

    async fn published(&self) -> Vec<Value> {
        self.client.get(JWKS).await.json()["keys"].as_array().unwrap().clone()
    }

    #[track_caller]
    fn keys(&self, arguments: &[&str]) -> Finished {
        let done = run(program(&self.gateway.folder).arg("keys").args(arguments));
        assert_eq!(done.code, Some(0), "{done:?}");
        done
    }

    /// The audit line of the next key, waited for.
    #[track_caller]
    fn made_after(&self, first: &str) -> Value {
        self.gateway.audit_line(|line| line["gateway.event"] == "key_made" && line["oauth.kid"] != first)
    }

    /// Asks for tokens until one is signed by another key than this.
    async fn token_by_another_key_than(&self, key_id: &str) -> String {
        let begun = tokio::time::Instant::now();
        loop {
            let token = self.token().await;
            if key_id_of(&token) != key_id {
                return token;
            }
            assert!(begun.elapsed() < PATIENCE, "the key does not change");
            tokio::task::yield_now().await;
        }
    }
}

fn key_id_of(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn keys_rotate_on_schedule_while_tokens_of_each_stay_good() {
    let world = World::with_keys("{algorithm: ES256, rotate_every: 5s}").await;
    let first = world.token().await;
    let known: Vec<Value> = {
        let made = world.made_after(&key_id_of(&first));
        let known = world.published().await;
        assert!(known.iter().any(|key| key["kid"] == made["oauth.kid"]), "{known:?} {made}");
        known
    };
    let second = world.token_by_another_key_than(&key_id_of(&first)).await;
    assert!(known.iter().any(|key| key["kid"] == key_id_of(&second)), "it signed before it was published");
    for token in [&first, &second] {
        assert_eq!(world.status(token).await, 200);
    }
}

#[tokio::test]
async fn keys_rotated_by_hand_fail_no_token() {
    let world = World::with_keys("{algorithm: ES256}").await;
    let mut tokens = vec![world.token().await];
    for _ in 0..4 {
        world.keys(&["rotate", "--now"]);
        tokens.push(world.token_by_another_key_than(&key_id_of(tokens.last().unwrap())).await);
        for token in &tokens {
            assert_eq!(world.status(token).await, 200);
        }
    }
    assert_eq!(world.published().await.len(), 5);
}

#[tokio::test]
async fn a_key_made_by_hand_is_published_before_it_signs() {
    let world = World::with_keys("{algorithm: ES256}").await;
    let old = key_id_of(&world.token().await);
    let told = world.keys(&["rotate"]).stdout;
    let made = world.made_after(&old)["oauth.kid"].clone();
    assert!(told.contains("next") && told.contains(made.as_str().unwrap()), "{told}");
    // Where another one waits already, it is told what becomes of it.
    let again = world.keys(&["rotate"]).stderr;
    assert!(again.contains(&format!("Key {} was the next one already. It ", made.as_str().unwrap())), "{again}");
    assert!(world.published().await.iter().any(|key| key["kid"] == made));
    assert_eq!(key_id_of(&world.token().await), old);
}

#[tokio::test]
async fn a_retired_key_is_refused_and_so_are_its_cached_tokens() {
    let world = World::with_keys("{algorithm: ES256}").await;
    let token = world.token().await;
    assert_eq!(world.status(&token).await, 200);
    let retired = key_id_of(&token);
    let said = world.keys(&["retire", &retired]).stderr;
    assert!(said.contains(" is new and signs from now on."), "{said}");
    world.gateway.audit_line(|line| line["gateway.event"] == "key_retired" && line["oauth.kid"] == retired.as_str());
    let answer = world.client.get_with("/data", &token).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(world.gateway.audit_of(answer.request_id())["gateway.reason"], "unknown_kid");
    let next = world.token().await;
    assert_ne!(key_id_of(&next), retired);
    assert_eq!(world.status(&next).await, 200);
}

#[tokio::test]
async fn the_list_of_keys_shows_the_use_of_each() {
    let world = World::with_keys("{algorithm: ES256}").await;
    let signing = key_id_of(&world.token().await);
    world.keys(&["rotate"]);
    let listed: Value = serde_json::from_str(&world.keys(&["list", "--format", "json"]).stdout).unwrap();
    let [first, second] = listed["keys"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((&first["state"], &first["kid"]), (&"signing".into(), &signing.into()));
    assert_eq!((&second["state"], &second["alg"]), (&"next".into(), &"ES256".into()));
    assert!(first["retires_at"].as_str().unwrap() > second["signs_from"].as_str().unwrap());
    let lines = world.keys(&["list"]).stdout;
    let heads: Vec<&str> = lines.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(heads, ["STATE", "signing", "next"]);
}

#[tokio::test]
async fn a_key_that_there_is_not_can_not_be_retired() {
    let world = World::with_keys("{algorithm: ES256}").await;
    let done = run(program(&world.gateway.folder).args(["keys", "retire", "nope"]));
    assert_eq!((done.code, done.stderr.as_str()), (Some(2), "error: there is no signing key `nope`\n"));
}

#[tokio::test]
async fn the_jwk_set_is_not_sent_again_to_a_cache() {
    let world = World::with_keys("{algorithm: ES256, rotate_every: 60s}").await;
    let whole = world.client.get(JWKS).await;
    let (etag, first) = (whole.header("etag").to_owned(), key_id_of(&world.token().await));
    assert_eq!(whole.header("cache-control"), "public, max-age=6");
    for method in ["GET", "HEAD"] {
        let held = world.client.send(with_header(request(method, JWKS), "if-none-match", &etag)).await;
        assert_eq!((held.status, held.body.len()), (304, 0));
        assert_eq!((held.header("etag"), held.header("cache-control")), (etag.as_str(), "public, max-age=6"));
    }
    world.keys(&["rotate"]);
    world.made_after(&first);
    let changed = world.client.send(with_header(request("GET", JWKS), "if-none-match", &etag)).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), etag);
}

#[tokio::test]
async fn a_certificate_for_the_key_is_published_where_it_is_asked_for() {
    for algorithm in ["RS256", "ES384", "EdDSA"] {
        let world = World::with_keys(&format!("{{algorithm: {algorithm}, x5c: true}}")).await;
        let key = &world.published().await[0];
        let certificate = STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap();
        let thumbprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &certificate);
        assert_eq!(key["x5t#S256"], URL_SAFE_NO_PAD.encode(thumbprint));
        assert_eq!(world.status(&world.token().await).await, 200);
    }
}

#[tokio::test]
async fn a_folder_of_keys_that_is_gone_for_a_while_stops_nothing() {
    let world = World::with_keys("{algorithm: ES256}").await;
    let (folder, away) = (world.gateway.folder.join("state/keys"), world.gateway.folder.join("away"));
    let before = world.token().await;
    std::fs::rename(&folder, &away).unwrap();
    world.gateway.log_line("cannot read or rotate the signing keys");
    let during = world.token().await;
    assert_eq!(key_id_of(&before), key_id_of(&during));
    assert_eq!((world.status(&before).await, world.status(&during).await), (200, 200));
    assert!(!folder.exists(), "a new ring was begun");
}
