//! Where a token is looked for, and where it never is.

use http::HeaderValue;

use super::World;
use crate::support::Answer;
use crate::support::client::{request, with_body, with_header, with_token};

/// Without credentials: a challenge without an error code (RFC 6750 §3.1).
fn asks_for_a_token(world: &World, answer: &Answer) {
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer realm=\"portcullis\""), "{answer:?}");
    assert_eq!(answer.json()["error"], "unauthorized");
    assert_eq!(world.gateway.audit_of(answer.request_id())["gateway.reason"], "no_token");
    assert_eq!(world.upstream.seen().len(), 0);
}

#[tokio::test]
async fn the_scheme_is_read_without_case() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        assert_eq!(world.send("/any", format!("{scheme} {token}").as_bytes()).await.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn without_credentials_there_is_a_challenge_and_no_error() {
    let world = World::start().await;
    asks_for_a_token(&world, &world.client.get("/any").await);
}

#[tokio::test]
async fn credentials_of_another_kind_are_none() {
    let world = World::start().await;
    for other in ["Basic YXBwOnNlY3JldA==", "Basic", "Digest username=x", "DPoPabc abc", "Bearer:abc", "Token abc"] {
        asks_for_a_token(&world, &world.send("/any", other.as_bytes()).await);
    }
}

#[tokio::test]
async fn a_token_is_never_read_from_query_body_or_cookie() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    asks_for_a_token(&world, &world.client.get(&format!("/any?access_token={token}")).await);
    let form = with_header(request("POST", "/any"), "content-type", "application/x-www-form-urlencoded");
    asks_for_a_token(&world, &world.client.send(with_body(form, format!("access_token={token}"))).await);
    for name in ["cookie", "proxy-authorization", "x-access-token", "x-forwarded-access-token", "x-auth-token"] {
        let value = if name == "cookie" { format!("access_token={token}") } else { format!("Bearer {token}") };
        asks_for_a_token(&world, &world.client.send(with_header(request("GET", "/any"), name, &value)).await);
    }
    assert!(!world.gateway.audit_text().contains(&token), "a query is in the audit log");
}

#[tokio::test]
async fn two_authorization_headers_are_ambiguous() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    for other in ["Bearer abc", &format!("Bearer {token}"), "Basic YTpi"] {
        let asked = with_header(with_token(request("GET", "/any"), &token), "authorization", other);
        let answer = world.client.send(asked).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"invalid_request".into()), "{other}");
        assert_eq!(world.gateway.audit_of(answer.request_id())["gateway.reason"], "bad_request");
    }
    assert_eq!(world.upstream.seen().len(), 0);
}

#[tokio::test]
async fn other_authorization_schemes_are_malformed() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    let long = "a".repeat(8 * 1024 + 1);
    let mut values: Vec<Vec<u8>> =
        ["Bearer", "Bearer abc", "Bearer %20abc", "Bearer =", "Bearer a.b.c"].map(Into::into).into();
    values.extend(
        [format!("Bearer \t{token}"), format!("Bearer {token},"), format!("Bearer {token}, Bearer {token}")]
            .map(Into::into),
    );
    values.extend(
        [format!("Bearer \"{token}\""), format!("Bearer {token} {token}"), format!("Bearer {long}")].map(Into::into),
    );
    values.push([format!("Bearer {token}").as_bytes(), b"\xc3\xa4"].concat());
    values.push(format!("Bearer {token}\tx").into());
    for value in values {
        assert!(HeaderValue::from_bytes(&value).is_ok());
        world.refuses_credentials("/any", &value, "malformed").await;
    }
}
