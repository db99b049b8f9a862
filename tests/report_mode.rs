//! Report mode: until a date a route lets pass what its rule refuses, and records it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::client::{basic, request, with_header, with_token};
use crate::support::command::run;
use crate::support::gateway::{folder, program};
use crate::support::upstream::Seen;
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

/// An RFC 3339 time so many seconds from now.
fn in_seconds(seconds: i64) -> String {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap().to_string()
}

const DAY: i64 = 24 * 3600;

/// A gateway whose one route wants `write:data` and only reports.
async fn reporting(keys: &str, sections: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let until = in_seconds(DAY);
    let route = format!("path: /a, name: a, access: {{scopes: [write:data]}}, report_until: {until}{keys}");
    let gateway = Gateway::start(&config(upstream.address, &[&route], sections));
    (upstream, gateway)
}

/// The audit line of an answer has this report.
fn is_reported(gateway: &Gateway, answer: &Answer, reason: &str) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let line = gateway.audit_of(answer.request_id());
    let found = [&line["gateway.decision"], &line["gateway.reason"], &line["gateway.would_deny"]];
    assert_eq!(found, [&json!("would_deny"), &json!(reason), &json!(reason)], "{line}");
    line
}

fn header<'s>(seen: &'s Seen, name: &str) -> &'s str {
    seen.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// The token with another signature.
fn wrongly_signed(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{first}{}", &signature[1..])
}

#[tokio::test]
async fn a_refusal_by_the_rule_passes_and_is_recorded() {
    let (upstream, gateway) = reporting("", "").await;
    for client in gateway.both() {
        let answer = client.get("/a").await;
        is_reported(&gateway, &answer, "no_token");
        let narrow = client.granted("app", SECRET, "scope=read:data").await;
        let answer = client.get_with("/a", &narrow).await;
        let line = is_reported(&gateway, &answer, "missing_scope");
        assert_eq!((&line["oauth.client_id"], &line["gateway.wanted"]), (&json!("app"), &json!("write:data")));
        for (broken, reason) in [(format!("{narrow}x"), "malformed"), (wrongly_signed(&narrow), "bad_signature")] {
            let answer = client.get_with("/a", &broken).await;
            let line = is_reported(&gateway, &answer, reason);
            assert_eq!((&line["oauth.client_id"], &line["oauth.verified"]), (&json!("app"), &json!(false)));
        }
        let seen = upstream.seen();
        let identities: Vec<&str> = seen.iter().map(|seen| header(seen, "x-auth-client-id")).collect();
        assert_eq!(identities, ["", "app", "", ""], "only a verified caller is named");
        assert!(seen.iter().all(|seen| header(seen, "authorization").is_empty()), "our tokens are not forwarded");
        upstream.forget();
        let wide = client.granted("app", SECRET, "").await;
        let answer = client.get_with("/a", &wide).await;
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], line.get("gateway.would_deny")), (&json!("allow"), None));
        upstream.forget();
    }
}

#[tokio::test]
async fn a_token_that_is_not_valid_never_reaches_the_service() {
    let (upstream, gateway) = reporting(", forward_token: true", "").await;
    let client = Client::new(&gateway);
    let valid = client.granted("app", SECRET, "scope=read:data").await;
    let (forged, long) = (wrongly_signed(&valid), format!("{valid}{}", "A".repeat(9000)));
    for credentials in [
        format!("Bearer {forged}"),
        format!("Bearer {forged} x"),
        format!("Bearer {forged}, realm=x"),
        format!("DPoP {forged}"),
        format!("Bearer\t{forged}"),
        format!("Bearer {long}"),
        forged.clone(),
    ] {
        let answer = client.send(with_header(request("GET", "/a"), "authorization", &credentials)).await;
        assert_eq!((answer.status, header(&upstream.only(), "authorization")), (200, ""), "{credentials}");
        upstream.forget();
    }
    let answer = client.get_with("/a", &valid).await;
    is_reported(&gateway, &answer, "missing_scope");
    assert_eq!(header(&upstream.only(), "authorization"), format!("Bearer {valid}"), "the caller is verified");
}

#[tokio::test]
async fn credentials_of_nobody_known_go_on_to_the_service() {
    let (upstream, gateway) = reporting("", "").await;
    let client = Client::new(&gateway);
    let login = basic("user", "password");
    for (credentials, reason) in [
        (login.to_str().unwrap(), "no_token"),
        ("Bearer 8f14e45fceea167a5a36dedd4bea2543", "malformed"),
        (
            "Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2Vsc2V3aGVyZS5leGFtcGxlIiwiZXhwIjoxfQ.AAAA",
            "unknown_issuer",
        ),
    ] {
        let answer = client.send(with_header(request("GET", "/a"), "authorization", credentials)).await;
        is_reported(&gateway, &answer, reason);
        assert_eq!(upstream.only().header("authorization"), credentials);
        upstream.forget();
    }
}

#[tokio::test]
async fn everything_structural_holds_while_a_route_reports() {
    let keys = ", deny_from: [127.0.0.2], rate_limits: [{rate: 1/h, burst: 3, per: address}]";
    let (upstream, gateway) = reporting(keys, "").await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "scope=read:data").await;
    let two = with_token(with_token(request("GET", "/a"), &token), &token);
    let mut two = two;
    two.headers_mut().append("authorization", "Bearer other".parse().unwrap());
    assert_eq!(client.send(two).await.status, 400, "two credentials");
    assert_eq!(client.get("/a/../a%2f").await.status, 400, "an ambiguous path");
    assert_eq!(client.get("/a").await.status, 200);
    assert_eq!(client.get("/a").await.status, 200);
    let answer = client.get("/a").await;
    assert_eq!(answer.status, 429, "a limit by address");
    assert_eq!(gateway.audit_of(answer.request_id())["gateway.decision"], "deny");
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_limit_by_caller_is_reported_only() {
    let (upstream, gateway) = reporting(", rate_limits: [{rate: 1/h, burst: 1, per: client}]", "").await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    assert_eq!(client.get_with("/a", &token).await.status, 200);
    let answer = client.get_with("/a", &token).await;
    is_reported(&gateway, &answer, "rate_limited");
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn the_rule_holds_by_itself_once_the_time_is_over() {
    let upstream = Upstream::start().await;
    let route = format!("path: /a, name: a, access: {{}}, report_until: {}", in_seconds(3));
    let gateway = Gateway::start(&config(upstream.address, &[&route], ""));
    let client = Client::new(&gateway);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let answer = client.get("/a").await;
        let line = gateway.audit_of(answer.request_id());
        match answer.status {
            200 => assert_eq!(line["gateway.decision"], "would_deny"),
            401 => {
                break assert_eq!(
                    (&line["gateway.decision"], &line["gateway.reason"]),
                    (&json!("deny"), &json!("no_token"))
                );
            }
            other => panic!("{other}"),
        }
        assert!(std::time::Instant::now() < deadline, "the rule is never enforced");
    }
}

#[tokio::test]
async fn the_report_lists_who_would_be_refused() {
    let (_upstream, gateway) = reporting("", "audit: {file: audit.jsonl}").await;
    let client = Client::new(&gateway);
    let narrow = client.granted("app", SECRET, "scope=read:data").await;
    for _ in 0..3 {
        assert_eq!(client.get_with("/a", &narrow).await.status, 200);
    }
    assert_eq!(client.get("/a").await.status, 200);
    let metrics = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("portcullis_would_deny_total{http_route=\"a\",reason=\"missing_scope\"} 3"), "{metrics}");
    let report = || run(program(&gateway.folder).args(["report", "--format", "json"]));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let counted = loop {
        let report: Value = serde_json::from_str(&report().stdout).unwrap();
        let rows = report["would_deny"].as_array().unwrap().clone();
        if rows.iter().map(|row| row["count"].as_u64().unwrap()).sum::<u64>() == 4 {
            break rows;
        }
        assert!(std::time::Instant::now() < deadline, "{rows:?}");
    };
    let named =
        |row: &Value| [row["caller"].clone(), row["route"].clone(), row["reason"].clone(), row["count"].clone()];
    assert_eq!(
        counted.iter().map(named).collect::<Vec<_>>(),
        [
            [json!("app"), json!("a"), json!("missing_scope"), json!(3)],
            [json!("127.0.0.1"), json!("a"), json!("no_token"), json!(1)],
        ]
    );
    let text = run(program(&gateway.folder).arg("report")).stdout;
    assert!(text.contains("4 requests of 2 callers would be refused") && text.contains("missing_scope"), "{text}");
}

#[test]
fn a_wrong_time_is_an_error_with_its_place() {
    for (keys, expected) in [
        (format!("access: {{}}, report_until: {}", in_seconds(91 * DAY)), "at most 90 days ahead"),
        (format!("access: public, report_until: {}", in_seconds(DAY)), "this route is public"),
        ("access: {}, report_until: tomorrow".to_owned(), "RFC 3339"),
    ] {
        let folder = folder();
        let yaml = config("127.0.0.1:1".parse().unwrap(), &[&format!("path: /a, {keys}")], "");
        std::fs::write(folder.join("gateway.yaml"), yaml).unwrap();
        let checked = run(program(&folder).arg("check"));
        assert_eq!(checked.code, Some(2), "{keys}");
        assert!(checked.stderr.contains(expected) && checked.stderr.contains("gateway.yaml:"), "{}", checked.stderr);
    }
}

#[test]
fn check_warns_near_the_end() {
    for (seconds, expected) in [(DAY, "the rule of this route is enforced"), (-DAY, "the time is over")] {
        let folder = folder();
        let route = format!("path: /a, access: {{}}, report_until: {}", in_seconds(seconds));
        std::fs::write(folder.join("gateway.yaml"), config("127.0.0.1:1".parse().unwrap(), &[&route], "")).unwrap();
        let checked = run(program(&folder).arg("check"));
        assert!(checked.code == Some(0) && checked.stderr.contains(expected), "{checked:?}");
    }
}
