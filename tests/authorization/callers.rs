//! Rules on scopes, claims, clients, issuers and audiences.

use serde_json::json;

use super::{APP_SECRET, JOB_SECRET, World};

#[tokio::test]
async fn a_route_without_demands_is_open_to_every_good_token() {
    let world = World::start().await;
    world.allows("/everyone", &world.token(&json!({"scope": ""}))).await;
    world.allows("/everyone", &world.client.granted("app", APP_SECRET, "").await).await;
    assert_eq!(world.client.get("/everyone").await.status, 401);
}

#[tokio::test]
async fn all_scopes_are_needed_and_the_missing_ones_are_named() {
    let world = World::start().await;
    for scope in ["a b", "b a", "a b c"] {
        world.allows("/all", &world.token(&json!({"scope": scope}))).await;
    }
    world.misses("/all", "a", "b", "the token lacks the scope b").await;
    world.misses("/all", "b c", "a", "the token lacks the scope a").await;
    for nothing in ["", "c", "A B", "ab", "a,b", "a* b*", "aa bb"] {
        world.misses("/all", nothing, "a b", "the token lacks the scope a b").await;
    }
}

#[tokio::test]
async fn any_of_the_scopes_is_enough() {
    let world = World::start().await;
    for scope in ["a", "b", "a b", "c b"] {
        world.allows("/any", &world.token(&json!({"scope": scope}))).await;
    }
    world.misses("/any", "c", "a b", "the token lacks one of the scopes a b").await;
    world.misses("/any", "", "a b", "the token lacks one of the scopes a b").await;
}

#[tokio::test]
async fn all_of_and_any_of_must_both_hold() {
    let world = World::start().await;
    for scope in ["a b c", "a b d", "a b c d"] {
        world.allows("/both", &world.token(&json!({"scope": scope}))).await;
    }
    world.misses("/both", "a b", "c d", "the token lacks one of the scopes c d").await;
    world.misses("/both", "a c", "b", "the token lacks the scope b").await;
    world.misses("/both", "a", "b c d", "the token lacks the scope b, and one of c d").await;
}

#[tokio::test]
async fn a_claim_must_equal_the_configured_value() {
    let world = World::start().await;
    world.allows("/department", &world.token(&json!({"department": "research"}))).await;
    world.allows("/department", &world.client.granted("app", APP_SECRET, "").await).await;
    for other in
        [json!("Research"), json!("research "), json!(""), json!(null), json!(["sales"]), json!({"a": "research"})]
    {
        world.denies("/department", &world.token(&json!({"department": other})), "claim_mismatch").await;
    }
    world.denies("/department", &world.token(&json!({})), "claim_mismatch").await;
    world.denies("/department", &world.client.granted("job", JOB_SECRET, "").await, "claim_mismatch").await;
}

#[tokio::test]
async fn a_claim_is_compared_with_its_type() {
    let world = World::start().await;
    world.allows("/floor", &world.token(&json!({"floor": 7}))).await;
    world.allows("/staff", &world.token(&json!({"staff": true}))).await;
    world.denies("/floor", &world.token(&json!({"floor": "7"})), "claim_mismatch").await;
    world.denies("/floor", &world.token(&json!({"floor": 8})), "claim_mismatch").await;
    world.denies("/staff", &world.token(&json!({"staff": "true"})), "claim_mismatch").await;
    world.denies("/staff", &world.token(&json!({"staff": 1})), "claim_mismatch").await;
}

#[tokio::test]
async fn a_claim_may_be_one_of_several_or_a_list_that_holds_one() {
    let world = World::start().await;
    for team in [json!("red"), json!("blue"), json!(["green", "blue"]), json!(["red"])] {
        world.allows("/team", &world.token(&json!({"team": team}))).await;
    }
    for team in [json!("green"), json!(["green"]), json!([]), json!("red blue"), json!([["red"]]), json!({"red": true})]
    {
        world.denies("/team", &world.token(&json!({"team": team})), "claim_mismatch").await;
    }
    world.allows("/department", &world.token(&json!({"department": ["sales", "research"]}))).await;
}

#[tokio::test]
async fn a_claim_may_fit_a_glob_in_which_a_star_is_one_whole_segment() {
    let world = World::start().await;
    world.allows("/repo", &world.token(&json!({"sub": "repo:acme/api:ref:refs/heads/main"}))).await;
    for other in [
        "repo:acme/:ref:refs/heads/main",
        "repo:acme/api/x:ref:refs/heads/main",
        "repo:acme/api:ref:refs/heads/main:x",
        "repo:acme/api:ref:refs/heads/main2",
        "repo:acme:api:ref:refs/heads/main",
        "repo:acme/api:pull_request",
        "repo:evil/api:ref:refs/heads/main",
        "xrepo:acme/api:ref:refs/heads/main",
    ] {
        world.denies("/repo", &world.token(&json!({"sub": other})), "claim_mismatch").await;
    }
    for good in [json!("plain"), json!(7), json!("acme/api"), json!(["x", "acme/api"]), json!("acme/*/*")] {
        world.allows("/repos", &world.token(&json!({"repos": good}))).await;
    }
    for bad in [json!("acme/a/b"), json!("acme/"), json!(["acme"]), json!({"acme/a": 1}), json!([["acme/a"]])] {
        world.denies("/repos", &world.token(&json!({"repos": bad})), "claim_mismatch").await;
    }
}

#[tokio::test]
async fn a_claim_is_found_by_its_path_or_by_its_very_name() {
    let world = World::start().await;
    let nested = json!({"org": {"unit": {"name": "research"}}});
    world.allows("/nested", &world.token(&nested)).await;
    world.allows("/nested", &world.token(&json!({"org.unit.name": "research"}))).await;
    world.allows("/literal", &world.token(&json!({"https://example.com/role": "admin"}))).await;
    world
        .denies("/nested", &world.token(&json!({"org.unit.name": "sales", "org": nested["org"]})), "claim_mismatch")
        .await;
    world.denies("/nested", &world.token(&json!({"org": {"unit": "research"}})), "claim_mismatch").await;
    world.denies("/nested", &world.token(&json!({"org": [{"unit": {"name": "research"}}]})), "claim_mismatch").await;
    world
        .denies(
            "/literal",
            &world.token(&json!({"https://example.com": {"role": "admin"}, "role": "admin"})),
            "claim_mismatch",
        )
        .await;
}

#[tokio::test]
async fn every_part_of_a_rule_must_hold() {
    let world = World::start().await;
    world.allows("/several", &world.token(&json!({"department": "research", "floor": 7, "scope": "a"}))).await;
    world.denies("/several", &world.token(&json!({"department": "research", "scope": "a"})), "claim_mismatch").await;
    world.denies("/several", &world.token(&json!({"floor": 7, "scope": "a"})), "claim_mismatch").await;
    let unscoped = world.token(&json!({"department": "research", "floor": 7, "scope": "b"}));
    world.forbids("/several", &unscoped, "missing_scope").await;
}

/// The values that the audit line of this refusal has.
async fn found_and_wanted(world: &World, path: &str, claims: serde_json::Value, reason: &str) -> (String, String) {
    let answer = world.forbids(path, &world.token(&claims), reason).await;
    let line = world.gateway.audit_of(answer.request_id());
    let value = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
    (value("gateway.found"), value("gateway.wanted"))
}

#[tokio::test]
async fn a_refusal_records_the_value_found_and_the_one_wanted() {
    let world = World::start().await;
    for (path, claims, found, wanted) in [
        ("/team", json!({"team": "green"}), "team=green", "team=red|blue"),
        ("/team", json!({"team": ["green", "grey"]}), "team=[\"green\",\"grey\"]", "team=red|blue"),
        ("/team", json!({}), "no team", "team=red|blue"),
        ("/floor", json!({"floor": "7"}), "floor=\"7\" (text)", "floor=7 (number)"),
        ("/nested", json!({"org": {"unit": {"name": "sales"}}}), "org.unit.name=sales", "org.unit.name=research"),
        ("/several", json!({"department": "research", "secret": "s"}), "no floor", "floor=7"),
        ("/repos", json!({"repos": ["x"]}), "repos=[\"x\"]", "repos=plain|7|acme/*|acme/*/*"),
    ] {
        let expected = (found.to_owned(), wanted.to_owned());
        assert_eq!(found_and_wanted(&world, path, claims, "claim_mismatch").await, expected, "{path}");
    }
    for (path, scope, found, wanted) in [
        ("/all", "b", "b", "a"),
        ("/all", "", "no scope", "a b"),
        ("/any", "c", "c", "one of a b"),
        ("/both", "d", "d", "a b"),
        ("/both", "x", "x", "a b, and one of c d"),
    ] {
        let expected = (found.to_owned(), wanted.to_owned());
        assert_eq!(found_and_wanted(&world, path, json!({"scope": scope}), "missing_scope").await, expected, "{path}");
    }
    let (found, _) = found_and_wanted(&world, "/team", json!({"team": "é".repeat(2000)}), "claim_mismatch").await;
    assert_eq!((found.chars().count(), found.chars().last()), (201, Some('…')), "long values are cut");
    let answer = world.client.get_with("/team", &world.token(&json!({"team": "red"}))).await;
    let line = world.gateway.audit_of(answer.request_id());
    assert!(line.get("gateway.found").is_none() && line.get("gateway.wanted").is_none(), "{line}");
}

#[tokio::test]
async fn a_client_is_named_with_its_issuer_or_is_ours() {
    let world = World::start().await;
    let (app, job) =
        (world.client.granted("app", APP_SECRET, "").await, world.client.granted("job", JOB_SECRET, "").await);
    let theirs = world.token(&json!({}));
    for (path, good, bad) in [
        ("/app", [&app].as_slice(), [&job, &theirs].as_slice()),
        ("/their-app", &[&theirs], &[&app, &job]),
        ("/either", &[&job, &theirs], &[&app]),
    ] {
        for token in good {
            world.allows(path, token).await;
        }
        for token in bad {
            world.denies(path, token, "client_not_allowed").await;
        }
    }
}

#[tokio::test]
async fn no_client_of_another_issuer_passes_for_one_that_is_named() {
    let world = World::start().await;
    for name in ["client_id", "azp", "appid", "cid"] {
        for id in ["app", "self/app", "APP"] {
            let mut claims = world.corp.claims();
            claims.as_object_mut().unwrap().remove("azp");
            claims[name] = id.into();
            world.denies("/app", &world.key.sign(&claims), "client_not_allowed").await;
        }
    }
    let mut claims = world.partner.claims();
    world.denies("/their-app", &world.key.sign(&claims), "client_not_allowed").await;
    claims["azp"] = "corp/their-app".into();
    world.denies("/their-app", &world.key.sign(&claims), "client_not_allowed").await;
    // A subject is no client, and a token need not name one.
    claims.as_object_mut().unwrap().remove("azp");
    claims["sub"] = "their-app".into();
    claims["iss"] = world.corp.issuer.clone().into();
    world.denies("/their-app", &world.key.sign(&claims), "client_not_allowed").await;
}

#[tokio::test]
async fn a_route_may_be_for_some_issuers_only() {
    let world = World::start().await;
    let (own, corp) = (world.client.granted("app", APP_SECRET, "").await, world.token(&json!({})));
    world.allows("/self", &own).await;
    world.allows("/strangers", &corp).await;
    world.allows("/strangers", &world.key.sign(&world.partner.claims())).await;
    for (path, token) in [("/self", &corp), ("/strangers", &own)] {
        let answer = world.client.get_with(path, token).await;
        let line = world.gateway.audit_of(answer.request_id());
        assert_eq!((answer.status, &line["gateway.reason"]), (401, &"issuer_not_allowed".into()), "{path}");
    }
}

#[tokio::test]
async fn a_route_may_be_for_some_audiences_only() {
    let world = World::start().await;
    let billing = world.client.granted("app", APP_SECRET, "audience=https://billing.example.com").await;
    world.allows("/billing", &billing).await;
    world.allows("/everyone", &billing).await;
    let api = world.client.granted("app", APP_SECRET, "").await;
    let answer = world.client.get_with("/billing", &api).await;
    let line = world.gateway.audit_of(answer.request_id());
    assert_eq!((answer.status, &line["gateway.reason"]), (401, &"bad_audience".into()));
}

#[tokio::test]
async fn a_caller_without_access_does_not_see_the_scopes() {
    let world = World::start().await;
    world.denies("/admin", &world.token(&json!({})), "client_not_allowed").await;
    world.denies("/admin", &world.client.granted("app", APP_SECRET, "").await, "client_not_allowed").await;
    world.denies("/admin", &world.client.granted("job", JOB_SECRET, "").await, "claim_mismatch").await;
}
