//! What one issuer says of a token, and what one address asks, does not count for others.

use serde_json::json;

use super::{TOKEN, World};
use crate::support::client::{request, with_header, with_token};
use crate::support::introspector::Introspector;
use crate::support::{Client, Gateway};

#[tokio::test]
async fn an_opaque_token_is_known_to_each_issuer_by_itself() {
    let world = World::start().await;
    let second = Introspector::start(&world.authority).await;
    let entry = format!(
        "  second: {{issuer: https://second.example, audiences: [https://api.example.com], ca: ca.crt, introspection: \
         {{endpoint: '{}', client_id: gateway, client_secret: secret}}}}\n  corp: {{",
        second.url
    );
    let yaml = world.yaml_with("path: /second, access: {issuers: [second]}").replace("  corp: {", &entry);
    world.gateway.reloads(&yaml.replace("path: /any, access: {}", "path: /any, access: {issuers: [corp]}"));
    world.introspector.knows(TOKEN, &json!({}));
    second.knows(TOKEN, &json!({}));
    world.introspector.knows("only-the-first-knows-it", &json!({}));
    // All on one worker, which remembers tokens.
    let mut connection = world.client.connect().await;
    let mut status =
        async |path: &str, token: &str| connection.send(with_token(request("GET", path), token)).await.status;
    for _ in 0..2 {
        for (path, issuer) in [("/opaque", "https://as.example"), ("/second", "https://second.example")] {
            world.upstream.forget();
            assert_eq!(status(path, TOKEN).await, 200, "{path}");
            assert_eq!(world.upstream.only().header("x-auth-issuer"), issuer);
        }
        assert_eq!(status("/opaque", "only-the-first-knows-it").await, 200);
        assert_eq!(status("/second", "only-the-first-knows-it").await, 401);
    }
    assert_eq!((world.introspector.asked_about(TOKEN), second.asked_about(TOKEN)), (1, 1));
}

async fn status_from(gateway: &Gateway, address: &str, token: &str) -> u16 {
    let asked = with_header(request("GET", "/opaque"), "x-forwarded-for", address);
    Client::new(gateway).send(with_token(asked, token)).await.status
}

#[tokio::test]
async fn no_address_takes_all_places_for_questions() {
    let world = World::start().await;
    let proxied = format!("{}trusted_proxies: [127.0.0.0/8]\n", world.yaml_with("path: /public, access: public"));
    world.gateway.reloads(&proxied);
    world.introspector.knows(TOKEN, &json!({}));
    world.introspector.closes().await;
    let gateway = &world.gateway;
    let guesses: Vec<String> = (0..17).map(|number| format!("guess-{number}")).collect();
    let flood =
        futures_util::future::join_all(guesses[..16].iter().map(|guess| status_from(gateway, "10.0.0.1", guess)));
    let others = async {
        world.introspector.is_asked(16).await;
        assert_eq!(status_from(gateway, "10.0.0.1", &guesses[16]).await, 429, "the places of its address are taken");
        let again = async {
            world.introspector.is_asked(17).await;
            let asked = status_from(gateway, "10.0.0.1", TOKEN);
            tokio::join!(asked, async { world.introspector.opens() }).0
        };
        let both = tokio::join!(status_from(gateway, "10.0.0.2", TOKEN), again);
        assert_eq!(both, (200, 200), "another address is served, and its question needs one place only");
    };
    let (statuses, ()) = tokio::join!(flood, others);
    assert_eq!(statuses, [401; 16]);
    assert_eq!(world.introspector.asked().len(), 17);
}

#[tokio::test]
async fn a_token_that_was_active_is_asked_about_during_a_flood() {
    let world = World::with(", cache: 0s").await;
    world.introspector.knows(TOKEN, &json!({}));
    // All on one worker: each counts for itself.
    let mut connection = world.client.connect().await;
    let mut status = async |token: &str| connection.send(with_token(request("GET", "/opaque"), token)).await.status;
    assert_eq!(status(TOKEN).await, 200);
    for guess in 0..200 {
        let refused = status(&format!("guess-{guess}")).await;
        assert!(refused == 401 || refused == 429, "{refused}");
        if refused == 429 {
            world.introspector.forgets(TOKEN);
            assert_eq!(status(TOKEN).await, 401, "its issuer is asked");
            return;
        }
    }
    panic!("guesses are not limited");
}
