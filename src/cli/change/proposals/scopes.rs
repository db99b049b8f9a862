//! Changes of the keys that say which scopes a token has: `scope_claim` and `allow_scopes`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::super::proposal::{Proposal, TokenFacts, add, keys};
use crate::config::edit::EditKind;
use crate::oauth::scope::Scope;
use crate::pipeline::routing::access::Access;
use crate::trust::scope_claim::AUTO;

pub(super) fn for_scope(scope: &str, facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let Some(issuer) = facts.external() else { return Vec::new() };
    let opens = format!("every token of `{issuer}` may have this scope");
    let mut proposals = vec![Proposal::new(keys(["issuers", issuer, "allow_scopes"]), add(scope), opens)];
    let Some(path) = claim_with(&facts.claims, scope, MAX_CLAIM_DEPTH) else { return proposals };
    let name = path.join(".");
    // A path whose names have dots is written as a list.
    let item = if path.len() > 1 && path.iter().any(|name| name.contains('.')) { json!(path) } else { json!(name) };
    let current = AUTO.into_iter().find(|auto| facts.claims.get(*auto).is_some_and(|value| !value.is_null()));
    let default: Vec<Value> = current.map(Value::from).into_iter().collect();
    let all: Vec<Value> = default.iter().cloned().chain([item.clone()]).collect();
    let opens = format!("every value of `{name}` in tokens of `{issuer}` is a scope too, on all routes");
    // `scope_claim: auto` has to be replaced.
    for kind in [EditKind::Add { item, default: Some(default) }, EditKind::Set(all.into())] {
        proposals.push(Proposal::new(keys(["issuers", issuer, "scope_claim"]), kind, &*opens));
    }
    proposals
}

/// The scopes that routes ask for, and no others.
pub(super) fn for_many_scopes(facts: &TokenFacts<'_>) -> Option<Proposal> {
    let (issuer, settings) = (facts.external()?, facts.settings?);
    let routes = facts.snapshot.routes.routes().iter();
    let rules = routes.filter_map(|route| match &route.access {
        Access::Public => None,
        Access::Protected(rule) => Some(rule),
    });
    let asked: BTreeSet<&str> =
        rules.flat_map(|rule| rule.all_of.iter().chain(rule.any_of.iter())).map(Scope::as_str).collect();
    if settings.allow_scopes.is_some() || asked.is_empty() {
        return None;
    }
    let opens = format!("tokens of `{issuer}` keep only these scopes, which routes ask for; services get no others");
    Some(Proposal::new(keys(["issuers", issuer, "allow_scopes"]), EditKind::Set(json!(asked)), opens))
}

pub(super) fn scope_claim_set(issuer: &str, name: &str) -> Proposal {
    let opens = format!(
        "every value of `{name}` in tokens of `{issuer}` is a scope, on all routes, and those of other claims are not"
    );
    Proposal::new(keys(["issuers", issuer, "scope_claim"]), EditKind::Set(name.into()), opens)
}

/// The path of the claim that has this scope: as text, in a list, or as a key of an object.
fn claim_with(claims: &Map<String, Value>, scope: &str, depth: usize) -> Option<Vec<String>> {
    let has_scope = |value: &Value| match value {
        Value::String(text) => text.split(' ').any(|item| item == scope),
        Value::Array(list) => list.iter().any(|item| item == scope),
        Value::Object(members) => members.contains_key(scope),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    let candidates = || claims.iter().filter(|(name, _)| depth < MAX_CLAIM_DEPTH || !NO_SCOPES.contains(&&***name));
    if let Some((name, _)) = candidates().find(|(_, value)| has_scope(value)) {
        return Some(vec![name.clone()]);
    }
    candidates().filter(|_| depth > 1).find_map(|(name, value)| {
        let mut path = claim_with(value.as_object()?, scope, depth - 1)?;
        path.insert(0, name.clone());
        Some(path)
    })
}

const MAX_CLAIM_DEPTH: usize = 4;
/// Claims whose values are no scopes, even if a scope has the same text.
const NO_SCOPES: [&str; 12] =
    ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "azp", "appid", "cid", "tid"];
