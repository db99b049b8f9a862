//! Changes of the keys that say which scopes a token has: `scope_claim` and `allow_scopes`.

use serde_json::{Map, Value, json};

use super::super::proposal::{Proposal, TokenFacts, add, keys};
use crate::config::edit::EditKind;
use crate::trust::scope_claim::AUTO;

pub(super) fn for_scope(scope: &str, facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let Some(issuer) = facts.external() else { return Vec::new() };
    let opens = format!("every token of `{issuer}` may have this scope");
    let mut proposals = vec![Proposal::new(keys(["issuers", issuer, "allow_scopes"]), add(scope), opens)];
    let Some(path) = claim_with(&facts.claims, scope, MAX_CLAIM_DEPTH) else { return proposals };
    let is_dotted = path.iter().any(|name| name.contains('.'));
    let name = path.join(".");
    let item = if is_dotted { json!(path) } else { json!(name) };
    let current = AUTO.into_iter().find(|auto| facts.claims.contains_key(*auto));
    let default = current.map(Value::from).into_iter().collect();
    let opens = format!("every value of `{name}` in tokens of `{issuer}` is a scope too, on all routes");
    let kind = EditKind::Add { item, default: Some(default) };
    proposals.push(Proposal::new(keys(["issuers", issuer, "scope_claim"]), kind, opens));
    if path.len() == 1 || !is_dotted {
        proposals.push(scope_claim_set(issuer, &name));
    }
    proposals
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
