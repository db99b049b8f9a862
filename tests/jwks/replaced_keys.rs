//! A key that an issuer replaces without a new id.

use super::{World, token};
use crate::support::Issuer;
use crate::support::issuer::{Key, Published};

fn line(issuer: &Issuer) -> String {
    format!("corp: {{issuer: \"{}\"}}", issuer.issuer)
}

#[tokio::test]
async fn a_key_that_is_replaced_under_its_id_is_fetched_again() {
    let (old, new, more) = (Key::new("k1", "ES256"), Key::new("k1", "ES256"), Key::new("k2", "ES256"));
    let issuer = Issuer::start(&[&old]).await;
    let world = World::trusting(&[line(&issuer)]).await;
    world.fetched("corp");
    world.accepts(&token(&old, &issuer.issuer)).await;
    issuer.publish(Published::keys(&[&new, &more]));
    // The set is young and believed as it is. It is fetched when it is 5 s old.
    for _ in 0..50 {
        world.refuses(&token(&new, &issuer.issuer), 401, "bad_signature").await;
    }
    assert_eq!(issuer.fetches(), 1);
    world.gateway.log_line("\"issuer.name\":\"corp\",\"keys.count\":2");
    world.accepts(&token(&new, &issuer.issuer)).await;
    for _ in 0..50 {
        world.refuses(&token(&old, &issuer.issuer), 401, "bad_signature").await;
    }
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn a_forged_token_is_never_a_failure_of_the_issuer() {
    let (key, forged) = (Key::new("k1", "ES256"), Key::new("k1", "ES256"));
    let issuer = Issuer::start(&[&key]).await;
    let world = World::trusting(&[line(&issuer)]).await;
    world.fetched("corp");
    issuer.publish(Published { status: 500, ..Published::text("") });
    world.refuses(&token(&forged, &issuer.issuer), 401, "bad_signature").await;
    world.failed("corp");
    world.refuses(&token(&forged, &issuer.issuer), 401, "bad_signature").await;
    world.accepts(&token(&key, &issuer.issuer)).await;
}
