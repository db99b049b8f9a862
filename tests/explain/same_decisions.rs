//! What is explained is what the gateway does: generated requests, under generated configurations, are sent to a
//! running gateway over a socket, and explained. `EXPLAIN_CASES=10000` sends more than a build does.

use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use portcullis::{ExplainedDecision, ExplainedRequest, Explainer};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::issuer::{Key, now};
use crate::support::wire::{Wire, field, within};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Upstream};

const SEED: u64 = 17;
const CASES: usize = 300;
/// The first ones of [`Tokens`].
const GOOD_TOKENS: usize = 9;
/// Requests under one configuration.
const PER_GATEWAY: usize = 50;

/// Distinct places, so that no two routes conflict.
const PATHS: &[&str] = &[
    "/items",
    "/items/{id}",
    "/items/{id}/parts",
    "/items/**",
    "/Reports/{name}",
    "/api/**",
    "/api/v1/**",
    "/api/v1/x",
    "/files/**",
    "/{any}",
    "/**",
];
const METHODS: &[&str] =
    &["", "", "", "methods: [GET]", "methods: [POST]", "methods: [GET, DELETE]", "methods: [OPTIONS, PUT]"];
const ACCESS: &[&str] = &[
    "access: public",
    "access: public",
    "access: {}",
    "access: {scopes: [read:data]}",
    "access: {scopes: [read:data, write:data]}",
    "access: {scopes: {any_of: [write:data, admin]}}",
    "access: {scopes: {all_of: [read:data], any_of: [write:data, admin]}}",
    "access: {clients: [app, corp/tool]}",
    "access: {claims: {team: [red, blue]}}",
    "access: {issuers: [corp]}",
    "access: {issuers: [self]}",
    "access: {audiences: [other]}",
];
const EXTRAS: &[&str] = &[
    "",
    "",
    "",
    "hosts: [api.example.com]",
    "hosts: ['*.example.com', localhost]",
    "allow_from: [10.0.0.0/8]",
    "deny_from: [127.0.0.0/8]",
    "cors: {origins: ['https://app.example.com']}",
    "websocket: true",
    "redirect: {to: /items}",
    "respond: {status: 410}",
    "forward_token: true",
    "headers: {remove: [X-Mine]}",
    "rate_limits: [{rate: 100000/s, per: address}, {rate: 100000/s, per: route}]",
];
const SENT_METHODS: &[&str] = &["GET", "GET", "GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "TRACE", "get"];
const TARGETS: &[&str] = &[
    "/items",
    "/items/",
    "/items/7",
    "/items/7?a=b&c",
    "/items/a%20b",
    "/items/a%2fb",
    "/items/7/parts",
    "/ITEMS/7",
    "/reports/x",
    "/Reports/x",
    "/api",
    "/api/v1",
    "/api/v1/x",
    "/api/v1/y/z",
    "/api/v2/../v1",
    "/api//v1",
    "/files/a;b=c",
    "/files/a/b",
    "/files/%41",
    "/files/%zz",
    "/files/\\a",
    "/files/.",
    "/one",
    "/one/two",
    "/",
    "*",
    "/oauth/token",
    "/.well-known/jwks.json",
    "http://localhost/items/7",
    "https://localhost/items",
];
const HOSTS: &[&str] = &[
    "localhost",
    "localhost",
    "localhost",
    "api.example.com",
    "API.example.com:8080",
    "a.b.example.com",
    "other.test",
    "",
];
const FIELDS: &[(&str, &str)] = &[
    ("X-Mine", "1"),
    ("X-Forwarded-For", "10.1.2.3"),
    ("X-Forwarded-For", "10.1.2.3, 192.0.2.1"),
    ("Forwarded", "for=192.0.2.9"),
    ("Forwarded", "for=10.9.9.9;for=10.1.1.1"),
    ("X-Auth-Client-Id", "forged"),
    ("Origin", "https://app.example.com"),
    ("Origin", "https://evil.example"),
    ("Access-Control-Request-Method", "GET"),
    ("Access-Control-Request-Method", "DELETE"),
    ("Max-Forwards", "0"),
    ("Max-Forwards", "5"),
    ("Connection", "close, X-Mine"),
    ("X_Auth_Subject", "forged"),
    ("Bad Name", "x"),
    ("Content-Length", "x"),
    ("TE", "trailers"),
    ("Cookie", "a=b"),
];

struct Tokens(Vec<String>);

impl Tokens {
    /// Good ones, and one for each way to be wrong.
    async fn new(gateway: &Gateway, key: &Key) -> Self {
        let good = json!({
            "iss": "https://id.example.com", "aud": "a", "sub": "someone", "client_id": "tool", "team": "blue",
            "scope": "read:data write:data", "iat": now() - 5, "exp": now() + 600,
        });
        let changed = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            key.sign(&claims)
        };
        let client = Client::plain(gateway.address());
        let mut tokens = vec![
            client.granted("app", SECRET, "").await,
            client.granted("app", SECRET, "&scope=read:data").await,
            client.granted("other", SECRET, "").await,
            key.sign(&good),
            changed("scope", json!("write:data")),
            changed("scope", json!("admin read:data")),
            changed("team", json!(["green", "red"])),
            changed("client_id", json!("other")),
            changed("aud", json!(["other", "a"])),
            changed("aud", json!("elsewhere")),
            changed("exp", json!(now() - 600)),
            changed("nbf", json!(now() + 600)),
            changed("iss", json!("https://id.example.com/")),
            changed("sub", json!(7)),
            key.sign_with(&json!({ "alg": "ES256", "kid": "k2", "typ": "JWT" }), &good),
            key.sign_with(&json!({ "alg": "ES384", "kid": "k1" }), &good),
            key.sign_with(&json!({ "alg": "ES256", "kid": "k1", "typ": "secevent+jwt" }), &good),
            Key::new("k1", "ES256").sign(&good),
            "a.b.c".to_owned(),
            "x".to_owned(),
        ];
        tokens.push(format!("{}x", tokens[0]));
        Self(tokens)
    }
}

fn pick<'t>(rng: &mut Rng, from: &[&'t str]) -> &'t str {
    from[rng.usize(..from.len())]
}

fn generated_config(rng: &mut Rng, upstream: &Upstream, key: &Key) -> String {
    let mut routes = Vec::new();
    for path in PATHS.iter().filter(|_| rng.u8(..) < 150).collect::<Vec<_>>() {
        let (methods, mut access, mut extra) = (pick(rng, METHODS), pick(rng, ACCESS), pick(rng, EXTRAS));
        if extra.starts_with("websocket") && !methods.is_empty() && !methods.contains("GET") {
            // Such a request uses GET.
            extra = "";
        }
        if extra.starts_with("redirect") {
            access = "access: public";
        }
        let parts = [&format!("path: '{path}', name: 'r{path}'"), methods, access, extra];
        routes.push(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "));
    }
    if routes.is_empty() {
        routes.push("path: /items, name: items, access: public".to_owned());
    }
    let proxies = if rng.bool() { "trusted_proxies: [127.0.0.1, 192.0.2.0/24]\n" } else { "" };
    let sections = format!(
        "listeners: [{{address: 127.0.0.1:0}}]
{proxies}issuers: {{corp: {{issuer: 'https://id.example.com', audiences: [a], jwks: {{keys: [{}]}}}}}}",
        key.jwk()
    );
    config(upstream.address, &routes.iter().map(String::as_str).collect::<Vec<_>>(), &sections)
}

fn generated_request(rng: &mut Rng, tokens: &Tokens) -> ExplainedRequest {
    let mut fields = Vec::new();
    let mut add = |name: &str, value: &str| fields.push((name.to_owned(), value.to_owned()));
    for _ in 0..[0, 0, 0, 1, 1, 2][rng.usize(..6)] {
        let (name, value) = FIELDS[rng.usize(..FIELDS.len())];
        add(name, value);
    }
    // Most are good, so that many requests come as far as the rules of the routes.
    let among = if rng.u8(..3) > 0 { GOOD_TOKENS } else { tokens.0.len() };
    let token = &tokens.0[rng.usize(..among)];
    match rng.u8(..10) {
        0 => {}
        1 => add("Authorization", "Basic YTpi"),
        2 if rng.bool() => {
            add("Authorization", &format!("Bearer {token}"));
            add("Authorization", "Bearer x");
        }
        _ => add("Authorization", &format!("Bearer {token}")),
    }
    if rng.u8(..12) == 0 {
        add("Connection", "Upgrade");
        add("Upgrade", "websocket");
        add("Sec-WebSocket-Version", pick(rng, &["13", "12"]));
        add("Sec-WebSocket-Key", pick(rng, &["dGhlIHNhbXBsZSBub25jZQ==", "short"]));
    }
    let mut mostly = |usual: &[&'static str], all: &[&'static str]| {
        if rng.u8(..4) > 0 { pick(rng, usual) } else { pick(rng, all) }
    };
    let method = mostly(&["GET"], SENT_METHODS);
    let target =
        mostly(&["/items/7", "/api/v1/x", "/api/v1/y/z", "/items/7/parts", "/files/a/b", "/Reports/x"], TARGETS);
    let host = mostly(&["localhost", "api.example.com"], HOSTS);
    let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
    ExplainedRequest { method: method.to_owned(), target: target.to_owned(), host: host.to_owned(), from, fields }
}

/// Sends the request, and gives what the gateway has decided.
async fn decided(gateway: &Gateway, upstream: &Upstream, request: &ExplainedRequest) -> ExplainedDecision {
    upstream.forget();
    let ExplainedRequest { method, target, host, fields, .. } = request;
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut wire = Wire::new(TcpStream::connect(gateway.address()).await.unwrap());
    wire.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await;
    let head = within(wire.head()).await.unwrap_or_else(|| panic!("no answer to {request:?}"));
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    let line = gateway.audit_of(field(&head, "x-request-id").unwrap());
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let rule = text("http.route");
    let is_endpoint =
        matches!(rule.as_deref(), Some("(token)" | "(revocation)" | "(authorization)" | "(jwks)" | "(metadata)"));
    let is_refused_by_body = rule.as_deref() == Some("(token)")
        && text("gateway.reason").is_some_and(|reason| reason != "method_not_allowed" && reason != "bad_request");
    let seen = upstream.seen().pop();
    if is_refused_by_body || (is_endpoint && status == 200) {
        return ExplainedDecision { rule, ..ExplainedDecision::default() };
    }
    let fields = seen.iter().flat_map(|seen| &seen.headers);
    let fields = fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let request_line = seen.as_ref().map(|seen| format!("{} {} HTTP/1.1", seen.method, seen.target));
    let status = if seen.is_some() { None } else { Some(status) };
    let reason = if line["gateway.decision"] == "allow" { None } else { text("gateway.reason") };
    ExplainedDecision { status, reason, rule, request_line, fields }
}

/// Without the values that differ from one request to the next, and those that are not shown.
fn comparable(mut decision: ExplainedDecision) -> ExplainedDecision {
    let framing = |name: &str| matches!(name, "content-length" | "transfer-encoding");
    decision.fields.retain(|(name, _)| !framing(name));
    for (name, value) in &mut decision.fields {
        if matches!(name.as_str(), "x-request-id" | "authorization" | "sec-websocket-key") {
            value.clear();
        }
    }
    decision.fields.sort();
    decision
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_decides_as_it_is_explained() {
    let cases: usize = std::env::var("EXPLAIN_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let mut rng = Rng::with_seed(SEED);
    let (upstream, key) = (Upstream::start().await, Key::new("k1", "ES256"));
    let (mut differences, mut kinds) = (Vec::new(), std::collections::BTreeMap::<String, usize>::new());
    for _ in 0..cases.div_ceil(PER_GATEWAY) {
        let gateway = Gateway::start(&generated_config(&mut rng, &upstream, &key));
        let tokens = Tokens::new(&gateway, &key).await;
        let path = gateway.folder.join("gateway.yaml");
        let requests: Vec<_> = (0..PER_GATEWAY).map(|_| generated_request(&mut rng, &tokens)).collect();
        let to_explain = requests.clone();
        // It has a runtime of its own.
        let explained = std::thread::spawn(move || {
            let explainer = Explainer::new(&path).unwrap();
            to_explain.iter().map(|request| explainer.explain(request)).collect::<Vec<_>>()
        });
        let explained = explained.join().unwrap();
        for (request, explained) in requests.iter().zip(explained) {
            let decided = comparable(decided(&gateway, &upstream, request).await);
            *kinds.entry(decided.reason.clone().unwrap_or_else(|| format!("{:?}", decided.status))).or_default() += 1;
            let explained = comparable(explained);
            if decided != explained {
                differences.push(format!("{request:?}\n  decided   {decided:?}\n  explained {explained:?}"));
            }
        }
    }
    eprintln!("{kinds:?}");
    let count = differences.len();
    differences.truncate(10);
    assert!(differences.is_empty(), "{count} differences\n{}", differences.join("\n"));
    // The generator reaches all parts of the way.
    for kind in [
        "None",
        "no_route",
        "method_not_allowed",
        "bad_request",
        "address_not_allowed",
        "no_token",
        "issuer_not_allowed",
        "expired",
        "claim_mismatch",
        "missing_scope",
    ] {
        assert!(kinds.contains_key(kind), "{kind} in none of {cases}: {kinds:?}");
    }
}
