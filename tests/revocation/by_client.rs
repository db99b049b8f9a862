//! The revocation endpoint.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{ROUTES, World, by, form, get, revocation};
use crate::support::client::{basic, request, with_body, with_header};
use crate::support::command::{run, run_with};
use crate::support::gateway::{folder, program};
use crate::support::issuer::{Key, now};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Upstream};

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[track_caller]
fn is_done(answer: &Answer) {
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_client_takes_back_its_token_and_only_that() {
    let world = World::start().await;
    let (token, other) = (world.token("app").await, world.token("app").await);
    world.accepts(&token).await;
    let answer = world.client.send(by(revocation(&token), "app")).await;
    is_done(&answer);
    world.refuses(&token).await;
    world.accepts(&other).await;

    let line = world.gateway.audit_of(answer.request_id());
    assert_eq!((&line["gateway.decision"], &line["http.route"]), (&"allow".into(), &"(revocation)".into()), "{line}");
    assert_eq!((&line["oauth.client_id"], &line["oauth.jti"]), (&"app".into(), &claims(&token)["jti"]), "{line}");
    let told = world.gateway.audit_text() + &world.gateway.log_text();
    assert!(!told.contains(&token) && !told.contains(SECRET));
}

#[tokio::test]
async fn a_remembered_token_is_refused_on_the_very_connection() {
    let world = World::start().await;
    let token = world.token("app").await;
    let mut connection = world.client.connect().await;
    for _ in 0..2 {
        assert_eq!(get(&mut connection, &token).await.status, 200);
    }
    is_done(&world.client.send(by(revocation(&token), "app")).await);
    for _ in 0..2 {
        world.is_refusal(&get(&mut connection, &token).await);
    }
}

#[tokio::test]
async fn when_the_answer_is_there_no_worker_believes_the_token() {
    let world = World::with("workers: 4").await;
    let token = world.token("app").await;
    let connections = world.connections(&token).await;
    is_done(&world.client.send(by(revocation(&token), "app")).await);
    for mut connection in connections {
        world.is_refusal(&get(&mut connection, &token).await);
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_after_a_restart() {
    let mut world = World::start().await;
    let (token, other) = (world.token("app").await, world.token("app").await);
    is_done(&world.client.send(by(revocation(&token), "app")).await);
    let [stored] = &*world.stored() else { panic!("{:?}", world.stored()) };
    assert_eq!(stored["expires_at"], claims(&token)["exp"].as_u64().unwrap() + 30, "no longer than the token");
    assert!(!stored.to_string().contains(claims(&token)["jti"].as_str().unwrap()), "the id is kept as its digest");
    world.restart("");
    world.refuses(&token).await;
    world.accepts(&other).await;
}

#[tokio::test]
async fn revocation_takes_json_with_credentials_and_a_hint() {
    let world = World::start().await;
    for body in [
        |token: &str| json!({"token": token, "client_id": "app", "client_secret": SECRET}),
        |token: &str| json!({"token": token, "client_id": "app", "client_secret": SECRET, "token_type_hint": "access_token"}),
    ] {
        let token = world.token("app").await;
        let asked = with_header(request("POST", "/oauth/revoke"), "content-type", "application/json");
        is_done(&world.client.send(with_body(asked, body(&token).to_string())).await);
        world.refuses(&token).await;
    }
    for hint in ["access_token", "refresh_token", "anything"] {
        let token = world.token("app").await;
        is_done(&world.client.send(by(form(&format!("token={token}&token_type_hint={hint}")), "app")).await);
        world.refuses(&token).await;
    }
}

#[tokio::test]
async fn a_token_that_is_good_for_nothing_needs_no_revoking() {
    let world = World::start().await;
    let token = world.token("app").await;
    let key = Key::new("k", "ES256");
    let foreign = key.sign(&json!({"iss": "https://elsewhere.example.com", "sub": "a", "aud": "a", "exp": now() + 60}));
    let forged = key.sign(&claims(&token));
    let mut expired = claims(&token);
    expired["exp"] = json!(now() - 3600);
    for token in ["x", "a.b.c", &token[..token.len() - 1], &foreign, &forged, &key.sign(&expired)] {
        is_done(&world.client.send(by(revocation(token), "app")).await);
    }
    assert!(world.stored().is_empty());
    world.accepts(&token).await;
    for _ in 0..2 {
        is_done(&world.client.send(by(revocation(&token), "app")).await);
    }
    assert_eq!(world.stored().len(), 1, "once is enough");
}

#[tokio::test]
async fn a_client_cannot_revoke_the_token_of_another() {
    let world = World::start().await;
    let token = world.token("app").await;
    let answer = world.client.send(by(revocation(&token), "other")).await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &"invalid_grant".into()), "{answer:?}");
    let line = world.gateway.audit_of(answer.request_id());
    assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &"client_not_allowed".into()));
    assert_eq!(line["oauth.client_id"], "other", "{line}");
    world.accepts(&token).await;
}

#[tokio::test]
async fn unauthenticated_revocation_revokes_nothing() {
    let world = World::start().await;
    let token = world.token("app").await;
    let mut wrong = revocation(&token);
    wrong.headers_mut().insert("authorization", basic("app", "not the right secret"));
    let answer = world.client.send(wrong).await;
    assert_eq!((answer.status, &answer.json()["error"]), (401, &"invalid_client".into()), "{answer:?}");
    assert_eq!(answer.header("www-authenticate"), "Basic realm=\"portcullis\"");
    assert_eq!(world.gateway.audit_of(answer.request_id())["gateway.reason"], "invalid_client");
    for asked in [revocation(&token), form(&format!("token={token}&client_id=app"))] {
        let answer = world.client.send(asked).await;
        assert_eq!((answer.status, &answer.json()["error"]), (401, &"invalid_client".into()), "{answer:?}");
    }
    world.accepts(&token).await;
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_as_at_the_token_endpoint() {
    let world = World::start().await;
    let token = world.token("app").await;
    let in_query =
        with_header(request("POST", &format!("/oauth/revoke?token={token}")), "content-type", "application/json");
    for (asked, status) in [
        (form(""), 400),
        (form("token="), 400),
        (form(&format!("token={token}&token={token}")), 400),
        (with_body(in_query, "{}"), 400),
        (with_body(request("POST", "/oauth/revoke"), format!("token={token}")), 415),
    ] {
        let answer = world.client.send(by(asked, "app")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (status, &"invalid_request".into()), "{answer:?}");
    }
    let answer = world.client.send(by(request("GET", "/oauth/revoke"), "app")).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    world.accepts(&token).await;
}

#[tokio::test]
async fn revocation_attempts_spend_the_token_endpoints_limits() {
    let oauth = "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {algorithm: ES256}
  token_endpoint: {rate_limits: [{rate: 2/h, per: address}]}
  clients: {app: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}}
";
    let world = World::with(oauth).await;
    let token = world.token("app").await;
    is_done(&world.client.send(by(revocation(&token), "app")).await);
    let answer = world.client.send(by(revocation(&token), "app")).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(world.client.token("app", SECRET, "").await.status, 429);
}

#[tokio::test]
async fn the_metadata_names_the_revocation_endpoint() {
    let world = World::start().await;
    let metadata = world.client.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["revocation_endpoint"], "https://localhost:8443/oauth/revoke");
    let methods = json!(["client_secret_basic", "client_secret_post"]);
    assert_eq!(metadata["revocation_endpoint_auth_methods_supported"], methods);

    let oauth = "oauth: {issuer: 'https://localhost:8443', audiences: [a], signing_keys: {algorithm: ES256}, \
        token_endpoint: {path: /v2/token}}";
    let world = World::with(oauth).await;
    let metadata = world.client.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["revocation_endpoint"], "https://localhost:8443/v2/revoke");
    assert_eq!(world.client.get("/v2/revoke").await.status, 405);
    assert_eq!(world.client.get("/oauth/revoke").await.status, 404);
}

#[tokio::test]
async fn a_revocation_that_cannot_be_stored_is_not_confirmed() {
    let world = World::start().await;
    let token = world.token("app").await;
    std::fs::remove_file(world.gateway.folder.join("state/revocations.jsonl")).unwrap();
    let answer = world.client.send(by(revocation(&token), "app")).await;
    assert_eq!((answer.status, &answer.json()["error"]), (503, &"temporarily_unavailable".into()), "{answer:?}");
    assert!(answer.headers.contains_key("retry-after"));
    world.gateway.log_line("revocations cannot be read: the known ones stay in force");
    world.accepts(&token).await;
}

#[tokio::test]
async fn trust_can_be_ended_while_nothing_can_be_recorded() {
    let mut world = World::start().await;
    let token = world.token("app").await;
    let yaml = world.yaml.clone();
    world.restart_as(&yaml.replace("file: \"-\"", "file: /dev/full"));
    world.gateway.log_line("cannot write the audit log");
    assert_eq!(world.client.token("app", SECRET, "").await.status, 503);
    is_done(&world.client.send(by(revocation(&token), "app")).await);
    world.restart("");
    world.refuses(&token).await;
}

#[tokio::test]
async fn a_state_that_others_can_change_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::start().await;
    let folder = folder();
    std::fs::write(folder.join("gateway.yaml"), config(upstream.address, &ROUTES, "")).unwrap();
    let state = folder.join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    for verb in ["check", "run"] {
        let said = run(program(&folder).arg(verb));
        assert_eq!(said.code, Some(2));
        assert!(said.stderr.contains(" is accessible to others (mode 777); set it to 700"), "{}", said.stderr);
    }
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(state.join("revocations.jsonl"), "{\"of\":\"another program\"}\n").unwrap();
    std::fs::set_permissions(state.join("revocations.jsonl"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let said = run(program(&folder).arg("run"));
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("that is not a revocation, or is one of a later version"), "{}", said.stderr);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn one_client_does_not_take_the_places_of_all_others() {
    let mut world = World::start().await;
    let [first, second, others] = [world.token("app").await, world.token("app").await, world.token("other").await];
    is_done(&world.client.send(by(revocation(&first), "app")).await);
    assert_eq!(world.stored()[0]["revoked_by"], "app");
    // As many more as have a place, as if it had revoked them before.
    let file = world.gateway.folder.join("state/revocations.jsonl");
    let mut line = world.stored().remove(0);
    let mut text = std::fs::read_to_string(&file).unwrap();
    for number in 1..9_000 {
        line["jti_sha256"] = number.to_string().into();
        text += &format!("{line}\n");
    }
    std::fs::write(&file, text).unwrap();
    let yaml = world.yaml.clone();
    world.restart_as(&yaml);
    for _ in 0..2 {
        let answer = world.client.send(by(revocation(&second), "app")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (503, &"temporarily_unavailable".into()), "{answer:?}");
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(world.gateway.audit_of(answer.request_id())["gateway.reason"], "overload");
    }
    world.accepts(&second).await;
    // A known entry needs no further place.
    is_done(&world.client.send(by(revocation(&first), "app")).await);
    is_done(&world.client.send(by(revocation(&others), "other")).await);
    world.refuses(&others).await;
    world.gateway.log_line("revocations of `app` are refused: 9000 tokens that it revoked have not expired");
    assert_eq!(world.gateway.log_text().matches("revocations of `app` are refused").count(), 1, "logged once");
    let metrics = crate::support::Client::plain(world.gateway.admin.unwrap()).get("/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("portcullis_revocations_refused_total 2"), "{text}");
    let said = run_with(program(&world.gateway.folder).args(["token", "revoke"]), &second);
    assert_eq!(said.code, Some(0), "an operator has places of its own: {said:?}");
}

#[tokio::test]
async fn a_lost_revocation_file_is_reported_at_the_start() {
    let mut world = World::start().await;
    let warning = "the file of revocations is missing although signing keys were made before";
    assert!(!world.gateway.log_text().contains(warning), "nothing was there before the first start");
    let yaml = world.yaml.clone();
    world.restart_as(&yaml);
    assert!(!world.gateway.log_text().contains(warning), "an empty file is there");
    std::fs::remove_file(world.gateway.folder.join("state/revocations.jsonl")).unwrap();
    world.restart_as(&yaml);
    world.gateway.log_line(warning);
}
