//! The documents that others need to trust our tokens: issuer metadata, the JWK Set, and keys that outlive a restart.

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{CONFIG, Endpoint, GRANT, SECRET, by_basic, form};
use crate::support::client::request;
use crate::support::gateway::folder;
use crate::support::{Client, Gateway, Upstream};

const METADATA: &str = "/.well-known/oauth-authorization-server";
const OPENID_METADATA: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/.well-known/jwks.json";

/// With a protected route to a real upstream, and keys of this algorithm.
fn config(algorithm: &str, upstream: &Upstream) -> String {
    let config = CONFIG.replace("algorithm: ES256", &format!("algorithm: {algorithm}"));
    let config = config.replace("127.0.0.1:9", &upstream.address.to_string());
    config.replace("access: public", "access: {scopes: [read:data]}")
}

/// RFC 7638, by hand.
fn thumbprint(jwk: &Value) -> String {
    let members = match jwk["kty"].as_str().unwrap() {
        "RSA" => ["e", "kty", "n"].as_slice(),
        "EC" => &["crv", "kty", "x", "y"],
        _ => &["crv", "kty", "x"],
    };
    let members: Vec<String> = members.iter().map(|name| format!("\"{name}\":{}", jwk[name])).collect();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("{{{}}}", members.join(",")).as_bytes()))
}

/// Everything from request to forwarded request, with keys of one algorithm.
async fn serves(algorithm: &str, members: &[&str]) {
    let upstream = Upstream::start().await;
    let endpoint = Endpoint::configured(&config(algorithm, &upstream));
    let answer = endpoint.grants("app", by_basic(form(GRANT), "app", SECRET)).await;
    let token = answer["access_token"].as_str().unwrap();
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();

    let published = endpoint.client.get(JWKS).await.json();
    let [jwk] = published["keys"].as_array().unwrap().as_slice() else { panic!("{published}") };
    let mut names: Vec<&str> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, members, "public members only");
    assert_eq!((&jwk["alg"], &jwk["use"]), (&algorithm.into(), &"sig".into()));
    assert_eq!(jwk["kid"], thumbprint(jwk));
    assert_eq!(header, json!({"typ": "at+jwt", "alg": algorithm, "kid": jwk["kid"]}));

    let answer = endpoint.client.get_with("/ping", token).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let line = endpoint.gateway.audit_of(answer.request_id());
    assert_eq!((&line["gateway.decision"], &line["oauth.kid"]), (&"allow".into(), &jwk["kid"]));
    assert_eq!(upstream.only().header("x-auth-client-id"), "app");
}

const RSA: [&str; 6] = ["alg", "e", "kid", "kty", "n", "use"];
const EC: [&str; 7] = ["alg", "crv", "kid", "kty", "use", "x", "y"];

#[tokio::test]
async fn tokens_signed_with_rs256_are_good_at_home() {
    serves("RS256", &RSA).await;
}
#[tokio::test]
async fn tokens_signed_with_ps256_are_good_at_home() {
    serves("PS256", &RSA).await;
}
#[tokio::test]
async fn tokens_signed_with_es256_are_good_at_home() {
    serves("ES256", &EC).await;
}
#[tokio::test]
async fn tokens_signed_with_es384_are_good_at_home() {
    serves("ES384", &EC).await;
}
#[tokio::test]
async fn tokens_signed_with_eddsa_are_good_at_home() {
    serves("EdDSA", &["alg", "crv", "kid", "kty", "use", "x"]).await;
}

#[tokio::test]
async fn the_metadata_is_the_same_at_both_paths() {
    let endpoint = Endpoint::start();
    let (one, other) = (endpoint.client.get(METADATA).await, endpoint.client.get(OPENID_METADATA).await);
    assert_eq!((one.status, &one.body), (200, &other.body));
    let metadata = one.json();
    assert_eq!(metadata["issuer"], "https://localhost:8443");
    assert_eq!(metadata["token_endpoint"], "https://localhost:8443/oauth/token");
    assert_eq!(metadata["jwks_uri"], "https://localhost:8443/.well-known/jwks.json");
    assert_eq!(metadata["grant_types_supported"], json!(["client_credentials"]));
    let methods = json!(["client_secret_basic", "client_secret_post"]);
    assert_eq!(metadata["token_endpoint_auth_methods_supported"], methods);
    assert_eq!(metadata["response_types_supported"], json!(["none"]));
    assert_eq!(metadata["subject_types_supported"], json!(["public"]));
    assert_eq!(metadata["id_token_signing_alg_values_supported"], json!(["ES256"]));
    assert_eq!(metadata["scopes_supported"], json!(["read:data", "write:data"]));
}

/// A token and the documents of a gateway with this issuer; each URL of the metadata is asked.
async fn is_complete_below(issuer: &str, places: [&str; 4], token_path: &str) {
    let upstream = Upstream::start().await;
    let yaml = config("ES256", &upstream).replace("issuer: https://localhost:8443", &format!("issuer: {issuer}"));
    let endpoint = Endpoint::configured(&yaml);
    let mut documents = Vec::new();
    for place in places {
        let answer = endpoint.client.get(place).await;
        assert_eq!(answer.status, 200, "{place}");
        documents.push(answer.json());
    }
    let metadata = documents.pop().unwrap();
    assert!(documents.iter().all(|document| *document == metadata));
    assert_eq!(metadata["issuer"], issuer);
    let path_of =
        |name: &str| metadata[name].as_str().unwrap().strip_prefix("https://localhost:8443").unwrap().to_owned();
    assert_eq!(path_of("token_endpoint"), token_path);
    assert_eq!(endpoint.client.get(&path_of("jwks_uri")).await.json()["keys"].as_array().unwrap().len(), 1);
    let post = |name: &str, body: &str| {
        let mut asked = by_basic(form(body), "app", SECRET);
        *asked.uri_mut() = path_of(name).parse().unwrap();
        asked
    };
    let granted = endpoint.grants("app", post("token_endpoint", GRANT)).await;
    let token = granted["access_token"].as_str().unwrap();
    assert_eq!(endpoint.client.get_with("/ping", token).await.status, 200);
    let revoked = endpoint.client.send(post("revocation_endpoint", &format!("token={token}"))).await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    assert_eq!(endpoint.client.get_with("/ping", token).await.status, 401);
    for elsewhere in [METADATA, OPENID_METADATA, JWKS, "/oauth/token", "/oauth/revoke", "/oauth/authorize"] {
        assert_eq!(endpoint.client.get(elsewhere).await.status, 404, "{elsewhere}");
    }
}

#[tokio::test]
async fn the_authorization_endpoint_refuses_every_request() {
    let endpoint = Endpoint::start();
    let metadata = endpoint.client.get(METADATA).await.json();
    assert_eq!(metadata["authorization_endpoint"], "https://localhost:8443/oauth/authorize");
    for method in ["GET", "POST"] {
        let answer = endpoint.client.send(request(method, "/oauth/authorize?response_type=code&client_id=app")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"unsupported_response_type".into()), "{method}");
        let line = endpoint.gateway.audit_of(answer.request_id());
        let expected = (&"unsupported_grant".into(), &"(authorization)".into());
        assert_eq!((&line["gateway.reason"], &line["http.route"]), expected, "{method}");
    }
    assert_eq!(endpoint.client.send(request("PUT", "/oauth/authorize")).await.status, 405);
}

#[tokio::test]
async fn an_issuer_with_a_path_has_its_metadata_inserted_and_appended() {
    let places = [
        "/.well-known/oauth-authorization-server/auth/v1",
        "/.well-known/openid-configuration/auth/v1",
        "/auth/v1/.well-known/oauth-authorization-server",
        "/auth/v1/.well-known/openid-configuration",
    ];
    is_complete_below("https://localhost:8443/auth/v1", places, "/auth/v1/oauth/token").await;
    is_complete_below("https://localhost:8443/auth/v1/", places, "/auth/v1/oauth/token").await;
}

#[tokio::test]
async fn the_issuer_of_a_token_is_exactly_as_configured() {
    for issuer in ["https://localhost:8443/", "https://localhost:8443/auth", "https://localhost:8443/auth/"] {
        let endpoint = Endpoint::configured(&CONFIG.replace("https://localhost:8443", issuer));
        let metadata = match issuer.contains("auth") {
            true => endpoint.client.get("/auth/.well-known/openid-configuration").await.json(),
            false => endpoint.client.get(OPENID_METADATA).await.json(),
        };
        assert_eq!(metadata["issuer"], issuer);
        let mut asked = by_basic(form(GRANT), "app", SECRET);
        *asked.uri_mut() =
            metadata["token_endpoint"].as_str().unwrap()["https://localhost:8443".len()..].parse().unwrap();
        let answer = endpoint.client.send(asked).await.json();
        let claims = answer["access_token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims["iss"], issuer);
    }
}

#[tokio::test]
async fn the_metadata_follows_the_token_endpoint_wherever_it_is() {
    let endpoint = Endpoint::configured(&CONFIG.replace("token_endpoint: {", "token_endpoint: {path: /v2/token, "));
    let metadata = endpoint.client.get(METADATA).await.json();
    assert_eq!(metadata["token_endpoint"], "https://localhost:8443/v2/token");
    let mut asked = by_basic(form(GRANT), "app", SECRET);
    *asked.uri_mut() = "/v2/token".parse().unwrap();
    endpoint.grants("app", asked).await;
    assert_eq!(endpoint.client.send(by_basic(form(GRANT), "app", SECRET)).await.status, 404);
}

#[tokio::test]
async fn documents_are_cacheable_json_and_answer_head() {
    let endpoint = Endpoint::start();
    for path in [METADATA, OPENID_METADATA, JWKS] {
        let whole = endpoint.client.get(path).await;
        assert_eq!(whole.header("content-type"), "application/json");
        assert_eq!(whole.header("cache-control"), "public, max-age=300");
        let head = endpoint.client.send(request("HEAD", path)).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), whole.body.len().to_string(), "{path}");
        let post = endpoint.client.send(request("POST", path)).await;
        assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"), "{path}");
    }
}

#[tokio::test]
async fn documents_are_found_under_any_host() {
    let endpoint = Endpoint::start();
    let mut asked = request("GET", JWKS);
    *asked.uri_mut() = format!("https://elsewhere.example.com{JWKS}").parse().unwrap();
    asked.headers_mut().insert("host", "elsewhere.example.com".parse().unwrap());
    assert_eq!(endpoint.client.send(asked).await.status, 200);
}

#[tokio::test]
async fn a_gateway_that_only_validates_has_no_endpoints_of_its_own() {
    let (start, rest) = CONFIG.split_once("oauth:").unwrap();
    let endpoint = Endpoint::configured(&format!("{start}upstreams:{}", rest.split_once("upstreams:").unwrap().1));
    assert_eq!(endpoint.client.send(by_basic(form(GRANT), "app", SECRET)).await.status, 404);
    for path in [METADATA, OPENID_METADATA, JWKS] {
        assert_eq!(endpoint.client.get(path).await.status, 404, "{path}");
    }
}

/// The same folder, so the same keys.
fn restarted(old: &mut Gateway, yaml: &str) -> Gateway {
    assert!(old.stop().success());
    Gateway::start_in(old.folder.clone(), yaml, &[])
}

#[tokio::test]
async fn a_token_is_good_after_a_restart() {
    let upstream = Upstream::start().await;
    let yaml = config("ES256", &upstream);
    let mut before = Gateway::start(&yaml);
    let token = Client::new(&before).granted("app", SECRET, "").await;
    let after = restarted(&mut before, &yaml);
    let answer = Client::new(&after).get_with("/ping", &token).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_token_is_good_after_its_algorithm_was_changed_from() {
    let upstream = Upstream::start().await;
    let mut before = Gateway::start(&config("ES256", &upstream));
    let old = Client::new(&before).granted("app", SECRET, "").await;
    let after = restarted(&mut before, &config("EdDSA", &upstream));
    let client = Client::new(&after);
    let new = client.granted("app", SECRET, "").await;
    for token in [&old, &new] {
        assert_eq!(client.get_with("/ping", token).await.status, 200);
    }
    assert_eq!(client.get(JWKS).await.json()["keys"].as_array().unwrap().len(), 2);
    let metadata = client.get(METADATA).await.json();
    assert_eq!(metadata["id_token_signing_alg_values_supported"], json!(["ES256", "EdDSA"]));
}

#[tokio::test]
async fn a_key_that_gets_a_name_leaves_earlier_tokens_valid() {
    let upstream = Upstream::start().await;
    let yaml = config("ES256", &upstream);
    let mut before = Gateway::start(&yaml);
    let old = Client::new(&before).granted("app", SECRET, "").await;
    assert!(before.stop().success());
    // As if the key had been brought along by name all the time, into a folder without a journal.
    let keys = before.folder.join("state/keys");
    let files = std::fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().path());
    let key = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "pem")).unwrap();
    std::fs::remove_file(keys.join("ring.json")).unwrap();
    std::fs::rename(key, keys.join("2026-11.pem")).unwrap();
    let after = Gateway::start_in(before.folder.clone(), &yaml, &[]);
    let client = Client::new(&after);
    let answer = client.send(by_basic(form(GRANT), "app", SECRET)).await;
    assert_eq!(after.audit_of(answer.request_id())["oauth.kid"], "2026-11");
    let new = answer.json()["access_token"].as_str().unwrap().to_owned();
    for (token, kid) in [(&old, thumbprint(&client.get(JWKS).await.json()["keys"][0])), (&new, "2026-11".to_owned())] {
        let answer = client.get_with("/ping", token).await;
        assert_eq!((answer.status, &after.audit_of(answer.request_id())["oauth.kid"]), (200, &kid.into()));
    }
}

#[tokio::test]
async fn a_token_of_another_gateways_keys_is_refused() {
    let upstream = Upstream::start().await;
    let yaml = config("ES256", &upstream);
    let (one, other) = (Gateway::start(&yaml), Gateway::start(&yaml));
    let token = Client::new(&one).granted("app", SECRET, "").await;
    let answer = Client::new(&other).get_with("/ping", &token).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(other.audit_of(answer.request_id())["gateway.reason"], "unknown_kid");
}

#[tokio::test]
async fn signing_keys_are_for_the_gateways_eyes_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let _gateway = Gateway::start_in(folder.clone(), CONFIG, &[]);
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let keys = folder.join("state/keys");
    let files: Vec<PathBuf> = std::fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!((mode(&keys), files.len()), (0o700, 3), "key, journal and lock: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}
