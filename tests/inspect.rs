//! `token inspect` uses the gateway's own functions and limits: it shows the decision that a caller gets.

use serde_json::{Value, json};

use crate::support::command::run_with;
use crate::support::gateway::program;
use crate::support::issuer::{Issuer, Key};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

/// The output of `inspect` for this token and these arguments.
fn inspected(gateway: &Gateway, arguments: &[&str], token: &str) -> (Option<i32>, Value) {
    let mut command = program(&gateway.folder);
    command.args(["token", "inspect", "--format", "json"]).args(arguments);
    let said = run_with(&mut command, token);
    (said.code, serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_length_limit_is_that_of_the_gateway() {
    let upstream = Upstream::start().await;
    let (key, sections) = (Key::new("k1", "ES256"), |url: &str| {
        format!(
            "issuers: {{corp: {{issuer: '{url}', audiences: [https://api.example.com]}}}}\nlimits: {{token_bytes: 1KiB}}"
        )
    });
    let issuer = Issuer::start(&[&key]).await;
    let gateway =
        Gateway::start(&config(upstream.address, &["path: /x, access: {}, name: x"], &sections(&issuer.issuer)));
    let of_length = |padding: usize| {
        let mut claims = issuer.claims();
        claims["padding"] = json!("x".repeat(padding));
        key.sign(&claims)
    };
    let short = of_length(0).len();
    // Three bytes are four characters.
    let fits = (0..).map(|n| n + (1024 - short) * 3 / 4 - 40).map(of_length).take_while(|t| t.len() <= 1024).last();
    let fits = fits.unwrap();
    let (longer, client) = (of_length((1024 - short) * 3 / 4 + 8), Client::new(&gateway));
    assert!(fits.len() > 1000 && longer.len() > 1024);
    assert_eq!(client.get_with("/x", &fits).await.status, 200);
    let (code, said) = inspected(&gateway, &[], &fits);
    assert_eq!(
        (code, &said["good"], &said["routes"]["x"]),
        (Some(0), &json!(true), &json!({"allowed": true})),
        "{said}"
    );
    assert_eq!(client.get_with("/x", &longer).await.status, 401);
    let (code, said) = inspected(&gateway, &[], &longer);
    assert_eq!((code, &said["good"]), (Some(1), &json!(false)), "{said}");
    assert_eq!(said["reason"], "malformed", "{said}");
    assert!(
        said["why"].as_str().unwrap().contains("wanted a token of at most 1024 bytes (limits.token_bytes)"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn address_rules_hold_as_in_the_gateway() {
    let upstream = Upstream::start().await;
    let routes = [
        "path: /near, name: near, access: {}, allow_from: [127.0.0.0/8]",
        "path: /far, name: far, access: {}, allow_from: [192.0.2.0/24]",
        "path: /any, name: any, access: {}",
        "path: /listed, name: listed, access: {clients: [app]}",
        "path: /not-there, name: not-there, access: {}, deny_from: [203.0.113.0/24]",
    ];
    let oauth = format!(
        "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {{algorithm: ES256}}
  clients:
    app: {{secrets: [{{value: {SECRET}}}], scopes: [read:data]}}
    bound: {{secrets: [{{value: {SECRET}}}], scopes: [read:data], allow_from: [127.0.0.0/8]}}"
    );
    let gateway = Gateway::start(&config(upstream.address, &routes, &oauth));
    let client = Client::new(&gateway);
    let allowed = |said: &Value| -> Vec<String> {
        let routes = said["routes"].as_object().unwrap().iter();
        routes.filter(|(_, answer)| answer["allowed"] == true).map(|(name, _)| name.clone()).collect()
    };
    for (id, from, expected) in [
        ("app", Some("127.0.0.1"), vec!["any", "listed", "near", "not-there"]),
        ("app", Some("192.0.2.7"), vec!["any", "far", "listed", "not-there"]),
        ("app", Some("2001:db8::1"), vec!["any", "listed", "not-there"]),
        // An unknown address passes no list, as in the gateway.
        ("app", None, vec!["any", "listed"]),
        ("bound", Some("127.0.0.1"), vec!["any", "near", "not-there"]),
        ("bound", Some("192.0.2.7"), vec![]),
        ("bound", None, vec![]),
    ] {
        let token = client.granted(id, SECRET, "").await;
        let from: Vec<&str> = from.into_iter().flat_map(|from| ["--from", from]).collect();
        let (_, said) = inspected(&gateway, &from, &token);
        let mut found = allowed(&said);
        found.sort();
        assert_eq!(found, expected, "{id} {from:?}: {said}");
        if from.last() == Some(&"127.0.0.1") {
            for name in ["near", "far", "any", "listed", "not-there"] {
                let status = client.get_with(&format!("/{name}"), &token).await.status;
                assert_eq!(status == 200, expected.contains(&name), "{id} {name}");
            }
        }
    }
    let (_, said) = inspected(&gateway, &["--from", "192.0.2.7"], &client.granted("app", SECRET, "").await);
    assert_eq!(
        (&said["routes"]["near"]["status"], &said["routes"]["near"]["reason"]),
        (&json!(403), &json!("address_not_allowed"))
    );
    for (id, from, route, why) in [
        ("app", Some("192.0.2.7"), "near", "found address 192.0.2.7, wanted an address of allow_from of the route"),
        (
            "app",
            Some("203.0.113.1"),
            "not-there",
            "found address 203.0.113.1, wanted an address outside deny_from of the route",
        ),
        ("app", None, "near", "an address of allow_from of the route, which is not known: give it with --from ADDRESS"),
        ("bound", Some("192.0.2.7"), "any", "found address 192.0.2.7, wanted an address of allow_from of the client"),
        ("bound", None, "any", "an address of allow_from of the client, which is not known"),
        ("bound", Some("127.0.0.1"), "listed", "found client=bound, wanted client=app"),
    ] {
        let token = client.granted(id, SECRET, "").await;
        let from: Vec<&str> = from.into_iter().flat_map(|from| ["--from", from]).collect();
        let (_, said) = inspected(&gateway, &from, &token);
        let text = said["routes"][route]["why"].as_str().unwrap_or_else(|| panic!("{route}: {said}"));
        assert!(text.contains(why), "{id} {from:?} {route}: {text}");
    }
}

#[tokio::test]
async fn a_revoked_token_says_what_was_revoked() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&config(upstream.address, &["path: /x, access: {}, name: x"], ""));
    let client = Client::new(&gateway);
    let revoke = |arguments: &[&str], input: &str| {
        let said = run_with(program(&gateway.folder).args(["token", "revoke"]).args(arguments), input);
        assert_eq!(said.code, Some(0), "{said:?}");
    };
    for (id, arguments, why) in [
        ("app", &[][..], "found a revocation of this token, by its jti, wanted no revocation"),
        ("app", &["--client", "app"], "found a revocation of client `app`, for tokens issued before "),
        ("other", &["--subject", "other"], "found a revocation of subject `other`, for tokens issued before "),
    ] {
        let token = client.granted(id, SECRET, "").await;
        revoke(arguments, if arguments.is_empty() { &token } else { "" });
        let (code, said) = inspected(&gateway, &[], &token);
        assert_eq!((code, &said["reason"]), (Some(1), &json!("revoked")), "{said}");
        assert!(said["why"].as_str().unwrap().contains(why), "{said}");
        assert_eq!(said["change"], Value::Null, "{said}");
    }
}
