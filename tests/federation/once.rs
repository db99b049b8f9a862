//! `once: true`: a token counts once, also over a reload and a restart.

use serde_json::json;

use super::{CLIENTS, World, by_assertion, by_grant, yaml};
use crate::support::issuer::now;
use crate::support::{Client, Gateway};

#[tokio::test]
async fn a_token_that_counts_once_is_refused_the_second_time() {
    let mut world = World::start().await;
    let token = |id: &str| world.token(json!({"sub": "repo:acme/api:once", "jti": id}));
    let (first, second, third) = (token("1"), token("2"), token("1"));
    let without = world.token(json!({"sub": "repo:acme/api:once"}));
    world.grants(by_grant(&first, &[])).await;
    world.grants(by_assertion(&second, &[])).await;
    for used in [&first, &second, &third] {
        world.refuses(by_assertion(used, &[]), (401, "invalid_client", "assertion_replayed")).await;
    }
    world.refuses(by_grant(&without, &[]), (400, "invalid_grant", "missing_claim")).await;
    let long = world.token(json!({"sub": "repo:acme/api:once", "jti": "4", "exp": now() + 90_000}));
    world.refuses(by_grant(&long, &[]), (400, "invalid_grant", "lifetime_too_long")).await;
    world.gateway.reloads(&yaml(&world.ci, &world.upstream, CLIENTS, "trusted_proxies: [192.0.2.1]"));
    world.refuses(by_grant(&first, &[]), (400, "invalid_grant", "assertion_replayed")).await;
    world.gateway.stop();
    let folder = world.gateway.folder.clone();
    let restarted = Gateway::start_in(folder, &yaml(&world.ci, &world.upstream, CLIENTS, ""), &[]);
    // The folder lives as long as the first gateway.
    let _first = std::mem::replace(&mut world.gateway, restarted);
    world.client = Client::new(&world.gateway);
    world.refuses(by_grant(&first, &[]), (400, "invalid_grant", "assertion_replayed")).await;
    world.refuses(by_grant(&second, &[]), (400, "invalid_grant", "assertion_replayed")).await;
}

#[tokio::test]
async fn a_token_without_once_counts_until_it_expires() {
    let world = World::start().await;
    let token = world.token(json!({"jti": "1"}));
    for _ in 0..3 {
        world.grants(by_grant(&token, &[])).await;
    }
}

#[tokio::test]
async fn a_refused_request_does_not_use_a_token_up() {
    let world = World::start().await;
    let token = world.token(json!({"sub": "repo:acme/api:once", "jti": "1"}));
    let other = [("client_id", "deploy")];
    world.refuses(by_grant(&token, &other), (400, "invalid_grant", "no_federated_client")).await;
    world.refuses(by_grant(&token, &[("scope", "admin")]), (400, "invalid_scope", "invalid_scope")).await;
    world.grants(by_grant(&token, &[])).await;
}
