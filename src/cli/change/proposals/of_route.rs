//! Changes of the rules of a route, and of the audiences and addresses behind them.

use serde_json::Value;

use super::super::proposal::{Proposal, TokenFacts, add, keys, route_keys};
use crate::trust::scope_claim::claim_at;

pub(super) fn for_route_issuer(facts: &TokenFacts<'_>) -> Option<Proposal> {
    let name = facts.settings?.name.as_str();
    let opens = format!("the route accepts the tokens of `{name}`, as far as its other rules do");
    Some(Proposal::new(route_keys(facts.route?, ["access", "issuers"]), add(name), opens))
}

/// The route's own audiences, then those of the issuer.
pub(super) fn for_audience(facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let (Some(audience), Some(settings)) = (facts.audience(), facts.settings) else { return Vec::new() };
    let name = settings.name.as_str();
    let of_its_route = facts.route.map(|route| {
        let opens = "the route accepts tokens of its issuers for this audience".to_owned();
        Proposal::new(route_keys(route, ["access", "audiences"]), add(audience), opens)
    });
    let of_issuer = match facts.external() {
        Some(_) => {
            let opens = format!(
                "every token of `{name}` for this audience is accepted on each route without `access.audiences`"
            );
            Proposal::new(keys(["issuers", name, "audiences"]), add(audience), opens)
        }
        None => {
            let opens = "tokens of our own for this audience are accepted, and clients may request them";
            Proposal::new(keys(["oauth", "audiences"]), add(audience), opens)
        }
    };
    of_its_route.into_iter().chain([of_issuer]).collect()
}

pub(super) fn for_claim(path: &str, facts: &TokenFacts<'_>) -> Option<Proposal> {
    let value = match claim_at(&facts.claims, path)? {
        Value::Array(list) => list.first()?,
        value => value,
    };
    let opens = format!("the route accepts every caller with this value of `{path}`");
    Some(Proposal::new(route_keys(facts.route?, ["access", "claims", path]), add(value.clone()), opens))
}

pub(super) fn for_client(facts: &TokenFacts<'_>) -> Option<Proposal> {
    let client = facts.client.as_deref()?;
    let item = facts.external().map_or_else(|| client.to_owned(), |issuer| format!("{issuer}/{client}"));
    let opens = "the route accepts this client, as far as its other rules do";
    Some(Proposal::new(route_keys(facts.route?, ["access", "clients"]), add(item), opens))
}

/// The list of the route, then that of the client.
pub(super) fn for_address(facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let Some(from) = facts.from else { return Vec::new() };
    let of_its_route = facts.route.map(|route| {
        let opens = "the route may be used from this address, by each of its callers";
        Proposal::new(route_keys(route, ["allow_from"]), add(from.to_string()), opens)
    });
    let of_client = facts.client.as_deref().map(|client| {
        let opens = "the client may use the gateway from this address";
        Proposal::new(keys(["oauth", "clients", client, "allow_from"]), add(from.to_string()), opens)
    });
    of_its_route.into_iter().chain(of_client).collect()
}
