//! Platform tokens that are refused: the answer is the same for every cause, and the audit log has the cause.

use serde_json::{Value, json};

use super::{GRANT, OWN, World, by_assertion, by_grant, form};
use crate::support::issuer::{Key, Published, now};

/// Each failure counts for its subject and address.
fn subject(number: usize) -> String {
    format!("repo:acme/r{number}:ref:refs/heads/main")
}

#[tokio::test]
async fn a_token_that_does_not_fit_is_refused_alike() {
    let world = World::start().await;
    let api = "https://api.example.com";
    let cases = [
        (json!({"aud": api}), "bad_audience"),
        (json!({"aud": [OWN, api]}), "bad_audience"),
        (json!({"aud": format!("{OWN}/oauth/token")}), "bad_audience"),
        (json!({"cnf": {}}), "malformed"),
        (json!({"aud": [OWN, OWN]}), "bad_audience"),
        (json!({"aud": format!("{OWN}/")}), "bad_audience"),
        (json!({"aud": null}), "missing_claim"),
        (json!({"aud": ""}), "missing_claim"),
        (json!({"aud": []}), "missing_claim"),
        (json!({"exp": null}), "missing_claim"),
        (json!({"exp": now() - 3600}), "expired"),
        (json!({"nbf": now() + 3600}), "not_yet_valid"),
        (json!({"iat": now() + 3600}), "not_yet_valid"),
        (json!({"sub": null}), "missing_claim"),
        (json!({"sub": ""}), "missing_claim"),
        (json!({"sub": 7}), "malformed"),
        (json!({"iss": "https://other.example.com"}), "unknown_issuer"),
        (json!({"iss": null}), "missing_claim"),
        (json!({"iss": OWN}), "unknown_issuer"),
        (json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}), "not_proven"),
        (json!({"sub": "repo:acme/a/b:ref:refs/heads/main"}), "no_federated_client"),
        (json!({"sub": "repo:acme/:ref:refs/heads/main"}), "no_federated_client"),
        (json!({"sub": "repo:acme:ref:refs/heads/main"}), "no_federated_client"),
        (json!({"sub": "repo:acme-evil/api:ref:refs/heads/main"}), "no_federated_client"),
        (json!({"sub": "repo:acme/api-evil:ref:refs/heads/main:x"}), "no_federated_client"),
        (json!({"sub": "repo:evil/x:repo:acme/api:ref:refs/heads/main"}), "no_federated_client"),
        (json!({"sub": "repo:acme/api:ref:refs/heads/main2"}), "no_federated_client"),
        (json!({"sub": "repo:acme/api:pull_request"}), "no_federated_client"),
        (json!({"sub": "*:acme/api:ref:refs/heads/main"}), "no_federated_client"),
        (json!({"sub": "repo:*/api:ref:refs/heads/main"}), "no_federated_client"),
        (json!({"sub": "repo:acme/x:both"}), "no_federated_client"),
        (json!({"sub": "repo:acme/x:both", "a": "1", "b": "1"}), "several_federated_clients"),
    ];
    for (number, (mut changes, reason)) in cases.into_iter().enumerate() {
        if changes.get("sub").is_none() {
            changes["sub"] = subject(number).into();
        }
        let token = world.token(changes.clone());
        let answers =
            [world.client.send(by_assertion(&token, &[])).await, world.client.send(by_grant(&token, &[])).await];
        let texts = answers.each_ref().map(|answer| {
            let line = world.gateway.audit_of(answer.request_id());
            assert_eq!(line["gateway.reason"], reason, "{changes} {line}");
            assert!(line["gateway.found"].is_string() && line["gateway.wanted"].is_string(), "{line}");
            (answer.status, answer.json()["error"].clone(), answer.json()["error_description"].clone())
        });
        let expected = [
            (401, "invalid_client".into(), "client authentication failed".into()),
            (400, "invalid_grant".into(), "the assertion is not accepted".into()),
        ];
        assert_eq!(texts, expected, "{changes}");
    }
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_token_with_another_header_is_refused() {
    let world = World::start().await;
    let other = Key::new("k", "ES256");
    let header = |changes: Value| {
        let mut header = json!({"typ": "JWT", "alg": "ES256", "kid": "k"});
        header.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        header
    };
    let claims = |number: usize| world.claims(json!({"sub": subject(number)}));
    for (number, (changes, reason)) in [
        (json!({"typ": "at+jwt"}), "type_not_allowed"),
        (json!({"typ": "application/AT+JWT"}), "type_not_allowed"),
        (json!({"typ": "dpop+jwt"}), "type_not_allowed"),
        (json!({"typ": "logout+jwt"}), "type_not_allowed"),
        (json!({"alg": "none"}), "alg_not_allowed"),
        (json!({"alg": "HS256"}), "alg_not_allowed"),
        (json!({"alg": "RS256"}), "unknown_kid"),
        (json!({"crit": ["x"], "x": 1}), "malformed"),
    ]
    .into_iter()
    .enumerate()
    {
        let token = world.key.sign_with(&header(changes), &claims(number));
        world.refuses(by_assertion(&token, &[]), (401, "invalid_client", reason)).await;
        world.refuses(by_grant(&token, &[]), (400, "invalid_grant", reason)).await;
    }
    let forged = other.sign_with(&header(json!({})), &claims(100));
    world.refuses(by_grant(&forged, &[]), (400, "invalid_grant", "bad_signature")).await;
    let embedded = other.sign_with(&header(json!({"jwk": other.jwk()})), &claims(101));
    world.refuses(by_grant(&embedded, &[]), (400, "invalid_grant", "bad_signature")).await;
    for (number, text) in ["x", "a.b.c", "....", "{}"].into_iter().enumerate() {
        let line = world.refuses(by_grant(text, &[]), (400, "invalid_grant", "malformed")).await;
        assert_eq!(line["oauth.client_id"], Value::Null, "{number}");
    }
}

#[tokio::test]
async fn a_platform_token_is_no_access_token() {
    let world = World::start().await;
    let own = world.key.sign_with(&json!({"typ": "at+jwt", "alg": "ES256", "kid": "k"}), &world.claims(json!({})));
    let usual = world.token(json!({"aud": "https://api.example.com", "scope": "read:data"}));
    for token in [world.token(json!({})), own, usual] {
        for path in ["/any", "/audience", "/read"] {
            // The second time, it would be in a cache.
            for _ in 0..2 {
                let answer = world.client.get_with(path, &token).await;
                let line = world.gateway.audit_of(answer.request_id());
                let found = (answer.status, &line["gateway.reason"]);
                assert_eq!(found, (401, &"issuer_not_allowed".into()), "{path} {line}");
            }
        }
    }
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn an_access_token_of_ours_is_no_credential() {
    let world = World::start().await;
    let (granted, _) = world.grants(by_grant(&world.token(json!({})), &[])).await;
    let access = granted["access_token"].as_str().unwrap();
    world.refuses(by_assertion(access, &[]), (401, "invalid_client", "unknown_issuer")).await;
    world.refuses(by_grant(access, &[]), (400, "invalid_grant", "unknown_issuer")).await;
}

#[tokio::test]
async fn a_client_at_another_address_is_refused() {
    let world = World::start().await;
    let token = world.token(json!({"sub": "elsewhere"}));
    world.refuses(by_assertion(&token, &[]), (401, "invalid_client", "address_not_allowed")).await;
    world.refuses(by_grant(&token, &[]), (400, "invalid_grant", "address_not_allowed")).await;
}

#[tokio::test]
async fn unavailable_keys_of_a_platform_are_503() {
    let world = World::start().await;
    let other = Key::new("new", "ES256");
    world.ci.publish(Published { status: 500, ..Published::text("") });
    // The set that is there lacks the key, and cannot be fetched again.
    let upstream = &world.upstream;
    let ci = crate::support::issuer::Issuer::start(&[]).await;
    ci.publish(Published { status: 500, ..Published::text("") });
    let gateway = crate::support::Gateway::start(&super::yaml(&ci, upstream, super::CLIENTS, ""));
    let client = crate::support::Client::new(&gateway);
    let mut claims = world.claims(json!({}));
    claims["iss"] = ci.issuer.clone().into();
    for asked in [by_assertion(&other.sign(&claims), &[]), by_grant(&other.sign(&claims), &[])] {
        let answer = client.send(asked).await;
        assert_eq!((answer.status, &answer.json()["error"]), (503, &"temporarily_unavailable".into()), "{answer:?}");
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "keys_unavailable");
    }
}

#[tokio::test]
async fn repeated_failures_of_a_platform_subject_are_delayed() {
    let world = World::start().await;
    let forged = Key::new("k", "ES256").sign(&world.claims(json!({"sub": "repo:acme/x:y"})));
    for _ in 0..20 {
        world.refuses(by_grant(&forged, &[]), (400, "invalid_grant", "bad_signature")).await;
    }
    let bad = world.token(json!({"sub": "repo:acme/x:y"}));
    for _ in 0..10 {
        world.refuses(by_grant(&bad, &[]), (400, "invalid_grant", "no_federated_client")).await;
    }
    // One attempt a second is still checked.
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(world.client.send(by_grant(&bad, &[])).await.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    world.grants(by_grant(&world.token(json!({"sub": subject(1)})), &[])).await;
}

#[tokio::test]
async fn platform_tokens_cause_no_fetch_for_each_request() {
    let world = World::start().await;
    let (before, other) = (world.ci.fetches(), Key::new("k", "ES256"));
    for number in 0..100 {
        let claims = world.claims(json!({"sub": subject(number)}));
        world.grants(by_grant(&world.key.sign(&claims), &[])).await;
        world.refuses(by_grant(&other.sign(&claims), &[]), (400, "invalid_grant", "bad_signature")).await;
    }
    assert!(world.ci.fetches() - before < 20, "{}", world.ci.fetches());
}

#[tokio::test]
async fn a_grant_without_its_assertion_is_refused() {
    let world = World::start().await;
    for fields in [&[("grant_type", GRANT)][..], &[("grant_type", GRANT), ("assertion", "")]] {
        world.refuses(form(fields), (400, "invalid_request", "invalid_request")).await;
    }
    let token = world.token(json!({}));
    for grant in ["client_credentials", "password", "urn:ietf:params:oauth:grant-type:saml2-bearer"] {
        let asked = form(&[("grant_type", grant), ("assertion", &token)]);
        world.refuses(asked, (401, "invalid_client", "invalid_client")).await;
    }
}
