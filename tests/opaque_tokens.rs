//! Opaque tokens: their issuer is asked about them (RFC 7662), once at a time, and without its answer no request passes.

mod neighbours;
mod outages;
mod reports;
mod secrecy;
mod tunnels;

use std::fs;

use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::client::{request, with_header, with_token};
use crate::support::command::run_with;
use crate::support::gateway::{folder, program};
use crate::support::introspector::Introspector;
use crate::support::issuer::{Issuer, Key, now};
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway, Upstream};

const TOKEN: &str = "ory_at_7cJ.Nq0-opaque";

const ROUTES: [&str; 6] = [
    "path: /opaque, access: {issuers: [as]}",
    "path: /any, access: {}",
    "path: /write, access: {issuers: [as], scopes: {all_of: [write:data]}}",
    "path: /client, access: {issuers: [as], clients: [as/their-app]}",
    "path: /corp, access: {issuers: [corp]}",
    "path: /public, access: public",
];

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) client: Client,
    pub(crate) introspector: Introspector,
    authority: Authority,
    upstream: Upstream,
    corp: Issuer,
    key: Key,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// With these keys of the issuer's `introspection` too.
    pub(crate) async fn with(more: &str) -> Self {
        let (authority, key) = (Authority::new(), Key::new("k", "ES256"));
        let introspector = Introspector::start(&authority).await;
        let (corp, upstream) = (Issuer::start(&[&key]).await, Upstream::start().await);
        let folder = folder();
        fs::write(folder.join("ca.crt"), &authority.certificate).unwrap();
        let gateway = Gateway::start_in(folder, &yaml(&introspector.url, &corp, &upstream, more), &[]);
        Self { client: Client::new(&gateway), gateway, introspector, authority, upstream, corp, key }
    }

    /// The configuration, with another route in place of `/public`.
    fn yaml_with(&self, route: &str) -> String {
        yaml(&self.introspector.url, &self.corp, &self.upstream, "").replace("path: /public, access: public", route)
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.client.get_with(path, token).await
    }

    pub(crate) async fn accepts(&self, path: &str, token: &str) {
        let answer = self.get(path, token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The refusal has this status, and this reason in the audit log.
    pub(crate) async fn refuses(&self, path: &str, token: &str, status: u16, reason: &str) -> Value {
        let answer = self.get(path, token).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.reason"]), (status, &json!(reason)), "{line}");
        line
    }
}

fn yaml(url: &str, corp: &Issuer, upstream: &Upstream, more: &str) -> String {
    let sections = format!(
        "workers: 2\nissuers:\n  as:\n    issuer: https://as.example\n    audiences: [https://api.example.com]\n    \
         ca: ca.crt\n    introspection: {{endpoint: '{url}', client_id: 'gate:way', client_secret: 's e/c'{more}}}\n  \
         corp: {{issuer: '{}', audiences: [https://api.example.com]}}\n",
        corp.issuer
    );
    config(upstream.address, &ROUTES, &sections)
}

#[tokio::test]
async fn a_token_that_its_issuer_calls_active_is_accepted() {
    let world = World::start().await;
    world.introspector.knows(TOKEN, &json!({}));
    for client in world.gateway.both() {
        for path in ["/opaque", "/any", "/client"] {
            world.upstream.forget();
            let answer = client.get_with(path, TOKEN).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let seen = world.upstream.only();
            let identity = ["x-auth-issuer", "x-auth-client-id", "x-auth-subject", "x-auth-scope"];
            assert_eq!(
                identity.map(|field| seen.header(field)),
                ["https://as.example", "their-app", "someone", "read:data"]
            );
            let line = world.gateway.audit_of(answer.request_id());
            let facts = ["oauth.issuer", "oauth.client_id", "oauth.subject"].map(|name| &line[name]);
            assert_eq!(facts, ["as", "their-app", "someone"], "{line}");
        }
    }
    let [question] = &world.introspector.asked()[..] else { panic!("{:?}", world.introspector.asked()) };
    assert_eq!((&*question.form["token"], &*question.form["token_type_hint"]), (TOKEN, "access_token"));
    // `gate%3Away:s+e%2Fc`, each part encoded as in a form.
    assert_eq!(question.headers["authorization"], "Basic Z2F0ZSUzQXdheTpzK2UlMkZj");
}

#[tokio::test]
async fn a_token_that_is_not_active_is_refused() {
    let world = World::start().await;
    let line = world.refuses("/opaque", TOKEN, 401, "token_inactive").await;
    assert_eq!((&line["oauth.issuer"], &line["gateway.wanted"]), (&json!("as"), &json!("active=true")), "{line}");
    let answer = world.get("/opaque", TOKEN).await;
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{answer:?}");
    assert_eq!((world.introspector.asked_about(TOKEN), world.upstream.seen().len()), (1, 0));
}

#[tokio::test]
async fn an_answer_is_checked_like_the_claims_of_a_jwt() {
    let world = World::start().await;
    let thumbprint = "A".repeat(43);
    for (number, (changes, status, reason)) in [
        (json!({"exp": null, "iat": null}), 200, ""),
        (json!({"iss": "https://as.example", "token_type": "bearer", "typ": "Bearer"}), 200, ""),
        (json!({"aud": ["other", "https://api.example.com"], "token_use": "access_token"}), 200, ""),
        (json!({"sub": null}), 200, ""),
        (json!({"exp": now() - 60}), 401, "expired"),
        (json!({"nbf": now() + 600}), 401, "not_yet_valid"),
        (json!({"iat": now() + 600}), 401, "not_yet_valid"),
        (json!({"aud": null}), 401, "missing_claim"),
        (json!({"aud": []}), 401, "missing_claim"),
        (json!({"aud": "https://other.example.com"}), 401, "bad_audience"),
        (json!({"aud": 7}), 401, "malformed"),
        (json!({"exp": (now() + 600).to_string()}), 401, "malformed"),
        (json!({"sub": ["someone"]}), 401, "malformed"),
        (json!({"scope": 7}), 401, "malformed"),
        (json!({"client_id": {}}), 401, "malformed"),
        (json!({"sub": null, "client_id": null}), 401, "missing_claim"),
        (json!({"iss": "https://other.example"}), 401, "unknown_issuer"),
        (json!({"iss": ["https://as.example"]}), 401, "malformed"),
        (json!({"token_type": "mac"}), 401, "type_not_allowed"),
        (json!({"token_type": 1}), 401, "malformed"),
        (json!({"token_type": "DPoP"}), 401, "malformed"),
        (json!({"token_use": "refresh_token"}), 401, "type_not_allowed"),
        (json!({"typ": "Refresh"}), 401, "type_not_allowed"),
        (json!({"cnf": {"jkt": thumbprint}, "token_type": "DPoP"}), 401, "not_proven"),
        (json!({"cnf": {"x5t#S256": thumbprint}}), 401, "not_proven"),
        (json!({"cnf": {"kid": "a"}}), 401, "malformed"),
    ]
    .into_iter()
    .enumerate()
    {
        let token = format!("opaque-{number}");
        world.introspector.knows(&token, &changes);
        // The second time from the caches.
        for _ in 0..2 {
            match reason {
                "" => world.accepts("/opaque", &token).await,
                reason => drop(world.refuses("/opaque", &token, status, reason).await),
            }
        }
    }
}

#[tokio::test]
async fn a_route_checks_scopes_and_clients_of_an_answer() {
    let world = World::start().await;
    world.introspector.knows(TOKEN, &json!({}));
    world.refuses("/write", TOKEN, 403, "missing_scope").await;
    world.introspector.knows("writer", &json!({"scope": "read:data write:data", "client_id": "another"}));
    world.accepts("/write", "writer").await;
    world.refuses("/client", "writer", 403, "client_not_allowed").await;
}

#[tokio::test]
async fn requests_with_one_token_ask_once_in_all_workers() {
    let world = World::start().await;
    world.introspector.knows(TOKEN, &json!({}));
    world.introspector.closes().await;
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let client = Client::new(&world.gateway);
            tokio::spawn(async move { client.get_with("/opaque", TOKEN).await.status })
        })
        .collect();
    world.introspector.is_asked(1).await;
    world.introspector.opens();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!(world.introspector.asked_about(TOKEN), 1);
}

#[tokio::test]
async fn an_answer_counts_for_the_cache_time_only() {
    let world = World::with(", cache: 0s").await;
    world.introspector.knows(TOKEN, &json!({}));
    for asked in 1..=3 {
        world.accepts("/opaque", TOKEN).await;
        assert_eq!(world.introspector.asked_about(TOKEN), asked);
    }
    world.introspector.forgets(TOKEN);
    world.refuses("/opaque", TOKEN, 401, "token_inactive").await;
    // The end of the token ends its answer, too: this one is accepted for the difference of clocks only.
    let ended = World::start().await;
    ended.introspector.knows(TOKEN, &json!({"exp": now()}));
    for asked in 1..=2 {
        ended.accepts("/opaque", TOKEN).await;
        assert_eq!(ended.introspector.asked_about(TOKEN), asked);
    }
}

#[tokio::test]
async fn an_operator_revokes_opaque_tokens() {
    let world = World::start().await;
    world.introspector.knows(TOKEN, &json!({"jti": "id-1"}));
    world.accepts("/opaque", TOKEN).await;
    let arguments = ["token", "revoke", "--issuer", "as", "--subject", "someone", "--format", "json"];
    let said = run_with(program(&world.gateway.folder).args(arguments), "");
    assert_eq!(said.code, Some(0), "{said:?}");
    world.gateway.audit_line(|line| line["gateway.event"] == "revocation");
    world.refuses("/opaque", TOKEN, 401, "revoked").await;
}

#[tokio::test]
async fn a_reload_keeps_the_answers_of_an_unchanged_issuer() {
    let world = World::start().await;
    world.introspector.knows(TOKEN, &json!({}));
    world.accepts("/opaque", TOKEN).await;
    let same = yaml(&world.introspector.url, &world.corp, &world.upstream, "");
    world.gateway.reloads(&same.replace("path: /public", "path: /open"));
    world.accepts("/opaque", TOKEN).await;
    assert_eq!(world.introspector.asked_about(TOKEN), 1);
    world
        .gateway
        .reloads(&same.replace("path: /opaque, access: {issuers: [as]}", "path: /opaque, access: {issuers: [corp]}"));
    assert_eq!(world.get("/opaque", TOKEN).await.status, 401);
    world.accepts("/any", TOKEN).await;
    let removed = same.replace("  as:\n", "  other:\n").replace("[as]", "[other]").replace("as/", "other/");
    world.gateway.reloads(&removed);
    world.introspector.forgets(TOKEN);
    world.refuses("/any", TOKEN, 401, "token_inactive").await;
}

#[tokio::test]
async fn an_address_that_guesses_is_limited() {
    let world = World::start().await;
    world.introspector.knows(TOKEN, &json!({}));
    world.accepts("/opaque", TOKEN).await;
    // All on one worker: each counts for itself.
    let mut connection = world.client.connect().await;
    let mut statuses = Vec::new();
    for guess in 0..40 {
        let asked = with_token(request("GET", "/opaque"), &format!("guess-{guess}"));
        statuses.push(connection.send(asked).await.status);
    }
    assert!(statuses.iter().take(10).all(|status| *status == 401), "{statuses:?}");
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!(refused >= 10, "{statuses:?}");
    assert_eq!(world.introspector.asked().len(), 1 + 40 - refused);
    let answer = connection.send(with_token(request("GET", "/opaque"), TOKEN)).await;
    assert_eq!(answer.status, 200, "a known token is not counted: {answer:?}");
    let unknown = connection.send(with_header(request("GET", "/public"), "authorization", "Bearer x")).await;
    assert_eq!(unknown.status, 200);
}

#[tokio::test]
async fn inspect_shows_the_answer_and_what_to_do_without_an_audience() {
    let world = World::start().await;
    let inspected = |token: &str| {
        let said = run_with(program(&world.gateway.folder).args(["token", "inspect", "--format", "json"]), token);
        serde_json::from_str::<Value>(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
    };
    world.introspector.knows("opaque-good", &json!({"department": "sales"}));
    let said = inspected("opaque-good");
    assert_eq!((&said["good"], &said["claims"]["department"]), (&json!(true), &json!("sales")), "{said}");
    assert_eq!(said["header"], Value::Null, "{said}");
    world.introspector.knows("opaque-mute", &json!({"aud": null, "client_id": null}));
    let said = inspected("opaque-mute");
    assert_eq!((&said["reason"], &said["claims"]["sub"]), (&json!("missing_claim"), &json!("someone")), "{said}");
    let why = said["no_change"].as_str().unwrap_or_else(|| panic!("{said}"));
    for part in ["audience mapper", "`audience_claim`", "`audiences: unlimited`"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    world.introspector.knows("opaque-client", &json!({"aud": null}));
    let said = inspected("opaque-client");
    let advice = format!("{}{}", said["change"], said["no_change"]);
    assert!(advice.contains("audience_claim") && !advice.contains("spiffe"), "{said}");
}
