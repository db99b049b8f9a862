//! Issued tokens: the answer, the token in it, and its line in the audit log.

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{CONFIG, Endpoint, GRANT, OTHER_SECRET, SECRET, by_basic, form};
use crate::support::issuer::now;

/// Header and claims of a token.
fn parts(token: &str) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "{token}");
    let read = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (read(parts[0]), read(parts[1]))
}

async fn granted(endpoint: &Endpoint, parameters: &str) -> (Value, Value) {
    let answer = endpoint.grants("app", by_basic(form(&format!("{GRANT}&{parameters}")), "app", SECRET)).await;
    let (_, claims) = parts(answer["access_token"].as_str().unwrap());
    (answer, claims)
}

#[tokio::test]
async fn an_answer_with_a_token_is_json_and_not_stored() {
    let endpoint = Endpoint::start();
    let answer = endpoint.client.send(by_basic(form(GRANT), "app", SECRET)).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("pragma"), "no-cache");
    assert!(!answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_grant_has_the_claims_of_rfc_9068_and_of_its_client() {
    let endpoint = Endpoint::start();
    let before = now();
    let (answer, mut claims) = granted(&endpoint, "").await;
    let (issued, id) = (claims["iat"].as_u64().unwrap(), claims["jti"].take());
    assert!((before..=now()).contains(&issued));
    assert_eq!(id.as_str().unwrap().len(), 22, "128 random bits");
    let expected = json!({
        "iss": "https://localhost:8443", "sub": "app", "client_id": "app", "aud": "https://api.example.com",
        "scope": "read:data write:data", "iat": issued, "nbf": issued, "exp": issued + 3600, "jti": null,
        "department": "research", "floor": 7, "teams": ["red", "blue"],
    });
    assert_eq!(claims, expected);
    assert_eq!(answer["scope"], "read:data write:data");
}

#[tokio::test]
async fn a_tokens_header_names_its_type_and_a_published_key() {
    let endpoint = Endpoint::start();
    let answer = endpoint.grants("app", by_basic(form(GRANT), "app", SECRET)).await;
    let (header, _) = parts(answer["access_token"].as_str().unwrap());
    let published = endpoint.client.get("/.well-known/jwks.json").await.json();
    let key_id = published["keys"][0]["kid"].clone();
    assert_eq!(header, json!({"typ": "at+jwt", "alg": "ES256", "kid": key_id}));
}

#[tokio::test]
async fn a_token_carries_exactly_the_scopes_that_were_asked_for() {
    let endpoint = Endpoint::start();
    for (asked, expected) in [
        ("scope=read:data", "read:data"),
        ("scope=write:data+read:data", "read:data write:data"),
        ("scope=read:data+read:data", "read:data"),
        ("", "read:data write:data"),
    ] {
        let (answer, claims) = granted(&endpoint, asked).await;
        assert_eq!((&answer["scope"], &claims["scope"]), (&expected.into(), &expected.into()), "{asked}");
    }
}

#[tokio::test]
async fn a_token_has_the_requested_audience_or_the_first() {
    let endpoint = Endpoint::start();
    for (asked, expected) in [
        ("", "https://api.example.com"),
        ("audience=https://billing.example.com", "https://billing.example.com"),
        ("resource=https://billing.example.com", "https://billing.example.com"),
        ("audience=https://api.example.com&resource=https://api.example.com", "https://api.example.com"),
    ] {
        assert_eq!(granted(&endpoint, asked).await.1["aud"], expected, "{asked}");
    }
}

#[tokio::test]
async fn a_token_for_several_resources_lists_them_as_asked() {
    let endpoint = Endpoint::start();
    let (api, billing) = ("https://api.example.com", "https://billing.example.com");
    for (asked, expected) in [
        (format!("resource={billing}&resource={api}"), json!([billing, api])),
        (format!("audience={api}&audience={billing}"), json!([api, billing])),
        (format!("audience={api}&resource={billing}&resource={api}"), json!([api, billing])),
        (format!("resource={api}&resource={api}"), json!(api)),
    ] {
        assert_eq!(granted(&endpoint, &asked).await.1["aud"], expected, "{asked}");
    }
    let body = json!({"scope": ["write:data", "read:data"], "resource": [billing, api]}).to_string();
    let answer = endpoint.grants("app", by_basic(super::json(&body), "app", SECRET)).await;
    let (_, claims) = parts(answer["access_token"].as_str().unwrap());
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!([billing, api]), &json!("read:data write:data")));
}

#[tokio::test]
async fn no_two_tokens_have_the_same_id() {
    let endpoint = Endpoint::start();
    let mut ids = std::collections::HashSet::new();
    for _ in 0..20 {
        assert!(ids.insert(granted(&endpoint, "").await.1["jti"].to_string()));
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_its_client_is_given() {
    let endpoint = Endpoint::start();
    let answer = endpoint.grants("other", by_basic(form(GRANT), "other", OTHER_SECRET)).await;
    let (_, claims) = parts(answer["access_token"].as_str().unwrap());
    let lives = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!((&answer["expires_in"], lives), (&90.into(), 90));
}

#[tokio::test]
async fn the_audit_log_records_the_granted_token() {
    let endpoint = Endpoint::start();
    let answer = endpoint.client.send(by_basic(form(&format!("{GRANT}&scope=read:data")), "app", SECRET)).await;
    let (header, claims) = parts(answer.json()["access_token"].as_str().unwrap());
    let line = endpoint.gateway.audit_of(answer.request_id());
    for (name, expected) in [
        ("gateway.decision", json!("issue")),
        ("http.route", json!("(token)")),
        ("http.response.status_code", json!(200)),
        ("oauth.issuer", json!("self")),
        ("oauth.client_id", json!("app")),
        ("oauth.subject", json!("app")),
        ("oauth.scope", json!("read:data")),
        ("oauth.jti", claims["jti"].clone()),
        ("oauth.kid", header["kid"].clone()),
    ] {
        assert_eq!(line[name], expected, "{name} in {line}");
    }
    assert!(line.get("gateway.reason").is_none() && line.get("oauth.verified").is_none(), "{line}");
}

#[tokio::test]
async fn a_secret_that_people_thought_up_is_kept_as_argon2id() {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8 * 1024, 1, 1, None).unwrap());
    let hash = argon2.hash_password_with_salt(b"hunter42", b"some salt, no secret").unwrap().to_string();
    let value = format!("value: \"{OTHER_SECRET}\"");
    let endpoint = Endpoint::configured(&CONFIG.replace(&value, &format!("hash: \"{hash}\"")));
    endpoint.grants("other", by_basic(form(GRANT), "other", "hunter42")).await;
    for wrong in ["hunter43", "Hunter42", &hash] {
        endpoint.refuses(by_basic(form(GRANT), "other", wrong), 401, "invalid_client", "invalid_client").await;
    }
    endpoint.keeps_quiet_about("hunter42");
}

#[tokio::test]
async fn a_generated_secret_is_kept_as_sha256() {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"gw_generated");
    let hash = format!("hash: \"sha256:{}\"", URL_SAFE_NO_PAD.encode(hash));
    let endpoint = Endpoint::configured(&CONFIG.replace(&format!("value: \"{OTHER_SECRET}\""), &hash));
    endpoint.grants("other", by_basic(form(GRANT), "other", "gw_generated")).await;
    endpoint.refuses(by_basic(form(GRANT), "other", "gw_generate"), 401, "invalid_client", "invalid_client").await;
}
