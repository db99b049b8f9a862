//! Without an answer about a token, its request is answered 503: never 200, and never 401.

use serde_json::json;

use super::{TOKEN, World};
use crate::support::Gateway;
use crate::support::command::run;
use crate::support::gateway::program;

async fn is_unavailable(world: &World, token: &str) {
    let answer = world.get("/opaque", token).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.headers.contains_key("retry-after") && !answer.headers.contains_key("www-authenticate"));
    let line = world.gateway.audit_of(answer.request_id());
    assert_eq!(line["gateway.reason"], "introspection_unavailable", "{line}");
    assert_eq!(line["gateway.decision"], "error", "{line}");
}

#[tokio::test]
async fn a_failing_endpoint_is_answered_503_until_it_recovers() {
    let world = World::start().await;
    for status in [500, 503, 401, 403, 404, 302, 204, 201] {
        world.introspector.knows(TOKEN, &json!({}));
        world.introspector.fails_with(status);
        is_unavailable(&world, TOKEN).await;
    }
    world.gateway.log_line("the introspection endpoint gives no usable answer");
    world.introspector.fails_with(200);
    world.accepts("/opaque", TOKEN).await;
    world.gateway.log_line("the introspection endpoint answers again");
    // What is known counts through an outage, as long as it counts at all.
    world.introspector.fails_with(500);
    world.accepts("/opaque", TOKEN).await;
}

#[tokio::test]
async fn an_answer_that_is_none_is_answered_503() {
    let world = World::start().await;
    let large = format!(r#"{{"active":true,"sub":"{}"}}"#, "x".repeat(64 * 1024));
    for (number, answer) in [
        "",
        "active",
        "[]",
        "{}",
        r#"{"active":"true"}"#,
        r#"{"active":1,"sub":"someone"}"#,
        r#"{"active":null}"#,
        r#"{"active":true"#,
        r#"{"active":true,"active":true}"#,
        &large,
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("opaque-{number}");
        world.introspector.answers(&token, answer);
        is_unavailable(&world, &token).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_is_slow_is_waited_for_up_to_a_deadline() {
    let world = World::start().await;
    world.introspector.knows(TOKEN, &json!({}));
    world.introspector.closes().await;
    is_unavailable(&world, TOKEN).await;
    world.introspector.opens();
    world.accepts("/opaque", TOKEN).await;
}

#[tokio::test]
async fn a_cached_token_does_not_outlive_the_answer_in_an_outage() {
    let world = World::with(", cache: 0s").await;
    world.introspector.knows(TOKEN, &json!({}));
    world.accepts("/opaque", TOKEN).await;
    world.introspector.fails_with(500);
    is_unavailable(&world, TOKEN).await;
}

#[tokio::test]
async fn check_and_readiness_tell_of_an_endpoint_without_answers() {
    let world = World::start().await;
    let checked = || run(program(&world.gateway.folder).args(["check", "--connect"]));
    let said = checked();
    assert!(said.stdout.contains("answers about tokens"), "{said:?}");
    world.introspector.fails_with(500);
    let said = checked();
    assert!(said.stdout.contains("answered 500") && said.stdout.contains("issuers.as"), "{said:?}");
    is_unavailable(&world, TOKEN).await;
    let ready = ready(&world.gateway).await;
    assert!(ready.contains("issuer `as` gives no answers about tokens"), "{ready}");
}

async fn ready(gateway: &Gateway) -> String {
    let client = crate::support::Client::plain(gateway.admin.unwrap());
    String::from_utf8(client.get("/readyz").await.body.to_vec()).unwrap()
}
