//! A past decision is walked again under the revision that made it, and stands beside what was recorded.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::client::{request, with_token};
use crate::support::command::{Finished, run};
use crate::support::gateway::program;
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const READERS: &str = "name: data, path: /data, access: {scopes: [read:data]}";
const WRITERS: &str = "name: data, path: /data, access: {scopes: [write:data]}";
const LOG: &str = "audit: {file: audit.jsonl, refusals_per_second: unlimited}";

fn explained(folder: &Path, id: &str, arguments: &[&str]) -> Finished {
    run(program(folder).args(["explain", "--request-id", id]).args(arguments))
}

fn explained_json(folder: &Path, id: &str) -> (Option<i32>, Value) {
    let said = explained(folder, id, &["--format", "json"]);
    (said.code, serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")))
}

/// The source and the outcome of a check.
#[track_caller]
fn check<'w>(said: &'w Value, subject: &str) -> (&'w str, &'w str) {
    let way = said["way"].as_array().unwrap();
    let seen = way.iter().find(|seen| seen["subject"] == subject).unwrap_or_else(|| panic!("no {subject}: {said:#}"));
    (seen["source"].as_str().unwrap(), seen["outcome"].as_str().unwrap())
}

struct Requests {
    /// Its end removes the folder.
    _gateway: Gateway,
    folder: std::path::PathBuf,
    allowed: String,
    anonymous: String,
    forged: String,
    refused: String,
}

/// Requests under one rule, and one after a reload to another. Then the gateway has stopped.
async fn requests() -> Requests {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::start(&config(upstream.address, &[READERS], LOG));
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "scope=read:data").await;
    let mut connection = client.connect().await;
    let mut ids = Vec::new();
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    let sent = [
        with_token(request("GET", "/data"), &token),
        request("GET", "/data"),
        with_token(request("GET", "/data"), &forged),
    ];
    for (sent, status) in sent.into_iter().zip([200, 401, 401]) {
        let answer = connection.send(sent).await;
        assert_eq!(answer.status, status);
        ids.push(answer.request_id().to_owned());
    }
    gateway.reloads(&config(upstream.address, &[WRITERS], LOG));
    let answer = connection.send(with_token(request("GET", "/data"), &token)).await;
    assert_eq!(answer.status, 403);
    gateway.stop();
    let [allowed, anonymous, forged] = ids.try_into().unwrap();
    let refused = answer.request_id().to_owned();
    Requests { folder: gateway.folder.clone(), _gateway: gateway, allowed, anonymous, forged, refused }
}

#[tokio::test]
async fn a_past_decision_is_walked_under_its_own_revision() {
    let Requests { folder, allowed, anonymous, forged, refused, _gateway } = requests().await;
    let (code, said) = explained_json(&folder, &allowed);
    assert_eq!(
        (code, &said["comparison"], &said["walked"]["route"]),
        (Some(0), &json!("same"), &json!("data")),
        "{said:#}"
    );
    assert_eq!(check(&said, "scope read:data"), ("walked", "passed"));
    assert_eq!((check(&said, "client"), check(&said, "key id")), (("recorded", "noted"), ("recorded", "noted")));
    let (code, said) = explained_json(&folder, &refused);
    assert_eq!((code, &said["comparison"]), (Some(1), &json!("same")), "{said:#}");
    assert_eq!(
        (check(&said, "scope write:data"), &said["recorded"]["reason"]),
        (("walked", "failed"), &json!("missing_scope"))
    );
    let (code, said) = explained_json(&folder, &anonymous);
    assert_eq!(
        (code, &said["comparison"], check(&said, "credentials")),
        (Some(1), &json!("same"), ("walked", "failed"))
    );
    let (code, said) = explained_json(&folder, &forged);
    assert_eq!((code, &said["comparison"]), (Some(1), &json!("not_comparable")), "{said:#}");
    assert_eq!(check(&said, "bad_signature"), ("recorded", "failed"));
    assert_eq!((check(&said, "route").0, said["walked"]["route"].as_str()), ("walked", Some("data")));
    assert!(said["way"].as_array().unwrap().iter().all(|seen| seen["subject"] != "credentials"), "{said:#}");
}

#[tokio::test]
async fn the_text_marks_each_check_as_walked_or_recorded() {
    let Requests { folder, refused, _gateway, .. } = requests().await;
    let said = explained(&folder, &refused, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in [
        "/data from 127.0.0.1\n",
        "by the configuration ",
        "walked      ✓ route                   data (/data)",
        "recorded    ",
        "walked      ✗ scope write:data        not held  wanted all_of",
        "\nrecorded  deny missing_scope, answered 403, found read:data, wanted write:data\n",
        "\nwalked    deny missing_scope\n",
        "the walk gives the recorded decision\n",
    ] {
        assert!(said.stdout.contains(part), "{part}\n{}", said.stdout);
    }
    let log = folder.join("audit.jsonl");
    fs::rename(&log, folder.join("moved.jsonl")).unwrap();
    let moved = explained(&folder, &refused, &["--audit", "moved.jsonl"]);
    assert_eq!((moved.code, moved.stdout), (Some(1), said.stdout));
    let said = explained(&folder, "0123456789", &["--audit", "moved.jsonl"]);
    assert!(said.code == Some(2) && said.stderr.contains("has the request id `0123456789`"), "{said:?}");
}

#[tokio::test]
async fn a_decision_of_a_lost_revision_is_shown_as_recorded() {
    let Requests { folder, allowed, refused, _gateway, .. } = requests().await;
    fs::remove_dir_all(folder.join("state/configs")).unwrap();
    let (code, said) = explained_json(&folder, &allowed);
    assert_eq!((code, &said["walked"], &said["comparison"]), (Some(0), &Value::Null, &json!("not_comparable")));
    assert_eq!(check(&said, "route"), ("recorded", "noted"));
    assert!(said["remarks"].to_string().contains("is not kept"), "{said:#}");
    // The configuration file is still that of the other.
    let (code, said) = explained_json(&folder, &refused);
    assert_eq!((code, &said["comparison"]), (Some(1), &json!("same")), "{said:#}");
}

#[tokio::test]
async fn a_walk_that_differs_says_so() {
    let Requests { folder, allowed, _gateway, .. } = requests().await;
    let kept = fs::read_dir(folder.join("state/configs")).unwrap().map(|entry| entry.unwrap().path());
    for path in kept {
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("path: /data", "path: /other")).unwrap();
    }
    let said = explained(&folder, &allowed, &[]);
    assert!(said.code == Some(0) && said.stdout.contains("the walk differs from the record"), "{said:?}");
}
