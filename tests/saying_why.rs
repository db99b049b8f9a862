//! Why a token is refused: the audit log has what was found and what was wanted, `token inspect` has the same and the
//! smallest change of the configuration that would accept the token, and the caller gets none of it.

mod by_routes;
mod of_entries;
mod of_tokens;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::client::{request, with_header};
use crate::support::command::run_with;
use crate::support::gateway::program;
use crate::support::issuer::{Key, now};
use crate::support::world::{SECRET, config};
use crate::support::{Client, Gateway, Issuer, Upstream};

const API: &str = "https://api.example.com";

struct World {
    gateway: Gateway,
    client: Client,
    corp: Issuer,
    key: Key,
    _upstream: Upstream,
}

/// A refused token: what the audit line must have, and what the proposal must.
struct Refused<'r> {
    name: &'r str,
    path: &'r str,
    token: String,
    reason: &'r str,
    found: &'r str,
    wanted: &'r str,
    suggestion: Suggestion<'r>,
}

#[derive(Clone, Copy)]
enum Suggestion<'s> {
    /// Parts of `change`, and a part of `opens`.
    Change(&'s [&'s str], &'s str),
    /// A part of `no_change`.
    None(&'s str),
}

impl World {
    async fn start() -> Self {
        let down = Issuer::start(&[]).await;
        let sections = |iss: &str, _: &Key| {
            format!(
                "issuers:
  corp:
    issuer: {iss}
    audiences: [{API}]
    allow_scopes: [read, write]
    # Takes access tokens only.
    types: [at+jwt]
  slash: {{issuer: \"urn:slash/\", jwks_uri: \"{iss}/jwks\", audiences: [{API}]}}
  rsa: {{issuer: \"urn:rsa\", jwks_uri: \"{iss}/jwks\", audiences: [{API}], algorithms: [RS256]}}
  down: {{issuer: \"urn:down\", jwks_uri: \"{down}/none\", audiences: [{API}]}}
  two: {{issuer: \"urn:two\", jwks_uri: \"{iss}/jwks\", audiences: [{API}], clock_skew: 5s, scope_claim: scope}}
limits: {{token_bytes: 2KiB}}
revoked:
  - {{issuer: corp, client: gone}}
  - {{issuer: corp, subject: left, issued_before: 2030-01-01T00:00:00Z}}",
                down = down.issuer,
            )
        };
        let routes = [
            "path: /any, name: any, access: {}",
            "path: /own, name: own, access: {issuers: [self]}",
            "path: /billing, name: billing, access: {audiences: [https://billing.example.com]}",
            "path: /read, name: read, access: {scopes: [read]}",
            "path: /admin, name: admin, access: {scopes: [admin]}",
            "path: /gold, name: gold, access: {claims: {tier: [gold, silver]}}",
            "path: /repo, name: repo, access: {claims: {sub: {glob: 'repo:acme/*'}}}",
            "path: /named, name: named, access: {clients: [corp/other]}",
            "path: /near, name: near, access: {}, allow_from: [192.0.2.0/24]",
            "path: /slow, name: slow, access: {}, rate_limits: [{rate: 1/h, per: address}]",
            "path: /open, name: open, access: public",
        ];
        Self::with(&routes, sections, &["corp", "slash", "two"]).await
    }

    /// `sections` gets the address of an issuer, and its key. The key sets of the issuers `fetched` are waited for.
    async fn with(routes: &[&str], sections: impl Fn(&str, &Key) -> String, fetched: &[&str]) -> Self {
        let (upstream, key) = (Upstream::start().await, Key::new("k1", "ES256"));
        let corp = Issuer::start(&[&key]).await;
        let gateway = Gateway::start(&config(upstream.address, routes, &sections(&corp.issuer, &key)));
        for name in fetched {
            gateway.log_line(&format!("fetched the JWK Set\",\"issuer.name\":\"{name}\""));
        }
        Self { client: Client::new(&gateway), gateway, corp, key, _upstream: upstream }
    }

    /// A token of `corp` with these claims instead of the usual ones; `null` removes one.
    fn token(&self, changes: &Value) -> String {
        self.token_with(&json!({}), changes)
    }

    fn token_with(&self, header: &Value, changes: &Value) -> String {
        let mut all = json!({"typ": "at+jwt", "alg": "ES256", "kid": "k1"});
        merge(&mut all, header);
        let mut claims = self.corp.claims();
        merge(&mut claims, &json!({"azp": "app"}));
        merge(&mut claims, changes);
        self.key.sign_with(&all, &claims)
    }

    fn of(&self, iss: &str, changes: &Value) -> String {
        let mut claims = json!({ "iss": iss });
        merge(&mut claims, changes);
        self.token(&claims)
    }

    /// The audit line of the refusal, and the output of `token inspect`.
    async fn refused(&self, path: &str, token: &str) -> (Value, Value) {
        let answer = self.client.get_with(path, token).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("wanted"), "{answer:?}");
        let line = self.gateway.audit_of(answer.request_id());
        let mut said = self.inspected(&[], token);
        if said["good"] == true {
            said = said["routes"][path.trim_start_matches('/')].take();
        }
        (line, said)
    }

    /// The output of `token inspect`.
    fn inspected(&self, arguments: &[&str], token: &str) -> Value {
        let mut command = program(&self.gateway.folder);
        command.args(["token", "inspect", "--format", "json", "--from", "127.0.0.1"]).args(arguments);
        let said = run_with(&mut command, token);
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    /// What is not as it should be.
    async fn faults(&self, case: &Refused<'_>) -> Vec<String> {
        let Refused { name, path, token, reason, found, wanted, suggestion } = case;
        let (line, said) = self.refused(path, token).await;
        let text = |object: &Value, member: &str| object[member].as_str().unwrap_or_default().to_owned();
        let mut faults = Vec::new();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("{name}: {what}\n  {line}\n  {said}"));
            }
        };
        expect(line["gateway.reason"] == *reason && said["reason"] == *reason, "the reason");
        for (member, inspected, expected) in [("gateway.found", "found", found), ("gateway.wanted", "wanted", wanted)] {
            let recorded = text(&line, member);
            expect(recorded.contains(expected) && recorded.is_empty() == expected.is_empty(), member);
            // The moment of `inspect` is another one.
            let is_moment = ["expired", "not_yet_valid"].contains(reason);
            expect(is_moment || text(&said, inspected) == recorded, inspected);
        }
        match suggestion {
            Suggestion::None(part) => {
                expect(text(&said, "no_change").contains(part), "no_change");
                expect(said["change"].is_null() && said["opens"].is_null(), "change and opens are null");
            }
            Suggestion::Change(parts, opens) => {
                parts.iter().for_each(|part| expect(text(&said, "change").contains(part), part));
                expect(text(&said, "opens").contains(opens), "opens");
            }
        }
        faults
    }
}

/// `null` removes a member.
fn merge(object: &mut Value, changes: &Value) {
    let all = object.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(all.remove(name)),
            value => drop(all.insert(name.clone(), value.clone())),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_says_why_and_what_would_accept_it() {
    let world = World::start().await;
    let cases = world.of_tokens();
    let mut faults = Vec::new();
    for case in &cases {
        faults.extend(world.faults(case).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let seen: BTreeSet<&str> = cases.iter().map(|case| case.reason).collect();
    let of_tokens = [
        "alg_not_allowed",
        "bad_audience",
        "bad_signature",
        "expired",
        "issuer_not_allowed",
        "keys_unavailable",
        "malformed",
        "missing_claim",
        "not_yet_valid",
        "revoked",
        "type_not_allowed",
        "unknown_issuer",
        "unknown_kid",
    ];
    assert_eq!(seen, BTreeSet::from(of_tokens));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_a_route_says_what_would_let_the_token_in() {
    let world = World::start().await;
    let mut faults = Vec::new();
    for case in world.by_routes() {
        faults.extend(world.faults(&case).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposed_change_is_enough() {
    let world = World::start().await;
    let token = world.token_with(&json!({"typ": "JWT"}), &json!({"aud": "x"}));
    let (_, said) = world.refused("/any", &token).await;
    assert_eq!(said["change"].as_str().unwrap().lines().count(), 2, "{said}");
    let file = world.gateway.folder.join("gateway.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace(&format!("audiences: [{API}]\n    allow"), &format!("audiences: [x, {API}]\n    allow"));
    std::fs::write(&file, text.replace("types: [at+jwt]", "types: [at+jwt, JWT]")).unwrap();
    let (_, said) = world.refused("/any", &token).await;
    assert_eq!(said["allowed"], true, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_without_a_token_never_shows_credentials() {
    let world = World::start().await;
    let token = world.token(&json!({}));
    let bare = [
        (String::new(), "no Authorization"),
        (token.clone(), "Authorization of another scheme, or of none"),
        ("Basic YTpi".to_owned(), "Authorization of the scheme Basic"),
    ];
    for (value, found) in bare {
        let mut asked = request("GET", "/any");
        if !value.is_empty() {
            asked = with_header(asked, "authorization", &value);
        }
        let answer = world.client.send(asked).await;
        let line = world.gateway.audit_of(answer.request_id());
        assert_eq!((&line["gateway.reason"], &line["gateway.found"]), (&json!("no_token"), &json!(found)), "{line}");
        assert_eq!(line["gateway.wanted"], "Authorization: Bearer TOKEN");
    }
    assert!(!world.gateway.audit_text().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_any_step_names_the_claimed_caller() {
    let world = World::start().await;
    let iss = &*world.corp.issuer;
    let unknown = "https://unknown.example.com";
    for (name, path, token, issuer) in [
        ("unknown issuer", "/any", world.of(unknown, &json!({})), Some(unknown)),
        ("no route", "/nowhere", world.token(&json!({})), Some("corp")),
        ("address", "/near", world.token(&json!({})), Some("corp")),
        ("unsupported alg", "/any", world.token_with(&json!({"alg": "HS256"}), &json!({})), Some("corp")),
        ("malformed", "/any", world.token(&json!({"exp": "soon"})), Some("corp")),
        (
            "bad signature",
            "/any",
            Key::new("k1", "ES256").sign_with(
                &json!({"typ": "at+jwt", "alg": "ES256", "kid": "k1"}),
                &json!({"iss": iss, "azp": "app", "sub": "s", "aud": API, "exp": now() + 60}),
            ),
            Some("corp"),
        ),
        // It would look like the issuer of that name.
        ("the name of another", "/any", world.of("corp", &json!({})), None),
    ] {
        let answer = world.client.get_with(path, &token).await;
        let line = world.gateway.audit_of(answer.request_id());
        assert_eq!(line["oauth.issuer"].as_str(), issuer, "{name}: {line}");
        assert_eq!(
            (&line["oauth.client_id"], &line["oauth.verified"]),
            (&json!("app"), &json!(false)),
            "{name}: {line}"
        );
        assert!(line.get("oauth.subject").is_none() && line.get("oauth.scope").is_none(), "{name}: {line}");
    }
    world.client.get_with("/slow", &world.token(&json!({}))).await;
    let limited = world.client.get_with("/slow", &world.token(&json!({}))).await;
    let line = world.gateway.audit_of(limited.request_id());
    assert_eq!((&line["gateway.reason"], &line["oauth.issuer"]), (&json!("rate_limited"), &json!("corp")), "{line}");
    assert!(line["gateway.found"].as_str().unwrap().starts_with("limit address is used up for "), "{line}");
    assert_eq!(line["gateway.wanted"], "at most 1 in 3600s per address, 1 at once");
    // The token is the service's, and is not read.
    let open = world.client.get_with("/open", &world.token(&json!({}))).await;
    let line = world.gateway.audit_of(open.request_id());
    assert!(line["gateway.decision"] == "allow" && line.get("oauth.issuer").is_none(), "{line}");
    let long = world.client.get_with("/nowhere", &world.token(&json!({"padding": "x".repeat(2000)}))).await;
    let line = world.gateway.audit_of(long.request_id());
    assert!(line.get("oauth.issuer").is_none(), "{line}");
    let junk = world.client.get_with("/nowhere", "a.b.c").await;
    let line = world.gateway.audit_of(junk.request_id());
    assert!(line.get("oauth.issuer").is_none() && line.get("oauth.verified").is_none(), "{line}");
    let own = world.client.granted("app", SECRET, "read:data").await;
    let line = world.gateway.audit_of(world.client.get_with("/nowhere", &own).await.request_id());
    assert_eq!((&line["oauth.issuer"], &line["oauth.client_id"]), (&json!("self"), &json!("app")), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_never_have_an_issuer_that_a_token_made_up() {
    let world = World::start().await;
    let made_up = "https://made-up.example.com";
    let answer = world.client.get_with("/any", &world.of(made_up, &json!({}))).await;
    world.gateway.audit_of(answer.request_id());
    let metrics = Client::plain(world.gateway.admin.unwrap()).get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("reason=\"unknown_issuer\"") && !text.contains("made-up"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_cannot_move_the_cursor_of_a_terminal() {
    let world = World::start().await;
    let token = world.of("https://x.example/\u{1b}[2J\u{202e}", &json!({}));
    let said = run_with(program(&world.gateway.folder).args(["token", "inspect"]), &token);
    let refusal = said.stdout.split("\nrefused").last().unwrap();
    assert!(refusal.contains("unknown_issuer") && refusal.contains("\\u{1b}[2J\\u{202e}"), "{refusal}");
    assert!(!refusal.contains(['\u{1b}', '\u{202e}']), "{refusal}");
}
