//! Changes of an entry of `issuers`: a new entry, and the keys that loosen one.
//!
//! Nothing is proposed for the gateway's own issuer, which has no such keys.

use serde_json::{Value, json};
use url::Url;

use super::super::proposal::{Proposal, TokenFacts, keys};
use super::scopes::scope_claim_set;
use crate::config::edit::EditKind;
use crate::jose::algorithm::Algorithm;
use crate::oauth::caller::IssuerName;
use crate::trust::near_miss::near_miss;
use crate::trust::scope_claim::AUTO;

pub(super) fn for_malformed(facts: &TokenFacts<'_>) -> Vec<Proposal> {
    if facts.token_bytes > facts.snapshot.limits.token_bytes {
        let size = format!("{}KiB", facts.token_bytes.div_ceil(1024));
        let opens = "every caller may send tokens of this size, and they are read before they are verified";
        return vec![Proposal::new(keys(["limits", "token_bytes"]), EditKind::Set(size.into()), opens)];
    }
    let Some(issuer) = facts.external() else { return Vec::new() };
    let may_be_scopes = |value: &Value| match value {
        Value::String(_) => true,
        Value::Array(list) => list.iter().all(Value::is_string),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    let others = AUTO.into_iter().chain(["roles", "groups"]);
    let readable = others.filter(|name| facts.claims.get(*name).is_some_and(may_be_scopes));
    readable.map(|name| scope_claim_set(issuer, name)).collect()
}

/// A near miss of a configured issuer, else a new entry.
pub(super) fn for_issuer(facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let Some(iss) = facts.text("iss") else { return Vec::new() };
    let issuers = || facts.snapshot.trust.issuers().iter().map(|issuer| &issuer.settings);
    let external = issuers().filter(|settings| settings.name.as_str() != IssuerName::OWN);
    let near = external.filter(|settings| near_miss(iss, settings).is_some()).map(|settings| {
        let name = settings.name.as_str();
        let opens = format!(
            "tokens with this `iss` that a key of `{name}` signed are accepted, and those with `{}` no longer",
            settings.issuer.as_str()
        );
        Proposal::new(keys(["issuers", name, "issuer"]), EditKind::Set(iss.into()), opens)
    });
    let mut proposals: Vec<Proposal> = near.collect();
    let name = entry_name(iss, |name| issuers().any(|settings| settings.name.as_str() == name));
    proposals.extend(name.and_then(|name| new_issuer(&name, iss, facts)));
    proposals
}

fn new_issuer(name: &str, iss: &str, facts: &TokenFacts<'_>) -> Option<Proposal> {
    let mut entry = json!({ "issuer": iss, "audiences": [facts.audience()?] });
    if facts.claims.get("aud").is_none_or(|aud| matches!(aud, Value::Null) || aud == "" || *aud == json!([])) {
        entry["audience_claim"] = facts.client_claim()?.0.into();
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

pub(super) fn for_type(facts: &TokenFacts<'_>) -> Option<Proposal> {
    let (issuer, types) = (facts.external()?, &facts.settings?.types);
    let typ = facts.header.get("typ").map_or(Some("absent"), Value::as_str)?;
    let absent = types.absent.then_some("absent");
    let default = types.named.iter().map(String::as_str).chain(absent).map(Value::from).collect();
    let opens = format!("every token of `{issuer}` of this type is accepted, also if it is no access token");
    let kind = EditKind::Add { item: typ.into(), default: Some(default) };
    Some(Proposal::new(keys(["issuers", issuer, "types"]), kind, opens))
}

pub(super) fn for_algorithm(facts: &TokenFacts<'_>) -> Option<Proposal> {
    let issuer = facts.external()?;
    let algorithm = Algorithm::from_name(facts.header.get("alg")?.as_str()?)?;
    let default = facts.settings?.algorithms.iter().map(|known| known.as_str().into()).collect();
    let opens = format!("every token of `{issuer}` that one of its keys for {algorithm} signed is accepted");
    let kind = EditKind::Add { item: algorithm.as_str().into(), default: Some(default) };
    Some(Proposal::new(keys(["issuers", issuer, "algorithms"]), kind, opens))
}

pub(super) fn for_missing_claim(missing: &str, facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let (Some(issuer), mut proposals) = (facts.external(), Vec::new()) else { return Vec::new() };
    let mut set = |key: &'static str, value: Value, opens: String| {
        proposals.push(Proposal::new(keys(["issuers", issuer, key]), EditKind::Set(value), opens));
    };
    match missing {
        "sub" => {
            let named = facts.client_claim().map(|(name, _)| name);
            let others = ["oid", "uid", "username"].into_iter().filter(|name| facts.text(name).is_some());
            for name in named.into_iter().chain(others) {
                let opens = format!("in every token of `{issuer}` without `sub`, `{name}` is the subject");
                set("subject_claim", json!(["sub", name]), opens);
            }
        }
        "aud" => {
            if let Some((name, _)) = facts.client_claim() {
                let opens = format!("in every token of `{issuer}` without `aud`, `{name}` is the audience");
                set("audience_claim", name.into(), opens);
            }
            let opens = format!("every token of `{issuer}` is accepted, for any audience and for none");
            set("audiences", "unlimited".into(), opens);
        }
        _ => {}
    }
    proposals
}

/// Clocks may differ. The configuration limits by how much.
pub(super) fn for_time(facts: &TokenFacts<'_>) -> Option<Proposal> {
    let issuer = facts.external()?;
    let seconds = |claim: &str| facts.claims.get(claim).and_then(Value::as_u64);
    let past = seconds("exp").map_or(0, |exp| (facts.now + 1).saturating_sub(exp));
    let ahead = seconds("nbf").max(seconds("iat")).map_or(0, |begins| begins.saturating_sub(facts.now));
    let skew = past.max(ahead).div_ceil(10) * 10;
    let opens = format!("every token of `{issuer}` counts {skew}s before it begins and {skew}s after it ends");
    Some(Proposal::new(keys(["issuers", issuer, "clock_skew"]), EditKind::Set(format!("{skew}s").into()), opens))
}
