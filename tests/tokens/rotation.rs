//! Secrets come and go while their client is served: each is good in its own time, and nobody learns more than that.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::authentication::said;
use super::{CONFIG, Endpoint, GRANT, OTHER_SECRET, SECOND_SECRET, SECRET, by_basic, form};
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::issuer::now;
use crate::support::{Client, Gateway};

const PAST: &str = "2026-01-01T00:00:00Z";
const FAR: &str = "2125-01-01T00:00:00+01:00";

/// With these secrets of `app`, each `{…}` on a line of its own.
fn with_secrets(secrets: &[&str]) -> String {
    let list: String = secrets.iter().map(|secret| format!("\n        - {secret}")).collect();
    let usual = r#"[{value: "correct horse battery staple"}, {value: "incorrect zebra accumulator paperclip"}]"#;
    let yaml = CONFIG.replace(&format!(" {usual}"), &list) + "admin: {address: 127.0.0.1:0}\n";
    assert!(!yaml.contains(usual));
    yaml
}

/// A secret with these times.
fn secret(secret: &str, times: &str) -> String {
    format!("{{value: \"{secret}\"{times}}}")
}

fn rotate(folder: &Path, arguments: &[&str]) -> Finished {
    run(program(folder).args(["client", "rotate"]).args(arguments).env("APP_SECRET", OTHER_SECRET))
}

#[tokio::test]
async fn a_secret_is_good_in_its_time_only() {
    for (times, good) in [
        (format!(", expires_at: {FAR}"), true),
        (format!(", not_before: {PAST}"), true),
        (format!(", not_before: \"{PAST}\", expires_at: {FAR}"), true),
        (format!(", expires_at: {PAST}"), false),
        (format!(", not_before: {FAR}"), false),
    ] {
        let secrets = [secret(SECRET, &times), secret(SECOND_SECRET, "")];
        let endpoint = Endpoint::configured(&with_secrets(&secrets.each_ref().map(String::as_str)));
        let asked = by_basic(form(GRANT), "app", SECRET);
        if good {
            endpoint.grants("app", asked).await;
        } else {
            endpoint.refuses(asked, 401, "invalid_client", "invalid_client").await;
        }
        endpoint.grants("app", by_basic(form(GRANT), "app", SECOND_SECRET)).await;
    }
}

#[tokio::test]
async fn expired_and_future_secrets_are_answered_like_wrong_ones() {
    let secrets =
        [secret(SECRET, &format!(", expires_at: {PAST}")), secret(SECOND_SECRET, &format!(", not_before: {FAR}"))];
    let endpoint = Endpoint::configured(&with_secrets(&secrets.each_ref().map(String::as_str)));
    let mut answers = Vec::new();
    for (id, text) in [("app", SECRET), ("app", SECOND_SECRET), ("app", OTHER_SECRET), ("nobody", SECRET)] {
        let asked = by_basic(form(GRANT), id, text);
        answers.push(said(&endpoint.refuses(asked, 401, "invalid_client", "invalid_client").await));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn an_expired_secret_of_argon2id_is_a_wrong_one() {
    let hash = crate::support::command::run_with(program(&folder()).args(["client", "hash"]), SECRET).stdout;
    let hashed = |times: &str| format!("{{hash: '{}'{times}}}", hash.trim_end());
    let endpoint = Endpoint::configured(&with_secrets(&[&hashed(&format!(", expires_at: {PAST}"))]));
    for _ in 0..2 {
        let asked = by_basic(form(GRANT), "app", SECRET);
        endpoint.refuses(asked, 401, "invalid_client", "invalid_client").await;
    }
    let endpoint = Endpoint::configured(&with_secrets(&[&hashed(&format!(", expires_at: {FAR}"))]));
    for _ in 0..2 {
        endpoint.grants("app", by_basic(form(GRANT), "app", SECRET)).await;
        let wrong = by_basic(form(GRANT), "app", OTHER_SECRET);
        endpoint.refuses(wrong, 401, "invalid_client", "invalid_client").await;
    }
}

#[tokio::test]
async fn a_secret_expires_while_the_gateway_runs() {
    // The file wants whole seconds, and the program has yet to start.
    let end = now() + 3;
    let time = run(std::process::Command::new("date").args(["-u", "-d", &format!("@{end}"), "+%Y-%m-%dT%H:%M:%SZ"]));
    let times = format!(", expires_at: {}", time.stdout.trim_end());
    let endpoint = Endpoint::configured(&with_secrets(&[&secret(SECRET, &times)]));
    let mut granted = 0;
    loop {
        let asked_at = now();
        let answer = endpoint.client.send(by_basic(form(GRANT), "app", SECRET)).await;
        match answer.status {
            200 => granted += 1,
            status => {
                assert_eq!((status, now() >= end), (401, true), "{answer:?}");
                break;
            }
        }
        assert!(asked_at <= end, "an expired secret is good");
    }
    assert!(granted > 0 || now() > end, "it was never good");
}

async fn last_used(gateway: &Gateway, client: &str, secret: usize) -> Option<f64> {
    let page = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let series =
        format!("portcullis_client_secret_last_used_timestamp_seconds{{client=\"{client}\",secret=\"{secret}\"}} ");
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(!text.contains("sha256") && !text.contains(SECRET), "{text}");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

#[tokio::test]
async fn metrics_say_which_secret_was_last_used_and_when() {
    let yaml = with_secrets(&[&secret(SECRET, ""), &secret(SECOND_SECRET, "")]).replace("workers: 1", "workers: 2");
    let endpoint = Endpoint::configured(&yaml);
    let used = async |secret| last_used(&endpoint.gateway, "app", secret).await;
    assert_eq!((used(1).await, used(2).await), (None, None));
    let before = now() as f64;
    endpoint.grants("app", by_basic(form(GRANT), "app", SECOND_SECRET)).await;
    endpoint.refuses(by_basic(form(GRANT), "app", OTHER_SECRET), 401, "invalid_client", "invalid_client").await;
    assert!((before..=now() as f64).contains(&used(2).await.unwrap()));
    assert_eq!(used(1).await, None, "a secret that nobody has used has no time");
    // By several connections, and so by both workers.
    for _ in 0..8 {
        endpoint.grants("app", by_basic(form(GRANT), "app", SECRET)).await;
    }
    assert!(used(1).await >= used(2).await);
    assert_eq!(last_used(&endpoint.gateway, "other", 1).await, None);
}

#[tokio::test]
async fn check_and_run_warn_of_secrets_that_end_soon_or_have_ended() {
    let soon = run(std::process::Command::new("date").args(["-u", "-d", "+73 hours", "+%Y-%m-%dT%H:%M:%SZ"])).stdout;
    let later = run(std::process::Command::new("date").args(["-u", "-d", "+15 days", "+%Y-%m-%dT%H:%M:%SZ"])).stdout;
    let secrets = [
        secret(SECRET, &format!(", expires_at: {}", soon.trim_end())),
        secret(SECOND_SECRET, &format!(", expires_at: {PAST}")),
        secret(SECOND_SECRET, &format!(", expires_at: {}", later.trim_end())),
    ];
    let yaml = with_secrets(&secrets.each_ref().map(String::as_str)).replace(
        r#"other: {secrets: [{value: "another client's own secret"}]"#,
        &format!("other: {{secrets: [{}]", secret(OTHER_SECRET, &format!(", expires_at: {PAST}"))),
    );
    let expected = [
        format!("gateway.yaml:16:63: secret 1 of `app` expires at {}, in 3 days [ending-secret]", soon.trim_end()),
        "gateway.yaml:17:72: secret 2 of `app` expired at 2026-01-01T00:00:00Z: remove it [ending-secret]".to_owned(),
        "gateway.yaml:22:5: every secret of `other` has expired: it gets no tokens [ending-secret]".to_owned(),
    ];
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), &yaml).unwrap();
    let checked = run(program(&folder).arg("check"));
    let warnings: String = expected.iter().map(|warning| format!("warning: {warning}\n")).collect();
    assert_eq!((checked.code, checked.stderr), (Some(0), warnings));
    let checked = run(program(&folder).args(["check", "--format", "json"]));
    let found: Value = serde_json::from_str(&checked.stdout).unwrap();
    let places = found["findings"].as_array().unwrap().iter().map(|warning| {
        let text = |name: &str| warning[name].as_str().unwrap();
        format!("{}:{}:{}: {} [{}]", text("file"), warning["line"], warning["column"], text("message"), text("lint"))
    });
    assert_eq!(places.collect::<Vec<_>>(), expected);
    let gateway = Gateway::start_in(folder, &yaml, &[]);
    for warning in &expected {
        let line = gateway.log_line(warning);
        assert!(line.contains("\"WARN\""), "{line}");
    }
}

#[tokio::test]
async fn a_client_changes_over_to_a_new_secret_without_downtime() {
    let place = folder();
    let yaml = with_secrets(&["{value: \"${APP_SECRET}\"}"]);
    fs::write(place.join("gateway.yaml"), &yaml).unwrap();
    let said = rotate(&place, &["app", "--overlap", "72h"]);
    assert_eq!((said.code, fs::read_to_string(place.join("gateway.yaml")).unwrap()), (Some(0), yaml.clone()));
    let (new, list) = said.stdout.split_once('\n').unwrap();
    assert!(new.len() == 46 && new.starts_with("gw_") && !list.contains(new) && !said.stderr.contains(new));
    assert!(said.stderr.contains("shown only once") && said.stderr.contains("The old secrets end at "));

    let list = list.strip_prefix("    \"app\":\n").unwrap().trim_end();
    let changed = yaml.replace("      secrets:\n        - {value: \"${APP_SECRET}\"}", list);
    assert_ne!(changed, yaml);
    let gateway = Gateway::start_in(place, &changed, &[("APP_SECRET", OTHER_SECRET)]);
    let client = Client::new(&gateway);
    assert_eq!(client.token("app", OTHER_SECRET, "").await.status, 200);
    assert_eq!(client.token("app", new, "").await.status, 200);
    assert!(last_used(&gateway, "app", 1).await.is_some() && last_used(&gateway, "app", 2).await.is_some());
    let warning = gateway.log_line("secret 1 of `app` expires at ");
    assert!(warning.contains("in 2 days") || warning.contains("in 3 days"), "{warning}");
}

#[test]
fn rotate_keeps_earlier_expiries_and_shows_no_secret() {
    let place = folder();
    let hash = "sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let yaml = with_secrets(&[
        &secret(SECRET, ""),
        &format!("{{value: \"${{APP_SECRET}}\", not_before: {PAST}, expires_at: '2026-02-01T00:00:00+01:00'}}"),
        &format!("{{hash: {hash}, expires_at: {FAR}}}"),
        "{value: \"x ${APP_SECRET}\"}",
        &format!("{{value: \"${{APP_SECRET}}\", not_before: {FAR}}}"),
    ]);
    fs::write(place.join("gateway.yaml"), &yaml).unwrap();
    let said = rotate(&place, &["app", "--overlap", "1d"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let end = said.stderr.split("The old secrets end at ").nth(1).unwrap().split(';').next().unwrap();
    let new = said.stdout.lines().last().unwrap();
    assert!(new.starts_with("        - hash: \"sha256:"), "{new}");
    let expected = format!(
        "    \"app\":
      secrets:
        - value: …  # keep the secret of line 16, which is not shown here
          expires_at: {end}
        - value: \"${{APP_SECRET}}\"
          not_before: {PAST}
          expires_at: '2026-02-01T00:00:00+01:00'
        - hash: {hash}
          expires_at: {end}
        - value: …  # keep the secret of line 19, which is not shown here
          expires_at: {end}
        - value: \"${{APP_SECRET}}\"
          not_before: {FAR}
{new}
"
    );
    assert_eq!(said.stdout.split_once('\n').unwrap().1, expected);

    let said = rotate(&place, &["app", "--format", "json"]);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &found["client"], said.stderr.as_str()), (Some(0), &"app".into(), ""));
    let secrets = found["secrets"].as_array().unwrap();
    assert_eq!((secrets.len(), &secrets[0]["value"], &secrets[0]["line"]), (6, &Value::Null, &16.into()));
    assert_eq!(secrets[1]["expires_at"], "2026-02-01T00:00:00+01:00");
    assert_eq!((&secrets[2]["hash"], &secrets[2]["expires_at"]), (&hash.into(), &found["old_secrets_expire_at"]));
    assert!(found["secret"].as_str().unwrap().starts_with("gw_"));
    for told in [SECRET, OTHER_SECRET] {
        assert!(!said.stdout.contains(told) && !expected.contains(told));
    }
    let said = rotate(&place, &["app", "--overlap", "0s"]);
    assert_eq!(
        (said.code, said.stdout.matches("hash:").count(), said.stdout.lines().count()),
        (Some(0), 1, 4),
        "{said:?}"
    );
    assert!(said.stderr.contains("portcullis token revoke --client app"), "{said:?}");
    assert_eq!(fs::read_to_string(place.join("gateway.yaml")).unwrap(), yaml);
    fs::remove_dir_all(place).unwrap();
}

#[test]
fn rotating_an_unknown_client_or_secret_is_wrong_usage() {
    let place = folder();
    fs::write(place.join("gateway.yaml"), CONFIG).unwrap();
    for (arguments, hint) in [
        (&["othre"][..], "unknown client `othre`, did you mean `other`?"),
        (&["x"], "unknown client `x` (known: `app`, `other`, `special`)"),
        (&["app", "--overlap", "3"], "expected a duration such as `30s`"),
        (&["app", "--overlap", "0x"], "expected a duration such as `30s`"),
        (&["app", "--config", "none.yaml"], "none.yaml: cannot read the file: no such file"),
        (&[], "<ID>"),
    ] {
        let said = rotate(&place, arguments);
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{arguments:?}");
        assert!(said.stderr.contains(hint), "{arguments:?}: {}", said.stderr);
    }
    fs::remove_dir_all(place).unwrap();
}

#[tokio::test]
async fn a_flood_of_wrong_secrets_keeps_no_remembered_client_out() {
    let hash = crate::support::command::run_with(program(&folder()).args(["client", "hash"]), SECRET).stdout;
    let slow = format!("{{hash: '{}'}}", hash.trim_end());
    // Of another client of the same address: during its own back-off a right secret would take turns with the flood.
    let yaml = with_secrets(&[&slow]).replace(&format!("{{value: \"{OTHER_SECRET}\"}}"), &slow);
    let endpoint = Endpoint::configured(&yaml);
    endpoint.grants("app", by_basic(form(GRANT), "app", SECRET)).await;
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let client = endpoint.client.clone();
        flood.spawn(async move { client.send(by_basic(form(GRANT), "other", OTHER_SECRET)).await });
    }
    let mut granted_meanwhile = 0;
    let mut statuses = Vec::new();
    while !flood.is_empty() {
        endpoint.grants("app", by_basic(form(GRANT), "app", SECRET)).await;
        granted_meanwhile += 1;
        while let Some(answer) = flood.try_join_next() {
            let answer = answer.unwrap();
            assert_eq!(answer.status != 401, answer.headers.contains_key("retry-after"), "{answer:?}");
            statuses.push(answer.status);
        }
    }
    assert!(granted_meanwhile > 1);
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(count(401) + count(429) + count(503), 40, "{statuses:?}");
    assert!(count(401) >= 4 && count(503) > 0, "{statuses:?}");
}
