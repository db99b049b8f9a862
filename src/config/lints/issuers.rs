//! `unbounded-issuer`

use super::LintInput;
use crate::config::lint::Lint;
use crate::config::warning::Warning;
use crate::pipeline::routing::access::AccessRule;
use crate::trust::issuer::IssuerSettings;

/// External issuers without `allow_scopes`, if a route that takes their tokens asks for a scope.
pub(super) fn unbounded(input: &LintInput<'_>) -> Vec<Warning> {
    let issuers = input.config.issuers.iter().zip(&input.places.issuers);
    let is_unbounded = |settings: &IssuerSettings| settings.allow_scopes.is_none() && settings.authenticates_requests();
    let unbounded = issuers.filter(|(issuer, _)| is_unbounded(&issuer.settings)).filter_map(|(issuer, parts)| {
        let name = &issuer.settings.name;
        input.rules().find(|rule| asks_for_scopes(rule) && rule.takes_issuer(name))?;
        let quoted = input.quoted(parts.name, "this issuer");
        let message = format!(
            "issuer {quoted} may grant every scope that a route asks for, also one that is meant for other callers: list \
             those that it may grant in `allow_scopes`"
        );
        Some(input.warning(Lint::UnboundedIssuer, parts.name, message))
    });
    unbounded.collect()
}

fn asks_for_scopes(rule: &AccessRule) -> bool {
    !rule.all_of.is_empty() || !rule.any_of.is_empty()
}
