//! Assertions and DPoP proofs count once over all replicas.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;

use super::Replicas;
use crate::support::client::{basic, request, with_body, with_header};
use crate::support::issuer::{Key, now};
use crate::support::proof::{Proof, with_proof};
use crate::support::world::SECRET;
use crate::support::{Answer, Client};

const TOKEN_URL: &str = "https://localhost/oauth/token";

impl Replicas {
    async fn sends(&self, replica: usize, request: Request<Full<Bytes>>) -> Answer {
        Client::new(&self.gateways[replica]).send(request).await
    }

    /// A token of `app` that is bound to the key, with a nonce if replicas demand one.
    async fn bound_token(&self, replica: usize, key: &Key) -> String {
        let proof = || Proof::new(key, "POST", TOKEN_URL);
        let mut answer = self.sends(replica, grant(&proof().sign())).await;
        if answer.status == 400 {
            let nonce = answer.header("dpop-nonce").to_owned();
            answer = self.sends(replica, grant(&proof().with("nonce", nonce).sign())).await;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn calls(&self, replica: usize, token: &str, proof: &Proof<'_>) -> Answer {
        self.sends(replica, with_proof(request("GET", "/data"), token, &proof.sign())).await
    }
}

fn form(body: String) -> Request<Full<Bytes>> {
    let asked = with_header(request("POST", "/oauth/token"), "content-type", "application/x-www-form-urlencoded");
    with_body(asked, body)
}

fn grant(proof: &str) -> Request<Full<Bytes>> {
    let mut asked = form("grant_type=client_credentials".to_owned());
    asked.headers_mut().insert("authorization", basic("app", SECRET));
    with_header(asked, "dpop", proof)
}

fn proof<'k>(key: &'k Key, token: &str) -> Proof<'k> {
    Proof::new(key, "GET", "https://localhost/data").of(token)
}

#[tokio::test]
async fn an_assertion_counts_once_over_replicas() {
    let key = Key::new("k", "ES256");
    let more = format!("    keyed: {{keys: [{{jwk: {}}}], scopes: [read:data]}}\n", key.jwk());
    let test = "an_assertion_counts_once_over_replicas";
    let Some(mut replicas) = Replicas::start_with(test, 2, &(more + "  token_endpoint: {rate_limits: []}\n")).await
    else {
        return;
    };
    let asked = |id: &str| {
        let claims =
            json!({"iss": "keyed", "sub": "keyed", "aud": "https://localhost:8443", "jti": id, "exp": now() + 60});
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let assertion = key.sign(&claims);
        form(format!("grant_type=client_credentials&client_assertion_type={kind}&client_assertion={assertion}"))
    };
    for (replica, id, status) in [(0, "a", 200), (1, "a", 401), (0, "a", 401), (1, "b", 200), (0, "b", 401)] {
        assert_eq!(replicas.sends(replica, asked(id)).await.status, status, "{id} at {replica}");
    }
    replicas.redis.kill();
    replicas.gateways.iter().for_each(|gateway| drop(gateway.log_line("is unreachable: rate limits")));
    let answer = replicas.sends(0, asked("c")).await;
    assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true), "{answer:?}");
    let token = replicas.token(0).await;
    assert_eq!(replicas.status(1, &token).await, 200, "bearer tokens go on");
    replicas.redis.start_again();
    replicas.gateways[0].log_line(") is reachable");
    // It was not used up by the attempt.
    assert_eq!(replicas.sends(0, asked("c")).await.status, 200);
}

#[tokio::test]
async fn a_proof_counts_once_over_replicas() {
    let key = Key::new("k", "ES256");
    let test = "a_proof_counts_once_over_replicas";
    let Some(mut replicas) = Replicas::start_with(test, 2, "  token_endpoint: {rate_limits: []}\n").await else {
        return;
    };
    let token = replicas.bound_token(0, &key).await;
    let [first, second] = [0, 0].map(|_| proof(&key, &token));
    assert_eq!(replicas.calls(0, &token, &first).await.status, 200);
    for replica in [1, 0] {
        let answer = replicas.calls(replica, &token, &first).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        let line = replicas.gateways[replica].audit_of(answer.request_id());
        assert_eq!(line["gateway.reason"], "proof_replayed", "{line}");
    }
    replicas.redis.kill();
    replicas.gateways.iter().for_each(|gateway| drop(gateway.log_line("is unreachable: rate limits")));
    // Once for each process.
    for (replica, status) in [(0, 200), (0, 401), (1, 200), (1, 401)] {
        assert_eq!(replicas.calls(replica, &token, &second).await.status, status, "at {replica}");
    }
}

#[tokio::test]
async fn a_nonce_counts_at_all_replicas_while_they_share() {
    let key = Key::new("k", "ES256");
    let more = "  token_endpoint: {rate_limits: []}\n  dpop: {nonce: true}\n";
    let test = "a_nonce_counts_at_all_replicas_while_they_share";
    let Some(mut replicas) = Replicas::start_with(test, 2, more).await else { return };
    let token = replicas.bound_token(0, &key).await;
    let nonce = replicas.calls(0, &token, &proof(&key, &token)).await.header("dpop-nonce").to_owned();
    let with_nonce = |nonce: &str| proof(&key, &token).with("nonce", nonce);
    let used = with_nonce(&nonce);
    assert_eq!(replicas.calls(1, &token, &used).await.status, 200, "a nonce of another replica");
    assert_eq!(replicas.calls(0, &token, &used).await.status, 401, "a proof that was used there");
    replicas.redis.kill();
    replicas.gateways.iter().for_each(|gateway| drop(gateway.log_line("is unreachable: rate limits")));
    let refused = replicas.calls(0, &token, &with_nonce(&nonce)).await;
    assert_eq!((refused.status, &refused.json()["error"]), (401, &json!("use_dpop_nonce")), "{refused:?}");
    // A nonce of this process is valid at this process only.
    let own = refused.header("dpop-nonce").to_owned();
    let with_own = with_nonce(&own);
    for (replica, status) in [(0, 200), (0, 401), (1, 401)] {
        assert_eq!(replicas.calls(replica, &token, &with_own).await.status, status, "at {replica}");
    }
    replicas.redis.start_again();
    replicas.gateways.iter().for_each(|gateway| drop(gateway.log_line(") is reachable")));
    // The emptied store knows no used proofs, so nonces from before are not valid at another replica.
    for replica in [0, 1] {
        let answer = replicas.calls(replica, &token, &used).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(replicas.calls(replica, &token, &with_nonce(answer.header("dpop-nonce"))).await.status, 200);
    }
}
