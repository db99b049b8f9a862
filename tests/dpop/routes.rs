//! Bound and other tokens on routes: the scheme, the binding that a route demands, the challenge, and what is forwarded.

use serde_json::json;

use super::{ANY, World, token_request};
use crate::support::client::{request, with_header, with_token};
use crate::support::issuer::{Issuer, Key, now};
use crate::support::proof::{Proof, thumbprint, with_proof};
use crate::support::world::config;
use crate::support::{Client, Gateway, Upstream};

const ALGS: &str = "algs=\"RS256 PS256 ES256 ES384 EdDSA Ed25519\"";

async fn bearer(world: &World) -> String {
    let answer = Client::new(&world.gateway).send(token_request("app", &[])).await;
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_bound_token_without_its_proof_is_refused() {
    let world = World::start(&[ANY], "").await;
    let token = world.bound_token().await;
    for client in world.gateway.both() {
        let proof = world.proof("GET", "/any/a", &token).sign();
        let asked = || request("GET", "/any/a");
        let by_dpop = |token: &str| with_header(asked(), "authorization", &format!("DPoP {token}"));
        for asked in
            [with_token(asked(), &token), with_header(with_token(asked(), &token), "dpop", &proof), by_dpop(&token)]
        {
            let answer = client.send(asked).await;
            world.is_refused(&answer, 401, "invalid_token", "not_proven");
            let challenge = answer.header("www-authenticate").to_owned();
            assert!(challenge.starts_with(&format!("DPoP realm=\"portcullis\", {ALGS}, error=\"invalid_token\"")));
            assert!(!challenge.contains("Bearer"), "{challenge}");
        }
        // None of these was a use of the proof.
        assert_eq!(client.send(with_header(by_dpop(&token), "dpop", &proof)).await.status, 200);
    }
}

#[tokio::test]
async fn a_bearer_token_by_the_scheme_dpop_is_refused() {
    let world = World::start(&[ANY], "").await;
    let token = bearer(&world).await;
    for client in world.gateway.both() {
        let proof = world.proof("GET", "/any/a", &token).sign();
        let answer = client.send(with_proof(request("GET", "/any/a"), &token, &proof)).await;
        world.is_refused(&answer, 401, "invalid_token", "not_bound");
        assert!(answer.header("www-authenticate").starts_with("Bearer "), "{answer:?}");
        // A proof beside a bearer token does not count, whatever it is.
        for field in [proof.as_str(), "nonsense"] {
            let answer = client.send(with_header(with_token(request("GET", "/any/a"), &token), "dpop", field)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_route_may_demand_bound_tokens() {
    let routes = [
        "path: /dpop, access: {bound: dpop}",
        "path: /either, access: {bound: either}",
        "path: /mtls, access: {bound: mtls}",
        "path: /scope, access: {bound: dpop, scopes: [write:data]}",
    ];
    let world = World::start(&routes, "").await;
    let (bearer, bound) = (bearer(&world).await, world.bound_token().await);
    for client in world.gateway.both() {
        for (path, scheme) in [("/dpop", "DPoP"), ("/either", "DPoP"), ("/mtls", "Bearer")] {
            let answer = client.get_with(path, &bearer).await;
            world.is_refused(&answer, 401, "invalid_token", "not_bound");
            assert!(answer.header("www-authenticate").starts_with(scheme), "{path}: {answer:?}");
        }
        for (path, expected) in [("/dpop", (200, "")), ("/either", (200, "")), ("/mtls", (401, "not_bound"))] {
            let proof = world.proof("GET", path, &bound).sign();
            let answer = client.send(with_proof(request("GET", path), &bound, &proof)).await;
            assert_eq!((answer.status, world.reason(&answer).as_str()), expected, "{path}");
        }
        let answer = client.get("/dpop").await;
        assert_eq!(answer.header("www-authenticate"), format!("DPoP realm=\"portcullis\", {ALGS}"));
        assert_eq!(client.get("/either").await.header("www-authenticate"), "Bearer realm=\"portcullis\"");
        let proof = world.proof("GET", "/scope", &bound).sign();
        let answer = client.send(with_proof(request("GET", "/scope"), &bound, &proof)).await;
        world.is_refused(&answer, 403, "insufficient_scope", "missing_scope");
        let expected = format!("DPoP realm=\"portcullis\", {ALGS}, error=\"insufficient_scope\", scope=\"write:data\"");
        assert_eq!(answer.header("www-authenticate"), expected);
    }
}

#[tokio::test]
async fn proofs_are_forwarded_only_with_their_token() {
    let routes =
        ["path: /kept, access: {}", "path: /passed, access: {}, forward_token: true", "path: /public, access: public"];
    let world = World::start(&routes, "").await;
    let token = world.bound_token().await;
    let client = Client::new(&world.gateway);
    for (path, passes) in [("/kept", false), ("/passed", true), ("/public", true)] {
        world.upstream.forget();
        let proof = world.proof("GET", path, &token).sign();
        assert_eq!(client.send(with_proof(request("GET", path), &token, &proof)).await.status, 200);
        let seen = world.upstream.only();
        let fields = ["authorization", "dpop"].map(|name| seen.headers.contains_key(name));
        assert_eq!(fields, [passes; 2], "{path}");
    }
}

#[tokio::test]
async fn tokens_of_other_issuers_are_proven_too() {
    let (key, own) = (Key::new("k", "ES256"), Key::new("mine", "ES256"));
    let (issuer, upstream) = (Issuer::start(&[&key]).await, Upstream::start().await);
    let sections = format!(
        "issuers:\n  corp: {{issuer: \"{0}\", audiences: [https://api.example.com]}}\n  field: {{issuer: \"{0}/x\", jwks_uri: \"{0}/jwks\", audiences: [https://api.example.com], token_header: X-Token}}",
        issuer.issuer
    );
    let yaml = config(upstream.address, &["path: /a, access: {}"], &sections);
    let gateway = Gateway::start(&yaml);
    let mut claims = issuer.claims();
    claims["cnf"] = json!({"jkt": thumbprint(&own)});
    let token = key.sign(&claims);
    claims["iss"] = json!(format!("{}/x", issuer.issuer));
    let in_field = key.sign(&claims);
    for client in gateway.both() {
        let proof = || Proof::new(&own, "GET", "https://localhost/a");
        let good = with_proof(request("GET", "/a"), &token, &proof().of(&token).sign());
        assert_eq!(client.send(good).await.status, 200);
        let other = Proof::new(&key, "GET", "https://localhost/a").of(&token).sign();
        let answer = client.send(with_proof(request("GET", "/a"), &token, &other)).await;
        assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("invalid_dpop_proof")));
        assert_eq!(client.get_with("/a", &token).await.status, 401);
        // There is no scheme in a field of its own.
        let asked = with_header(request("GET", "/a"), "x-token", &in_field);
        let answer = client.send(with_header(asked, "dpop", &proof().of(&in_field).sign())).await;
        assert_eq!(answer.status, 401);
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "not_proven");
    }
}

#[tokio::test]
async fn a_static_token_never_comes_by_the_scheme_dpop() {
    use crate::support::proof::hash;
    let value = "legacy-report-job-of-2019";
    let hash = hash(value);
    let tokens =
        format!("static_tokens:\n  job: {{hash: \"sha256:{hash}\", scopes: [a], until: 2999-01-01T00:00:00Z}}\n");
    let world = World::start(&[ANY, "path: /bound, access: {bound: either}"], &tokens).await;
    let client = Client::new(&world.gateway);
    assert_eq!(client.get_with("/any/a", value).await.status, 200);
    let proof = world.proof("GET", "/any/a", value).sign();
    let answer = client.send(with_proof(request("GET", "/any/a"), value, &proof)).await;
    world.is_refused(&answer, 401, "invalid_token", "not_bound");
    let answer = client.get_with("/bound", value).await;
    world.is_refused(&answer, 401, "invalid_token", "not_bound");
}

#[tokio::test]
async fn a_route_that_reports_lets_a_bad_proof_pass() {
    let until = jiff::Timestamp::from_second((now() + 86_400).try_into().unwrap()).unwrap();
    let world = World::start(&[&format!("path: /a, access: {{bound: dpop}}, report_until: {until}")], "").await;
    let client = Client::new(&world.gateway);
    let (bearer, bound) = (bearer(&world).await, world.bound_token().await);
    let bad = world.proof("POST", "/a", &bound).sign();
    for (asked, reason) in [
        (with_token(request("GET", "/a"), &bearer), "not_bound"),
        (with_token(request("GET", "/a"), &bound), "not_proven"),
        (with_proof(request("GET", "/a"), &bound, &bad), "invalid_proof"),
    ] {
        world.upstream.forget();
        let answer = client.send(asked).await;
        assert_eq!(answer.status, 200);
        let line = world.gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], &line["gateway.would_deny"]), (&json!("would_deny"), &json!(reason)));
        let seen = world.upstream.only();
        assert!(!seen.headers.contains_key("authorization") && !seen.headers.contains_key("dpop"));
        assert!(!seen.headers.contains_key("x-auth-client-id"), "{reason}");
    }
}
