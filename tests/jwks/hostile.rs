//! JWK Sets that are none, too large, or worse.

use std::slice;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Sites, World, claims, set, token};
use crate::support::Issuer;
use crate::support::issuer::{Key, Lie, Published, Site, liar};

/// 300 KiB of spaces.
fn packed() -> Bytes {
    let text = format!("H4sIAAAAAAACA+3BAQ0AAADCoCrvn9IcbkAB{}DAnwFZZ/RiALAEAA==", "A".repeat(394));
    STANDARD.decode(text).unwrap().into()
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

/// A published key set, and the expected log message.
fn unusable(key: &Key) -> Vec<(&'static str, Published, &'static str)> {
    let jwk = key.jwk();
    let good = set(slice::from_ref(&jwk));
    let answered = |status, headers| Published { status, headers, ..Published::text(&good) };
    let oct = json!({"kty": "oct", "kid": "k1", "alg": "HS256", "k": "c2VjcmV0"});
    vec![
        ("html", Published::text("<html><body>200 OK</body></html>"), "it is not a JWK Set"),
        ("nothing", Published::text(""), "it is not a JWK Set"),
        ("object", Published::text("{}"), "it is not a JWK Set"),
        ("list", Published::text(&json!([jwk]).to_string()), "it is not a JWK Set"),
        ("map-of-keys", Published::text(&json!({"keys": {"k1": jwk}}).to_string()), "it is not a JWK Set"),
        ("truncated", Published::text(&good[..good.len() - 1]), "it is not a JWK Set"),
        ("marked-twice", Published::text(&format!("\u{feff}\u{feff}{good}")), "it is not a JWK Set"),
        ("no-keys", Published::text(&set(&[])), "it has no usable key"),
        ("large", Published::text(&format!("{good}{}", " ".repeat(300 * 1024))), "sent more than 262144 bytes"),
        (
            "packed",
            Published { body: packed(), headers: vec![("content-encoding", "gzip".to_owned())], status: 200 },
            "sent more than 262144 bytes",
        ),
        ("redirect", answered(302, vec![("location", "/elsewhere".to_owned())]), "answered 302"),
        ("broken", answered(500, Vec::new()), "answered 500"),
        ("gone", answered(404, Vec::new()), "answered 404"),
        ("partial", answered(206, Vec::new()), "answered 206"),
        ("symmetric", Published::text(&set(&[oct])), "it has no usable key"),
        ("private", Published::text(&set(&[with(jwk.clone(), "d", "AAAA")])), "it has no usable key"),
        ("two-of-a-name", Published::text(&set(&[jwk, Key::new("k1", "ES256").jwk()])), "it has no usable key"),
    ]
}

#[tokio::test]
async fn an_issuer_with_an_unusable_set_is_reported_and_recovers() {
    let key = Key::new("k1", "ES256");
    let (unusable, good) = (unusable(&key), Published::keys(&[&key]));
    let sites = Sites::start(unusable.iter().map(|(name, published, _)| (*name, published.clone()))).await;
    let mut issuers = sites.issuers();
    let fine = Sites::start([("fine", good.clone())]).await;
    issuers.extend(fine.issuers());
    let world = World::trusting(&issuers).await;
    for (name, _, why) in &unusable {
        let log = world.failed(name);
        assert!(log.contains(why), "{name}: {log}");
        world.refuses(&token(&key, &format!("urn:{name}")), 503, "keys_unavailable").await;
    }
    assert!(!sites.was_asked_for("/elsewhere"), "a redirect was followed");
    world.accepts(&token(&key, "urn:fine")).await;

    sites.all_publish(&good);
    for (name, ..) in &unusable {
        world.fetched(name);
        world.accepts(&token(&key, &format!("urn:{name}"))).await;
    }
}

#[tokio::test]
async fn an_unusable_set_never_replaces_a_good_one() {
    let key = Key::new("k1", "ES256");
    let unusable = unusable(&key);
    let sites = Sites::start(unusable.iter().map(|(name, ..)| (*name, Published::keys(&[&key])))).await;
    let world = World::trusting(&sites.issuers()).await;
    for (name, published, _) in &unusable {
        world.fetched(name);
        sites.publishes(name, published);
    }
    for (name, ..) in &unusable {
        // A key that is missed has the set fetched as soon as it is not believed any more.
        world.refuses(&token(&key.alias("missed", "ES256"), &format!("urn:{name}")), 401, "unknown_kid").await;
    }
    for (name, _, why) in &unusable {
        let log = world.failed(name);
        assert!(log.contains(why), "{name}: {log}");
        world.accepts(&token(&key, &format!("urn:{name}"))).await;
    }
}

#[tokio::test]
async fn an_issuers_wrong_clock_is_reported_and_changes_nothing() {
    let key = Key::new("k1", "ES256");
    let dated = |date: &str| Published { headers: vec![("date", date.to_owned())], ..Published::keys(&[&key]) };
    let published = [
        ("ahead", dated("Fri, 01 Jan 2100 00:00:00 GMT")),
        ("behind", dated("Sun, 06 Nov 1994 08:49:37 GMT")),
        ("garbage", dated("yesterday")),
    ];
    let sites = Sites::start(published).await;
    let world = World::trusting(&sites.issuers()).await;
    for name in ["ahead", "behind", "garbage"] {
        assert!(world.fetched(name).contains("\"ttl_s\":600,"));
        world.accepts(&token(&key, &format!("urn:{name}"))).await;
    }
    let logs = world.gateway.log_text();
    let warned = logs.lines().filter(|line| line.contains("by more than `clock_skew`")).count();
    assert_eq!(warned, 2, "{logs}");
}

/// None of them holds the refresher beyond its deadline or makes it read beyond its limit.
#[tokio::test]
async fn issuers_that_are_slow_endless_or_torn_are_given_up_on() {
    let cases = [
        ("silence", Lie::Silence, "timed out"),
        ("slow-head", Lie::SlowHead, "timed out"),
        ("slow-body", Lie::SlowBody, "timed out"),
        ("endless-body", Lie::EndlessBody, "sent more than 262144 bytes"),
        ("endless-head", Lie::EndlessHead, "cannot fetch http://"),
        ("torn", Lie::Torn, "cannot fetch http://"),
        ("not-http", Lie::NotHttp, "cannot fetch http://"),
    ];
    let (key, mut lines, mut taken) = (Key::new("k1", "ES256"), Vec::new(), Vec::new());
    for (name, lie, _) in cases {
        let (address, bytes) = liar(lie).await;
        lines.push(format!("{name}: {{issuer: \"urn:{name}\", jwks_uri: \"http://{address}/\"}}"));
        taken.push(bytes);
    }
    let encrypted = liar(Lie::NotHttp).await.0;
    lines.push(format!("no-tls: {{issuer: \"urn:no-tls\", jwks_uri: \"https://{encrypted}/\"}}"));
    lines.push(format!("refused: {{issuer: \"urn:refused\", jwks_uri: \"http://{}/\"}}", Site::new().address));
    let fine = Sites::start([("fine", Published::keys(&[&key]))]).await;
    lines.extend(fine.issuers());
    let world = World::trusting(&lines).await;
    world.accepts(&token(&key, "urn:fine")).await;
    for (name, why) in cases.map(|(name, _, why)| (name, why)).into_iter().chain([("no-tls", ""), ("refused", "")]) {
        let log = world.failed(name);
        assert!(log.contains(why), "{name}: {log}");
        world.refuses(&token(&key, &format!("urn:{name}")), 503, "keys_unavailable").await;
    }
    for ((name, ..), taken) in cases.iter().zip(taken) {
        let taken = taken.load(Ordering::Relaxed);
        // A few attempts, each with what fits into the buffers of two sockets.
        assert!(taken < 64 << 20, "{name}: {taken}");
    }
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_asked() {
    let key = Key::new("k1", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let nobody = format!("http://{}", Site::new().address);
    let proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let variables: Vec<_> = proxies.iter().map(|name| (*name, nobody.as_str())).collect();
    let world = World::trusting_with(&variables, &[], &[format!("corp: {{issuer: \"{}\"}}", issuer.issuer)]).await;
    world.accepts(&token(&key, &issuer.issuer)).await;
}

#[tokio::test]
async fn why_no_key_of_a_set_can_be_used_is_in_the_log() {
    let ec = Key::new("k1", "ES256").jwk();
    let cases = [
        ("symmetric", json!({"kty": "oct", "kid": "k1", "k": "c2VjcmV0"}), "it is symmetric"),
        ("private", with(ec.clone(), "d", "AAAA"), "it has private members"),
        ("for-encryption", with(ec.clone(), "use", "enc"), "it is not for verifying signatures"),
        ("for-certificates", with(ec.clone(), "use", "x509-svid"), "it is not for verifying signatures"),
        ("post-quantum", json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}), "its `kty` is not supported"),
        ("bitcoin", with(ec, "crv", "secp256k1"), "its `crv` is not supported"),
        ("sha512", with(Key::rsa().jwk(), "alg", "RS512"), "its algorithm is not allowed for this issuer"),
    ];
    let published = |jwk: &Value| Published::text(&set(slice::from_ref(jwk)));
    let sites = Sites::start(cases.iter().map(|(name, jwk, _)| (*name, published(jwk)))).await;
    let world = World::trusting(&sites.issuers()).await;
    for (name, _, why) in cases {
        assert!(world.failed(name).contains("it has no usable key"));
        let log =
            world.gateway.log_line(&format!("\"skipped an unusable key of the JWK Set: tokens that are signed with it are refused\",\"issuer.name\":\"{name}\""));
        assert!(log.contains(&format!("\"reason\":\"{why}\"")), "{log}");
    }
}

#[tokio::test]
async fn members_that_mean_nothing_to_us_cost_nothing() {
    let key = Key::new("k1", "ES256");
    let mut jwk = key.jwk();
    for (name, value) in [
        ("x5t", json!("AAAA")),
        ("x5c", json!(["AAAA"])),
        ("issuer", json!("https://login.example.com/")),
        ("nbf", json!(1_700_000_000)),
        ("ext", json!(true)),
        ("use", json!("sig")),
        ("key_ops", json!(["verify"])),
    ] {
        jwk = with(jwk, name, value);
    }
    let document = json!({"keys": [jwk], "cloud": {"a": [1]}}).to_string();
    let sites = Sites::start([("corp", Published::text(&document))]).await;
    let world = World::trusting(&sites.issuers()).await;
    world.accepts(&token(&key, "urn:corp")).await;
}

#[tokio::test]
async fn keys_that_can_not_be_used_cost_no_good_one() {
    let (good, ec) = (Key::new("good", "ES256"), Key::new("bad", "ES256"));
    let zero = URL_SAFE_NO_PAD.encode([0; 32]);
    let keys = [
        json!(null),
        json!(7),
        json!({}),
        json!({"kty": "oct", "kid": "bad", "alg": "HS256", "k": "c2VjcmV0"}),
        json!({"kty": "XYZ", "kid": "bad"}),
        json!({"kty": "RSA", "kid": "bad", "n": "AQAB", "e": "AQAB"}),
        with(Key::rsa().jwk(), "e", "AQ"),
        with(Key::rsa().jwk(), "e", "BA"),
        with(Key::rsa().jwk(), "n", URL_SAFE_NO_PAD.encode([0xff; 128])),
        with(Key::rsa().jwk(), "n", URL_SAFE_NO_PAD.encode([0xfe; 256])),
        with(Key::rsa().jwk(), "n", 7),
        with(ec.jwk(), "kty", json!(["EC"])),
        with(ec.jwk(), "use", 7),
        with(ec.jwk(), "key_ops", "verify"),
        with(Key::new("bad", "EdDSA").jwk(), "x", URL_SAFE_NO_PAD.encode([1; 31])),
        with(ec.jwk(), "use", "enc"),
        with(ec.jwk(), "key_ops", json!(["encrypt"])),
        with(ec.jwk(), "alg", "ES384"),
        with(ec.jwk(), "alg", "none"),
        with(ec.jwk(), "crv", "P-384"),
        with(ec.jwk(), "x", zero.clone()),
        with(ec.jwk(), "kid", 7),
        with(ec.jwk(), "d", zero.clone()),
    ];
    let names: Vec<&str> = (0..keys.len()).map(|n| &*Box::leak(format!("case-{n}").into_boxed_str())).collect();
    let published = keys
        .iter()
        .zip(&names)
        .map(|(bad, name)| (*name, Published::text(&set(&[bad.clone(), good.jwk(), bad.clone()]))));
    let sites = Sites::start(published).await;
    let world = World::trusting(&sites.issuers()).await;
    for (name, bad) in names.iter().zip(&keys) {
        assert!(world.fetched(name).contains("\"keys.count\":1,"), "{bad}");
        world.gateway.log_line(&format!("\"skipped an unusable key of the JWK Set: tokens that are signed with it are refused\",\"issuer.name\":\"{name}\""));
        let iss = format!("urn:{name}");
        world.accepts(&token(&good, &iss)).await;
        world.refuses(&token(&ec, &iss), 401, "unknown_kid").await;
    }
    assert!(!world.gateway.log_text().contains(&zero), "parts of a key are in the logs");
}

#[tokio::test]
async fn a_symmetric_key_in_a_set_verifies_nothing() {
    let good = Key::new("good", "ES256");
    let oct = json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode("secret")});
    let sites = Sites::start([("corp", Published::text(&set(&[oct, good.jwk()])))]).await;
    let world = World::trusting(&sites.issuers()).await;
    world.fetched("corp");
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", encode(json!({"alg": "HS256", "kid": "oct"})), encode(claims("urn:corp")));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret");
    let tag = URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, input.as_bytes()));
    world.refuses(&format!("{input}.{tag}"), 401, "alg_not_allowed").await;
}

#[tokio::test]
async fn two_keys_of_one_name_are_both_left_aside_and_reported() {
    let (good, one, other) = (Key::new("good", "ES256"), Key::new("twin", "ES256"), Key::new("twin", "ES256"));
    let sites = Sites::start([("corp", Published::keys(&[&one, &good, &other]))]).await;
    let world = World::trusting(&sites.issuers()).await;
    world.fetched("corp");
    world.accepts(&token(&good, "urn:corp")).await;
    for twin in [one, other] {
        world.refuses(&token(&twin, "urn:corp"), 401, "unknown_kid").await;
    }
    let log = world.gateway.log_line("skipped an unusable key of the JWK Set");
    assert!(log.contains("\"key.id\":\"twin\""), "{log}");
}

#[tokio::test]
async fn a_key_that_is_published_twice_is_one_key() {
    let key = Key::new("k1", "ES256");
    let sites = Sites::start([("corp", Published::keys(&[&key, &key]))]).await;
    let world = World::trusting(&sites.issuers()).await;
    assert!(world.fetched("corp").contains("\"keys.count\":1,"));
    world.accepts(&token(&key, "urn:corp")).await;
}

#[tokio::test]
async fn a_key_without_id_or_algorithm_works_where_it_is_the_only_one() {
    let key = Key::new("k1", "ES256");
    let mut bare = key.jwk();
    bare.as_object_mut().unwrap().retain(|name, _| !["kid", "alg"].contains(&name.as_str()));
    let mut unnamed_rsa = Key::rsa().jwk();
    unnamed_rsa.as_object_mut().unwrap().remove("alg");
    let sites = Sites::start([("corp", Published::text(&set(&[bare, unnamed_rsa])))]).await;
    let world = World::trusting(&sites.issuers()).await;
    world.accepts(&key.sign_with(&json!({"alg": "ES256"}), &claims("urn:corp"))).await;
    world.refuses(&token(&key, "urn:corp"), 401, "unknown_kid").await;
    world.accepts(&token(Key::rsa(), "urn:corp")).await;
    world.refuses(&token(&Key::rsa().alias("rsa", "PS256"), "urn:corp"), 401, "unknown_kid").await;
}

#[tokio::test]
async fn the_content_type_of_a_set_is_not_judged() {
    let key = Key::new("k1", "ES256");
    let html = vec![("content-type", "text/html".to_owned())];
    let sites = Sites::start([("corp", Published { headers: html, ..Published::keys(&[&key]) })]).await;
    let world = World::trusting(&sites.issuers()).await;
    world.accepts(&token(&key, "urn:corp")).await;
}
