//! Two gateways with their clients in PostgreSQL: each applies the changes of any command line.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::command::run;
use crate::support::gateway::{Patience, folder, program};
use crate::support::postgres::Postgres;
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

struct World {
    postgres: Postgres,
    folders: [PathBuf; 2],
    _gateways: [Gateway; 2],
    clients: [Client; 2],
    _upstream: Upstream,
}

impl World {
    /// `None` if PostgreSQL is not installed.
    async fn start(stale: &str) -> Option<Self> {
        let postgres = Postgres::start()?;
        let upstream = Upstream::start().await;
        let sections = format!(
            "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256}}
  clients_in: postgres
  token_endpoint: {{rate_limits: [{{rate: 10000/s, per: address}}]}}
  clients:
    app: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
shared: {{postgres: {{url: \"{}\", stale: {stale}}}}}
",
            postgres.url()
        );
        let yaml = config(upstream.address, &["path: /data, access: {scopes: [read:data]}"], &sections);
        let folders = [folder(), folder()];
        std::fs::write(folders[0].join("gateway.yaml"), &yaml).unwrap();
        let migrated = run(program(&folders[0]).args(["store", "migrate"]));
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        let gateways = folders.clone().map(|folder| Gateway::start_in(folder, &yaml, &[]));
        let clients = [Client::new(&gateways[0]), Client::new(&gateways[1])];
        Some(Self { postgres, folders, _gateways: gateways, clients, _upstream: upstream })
    }

    fn does(&self, verb: &[&str]) -> Value {
        let finished = run(program(&self.folders[0]).args(["client"]).args(verb).args(["--store", "--format", "json"]));
        assert_eq!(finished.code, Some(0), "{finished:?}");
        serde_json::from_str(&finished.stdout).unwrap()
    }

    fn makes(&self, id: &str) -> String {
        self.does(&["new", id, "--scopes", "read:data"])["secret"].as_str().unwrap().to_owned()
    }

    async fn until_granted(&self, id: &str, secret: &str, status: u16) {
        let patience = Patience::new();
        for client in &self.clients {
            while client.token(id, secret, "").await.status != status {
                patience.check();
            }
        }
    }

    /// Each gateway signs with its own keys.
    async fn tokens(&self, id: &str, secret: &str) -> [String; 2] {
        let [one, other] = &self.clients;
        [one.granted(id, secret, "").await, other.granted(id, secret, "").await]
    }

    async fn until_data(&self, tokens: &[String; 2], status: u16) {
        let patience = Patience::new();
        for (client, token) in self.clients.iter().zip(tokens) {
            while client.get_with("/data", token).await.status != status {
                patience.check();
            }
        }
    }
}

#[tokio::test]
async fn every_gateway_takes_a_change_of_a_client() {
    let Some(world) = World::start("1h").await else { return };
    world.until_granted("billing", SECRET, 401).await;
    let secret = world.makes("billing");
    world.until_granted("billing", &secret, 200).await;
    let tokens = world.tokens("billing", &secret).await;
    world.until_data(&tokens, 200).await;
    let begun = std::time::Instant::now();
    world.does(&["disable", "billing"]);
    world.until_data(&tokens, 401).await;
    world.until_granted("billing", &secret, 401).await;
    eprintln!("a disabled client is refused by both after {:?}, the command included", begun.elapsed());
    world.does(&["enable", "billing"]);
    world.until_granted("billing", &secret, 200).await;
    world.until_data(&tokens, 200).await;
    let new = world.does(&["rotate", "billing", "--overlap", "1h"])["secret"].as_str().unwrap().to_owned();
    world.until_granted("billing", &new, 200).await;
    world.until_granted("billing", &secret, 200).await;
    // A change needs no command of the gateway, such as a statement of an administrator.
    world.postgres.sql("DELETE FROM clients WHERE id = 'billing'");
    world.until_data(&tokens, 401).await;
}

#[tokio::test]
async fn held_clients_go_on_while_the_database_is_unreachable() {
    let Some(mut world) = World::start("1h").await else { return };
    let (held, other) = (world.makes("held"), world.makes("other-one"));
    world.until_granted("held", &held, 200).await;
    let tokens = world.tokens("held", &held).await;
    world.postgres.kill();
    for _ in 0..50 {
        world.until_data(&tokens, 200).await;
        for client in &world.clients {
            assert_eq!(client.token("held", &held, "").await.status, 200);
            assert_eq!(client.token("app", SECRET, "").await.status, 200);
            assert_eq!(client.token("other-one", &other, "").await.status, 503);
            assert_eq!(client.token("never-seen", SECRET, "").await.status, 503);
        }
    }
    world.postgres.start_again();
    world.postgres.sql("UPDATE clients SET disabled = 1 WHERE id = 'held'");
    world.until_granted("other-one", &other, 200).await;
    world.until_data(&tokens, 401).await;
    world.until_granted("held", &held, 401).await;
}

#[tokio::test]
async fn a_frozen_database_delays_no_held_client() {
    let Some(world) = World::start("1h").await else { return };
    let held = world.makes("held");
    world.until_granted("held", &held, 200).await;
    let tokens = world.tokens("held", &held).await;
    world.until_data(&tokens, 200).await;
    world.postgres.freeze();
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        world.until_data(&tokens, 200).await;
        for client in &world.clients {
            assert_eq!(client.token("held", &held, "").await.status, 200);
        }
    }
    eprintln!("80 requests beside a frozen database took {:?}", begun.elapsed());
    assert_eq!(world.clients[0].token("never-seen", SECRET, "").await.status, 503);
    world.postgres.thaw();
    world.until_granted("never-seen", SECRET, 401).await;
}

#[tokio::test]
async fn held_clients_end_with_the_configured_time() {
    let Some(mut world) = World::start("1s").await else { return };
    let held = world.makes("held");
    world.until_granted("held", &held, 200).await;
    let tokens = world.tokens("held", &held).await;
    world.postgres.kill();
    world.until_granted("held", &held, 503).await;
    world.until_data(&tokens, 503).await;
    world.postgres.start_again();
    world.until_granted("held", &held, 200).await;
    world.until_data(&tokens, 200).await;
}
