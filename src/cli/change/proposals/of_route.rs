//! Changes of the rules of a route, and of the audiences and addresses behind them.

use serde_json::{Value, json};

use super::super::proposal::{Proposal, TokenFacts, add, keys, route_keys};
use crate::config::edit::EditKind;
use crate::pipeline::routing::access::Access;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::claim_rule::WantedValue;
use crate::trust::scope_claim::claim_at;

pub(super) fn for_route_issuer(facts: &TokenFacts<'_>) -> Option<Proposal> {
    let name = facts.settings?.name.as_str();
    let opens = format!("the route accepts the tokens of `{name}`, as far as its other rules do");
    Some(Proposal::new(route_keys(facts.route?, ["access", "issuers"]), add(name), opens))
}

/// The route's own audiences, then those of the issuer.
pub(super) fn for_audience(facts: &TokenFacts<'_>) -> Vec<Proposal> {
    let Some(audience) = facts.audience() else { return Vec::new() };
    let Some(settings) = facts.settings else {
        return facts.candidates().map(|settings| of_one_entry(settings.name.as_str(), audience)).collect();
    };
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
            let kind = add(audience);
            (settings.audiences != AcceptedAudiences::Unlimited)
                .then(|| Proposal::new(keys(["issuers", name, "audiences"]), kind, opens))
        }
        None => {
            let opens = "tokens of our own for this audience are accepted, and clients may request them";
            Some(Proposal::new(keys(["oauth", "audiences"]), add(audience), opens))
        }
    };
    of_its_route.into_iter().chain(of_issuer).collect()
}

/// Of several entries for one issuer, the token gets this one.
fn of_one_entry(name: &str, audience: &str) -> Proposal {
    let opens = format!(
        "every token of this issuer for this audience belongs to `{name}`, and is accepted on each route without \
         `access.audiences`"
    );
    Proposal::new(keys(["issuers", name, "audiences"]), add(audience), opens)
}

/// One more value, in the list or beside the pattern that is there.
pub(super) fn for_claim(path: &str, facts: &TokenFacts<'_>) -> Option<Vec<Proposal>> {
    let value = match claim_at(&facts.claims, path)? {
        Value::Array(list) => list.first()?,
        value => value,
    };
    // Every token without the claim's real value would have it.
    if value.is_null() || value == "" {
        return None;
    }
    let route = facts.route?;
    let Access::Protected(rule) = &facts.snapshot.routes.routes().get(route.0)?.access else { return None };
    let rule = rule.claims.iter().find(|rule| rule.path == path)?;
    let mut all: Vec<Value> = rule.values.iter().map(written).collect();
    let added = written(&WantedValue::Equal(value.clone()));
    all.push(added.clone());
    let opens = format!("the route accepts every caller with this value of `{path}`");
    let path = || route_keys(route, ["access", "claims", path]);
    let proposal = |kind| Proposal::new(path(), kind, &*opens);
    Some([add(added), EditKind::Set(all.into())].into_iter().map(proposal).collect())
}

/// As in the configuration.
fn written(value: &WantedValue) -> Value {
    match value {
        WantedValue::Equal(Value::String(text)) if text.contains('*') => json!({ "exact": text }),
        WantedValue::Equal(value) => value.clone(),
        WantedValue::Glob(pattern) => json!({ "glob": pattern.to_string() }),
    }
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
