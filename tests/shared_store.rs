//! The shared store as operators run it: by TLS, and for a user with the rights that the documentation names.

use std::fs;

use crate::support::authority::Authority;
use crate::support::client::request;
use crate::support::gateway::folder;
use crate::support::redis::Redis;
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway, Upstream};

const PAGE: &str = include_str!("../docs/how-to/run-many-replicas.md");

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test]
async fn the_documented_rights_are_enough_over_tls() {
    let test = "the_documented_rights_are_enough_over_tls";
    let (place, authority) = (folder(), Authority::new());
    let issued = authority.issue(&["localhost"]);
    let rights = PAGE.lines().map(str::trim).find(|line| line.starts_with("user portcullis on ")).unwrap();
    let rights = format!("user default off\n{}\n", rights.replace("PASSWORD", "geheimnis-von-redis"));
    for (name, content) in [
        ("ca.pem", &authority.certificate),
        ("tls.pem", &issued.certificate),
        ("tls.key", &issued.key),
        ("acl", &rights),
    ] {
        fs::write(place.join(name), content).unwrap();
    }
    let path = |name: &str| place.join(name).display().to_string();
    let (certificate, key, acl) = (path("tls.pem"), path("tls.key"), path("acl"));
    let options =
        ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no", "--aclfile", &acl];
    let Some(redis) = Redis::with_tls(test, &options) else { return };
    let shared = |password: &str| {
        format!(
            "shared: {{redis: {{url: \"rediss://localhost:{}\", ca: {}, username: portcullis, password: {password}, timeout: 2s}}}}",
            redis.port,
            path("ca.pem")
        )
    };
    let upstream = Upstream::start().await;
    let route = "path: /x, name: x, access: public, rate_limits: [{rate: 3/h, per: route}]";
    let gateway = Gateway::start(&config(upstream.address, &[route], &shared("geheimnis-von-redis")));
    gateway.log_line("the revocations of all replicas are known");
    let client = Client::new(&gateway);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.send(request("GET", "/x")).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    let stranger = Gateway::start(&config(upstream.address, &[route], &shared("ein-anderes-geheimnis")));
    let line = stranger.log_line("refuses the user or the password: check `shared.redis.username`");
    let name = format!("Redis (`shared.redis`, localhost:{})", redis.port);
    assert!(line.contains("ERROR") && line.contains(&name) && !line.contains("geheimnis"), "{line}");
    assert_eq!(line.matches("assword authentication failed").count(), 1, "{line}");
    let ready = Client::plain(stranger.admin.unwrap()).get("/readyz").await;
    let page = text(&ready);
    assert!(ready.status == 503 && page.contains("refuses the login or a right"), "{page}");
    fs::remove_dir_all(place).unwrap();
}

#[tokio::test]
async fn metrics_and_probes_show_the_store_and_the_replicas() {
    let test = "metrics_and_probes_show_the_store_and_the_replicas";
    let Some(mut redis) = Redis::start(test) else { return };
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, &redis.section().replace("instance: {", "instance: {name: east-1, "));
    gateway.log_line("the revocations of all replicas are known");
    let admin = Client::plain(gateway.admin.unwrap());
    let page = text(&admin.get("/metrics").await);
    for line in [
        "portcullis_shared_store_reachable 1",
        "portcullis_ratelimit_mode{mode=\"leases\"} 1",
        "portcullis_replicas{state=\"alive\"} 1",
        "portcullis_revocations_pending 0",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    let config = admin.get("/config").await.json();
    let info = format!("portcullis_config_info{{revision={},instance=\"east-1\"}} 1", config["config"]);
    assert!(page.contains(&info), "{info}\n{page}");
    assert_eq!(config["instance"], "east-1");
    assert_eq!(gateway.audit_line(|line| line["gateway.event"] == "start")["gateway.instance"], "east-1");
    redis.kill();
    gateway.log_line("is unreachable: rate limits");
    let page = text(&admin.get("/metrics").await);
    assert!(page.contains("portcullis_shared_store_reachable 0"), "{page}");
    assert!(page.contains("portcullis_ratelimit_mode{mode=\"share\"} 1"), "{page}");
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.status, 200);
    let page = text(&ready);
    assert!(page.contains("Redis (`shared.redis`) is unreachable"), "{page}");
}

#[tokio::test]
async fn a_refused_call_leaves_the_store_in_use() {
    let test = "a_refused_call_leaves_the_store_in_use";
    let Some(redis) = Redis::start(test) else { return };
    // Another program's key, on which the script of revocations fails.
    assert_eq!(redis.ask(&["set", "portcullis:revocations", "x"]), "OK");
    let upstream = Upstream::start().await;
    let route = "path: /x, name: x, access: public, rate_limits: [{rate: 2/h, per: route}]";
    let gateway = Gateway::start(&config(upstream.address, &[route], &redis.section()));
    let line = gateway.log_line("refuses a call");
    assert!(line.contains("WRONGTYPE"), "{line}");
    let client = Client::new(&gateway);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.send(request("GET", "/x")).await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert!(!gateway.log_text().contains("is unreachable: rate limits"), "{}", gateway.log_text());
}

#[tokio::test]
async fn a_lack_of_rights_is_an_error_until_it_is_given() {
    let test = "a_lack_of_rights_is_an_error_until_it_is_given";
    let Some(redis) = Redis::start(test) else { return };
    let rights = PAGE.lines().map(str::trim).find(|line| line.starts_with("user portcullis on ")).unwrap();
    let rights = rights.replace("PASSWORD", "geheimnis").replace("user ", "");
    let set_user = |more: &str| {
        let words: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(rights.split(' ')).chain([more]).collect();
        assert_eq!(redis.ask(&words), "OK");
    };
    set_user("-zadd");
    let upstream = Upstream::start().await;
    let user = "timeout: 2s, username: portcullis, password: geheimnis";
    let gateway = Gateway::open(upstream.address, &redis.section().replace("timeout: 2s", user));
    let line = gateway.log_line("refuses a right of its user: `portcullis check --connect`");
    assert!(line.contains("ERROR") && line.contains("(`shared.redis`, 127.0.0.1:"), "{line}");
    let ready = Client::plain(gateway.admin.unwrap()).get("/readyz").await;
    assert!(text(&ready).contains("Redis (`shared.redis`) refuses the login or a right"), "{}", text(&ready));
    set_user("+zadd");
    gateway.log_line(") is reachable");
    assert_eq!(gateway.log_text().matches("refuses a right").count(), 1, "{}", gateway.log_text());
}

#[tokio::test]
async fn a_crashed_replica_is_replaced_by_its_next_process() {
    let test = "a_crashed_replica_is_replaced_by_its_next_process";
    let Some(redis) = Redis::start(test) else { return };
    let (upstream, place) = (Upstream::start().await, folder());
    let route = "path: /x, name: x, access: public, rate_limits: [{rate: 2/h, per: route}]";
    // Each process has another port, and the same state.
    let state = format!("{}state_directory: {}\n", redis.section(), place.display());
    let yaml = config(upstream.address, &[route], &state);
    for _ in 0..3 {
        let gateway = Gateway::start(&yaml);
        gateway.log_line("\"replicas.alive\":1");
        assert_eq!(redis.ask(&["zcard", "portcullis:replicas"]), "1");
        gateway.signal("KILL");
    }
    fs::remove_dir_all(place).unwrap();
}

#[tokio::test]
async fn a_store_restarted_with_older_data_gives_no_second_burst() {
    let test = "a_store_restarted_with_older_data_gives_no_second_burst";
    let Some(mut redis) = Redis::start(test) else { return };
    let upstream = Upstream::start().await;
    let route = "path: /x, name: x, access: public, rate_limits: [{rate: 3/h, per: route}]";
    let gateway = Gateway::start(&config(upstream.address, &[route], &redis.section()));
    gateway.log_line("\"replicas.alive\":1");
    assert_eq!(redis.ask(&["save"]), "OK");
    let client = Client::new(&gateway);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.send(request("GET", "/x")).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    redis.kill();
    gateway.log_line("is unreachable: rate limits");
    // It keeps its epoch, and has lost the leases that it granted since.
    redis.start_again();
    gateway.log_line(") is reachable");
    assert!(!gateway.log_text().contains("emptied or replaced"), "{}", gateway.log_text());
    assert_eq!(client.send(request("GET", "/x")).await.status, 429);
}

#[tokio::test]
async fn another_store_needs_a_restart_and_a_password_does_not() {
    let test = "another_store_needs_a_restart_and_a_password_does_not";
    let Some(redis) = Redis::start(test) else { return };
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &["path: /x, name: x, access: public"], &redis.section());
    let gateway = Gateway::start(&yaml);
    let with = |key: &str| yaml.replace("timeout: 2s", &format!("timeout: 2s, {key}"));
    gateway.refuses_reload(&with("prefix: other"), "`shared.redis.prefix` needs a restart");
    gateway.log_line("the one in use stays; restart the gateway, or undo the change");
    gateway.reloads(&with("password: a-new-one-of-the-store"));
}
