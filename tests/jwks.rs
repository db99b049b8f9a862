//! Keys of external issuers: found, fetched once for all, kept while the issuer is away, and never believed beyond what
//! they are.

mod access;
mod discovery;
mod forms;
mod hostile;
mod https;
mod local;
mod outage;
mod refresh;
mod replaced_keys;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::gateway::folder;
use crate::support::issuer::{Key, Published, now};
use crate::support::{Client, Gateway, Upstream};

/// A gateway that trusts whom a test tells it to.
struct World {
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
}

const SECRET: &str = "the secret of app, not short";

impl World {
    /// `issuers` are lines such as `corp: {issuer: …}`, to which the audience is added.
    async fn trusting(issuers: &[String]) -> Self {
        Self::trusting_beside(&[], issuers).await
    }

    /// With these files beside the configuration.
    async fn trusting_beside(files: &[(&str, &str)], issuers: &[String]) -> Self {
        Self::trusting_with(&[], files, issuers).await
    }

    /// And with these variables.
    async fn trusting_with(variables: &[(&str, &str)], files: &[(&str, &str)], issuers: &[String]) -> Self {
        let (upstream, folder) = (Upstream::start().await, folder());
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
        }
        let gateway = Gateway::start_in(folder, &config(issuers, &upstream), variables);
        Self { client: Client::new(&gateway), gateway, upstream }
    }

    async fn accepts(&self, token: &str) {
        let answer = self.client.get_with("/data", token).await;
        assert_eq!(answer.status, 200, "{answer:?} {}", self.gateway.audit_of(answer.request_id()));
    }

    async fn refuses(&self, token: &str, status: u16, reason: &str) {
        let before = self.upstream.seen().len();
        let answer = self.client.get_with("/data", token).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.reason"]), (status, &reason.into()), "{line}");
        if status == 503 {
            assert_eq!(
                (&line["gateway.decision"], &answer.json()["error"]),
                (&"error".into(), &"temporarily_unavailable".into())
            );
            assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
            assert!(!answer.headers.contains_key("www-authenticate"), "{answer:?}");
        }
        assert_eq!(self.upstream.seen().len(), before, "it reached the upstream");
    }

    /// Waits until the issuer's keys are there.
    #[track_caller]
    fn fetched(&self, issuer: &str) -> String {
        self.gateway.log_line(&format!("\"fetched the JWK Set\",\"issuer.name\":\"{issuer}\""))
    }

    /// Waits until fetching them has failed.
    #[track_caller]
    fn failed(&self, issuer: &str) -> String {
        self.gateway.log_line(&format!("\"cannot refresh the JWK Set: the last known good keys are used up to `max_stale`; trying again\",\"issuer.name\":\"{issuer}\""))
    }
}

fn config(issuers: &[String], upstream: &Upstream) -> String {
    let issuers = issuers.iter().map(|line| line.replace("{issuer", "{audiences: [https://api.example.com], issuer"));
    let issuers: Vec<String> = issuers.map(|line| format!("  {line}\n")).collect();
    let (issuers, upstream) = (issuers.concat(), upstream.address);
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
    app: {{secrets: [{{value: "{SECRET}"}}], scopes: [read:data]}}
issuers:
{issuers}
upstreams: {{legacy: "http://{upstream}"}}
routes:
  - {{path: /data, upstream: legacy, access: {{}}}}
audit: {{file: "-", refusals_per_second: unlimited}}
admin: {{address: 127.0.0.1:0}}
"#
    )
}

/// A token of this issuer.
fn token(key: &Key, issuer: &str) -> String {
    key.sign(&claims(issuer))
}

fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "sub": "someone", "aud": "https://api.example.com", "exp": now() + 600})
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// JWK Sets of many issuers, `urn:NAME` at `/NAME` each, so that one gateway can be shown them all.
struct Sites {
    server: Upstream,
    published: Arc<Mutex<BTreeMap<&'static str, Published>>>,
}

impl Sites {
    async fn start(published: impl IntoIterator<Item = (&'static str, Published)>) -> Self {
        let published = Arc::new(Mutex::new(published.into_iter().collect::<BTreeMap<_, _>>()));
        let shared = Arc::clone(&published);
        let server = Upstream::answering(move |seen| match shared.lock().unwrap().get(&seen.target[1..]) {
            Some(published) => published.clone().response(),
            None => Response::builder().status(404).body(Full::default()).unwrap(),
        })
        .await;
        Self { server, published }
    }

    /// As [`World::trusting`] takes them.
    fn issuers(&self) -> Vec<String> {
        let line =
            |name| format!("{name}: {{issuer: \"urn:{name}\", jwks_uri: \"http://{}/{name}\"}}", self.server.address);
        self.published.lock().unwrap().keys().map(line).collect()
    }

    /// From now on this issuer publishes this.
    fn publishes(&self, name: &str, published: &Published) {
        *self.published.lock().unwrap().get_mut(name).unwrap() = published.clone();
    }

    /// From now on all issuers publish this.
    fn all_publish(&self, published: &Published) {
        self.published.lock().unwrap().values_mut().for_each(|other| *other = published.clone());
    }

    fn was_asked_for(&self, path: &str) -> bool {
        self.server.seen().iter().any(|seen| seen.target == path)
    }
}
