//! `routes`: the requests that a route matches, its target and its access rule.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, Method};

use super::super::decode::OneOrMore;
use super::super::lint::Lint;
use super::super::raw::route::{RawAccess, RawRoute, RawRule, RawScopes};
use super::super::route_place::RoutePlace;
use super::super::source::At;
use super::super::suggest;
use super::super::values::Size;
use super::names::Names;
use super::rate_limits::CountedAt;
use super::upstreams::Upstreams;
use super::{Resolver, deadline, no_routes, period};
use crate::oauth::scope::ScopeSet;
use crate::pipeline::request::case_fold::fold;
use crate::pipeline::request::headers::is_protected;
use crate::pipeline::routing::access::{Access, AccessRule, AddressRule};
use crate::pipeline::routing::field_conditions::FieldConditions;
use crate::pipeline::routing::method_set::{MethodSet, STANDARD};
use crate::pipeline::routing::pattern::{HostPattern, PathPattern};
use crate::pipeline::routing::route::Route;
use crate::pipeline::routing::table::{Conflict, ConflictKind, RouteTable};
use crate::upstream::service::Upstream;

impl Resolver<'_> {
    pub(super) fn routes(
        &mut self,
        raw: Vec<At<RawRoute>>,
        names: &Names,
        upstreams: &Upstreams,
        body_bytes: Option<u64>,
    ) -> RouteTable {
        let (mut routes, mut places): (Vec<Arc<Route>>, Vec<RoutePlace>) = (Vec::new(), Vec::new());
        let (mut taken, mut rules): (HashMap<String, usize>, Vec<Arc<AccessRule>>) = Default::default();
        for route in raw {
            let place = RoutePlace::of(&route);
            let Some(mut route) = self.route(route, names, upstreams, body_bytes) else { continue };
            let line = self.source.line(place.path);
            if let Some(first) = taken.insert(route.name.clone(), line) {
                let message =
                    format!("the route at line {first} has the same name, and the audit log identifies routes by name");
                let message = if place.name.is_some() { message } else { format!("{message}; give one a `name`") };
                self.faults.at(place.name(), message);
            }
            share_rule(&mut route.access, &mut rules);
            routes.push(Arc::new(route));
            places.push(place);
        }
        match RouteTable::new(routes) {
            Ok(table) => {
                let table = table.reserving(names.built_in_paths());
                self.check_shared_subtrees(&table, &places);
                if self.faults.is_empty() {
                    self.places_pass_fields(&table, &places);
                }
                if self.faults.is_empty() {
                    self.warn_of_path_forms(&table, &places);
                    self.warn_of_overlaps(&table, &places);
                }
                table
            }
            Err(conflicts) => {
                conflicts.iter().for_each(|conflict| self.conflict(conflict, &places));
                no_routes()
            }
        }
    }

    fn conflict(&mut self, conflict: &Conflict, places: &[RoutePlace]) {
        let (first, second) = (places[conflict.first], places[conflict.second]);
        let line = self.source.line(first.path);
        // As written in the file: a variable may hold a secret.
        let [first, other] = [first, second].map(|place| self.source.quote(place.name()).unwrap_or_default());
        let message = match &conflict.kind {
            ConflictKind::SameRequests => format!(
                "routes {first} (line {line}) and {other} would match the same requests: make them differ in `hosts`, `path`, `methods` or `when`"
            ),
            ConflictKind::CaseOnly => format!(
                "the paths of routes {first} (line {line}) and {other} differ in upper and lower case only, and many servers ignore case: spell both in the same way, or make them differ in `hosts`"
            ),
            ConflictKind::FirstLaxer(laxity) => {
                return self.laxer_route(laxity, [places[conflict.first], places[conflict.second]]);
            }
            ConflictKind::SecondLaxer(laxity) => {
                return self.laxer_route(laxity, [places[conflict.second], places[conflict.first]]);
            }
            ConflictKind::Unequal => return self.unequal_routes([places[conflict.first], places[conflict.second]]),
        };
        self.faults.at(second.path, message);
    }

    fn route(
        &mut self,
        raw: At<RawRoute>,
        names: &Names,
        upstreams: &Upstreams,
        body_bytes: Option<u64>,
    ) -> Option<Route> {
        let At { value: raw, span } = raw;
        let hosts = raw.hosts.as_ref().map(|list| self.hosts(&list.value)).unwrap_or_default();
        let path = raw.path.as_ref().ok().and_then(|path| self.path(path, names));
        let methods = raw.methods.as_ref().map_or_else(MethodSet::all, |list| self.methods(&list.value));
        let when = self.when(&raw);
        let target = self.target(&raw, span, path.as_ref(), (names, upstreams));
        let mirror = raw.mirror.as_ref().and_then(|mirror| self.mirror(&mirror.value, names, upstreams));
        let (strip_segments, rewrite, forwarded_prefix) = self.path_change(&raw, path.as_ref());
        let path_forms = self.path_forms(&raw, path.as_ref(), rewrite.as_ref());
        let host = raw.host.as_ref().and_then(|host| self.host_rule(host));
        self.must_name_hosts(&raw, target.as_ref(), mirror.as_ref());
        self.credentials_of_upstreams(&raw, target.as_ref(), mirror.as_ref());
        let cors = raw.cors.as_ref().and_then(|cors| self.cors(&cors.value, &methods));
        let token_fields = self.token_fields.clone();
        let is_ours = |name: &HeaderName| is_protected(name) || token_fields.contains(name);
        let request_headers = self.header_rules(&raw.headers, is_ours);
        let response_headers = self.response_headers(&raw.response_headers, raw.cors.is_some());
        let access = raw.access.map(|access| self.access(&access, names));
        let from = AddressRule { allow: self.networks(raw.allow_from), deny: self.networks(raw.deny_from) };
        let is_public = matches!(access, Ok(Access::Public));
        let resource = raw.resource.as_ref().and_then(|name| self.route_resource(name, is_public, names));
        let counted_at = if is_public { CountedAt::PublicRoute } else { CountedAt::ProtectedRoute };
        let limits = self.rate_limits(&raw.rate_limits, counted_at);
        let report_until = raw.report_until.as_ref().and_then(|until| self.report_until(until, is_public));
        let upgrades = self.upgrades(&raw.websocket, &raw.upgrades, &methods);
        if let Some(target) = &target {
            self.must_speak_http1(target, &raw.websocket, &raw.upgrades);
        }
        let body_bytes = raw.body_bytes.map_or(body_bytes, |limit| limit.value.at_most().map(Size::bytes));
        let buffer_request = self.buffer_request(raw.buffer_request.as_ref(), target.as_ref(), body_bytes);
        let (path, when) = (path?, when.ok()?);
        let name = raw.name.as_ref().and_then(|name| self.route_name(name));
        let name = name.unwrap_or_else(|| default_name(raw.methods.as_ref(), &hosts, &path, when.as_ref()));
        Some(Route {
            name,
            hosts,
            path,
            path_forms,
            methods,
            when,
            timeout: raw.timeout.map(|timeout| deadline(timeout.value)),
            target: target?,
            access: access.ok()?,
            resource,
            report_until,
            from,
            limits,
            strip_segments,
            rewrite: rewrite.map(Box::new),
            host,
            forwarded_prefix,
            map_responses: raw.map_responses.value,
            request_headers,
            response_headers: response_headers.map(Box::new),
            forward_token: raw.forward_token.value,
            body_bytes,
            buffer_request,
            mirror: mirror.map(Box::new),
            cors: cors.map(Box::new),
            body_idle: raw.body_idle_timeout.map(|limit| period(limit.value)),
            upgrades,
        })
    }

    fn route_name(&mut self, name: &At<String>) -> Option<String> {
        if name.value.is_empty() || name.value.chars().any(char::is_control) || name.value.starts_with('(') {
            self.faults.at(
                name.span,
                "expected a name that is not empty, has no control characters and does not start with `(`",
            );
            return None;
        }
        Some(name.value.clone())
    }

    fn hosts(&mut self, list: &OneOrMore<String>) -> Vec<HostPattern> {
        let mut hosts = Vec::new();
        for host in &list.items {
            match HostPattern::parse(&host.value) {
                Ok(pattern) if hosts.contains(&pattern) => {
                    self.faults.at(host.span, "this host is listed twice");
                }
                Ok(pattern) => hosts.push(pattern),
                Err(fault) => {
                    self.faults.at(host.span, fault.to_string());
                }
            }
        }
        hosts
    }

    fn path(&mut self, path: &At<String>, names: &Names) -> Option<PathPattern> {
        let folded = fold(&path.value);
        if names.built_in_paths().any(|taken| fold(taken) == folded) {
            self.faults.at(path.span, "a built-in endpoint has this path and takes priority: choose another");
        }
        PathPattern::parse(&path.value).map_err(|fault| self.faults.at(path.span, fault.to_string())).ok()
    }

    pub(super) fn methods(&mut self, list: &OneOrMore<String>) -> MethodSet {
        let mut methods = Vec::new();
        for method in &list.items {
            match MethodSet::parse_method(&method.value) {
                Ok(_) if ["*", "ALL", "ANY"].contains(&method.value.as_str()) => {
                    self.faults.at(method.span, "to take every method, leave `methods` out");
                }
                Ok(known) if STANDARD.contains(&known) => methods.push(known),
                // Other methods are allowed unless they are close to a standard one.
                Ok(other) => match suggest::closest(&method.value, &STANDARD.each_ref().map(Method::as_str)) {
                    Some(meant) => {
                        let quoted = self.quoted(method);
                        self.faults.at(method.span, format!("unknown method{quoted}, did you mean `{meant}`?"));
                    }
                    None => methods.push(other),
                },
                Err(fault) => {
                    self.faults.at(method.span, fault.to_string());
                }
            }
        }
        MethodSet::new(methods)
    }

    pub(super) fn upstream(
        &mut self,
        name: &At<String>,
        names: &Names,
        upstreams: &Upstreams,
    ) -> Option<Arc<Upstream>> {
        if let Some(upstream) = upstreams.get(&name.value) {
            return Some(Arc::clone(upstream));
        }
        // If the upstream could not be resolved, its fault has been reported.
        if names.upstreams_complete && !names.upstreams.contains(&name.value) {
            self.unknown("upstream", name, &names.upstreams);
        }
        None
    }

    fn access(&mut self, raw: &At<RawAccess>, names: &Names) -> Access {
        match &raw.value {
            RawAccess::Public => Access::Public,
            RawAccess::Rule { rule, empty_claims } => {
                if let Some(span) = empty_claims {
                    let message = "an empty `claims` requires nothing: name a claim and its values, such as \
                         `claims: {tier: gold}`; if any valid token may use the route, write `access: {}`";
                    self.warn(Lint::EmptyClaims, *span, message);
                }
                if names.issuers.is_empty() && names.issuers_complete && names.static_tokens_complete {
                    self.only_static_tokens(raw.span, rule, names);
                }
                Access::Protected(Arc::new(self.rule(rule, names)))
            }
        }
    }

    fn rule(&mut self, raw: &RawRule, names: &Names) -> AccessRule {
        let issuers = raw.issuers.as_ref().map(|list| self.issuer_names(&list.value, names));
        let (all_of, any_of) = raw.scopes.as_ref().map(|scopes| self.scope_rule(&scopes.value)).unwrap_or_default();
        let clients = raw.clients.as_ref().map(|list| self.client_names(&list.value, names, issuers.as_deref()));
        let claims = self.claim_rules(&raw.claims);
        let audiences = raw.audiences.as_ref().map(|list| self.literals(&list.value, "`aud` is compared exactly"));
        AccessRule {
            issuers,
            audiences: audiences.map(|list| list.into_iter().map(|audience| audience.value).collect()),
            all_of,
            any_of,
            claims,
            clients: clients.map(|list| list.into_iter().collect()),
            bound: raw.bound.value,
        }
    }

    fn scope_rule(&mut self, raw: &RawScopes) -> (ScopeSet, ScopeSet) {
        let all_of = raw.0.all_of.as_ref().map(|list| self.scopes(&list.value)).unwrap_or_default();
        let any_of = raw.0.any_of.as_ref().map(|list| self.scopes(&list.value)).unwrap_or_default();
        (all_of, any_of)
    }
}

/// The methods and hosts that the route lists, its path and its conditions. It depends on no other route.
fn default_name(
    methods: Option<&At<OneOrMore<String>>>,
    hosts: &[HostPattern],
    path: &PathPattern,
    when: Option<&FieldConditions>,
) -> String {
    let methods: Vec<&str> =
        methods.iter().flat_map(|list| &list.value.items).map(|method| method.value.as_str()).collect();
    let hosts: Vec<String> = hosts.iter().map(HostPattern::to_string).collect();
    let separator = if methods.is_empty() { "" } else { " " };
    let when = when.map(|when| format!(" [{when}]")).unwrap_or_default();
    format!("{}{separator}{}{path}{when}", methods.join(","), hosts.join("|"))
}

/// The number of earlier rules that a rule is compared with.
const RECENT_RULES: usize = 16;

/// Shares the rule of an earlier route if it is equal: many routes with few rules then need less memory and fewer cache
/// lines.
fn share_rule(access: &mut Access, rules: &mut Vec<Arc<AccessRule>>) {
    if let Access::Protected(rule) = access {
        match rules.iter().rev().take(RECENT_RULES).find(|earlier| *earlier == rule) {
            Some(earlier) => *rule = Arc::clone(earlier),
            None => rules.push(Arc::clone(rule)),
        }
    }
}
