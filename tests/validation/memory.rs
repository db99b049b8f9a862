//! A token that was found good is remembered, and judged again at every use all the same.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::json;

use super::{STRICT, World};
use crate::support::Client;
use crate::support::client::{request, with_token};
use crate::support::issuer::now;
use crate::support::wire::{Piped, within};

#[tokio::test]
async fn a_cached_token_is_refused_for_another_audience() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    world.accepts(&token).await;
    world.refuses_at("/billing", &token, "bad_audience").await;
    world.accepts(&token).await;
}

#[tokio::test]
async fn a_cached_token_is_refused_where_its_issuer_is_not_allowed() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    world.accepts(&token).await;
    world.refuses_at("/own", &token, "issuer_not_allowed").await;
    world.accepts(&token).await;
}

#[tokio::test]
async fn a_remembered_token_expires_all_the_same() {
    let world = World::knowing(&[STRICT]).await;
    let claims = world.claims("iss", "urn:strict");
    let expires = now() + 2;
    let claims = super::with(claims, "exp", expires);
    let token = world.key.sign_with(&json!({"typ": "at+jwt", "alg": "ES256", "kid": "k1"}), &claims);
    let mut connection = world.client.connect().await;
    let mut allowed = 0;
    let refused = loop {
        let answer = connection.send(with_token(request("GET", "/any"), &token)).await;
        match answer.status {
            200 => allowed += 1,
            _ => break answer,
        }
        assert!(now() < expires + 10, "an expired token is good");
    };
    assert!(allowed > 1, "it was never remembered");
    assert_eq!(refused.status, 401);
    assert_eq!(world.gateway.audit_of(refused.request_id())["gateway.reason"], "expired");
}

#[tokio::test]
async fn a_token_with_one_signature_bit_changed_is_not_the_cached_one() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    world.accepts(&token).await;
    let middle = token.len() - 40;
    let flipped = if token.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let other = format!("{}{flipped}{}", &token[..middle], &token[middle + 1..]);
    world.refuses(&other, "bad_signature").await;
}

#[tokio::test]
async fn a_token_that_expires_during_a_body_is_valid_for_that_request() {
    let world = World::knowing(&[STRICT]).await;
    let expires = now() + 2;
    let claims = super::with(world.claims("iss", "urn:strict"), "exp", expires);
    let token = world.key.sign_with(&json!({"typ": "at+jwt", "alg": "ES256", "kid": "k1"}), &claims);
    let (sender, body) = Piped::new();
    let mut upload = request("POST", "/any").map(|_| body);
    upload.headers_mut().insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    let mut connection = world.client.connect_for().await.unwrap();
    let upload = tokio::spawn(async move { within(connection.send(upload)).await });
    sender.send(Bytes::from_static(b"one")).await.unwrap();
    let mut other = world.client.connect().await;
    while other.send(with_token(request("GET", "/any"), &token)).await.status == 200 {
        assert!(now() < expires + 10, "an expired token is good");
    }
    sender.send(Bytes::from_static(b"two")).await.unwrap();
    drop(sender);
    let answer = upload.await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(world.gateway.audit_of(answer.request_id())["gateway.decision"], "allow");
    assert!(world.upstream.seen().iter().any(|seen| seen.body == "onetwo"));
    world.refuses(&token, "expired").await;
}

#[tokio::test]
async fn metrics_count_cached_tokens_and_cache_hits() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    for _ in 0..3 {
        world.accepts(&token).await;
    }
    world.accepts(&world.key.sign(&world.claims("jti", "other"))).await;
    world.refuses("a.b.c", "malformed").await;
    let page = Client::plain(world.gateway.admin.unwrap()).get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let value = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("portcullis_token_cache_{name} ")));
        line.unwrap_or_else(|| panic!("{page}")).parse().unwrap()
    };
    assert_eq!((value("hits_total"), value("misses_total"), value("entries")), (2.0, 3.0, 2.0));
    assert!(value("bytes") >= 2.0 * token.len() as f64);
}
