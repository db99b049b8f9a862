//! Access to the documents of an issuer: by a token, header fields, a proxy and HTTP/2.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Version;
use serde_json::json;

use super::{World, claims, set, token};
use crate::support::authority::Authority;
use crate::support::command::run;
use crate::support::gateway::program;
use crate::support::issuer::{Key, now};
use crate::support::secure::{OPENID, Secure, Tunnels, documents};

const HTTP1: &[&[u8]] = &[b"http/1.1"];

/// Kubernetes gives metadata and keys only for a token of a service account, which it rotates.
#[tokio::test]
async fn kubernetes_gives_its_keys_for_the_token_of_the_account() {
    let (authority, key) = (Authority::new(), Key::new("k1", "RS256"));
    let keys = set(&[key.jwk()]);
    let api = Secure::start(&authority, "localhost", HTTP1, move |asked| {
        let issuer = format!("https://{}", asked.header("host").unwrap());
        match (asked.header("authorization"), asked.path.as_str()) {
            (Some("Bearer rotated"), OPENID) => {
                (200, json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks") }).to_string())
            }
            (Some("Bearer rotated"), "/openid/v1/jwks") => (200, keys.clone()),
            (Some("Bearer rotated"), _) => (404, String::new()),
            _ => (401, "{\"kind\":\"Status\",\"code\":401}".to_owned()),
        }
    })
    .await;
    let iss = format!("https://localhost:{}", api.address.port());
    let line = format!("cluster: {{issuer: \"{iss}\", ca: ca.crt, fetch: {{bearer_token_file: token}}}}");
    let world = World::trusting_beside(&[("ca.crt", &authority.certificate), ("token", "first\n")], &[line]).await;
    let log = world.failed("cluster");
    assert!(log.contains("openid-configuration answered 401"), "{log}");
    // As Kubernetes mounts it: every process of the container can read it.
    fs::write(world.gateway.folder.join("token"), "rotated\n").unwrap();
    fs::set_permissions(world.gateway.folder.join("token"), Permissions::from_mode(0o644)).unwrap();
    world.fetched("cluster");
    world
        .accepts(&key.sign_with(
            &json!({ "alg": "RS256", "kid": "k1" }),
            &json!({
                "iss": iss, "aud": ["https://api.example.com"], "sub": "system:serviceaccount:shop:billing",
                "iat": now(), "nbf": now(), "exp": now() + 3600, "jti": "7a3a2f0e",
                "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "billing", "uid": "0e9d" } },
            }),
        ))
        .await;
    let text = world.gateway.log_text();
    assert!(!text.contains("first") && !text.contains("rotated"), "{text}");
}

#[tokio::test]
async fn token_and_headers_are_sent_to_the_configured_origin_only() {
    let (authority, key) = (Authority::new(), Key::new("k1", "ES256"));
    let elsewhere = Secure::start(&authority, "localhost", HTTP1, documents(&key, "", "")).await;
    let keys = format!("https://localhost:{}/jwks", elsewhere.address.port());
    let iss = "https://login.example.com";
    let issuer = Secure::start(&authority, "login.example.com", HTTP1, documents(&key, iss, &keys)).await;
    // Its name leads to it through a proxy, which is asked for both origins.
    let [to_issuer, to_elsewhere] = [Tunnels::to(issuer.address), Tunnels::to(elsewhere.address)];
    let fetch = |proxy: std::net::SocketAddr| {
        format!("fetch: {{bearer_token_file: token, headers: {{X-Key: \"${{KEY}}\"}}, proxy: \"http://{proxy}\"}}")
    };
    let lines = [
        format!("discovered: {{issuer: \"{iss}\", ca: ca.crt, {}}}", fetch(to_issuer.listen().await)),
        format!(
            "configured: {{issuer: \"urn:b\", jwks_uri: \"{keys}\", ca: ca.crt, {}}}",
            fetch(to_elsewhere.listen().await)
        ),
    ];
    let files = [("ca.crt", authority.certificate.as_str()), ("token", "t0ken")];
    let world = World::trusting_with(&[("KEY", "k3y")], &files, &lines).await;
    world.fetched("configured");
    world.accepts(&token(&key, "urn:b")).await;
    let carried = |server: &Secure, path: &str| -> Vec<(Option<String>, Option<String>)> {
        let asked = server.asked().into_iter().filter(|asked| asked.path == path);
        let owned = |value: Option<&str>| value.map(str::to_owned);
        asked.map(|asked| (owned(asked.header("authorization")), owned(asked.header("x-key")))).collect()
    };
    let both = (Some("Bearer t0ken".to_owned()), Some("k3y".to_owned()));
    assert_eq!(carried(&elsewhere, "/jwks"), std::slice::from_ref(&both));
    // The proxy of the first leads to the issuer whatever is asked for, so the name of the other is not verified.
    world.failed("discovered");
    assert_eq!(carried(&issuer, OPENID)[0], both);
    for proxy in [&to_issuer, &to_elsewhere] {
        let heads = proxy.heads().concat();
        assert!(heads.starts_with("CONNECT ") && !heads.contains("t0ken") && !heads.contains("k3y"), "{heads}");
    }
    let text = world.gateway.log_text();
    assert!(!text.contains("t0ken") && !text.contains("k3y"), "{text}");
}

#[tokio::test]
async fn an_error_says_that_credentials_were_withheld() {
    let (authority, key) = (Authority::new(), Key::new("k1", "ES256"));
    let keys = set(&[key.jwk()]);
    let elsewhere = Secure::start(&authority, "localhost", HTTP1, move |asked| match asked.header("authorization") {
        Some("Bearer t0ken") => (200, keys.clone()),
        _ => (403, String::new()),
    })
    .await;
    let jwks_uri = format!("https://localhost:{}/jwks", elsewhere.address.port());
    let site = crate::support::issuer::Site::new();
    let iss = format!("http://{}", site.address);
    let metadata = json!({ "issuer": iss, "jwks_uri": jwks_uri }).to_string();
    let _issuer = crate::support::Upstream::answering_at(site.open(), move |_| {
        http::Response::new(http_body_util::Full::from(metadata.clone()))
    });
    let line = format!("corp: {{issuer: \"{iss}\", ca: ca.crt, fetch: {{bearer_token_file: token}}}}");
    let files = [("ca.crt", authority.certificate.as_str()), ("token", "t0ken")];
    let world = World::trusting_beside(&files, &[line]).await;
    let log = world.failed("corp");
    assert!(log.contains("/jwks answered 403, and the credentials") && log.contains("set `jwks_uri`"), "{log}");
    assert!(elsewhere.asked().iter().all(|asked| asked.header("authorization").is_none()));
    world.refuses(&token(&key, &iss), 503, "keys_unavailable").await;
}

/// The proxy resolves the name, and sees neither the path nor the token.
#[tokio::test]
async fn keys_are_fetched_through_a_proxy() {
    let (authority, key, iss) = (Authority::new(), Key::new("k1", "ES256"), "https://login.example.com");
    let answer = documents(&key, iss, "https://login.example.com/jwks");
    let issuer = Secure::start(&authority, "login.example.com", &[b"h2", b"http/1.1"], answer).await;
    let tunnels = Tunnels::to(issuer.address);
    let (clear, secured) = (tunnels.listen().await, tunnels.listen_by_tls(&authority).await);
    for proxy in [format!("{clear}"), format!("localhost:{}", secured.port())] {
        let scheme = if proxy.starts_with("localhost") { "https" } else { "http" };
        let before = tunnels.heads().len();
        let line = format!(
            "corp: {{issuer: \"{iss}\", ca: ca.crt, fetch: {{proxy: \"{scheme}://us%40er:${{WORD}}@{proxy}\", \
             bearer_token_file: token}}}}"
        );
        let files = [("ca.crt", authority.certificate.as_str()), ("token", "t0ken")];
        let world = World::trusting_with(&[("WORD", "pa55word")], &files, &[line]).await;
        world.accepts(&token(&key, iss)).await;
        let heads = tunnels.heads().split_off(before);
        let credentials = STANDARD.encode("us@er:pa55word").to_lowercase();
        for head in &heads {
            let head = head.to_lowercase();
            assert!(head.starts_with("connect login.example.com:443 http/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("proxy-authorization: basic {credentials}\r\n")), "{head}");
            assert!(!head.contains("\r\nauthorization:") && !head.contains("t0ken"), "{head}");
        }
        assert!(!heads.is_empty());
        let text = world.gateway.log_text();
        assert!(!text.contains("pa55word") && !text.contains("us%40er"), "{text}");
    }
    for asked in issuer.asked() {
        assert_eq!((asked.header("authorization"), asked.header("proxy-authorization")), (Some("Bearer t0ken"), None));
    }
}

#[tokio::test]
async fn an_unreachable_proxy_is_an_outage_and_is_not_bypassed() {
    let (authority, key) = (Authority::new(), Key::new("k1", "ES256"));
    let issuer = Secure::start(&authority, "localhost", HTTP1, documents(&key, "", "")).await;
    let away = crate::support::issuer::Site::new();
    let line = format!(
        "corp: {{issuer: \"urn:corp\", jwks_uri: \"https://localhost:{}/jwks\", ca: ca.crt, fetch: {{proxy: \
         \"http://us3r:${{WORD}}@{}\"}}}}",
        issuer.address.port(),
        away.address
    );
    let files = [("ca.crt", authority.certificate.as_str())];
    let world = World::trusting_with(&[("WORD", "pa55word")], &files, &[line]).await;
    let log = world.failed("corp");
    assert!(!log.contains("pa55word") && !log.contains("us3r"), "{log}");
    world.refuses(&token(&key, "urn:corp"), 503, "keys_unavailable").await;
    assert!(issuer.asked().is_empty());
}

#[tokio::test]
async fn an_issuer_that_speaks_http2_only_is_fetched_from() {
    let (authority, key) = (Authority::new(), Key::new("k1", "ES256"));
    let keys = set(&[key.jwk()]);
    let issuer = Secure::start(&authority, "localhost", &[b"h2"], move |asked| match asked.path.as_str() {
        "/jwks" => (200, keys.clone()),
        _ => (404, String::new()),
    })
    .await;
    let uri = format!("https://localhost:{}/jwks", issuer.address.port());
    let line = format!("corp: {{issuer: \"urn:corp\", jwks_uri: \"{uri}\", ca: ca.crt}}");
    let world = World::trusting_beside(&[("ca.crt", &authority.certificate)], &[line]).await;
    world.accepts(&token(&key, "urn:corp")).await;
    assert_eq!(issuer.asked().iter().map(|asked| asked.version).collect::<Vec<_>>(), [Version::HTTP_2]);
}

#[tokio::test]
async fn each_document_is_asked_for_by_its_media_type() {
    let (authority, key) = (Authority::new(), Key::new("k1", "ES256"));
    let answered = std::sync::Arc::new(std::sync::OnceLock::new());
    let document = std::sync::Arc::clone(&answered);
    let keys = set(&[key.jwk()]);
    let issuer = Secure::start(&authority, "localhost", HTTP1, move |asked| match asked.path.as_str() {
        "/jwks" => (200, keys.clone()),
        _ => (200, document.get().cloned().unwrap_or_default()),
    })
    .await;
    let iss = format!("https://localhost:{}", issuer.address.port());
    answered.set(json!({ "issuer": iss, "jwks_uri": format!("{iss}/jwks") }).to_string()).unwrap();
    let line = format!("corp: {{issuer: \"{iss}\", ca: ca.crt}}");
    let world = World::trusting_beside(&[("ca.crt", &authority.certificate)], &[line]).await;
    world.accepts(&key.sign(&claims(&iss))).await;
    let accepts: Vec<(String, String)> = issuer
        .asked()
        .into_iter()
        .map(|asked| (asked.path.clone(), asked.header("accept").unwrap().to_owned()))
        .collect();
    let expected = [(OPENID, "application/json"), ("/jwks", "application/jwk-set+json, application/json;q=0.9")];
    assert_eq!(accepts, expected.map(|(path, accept)| (path.to_owned(), accept.to_owned())));
}

/// A command beside the gateway does not fetch without the credentials that it cannot read.
#[tokio::test]
async fn without_its_variables_an_issuer_is_not_fetched_from() {
    let (authority, key) = (Authority::new(), Key::new("k1", "ES256"));
    let issuer = Secure::start(&authority, "localhost", HTTP1, documents(&key, "", "")).await;
    let line = format!(
        "corp: {{issuer: \"urn:corp\", jwks_uri: \"https://localhost:{}/jwks\", ca: ca.crt, fetch: {{headers: {{X-Key: \
         \"${{KEY}}\"}}}}}}",
        issuer.address.port()
    );
    let files = [("ca.crt", authority.certificate.as_str())];
    let mut world = World::trusting_with(&[("KEY", "k3y")], &files, &[line]).await;
    world.accepts(&token(&key, "urn:corp")).await;
    world.gateway.stop();
    let output = run(program(&world.gateway.folder).arg("issuers"));
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.stdout.contains("a variable or file that `fetch` refers to is missing in this environment"),
        "{output:?}"
    );
    assert_eq!(issuer.asked().len(), 1);
}
