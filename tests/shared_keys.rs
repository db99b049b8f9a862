//! Gateways that keep their signing keys in one database are one issuer: each accepts the tokens of the others at once,
//! and none signs with a key outside the interval that was fixed when the key was made.

mod commands;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use crate::support::authority::Authority;
use crate::support::command::{Finished, run};
use crate::support::gateway::{PATIENCE, Patience, folder, program};
use crate::support::postgres::Postgres;
use crate::support::world::SECRET;
use crate::support::{Client, Gateway, Upstream};

const WRAPPING_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const OTHER_KEY: &str = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const JWKS: &str = "/.well-known/jwks.json";

struct World {
    postgres: Postgres,
    upstream: Upstream,
}

/// One of the gateways.
struct Replica {
    gateway: Gateway,
    client: Client,
}

impl World {
    /// A database with its tables. `None` if PostgreSQL is missing.
    async fn start() -> Option<Self> {
        let world = Self { postgres: Postgres::start()?, upstream: Upstream::start().await };
        let folder = world.folder("", WRAPPING_KEY);
        let migrated = run(program(&folder).args(["store", "migrate"]));
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        Some(world)
    }

    fn yaml(&self, keys: &str, wrapping_key: &str) -> String {
        format!(
            "version: 1
workers: 1
allow_literal_secrets: true
listeners:
  - address: 127.0.0.1:0
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}]}}
shared: {{postgres: {{url: \"{}\"}}}}
oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  token_ttl: 60s
  signing_keys: {{algorithm: ES256, in: postgres, wrapping_key: {wrapping_key}{keys}}}
  token_endpoint: {{rate_limits: [{{rate: 10000/s, per: address}}]}}
  clients: {{app: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}}}
upstreams: {{legacy: \"http://{}\"}}
routes: [{{path: /data, upstream: legacy, access: {{}}}}]
audit: {{file: \"-\"}}
admin: {{address: 127.0.0.1:0}}
",
            self.postgres.url(),
            self.upstream.address
        )
    }

    fn folder(&self, keys: &str, wrapping_key: &str) -> PathBuf {
        let folder = folder();
        std::fs::write(folder.join("gateway.yaml"), self.yaml(keys, wrapping_key)).unwrap();
        folder
    }

    fn replica(&self, keys: &str) -> Replica {
        let gateway = Gateway::start(&self.yaml(keys, WRAPPING_KEY));
        Replica { client: Client::new(&gateway), gateway }
    }

    /// The message with which a gateway refuses to start.
    fn refused_start(&self, wrapping_key: &str) -> String {
        let done = run(program(&self.folder("", wrapping_key)).arg("run"));
        assert_eq!(done.code, Some(2), "{done:?}");
        done.stderr
    }
}

impl Replica {
    async fn token(&self) -> String {
        self.client.granted("app", SECRET, "").await
    }

    async fn status(&self, token: &str) -> u16 {
        self.client.get_with("/data", token).await.status
    }

    async fn published(&self) -> Vec<String> {
        let keys = self.client.get(JWKS).await.json()["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    fn keys(&self, arguments: &[&str]) -> Finished {
        let done = run(program(&self.gateway.folder).arg("keys").args(arguments));
        assert_eq!(done.code, Some(0), "{done:?}");
        done
    }

    /// Waits until its JWK Set has this number of keys.
    async fn publishes(&self, count: usize) {
        let begun = Instant::now();
        while self.published().await.len() != count {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.published().await);
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn tokens_of_one_gateway_are_good_at_the_other_at_once() {
    let Some(world) = World::start().await else { return };
    let (one, other) = (world.replica(""), world.replica(""));
    assert_eq!(one.published().await, other.published().await);
    assert_eq!(world.postgres.sql("SELECT count(*) FROM signing_keys"), "1");
    for _ in 0..5 {
        one.keys(&["rotate", "--now"]);
        let (mut signer, mut verifier) = (&one, &other);
        for _ in 0..2 {
            assert_eq!(verifier.status(&signer.token().await).await, 200);
            (signer, verifier) = (verifier, signer);
        }
    }
    one.publishes(6).await;
    other.publishes(6).await;
}

#[tokio::test]
async fn keys_of_a_database_rotate_and_no_token_fails() {
    let Some(world) = World::start().await else { return };
    let keys = ", rotate_every: 10s";
    let replicas = [world.replica(keys), world.replica(keys), world.replica(keys)];
    let (begun, mut seen) = (Instant::now(), std::collections::HashSet::new());
    while seen.len() < 3 {
        assert!(begun.elapsed() < PATIENCE * 4, "{seen:?}");
        for signer in &replicas {
            let token = signer.token().await;
            seen.insert(key_id_of(&token));
            for verifier in &replicas {
                assert_eq!(verifier.status(&token).await, 200);
            }
        }
    }
}

#[tokio::test]
async fn a_new_key_has_one_maker() {
    let Some(world) = World::start().await else { return };
    let keys = ", rotate_every: 10s";
    let replicas = [world.replica(keys), world.replica(keys)];
    let first = replicas[0].published().await;
    let events = |key_id: &str| {
        let event = |replica: &Replica| {
            let line = replica.gateway.audit_line(|line| line["oauth.kid"] == key_id);
            line["gateway.event"].as_str().unwrap().to_owned()
        };
        let mut events = replicas.each_ref().map(event);
        events.sort();
        events
    };
    replicas[0].publishes(2).await;
    let made = replicas[0].published().await.into_iter().find(|key_id| !first.contains(key_id)).unwrap();
    assert_eq!(events(&made), ["key_learned", "key_made"]);
    replicas[0].keys(&["rotate"]);
    replicas[0].publishes(3).await;
    let known = [first, vec![made]].concat();
    let by_hand = replicas[0].published().await.into_iter().find(|key_id| !known.contains(key_id)).unwrap();
    assert_eq!(events(&by_hand), ["key_learned", "key_learned"]);
}

#[tokio::test]
async fn known_keys_sign_on_without_the_database() {
    let Some(mut world) = World::start().await else { return };
    let (one, other) = (world.replica(""), world.replica(""));
    let token = one.token().await;
    world.postgres.kill();
    one.gateway.log_line("is unreachable: cached clients");
    assert_eq!(other.status(&one.token().await).await, 200);
    let unknown = with_key_id(&token, "unknown");
    assert_eq!(one.status(&unknown).await, 503);
    world.postgres.start_again();
    one.gateway.log_line(") is reachable");
    let begun = Instant::now();
    while one.status(&unknown).await != 401 {
        assert!(begun.elapsed() < PATIENCE);
    }
    one.keys(&["rotate", "--now"]);
    assert_eq!(other.status(&one.token().await).await, 200);
}

#[tokio::test]
async fn a_database_that_answers_no_more_stalls_no_request() {
    let Some(world) = World::start().await else { return };
    let one = world.replica("");
    world.postgres.freeze();
    let begun = Instant::now();
    let token = one.token().await;
    assert_eq!(one.status(&token).await, 200);
    assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    // The first waits for the database, and from then on none does.
    assert_eq!(one.status(&with_key_id(&token, "unknown")).await, 503);
    one.gateway.log_line("is unreachable: cached clients");
    world.postgres.thaw();
    one.gateway.log_line(") is reachable");
}

#[tokio::test]
async fn tokens_of_a_paused_gateway_are_good_when_it_goes_on() {
    let Some(world) = World::start().await else { return };
    let keys = ", rotate_every: 5s";
    let (paused, other) = (world.replica(keys), world.replica(keys));
    for _ in 0..2 {
        let before = key_id_of(&other.token().await);
        paused.gateway.signal("STOP");
        // Two rotations go by without it.
        let begun = Instant::now();
        let mut seen = std::collections::HashSet::from([before]);
        while seen.len() < 3 {
            assert!(begun.elapsed() < PATIENCE, "{seen:?}");
            seen.insert(key_id_of(&other.token().await));
            tokio::task::yield_now().await;
        }
        let newest = other.token().await;
        paused.gateway.signal("CONT");
        assert_eq!(paused.status(&newest).await, 200);
        // It may know no key whose interval goes on until it has read.
        let answer = paused.client.token("app", SECRET, "").await;
        assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
        if answer.status == 200 {
            let token = answer.json()["access_token"].as_str().unwrap().to_owned();
            assert_eq!(other.status(&token).await, 200);
        }
        while paused.client.token("app", SECRET, "").await.status != 200 {
            assert!(begun.elapsed() < PATIENCE * 2);
        }
    }
}

#[tokio::test]
async fn invented_key_ids_cause_few_reads_and_no_errors() {
    let Some(world) = World::start().await else { return };
    let one = world.replica("");
    let token = one.token().await;
    let reads = || -> u64 {
        world.postgres.sql("SELECT pg_stat_force_next_flush()");
        let seen = "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'signing_keys'";
        world.postgres.sql(seen).parse().unwrap()
    };
    let before = reads();
    let begun = Instant::now();
    for number in 0..40 {
        assert_eq!(one.status(&with_key_id(&token, &format!("invented-{}", number % 4))).await, 401);
    }
    let allowed = 4 + begun.elapsed().as_secs() / 10 * 4 + 2;
    assert!(reads() - before <= allowed, "{} reads, {allowed} allowed", reads() - before);
    assert_eq!(one.status(&token).await, 200);
}

#[tokio::test]
async fn the_database_is_reached_over_verified_tls_only() {
    let authority = Authority::new();
    let issued = authority.issue(&["localhost"]);
    let Some(postgres) = Postgres::start_with_tls(&issued.certificate, &issued.key) else { return };
    let folder = folder();
    std::fs::write(folder.join("ca.crt"), &authority.certificate).unwrap();
    let status = |url: &str, ca: &str| {
        let yaml = format!(
            "version: 1
allow_literal_secrets: true
shared: {{postgres: {{url: \"{url}\"{ca}}}}}
listeners: [{{address: 127.0.0.1:0}}]
upstreams: {{x: http://127.0.0.1:1}}
routes: [{{path: /x, upstream: x, access: public}}]
"
        );
        std::fs::write(folder.join("gateway.yaml"), yaml).unwrap();
        run(program(&folder).args(["store", "migrate"]))
    };
    let verified = format!("{}?sslmode=verify-full", postgres.url());
    let unknown = status(&verified, "");
    assert!(unknown.code == Some(2) && unknown.stderr.contains("certificate"), "{unknown:?}");
    let clear = status(&postgres.url(), "");
    assert!(clear.code == Some(2) && clear.stderr.contains("no encryption"), "{clear:?}");
    let other_name = status(&verified.replace("localhost", "127.0.0.1"), ", ca: ca.crt");
    assert!(other_name.code == Some(2) && other_name.stderr.contains("certificate"), "{other_name:?}");
    let good = status(&verified, ", ca: ca.crt");
    assert_eq!(good.code, Some(0), "{good:?}");
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_made_again() {
    let Some(world) = World::start().await else { return };
    let (one, other) = (world.replica(""), world.replica(""));
    world.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'portcullis'");
    other.gateway.log_line(") is reachable");
    one.keys(&["rotate", "--now"]);
    other.publishes(2).await;
}

/// A rolling update with a wrong address of the database must not replace replicas that work.
#[tokio::test]
async fn a_gateway_that_never_reached_the_database_is_not_ready() {
    let Some(mut world) = World::start().await else { return };
    let yaml = world.yaml("", WRAPPING_KEY);
    world.postgres.kill();
    let gateway = Gateway::start(&yaml);
    let admin = Client::plain(gateway.admin.unwrap());
    let answer = admin.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.starts_with(b"the database (`shared.postgres`) was not reachable since the start"),
        "{answer:?}"
    );
    world.postgres.start_again();
    let begun = Instant::now();
    while admin.get("/readyz").await.status != 200 {
        assert!(begun.elapsed() < PATIENCE);
    }
    world.postgres.kill();
    gateway.log_line("until their intervals end\"");
    assert_eq!(admin.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn rows_that_were_swapped_or_stretched_are_refused() {
    let Some(world) = World::start().await else { return };
    let one = world.replica(", x5c: true");
    one.keys(&["rotate", "--now"]);
    one.publishes(2).await;
    world.postgres.sql("CREATE TABLE kept AS SELECT * FROM signing_keys");
    let restore = "; DELETE FROM signing_keys; INSERT INTO signing_keys SELECT * FROM kept";
    for change in [
        "UPDATE signing_keys SET signs_until = signs_until + 1",
        "UPDATE signing_keys SET signs_until = NULL",
        "UPDATE signing_keys SET signs_from = signs_from - 1",
        "UPDATE signing_keys SET made_at = made_at - 1",
        "UPDATE signing_keys SET token_ttl = token_ttl + 1",
        "UPDATE signing_keys SET max_age = max_age - 1",
        "UPDATE signing_keys SET certificate = NULL",
        "UPDATE signing_keys SET certificate = certificate || '\\x00'",
        "UPDATE signing_keys SET algorithm = 'ES384'",
        "UPDATE signing_keys AS a SET sealed_key = b.sealed_key, nonce = b.nonce FROM kept AS b WHERE a.kid <> b.kid",
        "UPDATE signing_keys SET sealed_key = sealed_key || '\\x00'",
    ] {
        world.postgres.sql(change);
        let refused = world.refused_start(WRAPPING_KEY);
        assert!(refused.contains("does not open"), "{change}: {refused}");
        let token = one.token().await;
        assert_eq!(one.status(&token).await, 200, "{change}");
        world.postgres.sql(restore.trim_start_matches("; "));
    }
    assert!(world.refused_start(OTHER_KEY).contains("wrapping_key"));
    let both = world.folder(&format!(", other_wrapping_key: {WRAPPING_KEY}"), OTHER_KEY);
    let listed = run(program(&both).args(["keys", "list", "--format", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&listed.stdout).unwrap()["keys"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_row_that_was_changed_is_left_aside() {
    let Some(world) = World::start().await else { return };
    let one = world.replica("");
    one.keys(&["rotate"]);
    one.publishes(2).await;
    let signer = key_id_of(&one.token().await);
    let damaged = "INSERT INTO signing_keys VALUES ('damaged', 'ES256', -1, 0, 0, 0, 0, '\\x00', '\\x00', NULL)";
    world.postgres.sql(damaged);
    world.postgres.sql(&format!("UPDATE signing_keys SET token_ttl = 86400 WHERE kid <> '{signer}'"));
    one.publishes(1).await;
    let other = world.replica("");
    for replica in [&one, &other] {
        assert_eq!(replica.published().await, [signer.as_str()]);
        assert_eq!(replica.status(&replica.token().await).await, 200);
        replica.gateway.log_line("a signing key of the database is not used");
        let metrics = Client::plain(replica.gateway.admin.unwrap()).get("/metrics").await;
        let metrics = std::str::from_utf8(&metrics.body).unwrap();
        assert!(metrics.contains("portcullis_signing_keys_left_aside 2"), "{metrics}");
    }
    assert!(one.keys(&["list"]).stderr.contains("does not open"));
}

#[tokio::test]
async fn a_longer_lifetime_of_tokens_is_written_with_the_key() {
    let Some(world) = World::start().await else { return };
    // A tenth of this interval is no whole number of seconds.
    let keys = ", x5c: true, rotate_every: 15s";
    let one = world.replica(keys);
    let lifetimes = || world.postgres.sql("SELECT max(token_ttl) FROM signing_keys");
    assert_eq!(lifetimes(), "60");
    one.gateway.reloads(&world.yaml(keys, WRAPPING_KEY).replace("token_ttl: 60s", "token_ttl: 90s"));
    let begun = Instant::now();
    while lifetimes() != "90" {
        assert!(begun.elapsed() < PATIENCE);
    }
    let token = one.token().await;
    assert_eq!(world.replica(keys).status(&token).await, 200);
    // Nothing of the key is left to change.
    let version = || world.postgres.sql(&format!("SELECT xmin FROM signing_keys WHERE kid = '{}'", key_id_of(&token)));
    let before = version();
    assert_eq!(one.status(&with_key_id(&token, "unknown")).await, 401);
    assert_eq!(version(), before);
}

#[tokio::test]
async fn rows_that_hide_a_new_key_make_no_further_ones() {
    let Some(world) = World::start().await else { return };
    let one = world.replica("");
    let rows = "SELECT 'x' || n, 'ES256', 0, 0, 0, 0, 0, '\\x00'::bytea, '\\x00'::bytea, NULL FROM generate_series(1, 999) AS n";
    world.postgres.sql(&format!("INSERT INTO signing_keys {rows}"));
    let refused = run(program(&one.gateway.folder).args(["keys", "rotate", "--now"]));
    assert!(refused.code != Some(0) && refused.stderr.contains("too many rows"), "{refused:?}");
    assert_eq!(world.postgres.sql("SELECT count(*) FROM signing_keys"), "1000");
    assert_eq!(one.status(&one.token().await).await, 200);
}

/// Also of several keys that were made within one second.
#[tokio::test]
async fn the_key_that_was_made_last_signs() {
    let Some(world) = World::start().await else { return };
    let one = world.replica("");
    let listed = || {
        let listed: Value = serde_json::from_str(&one.keys(&["list", "--format", "json"]).stdout).unwrap();
        listed["keys"].as_array().unwrap().clone()
    };
    for _ in 0..3 {
        one.keys(&["rotate", "--now"]);
        let before = listed();
        one.keys(&["rotate", "--now"]);
        let is_known = |key: &Value| before.iter().any(|known| known["kid"] == key["kid"]);
        let patience = Patience::new();
        while listed().iter().any(|key| is_known(key) && key["state"] == "signing") {
            patience.check();
        }
    }
}

#[tokio::test]
async fn a_wrapping_key_is_replaced_by_reloads() {
    let Some(world) = World::start().await else { return };
    let one = world.replica("");
    let token = one.token().await;
    one.gateway.reloads(&world.yaml(&format!(", other_wrapping_key: {OTHER_KEY}"), WRAPPING_KEY));
    one.gateway.reloads(&world.yaml(&format!(", other_wrapping_key: {WRAPPING_KEY}"), OTHER_KEY));
    // Makes a key with the wrapping key of the file, which the gateway must read.
    one.keys(&["rotate", "--now"]);
    one.publishes(2).await;
    let patience = Patience::new();
    while key_id_of(&one.token().await) == key_id_of(&token) {
        patience.check();
    }
    one.keys(&["retire", &key_id_of(&token)]);
    one.publishes(1).await;
    one.gateway.reloads(&world.yaml("", OTHER_KEY));
    let restarted = Gateway::start(&world.yaml("", OTHER_KEY));
    let restarted = Replica { client: Client::new(&restarted), gateway: restarted };
    assert_eq!(restarted.status(&one.token().await).await, 200);
}

#[tokio::test]
async fn a_retired_key_is_refused_by_every_gateway() {
    let Some(world) = World::start().await else { return };
    let (one, other) = (world.replica(""), world.replica(""));
    let token = one.token().await;
    assert_eq!(other.status(&token).await, 200);
    one.keys(&["retire", &key_id_of(&token)]);
    for replica in [&one, &other] {
        let begun = Instant::now();
        while replica.status(&token).await != 401 {
            assert!(begun.elapsed() < PATIENCE);
        }
        assert_eq!(replica.status(&replica.token().await).await, 200);
    }
}

#[tokio::test]
async fn nothing_of_a_private_key_is_readable_in_the_database() {
    let Some(world) = World::start().await else { return };
    let one = world.replica(", x5c: true");
    let keys = one.client.get(JWKS).await.json();
    assert!(keys["keys"][0]["x5c"].is_array(), "{keys}");
    // The OID of EC keys, which every PKCS #8 of one has.
    let readable = "position('\\x06072a8648ce3d0201'::bytea IN sealed_key)";
    assert_eq!(world.postgres.sql(&format!("SELECT {readable} FROM signing_keys")), "0");
}

/// The same token with another key id, whose signature is not looked at.
fn with_key_id(token: &str, key_id: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let (header, rest) = token.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"] = key_id.into();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

fn key_id_of(token: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}
