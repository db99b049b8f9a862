//! Facts that outlast the configuration: buckets, counters, keys, connections, health.

use http::Response;
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use super::{config_page, metric};
use crate::events::source;
use crate::support::client::request;
use crate::support::issuer::Key;
use crate::support::wire::{RawUpstream, within};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Issuer, Upstream};
use crate::tunnels::{OPEN, echoes, opened, parrot};

#[tokio::test]
async fn the_buckets_of_unchanged_limits_go_on() {
    let upstream = Upstream::start().await;
    let limited = "name: limited, path: /a, access: public, rate_limits: [{rate: 1/h, burst: 3, per: address}]";
    let gateway = Gateway::start(&config(upstream.address, &[limited], ""));
    let client = Client::new(&gateway);
    for _ in 0..2 {
        assert_eq!(client.get("/a").await.status, 200);
    }
    let another = "name: another, path: /b, access: public, rate_limits: [{rate: 1/h, burst: 1, per: address}]";
    gateway.reloads(&config(upstream.address, &[another, limited], ""));
    assert_eq!([client.get("/a").await.status, client.get("/a").await.status], [200, 429]);
    assert_eq!(client.get("/b").await.status, 200, "its bucket is its own");
    gateway.reloads(&config(upstream.address, &[&limited.replace("burst: 3", "burst: 4")], ""));
    assert_eq!(client.get("/a").await.status, 200, "another limit begins full");
}

#[tokio::test]
async fn counters_go_on_under_their_names() {
    let upstream = Upstream::start().await;
    let [a, b] = ["name: a, path: /a, access: public", "name: b, path: /b, access: public"];
    let gateway = Gateway::start(&config(upstream.address, &[a, b], ""));
    let client = Client::new(&gateway);
    let allowed = async |route: &str| {
        let labels = [format!("http_route=\"{route}\""), "decision=\"allow\"".to_owned()];
        metric(&gateway, "portcullis_auth_decisions_total", &labels.each_ref().map(String::as_str)).await
    };
    for path in ["/a", "/b", "/b"] {
        assert_eq!(client.get(path).await.status, 200);
    }
    gateway.reloads(&config(upstream.address, &["name: c, path: /c, access: public", b], ""));
    for path in ["/b", "/c"] {
        assert_eq!(client.get(path).await.status, 200);
    }
    let counts = [allowed("a").await, allowed("b").await, allowed("c").await];
    assert_eq!(counts, [Some(1.0), Some(3.0), Some(1.0)]);
    let changed = format!("upstreams: {{legacy: {{servers: [\"http://{}\"], via: false}}}}", upstream.address);
    gateway.reloads(&config(upstream.address, &[a, b], &changed));
    assert_eq!(client.get("/a").await.status, 200);
    assert_eq!(allowed("a").await, Some(2.0));
    let sent = metric(&gateway, "portcullis_upstream_server_requests_total", &[]).await;
    assert!(sent.is_some_and(|sent| sent >= 1.0), "{sent:?}");
}

#[tokio::test]
async fn connections_to_an_unchanged_upstream_are_used_again() {
    let kept = RawUpstream::start(|mut wire, _| {
        Box::pin(async move {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            while wire.head().await.is_some() {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        })
    })
    .await;
    let (old, new) = (Upstream::answering(|_| named("old")).await, Upstream::answering(|_| named("new")).await);
    let routes = [
        "name: kept, path: /kept, access: public, upstream: kept",
        "name: moved, path: /moved, access: public, upstream: moved",
    ];
    let yaml = |moved: &Upstream| {
        let upstreams =
            format!("upstreams: {{kept: \"http://{}\", moved: \"http://{}\"}}", kept.address, moved.address);
        config(kept.address, &routes, &upstreams)
    };
    let gateway = Gateway::start(&yaml(&old));
    let client = Client::new(&gateway);
    for (service, name) in [(&old, "old"), (&new, "new"), (&old, "old")] {
        gateway.reloads(&yaml(service));
        assert_eq!(client.get("/moved").await.body, name);
        assert_eq!(client.get("/kept").await.body, "ok");
    }
    assert_eq!(kept.connections(), 1);
}

fn named(name: &'static str) -> Response<Full<bytes::Bytes>> {
    Response::new(Full::from(name))
}

#[tokio::test]
async fn the_keys_of_an_unchanged_issuer_are_not_fetched_again() {
    let upstream = Upstream::start().await;
    let key = Key::new("k", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let routes = ["name: data, path: /data, access: {issuers: [corp]}"];
    let yaml = |more: &str| {
        let issuers = format!("issuers: {{corp: {{issuer: \"{}\", audiences: [api]{more}}}}}", issuer.issuer);
        config(upstream.address, &routes, &issuers)
    };
    let gateway = Gateway::start(&yaml(""));
    let client = Client::new(&gateway);
    let mut claims = issuer.claims();
    claims["aud"] = json!("api");
    let token = key.sign(&claims);
    assert_eq!(client.get_with("/data", &token).await.status, 200);
    let fetches = issuer.fetches();
    for number in 0..5 {
        gateway.reloads(&(yaml("") + &format!("# {number}\n")));
        assert_eq!(client.get_with("/data", &token).await.status, 200);
    }
    assert_eq!(issuer.fetches(), fetches);
    assert_eq!(metric(&gateway, "portcullis_token_cache_misses_total", &[]).await, Some(1.0));
    gateway.reloads(&yaml(", algorithms: [RS256]"));
    assert_eq!(client.get_with("/data", &token).await.status, 401, "a tightened issuer");
    let removed = config(upstream.address, &["name: open, path: /open, access: public"], "");
    gateway.reloads(&removed);
    gateway.reloads(&yaml(""));
    assert_eq!(client.get_with("/data", &token).await.status, 200);
}

#[tokio::test]
async fn a_signing_key_and_its_tokens_outlast_every_reload() {
    let upstream = Upstream::start().await;
    let routes = ["name: data, path: /data, access: {scopes: [read:data]}"];
    let yaml = config(upstream.address, &routes, "");
    let gateway = Gateway::start(&yaml);
    let client = Client::new(&gateway);
    let token = client.granted("app", SECRET, "").await;
    let jwks = client.get("/.well-known/jwks.json").await.body;
    gateway.reloads(&yaml.replace("scopes: [read:data]}\n", "scopes: [read:data], token_ttl: 10m}\n"));
    assert_eq!(client.get("/.well-known/jwks.json").await.body, jwks);
    assert_eq!(client.get_with("/data", &token).await.status, 200);
    let granted = client.token("other", SECRET, "").await;
    assert_eq!(granted.json()["expires_in"], 600);
}

#[tokio::test]
async fn an_open_web_socket_goes_on() {
    let service = parrot().await;
    let yaml = config(service.address, &[OPEN], "");
    let gateway = Gateway::start(&yaml);
    let first = config_page(&gateway).await["config"].clone();
    let mut tunnel = opened(&gateway, "").await;
    for number in 0..3 {
        gateway.reloads(&(yaml.clone() + &format!("# {number}\n")));
        echoes(&mut tunnel, "hello").await;
    }
    gateway.reloads(&config(service.address, &["name: other, path: /other, access: public"], ""));
    echoes(&mut tunnel, "still here").await;
    drop(tunnel);
    let line = gateway.audit_line(|line| line["http.route"] == "chat");
    assert_eq!(line["gateway.config"], first, "the configuration that decided");
    assert_eq!(metric(&gateway, "portcullis_auth_decisions_total", &["http_route=\"chat\""]).await, Some(1.0));
}

#[tokio::test]
async fn an_open_stream_of_events_goes_on() {
    let (upstream, sender) = source().await;
    let yaml = config(upstream.address, &["name: all, path: /**, access: public"], "");
    let gateway = Gateway::start(&yaml);
    for client in gateway.both() {
        let mut stream = within(client.connect().await.begin(request("GET", "/events"))).await.unwrap();
        for number in 0..3 {
            gateway.reloads(&(yaml.clone() + &format!("# {number}\n")));
            sender.send(format!("event {number}")).await.unwrap();
            let frame = within(stream.body_mut().frame()).await.unwrap().unwrap();
            assert_eq!(frame.data_ref().unwrap(), format!("event {number}").as_bytes());
        }
        sender.send(String::new()).await.unwrap();
        assert_eq!(within(stream.into_body().collect()).await.unwrap().to_bytes(), "");
    }
}
