//! `unknown-scope` and `unused-scope`: scopes that rules ask for, and scopes that callers have.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::LintInput;
use super::unused_clients::RuleIndex;
use crate::config::lint::Lint;
use crate::config::source::{At, Span};
use crate::config::suggest;
use crate::config::warning::Warning;
use crate::oauth::caller::IssuerName;
use crate::oauth::scope::ScopeSet;
use crate::pipeline::routing::access::{Access, AccessRule};

/// Scopes of rules that no client and no issuer can have. Each is reported once.
pub(super) fn unknown(input: &LintInput<'_>) -> Vec<Warning> {
    let of_clients = input.config.oauth.iter().flat_map(|oauth| &oauth.clients).flat_map(|client| client.scopes.iter());
    let of_clients: HashSet<&str> = of_clients.map(|scope| scope.as_str()).collect();
    let of_static = input.config.static_tokens.iter().flat_map(|token| token.scopes.iter());
    let of_static: HashSet<&str> = of_static.map(|scope| scope.as_str()).collect();
    let written = written_out(input);
    let (mut found, mut reported) = (Vec::new(), HashSet::new());
    for (route, parts) in input.config.routes.routes().iter().zip(&input.places.routes) {
        let Access::Protected(rule) = &route.access else { continue };
        // An issuer without a bound may grant any scope.
        let Some(bounds) = bounds(input, rule).filter(|_| !parts.scopes.is_empty()) else { continue };
        let takes_clients = rule.takes_issuer(&IssuerName::own());
        // The clients in the database may have any scope.
        if takes_clients && input.config.oauth.as_ref().is_some_and(|oauth| oauth.stored.is_some()) {
            continue;
        }
        let takes_static = rule.takes_static_tokens();
        let is_known = |scope: &str| {
            takes_clients && of_clients.contains(scope)
                || takes_static && of_static.contains(scope)
                || bounds.iter().any(|bound| bound.contains_name(scope))
        };
        for scope in &parts.scopes {
            if !is_known(&scope.value) && reported.insert(&scope.value) {
                let known: Vec<&str> = written.iter().copied().filter(|scope| is_known(scope)).collect();
                found.push(unknown_scope(input, scope, &known));
            }
        }
    }
    found
}

/// Scopes of clients and issuers that no rule asks for. Each is reported once for all clients.
pub(super) fn unused(input: &LintInput<'_>) -> Vec<Warning> {
    // Without protected routes, the tokens are for other services.
    if input.rules().next().is_none() {
        return Vec::new();
    }
    let mut found = unused_by_clients(input);
    for (issuer, parts) in input.config.issuers.iter().zip(&input.places.issuers) {
        let asked = asked_of(input, &issuer.settings.name);
        for scope in parts.scopes.iter().filter(|scope| !asked.contains(&*scope.value)) {
            let message = format!(
                "no route asks for {}, which this issuer may grant: remove it from `allow_scopes`, or ask for it in \
                 `access.scopes` of a route",
                input.quoted(scope.span, "this scope"),
            );
            found.push(input.warning(Lint::UnusedScope, scope.span, message));
        }
    }
    found
}

fn unused_by_clients(input: &LintInput<'_>) -> Vec<Warning> {
    let (asked, index) = (asked_of(input, &IssuerName::own()), RuleIndex::new(input));
    let mut unused: Vec<(Span, usize)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let clients = input.config.oauth.iter().flat_map(|oauth| &oauth.clients).zip(&input.places.clients);
    // A client that no route accepts is reported as a whole.
    for (_, parts) in clients.filter(|(client, _)| index.accepts(client)) {
        for scope in parts.scopes.iter().filter(|scope| !asked.contains(&*scope.value)) {
            match places.get(&*scope.value) {
                Some(place) => unused[*place].1 += 1,
                None => {
                    places.insert(&scope.value, unused.len());
                    unused.push((scope.span, 0));
                }
            }
        }
    }
    let warnings = unused.iter().map(|(span, others)| {
        let others = match others {
            0 => "this client has".to_owned(),
            1 => "this client and 1 other have".to_owned(),
            many => format!("this client and {many} others have"),
        };
        let scope = input.quoted(*span, "the scope");
        let message =
            format!("no route asks for {scope} that {others}: remove it, or ask for it in `access.scopes` of a route");
        input.warning(Lint::UnusedScope, *span, message)
    });
    warnings.collect()
}

/// The scopes that the rules ask for which take tokens of this issuer.
fn asked_of<'i>(input: &'i LintInput<'_>, issuer: &IssuerName) -> HashSet<&'i str> {
    let rules = input.rules().filter(|rule| rule.takes_issuer(issuer));
    rules.flat_map(|rule| rule.all_of.iter().chain(rule.any_of.iter())).map(|scope| scope.as_str()).collect()
}

/// The scopes that the external issuers of a rule may grant. `None`: one may grant any.
fn bounds<'i>(input: &'i LintInput<'_>, rule: &AccessRule) -> Option<Vec<&'i ScopeSet>> {
    let issuers = input.config.issuers.iter().map(|issuer| &issuer.settings);
    let bearers = issuers.filter(|issuer| issuer.authenticates_requests() && rule.takes_issuer(&issuer.name));
    bearers.map(|issuer| issuer.allow_scopes.as_ref()).collect()
}

fn unknown_scope(input: &LintInput<'_>, scope: &At<String>, known: &[&str]) -> Warning {
    let quoted = input.quoted(scope.span, "this scope");
    let way_out = match suggest::closest(&scope.value, known).filter(|_| !input.source.has_references(scope.span)) {
        Some(meant) => format!(", did you mean `{meant}`?"),
        None => ": correct it, or give it to a client or to `allow_scopes` of an issuer".to_owned(),
    };
    let message = format!("no client and no issuer of this route can have the scope {quoted}{way_out}");
    input.warning(Lint::UnknownScope, scope.span, message)
}

/// The scopes of clients and issuers that are texts of the file, not values of variables.
fn written_out<'i>(input: &'i LintInput<'_>) -> BTreeSet<&'i str> {
    let of_clients = input.places.clients.iter().flat_map(|client| &client.scopes);
    let of_issuers = input.places.issuers.iter().flat_map(|issuer| &issuer.scopes);
    let scopes = of_clients.chain(of_issuers).filter(|scope| !input.source.has_references(scope.span));
    scopes.map(|scope| scope.value.as_str()).collect()
}
