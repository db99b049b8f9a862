//! Quotas: limits that several routes share, and the limits of a client over everything that it does.

use crate::support::client::{basic, request, with_body};
use crate::support::command::run;
use crate::support::gateway::{folder, program};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const SHARED: &str = "rate_limits:
  expensive: {rate: 1/h, burst: 3, per: client}
  backend: {rate: 1/h, burst: 4, per: route}";

/// `app` may send three requests and `other` any number.
const QUOTA: &str = "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {algorithm: ES256}
  clients:
    app: {secrets: [{value: correct horse battery staple}], scopes: [read:data], rate_limits: [{rate: 1/h, burst: 3}]}
    other: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}";

async fn gateway(routes: &[&str], sections: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&config(upstream.address, routes, &format!("workers: 2\n{sections}")));
    (upstream, gateway)
}

async fn statuses(client: &Client, token: &str, paths: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for path in paths {
        statuses.push(client.get_with(path, token).await.status);
    }
    statuses
}

#[tokio::test]
async fn routes_that_name_a_limit_share_its_buckets() {
    let routes = [
        "path: /a, name: a, access: {}, rate_limits: [expensive]",
        "path: /b, name: b, access: {}, rate_limits: [{rate: 100/h, per: address}, expensive]",
        "path: /c, name: c, access: {}",
    ];
    let (upstream, gateway) = gateway(&routes, SHARED).await;
    let client = Client::new(&gateway);
    let (app, other) = (client.granted("app", SECRET, "").await, client.granted("other", SECRET, "").await);
    assert_eq!(
        statuses(&client, &app, &["/a", "/c", "/b", "/a", "/b", "/a", "/c"]).await,
        [200, 200, 200, 200, 429, 429, 200]
    );
    assert_eq!(statuses(&client, &other, &["/b", "/a"]).await, [200, 200], "a client has buckets of its own");
    assert_eq!(upstream.seen().len(), 7);
    let answer = client.get_with("/b", &other).await;
    assert_eq!(answer.header("ratelimit-policy"), "\"address\";q=100;w=3600, \"expensive\";q=3;w=10800");
    assert!(answer.header("ratelimit").contains("\"expensive\";r=0"), "{answer:?}");
}

#[tokio::test]
async fn a_shared_limit_by_route_is_one_bucket_for_all_its_routes() {
    let routes = ["path: /a, access: public, rate_limits: [backend]", "path: /b, access: {}, rate_limits: [backend]"];
    let (upstream, gateway) = gateway(&routes, SHARED).await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    assert_eq!(statuses(&client, &token, &["/a", "/b", "/a", "/b", "/a", "/b"]).await, [200, 200, 200, 200, 429, 429]);
    assert_eq!(upstream.seen().len(), 4);
}

fn is_over_quota(answer: &Answer, gateway: &Gateway, route: &str) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (429, Some("rate_limited")));
    assert!((3595..=3600).contains(&answer.header("retry-after").parse().unwrap()), "{answer:?}");
    assert!(answer.header("ratelimit-policy").contains("\"(client)\";q=3;w=10800"), "{answer:?}");
    assert!(answer.header("ratelimit").contains("\"(client)\";r=0"), "{answer:?}");
    let line = gateway.audit_of(answer.request_id());
    assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &"rate_limited".into()));
    assert_eq!((&line["oauth.client_id"], &line["http.route"]), (&"app".into(), &route.into()));
    assert!(line.get("oauth.verified").is_none(), "{line}");
}

const ROUTES: [&str; 3] =
    ["path: /a, name: a, access: {}", "path: /b, name: b, access: {}", "path: /open, name: open, access: public"];

#[tokio::test]
async fn a_clients_quota_counts_all_routes_and_the_token_endpoint() {
    let (upstream, gateway) = gateway(&ROUTES, QUOTA).await;
    for (number, client) in gateway.both().iter().enumerate() {
        if number == 0 {
            let token = client.granted("app", SECRET, "").await;
            assert_eq!(statuses(client, &token, &["/a", "/b"]).await, [200, 200]);
            for path in ["a", "b"] {
                is_over_quota(&client.get_with(&format!("/{path}"), &token).await, &gateway, path);
            }
            assert_eq!(statuses(client, &token, &["/open"]).await, [200], "a public route has no caller");
        }
        is_over_quota(&client.token("app", SECRET, "").await, &gateway, "(token)");
        let other = client.granted("other", SECRET, "").await;
        assert_eq!(statuses(client, &other, &["/a", "/b", "/a", "/b"]).await, [200; 4]);
    }
    assert_eq!(upstream.seen().len(), 11);
}

#[tokio::test]
async fn other_callers_use_up_nothing_of_a_clients_quota() {
    let (_upstream, gateway) = gateway(&ROUTES, QUOTA).await;
    let client = Client::new(&gateway);
    for _ in 0..5 {
        assert_eq!(client.token("app", "wrong", "").await.status, 401);
    }
    assert_eq!(client.token("app", SECRET, "scope=admin").await.status, 400, "no token, no count");
    let token = client.granted("app", SECRET, "").await;
    let forged = format!("{}x", &token[..token.len() - 1]);
    assert_eq!(statuses(&client, &forged, &["/a", "/b"]).await, [401, 401]);
    assert_eq!(statuses(&client, &token, &["/a", "/b", "/a"]).await, [200, 200, 429]);
}

#[tokio::test]
async fn a_client_over_its_quota_can_still_revoke() {
    let (_upstream, gateway) = gateway(&ROUTES, QUOTA).await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    assert_eq!(statuses(&client, &token, &["/a", "/a", "/a"]).await, [200, 200, 429]);
    let mut asked = with_body(request("POST", "/oauth/revoke"), format!("token={token}"));
    asked.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    asked.headers_mut().insert("authorization", basic("app", SECRET));
    assert_eq!(client.send(asked).await.status, 200);
}

#[tokio::test]
async fn refusals_are_counted_by_client_and_logged_with_the_key() {
    let routes = ["path: /a, name: a, access: {}, rate_limits: [expensive]", "path: /b, name: b, access: {}"];
    let (_upstream, gateway) = gateway(&routes, &format!("{SHARED}\n{QUOTA}")).await;
    let client = Client::new(&gateway);
    let (app, other) = (client.granted("app", SECRET, "").await, client.granted("other", SECRET, "").await);
    assert_eq!(statuses(&client, &other, &["/a", "/a", "/a", "/a", "/a"]).await, [200, 200, 200, 429, 429]);
    assert_eq!(statuses(&client, &app, &["/b", "/b", "/b"]).await, [200, 200, 429]);
    let page = Client::plain(gateway.admin.unwrap()).get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    for (labels, count) in [
        ("http_route=\"a\",limit=\"expensive\",decision=\"allow\",oauth_client_id=\"\"", 3),
        ("http_route=\"a\",limit=\"expensive\",decision=\"deny\",oauth_client_id=\"other\"", 2),
        ("http_route=\"(token)\",limit=\"(client)\",decision=\"allow\",oauth_client_id=\"\"", 1),
        ("http_route=\"b\",limit=\"(client)\",decision=\"deny\",oauth_client_id=\"app\"", 1),
    ] {
        let line = format!("portcullis_ratelimit_decisions_total{{{labels}}} {count}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
    let log = gateway.log_line("rate limits refused requests");
    assert!(log.contains("\"key\":\"rate_limits.expensive\"") || log.contains("\"key\":\"oauth.clients.app."), "{log}");
}

#[test]
fn check_shows_quotas_and_warns_of_unused_limits() {
    let folder = folder();
    let routes = ["path: /a, name: a, access: {}, rate_limits: [expensive]"];
    let yaml = config("127.0.0.1:9".parse().unwrap(), &routes, &format!("{SHARED}\n{QUOTA}"));
    std::fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let said = run(program(&folder).arg("check"));
    assert_eq!(said.code, Some(0), "{said:?}");
    for shown in ["1/h per client (expensive)", "app 1/h in all"] {
        assert!(said.stdout.contains(shown), "{shown}:\n{}", said.stdout);
    }
    assert!(said.stderr.contains("no route names the rate limit `backend`: it limits nothing"), "{}", said.stderr);
    assert!(!said.stderr.contains("`expensive`"), "{}", said.stderr);
    std::fs::remove_dir_all(folder).unwrap();
}
