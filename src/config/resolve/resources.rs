//! `resources` and `routes[].resource`: the APIs that routes protect, and their resource documents.
//!
//! Without `resources`, an audience is a resource if it is an https URL of ours: of the origin of `oauth.issuer`, or of
//! a host that a route lists. A route belongs to the one with the longest path that holds all paths of the route.

mod describe;

use std::collections::HashSet;
use std::sync::Arc;

use url::Url;

use super::super::decode::Named;
use super::super::lint::Lint;
use super::super::origin::IssuerUrl;
use super::super::raw::resource::RawResource;
use super::super::source::{At, Span};
use super::super::types::{ExternalIssuer, Oauth};
use super::super::values::ScalarValue as _;
use super::Resolver;
use super::names::Names;
use crate::pipeline::request::case_fold::fold;
use crate::pipeline::routing::access::{Access, AccessRule};
use crate::pipeline::routing::pattern::{HostPattern, Segment};
use crate::pipeline::routing::resource::{ProtectedResources, ResourceIdentifier};
use crate::pipeline::routing::route::Route;
use crate::pipeline::routing::table::RouteTable;
use crate::trust::audiences::AcceptedAudiences;
use crate::trust::fetch::is_loopback;
use crate::trust::issuer::IssuerSettings;
use describe::describe;

/// The issuers whose tokens routes take.
#[derive(Clone, Copy)]
pub(super) struct TokenIssuers<'i> {
    own: Option<&'i IssuerSettings>,
    external: &'i [ExternalIssuer],
}

impl<'i> TokenIssuers<'i> {
    pub(super) fn of(own: Option<&'i Oauth>, external: &'i [ExternalIssuer]) -> Self {
        Self { own: own.map(|oauth| &oauth.trust), external }
    }

    /// Those whose tokens a rule takes.
    fn of_rule(self, rule: &AccessRule) -> impl Iterator<Item = &'i IssuerSettings> {
        let all = self.own.into_iter().chain(self.external.iter().map(|issuer| &issuer.settings));
        all.filter(|issuer| rule.takes_issuer(&issuer.name) && issuer.audiences != AcceptedAudiences::FederationOnly)
    }

    /// Whether a route takes tokens for this audience.
    fn take_audience(self, route: &Route, audience: &str) -> bool {
        let Access::Protected(rule) = &route.access else { return false };
        match &rule.audiences {
            Some(audiences) => audiences.iter().any(|accepted| accepted == audience),
            None => self.of_rule(rule).any(|issuer| issuer.audiences.accepts_one_of(&[audience.to_owned()])),
        }
    }
}

impl Resolver<'_> {
    /// The resource that a route names.
    pub(super) fn route_resource(
        &mut self,
        name: &At<String>,
        is_public: bool,
        names: &Names,
    ) -> Option<Arc<ResourceIdentifier>> {
        if is_public {
            let message = "`resource` is about the tokens of a route, and this route is public: remove one of them";
            self.faults.at(name.span, message);
        }
        let found = names.resources.iter().find(|(known, _)| *known == name.value);
        if found.is_none() && names.resources_complete {
            let known: Vec<String> = names.resources.iter().map(|(known, _)| known.clone()).collect();
            self.unknown("resource", name, &known);
        }
        found.map(|(_, identifier)| Arc::clone(identifier))
    }

    /// The documents of all resources. Without `resources`, the routes get those of their audiences.
    pub(super) fn resources(
        &mut self,
        raw: &Named<RawResource>,
        table: RouteTable,
        issuers: TokenIssuers<'_>,
    ) -> (RouteTable, ProtectedResources) {
        if raw.entries.is_empty() && raw.complete {
            return of_audiences(table, issuers);
        }
        let entries = self.resource_entries(raw);
        let of_entry = |identifier: &ResourceIdentifier| entries.iter().find(|entry| *entry.identifier == *identifier);
        let resources =
            describe(&table, issuers, |identifier| of_entry(identifier).map(|entry| entry.described.clone()));
        for entry in &entries {
            let of_entry = |route: &&Arc<Route>| route.resource.as_ref() == Some(&entry.identifier);
            let routes: Vec<&Arc<Route>> = table.routes().iter().filter(of_entry).collect();
            if routes.is_empty() {
                let message = "no route names this resource: it has no document; name it as `resource` of a route";
                self.warn(Lint::UnusedResource, entry.place, message);
            } else if !resources.iter().any(|resource| resource.identifier == entry.identifier) {
                let message = "no route of this resource takes tokens of an issuer with a URL, so that its document could \
                               not name an authorization server: configure `oauth` or `issuers`, or remove the resource";
                self.faults.at(entry.place, message);
            } else if !routes.iter().any(|route| issuers.take_audience(route, &entry.identifier.url)) {
                self.unaccepted_resource(entry, &routes, issuers);
            }
        }
        (table, ProtectedResources::new(resources))
    }

    fn unaccepted_resource(&mut self, entry: &ResourceEntry, routes: &[&Arc<Route>], issuers: TokenIssuers<'_>) {
        let url = &*entry.identifier.url;
        let other = url.strip_suffix('/').map_or_else(|| format!("{url}/"), str::to_owned);
        let message = if routes.iter().any(|route| issuers.take_audience(route, &other)) {
            "no route of this resource takes tokens for its `url`, which clients ask for, and the audience differs from it \
             by a `/` at the end only: write both in the same way"
        } else {
            "no route of this resource takes tokens for its `url`, which clients ask for: add it to the audiences of \
             `oauth` and its clients or of an issuer, or to `access.audiences`"
        };
        self.warn(Lint::UnacceptedResource, entry.place, message);
    }

    fn resource_entries(&mut self, raw: &Named<RawResource>) -> Vec<ResourceEntry> {
        let mut entries: Vec<ResourceEntry> = Vec::new();
        for (name, resource) in &raw.entries {
            let Ok(resource) = resource else { continue };
            let scopes = resource.value.scopes.as_ref().map(|list| self.scopes(&list.value)).unwrap_or_default();
            let Ok(url) = &resource.value.url else { continue };
            if url.value.url().scheme() != "https" && !is_loopback(url.value.url()) {
                let got = self.got(url);
                self.faults
                    .at(url.span, format!("expected an https URL{got}; http is allowed on a loopback host only"));
            }
            let identifier = Arc::new(ResourceIdentifier::new(url.value.as_str(), url.value.url()));
            if let Some(first) = entries.iter().find(|entry| entry.identifier.collides(&identifier)) {
                let line = self.source.line(first.place);
                let message =
                    format!("the document of this resource has the same place as that of line {line}: remove one");
                self.faults.at(url.span, message);
            }
            let shown = resource.value.name.as_ref().map(|name| name.value.clone());
            let scopes = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
            entries.push(ResourceEntry { place: name.span, identifier, described: (shown, scopes) });
        }
        entries
    }
}

/// The documents of the audiences that are resources of ours, and the table whose routes belong to them.
fn of_audiences(mut table: RouteTable, issuers: TokenIssuers<'_>) -> (RouteTable, ProtectedResources) {
    let known = Audiences::of(&table, issuers);
    table.set_resources(|route| known.of_route(route));
    let resources = describe(&table, issuers, |_| None);
    // One without a document is none.
    table.set_resources(|route| {
        let own = route.resource.as_ref()?;
        resources.iter().find(|one| one.identifier == *own).map(|one| Arc::clone(&one.identifier))
    });
    let table = table.reserving(resources.iter().map(|resource| resource.identifier.place.as_str()));
    (table, ProtectedResources::new(resources))
}

/// A resource of the file.
struct ResourceEntry {
    place: Span,
    identifier: Arc<ResourceIdentifier>,
    /// Its name for people, and its own scopes.
    described: (Option<String>, Vec<String>),
}

/// The audiences that are resources of ours.
struct Audiences<'i> {
    issuers: TokenIssuers<'i>,
    /// The origin of `oauth.issuer`.
    origin: Option<Url>,
    /// The hosts that routes list.
    hosts: HashSet<String>,
    /// Paths that routes list, folded.
    taken: HashSet<String>,
}

impl<'i> Audiences<'i> {
    fn of(table: &RouteTable, issuers: TokenIssuers<'i>) -> Self {
        let exact = |host: &HostPattern| match host {
            HostPattern::Exact(name) => Some(name.clone()),
            HostPattern::Wildcard(_) => None,
        };
        let routes = table.routes();
        Self {
            issuers,
            origin: issuers.own.and_then(|own| Url::parse(own.issuer.as_str()).ok()),
            hosts: routes.iter().flat_map(|route| &route.hosts).filter_map(exact).collect(),
            taken: routes.iter().map(|route| fold(&route.path.to_string()).into_owned()).collect(),
        }
    }

    fn of_route(&self, route: &Route) -> Option<Arc<ResourceIdentifier>> {
        let Access::Protected(rule) = &route.access else { return None };
        let of_issuers =
            || self.issuers.of_rule(rule).flat_map(|issuer| issuer.audiences.listed_ones()).cloned().collect();
        let audiences: Vec<String> = rule.audiences.clone().unwrap_or_else(of_issuers);
        let resources = audiences.iter().filter_map(|audience| self.resource(audience));
        let holding: Vec<ResourceIdentifier> = resources.filter(|resource| holds(resource, route)).collect();
        // Of several with the same length `max_by_key` gives the last one.
        let longest = holding.into_iter().rev().max_by_key(|resource| resource.segments().count());
        longest.map(Arc::new)
    }

    /// The audience as a resource, if it is one of ours.
    fn resource(&self, audience: &str) -> Option<ResourceIdentifier> {
        let url = IssuerUrl::parse(audience).ok()?;
        let url = url.url();
        let host = url.host_str()?.to_ascii_lowercase();
        let is_ours =
            self.origin.as_ref().is_some_and(|own| own.origin() == url.origin()) || self.hosts.contains(&host);
        let identifier = ResourceIdentifier::new(audience, url);
        let is_free = || !self.taken.contains(&*fold(&identifier.place));
        (url.scheme() == "https" && is_ours && is_free()).then_some(identifier)
    }
}

/// Whether all paths of a route are at or below that of a resource, on its host.
fn holds(resource: &ResourceIdentifier, route: &Route) -> bool {
    let is_meant = |host: &HostPattern| match host {
        HostPattern::Exact(name) => *name == resource.host,
        HostPattern::Wildcard(suffix) => resource.host.ends_with(suffix),
    };
    let is_of_host = route.hosts.is_empty() || route.hosts.iter().any(is_meant);
    let mut own = route.path.segments.iter();
    let is_equal = |segment: &str| own.next().and_then(Segment::literal).is_some_and(|literal| literal == segment);
    is_of_host && resource.segments().all(is_equal)
}
