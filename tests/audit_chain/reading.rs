//! `audit tail` and `audit query`: the files that they read, the note on an empty result, and the table.

use super::completeness::rotated;
use super::*;
use crate::support::client::with_token;

#[tokio::test]
async fn query_names_no_gap_where_rotation_has_removed_the_lines() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl, rotate: {size: 8KiB, keep: 2}").await;
    let mut connection = Client::new(&gateway).connect().await;
    for _ in 0..8 {
        for _ in 0..15 {
            assert_eq!(connection.send(request("GET", "/open")).await.status, 200);
        }
        Client::new(&gateway).granted("app", SECRET, "").await;
    }
    stop(gateway).await;
    home.is_sound();
    assert!(home.verified().0["first"].as_u64().unwrap() > 1);
    let said = home.run(&["audit", "query", "--decision", "issue"]);
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{said:?}");
}

#[tokio::test]
async fn tail_shows_lines_of_rotated_files_too() {
    let home = rotated().await;
    let (all, current) = (home.run(&["audit", "query", "--format", "json"]), home.lines().len());
    let lines: Vec<&str> = all.stdout.lines().collect();
    let count = current + 5;
    let said = home.run(&["audit", "tail", "-n", &count.to_string(), "--format", "json"]);
    let shown: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(shown, lines[lines.len() - count..]);
}

#[tokio::test]
async fn an_empty_result_is_reported_and_an_unknown_name_is_an_error() {
    let home = rotated().await;
    for verb in ["query", "tail"] {
        let said = home.run(&["audit", verb, "--client", "nobody"]);
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{said:?}");
        assert!(said.stderr.starts_with("unknown client `nobody` (known: `app`, `other`); no line"), "{said:?}");
        let said = home.run(&["audit", verb, "--client", "corp/app"]);
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{said:?}");
        assert!(said.stderr.starts_with("unknown issuer `corp` (known: `self`); no line"), "{said:?}");
        let said = home.run(&["audit", verb, "--route", "dta"]);
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{said:?}");
        assert!(said.stderr.starts_with("unknown route `dta`"), "{said:?}");
        // A known name is no error, whether the log has it or not.
        let said = home.run(&["audit", verb, "--client", "other", "--until", "2026-01-01T00:00:00Z"]);
        assert_eq!((said.code, &*said.stdout), (Some(0), ""), "{said:?}");
        assert!(said.stderr.contains("no line matches"), "{said:?}");
        let said = home.run(&["audit", verb, "--reason", "missing_scop"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.stderr.contains("did you mean `missing_scope`?"), "{said:?}");
        let said = home.run(&["audit", verb, "--event", "key_mad"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.stderr.contains("did you mean `key_made`?"), "{said:?}");
    }
    let starts = home.run(&["audit", "query", "--event", "start", "--format", "json"]);
    assert_eq!((starts.code, starts.stdout.lines().count()), (Some(0), 1), "{starts:?}");
}

#[tokio::test]
async fn a_log_that_is_not_there_is_named() {
    let home = Home::new();
    fs::write(home.0.join("gateway.yaml"), config(([127, 0, 0, 1], 1).into(), &ROUTES, "audit: {file: audit.jsonl}"))
        .unwrap();
    for verb in ["verify", "tail", "query"] {
        let said = home.run(&["audit", verb]);
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{said:?}");
        assert!(said.stderr.contains("there is no log at `audit.jsonl`"), "{said:?}");
        assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    }
}

#[tokio::test]
async fn table_columns_have_headings_and_are_aligned() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    let answer = client.send(with_token(request("GET", "/data"), &token)).await;
    client.send(request("GET", "/none")).await;
    stop(gateway).await;
    let said = home.run(&["audit", "query"]);
    let rows: Vec<&str> = said.stdout.lines().collect();
    let column = |heading: &str| rows[0].find(heading).unwrap_or_else(|| panic!("{heading}: {}", rows[0]));
    let row = rows.iter().find(|row| row.contains(answer.request_id())).unwrap();
    for (heading, value) in [
        ("DECISION", "allow"),
        ("STATUS", "200"),
        ("CLIENT", "app"),
        ("ROUTE", "data"),
        ("REQUEST ID", answer.request_id()),
        ("METHOD AND PATH", "GET /data"),
    ] {
        assert!(row[column(heading)..].starts_with(value), "{heading}: {row}");
    }
    let of_token = rows.iter().find(|row| row.contains("/oauth/token")).unwrap();
    assert!(of_token[column("ROUTE")..].starts_with("(token) "), "{of_token}");
    assert!(rows.iter().all(|row| row.trim_end() == *row), "{rows:?}");
}

#[tokio::test]
async fn rows_of_refusals_say_why_and_which_names_are_not_proven() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "scope=read:data").await;
    client.send(with_token(request("GET", "/write"), &token)).await;
    client.token("app", "wrong", "").await;
    client.send(request("GET", "/data//1")).await;
    stop(gateway).await;
    let said = home.run(&["audit", "query", "--decision", "deny"]);
    let rows: Vec<&str> = said.stdout.lines().skip(1).collect();
    let [missing, wrong, ambiguous] = rows[..] else { panic!("{said:?}") };
    assert!(missing.ends_with("  GET /write  found read:data, wanted write:data"), "{missing}");
    assert!(wrong.contains("  app (claimed)  ") && !missing.contains("(claimed)"), "{said:?}");
    assert!(ambiguous.contains("  bad_request  ") && ambiguous.ends_with("  rule empty_segment"), "{ambiguous}");
}

#[tokio::test]
async fn checkpoints_of_an_unknown_key_are_named_once() {
    let home = rotated().await;
    let (one, two) = (Home::new(), Home::new());
    for other in [&one, &two] {
        let (_upstream, gateway) = other.start("file: audit.jsonl").await;
        stop(gateway).await;
    }
    let log = home.log().display().to_string();
    let key = one.0.join("state/audit-key.pub").display().to_string();
    let said = home.run(&["audit", "verify", "--key", &key, &log]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.stdout.matches("another key").count(), 1, "{said:?}");
    assert!(said.stdout.contains("if it is the key of one of your instances, add it with --key"), "{said:?}");
    let own = home.0.join("state/audit-key.pub").display().to_string();
    let said = home.run(&["audit", "verify", "--from", "1", "--key", &own, "--key", &key]);
    assert_eq!((said.code, said.stdout.matches(" key  ").count()), (Some(0), 1), "{said:?}");
    let said = home.run(&["audit", "verify", "--key", "aLN6"]);
    assert!(said.code == Some(2) && said.stderr.contains("`aLN6` is neither a public key nor a file"), "{said:?}");
}
