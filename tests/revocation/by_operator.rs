//! The command line, for a gateway that runs or will, and the configuration.

use std::fs;

use serde_json::{Value, json};

use super::{ROUTES, World, get};
use crate::support::Issuer;
use crate::support::client::Connection;
use crate::support::command::{Finished, run_with};
use crate::support::gateway::{PATIENCE, folder, program};
use crate::support::issuer::{Key, now};
use crate::support::world::config;

impl World {
    /// `portcullis token revoke` beside the running gateway.
    #[track_caller]
    fn revoke(&self, arguments: &[&str], input: &str) -> Finished {
        run_with(program(&self.gateway.folder).args(["token", "revoke"]).args(arguments), input)
    }

    #[track_caller]
    fn revokes(&self, arguments: &[&str], input: &str) -> Value {
        let said = self.revoke(&[arguments, &["--format", "json"]].concat(), input);
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.stdout).unwrap()
    }
}

/// Waits until the token is refused, which must be soon.
async fn is_refused_soon(connection: &mut Connection, token: &str) {
    let started = tokio::time::Instant::now();
    while get(connection, token).await.status != 401 {
        assert!(started.elapsed() < PATIENCE, "the gateway does not hear of it");
    }
}

#[tokio::test]
async fn a_leaked_token_is_refused_by_a_running_gateway() {
    let world = World::with("workers: 4").await;
    let (token, other) = (world.token("app").await, world.token("app").await);
    let mut connections = world.connections(&token).await;
    let told = world.revokes(&[], &format!("Bearer {token}\n"));
    assert_eq!((&told["revoked"], &told["issuer"]), (&json!(true), &json!("self")), "{told}");
    is_refused_soon(&mut connections[0], &token).await;
    for mut connection in connections {
        world.is_refusal(&get(&mut connection, &token).await);
    }
    world.accepts(&other).await;
    let line = world.gateway.audit_line(|line| line["gateway.event"] == "revocation");
    assert_eq!((&line["oauth.issuer"], &line["oauth.jti_sha256"]), (&json!("self"), &told["jti_sha256"]), "{line}");
}

#[tokio::test]
async fn tokens_issued_before_a_revocation_are_refused_later_ones_not() {
    let mut world = World::start().await;
    let (token, other) = (world.token("app").await, world.token("other").await);
    let mut connection = world.client.connect().await;
    assert_eq!(get(&mut connection, &token).await.status, 200);
    let said = world.revoke(&["--client", "app"], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.starts_with("revoked  tokens of client app of issuer self issued before 20"), "{said:?}");
    assert!(
        said.stderr.starts_with("A running gateway refuses them within a second. The revocation is deleted at 20"),
        "{said:?}"
    );
    is_refused_soon(&mut connection, &token).await;
    world.accepts(&other).await;
    let line = world.gateway.audit_line(|line| line["gateway.event"] == "revocation");
    assert_eq!((&line["oauth.client_id"], &line["oauth.issuer"]), (&json!("app"), &json!("self")), "{line}");
    let stored = &world.stored()[0];
    assert_eq!((&stored["issuer"], &stored["client"]), (&json!("https://localhost:8443"), &json!("app")), "{stored}");
    while now() < stored["issued_before"].as_u64().unwrap() {
        tokio::task::yield_now().await;
    }
    world.accepts(&world.token("app").await).await;
    world.restart("");
    world.refuses(&token).await;
}

#[tokio::test]
async fn external_tokens_are_revoked_under_their_issuers_name() {
    let key = Key::new("k1", "ES256");
    let corp = Issuer::start(&[&key]).await;
    let world =
        World::with(&format!("issuers: {{corp: {{issuer: '{}', audiences: [https://api.example.com]}}}}", corp.issuer))
            .await;
    let token = |changes: &Value| {
        let mut claims = corp.claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        key.sign(&claims)
    };
    let bystander = token(&json!({"sub": "bystander", "azp": "harmless", "jti": "j-0"}));
    for (changes, arguments) in [
        (json!({"sub": "mallory", "azp": "harmless"}), ["--subject", "mallory"]),
        (json!({"sub": "someone", "azp": "leaky"}), ["--client", "leaky"]),
        (json!({"sub": "someone", "azp": "harmless", "jti": "j-1"}), ["--jti", "j-1"]),
    ] {
        let token = token(&changes);
        let mut connection = world.client.connect().await;
        assert_eq!(get(&mut connection, &token).await.status, 200);
        world.revokes(&[&["--issuer", "corp"][..], &arguments].concat(), "");
        is_refused_soon(&mut connection, &token).await;
        world.accepts(&bystander).await;
    }
    let mut claims = corp.claims();
    claims.as_object_mut().unwrap().remove("iat");
    let undated = key.sign(&claims);
    let mut connection = world.client.connect().await;
    assert_eq!(get(&mut connection, &undated).await.status, 200);
    let told = world.revokes(&["--issuer", "corp", "--issued-before", "2026-01-31T18:00:00+01:00"], "");
    assert_eq!(told["issued_before"], "2026-01-31T17:00:00.000Z");
    is_refused_soon(&mut connection, &undated).await;
    world.accepts(&bystander).await;
    world.revokes(&["--issuer", "corp", "--issued-before", "now"], "");
    is_refused_soon(&mut world.client.connect().await, &bystander).await;
    world.accepts(&world.token("app").await).await;
}

#[tokio::test]
async fn inspect_and_metrics_show_revocations() {
    let world = World::start().await;
    let token = world.token("app").await;
    world.revokes(&["--client", "app"], "");
    let said = run_with(program(&world.gateway.folder).args(["token", "inspect"]), &token);
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout.contains(
            "refused  revoked: it was revoked: found a revocation of client `app`, for tokens issued before "
        ),
        "{said:?}"
    );
    is_refused_soon(&mut world.client.connect().await, &token).await;
    let metrics = crate::support::Client::plain(world.gateway.admin.unwrap()).get("/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("portcullis_revocations 1"), "{text}");
}

#[tokio::test]
async fn senseless_revocations_are_reported_and_revoke_nothing() {
    let world = World::start().await;
    let own = world.token("app").await;
    let foreign = Key::new("k", "ES256")
        .sign(&json!({"iss": "https://elsewhere.example.com", "sub": "a", "aud": "a", "exp": now() + 60}));
    for (arguments, input, hint) in [
        (&[][..], "", "no token on standard input; try: printf %s \"$TOKEN\" | portcullis token revoke"),
        (&[], "x", "the token is malformed"),
        (&[], &foreign, "the token's issuer is not trusted here"),
        (&["eyJ"], "", "unexpected argument 'eyJ'"),
        (&["--issuer", "nobody", "--client", "a"], "", "unknown issuer `nobody` (known: `self`)"),
        (&["--issuer", "self"], "", "for all tokens of the issuer, add --issued-before now"),
        (&["--issuer", "self"], &own, "for the token on standard input, leave --issuer out"),
        (&["--issuer", "self", "--issued-before", "now"], &own, "there is a token on standard input"),
        (&["--client", "app"], &own, "there is a token on standard input"),
        (&["--issued-before", "now"], "", "Name an --issuer, a --client or a --subject"),
        (&["--client", "app", "--issued-before", "yesterday"], "", "expected `now` or a time such as 2026"),
        (&["--client", "app", "--subject", "app"], "", "cannot be used with"),
        (&["--jti", "a", "--issued-before", "now"], "", "cannot be used with"),
        (&["--client", ""], "", "an identity is 1 to 1024 bytes"),
    ] {
        let said = world.revoke(arguments, input);
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(hint), "{arguments:?} lacks {hint:?}:\n{}", said.stderr);
    }
    assert!(world.stored().is_empty());
}

#[tokio::test]
async fn unknown_clients_are_refused_and_odd_token_ids_warned_of() {
    let world = World::start().await;
    for (arguments, hint) in [
        (
            &["--client", "apq"][..],
            "unknown client `apq`, did you mean `app`?; for the tokens of a client that was removed",
        ),
        (&["--client", "nosuch"], "unknown client `nosuch` (known: `app`, `other`); "),
        (&["--client", "app", "--removed"], "the client `app` is in the configuration"),
        (&["--subject", "app", "--removed"], "name it with --client"),
    ] {
        let said = world.revoke(arguments, "");
        assert_eq!((said.code, &*said.stdout), (Some(2), ""), "{said:?}");
        assert!(said.stderr.contains(hint), "{said:?}");
    }
    for (arguments, warning) in [
        (&["--client", "gone", "--removed"][..], None),
        (&["--client", "app"], None),
        (&["--jti", "abc"], Some("warning: `abc` is not a `jti` of our tokens, which have 22 characters")),
        (&["--jti", "AAAAAAAAAAAAAAAAAAAAAA"], None),
    ] {
        let said = world.revoke(arguments, "");
        assert_eq!(said.code, Some(0), "{said:?}");
        match warning {
            Some(warning) => assert!(said.stderr.contains(warning), "{said:?}"),
            None => assert!(!said.stderr.contains("warning"), "{said:?}"),
        }
    }
    assert_eq!(world.stored().len(), 4);
}

#[tokio::test]
async fn configured_revocations_hold_as_long_as_configured() {
    let mut world = World::start().await;
    let (app, other) = (world.token("app").await, world.token("other").await);
    world.restart("revoked: [{client: app, issued_before: 2999-01-01T00:00:00Z}]\n");
    world.refuses(&app).await;
    world.refuses(&world.token("app").await).await;
    world.accepts(&other).await;
    assert!(world.stored().is_empty(), "the file is for what came by other ways");
    world.restart("revoked: [{issuer: self, issued_before: 2000-01-01T00:00:00Z}, {subject: other}]\n");
    world.accepts(&app).await;
    world.refuses(&other).await;
    world.restart("");
    world.accepts(&other).await;
}

#[test]
fn check_warns_of_an_unknown_revoked_client() {
    let folder = folder();
    let nowhere = "127.0.0.1:9".parse().unwrap();
    fs::write(folder.join("gateway.yaml"), config(nowhere, &ROUTES, "revoked:\n  - {client: ap}\n")).unwrap();
    let said = run_with(program(&folder).arg("check"), "");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("`oauth.clients` does not contain the client"), "{said:?}");
    fs::remove_dir_all(folder).unwrap();
}
