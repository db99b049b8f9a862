//! A token that was found good is remembered, and judged again at every use all the same.

use serde_json::json;

use super::{STRICT, World};
use crate::support::client::{request, with_token};
use crate::support::issuer::now;

#[tokio::test]
async fn a_remembered_token_is_refused_where_another_audience_is_wanted() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    world.accepts(&token).await;
    world.refuses_at("/billing", &token, "bad_audience").await;
    world.accepts(&token).await;
}

#[tokio::test]
async fn a_remembered_token_is_refused_where_its_issuer_is_not_allowed() {
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
async fn a_token_that_differs_in_one_bit_of_its_signature_is_not_the_remembered_one() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    world.accepts(&token).await;
    let middle = token.len() - 40;
    let flipped = if token.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let other = format!("{}{flipped}{}", &token[..middle], &token[middle + 1..]);
    world.refuses(&other, "bad_signature").await;
}
