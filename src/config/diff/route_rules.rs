//! The demands of a route on its requests, compared with those of another.

mod exchanges;

use std::collections::BTreeSet;

use foldhash::HashSet;
use http::Method;

use super::bound::{added_and_removed, direction, listed, of_bounds};
use super::change::Direction;
use super::limits::compare_limits;
use crate::clock::UnixTime;
use crate::network::Networks;
use crate::oauth::bound::TokenBinding;
use crate::oauth::caller::IssuerName;
use crate::oauth::scope::ScopeSet;
use crate::pipeline::request::path_forms::{PathForm, PathForms};
use crate::pipeline::routing::access::{Access, AccessRule, AddressRule};
use crate::pipeline::routing::method_set::STANDARD;
use crate::pipeline::routing::route::Route;
use crate::pipeline::routing::target::RouteTarget;
use crate::server::limits::Limits;
use crate::trust::claim_rule::{ClaimRule, narrows};
use exchanges::{compare_cors, compare_mirrors};

/// A change of a route. Its text stands before and after the name of the route.
#[derive(Clone, Debug)]
pub(super) struct RouteChange {
    pub(super) direction: Direction,
    pub(super) before: String,
    pub(super) after: String,
}

/// The changes so far.
#[derive(Default)]
struct RouteChanges(Vec<RouteChange>);

impl RouteChanges {
    fn add(&mut self, direction: impl Into<Option<Direction>>, text: impl AsRef<str>) {
        if let Some(direction) = direction.into() {
            let after = format!(" {}", text.as_ref());
            self.0.push(RouteChange { direction, before: "route ".to_owned(), after });
        }
    }

    fn unclear(&mut self, is_other: bool, text: &str) {
        self.add(is_other.then_some(Direction::Unclear), text);
    }

    fn changed(&mut self, is_other: bool, text: &str) {
        self.add(is_other.then_some(Direction::Changed), text);
    }
}

/// The demands of the new route on the requests that both take, compared with those of the old one. Each comes with the limits of
/// its configuration.
pub(super) fn compare_routes(
    (old, old_limits): (&Route, &Limits),
    (new, limits): (&Route, &Limits),
) -> Vec<RouteChange> {
    // The requests of a route, by name, hosts, path, methods and header fields, are compared for all routes together.
    let Route {
        name: _,
        hosts: _,
        path: _,
        path_forms,
        methods: _,
        when: _,
        target,
        access,
        // It decides about no request, and is compared for all resources.
        resource: _,
        report_until,
        from,
        limits: rate_limits,
        strip_segments,
        rewrite,
        host,
        forwarded_prefix,
        map_responses,
        request_headers,
        response_headers,
        forward_token,
        timeout,
        body_bytes,
        buffer_request,
        body_idle,
        mirror,
        cors,
        upgrades,
    } = new;
    let mut changes = RouteChanges::default();
    compare_access(&old.access, access, &mut changes);
    compare_report(old.report_until, *report_until, &mut changes);
    compare_addresses(&old.from, from, &mut changes);
    for (direction, before, after) in compare_limits(&old.limits, rate_limits) {
        changes.0.push(RouteChange { direction, before, after });
    }
    compare_targets(&old.target, target, &mut changes);
    let leads_elsewhere = old.strip_segments != *strip_segments || old.rewrite != *rewrite;
    changes.unclear(leads_elsewhere, "leads to other paths of the service");
    changes.unclear(old.host != *host, "sends another `Host` to the service");
    changes.unclear(old.request_headers != *request_headers, "sends other header fields to the service");
    if old.forward_token != *forward_token {
        let (direction, sends) =
            if *forward_token { (Direction::Wider, "sends") } else { (Direction::Narrower, "no longer sends") };
        changes.add(direction, format!("{sends} the token to the service"));
    }
    // A limit of all routes is said once.
    let is_common = old.body_bytes == old_limits.body_bytes && *body_bytes == limits.body_bytes;
    if !is_common {
        compare_body_sizes(old.body_bytes, *body_bytes, &mut changes);
    }
    compare_forms(old.path_forms, *path_forms, &mut changes);
    compare_mirrors(old.mirror.as_deref(), mirror.as_deref(), &mut changes);
    compare_cors(old.cors.as_deref(), cors.as_deref(), &mut changes);
    let [opened_before, opened] = [&old.upgrades, upgrades].map(|upgrades| upgrades.names().collect::<Vec<_>>());
    compare_lists(&opened_before, &opened, ["opens tunnels for", "no longer opens tunnels for"], &mut changes);
    let has_other_answers = old.map_responses != *map_responses || old.response_headers != *response_headers;
    changes.changed(has_other_answers, "changes answers in another way");
    changes.changed(old.forwarded_prefix != *forwarded_prefix, "sends another `X-Forwarded-Prefix`");
    let has_other_times = old.timeout != *timeout || old.body_idle != *body_idle;
    changes.changed(has_other_times, "has other timeouts");
    changes.unclear(old.buffer_request != *buffer_request, "reads bodies before it sends them in another way");
    changes.0
}

fn compare_body_sizes(old: Option<u64>, new: Option<u64>, changes: &mut RouteChanges) {
    if let Some(direction) = of_bounds(old.as_ref(), new.as_ref(), |one, other| one <= other) {
        let size = |size: Option<u64>| size.map_or_else(|| "any size".to_owned(), |bytes| format!("{bytes} bytes"));
        changes.add(direction, format!("takes bodies of {}, before {}", size(new), size(old)));
    }
}

fn compare_lists(old: &[&str], new: &[&str], [gains, loses]: [&str; 2], changes: &mut RouteChanges) {
    let (added, removed) = added_and_removed(old, new);
    if !added.is_empty() {
        changes.add(Direction::Wider, format!("{gains} {}", listed(added)));
    }
    if !removed.is_empty() {
        changes.add(Direction::Narrower, format!("{loses} {}", listed(removed)));
    }
}

fn compare_access(old: &Access, new: &Access, changes: &mut RouteChanges) {
    match (old, new) {
        (Access::Public, Access::Public) => {}
        (Access::Protected(_), Access::Public) => changes.add(Direction::Wider, "becomes public"),
        (Access::Public, Access::Protected(rule)) => {
            changes.add(Direction::Narrower, format!("is no longer public: it needs {}", rule_text(rule)));
        }
        (Access::Protected(old), Access::Protected(new)) => compare_rules(old, new, changes),
    }
}

/// Until the time, everyone may use the route.
fn compare_report(old: Option<UnixTime>, new: Option<UnixTime>, changes: &mut RouteChanges) {
    match (old, new) {
        (_, Some(until)) if old.is_none_or(|before| before < until) => {
            let text = format!("lets pass what its rule refuses, and reports it, until {}", until.to_the_second());
            changes.add(Direction::Wider, text);
        }
        (Some(before), _) if old != new => {
            let text = format!("no longer only reports what its rule refuses until {}", before.to_the_second());
            changes.add(Direction::Narrower, text);
        }
        (_, _) => {}
    }
}

fn compare_rules(old: &AccessRule, new: &AccessRule, changes: &mut RouteChanges) {
    let AccessRule { issuers, audiences, all_of, any_of, claims, clients, bound } = new;
    for scope in old.all_of.without(all_of).iter() {
        changes.add(Direction::Wider, format!("no longer needs the scope `{}`", scope.as_str()));
    }
    for scope in all_of.without(&old.all_of).iter() {
        changes.add(Direction::Narrower, format!("needs the scope `{}`", scope.as_str()));
    }
    // No scope of a list that is empty is needed.
    let [before, after] = [&old.any_of, any_of].map(|scopes| Some(scopes).filter(|scopes| !scopes.is_empty()));
    if let Some(direction) = of_bounds(before, after, |one, other| other.contains_all(one)) {
        let scopes = |scopes: &ScopeSet| listed(scopes.iter().map(|scope| scope.as_str()));
        let text = match (before, after) {
            (_, None) => format!("no longer needs one of the scopes {}", scopes(&old.any_of)),
            (None, _) => format!("needs one of the scopes {}", scopes(any_of)),
            _ => format!("needs one of the scopes {}, before one of {}", scopes(any_of), scopes(&old.any_of)),
        };
        changes.add(direction, text);
    }
    let lacking = |claims: &[ClaimRule], others: &[ClaimRule]| -> Vec<String> {
        let lacking = claims.iter().filter(|claim| !others.iter().any(|other| narrows(other, claim)));
        lacking.map(claim_text).collect()
    };
    for claim in lacking(&old.claims, claims) {
        changes.add(Direction::Wider, format!("no longer needs the claim {claim}"));
    }
    for claim in lacking(claims, &old.claims) {
        changes.add(Direction::Narrower, format!("needs the claim {claim}"));
    }
    if let Some(direction) = direction(bound.is_within(old.bound), old.bound.is_within(*bound)) {
        changes.add(direction, format!("takes a token {bound}, before one {}", old.bound));
    }
    compare_named(old.clients.as_ref().map(client_names), clients.as_ref().map(client_names), "clients", changes);
    compare_named(old.issuers.as_deref().map(issuer_names), issuers.as_deref().map(issuer_names), "issuers", changes);
    match (&old.audiences, audiences) {
        (Some(before), Some(after)) => {
            let set = |list: &[String]| list.iter().cloned().collect();
            compare_named(Some(set(before)), Some(set(after)), "audiences", changes);
        }
        (None, None) => {}
        (Some(before), None) => {
            let text = format!("takes tokens for the audiences of the issuer, before for {}", listed(before));
            changes.add(Direction::Unclear, text);
        }
        (None, Some(after)) => {
            let text = format!("takes tokens for {}, before for the audiences of the issuer", listed(after));
            changes.add(Direction::Unclear, text);
        }
    }
}

/// `None`: all are allowed.
fn compare_named(old: Option<BTreeSet<String>>, new: Option<BTreeSet<String>>, kind: &str, changes: &mut RouteChanges) {
    match (old, new) {
        (None, None) => {}
        (Some(old), None) => changes.add(Direction::Wider, format!("allows all {kind}, before {}", listed(old))),
        (None, Some(new)) => changes.add(Direction::Narrower, format!("allows the {kind} {} only", listed(new))),
        (Some(old), Some(new)) => {
            let (added, removed) = (new.difference(&old), old.difference(&new));
            let [added, removed] = [added.collect::<Vec<_>>(), removed.collect()];
            if !added.is_empty() {
                changes.add(Direction::Wider, format!("allows the {kind} {}", listed(added)));
            }
            if !removed.is_empty() {
                changes.add(Direction::Narrower, format!("no longer allows the {kind} {}", listed(removed)));
            }
        }
    }
}

fn client_names(clients: &HashSet<(IssuerName, String)>) -> BTreeSet<String> {
    let name = |(issuer, id): &(IssuerName, String)| match issuer.as_str() {
        IssuerName::OWN => id.clone(),
        issuer => format!("{issuer}/{id}"),
    };
    clients.iter().map(name).collect()
}

fn issuer_names(issuers: &[IssuerName]) -> BTreeSet<String> {
    issuers.iter().map(|issuer| issuer.as_str().to_owned()).collect()
}

pub(super) fn claim_text(claim: &ClaimRule) -> String {
    let values: Vec<String> = claim.values.iter().map(ToString::to_string).collect();
    format!("`{}={}`", claim.path, values.join("|"))
}

fn compare_addresses(old: &AddressRule, new: &AddressRule, changes: &mut RouteChanges) {
    let AddressRule { allow, deny } = new;
    let is_within = |one: &Networks, other: &Networks| other.contains_all(one);
    let text = |networks: &Option<Networks>, none: &str| networks.as_ref().map_or(none.to_owned(), Networks::to_string);
    if let Some(direction) = of_bounds(old.allow.as_ref(), allow.as_ref(), is_within) {
        let [before, after] = [&old.allow, allow].map(|networks| text(networks, "anywhere"));
        changes.add(direction, format!("may be used from {after}, before from {before}"));
    }
    // The more is denied, the narrower.
    if let Some(direction) = of_bounds(old.deny.as_ref(), deny.as_ref(), |one, other| one.contains_all(other)) {
        let direction = match (&old.deny, deny) {
            (Some(_), None) => Direction::Wider,
            (None, Some(_)) => Direction::Narrower,
            (Some(_), Some(_)) | (None, None) => direction,
        };
        let [before, after] = [&old.deny, deny].map(|networks| text(networks, "nowhere"));
        changes.add(direction, format!("is denied from {after}, before from {before}"));
    }
}

fn compare_targets(old: &RouteTarget, new: &RouteTarget, changes: &mut RouteChanges) {
    let names = |target: &RouteTarget| -> BTreeSet<String> {
        target.upstreams().map(|upstream| upstream.name.to_string()).collect()
    };
    let (before, after) = (names(old), names(new));
    let [gained, lost] = [after.difference(&before).collect::<Vec<_>>(), before.difference(&after).collect()];
    if !gained.is_empty() {
        changes.add(Direction::Wider, format!("leads to the upstream {}", listed(gained)));
    }
    if !lost.is_empty() {
        changes.add(Direction::Narrower, format!("no longer leads to the upstream {}", listed(lost)));
    }
    match (old, new) {
        (RouteTarget::Own(old), RouteTarget::Own(new)) => {
            changes.changed(old != new, &format!("answers {new}, before {old}"));
        }
        (RouteTarget::Split(old), RouteTarget::Split(new)) => {
            changes.changed(!old.is_alike(new), "shares out its requests in another way");
        }
        (RouteTarget::Upstream(_), RouteTarget::Upstream(_)) => {}
        (RouteTarget::Upstream(_) | RouteTarget::Split(_), RouteTarget::Own(new)) => {
            changes.add(Direction::Changed, format!("answers {new}"));
        }
        // It is said which upstreams are gained.
        (RouteTarget::Own(_), RouteTarget::Upstream(_) | RouteTarget::Split(_)) => {}
        (RouteTarget::Upstream(_), RouteTarget::Split(_)) | (RouteTarget::Split(_), RouteTarget::Upstream(_)) => {
            changes.add(Direction::Changed, "shares out its requests in another way");
        }
    }
}

fn compare_forms(old: PathForms, new: PathForms, changes: &mut RouteChanges) {
    let names = |forms: PathForms| -> Vec<&'static str> { forms.iter().map(PathForm::as_str).collect() };
    let texts = ["takes paths of the form", "no longer takes paths of the form"];
    compare_lists(&names(old), &names(new), texts, changes);
}

/// Whether both take the same methods, and have the same conditions on header fields. The order makes no difference.
pub(super) fn has_same_requests(old: &Route, new: &Route) -> bool {
    let set = |route: &'_ Route| route.methods.names().map(str::to_owned).collect::<BTreeSet<_>>();
    set(old) == set(new) && old.when == new.when
}

/// The name of a route, with its path unless the name has it.
pub(super) fn route_text(route: &Route) -> String {
    let path = path_text(route);
    if route.name.ends_with(&path) { route.name.clone() } else { format!("`{}` ({path})", route.name) }
}

pub(super) fn path_text(route: &Route) -> String {
    let hosts: Vec<String> = route.hosts.iter().map(ToString::to_string).collect();
    let when = route.when.as_ref().map(|when| format!(" [{when}]")).unwrap_or_default();
    format!("{}{}{when}", hosts.join("|"), route.path)
}

/// The methods and a space, unless these are all. HEAD follows GET, so that it goes without saying.
pub(super) fn methods_text<'m>(names: impl Iterator<Item = &'m str>) -> String {
    let mut names: Vec<&str> = names.collect();
    let place = |name: &str| STANDARD.iter().position(|method| method.as_str() == name).unwrap_or(STANDARD.len());
    names.sort_unstable_by_key(|name| (place(name), *name));
    if names.iter().copied().eq(STANDARD.iter().map(Method::as_str)) {
        return String::new();
    }
    let has_get = names.contains(&"GET");
    names.retain(|name| *name != "HEAD" || !has_get);
    format!("{} ", names.join(","))
}

pub(super) fn access_text(route: &Route) -> String {
    match &route.access {
        Access::Public => "public".to_owned(),
        Access::Protected(rule) => match route.report_until {
            None => format!("for {}", rule_text(rule)),
            Some(until) => {
                let until = until.to_the_second();
                format!("for {}; until {until} it lets pass what this refuses, and reports it", rule_text(rule))
            }
        },
    }
}

fn rule_text(rule: &AccessRule) -> String {
    let AccessRule { issuers, audiences, all_of, any_of, claims, clients, bound } = rule;
    let mut parts: Vec<String> = all_of.iter().map(|scope| format!("the scope `{}`", scope.as_str())).collect();
    if !any_of.is_empty() {
        parts.push(format!("one of the scopes {}", listed(any_of.iter().map(|scope| scope.as_str()))));
    }
    parts.extend(claims.iter().map(|claim| format!("the claim {}", claim_text(claim))));
    parts.extend(clients.iter().map(|clients| format!("one of the clients {}", listed(client_names(clients)))));
    parts.extend(issuers.iter().map(|issuers| format!("one of the issuers {}", listed(issuer_names(issuers)))));
    parts.extend(audiences.iter().map(|audiences| format!("one of the audiences {}", listed(audiences))));
    parts.extend((*bound != TokenBinding::None).then(|| format!("a token {bound}")));
    if parts.is_empty() { "any valid token".to_owned() } else { parts.join(", ") }
}
