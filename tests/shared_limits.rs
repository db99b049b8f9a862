//! Rate limits over replicas: together they admit no more than one gateway would, and each loss of the store has a
//! defined state.

use std::time::Instant;

use serde_json::Value;

use crate::support::client::request;
use crate::support::redis::Redis;
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

/// Two replicas before one service, with one limited route.
struct Replicas {
    redis: Redis,
    gateways: Vec<Gateway>,
    clients: Vec<Client>,
    _upstream: Upstream,
}

impl Replicas {
    async fn start(test: &str, limit: &str, more: &str) -> Option<Self> {
        let redis = Redis::start(test)?;
        let upstream = Upstream::start().await;
        let route = format!("path: /x, name: x, access: public, rate_limits: [{limit}]");
        let section = redis.section().replace("shared: {", &format!("shared: {{{more}"));
        let yaml = config(upstream.address, &[&route], &section);
        let gateways: Vec<Gateway> = (0..2).map(|_| Gateway::start(&yaml)).collect();
        let clients = gateways.iter().map(Client::new).collect();
        gateways.iter().for_each(|gateway| drop(gateway.log_line("\"replicas.alive\":2")));
        Some(Self { redis, gateways, clients, _upstream: upstream })
    }

    /// The number of admitted requests out of this many, which are sent to the replicas in turn.
    async fn allowed(&self, requests: usize) -> usize {
        let mut allowed = 0;
        for number in 0..requests {
            allowed += usize::from(self.status(number % 2).await == 200);
        }
        allowed
    }

    async fn status(&self, replica: usize) -> u16 {
        let status = self.clients[replica].send(request("GET", "/x")).await.status;
        assert!(matches!(status, 200 | 429), "{status}");
        status
    }

    fn both_log(&self, text: &str) {
        self.gateways.iter().for_each(|gateway| drop(gateway.log_line(text)));
    }
}

#[tokio::test]
async fn replicas_share_a_slow_limit_exactly() {
    let test = "replicas_share_a_slow_limit_exactly";
    let Some(replicas) = Replicas::start(test, "{rate: 5/h, per: address}", "").await else { return };
    assert_eq!(replicas.allowed(20).await, 5);
}

#[tokio::test]
async fn replicas_together_never_exceed_a_limit() {
    let test = "replicas_together_never_exceed_a_limit";
    let Some(replicas) = Replicas::start(test, "{rate: 200/s, burst: 20, per: route}", "").await else { return };
    let begun = Instant::now();
    let allowed = replicas.allowed(600).await;
    let bound = 20.0 + 200.0 * begun.elapsed().as_secs_f64();
    assert!(allowed as f64 <= bound, "{allowed} of at most {bound}");
    assert!(allowed >= 20, "{allowed}");
}

#[tokio::test]
async fn a_limit_that_is_not_shared_counts_in_each_process() {
    let test = "a_limit_that_is_not_shared_counts_in_each_process";
    let limit = "{rate: 5/h, per: address, shared: false}";
    let Some(replicas) = Replicas::start(test, limit, "").await else { return };
    assert_eq!(replicas.allowed(20).await, 10);
}

#[tokio::test]
async fn without_the_store_each_replica_takes_its_share() {
    let test = "without_the_store_each_replica_takes_its_share";
    let Some(mut replicas) = Replicas::start(test, "{rate: 20/s, per: route}", "").await else { return };
    assert_eq!(replicas.status(0).await, 200);
    replicas.redis.kill();
    replicas.both_log("is unreachable: rate limits");
    let begun = Instant::now();
    let allowed = replicas.allowed(200).await;
    // Cells of earlier leases may be spent too: at most a burst.
    let bound = 20.0 + 20.0 * begun.elapsed().as_secs_f64();
    assert!(allowed as f64 <= bound, "{allowed} of at most {bound}");
    let answer = replicas.clients[0].send(request("GET", "/x")).await;
    assert_eq!(answer.header("ratelimit-policy"), "\"route\";q=10;w=1;share=2");
    let is_flagged = |line: &Value| line["gateway.decision"] == "allow" && line["gateway.ratelimit_mode"] == "share";
    replicas.gateways[0].audit_line(is_flagged);
    while replicas.status(1).await != 429 {}
    let line = replicas.gateways[1].audit_line(|line| line["gateway.reason"] == "rate_limited");
    assert!(line["gateway.found"].as_str().unwrap().contains("the share of limit"), "{line}");
}

#[tokio::test]
async fn an_emptied_store_gives_no_second_burst() {
    let test = "an_emptied_store_gives_no_second_burst";
    let Some(mut replicas) = Replicas::start(test, "{rate: 10/h, per: route}", "").await else { return };
    assert_eq!(replicas.allowed(30).await, 10);
    replicas.redis.kill();
    replicas.both_log("is unreachable: rate limits");
    replicas.redis.start_again();
    replicas.both_log(") is reachable");
    assert_eq!(replicas.allowed(10).await, 0);
}

/// A bucket may take months to fill.
#[tokio::test]
async fn older_data_of_the_store_gives_no_second_burst() {
    let test = "older_data_of_the_store_gives_no_second_burst";
    let Some(mut replicas) = Replicas::start(test, "{rate: 1/h, burst: 3000, per: route}", "").await else { return };
    assert_eq!(replicas.allowed(4).await, 4);
    replicas.redis.ask(&["save"]);
    assert_eq!(replicas.allowed(20).await, 20);
    replicas.redis.kill();
    replicas.both_log("is unreachable: rate limits");
    replicas.redis.start_again();
    replicas.both_log(") is reachable");
    assert_eq!(replicas.allowed(10).await, 0);
}

#[tokio::test]
async fn a_short_loss_leaves_unused_limits_nearly_whole() {
    let test = "a_short_loss_leaves_unused_limits_nearly_whole";
    let Some(replicas) = Replicas::start(test, "{rate: 10/h, per: route}", "").await else { return };
    replicas.redis.signal("STOP");
    replicas.both_log("is unreachable: rate limits");
    replicas.redis.signal("CONT");
    replicas.both_log(") is reachable");
    // An hour has ten of them: the loss costs at most one for each six minutes.
    let allowed = replicas.allowed(20).await;
    assert!((8..=10).contains(&allowed), "{allowed}");
}

#[tokio::test]
async fn a_key_of_another_type_is_counted_anyway() {
    let test = "a_key_of_another_type_is_counted_anyway";
    let Some(replicas) = Replicas::start(test, "{rate: 3/h, per: route}", "").await else { return };
    assert_eq!(replicas.allowed(2).await, 2);
    let key = replicas.redis.ask(&["keys", "portcullis:limit:*"]);
    replicas.redis.ask(&["del", &key]);
    replicas.redis.ask(&["rpush", &key, "x"]);
    assert_eq!(replicas.allowed(10).await, 3);
}

#[tokio::test]
async fn limits_are_denied_without_the_store_on_request() {
    let test = "limits_are_denied_without_the_store_on_request";
    let limit = "{rate: 10/h, per: route}";
    let Some(mut replicas) = Replicas::start(test, limit, "on_loss: deny, ").await else { return };
    replicas.redis.kill();
    replicas.both_log("is unreachable: rate limits");
    assert_eq!(replicas.allowed(4).await, 0);
    let line = replicas.gateways[0].audit_line(|line| line["gateway.reason"] == "rate_limited");
    assert!(line["gateway.found"].as_str().unwrap().contains("Redis is unreachable"), "{line}");
    assert_eq!(line["gateway.ratelimit_mode"], "deny");
}

#[tokio::test]
async fn limits_are_local_without_the_store_on_request() {
    let test = "limits_are_local_without_the_store_on_request";
    let limit = "{rate: 4/h, per: route}";
    let Some(mut replicas) = Replicas::start(test, limit, "on_loss: local, ").await else { return };
    replicas.redis.kill();
    replicas.both_log("is unreachable: rate limits");
    assert_eq!(replicas.allowed(20).await, 8);
    replicas.gateways[0].audit_line(|line| line["gateway.ratelimit_mode"] == "local");
}

#[tokio::test]
async fn a_stopped_store_delays_no_request_twice() {
    let test = "a_stopped_store_delays_no_request_twice";
    let Some(replicas) = Replicas::start(test, "{rate: 1000/s, per: route}", "").await else { return };
    replicas.redis.signal("STOP");
    // Until one of them has waited for the timeout of the store.
    replicas.both_log("is unreachable: rate limits");
    let allowed = replicas.allowed(50).await;
    replicas.redis.signal("CONT");
    replicas.both_log(") is reachable");
    assert!(allowed <= 50);
    assert!(replicas.redis.ask(&["keys", "*"]).lines().all(|key| key.starts_with("portcullis:")));
}
