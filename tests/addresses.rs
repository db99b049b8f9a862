//! Rules about addresses: from where a route may be used, and from where a client may call.

use crate::support::client::{request, with_header, with_token};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

/// Requests come by a trusted proxy, which says from where.
async fn gateway(routes: &[&str], oauth: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let sections = format!("trusted_proxies: [127.0.0.0/8]\n{oauth}");
    let gateway = Gateway::start(&config(upstream.address, routes, &sections));
    (upstream, gateway)
}

async fn from(client: &Client, address: &str, path: &str, token: Option<&str>) -> Answer {
    let mut asked = request("GET", path);
    if !address.is_empty() {
        asked = with_header(asked, "x-forwarded-for", address);
    }
    client.send(token.map_or(asked.clone(), |token| with_token(asked, token))).await
}

#[track_caller]
fn is_refused(answer: &Answer, gateway: &Gateway) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (403, Some("access_denied")));
    let line = gateway.audit_of(answer.request_id());
    assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &"address_not_allowed".into()));
}

#[tokio::test]
async fn a_route_is_used_from_where_it_is_allowed_and_denial_wins() {
    let rules = "allow_from: [10.0.0.0/8, \"2001:db8::/32\"], deny_from: [10.66.0.0/16]";
    let (upstream, gateway) = gateway(&[&format!("path: /x, access: public, {rules}")], "").await;
    for client in gateway.both() {
        for inside in ["10.1.2.3", "2001:db8::7", "::ffff:10.1.2.3", "10.66.0.1, 10.1.2.3"] {
            assert_eq!(from(&client, inside, "/x", None).await.status, 200, "{inside}");
        }
        for outside in ["10.66.0.1", "11.0.0.1", "2001:db9::7", "10.1.2.3, 11.0.0.1", ""] {
            is_refused(&from(&client, outside, "/x", None).await, &gateway);
        }
    }
    assert_eq!(upstream.seen().len(), 8);
}

#[tokio::test]
async fn a_deny_list_admits_all_others_but_no_unknown_address() {
    let (_upstream, gateway) = gateway(&["path: /x, access: public, deny_from: [10.66.0.0/16]"], "").await;
    let client = Client::new(&gateway);
    for inside in ["10.1.2.3", "203.0.113.9", ""] {
        assert_eq!(from(&client, inside, "/x", None).await.status, 200, "{inside}");
    }
    for outside in ["10.66.0.1", "unknown", "10.66.0.1, _hidden", "fe80::1%eth0"] {
        is_refused(&from(&client, outside, "/x", None).await, &gateway);
    }
}

#[tokio::test]
async fn a_protected_route_is_refused_by_address_for_any_token() {
    let (_upstream, gateway) = gateway(&["path: /x, access: {}, allow_from: [10.0.0.0/8]"], "").await;
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    for token in [None, Some("bad"), Some(&*token)] {
        is_refused(&from(&client, "11.0.0.1", "/x", token).await, &gateway);
    }
    for (token, status) in [(None, 401), (Some("bad"), 401), (Some(&*token), 200)] {
        assert_eq!(from(&client, "10.0.0.1", "/x", token).await.status, status);
    }
}

const OAUTH: &str = "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {algorithm: ES256}
  clients:
    app: {secrets: [{value: correct horse battery staple}], scopes: [read:data], allow_from: [10.0.0.0/8]}
    other: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}";

async fn token_from(client: &Client, address: &str, id: &str, secret: &str, basic: bool) -> Answer {
    let mut asked = request("POST", "/oauth/token");
    let headers = asked.headers_mut();
    headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    let mut form = "grant_type=client_credentials".to_owned();
    if basic {
        headers.insert("authorization", crate::support::client::basic(id, secret));
    } else {
        form += &format!("&client_id={id}&client_secret={}", secret.replace(' ', "+"));
    }
    client.send(with_header(crate::support::client::with_body(asked, form), "x-forwarded-for", address)).await
}

#[tokio::test]
async fn a_client_refused_by_address_learns_nothing_of_its_secret() {
    let (_upstream, gateway) = gateway(&["path: /x, access: {}"], OAUTH).await;
    for client in gateway.both() {
        for basic in [true, false] {
            assert_eq!(token_from(&client, "10.0.0.1", "app", SECRET, basic).await.status, 200);
            assert_eq!(token_from(&client, "11.0.0.1", "other", SECRET, basic).await.status, 200);
            let wrong = token_from(&client, "10.0.0.1", "app", "wrong", basic).await;
            for address in ["11.0.0.1", "unknown"] {
                let elsewhere = token_from(&client, address, "app", SECRET, basic).await;
                let [said, as_wrong] = [&elsewhere, &wrong]
                    .map(|answer| String::from_utf8_lossy(&answer.body).replace(answer.request_id(), "ID"));
                assert_eq!((elsewhere.status, said), (401, as_wrong));
                let mut headers = [&elsewhere, &wrong].map(|answer| answer.headers.clone());
                headers.iter_mut().for_each(|headers| {
                    for own in ["x-request-id", "date", "ratelimit"] {
                        headers.remove(own);
                    }
                });
                assert_eq!(headers[0], headers[1]);
                let line = gateway.audit_of(elsewhere.request_id());
                assert_eq!(
                    (&line["gateway.reason"], &line["oauth.client_id"]),
                    (&"address_not_allowed".into(), &"app".into())
                );
                assert_eq!(line.get("oauth.verified"), None);
            }
        }
    }
}

#[tokio::test]
async fn a_client_revokes_nothing_from_elsewhere() {
    let (_upstream, gateway) = gateway(&["path: /x, access: {}"], OAUTH).await;
    let client = Client::new(&gateway);
    let granted = token_from(&client, "10.0.0.1", "app", SECRET, true).await.json();
    let token = granted["access_token"].as_str().unwrap();
    for (address, status, left) in [("11.0.0.1", 401, 200), ("10.0.0.1", 200, 401)] {
        let mut asked = request("POST", "/oauth/revoke");
        asked.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        asked.headers_mut().insert("authorization", crate::support::client::basic("app", SECRET));
        let asked = crate::support::client::with_body(asked, format!("token={token}"));
        assert_eq!(client.send(with_header(asked, "x-forwarded-for", address)).await.status, status);
        assert_eq!(from(&client, "10.0.0.1", "/x", Some(token)).await.status, left);
    }
}

#[tokio::test]
async fn a_clients_token_is_no_good_elsewhere() {
    let (_upstream, gateway) = gateway(&["path: /x, access: {}", "path: /open, access: public"], OAUTH).await;
    let client = Client::new(&gateway);
    let token =
        token_from(&client, "10.0.0.1", "app", SECRET, true).await.json()["access_token"].as_str().unwrap().to_owned();
    let other = client.granted("other", SECRET, "").await;
    for _ in 0..2 {
        assert_eq!(from(&client, "10.0.0.2", "/x", Some(&token)).await.status, 200);
        assert_eq!(from(&client, "11.0.0.1", "/x", Some(&other)).await.status, 200);
        for address in ["11.0.0.1", "unknown", ""] {
            is_refused(&from(&client, address, "/x", Some(&token)).await, &gateway);
        }
        assert_eq!(from(&client, "11.0.0.1", "/open", Some(&token)).await.status, 200);
    }
}

#[tokio::test]
async fn check_shows_callers_and_addresses_of_routes() {
    let folder = crate::support::gateway::folder();
    let routes = ["path: /x, access: public, allow_from: [10.0.0.0/8, \"2001:db8::/32\"], deny_from: [10.66.0.0/16]"];
    let sections = format!(
        "trusted_proxies: [192.0.2.0/24]\nlisteners: [{{address: 127.0.0.1:0, proxy_protocol: true}}]\n{OAUTH}"
    );
    let yaml = config("127.0.0.1:9".parse().unwrap(), &routes, &sections);
    std::fs::write(folder.join("gateway.yaml"), &yaml).unwrap();
    let output = crate::support::gateway::program(&folder).arg("check").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    for shown in [
        "EVERYONE at 10.0.0.0/8|2001:db8::/32 not at 10.66.0.0/16",
        "192.0.2.0/24 may name the client's address",
        "behind the PROXY protocol",
        "app at 10.0.0.0/8 only",
    ] {
        assert!(told.contains(shown), "{shown}:\n{told}");
    }
    for everyone in ["0.0.0.0/0", "0.0.0.0/1, 128.0.0.0/1", "'::/0'", "'2000::/3'"] {
        std::fs::write(folder.join("gateway.yaml"), yaml.replace("192.0.2.0/24", everyone)).unwrap();
        let output = crate::support::gateway::program(&folder).arg("check").output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{everyone}: {told}");
        assert!(told.contains("together these networks hold all public addresses"), "{told}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
