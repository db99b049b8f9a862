//! A route that only reports: an opaque token of an issuer never reaches the service, whatever the route refuses it for.

use jiff::Timestamp;
use serde_json::json;

use super::{TOKEN, World};
use crate::support::client::{basic, request, with_header};
use crate::support::issuer::now;
use crate::support::upstream::Upstream;
use crate::support::{Answer, Client};

/// A world whose route `/report` only reports, and copies each request to the second upstream.
async fn reporting() -> (World, Upstream) {
    let (world, shadow) = (World::start().await, Upstream::start().await);
    let until = Timestamp::from_second(Timestamp::now().as_second() + 24 * 3600).unwrap();
    let route = format!(
        "path: /report, access: {{issuers: [as], scopes: [read:data]}}, report_until: {until}, mirror: {{upstream: shadow}}, upstream: legacy"
    );
    let own = format!("upstreams: {{legacy: \"http://{}\"", world.upstream.address);
    let both = format!("{own}, shadow: \"http://{}\"", shadow.address);
    let yaml = world.yaml_with(&route).replace(&format!("{route}, upstream: legacy"), &route).replace(&own, &both);
    world.gateway.reloads(&yaml);
    (world, shadow)
}

async fn sent(world: &World, credentials: &str) -> (Answer, String, String) {
    world.upstream.forget();
    let client = Client::new(&world.gateway);
    let answer = client.send(with_header(request("GET", "/report"), "authorization", credentials)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let reason = world.gateway.audit_of(answer.request_id())["gateway.reason"].as_str().unwrap_or("").to_owned();
    let seen = world.upstream.only();
    let passed = seen.headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned();
    (answer, reason, passed)
}

#[tokio::test]
async fn an_opaque_token_does_not_pass_a_reporting_route() {
    let (world, shadow) = reporting().await;
    let thumbprint = "A".repeat(43);
    for (number, (changes, reason)) in [
        (json!({}), ""),
        (json!({"scope": "write:data"}), "missing_scope"),
        (json!({"aud": "https://other.example.com"}), "bad_audience"),
        (json!({"exp": now() - 60}), "expired"),
        (json!({"cnf": {"jkt": thumbprint}, "token_type": "DPoP"}), "not_proven"),
        (json!({"cnf": {"x5t#S256": thumbprint}}), "not_proven"),
        (json!({"token_use": "refresh_token"}), "type_not_allowed"),
        (json!({"sub": null, "client_id": null}), "missing_claim"),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("{TOKEN}-{number}");
        world.introspector.knows(&token, &changes);
        let (_, found, passed) = sent(&world, &format!("Bearer {token}")).await;
        assert_eq!((&*found, &*passed), (reason, ""), "{changes}");
    }
    world.introspector.knows(TOKEN, &json!({}));
    for credentials in
        [format!("Bearer {TOKEN} x"), format!("Bearer\t{TOKEN}"), TOKEN.to_owned(), format!("Token {TOKEN}")]
    {
        let (_, _, passed) = sent(&world, &credentials).await;
        assert_eq!(passed, "", "{credentials}");
    }
    world.introspector.fails_with(500);
    let (_, found, passed) = sent(&world, "Bearer another-opaque-token").await;
    assert_eq!((&*found, &*passed), ("introspection_unavailable", ""));
    crate::mirroring::ended(&world.gateway, "answered").await;
    assert!(shadow.seen().iter().all(|copy| !copy.headers.contains_key("authorization")), "{:?}", shadow.seen());
}

#[tokio::test]
async fn credentials_that_no_issuer_knows_pass_a_reporting_route() {
    let (world, _shadow) = reporting().await;
    let login = basic("user", "password");
    for (credentials, reason) in [(login.to_str().unwrap(), "no_token"), ("Bearer unknown-key", "token_inactive")] {
        let (_, found, passed) = sent(&world, credentials).await;
        assert_eq!((&*found, &*passed), (reason, credentials));
    }
}
