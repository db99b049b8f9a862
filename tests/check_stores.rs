//! `portcullis check --connect` reports the stores of `shared`, or why they cannot be used and what to correct.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::authority::Authority;
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::world::config;

const PAGE: &str = include_str!("../docs/how-to/run-many-replicas.md");
const PASSWORD: &str = "geheimnis-von-redis";

/// A folder with a configuration of these stores.
fn with_stores(stores: &str) -> PathBuf {
    let (folder, nowhere) = (folder(), SocketAddr::from(([127, 0, 0, 1], 9)));
    let sections = format!("allow_literal_secrets: true\nupstreams: {{}}\nshared: {{{stores}}}\n");
    let text = config(nowhere, &["path: /**, access: public, respond: {body: x}"], &sections);
    fs::write(folder.join("gateway.yaml"), text).unwrap();
    folder
}

fn check(folder: &Path, format: &str) -> Finished {
    run(program(folder).args(["check", "--connect", "--format", format]))
}

/// The report about the one store.
#[track_caller]
fn reported(stores: &str) -> Value {
    let folder = with_stores(stores);
    let said = check(&folder, "json");
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    let found = report["connections"][0].clone();
    assert_eq!(said.code, Some(i32::from(found["ok"] != true)), "{said:?}");
    for format in ["text", "github"] {
        let said = check(&folder, format);
        let texts = [&found["reason"], &found["remedy"]].into_iter().filter_map(Value::as_str);
        assert!(texts.into_iter().all(|text| said.stdout.contains(text)), "{said:?}");
        assert!(!said.stdout.contains("geheimnis") && !said.stdout.contains("p%40ss"), "{said:?}");
    }
    found
}

#[track_caller]
fn fails(stores: &str, reason: &str, remedy: &str) {
    let found = reported(stores);
    let has = |member: &str, text: &str| found[member].as_str().is_some_and(|found| found.contains(text));
    assert!(found["ok"] == false && has("reason", reason) && has("remedy", remedy), "{found}");
}

fn redis(url: &str, others: &str) -> String {
    format!("redis: {{url: \"{url}\", timeout: 2s{others}}}")
}

#[test]
fn redis_is_usable_with_the_documented_rights_only() {
    let test = "redis_is_usable_with_the_documented_rights_only";
    let Some(server) = Redis::start(test) else { return };
    let rights = PAGE.lines().map(str::trim).find(|line| line.starts_with("user portcullis on ")).unwrap();
    let rights = rights.replace("PASSWORD", PASSWORD).replace("user ", "");
    let set_user = |more: &[&str]| {
        let words: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(rights.split(' ')).chain(more.to_vec()).collect();
        assert_eq!(server.ask(&words), "OK");
    };
    set_user(&[]);
    let url = format!("redis://127.0.0.1:{}/3", server.port);
    let password = format!(", username: portcullis, password: {PASSWORD}");
    let usable = reported(&redis(&url, &password));
    assert_eq!((&usable["store"], &usable["server"]), (&"redis".into(), &url.clone().into()), "{usable}");
    assert!(usable["version"].as_str().is_some_and(|version| version.starts_with("Redis ")), "{usable}");
    assert_eq!(usable["encrypted"], false, "{usable}");
    for key in server.ask(&["-n", "3", "KEYS", "*"]).lines().filter(|key| !key.is_empty()) {
        // -2: it has ended meanwhile.
        assert_ne!(server.ask(&["-n", "3", "PTTL", key]), "-1", "{key}");
    }
    fails(
        &redis(&url, ", username: portcullis, password: geheimnis-anderer"),
        "refuses the user or the password",
        "`shared.redis.username`",
    );
    set_user(&["-zadd", "-incr"]);
    fails(&redis(&url, &password), "`incr`, `zadd`", "all commands of the gateway");
    set_user(&["-evalsha"]);
    fails(&redis(&url, &password), "refuses a script", "all commands of the gateway");
    set_user(&["+evalsha", "resetkeys", "~other:*"]);
    fails(&redis(&url, &password), "one of the keys", "`shared.redis.prefix`");
}

#[test]
fn redis_is_verified_by_its_certificate() {
    let test = "redis_is_verified_by_its_certificate";
    let (place, authority) = (folder(), Authority::new());
    let issued = authority.issue(&["localhost"]);
    for (name, content) in
        [("ca.pem", &authority.certificate), ("tls.pem", &issued.certificate), ("tls.key", &issued.key)]
    {
        fs::write(place.join(name), content).unwrap();
    }
    let path = |name: &str| place.join(name).display().to_string();
    let options = ["--tls-cert-file", &path("tls.pem"), "--tls-key-file", &path("tls.key"), "--tls-auth-clients", "no"];
    let Some(server) = Redis::with_tls(test, &options) else { return };
    let stores = |url: &str, ca: &str| format!("redis: {{url: \"{url}:{}\", timeout: 2s{ca}}}", server.port);
    let usable = reported(&stores("rediss://localhost", &format!(", ca: {}", path("ca.pem"))));
    assert_eq!((&usable["ok"], &usable["encrypted"]), (&true.into(), &true.into()), "{usable}");
    fails(&stores("rediss://localhost", ""), "cannot connect", "`ca`");
}

#[test]
fn an_unreachable_store_is_reported_with_its_place() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails(&redis(&format!("redis://{free}"), ""), "cannot connect", "`shared.redis.url`");
    let database = format!("postgres: {{url: \"postgres://portcullis:{PASSWORD}@{free}/x\"}}");
    fails(&database, "Connection refused", "`shared.postgres.url`");
    assert_eq!(reported(&database)["server"], format!("postgres://{free}/x"));
}

#[test]
fn a_database_is_usable_with_the_tables_of_this_version() {
    let Some(postgres) = Postgres::start() else { return };
    let stores = format!("postgres: {{url: \"{}\"}}", postgres.url());
    fails(&stores, "has no tables", "run `portcullis store migrate`");
    let migrated = run(program(&with_stores(&stores)).args(["store", "migrate"]));
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let usable = reported(&stores);
    assert_eq!((&usable["store"], &usable["ok"]), (&"postgres".into(), &true.into()), "{usable}");
    assert!(usable["version"].as_str().is_some_and(|version| version.starts_with("PostgreSQL ")), "{usable}");
    fails(&stores.replace("p%40ss", "p%40ss-geheimnis"), "refuses the login", "check user, password");
    postgres.sql("CREATE ROLE reader LOGIN PASSWORD 'geheimnis'");
    let reader = stores.replace("portcullis:p%40ss%20word", "reader:geheimnis");
    fails(&reader, "permission denied for table portcullis_version", "rights to its tables");
    postgres.sql("GRANT SELECT ON portcullis_version, clients, client_federation TO reader");
    fails(&reader, "permission denied for table signing_keys", "rights to its tables");
    postgres.sql("UPDATE portcullis_version SET version = 2");
    fails(&stores, "are of version 2, and this gateway knows 1", "use the newer gateway");
}
