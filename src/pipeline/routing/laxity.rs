//! Whether one route is at least as strict as another.
//!
//! Pure. A route is at least as strict if every request that passes its address rule and its access rule would pass
//! those of the other as well. The rules themselves are compared, part by part; where they can't be compared, the
//! answer is no. Limits and report mode are compared where the caller could choose between the two routes on one path;
//! paths are not compared.

use std::fmt;

use super::access::{Access, AccessRule, AddressRule, ClaimRule};
use super::rate_limit::RateLimit;
use super::route::Route;
use crate::clock::UnixTime;
use crate::network::Networks;
use crate::oauth::bound::TokenBinding;

/// The requests that a route admits and another would refuse: the first part of the rules that is weaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Laxity {
    NoToken,
    Scope(String),
    AnyScope(String),
    Claim(String),
    Clients,
    Issuers,
    Audiences,
    Bound(TokenBinding),
    AllowFrom,
    DenyFrom,
    Methods(Vec<String>),
    /// Until this time its rule refuses nothing.
    Report(UnixTime),
    /// Beyond the limit of this name.
    Limit(String),
}

/// `None`: `route` is at least as strict as `other`.
pub(crate) fn laxity(route: &Route, other: &Route) -> Option<Laxity> {
    of_access(&route.access, &other.access).or_else(|| of_addresses(&route.from, &other.from))
}

/// `None`: `route` is at least as strict as `other` in its limits and its report mode too.
pub(crate) fn laxity_in_full(route: &Route, other: &Route) -> Option<Laxity> {
    let of_report = || match (route.report_until, other.report_until) {
        (Some(until), None) => Some(Laxity::Report(until)),
        (Some(until), Some(other)) if until > other => Some(Laxity::Report(until)),
        (None | Some(_), _) => None,
    };
    laxity(route, other).or_else(of_report).or_else(|| of_limits(&route.limits, &other.limits))
}

/// Each limit of the other has one that lets through no more, by the same key, and counts together with the same.
fn of_limits(limits: &[RateLimit], other: &[RateLimit]) -> Option<Laxity> {
    let is_within = |own: &RateLimit, other: &RateLimit| {
        own.per == other.per
            && own.rate.is_at_most(&other.rate)
            && (other.shared.is_none() || own.shared == other.shared)
    };
    let lacking = other.iter().find(|other| !limits.iter().any(|own| is_within(own, other)));
    lacking.map(|limit| Laxity::Limit(limit.name.clone()))
}

fn of_access(access: &Access, other: &Access) -> Option<Laxity> {
    match (access, other) {
        (_, Access::Public) => None,
        (Access::Public, Access::Protected(_)) => Some(Laxity::NoToken),
        (Access::Protected(rule), Access::Protected(other)) => of_rule(rule, other),
    }
}

fn of_rule(rule: &AccessRule, other: &AccessRule) -> Option<Laxity> {
    // A new part does not compile until it is compared.
    let AccessRule { issuers, audiences, all_of, any_of: _, claims, clients, bound } = other;
    let lacking = all_of.without(&rule.all_of);
    if !lacking.is_empty() {
        return Some(Laxity::Scope(lacking.to_string()));
    }
    if !any_scope_holds(rule, other) {
        return Some(Laxity::AnyScope(other.any_of.to_string()));
    }
    if let Some(claim) = claims.iter().find(|claim| !rule.claims.iter().any(|own| narrows(own, claim))) {
        return Some(Laxity::Claim(claim.path.clone()));
    }
    if is_wider(rule.clients.as_ref(), clients.as_ref(), |own, other| own.is_subset(other)) {
        return Some(Laxity::Clients);
    }
    if is_wider(rule.issuers.as_ref(), issuers.as_ref(), |own, other| are_all_in(own, other)) {
        return Some(Laxity::Issuers);
    }
    if is_wider(rule.audiences.as_ref(), audiences.as_ref(), |own, other| are_all_in(own, other)) {
        return Some(Laxity::Audiences);
    }
    if !rule.bound.is_within(*bound) {
        return Some(Laxity::Bound(other.bound));
    }
    None
}

/// A part that is absent requires nothing.
fn is_wider<T>(own: Option<&T>, other: Option<&T>, is_within: impl Fn(&T, &T) -> bool) -> bool {
    other.is_some_and(|other| !own.is_some_and(|own| is_within(own, other)))
}

fn are_all_in<T: PartialEq>(own: &[T], other: &[T]) -> bool {
    own.iter().all(|item| other.contains(item))
}

/// Every caller that passes `rule` has one of the scopes that `other` requires.
fn any_scope_holds(rule: &AccessRule, other: &AccessRule) -> bool {
    let chosen_from = !rule.any_of.is_empty() && rule.any_of.without(&other.any_of).is_empty();
    other.any_of.is_empty() || rule.all_of.contains_any(&other.any_of) || chosen_from
}

/// Every token that has the claim as `own` wants it has it as `other` does.
pub(crate) fn narrows(own: &ClaimRule, other: &ClaimRule) -> bool {
    own.path == other.path && own.values.iter().all(|value| other.values.iter().any(|wider| wider.covers(value)))
}

fn of_addresses(rule: &AddressRule, other: &AddressRule) -> Option<Laxity> {
    if is_wider(rule.allow.as_ref(), other.allow.as_ref(), |own, other| other.contains_all(own)) {
        return Some(Laxity::AllowFrom);
    }
    if is_wider(rule.deny.as_ref(), other.deny.as_ref(), Networks::contains_all) {
        return Some(Laxity::DenyFrom);
    }
    None
}

/// Completes the message "takes requests …".
impl fmt::Display for Laxity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("without a token"),
            Self::Scope(scope) => write!(f, "without the scope `{scope}`"),
            Self::AnyScope(scopes) => write!(f, "without one of the scopes `{scopes}`"),
            Self::Claim(path) => write!(f, "without the same values of the claim `{path}`"),
            Self::Clients => f.write_str("of more `clients`"),
            Self::Issuers => f.write_str("with tokens of more `issuers`"),
            Self::Audiences => f.write_str("with tokens for more `audiences`"),
            Self::Bound(bound) => write!(f, "without a token {bound}"),
            Self::AllowFrom => f.write_str("from outside the `allow_from`"),
            Self::DenyFrom => f.write_str("from inside the `deny_from`"),
            Self::Methods(methods) => write!(f, "by {}", methods.join(", ")),
            Self::Report(until) => {
                write!(f, "against its rule until {}, which it only reports,", until.to_the_second())
            }
            Self::Limit(name) => write!(f, "beyond the limit `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::route::tests::route;
    use std::sync::Arc;

    use super::*;
    use crate::network::Network;
    use crate::oauth::caller::IssuerName;
    use crate::oauth::scope::ScopeSet;
    use crate::oauth::segment_pattern::SegmentPattern;
    use crate::pipeline::routing::access::WantedValue;

    fn scopes(text: &str) -> ScopeSet {
        if text.is_empty() { ScopeSet::default() } else { ScopeSet::parse(text).unwrap() }
    }

    fn rule(all_of: &str, any_of: &str) -> AccessRule {
        AccessRule { all_of: scopes(all_of), any_of: scopes(any_of), ..AccessRule::default() }
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "one line of data for each case")]
    fn is(route: AccessRule, other: AccessRule, expected: Option<Laxity>) {
        assert_eq!(of_rule(&route, &other), expected);
    }

    /// A glob where the text has a `*`.
    fn wanted(text: &str) -> WantedValue {
        SegmentPattern::parse(text).map_or_else(|_| WantedValue::Equal(json!(text)), WantedValue::Glob)
    }

    #[test]
    fn a_public_route_is_laxer_than_any_protected_one() {
        let protected = || Access::Protected(Arc::default());
        assert_eq!(of_access(&Access::Public, &protected()), Some(Laxity::NoToken));
        assert_eq!(of_access(&protected(), &Access::Public), None);
        assert_eq!(of_access(&Access::Public, &Access::Public), None);
        assert_eq!(of_access(&protected(), &protected()), None);
    }

    #[test]
    fn granted_scopes_hold_for_every_bearer() {
        is(rule("a b", ""), rule("a", ""), None);
        is(rule("a", ""), rule("a b", ""), Some(Laxity::Scope("b".to_owned())));
        is(rule("a", ""), rule("", "a b"), None);
        is(rule("", "a"), rule("", "a b"), None);
        is(rule("", "a c"), rule("", "a b"), Some(Laxity::AnyScope("a b".to_owned())));
        is(rule("", ""), rule("", "a"), Some(Laxity::AnyScope("a".to_owned())));
        is(rule("", "a"), rule("a", ""), Some(Laxity::Scope("a".to_owned())));
    }

    #[test]
    fn claims_clients_issuers_and_audiences_are_compared_as_sets() {
        let claim = |values: &[&str]| AccessRule {
            claims: vec![ClaimRule {
                path: "tier".to_owned(),
                values: values.iter().map(|value| wanted(value)).collect(),
            }],
            ..AccessRule::default()
        };
        is(claim(&["gold"]), claim(&["gold", "silver"]), None);
        is(claim(&["a:b", "a:*"]), claim(&["a:*"]), None);
        is(claim(&["a:*"]), claim(&["a:b", "a:c"]), Some(Laxity::Claim("tier".to_owned())));
        is(claim(&["a:b:*"]), claim(&["a:*:*"]), None);
        is(claim(&["a:*:*"]), claim(&["a:b:*"]), Some(Laxity::Claim("tier".to_owned())));
        is(claim(&["gold", "silver"]), claim(&["gold"]), Some(Laxity::Claim("tier".to_owned())));
        is(AccessRule::default(), claim(&["gold"]), Some(Laxity::Claim("tier".to_owned())));
        let clients = |ids: &[&str]| AccessRule {
            clients: Some(ids.iter().map(|id| (IssuerName::own(), (*id).to_owned())).collect()),
            ..AccessRule::default()
        };
        is(clients(&["a"]), clients(&["a", "b"]), None);
        is(clients(&["a", "b"]), clients(&["a"]), Some(Laxity::Clients));
        is(AccessRule::default(), clients(&["a"]), Some(Laxity::Clients));
        let issuers = |names: &[&str]| AccessRule {
            issuers: Some(names.iter().map(|name| IssuerName::new(name)).collect()),
            ..AccessRule::default()
        };
        is(issuers(&["a"]), issuers(&["b", "a"]), None);
        is(AccessRule::default(), issuers(&["a"]), Some(Laxity::Issuers));
        let audiences = |names: &[&str]| AccessRule {
            audiences: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            ..AccessRule::default()
        };
        is(audiences(&["a", "b"]), audiences(&["a"]), Some(Laxity::Audiences));
    }

    #[test]
    fn addresses_are_compared_as_networks() {
        let networks = |list: &[&str]| -> Option<Networks> {
            (!list.is_empty()).then(|| list.iter().map(|text| Network::parse(text).unwrap()).collect())
        };
        let with = |allow: &[&str], deny: &[&str]| Route {
            from: AddressRule { allow: networks(allow), deny: networks(deny) },
            ..route("/x", &[], &[])
        };
        let is = |route: &Route, other: &Route, expected| assert_eq!(laxity(route, other), expected);
        let narrow = with(&["10.1.0.0/16"], &["192.0.2.0/24"]);
        is(&narrow, &with(&["10.0.0.0/8"], &["192.0.2.7/32"]), None);
        is(&with(&["10.0.0.0/8"], &[]), &narrow, Some(Laxity::AllowFrom));
        is(&with(&["10.1.0.0/16"], &[]), &narrow, Some(Laxity::DenyFrom));
        is(&with(&[], &[]), &with(&[], &["192.0.2.0/24"]), Some(Laxity::DenyFrom));
        is(&narrow, &with(&[], &[]), None);
    }
}
