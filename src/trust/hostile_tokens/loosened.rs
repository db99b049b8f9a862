//! Entries of issuers that accept more than the defaults. Everything else stays refused, and without the entry its tokens
//! are refused too.

use serde_json::{Value, json};

use super::super::audiences::AcceptedAudiences;
use super::super::example::{NOW, claims, settings};
use super::super::issuer::IssuerSettings;
use super::super::scope_claim::{ClaimPath, ScopeClaim};
use super::super::verify::{AllowedAudiences, Expectations};
use super::token_cases::bad_claims;
use super::{ALGORITHMS, Attack, EXPECTED, cut, flipped_bits, flipped_characters};
use crate::clock::UnixTime;
use crate::oauth::observer::Unobserved;

/// Valid claims with these changes. `null` removes a claim.
fn changed(mut claims: Value, changes: &Value) -> Value {
    let members = claims.as_object_mut().unwrap();
    members.extend(changes.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    claims
}

/// The issuer accepts tokens with the `shape`, a change of the usual claims. It refuses those with a change of
/// `refused`, and all that are bad but for the `loosened` claims.
async fn holds(settings: IssuerSettings, shape: &Value, loosened: &[&str], refused: &[Value]) {
    let good = changed(claims(), shape);
    let mut attack = Attack::on(settings, &good, &ALGORITHMS).await;
    let usual = |header: Value| header.to_string();
    for changes in refused {
        attack.signed(usual, &changed(good.clone(), changes).to_string()).await;
    }
    for claims in bad_claims(&good, loosened) {
        attack.signed(usual, &claims).await;
        attack.rewritten(usual, &claims).await;
    }
    for change in [flipped_characters, flipped_bits, cut] {
        for token in change(&attack.good[1].clone()) {
            attack.refuses(token).await;
        }
    }
    attack.accepts_good_ones().await;
}

/// Without keys of its own the issuer refuses the shape.
async fn is_refused_by_default(shape: &Value) {
    let mut attack = Attack::new().await;
    attack.signed(|header| header.to_string(), &changed(claims(), shape).to_string()).await;
}

#[tokio::test]
async fn a_token_without_a_subject_has_a_client() {
    let refused =
        [json!({"azp": null}), json!({"azp": null, "sub": ""}), json!({"sub": 7}), json!({"sub": ["someone"]})];
    holds(settings(), &json!({"sub": null}), &[], &refused).await;
}

#[tokio::test]
async fn a_subject_in_another_claim_is_read_from_the_listed_ones() {
    let shape = json!({"sub": "", "azp": null, "common_name": "service"});
    let listed = IssuerSettings { subject_claims: vec!["sub".to_owned(), "common_name".to_owned()], ..settings() };
    let refused = [
        json!({"common_name": null, "name": "service"}),
        json!({"common_name": ""}),
        json!({"common_name": 7}),
        json!({"common_name": ["service"]}),
        json!({"common_name": "a\nb"}),
        json!({"sub": 7}),
    ];
    holds(listed, &shape, &[], &refused).await;
    is_refused_by_default(&shape).await;
}

#[tokio::test]
async fn an_audience_claim_counts_in_place_of_aud_only() {
    let shape = json!({"aud": null, "azp": null, "client_id": "app-1"});
    let audiences =
        AcceptedAudiences::Listed { accepted: vec!["app-1".to_owned()], instead_of_aud: Some("client_id".to_owned()) };
    let refused = [
        json!({"client_id": "app-2"}),
        json!({"client_id": null, "azp": "app-1"}),
        json!({"client_id": ""}),
        json!({"client_id": 7}),
        json!({"aud": "https://api.example.com"}),
        json!({"aud": ["app-2"]}),
        json!({"aud": [""]}),
        json!({"aud": 7}),
        json!({"aud": {}}),
    ];
    holds(IssuerSettings { audiences, ..settings() }, &shape, &["aud", "azp"], &refused).await;
    is_refused_by_default(&shape).await;
    is_refused_by_default(&json!({"aud": null, "client_id": "https://api.example.com"})).await;
}

#[tokio::test]
async fn unlimited_audiences_are_no_audience_of_a_route() {
    let unlimited = || IssuerSettings { audiences: AcceptedAudiences::Unlimited, ..settings() };
    let shape = json!({"aud": null});
    let refused = [json!({"aud": 7}), json!({"aud": {}}), json!({"aud": [7]}), json!({"aud": true})];
    holds(unlimited(), &shape, &["aud"], &refused).await;
    is_refused_by_default(&shape).await;
    let of_route = ["https://billing.example.com".to_owned()];
    let expected = Expectations { audiences: AllowedAudiences::Only(&of_route), ..EXPECTED };
    for (aud, accepted) in [(json!("https://billing.example.com"), true), (json!("x"), false), (json!(null), false)] {
        let attack = Attack::on(unlimited(), &changed(claims(), &json!({"aud": aud})), &ALGORITHMS).await;
        let verdict =
            attack.trust.verify(&attack.good[0], expected, UnixTime::from_seconds(NOW), &mut Unobserved).await;
        assert_eq!(verdict.is_ok(), accepted, "{aud}");
    }
}

#[tokio::test]
async fn named_scope_claims_are_typed_and_bounded() {
    let paths = ["scp", "roles"].map(|name| ClaimPath::Text(name.to_owned())).to_vec();
    let named = IssuerSettings { scope_claim: ScopeClaim::Named(paths), ..settings() };
    let many: Vec<String> = (0..129).map(|number| format!("role-{number}")).collect();
    let refused = [
        json!({"scp": 7}),
        json!({"roles": true}),
        json!({"roles": ["reader", 7]}),
        json!({"roles": [["reader"]]}),
        json!({"roles": many}),
        json!({"roles": "r".repeat(4097)}),
    ];
    holds(named, &json!({"scp": "read:data", "roles": {"reader": {}}}), &[], &refused).await;
    is_refused_by_default(&json!({"scope": {"reader": {}}})).await;
}
