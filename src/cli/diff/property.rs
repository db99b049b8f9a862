//! The difference of two configurations is sound: what one decides otherwise than the other is in it. Held over pairs
//! of configurations and requests that are drawn at random, and decided by the pipeline's own functions.
//!
//! `PORTCULLIS_DIFF_PAIRS` is the number of pairs.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::app::rehearsal::requests::RequestText;
use crate::app::rehearsal::{Rehearsal, RehearsedOutcome};
use crate::config;
use crate::config::diff::change::Direction;
use crate::config::diff::diff;
use crate::config::diff::view::AccessView;
use crate::config::interpolate::Surroundings;
use crate::config::types::Config;
use crate::oauth::observer::Unobserved;

/// SplitMix64: the same numbers in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    }

    fn one<'l>(&mut self, list: &'l [&'l str]) -> &'l str {
        list[self.next(list.len())]
    }
}

/// The values of each part of a route. The first is drawn most often.
const ROUTE_PARTS: [&[&str]; 9] = [
    &[
        "/a/**",
        "/**",
        "/a",
        "/a/b",
        "/a/{x}",
        "/a/{x}/c",
        "/{x}/b",
        "/b/**",
        "/b/{x}/**",
        "/Items/**",
        "/Items/{x}",
        "/{x}/{y}/c",
        "/items2",
        "/b/Items",
        "/{x}/**",
    ],
    &["", ", hosts: [a.example.com]", ", hosts: [\"*.example.com\"]", ", hosts: [a.example.com, \"*.a.example.com\"]"],
    &["", ", methods: [GET]", ", methods: [POST, DELETE]", ", methods: [GET, PUT]", ", methods: [PURGE]"],
    &[
        "{scopes: [read]}",
        "public",
        "{}",
        "{scopes: [read, write]}",
        "{scopes: {any_of: [read, admin]}}",
        "{scopes: [admin]}",
        "{clients: [one]}",
        "{clients: [one, corp/robot]}",
        "{issuers: [corp]}",
        "{issuers: [self]}",
        "{claims: {tier: gold}}",
        "{claims: {tier: [gold, silver]}}",
        "{audiences: [https://other.example.com]}",
        "{claims: {tier: {glob: \"g:*\"}}}",
        "{claims: {tier: \"g:1\"}, scopes: [read]}",
    ],
    &["", ", allow_from: [10.0.0.0/8]", ", allow_from: [10.1.0.0/16, 192.0.2.0/24]"],
    &["", ", deny_from: [10.2.0.0/16]", ", deny_from: [10.0.0.0/9, 10.128.0.0/9]"],
    &["", ", cors: {origins: [https://app.example.com]}", ", cors: {origins: [\"*\"]}"],
    &["", ", websocket: true", ", paths: {allow: [semicolon, empty_segment]}"],
    &["one", "two"],
];

/// The values of the other settings.
const SETTINGS: [&[&str]; 10] = [
    &["scopes: [read, write]", "scopes: [read]", "scopes: [read, write, admin]"],
    &[
        "",
        ", allow_from: [10.1.0.0/16]",
        ", allow_from: [10.0.0.0/8]",
        ", claims: {tier: gold}",
        ", audiences: [https://other.example.com]",
    ],
    &["", "scope_claim: roles, ", "subject_claim: name, ", "allow_scopes: [read], ", "allow_scopes: [read, admin], "],
    &["https://api.example.com", "https://other.example.com", "https://api.example.com, https://other.example.com"],
    &["10.0.0.1", "10.0.0.1, 10.1.2.3", "10.9.9.9"],
    &["", "revoked: [{client: one}]\n", "revoked: [{issuer: corp, subject: robot}]\n"],
    &["", "  token_endpoint: {path: /a/token}\n"],
    &["", "token_header: X-Token, "],
    &["", "limits: {uri_bytes: 24B}\n", "limits: {token_bytes: 300B}\n", "limits: {header_count: 3}\n"],
    &[
        "",
        "  lab: {issuer: https://lab.example.com, audiences: [https://api.example.com]}\n",
        "  lab: {issuer: https://corp.example.com, audiences: [x], algorithms: [ES256]}\n",
    ],
];

const ROUTES: usize = 5;

#[derive(Clone)]
struct Drawn {
    routes: Vec<Option<[usize; ROUTE_PARTS.len()]>>,
    settings: [usize; SETTINGS.len()],
}

/// The first value half of the time.
fn value(draw: &mut Draw, list: &[&str]) -> usize {
    if draw.next(2) == 0 { 0 } else { draw.next(list.len()) }
}

impl Drawn {
    fn new(draw: &mut Draw) -> Self {
        let route = |draw: &mut Draw| {
            let path = draw.next(ROUTE_PARTS[0].len());
            let access = draw.next(ROUTE_PARTS[3].len());
            let mut parts = ROUTE_PARTS.map(|list| value(draw, list));
            (parts[0], parts[3]) = (path, access);
            parts
        };
        let routes = (0..ROUTES).map(|_| (draw.next(4) > 0).then(|| route(draw))).collect();
        Self { routes, settings: SETTINGS.map(|list| value(draw, list)) }
    }

    /// The same with up to three changes.
    fn changed(&self, draw: &mut Draw) -> Self {
        let mut changed = self.clone();
        for _ in 0..=draw.next(3) {
            let at = draw.next(ROUTES);
            match draw.next(5) {
                0 => {
                    let setting = draw.next(SETTINGS.len());
                    changed.settings[setting] = draw.next(SETTINGS[setting].len());
                }
                1 => changed.routes[at] = Self::new(draw).routes[at],
                _ => {
                    let part = draw.next(ROUTE_PARTS.len());
                    if let Some(route) = &mut changed.routes[at] {
                        route[part] = draw.next(ROUTE_PARTS[part].len());
                    }
                }
            }
        }
        changed
    }

    fn text(&self) -> String {
        let setting = |index: usize| SETTINGS[index][self.settings[index]];
        let hash = "sha256:2RG_ZklKftARNsx6xHruEHJ3_UP79NgbwkcHFg4N8BM";
        let mut text = format!(
            "version: 1\nlisteners: [{{address: 127.0.0.1:8080}}]\naudit: {{file: \"-\"}}\ntrusted_proxies: [{}]\n{}{}\
             oauth:\n  issuer: https://gateway.example.com\n  audiences: [https://api.example.com, https://other.example.com]\n{}  clients:\n    \
             one: {{secrets: [{{hash: \"{hash}\"}}], {}{}}}\n    two: {{secrets: [{{hash: \"{hash}\"}}], scopes: [read]}}\n\
             issuers:\n  corp: {{issuer: https://corp.example.com, {}{}audiences: [{}]}}\n{}\
             upstreams: {{one: \"http://127.0.0.1:1\", two: \"http://127.0.0.1:2\"}}\nroutes:\n  \
             - {{name: always, path: /always, upstream: one, access: public}}\n",
            setting(4),
            setting(5),
            setting(8),
            setting(6),
            setting(0),
            setting(1),
            setting(2),
            setting(7),
            setting(3),
            setting(9),
        );
        for (number, route) in self.routes.iter().enumerate() {
            let Some(route) = route else { continue };
            let part = |index: usize| ROUTE_PARTS[index][route[index]];
            let _ = writeln!(
                text,
                "  - {{name: r{number}, path: \"{}\"{}{}, access: {}{}{}{}{}, upstream: {}}}",
                part(0),
                part(1),
                part(2),
                part(3),
                part(4),
                part(5),
                part(6),
                part(7),
                part(8),
            );
        }
        text
    }
}

/// A configuration that decides, and the tokens of its callers.
struct Side {
    config: Config,
    rehearsal: Rehearsal,
    /// `None`: the token endpoint would refuse it.
    tokens: Vec<Option<String>>,
}

impl Side {
    /// `None` if the file has faults.
    fn read(folder: &Path, text: String) -> Option<Self> {
        let config = config::load_text(&folder.join("gateway.yaml"), text, &Surroundings::process()).ok()?;
        let rehearsal = Rehearsal::new(&config).unwrap();
        let token = |(issuer, claims): (&str, _)| Some(rehearsal.token_of_issuer(issuer, &claims).unwrap());
        let granted = GRANTED.map(|(client, scopes)| rehearsal.token_of_client(client, scopes).ok());
        let tokens = callers().into_iter().map(token).chain(granted).collect();
        Some(Self { config, rehearsal, tokens })
    }

    /// Whether the request is let in, and all that is decided about it.
    fn decide(&self, drawn: &DrawnRequest) -> (bool, String) {
        let mut fields = drawn.fields.clone();
        if let Some((field, caller)) = drawn.caller
            && let Some(token) = &self.tokens[caller]
        {
            let prefix = if field == "Authorization" { "Bearer " } else { "" };
            fields.push((field.to_owned(), format!("{prefix}{token}")));
        }
        let DrawnRequest { method, target, host, from, .. } = drawn;
        let from = from.parse().unwrap();
        let text = RequestText { method, target, host, from, is_https: true, fields: &fields };
        match self.rehearsal.read(&text) {
            Err(fault) => (false, format!("{fault:?}")),
            Ok(request) => {
                let decision = self.rehearsal.decide(request, &mut Unobserved);
                let rule = decision.rule.unwrap_or_default();
                match decision.outcome {
                    RehearsedOutcome::Refused { reason, .. } => (false, format!("{rule} {reason:?}")),
                    outcome => (true, format!("{rule} {outcome:?}")),
                }
            }
        }
    }
}

/// Tokens that our own token endpoint issues.
const GRANTED: [(&str, Option<&str>); 3] = [("one", None), ("one", Some("write")), ("two", None)];

fn callers() -> Vec<(&'static str, Map<String, Value>)> {
    let own = |client: &str, scope: &str, more: Value| {
        let mut claims = json!({"sub": client, "client_id": client, "scope": scope, "jti": "1",
            "aud": "https://api.example.com"});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("self", claims.as_object().unwrap().clone())
    };
    let corp = |claims: Value| ("corp", claims.as_object().unwrap().clone());
    vec![
        own("one", "read", json!({})),
        own("one", "read write admin", json!({"tier": "gold"})),
        own("two", "read", json!({"tier": "g:1", "aud": "https://other.example.com"})),
        own("gone", "read", json!({})),
        corp(json!({"sub": "robot", "client_id": "robot", "scope": "read admin", "aud": "https://api.example.com"})),
        corp(json!({"sub": "robot", "scope": "read", "tier": ["silver", "x"], "aud": "https://other.example.com"})),
        corp(json!({"sub": "a", "name": "b", "scope": "admin", "roles": "read", "tier": "g:2",
            "aud": ["https://api.example.com", "x"]})),
        corp(json!({"sub": "a", "tier": "gold", "aud": "https://api.example.com", "exp": 1})),
    ]
}

#[derive(Debug)]
struct DrawnRequest {
    method: String,
    target: String,
    host: String,
    from: String,
    fields: Vec<(String, String)>,
    /// The field of the token, and the number of the caller.
    caller: Option<(&'static str, usize)>,
}

const SEGMENTS: [&str; 13] =
    ["a", "b", "c", "x", "A", "items", "Items", "ITEMS", "items2", "item%C5%BF", "b%CC%87", "%CC%87", "a;v"];
const WHOLE: [&str; 6] = ["/oauth/token", "/OAUTH/token", "/a/token", "/A/token", "/.well-known/jwks.json", "/always"];

impl DrawnRequest {
    fn new(draw: &mut Draw) -> Self {
        let mut target = match draw.next(10) {
            0 => draw.one(&WHOLE).to_owned(),
            _ => (0..draw.next(5)).map(|_| format!("/{}", draw.one(&SEGMENTS))).collect(),
        };
        if target.is_empty() || draw.next(8) == 0 {
            target.push('/');
        }
        let mut fields = Vec::new();
        let mut add = |name: &str, value: &str| fields.push((name.to_owned(), value.to_owned()));
        let method = draw.one(&["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PURGE", "TRACE"]);
        if method == "OPTIONS" && draw.next(2) == 0 {
            add("Origin", "https://app.example.com");
            add("Access-Control-Request-Method", draw.one(&["GET", "POST", "PUT", "PURGE"]));
        }
        if draw.next(3) == 0 {
            add("X-Forwarded-For", draw.one(&["10.1.2.3", "10.2.0.1", "192.0.2.1", "nonsense", "203.0.113.1"]));
        }
        if method == "GET" && draw.next(10) == 0 {
            add("Connection", "Upgrade");
            add("Upgrade", "websocket");
            add("Sec-WebSocket-Version", draw.one(&["13", "12"]));
            add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        }
        let field = if draw.next(6) == 0 { "X-Token" } else { "Authorization" };
        let caller = (draw.next(5) > 0).then(|| (field, draw.next(callers().len() + GRANTED.len())));
        let host = draw.one(&["localhost", "a.example.com", "b.example.com", "x.a.example.com", "A.example.com."]);
        let from = draw.one(&["10.0.0.1", "10.1.2.3", "10.2.0.1", "192.0.2.1", "203.0.113.1"]);
        Self { method: method.to_owned(), target, host: host.to_owned(), from: from.to_owned(), fields, caller }
    }
}

#[test]
fn every_value_that_may_be_drawn_is_legal() {
    let folder = tempfile::tempdir().unwrap();
    let plain = || Drawn { routes: vec![Some([0; ROUTE_PARTS.len()])], settings: [0; SETTINGS.len()] };
    let legal = |drawn: Drawn, value: &str| assert!(Side::read(folder.path(), drawn.text()).is_some(), "{value}");
    for (part, values) in ROUTE_PARTS.iter().enumerate() {
        for (at, value) in values.iter().enumerate() {
            let mut drawn = plain();
            drawn.routes[0].as_mut().unwrap()[part] = at;
            legal(drawn, value);
        }
    }
    for (setting, values) in SETTINGS.iter().enumerate() {
        for (at, value) in values.iter().enumerate() {
            let mut drawn = plain();
            drawn.settings[setting] = at;
            legal(drawn, value);
        }
    }
}

/// Requests of each pair.
const REQUESTS: usize = 40;

#[test]
fn a_decision_that_differs_is_in_the_difference() {
    let pairs = std::env::var("PORTCULLIS_DIFF_PAIRS").map_or(300, |pairs| pairs.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut draw = Draw(15);
    let (mut compared, mut otherwise, mut without) = (0, 0, 0);
    while compared < pairs {
        let drawn = Drawn::new(&mut draw);
        let changed = drawn.changed(&mut draw);
        let texts = [drawn.text(), changed.text()];
        let [Some(old), Some(new)] = texts.clone().map(|text| Side::read(folder.path(), text)) else { continue };
        compared += 1;
        let changes = diff(&AccessView::of(&old.config), &AccessView::of(&new.config));
        without += usize::from(changes.is_empty());
        let has = |directions: &[Direction]| changes.iter().any(|change| directions.contains(&change.direction));
        for _ in 0..REQUESTS {
            let request = DrawnRequest::new(&mut draw);
            let (before, after) = (old.decide(&request), new.decide(&request));
            if before == after {
                continue;
            }
            otherwise += 1;
            let is_said = match (before.0, after.0) {
                (false, true) => has(&[Direction::Wider, Direction::Unclear]),
                (true, false) => has(&[Direction::Narrower, Direction::Unclear]),
                (true, true) | (false, false) => !changes.is_empty(),
            };
            let [old, new] = &texts;
            assert!(is_said, "{request:?}\n{before:?}\n{after:?}\n{changes:#?}\n{old}\n---\n{new}");
        }
    }
    // Otherwise the draw is too poor to prove anything.
    assert!(otherwise * 50 > compared * REQUESTS, "{otherwise} of {}", compared * REQUESTS);
    assert!(without * 50 > compared, "{without} of {compared} pairs are without a change");
}
