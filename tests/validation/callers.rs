//! The identity of the bearer of an external token: client, subject and scopes, as far as its issuer is trusted with
//! them.

use serde_json::{Value, json};

use super::{World, with, without};

/// The scopes that the upstream is told of, for a token of this issuer with these claims besides the usual ones.
async fn scopes(world: &World, issuer: &str, claims: Value) -> String {
    let mut all = without(world.claims("iss", issuer), "scope");
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    world.accepts(&world.key.sign(&all)).await.header("x-auth-scope").to_owned()
}

#[tokio::test]
async fn scopes_are_found_where_issuers_put_them() {
    let world = World::start().await;
    let corp = &world.corp.issuer;
    for (claims, expected) in [
        (json!({"scope": "b a"}), "a b"),
        (json!({"scope": ["a", "b"]}), "a b"),
        (json!({"scp": "a b"}), "a b"),
        (json!({"scp": ["a", "b"]}), "a b"),
        (json!({"scopes": ["a"]}), "a"),
        (json!({"permissions": ["read:data"]}), "read:data"),
        (json!({"scope": "a", "scp": "b", "permissions": ["c"]}), "a"),
        (json!({"scope": "", "scp": "b"}), ""),
        (json!({"scope": null, "scp": "b"}), "b"),
        (json!({"roles": ["a"]}), ""),
        (json!({}), ""),
    ] {
        assert_eq!(scopes(&world, corp, claims.clone()).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn scopes_are_whole_tokens_in_any_surroundings() {
    let world = World::start().await;
    let corp = &world.corp.issuer;
    for (scope, expected) in [
        (json!("  a   b "), "a b"),
        (json!("a a a"), "a"),
        (json!("a,b"), "a,b"),
        (json!("\u{430}dmin a"), "a"),
        (json!("ad\"min a\\b c"), "c"),
        (json!("a\tb c\nd e"), "e"),
        (json!(["a b", "c"]), "c"),
        (json!(["", "a"]), "a"),
    ] {
        assert_eq!(scopes(&world, corp, json!({"scope": scope})).await, expected, "{scope}");
    }
}

#[tokio::test]
async fn a_scope_claim_of_another_type_or_size_is_refused() {
    let world = World::start().await;
    for scope in [json!({"a": true}), json!(7), json!(true), json!(["a", 7]), json!([["a"]])] {
        world.refuses(&world.key.sign(&world.claims("scope", scope)), "malformed").await;
    }
    let many = (0..129).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    for scope in [many, "x".repeat(4097)] {
        world.refuses(&world.key.sign(&world.claims("scope", scope)), "too_many_scopes").await;
    }
}

#[tokio::test]
async fn a_scope_claim_can_be_named() {
    let world = World::knowing(&[("named", "scope_claim: roles"), ("dotted", "scope_claim: realm_access.roles")]).await;
    for (issuer, claims, expected) in [
        ("urn:named", json!({"roles": ["a", "b"], "scope": "c"}), "a b"),
        ("urn:named", json!({"scope": "c"}), ""),
        ("urn:dotted", json!({"realm_access": {"roles": ["a"]}, "scope": "c"}), "a"),
        ("urn:dotted", json!({"realm_access.roles": "b", "realm_access": {"roles": ["a"]}}), "b"),
        ("urn:dotted", json!({"realm_access": "x"}), ""),
    ] {
        assert_eq!(scopes(&world, issuer, claims.clone()).await, expected, "{issuer}: {claims}");
    }
}

#[tokio::test]
async fn an_issuer_grants_no_more_than_it_is_allowed_to() {
    let world = World::knowing(&[("limited", "allow_scopes: [read:data, read:more]")]).await;
    for (scope, expected) in
        [("read:data admin", "read:data"), ("admin", ""), ("read:more read:data", "read:data read:more")]
    {
        assert_eq!(scopes(&world, "urn:limited", json!({"scope": scope})).await, expected, "{scope}");
    }
}

#[tokio::test]
async fn a_client_is_found_where_issuers_name_it() {
    let world = World::start().await;
    let bare = without(world.corp.claims(), "azp");
    let all = json!({"client_id": "1", "azp": "2", "appid": "3", "cid": "4"});
    for (dropped, expected) in [(&[][..], "1"), (&["client_id"], "2"), (&["client_id", "azp"], "3")] {
        let mut claims = bare.clone();
        claims.as_object_mut().unwrap().extend(all.as_object().unwrap().clone());
        dropped.iter().for_each(|name| claims = without(claims.clone(), name));
        let seen = world.accepts(&world.key.sign(&claims)).await;
        assert_eq!(seen.header("x-auth-client-id"), expected);
    }
    let seen = world.accepts(&world.key.sign(&with(bare.clone(), "cid", "4"))).await;
    assert_eq!(seen.header("x-auth-client-id"), "4");
    let seen = world.accepts(&world.key.sign(&bare)).await;
    assert!(!seen.headers.contains_key("x-auth-client-id"), "{seen:?}");
}

#[tokio::test]
async fn non_ascii_names_are_percent_encoded_for_the_upstream() {
    let world = World::start().await;
    for (name, expected) in
        [("J\u{fc}rgen", "J%C3%BCrgen"), ("100%", "100%25"), ("auth0|a b", "auth0|a b"), ("\u{1f600}", "%F0%9F%98%80")]
    {
        let claims = with(world.claims("sub", name), "azp", name);
        let seen = world.accepts(&world.key.sign(&claims)).await;
        assert_eq!((seen.header("x-auth-subject"), seen.header("x-auth-client-id")), (expected, expected));
        let line = world.gateway.audit_line(|line| line["oauth.subject"] == name);
        assert_eq!(line["oauth.client_id"], name);
    }
}

#[tokio::test]
async fn spaces_that_a_service_would_trim_are_percent_encoded() {
    let world = World::start().await;
    for (name, expected) in [
        ("admin ", "admin%20"),
        (" admin", "%20admin"),
        ("  a  b  ", "%20%20a  b%20%20"),
        (" ", "%20"),
        ("  ", "%20%20"),
        ("admin%20", "admin%2520"),
        ("admin\u{a0}", "admin%C2%A0"),
    ] {
        let claims = with(world.claims("sub", name), "azp", name);
        let seen = world.accepts(&world.key.sign(&claims)).await;
        assert_eq!((seen.header("x-auth-subject"), seen.header("x-auth-client-id")), (expected, expected));
        let line = world.gateway.audit_line(|line| line["oauth.subject"] == name);
        assert_eq!(line["oauth.client_id"], name);
    }
}

#[tokio::test]
async fn the_audit_log_records_the_caller() {
    let world = World::start().await;
    let answer = world.client.get_with("/any", &world.key.sign(&world.claims("jti", "id-1"))).await;
    let line = world.gateway.audit_of(answer.request_id());
    for (name, expected) in [
        ("gateway.decision", "allow"),
        ("oauth.issuer", "corp"),
        ("oauth.client_id", "their-app"),
        ("oauth.subject", "someone"),
        ("oauth.scope", "read:data"),
        ("oauth.jti", "id-1"),
        ("oauth.kid", "k1"),
    ] {
        assert_eq!(line[name], expected, "{name} in {line}");
    }
    assert!(line.get("oauth.verified").is_none() && line.get("gateway.reason").is_none(), "{line}");
}
