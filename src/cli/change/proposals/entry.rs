//! Changes that decide to which entry of `issuers` a token belongs: a new entry, and the keys that choose one.

use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use url::Url;

use super::super::proposal::{Proposal, TokenFacts, add, keys};
use crate::config::edit::EditKind;
use crate::oauth::caller::IssuerName;
use crate::oauth::spiffe_id::SpiffeId;
use crate::trust::issuer::IssuerSettings;
use crate::trust::near_miss::{near_miss, unlisted_tenant};
use crate::trust::token_origin::TokenOrigin;

/// The field of an entry, or a new entry for a token in this field.
pub(super) fn for_field(facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let Some(field) = facts.field else { return Vec::new() };
    let Some(settings) = facts.settings else { return for_issuer(facts) };
    let Some(issuer) = facts.external() else { return Vec::new() };
    let before = settings.token_field.as_ref().unwrap_or(&AUTHORIZATION);
    let opens = format!(
        "tokens of `{issuer}` count in `{field}` and no longer in `{before}`; callers that reach the gateway directly can \
         send the field, too"
    );
    vec![Proposal::new(keys(["issuers", issuer, "token_header"]), EditKind::Set(field.as_str().into()), opens)]
}

/// A tenant or a near miss of a configured issuer, else a new entry.
pub(super) fn for_issuer(facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let Some(iss) = facts.text("iss") else { return Vec::new() };
    let issuers = || facts.snapshot.trust.issuers().iter().map(|issuer| &issuer.settings);
    let external = || issuers().filter(|settings| settings.name.as_str() != IssuerName::OWN);
    let mut proposals: Vec<Proposal> = external().filter_map(|settings| new_tenant(iss, settings)).collect();
    proposals.extend(external().filter_map(|settings| other_issuer(iss, settings, facts)));
    if facts.is_for_token_endpoint() {
        // An entry with this audience would open routes.
        return proposals;
    }
    let name = entry_name(iss, |name| issuers().any(|settings| settings.name.as_str() == name));
    proposals.extend(name.and_then(|name| new_issuer(&name, iss, facts)));
    proposals
}

fn new_tenant(iss: &str, settings: &IssuerSettings) -> Option<Proposal> {
    let (name, tenant) = (settings.name.as_str(), unlisted_tenant(iss, settings)?);
    let opens = format!("every token of this tenant is accepted as those of the other tenants of `{name}` are");
    Some(Proposal::new(keys(["issuers", name, "tenants"]), add(tenant), opens))
}

/// The `issuer` of an entry that this token is probably meant for.
fn other_issuer(iss: &str, settings: &IssuerSettings, facts: &TokenFacts<'_>) -> Option<Proposal> {
    let (name, before) = (settings.name.as_str(), settings.issuer.as_str());
    let of_domain = || match &settings.origin {
        TokenOrigin::Spiffe(spiffe) => {
            let id = SpiffeId::parse(facts.text("sub")?).ok()?;
            (spiffe.issuer.is_some() && id.trust_domain == spiffe.domain.as_str()).then(|| iss.to_owned())
        }
        TokenOrigin::Issuer | TokenOrigin::Tenants(_) => None,
    };
    let written = near_miss(iss, settings).map(|near| near.written).or_else(of_domain)?;
    let opens = format!(
        "tokens with this `iss` that a key of `{name}` signed are accepted, and those with `{before}` no longer"
    );
    Some(Proposal::new(keys(["issuers", name, "issuer"]), EditKind::Set(written.into()), opens))
}

fn new_issuer(name: &str, iss: &str, facts: &TokenFacts<'_>) -> Option<Proposal> {
    let mut entry = json!({ "issuer": iss, "audiences": [facts.audience()?] });
    if facts.claims.get("aud").is_none_or(|aud| matches!(aud, Value::Null) || aud == "" || *aud == json!([])) {
        entry["audience_claim"] = facts.client_claim()?.0.into();
    }
    if let Some(field) = facts.field.filter(|field| *field != AUTHORIZATION) {
        entry["token_header"] = field.as_str().into();
    }
    let typ = facts.header.get("typ").and_then(Value::as_str);
    if let Some(typ) = typ.filter(|typ| !matches!(&*typ.to_ascii_lowercase(), "jwt" | "at+jwt" | "application/at+jwt"))
    {
        entry["types"] = json!([typ]);
    }
    let opens = format!(
        "every token that `{iss}` signs for this audience is accepted on each route without `access.issuers`. \
         The signature of this token was not checked: its keys are fetched only from a configured issuer"
    );
    let mut proposal = Proposal::new(keys(["issuers", name]), EditKind::Set(entry), opens);
    proposal.is_new_issuer = true;
    Some(proposal)
}

/// A name for the entry of this issuer: its host.
fn entry_name(iss: &str, is_taken: impl Fn(&str) -> bool) -> Option<String> {
    let url = Url::parse(iss).ok()?;
    let name: String = url.host_str()?.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = format!("issuer-{}", name.trim_matches('-'));
    (!is_taken(&name)).then_some(name)
}
