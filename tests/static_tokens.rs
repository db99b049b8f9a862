//! `static_tokens`: hand-made tokens count until a date, as the callers `static/NAME`, and never reach a service.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;

use crate::support::client::{request, with_header, with_token};
use crate::support::command::run_with;
use crate::support::gateway::{folder, program};
use crate::support::issuer::{Issuer, Key, now};
use crate::support::world::{SECRET, config};
use crate::support::{Answer, Client, Gateway, Upstream};

const TOKEN: &str = "legacy-report-job-of-2019";
const KEYED: &str = "legacy cron job of 2017!";
const ENDED: &str = "legacy-import-of-long-ago";
const FIELD: &str = "x-api-key";

const ROUTES: [&str; 10] = [
    "path: /any, access: {}",
    "path: /scope, access: {scopes: {all_of: [reports:read]}}",
    "path: /write, access: {scopes: {all_of: [reports:write]}}",
    "path: /audience, access: {audiences: [https://api.example.com]}",
    "path: /claim, access: {claims: {tier: gold}}",
    "path: /client, access: {clients: [static/reports]}",
    "path: /corp, access: {issuers: [corp]}",
    "path: /public, access: public",
    "path: /passed, access: {}, forward_token: true",
    "path: /limited, access: {}, rate_limits: [{rate: 1/d, per: client}]",
];

struct World {
    gateway: Gateway,
    upstream: Upstream,
    corp: Issuer,
    key: Key,
}

fn hash(value: &str) -> String {
    format!("sha256:{}", URL_SAFE_NO_PAD.encode(digest(&SHA256, value.as_bytes())))
}

fn entry(name: &str, value: &str, more: &str) -> String {
    format!("  {name}: {{hash: \"{}\", scopes: [reports:read]{more}}}\n", hash(value))
}

const LATER: &str = ", until: 2999-01-01T00:00:00Z";
const PAST: &str = ", until: 2020-01-01T00:00:00Z";

fn tokens() -> String {
    let keyed = format!("{LATER}, header: X-Api-Key");
    entry("reports", TOKEN, LATER) + &entry("cron", KEYED, &keyed) + &entry("import", ENDED, PAST)
}

impl World {
    async fn start() -> Self {
        let key = Key::new("k", "ES256");
        let (corp, upstream) = (Issuer::start(&[&key]).await, Upstream::start().await);
        let gateway = Gateway::start(&yaml(&corp, &upstream, &tokens()));
        Self { gateway, upstream, corp, key }
    }

    async fn answered(&self, client: &Client, asked: Asked) -> (u16, Value) {
        let answer = client.send(asked).await;
        (answer.status, self.line(&answer))
    }

    fn line(&self, answer: &Answer) -> Value {
        self.gateway.audit_of(answer.request_id())
    }
}

/// The tokens of `corp` come in `Authorization`, those of `access` in a field of their own.
fn yaml(corp: &Issuer, upstream: &Upstream, tokens: &str) -> String {
    let url = &corp.issuer;
    let sections = format!(
        "issuers:\n  corp: {{issuer: '{url}', audiences: [https://api.example.com]}}\n  \
         access: {{issuer: 'urn:access', jwks_uri: '{url}/jwks', audiences: [a], token_header: X-Access}}\n\
         static_tokens:\n{tokens}"
    );
    config(upstream.address, &ROUTES, &sections)
}

type Asked = Request<Full<Bytes>>;

fn bearer(path: &str, token: &str) -> Asked {
    with_token(request("GET", path), token)
}

fn keyed(path: &str, value: &str) -> Asked {
    with_header(request("GET", path), FIELD, value)
}

#[tokio::test]
async fn a_static_token_is_a_caller_in_either_field() {
    let world = World::start().await;
    for client in world.gateway.both() {
        for (asked, name) in [(bearer("/scope", TOKEN), "reports"), (keyed("/scope", KEYED), "cron")] {
            world.upstream.forget();
            let (status, line) = world.answered(&client, asked).await;
            let facts = (&line["oauth.issuer"], &line["oauth.client_id"], &line["oauth.scope"]);
            assert_eq!((status, facts), (200, (&"static".into(), &name.into(), &"reports:read".into())), "{line}");
            let seen = world.upstream.only();
            let identity = ["x-auth-issuer", "x-auth-client-id", "x-auth-subject", "x-auth-scope"];
            assert_eq!(identity.map(|field| seen.header(field)), ["static", name, name, "reports:read"]);
            assert!(!seen.headers.contains_key("authorization") && !seen.headers.contains_key(FIELD), "{seen:?}");
        }
        let token = world.key.sign(&world.corp.claims());
        assert_eq!(client.get_with("/any", &token).await.status, 200, "tokens of issuers count as before");
        assert_eq!(client.send(bearer("/client", TOKEN)).await.status, 200);
    }
}

#[tokio::test]
async fn a_route_with_other_demands_refuses_a_static_token() {
    let world = World::start().await;
    let client = Client::new(&world.gateway);
    for _ in 0..2 {
        for (path, status, reason) in [
            ("/write", 403, "missing_scope"),
            ("/audience", 401, "bad_audience"),
            ("/claim", 403, "claim_mismatch"),
            ("/corp", 401, "issuer_not_allowed"),
        ] {
            let (found, line) = world.answered(&client, bearer(path, TOKEN)).await;
            assert_eq!((found, &line["gateway.reason"]), (status, &reason.into()), "{path}: {line}");
        }
        let (found, line) = world.answered(&client, keyed("/client", KEYED)).await;
        assert_eq!((found, &line["gateway.reason"]), (403, &"client_not_allowed".into()));
    }
}

#[tokio::test]
async fn an_ended_static_token_is_answered_401() {
    let world = World::start().await;
    let client = Client::new(&world.gateway);
    // More often than an address may fail: it is no guess.
    for _ in 0..12 {
        let answer = client.send(bearer("/any", ENDED)).await;
        let challenge = answer.headers["www-authenticate"].to_str().unwrap();
        assert!(answer.status == 401 && challenge.contains("error=\"invalid_token\""), "{answer:?}");
        let line = world.line(&answer);
        assert_eq!(line["gateway.reason"], "static_token_ended");
        assert_eq!((&line["oauth.issuer"], &line["oauth.client_id"]), (&"static".into(), &"import".into()));
    }
    assert_eq!(world.upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_static_token_counts_in_its_own_field_only() {
    let world = World::start().await;
    for client in world.gateway.both() {
        for asked in [
            bearer("/any", KEYED),
            keyed("/any", TOKEN),
            with_header(request("GET", "/any"), "x-access", TOKEN),
            with_header(request("GET", "/any"), "x-access", KEYED),
        ] {
            let (status, line) = world.answered(&client, asked).await;
            assert_eq!((status, &line["gateway.reason"]), (401, &"issuer_not_allowed".into()), "{line}");
        }
        for asked in [
            request("GET", &format!("/any?access_token={TOKEN}")),
            with_header(request("GET", "/any"), "authorization", TOKEN),
            with_header(request("GET", "/any"), "authorization", &format!("Token {TOKEN}")),
            with_header(request("GET", "/any"), "proxy-authorization", &format!("Bearer {TOKEN}")),
            with_header(request("GET", "/any"), "cookie", &format!("token={TOKEN}")),
        ] {
            let (status, line) = world.answered(&client, asked).await;
            assert_eq!((status, &line["gateway.reason"]), (401, &"no_token".into()), "{line}");
        }
    }
    assert_eq!(world.upstream.seen().len(), 0);
}

#[tokio::test]
async fn two_credentials_in_one_request_are_refused() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    for client in world.gateway.both() {
        for asked in [
            with_token(keyed("/any", KEYED), &token),
            with_token(keyed("/any", KEYED), TOKEN),
            with_token(keyed("/any", "anything"), TOKEN),
            with_header(keyed("/any", KEYED), "x-access", &token),
            with_header(keyed("/any", KEYED), FIELD, KEYED),
            with_header(bearer("/any", TOKEN), "authorization", &format!("Bearer {TOKEN}")),
            with_header(bearer("/any", TOKEN), "authorization", "Basic YTpi"),
        ] {
            let (status, line) = world.answered(&client, asked).await;
            assert_eq!((status, &line["gateway.reason"]), (400, &"bad_request".into()), "{line}");
        }
        for alike in ["x_api_key", "x-api_key", "x.api.key"] {
            let asked = with_header(keyed("/any", KEYED), alike, KEYED);
            assert_eq!(client.send(asked).await.status, 400, "{alike}");
        }
    }
    assert_eq!(world.upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_static_token_never_reaches_a_service() {
    let world = World::start().await;
    let client = Client::new(&world.gateway);
    let of_service = "Bearer token-of-the-service-itself";
    for asked in [
        bearer("/passed", TOKEN),
        keyed("/passed", KEYED),
        bearer("/public", TOKEN),
        bearer("/public", ENDED),
        bearer("/public", KEYED),
        with_header(bearer("/public", TOKEN), "authorization", of_service),
        keyed("/public", KEYED),
        with_header(keyed("/public", "anything"), FIELD, KEYED),
    ] {
        world.upstream.forget();
        assert_eq!(client.send(asked).await.status, 200);
        let seen = world.upstream.only();
        let text = format!("{:?}", seen.headers);
        assert!(![TOKEN, KEYED, ENDED].into_iter().any(|token| text.contains(token)), "{text}");
        assert!(!seen.headers.contains_key(FIELD), "{text}");
    }
    world.upstream.forget();
    let asked = with_header(request("GET", "/public"), "authorization", of_service);
    assert_eq!(client.send(asked).await.status, 200);
    assert_eq!(world.upstream.only().header("authorization"), of_service, "it is for the service");
}

#[tokio::test]
async fn nothing_but_the_whole_value_is_a_static_token() {
    let world = World::start().await;
    let huge = TOKEN.repeat(400);
    for value in [&TOKEN[1..], &TOKEN[..24], &TOKEN.to_uppercase(), &format!("{TOKEN}x"), &hash(TOKEN), &huge] {
        let client = Client::new(&world.gateway);
        let (status, line) = world.answered(&client, bearer("/any", value)).await;
        let reason = line["gateway.reason"].as_str().unwrap();
        assert!(status == 401 && ["unknown_static_token", "malformed"].contains(&reason), "{line}");
    }
    assert!(!world.gateway.audit_text().contains(TOKEN) && !world.gateway.log_text().contains(TOKEN));
}

#[tokio::test]
async fn guesses_are_limited_and_the_right_value_passes() {
    let world = World::start().await;
    let [http1, http2] = world.gateway.both();
    let token = world.key.sign(&world.corp.claims());
    let mut statuses: HashMap<u16, usize> = HashMap::new();
    for guess in 0..30 {
        let client = if guess % 2 == 0 { &http1 } else { &http2 };
        let value = format!("guess-number-{guess:010}");
        let asked = if guess % 3 == 0 { keyed("/any", &value) } else { bearer("/any", &value) };
        let answer = client.send(asked).await;
        *statuses.entry(answer.status).or_default() += 1;
        let line = world.line(&answer);
        if answer.status == 429 {
            assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
            assert_eq!(line["gateway.reason"], "too_many_failures");
        } else {
            assert_eq!((answer.status, &line["gateway.reason"]), (401, &"unknown_static_token".into()));
        }
    }
    // One more every 6 s on a slow machine.
    assert!((10..15).contains(&statuses[&401]) && statuses.len() == 2, "{statuses:?}");
    assert_eq!(http1.send(bearer("/any", TOKEN)).await.status, 200);
    assert_eq!(http1.send(keyed("/any", KEYED)).await.status, 200);
    assert_eq!(http1.get_with("/any", &token).await.status, 200);
    // Values that cannot be static tokens are refused as ever.
    for other in ["short", "aaaaaaaaaa.bbbbbbbbbb.cccccccccc", &format!("{token}x")] {
        assert_eq!(http1.send(bearer("/any", other)).await.status, 401, "{other}");
    }
    assert_eq!(http1.get("/any").await.status, 401);
}

#[tokio::test]
async fn jwts_and_short_values_are_no_attempts() {
    let world = World::start().await;
    let client = Client::new(&world.gateway);
    for number in 0..15 {
        let jwt = format!("eyJhbGciOiJFUzI1NiJ9.e30.{number:043}");
        for (value, asked) in [(&*jwt, bearer("/any", &jwt)), ("key", keyed("/any", "short"))] {
            let (status, line) = world.answered(&client, asked).await;
            assert_eq!(status, 401, "{value}");
            assert_ne!(line["gateway.reason"], "unknown_static_token", "{line}");
        }
    }
    assert_eq!(client.send(bearer("/any", "guess-number-0000000000")).await.status, 401, "it is the first");
}

#[tokio::test]
async fn a_removed_or_ended_token_counts_for_the_next_request() {
    let world = World::start().await;
    let [http1, http2] = [Client::new(&world.gateway).connect().await, Client::http2(&world.gateway).connect().await];
    let mut connections = [http1, http2];
    for _ in 0..2 {
        for connection in &mut connections {
            assert_eq!(connection.send(bearer("/any", TOKEN)).await.status, 200);
        }
    }
    let reload = |tokens: &str| world.gateway.reloads(&yaml(&world.corp, &world.upstream, tokens));
    reload(&entry("reports", TOKEN, PAST));
    for connection in &mut connections {
        let answer = connection.send(bearer("/any", TOKEN)).await;
        assert_eq!((answer.status, &world.line(&answer)["gateway.reason"]), (401, &"static_token_ended".into()));
    }
    reload(&entry("reports", KEYED, LATER));
    for connection in &mut connections {
        let answer = connection.send(bearer("/any", TOKEN)).await;
        assert_eq!((answer.status, &world.line(&answer)["gateway.reason"]), (401, &"unknown_static_token".into()));
        assert_eq!(connection.send(bearer("/any", KEYED)).await.status, 200);
    }
    reload(&entry("reports", TOKEN, LATER));
    for connection in &mut connections {
        assert_eq!(connection.send(bearer("/any", TOKEN)).await.status, 200);
    }
}

#[tokio::test]
async fn limits_count_static_callers_apart_and_their_use_is_shown() {
    let world = World::start().await;
    let client = Client::new(&world.gateway);
    let before = now();
    let secret = client.granted("app", SECRET, "scope=read:data").await;
    for (asked, again) in [
        (bearer("/limited", TOKEN), bearer("/limited", TOKEN)),
        (keyed("/limited", KEYED), keyed("/limited", KEYED)),
        (bearer("/limited", &secret), bearer("/limited", &secret)),
    ] {
        assert_eq!([client.send(asked).await.status, client.send(again).await.status], [200, 429]);
    }
    let page = Client::plain(world.gateway.admin.unwrap()).get("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let value = |series: &str| {
        let line = page.lines().find(|line| line.starts_with(series))?;
        line.rsplit(' ').next().unwrap().parse::<f64>().ok()
    };
    let used = |name| value(&format!("portcullis_static_token_last_used_timestamp_seconds{{static_token=\"{name}\"}}"));
    assert!(["reports", "cron"].map(used).into_iter().all(|time| time.is_some_and(|time| time >= before as f64)));
    assert_eq!(used("import"), None);
    let end = "portcullis_static_token_expiry_timestamp_seconds{static_token=\"import\"}";
    assert_eq!(value(end), Some(1_577_836_800.0));
    assert!(page.contains("issuer=\"static\""), "{page}");
}

#[test]
fn a_printed_entry_is_accepted_and_its_end_is_shown() {
    let folder = folder();
    let arguments = ["client", "hash", "--static-token", "reports", "--scopes", "reports:read", "--until"];
    let hashed = |until: &str, input: &str| run_with(program(&folder).args(arguments).arg(until), input);
    let entry = hashed("9d", &format!("{TOKEN}\n"));
    assert!(entry.code == Some(0) && entry.stdout.contains(&hash(TOKEN)), "{entry:?}");
    let sections = format!("static_tokens:\n{}{}", entry.stdout, self::entry("import", ENDED, PAST));
    let yaml = config("127.0.0.1:9".parse().unwrap(), &["path: /any, access: {}"], &sections);
    std::fs::write(folder.join("gateway.yaml"), yaml).unwrap();
    let said = run_with(program(&folder).arg("check"), "");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("static/reports") && said.stdout.contains("(ended)"), "{said:?}");
    assert!(said.stderr.contains("ends at") && said.stderr.contains("ended at 2020-01-01T00:00:00Z"), "{said:?}");
    for (until, token) in [("9d", "too-short"), ("9d", "eyJhbGciOiJub25lIn0.e30.c2ln"), ("2020-01-01T00:00:00Z", TOKEN)]
    {
        let refused = hashed(until, token);
        assert!(refused.code == Some(2) && refused.stdout.is_empty() && !refused.stderr.contains(token), "{refused:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
