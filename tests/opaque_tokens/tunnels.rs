//! A tunnel lasts as long as the token that opened it, not as long as the answer about it.

use serde_json::json;

use super::{TOKEN, World, yaml};
use crate::support::issuer::now;
use crate::tunnels::{echoes, opened, parrot};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_outlives_the_answer_and_ends_with_exp() {
    let (world, service) = (World::start().await, parrot().await);
    let yaml = yaml(&world.introspector.url, &world.corp, &world.upstream, ", cache: 0s");
    let yaml = yaml.replace("path: /public, access: public", "path: /chat, access: {issuers: [as]}, websocket: true");
    world.gateway.reloads(&yaml.replace(&world.upstream.address.to_string(), &service.address.to_string()));
    world.introspector.knows(TOKEN, &json!({}));
    // With the leeway of half a minute there is a second left of it.
    world.introspector.knows("ends-soon", &json!({"exp": now() - 28}));
    let mut long = opened(&world.gateway, &format!("Authorization: Bearer {TOKEN}\r\n")).await;
    let mut short = opened(&world.gateway, "Authorization: Bearer ends-soon\r\n").await;
    assert!(short.rest().await.is_empty());
    echoes(&mut long, "still here").await;
}
