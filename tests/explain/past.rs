//! A past decision is walked again under the revision that made it, and stands beside what was recorded.

use std::fs;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::client::{request, with_token};
use crate::support::command::{Finished, run};
use crate::support::gateway::{folder, program};
use crate::support::issuer::{Key, now};
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
    let way = said["checks"].as_array().unwrap();
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
    assert_eq!(
        (check(&said, "scope read:data"), &said["request"]["host"]),
        (("walked", "passed"), &json!("localhost"))
    );
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
    assert!(said["checks"].as_array().unwrap().iter().all(|seen| seen["subject"] != "credentials"), "{said:#}");
}

#[tokio::test]
async fn the_text_marks_each_check_as_walked_or_recorded() {
    let Requests { folder, refused, _gateway, .. } = requests().await;
    let said = explained(&folder, &refused, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in [
        "GET localhost/data from 127.0.0.1\n",
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

#[tokio::test]
async fn callers_of_other_issuers_are_walked_by_what_is_recorded() {
    let (upstream, key) = (Upstream::start().await, Key::new("k1", "ES256"));
    let routes = [
        "name: scoped, path: /scoped, access: {scopes: [api:read], clients: [corp/app, static/job]}",
        "name: claimed, path: /claimed, access: {claims: {tier: gold}}",
    ];
    let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, b"a-hand-made-token-of-2019"));
    let sections = format!(
        "issuers: {{corp: {{issuer: 'https://id.example.com', audiences: [a], scope_claim: roles, jwks: {{keys: [{}]}}}}}}\n\
         static_tokens: {{job: {{hash: 'sha256:{hash}', scopes: [api:read], until: 2099-01-01T00:00:00Z}}}}",
        key.jwk()
    );
    let folder = folder();
    fs::write(folder.join("gateway.yaml"), config(upstream.address, &routes, &sections)).unwrap();
    let mut command = program(&folder);
    command.arg("run");
    let gateway = Gateway::spawn(folder, command, true);
    let client = Client::new(&gateway);
    let claims = |tier: &str| {
        let (iat, exp) = (now(), now() + 300);
        json!({ "iss": "https://id.example.com", "aud": "a", "iat": iat, "exp": exp, "sub": "s", "client_id": "app",
                "roles": "api:read", "tier": tier })
    };
    let (gold, lead) = (key.sign(&claims("gold")), key.sign(&claims("lead")));
    let log = gateway.folder.join("seen.jsonl");
    for (path, token, status, comparison, code) in [
        ("/scoped", &*gold, 200, "same", 0),
        ("/scoped", "a-hand-made-token-of-2019", 200, "same", 0),
        ("/claimed", &gold, 200, "not_comparable", 0),
        ("/claimed", &lead, 403, "not_comparable", 1),
    ] {
        let answer = client.send(with_token(request("GET", path), token)).await;
        assert_eq!(answer.status, status, "{path}");
        gateway.audit_of(answer.request_id());
        fs::write(&log, gateway.audit_text() + "\n").unwrap();
        let said = explained(&gateway.folder, answer.request_id(), &["--audit", "seen.jsonl", "--format", "json"]);
        let printed: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!((said.code, &printed["comparison"]), (Some(code), &json!(comparison)), "{path}: {printed:#}");
        let text = fs::read_dir(gateway.folder.join("state/configs")).unwrap().next().unwrap().unwrap();
        assert!(!fs::read_to_string(text.path()).unwrap().contains(&hash), "a hash is masked");
        if path == "/scoped" {
            assert_eq!(check(&printed, "scope api:read"), ("walked", "passed"), "{printed:#}");
        } else if code == 1 {
            assert_eq!(check(&printed, "claim_mismatch"), ("recorded", "failed"), "{printed:#}");
        }
    }
}

#[tokio::test]
async fn a_refusal_for_want_of_a_binding_is_shown_as_recorded() {
    let upstream = Upstream::start().await;
    let bound = "name: data, path: /data, access: {bound: dpop}";
    let mut gateway = Gateway::start(&config(upstream.address, &[bound], LOG));
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "scope=read:data").await;
    let answer = client.get_with("/data", &token).await;
    assert_eq!(answer.status, 401);
    gateway.stop();
    let (code, said) = explained_json(&gateway.folder, answer.request_id());
    assert_eq!((code, check(&said, "not_bound")), (Some(1), ("recorded", "failed")), "{said:#}");
}
