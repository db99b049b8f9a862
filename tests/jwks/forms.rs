//! Keys as issuers really publish and name them.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Sites, World, claims, set, token};
use crate::support::issuer::{Key, Published};

const ON_REQUEST: [&str; 5] = ["RS384", "RS512", "PS384", "PS512", "ES512"];

/// Keys of one id, one for each of these algorithms.
fn keys_of(algorithms: &[&'static str]) -> Vec<Key> {
    let p521 = Key::new("k1", "ES512");
    let key = |name: &&'static str| match *name {
        "ES512" => p521.alias("k1", "ES512"),
        other => Key::rsa().alias("k1", other),
    };
    algorithms.iter().map(key).collect()
}

#[tokio::test]
async fn any_known_algorithm_is_accepted_if_it_is_listed() {
    let keys = keys_of(&ON_REQUEST);
    let ed25519 = Key::new("k1", "EdDSA").alias("k1", "Ed25519");
    let published = Published::keys(&keys.iter().chain([&ed25519]).collect::<Vec<_>>());
    let sites = Sites::start([("plain", published.clone()), ("wide", published)]).await;
    let wide = format!("issuer: \"urn:wide\", algorithms: [{}, Ed25519]", ON_REQUEST.join(", "));
    let issuers = sites.issuers().into_iter().map(|line| line.replace("issuer: \"urn:wide\"", &wide));
    let issuers: Vec<String> = issuers.collect();
    let world = World::trusting(&issuers).await;
    for key in &keys {
        world.accepts(&token(key, "urn:wide")).await;
        world.refuses(&token(key, "urn:plain"), 401, "alg_not_allowed").await;
    }
    world.accepts(&token(&ed25519, "urn:wide")).await;
    world.accepts(&token(&ed25519, "urn:plain")).await;
    world.refuses(&token(&Key::rsa().alias("k1", "RS256"), "urn:wide"), 401, "alg_not_allowed").await;
}

#[tokio::test]
async fn one_id_may_stand_for_a_key_of_each_algorithm() {
    let keys = [Key::new("k1", "ES256"), Key::new("k1", "ES384"), Key::rsa().alias("k1", "RS256")];
    let sites = Sites::start([("corp", Published::keys(&keys.each_ref()))]).await;
    let world = World::trusting(&sites.issuers()).await;
    for key in &keys {
        world.accepts(&token(key, "urn:corp")).await;
    }
    world.refuses(&token(&Key::new("k1", "ES256"), "urn:corp"), 401, "bad_signature").await;
}

/// The JWK with a certificate, and the certificate's `x5t` and `x5t#S256`.
fn certified(key: &Key) -> (Value, String, String) {
    let certificate = key.id.as_bytes();
    let mut jwk = key.jwk();
    jwk["x5c"] = json!([STANDARD.encode(certificate)]);
    let thumbprint = |algorithm| URL_SAFE_NO_PAD.encode(digest(algorithm, certificate));
    (jwk, thumbprint(&SHA1_FOR_LEGACY_USE_ONLY), thumbprint(&SHA256))
}

#[tokio::test]
async fn a_token_without_key_id_may_name_the_certificate_of_its_key() {
    let (one, other) = (Key::new("one", "ES256"), Key::new("other", "ES256"));
    let ((jwk, sha1, sha256), (other_jwk, other_sha1, _)) = (certified(&one), certified(&other));
    let sites = Sites::start([("corp", Published::text(&set(&[jwk, other_jwk])))]).await;
    let world = World::trusting(&sites.issuers()).await;
    let signed = |mut header: Value| {
        header["alg"] = json!("ES256");
        one.sign_with(&header, &claims("urn:corp"))
    };
    for good in [json!({"x5t": sha1}), json!({"x5t#S256": sha256}), json!({"x5t": sha1, "x5t#S256": sha256})] {
        world.accepts(&signed(good)).await;
    }
    world.refuses(&signed(json!({"x5t": other_sha1})), 401, "bad_signature").await;
    for bad in
        [json!({"x5t": other_sha1, "x5t#S256": sha256}), json!({"x5t": "AAAA"}), json!({"x5t": sha256}), json!({})]
    {
        world.refuses(&signed(bad), 401, "unknown_kid").await;
    }
    // A key id decides alone.
    world.accepts(&signed(json!({"kid": "one", "x5t": other_sha1}))).await;
    world.refuses(&signed(json!({"kid": sha1, "x5t": sha1})), 401, "unknown_kid").await;
}

#[tokio::test]
async fn parameters_of_a_key_may_be_padded_and_tokens_may_not() {
    let key = Key::new("k1", "ES256");
    let mut jwk = key.jwk();
    for name in ["x", "y"] {
        jwk[name] = json!(format!("{}=", jwk[name].as_str().unwrap()));
    }
    let sites = Sites::start([("corp", Published::text(&set(&[jwk])))]).await;
    let world = World::trusting(&sites.issuers()).await;
    let token = token(&key, "urn:corp");
    world.accepts(&token).await;
    world.refuses(&format!("{token}=="), 401, "malformed").await;
}

#[tokio::test]
async fn keys_of_a_spiffe_bundle_are_keys_for_signatures() {
    let (jwt, x509) = (Key::new("jwt", "ES256"), Key::new("x509", "ES256"));
    let svid = |key: &Key, purpose: &str| {
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk["use"] = json!(purpose);
        jwk
    };
    let published = set(&[svid(&x509, "x509-svid"), svid(&jwt, "jwt-svid")]);
    let sites = Sites::start([("corp", Published::text(&published))]).await;
    let world = World::trusting(&sites.issuers()).await;
    world.accepts(&token(&jwt, "urn:corp")).await;
    world.refuses(&token(&x509, "urn:corp"), 401, "unknown_kid").await;
}

#[tokio::test]
async fn of_more_than_64_usable_keys_the_first_64_count() {
    let key = Key::new("k1", "ES256");
    let named = |n: usize| key.alias(&n.to_string(), "ES256").jwk();
    let unknown = std::iter::repeat_n(json!({"kty": "XYZ"}), 40);
    let keys: Vec<Value> = unknown.chain((0..65).map(named)).collect();
    let sites = Sites::start([("corp", Published::text(&set(&keys)))]).await;
    let world = World::trusting(&sites.issuers()).await;
    assert!(world.fetched("corp").contains("\"keys.count\":64,"));
    world.accepts(&token(&key.alias("63", "ES256"), "urn:corp")).await;
    world.refuses(&token(&key.alias("64", "ES256"), "urn:corp"), 401, "unknown_kid").await;
    world.gateway.log_line("\"reason\":\"it comes after the first 64 usable keys\"");
}
