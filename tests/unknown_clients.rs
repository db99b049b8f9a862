//! A client that is no longer configured: its tokens are refused as those that are no good, however long they would
//! have lived.

use std::path::Path;

use serde_json::Value;

use crate::support::client::{request, with_header, with_token};
use crate::support::command::run_with;
use crate::support::gateway::{folder, program};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const APP: &str =
    "    app: {secrets: [{value: correct horse battery staple}], scopes: [read:data], allow_from: [10.0.0.0/8]}\n";
const OTHER: &str = "    other: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}\n";

/// Requests come by a trusted proxy; `access` is of the one route, and these are the clients.
fn yaml(upstream: &Upstream, access: &str, clients: &[&str], state: Option<&Path>) -> String {
    let keys = state.map(|folder| format!(", directory: {}/keys", folder.display())).unwrap_or_default();
    let state = state.map(|folder| format!("state_directory: {}\n", folder.display())).unwrap_or_default();
    let oauth = format!(
        "trusted_proxies: [127.0.0.0/8]
oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256{keys}}}
  clients:\n"
    );
    let route = format!("path: /data, access: {access}, name: data");
    config(upstream.address, &[&route], &format!("{state}{oauth}{}", clients.concat()))
}

async fn from(client: &Client, address: &str, token: &str) -> Answer {
    client.send(with_header(with_token(request("GET", "/data"), token), "x-forwarded-for", address)).await
}

async fn token(client: &Client, id: &str) -> String {
    let mut asked = with_header(request("POST", "/oauth/token"), "content-type", "application/x-www-form-urlencoded");
    asked.headers_mut().insert("authorization", crate::support::client::basic(id, SECRET));
    let asked = crate::support::client::with_body(asked, "grant_type=client_credentials".to_owned());
    let answer = client.send(with_header(asked, "x-forwarded-for", "10.0.0.1")).await.json();
    answer["access_token"].as_str().unwrap().to_owned()
}

#[track_caller]
fn is_unknown(gateway: &Gateway, answer: &Answer) {
    assert_eq!((answer.status, &answer.json()["error"]), (401, &Value::from("invalid_token")), "{answer:?}");
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{answer:?}");
    let line = gateway.audit_of(answer.request_id());
    assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &"unknown_client".into()));
    assert_eq!((&line["oauth.client_id"], &line["oauth.verified"]), (&"app".into(), &false.into()));
}

/// The same folder and so the same keys.
fn restarted(gateway: &mut Gateway, yaml: &str) -> Gateway {
    assert!(gateway.stop().success());
    let kept = folder();
    std::fs::rename(&gateway.folder, &kept).unwrap();
    Gateway::start_in(kept, yaml, &[])
}

#[tokio::test]
async fn a_token_of_a_removed_client_is_refused_and_others_pass() {
    let upstream = Upstream::start().await;
    let mut before = Gateway::start(&yaml(&upstream, "{}", &[APP, OTHER], None));
    let client = Client::new(&before);
    let [removed, kept] = [token(&client, "app").await, token(&client, "other").await];
    assert_eq!(from(&client, "10.0.0.1", &removed).await.status, 200);
    assert_eq!(from(&client, "11.0.0.1", &removed).await.status, 403);
    let after = restarted(&mut before, &yaml(&upstream, "{}", &[OTHER], None));
    for client in after.both() {
        // Twice, since a token that was seen may be remembered.
        for address in ["10.0.0.1", "10.0.0.1", "11.0.0.1"] {
            is_unknown(&after, &from(&client, address, &removed).await);
        }
        assert_eq!(from(&client, "11.0.0.1", &kept).await.status, 200);
    }
    let metrics = Client::plain(after.admin.unwrap()).get("/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let counted = |line: &str| line.starts_with("portcullis_auth_decisions_total") && line.contains("unknown_client");
    assert!(text.lines().any(counted), "{text}");
}

#[tokio::test]
async fn a_client_that_a_route_does_not_name_is_known_all_the_same() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&yaml(&upstream, "{clients: [other]}", &[APP, OTHER], None));
    let client = Client::new(&gateway);
    let app = token(&client, "app").await;
    let answer = from(&client, "10.0.0.1", &app).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(gateway.audit_of(answer.request_id())["gateway.reason"], "client_not_allowed");
}

#[tokio::test]
async fn gateways_with_one_state_refuse_clients_they_do_not_know() {
    let upstream = Upstream::start().await;
    let shared = folder();
    let one = Gateway::start(&yaml(&upstream, "{}", &[APP, OTHER], Some(&shared)));
    let other = Gateway::start(&yaml(&upstream, "{}", &[OTHER], Some(&shared)));
    let [client_of_one, client_of_other] = [Client::new(&one), Client::new(&other)];
    let [app, both] = [token(&client_of_one, "app").await, token(&client_of_one, "other").await];
    for client in [&client_of_one, &client_of_other] {
        assert_eq!(from(client, "10.0.0.1", &both).await.status, 200);
    }
    assert_eq!(from(&client_of_one, "10.0.0.1", &app).await.status, 200);
    is_unknown(&other, &from(&client_of_other, "10.0.0.1", &app).await);
    std::fs::remove_dir_all(shared).unwrap();
}

#[tokio::test]
async fn token_inspect_says_that_the_client_is_unknown() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&yaml(&upstream, "{}", &[APP, OTHER], None));
    let app = token(&Client::new(&gateway), "app").await;
    std::fs::write(gateway.folder.join("gateway.yaml"), yaml(&upstream, "{}", &[OTHER], None)).unwrap();
    let said = run_with(program(&gateway.folder).args(["token", "inspect"]), &app);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("refused  unknown_client: "), "{said:?}");
}
