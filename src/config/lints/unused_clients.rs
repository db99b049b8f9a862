//! `unused-client`

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::LintInput;
use crate::config::lint::Lint;
use crate::config::warning::Warning;
use crate::issuer::client::Client;
use crate::oauth::caller::IssuerName;
use crate::pipeline::routing::access::AccessRule;

/// Clients of the gateway that no rule accepts, whatever scopes they request.
pub(super) fn unused(input: &LintInput<'_>) -> Vec<Warning> {
    // Without protected routes, the tokens are for other services.
    if input.rules().next().is_none() {
        return Vec::new();
    }
    let index = RuleIndex::new(input);
    let clients = input.config.oauth.iter().flat_map(|oauth| &oauth.clients).zip(&input.places.clients);
    let unused = clients.filter(|(client, _)| !index.accepts(client)).map(|(_, parts)| {
        let name = input.source.quote_key(parts.name).unwrap_or_else(|| "this client".to_owned());
        let message = format!(
            "no route accepts {name}: each asks for scopes that it does not have, or for other clients or issuers; give it \
             the scopes of a route, or remove it"
        );
        input.warning(Lint::UnusedClient, parts.name, message)
    });
    unused.collect()
}

/// The rules that take tokens of our own clients, so that each of many clients is compared with few of many rules.
#[derive(Default)]
pub(super) struct RuleIndex<'i> {
    /// A rule accepts every client.
    has_open: bool,
    /// Rules for these clients alone.
    by_client: HashMap<&'i str, Vec<&'i AccessRule>>,
    /// Other rules, by a scope that they ask for.
    by_scope: HashMap<&'i str, Vec<&'i AccessRule>>,
}

impl<'i> RuleIndex<'i> {
    pub(super) fn new(input: &'i LintInput<'_>) -> Self {
        let (own, mut seen, mut index) = (IssuerName::own(), HashSet::new(), Self::default());
        let rules = input.rules().filter(|rule| seen.insert(Arc::as_ptr(rule)) && rule.takes_issuer(&own));
        for rule in rules {
            let first = rule.all_of.iter().next();
            match (&rule.clients, first) {
                (Some(clients), _) => {
                    for (_, id) in clients.iter().filter(|(issuer, _)| *issuer == own) {
                        index.by_client.entry(id).or_default().push(rule);
                    }
                }
                (None, Some(scope)) => index.by_scope.entry(scope.as_str()).or_default().push(rule),
                (None, None) if rule.any_of.is_empty() => index.has_open = true,
                (None, None) => {
                    rule.any_of.iter().for_each(|scope| index.by_scope.entry(scope.as_str()).or_default().push(rule));
                }
            }
        }
        index
    }

    /// Whether a rule may accept a token of this client.
    pub(super) fn accepts(&self, client: &Client) -> bool {
        let suffice = |rules: &Vec<&AccessRule>| rules.iter().any(|rule| rule.takes_scopes(&client.scopes));
        self.has_open
            || self.by_client.get(client.id.as_str()).is_some_and(suffice)
            || client.scopes.iter().any(|scope| self.by_scope.get(scope.as_str()).is_some_and(suffice))
    }
}
