//! Every decision has its line, with the documented names; no line or log holds a secret.

use serde_json::{Value, json};

use crate::support::client::{request, with_header, with_token};
use crate::support::issuer::{Key, Published, now};
use crate::support::wire::Wire;
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Issuer, Upstream};

const ROUTES: [&str; 4] = [
    "name: open, path: /open/**, access: public",
    "name: read, path: /data, access: {scopes: [read:data]}",
    "name: write, path: /write, access: {scopes: [write:data]}",
    "name: narrow, path: /narrow, access: public, rate_limits: [{rate: 1/h, per: address}]",
];

async fn world() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(upstream.address, &ROUTES);
    (upstream, gateway)
}

/// The line says all of this.
#[track_caller]
fn says(line: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} in {line}");
    }
}

#[tokio::test]
async fn an_allowed_request_is_recorded_with_caller_route_and_outcome() {
    let (_upstream, gateway) = world().await;
    for client in gateway.both() {
        let token = client.granted("app", SECRET, "scope=read:data").await;
        let answer = client.send(with_token(request("GET", "/data?secret=1"), &token)).await;
        let line = gateway.audit_of(answer.request_id());
        says(
            &line,
            &json!({
                "gateway.decision": "allow", "http.request.method": "GET", "server.address": "localhost",
                "url.path": "/data", "http.route": "read", "http.response.status_code": 200,
                "client.address": "127.0.0.1", "oauth.client_id": "app", "oauth.issuer": "self", "oauth.scope": "read:data", "oauth.subject": "app",
            }),
        );
        let issued =
            gateway.audit_line(|other| other["oauth.jti"] == line["oauth.jti"] && other["gateway.decision"] == "issue");
        says(
            &issued,
            &json!({
                "http.request.method": "POST", "url.path": "/oauth/token", "http.response.status_code": 200,
                "oauth.client_id": "app", "oauth.issuer": "self", "oauth.scope": "read:data",
                "oauth.kid": line["oauth.kid"], "gateway.config": line["gateway.config"],
            }),
        );
        assert_eq!(
            (line["oauth.kid"].as_str().unwrap().len(), line["gateway.request_id"].as_str().unwrap().len()),
            (43, 32)
        );
        assert!(line["oauth.jti"].is_string() && line["gateway.config"].is_string() && line["seq"].is_u64());
        assert!(line.get("gateway.reason").is_none() && line.get("oauth.verified").is_none(), "{line}");
        let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
        assert!(time.as_second().abs_diff(now().cast_signed()) < 60, "{line}");
    }
}

#[tokio::test]
async fn every_refusal_has_its_line_and_reason() {
    let (upstream, gateway) = world().await;
    for client in gateway.both() {
        let read = client.granted("app", SECRET, "scope=read:data").await;
        let _ = client.get("/narrow").await;
        let refusals = [
            (request("GET", "/data"), "deny", "no_token", Some("read")),
            (with_token(request("GET", "/data"), "x"), "deny", "malformed", Some("read")),
            (with_token(request("GET", "/write"), &read), "deny", "missing_scope", Some("write")),
            (request("GET", "/none"), "deny", "no_route", None),
            (request("GET", "/narrow"), "deny", "rate_limited", Some("narrow")),
            (request("FOO", "/open/x"), "deny", "method_not_allowed", None),
            (with_header(request("GET", "/open/x"), "x_auth_subject", "x"), "deny", "bad_request", Some("open")),
        ];
        for (refused, decision, reason, route) in refusals {
            let (method, path) = (refused.method().to_string(), refused.uri().path().to_owned());
            let answer = client.send(refused).await;
            let line = gateway.audit_of(answer.request_id());
            says(
                &line,
                &json!({
                    "gateway.decision": decision, "gateway.reason": reason, "http.request.method": method, "url.path": path,
                    "http.route": route, "http.response.status_code": answer.status,
                }),
            );
        }
        let wrong = client.token("app", "wrong", "").await;
        let wide = client.token("other", SECRET, "scope=write:data").await;
        for (answer, reason, client, verified) in
            [(wrong, "invalid_client", "app", json!(false)), (wide, "invalid_scope", "other", Value::Null)]
        {
            let expected = json!({
                "gateway.decision": "deny", "gateway.reason": reason, "oauth.client_id": client, "oauth.verified": verified,
            });
            says(&gateway.audit_of(answer.request_id()), &expected);
        }
    }
    let allowed = upstream.seen().len();
    assert_eq!(allowed, 1, "only the first request for /narrow");
}

#[tokio::test]
async fn the_caller_that_a_refused_token_claims_is_marked_unverified() {
    let key = Key::new("k", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let upstream = Upstream::start().await;
    let issuers = format!(
        "issuers: {{corp: {{issuer: \"{0}\", jwks_uri: \"{0}/jwks\", audiences: [https://api.example.com]}}}}",
        issuer.issuer
    );
    let gateway = Gateway::start(&config(upstream.address, &ROUTES, &issuers));
    let client = Client::new(&gateway);
    let mut claims = issuer.claims();
    let good = client.get_with("/data", &key.sign(&claims)).await;
    let line = gateway.audit_of(good.request_id());
    says(
        &line,
        &json!({ "oauth.issuer": "corp", "oauth.client_id": "their-app", "oauth.kid": "k", "oauth.verified": null }),
    );
    claims["exp"] = json!(now() - 100);
    let expired = client.get_with("/data", &key.sign(&claims)).await;
    let line = gateway.audit_of(expired.request_id());
    says(
        &line,
        &json!({ "gateway.reason": "expired", "oauth.issuer": "corp", "oauth.client_id": "their-app", "oauth.verified": false }),
    );
    issuer.publish(Published::keys(&[]));
}

#[tokio::test]
async fn bytes_that_are_not_a_request_have_a_line_too() {
    let (_upstream, gateway) = world().await;
    for (count, text) in ["garbage\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"].iter().enumerate() {
        let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
        wire.send(text).await;
        wire.rest().await;
        let seen = std::cell::Cell::new(0);
        let line = gateway.audit_line(|line| {
            seen.set(seen.get() + usize::from(line["gateway.reason"] == "bad_request"));
            seen.get() == count + 1
        });
        says(&line, &json!({ "gateway.decision": "deny", "client.address": "127.0.0.1", "url.path": null }));
    }
    let mut wire = Wire::new(Client::new(&gateway).tls().await.unwrap());
    wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(40_000))).await;
    wire.rest().await;
    gateway.audit_line(|line| line["gateway.reason"] == "too_large");
}

#[tokio::test]
async fn lines_are_numbered_without_gaps_over_all_workers() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::open(upstream.address, "workers: 2");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let client = Client::new(&gateway);
        tasks.spawn(async move {
            let mut connection = client.connect().await;
            for _ in 0..20 {
                assert_eq!(connection.send(request("GET", "/x")).await.status, 200);
            }
        });
    }
    tasks.join_all().await;
    assert!(gateway.stop().success());
    gateway.audit_line(|line| line["gateway.event"] == "stop");
    let lines: Vec<Value> = gateway.audit_text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=203).collect::<Vec<_>>());
    assert_eq!((&lines[0]["gateway.event"], &lines[202]["gateway.event"]), (&"start".into(), &"stop".into()));
    assert!(lines.iter().all(|line| line["gateway.config"] == lines[0]["gateway.config"]));
    let ids: std::collections::HashSet<_> = lines.iter().map(|line| line["gateway.request_id"].to_string()).collect();
    assert_eq!(ids.len(), 201);
}

#[tokio::test]
async fn no_secret_and_no_token_is_in_any_line_log_metric_or_answer() {
    let upstream = Upstream::start().await;
    let folder = crate::support::gateway::folder();
    let yaml = config(upstream.address, &ROUTES, "");
    let mut gateway = Gateway::start_in(folder, &yaml, &[("PORTCULLIS_LOG", "debug")]);
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    let planted = "pl4nted-s3cret";
    let mut answers = Vec::new();
    for (path, authorization) in [
        ("/data", format!("Bearer {token}")),
        ("/data", format!("Bearer {}", &token[..token.len() - 2])),
        ("/data", format!("Bearer {planted}")),
        ("/data", format!("Basic {planted}")),
        ("/data", planted.to_owned()),
        ("/none?access_token=pl4nted-s3cret", format!("Bearer {token}")),
        ("/open/x?api_key=pl4nted-s3cret", format!("Bearer {token}")),
    ] {
        let cookie = with_header(request("GET", path), "cookie", "session=pl4nted-s3cret");
        answers.push(client.send(with_header(cookie, "authorization", &authorization)).await);
    }
    answers.push(client.token("app", planted, "").await);
    answers.push(client.token(planted, SECRET, "").await);
    answers.push(client.token("app", SECRET, "client_secret=pl4nted-s3cret").await);
    let metrics = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let signature = token.rsplit('.').next().unwrap().to_owned();
    for answer in &answers {
        gateway.audit_of(answer.request_id());
    }
    gateway.stop();
    let audit = gateway.audit_text();
    // The unverified name of an unknown client is recorded.
    let audit: String = audit.lines().filter(|line| !line.contains("invalid_client")).collect();
    let texts = [audit, gateway.log_text(), String::from_utf8(metrics.body.to_vec()).unwrap()];
    let answered: String = answers.iter().map(|answer| format!("{answer:?}")).collect();
    for text in texts.iter().chain([&answered]) {
        for secret in [planted, SECRET, &signature, "pl4nted"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test]
async fn no_value_that_a_client_sends_can_forge_a_second_line() {
    let key = Key::new("k", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let upstream = Upstream::start().await;
    let issuers = format!(
        "issuers: {{corp: {{issuer: \"{0}\", jwks_uri: \"{0}/jwks\", audiences: [https://api.example.com]}}}}",
        issuer.issuer
    );
    let routes = ["name: all, path: /**, access: {}"];
    let mut gateway = Gateway::start(&config(upstream.address, &routes, &issuers));
    let client = Client::new(&gateway);
    let forged = "\",\"gateway.decision\":\"allow\"}\n{\"seq\":0,\"forged\":true}\u{1b}[2J\u{2028}\u{202e}";
    let mut ids = Vec::new();
    for (claim, value) in [("sub", forged), ("azp", forged), ("scope", forged), ("jti", forged), ("iss", forged)] {
        let mut claims = issuer.claims();
        claims[claim] = json!(value);
        let named = with_header(with_token(request("GET", "/x"), &key.sign(&claims)), "user-agent", "a\u{e9}\u{2028}b");
        ids.push(client.send(named).await.request_id().to_owned());
    }
    let header = json!({ "typ": "JWT", "alg": "ES256", "kid": forged });
    ids.push(client.get_with("/x", &key.sign_with(&header, &issuer.claims())).await.request_id().to_owned());
    for path in ["/%22%2c%22forged%22:true%7d", "/%0a%7b%22forged%22:true%7d", "/%e2%80%a8%e2%80%ae", "/%1b%5b2J"] {
        ids.push(client.get(path).await.request_id().to_owned());
    }
    ids.push(client.get(&format!("/{}", "a".repeat(8000))).await.request_id().to_owned());
    for id in &ids {
        gateway.audit_of(id);
    }
    gateway.stop();
    gateway.audit_line(|line| line["gateway.event"] == "stop");
    let text = gateway.audit_text();
    // Besides, the start, the first signing key and the end.
    assert_eq!(text.lines().count(), ids.len() + 3);
    for line in text.lines() {
        let read: Value = serde_json::from_str(line).unwrap();
        assert!(read.get("forged").is_none() && line.len() < 8192, "{line}");
        assert!(!line.contains(['\u{1b}', '\u{2028}', '\u{202e}']), "{line:?}");
        assert_eq!(line.matches("\"gateway.decision\":").count(), usize::from(read.get("gateway.event").is_none()));
    }
    for line in gateway.log_text().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok() && !line.contains("forged"), "{line}");
    }
}
