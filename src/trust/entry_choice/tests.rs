use serde_json::{Value, json};

use super::super::audiences::AcceptedAudiences;
use super::super::example;
use super::super::failed_check::{FailedCheck, TokenError};
use super::super::token_origin::{TenantTemplate, Tenants};
use super::*;
use crate::oauth::caller::IssuerName;
use crate::oauth::identity::Identity;
use crate::oauth::spiffe_id::TrustDomain;

const ISS: &str = "https://login.example.com";

fn entry(name: &str, issuer: &str, audiences: &[&str]) -> IssuerSettings {
    IssuerSettings {
        name: IssuerName::new(name),
        issuer: Identity::parse(issuer).unwrap(),
        audiences: AcceptedAudiences::listed(audiences.iter().map(|audience| (*audience).to_owned()).collect()),
        ..example::settings()
    }
}

/// An entry for the tenants `a` and `b`.
fn with_tenants(name: &str, audiences: &[&str]) -> IssuerSettings {
    let template = "https://login.example.com/{tenant}/v2.0";
    let tenants = Tenants::new(TenantTemplate::parse(template).unwrap(), &["a", "b"]).unwrap().unwrap();
    IssuerSettings { origin: TokenOrigin::Tenants(tenants), ..entry(name, template, audiences) }
}

/// An entry for a trust domain.
fn of_domain(name: &str, domain: &str, issuer: Option<&str>) -> IssuerSettings {
    let issuer = issuer.map(|issuer| Identity::parse(issuer).unwrap());
    let origin = SpiffeOrigin::new(TrustDomain::parse(domain).unwrap(), issuer.clone()).unwrap();
    let name_of_issuer = issuer.unwrap_or_else(|| origin.id.clone());
    IssuerSettings { origin: TokenOrigin::Spiffe(origin), ..entry(name, name_of_issuer.as_str(), &["svid"]) }
}

/// Good claims, but for these. `null` removes one.
fn claims(more: &Value) -> Claims {
    let mut claims = example::claims();
    let members = claims.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    Claims::parse(claims.to_string().as_bytes()).unwrap()
}

/// The name of the entry, or the reason with the values found and wanted.
fn chosen(entries: &[IssuerSettings], more: &Value) -> Result<String, (TokenError, String)> {
    let chosen = choose(entries, |entry| entry, &claims(more));
    chosen.map(|entry| entry.name.as_str().to_owned()).map_err(|fault| {
        let FailedCheck { reason, values } = fault.into();
        (reason, format!("{} / {}", values.found, values.wanted))
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
fn a_single_entry_is_chosen_by_its_issuer_for_any_audience() {
    let entries = [entry("other", "https://other.example", &["x"]), entry("one", ISS, &["x"])];
    for audience in [json!("x"), json!("y"), json!(["y", "z"])] {
        chooses(&entries, &json!({"aud": audience}), "one");
    }
    for (iss, difference) in [
        ("https://login.example.com/", "a trailing slash"),
        ("https://LOGIN.example.com", "letter case"),
        ("http://login.example.com", "the scheme"),
    ] {
        let values = format!("iss={iss}, which differs by {difference} from issuer `one` / iss={ISS}");
        refuses(&entries, &json!({"iss": iss}), TokenError::UnknownIssuer, &values);
    }
    refuses(&entries, &json!({"iss": "other"}), TokenError::UnknownIssuer, "iss=other / issuer=other|one");
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
    refuses(&entries, &json!({"aud": ["x", "z"]}), TokenError::BadAudience, &format!("aud=x|z / {wanted}"));
}

#[test]
fn a_token_of_a_tenant_belongs_to_the_entry_of_the_tenant() {
    let entries = [entry("plain", ISS, &["x"]), with_tenants("many", &["x"])];
    let iss = |tenant: &str| format!("{ISS}/{tenant}/v2.0");
    chooses(&entries, &json!({"iss": iss("a")}), "many");
    chooses(&entries, &json!({"iss": iss("b"), "tid": "b"}), "many");
    chooses(&entries, &json!({}), "plain");
    for tenant in ["{tenant}", "a/b", ""] {
        let values = format!("iss={} / issuer=plain|many", iss(tenant));
        refuses(&entries, &json!({"iss": iss(tenant)}), TokenError::UnknownIssuer, &values);
    }
    let wanted = format!("iss={ISS}/{{tenant}}/v2.0 with a tenant of issuers.many.tenants");
    for tenant in ["c", "common", "A"] {
        let found = format!("iss={}, whose tenant {tenant} is not listed by issuer `many`", iss(tenant));
        refuses(&entries, &json!({"iss": iss(tenant)}), TokenError::UnknownIssuer, &format!("{found} / {wanted}"));
    }
    let near = format!("{}/", iss("a"));
    let values = format!("iss={near}, which differs by a trailing slash from issuer `many` / iss={}", iss("a"));
    refuses(&entries, &json!({"iss": near}), TokenError::UnknownIssuer, &values);
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

const WORKLOAD: &str = "spiffe://example.org/ns/default/sa/web";

#[test]
fn without_a_trust_domain_every_token_needs_an_issuer() {
    let entries = [entry("one", ISS, &["x"])];
    for sub in ["someone", WORKLOAD] {
        refuses(&entries, &json!({"iss": null, "sub": sub}), TokenError::MissingClaim, "no iss / iss");
    }
}

#[test]
fn a_token_without_issuer_belongs_to_a_trust_domain() {
    let entries =
        [entry("one", ISS, &["x"]), of_domain("mesh", "example.org", None), of_domain("b", "b.org", Some("b"))];
    chooses(&entries, &json!({"iss": null, "sub": WORKLOAD}), "mesh");
    chooses(&entries, &json!({"iss": null, "sub": "spiffe://b.org/a"}), "b");
    refuses(&entries, &json!({"iss": null}), TokenError::MissingClaim, "no iss / iss");
    for other in ["spiffe://example.org.evil.example/a", "spiffe://sub.example.org/a", "spiffe://xexample.org/a"] {
        let values = format!("no iss, sub={other} / trust_domain=example.org|b.org");
        refuses(&entries, &json!({"iss": null, "sub": other}), TokenError::UnknownIssuer, &values);
    }
    for bad in ["spiffe://example.org", "spiffe://example.org/", "spiffe://example.org//a", "spiffe://EXAMPLE.org/a"] {
        let values = format!("sub={bad} / sub is a SPIFFE ID");
        refuses(&entries, &json!({"iss": null, "sub": bad}), TokenError::Malformed, &values);
    }
}

#[test]
fn a_token_whose_issuer_is_configured_is_of_no_trust_domain() {
    let entries = [entry("one", ISS, &["x"]), of_domain("mesh", "example.org", None)];
    chooses(&entries, &json!({"sub": WORKLOAD}), "one");
    // The issuer is not configured, and the entry has none of its own: the trust domain decides.
    chooses(&entries, &json!({"iss": "https://spire.example", "sub": WORKLOAD}), "mesh");
    let values = "iss=https://spire.example / issuer=one|mesh";
    refuses(&entries, &json!({"iss": "https://spire.example"}), TokenError::UnknownIssuer, values);
}

#[test]
fn a_trust_domain_with_an_issuer_takes_no_token_of_another() {
    let entries = [of_domain("mesh", "example.org", Some(ISS))];
    chooses(&entries, &json!({"sub": WORKLOAD}), "mesh");
    chooses(&entries, &json!({"sub": WORKLOAD, "iss": null}), "mesh");
    let values = "iss=https://spire.example / issuer=mesh";
    refuses(&entries, &json!({"iss": "https://spire.example", "sub": WORKLOAD}), TokenError::UnknownIssuer, values);
    for other in ["someone", "spiffe://other.org/a", "spiffe://example.org", "spiffe://example.org/../a"] {
        let values = format!("sub={other} / sub=spiffe://example.org/…");
        refuses(&entries, &json!({"sub": other}), TokenError::UnknownIssuer, &values);
    }
}

#[test]
fn the_claim_in_the_place_of_aud_chooses_an_entry_too() {
    let instead_of_aud = Some("client_id".to_owned());
    let audiences = AcceptedAudiences::Listed { accepted: vec!["app".to_owned()], instead_of_aud };
    let entries = [entry("web", ISS, &["a"]), IssuerSettings { audiences, ..entry("batch", ISS, &[]) }];
    let chosen = |claims: Value| {
        let claims = Claims::parse(claims.to_string().as_bytes()).unwrap();
        choose(&entries, |entry| entry, &claims).map(|entry| entry.name.as_str().to_owned()).ok()
    };
    let token = |aud: &str, client: &str| chosen(json!({"iss": ISS, "exp": 9, "aud": aud, "client_id": client}));
    assert_eq!(token("a", "app").as_deref(), Some("web"), "`aud` is there");
    assert_eq!(token("", "app").as_deref(), Some("batch"));
    assert_eq!(token("", "other"), None);
    assert_eq!(token("app", "").as_deref(), Some("batch"), "`aud` may name it too");
}

#[test]
fn an_entry_may_choose_tokens_of_its_iss_and_of_trust_domains() {
    let one = entry("one", ISS, &["a"]);
    let tenants = with_tenants("tenants", &["a"]);
    let of_tenant = entry("tenant", "https://login.example.com/a/v2.0", &["b"]);
    let [domain, with_issuer] = [None, Some(ISS)].map(|issuer| of_domain("domain", "example.org", issuer));
    for (changed, other) in [
        (&one, &one),
        (&entry("other", ISS, &["b"]), &one),
        (&with_issuer, &one),
        (&of_tenant, &tenants),
        (&tenants, &of_tenant),
        (&one, &domain),
        (&one, &with_issuer),
        (&of_domain("other", "example.com", None), &domain),
    ] {
        assert!(changed.may_choose_tokens_of(other), "{} {}", changed.name.as_str(), other.name.as_str());
    }
    let elsewhere = entry("elsewhere", "https://other.example", &["a"]);
    let of_other_tenant = entry("tenant", "https://login.example.com/c/v2.0", &["b"]);
    for (changed, other) in
        [(&elsewhere, &one), (&one, &tenants), (&tenants, &one), (&domain, &one), (&of_other_tenant, &tenants)]
    {
        assert!(!changed.may_choose_tokens_of(other), "{} {}", changed.name.as_str(), other.name.as_str());
    }
}

#[test]
fn a_refused_token_is_claimed_of_the_entry_that_would_take_it() {
    let domain = of_domain("mesh", "example.org", None);
    let entries = [entry("one", ISS, &["x"]), entry("two", ISS, &["y", "z"]), with_tenants("many", &["x"]), domain];
    let tenant = format!("{ISS}/a/v2.0");
    for (claims, expected) in [
        (json!({"iss": ISS, "aud": "x"}), Some("one")),
        (json!({"iss": ISS, "aud": ["y"], "exp": "soon"}), Some("two")),
        // It belongs to none of the two, or to both.
        (json!({"iss": ISS, "aud": "v"}), None),
        (json!({"iss": ISS, "aud": ["x", "y"]}), None),
        (json!({"iss": ISS, "aud": 7}), None),
        (json!({"iss": tenant, "tid": "b"}), Some("many")),
        (json!({"iss": format!("{ISS}/c/v2.0")}), None),
        (json!({"sub": WORKLOAD}), Some("mesh")),
        (json!({"iss": "", "sub": WORKLOAD}), Some("mesh")),
        (json!({"iss": 7, "sub": "someone"}), None),
        (json!({}), None),
    ] {
        let chosen = claimed_entry(&entries, |entry| entry, claims.as_object().unwrap());
        assert_eq!(chosen.map(|entry| entry.name.as_str()), expected, "{claims}");
    }
}
