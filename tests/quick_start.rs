//! The first five minutes: a token, a 200, a 401, a 403 that names the missing scope, a 429 that says when to come
//! back, and all five in the audit log.

use crate::support::client::{request, with_token};
use crate::support::{Client, Gateway, Upstream};

const SECRET: &str = "correct horse battery staple";

fn config(upstream: &Upstream) -> String {
    format!(
        r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:0
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}]}}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256}}
  clients:
    app: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
upstreams: {{legacy: "http://{}"}}
routes:
  - {{name: read, path: /data, methods: [GET], upstream: legacy, access: {{scopes: [read:data]}}}}
  - {{name: write, path: /data, methods: [POST], upstream: legacy, access: {{scopes: [write:data]}}}}
  - {{name: ping, path: /ping, upstream: legacy, access: public, rate_limits: [{{rate: 1/h, per: address}}]}}
audit: {{file: "-"}}
"#,
        upstream.address
    )
}

#[tokio::test]
async fn a_newcomer_sees_all_five_answers_and_their_audit_lines() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&config(&upstream));
    let client = Client::new(&gateway);

    let token = client.granted("app", SECRET, "").await;
    let allowed = client.get_with("/data", &token).await;
    let nobody = client.get("/data").await;
    let forbidden = client.send(with_token(request("POST", "/data"), &token)).await;
    client.get("/ping").await;
    let limited = client.get("/ping").await;

    assert_eq!([&allowed, &nobody, &forbidden, &limited].map(|answer| answer.status), [200, 401, 403, 429]);
    assert_eq!(nobody.header("www-authenticate"), "Bearer realm=\"portcullis\"");
    assert!(forbidden.header("www-authenticate").contains("scope=\"write:data\""));
    assert!((3590..=3600).contains(&limited.header("retry-after").parse().unwrap()));

    let issued = gateway.audit_line(|line| line["gateway.decision"] == "issue");
    assert_eq!(issued["oauth.client_id"], "app");
    assert_eq!(gateway.audit_of(allowed.request_id())["gateway.decision"], "allow");
    for (answer, reason) in [(nobody, "no_token"), (forbidden, "missing_scope"), (limited, "rate_limited")] {
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &reason.into()));
    }
    assert!(!gateway.audit_text().contains(&token) && !gateway.audit_text().contains(SECRET));
}
