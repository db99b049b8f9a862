//! `no-known-host`

use super::LintInput;
use crate::config::lint::Lint;
use crate::config::types::ListenerKind;
use crate::config::warning::Warning;
use crate::oauth::bound::TokenBinding;
use crate::pipeline::routing::access::Access;

/// Routes for DPoP proofs that count at every host, because nothing says which hosts are ours.
pub(super) fn unknown(input: &LintInput<'_>) -> Vec<Warning> {
    let config = input.config;
    let has_certificate = |kind: &ListenerKind| matches!(kind, ListenerKind::Tls { .. });
    let is_known = config.oauth.is_some()
        || !config.resources.all().is_empty()
        || config.listeners.iter().any(|listener| has_certificate(&listener.kind));
    if is_known {
        return Vec::new();
    }
    let routes = config.routes.routes().iter().zip(&input.places.routes).filter(|(route, _)| route.hosts.is_empty());
    let unknown = routes.filter_map(|(route, parts)| match &route.access {
        Access::Protected(rule) if matches!(rule.bound, TokenBinding::Dpop | TokenBinding::Either) => {
            let message = "a proof for any host counts at this route, so that another server can hand on the proofs \
                           that it gets: name its `hosts`, or a `resource`";
            Some(input.warning(Lint::NoKnownHost, parts.place.path, message))
        }
        Access::Protected(_) | Access::Public => None,
    });
    unknown.collect()
}
