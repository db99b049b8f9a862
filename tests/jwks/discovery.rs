//! How an issuer's keys are found: by its own metadata, or where the configuration says.

use std::sync::Arc;

use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{World, set, token};
use crate::support::issuer::{Key, Site};
use crate::support::wire::RawUpstream;
use crate::support::{Issuer, Upstream};

const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// An issuer that publishes this metadata at these paths, and its keys at `/jwks`. `ORIGIN` stands for its origin.
fn issuer(key: &Key, documents: &[(&str, Value)]) -> (String, Upstream) {
    let (site, keys) = (Site::new(), set(&[key.jwk()]));
    let origin = format!("http://{}", site.address);
    let text = |document: &Value| document.to_string().replace("ORIGIN", &origin);
    let documents: Vec<_> = documents.iter().map(|(path, document)| ((*path).to_owned(), text(document))).collect();
    let documents = Arc::new(documents);
    let server = Upstream::answering_at(site.open(), move |seen| {
        if seen.target == "/jwks" {
            return Response::new(Full::from(keys.clone()));
        }
        let found = documents.iter().find(|(path, _)| *path == seen.target);
        let status = if found.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        let body = found.map(|(_, document)| Full::from(document.clone())).unwrap_or_default();
        Response::builder().status(status).body(body).unwrap()
    });
    (origin, server)
}

fn paths(server: &Upstream) -> Vec<String> {
    server.seen().into_iter().map(|seen| seen.target).collect()
}

/// The issuer's tokens are good, and this is what it was asked for.
async fn finds(path: &str, documents: &[(&str, Value)], asked: &[&str]) {
    let key = Key::new("k1", "ES256");
    let (origin, server) = issuer(&key, documents);
    let iss = format!("{origin}{path}");
    let world = World::trusting(&[format!("corp: {{issuer: \"{iss}\"}}")]).await;
    // A request waits 2 s at most, which a busy machine may need for five documents.
    world.gateway.log_line("fetched the JWK Set");
    world.accepts(&token(&key, &iss)).await;
    assert_eq!(paths(&server), asked);
}

/// The issuer's keys are not even asked for, and the log says why.
async fn refuses(documents: &[(&str, Value)], why: &str) {
    let key = Key::new("k1", "ES256");
    let (iss, server) = issuer(&key, documents);
    let world = World::trusting(&[format!("corp: {{issuer: \"{iss}\"}}")]).await;
    let log = world.failed("corp");
    assert!(log.contains(why), "{log}");
    world.refuses(&token(&key, &iss), 503, "keys_unavailable").await;
    assert!(!paths(&server).contains(&"/jwks".to_owned()));
}

fn metadata(issuer: &str, jwks_uri: &str) -> Value {
    json!({"issuer": issuer, "jwks_uri": jwks_uri, "token_endpoint": "ORIGIN/token"})
}

#[tokio::test]
async fn keys_are_found_by_openid_metadata() {
    finds("", &[(OPENID, metadata("ORIGIN", "ORIGIN/jwks"))], &[OPENID, "/jwks"]).await;
}

#[tokio::test]
async fn keys_are_found_by_oauth_metadata_where_there_is_no_other() {
    finds("", &[(OAUTH, metadata("ORIGIN", "ORIGIN/jwks"))], &[OPENID, OAUTH, "/jwks"]).await;
}

/// Each documented place is asked once, in this order.
#[tokio::test]
async fn the_metadata_of_an_issuer_with_a_path_is_tried_at_four_urls() {
    let document = metadata("ORIGIN/realms/x", "ORIGIN/jwks");
    let places = [
        "/realms/x/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/realms/x",
        "/.well-known/openid-configuration/realms/x",
        "/realms/x/.well-known/oauth-authorization-server",
    ];
    for (count, place) in (1..).zip(places) {
        let asked = [&places[..count], &["/jwks"]].concat();
        finds("/realms/x", &[(place, document.clone())], &asked).await;
    }
}

#[tokio::test]
async fn a_document_of_another_issuer_leads_to_the_next_url() {
    for document in [
        json!("<html>"),
        json!({"issuer": "ORIGIN"}),
        metadata("ORIGIN", "/jwks"),
        metadata("https://evil.example", "ORIGIN/evil"),
        metadata("ORIGIN/", "ORIGIN/evil"),
        metadata("ORIGIN", "http://keys.example/jwks"),
        json!({"issuer": "ORIGIN", "jwks_uri": "ORIGIN/jwks", "large": "x".repeat(256 * 1024)}),
    ] {
        finds("", &[(OPENID, document), (OAUTH, metadata("ORIGIN", "ORIGIN/jwks"))], &[OPENID, OAUTH, "/jwks"]).await;
    }
}

#[tokio::test]
async fn an_error_has_the_result_of_every_url() {
    let (first, third) = ("/x/.well-known/openid-configuration", "/.well-known/openid-configuration/x");
    let key = Key::new("k1", "ES256");
    let (origin, server) = issuer(&key, &[(first, metadata("ORIGIN/x/", "ORIGIN/jwks")), (third, json!({}))]);
    let world = World::trusting(&[format!("corp: {{issuer: \"{origin}/x\"}}")]).await;
    let log = world.failed("corp");
    for part in [
        format!("no metadata of the issuer `{origin}/x` can be used: "),
        format!("{origin}{first} names the issuer `{origin}/x/`, which differs by a trailing slash; "),
        format!("{origin}/.well-known/oauth-authorization-server/x answered 404; "),
        format!("{origin}{third} is not issuer metadata: missing field `issuer`"),
        format!("{origin}/x/.well-known/oauth-authorization-server answered 404"),
    ] {
        assert!(log.contains(&part), "{part}: {log}");
    }
    assert_eq!(paths(&server).len(), 4);
    world.refuses(&token(&key, &format!("{origin}/x/")), 401, "unknown_issuer").await;
}

#[tokio::test]
async fn an_issuer_that_ends_in_a_slash_is_found_as_it_is() {
    finds("/", &[(OPENID, metadata("ORIGIN/", "ORIGIN/jwks"))], &[OPENID, "/jwks"]).await;
}

#[tokio::test]
async fn metadata_of_another_issuer_is_refused() {
    for other in ["https://evil.example", "ORIGIN/", "ORIGIN/realms/x", ""] {
        refuses(&[(OPENID, metadata(other, "ORIGIN/jwks"))], "names the issuer").await;
    }
}

#[tokio::test]
async fn keys_in_clear_text_from_elsewhere_are_refused() {
    for uri in ["http://keys.example/jwks", "http://169.254.169.254/jwks", "file:///etc/passwd", "ftp://127.0.0.1/jwks"]
    {
        refuses(
            &[(OPENID, metadata("ORIGIN", uri))],
            "it must be https, or http to a loopback host of a loopback issuer",
        )
        .await;
    }
}

#[tokio::test]
async fn keys_in_clear_text_are_fetched_where_it_is_allowed() {
    let key = Key::new("k1", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    // This machine, by an address that is no loopback address.
    let iss = issuer.issuer.replace("127.0.0.1", "0.0.0.0");
    let world = World::trusting(&[format!("corp: {{issuer: \"{iss}\", allow_http: true}}")]).await;
    world.accepts(&token(&key, &iss)).await;
    world.gateway.log_line("the keys of issuer `corp` are fetched in clear text");
}

#[tokio::test]
async fn metadata_that_names_no_keys_is_refused() {
    for document in
        [json!({"issuer": "ORIGIN"}), metadata("ORIGIN", "/jwks"), metadata("ORIGIN", ""), json!([]), json!("x")]
    {
        refuses(&[(OPENID, document)], "is not issuer metadata").await;
    }
}

#[tokio::test]
async fn an_issuer_without_metadata_is_out_of_reach() {
    refuses(&[], "/.well-known/oauth-authorization-server answered 404").await;
}

/// All places share one deadline, and a server that does not answer is not asked again.
#[tokio::test]
async fn a_server_that_does_not_answer_ends_the_search() {
    let silent = RawUpstream::start(|mut wire, head| {
        Box::pin(async move {
            if head.starts_with("GET /x/.well-known/openid-configuration ") {
                wire.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            } else {
                wire.rest().await;
            }
        })
    })
    .await;
    let world = World::trusting(&[format!("corp: {{issuer: \"http://{}/x\"}}", silent.address)]).await;
    let log = world.failed("corp");
    assert!(
        log.contains("openid-configuration answered 404; cannot fetch http://") && log.contains("timed out"),
        "{log}"
    );
    assert_eq!(silent.heads().len(), 2);
}

#[tokio::test]
async fn configured_keys_are_trusted_without_metadata() {
    let key = Key::new("k1", "ES256");
    let (origin, server) = issuer(&key, &[(OPENID, metadata("ORIGIN", "ORIGIN/elsewhere"))]);
    let lines = format!("corp: {{issuer: \"https://login.example.com/\", jwks_uri: \"{origin}/jwks\"}}");
    let world = World::trusting(&[lines]).await;
    world.accepts(&token(&key, "https://login.example.com/")).await;
    assert_eq!(paths(&server), ["/jwks"]);
}

#[tokio::test]
async fn issuers_that_share_a_key_id_share_nothing_else() {
    let (one, other) = (Key::new("k1", "ES256"), Key::new("k1", "EdDSA"));
    let (first, second) = (Issuer::start(&[&one]).await, Issuer::start(&[&other]).await);
    let lines = [("one", &first), ("other", &second)]
        .map(|(name, issuer)| format!("{name}: {{issuer: \"{}\"}}", issuer.issuer));
    let world = World::trusting(&lines).await;
    world.accepts(&token(&one, &first.issuer)).await;
    world.accepts(&token(&other, &second.issuer)).await;
    world.refuses(&token(&one, &second.issuer), 401, "unknown_kid").await;
    world.refuses(&token(&other, &first.issuer), 401, "unknown_kid").await;
}
