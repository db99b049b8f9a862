//! `oauth.dpop.nonce`: a proof needs a nonce of this process.

use serde_json::json;

use super::{ANY, TOKEN_URL, World, token_request};
use crate::support::client::{request, with_body, with_header};
use crate::support::issuer::now;
use crate::support::proof::{Proof, with_proof};
use crate::support::{Client, Gateway};

const NONCES: &str = "  dpop: {nonce: true}\n";

#[tokio::test]
async fn a_proof_without_a_nonce_gets_one() {
    let world = World::start(&[ANY], NONCES).await;
    for client in world.gateway.both() {
        let first = Proof::new(&world.key, "POST", TOKEN_URL).sign();
        let answer = client.send(token_request("app", &[&first])).await;
        world.is_refused(&answer, 400, "use_dpop_nonce", "proof_nonce");
        let nonce = answer.header("dpop-nonce").to_owned();
        let token = world.bound_token_of("app", &[("nonce", &nonce)]).await;
        let asked = |proof: Proof<'_>| with_proof(request("GET", "/any/a"), &token, &proof.sign());
        let answer = client.send(asked(world.proof("GET", "/any/a", &token))).await;
        world.is_refused(&answer, 401, "use_dpop_nonce", "proof_nonce");
        assert!(answer.header("www-authenticate").contains("error=\"use_dpop_nonce\""), "{answer:?}");
        let nonce = answer.header("dpop-nonce").to_owned();
        let answer = client.send(asked(world.proof("GET", "/any/a", &token).with("nonce", nonce.as_str()))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn nonces_of_another_process_and_invented_ones_are_refused() {
    let (one, other) = (World::start(&[ANY], NONCES).await, World::start(&[ANY], NONCES).await);
    let proof = |nonce: &str| Proof::new(&one.key, "POST", TOKEN_URL).with("nonce", nonce).sign();
    let answer = Client::new(&other.gateway).send(token_request("app", &[&proof("")])).await;
    let foreign = answer.header("dpop-nonce").to_owned();
    let client = Client::new(&one.gateway);
    for nonce in [foreign.as_str(), "", "a", "AAAAAAAAAAAAAAAAAAAAAA", &format!("{foreign}=")] {
        let answer = client.send(token_request("app", &[&proof(nonce)])).await;
        one.is_refused(&answer, 400, "use_dpop_nonce", "proof_nonce");
        assert_ne!(answer.header("dpop-nonce"), nonce);
    }
}

#[tokio::test]
async fn nonces_live_on_over_a_reload() {
    let world = World::start(&[ANY], NONCES).await;
    let client = Client::new(&world.gateway);
    let nonce = {
        let first = Proof::new(&world.key, "POST", TOKEN_URL).sign();
        client.send(token_request("app", &[&first])).await.header("dpop-nonce").to_owned()
    };
    let yaml = std::fs::read_to_string(world.gateway.folder.join("gateway.yaml")).unwrap();
    world.gateway.reloads(&yaml.replace("nonce: true", "nonce: true, max_age: 90s"));
    let proof = Proof::new(&world.key, "POST", TOKEN_URL).with("nonce", nonce).sign();
    let answer = client.send(token_request("app", &[&proof])).await;
    assert_eq!((answer.status, &answer.json()["token_type"]), (200, &json!("DPoP")));
}

#[tokio::test]
async fn an_assertion_is_not_used_up_by_the_demand_for_a_nonce() {
    let world = World::start(&[ANY], NONCES).await;
    let yaml = std::fs::read_to_string(world.gateway.folder.join("gateway.yaml")).unwrap();
    let by_key = format!("    keyed: {{keys: [{{jwk: {}}}], scopes: [read:data]}}\n  dpop:", world.key.jwk());
    let gateway = Gateway::start(&yaml.replace("  dpop:", &by_key));
    let client = Client::new(&gateway);
    let claims = json!({
        "iss": "keyed", "sub": "keyed", "aud": "https://localhost:8443", "jti": "1", "exp": now() + 60,
    });
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        .append_pair("client_assertion", &world.key.sign(&claims))
        .finish();
    let asked = |proof: Proof<'_>| {
        let asked = with_header(request("POST", "/oauth/token"), "content-type", "application/x-www-form-urlencoded");
        with_header(with_body(asked, body.clone()), "dpop", &proof.sign())
    };
    let proof = || Proof::new(&world.key, "POST", TOKEN_URL);
    let first = client.send(asked(proof())).await;
    assert_eq!((first.status, &first.json()["error"]), (400, &json!("use_dpop_nonce")), "{first:?}");
    let line = gateway.audit_of(first.request_id());
    assert_eq!((&line["gateway.reason"], &line["oauth.client_id"]), (&json!("proof_nonce"), &json!("keyed")), "{line}");
    let nonce = first.header("dpop-nonce").to_owned();
    let second = client.send(asked(proof().with("nonce", nonce.as_str()))).await;
    assert_eq!(second.status, 200, "{second:?}");
    let third = client.send(asked(proof().with("nonce", nonce.as_str()))).await;
    assert_eq!((third.status, &third.json()["error"]), (401, &json!("invalid_client")), "{third:?}");
    assert_eq!(gateway.audit_of(third.request_id())["gateway.reason"], "assertion_replayed");
}
