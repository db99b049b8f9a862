//! A reload takes the whole configuration into use or none of it, for every request that begins after it. What is
//! unchanged lives on, and nothing that is open notices.

mod control;
mod issuers;
mod listeners;
mod live_facts;
mod streams;
mod watch;
mod wrong;

use std::fs;

use serde_json::{Value, json};

use crate::support::client::{request, with_header, with_token};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const DATA: &str = "name: data, path: /data, access: {scopes: [read:data]}";

async fn config_page(gateway: &Gateway) -> Value {
    Client::plain(gateway.admin.unwrap()).get("/config").await.json()
}

/// The value of the first metric with this name and these labels.
async fn metric(gateway: &Gateway, name: &str, labels: &[&str]) -> Option<f64> {
    let page = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    let fits = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
    let line = text.lines().find(fits)?;
    Some(line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[tokio::test]
async fn a_tightened_rule_counts_for_a_cached_token() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&config(upstream.address, &[DATA], ""));
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "scope=read:data").await;
    let mut connection = client.connect().await;
    for _ in 0..2 {
        assert_eq!(connection.send(with_token(request("GET", "/data"), &token)).await.status, 200);
    }
    gateway.reloads(&config(upstream.address, &["name: data, path: /data, access: {scopes: [write:data]}"], ""));
    assert_eq!(connection.send(with_token(request("GET", "/data"), &token)).await.status, 403);
    gateway.reloads(&config(upstream.address, &[DATA, "name: new, path: /new, access: public"], ""));
    assert_eq!(connection.send(with_token(request("GET", "/data"), &token)).await.status, 200);
    assert_eq!(connection.send(request("GET", "/new")).await.status, 200);
    assert_eq!(metric(&gateway, "portcullis_token_cache_misses_total", &[]).await, Some(1.0), "it stays cached");
}

#[tokio::test]
async fn a_faulty_file_leaves_everything_as_it_is() {
    let upstream = Upstream::start().await;
    let good = config(upstream.address, &[DATA, "path: /open, access: public"], "");
    let gateway = Gateway::start(&good);
    let before = config_page(&gateway).await;
    assert_eq!(before["last_reload"], json!(null));
    for (faulty, error) in [
        (good.replace("read:data]}, upstream: legacy", "read:data]}, upstream: legavy"), "did you mean `legacy`?"),
        (good.replace("version: 1", "version: 1\nsurprise: 2"), "unknown key `surprise`"),
        (good[..good.len() / 2].to_owned(), "gateway.yaml:"),
        (String::new(), "the file is empty"),
        (good.replace("certs/localhost.key", "certs/other.key"), "certs/other.key"),
        (good.replace("correct horse battery staple", "\"${PORTCULLIS_TEST_UNSET}\""), "PORTCULLIS_TEST_UNSET"),
        (good.replace("workers: 1", "workers: 2") + "state_directory: state/../state\n", "`workers` needs a restart"),
        (good.replace("file: \"-\"", "file: audit.jsonl"), "`audit.file` needs a restart"),
        (good.replace("{algorithm: ES256}", "{directory: moved}"), "`oauth.signing_keys.directory` needs a restart"),
    ] {
        gateway.refuses_reload(&faulty, error);
        assert_eq!(Client::new(&gateway).get("/open").await.status, 200, "{error}");
        let page = config_page(&gateway).await;
        assert_eq!((&page["config"], &page["since"]), (&before["config"], &before["since"]));
        assert_eq!(page["last_reload"]["result"], "refused");
        let errors = page["last_reload"]["errors"].to_string().replace("\\\"", "\"");
        assert!(errors.contains(error) || errors.contains("gateway.yaml"), "{error}: {errors}");
    }
    gateway.log_line("`state_directory` needs a restart");
    fs::remove_file(gateway.folder.join("gateway.yaml")).unwrap();
    assert!(gateway.reload_file().contains("was not reloaded"));
    assert_eq!(metric(&gateway, "portcullis_config_last_reload_successful", &[]).await, Some(0.0));
    assert_eq!(metric(&gateway, "portcullis_config_reloads_total", &["refused"]).await, Some(10.0));
    gateway.reloads(&good);
    assert_eq!(metric(&gateway, "portcullis_config_last_reload_successful", &[]).await, Some(1.0));
    let refused = gateway.audit_line(|line| line["gateway.event"] == "reload_refused");
    assert_eq!(refused["gateway.config"], before["config"]);
    assert!(refused["gateway.error"].as_str().unwrap().starts_with("gateway.yaml:"), "{refused}");
}

#[tokio::test]
async fn a_reload_is_recorded_with_both_revisions() {
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &["path: /open, access: public"], "");
    let gateway = Gateway::start(&yaml);
    let before = config_page(&gateway).await["config"].clone();
    gateway.reloads(&(yaml + "# another\n"));
    let page = config_page(&gateway).await;
    assert_ne!(page["config"], before);
    assert_eq!((&page["last_reload"]["result"], &page["last_reload"]["errors"]), (&json!("ok"), &json!([])));
    let line = gateway.audit_line(|line| line["gateway.event"] == "reload");
    assert_eq!((&line["gateway.previous_config"], &line["gateway.config"]), (&before, &page["config"]));
    assert_eq!((&line["gateway.access_wider"], &line["gateway.access_changes"]), (&json!(0), &Value::Null));
    let answer = Client::new(&gateway).get("/open").await;
    assert_eq!(gateway.audit_of(answer.request_id())["gateway.config"], page["config"]);
    let seconds = metric(&gateway, "portcullis_config_last_reload_success_timestamp_seconds", &[]).await;
    assert!(seconds.unwrap() > 1_700_000_000.0);
}

#[tokio::test]
async fn a_reload_says_what_it_changes_in_terms_of_access() {
    let upstream = Upstream::start().await;
    let yaml = |access: &str, scopes: &str| {
        let route = format!("name: data, path: /data, access: {access}");
        config(upstream.address, &[&route], "").replace("scopes: [read:data]}\n", &format!("scopes: [{scopes}]}}\n"))
    };
    let gateway = Gateway::start(&yaml("{scopes: [read:data]}", "read:data"));
    let client = Client::new(&gateway);
    gateway.reloads(&yaml("public", "read:data, more"));
    let line = gateway.audit_line(|line| line["gateway.event"] == "reload" && line["gateway.access_wider"] == 2);
    let text = "wider: client `other` may now have `more`; wider: route `data` (/data) becomes public";
    assert_eq!((&line["gateway.access_narrower"], &line["gateway.access_changes"]), (&json!(0), &json!(text)));
    assert!(gateway.log_line("the configuration was reloaded").contains("becomes public"));
    assert_eq!(client.get("/data").await.status, 200);
    // The next reload is compared with the one before, not with the start.
    gateway.reloads(&yaml("{scopes: [write:data]}", "read:data, more"));
    let line = gateway.audit_line(|line| line["gateway.event"] == "reload" && line["gateway.access_narrower"] == 1);
    let text = "narrower: route `data` (/data) is no longer public: it needs the scope `write:data`";
    assert_eq!((&line["gateway.access_wider"], &line["gateway.access_changes"]), (&json!(0), &json!(text)));
}

#[tokio::test]
async fn two_signals_at_once_are_one_reload_or_two() {
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &["path: /open, access: public"], "");
    let gateway = Gateway::start(&yaml);
    for number in 0..10 {
        gateway.replace_file(&format!("{yaml}# {number}\n"));
        gateway.signal("HUP");
        gateway.signal("HUP");
    }
    gateway.reloads(&(yaml + "# the last\n"));
    let done = metric(&gateway, "portcullis_config_reloads_total", &["ok"]).await.unwrap();
    // On a busy machine all signals may have come during the first reload, whose end was waited for.
    assert!((1.0..=21.0).contains(&done), "{done}");
    assert_eq!(Client::new(&gateway).get("/open").await.status, 200);
}

#[tokio::test]
async fn a_removed_client_gets_no_token_and_its_tokens_end() {
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &[DATA], "");
    let gateway = Gateway::start(&yaml);
    let client = Client::new(&gateway);
    let [app, other] = [client.granted("app", SECRET, "").await, client.granted("other", SECRET, "").await];
    for token in [&app, &other] {
        assert_eq!(client.get_with("/data", token).await.status, 200);
    }
    let only_app: String =
        yaml.lines().filter(|line| !line.contains("other:")).map(|line| format!("{line}\n")).collect();
    gateway.reloads(&only_app);
    assert_eq!(client.get_with("/data", &app).await.status, 200);
    assert_eq!(client.get_with("/data", &other).await.status, 401);
    assert_eq!(client.token("other", SECRET, "").await.status, 401);
    gateway.reloads(&yaml);
    assert_eq!(client.get_with("/data", &other).await.status, 200);
}

#[tokio::test]
async fn a_revocation_in_the_file_counts_at_once_and_ends_with_it() {
    let upstream = Upstream::start().await;
    let yaml = config(upstream.address, &[DATA], "");
    let gateway = Gateway::start(&yaml);
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    assert_eq!(client.get_with("/data", &token).await.status, 200);
    gateway.reloads(&(yaml.clone() + "revoked: [{client: app}]\n"));
    assert_eq!(client.get_with("/data", &token).await.status, 401);
    gateway.reloads(&yaml);
    assert_eq!(client.get_with("/data", &token).await.status, 200);
}

#[tokio::test]
async fn the_token_endpoint_can_be_added_and_removed() {
    let upstream = Upstream::start().await;
    let with = config(upstream.address, &[DATA], "");
    let without = config(upstream.address, &["path: /open, access: public"], "oauth:");
    let without = without.replace("\noauth:", "");
    let gateway = Gateway::start(&without);
    assert_eq!(Client::new(&gateway).get("/.well-known/jwks.json").await.status, 404);
    gateway.reloads(&with);
    let token = Client::new(&gateway).granted("app", SECRET, "").await;
    assert_eq!(Client::new(&gateway).get_with("/data", &token).await.status, 200);
    gateway.reloads(&without);
    assert_eq!(Client::new(&gateway).get("/.well-known/jwks.json").await.status, 404);
    gateway.reloads(&with);
    assert_eq!(Client::new(&gateway).get_with("/data", &token).await.status, 200, "the same keys");
}

#[tokio::test]
async fn a_proxy_that_is_trusted_no_more_is_not_believed() {
    let upstream = Upstream::start().await;
    let yaml = |proxies: &str| {
        let sections = format!("trusted_proxies: [{proxies}]\nlimits: {{in_flight: 100}}");
        config(upstream.address, &["name: all, path: /**, access: public, deny_from: [192.0.2.0/24]"], &sections)
    };
    let gateway = Gateway::start(&yaml("127.0.0.1"));
    let mut connection = Client::new(&gateway).connect().await;
    let forwarded = || with_header(request("GET", "/"), "x-forwarded-for", "192.0.2.7");
    assert_eq!(connection.send(forwarded()).await.status, 403);
    gateway.reloads(&yaml("198.51.100.1"));
    assert_eq!(connection.send(forwarded()).await.status, 200);
}

/// Requests go on during many reloads, over both protocols. The field and the body come from one configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_none_mixes_two_configurations() {
    let upstream = Upstream::start().await;
    let yaml = |number: usize| {
        let route = format!(
            "name: mixed, path: /mixed, access: public, respond: {{body: \"{number}\"}}, \
             response_headers: {{set: {{x-number: \"{number}\"}}}}"
        );
        config(upstream.address, &[&route, "name: up, path: /up, access: public"], "workers: 2")
    };
    let gateway = Gateway::start(&yaml(0));
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut callers = Vec::new();
    for client in gateway.both() {
        let done = std::sync::Arc::clone(&done);
        callers.push(tokio::spawn(async move {
            let mut connection = client.connect().await;
            let mut count = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let mixed = connection.send(request("GET", "/mixed")).await;
                assert_eq!((mixed.status, mixed.header("x-number").as_bytes()), (200, &mixed.body[..]));
                assert_eq!(connection.send(request("GET", "/up")).await.status, 200);
                count += 2;
            }
            count
        }));
    }
    for number in 1..30 {
        gateway.reloads(&yaml(number));
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut total = 0;
    for caller in callers {
        total += caller.await.unwrap();
    }
    let counted = metric(&gateway, "portcullis_auth_decisions_total", &["http_route=\"mixed\""]).await;
    assert_eq!(counted, Some(f64::from(total) / 2.0), "no count is lost");
}
