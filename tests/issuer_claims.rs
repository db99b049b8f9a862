//! Issuers whose tokens name subject, audience or scopes in their own way: an entry says which claims count, and nothing
//! else counts.

use serde_json::{Value, json};

use crate::support::client::{request, with_header, with_token};
use crate::support::issuer::{Key, now};
use crate::support::upstream::Seen;
use crate::support::world::config;
use crate::support::{Answer, Client, Gateway, Issuer, Upstream};

const API: &str = "https://api.example.com";

/// A gateway that trusts one issuer, with these keys of its entry.
struct World {
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
    issuer: Issuer,
    key: Key,
}

impl World {
    async fn with(entry: &str) -> Self {
        Self::on(entry, &["path: /any, access: {}"]).await
    }

    async fn on(entry: &str, routes: &[&str]) -> Self {
        let (key, upstream) = (Key::new("k1", "ES256"), Upstream::start().await);
        let issuer = Issuer::start(&[&key]).await;
        let sections = format!("issuers:\n  corp: {{issuer: \"{}\", {entry}}}", issuer.issuer);
        let gateway = Gateway::start(&config(upstream.address, routes, &sections));
        gateway.log_line("fetched the JWK Set\",\"issuer.name\":\"corp\"");
        let client = Client::new(&gateway);
        Self { gateway, client, upstream, issuer, key }
    }

    /// A token with only these claims besides `iss`, `iat` and `exp`, which they may replace. `null` stays `null`.
    fn token(&self, claims: &Value) -> String {
        let mut all = json!({"iss": self.issuer.issuer, "iat": now(), "exp": now() + 600});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        self.key.sign(&all)
    }

    async fn get(&self, path: &str, claims: &Value) -> Answer {
        self.client.get_with(path, &self.token(claims)).await
    }

    /// The request as the service gets it, and its line in the audit log.
    async fn accepts_at(&self, path: &str, claims: &Value) -> (Seen, Value) {
        let answer = self.get(path, claims).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!(answer.status, 200, "{claims}: {line}");
        (self.upstream.seen().pop().unwrap(), line)
    }

    async fn accepts(&self, claims: &Value) -> (Seen, Value) {
        self.accepts_at("/any", claims).await
    }

    async fn refuses_at(&self, path: &str, claims: &Value, reason: &str) -> Value {
        let answer = self.get(path, claims).await;
        let line = self.gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.reason"]), (401, &reason.into()), "{claims}: {line}");
        line
    }

    async fn refuses(&self, claims: &Value, reason: &str) -> Value {
        self.refuses_at("/any", claims, reason).await
    }

    async fn scopes(&self, claims: &Value) -> String {
        let mut all = json!({"sub": "s", "aud": API});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        self.accepts(&all).await.0.header("x-auth-scope").to_owned()
    }
}

fn usual(more: &str) -> String {
    format!("audiences: [{API}], {more}")
}

#[tokio::test]
async fn a_token_of_a_client_needs_no_subject() {
    let world = World::with(&usual("clock_skew: 30s")).await;
    for (claims, client) in [
        (json!({"client_id": "app"}), "app"),
        (json!({"azp": "app", "sub": ""}), "app"),
        (json!({"cid": "app", "sub": null, "azp": null}), "app"),
    ] {
        let mut all = claims.clone();
        all["aud"] = json!(API);
        let (seen, line) = world.accepts(&all).await;
        assert_eq!(seen.header("x-auth-client-id"), client, "{claims}");
        assert!(!seen.headers.contains_key("x-auth-subject"), "{seen:?}");
        assert_eq!(line["oauth.client_id"], client);
        assert!(line.get("oauth.subject").is_none(), "{line}");
    }
    let line = world.refuses(&json!({"aud": API, "sub": "", "azp": null}), "missing_claim").await;
    assert_eq!(line["gateway.wanted"], "sub or client_id or azp or appid or cid", "{line}");
}

#[tokio::test]
async fn a_subject_from_outside_is_removed_where_the_token_has_none() {
    let world = World::with(&usual("clock_skew: 30s")).await;
    let token = world.token(&json!({"aud": API, "azp": "app"}));
    let forged = with_header(with_token(request("GET", "/any"), &token), "x-auth-subject", "admin");
    assert_eq!(world.client.send(forged).await.status, 200);
    let seen = world.upstream.seen().pop().unwrap();
    assert!(!seen.headers.contains_key("x-auth-subject"), "{seen:?}");
}

#[tokio::test]
async fn a_limit_by_subject_counts_a_caller_without_one_by_its_client() {
    let world = World::on(
        &usual("clock_skew: 30s"),
        &["path: /any, access: {}, rate_limits: [{rate: 1/h, burst: 2, per: subject}]"],
    )
    .await;
    let statuses = async |claims: Value| {
        let mut statuses = Vec::new();
        for number in 0..3 {
            let mut claims = claims.clone();
            claims["jti"] = json!(format!("{claims}-{number}"));
            statuses.push(world.get("/any", &claims).await.status);
        }
        statuses
    };
    for claims in [json!({"aud": API, "azp": "one"}), json!({"aud": API, "azp": "two"})] {
        assert_eq!(statuses(claims.clone()).await, [200, 200, 429], "{claims}");
    }
    // A subject of the same name is another key.
    assert_eq!(statuses(json!({"aud": API, "azp": "one", "sub": "one"})).await, [200, 200, 429]);
}

#[tokio::test]
async fn another_claim_can_be_the_subject() {
    let world = World::with(&usual("subject_claim: [sub, names.common, client_id]")).await;
    for (claims, subject) in [
        (json!({"sub": "someone", "client_id": "app"}), "someone"),
        (json!({"sub": "", "names": {"common": "service"}}), "service"),
        (json!({"names.common": "exact", "names": {"common": "service"}}), "exact"),
        (json!({"client_id": "app", "names": []}), "app"),
    ] {
        let mut all = claims.clone();
        all["aud"] = json!(API);
        let (seen, line) = world.accepts(&all).await;
        assert_eq!((seen.header("x-auth-subject"), &line["oauth.subject"]), (subject, &subject.into()), "{claims}");
    }
    let line = world.refuses(&json!({"aud": API, "names": {"common": 7}}), "malformed").await;
    assert_eq!(line["gateway.found"], "names.common is a number", "{line}");
    world.refuses(&json!({"aud": API, "name": "service"}), "missing_claim").await;
}

#[tokio::test]
async fn one_name_is_a_list_of_subject_claims() {
    let world = World::with(&usual("subject_claim: uid")).await;
    let (seen, _) = world.accepts(&json!({"aud": API, "uid": "u", "sub": "s"})).await;
    assert_eq!(seen.header("x-auth-subject"), "u");
    let (seen, _) = world.accepts(&json!({"aud": API, "sub": "s", "azp": "app"})).await;
    assert!(!seen.headers.contains_key("x-auth-subject"), "the entry does not name `sub`: {seen:?}");
}

#[tokio::test]
async fn an_audience_claim_counts_where_aud_is_absent_or_empty() {
    let routes = ["path: /any, access: {}", "path: /other, access: {audiences: [app-2]}"];
    let world = World::on("audiences: [app-1, api], audience_claim: client_id", &routes).await;
    let claims = |aud: Value, client: Value| json!({"sub": "s", "aud": aud, "client_id": client});
    world.accepts(&json!({"sub": "s", "client_id": "app-1"})).await;
    for empty in [json!(null), json!(""), json!([])] {
        world.accepts(&claims(empty.clone(), json!("app-1"))).await;
        world.refuses(&claims(empty.clone(), json!("app-2")), "bad_audience").await;
        world.accepts_at("/other", &claims(empty.clone(), json!("app-2"))).await;
        world.refuses_at("/other", &claims(empty.clone(), json!("app-1")), "bad_audience").await;
        let line = world.refuses(&json!({"sub": "s", "aud": empty, "azp": "app-1"}), "missing_claim").await;
        assert_eq!(line["gateway.wanted"], "aud or client_id", "{line}");
    }
    world.accepts(&claims(json!("api"), json!("app-2"))).await;
    for present in [json!("x"), json!(["x"]), json!([""])] {
        world.refuses(&claims(present, json!("app-1")), "bad_audience").await;
    }
    world.refuses(&claims(json!(7), json!("app-1")), "malformed").await;
    world.refuses(&claims(json!([]), json!(7)), "malformed").await;
}

#[tokio::test]
async fn without_a_key_that_says_so_a_token_has_an_audience() {
    let world = World::with(&usual("clock_skew: 30s")).await;
    for aud in [json!(null), json!(""), json!([])] {
        world.refuses(&json!({"sub": "s", "client_id": API, "aud": aud}), "missing_claim").await;
    }
    world.refuses(&json!({"sub": "s", "client_id": API}), "missing_claim").await;
}

#[tokio::test]
async fn unlimited_audiences_leave_the_decision_to_the_routes() {
    let routes = [
        "path: /claims, access: {claims: {tier: gold}}",
        "path: /clients, access: {clients: [corp/app]}",
        "path: /audiences, access: {audiences: [billing]}",
        "path: /own, access: {issuers: [self]}",
    ];
    let world = World::on("audiences: unlimited", &routes).await;
    for aud in [json!(null), json!([]), json!("x"), json!(["x", "y"])] {
        let claims = json!({"sub": "s", "azp": "app", "tier": "gold", "aud": aud});
        world.accepts_at("/claims", &claims).await;
        world.accepts_at("/clients", &claims).await;
        let reason =
            if aud.as_array().is_none_or(Vec::is_empty) && !aud.is_string() { "missing_claim" } else { "bad_audience" };
        world.refuses_at("/audiences", &claims, reason).await;
        world.refuses_at("/own", &claims, "issuer_not_allowed").await;
    }
    world.accepts_at("/audiences", &json!({"sub": "s", "aud": ["x", "billing"]})).await;
    for (path, reason) in [("/claims", "claim_mismatch"), ("/clients", "client_not_allowed")] {
        let answer = world.get(path, &json!({"sub": "s", "azp": "other", "tier": "silver"})).await;
        let line = world.gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.reason"]), (403, &reason.into()), "{line}");
    }
    world.refuses_at("/claims", &json!({"sub": "s", "tier": "gold", "aud": 7}), "malformed").await;
}

#[tokio::test]
async fn scopes_can_come_from_several_claims() {
    let paths = "scope_claim: [scp, roles, [resource_access, api.example.com, roles], realm_access.roles]";
    let world = World::with(&usual(paths)).await;
    for (claims, expected) in [
        (json!({"scp": "read:data", "roles": ["admin"]}), "admin read:data"),
        (json!({"scp": "a", "scope": "b", "permissions": ["c"]}), "a"),
        (json!({"resource_access": {"api.example.com": {"roles": ["a"]}, "other": {"roles": ["b"]}}}), "a"),
        (json!({"realm_access": {"roles": ["r"]}, "roles": null}), "r"),
        (json!({"roles": {"reader": {"1": "example.com"}, "denied": false}}), "reader"),
        (json!({}), ""),
    ] {
        assert_eq!(world.scopes(&claims).await, expected, "{claims}");
    }
    for (claims, found) in [
        (json!({"scp": 7}), "scp is a number"),
        (json!({"roles": ["a", 7]}), "roles is a list with a number"),
        (
            json!({"resource_access": {"api.example.com": {"roles": true}}}),
            "[resource_access, api.example.com, roles] is a boolean",
        ),
    ] {
        let mut all = json!({"sub": "s", "aud": API});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let line = world.refuses(&all, "malformed").await;
        assert_eq!(line["gateway.found"], found, "{line}");
    }
}

#[tokio::test]
async fn an_entra_token_has_scopes_and_roles() {
    let entry = usual("subject_claim: [oid], scope_claim: [scp, roles], allow_scopes: [Orders.Read, Orders.Write.All]");
    let world = World::with(&entry).await;
    let groups: Vec<String> = (0..200).map(|number| format!("Group.{number}")).collect();
    let roles = [&groups[..], &["Orders.Write.All".to_owned()]].concat();
    let (seen, _) = world
        .accepts(&json!({
            "aud": API, "oid": "5e1f", "azp": "6a2b", "scp": "Orders.Read openid", "roles": roles, "ver": "2.0",
        }))
        .await;
    assert_eq!((seen.header("x-auth-scope"), seen.header("x-auth-subject")), ("Orders.Read Orders.Write.All", "5e1f"));
}

#[tokio::test]
async fn more_scopes_than_the_limit_are_refused_for_that_reason() {
    let world = World::with(&usual("scope_claim: [scp, roles]")).await;
    let scopes = |count: usize| (0..count).map(|number| format!("s{number}")).collect::<Vec<_>>();
    let claims = |scp: &str, roles: Vec<String>| json!({"sub": "s", "aud": API, "scp": scp, "roles": roles});
    world.accepts(&claims("s0 s1", scopes(128))).await;
    let line = world.refuses(&claims("one-more", scopes(128)), "too_many_scopes").await;
    assert_eq!(line["gateway.found"], "more than 128 scopes or 4096 bytes of scopes", "{line}");
}

#[tokio::test]
async fn a_date_may_have_a_fraction() {
    let world = World::with(&usual("clock_skew: 0s")).await;
    // Written by hand, because a JSON library would write a float.
    let token = |dates: &str| {
        let claims = format!(r#"{{"iss":"{}","sub":"s","aud":"{API}",{dates}}}"#, world.issuer.issuer);
        world.key.sign_text(r#"{"typ":"JWT","alg":"ES256","kid":"k1"}"#, &claims)
    };
    let (past, future) = (now() - 100, now() + 100);
    for good in [
        format!(r#""exp":{future}.9999999,"nbf":{past}.5,"iat":{past}.25"#),
        format!(r#""exp":{future}e0,"iat":{past}00.0E-2"#),
        r#""exp":2e9"#.to_owned(),
        format!(r#""exp":{future},"nbf":null,"iat":null,"jti":null"#),
    ] {
        assert_eq!(world.client.get_with("/any", &token(&good)).await.status, 200, "{good}");
    }
    for (bad, reason) in [
        (format!(r#""exp":{past}.9999999"#), "expired"),
        (format!(r#""exp":{future},"nbf":{future}.5"#), "not_yet_valid"),
        (format!(r#""exp":{future},"iat":{future}.5"#), "not_yet_valid"),
        (format!(r#""exp":{future}000"#), "malformed"),
        (format!(r#""exp":-{future}.5"#), "malformed"),
        (r#""exp":null"#.to_owned(), "missing_claim"),
    ] {
        let answer = world.client.get_with("/any", &token(&bad)).await;
        let line = world.gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.reason"]), (401, &reason.into()), "{bad}: {line}");
    }
}
