//! Rate limits: what they count by, that they are exact, and what answers tell of them.

use crate::support::client::{request, with_header, with_token};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

/// A gateway with one route that has this access and these limits.
async fn limited(access: &str, limits: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let route = format!("path: /x, name: x, access: {access}, rate_limits: [{limits}]");
    let gateway = Gateway::start(&config(upstream.address, &[&route], "workers: 2"));
    (upstream, gateway)
}

type Fields<'f> = &'f [(&'static str, &'f str)];

/// The statuses of requests for `/x` with these header fields, one after the other.
async fn statuses(client: &Client, fields: &[Fields<'_>]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for fields in fields {
        let with = |request, (name, value): &(&'static str, &str)| with_header(request, name, value);
        statuses.push(client.send(fields.iter().fold(request("GET", "/x"), with)).await.status);
    }
    statuses
}

async fn bearer(gateway: &Gateway, client: &str, form: &str) -> String {
    format!("Bearer {}", Client::new(gateway).granted(client, SECRET, form).await)
}

/// Name, and the two parameters of each item (RFC 9651 list of strings with integer parameters).
fn items(value: &str) -> Vec<(String, u64, u64)> {
    let item = |item: &str| {
        let (name, parameters) = item.split_once("\";").unwrap();
        let values: Vec<u64> =
            parameters.split(';').map(|parameter| parameter.split_once('=').unwrap().1.parse().unwrap()).collect();
        (name.strip_prefix('"').unwrap().to_owned(), values[0], values[1])
    };
    value.split(", ").map(item).collect()
}

#[tokio::test]
async fn an_address_has_one_bucket_for_all_its_requests() {
    let (_upstream, gateway) = limited("public", "{rate: 1/h, burst: 3, per: address}").await;
    let mut got = Vec::new();
    for (client, forged) in gateway.both().iter().zip(["10.0.0.1", "10.0.0.2"]) {
        let fields: [Fields<'_>; 3] = [
            &[("x-forwarded-for", forged)],
            &[("forwarded", "for=10.0.0.3"), ("x-real-ip", forged)],
            &[("authorization", "Bearer x")],
        ];
        got.extend(statuses(client, &fields).await);
    }
    assert_eq!(got, [200, 200, 200, 429, 429, 429]);
}

#[tokio::test]
async fn every_spelling_of_a_path_counts_as_the_same_route() {
    let (upstream, gateway) = limited("public", "{rate: 1/h, burst: 4, per: route}").await;
    let client = Client::new(&gateway);
    let mut got = Vec::new();
    for path in ["/x", "/x/", "/%78", "/x?y", "/x"] {
        got.push(client.get(path).await.status);
    }
    assert_eq!((got, upstream.seen().len()), (vec![200, 200, 200, 200, 429], 4));
}

#[tokio::test]
async fn clients_have_buckets_of_their_own_whichever_token_they_show() {
    let (_upstream, gateway) = limited("{}", "{rate: 1/h, burst: 2, per: client}").await;
    let (first, second) = (bearer(&gateway, "app", "").await, bearer(&gateway, "app", "scope=read:data").await);
    let other = bearer(&gateway, "other", "").await;
    let tokens = [&first, &second, &first, &other, &second, &other, &other];
    let fields: Vec<Vec<_>> = tokens.iter().map(|token| vec![("authorization", token.as_str())]).collect();
    let fields: Vec<Fields<'_>> = fields.iter().map(Vec::as_slice).collect();
    assert_eq!(statuses(&Client::new(&gateway), &fields).await, [200, 200, 429, 200, 429, 200, 429]);
}

#[tokio::test]
async fn subjects_have_buckets_of_their_own() {
    let (_upstream, gateway) = limited("{}", "{rate: 1/h, burst: 1, per: subject}").await;
    let (app, other) = (bearer(&gateway, "app", "").await, bearer(&gateway, "other", "").await);
    let fields: [Fields<'_>; 3] =
        [&[("authorization", &app)], &[("authorization", &app)], &[("authorization", &other)]];
    assert_eq!(statuses(&Client::new(&gateway), &fields).await, [200, 429, 200]);
}

#[tokio::test]
async fn values_of_a_claim_have_buckets_of_their_own() {
    let (_upstream, gateway) = limited("{}", "{rate: 1/h, burst: 1, per: \"claim:scope\"}").await;
    let (read, write) =
        (bearer(&gateway, "app", "scope=read:data").await, bearer(&gateway, "app", "scope=write:data").await);
    let other = bearer(&gateway, "other", "scope=read:data").await;
    let fields: [Fields<'_>; 3] =
        [&[("authorization", &read)], &[("authorization", &write)], &[("authorization", &other)]];
    assert_eq!(statuses(&Client::new(&gateway), &fields).await, [200, 200, 429]);
}

#[tokio::test]
async fn header_values_and_their_absence_have_buckets_of_their_own() {
    let (_upstream, gateway) = limited("public", "{rate: 1/h, burst: 1, per: \"header:X-Tenant\"}").await;
    let fields: [Fields<'_>; 6] = [
        &[("x-tenant", "a")],
        &[("X-TENANT", "a")],
        &[("x-tenant", "b")],
        &[("x-tenant", "a"), ("x-tenant", "b")],
        &[],
        &[],
    ];
    assert_eq!(statuses(&Client::new(&gateway), &fields).await, [200, 429, 200, 200, 200, 429]);
}

#[tokio::test]
async fn the_tightest_of_several_limits_holds_and_all_are_announced() {
    let limits =
        "{rate: 100/h, burst: 100, per: address}, {rate: 1/h, burst: 2, per: client}, {rate: 10/h, per: route}";
    let (_upstream, gateway) = limited("{}", limits).await;
    let token = Client::new(&gateway).granted("app", SECRET, "").await;
    let mut answers: Vec<Answer> = Vec::new();
    for client in gateway.both().iter().chain(&gateway.both()) {
        answers.push(client.get_with("/x", &token).await);
    }
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 429, 429]);
    for (left, answer) in [99, 98, 97, 96].iter().zip(&answers) {
        let policy = items(answer.header("ratelimit-policy"));
        let expected = [("address", 100, 3600), ("client", 2, 7200), ("route", 10, 3600)];
        assert_eq!(policy, expected.map(|(name, q, w)| (name.to_owned(), q, w)));
        let limit = items(answer.header("ratelimit"));
        assert_eq!((limit[0].0.as_str(), limit[0].1), ("address", *left));
    }
    let last = items(answers[1].header("ratelimit"));
    assert_eq!(
        last.iter().map(|(name, left, _)| (name.as_str(), *left)).collect::<Vec<_>>(),
        [("address", 98), ("client", 0), ("route", 8)]
    );
    // Requests that the second limit refused were not counted by the third.
    assert_eq!(items(answers[2].header("ratelimit")).len(), 2);
}

#[tokio::test]
async fn answers_of_a_limited_route_carry_its_limits() {
    let (_upstream, gateway) = limited("{scopes: [write:data]}", "{rate: 1/h, burst: 5, per: address}").await;
    let client = Client::new(&gateway);
    let (good, poor) = (client.granted("app", SECRET, "").await, client.granted("other", SECRET, "").await);
    let asked = [
        (request("GET", "/x"), 401),
        (with_token(request("GET", "/x"), "bad"), 401),
        (with_token(request("GET", "/x"), &poor), 403),
        (with_token(request("GET", "/x"), &good), 200),
        (with_token(request("HEAD", "/x"), &good), 200),
        (with_token(request("GET", "/x"), &good), 429),
    ];
    for ((request, status), left) in asked.into_iter().zip([4, 3, 2, 1, 0, 0]) {
        let answer = client.send(request).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("ratelimit-policy"), "\"address\";q=5;w=18000");
        let limit = items(answer.header("ratelimit"));
        assert_eq!((limit[0].0.as_str(), limit[0].1), ("address", left));
        assert!(limit[0].2 <= 18_000, "{limit:?}");
    }
}

#[tokio::test]
async fn answers_of_a_route_without_limits_tell_of_none() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::open(upstream.address, "");
    let answer = Client::new(&gateway).get("/x").await;
    assert_eq!(["ratelimit", "ratelimit-policy", "retry-after"].map(|name| answer.headers.get(name)), [None; 3]);
}

#[tokio::test]
async fn a_rate_limited_request_gets_retry_after_and_is_audited() {
    let (upstream, gateway) = limited("{}", "{rate: 2/h, burst: 1, per: client}").await;
    for client in gateway.both() {
        let token = client.granted("app", SECRET, "").await;
        client.get_with("/x", &token).await;
        let answer = client.get_with("/x", &token).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (429, Some("rate_limited")));
        assert!((1795..=1800).contains(&answer.header("retry-after").parse().unwrap()), "{answer:?}");
        let line = gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.decision"], &line["gateway.reason"]), (&"deny".into(), &"rate_limited".into()));
        assert_eq!((&line["oauth.client_id"], &line["http.route"]), (&"app".into(), &"x".into()));
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn bad_tokens_are_counted_by_address_before_verification() {
    let (upstream, gateway) =
        limited("{}", "{rate: 1/h, burst: 3, per: address}, {rate: 1/h, burst: 1, per: client}").await;
    let good = bearer(&gateway, "app", "").await;
    let bad = format!("{}x", &good[..good.len() - 1]);
    let fields: [Fields<'_>; 5] = [
        &[("authorization", &bad)],
        &[("authorization", &bad)],
        &[],
        &[("authorization", &bad)],
        &[("authorization", &good)],
    ];
    assert_eq!(statuses(&Client::new(&gateway), &fields).await, [401, 401, 401, 429, 429]);
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_stranger_spends_nothing_of_a_clients_quota() {
    let (_upstream, gateway) = limited("{scopes: [write:data]}", "{rate: 1/h, burst: 1, per: route}").await;
    let (good, poor) = (bearer(&gateway, "app", "").await, bearer(&gateway, "other", "").await);
    let fields: [Fields<'_>; 5] = [
        &[],
        &[("authorization", "Bearer bad")],
        &[("authorization", &poor)],
        &[("authorization", &good)],
        &[("authorization", &good)],
    ];
    assert_eq!(statuses(&Client::new(&gateway), &fields).await, [401, 401, 403, 200, 429]);
}

#[tokio::test]
async fn wrong_secrets_spend_the_token_endpoints_own_limits() {
    let upstream = Upstream::start().await;
    let oauth = "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {algorithm: ES256}
  token_endpoint: {rate_limits: [{rate: 1/h, burst: 2, per: address}]}
  clients: {app: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}}";
    let gateway = Gateway::start(&config(upstream.address, &["path: /x, access: {}"], oauth));
    let client = Client::new(&gateway);
    let wrong = client.token("app", "wrong", "").await;
    let right = client.token("app", SECRET, "").await;
    let late = client.token("app", SECRET, "").await;
    assert_eq!([&wrong, &right, &late].map(|answer| answer.status), [401, 200, 429]);
    assert_eq!(late.header("ratelimit-policy"), "\"address\";q=2;w=7200");
    assert!(late.header("retry-after").parse::<u64>().unwrap() > 3000);
    assert_eq!(client.get("/.well-known/jwks.json").await.status, 200);
}

/// Of so many requests at once over many connections, exactly `burst` are let through.
async fn exactly(client: Client, connections: usize, each: usize, burst: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let client = client.clone();
        tasks.spawn(async move {
            let mut connection = client.connect().await;
            let mut allowed = 0;
            for _ in 0..each {
                allowed += usize::from(connection.send(request("GET", "/x")).await.status == 200);
            }
            allowed
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<usize>(), burst);
}

#[tokio::test]
async fn limits_are_exact_over_all_workers_and_connections() {
    let (upstream, gateway) = limited("public", "{rate: 1/h, burst: 50, per: address}").await;
    exactly(Client::new(&gateway), 20, 6, 50).await;
    assert_eq!(upstream.seen().len(), 50);
}

#[tokio::test]
async fn streams_of_one_http2_connection_count_one_each() {
    let (upstream, gateway) = limited("public", "{rate: 1/h, burst: 50, per: address}").await;
    let crate::support::client::Connection::Http2(sender) = Client::http2(&gateway).connect().await else {
        panic!("not HTTP/2")
    };
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..90 {
        let mut sender = sender.clone();
        streams.spawn(async move { sender.send_request(request("GET", "/x")).await.unwrap().status().as_u16() });
    }
    let statuses = streams.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 50);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 40);
    assert_eq!(upstream.seen().len(), 50);
}
