//! The command: its callers, its output, and what it keeps to itself.

use std::fs;

use serde_json::{Value, json};

use crate::support::command::{Finished, run, run_with};
use crate::support::gateway::{folder, program};
use crate::support::issuer::Key;
use crate::support::proof::{Proof, thumbprint};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const ROUTES: [&str; 4] = [
    "path: '/items/{id}', name: item, methods: [GET], access: {scopes: [read:data, write:data]}",
    "path: /items/**, name: items, access: {scopes: {any_of: [read:data, write:data]}}, headers: {set: {X-Api-Key: hidden}}",
    "path: /far, name: far, access: public, allow_from: [192.0.2.0/24], rate_limits: [{rate: 5/s, per: address}]",
    "path: /old, name: old, access: public, respond: {status: 410}",
];

/// A folder with this configuration. No gateway runs.
fn world(sections: &str) -> std::path::PathBuf {
    let folder = folder();
    let upstreams =
        "upstreams: {legacy: {servers: [\"http://127.0.0.1:9\"], authorization: {bearer: service-secret-1}}}";
    let text = config("127.0.0.1:9".parse().unwrap(), &ROUTES, &format!("{upstreams}\n{sections}"));
    fs::write(folder.join("gateway.yaml"), text).unwrap();
    folder
}

fn explained(folder: &std::path::Path, arguments: &[&str]) -> Finished {
    run(program(folder).arg("explain").args(arguments))
}

fn explained_json(folder: &std::path::Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let said = explained(folder, &[arguments, &["--format", "json"]].concat());
    (said.code, serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")))
}

/// The outcome of a check, and what it found.
fn check<'w>(said: &'w Value, subject: &str) -> (&'w str, &'w str) {
    let way = said["checks"].as_array().unwrap();
    let seen = way.iter().find(|seen| seen["subject"] == subject).unwrap_or_else(|| panic!("no {subject}: {said:#}"));
    (seen["outcome"].as_str().unwrap(), seen["found"].as_str().unwrap())
}

#[test]
fn each_scope_has_a_mark_of_its_own() {
    let folder = world("");
    let said = explained(&folder, &["GET", "/items/1", "--client", "app", "--scopes", "read:data"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in [
        "GET https://localhost/items/1 from 127.0.0.1",
        "✓ route                   item (/items/{id})",
        "not items               it is less specific than /items/{id}",
        "✓ scope read:data         held",
        "✗ scope write:data        not held  wanted all_of",
        "www-authenticate: Bearer realm=\"portcullis\", error=\"insufficient_scope\", scope=\"write:data\"",
        "\"error\":\"insufficient_scope\"",
        "refused 403 missing_scope: found read:data, wanted write:data",
    ] {
        assert!(said.stdout.contains(part), "{part}\n{}", said.stdout);
    }
    let said = explained(&folder, &["GET", "/items/1", "--client", "app"]);
    assert!(said.code == Some(0) && said.stdout.ends_with("\nallowed → legacy\n"), "{said:?}");
}

#[test]
fn the_request_to_the_service_is_shown_without_secrets() {
    let folder = world("");
    let (code, said) = explained_json(&folder, &["POST", "/items/a%20b/x?c=d", "--client", "app", "-H", "X-Mine: 1"]);
    assert_eq!((code, &said["decision"], &said["route"]), (Some(0), &json!("allowed"), &json!("items")), "{said:#}");
    let upstream = &said["upstream"];
    assert_eq!(upstream["request_line"], "POST /items/a%20b/x?c=d HTTP/1.1");
    for (name, value) in [
        ("x-auth-client-id", "app"),
        ("x-auth-scope", "read:data write:data"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-mine", "1"),
        ("x-api-key", "(set by the route)"),
        ("authorization", "(the credential of the upstream)"),
    ] {
        assert_eq!(upstream["fields"][name], json!([value]), "{name}: {upstream:#}");
    }
    assert!(!said.to_string().contains("hidden") && !said.to_string().contains("service-secret"), "{said}");
}

#[test]
fn a_refusal_names_the_check_that_failed() {
    let folder = world("");
    for (arguments, reason, subject, found) in [
        (&["GET", "/items/1"][..], "no_token", "credentials", "no Authorization"),
        (&["GET", "/a/../b"], "bad_request", "canonical form", "/a/../b"),
        (&["GET", "/nothing"], "no_route", "route", "none"),
        (&["GET", "/far"], "address_not_allowed", "address", "address 127.0.0.1"),
        (&["GET", "/far", "--from", "192.0.2.7", "-H", "Content-Length: x"], "bad_request", "HTTP/1.1", ""),
    ] {
        let (code, said) = explained_json(&folder, arguments);
        assert_eq!((code, said["reason"].as_str()), (Some(1), Some(reason)), "{arguments:?}: {said:#}");
        let (outcome, seen) = check(&said, subject);
        assert!(outcome == "failed" && seen.starts_with(found), "{arguments:?}: {seen}");
    }
    let (code, said) = explained_json(&folder, &["GET", "/far", "--from", "192.0.2.7"]);
    assert_eq!(
        (code, check(&said, "limit address")),
        (Some(0), ("passed", "counted for address 192.0.2.7")),
        "{said:#}"
    );
    let (code, said) = explained_json(&folder, &["GET", "/old"]);
    assert_eq!((code, &said["answer"]["status"], &said["decision"]), (Some(0), &json!(410), &json!("answered")));
    let (_, said) = explained_json(&folder, &["PUT", "/items/1"]);
    assert_eq!(check(&said, "not items").1, "it is less specific than /items/{id}");
    assert_eq!(said["reason"], "method_not_allowed", "{said:#}");
}

#[test]
fn an_unknown_caller_is_an_error_with_a_suggestion() {
    let folder = world("issuers: {corp: {issuer: 'https://id.example.com', audiences: [a]}}");
    for (arguments, expected) in [
        (["--client", "apq"], "unknown client `apq`, did you mean `app`?"),
        (["--issuer", "crop"], "unknown issuer `crop`, did you mean `corp`?"),
        (["--client", "other"], ""),
    ] {
        let said = explained(&folder, &[&["GET", "/items/1"][..], &arguments].concat());
        assert_eq!(said.code == Some(2), !expected.is_empty(), "{said:?}");
        assert!(said.stderr.contains(expected), "{said:?}");
    }
    for arguments in [
        &["GET", "https://u:secret-1@host/"][..],
        &["GET", "items"],
        &["GET", "/items", "-H", "Authorization: Bearer secret-1"],
        &["GET", "/items", "-H", "authorization: DPoP secret-1"],
        &["GET", "/items", "-H", "Authorization: secret-1"],
        &["GET", "/items", "-H", "Authorization Bearer secret-1"],
    ] {
        let said = explained(&folder, arguments);
        assert!(said.code == Some(2) && !said.stderr.contains("secret-1"), "{said:?}");
    }
}

#[test]
fn claims_are_judged_as_those_of_the_issuer() {
    let folder = world("issuers: {corp: {issuer: 'https://id.example.com', audiences: [a], algorithms: [RS256]}}");
    let claims = |claims: &Value| fs::write(folder.join("claims.json"), claims.to_string()).unwrap();
    let arguments = ["GET", "/items/1/2", "--issuer", "corp", "--claims", "claims.json"];
    claims(&json!({ "sub": "anna", "scope": "read:data" }));
    let (code, said) = explained_json(&folder, &arguments);
    assert_eq!((code, check(&said, "alg")), (Some(0), ("passed", "alg=RS256")), "{said:#}");
    assert_eq!(check(&said, "scope write:data").0, "noted");
    for (bad, reason, subject) in [
        (json!({ "sub": "anna", "aud": "other" }), "bad_audience", "aud"),
        (json!({ "sub": "anna", "exp": 1_700_000_000 }), "expired", "exp"),
        (json!({ "sub": "anna", "nbf": 4_000_000_000_u64 }), "not_yet_valid", "nbf"),
    ] {
        claims(&bad);
        let (code, said) = explained_json(&folder, &arguments);
        assert_eq!((code, &said["reason"], check(&said, subject).0), (Some(1), &json!(reason), "failed"), "{said:#}");
    }
}

#[test]
fn a_token_without_keys_on_this_machine_is_marked() {
    let key = Key::new("k1", "ES256");
    let token = key.sign(&json!({
        "iss": "https://id.example.com", "aud": "a", "sub": "anna", "scope": "read:data", "exp": 4_000_000_000_u64,
    }));
    let remote = "issuers: {corp: {issuer: 'https://id.example.com', audiences: [a]}}";
    let local = remote.replace("audiences", &format!("jwks: {{keys: [{}]}}, audiences", key.jwk()));
    let other = local.replace(&key.jwk().to_string(), &Key::new("k1", "ES256").jwk().to_string());
    for (sections, code, signature) in [(remote, 0, "not_checked"), (&*local, 0, "passed"), (&*other, 1, "failed")] {
        let folder = world(sections);
        let mut command = program(&folder);
        command.args(["explain", "GET", "/items/1/2", "--token-file", "-", "--format", "json"]);
        let said = run_with(&mut command, &token);
        let printed: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!((said.code, check(&printed, "signature").0), (Some(code), signature), "{printed:#}");
        let says_so = said.stderr.contains("signature not checked: no keys of issuer `corp` on this machine");
        assert_eq!(says_so, signature == "not_checked", "{said:?}");
        assert!(!said.stdout.contains(&token), "{said:?}");
    }
}

#[test]
fn a_bound_token_needs_its_proof_or_is_said_to_have_it() {
    let (issuer, client) = (Key::new("k1", "ES256"), Key::new("c1", "ES256"));
    let entry = "issuers: {corp: {issuer: 'https://id.example.com', audiences: [a]";
    let local = format!("{entry}, jwks: {{keys: [{}]}}}}}}", issuer.jwk());
    let token = |key: &Key, way: &str| {
        key.sign(&json!({
            "iss": "https://id.example.com", "aud": "a", "sub": "anna", "scope": "read:data", "exp": 4_000_000_000_u64,
            "cnf": { way: thumbprint(&client) },
        }))
    };
    let (by_key, by_certificate) = (token(&issuer, "jkt"), token(&issuer, "x5t#S256"));
    let url = "https://localhost/items/1/2";
    let proof = format!("DPoP: {}", Proof::new(&client, "GET", url).of(&by_key).sign());
    let foreign = format!("DPoP: {}", Proof::new(&issuer, "GET", url).of(&by_key).sign());
    let other = token(&Key::new("k1", "ES256"), "jkt");
    let (assumed, connection) = ("a DPoP proof is assumed", "a connection with the certificate");
    for (sections, token, fields, code, reason, signature, remark) in [
        (&local, &by_key, None, 0, None, "passed", assumed),
        (&local, &by_key, Some(&proof), 0, None, "passed", ""),
        (&local, &by_key, Some(&foreign), 1, Some("invalid_proof"), "passed", ""),
        (&local, &by_certificate, None, 0, None, "passed", connection),
        (&local, &other, None, 1, Some("bad_signature"), "failed", ""),
        (&format!("{entry}}}}}"), &by_key, None, 0, None, "not_checked", assumed),
        (&format!("{entry}}}}}"), &by_key, Some(&foreign), 0, None, "not_checked", "the given proof is not checked"),
    ] {
        let folder = world(sections);
        let mut command = program(&folder);
        command.args(["explain", "GET", url, "--token-file", "-", "--format", "json"]);
        command.args(fields.into_iter().flat_map(|field| ["-H", field]));
        let said = run_with(&mut command, token);
        let printed: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!((said.code, printed["reason"].as_str()), (Some(code), reason), "{printed:#}");
        assert_eq!(check(&printed, "signature").0, signature, "{printed:#}");
        let remarks = printed["remarks"].to_string();
        assert!(remarks.contains(remark) && (!remark.is_empty() || !remarks.contains("assumed")), "{remarks}");
        fs::remove_dir_all(folder).unwrap();
    }
}

#[tokio::test]
async fn a_token_of_ours_is_checked_with_the_keys_on_disk() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&config(upstream.address, &["path: /x, access: {}, name: x"], ""));
    let token = Client::new(&gateway).granted("app", SECRET, "").await;
    let explain = |token: &str| {
        let mut command = program(&gateway.folder);
        command.args(["explain", "GET", "/x", "--token-file", "-", "--format", "json"]);
        let said = run_with(&mut command, token);
        (said.code, serde_json::from_str::<Value>(&said.stdout).unwrap())
    };
    let (code, said) = explain(&token);
    assert_eq!((code, check(&said, "signature").0), (Some(0), "passed"), "{said:#}");
    let said = run_with(program(&gateway.folder).args(["token", "revoke"]), &token);
    assert_eq!(said.code, Some(0), "{said:?}");
    let (code, said) = explain(&token);
    assert_eq!((code, &said["reason"], check(&said, "revocations").0), (Some(1), &json!("revoked"), "failed"));
    assert!(upstream.seen().is_empty());
}
