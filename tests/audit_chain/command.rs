//! `portcullis audit`: a change of a log is named with its place; lines are found and shown safely.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use super::*;
use crate::support::client::{with_header, with_token};

/// A log with these paths asked for, and closed in order.
async fn written() -> Home {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    for client in gateway.both() {
        let token = client.granted("app", SECRET, "scope=read:data").await;
        for path in ["/data", "/open", "/none"] {
            client.send(with_token(request("GET", path), &token)).await;
        }
        client.send(with_header(request("GET", "/data"), "user-agent", "x")).await;
    }
    stop(gateway).await;
    home
}

#[tokio::test]
async fn verify_names_the_first_bad_line_and_gives_two_verdicts() {
    let home = written().await;
    let said = home.run(&["audit", "verify"]);
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{said:?}");
    let rows: Vec<_> = said.stdout.lines().map(str::trim_start).collect();
    assert!(rows[0].starts_with("integrity  intact  13 lines, 1 to 13"), "{rows:?}");
    assert!(rows[1].starts_with("completeness  complete  ") && rows[1].ends_with(" of line 13"), "{rows:?}");
    let whole = fs::read_to_string(home.log()).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        change(&mut lines);
        lines.concat()
    };
    for (text, first, verdicts) in [
        (
            with(&|lines| drop(lines.remove(4))),
            "audit.jsonl:5: line 5 is missing before this one",
            ["BROKEN", "INCOMPLETE"],
        ),
        (
            with(&|lines| lines[6] = lines[6].replacen("20", "21", 1)),
            "audit.jsonl:7: this line or the one before it was changed",
            ["BROKEN", "complete"],
        ),
        (with(&|lines| lines.swap(2, 3)), "audit.jsonl:3: line 3 is missing before this one", ["BROKEN", "INCOMPLETE"]),
        (
            with(&|lines| lines.truncate(9)),
            "lines 10 to 13 are missing: a checkpoint covers them",
            ["intact", "INCOMPLETE"],
        ),
        (
            "a file\nof something else\n".to_owned(),
            "audit.jsonl:1: this is not a line of the log",
            ["BROKEN", "INCOMPLETE"],
        ),
    ] {
        fs::write(home.log(), text).unwrap();
        let said = home.run(&["audit", "verify", "audit.jsonl", "--key", "state/audit-key.pub"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stdout.starts_with(first), "{first}: {said:?}");
        for (name, verdict) in ["integrity", "completeness"].iter().zip(verdicts) {
            assert!(said.stdout.contains(&format!("{name}  {verdict}")), "{verdict}: {said:?}");
        }
    }
}

#[tokio::test]
async fn a_log_rewritten_with_another_key_is_found_by_the_kept_key() {
    let (home, forged) = (written().await, written().await);
    let key = home.verified().0["checkpoints"]["key"].as_str().unwrap().to_owned();
    for name in ["audit.jsonl", "audit.jsonl.checkpoints", "state/audit-key.pub"] {
        fs::copy(forged.0.join(name), home.0.join(name)).unwrap();
    }
    assert_eq!(home.run(&["audit", "verify"]).code, Some(0), "it agrees with itself");
    let said = home.run(&["audit", "verify", "--key", &key]);
    assert_eq!(said.code, Some(1));
    assert!(said.stdout.contains("signed by another key") && said.stdout.contains("BROKEN"), "{said:?}");
    let with_hyphen = format!("-{}", "A".repeat(42));
    assert_eq!(home.run(&["audit", "verify", "--key", &with_hyphen]).code, Some(1), "a key can begin with a hyphen");
}

#[tokio::test]
async fn query_finds_lines_by_every_filter() {
    let home = written().await;
    let all = home.lines();
    let id = all[2]["gateway.request_id"].as_str().unwrap();
    let time = all[6]["time"].as_str().unwrap();
    for (filter, count) in [
        (&["--client", "app", "--decision", "issue"][..], 2),
        (&["--route", "data"], 4),
        (&["--reason", "no_token"], 2),
        (&["--decision", "deny"], 4),
        (&["--path", "/none"], 2),
        (&["--request-id", id], 1),
        (&["--client", "self/app", "--route", "data"], 2),
        (&["--client", "other"], 0),
        (&["--since", "1h"], 13),
        (&["--until", "1h"], 0),
        (&["--until", time, "--since", "1h"], all.iter().filter(|line| line["time"].as_str() <= Some(time)).count()),
    ] {
        let said = home.run(&[&["audit", "query", "--format", "json"], filter].concat());
        assert_eq!((said.code, said.stdout.lines().count()), (Some(0), count), "{filter:?}: {said:?}");
        assert!(said.stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }
    let said = home.run(&["audit", "query", "--since", "yesterday"]);
    assert_eq!((said.code, said.stderr.contains("write 2026-01-31T12:00:00Z, or 15m")), (Some(2), true));
}

#[tokio::test]
async fn tail_shows_the_last_lines_and_follows_into_a_new_file() {
    let home = Home::new();
    let (_upstream, gateway) = home.start("file: audit.jsonl").await;
    let client = Client::new(&gateway);
    client.granted("app", SECRET, "").await;
    let said = home.run(&["audit", "tail", "-n", "1"]);
    let rows: Vec<_> = said.stdout.lines().collect();
    assert!(rows.len() == 2 && rows[0].starts_with("TIME") && rows[1].contains("POST /oauth/token"), "{said:?}");
    let mut command = program(&home.0);
    let mut following =
        command.args(["audit", "tail", "-f", "--decision", "issue"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(following.stdout.take().unwrap()).lines();
    assert!(shown.next().unwrap().unwrap().starts_with("TIME"));
    assert!(shown.next().unwrap().unwrap().contains("issue"));
    fs::rename(home.log(), home.0.join("audit.jsonl.1")).unwrap();
    let answer = client.token("app", SECRET, "").await;
    assert!(shown.next().unwrap().unwrap().contains(answer.request_id()));
    following.kill().unwrap();
    following.wait().unwrap();
    stop(gateway).await;
}

#[tokio::test]
async fn a_table_moves_no_cursor() {
    let home = Home::new();
    let mut log = fs::File::create(home.log()).unwrap();
    let line = "{\"seq\":1,\"time\":\"t\",\"gateway.decision\":\"deny\",\"url.path\":\"/\\u001b[2J\\u202e\\n\",\"oauth.client_id\":\"a\\u001b]0;x\\u0007\"}";
    writeln!(log, "{line}").unwrap();
    writeln!(log, "{{\"seq\":2,\"gateway.event\":\"recovered\",\"gateway.cut\":\"\\u001b[2J\"}}").unwrap();
    for verb in ["tail", "query"] {
        let said = home.run(&["audit", verb, "audit.jsonl"]);
        assert!(!said.stdout.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{said:?}");
        assert_eq!(said.stdout.lines().count(), 3, "{said:?}");
    }
}
