//! Whose tokens are believed: every way for a token to be wrong has its reason in the audit log, the same 401 for its
//! bearer, and no way to the upstream.

mod callers;
mod claims;
mod compact;
mod credentials;
mod header;
mod memory;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use http::HeaderValue;
use serde_json::{Value, json};

use crate::support::client::request;
use crate::support::gateway::folder;
use crate::support::issuer::{Key, now};
use crate::support::upstream::Seen;
use crate::support::{Answer, Client, Gateway, Issuer, Upstream};

/// A gateway that trusts `corp`, which has keys of every algorithm, and `other`, which calls a key of its own by the
/// same name.
/// `own` is the gateway's own signing key.
struct World {
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
    corp: Issuer,
    other: Issuer,
    /// `corp`'s key of the id `k1`.
    key: Key,
    /// `other`'s key of the id `k1`.
    others_key: Key,
    own: Key,
}

const OWN_ISSUER: &str = "https://localhost:8443";
const API: &str = "https://api.example.com";
const BILLING: &str = "https://billing.example.com";

/// Takes access tokens of one algorithm only, and no second longer than they last.
const STRICT: (&str, &str) = ("strict", "types: [at+jwt], algorithms: [ES256], clock_skew: 0s");

/// The answer to every bad token, for any fault.
const CHALLENGE: &str = "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"the access token is invalid or expired\"";

impl World {
    async fn start() -> Self {
        Self::knowing(&[]).await
    }

    /// Besides, issuers `urn:NAME` that share `corp`'s keys but not its settings.
    async fn knowing(others: &[(&str, &str)]) -> Self {
        let (key, others_key) = (Key::new("k1", "ES256"), Key::new("k1", "ES256"));
        let (second, p384, ed) = (Key::new("k2", "ES256"), Key::new("p384", "ES384"), Key::new("ed", "EdDSA"));
        let (rsa, pss) = (Key::rsa(), Key::rsa().alias("pss", "PS256"));
        let corp = Issuer::start(&[&key, &second, &p384, &ed, rsa, &pss]).await;
        let (other, upstream) = (Issuer::start(&[&others_key]).await, Upstream::start().await);
        let folder = folder();
        let own = Key::new("", "ES256");
        keep(&own, &folder.join("state/keys"));
        let gateway = Gateway::start_in(folder, &config(&corp, &other, others, &upstream), &[]);
        for name in ["corp", "other"] {
            gateway.log_line(&format!("fetched the JWK Set\",\"issuer.name\":\"{name}\""));
        }
        let client = Client::new(&gateway);
        let published = client.get("/.well-known/jwks.json").await.json();
        let own = own.alias(published["keys"][0]["kid"].as_str().unwrap(), "ES256");
        Self { gateway, client, upstream, corp, other, key, others_key, own }
    }

    /// Good claims of `corp`, but for this one.
    fn claims(&self, name: &str, value: impl Into<Value>) -> Value {
        with(self.corp.claims(), name, value)
    }

    /// The claims of tokens of the gateway itself.
    fn own_claims(&self) -> Value {
        let now = now();
        json!({
            "iss": OWN_ISSUER, "sub": "app", "client_id": "app", "aud": API, "scope": "read:data",
            "iat": now, "nbf": now, "exp": now + 600, "jti": "1",
        })
    }

    /// The token is refused at `/any`, for this reason and without a word of it to its bearer.
    async fn refuses(&self, token: &str, reason: &str) {
        self.refuses_at("/any", token, reason).await;
    }

    async fn refuses_at(&self, path: &str, token: &str, reason: &str) {
        let answer = self.refuses_credentials(path, format!("Bearer {token}").as_bytes(), reason).await;
        assert_eq!(answer.header("www-authenticate"), CHALLENGE, "{token}");
        let (description, id) = ("the access token is invalid or expired", answer.request_id());
        let expected = format!(
            "{{\"error\":\"invalid_token\",\"error_description\":\"{description}\",\"request_id\":\"{id}\"}}\n"
        );
        assert_eq!(answer.body, expected, "{token}");
    }

    async fn refuses_credentials(&self, path: &str, credentials: &[u8], reason: &str) -> Answer {
        let shown = String::from_utf8_lossy(credentials);
        let before = self.upstream.seen().len();
        let answer = self.send(path, credentials).await;
        assert_eq!(answer.status, 401, "{shown} for {reason}: {answer:?}");
        assert_eq!((answer.header("content-type"), answer.header("cache-control")), ("application/json", "no-store"));
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &reason.into()), "{shown}");
        assert_eq!(line["url.path"], path);
        assert_eq!(self.upstream.seen().len(), before, "{shown} reached the upstream");
        answer
    }

    /// The token is good at `/any`; what the upstream gets to see.
    async fn accepts(&self, token: &str) -> Seen {
        self.accepts_at("/any", token).await
    }

    async fn accepts_at(&self, path: &str, token: &str) -> Seen {
        let answer = self.client.get_with(path, token).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!(answer.status, 200, "{token}: {line}");
        let told = self.gateway.audit_text() + &self.gateway.log_text();
        assert!(!told.contains(token.rsplit('.').next().unwrap()), "{token} is in:\n{told}");
        self.upstream.seen().pop().unwrap()
    }

    async fn send(&self, path: &str, credentials: &[u8]) -> Answer {
        let mut request = request("GET", path);
        request.headers_mut().insert("authorization", HeaderValue::from_bytes(credentials).unwrap());
        self.client.send(request).await
    }
}

fn config(corp: &Issuer, other: &Issuer, others: &[(&str, &str)], upstream: &Upstream) -> String {
    let (corp, other, upstream) = (&corp.issuer, &other.issuer, upstream.address);
    let line = |(name, settings): &(&str, &str)| {
        format!("  {name}: {{issuer: \"urn:{name}\", jwks_uri: \"{corp}/jwks\", audiences: [{API}], {settings}}}\n")
    };
    let others = others.iter().map(line).collect::<String>();
    format!(
        r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:0
    tls: {{certificates: [{{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}}]}}
allow_literal_secrets: true
oauth:
  issuer: {OWN_ISSUER}
  audiences: [{API}, {BILLING}]
  signing_keys: {{algorithm: ES256}}
  clients:
    app: {{secrets: [{{value: correct horse battery staple}}], scopes: [read:data]}}
issuers:
  corp: {{issuer: "{corp}", audiences: [{API}, {BILLING}]}}
  other: {{issuer: "{other}", audiences: [{API}]}}
{others}upstreams: {{legacy: "http://{upstream}"}}
routes:
  - {{path: /any, upstream: legacy, access: {{}}}}
  - {{path: /own, upstream: legacy, access: {{issuers: [self]}}}}
  - {{path: /corp, upstream: legacy, access: {{issuers: [corp]}}}}
  - {{path: /billing, upstream: legacy, access: {{audiences: [{BILLING}]}}}}
audit: {{file: "-", refusals_per_second: unlimited}}
admin: {{address: 127.0.0.1:0}}
"#
    )
}

/// Puts a signing key where the gateway looks for its own.
fn keep(key: &Key, directory: &Path) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).unwrap();
    let file = directory.join("ES256.kept.pem");
    fs::write(&file, key.pem()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    object[name] = value.into();
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}
