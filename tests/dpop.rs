//! DPoP: tokens that are bound to a key, of which each request proves possession (RFC 9449).

mod hostile;
mod nonces;
mod routes;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::client::{basic, request, with_body, with_header};
use crate::support::issuer::Key;
use crate::support::proof::{Proof, public, thumbprint, with_proof};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const TOKEN_URL: &str = "https://localhost/oauth/token";

/// The own clients `app`, and `strict`, whose tokens must be bound.
const CLIENTS: &str = "
oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {algorithm: ES256}
  token_endpoint: {rate_limits: []}
  clients:
    app: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}
    strict: {secrets: [{value: correct horse battery staple}], scopes: [read:data], bound: dpop}
    either: {secrets: [{value: correct horse battery staple}], scopes: [read:data], bound: either}
";

struct World {
    upstream: Upstream,
    gateway: Gateway,
    key: Key,
}

impl World {
    async fn start(routes: &[&str], more: &str) -> Self {
        let upstream = Upstream::start().await;
        let gateway = Gateway::start(&config(upstream.address, routes, &format!("{CLIENTS}{more}")));
        Self { upstream, gateway, key: Key::new("k", "ES256") }
    }

    /// A token of `app` that is bound to the key.
    async fn bound_token(&self) -> String {
        self.bound_token_of("app", &[]).await
    }

    /// The proof has these claims besides the usual ones.
    async fn bound_token_of(&self, client: &str, claims: &[(&str, &str)]) -> String {
        let proof = Proof::new(&self.key, "POST", TOKEN_URL);
        let proof = claims.iter().fold(proof, |proof, (name, value)| proof.with(name, *value));
        let answer = Client::new(&self.gateway).send(token_request(client, &[&proof.sign()])).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["token_type"], "DPoP");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    fn proof(&self, method: &str, path: &str, token: &str) -> Proof<'_> {
        Proof::new(&self.key, method, &format!("https://localhost{path}")).of(token)
    }

    /// The reason in the audit log.
    fn reason(&self, answer: &Answer) -> String {
        let line = self.gateway.audit_of(answer.request_id());
        line["gateway.reason"].as_str().unwrap_or_default().to_owned()
    }

    /// The request is refused with this status, error and reason.
    #[track_caller]
    fn is_refused(&self, answer: &Answer, status: u16, error: &str, reason: &str) {
        assert_eq!((answer.status, &answer.json()["error"]), (status, &json!(error)), "{answer:?}");
        assert_eq!(self.reason(answer), reason, "{answer:?}");
    }
}

/// A token request by this client, with these values of the field `DPoP`.
fn token_request(client: &str, proofs: &[&str]) -> Request<Full<Bytes>> {
    let mut asked = request("POST", "/oauth/token");
    asked.headers_mut().insert("authorization", basic(client, SECRET));
    let asked = with_header(asked, "content-type", "application/x-www-form-urlencoded");
    let asked = with_body(asked, "grant_type=client_credentials");
    proofs.iter().fold(asked, |asked, proof| with_header(asked, "dpop", proof))
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

const ANY: &str = "path: /any/**, access: {}";

#[tokio::test]
async fn a_proof_binds_the_token_to_its_key() {
    let world = World::start(&[ANY], "").await;
    let token = world.bound_token().await;
    assert_eq!(claims(&token)["cnf"], json!({"jkt": thumbprint(&world.key)}));
    for client in world.gateway.both() {
        for (path, url) in [("/any/a", "/any/a"), ("/any/b?query=1", "/any/b"), ("/any/%7ec", "/any/~c")] {
            let proof = world.proof("GET", url, &token).sign();
            let answer = client.send(with_proof(request("GET", path), &token, &proof)).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            assert!(!answer.headers.contains_key("dpop-nonce"));
        }
    }
    for seen in world.upstream.seen() {
        assert!(!seen.headers.contains_key("authorization") && !seen.headers.contains_key("dpop"), "{seen:?}");
        assert_eq!(seen.header("x-auth-client-id"), "app");
    }
}

#[tokio::test]
async fn every_algorithm_of_the_metadata_makes_proofs() {
    let world = World::start(&[ANY], "").await;
    let client = Client::new(&world.gateway);
    let metadata = client.get("/.well-known/oauth-authorization-server").await.json();
    let names = metadata["dpop_signing_alg_values_supported"].as_array().unwrap().clone();
    assert_eq!(names, ["RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"]);
    for (algorithm, written) in
        [("RS256", "RS256"), ("PS256", "PS256"), ("ES256", "ES256"), ("ES384", "ES384"), ("EdDSA", "Ed25519")]
    {
        let key = if algorithm == "RS256" { Key::rsa() } else { &Key::new("k", algorithm) };
        let proof = Proof::new(key, "POST", TOKEN_URL).with_header("alg", written).sign();
        let granted = client.send(token_request("app", &[&proof])).await;
        let token = granted.json()["access_token"].as_str().unwrap().to_owned();
        assert_eq!(claims(&token)["cnf"]["jkt"], thumbprint(key), "{algorithm}");
        let proof = Proof::new(key, "GET", "https://localhost/any/a").with_header("alg", written).of(&token).sign();
        let answer = client.send(with_proof(request("GET", "/any/a"), &token, &proof)).await;
        assert_eq!(answer.status, 200, "{algorithm}: {answer:?}");
    }
}

#[tokio::test]
async fn a_client_with_bound_tokens_gets_none_without_proof() {
    let world = World::start(&[ANY], "").await;
    for client in world.gateway.both() {
        for id in ["strict", "either"] {
            let answer = client.send(token_request(id, &[])).await;
            world.is_refused(&answer, 400, "invalid_dpop_proof", "not_proven");
            assert_eq!(answer.json()["error_description"], "a DPoP proof is required");
        }
        let bearer = client.send(token_request("app", &[])).await;
        assert_eq!((bearer.status, &bearer.json()["token_type"]), (200, &json!("Bearer")));
        assert_eq!(claims(bearer.json()["access_token"].as_str().unwrap()).get("cnf"), None);
    }
    for id in ["strict", "either"] {
        let token = world.bound_token_of(id, &[]).await;
        assert_eq!(claims(&token)["cnf"]["jkt"], thumbprint(&world.key));
    }
}

#[tokio::test]
async fn the_key_of_a_proof_is_no_credential_of_a_client() {
    let world = World::start(&[ANY], "").await;
    let proof = Proof::new(&world.key, "POST", TOKEN_URL);
    let mut asked = token_request("app", &[&proof.sign()]);
    asked.headers_mut().insert("authorization", basic("app", "another secret than that of app"));
    let answer = Client::new(&world.gateway).send(asked).await;
    world.is_refused(&answer, 401, "invalid_client", "invalid_client");
    // The proof of a client that was not authenticated is not used up.
    let answer = Client::new(&world.gateway).send(token_request("app", &[&proof.sign()])).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn tests_of_a_configuration_prove_bound_tokens() {
    use crate::support::command::run;
    use crate::support::gateway::{folder, program};
    let routes = ["path: /any, access: {}", "path: /bound, access: {bound: dpop}"];
    let tests = "
tests:
  - {as: {client: strict}, allowed: [GET /any, GET /bound]}
  - {as: {client: either}, allowed: [GET /any, GET /bound]}
  - {as: {client: app}, allowed: [GET /any], refused: {GET /bound: not_bound}}
  - {as: anonymous, refused: {GET /bound: no_token}}
";
    for nonce in ["", "  dpop: {nonce: true}\n"] {
        let folder = folder();
        let yaml = config(([127, 0, 0, 1], 9).into(), &routes, &format!("{CLIENTS}{nonce}{tests}"));
        std::fs::write(folder.join("gateway.yaml"), yaml).unwrap();
        let finished = run(program(&folder).arg("test"));
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
}

#[test]
fn a_private_key_is_in_no_proof_of_these_tests() {
    assert_eq!(public(&Key::new("k", "ES256")).get("d"), None);
}
