//! `token inspect` answers by the gateway's own functions and limits: what it says is what a caller gets.

use serde_json::{Value, json};

use crate::support::command::run_with;
use crate::support::gateway::program;
use crate::support::issuer::{Issuer, Key};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

/// What `inspect` says of this token, given these arguments.
fn inspected(gateway: &Gateway, arguments: &[&str], token: &str) -> (Option<i32>, Value) {
    let mut command = program(&gateway.folder);
    command.args(["token", "inspect", "--format", "json"]).args(arguments);
    let said = run_with(&mut command, token);
    (said.code, serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_as_long_as_the_gateway_takes_it() {
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
    assert_eq!((code, &said["good"], &said["routes"]["x"]), (Some(0), &json!(true), &json!("allowed")), "{said}");
    assert_eq!(client.get_with("/x", &longer).await.status, 401);
    let (code, said) = inspected(&gateway, &[], &longer);
    assert_eq!((code, &said["good"]), (Some(1), &json!(false)), "{said}");
    assert!(said["why"].as_str().unwrap().starts_with("malformed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_count_as_they_do_in_the_gateway() {
    let upstream = Upstream::start().await;
    let routes = [
        "path: /near, name: near, access: {}, allow_from: [127.0.0.0/8]",
        "path: /far, name: far, access: {}, allow_from: [192.0.2.0/24]",
        "path: /any, name: any, access: {}",
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
        routes.filter(|(_, answer)| *answer == "allowed").map(|(name, _)| name.clone()).collect()
    };
    for (id, from, expected) in [
        ("app", Some("127.0.0.1"), vec!["any", "near"]),
        ("app", Some("192.0.2.7"), vec!["any", "far"]),
        ("app", Some("2001:db8::1"), vec!["any"]),
        // A place that is not known passes no list, as in the gateway.
        ("app", None, vec!["any"]),
        ("bound", Some("127.0.0.1"), vec!["any", "near"]),
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
            for name in ["near", "far", "any"] {
                let status = client.get_with(&format!("/{name}"), &token).await.status;
                assert_eq!(status == 200, expected.contains(&name), "{id} {name}");
            }
        }
    }
    let (_, said) = inspected(&gateway, &["--from", "192.0.2.7"], &client.granted("app", SECRET, "").await);
    assert!(said["routes"]["near"].as_str().unwrap().starts_with("403: "), "{said}");
}
