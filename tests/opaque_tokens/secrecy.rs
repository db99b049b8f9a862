//! A token is sent to the server that it belongs to, and to no other; logs never have it.

use serde_json::json;

use super::{TOKEN, World, yaml};
use crate::support::command::run;
use crate::support::gateway::program;
use crate::support::issuer::Key;

#[tokio::test]
async fn jwts_of_other_issuers_are_not_sent() {
    let world = World::start().await;
    let stranger = Key::new("s", "ES256");
    let (good, mut foreign) = (world.corp.claims(), world.corp.claims());
    foreign["iss"] = json!("https://elsewhere.example");
    let mut nameless = good.clone();
    nameless.as_object_mut().unwrap().remove("iss");
    let (good, foreign) = (world.key.sign(&good), stranger.sign(&foreign));
    world.accepts("/any", &good).await;
    world.accepts("/corp", &good).await;
    let cut = &good[..good.len() / 2];
    let encrypted = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..aXY.dGV4dA.dGFn";
    for (path, token, reason) in [
        ("/opaque", &*good, "issuer_not_allowed"),
        ("/opaque", &*foreign, "unknown_issuer"),
        ("/any", &*foreign, "unknown_issuer"),
        ("/opaque", cut, "malformed"),
        ("/any", cut, "malformed"),
        ("/opaque", encrypted, "malformed"),
        ("/any", &*stranger.sign(&nameless), "missing_claim"),
        ("/corp", TOKEN, "malformed"),
    ] {
        world.refuses(path, token, 401, reason).await;
    }
    assert!(world.introspector.asked().is_empty(), "{:?}", world.introspector.asked());
}

#[tokio::test]
async fn misspelt_jwts_and_client_secrets_are_not_sent() {
    let world = World::start().await;
    let good = world.key.sign(&world.corp.claims());
    let (header, rest) = good.split_once('.').unwrap();
    for token in [
        format!("{header}=.{rest}"),
        format!("77u_{header}.{rest}"),
        format!("x{good}"),
        format!(".{good}"),
        good[1..].to_owned(),
        rest.to_owned(),
        format!("gw_{}", "A".repeat(43)),
    ] {
        world.refuses("/opaque", &token, 401, "malformed").await;
    }
    assert!(world.introspector.asked().is_empty(), "{:?}", world.introspector.asked());
}

#[tokio::test]
async fn jwts_that_name_their_issuer_are_sent_to_it() {
    let world = World::start().await;
    let key = Key::new("any", "ES256");
    let own = key.sign(&json!({"iss": "https://as.example", "exp": 1}));
    let nameless = key.sign(&json!({"exp": 1}));
    for (token, path) in [(&own, "/opaque"), (&own, "/any"), (&nameless, "/opaque")] {
        world.introspector.knows(token, &json!({}));
        world.accepts(path, token).await;
    }
    world.refuses("/any", &nameless, 401, "missing_claim").await;
    assert_eq!(world.introspector.asked().len(), 2);
}

#[tokio::test]
async fn logs_and_reports_never_have_a_token_or_the_secret() {
    let world = World::start().await;
    world.introspector.knows(TOKEN, &json!({}));
    world.accepts("/opaque", TOKEN).await;
    world.introspector.fails_with(500);
    world.refuses("/opaque", "another-opaque-token", 503, "introspection_unavailable").await;
    let report = run(program(&world.gateway.folder).args(["issuers", "--format", "json"]));
    let shown = [world.gateway.log_text(), world.gateway.audit_text(), report.stdout.clone(), report.stderr];
    for text in &shown {
        for secret in [TOKEN, "another-opaque-token", "s e/c", "s+e%2Fc", "Z2F0ZSUz"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    assert!(report.stdout.contains("\"introspected\""), "{}", report.stdout);
    let masked = yaml(&world.introspector.url, &world.corp, &world.upstream, "");
    assert!(masked.contains("s e/c"));
}
