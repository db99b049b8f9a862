//! The identity that the upstream gets: verified by the gateway, never claimed by the caller.

use serde_json::json;

use super::{APP_SECRET, JOB_SECRET, World};
use crate::support::client::{request, with_header, with_token};
use crate::support::upstream::Seen;

const NAMES: [&str; 4] = ["x-auth-client-id", "x-auth-subject", "x-auth-scope", "x-auth-issuer"];

#[track_caller]
fn says(seen: &Seen, expected: [&str; 4]) {
    for (name, expected) in NAMES.into_iter().zip(expected) {
        let values: Vec<&[u8]> = seen.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
        assert_eq!(values, [expected.as_bytes()], "{name} in {seen:?}");
    }
}

#[tokio::test]
async fn the_upstream_receives_the_callers_identity() {
    let world = World::start().await;
    let own = world.client.granted("job", JOB_SECRET, "").await;
    says(&world.allows("/everyone", &own).await, ["job", "job", "read:data write:data", "https://localhost:8443"]);
    let narrow = world.client.granted("job", JOB_SECRET, "scope=read:data").await;
    says(&world.allows("/everyone", &narrow).await, ["job", "job", "read:data", "https://localhost:8443"]);
    let theirs = world.token(&json!({"scope": "b a"}));
    says(&world.allows("/everyone", &theirs).await, ["their-app", "someone", "a b", &world.corp.issuer]);
}

#[tokio::test]
async fn identity_headers_of_a_caller_are_removed() {
    let world = World::start().await;
    let token = world.client.granted("app", APP_SECRET, "").await;
    let mut asked = with_token(request("GET", "/everyone"), &token);
    for name in NAMES.into_iter().chain(["x-auth-roles", "x-auth-request-user", "x-forwarded-user", "x-real-ip"]) {
        for forged in ["admin", "root"] {
            asked = with_header(asked, name, forged);
        }
    }
    assert_eq!(world.client.send(asked).await.status, 200);
    let seen = world.upstream.only();
    says(&seen, ["app", "app", "read:data", "https://localhost:8443"]);
    assert_eq!(seen.headers.get_all("x-real-ip").iter().collect::<Vec<_>>(), ["127.0.0.1"]);
    for name in ["x-auth-roles", "x-auth-request-user", "x-forwarded-user"] {
        assert!(!seen.headers.contains_key(name), "{name} in {seen:?}");
    }
}

#[tokio::test]
async fn a_public_route_names_no_caller() {
    let world = World::start().await;
    let mut asked = with_token(request("GET", "/public"), &world.token(&json!({})));
    for name in NAMES {
        asked = with_header(asked, name, "admin");
    }
    assert_eq!(world.client.send(asked).await.status, 200);
    let seen = world.upstream.only();
    assert!(!seen.headers.keys().any(|name| name.as_str().starts_with("x-auth-")), "{seen:?}");
}

#[tokio::test]
async fn a_caller_without_client_id_is_given_none() {
    let world = World::start().await;
    let mut claims = world.corp.claims();
    claims.as_object_mut().unwrap().remove("azp");
    let asked = with_token(request("GET", "/everyone"), &world.key.sign(&claims));
    assert_eq!(world.client.send(with_header(asked, "x-auth-client-id", "admin")).await.status, 200);
    let seen = world.upstream.only();
    assert!(!seen.headers.contains_key("x-auth-client-id"), "{seen:?}");
    assert_eq!(seen.header("x-auth-subject"), "someone");
}

#[tokio::test]
async fn names_that_services_could_take_for_ours_refuse_the_request() {
    let world = World::start().await;
    let token = world.client.granted("app", APP_SECRET, "").await;
    for name in ["x_auth_subject", "x-auth_client-id", "x_auth_client_id", "x_forwarded_for"] {
        for path in ["/everyone", "/public"] {
            let asked = with_header(with_token(request("GET", path), &token), name, "admin");
            let answer = world.client.send(asked).await;
            assert_eq!(answer.status, 400, "{name} at {path}: {answer:?}");
            assert_eq!(world.gateway.audit_of(answer.request_id())["gateway.reason"], "bad_request");
        }
    }
    let asked = with_header(with_token(request("GET", "/everyone"), &token), "connection", "close, X-Auth-Subject");
    assert_eq!(world.client.send(asked).await.status, 400);
    assert_eq!(world.upstream.seen().len(), 0);
}

#[tokio::test]
async fn the_token_stays_behind_unless_the_route_says_otherwise() {
    let world = World::start().await;
    let token = world.client.granted("app", APP_SECRET, "").await;
    let seen = world.allows("/everyone", &token).await;
    assert!(!seen.headers.contains_key("authorization"), "{seen:?}");
    assert!(!format!("{seen:?}").contains(&token));
    let seen = world.allows("/token", &token).await;
    assert_eq!(seen.header("authorization"), format!("Bearer {token}"));
}

#[tokio::test]
async fn on_a_public_route_authorization_is_the_services_own() {
    let world = World::start().await;
    for credentials in ["Basic YTpi", "Bearer not.a.token", "Bearer", "Custom x=\"y\", z"] {
        let asked = with_header(request("GET", "/public"), "authorization", credentials);
        assert_eq!(world.client.send(asked).await.status, 200);
        assert_eq!(world.upstream.seen().pop().unwrap().header("authorization"), credentials);
    }
}
