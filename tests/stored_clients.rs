//! Clients in a file of SQLite: a gateway serves them, and takes every change without a reload.

mod postgres;
mod streams;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::client::{request, with_body, with_header};
use crate::support::command::{Finished, run, run_with};
use crate::support::gateway::{Patience, folder, program};
use crate::support::issuer::{Issuer, Key, now};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

struct World {
    folder: PathBuf,
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
}

impl World {
    async fn start() -> Self {
        let upstream = Upstream::start().await;
        Self::with(upstream.address, upstream, "")
    }

    fn with(service: std::net::SocketAddr, upstream: Upstream, more: &str) -> Self {
        let folder = folder();
        let yaml = config(service, &["path: /data, access: {scopes: [read:data]}"], &oauth(more));
        let gateway = Gateway::start_in(folder.clone(), &yaml, &[]);
        Self { folder, client: Client::new(&gateway), gateway, upstream }
    }

    fn cli(&self, verb: &[&str]) -> Finished {
        run(program(&self.folder).args(["client"]).args(verb).args(["--store"]))
    }

    /// The JSON that the verb prints.
    fn does(&self, verb: &[&str]) -> Value {
        let finished = self.cli(&[verb, &["--format", "json"]].concat());
        assert_eq!(finished.code, Some(0), "{finished:?}");
        serde_json::from_str(&finished.stdout).unwrap()
    }

    /// The secret of a new client.
    fn makes(&self, id: &str) -> String {
        self.does(&["new", id, "--scopes", "read:data"])["secret"].as_str().unwrap().to_owned()
    }

    async fn status(&self, id: &str, secret: &str) -> u16 {
        self.client.token(id, secret, "").await.status
    }

    async fn until_granted(&self, id: &str, secret: &str, status: u16) {
        let patience = Patience::new();
        while self.status(id, secret).await != status {
            patience.check();
        }
    }

    async fn until_data(&self, token: &str, status: u16) {
        let patience = Patience::new();
        while self.client.get_with("/data", token).await.status != status {
            patience.check();
        }
    }

    fn move_database(&self, from: &Path, to: &Path) {
        for name in ["clients.db-wal", "clients.db-shm", "clients.db"] {
            let _ = fs::rename(from.join(name), to.join(name));
        }
    }
}

fn oauth(more: &str) -> String {
    format!(
        "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256}}
  clients_in: sqlite
  introspection: {{clients: [ledger]}}
  token_endpoint: {{rate_limits: [{{rate: 10000/s, per: address}}]}}
  clients:
    app: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
{more}"
    )
}

#[tokio::test]
async fn a_new_client_of_the_database_gets_tokens_at_once() {
    let world = World::start().await;
    assert_eq!(world.status("billing", SECRET).await, 401);
    let secret = world.makes("billing");
    // The id was unknown a moment ago.
    world.until_granted("billing", &secret, 200).await;
    assert_eq!(world.status("billing", SECRET).await, 401);
    let token = world.client.granted("billing", &secret, "").await;
    assert_eq!(world.client.get_with("/data", &token).await.status, 200);
    assert_eq!(world.status("app", SECRET).await, 200, "a client of the file");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(world.folder.join("state/clients.db")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert!(world.upstream.address.port() > 0);
}

#[tokio::test]
async fn a_disabled_client_and_its_tokens_are_refused() {
    let world = World::start().await;
    let secret = world.makes("billing");
    world.until_granted("billing", &secret, 200).await;
    let token = world.client.granted("billing", &secret, "").await;
    assert_eq!(world.client.get_with("/data", &token).await.status, 200);
    world.does(&["disable", "billing"]);
    world.until_data(&token, 401).await;
    let refused = world.client.get_with("/data", &token).await;
    assert_eq!(world.gateway.audit_of(refused.request_id())["gateway.reason"], "unknown_client");
    world.until_granted("billing", &secret, 401).await;
    world.does(&["enable", "billing"]);
    world.until_data(&token, 200).await;
    world.until_granted("billing", &secret, 200).await;
    world.does(&["delete", "billing"]);
    world.until_data(&token, 401).await;
    world.until_granted("billing", &secret, 401).await;
}

#[tokio::test]
async fn a_change_of_a_held_client_is_in_the_audit_log() {
    let world = World::start().await;
    let secret = world.makes("billing");
    world.makes("never-used");
    world.until_granted("billing", &secret, 200).await;
    let recorded = |state: &str| {
        let line = world.gateway.audit_line(|line| line["gateway.client_state"] == state);
        assert_eq!((&line["gateway.event"], &line["oauth.client_id"]), (&"client_changed".into(), &"billing".into()));
    };
    world.does(&["disable", "never-used"]);
    world.does(&["rotate", "billing", "--overlap", "1h"]);
    recorded("changed");
    world.does(&["disable", "billing"]);
    recorded("disabled");
    world.does(&["enable", "billing"]);
    world.until_granted("billing", &secret, 200).await;
    world.does(&["delete", "billing"]);
    recorded("deleted");
}

#[tokio::test]
async fn a_rotated_secret_works_beside_the_old_one_for_a_time() {
    let world = World::start().await;
    let old = world.makes("billing");
    world.until_granted("billing", &old, 200).await;
    let new = world.does(&["rotate", "billing", "--overlap", "1h"])["secret"].as_str().unwrap().to_owned();
    world.until_granted("billing", &new, 200).await;
    assert_eq!(world.status("billing", &old).await, 200);
    let newest = world.does(&["rotate", "billing", "--overlap", "1s"])["secret"].as_str().unwrap().to_owned();
    world.until_granted("billing", &newest, 200).await;
    for ended in [&old, &new] {
        world.until_granted("billing", ended, 401).await;
    }
    assert_eq!(world.status("billing", &newest).await, 200);
}

#[tokio::test]
async fn without_the_database_held_clients_go_on_and_others_get_503() {
    let world = World::start().await;
    let (held, other) = (world.makes("held"), world.makes("other-one"));
    world.until_granted("held", &held, 200).await;
    world.until_granted("other-one", &other, 200).await;
    let [token, other_token] =
        [world.client.granted("held", &held, "").await, world.client.granted("other-one", &other, "").await];
    let (state, aside) = (world.folder.join("state"), world.folder.join("aside"));
    fs::create_dir(&aside).unwrap();
    let mut gateway = world.gateway;
    assert!(gateway.stop().success());
    // After another start, only used clients are held.
    let yaml = fs::read_to_string(world.folder.join("gateway.yaml")).unwrap();
    let gateway = Gateway::start_in(world.folder.clone(), &yaml, &[]);
    let client = Client::new(&gateway);
    let world = World { folder: world.folder, gateway, client, upstream: world.upstream };
    world.until_granted("held", &held, 200).await;
    world.move_database(&state, &aside);
    // An unknown id is remembered, so that each is looked up once.
    let (mut number, patience) = (0, Patience::new());
    while world.status(&format!("never-seen-{number}"), SECRET).await != 503 {
        number += 1;
        patience.check();
    }
    assert_eq!(world.status("held", &held).await, 200);
    assert_eq!(world.client.get_with("/data", &token).await.status, 200);
    assert_eq!(world.status("app", SECRET).await, 200, "a client of the file");
    let answer = world.client.token("other-one", &other, "").await;
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("temporarily_unavailable")));
    assert_eq!(world.gateway.audit_of(answer.request_id())["gateway.reason"], "store_unavailable");
    let answer = world.client.get_with("/data", &other_token).await;
    assert_eq!((answer.status, answer.headers.contains_key("www-authenticate")), (503, false));
    assert_eq!(world.gateway.audit_of(answer.request_id())["gateway.reason"], "store_unavailable");
    world.move_database(&aside, &state);
    world.until_granted("other-one", &other, 200).await;
    world.until_data(&other_token, 200).await;
}

#[tokio::test]
async fn a_listed_client_of_the_database_may_introspect() {
    let world = World::start().await;
    let secret = world.makes("ledger");
    world.until_granted("ledger", &secret, 200).await;
    let token = world.client.granted("app", SECRET, "").await;
    let asked = with_header(request("POST", "/oauth/introspect"), "content-type", "application/x-www-form-urlencoded");
    let body = format!("token={token}&client_id=ledger&client_secret={secret}");
    let answer = world.client.send(with_body(asked, body)).await;
    assert_eq!((answer.status, &answer.json()["active"]), (200, &json!(true)));
}

#[tokio::test]
async fn a_platform_token_finds_its_client_in_the_database() {
    let key = Key::new("k", "ES256");
    let (ci, upstream) = (Issuer::start(&[&key]).await, Upstream::start().await);
    let world = World::with(upstream.address, upstream, &format!("issuers:\n  ci: {{issuer: '{}'}}\n", ci.issuer));
    world.gateway.log_line("fetched the JWK Set\",\"issuer.name\":\"ci\"");
    let asked = |subject: &str, id: &str| {
        let claims = json!({"iss": ci.issuer, "sub": subject, "aud": "https://localhost:8443", "iat": now(),
                            "exp": now() + 60, "jti": id});
        by_assertion(&key.sign(&claims))
    };
    let subject = "repo:acme/api:ref:refs/heads/main";
    assert_eq!(world.client.send(asked(subject, "1")).await.status, 401);
    let entry = json!({"federation": [{"issuer": "ci", "subject": "repo:acme/*:ref:refs/heads/main"}]}).to_string();
    let verb = ["client", "new", "deploy", "--scopes", "read:data", "--store", "--entry", "-"];
    let made = run_with(program(&world.folder).args(verb), &entry);
    assert_eq!(made.code, Some(0), "{made:?}");
    let patience = Patience::new();
    while world.client.send(asked(subject, "2")).await.status != 200 {
        patience.check();
    }
    let answer = world.client.send(asked(subject, "3")).await;
    assert_eq!(world.gateway.audit_of(answer.request_id())["oauth.client_id"], "deploy");
    assert_eq!(world.client.send(asked("repo:acme/api:ref:refs/heads/other", "4")).await.status, 401);
    // If a second client fits the same token, it is refused.
    let made =
        run_with(program(&world.folder).args(verb.map(|word| if word == "deploy" { "twin" } else { word })), &entry);
    assert_eq!(made.code, Some(0), "{made:?}");
    while world.client.send(asked(subject, "5")).await.status != 401 {
        patience.check();
    }
}

fn by_assertion(token: &str) -> Request<Full<Bytes>> {
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let fields = [("grant_type", "client_credentials"), ("client_assertion_type", kind), ("client_assertion", token)];
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    with_body(with_header(request("POST", "/oauth/token"), "content-type", "application/x-www-form-urlencoded"), body)
}

#[tokio::test]
async fn the_command_line_refuses_ids_that_are_taken_or_unknown() {
    let world = World::start().await;
    world.makes("billing");
    for (verb, message) in [
        (&["new", "billing", "--scopes", "a"][..], "has a client `billing`"),
        (&["new", "app", "--scopes", "a"], "is in the configuration file"),
        (&["disable", "biling"], "did you mean `billing`?"),
        (&["rotate", "app"], "is in the configuration file"),
        (&["delete", "zzz"], "no client `zzz`"),
    ] {
        let finished = world.cli(verb);
        assert!(finished.code == Some(2) && finished.stderr.contains(message), "{finished:?}");
    }
    world.makes("another");
    let list = world.cli(&["list", "--format", "json"]);
    let lines: Vec<Value> = list.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = lines.iter().map(|line| line["client"].as_str().unwrap()).collect();
    assert_eq!(ids, ["another", "billing"]);
    assert!(!list.stdout.contains("sha256"), "{list:?}");
    assert_eq!(world.cli(&["list", "--after", "another", "--limit", "5"]).stdout.lines().count(), 1);
}

#[tokio::test]
async fn a_rotation_without_overlap_ends_the_old_secrets_at_once() {
    let world = World::start().await;
    let old = world.makes("billing");
    world.until_granted("billing", &old, 200).await;
    let said = world.cli(&["rotate", "billing", "--overlap", "0s"]);
    assert!(said.stderr.contains("portcullis token revoke --client billing"), "{said:?}");
    world.until_granted("billing", said.stdout.trim(), 200).await;
    assert_eq!(world.status("billing", &old).await, 401);
}

#[tokio::test]
async fn the_tokens_of_a_client_of_the_database_are_revoked() {
    let mut world = World::start().await;
    let secret = world.makes("billing");
    world.until_granted("billing", &secret, 200).await;
    let token = world.client.granted("billing", &secret, "").await;
    let revoke = |world: &World, id: &str| run(program(&world.folder).args(["token", "revoke", "--client", id]));
    let refused = revoke(&world, "biling");
    let says = "unknown client `biling`: neither the configuration nor the database has it, did you mean `billing`?";
    assert!(refused.code == Some(2) && refused.stderr.contains(says), "{refused:?}");
    let done = revoke(&world, "billing");
    assert_eq!((done.code, done.stderr.contains("warning")), (Some(0), false), "{done:?}");
    world.until_data(&token, 401).await;
    assert!(world.gateway.stop().success());
    fs::remove_file(world.folder.join("state/clients.db")).unwrap();
    let done = revoke(&world, "another");
    let says = "cannot look up client `another`, so check its id: the database of the clients";
    assert!(done.code == Some(0) && done.stderr.contains(says), "{done:?}");
}

#[tokio::test]
async fn a_missing_file_is_created_by_a_new_client_only() {
    let mut world = World::start().await;
    assert!(world.gateway.stop().success());
    let file = world.folder.join("state/clients.db");
    fs::remove_file(&file).unwrap();
    for verb in [&["list"][..], &["rotate", "a"], &["disable", "a"], &["enable", "a"], &["delete", "a"]] {
        let refused = world.cli(verb);
        let says = refused.stderr.contains("clients.db, does not exist: restore it from a backup");
        assert!(refused.code == Some(2) && says && !file.exists(), "{refused:?}");
    }
    world.makes("billing");
    assert!(file.exists());
}

#[tokio::test]
async fn a_reload_without_the_database_forgets_its_clients() {
    let world = World::start().await;
    let secret = world.makes("billing");
    world.until_granted("billing", &secret, 200).await;
    let token = world.client.granted("billing", &secret, "").await;
    let yaml = fs::read_to_string(world.folder.join("gateway.yaml")).unwrap();
    world.gateway.reloads(&yaml.replace("read:data]}}", "read:data]}} # the same"));
    assert_eq!(world.client.get_with("/data", &token).await.status, 200);
    world.gateway.reloads(&yaml.replace("  clients_in: sqlite\n  introspection: {clients: [ledger]}\n", ""));
    assert_eq!(world.client.get_with("/data", &token).await.status, 401);
    assert_eq!(world.status("billing", &secret).await, 401);
    world.gateway.reloads(&yaml);
    assert_eq!(world.client.get_with("/data", &token).await.status, 200);
}

#[tokio::test]
async fn a_request_of_a_stored_client_is_explained() {
    let world = World::start().await;
    let secret = world.makes("billing");
    let token = world.client.granted("billing", &secret, "").await;
    let explain = |arguments: &[&str]| {
        let mut command = program(&world.folder);
        run_with(command.args(["explain", "GET", "/data"]).args(arguments), &token)
    };
    for caller in [&["--client", "billing"], &["--token-file", "-"]] {
        let said = explain(caller);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    world.cli(&["disable", "billing"]);
    let refused = explain(&["--token-file", "-"]);
    assert!(refused.code == Some(1) && refused.stdout.contains("unknown_client"), "{refused:?}");
    let unknown = explain(&["--client", "billing"]);
    assert!(unknown.stderr.contains("unknown client `billing`"), "{unknown:?}");
}
