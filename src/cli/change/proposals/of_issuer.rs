//! Changes of the keys of an issuer that say which of its tokens are accepted.
//!
//! Nothing is proposed for the gateway's own issuer, which has no such keys.

use serde_json::Value;

use super::super::proposal::{Proposal, TokenFacts, keys};
use super::scopes::scope_claim_set;
use crate::config::edit::EditKind;
use crate::jose::algorithm::Algorithm;
use crate::jose::numeric_date::NumericDate;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::issuer::IssuerSettings;
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
        Value::Object(members) => !members.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    let others = AUTO.into_iter().chain(["roles", "groups"]);
    let readable = others.filter(|name| facts.claims.get(*name).is_some_and(may_be_scopes));
    readable.map(|name| scope_claim_set(issuer, name)).collect()
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

/// `missing` are the claims of which one is needed, as `aud or client_id`.
pub(super) fn for_missing_claim(missing: &str, facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let (Some(issuer), Some(settings)) = (facts.external(), facts.settings) else { return Vec::new() };
    match missing.split(" or ").next() {
        Some("aud") => for_audience_claim(issuer, settings, facts),
        first if first == settings.subject_claims.first().map(String::as_str) => for_subject_claim(issuer, facts),
        Some(_) | None => Vec::new(),
    }
}

fn for_audience_claim(issuer: &str, settings: &IssuerSettings, facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    let mut set = |key, value: Value, opens| {
        proposals.push(Proposal::new(keys(["issuers", issuer, key]), EditKind::Set(value), opens));
    };
    let has_none = matches!(settings.audiences, AcceptedAudiences::Listed { instead_of_aud: None, .. });
    if let Some((name, _)) = facts.client_claim().filter(|_| has_none) {
        let opens = format!("in every token of `{issuer}` without `aud`, `{name}` is the audience");
        set("audience_claim", name.into(), opens);
    }
    // The configuration is valid only if each route that accepts the issuer restricts claims, clients or audiences.
    let opens =
        format!("every token of `{issuer}` is accepted, for any audience and for none, as far as routes allow it");
    set("audiences", "unlimited".into(), opens);
    proposals
}

fn for_subject_claim(issuer: &str, facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let present = SUBJECTS.into_iter().filter(|name| facts.text(name).is_some());
    let proposal = |name: &'static str| {
        let kind = EditKind::Add { item: name.into(), default: Some(vec!["sub".into()]) };
        let opens = format!("in every token of `{issuer}` without another subject, `{name}` is the subject");
        Proposal::new(keys(["issuers", issuer, "subject_claim"]), kind, opens)
    };
    present.map(proposal).collect()
}

/// Claims in which issuers name a caller beside `sub` and the client.
const SUBJECTS: [&str; 8] = ["oid", "uid", "user_id", "username", "common_name", "upn", "unique_name", "email"];

/// Clocks may differ. The configuration limits by how much.
pub(super) fn for_time(facts: &TokenFacts<'_>) -> Option<Proposal> {
    let issuer = facts.external()?;
    let date = |claim: &str| NumericDate::parse(&facts.claims.get(claim)?.to_string());
    let begins = date("nbf").map(NumericDate::rounded_up).max(date("iat").map(NumericDate::rounded_up));
    let past = date("exp").map_or(0, |exp| (facts.now + 1).saturating_sub(exp.rounded_down()));
    let ahead = begins.map_or(0, |begins| begins.saturating_sub(facts.now));
    let skew = past.max(ahead).div_ceil(10) * 10;
    let opens = format!("every token of `{issuer}` counts {skew}s before it begins and {skew}s after it ends");
    Some(Proposal::new(keys(["issuers", issuer, "clock_skew"]), EditKind::Set(format!("{skew}s").into()), opens))
}
