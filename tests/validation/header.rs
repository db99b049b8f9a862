//! The header of a token chooses nothing: not the algorithm, not the key, not where to look for one.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{OWN_ISSUER, STRICT, World, with, without};
use crate::support::Upstream;
use crate::support::issuer::Key;

fn header() -> Value {
    json!({"typ": "JWT", "alg": "ES256", "kid": "k1"})
}

/// Signed as it should be, under another header.
async fn each_is_refused(cases: impl IntoIterator<Item = (Value, &str)>) {
    let world = World::start().await;
    for (header, reason) in cases {
        world.refuses(&world.key.sign_with(&header, &world.corp.claims()), reason).await;
    }
}

#[tokio::test]
async fn every_algorithm_that_we_know_is_good_with_its_own_key() {
    let world = World::start().await;
    let claims = world.corp.claims();
    world.accepts(&world.key.sign(&claims)).await;
    world.accepts(&Key::rsa().sign(&claims)).await;
    world.accepts(&Key::rsa().alias("pss", "PS256").sign(&claims)).await;
}

#[tokio::test]
async fn a_token_without_an_algorithm_is_refused() {
    let spellings = ["none", "None", "nOnE", "NONE", " none", ""];
    each_is_refused(spellings.map(|name| (with(header(), "alg", name), "alg_not_allowed"))).await;
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    let world = World::start().await;
    let claims = world.corp.claims();
    let bare = |token: &str| token.rsplit_once('.').unwrap().0.to_owned();
    let unsigned = bare(&world.key.sign_with(&with(header(), "alg", "none"), &claims));
    world.refuses(&format!("{unsigned}."), "alg_not_allowed").await;
    world.refuses(&unsigned, "malformed").await;
    world.refuses(&format!("{}.", bare(&world.key.sign(&claims))), "malformed").await;
}

#[tokio::test]
async fn an_algorithm_that_is_no_name_is_refused() {
    let names = [json!(0), json!(["ES256"]), json!(null), json!(true), json!({"alg": "ES256"})];
    each_is_refused(names.map(|name| (with(header(), "alg", name), "malformed"))).await;
    each_is_refused([(without(header(), "alg"), "malformed")]).await;
}

#[tokio::test]
async fn a_public_key_is_no_hmac_secret() {
    let world = World::start().await;
    for secret in public_forms(&world.key).into_iter().chain(public_forms(Key::rsa())) {
        for kid in ["k1", "rsa"] {
            let header = json!({"typ": "JWT", "alg": "HS256", "kid": kid}).to_string();
            let input = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(world.corp.claims().to_string())
            );
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), input.as_bytes());
            world.refuses(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)), "alg_not_allowed").await;
        }
    }
}

/// All that anyone can take for the bytes of a public key.
fn public_forms(key: &Key) -> Vec<Vec<u8>> {
    let jwk = key.jwk();
    let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default()).unwrap();
    let bytes = [member("n"), member("x"), member("y")].concat();
    // SubjectPublicKeyInfo of a point on P-256 (RFC 5480), which is as good a PEM as any.
    let prefix = STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE").unwrap();
    let der = [prefix, bytes.clone()].concat();
    let pem = pem::encode(&pem::Pem::new("PUBLIC KEY", der.clone())).replace("\r\n", "\n");
    let trimmed = pem.trim_end().to_owned();
    vec![bytes, der, pem.into_bytes(), trimmed.into_bytes(), jwk.to_string().into_bytes()]
}

#[tokio::test]
async fn a_key_is_good_for_its_own_algorithm_only() {
    let world = World::start().await;
    let claims = world.corp.claims();
    for other in ["RS384", "RS512", "PS384", "ES512", "ed25519", "es256", "ES256K"] {
        world.refuses(&Key::rsa().alias("rsa", other).sign(&claims), "alg_not_allowed").await;
    }
    world.refuses(&Key::rsa().alias("rsa", "PS256").sign(&claims), "unknown_kid").await;
    world.refuses(&Key::rsa().alias("pss", "RS256").sign(&claims), "unknown_kid").await;
    for other in ["ES384", "EdDSA", "Ed25519", "RS256"] {
        world.refuses(&world.key.alias("k1", other).sign(&claims), "unknown_kid").await;
    }
}

#[tokio::test]
async fn an_algorithm_that_the_issuer_may_not_use_is_refused() {
    let world = World::knowing(&[STRICT]).await;
    let claims = world.claims("iss", "urn:strict");
    let header = |alg: &str, kid: &str| json!({"typ": "at+jwt", "alg": alg, "kid": kid});
    world.accepts(&world.key.sign_with(&header("ES256", "k1"), &claims)).await;
    world.refuses(&Key::rsa().sign_with(&header("RS256", "rsa"), &claims), "alg_not_allowed").await;
}

#[tokio::test]
async fn a_token_does_not_bring_its_own_key() {
    let world = World::start().await;
    let evil = Key::new("evil", "ES256");
    let certificate = STANDARD.encode(evil.jwk().to_string());
    for (name, value) in [("jwk", evil.jwk()), ("x5c", json!([certificate])), ("x5t", json!("AAAA"))] {
        let header = with(header(), name, value);
        world.refuses(&evil.sign_with(&header, &world.corp.claims()), "bad_signature").await;
        let header = without(header, "kid");
        world.refuses(&evil.sign_with(&header, &world.corp.claims()), "unknown_kid").await;
        let header = with(header, "kid", "evil");
        world.refuses(&evil.sign_with(&header, &world.corp.claims()), "unknown_kid").await;
    }
}

#[tokio::test]
async fn keys_are_never_fetched_from_where_a_token_says() {
    let world = World::start().await;
    let evil = Key::new("k1", "ES256");
    let set = json!({"keys": [evil.jwk()]}).to_string();
    let recorder = Upstream::answering(move |_| http::Response::new(set.clone().into())).await;
    let places = [format!("http://{}/jwks", recorder.address), "file:///etc/passwd".to_owned(), "/jwks".to_owned()];
    for place in places {
        for name in ["jku", "x5u", "url", "iss"] {
            let header = with(header(), name, place.clone());
            world.refuses(&evil.sign_with(&header, &world.corp.claims()), "bad_signature").await;
            // Said by who has the right key, it means nothing and does no harm.
            world.accepts(&world.key.sign_with(&header, &world.corp.claims())).await;
        }
    }
    assert_eq!(recorder.seen().len(), 0);
}

#[tokio::test]
async fn extensions_that_change_the_meaning_are_refused() {
    let extensions = [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
    ];
    each_is_refused(extensions.map(|(name, value)| (with(header(), name, value), "malformed"))).await;
}

#[tokio::test]
async fn encryption_is_not_even_begun() {
    let header = json!({"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 1_u64 << 31, "p2s": "AAAA", "kid": "k1"});
    each_is_refused([(header, "alg_not_allowed")]).await;
}

#[tokio::test]
async fn only_configured_types_are_taken() {
    let world = World::start().await;
    for good in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"] {
        world.accepts(&world.key.sign_with(&with(header(), "typ", good), &world.corp.claims())).await;
    }
    world.accepts(&world.key.sign_with(&without(header(), "typ"), &world.corp.claims())).await;
    for bad in ["logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", "", "at+jwt ", "application/application/jwt"] {
        let header = with(header(), "typ", bad);
        world.refuses(&world.key.sign_with(&header, &world.corp.claims()), "type_not_allowed").await;
    }
    for bad in [json!(1), json!(null), json!(["JWT"])] {
        world.refuses(&world.key.sign_with(&with(header(), "typ", bad), &world.corp.claims()), "malformed").await;
    }
}

#[tokio::test]
async fn an_id_token_is_no_access_token_where_only_those_are_taken() {
    let world = World::knowing(&[STRICT]).await;
    let id_token = with(world.claims("iss", "urn:strict"), "nonce", "n");
    world.refuses(&world.key.sign(&id_token), "type_not_allowed").await;
    world.refuses(&world.key.sign_with(&without(header(), "typ"), &id_token), "type_not_allowed").await;
    let own = |header: Value| world.own.sign_with(&with(header, "kid", world.own.id.clone()), &world.own_claims());
    world.accepts(&own(with(header(), "typ", "at+jwt"))).await;
    world.refuses(&own(header()), "type_not_allowed").await;
    world.refuses(&own(without(header(), "typ")), "type_not_allowed").await;
}

#[tokio::test]
async fn a_key_id_that_the_issuer_does_not_have_is_unknown() {
    let ids = ["evil", "K1", "k1 ", "", "../../../../dev/null", "' OR 1=1 --", "k1\0", "k1\r\nX: y", "\u{202e}1k"];
    each_is_refused(ids.map(|id| (with(header(), "kid", id), "unknown_kid"))).await;
}

#[tokio::test]
async fn a_key_id_that_is_no_name_is_malformed() {
    let ids = [json!(7), json!(null), json!(["k1"]), json!({}), json!("k".repeat(257))];
    each_is_refused(ids.map(|id| (with(header(), "kid", id), "malformed"))).await;
}

#[tokio::test]
async fn a_token_without_key_id_is_good_only_where_there_is_no_choice() {
    let world = World::start().await;
    let claims = world.corp.claims();
    world.accepts(&Key::rsa().sign_with(&json!({"alg": "RS256"}), &claims)).await;
    world.refuses(&world.key.sign_with(&json!({"alg": "ES256"}), &claims), "unknown_kid").await;
}

#[tokio::test]
async fn a_key_signs_for_its_own_issuer_only() {
    let world = World::start().await;
    let (corp, other) = (world.corp.claims(), world.other.claims());
    world.accepts(&world.key.sign(&corp)).await;
    world.accepts(&world.others_key.sign(&other)).await;
    world.refuses(&world.others_key.sign(&corp), "bad_signature").await;
    world.refuses(&world.key.sign(&other), "bad_signature").await;
    world.refuses(&world.key.alias("k2", "ES256").sign(&other), "unknown_kid").await;
}

#[tokio::test]
async fn no_other_issuer_signs_for_us() {
    let world = World::start().await;
    let header = |kid: &str| json!({"typ": "at+jwt", "alg": "ES256", "kid": kid});
    let claims = world.own_claims();
    world.accepts(&world.own.sign_with(&header(&world.own.id), &claims)).await;
    world.refuses(&world.key.sign_with(&header("k1"), &claims), "unknown_kid").await;
    world.refuses(&world.key.sign_with(&header(&world.own.id), &claims), "bad_signature").await;
    // Nor do we sign for others.
    world.refuses(&world.own.sign(&world.corp.claims()), "unknown_kid").await;
    assert_eq!(claims["iss"], OWN_ISSUER);
}
