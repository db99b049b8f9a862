use serde_json::{Value, json};

use super::super::example;
use super::super::token_origin::{TenantTemplate, Tenants};
use super::*;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;

const ISS: &str = "https://login.example.com";

fn entry(name: &str, issuer: &str, audiences: &[&str]) -> IssuerSettings {
    IssuerSettings {
        name: IssuerName::new(name),
        issuer: Identity::parse(issuer).unwrap(),
        audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
        ..example::settings()
    }
}

/// An entry for the tenants `a` and `b`.
fn with_tenants(name: &str, audiences: &[&str]) -> IssuerSettings {
    let template = "https://login.example.com/{tenant}/v2.0";
    let tenants = Tenants::new(TenantTemplate::parse(template).unwrap(), &["a", "b"]).unwrap().unwrap();
    IssuerSettings { origin: TokenOrigin::Tenants(tenants), ..entry(name, template, audiences) }
}

fn claims(more: &Value) -> Claims {
    let mut claims = example::claims();
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Claims::parse(claims.to_string().as_bytes()).unwrap()
}

/// The name of the entry, or the reason with the values found and wanted.
fn chosen(entries: &[IssuerSettings], more: &Value) -> Result<String, (TokenError, String)> {
    let chosen = choose(entries, |entry| entry, &claims(more));
    chosen.map(|entry| entry.name.as_str().to_owned()).map_err(|check| {
        let values = check.values.map(|values| format!("{} / {}", values.found, values.wanted));
        (check.reason, values.unwrap_or_default())
    })
}

#[track_caller]
fn chooses(entries: &[IssuerSettings], more: &Value, name: &str) {
    assert_eq!(chosen(entries, more), Ok(name.to_owned()), "{more}");
}

#[track_caller]
fn refuses(entries: &[IssuerSettings], more: &Value, reason: TokenError, values: &str) {
    assert_eq!(chosen(entries, more), Err((reason, values.to_owned())), "{more}");
}

#[test]
fn a_single_entry_is_chosen_by_its_issuer_whatever_the_audience_is() {
    let entries = [entry("other", "https://other.example", &["x"]), entry("one", ISS, &["x"])];
    for audience in [json!("x"), json!("y"), json!(["y", "z"])] {
        chooses(&entries, &json!({"aud": audience}), "one");
    }
    for iss in ["https://login.example.com/", "https://LOGIN.example.com", "http://login.example.com", "other"] {
        refuses(&entries, &json!({"iss": iss}), TokenError::UnknownIssuer, "");
    }
}

#[test]
fn of_several_entries_the_one_with_the_audience_is_chosen() {
    let entries = [entry("one", ISS, &["x"]), entry("two", ISS, &["y", "z"]), entry("three", "https://3", &["v"])];
    for (audience, name) in [
        (json!("x"), "one"),
        (json!(["x"]), "one"),
        (json!(["v", "x"]), "one"),
        (json!("y"), "two"),
        (json!(["y", "z"]), "two"),
    ] {
        chooses(&entries, &json!({"aud": audience}), name);
    }
    refuses(&entries, &json!({"aud": "v"}), TokenError::BadAudience, "aud=v / aud=x|y|z");
    let wanted = "audiences of one issuer entry, not of one and two";
    refuses(&entries, &json!({"aud": ["x", "z"]}), TokenError::BadAudience, &format!("aud=[\"x\",\"z\"] / {wanted}"));
}

#[test]
fn a_token_of_a_tenant_belongs_to_the_entry_of_the_tenant() {
    let entries = [entry("plain", ISS, &["x"]), with_tenants("many", &["x"])];
    let iss = |tenant: &str| format!("{ISS}/{tenant}/v2.0");
    chooses(&entries, &json!({"iss": iss("a")}), "many");
    chooses(&entries, &json!({"iss": iss("b"), "tid": "b"}), "many");
    chooses(&entries, &json!({}), "plain");
    for tenant in ["c", "{tenant}", "common", "a/b", ""] {
        refuses(&entries, &json!({"iss": iss(tenant)}), TokenError::UnknownIssuer, "");
    }
    refuses(&entries, &json!({"iss": iss("a"), "tid": "b"}), TokenError::UnknownIssuer, "tid=b / tid=a, as in iss");
    refuses(&entries, &json!({"iss": iss("a"), "tid": 7}), TokenError::Malformed, "tid=7 / tid=a, as in iss");
}

#[test]
fn entries_with_the_same_tenants_are_told_apart_by_audience() {
    let entries = [with_tenants("one", &["x"]), with_tenants("two", &["y"])];
    let iss = format!("{ISS}/b/v2.0");
    chooses(&entries, &json!({"iss": iss, "aud": "x"}), "one");
    chooses(&entries, &json!({"iss": iss, "aud": "y", "tid": "b"}), "two");
    refuses(
        &entries,
        &json!({"iss": iss, "aud": "y", "tid": "a"}),
        TokenError::UnknownIssuer,
        "tid=a / tid=b, as in iss",
    );
    refuses(&entries, &json!({"iss": iss, "aud": "z"}), TokenError::BadAudience, "aud=z / aud=x|y");
}
