//! Claims must be present, have their type, and be valid for this gateway and time.

use serde_json::{Value, json};

use super::{API, STRICT, World, with, without};
use crate::support::issuer::{Key, now};

const HEADER: &str = r#"{"typ":"JWT","alg":"ES256","kid":"k1"}"#;

/// Good tokens of `corp`, but for one claim, which is given as it stands in the JSON.
async fn each_is_refused<'c>(name: &str, values: impl IntoIterator<Item = &'c str>, reason: &str) {
    let world = World::start().await;
    for value in values {
        let claims = without(world.corp.claims(), name).to_string();
        let claims = format!("{{\"{name}\":{value},{}", &claims[1..]);
        world.refuses(&world.key.sign_text(HEADER, &claims), reason).await;
    }
}

#[tokio::test]
async fn a_time_that_is_no_number_of_seconds_is_refused() {
    let values = [
        "\"2000000000\"",
        "true",
        "[2000000000]",
        "{}",
        "-1",
        "-0.5",
        "1e400",
        "253402300800",
        "2e12",
        "99999999999999999999",
    ];
    for name in ["exp", "nbf", "iat"] {
        each_is_refused(name, values, "malformed").await;
    }
}

#[tokio::test]
async fn a_required_claim_that_is_missing_is_missed() {
    let world = World::start().await;
    for name in ["iss", "aud", "exp"] {
        world.refuses(&world.key.sign(&without(world.corp.claims(), name)), "missing_claim").await;
    }
}

#[tokio::test]
async fn an_empty_claim_is_a_missing_one() {
    each_is_refused("iss", ["\"\"", "null"], "missing_claim").await;
    each_is_refused("aud", ["[]", "\"\"", "null"], "missing_claim").await;
    each_is_refused("exp", ["null"], "missing_claim").await;
}

#[tokio::test]
async fn a_subject_or_issuer_that_is_no_text_is_refused() {
    let values = ["7", "true", "{}", "[\"someone\"]"];
    each_is_refused("sub", values, "malformed").await;
    each_is_refused("iss", values, "malformed").await;
    each_is_refused("jti", values, "malformed").await;
}

#[tokio::test]
async fn a_subject_that_could_break_a_line_is_refused() {
    let long = format!("\"{}\"", "s".repeat(1025));
    each_is_refused("sub", [r#""a\r\nX-Auth-Scope: admin""#, r#""a\u0000""#, r#""\u007f""#, &long], "malformed").await;
    each_is_refused("azp", [r#""a\nb""#, "7", "\"\"", "[\"app\"]"], "malformed").await;
}

#[tokio::test]
async fn an_issuer_is_compared_exactly() {
    let world = World::start().await;
    let iss = world.corp.issuer.clone();
    let others =
        [format!("{iss}/"), iss.to_uppercase(), iss.replace("http:", "https:"), format!(" {iss}"), "corp".into()];
    for other in others.iter().map(String::as_str).chain(["self", "https://evil.example"]) {
        world.refuses(&world.key.sign(&world.claims("iss", other)), "unknown_issuer").await;
    }
}

#[tokio::test]
async fn an_issuer_that_the_route_does_not_take_is_refused() {
    let world = World::start().await;
    let own = json!({"typ": "at+jwt", "alg": "ES256", "kid": world.own.id});
    let own = world.own.sign_with(&own, &world.own_claims());
    world.refuses_at("/own", &world.key.sign(&world.corp.claims()), "issuer_not_allowed").await;
    world.refuses_at("/corp", &own, "issuer_not_allowed").await;
    world.accepts_at("/own", &own).await;
    world.accepts_at("/corp", &world.key.sign(&world.corp.claims())).await;
}

#[tokio::test]
async fn an_audience_is_compared_exactly_and_one_of_several_is_enough() {
    let world = World::start().await;
    for good in [json!(API), json!([API]), json!(["x", API, "y"])] {
        world.accepts(&world.key.sign(&world.claims("aud", good))).await;
    }
    for bad in [json!("x"), json!(["x", "y"]), json!([""]), json!(format!("{API}/")), json!(API.to_uppercase())] {
        world.refuses(&world.key.sign(&world.claims("aud", bad)), "bad_audience").await;
    }
    for bad in [json!(7), json!({"aud": API}), json!([API, 7]), json!([[API]])] {
        world.refuses(&world.key.sign(&world.claims("aud", bad)), "malformed").await;
    }
}

#[tokio::test]
async fn a_route_may_want_another_audience() {
    let world = World::start().await;
    let billing = "https://billing.example.com";
    world.accepts_at("/billing", &world.key.sign(&world.claims("aud", billing))).await;
    world.refuses_at("/billing", &world.key.sign(&world.corp.claims()), "bad_audience").await;
}

#[tokio::test]
async fn time_is_judged_with_the_issuers_leeway() {
    let world = World::knowing(&[STRICT, ("patient", "clock_skew: 120s")]).await;
    let at = |claim: &str, offset: i64| world.claims(claim, now().strict_add_signed(offset));
    for (claim, offset, reason) in [
        ("exp", -31, "expired"),
        ("exp", -100_000, "expired"),
        ("nbf", 60, "not_yet_valid"),
        ("iat", 60, "not_yet_valid"),
        ("iat", 100_000, "not_yet_valid"),
    ] {
        world.refuses(&world.key.sign(&at(claim, offset)), reason).await;
    }
    world.refuses(&world.key.sign(&world.claims("exp", 0)), "expired").await;
    for (claim, offset) in [("exp", -10), ("nbf", 20), ("iat", 20), ("nbf", -100_000)] {
        world.accepts(&world.key.sign(&at(claim, offset))).await;
    }
    world.accepts(&world.key.sign(&world.claims("exp", 253_402_300_799_u64))).await;
    let patient = |claim: &str, offset: i64| world.key.sign(&with(at(claim, offset), "iss", "urn:patient"));
    world.accepts(&patient("exp", -100)).await;
    world.accepts(&patient("nbf", 110)).await;
    world.refuses(&patient("exp", -121), "expired").await;
    let strict = json!({"typ": "at+jwt", "alg": "ES256", "kid": "k1"});
    world.refuses(&world.key.sign_with(&strict, &with(at("exp", 0), "iss", "urn:strict")), "expired").await;
}

#[tokio::test]
async fn our_own_tokens_say_more() {
    let world = World::start().await;
    let sign =
        |claims: &Value| world.own.sign_with(&json!({"typ": "at+jwt", "alg": "ES256", "kid": world.own.id}), claims);
    world.accepts(&sign(&world.own_claims())).await;
    for name in ["client_id", "iat", "jti", "sub", "aud", "exp"] {
        world.refuses(&sign(&without(world.own_claims(), name)), "missing_claim").await;
    }
    // Other names of the client claim do not count here.
    let elsewhere = with(without(world.own_claims(), "client_id"), "azp", "app");
    world.refuses(&sign(&elsewhere), "missing_claim").await;
    world.refuses(&sign(&with(world.own_claims(), "client_id", 7)), "malformed").await;
    world.refuses(&sign(&with(world.own_claims(), "exp", now() - 31)), "expired").await;
    world.refuses(&sign(&with(world.own_claims(), "aud", "https://elsewhere.example.com")), "bad_audience").await;
}

#[tokio::test]
async fn a_refused_token_is_audited_as_it_claimed_to_be() {
    let world = World::start().await;
    let answer = world.client.get_with("/any", &Key::new("k1", "ES256").sign(&world.corp.claims())).await;
    let line = world.gateway.audit_of(answer.request_id());
    assert_eq!((&line["oauth.issuer"], &line["oauth.client_id"]), (&"corp".into(), &"their-app".into()), "{line}");
    assert_eq!(line["oauth.verified"], false);
    assert!(line.get("oauth.subject").is_none() && line.get("oauth.scope").is_none(), "{line}");
}
