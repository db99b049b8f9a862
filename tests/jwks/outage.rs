//! Callers while their issuer is away, changes its keys, or is flooded with keys that it never had; and
//! what operators see of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{World, config, set, token};
use crate::support::command::run;
use crate::support::gateway::{folder, program};
use crate::support::issuer::{Key, Published, Site, now};
use crate::support::port::free_port;
use crate::support::{Client, Gateway, Issuer, Upstream};

const DEBUG: (&str, &str) = ("PORTCULLIS_LOG", "info,portcullis::trust=debug");
/// The default time to live of a set, and how long it serves beyond that.
const TTL: u64 = 600;
const MAX_STALE: u64 = 3600;

/// The file of an issuer as the gateway writes it, of a set that was fetched so many seconds ago.
fn kept(iss: &str, key: &Key, age: i64) -> Value {
    json!({
        "issuer": iss, "jwks_uri": format!("{iss}/jwks"), "discovered": true,
        "fetched_at": now().checked_add_signed(-age).unwrap(), "ttl_s": TTL, "document": set(&[key.jwk()]),
    })
}

fn sealed(kept: &Value) -> String {
    let kept = kept.to_string();
    let hash: String = digest(&SHA256, kept.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{{\"sha256\":\"{hash}\",\"kept\":{kept}}}")
}

/// Puts the file of the issuer `corp` where the gateway in `folder` looks for it.
fn put(folder: &Path, text: &str, mode: u32) {
    let jwks = folder.join("state/jwks");
    fs::create_dir_all(&jwks).unwrap();
    fs::set_permissions(&jwks, Permissions::from_mode(0o700)).unwrap();
    fs::write(jwks.join("corp.json"), text).unwrap();
    fs::set_permissions(jwks.join("corp.json"), Permissions::from_mode(mode)).unwrap();
}

/// A gateway that finds this file of the issuer `corp` when it starts.
async fn started_with(text: &str, mode: u32, iss: &str) -> World {
    let (upstream, folder) = (Upstream::start().await, folder());
    put(&folder, text, mode);
    let gateway = Gateway::start_in(folder, &config(&[line(iss)], &upstream), &[]);
    World { client: Client::new(&gateway), gateway, upstream }
}

/// The `iss` of an issuer that nobody can reach.
fn nobody() -> String {
    format!("http://{}", Site::new().address)
}

fn line(iss: &str) -> String {
    format!("corp: {{issuer: \"{iss}\"}}")
}

async fn admin(world: &World, path: &str) -> (u16, String) {
    let answer = Client::plain(world.gateway.admin.unwrap()).get(path).await;
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_fetched_set_survives_a_restart_while_the_issuer_is_away() {
    let key = Key::new("k1", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let first = World::trusting_with(&[DEBUG], &[], &[line(&issuer.issuer)]).await;
    first.gateway.log_line("stored the JWK Set");
    let jwks = first.gateway.folder.join("state/jwks");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&jwks), mode(&jwks.join("corp.json"))), (0o700, 0o600));
    let text = fs::read_to_string(jwks.join("corp.json")).unwrap();
    let inner = &serde_json::from_str::<Value>(&text).unwrap()["kept"];
    assert_eq!(inner["document"], json!(set(&[key.jwk()])), "the raw document is kept");
    drop(first);

    issuer.publish(Published { status: 500, ..Published::text("") });
    let second = started_with(&text, 0o600, &issuer.issuer).await;
    second.gateway.log_line("loaded the stored JWK Set");
    second.accepts(&token(&key, &issuer.issuer)).await;
    second.failed("corp");
    second.accepts(&token(&key, &issuer.issuer)).await;
}

#[tokio::test]
async fn a_stale_set_serves_is_counted_and_readyz_names_its_issuer() {
    let (key, iss) = (Key::new("k1", "ES256"), nobody());
    let world = started_with(&sealed(&kept(&iss, &key, 700)), 0o600, &iss).await;
    world.failed("corp");
    for _ in 0..3 {
        world.accepts(&token(&key, &iss)).await;
    }
    let (status, ready) = admin(&world, "/readyz").await;
    assert_eq!((status, &*ready), (200, "ok\nissuer `corp` is unreachable: its last known good keys are used\n"));
    let (_, page) = admin(&world, "/metrics").await;
    assert!(page.contains("\nportcullis_jwks_stale_served_total{issuer=\"corp\"} 3\n"), "{page}");
    assert!(page.contains("\nportcullis_jwks_fetch_total{issuer=\"corp\",result=\"ok\"} 0\n"), "{page}");
    assert!(!page.contains("\nportcullis_jwks_fetch_total{issuer=\"corp\",result=\"unreachable\"} 0\n"), "{page}");
    let age = page.lines().find_map(|line| line.strip_prefix("portcullis_jwks_age_seconds{issuer=\"corp\"} "));
    assert!((700.0..760.0).contains(&age.unwrap().parse::<f64>().unwrap()), "{age:?}");
}

#[tokio::test]
async fn stored_files_of_another_issuer_are_ignored_with_a_warning() {
    let (key, iss) = (Key::new("k1", "ES256"), nobody());
    let good = kept(&iss, &key, 10);
    let with = |name: &str, value: Value| {
        let mut kept = good.clone();
        kept[name] = value;
        sealed(&kept)
    };
    let forged = sealed(&good).replace("k1", "k2");
    let cases = [
        (with("issuer", json!("https://other.example")), 0o600, "was fetched from another issuer or another URL"),
        (with("jwks_uri", json!("http://keys.example/jwks")), 0o600, "was fetched from another issuer or another URL"),
        (with("fetched_at", json!(now() + 3600)), 0o600, "was fetched in the future"),
        (with("document", json!("{\"keys\":[]}")), 0o600, "it has no usable key"),
        (forged, 0o600, "is not a stored JWK Set, or it was changed"),
        (sealed(&good)[..200].to_owned(), 0o600, "is not a stored JWK Set, or it was changed"),
        (sealed(&good), 0o644, "is accessible to other users (mode 644)"),
        (sealed(&kept(&iss, &key, (TTL + MAX_STALE + 1).cast_signed())), 0o600, "is older than `max_stale` allows"),
    ];
    for (text, mode, why) in cases {
        let world = started_with(&text, mode, &iss).await;
        let log = world.gateway.log_line("ignored the stored JWK Set");
        assert!(log.contains(why), "{log}");
        world.failed("corp");
        world.refuses(&token(&key, &iss), 503, "keys_unavailable").await;
        let (status, ready) = admin(&world, "/readyz").await;
        assert_eq!((status, &*ready), (200, "ok\nissuer `corp` is unreachable: requests with its tokens get 503\n"));
    }
}

#[tokio::test]
async fn keys_serve_up_to_max_stale_and_then_it_is_503_and_never_401() {
    let (key, iss) = (Key::new("k1", "ES256"), nobody());
    let left = 5;
    let file = sealed(&kept(&iss, &key, (TTL + MAX_STALE - left).cast_signed()));
    let world = started_with(&file, 0o600, &iss).await;
    let token = token(&key, &iss);
    world.accepts(&token).await;
    let mut connection = world.client.connect().await;
    let request = || crate::support::client::with_token(crate::support::client::request("GET", "/data"), &token);
    let last = loop {
        let answer = connection.send(request()).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(last.status, 503, "{last:?}");
    world.refuses(&token, 503, "keys_unavailable").await;
}

#[tokio::test]
async fn a_new_key_is_found_within_6_s_under_a_flood_of_unknown_keys() {
    let (old, new) = (Key::new("old", "ES256"), Key::new("new", "ES256"));
    let issuer = Issuer::start(&[&old]).await;
    let world = World::trusting(&[line(&issuer.issuer)]).await;
    world.fetched("corp");
    let fetched = Instant::now();
    let ended = Arc::new(AtomicBool::new(false));
    let flood = tokio::spawn({
        let (client, token, ended) = (world.client.clone(), token(&old, &issuer.issuer), Arc::clone(&ended));
        let claims = token.split('.').nth(1).unwrap().to_owned();
        async move {
            let mut connection = client.connect().await;
            for n in 0.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let random = old.alias(&format!("random-{n}"), "ES256");
                let header = random.sign(&json!({})).split('.').next().unwrap().to_owned();
                let request = crate::support::client::request("GET", "/data");
                let forged = format!("{header}.{claims}.AAAA");
                let answer = connection.send(crate::support::client::with_token(request, &forged)).await;
                assert!([401, 503].contains(&answer.status), "{answer:?}");
            }
        }
    });
    issuer.publish(Published::keys(&[&new]));
    let published = Instant::now();
    let (mut connection, token) = (world.client.connect().await, token(&new, &issuer.issuer));
    loop {
        let request = crate::support::client::request("GET", "/data");
        let answer = connection.send(crate::support::client::with_token(request, &token)).await;
        match answer.status {
            200 => break,
            status => assert!([401, 503].contains(&status), "{answer:?}"),
        }
    }
    assert!(published.elapsed() < Duration::from_secs(6), "{:?}", published.elapsed());
    ended.store(true, Ordering::Relaxed);
    flood.await.unwrap();
    let allowed = 2 + fetched.elapsed().as_secs() / 5;
    assert!(issuer.fetches() as u64 <= allowed, "{} fetches in {:?}", issuer.fetches(), fetched.elapsed());
}

#[tokio::test]
async fn a_key_missed_in_a_young_set_is_fetched_without_asking_again() {
    let (old, new) = (Key::new("old", "ES256"), Key::new("new", "ES256"));
    let issuer = Issuer::start(&[&old]).await;
    let world = World::trusting(&[line(&issuer.issuer)]).await;
    world.fetched("corp");
    issuer.publish(Published::keys(&[&old, &new]));
    world.refuses(&token(&new, &issuer.issuer), 401, "unknown_kid").await;
    world.gateway.log_line("\"issuer.name\":\"corp\",\"keys.count\":2,");
    world.accepts(&token(&new, &issuer.issuer)).await;
    assert_eq!(issuer.fetches(), 2);
}

/// Two issuers, one of them away, and what `portcullis issuers` says with these arguments.
struct Asked {
    world: World,
    iss: String,
    away: String,
}

impl Asked {
    async fn new() -> Self {
        let key = Key::new("k1", "ES256");
        let issuer = Issuer::start(&[]).await;
        let oct = json!({"kty": "oct", "kid": "shared", "k": "c2VjcmV0"});
        issuer.publish(Published::text(&set(&[key.jwk(), oct])));
        let (upstream, folder, away) = (Upstream::start().await, folder(), nobody());
        let lines = [line(&issuer.issuer), format!("away: {{issuer: \"{away}\"}}")];
        let admin = format!("admin: {{address: 127.0.0.1:{}}}", free_port());
        let yaml = config(&lines, &upstream).replace("admin: {address: 127.0.0.1:0}", &admin);
        let gateway = Gateway::start_in(folder, &yaml, &[]);
        let world = World { client: Client::new(&gateway), gateway, upstream };
        world.fetched("corp");
        world.failed("away");
        Self { world, iss: issuer.issuer, away }
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) -> (String, String) {
        let said = run(program(&self.world.gateway.folder).arg("issuers").args(arguments));
        assert_eq!(said.code, Some(1), "one is out of reach: {said:?}");
        (said.stdout, said.stderr)
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.says(&["--format", "json"]).0).unwrap()
    }

    #[track_caller]
    fn assert_reported(&self, told: &Value) {
        let [own, corp, away] = &told["issuers"].as_array().unwrap()[..] else { panic!("{told}") };
        let names = [own, corp, away].map(|issuer| (&issuer["name"], &issuer["state"], &issuer["out_of_reach"]));
        let expected = [("self", "own", false), ("corp", "fresh", false), ("away", "missing", true)];
        let expected = expected.map(|(name, state, away)| (json!(name), json!(state), json!(away)));
        assert_eq!(names.map(|(name, state, away)| (name.clone(), state.clone(), away.clone())), expected);
        assert_eq!((&away["issuer"], &away["keys"], &away["age_s"]), (&json!(self.away), &json!([]), &json!(null)));
        assert!(away["last_error"]["error"].as_str().unwrap().contains("cannot discover the JWK Set"), "{away}");
        assert_eq!(corp["keys"], json!([{"kid": "k1", "alg": "ES256"}]));
        assert_eq!(corp["left_aside"], json!([{"kid": "shared", "reason": "it is symmetric"}]));
        assert_eq!((&corp["jwks_uri"], &corp["last_error"]), (&json!(format!("{}/jwks", self.iss)), &json!(null)));
        assert!(corp["age_s"].as_u64().unwrap() < 60 && corp["usable_for_s"].as_u64().unwrap() > TTL, "{corp}");
        assert!(corp["clock_skew_s"].as_i64().unwrap().abs() < 60, "{corp}");
        assert_eq!(own["keys"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn the_issuers_verb_asks_the_gateway_or_the_issuers_themselves() {
    let mut asked = Asked::new().await;
    let told = asked.json();
    asked.assert_reported(&told);
    assert_eq!(told["source"], "gateway");
    assert!((400..=TTL).contains(&told["issuers"][1]["next_refresh_s"].as_u64().unwrap()), "{told}");
    let (status, page) = admin(&asked.world, "/issuers").await;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((status, &page["config"]), (200, &told["config"]));
    asked.assert_reported(&page);

    let (table, remarks) = asked.says(&[]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ISSUER", "STATE", "AGE", "NEXT", "CLOCK", "KEYS"]);
    assert_eq!((lines[1][0], lines[1][1]), ("self", "own"));
    assert_eq!((&lines[2][..2], &lines[2][5..]), (&["corp", "fresh"][..], &["k1", "ES256"][..]));
    assert_eq!((&lines[3][..3], lines[3].last()), (&["away", "missing,", "unreachable"][..], Some(&"(none)")));
    assert!(table.contains("\naway: cannot discover the JWK Set: "), "{table}");
    assert!(table.contains("\ncorp: key shared is not used: it is symmetric\n"), "{table}");
    assert_eq!(remarks, "");

    asked.world.gateway.stop();
    let (_, remarks) = asked.says(&[]);
    assert!(
        remarks.starts_with("no gateway answers at 127.0.0.1:")
            && remarks.ends_with("; the keys were fetched from the issuers\n")
    );
    let told = asked.json();
    asked.assert_reported(&told);
    assert_eq!((&told["source"], &told["issuers"][1]["next_refresh_s"]), (&json!("issuers"), &json!(null)));
}
