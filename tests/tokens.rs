//! The token endpoint: who asks rightly gets a token, who does not is told why in the words of RFC 6749, and either way
//! the audit log knows more than the answer says, but never a secret.

mod authentication;
mod documents;
mod issued;
mod parameters;
mod rotation;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde_json::Value;

use crate::support::client::{basic, request, with_body, with_header};
use crate::support::{Answer, Client, Gateway};

/// A gateway whose own authorization server knows `app`, `other` and `special`.
pub(crate) struct Endpoint {
    pub(crate) gateway: Gateway,
    pub(crate) client: Client,
}

type TokenRequest = Request<Full<Bytes>>;

const SECRET: &str = "correct horse battery staple";
const SECOND_SECRET: &str = "incorrect zebra accumulator paperclip";
const OTHER_SECRET: &str = "another client's own secret";
/// All that form-encoding and YAML care about.
const SPECIAL_SECRET: &str = "a+b c%41d%zz%FF&e=f:g/\u{fc}#";
const GRANT: &str = "grant_type=client_credentials";

const CONFIG: &str = r#"
version: 1
workers: 1
listeners:
  - address: 127.0.0.1:0
    tls: {certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]}
allow_literal_secrets: true
oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com, https://billing.example.com, https://secret.example.com]
  signing_keys: {algorithm: ES256}
  token_endpoint: {rate_limits: [{rate: 10000/s, per: address}]}
  clients:
    app:
      secrets: [{value: "correct horse battery staple"}, {value: "incorrect zebra accumulator paperclip"}]
      scopes: [read:data, write:data]
      audiences: [https://api.example.com, https://billing.example.com]
      claims: {department: research, floor: 7, teams: [red, blue]}
    other: {secrets: [{value: "another client's own secret"}], scopes: [read:data], token_ttl: 90s}
    special: {secrets: [{value: "a+b c%41d%zz%FF&e=f:g/ü#"}], scopes: [read:data]}
upstreams: {legacy: "http://127.0.0.1:9"}
routes:
  - {name: ping, path: /ping, upstream: legacy, access: public}
audit: {file: "-", refusals_per_second: unlimited}
"#;

impl Endpoint {
    pub(crate) fn start() -> Self {
        Self::configured(CONFIG)
    }

    pub(crate) fn configured(yaml: &str) -> Self {
        let gateway = Gateway::start(yaml);
        let client = Client::new(&gateway);
        Self { gateway, client }
    }

    /// The answer to a request that gets its token; the audit log says to whom.
    pub(crate) async fn grants(&self, to: &str, request: TokenRequest) -> Value {
        let answer = self.client.send(request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], &line["oauth.client_id"]), (&"issue".into(), &to.into()), "{line}");
        let json = answer.json();
        self.keeps_quiet_about(json["access_token"].as_str().unwrap());
        json
    }

    /// The answer to a request that gets none. `reason` is for the audit log alone.
    pub(crate) async fn refuses(&self, request: TokenRequest, status: u16, error: &str, reason: &str) -> Answer {
        let answer = self.client.send(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        let json = answer.json();
        assert_eq!(json["error"], error, "{answer:?}");
        assert_eq!((json.as_object().unwrap().len(), &json["request_id"]), (3, &answer.request_id().into()));
        assert!(!json["error_description"].as_str().unwrap().contains(['"', '\\']), "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "no-store");
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &reason.into()), "{line}");
        assert_eq!((&line["http.route"], &line["url.path"]), (&"(token)".into(), &"/oauth/token".into()), "{line}");
        self.keeps_quiet_about(SECRET);
        answer
    }

    /// Neither this nor any secret is in the audit log or in the logs.
    pub(crate) fn keeps_quiet_about(&self, token: &str) {
        let told = self.gateway.audit_text() + &self.gateway.log_text();
        for secret in [SECRET, SECOND_SECRET, OTHER_SECRET, SPECIAL_SECRET, token] {
            let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            assert!(!told.contains(secret) && !told.contains(&encoded), "{secret} is in:\n{told}");
        }
    }
}

/// A token request in a form.
fn form(body: &str) -> TokenRequest {
    let request = with_header(request("POST", "/oauth/token"), "content-type", "application/x-www-form-urlencoded");
    with_body(request, body.to_owned())
}

/// A token request in JSON.
fn json(body: &str) -> TokenRequest {
    let request = with_header(request("POST", "/oauth/token"), "content-type", "application/json");
    with_body(request, body.to_owned())
}

fn by_basic(mut request: TokenRequest, id: &str, secret: &str) -> TokenRequest {
    request.headers_mut().append("authorization", basic(id, secret));
    request
}

/// With an `Authorization` header of any shape.
fn by_header(mut request: TokenRequest, value: &[u8]) -> TokenRequest {
    request.headers_mut().append("authorization", HeaderValue::from_bytes(value).unwrap());
    request
}
