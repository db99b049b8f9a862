//! Access to routes: a good token is not enough where the route asks for more, and the 403 names exactly what is
//! missing.

mod callers;
mod identity;

use serde_json::Value;

use crate::support::issuer::Key;
use crate::support::upstream::Seen;
use crate::support::{Answer, Client, Gateway, Issuer, Upstream};

/// A gateway with a route for every kind of rule, two clients of its own, and the issuers `corp` and `partner`.
struct World {
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
    corp: Issuer,
    partner: Issuer,
    key: Key,
}

const APP_SECRET: &str = "the secret of app, not short";
const JOB_SECRET: &str = "the secret of job, not short";

impl World {
    async fn start() -> Self {
        let key = Key::new("k1", "ES256");
        let (corp, partner, upstream) =
            (Issuer::start(&[&key]).await, Issuer::start(&[&key]).await, Upstream::start().await);
        let gateway = Gateway::start(&config(&corp, &partner, &upstream));
        for name in ["corp", "partner"] {
            gateway.log_line(&format!("fetched the JWK Set\",\"issuer.name\":\"{name}\""));
        }
        Self { client: Client::new(&gateway), gateway, upstream, corp, partner, key }
    }

    /// A token of `corp` with these claims besides the usual ones.
    fn token(&self, claims: &Value) -> String {
        let mut all = self.corp.claims();
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        self.key.sign(&all)
    }

    async fn allows(&self, path: &str, token: &str) -> Seen {
        let answer = self.client.get_with(path, token).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.decision"]), (200, &"allow".into()), "{path}: {line}");
        self.upstream.seen().pop().unwrap()
    }

    /// Refused though the token is good; the audit log knows whose it is.
    async fn forbids(&self, path: &str, token: &str, reason: &str) -> Answer {
        let before = self.upstream.seen().len();
        let answer = self.client.get_with(path, token).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.reason"]), (403, &reason.into()), "{path}: {line}");
        assert_eq!(line["gateway.decision"], "deny");
        assert!(line["oauth.subject"].is_string() && line.get("oauth.verified").is_none(), "{line}");
        assert_eq!(self.upstream.seen().len(), before, "it reached the upstream");
        answer
    }

    /// Refused for its scopes, and told which are missing.
    async fn misses(&self, path: &str, scope: &str, missing: &str, description: &str) {
        let token = self.token(&serde_json::json!({ "scope": scope }));
        let answer = self.forbids(path, &token, "missing_scope").await;
        let challenge = format!("Bearer realm=\"portcullis\", error=\"insufficient_scope\", scope=\"{missing}\"");
        assert_eq!(answer.header("www-authenticate"), challenge);
        let expected = serde_json::json!({
            "error": "insufficient_scope", "error_description": description, "request_id": answer.request_id(),
        });
        assert_eq!(answer.json(), expected);
    }

    /// Refused for anything else, of which nothing is told.
    async fn denies(&self, path: &str, token: &str, reason: &str) {
        let answer = self.forbids(path, token, reason).await;
        assert!(!answer.headers.contains_key("www-authenticate"), "{answer:?}");
        let expected = serde_json::json!({
            "error": "access_denied", "error_description": "this caller may not use this resource",
            "request_id": answer.request_id(),
        });
        assert_eq!(answer.json(), expected);
    }
}

fn config(corp: &Issuer, partner: &Issuer, upstream: &Upstream) -> String {
    let (corp, partner, upstream) = (&corp.issuer, &partner.issuer, upstream.address);
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
  audiences: [https://api.example.com, https://billing.example.com]
  signing_keys: {{algorithm: ES256}}
  clients:
    app: {{secrets: [{{value: "{APP_SECRET}"}}], scopes: [read:data], claims: {{department: research}}}}
    job: {{secrets: [{{value: "{JOB_SECRET}"}}], scopes: [read:data, write:data]}}
issuers:
  corp: {{issuer: "{corp}", audiences: [https://api.example.com]}}
  partner: {{issuer: "{partner}", audiences: [https://api.example.com]}}
upstreams: {{legacy: "http://{upstream}"}}
routes:
  - {{path: /everyone, upstream: legacy, access: {{}}}}
  - {{path: /all, upstream: legacy, access: {{scopes: [a, b]}}}}
  - {{path: /any, upstream: legacy, access: {{scopes: {{any_of: [a, b]}}}}}}
  - {{path: /both, upstream: legacy, access: {{scopes: {{all_of: [a, b], any_of: [c, d]}}}}}}
  - {{path: /department, upstream: legacy, access: {{claims: {{department: research}}}}}}
  - {{path: /team, upstream: legacy, access: {{claims: {{team: [red, blue]}}}}}}
  - {{path: /floor, upstream: legacy, access: {{claims: {{floor: 7}}}}}}
  - {{path: /staff, upstream: legacy, access: {{claims: {{staff: true}}}}}}
  - {{path: /nested, upstream: legacy, access: {{claims: {{org.unit.name: research}}}}}}
  - {{path: /literal, upstream: legacy, access: {{claims: {{"https://example.com/role": admin}}}}}}
  - {{path: /several, upstream: legacy, access: {{claims: {{department: research, floor: 7}}, scopes: [a]}}}}
  - {{path: /repo, upstream: legacy, access: {{claims: {{sub: {{glob: "repo:acme/*:ref:refs/heads/main"}}}}}}}}
  - {{path: /repos, upstream: legacy, access: {{claims: {{repos: [plain, 7, {{glob: "acme/*"}}, {{exact: "acme/*/*"}}]}}}}}}
  - {{path: /app, upstream: legacy, access: {{clients: [app]}}}}
  - {{path: /their-app, upstream: legacy, access: {{clients: [corp/their-app]}}}}
  - {{path: /either, upstream: legacy, access: {{clients: [job, corp/their-app]}}}}
  - {{path: /self, upstream: legacy, access: {{issuers: [self]}}}}
  - {{path: /strangers, upstream: legacy, access: {{issuers: [corp, partner]}}}}
  - {{path: /billing, upstream: legacy, access: {{audiences: [https://billing.example.com]}}}}
  - {{path: /admin, upstream: legacy, access: {{clients: [job], claims: {{staff: true}}, scopes: [admin]}}}}
  - {{path: /token, upstream: legacy, access: {{}}, forward_token: true}}
  - {{path: /public, upstream: legacy, access: public}}
audit: {{file: "-"}}
"#
    )
}
