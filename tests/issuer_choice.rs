//! Each token belongs to exactly one configured entry: by its issuer and audience, by its tenant, or by the trust domain
//! of its subject.

use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::command::run_with;
use crate::support::gateway::{folder, program};
use crate::support::issuer::{Key, now};
use crate::support::world::config;
use crate::support::{Client, Gateway, Issuer, Upstream};

const ISS: &str = "https://login.example.com";
const WEB: &str = "https://web.example.com";
const BATCH: &str = "https://batch.example.com";

/// A gateway before a service. Every issuer of `sections` is configured with keys of these.
struct World {
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
    _issuers: Vec<Issuer>,
}

impl World {
    /// `{0}`, `{1}` … in the sections are the origins of issuers, each with one of these keys.
    async fn start(keys: &[&Key], routes: &[&str], sections: &str) -> Self {
        let (upstream, mut sections, mut issuers) = (Upstream::start().await, sections.to_owned(), Vec::new());
        for (place, key) in keys.iter().enumerate() {
            let issuer = Issuer::start(&[*key]).await;
            sections = sections.replace(&format!("{{{place}}}"), &issuer.issuer);
            issuers.push(issuer);
        }
        let gateway = Gateway::start(&config(upstream.address, routes, &sections));
        Self { client: Client::new(&gateway), gateway, upstream, _issuers: issuers }
    }

    /// Is accepted; `oauth.issuer` of the audit line, and `X-Auth-Issuer`.
    async fn accepts_at(&self, path: &str, token: &str) -> (String, String) {
        let answer = self.client.get_with(path, token).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!(answer.status, 200, "{line}");
        let seen = self.upstream.seen().pop().unwrap();
        (line["oauth.issuer"].as_str().unwrap().to_owned(), seen.header("x-auth-issuer").to_owned())
    }

    async fn accepts(&self, token: &str, name: &str, issuer: &str) {
        assert_eq!(self.accepts_at("/x", token).await, (name.to_owned(), issuer.to_owned()));
    }

    /// Is refused for this reason, with the values found and wanted.
    async fn refuses_at(&self, path: &str, token: &str, reason: &str) -> (Value, Value) {
        let answer = self.client.get_with(path, token).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.reason"]), (401, &reason.into()), "{line}");
        (line["gateway.found"].clone(), line["gateway.wanted"].clone())
    }

    async fn refuses(&self, token: &str, reason: &str) -> (Value, Value) {
        self.refuses_at("/x", token, reason).await
    }
}

fn claims(iss: &str, aud: impl Into<Value>) -> Value {
    json!({"iss": iss, "sub": "someone", "aud": aud.into(), "azp": "app", "iat": now(), "exp": now() + 600, "jti": "1"})
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn with(mut claims: Value, name: &str, value: &str) -> Value {
    claims[name] = value.into();
    claims
}

const TWO: &str = "issuers:
  web: {issuer: 'https://login.example.com', jwks_uri: '{0}/jwks', audiences: ['https://web.example.com']}
  batch: {issuer: 'https://login.example.com', jwks_uri: '{1}/jwks', audiences: ['https://batch.example.com'], types: [at+jwt]}
";
const ROUTES: [&str; 2] = ["path: /x, access: {}", "path: /web, access: {issuers: [web]}"];

#[tokio::test]
async fn two_entries_of_one_issuer_are_told_apart_by_audience() {
    let (web, batch) = (Key::new("k", "ES256"), Key::new("k", "ES256"));
    let world = World::start(&[&web, &batch], &ROUTES, TWO).await;
    let typed = |claims: &Value| batch.sign_with(&json!({"typ": "at+jwt", "alg": "ES256", "kid": "k"}), claims);
    world.accepts(&web.sign(&claims(ISS, WEB)), "web", ISS).await;
    world.accepts(&typed(&claims(ISS, json!([BATCH, "urn:other"]))), "batch", ISS).await;
    // Keys, types and names are those of the entry.
    world.refuses(&web.sign(&claims(ISS, BATCH)), "type_not_allowed").await;
    world.refuses(&typed(&claims(ISS, WEB)), "bad_signature").await;
    world.refuses(&batch.sign(&claims(ISS, WEB)), "bad_signature").await;
    world.refuses_at("/web", &typed(&claims(ISS, BATCH)), "issuer_not_allowed").await;
    assert_eq!(world.accepts_at("/web", &web.sign(&claims(ISS, WEB))).await.0, "web");
}

#[tokio::test]
async fn a_token_for_no_entry_or_for_two_is_refused() {
    let (web, batch) = (Key::new("k", "ES256"), Key::new("k", "ES256"));
    let world = World::start(&[&web, &batch], &ROUTES, TWO).await;
    for key in [&web, &batch] {
        let (found, wanted) = world.refuses(&key.sign(&claims(ISS, "urn:other")), "bad_audience").await;
        assert_eq!((found, wanted), (json!("aud=urn:other"), json!(format!("aud={WEB}|{BATCH}"))));
        let (found, wanted) = world.refuses(&key.sign(&claims(ISS, json!([WEB, BATCH]))), "bad_audience").await;
        assert_eq!(found, json!(format!("aud={WEB}|{BATCH}")));
        assert_eq!(wanted, json!("audiences of one issuer entry, not of web and batch"));
    }
    assert_eq!(world.upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_revocation_for_one_entry_counts_for_all_of_the_issuer() {
    let (web, batch) = (Key::new("k", "ES256"), Key::new("k", "ES256"));
    let revoked = "revoked: [{issuer: batch, subject: someone}]\n";
    let world = World::start(&[&web, &batch], &ROUTES, &format!("{TWO}{revoked}")).await;
    world.refuses(&web.sign(&claims(ISS, WEB)), "revoked").await;
    world.accepts(&web.sign(&with(claims(ISS, WEB), "sub", "other")), "web", ISS).await;
}

/// The file is read before each use, also by `token revoke`, which finds the entry of a token.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_revokes_a_token_of_either_entry() {
    let (web, batch) = (Key::new("k", "ES256"), Key::new("k", "ES256"));
    let world = World::start(&[&web, &batch], &ROUTES, TWO).await;
    let token = web.sign(&claims(ISS, WEB));
    world.accepts(&token, "web", ISS).await;
    let mut command = program(&world.gateway.folder);
    let said = run_with(command.args(["token", "revoke", "--format", "json"]), &token);
    assert_eq!(said.code, Some(0), "{said:?}");
    world.gateway.audit_line(|line| line["event.name"] == "token.revoked" || line["oauth.jti_sha256"].is_string());
    world.refuses(&token, "revoked").await;
}

const A: &str = "https://login.example.com/tenant-a/v2.0";
const B: &str = "https://login.example.com/tenant-b/v2.0";
const ENTRA: &str = "issuers:
  entra: {issuer: 'https://login.example.com/{tenant}/v2.0', tenants: [tenant-a, tenant-b], jwks_uri: '{0}/jwks', audiences: ['https://web.example.com']}
";

#[tokio::test]
async fn tokens_of_the_listed_tenants_are_accepted_and_no_others() {
    let key = Key::new("k", "ES256");
    let routes = ["path: /x, access: {}", "path: /clients, access: {clients: [entra/app]}"];
    let world = World::start(&[&key], &routes, ENTRA).await;
    world.accepts(&key.sign(&claims(A, WEB)), "entra", A).await;
    world.accepts(&key.sign(&with(claims(B, WEB), "tid", "tenant-b")), "entra", B).await;
    world.accepts_at("/clients", &key.sign(&claims(B, WEB))).await;
    for other in ["https://login.example.com/tenant-c/v2.0", "https://login.example.com/{tenant}/v2.0", ISS] {
        world.refuses(&key.sign(&claims(other, WEB)), "unknown_issuer").await;
    }
    let (found, wanted) = world.refuses(&key.sign(&with(claims(A, WEB), "tid", "tenant-b")), "unknown_issuer").await;
    assert_eq!((found, wanted), (json!("tid=tenant-b"), json!("tid=tenant-a, as in iss")));
    world.refuses(&key.sign(&claims(A, BATCH)), "bad_audience").await;
}

#[tokio::test]
async fn one_client_id_in_two_tenants_is_two_callers_for_limits() {
    let key = Key::new("k", "ES256");
    for per in ["client", "subject"] {
        let route = format!("path: /x, access: {{}}, rate_limits: [{{rate: 1/h, per: {per}}}]");
        let world = World::start(&[&key], &[&route], ENTRA).await;
        for (issuer, status) in [(A, 200), (B, 200), (A, 429), (B, 429)] {
            let answer = world.client.get_with("/x", &key.sign(&claims(issuer, WEB))).await;
            assert_eq!(answer.status, status, "{per} {issuer}");
        }
    }
}

#[tokio::test]
async fn a_revocation_for_the_entry_counts_for_all_its_tenants() {
    let key = Key::new("k", "ES256");
    let revoked = "revoked: [{issuer: entra, client: app}]\n";
    let world = World::start(&[&key], &ROUTES[..1], &format!("{ENTRA}{revoked}")).await;
    for issuer in [A, B] {
        world.refuses(&key.sign(&claims(issuer, WEB)), "revoked").await;
        world.accepts(&key.sign(&with(claims(issuer, WEB), "azp", "other")), "entra", issuer).await;
    }
}

#[tokio::test]
async fn keys_of_tenants_are_discovered_by_the_first_one() {
    let key = Key::new("k", "ES256");
    let jwks = json!({ "keys": [key.jwk()] }).to_string();
    let issuer = Upstream::answering(move |seen| {
        let origin = format!("http://{}", seen.header("host"));
        let metadata = json!({"issuer": format!("{origin}/a/v2.0"), "jwks_uri": format!("{origin}/jwks")});
        match seen.target.as_str() {
            "/a/v2.0/.well-known/openid-configuration" => Response::new(Full::from(metadata.to_string())),
            "/jwks" => Response::new(Full::from(jwks.clone())),
            _ => Response::builder().status(404).body(Full::default()).unwrap(),
        }
    })
    .await;
    let origin = format!("http://{}", issuer.address);
    let entry =
        format!("issuers: {{entra: {{issuer: '{origin}/{{tenant}}/v2.0', tenants: [a, b], audiences: ['{WEB}']}}}}\n");
    let world = World::start(&[], &ROUTES[..1], &entry).await;
    for tenant in ["a", "b"] {
        let iss = format!("{origin}/{tenant}/v2.0");
        world.accepts(&key.sign(&claims(&iss, WEB)), "entra", &iss).await;
    }
}

const WORKLOAD: &str = "spiffe://example.org/ns/default/sa/web";

/// As an agent of SPIRE signs it, with or without `iss`.
fn svid(sub: &str) -> Value {
    json!({"sub": sub, "aud": [WEB], "iat": now(), "exp": now() + 300})
}

fn bundle(key: &Key) -> String {
    let (mut authority, mut signer) = (key.jwk(), key.jwk());
    (authority["use"], signer["use"]) = ("x509-svid".into(), "jwt-svid".into());
    json!({"keys": [authority, signer], "spiffe_sequence": 1, "spiffe_refresh_hint": 300}).to_string()
}

#[tokio::test]
async fn a_jwt_svid_without_issuer_is_accepted_by_its_trust_domain() {
    let (key, other) = (Key::new("k", "ES256"), Key::new("k", "ES256"));
    let (upstream, folder) = (Upstream::start().await, folder());
    std::fs::write(folder.join("bundle.json"), bundle(&key)).unwrap();
    let issuer = Issuer::start(&[&other]).await;
    let sections = format!(
        "issuers:\n  mesh: {{spiffe: {{trust_domain: example.org, bundle: bundle.json}}, audiences: ['{WEB}']}}\n  \
         far: {{spiffe: {{trust_domain: far.example, bundle: '{}/jwks'}}, audiences: ['{WEB}']}}\n  \
         corp: {{issuer: '{ISS}', jwks_uri: '{}/jwks', audiences: ['{WEB}']}}\n",
        issuer.issuer, issuer.issuer
    );
    let gateway = Gateway::start_in(folder, &config(upstream.address, &ROUTES[..1], &sections), &[]);
    let world = World { client: Client::new(&gateway), gateway, upstream, _issuers: vec![issuer] };
    let typed = |typ: Option<&str>, claims: &Value| {
        let mut header = json!({"alg": "ES256", "kid": "k"});
        typ.into_iter().for_each(|typ| header["typ"] = typ.into());
        key.sign_with(&header, claims)
    };
    for typ in [None, Some("JWT"), Some("JOSE")] {
        world.accepts(&typed(typ, &svid(WORKLOAD)), "mesh", "spiffe://example.org").await;
        assert_eq!(world.upstream.seen().pop().unwrap().header("x-auth-subject"), WORKLOAD);
    }
    world.refuses(&typed(Some("at+jwt"), &svid(WORKLOAD)), "type_not_allowed").await;
    world.accepts(&other.sign(&svid("spiffe://far.example/a")), "far", "spiffe://far.example").await;
    // The `iss` of a token is not passed on where the trust domain vouches for it.
    world
        .accepts(&key.sign(&with(svid(WORKLOAD), "iss", "https://spire.example")), "mesh", "spiffe://example.org")
        .await;
    // Only the keys of its own domain, and never a token whose issuer is configured.
    world.refuses(&other.sign(&svid(WORKLOAD)), "bad_signature").await;
    world.refuses(&key.sign(&svid("spiffe://far.example/a")), "bad_signature").await;
    world.refuses(&key.sign(&with(svid(WORKLOAD), "iss", ISS)), "bad_signature").await;
    world.refuses(&key.sign(&without(svid(WORKLOAD), "aud")), "missing_claim").await;
    let (found, wanted) =
        world.refuses(&key.sign(&svid("spiffe://example.org.evil.example/a")), "unknown_issuer").await;
    assert_eq!(found, json!("no iss, sub=spiffe://example.org.evil.example/a"));
    assert_eq!(wanted, json!("trust_domain=example.org|far.example"));
    world.refuses(&key.sign(&svid("spiffe://example.org/a/../b")), "malformed").await;
    let (found, _) = world.refuses(&key.sign(&svid("someone")), "missing_claim").await;
    assert_eq!(found, json!("no iss"));
}
