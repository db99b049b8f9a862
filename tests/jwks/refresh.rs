//! When keys are fetched, how often, and what is answered meanwhile.

use tokio::task::JoinSet;

use super::{SECRET, Sites, World, token};
use crate::support::issuer::{Key, Published, Site};
use crate::support::{Client, Issuer};

fn line(name: &str, issuer: &str) -> String {
    format!("{name}: {{issuer: \"{issuer}\"}}")
}

#[tokio::test]
async fn a_young_set_is_believed_and_not_refetched() {
    let key = Key::new("k1", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let world = World::trusting(&[line("corp", &issuer.issuer)]).await;
    world.fetched("corp");
    for n in 0..20 {
        world.refuses(&token(&key.alias(&format!("random-{n}"), "ES256"), &issuer.issuer), 401, "unknown_kid").await;
    }
    world.accepts(&token(&key, &issuer.issuer)).await;
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn many_requests_before_the_first_fetch_wait_for_that_one() {
    let key = Key::new("k1", "ES256");
    let site = Site::new();
    let iss = format!("http://{}", site.address);
    let listener = site.open();
    let world = World::trusting(&[line("corp", &iss)]).await;
    let token = token(&key, &iss);
    let mut requests = JoinSet::new();
    for _ in 0..10 {
        let (client, token) = (world.client.clone(), token.clone());
        requests.spawn(async move { client.get_with("/data", &token).await });
    }
    // All are under way before the issuer answers anyone.
    let admin = Client::plain(world.gateway.admin.unwrap());
    let waiting = |page: &[u8]| String::from_utf8_lossy(page).contains("http_server_active_requests 10");
    while !waiting(&admin.get("/metrics").await.body) {}
    let issuer = Issuer::start_at(listener, &[&key]);
    for answer in requests.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn an_issuer_outage_costs_only_its_own_tokens_and_heals() {
    let key = Key::new("k1", "ES256");
    let partner = Issuer::start(&[&key]).await;
    let site = Site::new();
    let iss = format!("http://{}", site.address);
    let world = World::trusting(&[line("corp", &iss), line("partner", &partner.issuer)]).await;
    world.failed("corp");
    world.refuses(&token(&key, &iss), 503, "keys_unavailable").await;
    world.refuses(&token(&key.alias("other", "ES256"), &iss), 503, "keys_unavailable").await;
    world.accepts(&token(&key, &partner.issuer)).await;
    world.accepts(&world.client.granted("app", SECRET, "").await).await;

    let issuer = Issuer::start_at(site.open(), &[&key]);
    world.fetched("corp");
    world.accepts(&token(&key, &iss)).await;
    world.refuses(&token(&key.alias("other", "ES256"), &iss), 401, "unknown_kid").await;
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn known_keys_serve_on_while_their_issuer_fails() {
    let key = Key::new("k1", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let world = World::trusting(&[line("corp", &issuer.issuer)]).await;
    world.fetched("corp");
    issuer.publish(Published { status: 500, ..Published::text("") });
    world.accepts(&token(&key, &issuer.issuer)).await;
}

#[tokio::test]
async fn how_long_a_set_is_kept_is_its_issuers_choice_within_bounds() {
    let keys = Published::keys(&[&Key::new("k1", "ES256")]);
    let cases = [
        ("moderate", "max-age=300", 300),
        ("among-others", "public, max-age=120, must-revalidate", 120),
        ("none", "max-age=0", 60),
        ("no-store", "no-store", 60),
        ("no-cache", "max-age=300, no-cache", 60),
        ("quoted", "max-age=\"300\"", 300),
        ("a-year", "max-age=31536000", 3600),
        ("for-ever", "max-age=99999999999999999999999", 3600),
        ("negative", "max-age=-5", 600),
        ("empty", "", 600),
    ];
    let published =
        |cache_control: &str| Published { headers: vec![("cache-control", cache_control.to_owned())], ..keys.clone() };
    let sites = Sites::start(cases.iter().map(|(name, cache_control, _)| (*name, published(cache_control)))).await;
    let world = World::trusting(&sites.issuers()).await;
    for (name, cache_control, expected) in cases {
        let log = world.fetched(name);
        assert!(log.contains(&format!("\"ttl_s\":{expected},")), "{cache_control}: {log}");
    }
}

#[tokio::test]
async fn the_time_that_a_set_has_spent_in_caches_counts() {
    let headers = vec![
        ("cache-control", "public".to_owned()),
        ("cache-control", "max-age=600".to_owned()),
        ("age", "200".to_owned()),
    ];
    let key = Key::new("k1", "ES256");
    // A byte order mark is skipped.
    let marked = format!("\u{feff}{}", super::set(&[key.jwk()]));
    let sites = Sites::start([("cached", Published { headers, ..Published::text(&marked) })]).await;
    let world = World::trusting(&sites.issuers()).await;
    let log = world.fetched("cached");
    assert!(log.contains("\"ttl_s\":400,"), "{log}");
    world.accepts(&token(&key, "urn:cached")).await;
}

#[tokio::test]
async fn the_age_of_every_set_is_a_metric() {
    let key = Key::new("k1", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let world = World::trusting(&[line("corp", &issuer.issuer), line("down", "http://127.0.0.1:1")]).await;
    world.fetched("corp");
    world.failed("down");
    world.accepts(&token(&key, &issuer.issuer)).await;
    let page = Client::plain(world.gateway.admin.unwrap()).get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(page.contains("portcullis_jwks_age_seconds{issuer=\"corp\"} "), "{page}");
    assert!(!page.contains("portcullis_jwks_age_seconds{issuer=\"down\"}"), "{page}");
}
