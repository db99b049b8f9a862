//! Trust over replicas: all refuse the tokens that one has revoked, and a single-use credential counts once over all.

mod once;

use std::fs;
use std::path::PathBuf;

use crate::support::client::{basic, request, with_body, with_header};
use crate::support::gateway::folder;
use crate::support::redis::Redis;
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

/// Replicas with the same signing keys, before one service.
struct Replicas {
    redis: Redis,
    yaml: String,
    gateways: Vec<Gateway>,
    upstream: Upstream,
    keys: PathBuf,
}

impl Replicas {
    async fn start(test: &str, count: usize) -> Option<Self> {
        Self::start_with(test, count, "").await
    }

    /// With more of the section `oauth`.
    async fn start_with(test: &str, count: usize, more: &str) -> Option<Self> {
        let redis = Redis::start(test)?;
        let (upstream, keys) = (Upstream::start().await, folder());
        let oauth = format!(
            "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256, directory: {}/keys}}
  clients:
    app: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
{more}",
            keys.display()
        );
        let route = ["path: /data, name: data, access: {}"];
        let yaml = config(upstream.address, &route, &format!("{oauth}{}", redis.section()));
        let mut replicas = Self { redis, yaml, gateways: Vec::new(), upstream, keys };
        for _ in 0..count {
            replicas.add();
        }
        Some(replicas)
    }

    fn add(&mut self) {
        let gateway = Gateway::start(&self.yaml);
        gateway.log_line("the revocations of all replicas are known");
        self.gateways.push(gateway);
    }

    async fn token(&self, replica: usize) -> String {
        Client::new(&self.gateways[replica]).granted("app", SECRET, "").await
    }

    async fn status(&self, replica: usize, token: &str) -> u16 {
        Client::new(&self.gateways[replica]).get_with("/data", token).await.status
    }

    /// Right after the loss of the store, buckets start empty: then the request is sent again.
    async fn revoke(&self, replica: usize, token: &str) {
        while self.revoked(replica, token).await == 429 {}
    }

    async fn revoked(&self, replica: usize, token: &str) -> u16 {
        let status = self.revocation_status(replica, token).await;
        assert!(matches!(status, 200 | 429), "{status}");
        status
    }

    async fn revocation_status(&self, replica: usize, token: &str) -> u16 {
        let asked = with_body(request("POST", "/oauth/revoke"), format!("token={token}"));
        let asked = with_header(asked, "content-type", "application/x-www-form-urlencoded");
        let asked = with_header(asked, "authorization", basic("app", SECRET).to_str().unwrap());
        Client::new(&self.gateways[replica]).send(asked).await.status
    }

    /// Waits until a replica refuses the token.
    async fn is_refused(&self, replica: usize, token: &str) {
        let learned = |line: &serde_json::Value| line["gateway.event"] == "revocation";
        self.gateways[replica].audit_line(learned);
        assert_eq!(self.status(replica, token).await, 401);
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.keys);
        let _ = &self.upstream;
    }
}

#[tokio::test]
async fn a_token_revoked_at_one_replica_is_refused_at_all() {
    let test = "a_token_revoked_at_one_replica_is_refused_at_all";
    let Some(mut replicas) = Replicas::start(test, 2).await else { return };
    let (token, other) = (replicas.token(0).await, replicas.token(0).await);
    assert_eq!([replicas.status(0, &token).await, replicas.status(1, &token).await], [200, 200]);
    replicas.revoke(0, &token).await;
    assert_eq!(replicas.status(0, &token).await, 401);
    replicas.is_refused(1, &token).await;
    assert_eq!(replicas.status(1, &other).await, 200);
    // A replica that comes later has no copy, and reads it.
    replicas.add();
    assert_eq!([replicas.status(2, &token).await, replicas.status(2, &other).await], [401, 200]);
    assert!(!replicas.redis.ask(&["zrange", "portcullis:revocations", "0", "-1"]).contains("app"));
}

#[tokio::test]
async fn a_revocation_without_the_store_reaches_the_others_later() {
    let test = "a_revocation_without_the_store_reaches_the_others_later";
    let Some(mut replicas) = Replicas::start(test, 2).await else { return };
    let (before, token) = (replicas.token(0).await, replicas.token(1).await);
    replicas.revoke(1, &before).await;
    replicas.is_refused(0, &before).await;
    replicas.redis.kill();
    replicas.gateways.iter().for_each(|gateway| drop(gateway.log_line("is unreachable: rate limits")));
    replicas.revoke(0, &token).await;
    assert_eq!([replicas.status(0, &token).await, replicas.status(1, &token).await], [401, 200]);
    replicas.gateways[0].log_line("are sent to the other replicas when Redis is reachable");
    replicas.redis.start_again();
    replicas.is_refused(1, &token).await;
    // The emptied store was filled again, also for replicas that start later.
    replicas.add();
    assert_eq!([replicas.status(2, &before).await, replicas.status(2, &token).await], [401, 401]);
}

#[tokio::test]
async fn without_store_and_copy_no_token_can_be_judged() {
    let test = "without_store_and_copy_no_token_can_be_judged";
    let Some(mut replicas) = Replicas::start(test, 1).await else { return };
    let token = replicas.token(0).await;
    replicas.redis.kill();
    let gateway = Gateway::start(&replicas.yaml);
    replicas.gateways.push(gateway);
    assert_eq!(replicas.status(1, &token).await, 503);
    let line = replicas.gateways[1].audit_line(|line| line["gateway.reason"] == "store_unavailable");
    assert_eq!(line["gateway.wanted"], "the revocations of all replicas");
    replicas.redis.start_again();
    replicas.gateways[1].log_line("the revocations of all replicas are known");
    assert_eq!(replicas.status(1, &token).await, 200);
}

#[tokio::test]
async fn an_empty_file_of_a_first_start_is_no_copy() {
    let test = "an_empty_file_of_a_first_start_is_no_copy";
    let more = "  token_endpoint: {rate_limits: []}\n";
    let Some(mut replicas) = Replicas::start_with(test, 1, more).await else { return };
    let (token, revoked) = (replicas.token(0).await, replicas.token(0).await);
    replicas.revoke(0, &revoked).await;
    replicas.redis.kill();
    let mut first = Gateway::start(&replicas.yaml);
    let folder = first.folder.clone();
    first.signal("KILL");
    first.wait();
    replicas.gateways.push(Gateway::start_in(folder.clone(), &replicas.yaml, &[]));
    assert_eq!([replicas.status(1, &token).await, replicas.status(1, &revoked).await], [503, 503]);
    assert_eq!(
        replicas.revocation_status(1, &token).await,
        503,
        "the token may be valid, so it is not said to be revoked"
    );
    replicas.redis.start_again();
    replicas.gateways[1].log_line("the revocations of all replicas are known");
    assert_eq!([replicas.status(1, &token).await, replicas.status(1, &revoked).await], [200, 401]);
    // Now it has a copy, with which it serves without the store.
    replicas.redis.kill();
    let again = Gateway::start_in(copy_of(&folder), &replicas.yaml, &[]);
    replicas.gateways.push(again);
    assert_eq!([replicas.status(2, &token).await, replicas.status(2, &revoked).await], [200, 401]);
}

#[tokio::test]
async fn a_replica_that_starts_knows_what_was_revoked_meanwhile() {
    let test = "a_replica_that_starts_knows_what_was_revoked_meanwhile";
    let Some(mut replicas) = Replicas::start(test, 2).await else { return };
    for number in 1..=3 {
        let token = replicas.token(0).await;
        let mut gone = replicas.gateways.pop().unwrap();
        let folder = gone.folder.clone();
        gone.signal("KILL");
        gone.wait();
        replicas.revoke(0, &token).await;
        // The revocation is in the store once a third reads it there.
        while replicas.redis.ask(&["zcard", "portcullis:revocations"]) != number.to_string() {}
        replicas.gateways.push(Gateway::start_in(copy_of(&folder), &replicas.yaml, &[]));
        assert_eq!(replicas.status(1, &token).await, 401);
    }
}

/// The folder of a gateway, with its state.
fn copy_of(of: &std::path::Path) -> PathBuf {
    let copy = folder();
    let copied = std::process::Command::new("cp").arg("-a").arg(of.join(".")).arg(&copy).status().unwrap();
    assert!(copied.success());
    copy
}
